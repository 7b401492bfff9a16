//! The bundled plugin `redaction` through the whole collector: some of the results of
//! the OpenTelemetry Collector that `plugins/redaction/tests/cases.json` lists.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use serde_json::{Value as Json, json};

use crate::support::spans::{Request, pair, request, spans, text};
use crate::support::{Setup, Sink, root, span};

fn value(json: &Json) -> Option<Value> {
    let values = |items: &[Json]| items.iter().map(|item| AnyValue { value: value(item) }).collect();
    Some(match json {
        Json::Null => return None,
        Json::Bool(truth) => Value::BoolValue(*truth),
        Json::String(text) => Value::StringValue(text.clone()),
        Json::Number(number) => match number.as_i64() {
            Some(number) => Value::IntValue(number),
            None => Value::DoubleValue(number.as_f64().unwrap()),
        },
        Json::Array(items) => Value::ArrayValue(ArrayValue { values: values(items) }),
        Json::Object(members) => match members.iter().next() {
            Some((key, _)) if key == "$empty" => return None,
            Some((key, text)) if key == "$bytes" => Value::BytesValue(text.as_str().unwrap().into()),
            Some((key, text)) if key == "$double" => Value::DoubleValue(text.as_str().unwrap().parse().unwrap()),
            _ => Value::KvlistValue(KeyValueList { values: attributes(json) }),
        },
    })
}

/// Sorted by key, since their order has no meaning.
fn attributes(json: &Json) -> Vec<KeyValue> {
    let members = json.as_object().into_iter().flatten();
    let pair = |(key, json): (&String, &Json)| KeyValue {
        key: key.clone(),
        value: Some(AnyValue { value: value(json) }),
        ..KeyValue::default()
    };
    let mut all: Vec<_> = members.map(pair).collect();
    all.sort_by(|one, other| one.key.cmp(&other.key));
    all
}

fn sent(case: &Json) -> Request {
    let mut span = span(case["name"].as_str().unwrap_or("span"));
    span.kind = match case["kind"].as_str() {
        Some("server") => 2,
        Some("client") => 3,
        Some("producer") => 4,
        _ => 1,
    };
    span.attributes = attributes(&case["attributes"]);
    span.events = vec![Event { name: "event".into(), attributes: attributes(&case["event"]), ..Event::default() }];
    let (trace_id, span_id) = (vec![7; 16], vec![7; 8]);
    span.links = vec![Link { trace_id, span_id, attributes: attributes(&case["link"]), ..Link::default() }];
    let mut request = request(vec![span]);
    let resource = &mut request.resource_spans[0];
    resource.resource.as_mut().unwrap().attributes = attributes(&case["resource"]);
    resource.scope_spans[0].scope.as_mut().unwrap().attributes = attributes(&case["scope"]);
    request
}

/// Name and attributes of a case's one span and of what it belongs to. Debug
/// texts, since not a number is not equal to itself.
fn shown(request: &Request) -> Vec<String> {
    let resource = &request.resource_spans[0];
    let scope = &resource.scope_spans[0];
    let span = &scope.spans[0];
    let held = [
        &resource.resource.as_ref().unwrap().attributes,
        &scope.scope.as_ref().unwrap().attributes,
        &span.attributes,
        &span.events[0].attributes,
        &span.links[0].attributes,
    ];
    let sorted = |attributes: &Vec<KeyValue>| {
        let mut sorted = attributes.clone();
        sorted.sort_by(|one, other| one.key.cmp(&other.key));
        format!("{sorted:?}")
    };
    std::iter::once(span.name.clone()).chain(held.into_iter().map(sorted)).collect()
}

#[test]
fn attributes_are_redacted_as_the_collector_redacts_them() {
    let path = root().join("plugins/redaction/tests/cases.json");
    let cases: Vec<Json> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    // A start each: every fourth will do here, and the page's example and the plugin's
    // own tests see to the rest.
    for case in cases.iter().step_by(4) {
        let sink = Sink::start();
        let collector = Setup::line(&sink).processor("redaction", case["config"].clone()).start();
        collector.send(&sent(&case["before"])).expect_ok();
        let expected = sent(&case["after"]);
        assert_eq!(shown(&sink.only()), shown(&expected), "{}", case["name"]);
        collector.finish();
    }
}

#[test]
fn a_batch_of_many_spans_is_redacted_to_its_last_one() {
    let mut many = spans(300);
    for (number, span) in many.iter_mut().enumerate() {
        span.name = format!("/users/{number}");
        span.kind = 3;
        span.attributes = vec![
            text("mail", &format!("{number} user@example.org")),
            text("twice", "4111111111111111"),
            text("twice", "also 4111111111111111"),
            pair("number", Value::IntValue(number as i64)),
        ];
    }
    let sent = request(many);
    let sink = Sink::start();
    let settings = json!({
        "allow_all_keys": true,
        "blocked_values": ["[a-z]+@[a-z.]+", "4[0-9]{15}"],
        "url_sanitizer": {"enabled": true},
    });
    let collector = Setup::line(&sink).processor("redaction", settings).start();
    collector.send(&sent).expect_ok();
    let mut expected = sent;
    for (number, span) in expected.resource_spans[0].scope_spans[0].spans.iter_mut().enumerate() {
        span.name = "/users/*".into();
        span.attributes[..3].clone_from_slice(&[
            text("mail", &format!("{number} ****")),
            text("twice", "****"),
            text("twice", "also ****"),
        ]);
    }
    assert_eq!(sink.only(), expected);
    collector.finish();
}
