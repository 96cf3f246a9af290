//! A session: two pumps in one task, its timers, its orders, and its end. I/O.
//!
//! [`run`] is the whole life: relay until there is an [`Ending`], settle what both sides are told,
//! tell them, and account for it once. [`session`] relays, [`pump`] moves one direction, [`keepalive`]
//! decides on pings, [`limit`] on floods, [`closing`] carries the end out.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::net::stream::Stream;
use crate::outcome::blame::Phase;
use crate::outcome::settle::{CodePolicy, Ending, settle};
use crate::session::record::Outcome;
use crate::session::registry::{Registry, SessionHandle};
use crate::telemetry::Telemetry;
use crate::telemetry::labels::LimitAction;
use crate::telemetry::metrics::GaugeGuard;

use session::Relay;

mod closing;
mod ending;
mod keepalive;
mod limit;
mod outlet;
mod probes;
mod pump;
mod session;
mod trace;

/// What all sessions of a configuration share.
#[derive(Debug)]
pub(crate) struct Environment {
    /// The configuration the session began with.
    pub(crate) config: Arc<Config>,
    /// Metrics and logs.
    pub(crate) telemetry: Arc<Telemetry>,
    /// Open sessions.
    pub(crate) registry: Arc<Registry>,
    /// Cancelled when there is no more time for orderly ends.
    pub(crate) abort: CancellationToken,
    /// Counts the configuration as in use.
    pub(crate) _in_use: GaugeGuard,
}

/// What a session begins with.
pub(crate) struct Opening<P, C> {
    /// The client after the 101.
    pub(crate) client: Stream,
    /// What the client sent behind its request.
    pub(crate) from_client: Vec<u8>,
    /// The upstream after its 101.
    pub(crate) upstream: Stream,
    /// What the upstream sent behind its 101.
    pub(crate) from_upstream: Vec<u8>,
    /// Index of the route.
    pub(crate) route: usize,
    /// The session's entry in the registry.
    pub(crate) handle: Arc<SessionHandle>,
    /// Places given back when the session has ended: the user's, the endpoint's, the gauge's.
    pub(crate) places: P,
    /// The connection's place, given back when its socket is closed.
    pub(crate) connection: C,
}

/// Relays a session from the 101 to its record.
pub(crate) async fn run<P, C>(environment: Arc<Environment>, opening: Opening<P, C>) {
    let Opening { handle, places, connection, route, .. } = opening;
    let sockets = (opening.client, opening.from_client, opening.upstream, opening.from_upstream);
    environment.registry.insert(&handle);
    let mut relay =
        Box::pin(Relay::new(Arc::clone(&environment), route, Arc::clone(&handle), sockets));
    let ending = std::future::poll_fn(|cx| relay.as_mut().get_mut().poll_relay(cx)).await;
    // From here on the session counts no more: its user may open another at once.
    environment.registry.remove(&handle);
    drop(places);
    relay.probes.answer();
    handle.close();
    let mut record = Box::new(handle.known.clone());
    record.steps.relay = Some(handle.opened.elapsed());
    if ending == Ending::MessageRate {
        environment.telemetry.messages_limited(LimitAction::Close, handle.id);
    }
    if let Some((side, violation)) = ending.violation() {
        environment.telemetry.violation_seen(side, violation, handle.id);
    }
    let config = &environment.config;
    let settlement = settle(
        &ending,
        CodePolicy {
            overrides: &config.close_codes,
            subprotocol: record.subprotocol.as_deref(),
            drain_code: config.drain.code,
        },
    );
    let report = Box::pin(closing::conclude(relay, &ending, settlement)).await;
    record.outcome = Outcome::Ended(ending.label());
    record.by = ending.by();
    record.phase = if report.reply_missing { Phase::Closing } else { Phase::Relay };
    record.client_close = report.client;
    record.upstream_close = report.upstream;
    record.cut_frame = report.cut_frame;
    record.detail = ending.detail(config.routes[route].limits.of_messages());
    record.traffic = handle.traffic.counts();
    environment.telemetry.metrics.add_traffic(route, &handle.traffic.take_unreported());
    environment.telemetry.connection_recorded(&record, Some(route));
    environment.registry.forget(&handle);
    drop(connection);
}

/// Random bytes for masks and markers ("derived from a strong source of entropy", RFC 6455 section
/// 10.3).
fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}
