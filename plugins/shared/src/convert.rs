//! Conversions of a value to another type, and hashes.

use sha2::{Digest as _, Sha256};
use vespid_plugin::Value;

use crate::text;

/// What `converted_type` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Int,
    Double,
    Text,
}

impl Target {
    pub const NAMES: [&str; 3] = ["int", "double", "string"];

    pub fn named(name: &str) -> Option<Self> {
        match name {
            "int" => Some(Self::Int),
            "double" => Some(Self::Double),
            "string" => Some(Self::Text),
            _ => None,
        }
    }
}

/// The value as another type; `None` where it stays as it is.
pub fn to(target: Target, value: &Value) -> Option<Value> {
    match (target, value) {
        (Target::Text, Value::Text(_)) | (Target::Int, Value::Int(_)) | (Target::Double, Value::Double(_)) => None,
        (Target::Text, _) => Some(Value::Text(text::of(value))),
        (Target::Int, Value::Double(number)) => Some(Value::Int(truncated(*number))),
        (Target::Int, Value::Boolean(truth)) => Some(Value::Int((*truth).into())),
        (Target::Int, Value::Text(text)) => text.parse().ok().map(Value::Int),
        (Target::Double, Value::Int(number)) => Some(Value::Double(*number as f64)),
        (Target::Double, Value::Boolean(truth)) => Some(Value::Double((*truth).into())),
        (Target::Double, Value::Text(text)) => parsed(text).map(Value::Double),
        (_, Value::Bytes(_) | Value::Json(_)) => None,
    }
}

/// What an integer has no room for, and what is no number, is the least integer.
fn truncated(number: f64) -> i64 {
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    if (-BEYOND..BEYOND).contains(&number) { number as i64 } else { i64::MIN }
}

