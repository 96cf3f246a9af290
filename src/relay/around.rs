//! What a direction is given for one poll, and what it notes. No I/O.

use std::time::{Duration, Instant};

use super::trace::Watched;
use crate::protocol::ws::violation::Side;
use crate::session::traffic::DirectionTraffic;

/// What a direction needs of its session for one poll, besides the legs.
pub(crate) struct Around<'a> {
    pub(crate) now: Instant,
    pub(crate) traffic: &'a DirectionTraffic,
    /// Payload of the gateway's own Pings.
    pub(crate) marker: &'a [u8],
    pub(crate) last_data: &'a mut Instant,
    /// What is to be counted; the session takes it from here.
    pub(crate) noted: &'a mut Noted,
    /// Somebody wants to see each frame.
    pub(crate) watched: Option<Watched<'a>>,
}

/// What happened during a poll that is worth a metric.
#[derive(Debug, Default)]
pub(crate) struct Noted {
    /// The source answered our Ping after this time.
    pub(crate) pong: Option<(Side, Duration)>,
    /// The client had to be paused.
    pub(crate) paused: bool,
}
