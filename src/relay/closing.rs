//! Carries out what was settled: both sides are told, then their connections are ended. I/O.
//!
//! A Close may stand only at a frame boundary. Towards the client the gateway shuts down writing and
//! then reads and discards until FIN, because closing with unread input would send RST and destroy
//! the Close on its way; upstream it waits for the other side's FIN, so that TIME_WAIT stays there
//! (RFC 6455 section 7.1.1). Each wait has an end: `timeouts.close`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::direction::{Direction, End, UnderWay};
use super::leg::Leg;
use super::random_bytes;
use super::session::Relay;
use super::trace::Watched;
use crate::net::linger;
use crate::net::stream::Stream;
use crate::outcome::settle::{Ending, Say, Settlement, Silence};
use crate::protocol::ws::close::CloseStatus;
use crate::protocol::ws::message::{self, Masking};
use crate::protocol::ws::violation::Side;

/// How an end went.
#[derive(Debug)]
pub(super) struct Report {
    /// What the client was told by Close, or what it had said if it left before it could be told.
    pub(super) client: CloseStatus,
    /// The same of the upstream.
    pub(super) upstream: CloseStatus,
    /// A side was left with an unfinished frame.
    pub(super) cut_frame: bool,
    /// A peer's Close was relayed and the other end did not answer it.
    pub(super) reply_missing: bool,
}

/// How one side's connection is ended.
struct Farewell {
    /// Whole frames that it has not been sent yet, its Close (if any) last.
    bytes: Vec<u8>,
    /// How many of the last bytes are the gateway's own Close.
    own: usize,
    /// What it was told by Close, if the bytes reach it.
    told: CloseStatus,
    manner: Manner,
}

impl Farewell {
    fn own(&self) -> &[u8] {
        let begin = self.bytes.len().saturating_sub(self.own);
        self.bytes.get(begin..).unwrap_or_default()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// It is gone already.
    Gone,
    /// Write all, then wait for its FIN.
    Orderly,
    /// Write what can be written at once, then RST.
    Abort,
    /// It holds part of a frame that will not be completed: RST.
    Cut,
}

/// How long an end may wait for others.
#[derive(Clone, Copy)]
struct Patience<'a> {
    limit: Duration,
    /// The whole process is out of time.
    abort: &'a CancellationToken,
}

impl Patience<'_> {
    /// What comes of `wait`, if it comes in time.
    async fn with<T>(self, wait: impl Future<Output = T>) -> Option<T> {
        self.abort.run_until_cancelled(timeout(self.limit, wait)).await?.ok()
    }
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
    let (mut client, mut upstream) = tokio::join!(
        end(client, Side::Client, client_bye, patience),
        end(upstream, Side::Upstream, upstream_bye, patience)
    );
    // Who began the closing and left before it could be answered has closed all the same.
    match ending {
        Ending::ClientClosed(status) if client == CloseStatus::None => client = *status,
        Ending::UpstreamClosed(status) if upstream == CloseStatus::None => upstream = *status,
        _ => {}
    }
    Report { client, upstream, cut_frame, reply_missing }
}

/// After one side's Close: goes on relaying what the other side still says, up to its Close, which is
/// the reply (RFC 6455 section 5.5.1). False: none came.
async fn has_replied(relay: &mut Pin<Box<Relay>>, from: Side, patience: Patience<'_>) -> bool {
    let reply = std::future::poll_fn(|cx| {
        let relay = relay.as_mut().get_mut();
        let now = Instant::now();
        // The side that has closed is not read any more; what it said last is still written.
        let _ = relay.poll_direction(from.other(), cx, now);
        let end = relay.poll_direction(from, cx, now);
        relay.wake_after_pause(cx);
        end
    });
    matches!(patience.with(reply).await, Some(End::Closed(_)))
}

/// Before an end that no Close began: lets frames that are under way pass to their end, where there is
/// one who sends and one who reads; before one that nobody is to blame for, whole messages. Past the
/// limit frames are cut, which [`farewell`] sees by itself.
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
    let _ = patience.with(finished).await;
}

/// What one side is still sent; `direction` leads to it, `said` is a Close it has been sent by relaying.
fn farewell(
    to: Side,
    say: Say,
    direction: &Direction,
    leg: &mut Leg,
    said: Option<CloseStatus>,
) -> Farewell {
    let masking = || match to {
        Side::Client => Masking::None,
        Side::Upstream => Masking::Key(random_bytes()),
    };
    if say == Say::Nothing {
        let manner = Manner::Gone;
        return Farewell { bytes: Vec::new(), own: 0, told: CloseStatus::None, manner };
    }
    if direction.is_within_frame() {
        let manner = Manner::Cut;
        return Farewell { bytes: Vec::new(), own: 0, told: CloseStatus::None, manner };
    }
    let mut bytes = std::mem::take(&mut leg.outlet).into_unwritten();
    if let Some(told) = said {
        return Farewell { bytes, own: 0, told, manner: Manner::Orderly };
    }
    let (code, reason, manner) = match say {
        Say::Nothing => (None, String::new(), Manner::Gone),
        Say::Close { code, reason } => (code, reason, Manner::Orderly),
        Say::CloseThenAbort { code, reason } => (Some(code), reason, Manner::Abort),
    };
    let close = message::close(code, &reason, masking());
    bytes.extend_from_slice(&close);
    let own = close.len();
    Farewell { bytes, own, told: code.map_or(CloseStatus::Empty, CloseStatus::Code), manner }
}

/// Ends one connection, and gives its place back; says what Close it was sent.
async fn end(leg: Leg, side: Side, bye: Farewell, patience: Patience<'_>) -> CloseStatus {
    let Leg { mut stream, place: _place, .. } = leg;
    match bye.manner {
        Manner::Gone => CloseStatus::None,
        Manner::Cut => {
            stream.abort_on_drop();
            CloseStatus::None
        }
        Manner::Abort => {
            let written = write_at_once(&mut stream, &bye.bytes).await;
            stream.abort_on_drop();
            if written { bye.told } else { CloseStatus::None }
        }
        Manner::Orderly => {
            let mut told = CloseStatus::None;
            let ended = async {
                stream.write_all(&bye.bytes).await?;
                stream.flush().await?;
                told = bye.told;
                match side {
                    Side::Client => linger::shut_down(&mut stream).await,
                    Side::Upstream => linger::discard(&mut stream).await,
                }
                std::io::Result::Ok(())
            };
            let in_time = patience.with(ended).await;
            if told == CloseStatus::None || in_time.is_none() && patience.abort.is_cancelled() {
                stream.abort_on_drop();
            }
            told
        }
    }
}

/// Whether the connection took all bytes without waiting.
async fn write_at_once(stream: &mut Stream, bytes: &[u8]) -> bool {
    std::future::poll_fn(|cx| {
        let written = Pin::new(&mut *stream).poll_write(cx, bytes);
        let flushed = Pin::new(&mut *stream).poll_flush(cx);
        let all = matches!(written, Poll::Ready(Ok(count)) if count == bytes.len());
        Poll::Ready(all && matches!(flushed, Poll::Ready(Ok(()))))
    })
    .await
}
