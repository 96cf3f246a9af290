//! The metrics of one upstream and its endpoints, resolved once.

use std::collections::HashSet;

use prometheus::{IntCounter, IntGauge};

use super::families::Families;
use crate::config::Upstream;
use crate::net::connect::ConnectFailure;

/// What is counted of an upstream.
#[derive(Debug)]
pub(super) struct UpstreamMetrics {
    /// `[upstreams.NAME]`, for log lines.
    pub(super) name: String,
    /// In the order of the configuration.
    pub(super) endpoints: Vec<EndpointMetrics>,
    connect_failures: Vec<(ConnectFailure, IntCounter)>,
}

/// What is counted of an endpoint.
#[derive(Debug)]
pub(super) struct EndpointMetrics {
    /// As typed in the configuration, for log lines.
    pub(super) label: String,
    pub(super) healthy: IntGauge,
    pub(super) sessions: IntGauge,
    pub(super) draining: IntGauge,
}

impl UpstreamMetrics {
    /// Resolves all handles. Unknown counts as healthy, so `upstream_healthy` starts at 1, unless the
    /// endpoint is among those `known`.
    pub(super) fn new(
        families: &Families,
        upstream: &Upstream,
        known: &HashSet<(&str, &str)>,
    ) -> Self {
        let name = upstream.name.as_str();
        let endpoint = |label: &str| {
            let healthy = families.upstream_healthy.with_label_values(&[name, label]);
            if !known.contains(&(name, label)) {
                healthy.set(1);
            }
            EndpointMetrics {
                label: label.to_owned(),
                healthy,
                sessions: families.upstream_sessions.with_label_values(&[name, label]),
                draining: families.upstream_draining.with_label_values(&[name, label]),
            }
        };
        let failure = |reason: &ConnectFailure| {
            let labels = [name, reason.as_str()];
            (*reason, families.upstream_connect_failures.with_label_values(&labels))
        };
        Self {
            name: name.to_owned(),
            endpoints: upstream.endpoints.iter().map(|e| endpoint(&e.label)).collect(),
            connect_failures: ConnectFailure::ALL.iter().map(failure).collect(),
        }
    }

    /// The labels of its endpoints' series: upstream and endpoint.
    pub(super) fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.endpoints.iter().map(|endpoint| (self.name.as_str(), endpoint.label.as_str()))
    }

    /// An attempt to connect failed.
    pub(super) fn connect_failed(&self, reason: ConnectFailure) {
        for (_, counter) in self.connect_failures.iter().filter(|(of, _)| *of == reason) {
            counter.inc();
        }
    }
}
