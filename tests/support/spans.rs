//! Requests, made with the types that OpenTelemetry publishes.

use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};

pub use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest as Request;
pub use opentelemetry_proto::tonic::trace::v1::Span;

/// A span with valid ids that no other span of the run has.
pub fn span(name: &str) -> Span {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let process = u64::from(std::process::id());
    Span {
        trace_id: [process.to_be_bytes(), number.to_be_bytes()].concat(),
        span_id: number.to_be_bytes().to_vec(),
        name: name.to_owned(),
        kind: 2,
        start_time_unix_nano: 1_700_000_000_000_000_000,
        end_time_unix_nano: 1_700_000_000_005_000_000,
        flags: 0x101,
        ..Span::default()
    }
}

pub fn spans(count: usize) -> Vec<Span> {
    (0..count).map(|number| span(&format!("span {number}"))).collect()
}

pub fn value(value: Value) -> Option<AnyValue> {
    Some(AnyValue { value: Some(value) })
}

pub fn pair(key: &str, of: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: value(of), ..KeyValue::default() }
}

pub fn text(key: &str, text: &str) -> KeyValue {
    pair(key, Value::StringValue(text.to_owned()))
}

pub fn int(key: &str, number: i64) -> KeyValue {
    pair(key, Value::IntValue(number))
}

/// One resource with one scope with these spans.
pub fn request(spans: Vec<Span>) -> Request {
    let scope = InstrumentationScope { name: "tests".to_owned(), ..InstrumentationScope::default() };
    let resource = Resource { attributes: vec![text("service.name", "shop")], ..Resource::default() };
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
    Request {
        resource_spans: vec![ResourceSpans { resource: Some(resource), scope_spans, ..ResourceSpans::default() }],
    }
}

/// All spans of a request, in order.
pub fn all(request: &Request) -> Vec<&Span> {
    let scopes = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
    scopes.flat_map(|scope| &scope.spans).collect()
}

pub fn names(request: &Request) -> Vec<&str> {
    all(request).into_iter().map(|span| span.name.as_str()).collect()
}

/// The text under a key, if there is just one attribute of that key.
pub fn attribute<'a>(span: &'a Span, key: &str) -> Option<&'a str> {
    let mut found = span.attributes.iter().filter(|pair| pair.key == key);
    let (Some(pair), None) = (found.next(), found.next()) else { return None };
    match pair.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}
