//! Carries out what was settled: both sides are told, then their connections are ended. I/O.
//!
//! A Close may stand only at a frame boundary. Towards the client the gateway shuts down writing and
//! then reads and discards until FIN, because closing with unread input would send RST and destroy
//! the Close on its way; upstream it waits for the other side's FIN, so that TIME_WAIT stays there
//! (RFC 6455 section 7.1.1). Each wait has an end: `timeouts.close`.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use super::direction::{End, UnderWay};
use super::farewell::{self, Manner, Patience, farewell};
use super::session::Relay;
use super::trace::Watched;
use crate::outcome::settle::{Ending, Settlement, Silence};
use crate::protocol::ws::close::CloseStatus;
use crate::protocol::ws::violation::Side;

/// How an end went.
#[derive(Debug)]
pub(super) struct Report {
    /// What the client was told by Close, or what it had said if it left before it could be told.
    pub(super) client: CloseStatus,
    /// The same of the upstream.
    pub(super) upstream: CloseStatus,
    /// The client ended its connection when it was sent Close.
    pub(super) client_answered: bool,
    /// A side was left with an unfinished frame.
    pub(super) cut_frame: bool,
    /// A peer's Close was relayed and the other end did not answer it.
    pub(super) reply_missing: bool,
}

/// Ends both connections and says how that went.
pub(super) async fn conclude(
    mut relay: Pin<Box<Relay>>,
    ending: &Ending,
    settlement: Settlement,
) -> Report {
    let environment = Arc::clone(&relay.environment);
    let limit = environment.config.timeouts.close;
    let patience = Patience { limit, abort: &environment.abort };
    let mut reply_missing = false;
    match ending {
        Ending::ClientClosed(_) => {
            reply_missing = !has_replied(&mut relay, Side::Upstream, patience).await;
        }
        Ending::UpstreamClosed(_) => {
            reply_missing = !has_replied(&mut relay, Side::Client, patience).await;
        }
        _ => finish_under_way(&mut relay, ending, patience).await,
    }
    // Whatever ended the session, a peer may have closed meanwhile: no end is told twice.
    let said = (relay.to_client.passed_close(), relay.to_upstream.passed_close());
    let relay = *Pin::into_inner(relay);
    let Relay { mut client, mut upstream, to_client, to_upstream, .. } = relay;
    let (trace, environment, id) = (relay.trace, relay.environment, relay.handle.id);
    let client_bye = farewell(Side::Client, settlement.client, &to_client, &mut client, said.0);
    let upstream_bye =
        farewell(Side::Upstream, settlement.upstream, &to_upstream, &mut upstream, said.1);
    if let Some(watched) = Watched::by(trace.as_deref(), &environment, id) {
        watched.own_frame(Side::Client, client_bye.own());
        watched.own_frame(Side::Upstream, upstream_bye.own());
    }
    let cut_frame = [&client_bye, &upstream_bye].iter().any(|bye| bye.manner == Manner::Cut);
    let ends = tokio::join!(
        farewell::end(client, Side::Client, client_bye, patience),
        farewell::end(upstream, Side::Upstream, upstream_bye, patience)
    );
    let cut_frame = cut_frame || ends.0.lost || ends.1.lost;
    let client_answered = ends.0.answered;
    let (mut client, mut upstream) = (ends.0.told, ends.1.told);
    // Who began the closing and left before it could be answered has closed all the same.
    match ending {
        Ending::ClientClosed(status) if client == CloseStatus::None => client = *status,
        Ending::UpstreamClosed(status) if upstream == CloseStatus::None => upstream = *status,
        _ => {}
    }
    Report { client, upstream, client_answered, cut_frame, reply_missing }
}

/// After one side's Close: goes on relaying what the other side still says, up to its Close, which is
/// the reply (RFC 6455 section 5.5.1). False: none came.
async fn has_replied(relay: &mut Pin<Box<Relay>>, from: Side, patience: Patience<'_>) -> bool {
    let mut taking = relay.leg(from).taking();
    loop {
        let reply = std::future::poll_fn(|cx| {
            let relay = relay.as_mut().get_mut();
            let now = Instant::now();
            // The side that has closed is not read any more; what it said last is still written.
            let _ = relay.poll_direction(from.other(), cx, now);
            let end = relay.poll_direction(from, cx, now);
            relay.wake_after_pause(cx);
            end
        });
        if let Some(end) = patience.with(reply).await {
            return matches!(end, End::Closed(_));
        }
        // The Close may wait behind bytes that are still being read.
        let leg = relay.leg(from);
        if patience.abort.is_cancelled() || !taking.goes_on(&leg.stream, leg.handed()) {
            return false;
        }
    }
}

/// Before an end that no Close began: lets frames that are under way pass to their end, where there is
/// one who sends and one who reads; before one that nobody is to blame for, whole messages. Past the
/// limit frames are cut, which [`farewell()`] sees by itself.
async fn finish_under_way(relay: &mut Pin<Box<Relay>>, ending: &Ending, patience: Patience<'_>) {
    let from: &[Side] = match ending {
        Ending::ClientLost
        | Ending::UpstreamLost
        | Ending::ClientTimeout(_)
        | Ending::UpstreamStalled(Silence::NoPong) => &[],
        // Who broke the protocol is not read on; nor is who reads too slowly written to.
        Ending::ClientViolation(_) | Ending::ClientClosedIllegally(_) => &[Side::Upstream],
        Ending::UpstreamViolation(_) | Ending::UpstreamClosedIllegally(_) => &[Side::Client],
        Ending::UpstreamStalled(Silence::WriteStall) => &[Side::Upstream],
        Ending::SlowConsumer => &[Side::Client],
        _ => &Side::ALL,
    };
    let what = match ending {
        Ending::Drained { .. } => UnderWay::Message,
        _ => UnderWay::Frame,
    };
    for side in from {
        relay.direction(*side).stop_after(what);
    }
    // What passes in a direction goes to the other side.
    let mut taking = Side::ALL.map(|side| relay.leg(side).taking());
    loop {
        let finished = std::future::poll_fn(|cx| {
            let relay = relay.as_mut().get_mut();
            let now = Instant::now();
            for side in from {
                let _ = relay.poll_direction(*side, cx, now);
            }
            relay.wake_after_pause(cx);
            let all = from.iter().all(|side| relay.direction(*side).has_stopped());
            if all { Poll::Ready(()) } else { Poll::Pending }
        });
        if patience.with(finished).await.is_some() || patience.abort.is_cancelled() {
            return;
        }
        let goes_on = Side::ALL.iter().zip(&mut taking).any(|(side, taking)| {
            let leg = relay.leg(*side);
            from.contains(&side.other()) && taking.goes_on(&leg.stream, leg.handed())
        });
        if !goes_on {
            return;
        }
    }
}
