//! Traces: who is watched step by step and frame by frame, for some minutes. No I/O.
//!
//! While nobody is watched, a handshake pays for one load of a flag, and a session for nothing but a
//! look at a field of its own.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use super::record::Facts;

/// Most traces at a time.
pub(crate) const MOST: usize = 16;

/// All traces there are.
#[derive(Debug, Default)]
pub(crate) struct Traces {
    any: AtomicBool,
    last_id: AtomicU64,
    running: Mutex<Vec<Arc<Trace>>>,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Trace {
    /// Its number.
    pub(crate) id: u64,
    /// Who is watched.
    pub(crate) whom: Whom,
    /// When it ends by itself.
    pub(crate) until: SystemTime,
    /// The same on the clock that never jumps.
    deadline: Instant,
    is_over: AtomicBool,
}

/// Who is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Whom {
    /// Everybody of this name.
    User(String),
    /// Everybody from this address.
    Client(IpAddr),
}

impl Traces {
    /// Begins to watch somebody; `None`: there are as many traces as there may be.
    pub(crate) fn begin(
        &self,
        whom: Whom,
        (now, deadline): (Instant, Instant),
        until: SystemTime,
    ) -> Option<Arc<Trace>> {
        let mut running = self.running(now);
        if running.len() >= MOST {
            return None;
        }
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let trace = Arc::new(Trace { id, whom, until, deadline, is_over: AtomicBool::new(false) });
        running.push(Arc::clone(&trace));
        self.any.store(true, Ordering::Release);
        Some(trace)
    }

    /// Ends a trace; whether there was one of this number.
    pub(crate) fn end(&self, id: u64, now: Instant) -> bool {
        let mut running = self.running(now);
        let before = running.len();
        running.retain(|trace| {
            let stays = trace.id != id;
            trace.is_over.fetch_or(!stays, Ordering::AcqRel);
            stays
        });
        self.any.store(!running.is_empty(), Ordering::Release);
        running.len() < before
    }

    /// Those that have not ended.
    pub(crate) fn all(&self, now: Instant) -> Vec<Arc<Trace>> {
        self.running(now).clone()
    }

    /// The trace that watches this connection.
    pub(crate) fn of(&self, facts: &Facts, now: Instant) -> Option<Arc<Trace>> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        self.running(now).iter().find(|trace| trace.watches(facts)).cloned()
    }

    fn running(&self, now: Instant) -> MutexGuard<'_, Vec<Arc<Trace>>> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|trace| !trace.is_over(now));
        self.any.store(!running.is_empty(), Ordering::Release);
        running
    }
}

impl Trace {
    /// Whether it has ended.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        now >= self.deadline || self.is_over.load(Ordering::Acquire)
    }

    /// Whether this connection is one of those it watches. Its user is known only once a token was
    /// taken.
    pub(crate) fn watches(&self, facts: &Facts) -> bool {
        match &self.whom {
            Whom::User(user) => facts.user.as_deref() == Some(user),
            Whom::Client(address) => facts.client.ip().to_canonical() == address.to_canonical(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::telemetry::testing::record;

    fn begin(traces: &Traces, whom: Whom, now: Instant) -> Option<Arc<Trace>> {
        let deadline = now + Duration::from_secs(60);
        traces.begin(whom, (now, deadline), SystemTime::UNIX_EPOCH)
    }

    #[test]
    fn who_is_watched_is_found_until_the_trace_ends() {
        let (traces, now) = (Traces::default(), Instant::now());
        let later = now + Duration::from_secs(60);
        assert!(traces.of(&record(), now).is_none());
        let rows = [
            (Whom::User("u-17".into()), true),
            (Whom::User("u-1".into()), false),
            (Whom::Client("192.0.2.7".parse().unwrap()), true),
            (Whom::Client("::ffff:192.0.2.7".parse().unwrap()), true),
            (Whom::Client("192.0.2.8".parse().unwrap()), false),
        ];
        for (whom, is_watched) in rows {
            let trace = begin(&traces, whom.clone(), now).unwrap();
            assert_eq!(traces.of(&record(), now).is_some(), is_watched, "{whom:?}");
            assert!(traces.of(&record(), later).is_none(), "{whom:?}");
            let trace_again = begin(&traces, whom.clone(), now).unwrap();
            assert!(trace_again.id > trace.id);
            assert!(traces.end(trace_again.id, now) && !traces.end(trace_again.id, now));
            assert!(trace_again.is_over(now) && traces.of(&record(), now).is_none(), "{whom:?}");
        }
        assert!(!traces.any.load(Ordering::Acquire));
    }

    #[test]
    fn there_are_only_so_many() {
        let (traces, now) = (Traces::default(), Instant::now());
        for _ in 0..MOST {
            assert!(begin(&traces, Whom::User("a".into()), now).is_some());
        }
        assert!(begin(&traces, Whom::User("a".into()), now).is_none());
        assert_eq!(traces.all(now).len(), MOST);
        assert!(begin(&traces, Whom::User("a".into()), now + Duration::from_secs(60)).is_some());
    }
}
