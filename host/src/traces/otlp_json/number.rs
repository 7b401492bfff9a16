//! Numbers as JSON and protobuf's JSON write them.

/// Whether the text is a number in JSON's grammar.
pub(super) fn is_number(text: &[u8]) -> bool {
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let (whole, rest) = digits(text);
    if whole.is_empty() || (whole.len() > 1 && whole.starts_with(b"0")) {
        return false;
    }
    let rest = match rest.split_first() {
        Some((b'.', rest)) => match digits(rest) {
            ([], _) => return false,
            (_, rest) => rest,
        },
        _ => rest,
    };
    match rest.split_first() {
        Some((b'e' | b'E', rest)) => {
            let rest = rest.strip_prefix(b"-").or_else(|| rest.strip_prefix(b"+")).unwrap_or(rest);
            matches!(digits(rest), ([_, ..], []))
        }
        Some(_) => false,
        None => true,
    }
}

fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

/// The whole number that the text is, also where it is written like `1.5e3`.
pub(super) fn whole(text: &[u8]) -> Option<i128> {
    let (negative, unsigned) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        _ => (false, text),
    };
    // So many digits cannot overflow.
    let value = if (1..=19).contains(&unsigned.len()) && unsigned.iter().all(u8::is_ascii_digit) {
        i128::from(unsigned.iter().fold(0_u64, |value, digit| value.wrapping_mul(10) + u64::from(digit - b'0')))
    } else {
        scaled(unsigned)?
    };
    Some(if negative { -value } else { value })
}

/// As `whole`, for any digits, fraction and exponent.
fn scaled(text: &[u8]) -> Option<i128> {
    let (whole, rest) = digits(text);
    let (fraction, rest) = match rest.split_first() {
        Some((b'.', rest)) => match digits(rest) {
            ([], _) => return None,
            found => found,
        },
        _ => (&[][..], rest),
    };
    let exponent = match rest.split_first() {
        Some((b'e' | b'E', rest)) => {
            let text = std::str::from_utf8(rest).ok().filter(|text| !text.contains(['_', ' ']))?;
            // Beyond these no 64-bit number is left, whatever the digits are.
            text.parse::<i64>().ok()?.clamp(-1 << 40, 1 << 40)
        }
        Some(_) => return None,
        None => 0,
    };
    if whole.is_empty() {
        return None;
    }
    let (mut value, mut zeros) = (0_i128, 0_u32);
    for digit in whole.iter().chain(fraction) {
        if *digit == b'0' {
            zeros += u32::from(value > 0);
            continue;
        }
        value = value.checked_mul(10_i128.checked_pow(zeros + 1)?)?.checked_add(i128::from(digit - b'0'))?;
        zeros = 0;
    }
    if value == 0 {
        return Some(0);
    }
    let scale = exponent + i64::from(zeros) - fraction.len() as i64;
    value.checked_mul(10_i128.checked_pow(u32::try_from(scale).ok()?)?)
}

/// The finite number that the text is.
pub(super) fn double(text: &[u8]) -> Option<f64> {
    if !is_number(text) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok().filter(|value: &f64| value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_read_however_they_are_written() {
        for (text, value) in [
            ("0", 0),
            ("-0", 0),
            ("0.000", 0),
            ("0e99999999999", 0),
            ("007", 7),
            ("5.0", 5),
            ("1.0e3", 1000),
            ("12.50E+1", 125),
            ("1200e-2", 12),
            ("100.00e-2", 1),
            ("18446744073709551615", u64::MAX.into()),
            ("-9223372036854775808", i64::MIN.into()),
            ("1.8446744073709551615e19", u64::MAX.into()),
            ("00000000000000000000000000000001", 1),
        ] {
            assert_eq!(whole(text.as_bytes()), Some(value), "{text}");
        }
        for text in
            ["", "-", "1.5", "1e-1", "1.", ".5", "e5", "1e", "1e999", "1e_1", "0x1", "1 ", "+1", "--1", "1e5e5", "12a"]
        {
            assert_eq!(whole(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn numbers_follow_the_grammar_of_json() {
        for text in ["0", "-0", "10", "1.5", "1e5", "1E+5", "-1.25e-10"] {
            assert!(is_number(text.as_bytes()), "{text}");
        }
        for text in ["", "-", "01", "1.", ".5", "1e", "1e+", "+1", "NaN", "1f", "1.5.5", "--1", "1-"] {
            assert!(!is_number(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn doubles_are_exact_and_finite() {
        assert_eq!(double(b"0.1"), Some(0.1));
        assert_eq!(double(b"5e-324"), Some(5e-324));
        assert!(double(b"-0").is_some_and(|value| value.is_sign_negative()));
        assert_eq!((double(b"1e999"), double(b"inf"), double(b"0x10")), (None, None, None));
    }
}
