//! One side of a session: its connection, what waits to be written to it, and its keepalive. No I/O.

use std::any::Any;
use std::time::Instant;

use super::keepalive::Keepalive;
use super::outlet::Outlet;
use crate::net::stream::Stream;

/// Something counted that is given back on drop; the relay need not know what.
#[derive(Debug)]
pub(crate) struct Held {
    _places: Box<dyn Any + Send>,
}

impl Held {
    /// Holds `places` until it is dropped.
    pub(crate) fn new(places: impl Any + Send) -> Self {
        Self { _places: Box::new(places) }
    }
}

/// A connection after its handshake.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The connection.
    pub(crate) stream: Stream,
    /// What came right behind the handshake.
    pub(crate) arrived: Vec<u8>,
    /// What its place is counted by.
    pub(crate) place: Held,
}

/// The client's side or the upstream's.
#[derive(Debug)]
pub(super) struct Leg {
    pub(super) stream: Stream,
    /// What waits to be written to it.
    pub(super) outlet: Outlet,
    pub(super) alive: Keepalive,
    /// Given back when the connection is closed.
    pub(super) place: Held,
}

impl Leg {
    pub(super) fn new(stream: Stream, place: Held, alive: Keepalive) -> Self {
        Self { stream, outlet: Outlet::default(), alive, place }
    }

    /// Since when it has taken nothing of what waits.
    pub(super) fn stalled_since(&self) -> Option<Instant> {
        self.outlet.stalled_since()
    }
}
