//! What operators see: metrics, access log, diagnostics.
//!
//! The rest of the gateway reports domain events ([`Telemetry`]'s methods in [`events`]); each event
//! does metrics and log together, so that they never disagree. Only this module knows prometheus.
//! Labels come from closed sets ([`labels`]); tokens, query strings and payloads reach neither a
//! label nor a line.

use std::sync::Arc;

use crate::config::Config;
use crate::session::recent::Recent;
use crate::session::trace::Traces;

use self::access_log::AccessSwitch;
use self::events::Throttles;
use self::metrics::Metrics;

pub(crate) mod access_log;
pub(crate) mod escape;
pub(crate) mod events;
mod families;
mod key_metrics;
pub(crate) mod labels;
pub(crate) mod logging;
pub(crate) mod metrics;
pub(crate) mod reading;
mod route_metrics;
mod throttle;
mod trace;
mod upstream_metrics;
mod zeros;

#[cfg(test)]
pub(crate) mod testing;

/// Metrics and access log of one gateway, as one of its configurations wants them; several can live in
/// one process. Shared behind an `Arc`.
#[derive(Debug)]
pub(crate) struct Telemetry {
    /// Gauges and counters, for guards and for the scrape.
    pub(crate) metrics: Metrics,
    /// The same for all configurations: a log has one form, whoever writes to it.
    access: Arc<AccessSwitch>,
    /// Connections that are over, whatever configuration they had.
    pub(crate) recent: Arc<Recent>,
    /// Who is watched.
    pub(crate) traces: Arc<Traces>,
    throttles: Throttles,
}

impl Telemetry {
    /// Fresh counters for the routes, upstreams and listeners of `config`.
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            metrics: Metrics::new(config),
            access: Arc::new(AccessSwitch::new(&config.log)),
            recent: Arc::default(),
            traces: Arc::default(),
            throttles: Throttles::new(config.upstreams.len()),
        }
    }

    /// The same counters for the routes, upstreams and listeners of the next configuration.
    pub(crate) fn renewed(&self, config: &Config) -> Self {
        self.access.set(&config.log);
        Self {
            metrics: self.metrics.renewed(config),
            access: Arc::clone(&self.access),
            recent: Arc::clone(&self.recent),
            traces: Arc::clone(&self.traces),
            throttles: Throttles::new(config.upstreams.len()),
        }
    }
}
