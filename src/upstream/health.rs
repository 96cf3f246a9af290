//! Health checks: each endpoint is connected to now and then. I/O.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connect::{ConnectError, reach_transport};
use super::endpoint::{Endpoint, Upstream};
use crate::config::Health;
use crate::relay::Environment;
use crate::telemetry::Telemetry;
use crate::telemetry::labels::EndpointHealth;

/// Checks every endpoint of `upstream` until `stop`.
pub fn watch(
    upstream: &Upstream,
    environment: &Environment,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) {
    let Some(health) = &upstream.config.health else { return };
    for endpoint in &upstream.endpoints {
        let watch = Watch {
            upstream: upstream.index,
            endpoint: Arc::clone(endpoint),
            health: health.clone(),
            telemetry: Arc::clone(&environment.telemetry),
        };
        tasks.spawn(stop.clone().run_until_cancelled_owned(watch.run()));
    }
}

struct Watch {
    upstream: usize,
    endpoint: Arc<Endpoint>,
    health: Health,
    telemetry: Arc<Telemetry>,
}

impl Watch {
    async fn run(self) {
        let mut failures = 0_u32;
        loop {
            match self.check().await {
                Ok(()) => {
                    failures = 0;
                    self.found(true, None);
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    if failures >= self.health.fall {
                        self.found(false, Some(error.to_string()));
                    }
                }
            }
            // Jitter, so that gateways started together do not check together.
            tokio::time::sleep(self.health.interval.mul_f64(0.9 + 0.2 * fastrand::f64())).await;
        }
    }

    async fn check(&self) -> Result<(), ConnectError> {
        let limit: Duration = self.health.timeout;
        tokio::time::timeout(limit, reach_transport(&self.endpoint.target))
            .await
            .unwrap_or(Err(ConnectError::Timeout(limit)))
            .map(drop)
    }

    fn found(&self, healthy: bool, error: Option<String>) {
        if self.endpoint.set_health(healthy, error.clone()) {
            let health = if healthy { EndpointHealth::Healthy } else { EndpointHealth::Unhealthy };
            self.telemetry.endpoint_health_changed(
                self.upstream,
                self.endpoint.index,
                health,
                error.as_ref().map(|error| error as &dyn std::fmt::Display),
            );
        }
    }
}
