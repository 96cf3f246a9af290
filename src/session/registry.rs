//! The sessions that are open, so that they can be counted, ended and shown. No I/O.
//!
//! A session is ended from outside by leaving an [`Order`] in its [`SessionHandle`]; its own task
//! carries it out. The registry also holds the account of bytes kept for slow readers.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use tokio::sync::Notify;

use super::id::SessionId;
use super::pacing;
use super::record::Facts;
use super::trace::Trace;
use super::traffic::Traffic;
use crate::outcome::settle::{Ending, Silence};
use crate::protocol::ws::violation::Side;

/// All open sessions.
#[derive(Debug)]
pub(crate) struct Registry {
    sessions: DashMap<SessionId, Arc<SessionHandle>>,
    /// Those that relay no more and whose peers are being told.
    closing: DashMap<SessionId, Arc<SessionHandle>>,
    pending: AtomicU64,
    pending_limit: AtomicU64,
    /// Zero of [`SessionHandle::stalled`].
    epoch: Instant,
    /// Set when all are being closed: the window that was spread over.
    all_end: OnceLock<Duration>,
}

/// What the rest of the process knows of an open session, and where it leaves its orders.
#[derive(Debug)]
pub(crate) struct SessionHandle {
    /// The request id.
    pub(crate) id: SessionId,
    /// Label of the route; its index would be another in the next configuration.
    pub(crate) route: Arc<str>,
    /// What was known at the 101; the record of its end has it too.
    pub(crate) known: Arc<Facts>,
    /// When the 101 went out.
    pub(crate) opened: Instant,
    /// Messages and bytes.
    pub(crate) traffic: Traffic,
    /// Bytes held for slow readers, as counted in [`Registry::pending`].
    pending: AtomicU64,
    /// Milliseconds since the registry's epoch at which each side (client, upstream) began to make
    /// us wait; 0: it does not.
    stalled: [AtomicU64; 2],
    /// Seconds from the begin to the last data message, either way.
    last_data: AtomicU32,
    has_orders: AtomicBool,
    desk: Mutex<Desk>,
}

/// Where orders are left.
#[derive(Debug, Default)]
struct Desk {
    orders: Vec<Order>,
    /// Stays when it is used: the session registers once, and orders may come again and again.
    waker: Option<Waker>,
    /// The session looks at no more orders.
    is_closed: bool,
}

/// Until when a session's identity counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Lease {
    /// `None`: for as long as the session lives.
    pub(crate) until: Option<Instant>,
}

/// What a session is ordered from outside.
#[derive(Debug, Clone)]
pub(crate) enum Order {
    /// End like this.
    End(Ending),
    /// Ping the client now and say whether it lives.
    Probe(Arc<Probe>),
    /// Show every frame from now on.
    Trace(Arc<Trace>),
    /// Its lease is another.
    #[cfg_attr(not(test), expect(dead_code, reason = "no setting ends a session with its token"))]
    Lease(Lease),
}

impl Order {
    /// That a session has ended is an answer too.
    pub(crate) fn answer_if_asked(self) {
        match self {
            Self::End(_) | Self::Trace(_) | Self::Lease(_) => {}
            Self::Probe(probe) => probe.answer(),
        }
    }
}

/// A question to several sessions at once: is your client alive?
#[derive(Debug)]
pub(crate) struct Probe {
    unanswered: AtomicU64,
    /// Told whenever an answer comes.
    pub(crate) answered: Notify,
}

impl Probe {
    /// A question to this many sessions.
    pub(crate) fn new(sessions: usize) -> Arc<Self> {
        Arc::new(Self { unanswered: AtomicU64::new(sessions as u64), answered: Notify::new() })
    }

    /// One session's client lives, or its session has ended.
    pub(crate) fn answer(&self) {
        self.unanswered.fetch_sub(1, Ordering::AcqRel);
        self.answered.notify_waiters();
    }

    /// Whether all have answered.
    pub(crate) fn is_settled(&self) -> bool {
        self.unanswered.load(Ordering::Acquire) == 0
    }
}

/// A session's entry in the registry. However its task ends, the entry ends with it.
#[derive(Debug)]
pub(crate) struct Registered {
    registry: Arc<Registry>,
    handle: Arc<SessionHandle>,
}

impl Registered {
    /// The session.
    pub(crate) fn handle(&self) -> &Arc<SessionHandle> {
        &self.handle
    }

    /// The session relays no more: it is taken off the list and its bytes off the account. By its id it
    /// is found until the guard is dropped.
    pub(crate) fn closing(&self) {
        self.registry.closing.insert(self.handle.id, Arc::clone(&self.handle));
        self.registry.sessions.remove(&self.handle.id);
        self.registry.set_pending(&self.handle, 0);
        self.handle.close();
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.registry.sessions.remove(&self.handle.id);
        self.registry.closing.remove(&self.handle.id);
        self.registry.set_pending(&self.handle, 0);
        self.handle.close();
    }
}

