//! The state of an upstream and its endpoints. No I/O but reading the CA file when built.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{self, RootCertStore};

use super::balance::{self, Candidate};
use crate::config::{self, Locations, Problem, Target};

/// An upstream with the state of its endpoints.
pub struct Upstream {
    /// Index in the configuration.
    pub index: usize,
    /// What the operator said.
    pub config: config::Upstream,
    /// In the order of the configuration.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// For `https` endpoints.
    pub tls: Option<TlsConnector>,
    turn: AtomicUsize,
}

/// One endpoint.
#[derive(Debug)]
pub struct Endpoint {
    /// Index within the upstream.
    pub index: usize,
    /// As typed.
    pub label: Arc<str>,
    /// How it is reached.
    pub target: Target,
    healthy: AtomicBool,
    sessions: AtomicUsize,
    last_error: Mutex<Option<String>>,
}

/// A session's place on an endpoint.
#[derive(Debug)]
pub struct EndpointPlace(Arc<Endpoint>);

impl Upstream {
    /// Builds the state; all endpoints count as healthy until a check says otherwise.
    pub fn new(
        index: usize,
        config: &config::Upstream,
        locations: &Locations,
    ) -> Result<Self, Problem> {
        let wants_tls =
            config.endpoints.iter().any(|endpoint| matches!(endpoint.target, Target::Https { .. }));
        let tls = wants_tls.then(|| connector(config, locations)).transpose()?;
        let endpoints = config.endpoints.iter().enumerate().map(|(index, endpoint)| {
            Arc::new(Endpoint {
                index,
                label: Arc::from(endpoint.label.as_str()),
                target: endpoint.target.clone(),
                healthy: AtomicBool::new(true),
                sessions: AtomicUsize::new(0),
                last_error: Mutex::new(None),
            })
        });
        let endpoints = endpoints.collect();
        Ok(Self { index, config: config.clone(), endpoints, tls, turn: AtomicUsize::new(0) })
    }

    /// Picks an endpoint that is not among `tried` and takes a place on it.
    pub fn pick(&self, tried: &[usize]) -> Option<(Arc<Endpoint>, EndpointPlace)> {
        let candidates: Vec<_> = self
            .endpoints
            .iter()
            .map(|endpoint| Candidate {
                healthy: endpoint.is_healthy(),
                sessions: endpoint.sessions(),
                tried: tried.contains(&endpoint.index),
            })
            .collect();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let endpoint =
            self.endpoints.get(balance::pick(self.config.balance, &candidates, turn)?)?;
        endpoint.sessions.fetch_add(1, Ordering::AcqRel);
        Some((Arc::clone(endpoint), EndpointPlace(Arc::clone(endpoint))))
    }

    /// Whether any endpoint may be up.
    pub fn has_healthy_endpoint(&self) -> bool {
        self.endpoints.iter().any(|endpoint| endpoint.is_healthy())
    }
}

impl Endpoint {
    /// Not known to be down.
    pub fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Acquire)
    }

    /// Sessions open or being opened.
    pub fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Acquire)
    }

    /// What the last failed check said.
    pub fn last_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes the result of a check; whether that changed the state.
    pub(crate) fn set_health(&self, healthy: bool, error: Option<String>) -> bool {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = error;
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
    let mut roots = RootCertStore::empty();
    let authorities = match &config.ca {
        Some(file) => crate::listener::tls::read_certificates(file)
            .map_err(|error| locations.problem(&path, error))?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    for authority in authorities {
        if let Err(error) = roots.add(authority)
            && config.ca.is_some()
        {
            return Err(locations.problem(&path, format!("not a usable authority: {error}")));
        }
    }
    if roots.is_empty() {
        let message = "no certificate authorities to check https endpoints with; \
                       install the system's or set `ca`";
        return Err(locations.problem(&path, message));
    }
    let mut client = rustls::ClientConfig::builder_with_provider(crate::listener::tls::provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| locations.problem(&path, error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(client)))
}
