//! The account of bytes that sessions hold for peers that make them wait, and which session has to give way
//! when all together hold too much. No I/O.
//!
//! Holders are kept by the size class of what they cost (powers of two, what the kernel holds for them
//! included) and, within a class, by how long they have held anything. Changing an amount moves a holder only
//! when its class changes, and the largest is found without a look at the others.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::id::SessionId;
use crate::outcome::settle::{Ending, Silence};

/// Who holds bytes: a session.
pub(crate) trait Holder: fmt::Debug + Send + Sync {
    /// Which one.
    fn id(&self) -> SessionId;

    /// Its part of the account.
    fn account(&self) -> &Account;

    /// Is ended, because all together hold too much.
    fn give_way(&self, ending: Ending);
}

/// What a session holds, and for whom.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// Bytes in the session's own buffers: what counts against `limits.pending_bytes`.
    pub(crate) bytes: u64,
    /// Bytes in the kernel's send queues, when last looked at: only for who gives way first.
    pub(crate) queued: u64,
    pub(crate) cause: Cause,
}

/// Why a session holds bytes, and so how it ends if it has to give way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The client does not read fast enough.
    #[default]
    SlowClient,
    /// The upstream does not.
    SlowUpstream,
    /// The client sends faster than `limits.messages` allows.
    PausedClient,
}

impl Cause {
    fn ending(self) -> Ending {
        match self {
            Self::SlowClient => Ending::SlowConsumer,
            Self::SlowUpstream => Ending::UpstreamStalled(Silence::WriteStall),
            Self::PausedClient => Ending::MessageRate,
        }
    }
}

/// All that is held.
#[derive(Debug)]
pub(crate) struct Pending {
    total: AtomicU64,
    limit: AtomicU64,
    classes: [Mutex<BTreeMap<Key, Arc<dyn Holder>>>; CLASSES],
    /// Zero of [`Key::since`].
    epoch: Instant,
}

/// A session's part of the account, which others than its own task may close. Most sessions never hold
/// anything, and have no entry.
#[derive(Debug, Default)]
pub(crate) struct Account(Mutex<Option<Box<Entry>>>);

#[derive(Debug, Default)]
struct Entry {
    bytes: u64,
    cause: Cause,
    place: Option<(usize, Key)>,
    /// It is ended, and counts no more.
    is_closed: bool,
}

/// Oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    /// Microseconds from the epoch to when the session began to hold anything.
    since: u64,
    id: SessionId,
}

impl Pending {
    /// Nothing held; `limit` in bytes.
    pub(crate) fn new(limit: u64, epoch: Instant) -> Self {
        Self {
            total: AtomicU64::new(0),
            limit: AtomicU64::new(limit),
            classes: std::array::from_fn(|_| Mutex::default()),
            epoch,
        }
    }

    /// From now on all sessions together may hold this much.
    pub(crate) fn set_limit(&self, bytes: u64) {
        self.limit.store(bytes, Ordering::Relaxed);
    }

    /// Bytes held by all.
    pub(crate) fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Notes what a session holds now. If that is more than before and all together hold too much, the
    /// sessions that cost most are ended until what is left is within the limit.
    pub(crate) fn account(&self, session: &Arc<impl Holder + 'static>, held: Held, now: Instant) {
        let has_grown = self.set(session, held, now);
        while has_grown && self.total() > self.limit.load(Ordering::Relaxed) {
            let Some(largest) = self.largest() else { return };
            if let Some(cause) = self.close(&*largest) {
                largest.give_way(cause.ending());
            }
        }
    }

    /// A session holds nothing any more, and never will; why it held something, if it did.
    pub(crate) fn close(&self, session: &(impl Holder + ?Sized)) -> Option<Cause> {
        let mut entry = session.account().entry();
        let entry = entry.as_deref_mut()?;
        entry.is_closed = true;
        self.book(entry, 0);
        let (class, key) = entry.place.take()?;
        self.class(class).remove(&key);
        Some(entry.cause)
    }

    /// Whether that is more than before.
    fn set(&self, session: &Arc<impl Holder + 'static>, held: Held, now: Instant) -> bool {
        let mut entry = session.account().entry();
        let entry = entry.get_or_insert_default();
        if entry.is_closed {
            return false;
        }
        let before = entry.bytes;
        self.book(entry, held.bytes);
        entry.cause = held.cause;
        let class = (held.bytes > 0).then(|| class_of(held.bytes.saturating_add(held.queued)));
        if entry.place.map(|(class, _)| class) != class {
            // Its age stays: a trickle does not make it younger.
            let key = entry.place.map_or_else(|| self.key(session.id(), now), |(_, key)| key);
            if let Some((old, key)) = entry.place.take() {
                self.class(old).remove(&key);
            }
            if let Some(class) = class {
                let holder: Arc<dyn Holder> = session.clone();
                self.class(class).insert(key, holder);
                entry.place = Some((class, key));
            }
        }
        held.bytes > before
    }

    fn book(&self, entry: &mut Entry, bytes: u64) {
        let before = std::mem::replace(&mut entry.bytes, bytes);
        if bytes >= before {
            self.total.fetch_add(bytes - before, Ordering::AcqRel);
        } else {
            self.total.fetch_sub(before - bytes, Ordering::AcqRel);
        }
    }

    /// The oldest of those that cost most.
    fn largest(&self) -> Option<Arc<dyn Holder>> {
        (0..CLASSES).rev().find_map(|class| {
            let holders = self.class(class);
            holders.first_key_value().map(|(_, oldest)| Arc::clone(oldest))
        })
    }

