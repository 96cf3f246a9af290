//! Durations (`"30s"`), sizes (`"1MiB"`) and rates (`"20/s"`) as they are typed. Pure.

use std::time::Duration;

/// Why a text is no duration, size or rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnitError {
    /// Not a number and one of the units.
    #[error("must be a whole number and a unit (ms, s, m, h), such as \"30s\"{}", meant(.0))]
    Duration(Option<String>),
    /// Longer than clocks are safe to add.
    #[error("is too long: at most \"8760h\" (a year)")]
    TooLong,
    /// Not a number and one of the units.
    #[error("must be a whole number of bytes or one with a unit (KiB, MiB, GiB), such as \"1MiB\"{}", meant(.0))]
    Size(Option<String>),
    /// More than 2^63 bytes.
    #[error("is too large a size")]
    TooLarge,
    /// Not a number and one of the spans.
    #[error(
        "must be a number per second, minute or hour, such as \"20/s\", \"100/m\" or \"0/s\" (unlimited)"
    )]
    Rate,
    /// More than any machine does.
    #[error("is too fast a rate: at most \"1000000000/s\"")]
    TooFast,
}

/// `"250ms"`, `"10s"`, `"5m"`, `"24h"`; `"0"` without a unit.
pub(crate) fn duration(text: &str) -> Result<Duration, UnitError> {
    let (number, unit) = split(text);
    let wrong = || UnitError::Duration(meant_duration(number, unit));
    let milliseconds_per_unit: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "" if is_zero(number) => 0,
        _ => return Err(wrong()),
    };
    if !is_digits(number) {
        return Err(wrong());
    }
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(milliseconds_per_unit))
        .map(Duration::from_millis)
        .filter(|duration| *duration <= LONGEST)
        .ok_or(UnitError::TooLong)
}

/// `"1MiB"`, `"16KiB"`, `"512"`: bytes.
pub(crate) fn size(text: &str) -> Result<u64, UnitError> {
    let (number, unit) = split(text);
    let bytes_per_unit: u64 = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(UnitError::Size(meant_size(number, unit))),
    };
    if !is_digits(number) {
        return Err(UnitError::Size(None));
    }
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(bytes_per_unit))
        .filter(|size| i64::try_from(*size).is_ok())
        .ok_or(UnitError::TooLarge)
}

/// `"20/s"`, `"100/m"`, `"0.5/s"`: how many a second; zero stands for no limit.
pub(crate) fn rate(text: &str) -> Result<f64, UnitError> {
    let (number, span) = text.split_once('/').ok_or(UnitError::Rate)?;
    let seconds = match span.trim() {
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(UnitError::Rate),
    };
    let number = number.trim();
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if !is_digits(whole) || !is_digits(fraction) {
        return Err(UnitError::Rate);
    }
    let per_second = number.parse::<f64>().map_err(|_| UnitError::Rate)? / seconds;
    if per_second > FASTEST { Err(UnitError::TooFast) } else { Ok(per_second) }
}

/// The number in front, and the rest.
fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let number = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let at = text.len().saturating_sub(number.len());
    let (number, unit) = text.split_at(at);
    (number, unit.trim_start())
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_zero(text: &str) -> bool {
    is_digits(text) && text.bytes().all(|byte| byte == b'0')
}

/// What was probably meant by a number with this unit.
fn meant_duration(number: &str, unit: &str) -> Option<String> {
    if !is_digits(number) {
        return None;
    }
    let unit = match unit.to_lowercase().as_str() {
        "" | "s" | "sec" | "secs" | "second" | "seconds" => "s",
        "ms" | "msec" | "millis" | "milliseconds" => "ms",
        "m" | "min" | "mins" | "minute" | "minutes" => "m",
        "h" | "hr" | "hour" | "hours" => "h",
        "d" | "day" | "days" => {
            let hours = number.parse::<u64>().ok()?.checked_mul(24)?;
            return Some(format!("{hours}h"));
        }
        _ => return None,
    };
    Some(format!("{number}{unit}"))
}

