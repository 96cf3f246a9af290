//! One side of a session: its connection, what waits to be written to it, and its keepalive. No I/O.

use std::any::Any;
use std::time::{Duration, Instant};

use super::farewell::Taking;
use super::keepalive::Keepalive;
use super::outlet::Outlet;
use crate::net::progress::{Life, Progress};
use crate::net::stream::Stream;

/// Something counted that is given back on drop; the relay need not know what.
#[derive(Debug)]
pub(crate) struct Held {
    _places: Box<dyn Any + Send>,
}

impl Held {
    /// Holds `places` until it is dropped.
    pub(crate) fn new(places: impl Any + Send) -> Self {
        Self { _places: Box::new(places) }
    }
}

/// A connection after its handshake.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The connection.
    pub(crate) stream: Stream,
    /// What came right behind the handshake.
    pub(crate) arrived: Vec<u8>,
    /// What its place is counted by.
    pub(crate) place: Held,
}

/// The client's side or the upstream's.
#[derive(Debug)]
pub(super) struct Leg {
    pub(super) stream: Stream,
    /// What waits to be written to it.
    pub(super) outlet: Outlet,
    pub(super) alive: Keepalive,
    /// Since it makes us wait: what it has taken, and when that is looked at.
    stall: Option<Stall>,
    /// Since our last Ping.
    asked: Option<Asked>,
    /// Given back when the connection is closed.
    pub(super) place: Held,
}

impl Leg {
    pub(super) fn new(opened: Opened, alive: Keepalive) -> Self {
        let Opened { stream, place, .. } = opened;
        Self { stream, outlet: Outlet::default(), alive, stall: None, asked: None, place }
    }

    /// Since when it has taken nothing of what waits.
    pub(super) fn stalled_since(&self) -> Option<Instant> {
        self.outlet.stalled_since()
    }

    /// Our Ping waits to be written, behind all that was written before.
    pub(super) fn pinged(&mut self, now: Instant) {
        self.alive.pinged(now);
        self.asked = Some(Asked { progress: self.progress(), since: now, was_behind: false });
    }

    /// When a side that makes us wait is judged; `None`: it does not.
    ///
    /// # Errors
    ///
    /// [`Silent`] when it has taken too little for `limit`.
    pub(super) fn stall_deadline(
        &mut self,
        now: Instant,
        limit: Duration,
    ) -> Result<Option<Instant>, Silent> {
        let Some(since) = self.stalled_since() else {
            self.stall = None;
            return Ok(None);
        };
        let progress = self.stall.filter(|stall| stall.since == since);
        let mut stall = progress.unwrap_or_else(|| Stall {
            since,
            until: since + limit,
            progress: self.progress(),
        });
        if now >= stall.until {
            if self.judge(&mut stall.progress) == Life::Silent {
                return Err(Silent);
            }
            stall.until = now + limit;
        }
        self.stall = Some(stall);
        Ok(Some(stall.until))
    }

    /// A Pong is missing: whether the side lives all the same, because our Ping waits behind bytes that it
    /// is reading. Its time begins anew then.
    pub(super) fn is_reading_up_to_ping(&mut self, now: Instant, limit: Duration) -> bool {
        let Some(mut asked) = self.asked else { return false };
        let lives = match self.stream.queued() {
            None => false,
            // The Ping has arrived: only now does the time for its answer begin, if it was behind others.
            Some(0) => std::mem::take(&mut asked.was_behind),
            Some(queued) => {
                let handed = self.handed();
                let took_some = asked.progress.taken_since(handed, queued) > 0;
                let is_alive = asked.progress.judge(handed, queued) == Life::Alive;
                if is_alive {
                    asked.since = now;
                }
                asked.was_behind = true;
                is_alive || took_some && now < asked.since + limit
            }
        };
        self.asked = Some(asked);
        if lives {
            self.alive.postpone(now);
        }
        lives
    }

    /// Bytes its socket has taken so far.
    pub(super) fn handed(&self) -> u64 {
        self.outlet.handed(&self.stream)
    }

    /// What it goes on taking while the session ends.
    pub(super) fn taking(&self) -> Taking {
        Taking::new(&self.stream, self.handed())
    }

    fn progress(&self) -> Progress {
        Progress::begin(self.handed(), self.stream.queued().unwrap_or_default())
    }

    fn judge(&self, progress: &mut Progress) -> Life {
        let Some(queued) = self.stream.queued() else { return Life::Silent };
        progress.judge(self.handed(), queued)
    }
}

/// A side that takes nothing, or as good as nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Silent;

#[derive(Debug, Clone, Copy)]
struct Stall {
    since: Instant,
    until: Instant,
    progress: Progress,
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    progress: Progress,
    since: Instant,
    /// When last looked at, the Ping had not arrived.
    was_behind: bool,
}
