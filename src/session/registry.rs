//! The sessions that are open, so that they can be counted, ended and shown. No I/O.
//!
//! A session is ended from outside by leaving an [`Order`] in its [`SessionHandle`]; its own task
//! carries it out. Bytes kept for slow peers are accounted in [`super::pending`].

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use tokio::sync::Notify;

use super::id::SessionId;
use super::limiter::Eviction;
use super::pacing;
use super::pending::{Account, Holder, Pending};
use super::record::Facts;
use super::trace::Trace;
use super::traffic::Traffic;
use crate::outcome::settle::Ending;

/// All open sessions.
#[derive(Debug)]
pub(crate) struct Registry {
    sessions: DashMap<SessionId, Arc<SessionHandle>>,
    /// Those that relay no more and whose peers are being told.
    closing: DashMap<SessionId, Arc<SessionHandle>>,
    /// What they hold for peers that make them wait.
    pub(crate) pending: Pending,
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
    /// Bytes held for slow peers, as counted in [`Registry::pending`].
    account: Account,
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
    /// Make room for a newer session of the user.
    Evict(Box<Eviction>),
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
            Self::End(_) | Self::Evict(_) | Self::Trace(_) | Self::Lease(_) => {}
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
        self.registry.pending.close(&*self.handle);
        self.handle.close();
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.registry.sessions.remove(&self.handle.id);
        self.registry.closing.remove(&self.handle.id);
        self.registry.pending.close(&*self.handle);
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
            account: Account::default(),
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

    /// Bytes held for slow peers.
    pub(crate) fn pending(&self) -> u64 {
        self.account.bytes()
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

impl Holder for SessionHandle {
    fn id(&self) -> SessionId {
        self.id
    }

    fn account(&self) -> &Account {
        &self.account
    }

    fn give_way(&self, ending: Ending) {
        self.order(Order::End(ending));
    }
}

impl Registry {
    /// An empty registry; `pending_limit` in bytes.
    pub(crate) fn new(pending_limit: u64, now: Instant) -> Self {
        Self {
            sessions: DashMap::new(),
            closing: DashMap::new(),
            pending: Pending::new(pending_limit, now),
            all_end: OnceLock::new(),
        }
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

    /// All open sessions at this moment that are `wanted`, found on a thread that relays nothing.
    pub(crate) async fn find(
        self: &Arc<Self>,
        wanted: impl Fn(&SessionHandle) -> bool + Send + 'static,
    ) -> Vec<Arc<SessionHandle>> {
        let registry = Arc::clone(self);
        let found = tokio::task::spawn_blocking(move || {
            let mut sessions = registry.snapshot();
            sessions.retain(|session| wanted(session));
            sessions
        });
        // Fails only if the process is going down.
        found.await.unwrap_or_default()
    }

    /// All open sessions at this moment. It takes milliseconds where there are many.
    pub(crate) fn snapshot(&self) -> Vec<Arc<SessionHandle>> {
        self.sessions.iter().map(|entry| Arc::clone(&entry)).collect()
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
    use crate::session::pending::Held;

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
    fn a_session_is_listed_until_it_closes_and_found_until_its_guard_is_dropped() {
        let registry = Arc::new(Registry::new(100, Instant::now()));
        let guard = open(&registry, 1);
        let session = Arc::clone(guard.handle());
        let held = Held { bytes: 60, ..Held::default() };
        registry.pending.account(&session, held, Instant::now());
        assert_eq!((registry.pending.total(), session.pending(), registry.len()), (60, 60, 1));
        guard.closing();
        assert!(registry.get(session.id).is_none() && registry.get_closing(session.id).is_some());
        assert_eq!((registry.pending.total(), session.pending(), registry.len()), (0, 0, 0));
        drop(guard);
        assert!(registry.get_closing(session.id).is_none());
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
}
