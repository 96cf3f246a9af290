//! Keeps a fault that repeats thousands of times a second from drowning the log. Pure.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lets one event a second through and counts the others.
#[derive(Debug, Default)]
pub(super) struct Throttle(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    suppressed: u64,
}

impl Throttle {
    /// Whether to speak now: the number of events kept back since the last time, else `None`.
    pub(super) fn pass(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = state.last.is_some_and(|last| now.duration_since(last) < INTERVAL);
        if recent {
            state.suppressed = state.suppressed.saturating_add(1);
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.suppressed))
    }
}

const INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_event_a_second_passes_and_tells_of_the_others() {
        let throttle = Throttle::default();
        let start = Instant::now();
        let at = |millis| throttle.pass(start + Duration::from_millis(millis));
        assert_eq!(at(0), Some(0));
        assert_eq!(at(1), None);
        assert_eq!(at(999), None);
        assert_eq!(at(1000), Some(2));
        assert_eq!(at(1500), None);
        assert_eq!(at(5000), Some(1));
        assert_eq!(at(9000), Some(0));
    }
}