/// What was probably meant by a number with this unit.
fn meant_size(number: &str, unit: &str) -> Option<String> {
    let unit = match unit.to_lowercase().as_str() {
        "k" | "kb" | "kib" => "KiB",
        "m" | "mb" | "mib" => "MiB",
        "g" | "gb" | "gib" => "GiB",
        _ => return None,
    };
    is_digits(number).then(|| format!("{number}{unit}"))
}

fn meant(suggestion: &Option<String>) -> String {
    super::suggest::did_you_mean(suggestion.as_ref())
}

/// Far below what overflows when added to a clock.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// Keeps the arithmetic of token buckets exact.
const FASTEST: f64 = 1e9;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_need_a_unit_unless_they_are_zero() {
        let ms = Duration::from_millis;
        for (text, expected) in [
            ("250ms", ms(250)),
            ("10s", ms(10_000)),
            ("5m", ms(300_000)),
            ("24h", ms(86_400_000)),
            ("0", ms(0)),
            ("0s", ms(0)),
            (" 10 s", ms(10_000)),
            ("8760h", LONGEST),
        ] {
            assert_eq!(duration(text), Ok(expected), "{text}");
        }
        for (text, suggestion) in [
            ("10", Some("10s")),
            ("10S", Some("10s")),
            ("10sec", Some("10s")),
            ("2d", Some("48h")),
            ("5 minutes", Some("5m")),
            ("1.5s", None),
            ("1m30s", None),
            ("-1s", None),
            ("", None),
            ("s", None),
            ("١s", None),
        ] {
            assert_eq!(
                duration(text),
                Err(UnitError::Duration(suggestion.map(str::to_owned))),
                "{text}"
            );
        }
        for text in ["8761h", "99999999999999999999999s", "18446744073709551615h"] {
            assert_eq!(duration(text), Err(UnitError::TooLong), "{text}");
        }
    }

    #[test]
    fn sizes_are_binary() {
        for (text, expected) in [
            ("512", 512),
            ("512B", 512),
            ("16KiB", 16 * 1024),
            ("1MiB", 1024 * 1024),
            ("2 GiB", 2 * 1024 * 1024 * 1024),
            ("0", 0),
        ] {
            assert_eq!(size(text), Ok(expected), "{text}");
        }
        for (text, suggestion) in [
            ("1MB", Some("1MiB")),
            ("16k", Some("16KiB")),
            ("1mib", Some("1MiB")),
            ("1.5MiB", None),
            ("1TiB", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(size(text), Err(UnitError::Size(suggestion.map(str::to_owned))), "{text}");
        }
        for text in ["9223372036854775808", "99999999999GiB", "99999999999999999999"] {
            assert_eq!(size(text), Err(UnitError::TooLarge), "{text}");
        }
    }

    #[test]
    fn rates_are_per_second_minute_or_hour() {
        for (text, expected) in [
            ("20/s", 20.0),
            ("120/m", 2.0),
            ("3600/h", 1.0),
            ("0.5/s", 0.5),
            ("0/s", 0.0),
            ("5 / s", 5.0),
        ] {
            assert_eq!(rate(text), Ok(expected), "{text}");
        }
        for text in [
            "20", "20/", "/s", "20/d", "-1/s", "1e3/s", "inf/s", "nan/s", "1./s", ".5/s",
            "1.2.3/s", "",
        ] {
            assert_eq!(rate(text), Err(UnitError::Rate), "{text}");
        }
        assert_eq!(rate("1000000001/s"), Err(UnitError::TooFast));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,40}") {
            let _ = (duration(&text), size(&text), rate(&text));
        }

        #[test]
        fn numbers_with_units_are_read_exactly(number in 1_u64..8760) {
            prop_assert_eq!(duration(&format!("{number}h")), Ok(Duration::from_secs(number * 3600)));
            prop_assert_eq!(size(&format!("{number}KiB")), Ok(number * 1024));
            prop_assert_eq!(rate(&format!("{number}/s")), Ok(number as f64));
        }

        #[test]
        fn numbers_of_any_length_never_overflow(
            number in "[0-9]{1,40}", unit in prop::sample::select(vec!["", "ms", "s", "m", "h", "KiB", "GiB", "/s", "/h"]),
        ) {
            let text = format!("{number}{unit}");
            prop_assert!(!duration(&text).is_ok_and(|read| read > LONGEST));
            let _ = (size(&text), rate(&text));
        }
    }
}
