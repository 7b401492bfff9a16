//! OTLP JSON over HTTP, as real SDKs write it.

use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use prost::Message as _;
use serde_json::{Value, json};

use super::LIMIT;
use crate::support::proto::gzip;
use crate::support::send::{Call, HttpAnswer, JSON};
use crate::support::spans::{all, attribute, names};
use crate::support::{Collector, Reply, Setup, Sink};

fn post(collector: &Collector, body: impl Into<bytes::Bytes>) -> HttpAnswer {
    Call::http(collector.http()).header("content-type", JSON).post(body)
}

fn span(name: &str) -> Value {
    json!({
        "traceId": "5B8EFFF798038103D269B633813FC60C",
        "spanId": "eee19b7ec3c1b174",
        "parentSpanId": "",
        "name": name,
        "kind": 2,
        "startTimeUnixNano": "1544712660000000000",
        "endTimeUnixNano": 1_544_712_661_000_000_000_u64,
        "attributes": [
            {"key": "text", "value": {"stringValue": "a\u{e9}\u{1f980}"}},
            {"key": "number", "value": {"intValue": "9007199254740993"}},
            {"key": "bare", "value": {"intValue": -5}},
            {"key": "nothing", "value": {"doubleValue": null}},
        ],
        "status": {"code": 2, "message": "bad"},
        "aFieldOfTomorrow": [[{"deep": true}]],
    })
}

fn request(spans: Vec<Value>) -> Value {
    json!({"resourceSpans": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]},
        "scopeSpans": [{"scope": {"name": "tests"}, "spans": spans}],
    }]})
}

#[test]
fn a_request_in_json_arrives_as_protobuf_and_is_answered_in_json() {
    let sink = Sink::start();
    let collector = Setup::line(&sink).start();
    collector.offer(1);
    let answer = post(&collector, request(vec![span("in json")]).to_string());
    assert_eq!(answer.json(200), json!({}), "a full success says nothing");
    let received = sink.only();
    let span = all(&received)[0];
    assert_eq!(span.trace_id, 0x5B8EFFF798038103D269B633813FC60C_u128.to_be_bytes());
    assert!(span.parent_span_id.is_empty());
    assert_eq!((span.kind, span.status.as_ref().unwrap().code), (2, 2));
    assert_eq!(span.end_time_unix_nano - span.start_time_unix_nano, 1_000_000_000);
    assert_eq!(attribute(span, "text"), Some("a\u{e9}\u{1f980}"));
    let value = |key: &str| span.attributes.iter().find(|it| it.key == key).unwrap().value.clone().unwrap().value;
    assert_eq!(value("number"), Some(Any::IntValue((1 << 53) + 1)));
    assert_eq!(value("bare"), Some(Any::IntValue(-5)));
    assert!(matches!(value("nothing"), Some(Any::DoubleValue(it)) if it.is_nan()));
    collector.finish();
}

#[test]
fn the_media_type_may_carry_parameters_and_the_body_may_be_packed() {
    let sink = Sink::start();
    let collector = Setup::line(&sink).start();
    let body = request(vec![span("one")]).to_string();
    for kind in ["application/json; charset=utf-8", "Application/JSON"] {
        collector.offer(1);
        Call::http(collector.http()).header("content-type", kind).post(body.clone()).json(200);
    }
    collector.offer(1);
    let packed = Call::http(collector.http()).header("content-type", JSON).header("content-encoding", "gzip");
    packed.post(gzip(body.as_bytes())).json(200);
    sink.wait(3);
    collector.finish();
}

#[test]
fn an_empty_request_succeeds() {
    let sink = Sink::start();
    let collector = Setup::line(&sink).start();
    for body in ["{}", r#"{"resourceSpans":[]}"#, r#"{"resourceSpans":[{"scopeSpans":[{"spans":[]}]}]}"#, "{\"x\":1}"] {
        assert_eq!(post(&collector, body).json(200), json!({}), "{body}");
    }
    collector.finish();
    assert_eq!(sink.received().len(), 0);
}