/// A number as Go reads one: hexadecimal ones too, and none that is out of range.
fn parsed(text: &str) -> Option<f64> {
    let (negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    let lower = unsigned.to_ascii_lowercase();
    let number = match lower.as_str() {
        "inf" | "infinity" => f64::INFINITY,
        // Not with a sign.
        "nan" => return (unsigned.len() == text.len()).then_some(f64::NAN),
        hex if hex.starts_with("0x") => hexadecimal(hex.get(2..)?)?,
        decimal => {
            // Rust reads a second sign as none, and words beside those above.
            let digits = decimal.bytes().all(|byte| byte.is_ascii_digit() || b".e+-".contains(&byte));
            let starts = decimal.starts_with(|first: char| first.is_ascii_digit() || first == '.');
            decimal.parse().ok().filter(|number: &f64| digits && starts && number.is_finite())?
        }
    };
    Some(if negative { -number } else { number })
}

/// `1.8p3`; an underscore may stand between digits, and behind the prefix.
fn hexadecimal(text: &str) -> Option<f64> {
    let (digits, exponent) = text.split_once('p')?;
    let sound = |digits: &str| !digits.ends_with('_') && !digits.contains("__") && !digits.contains("_.");
    if !sound(digits) || digits.contains("._") {
        return None;
    }
    let digits = digits.replace('_', "");
    let (whole, fraction) = digits.split_once('.').unwrap_or((&digits, ""));
    if whole.is_empty() && fraction.is_empty()
        || !exponent.trim_start_matches(['+', '-']).bytes().all(|it| it.is_ascii_digit())
    {
        return None;
    }
    let mut exponent: i64 = exponent.parse().ok()?;
    let (mut mantissa, mut lost) = (0u64, false);
    for (at, digit) in whole.chars().chain(fraction.chars()).enumerate() {
        let digit = u64::from(digit.to_digit(16)?);
        let behind_point = at >= whole.len();
        if mantissa >> 58 == 0 {
            mantissa = mantissa << 4 | digit;
            exponent -= if behind_point { 4 } else { 0 };
        } else {
            lost |= digit != 0;
            exponent += if behind_point { 0 } else { 4 };
        }
    }
    // What did not fit only matters for rounding: it is a bit below the last one.
    let exact = mantissa | u64::from(lost);
    if exact == 0 {
        return Some(0.0);
    }
    let number = scaled(exact, exponent.clamp(-5000, 5000));
    number.is_finite().then_some(number)
}

/// A mantissa times a power of two, rounded once.
fn scaled(mantissa: u64, exponent: i64) -> f64 {
    // The exponent that the last bit of the result has.
    let top = 63 - i64::from(mantissa.leading_zeros());
    let last = (exponent + top - 52).max(-1074);
    let drop = last - exponent;
    let rounded = match drop {
        ..=0 => mantissa,
        64.. => 0,
        _ => {
            let (kept, half) = (mantissa >> drop, 1u64 << (drop - 1));
            let rest = mantissa & ((half << 1).wrapping_sub(1));
            kept + u64::from(rest > half || (rest == half && kept & 1 == 1))
        }
    };
    let exponent = exponent + drop.max(0);
    // Two steps, since a power of two below the least normal number has no bits to spare.
    let power = |exponent: i64| 2f64.powi(exponent as i32);
    rounded as f64 * power(exponent / 2) * power(exponent - exponent / 2)
}

/// SHA-256 in hexadecimal of a text's bytes, or of the eight or one that a scalar
/// has. The empty text for anything else.
pub fn hash(value: &Value) -> String {
    let hex = |bytes: &[u8]| Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    match value {
        Value::Text(text) => hex(text.as_bytes()),
        Value::Boolean(truth) => hex(&[(*truth).into()]),
        Value::Int(number) => hex(&number.to_le_bytes()),
        Value::Double(number) => hex(&number.to_bits().to_le_bytes()),
        Value::Bytes(_) | Value::Json(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_converted_as_the_collector_does() {
        let text = |text: &str| Value::Text(text.to_owned());
        let table = [
            (Target::Int, text("-12"), Some(Value::Int(-12))),
            (Target::Int, text("+12"), Some(Value::Int(12))),
            (Target::Int, text("12.0"), None),
            (Target::Int, text("1_000"), None),
            (Target::Int, text(""), None),
            (Target::Int, text("9223372036854775808"), None),
            (Target::Int, Value::Double(-1.9), Some(Value::Int(-1))),
            (Target::Int, Value::Double(f64::NAN), Some(Value::Int(i64::MIN))),
            (Target::Int, Value::Double(1e300), Some(Value::Int(i64::MIN))),
            (Target::Int, Value::Boolean(true), Some(Value::Int(1))),
            (Target::Int, Value::Bytes(vec![1]), None),
            (Target::Int, Value::Int(3), None),
            (Target::Double, Value::Int(3), Some(Value::Double(3.0))),
            (Target::Double, Value::Boolean(false), Some(Value::Double(0.0))),
            (Target::Double, text("1e3"), Some(Value::Double(1000.0))),
            (Target::Double, text(".5"), Some(Value::Double(0.5))),
            (Target::Double, text("5."), Some(Value::Double(5.0))),
            (Target::Double, text("-Infinity"), Some(Value::Double(f64::NEG_INFINITY))),
            (Target::Double, text("0x1.8p1"), Some(Value::Double(3.0))),
            (Target::Double, text("0x_1p-2"), Some(Value::Double(0.25))),
            (Target::Double, text("0x1"), None),
            (Target::Double, text("1e400"), None),
            (Target::Double, text("+nan"), None),
            (Target::Double, text("--1"), None),
            (Target::Double, text(" 1"), None),
            (Target::Double, text("1_0"), None),
            (Target::Double, text("."), None),
            (Target::Text, Value::Double(f64::INFINITY), Some(text("Infinity"))),
            (Target::Text, Value::Int(-3), Some(text("-3"))),
            (Target::Text, Value::Boolean(true), Some(text("true"))),
            (Target::Text, Value::Json("{}".into()), Some(text(""))),
            (Target::Text, text("a"), None),
        ];
        for (target, value, expected) in table {
            assert_eq!(to(target, &value), expected, "{value:?} to {target:?}");
        }
    }

    #[test]
    fn hexadecimal_numbers_are_rounded_once() {
        let number = |text: &str| parsed(text);
        assert_eq!(number("0x1.fffffffffffff8p0"), Some(2.0));
        assert_eq!(number("0x1p-1074"), Some(f64::from_bits(1)));
        assert_eq!(number("0x1p-1075"), Some(0.0));
        assert_eq!(number("0x1.8p-1075"), Some(f64::from_bits(1)));
        assert_eq!(number("0x1.fffffffffffffp1023"), Some(f64::MAX));
        assert_eq!(number("0x1p1024"), None);
        assert_eq!(number("0x123456789abcdef01p0"), Some(20988295479420645121.0));
    }

    #[test]
    fn hashes_are_of_the_values_bytes() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(hash(&Value::Text(String::new())), empty);
        let one = "4bf5122f344554c53bde2ebb8cd2b7e3d1600ad631c385a5d7cce23c7785459a";
        assert_eq!(hash(&Value::Boolean(true)), one);
        let int = "7c9fa136d4413fa6173637e883b6998d32e1d675f88cddff9dcbcf331820f4b8";
        assert_eq!(hash(&Value::Int(1)), int);
        assert_eq!(hash(&Value::Bytes(vec![1])), "");
    }
}
