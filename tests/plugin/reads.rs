//! What a plugin reads is what prost decodes.

use std::collections::BTreeSet;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Status};
use prost::Message as _;
use regex::Regex;
use serde_json::{Value as Json, json};

use crate::support::proto::framed;
use crate::support::send::Call;
use crate::support::spans::{Request, Span, all, attribute, int, pair, request, spans, text, value};
use crate::support::{Setup, Sink, script, span};

const FIND: &str = "@";
const PATTERN: &str = "[0-9]+";

/// Every kind of value, and keys that come twice.
fn attributes(seed: i64) -> Vec<KeyValue> {
    let texts = ["a", "é"].map(|text| value(Value::StringValue(text.into())).unwrap());
    let array = ArrayValue { values: [&texts[..], &[value(Value::IntValue(-1)).unwrap()]].concat() };
    let inner = vec![pair("flag", Value::BoolValue(true)), KeyValue { key: "none".into(), ..KeyValue::default() }];
    vec![
        text("text", &format!("mail{seed}@example.org")),
        text("plain", "no digits"),
        text("empty", ""),
        int("int", seed - (1 << 60)),
        pair("double", Value::DoubleValue(0.5 * seed as f64)),
        pair("boolean", Value::BoolValue(seed % 2 == 0)),
        pair("bytes", Value::BytesValue(vec![0, 255, seed as u8])),
        pair("array", Value::ArrayValue(array)),
        pair("list", Value::KvlistValue(KeyValueList { values: inner })),
        KeyValue { key: "nothing".into(), value: Some(AnyValue::default()), ..KeyValue::default() },
        KeyValue { key: "absent".into(), ..KeyValue::default() },
        text("mixed", if seed % 2 == 0 { "12 and 34" } else { "@" }),
        int("mixed", 5),
        text("twice", "1st"),
        text("twice", "2nd@"),
    ]
}

/// Two resources, three scopes, spans with events and links, and numbers that OTLP does not know.
fn rich() -> Request {
    let mut seed = 0;
    let mut next = || {
        seed += 1;
        seed
    };
    let mut rich_span = |kind: i32, code: i32| {
        let seed = next();
        let mut span = span(&format!("span {seed}"));
        span.parent_span_id = if seed == 1 { vec![] } else { vec![seed as u8; 8] };
        span.kind = kind;
        span.status = (code >= 0).then(|| Status { code, message: "said".into() });
        span.attributes = if seed == 2 { vec![] } else { attributes(seed) };
        span.start_time_unix_nano = u64::MAX - seed as u64;
        span.end_time_unix_nano = u64::MAX - 2;
        let event = |name: &str, seed| Event { name: name.into(), attributes: attributes(seed), ..Event::default() };
        span.events = vec![event("first", seed + 10), event("second 2", seed + 20)];
        let link = Link { trace_id: vec![9; 16], span_id: vec![9; 8], attributes: attributes(seed), ..Link::default() };
        span.links = if seed % 2 == 1 { vec![link] } else { vec![] };
        span
    };
    let scope = |name: &str, spans: Vec<Span>| {
        let mut scope = request(spans).resource_spans[0].scope_spans[0].clone();
        let scope_of = scope.scope.as_mut().unwrap();
        scope_of.name = name.into();
        scope_of.attributes = attributes(name.len() as i64);
        scope
    };
    let first = scope("one", vec![rich_span(2, 2), rich_span(99, -1)]);
    let second = scope("two!", vec![rich_span(5, 77)]);
    let third = ScopeSpans { scope: None, spans: vec![rich_span(0, 0), rich_span(1, 1)], ..ScopeSpans::default() };
    let mut request = request(vec![]);
    request.resource_spans[0].scope_spans = vec![first, second];
    request.resource_spans[0].resource.as_mut().unwrap().attributes = attributes(7);
    request.resource_spans.push(ResourceSpans { scope_spans: vec![third], ..ResourceSpans::default() });
    request
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A value as OTLP JSON.
fn otlp_json(value: &AnyValue) -> Json {
    let list = |pairs: &[KeyValue]| -> Vec<Json> {
        let pair = |pair: &KeyValue| match &pair.value {
            Some(value) => json!({"key": pair.key, "value": otlp_json(value)}),
            None => json!({"key": pair.key}),
        };
        pairs.iter().map(pair).collect()
    };
    match value.value.as_ref() {
        None => json!({}),
        Some(Value::StringValue(text)) => json!({"stringValue": text}),
        Some(Value::BoolValue(truth)) => json!({"boolValue": truth}),
        Some(Value::IntValue(number)) => json!({"intValue": number.to_string()}),
        Some(Value::ArrayValue(array)) => {
            json!({"arrayValue": {"values": array.values.iter().map(otlp_json).collect::<Vec<_>>()}})
        }
        Some(Value::KvlistValue(pairs)) => json!({"kvlistValue": {"values": list(&pairs.values)}}),
        Some(other) => unreachable!("no such value is nested here: {other:?}"),
    }
}

/// A value as the dump shows it, with its case's number.
fn shown(pair: &KeyValue) -> (u8, Json) {
    match pair.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => (1, json!({"text": text})),
        Some(Value::BoolValue(truth)) => (2, json!({"boolean": truth})),
        Some(Value::IntValue(number)) => (3, json!({"int": number})),
        Some(Value::DoubleValue(number)) => (4, json!({"double": number})),
        Some(Value::BytesValue(bytes)) => (5, json!({"bytes": bytes})),
        _ => (6, json!({"json": otlp_json(pair.value.as_ref().unwrap_or(&AnyValue::default()))})),
    }
}

