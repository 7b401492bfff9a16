//! Every edit has its effect on the spans that it names, and on no others.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{ArrayValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Status;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use serde_json::{Value as Json, json};

use crate::support::config::{to_http, with};
use crate::support::spans::{Request, int, names, pair, spans, text, value};
use crate::support::{Collector, Setup, Sink, request, script, span, to};

/// What arrives of a request after these steps, and the collector's end.
fn after(steps: Json, sent: &Request) -> Request {
    let sink = Sink::start();
    let collector = Setup::line(&sink).processor("wasm/edit", script(steps)).start();
    collector.send(sent).expect_ok();
    let arrived = sink.only();
    assert_eq!(collector.metrics().sum("vespid_plugin_failures", &[]), 0);
    collector.finish();
    arrived
}

/// Two spans with an attribute, an event and a link each.
fn sample() -> Request {
    let mut spans = spans(2);
    for span in &mut spans {
        span.attributes = vec![text("old", "1"), int("number", 1), text("old", "again")];
        span.events = vec![Event { name: "event".into(), attributes: vec![text("old", "2")], ..Event::default() }];
        let (trace_id, span_id) = (vec![7; 16], vec![7; 8]);
        span.links = vec![Link { trace_id, span_id, attributes: vec![text("old", "3")], ..Link::default() }];
    }
    request(spans)
}

/// The attributes of one row of one owner.
fn attributes<'a>(request: &'a mut Request, owner: &str) -> &'a mut Vec<KeyValue> {
    let resource = &mut request.resource_spans[0];
    let scope = &mut resource.scope_spans[0];
    match owner {
        "resource" => &mut resource.resource.as_mut().unwrap().attributes,
        "scope" => &mut scope.scope.as_mut().unwrap().attributes,
        "span" => &mut scope.spans[0].attributes,
        "event" => &mut scope.spans[0].events[0].attributes,
        _ => &mut scope.spans[0].links[0].attributes,
    }
}

