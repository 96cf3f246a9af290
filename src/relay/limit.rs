//! The message rate of a client, and what a flood may cost us. Pure.

use std::time::Instant;

use crate::config::{MessageRate, OverRate};
use crate::session::rate::Bucket;

/// The rate of one client in one session.
#[derive(Debug)]
pub(crate) struct RateLimit {
    bucket: Bucket,
    over: OverRate,
    paused_until: Option<Instant>,
    /// It has been paused, and more than could pass was waiting ever since: it is read in small pieces,
    /// so that what it sends waits in its own buffers rather than in ours.
    is_flooding: bool,
}

impl RateLimit {
    /// Nothing sent yet.
    pub(crate) fn new(rate: MessageRate, now: Instant) -> Self {
        let bucket = Bucket::new(rate.rate, now);
        Self { bucket, over: rate.over, paused_until: None, is_flooding: false }
    }

    /// Until when the client is not read.
    pub(crate) fn paused_until(&self) -> Option<Instant> {
        self.paused_until
    }

    /// Whether the client is not to be read now.
    pub(crate) fn is_paused(&mut self, now: Instant) -> bool {
        if self.paused_until.is_some_and(|until| now >= until) {
            self.paused_until = None;
        }
        self.paused_until.is_some()
    }

    /// What follows if a further frame would come too fast; `None`: it may pass.
    pub(crate) fn excess(&mut self, now: Instant) -> Option<OverRate> {
        self.bucket.ready(now).err()?;
        if self.over == OverRate::Pause {
            self.paused_until = Some(now + self.bucket.pause());
            self.is_flooding = true;
        }
        Some(self.over)
    }

    /// A frame has passed.
    pub(crate) fn spend(&mut self) {
        self.bucket.spend();
    }

    /// Everything the client had sent has passed.
    pub(crate) fn all_passed(&mut self) {
        self.is_flooding = false;
    }

    /// As much of a read buffer as this client is trusted with.
    pub(crate) fn within_reason<'a>(&self, free: &'a mut [u8]) -> &'a mut [u8] {
        let len = if self.is_flooding { free.len().min(FLOOD_READ) } else { free.len() };
        free.split_at_mut(len).0
    }
}

/// Bytes read at once from a client that sends faster than it may.
const FLOOD_READ: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Rate;

    fn limit(over: OverRate) -> (RateLimit, Instant) {
        let now = Instant::now();
        let rate = Rate { per_second: 100.0, burst: 20 };
        let mut limit = RateLimit::new(MessageRate { rate, over }, now);
        for _ in 0..20 {
            assert_eq!(limit.excess(now), None);
            limit.spend();
        }
        (limit, now)
    }

    #[test]
    fn a_client_over_its_rate_is_paused_for_several_frames_at_once() {
        let (mut limit, now) = limit(OverRate::Pause);
        assert_eq!(limit.excess(now), Some(OverRate::Pause));
        let until = limit.paused_until().unwrap();
        assert_eq!(until, now + Duration::from_millis(100));
        assert!(limit.is_paused(until - Duration::from_millis(1)));
        assert!(!limit.is_paused(until));
        for _ in 0..10 {
            assert_eq!(limit.excess(until), None);
            limit.spend();
        }
        assert!(limit.excess(until).is_some());
    }

    #[test]
    fn a_flood_is_read_in_small_pieces_until_all_of_it_has_passed() {
        let (mut limit, now) = limit(OverRate::Pause);
        let mut buffer = [0; 65536];
        assert_eq!(limit.within_reason(&mut buffer).len(), 65536);
        assert!(limit.excess(now).is_some());
        assert_eq!(limit.within_reason(&mut buffer).len(), FLOOD_READ);
        limit.all_passed();
        assert_eq!(limit.within_reason(&mut buffer).len(), 65536);
    }

    #[test]
    fn closing_pauses_nothing() {
        let (mut limit, now) = limit(OverRate::Close);
        assert_eq!(limit.excess(now), Some(OverRate::Close));
        assert!(!limit.is_paused(now));
    }
}
