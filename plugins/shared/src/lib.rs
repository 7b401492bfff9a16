//! What the Collector's processors have in common: actions on attributes, the
//! properties that choose spans, and how it writes and reads values. Facts are
//! those of the Collector 0.161; where its documentation and its behaviour differ,
//! a comment says so.

pub mod actions;
pub mod convert;
mod list;
pub mod matching;
pub mod text;

pub use list::TextList;

use serde_json::Value as Json;
use vespid_plugin::Value;

/// A value as a config writes it, of the type that YAML reads it as.
pub fn configured(json: &Json) -> Value {
    match json {
        Json::String(text) => Value::Text(text.clone()),
        Json::Bool(truth) => Value::Boolean(*truth),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::Int(number),
            // Wraps as a conversion in Go does.
            (None, Some(number)) => Value::Int(number as i64),
            (None, None) => Value::Double(number.as_f64().unwrap_or_default()),
        },
        Json::Null | Json::Array(_) | Json::Object(_) => Value::Json(otlp(json).to_string()),
    }
}

/// The same as an OTLP `AnyValue` in JSON.
fn otlp(json: &Json) -> Json {
    match json {
        Json::Null => serde_json::json!({}),
        Json::Array(items) => {
            serde_json::json!({"arrayValue": {"values": items.iter().map(otlp).collect::<Vec<_>>()}})
        }
        Json::Object(pairs) => {
            let pairs = pairs.iter().map(|(key, value)| serde_json::json!({"key": key, "value": otlp(value)}));
            serde_json::json!({"kvlistValue": {"values": pairs.collect::<Vec<_>>()}})
        }
        scalar => match configured(scalar) {
            Value::Text(text) => serde_json::json!({"stringValue": text}),
            Value::Boolean(truth) => serde_json::json!({"boolValue": truth}),
            Value::Int(number) => serde_json::json!({"intValue": number.to_string()}),
            Value::Double(number) => serde_json::json!({"doubleValue": number}),
            Value::Bytes(_) | Value::Json(_) => serde_json::json!({}),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_a_config_keeps_its_type() {
        let value = |text: &str| configured(&serde_json::from_str(text).unwrap());
        assert_eq!(value("\"1\""), Value::Text("1".into()));
        assert_eq!(value("1"), Value::Int(1));
        assert_eq!(value("1.0"), Value::Double(1.0));
        assert_eq!(value("true"), Value::Boolean(true));
        let list = r#"{"arrayValue":{"values":[{"intValue":"1"},{"stringValue":"a"},{}]}}"#;
        assert_eq!(value(r#"[1, "a", null]"#), Value::Json(list.into()));
        let map = r#"{"kvlistValue":{"values":[{"key":"a","value":{"doubleValue":0.5}}]}}"#;
        assert_eq!(value(r#"{"a": 0.5}"#), Value::Json(map.into()));
    }
}
