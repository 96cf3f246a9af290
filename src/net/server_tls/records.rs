//! Counts TLS records as they come, and limits those that carry nothing. Pure.
//!
//! A `KeyUpdate` and an empty record cost the gateway a decryption and a pass through its loop, and no
//! limit on messages sees them. An honest client sends next to none.

use std::time::{Duration, Instant};

/// The records of one direction of a connection, counted as they end.
#[derive(Debug, Default)]
pub(super) struct RecordCounter {
    /// Bytes of the current header that have come.
    header: u8,
    /// Payload bytes of the current record that have not come.
    left: u16,
}

impl RecordCounter {
    /// How many records end within `bytes`, which follow those given before (RFC 8446 section 5.1: a
    /// header of five bytes, the last two of them the length).
    pub(super) fn ended_in(&mut self, mut bytes: &[u8]) -> u32 {
        let mut ended = 0;
        loop {
            while self.header < HEADER {
                let Some((byte, rest)) = bytes.split_first() else { return ended };
                if self.header >= HEADER - 2 {
                    self.left = self.left << 8 | u16::from(*byte);
                }
                self.header += 1;
                bytes = rest;
            }
            let taken = bytes.len().min(usize::from(self.left));
            bytes = bytes.get(taken..).unwrap_or_default();
            self.left -= u16::try_from(taken).unwrap_or(self.left);
            if self.left > 0 {
                return ended;
            }
            ended += 1;
            self.header = 0;
        }
    }
}

/// What is left of the records without content that a client may send.
#[derive(Debug, Default)]
pub(super) struct EmptyBudget {
    since: Option<Instant>,
    used: u32,
}

impl EmptyBudget {
    /// Counts `count` more; false: that is more than [`EMPTY_PER_MINUTE`].
    pub(super) fn charge(&mut self, count: u32, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= MINUTE) {
            *self = Self { since: Some(now), used: 0 };
        }
        self.used = self.used.saturating_add(count);
        self.used <= EMPTY_PER_MINUTE
    }
}

/// The client has sent more records without content than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {EMPTY_PER_MINUTE} TLS records without content within a minute")]
pub(crate) struct TooManyEmptyRecords;

/// Records without content that a client may send within a minute, its close_notify included.
pub(super) const EMPTY_PER_MINUTE: u32 = 32;
const MINUTE: Duration = Duration::from_secs(60);
/// Bytes of a record's header.
const HEADER: u8 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn record(len: u16) -> Vec<u8> {
        let [high, low] = len.to_be_bytes();
        let mut record = vec![23, 3, 3, high, low];
        record.resize(5 + usize::from(len), 0xff);
        record
    }

    #[test]
    fn records_are_counted_where_they_end_wherever_they_are_cut() {
        let lens = [17, 0, 300, 1, 16_640, 0];
        let bytes: Vec<u8> = lens.into_iter().flat_map(record).collect();
        assert_eq!(RecordCounter::default().ended_in(&bytes), 6);
        for cut in 0..=bytes.len() {
            let mut counter = RecordCounter::default();
            let (front, rest) = bytes.split_at(cut);
            let mut ends = 0;
            let before = lens.iter().filter(|len| {
                ends += 5 + usize::from(**len);
                ends <= cut
            });
            assert_eq!(counter.ended_in(front) as usize, before.count(), "cut at {cut}");
            let whole = RecordCounter::default().ended_in(front);
            assert_eq!(whole + counter.ended_in(rest), 6, "cut at {cut}");
        }
        let mut counter = RecordCounter::default();
        let one_by_one: u32 = bytes.chunks(1).map(|byte| counter.ended_in(byte)).sum();
        assert_eq!(one_by_one, 6);
    }

    #[test]
    fn the_budget_is_per_minute() {
        let (mut budget, now) = (EmptyBudget::default(), Instant::now());
        assert!(budget.charge(EMPTY_PER_MINUTE, now));
        assert!(!budget.charge(1, now + Duration::from_secs(59)));
        assert!(budget.charge(1, now + Duration::from_secs(60)));
        assert!(!budget.charge(u32::MAX, now + Duration::from_secs(61)));
    }
}
