//! What follows for the session from how one of its directions ended. Pure.

use super::direction::End;
use crate::outcome::settle::Ending;
use crate::protocol::ws::violation::Side;
use crate::protocol::ws::violation::Violation::CloseCode;

/// The ending that follows from how a direction ended.
pub(super) fn ending_of(from: Side, end: End) -> Ending {
    match (from, end) {
        (Side::Client, End::Closed(status)) => Ending::ClientClosed(status),
        (Side::Upstream, End::Closed(status)) => Ending::UpstreamClosed(status),
        (Side::Client, End::Broken(CloseCode(code))) => Ending::ClientClosedIllegally(code),
        (Side::Upstream, End::Broken(CloseCode(code))) => Ending::UpstreamClosedIllegally(code),
        (Side::Client, End::Broken(violation)) => Ending::ClientViolation(violation),
        (Side::Upstream, End::Broken(violation)) => Ending::UpstreamViolation(violation),
        (Side::Client, End::SourceLost) | (Side::Upstream, End::SinkLost) => Ending::ClientLost,
        (Side::Upstream, End::SourceLost) | (Side::Client, End::SinkLost) => Ending::UpstreamLost,
        (_, End::TooFast) => Ending::MessageRate,
        // Asked for only once the session is closing.
        (_, End::Stopped) => Ending::Internal,
    }
}
