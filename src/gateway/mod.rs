//! The gateway: one configuration at work. Immutable; what changes is in its [`Process`].
//!
//! The spine is two functions: [`connection::serve`] carries a connection from accept to its end, and
//! [`Gateway::handle`] (in [`exchange`]) decides on one request. [`refusal`] sends a refusal, [`own`]
//! answers for the gateway itself, [`accept`] and [`idle`] hand out the places of sockets.

use std::sync::Arc;
use std::time::SystemTime;

use tokio_util::task::TaskTracker;

use crate::admission::Admission;
use crate::admission::jwks::KeySource;
use crate::config::Config;
use crate::listener::{Listener, ListenerKey};
use crate::relay::Environment;
use crate::route::Router;
use crate::session::id::SessionId;
use crate::session::registry::Registry;
use crate::telemetry::Telemetry;
use crate::upstream::endpoint::Upstream;

use guards::Guards;
pub(crate) use loaded::Loaded;
use process::Process;

pub(crate) mod accept;
mod connection;
mod exchange;
mod forward;
pub(crate) mod guards;
mod idle;
mod loaded;
mod own;
pub(crate) mod process;
pub(crate) mod readiness;
mod refusal;
pub(crate) mod sheds;

/// Everything a request needs from its head to its session. It is decided by the one in force when its
/// head arrives.
#[derive(Clone)]
pub(crate) struct Gateway {
    process: Arc<Process>,
    environment: Arc<Environment>,
    router: Arc<Router>,
    admission: Arc<Admission>,
    upstreams: Arc<Vec<Upstream>>,
    listeners: Vec<Arc<Listener>>,
    guards: Option<Arc<Guards>>,
    /// Names that no client's header may have.
    reserved_headers: Arc<[String]>,
}

impl Gateway {
    /// Puts what was read to work.
    pub(crate) fn new(loaded: Loaded, process: Arc<Process>, telemetry: Telemetry) -> Arc<Self> {
        let Loaded { config, admission, upstreams, listeners, guards, .. } = loaded;
        Arc::new(Self {
            router: Arc::new(config.router()),
            admission: Arc::new(admission),
            upstreams: Arc::new(upstreams),
            listeners,
            guards: guards.map(Arc::new),
            reserved_headers: config.reserved_headers().into(),
            environment: Arc::new(Environment {
                _in_use: telemetry.metrics.configuration(),
                telemetry: Arc::new(telemetry),
                registry: Arc::clone(&process.registry),
                abort: process.abort.clone(),
                config: Arc::new(config),
            }),
            process,
        })
    }

    /// The same with other certificates.
    pub(crate) fn with_listeners(&self, listeners: Vec<Arc<Listener>>) -> Arc<Self> {
        Arc::new(Self { listeners, ..self.clone() })
    }

    /// The configuration.
    pub(crate) fn config(&self) -> &Config {
        &self.environment.config
    }

    /// Metrics and logs.
    pub(crate) fn telemetry(&self) -> &Arc<Telemetry> {
        &self.environment.telemetry
    }

    /// What sessions share.
    pub(crate) fn environment(&self) -> &Arc<Environment> {
        &self.environment
    }

    /// What outlives this configuration.
    pub(crate) fn process(&self) -> &Arc<Process> {
        &self.process
    }

    /// Open sessions, of other configurations too.
    pub(crate) fn registry(&self) -> &Arc<Registry> {
        &self.process.registry
    }

    /// The upstreams, with the state of their endpoints.
    pub(crate) fn upstreams(&self) -> &[Upstream] {
        &self.upstreams
    }

    /// Who may connect.
    pub(crate) fn admission(&self) -> &Admission {
        &self.admission
    }

    /// Where published keys come from.
    pub(crate) fn key_sources(&self) -> impl Iterator<Item = &Arc<KeySource>> {
        self.admission.key_sources()
    }

    /// The public listeners.
    pub(crate) fn listeners(&self) -> &[Arc<Listener>] {
        &self.listeners
    }

    /// Tells the metrics how long the certificates served are valid.
    pub(crate) fn certificates_loaded(&self) {
        let served = self.listeners.iter().filter_map(|listener| listener.tls.as_ref());
        self.telemetry().certificates_loaded(served.flat_map(|tls| tls.certificates()));
    }

    /// The certificates served: their names, and what they are.
    pub(crate) fn certificates(&self) -> Vec<(String, Vec<u8>)> {
        let served = self.listeners.iter().filter_map(|listener| listener.tls.as_ref());
        let leaves = served.flat_map(|tls| tls.leaves());
        leaves.map(|(name, leaf)| (name.to_owned(), leaf.to_owned())).collect()
    }

    /// What this configuration says of a socket.
    pub(crate) fn listener(&self, key: &ListenerKey) -> Option<&Arc<Listener>> {
        self.listeners.iter().find(|listener| listener.key == *key)
    }

    /// The rules for callers of the admin listener, where there is one.
    pub(crate) fn guards(&self) -> Option<&Guards> {
        self.guards.as_deref()
    }

    /// Every task of the process, so that its end can be waited for.
    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.process.tasks
    }

    /// A fresh id.
    pub(crate) fn new_id(&self) -> SessionId {
        SessionId::new(fastrand::u64(..))
    }
}

/// Seconds since 1970.
fn unix_now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