impl SessionHandle {
    /// A handle for a session that begins now.
    pub(crate) fn new(known: Arc<Facts>, opened: Instant) -> Arc<Self> {
        Arc::new(Self {
            id: known.id,
            route: known.route.clone().unwrap_or_default(),
            known,
            opened,
            traffic: Traffic::default(),
            pending: AtomicU64::new(0),
            stalled: [AtomicU64::new(0), AtomicU64::new(0)],
            last_data: AtomicU32::new(0),
            has_orders: AtomicBool::new(false),
            desk: Mutex::default(),
        })
    }

    /// Leaves an order and wakes the session.
    pub(crate) fn order(&self, order: Order) {
        let mut desk = self.desk();
        if desk.is_closed {
            return order.answer_if_asked();
        }
        desk.orders.push(order);
        self.has_orders.store(true, Ordering::Release);
        if let Some(waker) = &desk.waker {
            waker.wake_by_ref();
        }
    }

    /// The orders left since the last call, oldest first.
    pub(crate) fn take_orders(&self) -> Vec<Order> {
        if !self.has_orders.load(Ordering::Acquire) {
            return Vec::new();
        }
        let mut desk = self.desk();
        self.has_orders.store(false, Ordering::Release);
        std::mem::take(&mut desk.orders)
    }

    /// The session has ended: whoever has asked it something, or still does, is answered.
    pub(crate) fn close(&self) {
        let mut desk = self.desk();
        desk.is_closed = true;
        desk.waker = None;
        for order in desk.orders.drain(..) {
            order.answer_if_asked();
        }
    }