#[test]
fn spans_without_valid_ids_are_told_in_json() {
    let sink = Sink::start();
    let collector = Setup::line(&sink).start();
    let mut nameless = span("no trace id");
    nameless["traceId"] = json!("");
    let mut zero = span("zero span id");
    zero["spanId"] = json!("0000000000000000");
    collector.offer(3);
    let answer = post(&collector, request(vec![span("good"), nameless, zero]).to_string()).json(200);
    assert_eq!(answer["partialSuccess"]["rejectedSpans"], "2");
    assert!(answer["partialSuccess"]["errorMessage"].as_str().unwrap().contains("trace id"));
    assert_eq!(names(&sink.only()), ["good"]);
    collector.finish();
}

#[test]
fn what_is_wrong_is_told_in_json_with_its_place() {
    let collector = Setup::new().exporter("debug", json!({})).start();
    let with = |key: &str, value: Value| {
        let mut wrong = span("wrong");
        wrong[key] = value;
        request(vec![span("good"), wrong]).to_string()
    };
    let deep = format!("{{\"x\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    for (body, part) in [
        (with("traceId", json!("5b8efff798038103")), "resourceSpans[0].scopeSpans[0].spans[1].traceId"),
        (with("spanId", json!("not hex, but sixteen")), "spans[1].spanId"),
        (with("startTimeUnixNano", json!(-1)), "spans[1].startTimeUnixNano"),
        (with("kind", json!({})), "spans[1].kind"),
        (with("attributes", json!("none")), "spans[1].attributes"),
        (request(vec![]).to_string() + "x", "line 1"),
        ("".to_owned(), "line 1"),
        ("[]".to_owned(), "line 1"),
        ("{\"resourceSpans\":[".to_owned(), "resourceSpans"),
        (deep, ""),
    ] {
        let answer = post(&collector, body.clone()).json(400);
        assert_eq!(answer["code"], 3, "{answer}");
        let message = answer["message"].as_str().unwrap();
        assert!(message.contains(part), "`{message}` does not name {part}");
        assert_eq!(answer["details"][0]["@type"], "type.googleapis.com/google.rpc.BadRequest");
    }
    // UTF-16, and bytes that are no text.
    for body in [vec![0xff, 0xfe, b'{', 0, b'}', 0], b"{\"resourceSpans\":\"\xff\"}".to_vec()] {
        assert_eq!(post(&collector, body).json(400)["code"], 3);
    }
    collector.finish();
}

