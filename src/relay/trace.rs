//! Tells the frame headers of a session that is watched.

use super::Environment;
use crate::outcome::blame::By;
use crate::protocol::ws::header;
use crate::protocol::ws::inspector::Step;
use crate::protocol::ws::violation::{Side, Violation};
use crate::session::id::SessionId;
use crate::session::trace::Trace;
use crate::session::traffic::Direction;
use crate::telemetry::Telemetry;

/// A session that is watched.
#[derive(Clone, Copy)]
pub(crate) struct Watched<'a> {
    trace: &'a Trace,
    telemetry: &'a Telemetry,
    id: SessionId,
}

impl<'a> Watched<'a> {
    pub(super) fn by(
        trace: Option<&'a Trace>,
        environment: &'a Environment,
        id: SessionId,
    ) -> Option<Self> {
        Some(Self { trace: trace?, telemetry: &environment.telemetry, id })
    }

    /// What the inspector said of bytes that begin with a frame of `from`.
    pub(super) fn judged(&self, from: Side, bytes: &[u8], judged: Result<Step, Violation>) {
        match judged {
            // It is shown again.
            Ok(Step::NeedMore) => return,
            Ok(Step::Part { .. } | Step::Frame { .. }) => {}
            Err(violation) => self.telemetry.frame_refused(self.trace, self.id, from, violation),
        }
        let (by, direction) = match from {
            Side::Client => (By::Client, Direction::ToUpstream),
            Side::Upstream => (By::Upstream, Direction::ToClient),
        };
        if let Ok(Some(header)) = header::parse(bytes, from) {
            self.telemetry.frame_traced(self.trace, self.id, (by, direction), &header);
        }
    }

    /// What goes wrong within a frame that has begun to pass.
    pub(super) fn broken(&self, from: Side, violation: Violation) {
        self.telemetry.frame_refused(self.trace, self.id, from, violation);
    }

    /// A frame that the gateway writes itself.
    pub(super) fn own_frame(&self, to: Side, frame: &[u8]) {
        // It looks as if it came from the other end.
        let (from, direction) = match to {
            Side::Client => (Side::Upstream, Direction::ToClient),
            Side::Upstream => (Side::Client, Direction::ToUpstream),
        };
        if let Ok(Some(header)) = header::parse(frame, from) {
            self.telemetry.frame_traced(self.trace, self.id, (By::Gateway, direction), &header);
        }
    }
}
