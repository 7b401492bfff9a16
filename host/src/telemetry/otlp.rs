//! The collector's metrics as an OTLP message: of `opentelemetry.proto.metrics.v1`
//! just what its own counters need.

use std::time::{SystemTime, UNIX_EPOCH};

use prost::{Message, Oneof};

use super::instrument::{Kind, Point, Snapshot, Value};
use super::resource::Resource;

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(message, repeated, tag = "1")]
    resource_metrics: Vec<ResourceMetrics>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceMetrics {
    #[prost(message, optional, tag = "1")]
    resource: Option<Attributes>,
    #[prost(message, repeated, tag = "2")]
    scope_metrics: Vec<ScopeMetrics>,
}

/// `Resource`.
#[derive(Clone, PartialEq, Message)]
struct Attributes {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeMetrics {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    metrics: Vec<Metric>,
}

#[derive(Clone, PartialEq, Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    /// In the `oneof` of all kinds this is the text.
    #[prost(string, optional, tag = "1")]
    text: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    description: String,
    #[prost(string, tag = "3")]
    unit: String,
    #[prost(oneof = "Data", tags = "5, 7, 9")]
    data: Option<Data>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Data {
    #[prost(message, tag = "5")]
    Gauge(Gauge),
    #[prost(message, tag = "7")]
    Sum(Sum),
    #[prost(message, tag = "9")]
    Histogram(Histogram),
}

#[derive(Clone, PartialEq, Message)]
struct Gauge {
    #[prost(message, repeated, tag = "1")]
    points: Vec<NumberPoint>,
}

#[derive(Clone, PartialEq, Message)]
struct Sum {
    #[prost(message, repeated, tag = "1")]
    points: Vec<NumberPoint>,
    #[prost(int32, tag = "2")]
    temporality: i32,
    #[prost(bool, tag = "3")]
    is_monotonic: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(message, repeated, tag = "1")]
    points: Vec<HistogramPoint>,
    #[prost(int32, tag = "2")]
    temporality: i32,
}

#[derive(Clone, PartialEq, Message)]
struct NumberPoint {
    #[prost(message, repeated, tag = "7")]
    attributes: Vec<KeyValue>,
    #[prost(fixed64, tag = "2")]
    start: u64,
    #[prost(fixed64, tag = "3")]
    time: u64,
    #[prost(oneof = "Number", tags = "4, 6")]
    value: Option<Number>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Number {
    #[prost(double, tag = "4")]
    Float(f64),
    #[prost(sfixed64, tag = "6")]
    Integer(i64),
}

#[derive(Clone, PartialEq, Message)]
struct HistogramPoint {
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(fixed64, tag = "2")]
    start: u64,
    #[prost(fixed64, tag = "3")]
    time: u64,
    #[prost(fixed64, tag = "4")]
    count: u64,
    #[prost(double, optional, tag = "5")]
    sum: Option<f64>,
    #[prost(fixed64, repeated, tag = "6")]
    buckets: Vec<u64>,
    #[prost(double, repeated, tag = "7")]
    bounds: Vec<f64>,
}

/// `AGGREGATION_TEMPORALITY_CUMULATIVE`.
const CUMULATIVE: i32 = 2;

/// The families as an `ExportMetricsServiceRequest`; they have counted since `started`.
pub fn encode(snapshots: Vec<Snapshot>, resource: &Resource, started: SystemTime) -> Vec<u8> {
    let times = (nanoseconds(started), nanoseconds(SystemTime::now()));
    let scope = Scope { name: super::SCOPE.into(), version: env!("CARGO_PKG_VERSION").into() };
    let metrics = snapshots.into_iter().map(|snapshot| metric(snapshot, times)).collect();
    let metrics = ResourceMetrics {
        resource: Some(Attributes { attributes: attributes(resource.attributes()) }),
        scope_metrics: vec![ScopeMetrics { scope: Some(scope), metrics }],
    };
    Request { resource_metrics: vec![metrics] }.encode_to_vec()
}

fn nanoseconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

fn attributes(labels: &[(String, String)]) -> Vec<KeyValue> {
    let attribute = |(key, value): &(String, String)| KeyValue {
        key: key.clone(),
        value: Some(AnyValue { text: Some(value.clone()) }),
    };
    labels.iter().map(attribute).collect()
}

fn metric(snapshot: Snapshot, times: (u64, u64)) -> Metric {
    let points = snapshot.points.iter();
    let data = match snapshot.kind {
        Kind::Histogram => Data::Histogram(Histogram {
            points: points.filter_map(|point| histogram(point, times)).collect(),
            temporality: CUMULATIVE,
        }),
        Kind::Gauge => Data::Gauge(Gauge { points: points.filter_map(|point| number(point, times)).collect() }),
        Kind::Counter | Kind::UpDown => Data::Sum(Sum {
            points: points.filter_map(|point| number(point, times)).collect(),
            temporality: CUMULATIVE,
            is_monotonic: snapshot.kind == Kind::Counter,
        }),
    };
    Metric { name: snapshot.name, description: snapshot.help.into(), unit: snapshot.unit.into(), data: Some(data) }
}

fn number(point: &Point, (start, time): (u64, u64)) -> Option<NumberPoint> {
    let value = match point.value {
        Value::Integer(value) => Number::Integer(value),
        Value::Float(value) => Number::Float(value),
        Value::Histogram(_) => return None,
    };
    Some(NumberPoint { attributes: attributes(&point.labels), start, time, value: Some(value) })
}

fn histogram(point: &Point, (start, time): (u64, u64)) -> Option<HistogramPoint> {
    let Value::Histogram(found) = &point.value else { return None };
    Some(HistogramPoint {
        attributes: attributes(&point.labels),
        start,
        time,
        count: found.count(),
        sum: Some(found.sum),
        buckets: found.buckets.clone(),
        bounds: found.bounds.to_vec(),
    })
}
