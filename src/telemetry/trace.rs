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
use crate::session::record::{Outcome, SessionRecord};
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
    pub(crate) fn steps_taken(&self, record: &mut SessionRecord) {
        let Some(trace) = self.traces.of(record, Instant::now()) else { return };
        tell_steps(&trace, record, usize::from(record.traced_steps));
        record.traced_steps = u8::try_from(record.steps.taken().count()).unwrap_or(u8::MAX);
    }

    /// A session that is watched begins, or begins to be watched.
    pub(crate) fn session_traced(&self, trace: &Trace, record: &SessionRecord) {
        let (user, route) = (record.user.as_deref(), record.route.as_deref());
        let (client, endpoint) = (record.client, record.endpoint.as_deref());
        let subprotocol = record.subprotocol.as_deref();
        tracing::info!(
            target: TRACE, trace = trace.id, id = %record.id, %client, user, route, endpoint,
            subprotocol, "session traced"
        );
        tell_steps(trace, record, usize::from(record.traced_steps));
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
        // All but the last were told when the session began, or began to be watched.
        let told = match record.outcome {
            Outcome::Ended(_) => record.steps.taken().count().saturating_sub(1),
            _ => usize::from(record.traced_steps),
        };
        tell_steps(&trace, record, told);
        let (by, phase) = (record.by.as_str(), record.phase.as_str());
        let (client_close, upstream_close) = (record.client_close, record.upstream_close);
        tracing::info!(
            target: TRACE, trace = trace.id, id = %record.id, outcome, label = label.as_str(), by,
            phase, status, %client_close, %upstream_close, detail = record.detail, "connection over"
        );
    }
}

/// A line for each step but the first `told`.
fn tell_steps(trace: &Trace, record: &SessionRecord, told: usize) {
    for (step, time) in record.steps.taken().skip(told) {
        let ms = (time.as_secs_f64() * 1e6).round() / 1e3;
        let client = record.client;
        let (host, path) = (record.host.as_deref(), record.path.as_deref());
        tracing::info!(
            target: TRACE, trace = trace.id, id = %record.id, %client, host, path, step, ms, "step"
        );
    }
}
