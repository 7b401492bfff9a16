//! The text form of values that are no texts, for `redact_all_types`.

use std::collections::BTreeMap;
use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value as Json;
use vespid_plugin::Value;

pub fn text_of(value: Value) -> String {
    match value {
        Value::Text(text) => text,
        Value::Boolean(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Double(value) => match value {
            _ if value.is_nan() => "NaN".to_owned(),
            f64::INFINITY => "Infinity".to_owned(),
            f64::NEG_INFINITY => "-Infinity".to_owned(),
            _ => double(value),
        },
        Value::Bytes(bytes) => STANDARD.encode(bytes),
        Value::Json(json) => nested(&json).unwrap_or_default(),
    }
}

/// Shortest digits, with an exponent only from 1e21 on and below 1e-6.
fn double(value: f64) -> String {
    if value == 0.0 || (1e-6..1e21).contains(&value.abs()) {
        return value.to_string();
    }
    let text = format!("{value:e}");
    match text.split_once('e') {
        Some((digits, exponent)) if !exponent.starts_with('-') => format!("{digits}e+{exponent}"),
        _ => text,
    }
}

/// An OTLP value as plain JSON. `None`, and so an empty text, where it holds a
/// number that JSON does not have, or nothing at all.
fn nested(otlp: &str) -> Option<String> {
    let value: Json = serde_json::from_str(otlp).ok()?;
    if value.as_object().is_some_and(|members| members.is_empty()) {
        return None;
    }
    let mut out = String::with_capacity(otlp.len());
    write(&mut out, &value)?;
    Some(out)
}

fn write(out: &mut String, value: &Json) -> Option<()> {
    let Some((kind, value)) = value.as_object().and_then(|members| members.iter().next()) else {
        out.push_str("null");
        return Some(());
    };
    match (kind.as_str(), value) {
        ("stringValue", Json::String(text)) => string(out, text),
        ("intValue", Json::String(number)) => out.push_str(number),
        ("intValue", Json::Number(number)) => write!(out, "{number}").ok()?,
        ("doubleValue", value) => out.push_str(&double(value.as_f64()?)),
        ("boolValue", value) => write!(out, "{value}").ok()?,
        ("bytesValue", Json::String(base64)) => string(out, base64),
        ("arrayValue", value) => array(out, value)?,
        ("kvlistValue", value) => map(out, value)?,
        _ => return None,
    }
    Some(())
}

fn elements(value: &Json) -> impl Iterator<Item = &Json> {
    value.get("values").and_then(Json::as_array).into_iter().flatten()
}

fn array(out: &mut String, value: &Json) -> Option<()> {
    out.push('[');
    for (at, element) in elements(value).enumerate() {
        if at > 0 {
            out.push(',');
        }
        write(out, element)?;
    }
    out.push(']');
    Some(())
}

/// Keys ascend; of equal ones the last counts.
fn map(out: &mut String, value: &Json) -> Option<()> {
    let empty = Json::Null;
    let entries: BTreeMap<&str, &Json> = elements(value)
        .map(|entry| {
            let key = entry.get("key").and_then(Json::as_str).unwrap_or_default();
            (key, entry.get("value").unwrap_or(&empty))
        })
        .collect();
    out.push('{');
    for (at, (key, value)) in entries.into_iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        string(out, key);
        out.push(':');
        write(out, value)?;
    }
    out.push('}');
    Some(())
}

fn string(out: &mut String, text: &str) {
    let quoted = Json::from(text).to_string();
    // Line separators are not for JavaScript's eyes; Go escapes them always.
    match quoted.contains(['\u{2028}', '\u{2029}']) {
        true => out.push_str(&quoted.replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")),
        false => out.push_str(&quoted),
    }
}
