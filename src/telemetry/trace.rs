//! The lines of a trace: steps and frame headers of one connection, under the target `trace`.
//!
//! No payload, no token, no query: of a frame there is its header, of a request its path.

use std::time::Instant;

use super::Telemetry;
use super::events::label_before_an_answer;
use super::logging::TRACE;
use crate::outcome::blame::By;
use crate::protocol::ws::header::Header;
use crate::protocol::ws::violation::{Side, Violation};
use crate::session::id::SessionId;
use crate::session::record::{Facts, Outcome, SessionRecord, Steps};
use crate::session::trace::{Trace, Whom};
use crate::session::traffic::Direction;

impl Telemetry {
    /// An operator begins to watch somebody.
    pub(crate) fn trace_begun(&self, trace: &Trace, minutes: u64) {
        let (user, client) = match &trace.whom {
            Whom::User(user) => (Some(user.as_str()), None),
            Whom::Client(client) => (None, Some(tracing::field::display(client))),
        };
        tracing::info!(target: TRACE, trace = trace.id, user, client, minutes, "trace begun");
    }

    /// An operator has seen enough.
    pub(crate) fn trace_ended(&self, trace: u64) {
        tracing::info!(target: TRACE, trace, "trace ended");
    }

    /// Tells the steps that a connection has taken since the last call, if it is watched; it may be
    /// so only from now on, as its user has become known.
    pub(crate) fn steps_taken(&self, facts: &mut Facts) {
        let Some(trace) = self.traces.of(facts, Instant::now()) else { return };
        show_steps(&trace, facts, &facts.steps, usize::from(facts.traced_steps));
        facts.traced_steps = u8::try_from(facts.steps.taken().count()).unwrap_or(u8::MAX);
    }

    /// A session that is watched begins, or begins to be watched.
    pub(crate) fn session_traced(&self, trace: &Trace, facts: &Facts) {
        let (user, route) = (facts.user.as_deref(), facts.route.as_deref());
        let (client, endpoint) = (facts.client, facts.endpoint.as_deref());
        let subprotocol = facts.subprotocol.as_deref();
        tracing::info!(
            target: TRACE, trace = trace.id, id = %facts.id, %client, user, route, endpoint,
            subprotocol, "session traced"
        );
        show_steps(trace, facts, &facts.steps, usize::from(facts.traced_steps));
    }

    /// A frame of a watched session begins to pass, or is the gateway's own.
    pub(crate) fn frame_traced(
        &self,
        trace: &Trace,
        id: SessionId,
        (from, direction): (By, Direction),
        header: &Header,
    ) {
        let opcode = header.opcode.as_str();
        let (trace, fin, length) = (trace.id, header.fin, header.payload_len);
        let (from, direction) = (from.as_str(), direction.as_str());
        tracing::info!(target: TRACE, trace, %id, direction, from, opcode, fin, length, "frame");
    }

    /// A frame of a watched session is not passed on.
    pub(crate) fn frame_refused(
        &self,
        trace: &Trace,
        id: SessionId,
        from: Side,
        violation: Violation,
    ) {
        let (trace, violation, from) = (trace.id, violation.told(from), from.as_str());
        tracing::info!(target: TRACE, trace, %id, from, violation, "frame refused");
    }

    /// A connection that is watched is over.
    pub(super) fn end_traced(&self, record: &SessionRecord) {
        let Some(trace) = self.traces.of(record, Instant::now()) else { return };
        let (outcome, label, status) = match record.outcome {
            Outcome::Ended(label) => ("accepted", label, None),
            Outcome::Refused(refused) => ("refused", refused.label, Some(refused.status)),
            Outcome::Abandoned => ("abandoned", label_before_an_answer(record.by), None),
            Outcome::NoRequest(_) => ("no_request", label_before_an_answer(record.by), None),
        };
        // All but the last were shown when the session began, or began to be watched.
        let shown = match record.outcome {
            Outcome::Ended(_) => record.steps.taken().count().saturating_sub(1),
            _ => usize::from(record.traced_steps),
        };
        show_steps(&trace, record, &record.steps, shown);
        let (by, phase) = (record.by.as_str(), record.phase.as_str());
        let (client_close, upstream_close) = (record.client_close, record.upstream_close);
        tracing::info!(
            target: TRACE, trace = trace.id, id = %record.id, outcome, label = label.as_str(), by,
            phase, status, %client_close, %upstream_close, detail = record.detail, "connection over"
        );
    }
}

/// A line for each step but the first `shown`.
fn show_steps(trace: &Trace, facts: &Facts, steps: &Steps, shown: usize) {
    for (step, time) in steps.taken().skip(shown) {
        let ms = (time.as_secs_f64() * 1e6).round() / 1e3;
        let client = facts.client;
        let (host, path) = (facts.host.as_deref(), facts.path.as_deref());
        tracing::info!(
            target: TRACE, trace = trace.id, id = %facts.id, %client, host, path, step, ms, "step"
        );
    }
}
