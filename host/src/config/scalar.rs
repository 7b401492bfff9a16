//! What a plain (unquoted) scalar means.
//!
//! The rules are those of the YAML library that the OpenTelemetry Collector reads
//! its configs with (Go's yaml.v3): the YAML 1.2 core schema, and beyond it octal
//! with a leading `0`, `0b…`, and `_` between digits. `yes` and `on` are text.

use super::node::Value;

/// The value of a plain scalar. What is no null, boolean or number is text.
pub(super) fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        ".nan" | ".NaN" | ".NAN" => Value::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Value::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Value::Float(f64::NEG_INFINITY),
        _ => number(text).unwrap_or_else(|| Value::Text(text.to_owned())),
    }
}

fn number(text: &str) -> Option<Value> {
    if !text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first)) {
        return None;
    }
    let digits = text.replace('_', "");
    integer(&digits).map(Value::Integer).or_else(|| float(&digits).map(Value::Float))
}

/// A whole number of 64 bits, signed or not.
fn integer(text: &str) -> Option<i128> {
    let (negative, body) = match text.strip_prefix('-') {
        Some(body) => (true, body),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (radix, digits) = match body.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, body.get(2..)?),
        [b'0', b'o' | b'O', ..] => (8, body.get(2..)?),
        [b'0', b'b' | b'B', ..] => (2, body.get(2..)?),
        [b'0', _, ..] => (8, body.get(1..)?),
        _ => (10, body),
    };
    // `from_str_radix` would take a second sign.
    if !digits.chars().all(|digit| digit.is_digit(radix)) {
        return None;
    }
    let size = i128::from_str_radix(digits, radix).ok()?;
    let value = if negative { -size } else { size };
    (value >= i128::from(i64::MIN) && value <= i128::from(u64::MAX)).then_some(value)
}

/// A decimal number; one that is too large for a float stays text.
fn float(text: &str) -> Option<f64> {
    let shaped =
        text.chars().all(|c| c.is_ascii_digit() || "+-.eE".contains(c)) && text.contains(|c: char| c.is_ascii_digit());
    if !shaped {
        return None;
    }
    text.parse::<f64>().ok().filter(|value| value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_mean_what_they_mean_to_the_collector() {
        let text = |text: &str| Value::Text(text.to_owned());
        let cases = [
            ("", Value::Null),
            ("~", Value::Null),
            ("null", Value::Null),
            ("nULL", text("nULL")),
            ("true", Value::Bool(true)),
            ("FALSE", Value::Bool(false)),
            ("yes", text("yes")),
            ("on", text("on")),
            ("8080", Value::Integer(8080)),
            ("-3", Value::Integer(-3)),
            ("+3", Value::Integer(3)),
            ("0", Value::Integer(0)),
            ("0123", Value::Integer(83)),
            ("0o17", Value::Integer(15)),
            ("0x1F", Value::Integer(31)),
            ("0b101", Value::Integer(5)),
            ("1_000", Value::Integer(1000)),
            ("18446744073709551615", Value::Integer(u64::MAX.into())),
            ("18446744073709551616", Value::Float(18446744073709551616.0)),
            ("08", Value::Float(8.0)),
            ("1.5", Value::Float(1.5)),
            (".5", Value::Float(0.5)),
            ("1e3", Value::Float(1000.0)),
            (".inf", Value::Float(f64::INFINITY)),
            ("1e999", text("1e999")),
            ("inf", text("inf")),
            ("nan", text("nan")),
            ("0x", text("0x")),
            ("--5", text("--5")),
            ("0x-5", text("0x-5")),
            ("-", text("-")),
            (".", text(".")),
            ("1.2.3", text("1.2.3")),
            ("127.0.0.1:80", text("127.0.0.1:80")),
            ("5s", text("5s")),
            ("2001-01-01", text("2001-01-01")),
            ("_1", text("_1")),
        ];
        for (written, meant) in cases {
            assert_eq!(resolve(written), meant, "{written}");
        }
        assert!(matches!(resolve(".NaN"), Value::Float(value) if value.is_nan()));
    }
}
