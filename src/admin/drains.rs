//! Closing a share of the sessions, and emptying an endpoint. No I/O.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use serde::Serialize;

use super::Context;
use super::reply::{Failure, json};
use super::resource::{Action, Call, Resource, Takes, Verb};
use crate::config::units;
use crate::gateway::guards::Access;
use crate::gateway::{Gateway, sheds};
use crate::upstream::endpoint::{Endpoint, Upstream};

/// A share of all sessions.
pub(crate) static SHARE: Resource = Resource {
    path: "/api/drain",
    access: Access::Token,
    actions: &[Action {
        verb: Verb::Post,
        query: Takes::Only(&["percent", "window"]),
        handler: shed,
    }],
};

/// The sessions of an endpoint.
pub(crate) static ENDPOINT: Resource = Resource {
    path: "/api/upstreams/{name}/endpoints/{n}/drain",
    access: Access::Token,
    actions: &[
        Action { verb: Verb::Post, query: Takes::Only(&["window"]), handler: empty },
        Action { verb: Verb::Delete, query: Takes::Only(&[]), handler: fill },
    ],
};

#[derive(Serialize)]
struct Shed {
    sessions: usize,
    window_s: f64,
}

#[derive(Serialize)]
struct EndpointDrain<'a> {
    upstream: &'a str,
    endpoint: &'a str,
    draining: bool,
    sessions: usize,
    /// Endpoints of the upstream that new sessions can go to.
    left: usize,
}

fn shed(Context { gateway, .. }: &Context, call: &Call) -> Result<Response<Bytes>, Failure> {
    let Some(percent) = call.number("percent", 0.0..=100.0)? else {
        return Err(Failure::bad("say how much: percent=20 closes a fifth of the sessions".into()));
    };
    let window = window(gateway, call)?;
    check_stays_up(gateway)?;
    let sessions = sheds::shed(gateway, percent, window);
    Ok(json(StatusCode::OK, &Shed { sessions, window_s: window.as_secs_f64() }))
}

fn empty(Context { gateway, .. }: &Context, call: &Call) -> Result<Response<Bytes>, Failure> {
    let (upstream, endpoint) = find(gateway, call)?;
    let window = window(gateway, call)?;
    check_stays_up(gateway)?;
    let sessions = sheds::empty(gateway, upstream, endpoint, window);
    Ok(tell(upstream, endpoint, sessions))
}

fn fill(Context { gateway, .. }: &Context, call: &Call) -> Result<Response<Bytes>, Failure> {
    let (upstream, endpoint) = find(gateway, call)?;
    sheds::fill(gateway, upstream, endpoint);
    Ok(tell(upstream, endpoint, endpoint.state.sessions()))
}

fn tell(upstream: &Upstream, endpoint: &Endpoint, sessions: usize) -> Response<Bytes> {
    let (draining, left) = (endpoint.state.is_draining(), upstream.open_endpoints());
    let (upstream, endpoint) = (&*upstream.name, &*endpoint.label);
    json(StatusCode::OK, &EndpointDrain { upstream, endpoint, draining, sessions, left })
}

/// The endpoint that the path names.
fn find<'a>(
    gateway: &'a Gateway,
    call: &Call,
) -> Result<(&'a Upstream, &'a Arc<Endpoint>), Failure> {
    let name = call.parameter("name");
    let Some(upstream) = gateway.upstreams().iter().find(|upstream| *upstream.name == *name) else {
        let names: Vec<_> = gateway.upstreams().iter().map(|upstream| &*upstream.name).collect();
        let names = names.join(", ");
        return Err(Failure::missing(format!(
            "no upstream is called {name:?}; there are: {names}"
        )));
    };
    let n = call.parameter("n");
    let endpoint = n.parse().ok().and_then(|n: usize| upstream.endpoints.get(n));
    endpoint.map(|endpoint| (upstream, endpoint)).ok_or_else(|| {
        let count = upstream.endpoints.len();
        Failure::missing(format!(
            "upstream {name} has no endpoint {n:?}; it has {count}, counted from 0 in the order of the configuration"
        ))
    })
}

/// How long to take over it; `drain.window` unless said.
fn window(gateway: &Gateway, call: &Call) -> Result<Duration, Failure> {
    let Some(text) = call.text("window") else { return Ok(gateway.config().drain.window) };
    units::duration(text).map_err(|error| Failure::bad(format!("window is {text:?}: it {error}")))
}

/// A gateway that goes down closes all sessions anyway.
fn check_stays_up(gateway: &Gateway) -> Result<(), Failure> {
    if gateway.process().is_draining() {
        let error = "the gateway is going down already and closes every session";
        return Err(Failure::conflict(error.to_owned()));
    }
    Ok(())
}
