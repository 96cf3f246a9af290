//! What is known of a connection when it is over: one access-log line and one set of metrics. Pure.

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::id::SessionId;
use super::traffic::TrafficCounts;
use crate::outcome::blame::{By, Phase};
use crate::outcome::label::Label;
use crate::protocol::ws::close::CloseStatus;
use crate::route::RouteId;

/// Everything known of a request and its connection before its end. It grows while the request is being
/// decided; what a session shares with the rest of the process is frozen at its 101.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// Request and session id.
    pub(crate) id: SessionId,
    /// The listener's `bind` as configured.
    pub(crate) listener: Arc<str>,
    /// The client's address as far as `trusted_proxies` let it be known.
    pub(crate) client: SocketAddr,
    /// The TCP peer, when it is not the client itself.
    pub(crate) via: Option<SocketAddr>,
    /// When it was accepted; once there is a session, when its 101 was sent.
    pub(crate) opened: SystemTime,
    /// What a trusted proxy calls the request (X-Request-Id), if it does.
    pub(crate) request_id: Option<Arc<str>>,
    /// The route in the configuration that decided; `None` when none was found.
    pub(crate) route_id: Option<RouteId>,
    /// Its label, which is valid in other configurations too.
    pub(crate) route: Option<Arc<str>>,
    /// Host header, without credentials or query (peer text: escape before printing).
    pub(crate) host: Option<String>,
    /// Normalised path without query (peer text).
    pub(crate) path: Option<String>,
    /// Origin header (peer text).
    pub(crate) origin: Option<String>,
    /// The token's user (peer text in the sense of escaping).
    pub(crate) user: Option<Arc<str>>,
    /// Selected subprotocol (peer text).
    pub(crate) subprotocol: Option<String>,
    /// Name of the upstream that was asked.
    pub(crate) upstream: Option<Arc<str>>,
    /// `endpoint` label of the upstream endpoint that was used.
    pub(crate) endpoint: Option<Arc<str>>,
    /// Time spent in each step.
    pub(crate) steps: Steps,
    /// How many of them a trace has shown already.
    pub(crate) traced_steps: u8,
}

impl Facts {
    /// What is known when a connection has been accepted.
    pub(crate) fn new(
        id: SessionId,
        listener: Arc<str>,
        peer: SocketAddr,
        now: SystemTime,
    ) -> Self {
        Self {
            id,
            listener,
            client: peer,
            via: None,
            opened: now,
            request_id: None,
            route_id: None,
            route: None,
            host: None,
            path: None,
            origin: None,
            user: None,
            subprotocol: None,
            upstream: None,
            endpoint: None,
            steps: Steps::default(),
            traced_steps: 0,
        }
    }

    /// A proxy has named the client; the first address replaced is the TCP peer's.
    pub(crate) fn set_client(&mut self, client: SocketAddr) {
        if client != self.client {
            self.via.get_or_insert(self.client);
            self.client = client;
        }
    }
}

/// The right to record a request: there is one per request, and recording uses it up.
#[derive(Debug)]
pub(crate) struct Unrecorded(Arc<Facts>);

impl Unrecorded {
    /// From here on the facts do not change.
    pub(crate) fn new(facts: Facts) -> Self {
        Self(Arc::new(facts))
    }

    /// What is known.
    pub(crate) fn facts(&self) -> &Arc<Facts> {
        &self.0
    }

    /// The record of how it ended, without Close and traffic.
    pub(crate) fn ended(self, outcome: Outcome, by: By, phase: Phase) -> SessionRecord {
        SessionRecord {
            steps: self.0.steps,
            facts: self.0,
            outcome,
            by,
            phase,
            client_close: CloseStatus::None,
            upstream_close: CloseStatus::None,
            cut_frame: false,
            detail: None,
            traffic: TrafficCounts::default(),
        }
    }
}

/// Everything that is recorded of one request, once: its facts, and how it ended. Not `Clone`: telemetry
/// takes it by value.
#[derive(Debug)]
pub(crate) struct SessionRecord {
    /// What was known before the end.
    pub(crate) facts: Arc<Facts>,
    /// Accepted, refused, or something else than a handshake.
    pub(crate) outcome: Outcome,
    /// Who ended it.
    pub(crate) by: By,
    /// When it was ended.
    pub(crate) phase: Phase,
    /// Close exchanged with the client.
    pub(crate) client_close: CloseStatus,
    /// Close exchanged with the upstream.
    pub(crate) upstream_close: CloseStatus,
    /// A side was left with an unfinished frame.
    pub(crate) cut_frame: bool,
    /// One sentence on the cause; never contains tokens, queries or payload.
    pub(crate) detail: Option<String>,
    /// Messages and bytes.
    pub(crate) traffic: TrafficCounts,
    /// Time spent in each step, the relay's included.
    pub(crate) steps: Steps,
}

impl Deref for SessionRecord {
    type Target = Facts;

    fn deref(&self) -> &Facts {
        &self.facts
    }
}

/// How a connection turned out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The handshake was refused before the upstream's 101 was passed on.
    Refused(Refused),
    /// A session existed and ended so.
    Ended(Label),
    /// The client left before its handshake was answered.
    Abandoned,
    /// The connection ended before a request was read (TLS failure, timeout, nothing sent), for this reason.
    NoRequest(&'static str),
}

/// How a refusal was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused {
    /// Why.
    pub(crate) label: Label,
    /// HTTP status sent; 101 when the refusal was told by Close (then [`SessionRecord::client_close`] has the code).
    pub(crate) status: u16,
}

/// Time spent in each step of a connection; `None`: not reached (or, TLS, not used).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Steps {
    /// From accept to the first byte wanted: permits and the PROXY header.
    pub(crate) accept: Option<Duration>,
    /// TLS handshake.
    pub(crate) tls: Option<Duration>,
    /// Until the request head was read.
    pub(crate) request: Option<Duration>,
    /// Parsing, routing, origin, token, authorisation, limits.
    pub(crate) admission: Option<Duration>,
    /// Name resolution, TCP and TLS to the upstream, all tries.
    pub(crate) upstream_connect: Option<Duration>,
    /// Upgrade request to the upstream's answer.
    pub(crate) upstream_handshake: Option<Duration>,
    /// From the 101 to the end of the session.
    pub(crate) relay: Option<Duration>,
}

impl Steps {
    /// Those that took place, in their order.
    pub(crate) fn taken(&self) -> impl Iterator<Item = (&'static str, Duration)> {
        self.named().into_iter().filter_map(|(name, time)| Some((name, time?)))
    }

    /// All of them by name, in their order.
    pub(crate) fn named(&self) -> [(&'static str, Option<Duration>); 7] {
        [
            ("accept", self.accept),
            ("tls", self.tls),
            ("request", self.request),
            ("admission", self.admission),
            ("upstream_connect", self.upstream_connect),
            ("upstream_handshake", self.upstream_handshake),
            ("relay", self.relay),
        ]
    }
}
