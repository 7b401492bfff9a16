//! An `AnyValue` as OTLP JSON and back, for the values that have no column:
//! arrays, key-value lists and empty ones.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use thiserror::Error;

use super::walk::VALUE_DEPTH;
use super::wire::{FIXED64, LENGTH, VARINT, fields, push_field, push_varint, varint};

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum JsonError {
    #[error("not JSON: {0}")]
    Syntax(String),
    #[error("not an OTLP value: {0}")]
    Shape(String),
    #[error("values are nested more than {VALUE_DEPTH} deep")]
    Nesting,
}

/// The JSON text of an `AnyValue`'s content, which the walk has validated.
pub(super) fn render(content: &[u8]) -> String {
    to_json(content).to_string()
}

fn to_json(content: &[u8]) -> Value {
    // Protobuf: of several members the last counts, and pieces of one list that
    // follow each other without another member between are one list.
    let mut member = 0;
    let mut pieces: Vec<&[u8]> = vec![];
    let mut value = json!({});
    for field in fields(content, 0, content.len()) {
        let Some(bytes) = content.get(field.value..field.end) else { continue };
        match field.number {
            1 => value = json!({ "stringValue": String::from_utf8_lossy(bytes) }),
            2 => value = json!({ "boolValue": varint(bytes, 0).is_ok_and(|(value, _)| value != 0) }),
            3 => value = json!({ "intValue": varint(bytes, 0).map_or(0, |(value, _)| value as i64).to_string() }),
            4 => value = json!({ "doubleValue": double(bytes) }),
            5 | 6 => {
                if member != field.number {
                    pieces.clear();
                }
                pieces.push(bytes);
                value = if field.number == 5 { array(&pieces) } else { key_values(&pieces) };
            }
            7 => value = json!({ "bytesValue": STANDARD.encode(bytes) }),
            _ => continue,
        }
        member = field.number;
    }
    value
}

fn double(bytes: &[u8]) -> Value {
    match bytes.first_chunk::<8>().map_or(0.0, |bytes| f64::from_le_bytes(*bytes)) {
        value if value.is_nan() => json!("NaN"),
        f64::INFINITY => json!("Infinity"),
        f64::NEG_INFINITY => json!("-Infinity"),
        value => json!(value),
    }
}

fn array(pieces: &[&[u8]]) -> Value {
    let each = |piece: &&[u8]| -> Vec<Value> {
        let values = fields(piece, 0, piece.len()).filter(|field| field.number == 1 && field.kind == LENGTH);
        values.filter_map(|field| piece.get(field.value..field.end)).map(to_json).collect()
    };
    json!({ "arrayValue": { "values": pieces.iter().flat_map(each).collect::<Vec<_>>() } })
}

fn key_values(pieces: &[&[u8]]) -> Value {
    let each = |piece: &&[u8]| -> Vec<Value> {
        let entries = fields(piece, 0, piece.len()).filter(|field| field.number == 1 && field.kind == LENGTH);
        entries.filter_map(|field| piece.get(field.value..field.end)).map(key_value).collect()
    };
    json!({ "kvlistValue": { "values": pieces.iter().flat_map(each).collect::<Vec<_>>() } })
}

fn key_value(entry: &[u8]) -> Value {
    let mut key = "".into();
    // A value in two pieces is the message of both, one behind the other.
    let mut value: Option<Vec<u8>> = None;
    for field in fields(entry, 0, entry.len()).filter(|field| field.kind == LENGTH) {
        let bytes = entry.get(field.value..field.end).unwrap_or_default();
        match field.number {
            1 => key = String::from_utf8_lossy(bytes),
            2 => value.get_or_insert_default().extend_from_slice(bytes),
            _ => {}
        }
    }
    match value {
        Some(value) => json!({ "key": key, "value": to_json(&value) }),
        None => json!({ "key": key }),
    }
}

/// The content of the `AnyValue` that the text describes.
pub fn parse(text: &str) -> Result<Vec<u8>, JsonError> {
    let value: Value = serde_json::from_str(text).map_err(|error| JsonError::Syntax(error.to_string()))?;
    let mut content = vec![];
    push_value(&mut content, &value, VALUE_DEPTH)?;
    Ok(content)
}

fn shape(what: &str, found: &Value) -> JsonError {
    let mut found = found.to_string();
    if found.len() > 64 {
        found = found.chars().take(64).chain(['…']).collect();
    }
    JsonError::Shape(format!("{what}, not `{found}`"))
}

