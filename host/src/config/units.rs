//! Durations and sizes as people write them in configs.

use std::time::Duration;

/// Why a text is no duration or no size. The words fit behind "`50` ".
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unfit {
    pub message: &'static str,
    pub hint: String,
}

impl Unfit {
    fn new(message: &'static str, hint: impl Into<String>) -> Self {
        Unfit { message, hint: hint.into() }
    }
}

const NOT_A_DURATION: &str = "is not a duration";
const NOT_A_SIZE: &str = "is not a size";

/// A duration in Go's notation, which is the Collector's: `1m30s`, `200ms`, `1.5h`, `0`.
pub(super) fn duration(text: &str) -> Result<Duration, Unfit> {
    if text == "0" || text == "+0" {
        return Ok(Duration::ZERO);
    }
    if text.starts_with('-') {
        return Err(Unfit::new("is a negative duration", "write `0s` or more, such as `5s`"));
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let malformed = || Unfit::new(NOT_A_DURATION, "write it as `200ms`, `5s` or `1m30s`");
    if rest.is_empty() {
        return Err(malformed());
    }
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let (number, after) = split(rest, |c| c.is_ascii_digit() || c == '.');
        let (unit, after) = split(after, |c| !c.is_ascii_digit() && c != '.');
        let scale = match unit {
            "ns" => 1,
            // Both code points for micro, as in Go.
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "" if !number.is_empty() => return Err(unitless(text)),
            "d" => {
                return Err(Unfit::new(NOT_A_DURATION, "the largest unit is the hour: write `24h` for a day"));
            }
            _ => return Err(malformed()),
        };
        nanos = scaled(number, scale).and_then(|part| nanos.checked_add(part)).ok_or_else(malformed)?;
        rest = after;
    }
    // Go's durations end at 2^63 nanoseconds, about 292 years.
    match i64::try_from(nanos) {
        Ok(nanos) => Ok(Duration::from_nanos(nanos.unsigned_abs())),
        Err(_) => Err(Unfit::new("is longer than 292 years", "write a shorter duration")),
    }
}

fn unitless(text: &str) -> Unfit {
    // Small numbers are more often meant as seconds.
    let unit = match text.parse::<f64>() {
        Ok(number) if number < 20.0 => "s",
        _ => "ms",
    };
    Unfit::new(NOT_A_DURATION, format!("write a unit, such as `{text}{unit}`"))
}

/// A size in bytes: `64MiB`, `1GB`, `1.5 GiB`, `4096`; `64Mi` and `64M` as Kubernetes
/// writes them.
pub(super) fn size(text: &str) -> Result<u64, Unfit> {
    let malformed = || Unfit::new(NOT_A_SIZE, "write it as `64MiB`, `1GB` or a number of bytes");
    let (number, unit) = split(text, |c| c.is_ascii_digit() || c == '.');
    let unit = unit.trim_start().to_ascii_lowercase();
    let scale: u64 = match unit.as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1_000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "t" | "tb" => 1_000_000_000_000,
        "ki" | "kib" => 1 << 10,
        "mi" | "mib" => 1 << 20,
        "gi" | "gib" => 1 << 30,
        "ti" | "tib" => 1 << 40,
        _ => return Err(malformed()),
    };
    let bytes = scaled(number, scale.into()).ok_or_else(malformed)?;
    u64::try_from(bytes).map_err(|_| Unfit::new("is too large a size", "write a smaller size"))
}

/// `number` times `scale`, what is smaller than 1 cut off; `None` if it is no number.
fn scaled(number: &str, scale: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let mut total = match whole {
        "" => 0,
        _ => whole.parse::<u128>().ok()?.checked_mul(scale)?,
    };
    // Digits beyond these amount to less than a nanosecond of an hour or a byte of a TiB.
    let digits = fraction.get(..fraction.len().min(18))?;
    if !digits.is_empty() {
        let tens = 10_u128.checked_pow(u32::try_from(digits.len()).ok()?)?;
        total = total.checked_add(digits.parse::<u128>().ok()?.checked_mul(scale)? / tens)?;
    }
    Some(total)
}

fn split(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|c: char| !belongs(c)).unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_go_s() {
        let cases = [
            ("0", Duration::ZERO),
            ("0s", Duration::ZERO),
            ("200ms", Duration::from_millis(200)),
            ("1m30s", Duration::from_secs(90)),
            ("1.5h", Duration::from_secs(5400)),
            (".5s", Duration::from_millis(500)),
            ("1.s", Duration::from_secs(1)),
            ("+5s", Duration::from_secs(5)),
            ("1h0m0.25s", Duration::from_millis(3_600_250)),
            ("100us", Duration::from_micros(100)),
            ("100µs", Duration::from_micros(100)),
            ("7ns", Duration::from_nanos(7)),
        ];
        for (text, expected) in cases {
            assert_eq!(duration(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_gets_a_fitting_hint() {
        let cases = [
            ("50", "is not a duration", "write a unit, such as `50ms`"),
            ("5", "is not a duration", "write a unit, such as `5s`"),
            ("1.5", "is not a duration", "write a unit, such as `1.5s`"),
            ("-5s", "is a negative duration", "write `0s` or more, such as `5s`"),
            ("1d", "is not a duration", "the largest unit is the hour: write `24h` for a day"),
            ("999999999h", "is longer than 292 years", "write a shorter duration"),
        ];
        for (text, message, hint) in cases {
            assert_eq!(duration(text), Err(Unfit::new(message, hint)), "{text}");
        }
        for text in ["", "s", "soon", "1m30", "1..5s", ".s", "5 s", "5S", "1e3s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_decimal_or_binary() {
        let cases = [
            ("4096", 4096),
            ("0", 0),
            ("64MiB", 64 << 20),
            ("64Mi", 64 << 20),
            ("1GB", 1_000_000_000),
            ("1.5 GiB", 3 << 29),
            ("10kb", 10_000),
            ("7B", 7),
        ];
        for (text, expected) in cases {
            assert_eq!(size(text), Ok(expected), "{text}");
        }
        for text in ["", "MiB", "-1MiB", "64 MiBs", "1.2.3GB", "many", "99999999TiB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
