//! Close codes: which may be on the wire, and what a Close frame's payload says. Pure.
//!
//! RFC 6455 section 7.4 and the IANA registry. tungstenite's table does not know 1014.

use super::violation::Violation;

/// What was said by Close on one side of the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CloseStatus {
    /// No Close frame.
    #[default]
    None,
    /// A Close frame without code (what APIs call 1005).
    Empty,
    /// A Close frame with this code.
    Code(u16),
}

impl std::fmt::Display for CloseStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Empty => f.write_str("empty"),
            Self::Code(code) => code.fmt(f),
        }
    }
}

/// Longest reason: a control frame's 125 bytes less the code (RFC 6455 section 5.5).
pub(crate) const MAX_REASON: usize = 123;

/// Whether `code` may stand in a Close frame.
pub(crate) const fn is_legal(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Reads the unmasked payload of a Close frame (RFC 6455 section 5.5.1).
pub(crate) fn parse(payload: &[u8]) -> Result<CloseStatus, Violation> {
    match payload {
        [] => Ok(CloseStatus::Empty),
        // "If there is a body, the first two bytes of the body MUST be a 2-byte unsigned integer".
        [_] => Err(Violation::Control),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !is_legal(code) {
                return Err(Violation::CloseCode(code));
            }
            // "/reason/ is UTF-8 encoded".
            std::str::from_utf8(reason).map_err(|_| Violation::Utf8)?;
            Ok(CloseStatus::Code(code))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_that_are_never_on_the_wire() {
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
            assert!(!is_legal(code), "{code}");
        }
        for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014] {
            assert!(is_legal(code), "{code}");
        }
        for code in [3000, 3999, 4000, 4401, 4999] {
            assert!(is_legal(code), "{code}");
        }
    }

    #[test]
    fn payloads() {
        let rows: [(&[u8], Result<CloseStatus, Violation>); 7] = [
            (b"", Ok(CloseStatus::Empty)),
            (b"\x03", Err(Violation::Control)),
            (b"\x03\xe8", Ok(CloseStatus::Code(1000))),
            (b"\x03\xe8bye", Ok(CloseStatus::Code(1000))),
            (b"\x03\xed", Err(Violation::CloseCode(1005))),
            (b"\x03\xe8\xff", Err(Violation::Utf8)),
            (b"\x11\x31\xc3\xa9", Ok(CloseStatus::Code(4401))),
        ];
        for (payload, expected) in rows {
            assert_eq!(parse(payload), expected, "{payload:?}");
        }
    }
}
