//! Metrics that the collector pushes by itself.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{AggregationTemporality, Metric, metric, number_data_point};
use prost::Message as _;
use serde_json::{Value, json};

use crate::support::sink::Received;
use crate::support::spans::spans;
use crate::support::{Reply, Setup, Sink, request, wait_for};

/// A reader that pushes so often that a test need not wait.
fn periodic(exporter: Value) -> Value {
    json!([{"periodic": {"interval": 20, "timeout": 5000, "exporter": exporter}}])
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &KeyValue| match value.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => (value.key.clone(), text.clone()),
        other => panic!("{other:?} is no text"),
    };
    attributes.iter().map(text).collect()
}

/// The metrics of a push, and its resource.
fn read(received: &Received) -> (BTreeMap<String, Metric>, BTreeMap<String, String>) {
    let pushed = ExportMetricsServiceRequest::decode(received.message.as_slice()).unwrap();
    let [of] = <[_; 1]>::try_from(pushed.resource_metrics).unwrap();
    let [scope] = <[_; 1]>::try_from(of.scope_metrics).unwrap();
    assert_eq!(scope.scope.unwrap().name, "vespid");
    let metrics = scope.metrics.into_iter().map(|metric| (metric.name.clone(), metric)).collect();
    (metrics, texts(&of.resource.unwrap().attributes))
}

/// The value of the one series of a sum.
fn sum(metric: &Metric) -> Option<(i64, BTreeMap<String, String>)> {
    let Some(metric::Data::Sum(sum)) = &metric.data else { return None };
    assert_eq!(sum.aggregation_temporality, AggregationTemporality::Cumulative as i32);
    let point = sum.data_points.first()?;
    assert!(point.start_time_unix_nano > 0 && point.time_unix_nano >= point.start_time_unix_nano);
    match point.value? {
        number_data_point::Value::AsInt(value) => Some((value, texts(&point.attributes))),
        number_data_point::Value::AsDouble(_) => None,
    }
}

fn pushes(exporter: impl Fn(&Sink) -> Value, path: &str) {
    let (sink, backend) = (Sink::start(), Sink::start());
    let collector = Setup::line(&sink)
        .set("service.telemetry.metrics.readers", periodic(exporter(&backend)))
        .set("service.telemetry.resource", json!({"service.name": "pushing"}))
        .start();
    collector.send(&request(spans(3))).expect_ok();
    let (metrics, resource, received) = wait_for("a push that has the spans", || {
        let received = backend.received().pop()?;
        let (metrics, resource) = read(&received);
        let (sent, labels) = sum(metrics.get("otelcol_exporter_sent_spans")?)?;
        (sent == 3 && labels["exporter"] == "otlp").then_some((metrics, resource, received))
    });
    assert_eq!(received.path, path);
    assert_eq!(received.header("x-team"), Some("blue"));
    assert!(received.was_compressed);
    assert_eq!(resource["service.name"], "pushing");
    let Some(metric::Data::Histogram(sizes)) = &metrics["otelcol_exporter_queue_batch_send_size"].data else {
        panic!("it is a histogram")
    };
    let point = &sizes.data_points[0];
    assert_eq!((point.count, point.sum), (1, Some(3.0)));
    assert_eq!((point.bucket_counts.len(), point.bucket_counts[0]), (point.explicit_bounds.len() + 1, 1));
    assert!(matches!(metrics["otelcol_exporter_queue_size"].data, Some(metric::Data::Gauge(_))));
    assert_eq!(metrics["otelcol_process_uptime"].unit, "s");
    let Some(metric::Data::Sum(in_flight)) = &metrics["otelcol_exporter_in_flight_requests"].data else {
        panic!("it is a sum")
    };
    assert!(!in_flight.is_monotonic);
    collector.stop();
}

#[test]
fn metrics_are_pushed_as_otlp_over_http() {
    let exporter = |backend: &Sink| {
        let headers = json!([{"name": "x-team", "value": "blue"}]);
        let endpoint = format!("http://{backend}");
        json!({"otlp": {"protocol": "http/protobuf", "endpoint": endpoint, "headers": headers, "compression": "gzip"}})
    };
    pushes(exporter, "/v1/metrics");
}

#[test]
fn metrics_are_pushed_as_otlp_over_grpc() {
    let exporter = |backend: &Sink| {
        let headers = json!({"x-team": "blue"});
        json!({"otlp_grpc": {"endpoint": backend.to_string(), "insecure": true, "headers": headers, "compression": "gzip"}})
    };
    pushes(exporter, "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export");
}

#[test]
fn a_shutdown_pushes_a_last_time_and_refusals_are_told() {
    let (sink, backend) = (Sink::start(), Sink::start());
    backend.answer(Reply::http(503, "busy"));
    let exporter = json!({"otlp_http": {"endpoint": format!("http://{backend}/own/path")}});
    let collector = Setup::line(&sink)
        .set("service.telemetry.metrics.readers", json!([{"periodic": {"exporter": exporter}}]))
        .start();
    collector.send(&request(spans(2))).expect_ok();
    let ended = collector.stop();
    let received = backend.wait(1);
    assert_eq!(received[0].path, "/own/path");
    assert_eq!(sum(&read(&received[0]).0["otelcol_exporter_sent_spans"]).unwrap().0, 2);
    let line = ended.log.lines().find(|line| line.contains("own metrics were not taken")).expect(&ended.log);
    assert!(line.contains("HTTP 503"), "{line}");
}

#[test]
fn metrics_may_go_to_standard_output() {
    let sink = Sink::start();
    let collector =
        Setup::line(&sink).set("service.telemetry.metrics.readers", periodic(json!({"console": {}}))).start();
    collector.send(&request(spans(2))).expect_ok();
    let ended = collector.stop();
    assert!(ended.out.contains("# TYPE otelcol_exporter_sent_spans counter\n"), "{}", ended.out);
    assert!(ended.out.contains("exporter=\"otlp\""), "{}", ended.out);
}
