//! Going down, and closing some sessions while others are served: metrics and log together.

use std::time::Duration;

use crate::config::EndpointId;
use crate::telemetry::Telemetry;
use crate::telemetry::metrics::unix_now;

/// The gateway itself.
impl Telemetry {
    /// The gateway begins to go down: not ready from now on, serving for `announce`, gone after `limit`.
    pub(crate) fn drain_announced(&self, announce: Duration, limit: Duration) {
        let families = &self.metrics.families;
        families.draining.set(1);
        let limit = i64::try_from(limit.as_secs()).unwrap_or(i64::MAX);
        families.drain_deadline.set(unix_now().saturating_add(limit).saturating_add(1));
        if !announce.is_zero() {
            let announce = announce.as_secs_f64();
            tracing::info!(announce_seconds = announce, "going down, but serving until then");
        }
    }

    /// The gateway closes the sessions that are open, so many.
    pub(crate) fn drain_started(&self, sessions: usize, window: Duration) {
        let window = window.as_secs_f64();
        tracing::info!(sessions, window_seconds = window, "drain started");
    }

    /// The drain is over; so many sessions had to be aborted.
    pub(crate) fn drain_finished(&self, aborted: usize) {
        if aborted == 0 {
            tracing::info!("drain finished, every session was closed");
        } else {
            tracing::warn!(aborted, "drain finished, sessions that would not end were aborted");
        }
    }
}

/// What an operator has closed.
impl Telemetry {
    /// So many sessions are being closed to lighten the load.
    pub(crate) fn shed_started(&self, sessions: usize, window: Duration) {
        let window = window.as_secs_f64();
        tracing::info!(sessions, window_seconds = window, "sessions are being shed");
    }

    /// A shed is over.
    pub(crate) fn shed_finished(&self) {
        tracing::info!("every session to be shed has been told to close");
    }

    /// An operator has stopped a shed: so many sessions were told to close, the others stay.
    pub(crate) fn shed_stopped(&self, told: usize, left: usize) {
        tracing::info!(told, left, "shedding was stopped");
    }

    /// The same, because another shed or the end of the gateway takes its place.
    pub(crate) fn shed_replaced(&self, told: usize, left: usize) {
        tracing::info!(told, left, "shedding was replaced by another");
    }

    /// An endpoint gets no new sessions, and those on it are being closed.
    pub(crate) fn endpoint_drain_started(&self, id: EndpointId, sessions: usize, window: Duration) {
        let Some(group) = self.metrics.upstream(id.upstream) else { return };
        let Some(metrics) = group.endpoints.get(id.index) else { return };
        metrics.draining.set(1);
        let (upstream, endpoint) = (group.name.as_str(), metrics.label.as_str());
        let window = window.as_secs_f64();
        tracing::info!(
            upstream,
            endpoint,
            sessions,
            window_seconds = window,
            "an endpoint is being emptied and gets no new sessions"
        );
    }

    /// No session is left on an endpoint that is being emptied.
    pub(crate) fn endpoint_emptied(&self, id: EndpointId) {
        let Some(group) = self.metrics.upstream(id.upstream) else { return };
        let Some(metrics) = group.endpoints.get(id.index) else { return };
        let (upstream, endpoint) = (group.name.as_str(), metrics.label.as_str());
        tracing::info!(upstream, endpoint, "an endpoint is empty: it can be taken away");
    }

    /// An endpoint gets new sessions again.
    pub(crate) fn endpoint_drain_ended(&self, id: EndpointId) {
        let Some(group) = self.metrics.upstream(id.upstream) else { return };
        let Some(metrics) = group.endpoints.get(id.index) else { return };
        metrics.draining.set(0);
        let (upstream, endpoint) = (group.name.as_str(), metrics.label.as_str());
        tracing::info!(upstream, endpoint, "an endpoint gets new sessions again");
    }
}
