//! When keys are fetched: in the background, and for the sake of a token. Pure.

use std::time::{Duration, Instant};

use crate::config::Jwks;

/// When the next fetch in the background is due.
///
/// Jitter (from 0 up to 1) spreads gateways that were started together. It only ever shortens: a key
/// that was withdrawn must not be accepted longer than `refresh`.
#[derive(Debug)]
pub(super) struct Schedule {
    refresh: Duration,
    cooldown: Duration,
    due: Instant,
    /// Fetches that failed in a row.
    failures: u32,
}

impl Schedule {
    /// At once, if nothing is known; else when what was `fetched` then gets old.
    pub(super) fn new(jwks: &Jwks, fetched: Option<Instant>, now: Instant, jitter: f64) -> Self {
        let due = fetched.map_or(now, |at| now.max(at + earlier(jwks.refresh, jitter)));
        Self { refresh: jwks.refresh, cooldown: jwks.cooldown, due, failures: 0 }
    }

    /// When.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// A fetch that began then has succeeded. A set without keys is asked for again soon: its issuer is
    /// hardly done with it.
    pub(super) fn succeeded(&mut self, began: Instant, has_keys: bool, jitter: f64) {
        self.failures = 0;
        let after = if has_keys { self.refresh } else { self.refresh.min(self.cooldown) };
        self.due = began + earlier(after, jitter);
    }

    /// A fetch has failed. Without keys there is hurry; with them, less and less.
    pub(super) fn failed(&mut self, now: Instant, has_keys: bool, jitter: f64) {
        let doublings = self.failures.min(MOST_DOUBLINGS);
        self.failures = self.failures.saturating_add(1);
        let (first, longest) = if has_keys {
            (self.cooldown, self.refresh)
        } else {
            (self.cooldown.min(HURRY), self.refresh.min(self.cooldown))
        };
        let after = first.saturating_mul(1 << doublings).min(longest);
        self.due = now + earlier(after, jitter);
    }
}

fn earlier(duration: Duration, jitter: f64) -> Duration {
    duration.mul_f64(0.8 + 0.15 * jitter)
}

/// Which fetch a handshake may wait for, so that any number of them cause one, and one per `cooldown`.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// Fetches begun; each is called by its number.
    begun: u64,
    /// The last that has ended.
    ended: u64,
    /// Somebody waits for the next one.
    is_wanted: bool,
    /// When somebody last caused one.
    last: Option<Instant>,
}

/// What a handshake gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    /// The end of this fetch, which is under way or wanted already.
    Join(u64),
    /// The end of this fetch, which must be begun now.
    Begin(u64),
    /// Nothing: it was asked for not long ago.
    Refused,
}

impl Gate {
    /// For a handshake that has waited for fetch number `waited` in vain (0: for none yet).
    pub(super) fn ask(&mut self, waited: u64, now: Instant, cooldown: Duration) -> Ask {
        if self.begun > self.ended && self.begun > waited {
            return Ask::Join(self.begun);
        }
        let next = self.next();
        if self.is_wanted {
            return Ask::Join(next);
        }
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < cooldown) {
            return Ask::Refused;
        }
        self.is_wanted = true;
        // The very first one would have come anyway.
        if self.begun > 0 {
            self.last = Some(now);
        }
        Ask::Begin(next)
    }

    /// The number of the next one.
    pub(super) fn next(&self) -> u64 {
        self.begun.saturating_add(1)
    }

    /// Somebody wants the next one, whatever was asked for before.
    pub(super) fn want(&mut self) {
        self.is_wanted = true;
    }

    /// Whether somebody waits for the next one.
    pub(super) fn is_wanted(&self) -> bool {
        self.is_wanted
    }

    /// The next one begins.
    pub(super) fn begin(&mut self) {
        self.begun = self.begun.saturating_add(1);
        self.is_wanted = false;
    }

    /// It has ended; its number.
    pub(super) fn end(&mut self) -> u64 {
        self.ended = self.begun;
        self.ended
    }
}

