//! When to ping one side, and when its silence means that it is gone. Pure.
//!
//! Any byte received is life. Only a side that was silent for the interval is pinged, and not while a
//! relayed Ping of the other end is unanswered: a peer may answer only the latest Ping (RFC 6455
//! section 5.5.3), and that unanswered Ping proves as much as one of ours.

use std::time::{Duration, Instant};

/// Keepalive of one side.
#[derive(Debug)]
pub(crate) struct Keepalive {
    /// Jittered once per session, so that sessions opened together do not ping together.
    interval: Option<Duration>,
    pong: Duration,
    heard: Instant,
    /// When the Ping went out, ours or a relayed one, that is not answered; and whose it is.
    asked: Option<(Instant, Asker)>,
    /// Our Pings that have no Pong yet. A peer may answer only the latest one, so it may stay above zero.
    pongs_due: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asker {
    Gateway,
    OtherEnd,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing until then; `None`: for ever.
    Wait(Option<Instant>),
    /// Ping it, then say so with [`Keepalive::pinged`].
    Ping,
    /// It is gone.
    Dead,
}

impl Keepalive {
    /// `jitter` from 0 to 1 shortens the interval by up to a fifth.
    pub(crate) fn new(
        interval: Option<Duration>,
        pong: Duration,
        jitter: f64,
        now: Instant,
    ) -> Self {
        let interval = interval.map(|interval| interval.mul_f64(1.0 - 0.2 * jitter));
        Self { interval, pong, heard: now, asked: None, pongs_due: 0 }
    }

    /// Bytes came from this side.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// Our Ping is on its way.
    pub(crate) fn pinged(&mut self, now: Instant) {
        self.asked = Some((now, Asker::Gateway));
        self.pongs_due = self.pongs_due.saturating_add(1);
    }

    /// The side could not see the question yet: its time begins now.
    pub(crate) fn postpone(&mut self, now: Instant) {
        if let Some((asked, _)) = &mut self.asked {
            *asked = now;
        }
    }

    /// A Ping of the other end was passed on to this side.
    pub(crate) fn ping_relayed(&mut self, now: Instant) {
        self.asked.get_or_insert((now, Asker::OtherEnd));
    }

    /// A Pong came that is not the answer to ours.
    pub(crate) fn pong_relayed(&mut self) {
        if matches!(self.asked, Some((_, Asker::OtherEnd))) {
            self.asked = None;
        }
    }

    /// Whether a Pong to a Ping of ours may come: each is answered once at most.
    pub(crate) fn expects_pong(&self) -> bool {
        self.pongs_due > 0
    }

    /// The Pong to our Ping came: how long it took.
    pub(crate) fn pong_received(&mut self, now: Instant) -> Option<Duration> {
        self.pongs_due = self.pongs_due.saturating_sub(1);
        match self.asked {
            Some((asked, Asker::Gateway)) => {
                self.asked = None;
                Some(now.saturating_duration_since(asked))
            }
            _ => None,
        }
    }

    /// Whether the side has shown life since our Ping.
    pub(crate) fn is_alive(&self) -> bool {
        self.asked.is_none_or(|(asked, _)| self.heard > asked)
    }

    /// Whether a Ping, ours or a relayed one, waits for a sign of life: another would prove no more,
    /// and put its answer off.
    pub(crate) fn is_asked(&self) -> bool {
        !self.is_alive()
    }

