//! What lives as long as the process, whatever configuration is in force. No I/O.
//!
//! A [`Gateway`] is one configuration at work and never changes; a reload puts another in its place
//! ([`Current`]). What must not be forgotten then is here: open sessions, the counts of users,
//! addresses and endpoints, tasks, and how far the process is on its way down.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use dashmap::DashSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Gateway;
use super::idle::IdleConnections;
use super::sheds::Sheds;
use crate::admission::jwks::SourceTable;
use crate::admission::limits::{AddressTable, ConnectionPools};
use crate::admission::users::UserTable;
use crate::config::ProcessLimits;
use crate::fetch;
use crate::net::names::Names;
use crate::session::connecting::Handshakes;
use crate::session::registry::Registry;
use crate::upstream::endpoint::EndpointTable;

/// The memory of the process.
pub(crate) struct Process {
    /// Open sessions.
    pub(crate) registry: Arc<Registry>,
    /// Handshakes that are being decided.
    pub(crate) connecting: Arc<Handshakes>,
    /// Places of the process.
    pub(crate) connections: ConnectionPools,
    /// Places per address.
    pub(crate) addresses: Arc<AddressTable>,
    /// Places per user.
    pub(crate) users: Arc<UserTable>,
    /// The addresses of upstreams' and issuers' names.
    pub(crate) names: Arc<Names>,
    /// The gateway's own requests.
    pub(crate) fetch: fetch::Client,
    /// The state of endpoints.
    pub(crate) endpoints: EndpointTable,
    /// Keys that issuers publish.
    pub(crate) key_sources: SourceTable,
    /// Sessions that an operator has closed.
    pub(crate) sheds: Sheds,
    /// Every task that must end before the process does.
    pub(crate) tasks: TaskTracker,
    /// Open sockets, and connections whose request is not decided on: a drain lets them finish.
    pub(crate) handshakes: TaskTracker,
    /// Cancelled when there is no more time for orderly ends.
    pub(crate) abort: CancellationToken,
    /// What is wrong with certificates whose files have changed: others are served meanwhile.
    certificate_faults: Mutex<Vec<String>>,
    /// Kept connections that wait for a further request.
    pub(crate) idle: Arc<IdleConnections>,
    /// Cancelled when every handshake is refused: kept connections end.
    pub(crate) no_more_requests: CancellationToken,
    /// Listeners before which an unknown balancer seems to stand, as was said.
    pub(crate) suspected: DashSet<Arc<str>>,
    is_draining: AtomicBool,
    refuses_requests: AtomicBool,
    is_listening: AtomicBool,
}

impl Process {
    /// Nothing open, nobody known.
    pub(crate) fn new(limits: &ProcessLimits) -> Arc<Self> {
        let registry = Arc::new(Registry::new(limits.pending_bytes, Instant::now()));
        let names = Names::of_system();
        Arc::new(Self {
            users: Arc::new(UserTable::new(Arc::clone(&registry))),
            registry,
            fetch: fetch::Client::new(Arc::clone(&names)),
            names,
            connecting: Arc::default(),
            connections: ConnectionPools::default(),
            addresses: Arc::default(),
            endpoints: EndpointTable::default(),
            key_sources: SourceTable::default(),
            sheds: Sheds::default(),
            tasks: TaskTracker::new(),
            handshakes: TaskTracker::new(),
            abort: CancellationToken::new(),
            certificate_faults: Mutex::default(),
            idle: Arc::default(),
            no_more_requests: CancellationToken::new(),
            suspected: DashSet::new(),
            is_draining: AtomicBool::new(false),
            refuses_requests: AtomicBool::new(false),
            is_listening: AtomicBool::new(false),
        })
    }

    /// What was found wrong when certificates were last looked at.
    pub(crate) fn certificate_faults(&self) -> Vec<String> {
        self.certificate_faults.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is wrong with them now.
    pub(crate) fn set_certificate_faults(&self, faults: Vec<String>) {
        *self.certificate_faults.lock().unwrap_or_else(PoisonError::into_inner) = faults;
    }

    /// From now on not ready (the first step of a drain).
    pub(crate) fn begin_drain(&self) {
        self.is_draining.store(true, Ordering::Release);
    }

    /// Whether the process goes down.
    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Acquire)
    }

    /// From now on every handshake is refused with `draining`.
    pub(crate) fn refuse_requests(&self) {
        self.refuses_requests.store(true, Ordering::Release);
        self.no_more_requests.cancel();
    }

    /// Whether every handshake is refused.
    pub(crate) fn refuses_requests(&self) -> bool {
        self.refuses_requests.load(Ordering::Acquire)
    }

    /// Whether public listeners take connections.
    pub(crate) fn set_listening(&self, listening: bool) {
        self.is_listening.store(listening, Ordering::Release);
    }

    /// Whether public listeners take connections.
    pub(crate) fn is_listening(&self) -> bool {
        self.is_listening.load(Ordering::Acquire)
    }
}

/// The gateway in force. Clones see the same one.
#[derive(Clone)]
pub(crate) struct Current(Arc<RwLock<Arc<Gateway>>>);

impl Current {
    /// `gateway` is the first.
    pub(crate) fn new(gateway: Arc<Gateway>) -> Self {
        Self(Arc::new(RwLock::new(gateway)))
    }

    /// From now on `gateway` is in force.
    pub(crate) fn replace(&self, gateway: Arc<Gateway>) {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *current, gateway);
        drop(current);
        drop(before);
    }

    /// The gateway in force; whoever has it may keep it, and goes on with it.
    pub(crate) fn gateway(&self) -> Arc<Gateway> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}