/// Between the first attempts to get any keys at all.
const HURRY: Duration = Duration::from_secs(1);
const MOST_DOUBLINGS: u32 = 16;

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::config::JwksSource;

    const REFRESH: u64 = 600;
    const COOLDOWN: u64 = 30;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn jwks(refresh: u64, cooldown: u64) -> Jwks {
        Jwks {
            source: JwksSource::File(PathBuf::from("x")),
            refresh: seconds(refresh),
            timeout: seconds(3),
            cooldown: seconds(cooldown),
            stale: seconds(86400),
            ca: None,
        }
    }

    #[test]
    fn the_first_fetch_is_due_at_once_and_the_next_before_refresh_is_over() {
        let now = Instant::now();
        let settings = jwks(REFRESH, COOLDOWN);
        assert_eq!(Schedule::new(&settings, None, now, 0.5).due(), now);
        for (jitter, after) in [(0.0, 480), (0.999_999_999, 569), (0.5, 525)] {
            let mut schedule = Schedule::new(&settings, None, now, jitter);
            schedule.succeeded(now, true, jitter);
            let waits = schedule.due() - now;
            assert!(waits >= seconds(after) && waits < seconds(after + 2), "{jitter}: {waits:?}");
            // What is known from before ages as if this schedule had fetched it.
            let aged = Schedule::new(&settings, Some(now), now + seconds(100), jitter);
            assert_eq!(aged.due(), schedule.due());
            let old = Schedule::new(&settings, Some(now), now + seconds(700), jitter);
            assert_eq!(old.due(), now + seconds(700));
        }
    }

    #[test]
    fn failures_are_tried_again_in_a_hurry_without_keys_and_more_and_more_slowly_with_them() {
        for (refresh, cooldown, has_keys, expected) in [
            (600, 30, false, &[1, 2, 4, 8, 16, 30, 30][..]),
            (600, 30, true, &[30, 60, 120, 240, 480, 600, 600]),
            (10, 30, false, &[1, 2, 4, 8, 10, 10]),
            (10, 30, true, &[10, 10]),
        ] {
            let now = Instant::now();
            let mut schedule = Schedule::new(&jwks(refresh, cooldown), None, now, 0.0);
            let mut found = Vec::new();
            for _ in expected {
                schedule.failed(now, has_keys, 0.0);
                // The least jitter is four fifths.
                found.push((schedule.due() - now).div_f64(0.8).as_secs_f64().round() as u64);
            }
            assert_eq!(found, expected, "{refresh} {cooldown} {has_keys}");
            for _ in 0..100 {
                schedule.failed(now, has_keys, 0.0);
            }
            assert!(schedule.due() - now <= seconds(refresh));
            schedule.succeeded(now, true, 0.0);
            schedule.failed(now, has_keys, 0.0);
            assert_eq!(schedule.due() - now, seconds(expected[0]).mul_f64(0.8), "begins anew");
        }
    }

    #[test]
    fn a_set_without_keys_is_asked_for_again_soon() {
        let now = Instant::now();
        let mut schedule = Schedule::new(&jwks(REFRESH, COOLDOWN), None, now, 0.0);
        schedule.succeeded(now, false, 0.0);
        assert_eq!(schedule.due() - now, seconds(24));
    }

    #[test]
    fn any_number_of_handshakes_cause_one_fetch_and_one_per_cooldown() {
        let start = Instant::now();
        let cooldown = seconds(COOLDOWN);
        let mut gate = Gate::default();
        let at = |second| start + seconds(second);
        gate.begin();
        assert_eq!(gate.end(), 1);
        assert_eq!(gate.ask(0, at(0), cooldown), Ask::Begin(2));
        assert_eq!(gate.ask(0, at(0), cooldown), Ask::Join(2), "wanted");
        gate.begin();
        assert!(!gate.is_wanted());
        assert_eq!(gate.ask(0, at(1), cooldown), Ask::Join(2), "under way");
        assert_eq!(gate.end(), 2);
        for second in [1, 2, 29] {
            assert_eq!(gate.ask(0, at(second), cooldown), Ask::Refused, "{second}");
            assert_eq!(gate.ask(2, at(second), cooldown), Ask::Refused, "{second}");
        }
        assert_eq!(gate.ask(0, at(30), cooldown), Ask::Begin(3));
        assert_eq!(gate.ask(0, at(30), cooldown), Ask::Join(3));
    }

    #[test]
    fn who_is_there_before_the_first_fetch_does_not_use_the_cooldown_up() {
        let now = Instant::now();
        let cooldown = seconds(COOLDOWN);
        let mut gate = Gate::default();
        assert_eq!(gate.ask(0, now, cooldown), Ask::Begin(1));
        assert_eq!(gate.ask(0, now, cooldown), Ask::Join(1));
        gate.begin();
        assert_eq!(gate.end(), 1);
        assert_eq!(gate.ask(1, now, cooldown), Ask::Begin(2));
        gate.begin();
        assert_eq!(gate.end(), 2);
        assert_eq!(gate.ask(2, now, cooldown), Ask::Refused);
    }

    #[test]
    fn a_fetch_in_the_background_is_joined_and_if_in_vain_another_may_be_caused() {
        let now = Instant::now();
        let cooldown = seconds(COOLDOWN);
        let mut gate = Gate::default();
        gate.begin();
        assert_eq!(gate.ask(0, now, cooldown), Ask::Join(1));
        assert_eq!(gate.end(), 1);
        // It may have begun before the token's key was published.
        assert_eq!(gate.ask(1, now, cooldown), Ask::Begin(2));
        assert_eq!(gate.ask(1, now, cooldown), Ask::Join(2));
        gate.begin();
        assert_eq!(gate.end(), 2);
        assert_eq!(gate.ask(2, now, cooldown), Ask::Refused);
        // Those in the background do not count for the cooldown, but can be joined during it.
        gate.begin();
        assert_eq!(gate.ask(2, now, cooldown), Ask::Join(3));
        assert_eq!(gate.end(), 3);
        assert_eq!(gate.ask(3, now, cooldown), Ask::Refused);
    }
}