    /// What is to be done now. While the side is not being read its answer cannot be seen, and while
    /// it is not being written to it cannot see the question, so its time does not run.
    pub(crate) fn due(&mut self, now: Instant, can_answer: bool) -> Due {
        if !can_answer {
            self.heard = now;
            if let Some((asked, _)) = &mut self.asked {
                *asked = now;
            }
        }
        match self.asked {
            Some((asked, asker)) if self.heard <= asked || asker == Asker::OtherEnd => {
                // Silent since the Ping; for a relayed one, silent for the interval too.
                let silence = match asker {
                    Asker::Gateway => asked,
                    Asker::OtherEnd => match self.interval {
                        Some(interval) => asked.max(self.heard + interval),
                        None => return Due::Wait(None),
                    },
                };
                let deadline = silence + self.pong;
                if now >= deadline { Due::Dead } else { Due::Wait(Some(deadline)) }
            }
            // Life came, but not as a Pong: the next silence is a new question.
            _ => match self.interval {
                None => Due::Wait(None),
                Some(interval) if now >= self.heard + interval => Due::Ping,
                Some(interval) => Due::Wait(Some(self.heard + interval)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn keepalive(start: Instant) -> Keepalive {
        Keepalive::new(Some(30 * SECOND), 10 * SECOND, 0.0, start)
    }

    #[test]
    fn silence_is_asked_and_then_is_death() {
        let start = Instant::now();
        let mut side = keepalive(start);
        assert_eq!(side.due(start, true), Due::Wait(Some(start + 30 * SECOND)));
        let asked = start + 30 * SECOND;
        assert_eq!(side.due(asked, true), Due::Ping);
        side.pinged(asked);
        assert!(!side.is_alive());
        assert_eq!(side.due(asked, true), Due::Wait(Some(asked + 10 * SECOND)));
        assert_eq!(side.due(asked + 10 * SECOND, true), Due::Dead);
    }

    #[test]
    fn any_byte_is_life_and_a_pong_measures() {
        let start = Instant::now();
        let mut side = keepalive(start);
        side.pinged(start);
        side.heard(start + SECOND);
        assert!(side.is_alive());
        assert_eq!(side.due(start + 20 * SECOND, true), Due::Wait(Some(start + 31 * SECOND)));
        assert_eq!(side.pong_received(start + 2 * SECOND), Some(2 * SECOND));
        assert_eq!(side.pong_received(start + 3 * SECOND), None);
    }

    #[test]
    fn each_ping_of_ours_has_one_pong_and_no_more() {
        let start = Instant::now();
        let mut side = keepalive(start);
        assert!(!side.expects_pong());
        side.pinged(start);
        side.pinged(start);
        for expected in [true, true, false] {
            assert_eq!(side.expects_pong(), expected);
            side.pong_received(start);
        }
        side.ping_relayed(start);
        assert!(!side.expects_pong(), "the other end's Ping is not ours");
    }

    #[test]
    fn a_relayed_ping_stands_in_for_ours() {
        let start = Instant::now();
        let mut side = keepalive(start);
        side.ping_relayed(start + 25 * SECOND);
        assert_eq!(side.due(start + 30 * SECOND, true), Due::Wait(Some(start + 40 * SECOND)));
        assert_eq!(side.due(start + 40 * SECOND, true), Due::Dead);
        side.pong_relayed();
        side.heard(start + 26 * SECOND);
        assert_eq!(side.due(start + 40 * SECOND, true), Due::Wait(Some(start + 56 * SECOND)));
    }

    #[test]
    fn time_stands_still_while_the_side_is_not_read() {
        let start = Instant::now();
        let mut side = keepalive(start);
        side.pinged(start);
        assert_eq!(side.due(start + 60 * SECOND, false), Due::Wait(Some(start + 70 * SECOND)));
        assert_eq!(side.due(start + 69 * SECOND, true), Due::Wait(Some(start + 70 * SECOND)));
        assert_eq!(side.due(start + 70 * SECOND, true), Due::Dead);
    }

    #[test]
    fn an_interval_of_zero_never_asks() {
        let start = Instant::now();
        let mut side = Keepalive::new(None, SECOND, 0.5, start);
        assert_eq!(side.due(start + 1000 * SECOND, true), Due::Wait(None));
        side.ping_relayed(start);
        assert_eq!(side.due(start + 1000 * SECOND, true), Due::Wait(None));
    }
}
