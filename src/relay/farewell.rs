//! The end of one side's connection: what it is still sent, and how long that may take. I/O.
//!
//! Nothing is cut while it is being read: each wait may last for `timeouts.close`, and again for as long as
//! the peer goes on taking what was written, ten minutes at most. A close code counts as sent only if the
//! connection was not reset with bytes outstanding.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::AsyncWrite;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::direction::Direction;
use super::leg::Leg;
use super::random_bytes;
use crate::net::linger;
use crate::net::progress::{Life, Progress};
use crate::net::stream::Stream;
use crate::outcome::settle::Say;
use crate::protocol::ws::close::CloseStatus;
use crate::protocol::ws::message::{self, Masking};
use crate::protocol::ws::violation::Side;

/// How one side's connection is ended.
pub(super) struct Farewell {
    /// Whole frames that it has not been sent yet, its Close (if any) last.
    bytes: Vec<u8>,
    /// How many of the last bytes are the gateway's own Close.
    own: usize,
    /// What it was told by Close, if the bytes reach it.
    told: CloseStatus,
    pub(super) manner: Manner,
}

impl Farewell {
    pub(super) fn own(&self) -> &[u8] {
        let begin = self.bytes.len().saturating_sub(self.own);
        self.bytes.get(begin..).unwrap_or_default()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
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
pub(super) struct Patience<'a> {
    pub(super) limit: Duration,
    /// The whole process is out of time.
    pub(super) abort: &'a CancellationToken,
}

impl Patience<'_> {
    /// What comes of `wait`, if it comes in time.
    pub(super) async fn with<T>(self, wait: impl Future<Output = T>) -> Option<T> {
        self.abort.run_until_cancelled(timeout(self.limit, wait)).await?.ok()
    }
}

/// What a peer goes on taking while its connection is ended.
pub(super) struct Taking {
    progress: Progress,
    until: Instant,
}

impl Taking {
    /// Begins to look, `handed` bytes having been given to the socket.
    pub(super) fn new(stream: &Stream, handed: u64) -> Self {
        let progress = Progress::begin(handed, stream.queued().unwrap_or_default());
        Self { progress, until: Instant::now() + LONGEST }
    }

    /// Whether the peer has gone on taking since this was last asked.
    pub(super) fn goes_on(&mut self, stream: &Stream, handed: u64) -> bool {
        let judged = stream.queued().map(|queued| self.progress.judge(handed, queued));
        judged == Some(Life::Alive) && Instant::now() < self.until
    }
}

/// What one side is still sent; `direction` leads to it, `said` is a Close it has been sent by relaying.
pub(super) fn farewell(
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
    let mut bytes = leg.outlet.take_unwritten();
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

/// How an end went.
pub(super) struct Ended {
    /// What Close it was sent.
    pub(super) told: CloseStatus,
    /// Bytes were lost that it was to get: it was reset before it had taken them.
    pub(super) lost: bool,
    /// It sent FIN, behind its Close if it sent one.
    pub(super) answered: bool,
}

impl Ended {
    /// It was sent nothing, or not to the end.
    const UNTOLD: Self = Self { told: CloseStatus::None, lost: false, answered: false };
}

/// A connection that is being ended, and what it has taken.
struct Closing<'a> {
    stream: Stream,
    /// Bytes handed over; of TLS the stream counts itself.
    handed: u64,
    taking: Taking,
    patience: Patience<'a>,
}

/// Ends one connection, and gives its place back.
pub(super) async fn end(leg: Leg, side: Side, bye: Farewell, patience: Patience<'_>) -> Ended {
    let handed = leg.handed();
    let Leg { stream, place: _place, .. } = leg;
    let taking = Taking::new(&stream, handed);
    let mut closing = Closing { stream, handed, taking, patience };
    match bye.manner {
        Manner::Gone => {
            linger::leave(&mut closing.stream).await;
            Ended::UNTOLD
        }
        Manner::Cut => {
            closing.stream.abort_on_drop();
            Ended::UNTOLD
        }
        Manner::Abort => {
            let written = write_at_once(&mut closing.stream, &bye.bytes).await;
            let has_arrived = closing.stream.queued() == Some(0);
            closing.stream.abort_on_drop();
            let told = if written && has_arrived { bye.told } else { CloseStatus::None };
            // That it takes nothing is why it is ended.
            Ended { told, ..Ended::UNTOLD }
        }
        Manner::Orderly => closing.orderly(side, &bye).await,
    }
}

impl Closing<'_> {
    async fn orderly(mut self, side: Side, bye: &Farewell) -> Ended {
        let is_sent = self.write(&bye.bytes).await;
        let end = if is_sent { self.wait_for_end(side).await } else { None };
        let lost = end.is_none() && self.stream.queued().is_none_or(|queued| queued > 0);
        // Given up: the kernel is not to go on for a peer that takes nothing.
        if !is_sent || lost {
            self.stream.abort_on_drop();
        }
        let told = if is_sent && !lost { bye.told } else { CloseStatus::None };
        Ended { told, lost, answered: end == Some(true) }
    }

    /// Writes all; false: it could not.
    async fn write(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let written = self.follow(|stream, cx| Pin::new(stream).poll_write(cx, bytes)).await;
            let Some(Ok(count @ 1..)) = written else { return false };
            self.handed = self.handed.wrapping_add(count as u64);
            bytes = bytes.get(count..).unwrap_or_default();
        }
        let flushed = self.follow(|stream, cx| Pin::new(stream).poll_flush(cx)).await;
        matches!(flushed, Some(Ok(())))
    }

    /// Towards the client the gateway ends first, and reads until its FIN; upstream it waits for the FIN.
    /// Whether the peer ended with FIN; `None`: it did not end.
    async fn wait_for_end(&mut self, side: Side) -> Option<bool> {
        if side == Side::Client {
            let shut = self.follow(|stream, cx| Pin::new(stream).poll_shutdown(cx)).await;
            match shut {
                Some(Ok(())) => {}
                Some(Err(_)) => return Some(false),
                None => return None,
            }
        }
        self.follow(linger::poll_discard).await
    }

    /// Goes on with `step` for as long as the peer takes what it was sent.
    async fn follow<T>(
        &mut self,
        mut step: impl FnMut(&mut Stream, &mut Context<'_>) -> Poll<T>,
    ) -> Option<T> {
        loop {
            let stream = &mut self.stream;
            let done = std::future::poll_fn(|cx| step(stream, cx));
            if let Some(done) = self.patience.with(done).await {
                return Some(done);
            }
            let handed = self.stream.taken_under_tls().unwrap_or(self.handed);
            if self.patience.abort.is_cancelled() || !self.taking.goes_on(&self.stream, handed) {
                return None;
            }
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

/// Longest end of a peer that goes on reading.
const LONGEST: Duration = Duration::from_secs(600);