    fn class(&self, class: usize) -> MutexGuard<'_, BTreeMap<Key, Arc<dyn Holder>>> {
        // In range: class_of() gives no more.
        self.classes[class.min(CLASSES - 1)].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key(&self, id: SessionId, now: Instant) -> Key {
        let since = now.saturating_duration_since(self.epoch).as_micros();
        Key { since: u64::try_from(since).unwrap_or(u64::MAX), id }
    }
}

impl Account {
    /// Bytes held.
    pub(crate) fn bytes(&self) -> u64 {
        self.entry().as_ref().map_or(0, |entry| entry.bytes)
    }

    fn entry(&self) -> MutexGuard<'_, Option<Box<Entry>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The number of bits of what it costs.
fn class_of(bytes: u64) -> usize {
    ((u64::BITS - bytes.leading_zeros()) as usize).min(CLASSES - 1)
}

/// Up to a terabyte.
const CLASSES: usize = 42;

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::session::record::Facts;
    use crate::session::registry::{Order, SessionHandle};

    fn session(id: u64) -> Arc<SessionHandle> {
        let client = SocketAddr::from(([127, 0, 0, 1], 1));
        let known = Facts::new(SessionId::new(id), "l".into(), client, SystemTime::UNIX_EPOCH);
        SessionHandle::new(Arc::new(known), Instant::now())
    }

    fn held(bytes: u64, queued: u64, cause: Cause) -> Held {
        Held { bytes, queued, cause }
    }

    fn ordered(session: &SessionHandle) -> Option<Ending> {
        match &session.take_orders()[..] {
            [] => None,
            [Order::End(ending)] => Some(ending.clone()),
            orders => panic!("{orders:?}"),
        }
    }

    /// Each row: what the sessions 1, 2, ... hold, begun in this order a second apart; then one more byte
    /// is one too many. Which of them is ended, and how.
    #[test]
    fn who_costs_most_gives_way_first_then_who_has_held_longest() {
        use Cause::{PausedClient, SlowClient, SlowUpstream};
        let rows: &[(&[Held], usize, Ending)] = &[
            (&[held(600, 0, SlowClient), held(100, 0, SlowClient)], 0, Ending::SlowConsumer),
            (&[held(100, 0, SlowClient), held(600, 0, PausedClient)], 1, Ending::MessageRate),
            // The kernel's part decides, though it does not count.
            (
                &[held(600, 0, SlowClient), held(100, 100_000, SlowUpstream)],
                1,
                Ending::UpstreamStalled(Silence::WriteStall),
            ),
            // As good as the same size: the older.
            (&[held(600, 0, SlowClient), held(700, 0, PausedClient)], 0, Ending::SlowConsumer),
        ];
        for (holders, largest, ending) in rows {
            let start = Instant::now();
            let total: u64 = holders.iter().map(|held| held.bytes).sum();
            let pending = Pending::new(total, start);
            let sessions: Vec<_> = (1..).map(session).take(holders.len() + 1).collect();
            for (nth, (session, held)) in sessions.iter().zip(*holders).enumerate() {
                pending.account(session, *held, start + Duration::from_secs(nth as u64));
            }
            assert!(sessions.iter().all(|session| ordered(session).is_none()), "{holders:?}");
            let last = sessions.last().unwrap();
            pending.account(last, held(1, 0, SlowClient), start + Duration::from_secs(9));
            for (nth, session) in sessions.iter().enumerate() {
                let expected = (nth == *largest).then(|| ending.clone());
                assert_eq!(ordered(session), expected, "{holders:?} {nth}");
            }
            assert_eq!(pending.total(), total + 1 - holders[*largest].bytes);
            // What it says later counts no more.
            pending.account(&sessions[*largest], held(1 << 30, 0, SlowClient), start);
            assert_eq!(pending.total(), total + 1 - holders[*largest].bytes);
            for session in &sessions {
                pending.close(&**session);
            }
            assert_eq!((pending.total(), pending.largest().is_none()), (0, true));
        }
    }

    #[test]
    fn a_trickle_makes_no_holder_younger_and_an_empty_one_begins_anew() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let pending = Pending::new(u64::MAX, start);
        let (first, second) = (session(1), session(2));
        pending.account(&first, held(1000, 0, Cause::SlowClient), at(1));
        pending.account(&second, held(1000, 0, Cause::SlowClient), at(2));
        for bytes in [999, 100, 40_000, 1000] {
            pending.account(&first, held(bytes, 0, Cause::SlowClient), at(3));
        }
        assert_eq!(pending.largest().unwrap().id(), first.id);
        pending.account(&first, held(0, 0, Cause::SlowClient), at(4));
        pending.account(&first, held(1000, 0, Cause::SlowClient), at(5));
        assert_eq!(pending.largest().unwrap().id(), second.id);
        assert_eq!(pending.total(), 2000);
    }

    #[test]
    fn a_lower_limit_counts_from_the_next_growth() {
        let start = Instant::now();
        let pending = Pending::new(100, start);
        let session = session(1);
        pending.account(&session, held(60, 0, Cause::SlowClient), start);
        pending.set_limit(60);
        pending.account(&session, held(59, 0, Cause::SlowClient), start);
        assert_eq!(ordered(&session), None);
        pending.account(&session, held(61, 0, Cause::SlowClient), start);
        assert_eq!(ordered(&session), Some(Ending::SlowConsumer));
    }
}
