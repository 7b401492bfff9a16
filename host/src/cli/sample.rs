//! Sample spans: a small shop's traces, with a health check that a plugin will
//! want to drop and an e-mail address that it will want to mask.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost::Message as _;

use crate::traces::Message;

#[derive(Clone, PartialEq, prost::Message)]
struct Request {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start_time: u64,
    #[prost(fixed64, tag = "8")]
    end_time: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(fixed32, tag = "16")]
    flags: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AnyValue {
    #[prost(string, optional, tag = "1")]
    text: Option<String>,
}

fn attributes(pairs: &[(&str, &str)]) -> Vec<KeyValue> {
    let pair =
        |&(key, value): &(&str, &str)| KeyValue { key: key.into(), value: Some(AnyValue { text: Some(value.into()) }) };
    pairs.iter().map(pair).collect()
}

const SERVER: i32 = 2;
const CLIENT: i32 = 3;
/// Sampled, and known not to come from afar.
const FLAGS: u32 = 0x101;

/// A request with one order (two spans of one trace) and one health check.
/// Answers it with its spans and the order's trace id.
pub(super) fn request() -> (Message, usize, String) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let id = |len| std::iter::repeat_with(|| fastrand::u8(1..)).take(len).collect::<Vec<u8>>();
    let (trace, root) = (id(16), id(8));
    let span = |trace: &[u8], own: Vec<u8>, parent: &[u8], name: &str, kind, ago: u64, pairs: &[(&str, &str)]| Span {
        trace_id: trace.to_vec(),
        span_id: own,
        parent_span_id: parent.to_vec(),
        name: name.into(),
        kind,
        start_time: (now - Duration::from_millis(ago)).as_nanos() as u64,
        end_time: now.as_nanos() as u64,
        attributes: attributes(pairs),
        flags: FLAGS,
    };
    let order = [("http.request.method", "POST"), ("url.path", "/orders"), ("user.email", "ada@example.org")];
    let insert = [("db.system.name", "postgresql"), ("db.query.text", "INSERT INTO orders VALUES (…)")];
    let health = [("http.request.method", "GET"), ("url.path", "/healthz")];
    let spans = vec![
        span(&trace, root.clone(), &[], "POST /orders", SERVER, 42, &order),
        span(&trace, id(8), &root, "INSERT orders", CLIENT, 17, &insert),
        span(&id(16), id(8), &[], "GET /healthz", SERVER, 1, &health),
    ];
    let count = spans.len();
    let scope = Scope { name: "vespid.sample".into() };
    let resource = Resource { attributes: attributes(&[("service.name", "shop"), ("service.version", "1.4.2")]) };
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans }];
    let request = Request { resource_spans: vec![ResourceSpans { resource: Some(resource), scope_spans }] };
    let hex = trace.iter().map(|byte| format!("{byte:02x}")).collect();
    (Message::copy_of(&request.encode_to_vec()), count, hex)
}