fn push_value(out: &mut Vec<u8>, value: &Value, depth: u32) -> Result<(), JsonError> {
    if depth == 0 {
        return Err(JsonError::Nesting);
    }
    let Value::Object(members) = value else { return Err(shape("a value is an object with one member", value)) };
    if members.len() > 1 {
        return Err(shape("a value has one member", value));
    }
    let Some((name, member)) = members.iter().next() else { return Ok(()) };
    match name.as_str() {
        "stringValue" => push_field(out, 1, text(member)?.as_bytes()),
        "boolValue" => {
            let value = member.as_bool().ok_or_else(|| shape("`boolValue` is true or false", member))?;
            push_varint(out, u64::from(2_u32 << 3 | u32::from(VARINT)));
            push_varint(out, u64::from(value));
        }
        "intValue" => {
            let number = member.as_i64().or_else(|| member.as_str().and_then(|text| text.parse().ok()));
            let number = number.ok_or_else(|| shape("`intValue` is a 64-bit integer, in quotes or bare", member))?;
            push_varint(out, u64::from(3_u32 << 3 | u32::from(VARINT)));
            push_varint(out, number as u64);
        }
        "doubleValue" => {
            let number = match member.as_str() {
                Some("NaN") => Some(f64::NAN),
                Some("Infinity") => Some(f64::INFINITY),
                Some("-Infinity") => Some(f64::NEG_INFINITY),
                Some(text) => text.parse().ok(),
                None => member.as_f64(),
            };
            let number = number.ok_or_else(|| shape("`doubleValue` is a number", member))?;
            push_varint(out, u64::from(4_u32 << 3 | u32::from(FIXED64)));
            out.extend_from_slice(&number.to_le_bytes());
        }
        "bytesValue" => {
            let bytes = STANDARD.decode(text(member)?).map_err(|_| shape("`bytesValue` is base64", member))?;
            push_field(out, 7, &bytes);
        }
        "arrayValue" => {
            let mut list = vec![];
            for value in values(member)? {
                let mut content = vec![];
                push_value(&mut content, value, depth - 1)?;
                push_field(&mut list, 1, &content);
            }
            push_field(out, 5, &list);
        }
        "kvlistValue" => {
            let mut list = vec![];
            for entry in values(member)? {
                push_field(&mut list, 1, &key_value_content(entry, depth - 1)?);
            }
            push_field(out, 6, &list);
        }
        _ => return Err(shape("a value has one of OTLP's seven members", value)),
    }
    Ok(())
}

fn key_value_content(entry: &Value, depth: u32) -> Result<Vec<u8>, JsonError> {
    let Value::Object(entry) = entry else { return Err(shape("an entry has a key and a value", entry)) };
    let mut content = vec![];
    push_field(&mut content, 1, entry.get("key").map_or(Ok(""), text)?.as_bytes());
    if let Some(value) = entry.get("value") {
        let mut inner = vec![];
        push_value(&mut inner, value, depth)?;
        push_field(&mut content, 2, &inner);
    }
    Ok(content)
}

fn text(value: &Value) -> Result<&str, JsonError> {
    value.as_str().ok_or_else(|| shape("a text was expected", value))
}

fn values(list: &Value) -> Result<&[Value], JsonError> {
    let Value::Object(list) = list else { return Err(shape("a list is `{\"values\": [...]}`", list)) };
    match list.get("values") {
        None => Ok(&[]),
        Some(Value::Array(values)) => Ok(values),
        Some(other) => Err(shape("`values` is an array", other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_reads_back() {
        for text in [
            r#"{}"#,
            r#"{"stringValue":"a\"b"}"#,
            r#"{"boolValue":true}"#,
            r#"{"intValue":"-9223372036854775808"}"#,
            r#"{"doubleValue":1.5}"#,
            r#"{"doubleValue":"NaN"}"#,
            r#"{"bytesValue":"AAEC"}"#,
            r#"{"arrayValue":{"values":[{"intValue":"1"},{}]}}"#,
            r#"{"kvlistValue":{"values":[{"key":"a","value":{"arrayValue":{"values":[]}}},{"key":"b"}]}}"#,
        ] {
            assert_eq!(render(&parse(text).unwrap()), text);
        }
    }

    #[test]
    fn what_is_no_value_is_refused_with_what_was_found() {
        let fault = |text: &str| parse(text).unwrap_err().to_string();
        assert!(fault("[1").starts_with("not JSON: "));
        assert_eq!(fault("[1]"), "not an OTLP value: a value is an object with one member, not `[1]`");
        assert!(fault(r#"{"intValue":1.5}"#).contains("64-bit integer"));
        assert!(fault(r#"{"string_value":"x"}"#).contains("seven members"));
        let deep = r#"{"arrayValue":{"values":["#.repeat(80) + "{}" + &"]}}".repeat(80);
        assert!(parse(&deep).is_err());
    }
}