/// What the dump must say of one owner, whose rows have these attributes.
fn owner(rows: &[&[KeyValue]]) -> Json {
    let pairs = || rows.iter().enumerate().flat_map(|(row, pairs)| pairs.iter().map(move |pair| (row, pair)));
    let keys: BTreeSet<&str> = pairs().map(|(_, pair)| pair.key.as_str()).collect();
    let column = |key: &str, case: &str, fits: &dyn Fn(&str) -> bool| -> Vec<Json> {
        let of_key = pairs().filter(|(_, pair)| pair.key == key);
        let values = of_key.filter_map(|(row, pair)| Some((row, shown(pair).1.get(case)?.clone())));
        let values = values.filter(|(_, value)| value.as_str().is_none_or(fits));
        values.map(|(row, value)| json!([row, value])).collect()
    };
    let anything = |_: &str| true;
    let by_key = |fits: &dyn Fn(&str) -> bool| -> Json {
        let columns = keys.iter().map(|&key| (key, column(key, "text", fits)));
        let columns = columns.filter(|(_, entries)| !entries.is_empty());
        columns.map(|(key, entries)| (key.to_owned(), json!(entries))).collect()
    };
    let of_key = |key: &str| {
        let first = |row: &&[KeyValue]| row.iter().find(|pair| pair.key == key).map(shown);
        let text = column(key, "text", &anything);
        json!({
            "types": rows.iter().map(|row| first(row).map_or(0, |(case, _)| case)).collect::<Vec<_>>(),
            "text": text,
            "text_packed": text,
            "int": column(key, "int", &anything),
            "double": column(key, "double", &anything),
            "boolean": column(key, "boolean", &anything).iter()
                .map(|pair| json!([pair[0], u8::from(pair[1].as_bool().unwrap())])).collect::<Vec<_>>(),
            "attribute": rows.iter().map(|row| first(row).map_or(Json::Null, |(_, value)| value)).collect::<Vec<_>>(),
        })
    };
    let row = |row: &&[KeyValue]| -> Vec<Json> {
        row.iter().map(|pair| json!({"key": pair.key, "value": shown(pair).1})).collect()
    };
    let pattern = Regex::new(PATTERN).unwrap();
    let twice = |row: &&[KeyValue]| row.iter().map(|pair| &pair.key).collect::<BTreeSet<_>>().len() < row.len();
    json!({
        "rows": rows.iter().map(row).collect::<Vec<_>>(),
        "duplicate_rows": (0..rows.len()).filter(|&at| twice(&rows[at])).collect::<Vec<_>>(),
        "keys": keys.iter().map(|&key| (key.to_owned(), of_key(key))).collect::<Json>(),
        "text_columns": by_key(&anything),
        "text_columns_packed": by_key(&anything),
        "found": by_key(&|text| text.contains(FIND)),
        "matched": by_key(&|text| pattern.is_match(text)),
    })
}

fn expected(request: &Request) -> Json {
    let spans = all(request);
    let pattern = Regex::new(PATTERN).unwrap();
    let (mut resources, mut scopes) = (vec![], vec![]);
    let (mut resource_rows, mut scope_rows) = (vec![], vec![]);
    for resource in &request.resource_spans {
        for scope in &resource.scope_spans {
            resource_rows.extend(scope.spans.iter().map(|_| resources.len()));
            scope_rows.extend(scope.spans.iter().map(|_| scopes.len()));
            scopes.push(scope.scope.as_ref().map_or(&[][..], |scope| &scope.attributes));
        }
        resources.push(resource.resource.as_ref().map_or(&[][..], |resource| &resource.attributes));
    }
    let events: Vec<_> =
        spans.iter().enumerate().flat_map(|(row, span)| span.events.iter().map(move |it| (row, it))).collect();
    let links: Vec<_> =
        spans.iter().enumerate().flat_map(|(row, span)| span.links.iter().map(move |it| (row, it))).collect();
    let each = |show: &dyn Fn(&Span) -> Json| spans.iter().map(|span| show(span)).collect::<Vec<_>>();
    let known = |number: i32, most: i32| if (0..=most).contains(&number) { number } else { 0 };
    let names = each(&|span| json!(span.name));
    json!({
        "span_count": spans.len(),
        "trace_ids": each(&|span| json!(hex(&span.trace_id))),
        "span_ids": each(&|span| json!(hex(&span.span_id))),
        "parent_span_ids": each(&|span| json!(format!("{:0>16}", hex(&span.parent_span_id)))),
        "start_times": each(&|span| json!(span.start_time_unix_nano)),
        "durations": each(&|span| json!(span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano))),
        "kinds": each(&|span| json!(known(span.kind, 5))),
        "status_codes": each(&|span| json!(known(span.status.as_ref().map_or(0, |status| status.code), 2))),
        "names": names,
        "names_packed": names,
        "resource_rows": resource_rows,
        "scope_rows": scope_rows,
        "event_span_rows": events.iter().map(|(row, _)| row).collect::<Vec<_>>(),
        "event_names": events.iter().map(|(_, event)| &event.name).collect::<Vec<_>>(),
        "link_span_rows": links.iter().map(|(row, _)| row).collect::<Vec<_>>(),
        "metadata": {"x-team": [], "X-TEAM": []},
        "owners": {
            "span": owner(&spans.iter().map(|span| &span.attributes[..]).collect::<Vec<_>>()),
            "resource": owner(&resources),
            "scope": owner(&scopes),
            "event": owner(&events.iter().map(|(_, event)| &event.attributes[..]).collect::<Vec<_>>()),
            "link": owner(&links.iter().map(|(_, link)| &link.attributes[..]).collect::<Vec<_>>()),
        },
        "replaced": each(&|span| json!(pattern.replace_all(&span.name, "****"))),
        "random_differs": true,
    })
}