    /// From now on has the task of `waker` polled whenever an order comes.
    pub(crate) fn wake_on_order(&self, waker: &Waker) {
        self.desk().waker = Some(waker.clone());
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this endpoint of this upstream has it.
    pub(crate) fn is_on(&self, upstream: &str, endpoint: &str) -> bool {
        self.known.upstream.as_deref() == Some(upstream)
            && self.known.endpoint.as_deref() == Some(endpoint)
    }

    /// Bytes held for slow readers.
    pub(crate) fn pending(&self) -> u64 {
        self.pending.load(Ordering::Relaxed)
    }

    /// A data message passed at `at`, or part of one. One store, as its time is known anyway.
    pub(crate) fn data_passed(&self, at: Instant) {
        let since = at.saturating_duration_since(self.opened).as_secs();
        self.last_data.store(u32::try_from(since).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// For how long no data message has passed, to the second.
    pub(crate) fn idle(&self, now: Instant) -> Duration {
        let last = Duration::from_secs(u64::from(self.last_data.load(Ordering::Relaxed)));
        now.saturating_duration_since(self.opened).saturating_sub(last)
    }
}

impl Registry {
    /// An empty registry; `pending_limit` in bytes.
    pub(crate) fn new(pending_limit: u64, now: Instant) -> Self {
        Self {
            sessions: DashMap::new(),
            closing: DashMap::new(),
            pending: AtomicU64::new(0),
            pending_limit: AtomicU64::new(pending_limit),
            epoch: now,
            all_end: OnceLock::new(),
        }
    }

    /// From now on all sessions together may hold this much for slow readers.
    pub(crate) fn set_pending_limit(&self, bytes: u64) {
        self.pending_limit.store(bytes, Ordering::Relaxed);
    }

    /// Lists a session until the guard is dropped. One that comes while all are being closed is closed
    /// as well.
    pub(crate) fn insert(self: &Arc<Self>, handle: Arc<SessionHandle>) -> Registered {
        self.sessions.insert(handle.id, Arc::clone(&handle));
        if let Some(window) = self.all_end.get() {
            handle.order(Order::End(late(*window)));
        }
        Registered { registry: Arc::clone(self), handle }
    }

    /// From now on no session stays open; the closes before were spread over `window`.
    pub(crate) fn close(&self, window: Duration) {
        // Fails only if it is closed already.
        let _ = self.all_end.set(window);
        for session in self.snapshot() {
            session.order(Order::End(late(window)));
        }
    }

    /// A session by id that is being closed.
    pub(crate) fn get_closing(&self, id: SessionId) -> Option<Arc<SessionHandle>> {
        self.closing.get(&id).map(|entry| Arc::clone(&entry))
    }

    /// Open sessions.
    pub(crate) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// A session by id.
    pub(crate) fn get(&self, id: SessionId) -> Option<Arc<SessionHandle>> {
        self.sessions.get(&id).map(|entry| Arc::clone(&entry))
    }

    /// All open sessions at this moment.
    pub(crate) fn snapshot(&self) -> Vec<Arc<SessionHandle>> {
        self.sessions.iter().map(|entry| Arc::clone(&entry)).collect()
    }

    /// Bytes all sessions together hold for slow readers.
    pub(crate) fn pending(&self) -> u64 {
        self.pending.load(Ordering::Relaxed)
    }

    /// Notes what a session holds now and for whom. When all together hold too much, the sides that
    /// have kept us waiting longest are ended, until what is left is within the limit.
    pub(crate) fn account(
        &self,
        handle: &SessionHandle,
        pending: u64,
        stalled: [Option<Instant>; 2],
    ) {
        for (slot, since) in handle.stalled.iter().zip(stalled) {
            slot.store(since.map_or(0, |since| self.millis(since)), Ordering::Relaxed);
        }
        let has_grown = self.set_pending(handle, pending);
        while has_grown && self.pending() > self.pending_limit.load(Ordering::Relaxed) {
            if !self.end_slowest() {
                return;
            }
        }
    }

    /// Ends the session whose slow side has kept us waiting longest; false when there is none.
    fn end_slowest(&self) -> bool {
        let slowest = self
            .sessions
            .iter()
            .filter(|entry| entry.pending() > 0)
            .filter_map(|entry| {
                let sides = [Side::Client, Side::Upstream].into_iter().zip(&entry.stalled);
                sides
                    .map(|(side, since)| (since.load(Ordering::Relaxed), side))
                    .filter(|(since, _)| *since > 0)
                    .min_by_key(|(since, _)| *since)
                    .map(|(since, side)| (since, side, Arc::clone(&entry)))
            })
            .min_by_key(|(since, _, _)| *since);
        let Some((_, side, handle)) = slowest else { return false };
        // Its bytes are as good as gone: whoever comes next must not end a second one for them.
        self.set_pending(&handle, 0);
        handle.order(Order::End(match side {
            Side::Client => Ending::SlowConsumer,
            Side::Upstream => Ending::UpstreamStalled(Silence::WriteStall),
        }));
        true
    }

    /// Books what a session holds; whether that is more than before.
    fn set_pending(&self, handle: &SessionHandle, pending: u64) -> bool {
        let before = handle.pending.swap(pending, Ordering::AcqRel);
        if pending >= before {
            self.pending.fetch_add(pending - before, Ordering::AcqRel);
        } else {
            self.pending.fetch_sub(before - pending, Ordering::AcqRel);
        }
        pending > before
    }

    fn millis(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.epoch).as_millis();
        u64::try_from(since).unwrap_or(u64::MAX).saturating_add(1)
    }
}

/// The end of a session that has had no turn in a drain.
fn late(window: Duration) -> Ending {
    Ending::Drained { retry: pacing::late(window, fastrand::u64(..)) }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::SystemTime;

    use super::*;

    fn open(registry: &Arc<Registry>, id: u64) -> Registered {
        registry.insert(handle(id))
    }

    fn handle(id: u64) -> Arc<SessionHandle> {
        let client = SocketAddr::from(([127, 0, 0, 1], 1));
        let now = SystemTime::UNIX_EPOCH;
        let known = Facts::new(SessionId::new(id), "l".into(), client, now);
        SessionHandle::new(Arc::new(known), Instant::now())
    }

    #[test]
    fn the_side_that_waits_longest_is_ended_when_memory_is_short() {
        let start = Instant::now();
        let registry = Arc::new(Registry::new(100, start));
        let guards = [open(&registry, 1), open(&registry, 2), open(&registry, 3)];
        let [old, young, fast] = guards.each_ref().map(|guard| Arc::clone(guard.handle()));
        let at = |seconds| Some(start + Duration::from_secs(seconds));
        registry.account(&old, 60, [None, at(1)]);
        registry.account(&young, 40, [at(2), None]);
        assert!(old.take_orders().is_empty());
        registry.account(&fast, 30, [None, None]);
        assert!(matches!(old.take_orders()[..], [Order::End(Ending::UpstreamStalled(_))]));
        assert!(young.take_orders().is_empty());
        assert_eq!(registry.pending(), 70);
        guards[0].closing();
        assert!(registry.get(old.id).is_none() && registry.get_closing(old.id).is_some());
        drop(guards);
        assert!(registry.get_closing(old.id).is_none());
        assert_eq!((registry.pending(), registry.len()), (0, 0));
    }

    #[test]
    fn the_last_data_message_is_known_to_the_second() {
        let session = handle(1);
        let at = |millis| session.opened + Duration::from_millis(millis);
        assert_eq!(session.idle(at(2500)), Duration::from_millis(2500));
        session.data_passed(at(2600));
        assert_eq!(session.idle(at(2600)), Duration::from_millis(600));
        assert_eq!(session.idle(at(62_600)), Duration::from_millis(60_600));
    }

    #[test]
    fn a_lower_limit_counts_for_sessions_that_are_open() {
        let start = Instant::now();
        let registry = Arc::new(Registry::new(100, start));
        let guard = open(&registry, 1);
        let session = guard.handle();
        registry.account(session, 60, [Some(start), None]);
        registry.set_pending_limit(60);
        registry.account(session, 59, [Some(start), None]);
        assert!(session.take_orders().is_empty());
        registry.account(session, 61, [Some(start), None]);
        assert!(matches!(session.take_orders()[..], [Order::End(Ending::SlowConsumer)]));
    }
}
