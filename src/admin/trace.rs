//! Traces: watching one user or one address for some minutes. No I/O but the log's.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{Response, StatusCode};
use serde::Serialize;

use super::Context;
use super::reply::{Failure, json};
use super::resource::{Action, Call, Resource, Takes, Verb};
use super::views::rfc3339;
use crate::gateway::guards::Access;
use crate::session::registry::Order;
use crate::session::trace::{self, Trace, Whom};

/// All traces, and beginning one.
pub(crate) static ALL: Resource = Resource {
    path: "/api/trace",
    access: Access::Token,
    actions: &[
        Action { verb: Verb::Get, query: Takes::Only(&[]), handler: list },
        Action {
            verb: Verb::Post,
            query: Takes::Only(&["user", "client", "minutes"]),
            handler: begin,
        },
    ],
};

/// One of them.
pub(crate) static ONE: Resource = Resource {
    path: "/api/trace/{id}",
    access: Access::Token,
    actions: &[Action { verb: Verb::Delete, query: Takes::Only(&[]), handler: end }],
};

#[derive(Serialize)]
struct TraceView {
    id: u64,
    user: Option<String>,
    client: Option<IpAddr>,
    until: String,
}

#[derive(Serialize)]
struct List {
    traces: Vec<TraceView>,
}

#[derive(Serialize)]
struct Ended {
    ended: bool,
}

fn list(Context { gateway, .. }: &Context, _: &Call) -> Result<Response<Bytes>, Failure> {
    let traces = gateway.telemetry().traces.all(Instant::now());
    let traces = traces.iter().map(|trace| TraceView::of(trace)).collect();
    Ok(json(StatusCode::OK, &List { traces }))
}

fn begin(Context { gateway, .. }: &Context, call: &Call) -> Result<Response<Bytes>, Failure> {
    let whom = match (call.text("user"), call.text("client")) {
        (Some(user), None) if !user.is_empty() => Whom::User(user.to_owned()),
        (None, Some(client)) => Whom::Client(client.parse().map_err(|_| {
            Failure::bad(format!("client must be an IP address without port, not {client:?}"))
        })?),
        _ => return Err(Failure::bad("give either user or client".to_owned())),
    };
    let minutes: u64 = call.number("minutes", 1..=60)?.unwrap_or(5);
    let (now, at, length) = (Instant::now(), SystemTime::now(), Duration::from_secs(minutes * 60));
    let telemetry = gateway.telemetry();
    let trace =
        telemetry.traces.begin(whom, (now, now + length), at + length).ok_or_else(|| {
            let most = trace::MOST;
            Failure::conflict(format!(
                "there are {most} traces already: end one by DELETE /api/trace/ID"
            ))
        })?;
    telemetry.trace_begun(&trace, minutes);
    // Those that come from now on find it themselves.
    for session in gateway.registry().snapshot() {
        if trace.watches(&session.known) {
            session.order(Order::Trace(Arc::clone(&trace)));
        }
    }
    Ok(json(StatusCode::OK, &TraceView::of(&trace)))
}

fn end(Context { gateway, .. }: &Context, call: &Call) -> Result<Response<Bytes>, Failure> {
    let text = call.parameter("id");
    let id = text.parse().map_err(|_| Failure::bad(format!("{text:?} is no trace's number")))?;
    if !gateway.telemetry().traces.end(id, Instant::now()) {
        return Err(Failure::missing(format!(
            "no trace {id} is running; GET /api/trace lists them"
        )));
    }
    gateway.telemetry().trace_ended(id);
    Ok(json(StatusCode::OK, &Ended { ended: true }))
}

impl TraceView {
    fn of(trace: &Trace) -> Self {
        let (user, client) = match &trace.whom {
            Whom::User(user) => (Some(user.clone()), None),
            Whom::Client(client) => (None, Some(*client)),
        };
        Self { id: trace.id, user, client, until: rfc3339(trace.until) }
    }
}
