//! Whether a balancer should send clients here. No I/O.

use super::{Gateway, unix_now};
use crate::upstream::endpoint::Upstream;

/// A reason for not being ready. A single failed upstream is none: other routes still work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unready {
    /// The gateway is going down.
    #[error("draining")]
    Draining,
    /// A verifier has no key to check tokens with.
    #[error("verifier {0} has no keys")]
    NoKeys(String),
    /// No public listener takes connections.
    #[error("no listener is open")]
    NoListener,
    /// What is healthy gets nobody, because an operator wanted it so.
    #[error("all healthy endpoints are being emptied: framegate drain --undo takes them back")]
    EndpointsEmptied,
    /// All endpoints of all upstreams are unhealthy.
    #[error("no upstream has a healthy endpoint")]
    NoHealthyEndpoint,
}

impl Gateway {
    /// Why a balancer should send nobody here; empty: it may.
    pub(crate) fn unready(&self) -> Vec<Unready> {
        let mut reasons = Vec::new();
        if self.process.is_draining() {
            reasons.push(Unready::Draining);
        }
        if !self.process.is_listening() {
            reasons.push(Unready::NoListener);
        }
        let without = self.admission.without_keys(self.config(), unix_now());
        reasons.extend(without.into_iter().map(Unready::NoKeys));
        if !self.upstreams.iter().any(Upstream::has_healthy_endpoint) {
            let emptied = self.upstreams.iter().any(Upstream::would_have_healthy_endpoint);
            let reason =
                if emptied { Unready::EndpointsEmptied } else { Unready::NoHealthyEndpoint };
            reasons.push(reason);
        }
        reasons
    }
}
