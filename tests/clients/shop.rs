//! A shop's traces, what the `tidy` plugin makes of them, and the tests that
//! every real back end takes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::trace::v1::span::Event;
use serde_json::{Value, json};

use crate::support::config::to_http;
use crate::support::spans::{Request, Span, text};
use crate::support::{Setup, plugin, request, span, to, wait_for};

/// A real back end that can be asked for what it has.
pub trait Store {
    /// Where it takes OTLP over gRPC.
    fn grpc(&self) -> SocketAddr;
    /// Where it takes OTLP over HTTP.
    fn http(&self) -> SocketAddr;
    /// The spans that it has of a trace.
    fn trace(&self, id: &[u8]) -> Vec<Stored>;
}

/// A span as a back end's query API tells it.
#[derive(Debug)]
pub struct Stored {
    pub name: String,
    pub attributes: BTreeMap<String, String>,
    pub resource: BTreeMap<String, String>,
    pub events: Vec<BTreeMap<String, String>>,
}

/// Reads OTLP in JSON: `resourceSpans` and what is in them.
pub fn stored(trace: &Value) -> Vec<Stored> {
    let mut spans = vec![];
    for resource in list(trace, "resourceSpans") {
        for span in list(resource, "scopeSpans").iter().flat_map(|scope| list(scope, "spans")) {
            spans.push(Stored {
                name: span["name"].as_str().unwrap_or_default().to_owned(),
                attributes: attributes(span),
                resource: attributes(&resource["resource"]),
                events: list(span, "events").iter().map(attributes).collect(),
            });
        }
    }
    spans
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn attributes(of: &Value) -> BTreeMap<String, String> {
    let pair = |pair: &Value| {
        let value = &pair["value"];
        let shown = value["stringValue"].as_str().map_or_else(|| value.to_string(), str::to_owned);
        (pair["key"].as_str().unwrap_or_default().to_owned(), shown)
    };
    list(of, "attributes").iter().map(pair).collect()
}

/// A span that ended just now, where searches look.
pub fn recent(name: &str) -> Span {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let start = now - Duration::from_millis(5);
    Span { start_time_unix_nano: start.as_nanos() as u64, end_time_unix_nano: now.as_nanos() as u64, ..span(name) }
}

/// One trace: an order, its database call, and a health check.
pub struct Order {
    pub trace: Vec<u8>,
    pub request: Request,
}

pub fn order() -> Order {
    let (mut root, mut insert, mut health) = (recent("POST /orders"), recent("INSERT orders"), recent("GET /healthz"));
    root.attributes = vec![text("url.path", "/orders"), text("user.email", "ada@example.org")];
    let mail = vec![text("message", "sent to ada@example.org, and filed")];
    root.events = vec![Event { name: "mail".into(), attributes: mail, ..Event::default() }];
    root.events[0].time_unix_nano = root.end_time_unix_nano;
    health.attributes = vec![text("url.path", "/healthz")];
    for child in [&mut insert, &mut health] {
        child.trace_id.clone_from(&root.trace_id);
        child.parent_span_id.clone_from(&root.span_id);
    }
    Order { trace: root.trace_id.clone(), request: request(vec![root, insert, health]) }
}

/// The example plugin, which sets `deployment.environment.name` to this.
pub fn tidy(environment: &str) -> Value {
    plugin("tidy", json!({"set": {"key": "deployment.environment.name", "value": environment}}))
}

/// What `tidy` leaves of an order.
#[track_caller]
pub fn expect_tidied(mut spans: Vec<Stored>, environment: &str) {
    spans.sort_by(|one, other| one.name.cmp(&other.name));
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["INSERT orders", "POST /orders"], "the health check is gone, the others are there");
    for span in &spans {
        assert_eq!(span.attributes["deployment.environment.name"], environment);
        assert_eq!(span.resource["service.name"], "shop");
    }
    assert_eq!(spans[1].attributes["user.email"], "****");
    assert_eq!(spans[1].attributes["url.path"], "/orders");
    assert_eq!(spans[1].events[0]["message"], "sent to ****, and filed");
}

/// Waits until the back end has so many spans of a trace.
#[track_caller]
pub fn wait_for_spans(store: &impl Store, trace: &[u8], count: usize) -> Vec<Stored> {
    wait_for(&format!("{count} spans of a trace in the store"), || {
        Some(store.trace(trace)).filter(|spans| spans.len() >= count)
    })
}

/// In over gRPC and HTTP, through a plugin, out over gRPC and HTTP.
pub fn takes_what_the_plugin_left(store: &impl Store) {
    for (exporter, settings) in [("otlp", to(store.grpc())), ("otlphttp", to_http(store.http()))] {
        let collector = Setup::new().processor("wasm/tidy", tidy("tests")).exporter(exporter, settings).start();
        let (by_grpc, by_http) = (order(), order());
        collector.send(&by_grpc.request).expect_ok();
        collector.post(&by_http.request).expect_ok();
        for trace in [by_grpc.trace, by_http.trace] {
            expect_tidied(wait_for_spans(store, &trace, 2), "tests");
        }
        collector.finish();
    }
}

/// Spans with ids that a back end would refuse, together with the whole
/// request, are told to the sender, and the good ones are stored.
pub fn takes_the_good_spans_of_a_request_with_bad_ids(store: &impl Store) {
    let collector = Setup::new().exporter("otlp", to(store.grpc())).start();
    let (first, last) = (recent("first"), recent("last"));
    let traces = [first.trace_id.clone(), last.trace_id.clone()];
    let bad = |change: fn(&mut Span)| {
        let mut span = recent("bad");
        change(&mut span);
        span
    };
    let short_trace = bad(|span| span.trace_id.truncate(8));
    let zero_trace = bad(|span| span.trace_id.fill(0));
    let no_span = bad(|span| span.span_id.clear());
    let answer = collector.send(&request(vec![first, short_trace, zero_trace, no_span, last]));
    let partial = answer.expect_ok().partial_success.clone().expect("the sender hears of what was left out");
    assert_eq!(partial.rejected_spans, 3);
    assert!(partial.error_message.contains("id"), "{}", partial.error_message);
    for trace in &traces {
        assert_eq!(wait_for_spans(store, trace, 1).len(), 1);
    }
    collector.finish();
}
