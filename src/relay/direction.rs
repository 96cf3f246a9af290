//! One direction of a session: read, have it inspected, write it on as it came. I/O.
//!
//! The floor is one read and one write per message, and this is written to stay on it: bytes are read
//! into the thread's scratch buffer, judged there and written from there. Only what a full socket
//! does not take (in its leg), and the begin of a frame that is not whole (here), is kept in the session,
//! and while anything waits to be written nothing more is read.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, ReadBuf};

use super::around::Around;
use super::leg::Leg;
use super::limit::RateLimit;
use crate::config::{MessageRate, OverRate};
use crate::net::scratch;
use crate::net::server_tls::TooManyEmptyRecords;
use crate::protocol::ws::close::CloseStatus;
use crate::protocol::ws::inspector::{
    Content, FrameInspector, FrameLimits, Step, control_payload_is,
};
use crate::protocol::ws::message::MessageKind;
use crate::protocol::ws::violation::{Side, Violation};

/// One direction.
#[derive(Debug)]
pub(crate) struct Direction {
    from: Side,
    inspector: FrameInspector,
    /// Bytes that wait to be judged: the begin of a frame, or what a paused client has sent.
    waiting: Vec<u8>,
    /// Whole frames may stand among the bytes that wait to be judged.
    unparsed: bool,
    stop: Stop,
    /// How this direction ended: both can end in one poll of the session, which acts on one first.
    ended: Option<End>,
    limit: Option<Box<RateLimit>>,
}

/// Until when the source is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Never,
    /// Until what is under way has passed.
    After(UnderWay),
    Now,
}

/// What is let pass to its end before a session is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnderWay {
    /// A frame of which the sink has a part.
    Frame,
    /// A message of which anything has come, all its frames.
    Message,
}

/// What the rate of the source says of its next frame.
enum Rate {
    Within,
    /// What is left waits until it may go on.
    Paused,
    TooFast,
}

/// Why a direction has come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Its source sent Close, which has been passed on.
    Closed(CloseStatus),
    /// Its source broke the protocol; nothing of the breach was passed on.
    Broken(Violation),
    /// Its source's connection ended without Close.
    SourceLost,
    /// Its sink's connection is gone.
    SinkLost,
    /// Its source sent too fast.
    TooFast,
    /// What was under way has passed.
    Stopped,
}

impl Direction {
    /// The direction of what `from` sends; `arrived` has been read already.
    pub(crate) fn new(
        from: Side,
        limits: FrameLimits,
        rate: Option<MessageRate>,
        arrived: &[u8],
        now: Instant,
    ) -> Self {
        let limit = rate.map(|rate| Box::new(RateLimit::new(rate, now)));
        Self {
            from,
            inspector: FrameInspector::new(from, limits),
            waiting: arrived.to_vec(),
            unparsed: !arrived.is_empty(),
            stop: Stop::Never,
            ended: None,
            limit,
        }
    }

    /// Until when the source is paused for sending too fast.
    pub(crate) fn paused_until(&self) -> Option<Instant> {
        self.limit.as_ref()?.paused_until()
    }

    /// Bytes of memory held for what waits to be judged.
    pub(crate) fn held(&self) -> usize {
        self.waiting.capacity()
    }

    /// Whether the source is being read: not while its bytes cannot be passed on to `sink`.
    pub(crate) fn is_reading(&self, sink: &Leg) -> bool {
        self.stop != Stop::Now && sink.stalled_since().is_none() && self.paused_until().is_none()
    }

    /// Whether the sink has part of a frame that has not wholly passed.
    pub(crate) fn is_within_frame(&self) -> bool {
        self.inspector.is_within_frame()
    }

    /// Reads on only until what is under way has passed.
    pub(crate) fn stop_after(&mut self, what: UnderWay) {
        if self.stop == Stop::Never {
            let is_under_way = match what {
                UnderWay::Frame => self.is_within_frame(),
                UnderWay::Message => self.inspector.is_within_message() || !self.waiting.is_empty(),
            };
            self.stop = if is_under_way { Stop::After(what) } else { Stop::Now };
        }
    }

    /// Whether nothing is read any more.
    pub(crate) fn has_stopped(&self) -> bool {
        self.stop == Stop::Now
    }

