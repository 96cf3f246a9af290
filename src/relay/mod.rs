//! A session: two legs and two directions in one task, its timers, its orders, and its end. I/O.
//!
//! [`run`] is the whole life: relay until there is an [`Ending`], settle what both sides are sent, send
//! it, and record the session once. [`session`] relays, [`leg`] is one side, [`direction`] moves what
//! comes from one side to the other, [`keepalive`] decides on pings, [`limit`] on floods, [`timers`] keeps
//! the deadlines, [`closing`] carries the end out.

use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::outcome::blame::Phase;
use crate::outcome::settle::{CodePolicy, Ending, settle};
use crate::route::RouteId;
use crate::session::record::{Outcome, Unrecorded};
use crate::session::registry::{Registered, Registry};
use crate::telemetry::Telemetry;
use crate::telemetry::labels::LimitAction;
use crate::telemetry::metrics::GaugeGuard;

pub(crate) use leg::{Held, Opened};
use session::Relay;

mod around;
mod closing;
mod direction;
mod ending;
mod farewell;
mod keepalive;
mod leg;
mod limit;
mod outlet;
mod probes;
mod session;
#[cfg(test)]
mod tests;
mod timers;
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
pub(crate) struct Opening {
    /// The client after its 101; its place is the socket's, given back when that is closed.
    pub(crate) client: Opened,
    /// The upstream after its 101.
    pub(crate) upstream: Opened,
    /// The session's entry in the registry.
    pub(crate) registered: Registered,
    /// The right to record it.
    pub(crate) unrecorded: Unrecorded,
    /// The route it came by.
    pub(crate) route: RouteId,
    /// Given back when the session relays no more: the user's place, the endpoint's, the gauges'.
    pub(crate) places: Held,
}

/// Relays a session from the 101 to its record.
pub(crate) async fn run(environment: Arc<Environment>, opening: Opening) {
    let Opening { client, upstream, registered, unrecorded, route, places } = opening;
    let handle = Arc::clone(registered.handle());
    let mut relay = Box::pin(Relay::new(
        Arc::clone(&environment),
        route,
        registered.handle(),
        client,
        upstream,
    ));
    let ending = std::future::poll_fn(|cx| relay.as_mut().get_mut().poll_relay(cx)).await;
    // From here on the session counts no more: its user may open another at once.
    registered.closing();
    drop(places);
    relay.probes.answer();
    let relayed = handle.opened.elapsed();
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
            subprotocol: handle.known.subprotocol.as_deref(),
            drain_code: config.drain.code,
        },
    );
    let evicted = relay.evicted.take();
    let report = Box::pin(closing::conclude(relay, &ending, settlement)).await;
    if let Some(eviction) = evicted.filter(|_| report.client_answered) {
        eviction.was_alive(Instant::now());
    }
    let phase = if report.reply_missing { Phase::Closing } else { Phase::Relay };
    let mut record = unrecorded.ended(Outcome::Ended(ending.label()), ending.by(), phase);
    record.steps.relay = Some(relayed);
    record.client_close = report.client;
    record.upstream_close = report.upstream;
    record.cut_frame = report.cut_frame;
    record.detail = ending.detail(config.route(route).limits.of_messages());
    record.traffic = handle.traffic.counts();
    environment.telemetry.metrics.add_traffic(route, &handle.traffic.take_unreported());
    environment.telemetry.connection_recorded(record);
}

/// Random bytes for masks and markers ("derived from a strong source of entropy", RFC 6455 section
/// 10.3).
fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}