#[test]
fn an_attribute_of_every_type_is_set_on_every_owner() {
    let values = [
        (json!({"text": "t é"}), Value::StringValue("t é".into())),
        (json!({"boolean": true}), Value::BoolValue(true)),
        (json!({"int": i64::MIN}), Value::IntValue(i64::MIN)),
        (json!({"double": 2.5}), Value::DoubleValue(2.5)),
        (json!({"bytes": [0, 255]}), Value::BytesValue(vec![0, 255])),
        (
            json!({"json": r#"{"arrayValue":{"values":[{"intValue":"1"}]}}"#}),
            Value::ArrayValue(ArrayValue { values: vec![value(Value::IntValue(1)).unwrap()] }),
        ),
    ];
    let (mut steps, mut expected) = (vec![], sample());
    for owner in ["span", "resource", "scope", "event", "link"] {
        for (number, (json, value)) in values.iter().enumerate() {
            let key = format!("new{number}");
            steps.push(json!({"op": "set", "owner": owner, "rows": [0], "key": key, "value": json}));
            attributes(&mut expected, owner).push(pair(&key, value.clone()));
        }
    }
    let arrived = after(json!(steps), &{
        let mut sent = expected.clone();
        for owner in ["span", "resource", "scope", "event", "link"] {
            attributes(&mut sent, owner).retain(|pair| !pair.key.starts_with("new"));
        }
        sent
    });
    assert_eq!(arrived, expected);
}

#[test]
fn a_set_leaves_one_attribute_of_the_key_in_the_firsts_place() {
    let sent = sample();
    let steps = json!([{"op": "set", "owner": "span", "rows": [1], "key": "old", "value": {"int": 9}}]);
    let mut expected = sent.clone();
    expected.resource_spans[0].scope_spans[0].spans[1].attributes = vec![int("old", 9), int("number", 1)];
    assert_eq!(after(steps, &sent), expected);
}

#[test]
fn texts_are_set_one_a_row_plain_and_coded() {
    let sent = sample();
    let steps = json!([
        {"op": "set-texts", "owner": "span", "rows": [1, 0], "key": "a", "values": ["one", "zero"]},
        {"op": "set-texts-coded", "owner": "span", "rows": [0, 1], "key": "b", "codes": [1, 1], "dictionary": ["", "é"]},
        {"op": "set-texts-coded", "owner": "event", "rows": [1], "key": "old", "codes": [0], "dictionary": ["new"]},
    ]);
    let mut expected = sent.clone();
    let spans = &mut expected.resource_spans[0].scope_spans[0].spans;
    spans[0].attributes.extend([text("a", "zero"), text("b", "é")]);
    spans[1].attributes.extend([text("a", "one"), text("b", "é")]);
    spans[1].events[0].attributes = vec![text("old", "new")];
    assert_eq!(after(steps, &sent), expected);
}

#[test]
fn texts_are_replaced_each_in_its_own_place() {
    let mut sent = sample();
    let attributes = |request: &mut crate::support::spans::Request, values: &[&str]| {
        let pairs = values.iter().map(|value| text("old", value)).chain([int("old", 3), text("other", "a")]);
        request.resource_spans[0].scope_spans[0].spans[1].attributes = pairs.collect();
    };
    attributes(&mut sent, &["a", "b", "a", "c"]);
    let steps = json!([{
        "op": "replace-texts", "owner": "span", "rows": [1, 1, 0], "key": "old",
        "codes": [0, 1, 1], "old": ["a", "b"], "new": ["first", ""],
    }]);
    let mut expected = sent.clone();
    attributes(&mut expected, &["first", "", "first", "c"]);
    assert_eq!(after(steps, &sent), expected);
}

#[test]
fn a_remove_takes_every_attribute_of_the_key() {
    let mut expected = sample();
    let sent = expected.clone();
    let owners = ["span", "resource", "scope", "event", "link"];
    let mut steps: Vec<Json> =
        owners.iter().map(|owner| json!({"op": "remove", "owner": owner, "rows": [0], "key": "old"})).collect();
    steps.push(json!({"op": "remove", "owner": "resource", "rows": "all", "key": "service.name"}));
    for owner in owners {
        attributes(&mut expected, owner).retain(|pair| pair.key != "old" && pair.key != "service.name");
    }
    assert_eq!(after(json!(steps), &sent), expected);
}

#[test]
fn names_and_status_are_set() {
    let mut sent = sample();
    sent.resource_spans[0].scope_spans[0].spans[0].status = Some(Status { code: 1, message: "was fine".into() });
    let steps = json!([
        {"op": "set-names", "rows": [1, 0], "names": ["one", ""]},
        {"op": "set-status", "rows": "all", "code": 2, "message": "broken"},
        {"op": "set-status", "rows": [1], "code": 0, "message": ""},
    ]);
    let mut expected = sent.clone();
    let spans = &mut expected.resource_spans[0].scope_spans[0].spans;
    (spans[0].name, spans[1].name) = (String::new(), "one".into());
    spans[0].status = Some(Status { code: 2, message: "broken".into() });
    let mut arrived = after(steps, &sent);
    // An unset status may be written out or left out.
    let unset = arrived.resource_spans[0].scope_spans[0].spans[1].status.take().unwrap_or_default();
    assert_eq!(unset, Status::default());
    assert_eq!(arrived, expected);
}

#[test]
fn dropped_spans_go_with_their_reason_and_rows_count_from_before_the_drop() {
    let sink = Sink::start();
    let steps = json!([
        {"op": "drop", "rows": [0, 0, 2], "reason": "noise"},
        {"op": "drop", "rows": [2, 3], "reason": "more"},
        {"op": "set-names", "rows": [4, 2], "names": ["last", "gone"]},
    ]);
    let collector = Setup::line(&sink).processor("wasm/edit", script(steps)).start();
    collector.send(&request(spans(5))).expect_ok();
    assert_eq!(names(&sink.only()), ["span 1", "last"]);
    let metrics = collector.metrics();
    let dropped =
        |reason| metrics.sum("vespid_processor_dropped_spans", &[("processor", "wasm/edit"), ("reason", reason)]);
    assert_eq!((dropped("noise"), dropped("more")), (2, 1));
    collector.finish();
}

#[test]
fn matches_are_replaced_in_texts_of_the_owner_alone() {
    let mut sent = sample();
    for span in &mut sent.resource_spans[0].scope_spans[0].spans {
        span.attributes = vec![text("mixed", "a1b22"), int("number", 1), text("none", "-")];
    }
    // `$$` is how a config writes a dollar.
    let steps = json!([
        {"op": "replace-matches", "owner": "span", "patterns": ["[0-9]+", "b"], "replacement": "<$$0>"},
    ]);
    let mut expected = sent.clone();
    for span in &mut expected.resource_spans[0].scope_spans[0].spans {
        // The second pattern sees what the first has made; the replacement is literal.
        span.attributes[0] = text("mixed", "a<$0><$0><$0>");
    }
    assert_eq!(after(steps, &sent), expected);
}

/// The tenant of each request at the sink, and its spans.
fn tenants(sink: &Sink, requests: usize) -> Vec<(Option<String>, Vec<String>)> {
    let received = sink.wait(requests);
    let mut found: Vec<_> = received
        .iter()
        .map(|it| {
            let names = names(&it.request()).into_iter().map(str::to_owned).collect();
            (it.header("x-scope-orgid").map(str::to_owned), names)
        })
        .collect();
    found.sort();
    found
}

fn splits_by_tenant(start: impl Fn(Setup) -> Collector, exporter: impl Fn(&Sink) -> (&'static str, Json)) {
    let sink = Sink::start();
    let steps = json!([
        {"op": "set-tenant", "rows": [0, 2], "tenant": "blue"},
        {"op": "set-tenant", "rows": [3], "tenant": "green"},
    ]);
    let (id, settings) = exporter(&sink);
    let collector = start(Setup::new().exporter(id, settings).processor("wasm/edit", script(steps)));
    collector.send(&request(spans(4))).expect_ok();
    let named = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let expected = [
        (None, named(&["span 1"])),
        (Some("blue".to_owned()), named(&["span 0", "span 2"])),
        (Some("green".to_owned()), named(&["span 3"])),
    ];
    assert_eq!(tenants(&sink, 3), expected);
    collector.finish();
}

#[test]
fn a_tenant_becomes_tempos_header_and_splits_the_batch() {
    splits_by_tenant(Setup::start, |sink| ("otlp", to(sink)));
}

#[test]
fn a_tenant_becomes_tempos_header_over_http_too() {
    splits_by_tenant(Setup::start, |sink| ("otlphttp", to_http(sink)));
}

#[test]
fn a_plugins_tenant_stands_over_the_exporters_own() {
    let sink = Sink::start();
    let exporter = with(to(&sink), [("headers", json!({"X-Scope-OrgID": "usual"}))]);
    let steps = json!([{"op": "set-tenant", "rows": [0], "tenant": "blue"}]);
    let collector = Setup::new().exporter("otlp", exporter).processor("wasm/edit", script(steps)).start();
    collector.send(&request(spans(2))).expect_ok();
    let expected =
        [(Some("blue".to_owned()), vec!["span 0".to_owned()]), (Some("usual".to_owned()), vec!["span 1".to_owned()])];
    assert_eq!(tenants(&sink, 2), expected);
    collector.finish();
}

#[test]
fn what_a_plugin_logs_and_counts_is_seen_under_its_id() {
    let sink = Sink::start();
    let steps = json!([
        {"op": "log", "level": "debug", "message": "too quiet"},
        {"op": "log", "level": "info", "message": "hello\nworld"},
        {"op": "log", "level": "error", "message": "a loud one"},
        {"op": "count", "name": "seen.things", "labels": {"kind": "x\"y"}, "amount": 2},
        {"op": "record", "name": "size", "value": 30.0},
    ]);
    let mut collector = Setup::line(&sink).processor("wasm/edit", script(steps)).start();
    collector.send(&request(vec![span("a")])).expect_ok();
    collector.send(&request(vec![span("b")])).expect_ok();
    let line = collector.wait_for_log("a loud one");
    assert!(line.contains("\terror\t") && line.contains("wasm/edit"), "{line}");
    assert!(collector.log().contains("hello"));
    assert!(!collector.log().contains("too quiet"));
    let metrics = collector.metrics();
    let mine = [("processor", "wasm/edit")];
    assert_eq!(metrics.sum("plugin_seen_things", &[mine[0], ("kind", "x\"y")]), 4);
    assert_eq!(metrics.sum("plugin_size_sum", &mine), 60);
    assert_eq!(metrics.sum("plugin_size_bucket", &[mine[0], ("le", "25")]), 0);
    assert_eq!(metrics.sum("plugin_size_bucket", &[mine[0], ("le", "50")]), 2);
    assert_eq!(metrics.types["plugin_size"], "histogram");
    assert_eq!(metrics.sum("vespid_plugin_calls", &mine), 2);
    collector.finish();
}
