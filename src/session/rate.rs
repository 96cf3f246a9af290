//! A token bucket. Pure.

use std::time::{Duration, Instant};

use crate::config::Rate;

/// Holds up to `burst` tokens and regains them at `per_second`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bucket {
    rate: Rate,
    tokens: f64,
    updated: Instant,
}

impl Bucket {
    /// A full bucket.
    pub(crate) fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, tokens: f64::from(rate.burst), updated: now }
    }

    /// What it was made with.
    pub(crate) fn rate(&self) -> Rate {
        self.rate
    }

    /// Takes a token, or says how long until there is one.
    pub(crate) fn take(&mut self, now: Instant) -> Result<(), Duration> {
        self.ready(now)?;
        self.spend();
        Ok(())
    }

    /// Whether there is a token, or how long until there is one.
    pub(crate) fn ready(&mut self, now: Instant) -> Result<(), Duration> {
        if self.tokens < 1.0 {
            self.refill(now);
        }
        if self.tokens < 1.0 { Err(self.time_until(1.0)) } else { Ok(()) }
    }

    /// How long to wait so that a waiter need not wake for each single token: until there are those
    /// of a tenth of a second, at least one, at most all.
    pub(crate) fn pause(&self) -> Duration {
        let tokens = (self.rate.per_second / 10.0).min(f64::from(self.rate.burst)).max(1.0);
        self.time_until(tokens)
    }

    fn time_until(&self, tokens: f64) -> Duration {
        // At least a millisecond, so that rounding cannot make a caller spin.
        let seconds = ((tokens - self.tokens) / self.rate.per_second).max(0.001);
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    /// Takes the token that [`Self::ready`] has seen.
    pub(crate) fn spend(&mut self) {
        self.tokens -= 1.0;
    }

    /// Whether nothing of it is used: it need not be kept.
    pub(crate) fn is_full(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.tokens >= f64::from(self.rate.burst)
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.updated).as_secs_f64();
        self.tokens =
            (self.tokens + elapsed * self.rate.per_second).min(f64::from(self.rate.burst));
        self.updated = now;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(Rate { per_second: 10.0, burst: 3 }, start);
        for _ in 0..3 {
            assert_eq!(bucket.take(start), Ok(()));
        }
        assert_eq!(bucket.take(start), Err(Duration::from_millis(100)));
        assert!(bucket.take(start + Duration::from_millis(110)).is_ok());
        assert!(!bucket.is_full(start + Duration::from_millis(200)));
        assert!(bucket.is_full(start + Duration::from_secs(2)));
    }

    proptest! {
        #[test]
        fn never_more_than_burst_plus_rate(
            per_second in 1.0f64..1000.0, burst in 1u32..100, gaps in proptest::collection::vec(0u64..50, 1..400),
        ) {
            let start = Instant::now();
            let mut bucket = Bucket::new(Rate { per_second, burst }, start);
            let (mut now, mut taken) = (start, 0u32);
            for gap in gaps {
                now += Duration::from_millis(gap);
                taken += u32::from(bucket.take(now).is_ok());
            }
            let allowed = f64::from(burst) + (now - start).as_secs_f64() * per_second;
            prop_assert!(f64::from(taken) <= allowed + 0.001);
        }
    }
}
