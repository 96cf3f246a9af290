//! Metrics and probes. No I/O.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Response, StatusCode};

use super::Context;
use super::reply::{Failure, plain, with};
use super::resource::{Action, Call, Resource, Takes, Verb};
use crate::gateway::Gateway;
use crate::gateway::guards::Access;
use crate::gateway::readiness::Unready;
use crate::telemetry::metrics::Metrics;

/// The scrape.
pub(crate) static METRICS: Resource =
    Resource { path: "/metrics", access: Access::Token, actions: &[get(metrics)] };

/// The process is alive.
pub(crate) static HEALTH: Resource =
    Resource { path: "/healthz", access: Access::Open, actions: &[get(health)] };

/// It should get connections.
pub(crate) static READY: Resource =
    Resource { path: "/readyz", access: Access::Open, actions: &[get(ready)] };

const fn get(handler: super::resource::Handler) -> Action {
    Action { verb: Verb::Get, query: Takes::Anything, handler }
}

fn metrics(Context { gateway, .. }: &Context, _: &Call) -> Result<Response<Bytes>, Failure> {
    let scrape = gateway.telemetry().metrics.render(|metrics| report_traffic(gateway, metrics));
    Ok(with(plain(StatusCode::OK, scrape.body), CONTENT_TYPE, scrape.content_type))
}

/// Adds to the metrics what open sessions have not reported yet.
pub(super) fn report_traffic(gateway: &Gateway, metrics: &Metrics) {
    let sessions = gateway.registry().snapshot();
    let unreported = sessions.iter().map(|s| (&*s.route, s.traffic.take_unreported()));
    metrics.add_traffic_by_label(unreported);
    metrics.set_pending_bytes(gateway.registry().pending.total());
}

fn health(_: &Context, _: &Call) -> Result<Response<Bytes>, Failure> {
    Ok(plain(StatusCode::OK, "ok\n"))
}

fn ready(Context { gateway, .. }: &Context, _: &Call) -> Result<Response<Bytes>, Failure> {
    Ok(tell_ready(&gateway.unready()))
}

/// 200, or 503 with a line for each reason.
pub(super) fn tell_ready(reasons: &[Unready]) -> Response<Bytes> {
    if reasons.is_empty() {
        return plain(StatusCode::OK, "ready\n");
    }
    let mut body = "not ready\n".to_owned();
    for reason in reasons {
        body.push_str(&format!("{reason}\n"));
    }
    plain(StatusCode::SERVICE_UNAVAILABLE, body)
}
