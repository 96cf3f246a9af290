//! Upstreams and the state of their endpoints. No I/O but reading the CA file when built.
//!
//! An [`Upstream`] belongs to one configuration; an endpoint's state outlives it ([`EndpointTable`]),
//! so that a reload forgets neither sessions nor health.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio_rustls::TlsConnector;

use super::balance::{self, Candidate};
use crate::config::{self, EndpointId, Locations, Problem, Target, UpstreamId};
use crate::net::names::Names;
use crate::net::tls::tls_connector;

/// An upstream, with the state of its endpoints.
pub(crate) struct Upstream {
    pub(crate) name: Arc<str>,
    /// What the operator said.
    pub(crate) config: config::Upstream,
    /// In the order of the configuration.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// For `https` endpoints.
    pub(crate) tls: Option<TlsConnector>,
    /// The addresses of their names.
    pub(crate) names: Arc<Names>,
    turn: AtomicUsize,
}

/// One endpoint.
#[derive(Debug)]
pub(crate) struct Endpoint {
    /// Which one of the configuration.
    pub(crate) id: EndpointId,
    /// As typed.
    pub(crate) label: Arc<str>,
    /// How it is reached.
    pub(crate) target: Target,
    /// What is known of it.
    pub(crate) state: Arc<EndpointState>,
}

/// What is known of an endpoint.
#[derive(Debug)]
pub(crate) struct EndpointState {
    healthy: AtomicBool,
    /// Checks that failed in a row.
    failures: AtomicU32,
    sessions: AtomicUsize,
    draining: AtomicBool,
    last_check: Mutex<Option<Check>>,
}

/// What the last check of an endpoint found.
#[derive(Debug, Clone)]
pub(crate) struct Check {
    /// When.
    pub(crate) at: Instant,
    /// How long connecting took, where it succeeded.
    pub(crate) latency: Option<Duration>,
    /// Why it did not.
    pub(crate) error: Option<String>,
}

/// The state of every endpoint that a configuration has or a session is on, by the upstream's name
/// and the endpoint's label.
#[derive(Debug, Default)]
pub(crate) struct EndpointTable(Mutex<HashMap<(String, String), Weak<EndpointState>>>);

/// A session's place on an endpoint.
#[derive(Debug)]
pub(crate) struct EndpointPlace(Arc<EndpointState>);

impl Upstream {
    /// Reads the CA file; an endpoint that `known` knows keeps its state.
    pub(crate) fn new(
        id: UpstreamId,
        config: &config::Upstream,
        locations: &Locations,
        known: &EndpointTable,
        names: &Arc<Names>,
    ) -> Result<Self, Problem> {
        let wants_tls =
            config.endpoints.iter().any(|endpoint| matches!(endpoint.target, Target::Https { .. }));
        let tls = wants_tls.then(|| connector(config, locations)).transpose()?;
        let endpoints = config.endpoints.iter().enumerate().map(|(index, endpoint)| {
            Arc::new(Endpoint {
                id: id.endpoint(index),
                label: Arc::from(endpoint.label.as_str()),
                target: endpoint.target.clone(),
                state: known.state(&config.name, &endpoint.label),
            })
        });
        let endpoints = endpoints.collect();
        let name = Arc::from(config.name.as_str());
        let names = Arc::clone(names);
        Ok(Self { name, config: config.clone(), endpoints, tls, names, turn: AtomicUsize::new(0) })
    }

    /// Picks an endpoint that is not among `tried` and takes a place on it.
    pub(crate) fn pick(&self, tried: &[EndpointId]) -> Option<(Arc<Endpoint>, EndpointPlace)> {
        let candidates: Vec<_> = self
            .endpoints
            .iter()
            .map(|endpoint| Candidate {
                healthy: endpoint.state.is_healthy(),
                draining: endpoint.state.is_draining(),
                sessions: endpoint.state.sessions(),
                tried: tried.contains(&endpoint.id),
            })
            .collect();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let endpoint =
            self.endpoints.get(balance::pick(self.config.balance, &candidates, turn)?)?;
        endpoint.state.sessions.fetch_add(1, Ordering::AcqRel);
        Some((Arc::clone(endpoint), EndpointPlace(Arc::clone(&endpoint.state))))
    }

    /// Whether any endpoint that takes new sessions may be up.
    pub(crate) fn has_healthy_endpoint(&self) -> bool {
        self.open_endpoints() > 0
    }

    /// Endpoints that take new sessions and may be up.
    pub(crate) fn open_endpoints(&self) -> usize {
        let states = self.endpoints.iter().map(|endpoint| &endpoint.state);
        states.filter(|state| state.is_healthy() && !state.is_draining()).count()
    }

    /// The same, if no endpoint were being emptied.
    pub(crate) fn would_have_healthy_endpoint(&self) -> bool {
        self.endpoints.iter().any(|endpoint| endpoint.state.is_healthy())
    }

    /// Why there is nobody to ask, when nobody has been asked.
    pub(crate) fn nobody(&self) -> &'static str {
        if self.endpoints.is_empty() {
            "it has no endpoint"
        } else {
            "all its endpoints are being emptied by an operator"
        }
    }
}

impl EndpointTable {
    /// The state of an endpoint; nothing is known of a new one.
    fn state(&self, upstream: &str, endpoint: &str) -> Arc<EndpointState> {
        let mut states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        states.retain(|_, state| state.strong_count() > 0);
        let key = (upstream.to_owned(), endpoint.to_owned());
        if let Some(state) = states.get(&key).and_then(Weak::upgrade) {
            return state;
        }
        let state = Arc::default();
        states.insert(key, Arc::downgrade(&state));
        state
    }
}

impl Default for EndpointState {
    /// Unknown, which counts as healthy.
    fn default() -> Self {
        Self {
            healthy: AtomicBool::new(true),
            failures: AtomicU32::new(0),
            sessions: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            last_check: Mutex::new(None),
        }
    }
}

impl EndpointState {
    /// Not known to be down.
    pub(crate) fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Acquire)
    }

    /// Sessions open or being opened.
    pub(crate) fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Acquire)
    }

    /// Being emptied by an operator: it gets no new sessions.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Begins or ends to empty it; whether that changed anything.
    pub(crate) fn set_draining(&self, draining: bool) -> bool {
        self.draining.swap(draining, Ordering::AcqRel) != draining
    }

    /// What the last check found; `None`: there was none.
    pub(crate) fn last_check(&self) -> Option<Check> {
        self.last_check.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes what a check found, which need not change the state.
    pub(super) fn checked(&self, check: Check) {
        *self.last_check.lock().unwrap_or_else(PoisonError::into_inner) = Some(check);
    }

    /// A check failed; how many in a row that makes.
    pub(super) fn count_failure(&self) -> u32 {
        self.failures.fetch_add(1, Ordering::AcqRel).saturating_add(1)
    }

    /// Notes what follows from checks; whether that changed the state.
    pub(crate) fn set_health(&self, healthy: bool) -> bool {
        if healthy {
            self.failures.store(0, Ordering::Release);
        }
        self.healthy.swap(healthy, Ordering::AcqRel) != healthy
    }
}

impl Drop for EndpointPlace {
    fn drop(&mut self) {
        self.0.sessions.fetch_sub(1, Ordering::AcqRel);
    }
}

fn connector(config: &config::Upstream, locations: &Locations) -> Result<TlsConnector, Problem> {
    let path = format!("upstreams.{}.ca", config.name);
    tls_connector(config.ca.as_deref()).map_err(|error| locations.problem(path, error))
}
