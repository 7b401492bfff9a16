//! What of OTLP's data model is carried through as it came.

use opentelemetry_proto::tonic::common::v1::{AnyValue, EntityRef, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use prost::Message as _;
use serde_json::json;

use crate::support::proto::framed;
use crate::support::send::Call;
use crate::support::spans::{Request, text};
use crate::support::{Setup, Sink, request, script, span};

fn attributes() -> Vec<KeyValue> {
    let pair = |key: &str, value| KeyValue { key: key.into(), value, ..KeyValue::default() };
    let index = any_value::Value::StringValueStrindex(7);
    vec![
        text("twice", "one"),
        text("twice", "two"),
        pair("no value", None),
        pair("an empty value", Some(AnyValue { value: None })),
        // What belongs to profiles is no reason to refuse.
        KeyValue { key_strindex: 3, ..KeyValue::default() },
        pair("an index", Some(AnyValue { value: Some(index) })),
    ]
}

/// Every field that a span and what is around it have.
fn full() -> Request {
    let event = Event { time_unix_nano: 3, name: "e".into(), attributes: attributes(), dropped_attributes_count: 4 };
    let link = Link {
        trace_id: vec![7; 16],
        span_id: vec![8; 8],
        trace_state: "l=1".into(),
        attributes: attributes(),
        dropped_attributes_count: 5,
        flags: u32::MAX,
    };
    let span = Span {
        trace_state: "a=b,c=d".into(),
        parent_span_id: vec![9; 8],
        // The reserved bits too.
        flags: u32::MAX,
        kind: 5,
        end_time_unix_nano: u64::MAX,
        attributes: attributes(),
        dropped_attributes_count: 1,
        events: vec![event],
        dropped_events_count: 2,
        links: vec![link],
        dropped_links_count: 3,
        status: Some(Status { message: "said".into(), code: 2 }),
        ..span("full")
    };
    let mut full = request(vec![span]);
    let resource_spans = &mut full.resource_spans[0];
    resource_spans.schema_url = "https://example.org/resource".into();
    let resource = resource_spans.resource.as_mut().unwrap();
    resource.dropped_attributes_count = 6;
    let keys = |key: &str| vec![key.to_owned()];
    resource.entity_refs = vec![EntityRef {
        schema_url: "https://example.org/entity".into(),
        r#type: "service".into(),
        id_keys: keys("service.name"),
        description_keys: keys("service.version"),
    }];
    let scope_spans = &mut resource_spans.scope_spans[0];
    scope_spans.schema_url = "https://example.org/scope".into();
    let scope = scope_spans.scope.as_mut().unwrap();
    (scope.version, scope.attributes, scope.dropped_attributes_count) = ("1".into(), attributes(), 7);
    full
}

#[test]
fn every_field_arrives_as_it_came_also_beside_an_edit() {
    let sent = full();
    let sink = Sink::start();
    let collector = Setup::line(&sink).start();
    collector.send(&sent).expect_ok();
    collector.post(&sent).expect_ok();
    assert!(sink.wait(2).iter().all(|received| received.message == sent.encode_to_vec()));
    collector.finish();

    let sink = Sink::start();
    let edit = json!([{"op": "set-names", "rows": [0], "names": ["renamed"]}]);
    let collector = Setup::line(&sink).processor("wasm/edit", script(edit)).start();
    collector.offer(1);
    Call::grpc(collector.grpc()).call(framed(&sent.encode_to_vec())).expect_ok();
    let mut arrived = sink.only();
    let name = &mut arrived.resource_spans[0].scope_spans[0].spans[0].name;
    assert_eq!(std::mem::replace(name, "full".into()), "renamed");
    assert_eq!(arrived, sent);
    collector.finish();
}
