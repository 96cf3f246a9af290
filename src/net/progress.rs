//! Whether a peer takes what was written to it: bytes handed over less those still queued. Pure.
//!
//! A queue that is refilled as it drains has always the same length; what shows that its peer reads is
//! how much has left it.

/// What a peer has taken of a stream of bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Bytes taken when this began to count.
    mark: u64,
}

/// Life, by what was taken since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// At least [`ENOUGH`] bytes, or the whole queue.
    Alive,
    /// Less.
    Silent,
}

impl Progress {
    /// Begins to count: `handed` bytes were given to the kernel so far, `queued` of them are there still.
    pub(crate) fn begin(handed: u64, queued: u64) -> Self {
        Self { mark: handed.saturating_sub(queued) }
    }

    /// Bytes taken since.
    pub(crate) fn taken_since(self, handed: u64, queued: u64) -> u64 {
        handed.saturating_sub(queued).saturating_sub(self.mark)
    }

    /// What was taken since, as [`Life`]; counts anew from here if that is enough.
    pub(crate) fn judge(&mut self, handed: u64, queued: u64) -> Life {
        let taken = handed.saturating_sub(queued);
        let since = self.taken_since(handed, queued);
        if since >= ENOUGH || (queued == 0 && since > 0) {
            self.mark = taken;
            Life::Alive
        } else {
            Life::Silent
        }
    }
}

/// A peer that takes less than this within `timeouts.write_stall` is as good as gone: one that takes a
/// byte now and then must not live for ever.
const ENOUGH: u64 = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leaves_a_queue_is_life_and_its_length_is_not() {
        // (handed, queued) at the begin, then at each look.
        let rows: &[((u64, u64), &[(u64, u64, Life)])] = &[
            // Refilled as it drains: the length stays.
            ((100_000, 50_000), &[(120_000, 50_000, Life::Alive), (140_000, 50_000, Life::Alive)]),
            // Nothing leaves.
            (
                (100_000, 50_000),
                &[(100_000, 50_000, Life::Silent), (110_000, 60_000, Life::Silent)],
            ),
            // A trickle is not life, until it adds up.
            ((0, 0), &[(50_000, 49_000, Life::Silent), (50_000, 33_000, Life::Alive)]),
            // The whole queue, however little it was.
            ((10, 10), &[(10, 0, Life::Alive), (10, 0, Life::Silent)]),
            // The kernel's overhead may make a queue look longer than what was handed over.
            ((10, 500), &[(10, 500, Life::Silent), (10, 0, Life::Alive)]),
        ];
        for ((handed, queued), looks) in rows {
            let mut progress = Progress::begin(*handed, *queued);
            for (handed, queued, expected) in *looks {
                assert_eq!(progress.judge(*handed, *queued), *expected, "{looks:?}");
            }
        }
    }
}
