//! Connections that are over: found by id for ten minutes, in memory that is bounded. No I/O.
//!
//! At most [`MOST`] are kept and some [`MOST_BYTES`]; past that the oldest go first, and in a storm ten
//! minutes are not reached. Connections that never came to a request are not kept: nobody was told
//! their id, and one scan of ports would push out all others.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::id::SessionId;
use super::record::{Facts, Outcome, SessionRecord};

/// For how long an end is known.
pub(crate) const KEPT: Duration = Duration::from_secs(600);
/// How many ends are known.
pub(crate) const MOST: usize = 10_000;
/// How much memory they may take, as estimated.
pub(crate) const MOST_BYTES: usize = 8 * 1024 * 1024;

/// A connection that is over.
#[derive(Debug)]
pub(crate) struct Ended {
    /// All that is known of it.
    pub(crate) record: SessionRecord,
    /// When it was over.
    pub(crate) at: SystemTime,
    /// The same on the clock that never jumps.
    since: Instant,
    bytes: usize,
}

/// The connections that are over, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Recent(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    /// The id beside its record: a search must not follow ten thousand pointers.
    ended: VecDeque<(SessionId, Arc<Ended>)>,
    bytes: usize,
}

impl Recent {
    /// Keeps what is known of a connection that is over.
    pub(crate) fn keep(&self, record: SessionRecord, now: Instant, at: SystemTime) {
        if matches!(record.outcome, Outcome::NoRequest(_)) {
            return;
        }
        let record = shortened(record);
        let bytes = size(&record);
        let ended = Arc::new(Ended { record, at, since: now, bytes });
        let mut ring = self.ring();
        ring.bytes += bytes;
        ring.ended.push_back((ended.record.id, ended));
        ring.forget(now);
    }

    /// Forgets what is old.
    pub(crate) fn sweep(&self, now: Instant) {
        self.ring().forget(now);
    }

    /// A connection by its id.
    pub(crate) fn get(&self, id: SessionId, now: Instant) -> Option<Arc<Ended>> {
        let mut ring = self.ring();
        ring.forget(now);
        let found = ring.ended.iter().rev().find(|(of, _)| *of == id);
        found.map(|(_, ended)| Arc::clone(ended))
    }

    /// All of them, newest first.
    pub(crate) fn all(&self, now: Instant) -> Vec<Arc<Ended>> {
        let mut ring = self.ring();
        ring.forget(now);
        ring.ended.iter().rev().map(|(_, ended)| Arc::clone(ended)).collect()
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn forget(&mut self, now: Instant) {
        while let Some((_, oldest)) = self.ended.front() {
            let is_old = now.saturating_duration_since(oldest.since) > KEPT;
            if !is_old && self.ended.len() <= MOST && self.bytes <= MOST_BYTES {
                return;
            }
            self.bytes -= oldest.bytes;
            self.ended.pop_front();
        }
    }
}

/// Peers' text can be as long as a request head.
fn shortened(mut record: SessionRecord) -> SessionRecord {
    shorten(&mut record.detail);
    let facts = &record.facts;
    let texts = [&facts.host, &facts.path, &facts.origin, &facts.subprotocol];
    // The facts may still be a session handle's: they are copied only if something is too long.
    if texts.into_iter().flatten().any(|text| text.len() > LONGEST) {
        let facts = Arc::make_mut(&mut record.facts);
        for text in [&mut facts.host, &mut facts.path, &mut facts.origin, &mut facts.subprotocol] {
            shorten(text);
        }
    }
    record
}

fn shorten(text: &mut Option<String>) {
    if let Some(text) = text.as_mut().filter(|text| text.len() > LONGEST) {
        text.truncate(text.floor_char_boundary(LONGEST));
        text.push('…');
        text.shrink_to_fit();
    }
}

/// What keeping a record costs: labels are shared, the user's name counts in full.
fn size(record: &SessionRecord) -> usize {
    let texts = [&record.host, &record.path, &record.origin, &record.subprotocol, &record.detail];
    let texts: usize = texts.into_iter().flatten().map(|text| text.capacity() + OVERHEAD).sum();
    let user = record.user.as_ref().map_or(0, |user| user.len() + OVERHEAD);
    size_of::<Ended>()
        + size_of::<Facts>()
        + size_of::<(SessionId, Arc<Ended>)>()
        + 2 * OVERHEAD
        + texts
        + user
}

/// Longest text kept, in bytes.
const LONGEST: usize = 512;
/// What an allocation costs beside its bytes.
const OVERHEAD: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::testing::record_with;

    fn with_id(id: u64) -> SessionRecord {
        record_with(|facts| facts.id = SessionId::new(id))
    }

    fn ids(recent: &Recent, now: Instant) -> Vec<SessionId> {
        recent.all(now).iter().map(|ended| ended.record.id).collect()
    }

    #[test]
    fn an_end_is_known_for_ten_minutes() {
        let (recent, start) = (Recent::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        recent.keep(with_id(1), at(0), SystemTime::UNIX_EPOCH);
        recent.keep(with_id(2), at(300), SystemTime::UNIX_EPOCH);
        let [one, two] = [1, 2].map(SessionId::new);
        assert_eq!(ids(&recent, at(600)), [two, one]);
        assert!(recent.get(one, at(600)).is_some());
        assert!(recent.get(one, at(601)).is_none());
        assert_eq!(ids(&recent, at(601)), [two]);
        recent.sweep(at(1000));
        assert_eq!(recent.ring().bytes, 0);
    }

    #[test]
    fn number_and_memory_are_bounded_and_the_oldest_go_first() {
        let (recent, now) = (Recent::default(), Instant::now());
        for id in 0..MOST as u64 + 5 {
            recent.keep(with_id(id), now, SystemTime::UNIX_EPOCH);
        }
        assert!(recent.ring().ended.len() <= MOST);
        assert!(recent.ring().bytes <= MOST_BYTES);
        assert!(recent.get(SessionId::new(4), now).is_none());
        assert!(recent.get(SessionId::new(MOST as u64 + 4), now).is_some());
        for _ in 0..MOST {
            let long = record_with(|facts| facts.path = Some("/ü".repeat(5000)));
            recent.keep(long, now, SystemTime::UNIX_EPOCH);
        }
        let ring = recent.ring();
        assert!(ring.bytes <= MOST_BYTES && ring.ended.len() > MOST / 2, "{}", ring.ended.len());
        let (_, last) = ring.ended.back().unwrap();
        assert!(last.record.path.as_ref().unwrap().len() <= LONGEST + 3);
    }

    #[test]
    fn who_never_asked_is_not_kept() {
        let (recent, now) = (Recent::default(), Instant::now());
        let silent = SessionRecord { outcome: Outcome::NoRequest("nothing"), ..with_id(1) };
        recent.keep(silent, now, SystemTime::UNIX_EPOCH);
        recent.keep(
            SessionRecord { outcome: Outcome::Abandoned, ..with_id(2) },
            now,
            SystemTime::UNIX_EPOCH,
        );
        assert_eq!(ids(&recent, now), [SessionId::new(2)]);
    }
}