/// What each of these stands for, as the Collector reads it, and what of it nobody takes.
#[test]
fn names_numbers_and_bytes_are_read_in_every_form_that_the_collector_takes() {
    let sink = Sink::start();
    let collector = Setup::line(&sink).start();
    let ids = r#""trace_id":"01010101010101010101010101010101","spanId":"0202020202020202""#;
    let body = |fields: &str| {
        format!(r#"{{"resource_spans":[{{"scopeSpans":[{{"spans":[{{{ids},"name":"a",{fields}}}]}}]}}]}}"#)
    };
    let attribute = |value: &str| format!(r#""attributes":[{{"key":"k","value":{value}}}]"#);
    let taken = |fields: &str| {
        collector.offer(1);
        assert_eq!(post(&collector, body(fields)).json(200), json!({}), "{fields}");
        all(&sink.received().last().unwrap().request())[0].clone()
    };
    for kind in ["2", "\"SPAN_KIND_SERVER\""] {
        assert_eq!(taken(&format!("\"kind\":{kind}")).kind, 2, "{kind}");
    }
    for time in ["\"18446744073709551615\"", "18446744073709551615"] {
        assert_eq!(taken(&format!("\"start_time_unix_nano\":{time}")).start_time_unix_nano, u64::MAX, "{time}");
    }
    let value = |json: &str| taken(&attribute(json)).attributes[0].value.clone().unwrap().value;
    assert_eq!(value(r#"{"bytesValue":"+/8="}"#), Some(Any::BytesValue(vec![0xfb, 0xff])));
    assert_eq!(value(r#"{"doubleValue":"-Infinity"}"#), Some(Any::DoubleValue(f64::NEG_INFINITY)));
    assert_eq!(value(r#"{"doubleValue":"1.5"}"#), Some(Any::DoubleValue(1.5)));
    assert_eq!(value(r#"{"intValue":"-9223372036854775808"}"#), Some(Any::IntValue(i64::MIN)));
    assert_eq!(value(r#"{"boolValue":true}"#), Some(Any::BoolValue(true)));
    assert_eq!(value("{}"), None);
    assert_eq!(taken(r#""status":null,"events":null,"parentSpanId":"""#).status, None);
    let span = taken(r#""attributes":[{"keyStrindex":1,"value":{"stringValueStrindex":2,"stringValue":"v"}}]"#);
    assert_eq!(span.attributes.len(), 1, "an index into nothing is no reason to refuse");
    for wrong in [
        r#""kind":"SERVER""#.to_owned(),
        r#""startTimeUnixNano":"18446744073709551616""#.to_owned(),
        r#""startTimeUnixNano":1.5"#.to_owned(),
        r#""parentSpanId":"AQIDBAUGBwg=""#.to_owned(),
        attribute(r#"{"bytesValue":"!!"}"#),
        attribute(r#"{"intValue":"9223372036854775808"}"#),
        attribute(r#"{"boolValue":"true"}"#),
        attribute(&format!("{}{{}}{}", r#"{"arrayValue":{"values":["#.repeat(3000), "]}}".repeat(3000))),
    ] {
        assert_eq!(post(&collector, body(&wrong)).json(400)["code"], 3, "{wrong}");
    }
    collector.finish();
}

#[test]
fn overload_is_told_in_json_with_the_destinations_retry_after() {
    let sink = Sink::start();
    let retry = Some(std::time::Duration::from_millis(2500));
    sink.answer(Reply::Grpc { code: 14, message: "busy", retry });
    let collector = Setup::line(&sink).set("exporters.otlp.retry_on_failure", json!({"enabled": false})).start();
    collector.offer(1);
    let answer = post(&collector, request(vec![span("one")]).to_string());
    assert_eq!(answer.header("retry-after"), Some("2"));
    let status = answer.json(503);
    assert_eq!(status["code"], 14);
    let detail = json!({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "2.5s"});
    assert_eq!(status["details"][0], detail);
    collector.finish();
}

#[test]
fn the_limit_counts_what_is_read() {
    let key = "receivers.otlp.protocols.http.max_request_body_size";
    let collector = Setup::new().exporter("debug", json!({})).set(key, json!(LIMIT)).start();
    let large = request(vec![span(&"x".repeat(LIMIT))]).to_string();
    let answer = post(&collector, large.clone()).json(413);
    assert_eq!(answer["code"], 8);
    let packed = Call::http(collector.http()).header("content-type", JSON).header("content-encoding", "gzip");
    packed.post(gzip(large.as_bytes())).json(413);
    collector.finish();
}

#[test]
fn a_large_request_is_translated_without_holding_others_up() {
    let sink = Sink::start();
    let collector = Setup::line(&sink).start();
    let many: Vec<Value> = (0..5000).map(|number| span(&format!("span {number}"))).collect();
    collector.offer(5000);
    post(&collector, request(many).to_string()).json(200);
    assert_eq!(all(&sink.only()).len(), 5000);
    collector.finish();
}

/// Requests that real SDKs sent, where the machine has them.
#[test]
fn what_the_node_sdk_wrote_arrives_whole() {
    let Some(folder) = crate::support::corpus("payloads") else { return };
    let sink = Sink::start();
    let collector = Setup::line(&sink).start();
    for (count, (file, doubles)) in [("node-agent.json", 0), ("node-agent-nan.json", 1)].into_iter().enumerate() {
        let body = std::fs::read(folder.join(file)).unwrap();
        let written: Value = serde_json::from_slice(&body).unwrap();
        let scopes = written["resourceSpans"].as_array().unwrap().iter();
        let scopes = scopes.flat_map(|it| it["scopeSpans"].as_array().unwrap());
        let wanted: Vec<&str> =
            scopes.flat_map(|it| it["spans"].as_array().unwrap()).map(|it| it["name"].as_str().unwrap()).collect();
        collector.offer(wanted.len());
        assert_eq!(post(&collector, body).json(200), json!({}), "{file}");
        let received = sink.wait(count + 1)[count].request();
        assert_eq!(names(&received), wanted, "{file}");
        let not_numbers = all(&received).into_iter().flat_map(|span| &span.attributes).filter(|it| {
            let value = it.value.as_ref().and_then(|value| value.value.as_ref());
            matches!(value, Some(Any::DoubleValue(number)) if number.is_nan())
        });
        assert!(not_numbers.count() >= doubles, "{file}");
        assert!(!received.encode_to_vec().is_empty());
    }
    collector.finish();
}
