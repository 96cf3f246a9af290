//! Metric handles of a verifier whose keys are fetched. No clock, no log.

use prometheus::{IntCounter, IntGauge};

use super::families::Families;
use super::labels::KeyRefresh;

/// Handles of one verifier. One that is no longer configured keeps them, but they are not exported any
/// more: what ends late makes no series that nobody looks after.
#[derive(Debug)]
pub(super) struct KeyMetrics {
    last_success: IntGauge,
    refreshes: Vec<(KeyRefresh, IntCounter)>,
}

impl KeyMetrics {
    /// Resolves all handles, which exports their zeros.
    pub(super) fn new(families: &Families, verifier: &str) -> Self {
        let counter = |result: &KeyRefresh| {
            let labels = [verifier, result.as_str()];
            (*result, families.jwks_refreshes.with_label_values(&labels))
        };
        Self {
            last_success: families.jwks_last_success.with_label_values(&[verifier]),
            refreshes: KeyRefresh::ALL.iter().map(counter).collect(),
        }
    }

    /// When the keys that are known were fetched, in seconds since 1970; 0: none are.
    pub(super) fn set_last_success(&self, unix: u64) {
        self.last_success.set(i64::try_from(unix).unwrap_or(i64::MAX));
    }

    /// A fetch has ended so.
    pub(super) fn refreshed(&self, result: KeyRefresh) {
        for (_, counter) in self.refreshes.iter().filter(|(of, _)| *of == result) {
            counter.inc();
        }
    }
}
