//! Values as the Collector writes them as text.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value as Json;
use vespid_plugin::Value;

/// The whole value as text: scalars plainly, bytes in Base64, arrays and maps as
/// compact JSON, nothing as the empty text.
pub fn of(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        Value::Boolean(truth) => truth.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Double(number) => double(*number),
        Value::Bytes(bytes) => STANDARD.encode(bytes),
        Value::Json(otlp) => match serde_json::from_str(otlp) {
            Ok(Json::Object(value)) if value.contains_key("arrayValue") || value.contains_key("kvlistValue") => {
                let mut out = String::new();
                // What JSON cannot say leaves nothing of it.
                if json(&Json::Object(value), &mut out).is_some() { out } else { String::new() }
            }
            _ => String::new(),
        },
    }
}

/// A scalar as patterns see it where spans are chosen; `None` for what is not matched at all.
pub fn plain(value: &Value) -> Option<String> {
    match value {
        Value::Double(number) if number.is_infinite() => Some(if *number > 0.0 { "+Inf" } else { "-Inf" }.to_owned()),
        // Never with an exponent.
        Value::Double(number) => Some(number.to_string()),
        Value::Text(_) | Value::Boolean(_) | Value::Int(_) => Some(of(value)),
        Value::Bytes(_) | Value::Json(_) => None,
    }
}

/// A number as JavaScript writes it, but with a sign in front of a positive exponent.
pub fn double(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let size = number.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{number:e}");
        return match text.split_once('e') {
            Some((digits, exponent)) if !exponent.starts_with('-') => format!("{digits}e+{exponent}"),
            _ => text,
        };
    }
    number.to_string()
}

/// An OTLP `AnyValue` in JSON as plain JSON; `None` where it holds a number that JSON has not.
fn json(value: &Json, out: &mut String) -> Option<()> {
    let member = |name: &str| value.get(name).filter(|member| !member.is_null());
    if let Some(text) = member("stringValue").and_then(Json::as_str) {
        quoted(text, out);
    } else if let Some(truth) = member("boolValue").and_then(Json::as_bool) {
        let _ = write!(out, "{truth}");
    } else if let Some(number) = member("intValue") {
        out.push_str(&number.as_str().map_or_else(|| number.to_string(), str::to_owned));
    } else if let Some(number) = member("doubleValue") {
        let number = number.as_f64().filter(|number| number.is_finite())?;
        out.push_str(&double(number));
    } else if let Some(bytes) = member("bytesValue").and_then(Json::as_str).filter(|bytes| !bytes.is_empty()) {
        // No bytes are no value to the Collector.
        quoted(bytes, out);
    } else if let Some(array) = member("arrayValue") {
        let values = array.get("values").and_then(Json::as_array);
        out.push('[');
        for (at, value) in values.into_iter().flatten().enumerate() {
            if at > 0 {
                out.push(',');
            }
            json(value, out)?;
        }
        out.push(']');
    } else if let Some(list) = member("kvlistValue") {
        let pairs = list.get("values").and_then(Json::as_array);
        let mut sorted = BTreeMap::new();
        for pair in pairs.into_iter().flatten() {
            let key = pair.get("key").and_then(Json::as_str).unwrap_or_default();
            // Of a key that comes twice the last counts.
            sorted.insert(key, pair.get("value").unwrap_or(&Json::Null));
        }
        out.push('{');
        for (at, (key, value)) in sorted.into_iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            quoted(key, out);
            out.push(':');
            json(value, out)?;
        }
        out.push('}');
    } else {
        out.push_str("null");
    }
    Some(())
}

/// A text of JSON. Line separators of JavaScript are escaped, `<`, `>` and `&` are not.
fn quoted(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => drop(write!(out, "\\u{:04x}", character as u32)),
            _ => out.push(character),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_an_exponent_only_where_they_are_very_large_or_small() {
        let table = [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (1.5, "1.5"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1.25e300, "1.25e+300"),
            (1e-6, "0.000001"),
            (1e-7, "1e-7"),
            (-2.5e-10, "-2.5e-10"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, "-Infinity"),
        ];
        for (number, text) in table {
            assert_eq!(double(number), text);
        }
        assert_eq!(plain(&Value::Double(1e21)).unwrap(), "1000000000000000000000");
        assert_eq!(plain(&Value::Double(f64::INFINITY)).unwrap(), "+Inf");
        assert_eq!(plain(&Value::Bytes(vec![1])), None);
    }

    #[test]
    fn nested_values_are_compact_json_with_sorted_keys() {
        let text = |otlp: &str| of(&Value::Json(otlp.into()));
        let map = r#"{"kvlistValue":{"values":[{"key":"b","value":{"intValue":"1"}},{"key":"a","value":
            {"arrayValue":{"values":[{"stringValue":"<é\u2028\u0001>"},{"doubleValue":1.0},{"boolValue":true},{}]}}},
            {"key":"b","value":{"bytesValue":"AP8="}}]}}"#;
        assert_eq!(text(map), r#"{"a":["<é\u2028\u0001>",1,true,null],"b":"AP8="}"#);
        assert_eq!(text(r#"{"arrayValue":{}}"#), "[]");
        assert_eq!(text(r#"{"arrayValue":{"values":[{"doubleValue":"NaN"}]}}"#), "");
        assert_eq!(text("{}"), "");
        assert_eq!(of(&Value::Bytes(vec![0, 255])), "AP8=");
    }
}
