//! The id of a connection: request id, session id and correlation key of its log line. Pure.

use std::fmt;

/// 64 random bits, written as 16 lower-case hexadecimal digits; sent upstream as X-Request-Id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SessionId(u64);

impl SessionId {
    /// An id from random bits.
    pub(crate) fn new(bits: u64) -> Self {
        Self(bits)
    }

    /// Reads what [`fmt::Display`] writes.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        (text.len() == 16 && !text.starts_with('+'))
            .then(|| u64::from_str_radix(text, 16).ok().map(Self))?
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_what_it_writes() {
        for bits in [0, 1, 0xdead_beef, u64::MAX] {
            assert_eq!(
                SessionId::parse(&SessionId::new(bits).to_string()),
                Some(SessionId::new(bits))
            );
        }
        assert_eq!(SessionId::parse("12"), None);
        assert_eq!(SessionId::parse("+23456789abcdef0"), None);
    }
}