    /// The Close that has been passed on.
    pub(crate) fn passed_close(&self) -> Option<CloseStatus> {
        match self.ended {
            Some(End::Closed(status)) => Some(status),
            _ => None,
        }
    }

    /// Moves what can be moved, but no more than a few reads of it, so that the other direction and
    /// the thread's other sessions have their turns. Pending: nothing more for now, with wakers registered.
    /// Once this direction has ended, what is left is still written, and the end told again.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut Leg,
        sink: &mut Leg,
        around: &mut Around<'_>,
    ) -> Poll<End> {
        for _ in 0..READS_PER_POLL {
            let written = sink.outlet.poll_write(cx, &mut sink.stream, around.now);
            if let Some(end) = self.ended {
                return Poll::Ready(end);
            }
            if ready!(written).is_err() {
                return self.end(End::SinkLost);
            }
            if self.stop == Stop::Now || self.is_paused(around.now) {
                return Poll::Pending;
            }
            let passed = scratch::with(|buffer| self.poll_pass(cx, source, sink, around, buffer));
            if let Some(end) = ready!(passed) {
                return self.end(end);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn end(&mut self, end: End) -> Poll<End> {
        self.stop = Stop::Now;
        self.ended = Some(end);
        Poll::Ready(end)
    }

    fn is_paused(&mut self, now: Instant) -> bool {
        self.limit.as_mut().is_some_and(|limit| limit.is_paused(now))
    }

    /// Reads once, judges what is there and writes what may pass. `Some`: this direction has ended.
    fn poll_pass(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut Leg,
        sink: &mut Leg,
        around: &mut Around<'_>,
        buffer: &mut [u8],
    ) -> Poll<Option<End>> {
        let held = self.waiting.len();
        let (front, free) = buffer.split_at_mut(held);
        front.copy_from_slice(&self.waiting);
        let mut filled = held;
        if !std::mem::take(&mut self.unparsed) {
            let mut read = ReadBuf::new(match &self.limit {
                Some(limit) => limit.within_reason(free),
                None => free,
            });
            let result = ready!(Pin::new(&mut source.stream).poll_read(cx, &mut read));
            if let Some(end) = lost_by(&result, read.filled().is_empty()) {
                return Poll::Ready(Some(end));
            }
            filled += read.filled().len();
            source.alive.heard(around.now);
        }
        // Two of them, so that being watched costs the others nothing for a frame.
        let (passed, end) = if around.watched.is_some() {
            self.judge::<true>(buffer, &mut filled, source, sink, around)
        } else {
            self.judge::<false>(buffer, &mut filled, source, sink, around)
        };
        let (may_pass, rest) = buffer.split_at(passed);
        self.keep(rest.get(..filled - passed).filter(|_| end.is_none()).unwrap_or_default());
        let written = sink.outlet.write(cx, &mut sink.stream, may_pass, around.now);
        // What the source did counts for more than that the sink cannot be sent it.
        let lost = written.err().map(|_| End::SinkLost);
        Poll::Ready(end.or(lost))
    }

    /// Keeps what waits to be judged; owns no buffer while that is nothing.
    fn keep(&mut self, to_judge: &[u8]) {
        self.waiting.clear();
        self.waiting.reserve_exact(to_judge.len());
        self.waiting.extend_from_slice(to_judge);
        scratch::shrink(&mut self.waiting);
    }

    /// Judges `buffer[..filled]`: how much of its front may pass, and whether the direction ends
    /// there. Pongs to our own Pings are taken out, so `filled` may shrink.
    fn judge<const WATCHED: bool>(
        &mut self,
        buffer: &mut [u8],
        filled: &mut usize,
        source: &mut Leg,
        sink: &mut Leg,
        around: &mut Around<'_>,
    ) -> (usize, Option<End>) {
        let mut passed = 0;
        loop {
            let rest = buffer.get(passed..*filled).unwrap_or_default();
            if rest.is_empty() {
                if let Some(limit) = &mut self.limit {
                    limit.all_passed();
                }
                return (passed, None);
            }
            match self.rate(around) {
                Rate::Within => {}
                Rate::Paused => return (passed, None),
                Rate::TooFast => return (passed, Some(End::TooFast)),
            }
            let begins = !self.inspector.is_within_frame();
            let judged = self.inspector.inspect(rest);
            if WATCHED {
                self.show(around, begins, rest, judged);
            }
            match judged {
                Err(violation) => return (passed, Some(End::Broken(violation))),
                Ok(Step::NeedMore) => return (passed, None),
                Ok(Step::Part { len, payload }) => {
                    around.traffic.bytes(payload);
                    *around.last_data = around.now;
                    passed += len;
                }
                Ok(Step::Frame { len, content: Content::Pong, .. })
                    if self.is_our_pong(rest, len, source, around) =>
                {
                    // At most once for each Ping of ours.
                    buffer.copy_within(passed + len..*filled, passed);
                    *filled -= len;
                    self.spend();
                }
                Ok(Step::Frame { len, payload, content }) => {
                    around.traffic.bytes(payload);
                    self.count(content, source, sink, around);
                    passed += len;
                    if let Content::Close(status) = content {
                        return (passed, Some(End::Closed(status)));
                    }
                    if self.has_passed() {
                        return (passed, Some(End::Stopped));
                    }
                }
            }
        }
    }

    /// Whether what was under way when the stop was asked for has passed, now that a frame has.
    fn has_passed(&self) -> bool {
        match self.stop {
            Stop::After(UnderWay::Frame) => true,
            Stop::After(UnderWay::Message) => !self.inspector.is_within_message(),
            Stop::Never | Stop::Now => false,
        }
    }

    /// Every frame counts against the source's rate.
    fn spend(&mut self) {
        if let Some(limit) = &mut self.limit {
            limit.spend();
        }
    }

    /// Shows a frame's header when it begins to pass, and what is wrong wherever it is found.
    fn show(
        &self,
        around: &Around<'_>,
        begins: bool,
        bytes: &[u8],
        judged: Result<Step, Violation>,
    ) {
        match (around.watched, judged) {
            (Some(watched), judged) if begins => watched.judged(self.from, bytes, judged),
            (Some(watched), Err(violation)) => watched.broken(self.from, violation),
            _ => {}
        }
    }

    /// Whether the next frame may pass by the source's rate.
    fn rate(&mut self, around: &mut Around<'_>) -> Rate {
        match self.limit.as_mut().and_then(|limit| limit.excess(around.now)) {
            None => Rate::Within,
            Some(OverRate::Close) => Rate::TooFast,
            Some(OverRate::Pause) => {
                self.unparsed = true;
                around.noted.paused = true;
                Rate::Paused
            }
        }
    }

    /// Takes the Pong to our own Ping; any other is the peers' business, also one that repeats it.
    fn is_our_pong(
        &self,
        rest: &[u8],
        len: usize,
        source: &mut Leg,
        around: &mut Around<'_>,
    ) -> bool {
        let frame = rest.get(..len).unwrap_or_default();
        let ours =
            source.alive.expects_pong() && control_payload_is(frame, self.from, around.marker);
        if ours {
            let waited = source.alive.pong_received(around.now);
            around.noted.pong = waited.map(|waited| (self.from, waited)).or(around.noted.pong);
        }
        ours
    }

    fn count(
        &mut self,
        content: Content,
        source: &mut Leg,
        sink: &mut Leg,
        around: &mut Around<'_>,
    ) {
        self.spend();
        match content {
            Content::Fragment => *around.last_data = around.now,
            Content::Message(kind) => {
                around.traffic.message(kind);
                *around.last_data = around.now;
            }
            Content::Ping => {
                around.traffic.message(MessageKind::Ping);
                sink.alive.ping_relayed(around.now);
            }
            Content::Pong => {
                around.traffic.message(MessageKind::Pong);
                source.alive.pong_relayed();
            }
            Content::Close(_) => {}
        }
    }
}

/// Reads of 64 KiB at most that one direction may take in a row.
const READS_PER_POLL: usize = 4;

/// How a direction ends by what came of reading, if it does.
fn lost_by(read: &io::Result<()>, is_nothing: bool) -> Option<End> {
    match read {
        Ok(()) => is_nothing.then_some(End::SourceLost),
        Err(error) if error.get_ref().is_some_and(|error| error.is::<TooManyEmptyRecords>()) => {
            Some(End::Broken(Violation::EmptyRecords))
        }
        Err(_) => Some(End::SourceLost),
    }
}
