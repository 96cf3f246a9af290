//! Carries out what was settled: both sides are told, then their connections are ended. I/O.
//!
//! A Close may stand only at a frame boundary. Towards the client the gateway shuts down writing and
//! then reads and discards until FIN, because closing with unread input would send RST and destroy
//! the Close on its way; upstream it waits for the other side's FIN, so that TIME_WAIT stays there
//! (RFC 6455 section 7.1.1). Each wait has an end: `timeouts.close`.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;

use super::pump::{Pump, PumpEnd};
use super::{Relay, random_bytes, scratch};
use crate::session::record::CloseStatus;
use crate::stream::Stream;
use crate::ws::message::{self, Masking};
use crate::ws::settle::{Ending, Say, Settlement};
use crate::ws::violation::Side;

/// How an end went.
#[derive(Debug)]
pub(super) struct Report {
    /// Close exchanged with the client.
    pub(super) client: CloseStatus,
    /// Close exchanged with the upstream.
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
    /// What it was told by Close, if the bytes reach it.
    told: CloseStatus,
    manner: Manner,
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

/// Ends both connections and says how that went.
pub(super) async fn conclude(
    mut relay: Pin<Box<Relay>>,
    ending: &Ending,
    settlement: Settlement,
) -> Report {
    let limit = relay.environment.config.timeouts.close;
    let mut reply_missing = false;
    let mut said = (None, None);
    match ending {
        Ending::ClientClosed(status) => {
            let reply = await_reply(&mut relay, Side::Upstream, limit).await;
            reply_missing = reply.is_none();
            said = (reply, Some(*status));
        }
        Ending::UpstreamClosed(status) => {
            let reply = await_reply(&mut relay, Side::Client, limit).await;
            reply_missing = reply.is_none();
            said = (Some(*status), reply);
        }
        ending if ending.is_gateways_choice() => finish_frames(&mut relay, ending, limit).await,
        _ => {}
    }
    let Relay { client, upstream, to_client, to_upstream, .. } = *Pin::into_inner(relay);
    let client_bye = farewell(Side::Client, settlement.client, to_client, said.0);
    let upstream_bye = farewell(Side::Upstream, settlement.upstream, to_upstream, said.1);
    let cut_frame = [&client_bye, &upstream_bye].iter().any(|bye| bye.manner == Manner::Cut);
    let (client, upstream) = tokio::join!(
        end(client, Side::Client, client_bye, limit),
        end(upstream, Side::Upstream, upstream_bye, limit)
    );
    Report { client, upstream, cut_frame, reply_missing }
}

/// After one side's Close: goes on relaying what the other side still says, up to its Close, which is
/// the reply (RFC 6455 section 5.5.1). `None`: none came.
async fn await_reply(
    relay: &mut Pin<Box<Relay>>,
    from: Side,
    limit: Duration,
) -> Option<CloseStatus> {
    let reply = std::future::poll_fn(|cx| {
        let relay = relay.as_mut().get_mut();
        let now = Instant::now();
        // The side that has closed is not read any more; what it said last is still written.
        let _ = relay.poll_direction(from.other(), cx, now);
        relay.poll_direction(from, cx, now)
    });
    match timeout(limit, reply).await {
        Ok(PumpEnd::Closed(status)) => Some(status),
        Ok(_) | Err(_) => None,
    }
}

/// Before an end the gateway chose: lets frames that are under way pass to their end.
async fn finish_frames(relay: &mut Pin<Box<Relay>>, ending: &Ending, limit: Duration) {
    let sides = match ending {
        // Neither will a dead client finish a frame, nor a stalled one take it.
        Ending::ClientTimeout(_) | Ending::UpstreamStalled(_) | Ending::SlowConsumer => return,
        _ => [Side::Client, Side::Upstream],
    };
    relay.to_client.stop_at_boundary();
    relay.to_upstream.stop_at_boundary();
    let finished = std::future::poll_fn(|cx| {
        let relay = relay.as_mut().get_mut();
        let now = Instant::now();
        for side in sides {
            let _ = relay.poll_direction(side, cx, now);
        }
        let stopped = relay.to_client.has_stopped() && relay.to_upstream.has_stopped();
        if stopped { Poll::Ready(()) } else { Poll::Pending }
    });
    // Past the limit the frame is cut, which `farewell` sees by itself.
    let _ = timeout(limit, finished).await;
}

/// What one side is still sent; `pump` leads to it, `said` is a Close it has been sent by relaying.
fn farewell(to: Side, say: Say, pump: Pump, said: Option<CloseStatus>) -> Farewell {
    let masking = || match to {
        Side::Client => Masking::None,
        Side::Upstream => Masking::Key(random_bytes()),
    };
    if say == Say::Nothing {
        return Farewell { bytes: Vec::new(), told: CloseStatus::None, manner: Manner::Gone };
    }
    if pump.is_within_frame() {
        return Farewell { bytes: Vec::new(), told: CloseStatus::None, manner: Manner::Cut };
    }
    let mut bytes = pump.into_unwritten();
    if let Some(told) = said {
        return Farewell { bytes, told, manner: Manner::Orderly };
    }
    let (code, reason, manner) = match say {
        Say::Nothing => (None, String::new(), Manner::Gone),
        Say::Close { code, reason } => (code, reason, Manner::Orderly),
        Say::CloseThenAbort { code, reason } => (Some(code), reason, Manner::Abort),
    };
    bytes.extend_from_slice(&message::close(code, &reason, masking()));
    Farewell { bytes, told: code.map_or(CloseStatus::Empty, CloseStatus::Code), manner }
}

/// Ends one connection; says what Close it was told.
async fn end(mut stream: Stream, side: Side, bye: Farewell, limit: Duration) -> CloseStatus {
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
            let deadline = tokio::time::Instant::now() + limit;
            let told = async {
                stream.write_all(&bye.bytes).await?;
                stream.flush().await
            };
            if !matches!(tokio::time::timeout_at(deadline, told).await, Ok(Ok(()))) {
                stream.abort_on_drop();
                return CloseStatus::None;
            }
            let _ = tokio::time::timeout_at(deadline, linger(&mut stream, side)).await;
            bye.told
        }
    }
}

/// Reads and discards until FIN; a client is first told that nothing more will come.
pub(super) async fn linger(stream: &mut Stream, side: Side) {
    if side == Side::Client && stream.shutdown().await.is_err() {
        return;
    }
    std::future::poll_fn(|cx| poll_discard(stream, cx)).await;
}

fn poll_discard(stream: &mut Stream, cx: &mut Context<'_>) -> Poll<()> {
    scratch::with(|buffer| {
        loop {
            let mut read = ReadBuf::new(buffer);
            match Pin::new(&mut *stream).poll_read(cx, &mut read) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if !read.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(()),
            }
        }
    })
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
