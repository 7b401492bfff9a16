//! What the decoder takes and what it refuses, one row each.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;

use super::{refused, wire};
use crate::traces::{Message, OtlpJsonError, VALUE_DEPTH, decode_request, encode_request, walk};

fn around(span: &str) -> String {
    format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{span}}}]}}]}}]}}"#)
}

#[track_caller]
fn span(json: &str) -> Span {
    wire(&around(json)).resource_spans.remove(0).scope_spans.remove(0).spans.remove(0)
}

/// The error of a span, without the path to the span.
#[track_caller]
fn span_refused(json: &str) -> String {
    let error = refused(&around(json));
    let path = "resourceSpans[0].scopeSpans[0].spans[0]";
    error.strip_prefix(path).unwrap_or_else(|| panic!("{error}")).trim_start_matches(['.', ':', ' ']).to_owned()
}

#[track_caller]
fn value(json: &str) -> Option<Value> {
    let attribute = span(&format!(r#""attributes":[{{"key":"k","value":{json}}}]"#)).attributes.remove(0);
    attribute.value.and_then(|value| value.value)
}

#[test]
fn keys_are_known_in_camel_case_and_in_snake_case() {
    let camel = r#""traceId":"5b8efff798038103d269b633813fc60c","parentSpanId":"eee19b7ec3c1b174","kind":2,
        "startTimeUnixNano":"1","droppedAttributesCount":3,"status":{"code":2},"flags":257"#;
    let snake = r#""trace_id":"5b8efff798038103d269b633813fc60c","parent_span_id":"eee19b7ec3c1b174","kind":2,
        "start_time_unix_nano":"1","dropped_attributes_count":3,"status":{"code":2},"flags":257"#;
    assert_eq!(span(camel), span(snake));
    assert_eq!((span(snake).start_time_unix_nano, span(snake).dropped_attributes_count), (1, 3));
    assert_eq!(span(r#""\u0074race\u005fid":"5B8EFFF798038103D269B633813FC60C""#).trace_id, span(camel).trace_id);
}

#[test]
fn ids_are_hexadecimal_in_any_case_and_may_be_empty() {
    let id = hex(span(r#""spanId":"EEe19b7ec3C1B174""#).span_id);
    assert_eq!(id, "eee19b7ec3c1b174");
    for empty in [r#""spanId":"""#, r#""spanId":null"#, ""] {
        assert!(span(empty).span_id.is_empty(), "{empty}");
    }
    let whole = "traceId: an id of 32 hexadecimal digits was expected, not `\"5b8e\"` (line 1, column 55)";
    assert_eq!(span_refused(r#""traceId":"5b8e""#), whole);
    assert!(span_refused(r#""spanId":"5b8efff798038103d269b633813fc60c""#).contains("16 hexadecimal digits"));
    assert!(span_refused(r#""spanId":"W47/95A4EyPQ""#).contains("16 hexadecimal digits"));
    assert!(span_refused(r#""spanId":"eee19b7ec3c1b17g""#).starts_with("spanId: an id in hexadecimal digits"));
    assert!(span_refused(r#""spanId":"eee19b7ec3c1b1éa""#).contains("spanId: an id"));
    assert!(span_refused(r#""spanId":7"#).contains("not `7`"));
    assert!(span_refused(r#""links":[{},{"spanId":"00"}]"#).starts_with("links[1].spanId: "));
}

fn hex(bytes: Vec<u8>) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn enumerations_are_numbers_or_names() {
    for (kind, number) in [
        ("2", 2),
        ("\"SPAN_KIND_SERVER\"", 2),
        ("\"2\"", 2),
        ("2.0", 2),
        ("\"SPAN_KIND_UNSPECIFIED\"", 0),
        ("77", 77),
        ("-1", -1),
        ("null", 0),
    ] {
        assert_eq!(span(&format!(r#""kind":{kind}"#)).kind, number, "{kind}");
    }
    assert_eq!(span(r#""status":{"code":"STATUS_CODE_ERROR"}"#).status.unwrap().code, 2);
    let wrong = span_refused(r#""kind":"SERVER""#);
    assert!(
        wrong.starts_with("kind: a number or a name that OTLP gives one was expected, not `\"SERVER\"`"),
        "{wrong}"
    );
    assert!(span_refused(r#""kind":4294967296"#).starts_with("kind: "));
    assert!(span_refused(r#""kind":true"#).starts_with("kind: "));
}

#[test]
fn numbers_come_bare_or_as_text_and_must_fit() {
    for (text, number) in [
        ("\"1780000000000000000\"", 1_780_000_000_000_000_000),
        ("1780000000000000000", 1_780_000_000_000_000_000),
        ("1.78e18", 1_780_000_000_000_000_000),
        ("\"5.0\"", 5),
        ("18446744073709551615", u64::MAX),
        ("-0", 0),
        ("null", 0),
    ] {
        assert_eq!(span(&format!(r#""startTimeUnixNano":{text}"#)).start_time_unix_nano, number, "{text}");
    }
    for text in
        ["-1", "\"-1\"", "18446744073709551616", "1.5", "\"\"", "\"x\"", "true", "{}", "[1]", "01", "+1", "1e", ".5"]
    {
        let error = span_refused(&format!(r#""startTimeUnixNano":{text}"#));
        assert!(error.starts_with("startTimeUnixNano: a whole number from 0"), "{text}: {error}");
    }
    assert_eq!(span(r#""flags":"769""#).flags, 769);
    assert_eq!(span(r#""droppedLinksCount":4294967295"#).dropped_links_count, u32::MAX);
    assert!(span_refused(r#""flags":4294967296"#).starts_with("flags: "));
    assert!(span_refused(r#""droppedEventsCount":-1"#).starts_with("droppedEventsCount: "));
}

#[test]
fn values_are_read_as_clients_write_them() {
    let int = |number| Some(Value::IntValue(number));
    assert_eq!(value(r#"{"stringValue":"x"}"#), Some(Value::StringValue("x".into())));
    assert_eq!(value(r#"{"intValue":"-9223372036854775808"}"#), int(i64::MIN));
    assert_eq!(value(r#"{"intValue":9007199254740992}"#), int(9_007_199_254_740_992));
    assert_eq!(value(r#"{"intValue":1e3}"#), int(1000));
    assert_eq!(value(r#"{"int_value":1}"#), int(1));
    assert_eq!(value(r#"{"boolValue":false}"#), Some(Value::BoolValue(false)));
    for (json, number) in [("1.5", 1.5), ("2", 2.0), ("\"1e3\"", 1000.0), ("-0.0", -0.0)] {
        assert_eq!(value(&format!(r#"{{"doubleValue":{json}}}"#)), Some(Value::DoubleValue(number)), "{json}");
    }
    assert_eq!(value(r#"{"doubleValue":"Infinity"}"#), Some(Value::DoubleValue(f64::INFINITY)));
    assert_eq!(value(r#"{"doubleValue":"-Infinity"}"#), Some(Value::DoubleValue(f64::NEG_INFINITY)));
    for nan in ["null", "\"NaN\""] {
        let found = value(&format!(r#"{{"doubleValue":{nan}}}"#));
        assert!(matches!(found, Some(Value::DoubleValue(number)) if number.is_nan()), "{nan}");
    }
    for empty in ["{}", "null", r#"{"stringValue":null}"#, r#"{"arrayValue":null}"#, r#"{"futureValue":[1,{"a":2}]}"#] {
        assert_eq!(value(empty), None, "{empty}");
    }
    for wrong in [
        "1",
        "\"x\"",
        "[]",
        r#"{"stringValue":1}"#,
        r#"{"boolValue":"true"}"#,
        r#"{"boolValue":1}"#,
        r#"{"intValue":9223372036854775808}"#,
        r#"{"doubleValue":"x"}"#,
        r#"{"doubleValue":1e999}"#,
        r#"{"doubleValue":"inf"}"#,
        r#"{"bytesValue":"!"}"#,
        r#"{"bytesValue":"A"}"#,
        r#"{"arrayValue":[]}"#,
        r#"{"arrayValue":{"values":{}}}"#,
    ] {
        let error = span_refused(&format!(r#""attributes":[{{"key":"k","value":{wrong}}}]"#));
        assert!(error.starts_with("attributes[0].value"), "{wrong}: {error}");
    }
}

#[test]
fn a_null_in_a_list_is_an_empty_value_or_nothing() {
    let Some(Value::ArrayValue(list)) = value(r#"{"arrayValue":{"values":[null,{"intValue":1},{}]}}"#) else {
        panic!()
    };
    assert_eq!(list.values.iter().map(|value| value.value.is_some()).collect::<Vec<_>>(), [false, true, false]);
    assert_eq!(span(r#""attributes":[null,{"key":"k"},null]"#).attributes.len(), 1);
    assert_eq!(span(r#""attributes":null,"events":null,"status":null,"name":null"#), Span::default());
}

#[test]
fn bytes_are_base64_of_either_alphabet_with_or_without_padding() {
    for length in 0..200 {
        let bytes: Vec<u8> = (0..length).map(|at| (at * 83 + 0xfb) as u8).collect();
        for engine in [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD] {
            let text = engine.encode(&bytes).replace('/', "\\/");
            let found = value(&format!(r#"{{"bytesValue":"{text}"}}"#));
            assert_eq!(found, Some(Value::BytesValue(bytes.clone())), "{text}");
        }
    }
}

#[test]
fn escapes_are_read_and_half_a_surrogate_pair_is_replaced() {
    for (json, text) in [
        (r#"\"\\\/\b\f\n\r\t"#, "\"\\/\u{8}\u{c}\n\r\t"),
        (r"\u00e9\u0000A", "é\0A"),
        (r"\ud83d\udc1d!", "🐝!"),
        (r"cut \ud83d", "cut \u{fffd}"),
        (r"\udc1d\ud83d", "\u{fffd}\u{fffd}"),
        (r"\ud83dx\ud83d\u0041", "\u{fffd}x\u{fffd}A"),
        ("ключ 🐝", "ключ 🐝"),
    ] {
        assert_eq!(span(&format!(r#""name":"{json}""#)).name, text, "{json}");
        let long = "x".repeat(200);
        assert_eq!(span(&format!(r#""name":"{long}{json}{long}""#)).name, format!("{long}{text}{long}"), "{json}");
    }
    for wrong in [r"\x", r"\u12", r"\u12g4", r"\u+123", "\u{1}", "a\nb"] {
        let error = span_refused(&format!(r#""name":"{wrong}""#));
        assert!(error.starts_with("name: "), "{wrong}: {error}");
    }
}

#[test]
fn unknown_keys_are_ignored_whatever_they_hold() {
    let json = r#""name":"a","later":{"x":[1,-2.5e3,"\u00e9",null,true,{"y":{}}],"z":[]},"kind":1,"":0"#;
    assert_eq!(span(json), Span { name: "a".into(), kind: 1, ..Span::default() });
    assert!(span_refused(r#""later":nul"#).contains("a value was expected"));
    assert!(span_refused(r#""later":[1,]"#).contains("a value was expected, not `]`"));
    assert!(span_refused(r#""later":01"#).contains("a value was expected"));
}

#[test]
fn a_key_that_occurs_twice_counts_as_a_field_that_does() {
    let twice = span(
        r#""name":"a","kind":2,"attributes":[{"key":"a"}],"name":"b","kind":0,"attributes":[{"key":"b"}],
           "status":{"message":"m","code":1},"status":{"code":2},"spanId":"eee19b7ec3c1b174","spanId":"""#,
    );
    assert_eq!((twice.name.as_str(), twice.kind, twice.span_id.len()), ("b", 0, 0));
    assert_eq!(twice.attributes.iter().map(|it| it.key.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let status = twice.status.unwrap();
    assert_eq!((status.message.as_str(), status.code), ("m", 2));
    assert_eq!(value(r#"{"stringValue":"x","intValue":"1"}"#), Some(Value::IntValue(1)));
}

#[test]
fn what_is_not_one_json_object_is_refused_with_its_place() {
    for (json, error) in [
        ("", "an object was expected, not the end of the text (line 1, column 1)"),
        ("null", "an object was expected, not `null` (line 1, column 1)"),
        ("[]", "an object was expected, not `[` (line 1, column 1)"),
        ("{} x", "the text was expected to end here, not `x` (line 1, column 4)"),
        ("{}{}", "the text was expected to end here, not `{` (line 1, column 3)"),
        ("{", "a key in quotes was expected, not the end of the text (line 1, column 2)"),
        ("{a:1}", "a key in quotes was expected, not `a` (line 1, column 2)"),
        ("{\"a\" 1}", "a colon was expected behind the key, not `1` (line 1, column 6)"),
        ("{\"a\":1,}", "a key in quotes was expected, not `}` (line 1, column 8)"),
        ("{\"a\":1 \"b\":2}", "a comma or `}` was expected, not `\"b\"` (line 1, column 8)"),
        (
            "{\n \"resourceSpans\":\n  [{\"é\":0},7]}",
            "resourceSpans[1]: an object was expected, not `7` (line 3, column 12)",
        ),
        ("{\"resourceSpans\":{}}", "resourceSpans: a list was expected, not `{` (line 1, column 18)"),
        (
            "{\"resourceSpans\":[{}",
            "resourceSpans: a comma or `]` was expected, not the end of the text (line 1, column 21)",
        ),
        ("{\"a", "the text ends within quotes (line 1, column 4)"),
        ("\u{feff}{}", "the text begins with a byte order mark, which JSON does not have (line 1, column 1)"),
    ] {
        assert_eq!(refused(json), error, "{json}");
    }
    let long = refused(&format!(r#"{{"resourceSpans":"{}"}}"#, "é".repeat(500)));
    assert!(long.len() < 200 && long.contains('…'), "{long}");
    let units: Vec<u8> = "{}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for wide in [units.as_slice(), b"\xff\xfe{\0}\0", b"\xfe\xff\0{\0}", b"\0{\0}"] {
        let error = decode_request(wide, 100).unwrap_err().to_string();
        assert_eq!(error, "the text is in UTF-16 or UTF-32, and JSON is in UTF-8 (line 1, column 1)");
    }
    let error = decode_request(b"{\n\"a\":\"\xff\"}", 100).unwrap_err().to_string();
    assert_eq!(error, "the text is not valid UTF-8 (line 2, column 6)");
}

fn nested(depth: usize) -> String {
    let (open, close) = (r#"{"arrayValue":{"values":["#.repeat(depth - 1), "]}}".repeat(depth - 1));
    around(&format!(r#""attributes":[{{"key":"k","value":{open}{{}}{close}}}]"#))
}

#[test]
fn nesting_is_limited_as_in_the_walk() {
    let limit = VALUE_DEPTH as usize;
    let deepest = decode_request(nested(limit).as_bytes(), usize::MAX).unwrap();
    assert!(walk::validate(&deepest.bytes()).is_ok());
    assert_eq!(decode_request(&encode_request(&deepest).unwrap(), usize::MAX).unwrap().bytes(), deepest.bytes());
    assert!(refused(&nested(limit + 1)).contains("values are nested more than 64 deep"));
    // As deep on the wire, where the walk would refuse it too.
    let mut wire = vec![];
    for _ in 0..=limit {
        for tag in [0x0a, 0x2a] {
            let mut outer = vec![tag];
            crate::traces::wire::push_varint(&mut outer, wire.len() as u64);
            wire.splice(0..0, outer);
        }
    }
    // attributes (with a value), spans, scope_spans, resource_spans.
    for tag in [0x12, 0x4a, 0x12, 0x12, 0x0a] {
        let mut outer = vec![tag];
        crate::traces::wire::push_varint(&mut outer, wire.len() as u64);
        wire.splice(0..0, outer);
    }
    let error = encode_request(&Message::copy_of(&wire)).unwrap_err();
    assert_eq!(error.fault, walk::validate(&wire.into()).err().unwrap().fault);
}

#[test]
fn no_input_grows_the_stack() {
    for open in ["[", "{\"a\":", r#"{"resourceSpans":["#, r#"{"resourceSpans":[{"resource":"#, "[[", "{\"a\":[["] {
        for before in ["", r#"{"a":"#, r#"{"resourceSpans":[{"b":"#] {
            refused(&format!("{before}{}", open.repeat(1 << 16)));
        }
    }
    let values = r#"{"arrayValue":{"values":["#.repeat(1 << 16);
    refused(&format!(r#"{{"resourceSpans":[{{"resource":{{"attributes":[{{"value":{values}"#));
    let deep = format!(r#"{{"later":{}{}}}"#, "[".repeat(257), "]".repeat(257));
    assert_eq!(refused(&deep), "an unknown key holds values nested more than 256 deep (line 1, column 266)");
    wire(&format!(r#"{{"later":{}{}}}"#, "[".repeat(256), "]".repeat(256)));
}

#[test]
fn what_comes_out_is_limited() {
    let json = around(r#""name":"a name of twenty byte""#);
    let whole = decode_request(json.as_bytes(), usize::MAX).unwrap();
    assert_eq!(decode_request(json.as_bytes(), whole.len()).unwrap().bytes(), whole.bytes());
    for limit in 0..whole.len() - 1 {
        let error = decode_request(json.as_bytes(), limit).unwrap_err();
        assert_eq!(error, OtlpJsonError::TooLarge { limit });
    }
    let many = format!(r#"{{"resourceSpans":[{}{{}}]}}"#, "{},".repeat(1000));
    assert_eq!(decode_request(many.as_bytes(), 1000).unwrap_err(), OtlpJsonError::TooLarge { limit: 1000 });
}

#[test]
fn lengths_are_minimal_at_every_depth() {
    for length in [0, 100, 200, 20_000, 2_100_000] {
        // prost reads no deeper than 100 messages.
        for depth in [1, 7, 9, 20, 40] {
            let text = format!(r#"{{"stringValue":"{}"}}"#, "x".repeat(length));
            let json = nested(depth).replace("{}", &text);
            let message = decode_request(json.as_bytes(), usize::MAX).unwrap();
            let decoded = super::decode(&message.bytes());
            assert_eq!(prost::Message::encode_to_vec(&decoded), message.bytes(), "{length} at {depth}");
        }
    }
}

#[test]
fn lengths_of_every_width_come_out_minimal() {
    for length in [1, 2, 100, 127, 128, 200, 16_250, 16_384, 20_000, 2_097_152] {
        for escaped in ["", "\\n"] {
            let json = around(&format!(r#""name":"{escaped}{}""#, "x".repeat(length)));
            let message = decode_request(json.as_bytes(), usize::MAX).unwrap();
            let decoded = super::decode(&message.bytes());
            assert_eq!(prost::Message::encode_to_vec(&decoded), message.bytes(), "{length}");
        }
    }
}
