//! What follows for the session from how one of its directions ended. Pure.

use super::pump::PumpEnd;
use crate::outcome::settle::Ending;
use crate::protocol::ws::violation::Side;
use crate::protocol::ws::violation::Violation::CloseCode;

/// The ending that follows from how a direction ended.
pub(super) fn ending_of(from: Side, end: PumpEnd) -> Ending {
    match (from, end) {
        (Side::Client, PumpEnd::Closed(status)) => Ending::ClientClosed(status),
        (Side::Upstream, PumpEnd::Closed(status)) => Ending::UpstreamClosed(status),
        (Side::Client, PumpEnd::Broken(CloseCode(code))) => Ending::ClientClosedIllegally(code),
        (Side::Upstream, PumpEnd::Broken(CloseCode(code))) => Ending::UpstreamClosedIllegally(code),
        (Side::Client, PumpEnd::Broken(violation)) => Ending::ClientViolation(violation),
        (Side::Upstream, PumpEnd::Broken(violation)) => Ending::UpstreamViolation(violation),
        (Side::Client, PumpEnd::SourceLost) | (Side::Upstream, PumpEnd::SinkLost) => {
            Ending::ClientLost
        }
        (Side::Upstream, PumpEnd::SourceLost) | (Side::Client, PumpEnd::SinkLost) => {
            Ending::UpstreamLost
        }
        (_, PumpEnd::TooFast) => Ending::MessageRate,
        // Asked for only once the session is closing.
        (_, PumpEnd::Stopped) => Ending::Internal,
    }
}
