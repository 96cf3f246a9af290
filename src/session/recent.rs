//! Connections that are over: found by id for ten minutes, in memory that is bounded. No I/O.
//!
//! At most [`MOST`] are kept and some [`MOST_BYTES`]; past that the oldest go first, and in a storm ten
//! minutes are not reached. Of one address at most [`MOST_REFUSALS`] refusals are kept: a client that is
//! refused again and again pushes out its own only. Connections that never came to a request are not kept: nobody was told
//! their id, and one scan of ports would push out all others.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::address::network_of;
use super::id::SessionId;
use super::record::{Facts, Outcome, SessionRecord};

/// For how long an end is known.
pub(crate) const KEPT: Duration = Duration::from_secs(600);
/// How many ends are known.
pub(crate) const MOST: usize = 10_000;
/// How many refusals of one address are known.
const MOST_REFUSALS: usize = 500;
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
    /// By order of their ends. The id beside its record: a search must not follow ten thousand pointers.
    ended: BTreeMap<u64, (SessionId, Arc<Ended>)>,
    next: u64,
    /// Of each address, which of them are refusals, oldest first.
    refused: HashMap<IpAddr, VecDeque<u64>>,
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
        ring.push(ended);
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
        let found = ring.ended.values().rev().find(|(of, _)| *of == id);
        found.map(|(_, ended)| Arc::clone(ended))
    }

    /// All of them, newest first.
    pub(crate) fn all(&self, now: Instant) -> Vec<Arc<Ended>> {
        let mut ring = self.ring();
        ring.forget(now);
        ring.ended.values().rev().map(|(_, ended)| Arc::clone(ended)).collect()
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn push(&mut self, ended: Arc<Ended>) {
        let number = self.next;
        self.next += 1;
        if let Some(address) = ended.refused() {
            let own = self.refused.entry(address).or_default();
            own.push_back(number);
            if own.len() > MOST_REFUSALS
                && let Some(oldest) = own.pop_front()
            {
                self.remove(oldest);
            }
        }
        self.bytes += ended.bytes;
        self.ended.insert(number, (ended.record.id, ended));
    }

    fn remove(&mut self, number: u64) {
        let Some((_, ended)) = self.ended.remove(&number) else { return };
        self.bytes -= ended.bytes;
    }

    fn forget(&mut self, now: Instant) {
        while let Some((number, (_, oldest))) = self.ended.first_key_value() {
            let is_old = now.saturating_duration_since(oldest.since) > KEPT;
            if !is_old && self.ended.len() <= MOST && self.bytes <= MOST_BYTES {
                return;
            }
            let (number, refused) = (*number, oldest.refused());
            // What is oldest of all is oldest of its address.
            if let Some(address) = refused
                && let Entry::Occupied(mut own) = self.refused.entry(address)
            {
                own.get_mut().pop_front();
                if own.get().is_empty() {
                    own.remove();
                }
            }
            self.remove(number);
        }
    }
}

impl Ended {
    /// The address that was refused, if it was.
    fn refused(&self) -> Option<IpAddr> {
        let is_refused = matches!(self.record.outcome, Outcome::Refused(_));
        is_refused.then(|| network_of(self.record.client.ip()))
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
        + size_of::<(u64, SessionId, Arc<Ended>, u64)>()
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
    use crate::outcome::label::Label;
    use crate::session::record::Refused;
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
        let (_, (_, last)) = ring.ended.last_key_value().unwrap();
        assert!(last.record.path.as_ref().unwrap().len() <= LONGEST + 3);
    }

    #[test]
    fn one_address_pushes_out_only_its_own_refusals() {
        let (recent, now) = (Recent::default(), Instant::now());
        let refused = |id: u64, client: &str| {
            let refused = Refused { label: Label::RateLimited, status: 429 };
            let mut record = record_with(|facts| {
                facts.id = SessionId::new(id);
                facts.set_client(client.parse().unwrap());
            });
            record.outcome = Outcome::Refused(refused);
            recent.keep(record, now, SystemTime::UNIX_EPOCH);
        };
        refused(1, "[2001:db8::1]:1");
        recent.keep(with_id(2), now, SystemTime::UNIX_EPOCH);
        for id in 0..2 * MOST as u64 {
            refused(10 + id, "192.0.2.66:66");
        }
        let first = 10 + 2 * MOST as u64 - MOST_REFUSALS as u64;
        for (id, is_known) in [(1, true), (2, true), (10, false), (first - 1, false), (first, true)]
        {
            assert_eq!(recent.get(SessionId::new(id), now).is_some(), is_known, "{id}");
        }
        assert_eq!(recent.ring().ended.len(), 2 + MOST_REFUSALS);
        // Its memory goes with it.
        recent.sweep(now + KEPT + Duration::from_secs(1));
        let ring = recent.ring();
        assert_eq!((ring.bytes, ring.ended.len(), ring.refused.len()), (0, 0, 0));
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
