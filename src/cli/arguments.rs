//! What operators type as arguments of several commands, read where it is typed. Pure.

use std::fmt;
use std::time::Duration;

use crate::config::units;
use crate::protocol::ws::close;

/// A share of the sessions, in percent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Percent(f64);

/// A span of time, as the configuration writes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span(Duration);

/// Reads a [`Percent`].
pub(super) fn percent(text: &str) -> Result<Percent, String> {
    let number = text.parse().ok().filter(|number| (0.0..=100.0).contains(number));
    number.map(Percent).ok_or_else(|| "must be a number from 0 to 100, such as 20".to_owned())
}

/// Reads a [`Span`].
pub(super) fn span(text: &str) -> Result<Span, String> {
    units::duration(text).map(Span).map_err(|error| error.to_string())
}

/// Reads a close code that may be sent (RFC 6455 section 7.4).
pub(super) fn close_code(text: &str) -> Result<u16, String> {
    let code = text.parse().ok().filter(|code| close::is_legal(*code));
    code.ok_or_else(|| {
        "must be a code that may be sent in a Close frame: 1000-1003, 1007-1014 or 3000-4999"
            .to_owned()
    })
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0.as_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_and_written_as_the_api_reads_them() {
        for (text, read) in [("20", Some("20")), ("0.5", Some("0.5")), ("100", Some("100"))] {
            assert_eq!(percent(text).ok().map(|it| it.to_string()).as_deref(), read, "{text}");
        }
        for text in ["", "much", "-1", "100.1", "NaN", "inf", "20%"] {
            assert!(percent(text).unwrap_err().contains("from 0 to 100"), "{text}");
        }
        for (text, read) in [("10m", "600000ms"), ("250ms", "250ms"), ("0", "0ms")] {
            let span = span(text).unwrap().to_string();
            assert_eq!(span, read);
            assert!(units::duration(&span).is_ok());
        }
        for text in ["", "soon", "10", "10 minutes"] {
            assert!(span(text).is_err(), "{text}");
        }
        for (text, read) in [("1000", Some(1000)), ("4999", Some(4999)), ("3000", Some(3000))] {
            assert_eq!(close_code(text).ok(), read);
        }
        for text in ["", "999", "1005", "1006", "1015", "2999", "5000", "70000", "x"] {
            assert!(close_code(text).unwrap_err().contains("3000-4999"), "{text}");
        }
    }
}
