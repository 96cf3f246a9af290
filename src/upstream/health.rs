//! Health checks: each endpoint is connected to now and then. I/O.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::endpoint::{Check, Endpoint, Upstream};
use crate::config::Health;
use crate::net::connect::{ConnectError, reach_transport};
use crate::net::names::Names;
use crate::telemetry::Telemetry;
use crate::telemetry::labels::EndpointHealth;

/// The checks that run: one for each endpoint of a configuration that wants it. Dropping it ends them.
#[derive(Default)]
pub(crate) struct Checks(HashMap<Key, Running>);

/// Upstream and endpoint.
type Key = (String, Arc<str>);

struct Running {
    health: Health,
    _stop: DropGuard,
}

impl Checks {
    /// From now on checks the endpoints of these upstreams. A check that runs already and stays as it
    /// is goes on undisturbed; one that is no longer wanted ends.
    pub(crate) fn follow(
        &mut self,
        upstreams: &[Upstream],
        telemetry: &Arc<Telemetry>,
        tasks: &TaskTracker,
    ) {
        let mut before = std::mem::take(&mut self.0);
        for upstream in upstreams {
            for endpoint in &upstream.endpoints {
                let key = (upstream.config.name.clone(), Arc::clone(&endpoint.label));
                let running = before.remove(&key);
                let Some(health) = &upstream.config.health else {
                    // Nobody would ever find out that it is up again.
                    note(telemetry, endpoint, EndpointHealth::Healthy, None);
                    continue;
                };
                if running.is_none() {
                    // Whatever was known of it before, when another configuration had it, is old.
                    note(telemetry, endpoint, EndpointHealth::Healthy, None);
                }
                let running = running.filter(|running| running.health == *health);
                let begun = || Watch::new(upstream, endpoint, health, telemetry).begin(tasks);
                self.0.insert(key, running.unwrap_or_else(begun));
            }
        }
    }
}

struct Watch {
    names: Arc<Names>,
    endpoint: Arc<Endpoint>,
    health: Health,
    telemetry: Arc<Telemetry>,
}

impl Watch {
    fn new(
        upstream: &Upstream,
        endpoint: &Arc<Endpoint>,
        health: &Health,
        telemetry: &Arc<Telemetry>,
    ) -> Self {
        Self {
            names: Arc::clone(&upstream.names),
            endpoint: Arc::clone(endpoint),
            health: health.clone(),
            telemetry: Arc::clone(telemetry),
        }
    }

    fn begin(self, tasks: &TaskTracker) -> Running {
        let stop = CancellationToken::new();
        let health = self.health.clone();
        tasks.spawn(stop.clone().run_until_cancelled_owned(self.run()));
        Running { health, _stop: stop.drop_guard() }
    }

    async fn run(self) {
        let note = |health, error| {
            note(&self.telemetry, &self.endpoint, health, error);
        };
        loop {
            let began = Instant::now();
            let result = self.check().await;
            self.endpoint.state.checked(Check {
                at: Instant::now(),
                latency: result.is_ok().then(|| began.elapsed()),
                error: result.as_ref().err().map(ToString::to_string),
            });
            match result {
                Ok(()) => note(EndpointHealth::Healthy, None),
                // What was known of the endpoint before is still all that is known.
                Err(error) if error.is_ours() => {
                    self.telemetry.check_failed_here(self.endpoint.id, &error);
                }
                Err(error) => {
                    if self.endpoint.state.count_failure() >= self.health.fall {
                        note(EndpointHealth::Unhealthy, Some(error.to_string()));
                    }
                }
            }
            // Jitter, so that gateways started together do not check together.
            tokio::time::sleep(self.health.interval.mul_f64(0.9 + 0.2 * fastrand::f64())).await;
        }
    }

    async fn check(&self) -> Result<(), ConnectError> {
        let limit: Duration = self.health.timeout;
        tokio::time::timeout(limit, reach_transport(&self.endpoint.target, &self.names))
            .await
            .unwrap_or(Err(ConnectError::Timeout(limit)))
            .map(drop)
    }
}

/// Notes what is known of an endpoint, and reports it if that is news.
fn note(telemetry: &Telemetry, endpoint: &Endpoint, health: EndpointHealth, error: Option<String>) {
    if endpoint.state.set_health(health == EndpointHealth::Healthy) {
        let error = error.as_ref().map(|error| error as &dyn std::fmt::Display);
        telemetry.endpoint_health_changed(endpoint.id, health, error);
    }
}