/// The dump in the shape of `expected`: JSON texts parsed, columns by key.
fn normal(mut dump: Json) -> Json {
    fn parse(json: &mut Json) {
        match json {
            Json::Array(items) => items.iter_mut().for_each(parse),
            Json::Object(map) => {
                if let Some(Json::String(text)) = map.get("json") {
                    let parsed = serde_json::from_str(text).unwrap();
                    map.insert("json".into(), parsed);
                } else {
                    map.values_mut().for_each(parse);
                }
            }
            _ => {}
        }
    }
    parse(&mut dump);
    for owner in dump["owners"].as_object_mut().unwrap().values_mut() {
        for columns in ["text_columns", "text_columns_packed", "found", "matched"] {
            let listed = owner[columns].as_array().unwrap();
            let count = listed.len();
            let by_key: Json =
                listed.iter().map(|it| (it["key"].as_str().unwrap().to_owned(), it["entries"].clone())).collect();
            assert_eq!(by_key.as_object().unwrap().len(), count, "a key has one column");
            owner[columns] = by_key;
        }
    }
    dump
}

#[track_caller]
fn equal(path: &str, found: &Json, expected: &Json) {
    match (found, expected) {
        (Json::Object(found), Json::Object(expected)) => {
            let keys = |map: &serde_json::Map<String, Json>| map.keys().cloned().collect::<BTreeSet<_>>();
            assert_eq!(keys(found), keys(expected), "{path}");
            expected.iter().for_each(|(key, value)| equal(&format!("{path}.{key}"), &found[key], value));
        }
        _ => assert_eq!(found, expected, "{path}"),
    }
}

/// The dump that the plugin set on the first span.
fn dump(request: &Request) -> Json {
    serde_json::from_str(attribute(all(request)[0], "dump").unwrap()).unwrap()
}

#[test]
fn everything_that_a_plugin_reads_is_what_prost_decodes() {
    let sink = Sink::start();
    let steps = json!([
        {"op": "dump", "key": "dump", "metadata": ["x-team", "X-TEAM"], "find": FIND, "patterns": [PATTERN]},
    ]);
    let collector = Setup::line(&sink).processor("wasm/dump", script(steps)).start();
    let sent = rich();
    collector.send(&sent).expect_ok();
    let arrived = sink.only();
    let mut found = normal(dump(&arrived));
    let now = found.as_object_mut().unwrap().remove("now").unwrap().as_u64().unwrap();
    assert!(now > 1_700_000_000_000_000_000, "the time is nanoseconds since 1970");
    equal("dump", &found, &expected(&sent));
    // What was read is still there when it arrives.
    let mut arrived = arrived;
    arrived.resource_spans[0].scope_spans[0].spans[0].attributes.pop();
    assert_eq!(arrived, sent);
    collector.finish();
}

#[test]
fn metadata_is_what_the_sender_sent_where_the_receiver_keeps_it() {
    let sink = Sink::start();
    let steps = json!([{"op": "dump", "key": "dump", "metadata": ["X-Team", "absent"]}]);
    let collector = Setup::line(&sink)
        .processor("wasm/dump", script(steps))
        .set("receivers.otlp.protocols.grpc.include_metadata", json!(true))
        .set("receivers.otlp.protocols.http.include_metadata", json!(true))
        .start();
    let message = request(spans(1)).encode_to_vec();
    collector.offer(2);
    Call::grpc(collector.grpc()).header("x-team", "blue").call(framed(&message)).expect_ok();
    Call::http(collector.http()).header("X-Team", "green").post(message).expect_ok();
    for (received, team) in sink.wait(2).iter().zip(["blue", "green"]) {
        assert_eq!(dump(&received.request())["metadata"], json!({"X-Team": [team], "absent": []}));
    }
    collector.finish();
}
