//! Values by themselves, as plugins hand them over.

use crate::traces::decode_value;
use crate::traces::otlp_json::encode_value;

#[test]
fn every_member_reads_back() {
    for text in [
        r#"{}"#,
        r#"{"stringValue":"a\"b\\\n\u0001 é"}"#,
        r#"{"boolValue":true}"#,
        r#"{"boolValue":false}"#,
        r#"{"intValue":"-9223372036854775808"}"#,
        r#"{"doubleValue":1.5}"#,
        r#"{"doubleValue":"NaN"}"#,
        r#"{"doubleValue":"-Infinity"}"#,
        r#"{"bytesValue":"AAEC"}"#,
        r#"{"arrayValue":{"values":[{"intValue":"1"},{}]}}"#,
        r#"{"kvlistValue":{"values":[{"key":"a","value":{"arrayValue":{"values":[]}}},{"key":"b"}]}}"#,
    ] {
        assert_eq!(encode_value(&decode_value(text).unwrap()).unwrap(), text);
    }
}

#[test]
fn what_is_no_value_is_refused_with_what_was_found() {
    let fault = |text: &str| decode_value(text).unwrap_err().to_string();
    assert_eq!(fault("[1]"), "an object was expected, not `[` (line 1, column 1)");
    let whole = "intValue: a whole number of 64 bits was expected, not `1.5` (line 1, column 13)";
    assert_eq!(fault(r#"{"intValue":1.5}"#), whole);
    assert!(fault(r#"{"text":"x"}"#).contains("`bytesValue` was expected, not `\"text\"`"));
    assert!(fault(r#"{"stringValue":"x","intValue":"1"}"#).starts_with("a value has one member"));
    let deep = r#"{"arrayValue":{"values":["#.repeat(80) + "{}" + &"]}}".repeat(80);
    assert!(fault(&deep).contains("nested more than 64 deep"));
}
