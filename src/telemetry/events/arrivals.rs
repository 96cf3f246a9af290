//! What happens before a connection says anything. I/O.

use std::fmt::Display;
use std::net::IpAddr;
use std::time::Instant;

use crate::outcome::blame::Phase;
use crate::session::record::Facts;
use crate::telemetry::Telemetry;
use crate::telemetry::labels::DropReason;

impl Telemetry {
    /// A connection was closed right after accept, without an answer.
    pub(crate) fn connection_dropped(&self, listener: &str, client: IpAddr, reason: DropReason) {
        self.metrics.handshakes(None).dropped.inc();
        self.metrics.families.connections_dropped.with_label_values(&[reason.as_str()]).inc();
        match reason {
            DropReason::NoPlace => tracing::debug!(
                listener,
                %client,
                "connection dropped: no place is left, even to refuse it"
            ),
            DropReason::RateLimited => tracing::debug!(
                listener,
                %client,
                "connection dropped before its TLS handshake: the address is over limits.handshakes_per_address"
            ),
        }
    }

    /// A private address was refused for its limits, and no trusted proxy stands there as far as is known.
    pub(crate) fn proxy_suspected(&self, listener: &str, client: IpAddr) {
        tracing::warn!(
            listener,
            %client,
            "a private address is over its limits: if a balancer stands there, name it in trusted_proxies, so that limits count its clients"
        );
    }

    /// A handshake takes long: what it waits for.
    pub(crate) fn handshake_slow(&self, facts: &Facts) {
        tracing::info!(
            id = %facts.id,
            client = %facts.client,
            route = facts.route.as_deref(),
            user = facts.user.as_deref(),
            endpoint = facts.endpoint.as_deref(),
            step = waits_for(facts).as_str(),
            "a handshake takes long"
        );
    }

    /// The listener could not accept; `error` is usually a lack of file descriptors.
    pub(crate) fn accept_failed(&self, listener: &str, error: &dyn Display) {
        self.metrics.accept_failed(listener);
        if let Some(suppressed) = self.throttles.accept.pass(Instant::now()) {
            tracing::warn!(listener, %error, suppressed, "a connection could not be accepted");
        }
    }
}

/// Where a handshake is that is being decided.
pub(crate) fn waits_for(facts: &Facts) -> Phase {
    if facts.upstream.is_some() { Phase::Connect } else { Phase::Admission }
}
