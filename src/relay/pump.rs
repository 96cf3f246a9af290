//! One direction of a session: read, have it inspected, write it on as it came. I/O.
//!
//! The floor is one read and one write per message, and this is written to stay on it: bytes are read
//! into the thread's scratch buffer, judged there and written from there. Only what a full socket
//! does not take, and the begin of a frame that is not whole, is kept in the session ([`Pump::carry`]),
//! and while anything waits to be written nothing more is read.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::keepalive::Keepalive;
use super::scratch;
use crate::admission::rate::Bucket;
use crate::config::{MessageRate, OverRate};
use crate::session::record::CloseStatus;
use crate::session::traffic::{DirectionTraffic, MessageKind};
use crate::stream::Stream;
use crate::ws::inspector::{Content, FrameInspector, FrameLimits, Step, control_payload_is};
use crate::ws::violation::{Side, Violation};

/// One direction.
#[derive(Debug)]
pub(crate) struct Pump {
    from: Side,
    inspector: FrameInspector,
    /// First [`Self::ready`] bytes that may be written, then bytes that may not yet.
    carry: Vec<u8>,
    ready: usize,
    /// Whole frames may stand among the bytes that may not be written yet.
    unparsed: bool,
    /// Bytes a TLS sink has taken and, as far as is known, not sent.
    unflushed: usize,
    stop: Stop,
    /// How this direction ended: both can end in one poll of the session, which acts on one first.
    ended: Option<PumpEnd>,
    stalled: Option<Stall>,
    limit: Option<Box<Limit>>,
}

/// A sink that makes us wait.
#[derive(Debug, Clone, Copy)]
struct Stall {
    since: Instant,
    /// What the socket under TLS had taken by then: more than that is no stall.
    taken: Option<u64>,
}

/// Until when the source is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Never,
    /// Until the frame that is under way has passed.
    AtBoundary,
    Now,
}

/// The message rate of a client.
#[derive(Debug)]
struct Limit {
    bucket: Bucket,
    over: OverRate,
    paused_until: Option<Instant>,
    /// The source has been paused before and not been within its rate since: it is read in small
    /// pieces, so that what it sends waits in its own buffers rather than in ours.
    is_flooding: bool,
}

/// What a pump needs of its session for one poll.
pub(crate) struct Surroundings<'a> {
    pub(crate) now: Instant,
    pub(crate) traffic: &'a DirectionTraffic,
    /// Payload of the gateway's own Pings.
    pub(crate) marker: &'a [u8],
    pub(crate) source: &'a mut Keepalive,
    pub(crate) sink: &'a mut Keepalive,
    pub(crate) last_data: &'a mut Instant,
    /// What is to be counted; the session takes it from here.
    pub(crate) noted: &'a mut Noted,
}

/// What happened during a poll that is worth a metric.
#[derive(Debug, Default)]
pub(crate) struct Noted {
    /// The source answered our Ping after this time.
    pub(crate) pong: Option<(Side, Duration)>,
    /// The client had to be paused.
    pub(crate) paused: bool,
}

/// Why a direction has come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PumpEnd {
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
    /// The frame that was under way has passed.
    AtBoundary,
}

impl Pump {
    /// A pump for what `from` sends; `arrived` has been read already.
    pub(crate) fn new(
        from: Side,
        limits: FrameLimits,
        rate: Option<MessageRate>,
        arrived: &[u8],
        now: Instant,
    ) -> Self {
        let limit = rate.map(|MessageRate { rate, over }| {
            let bucket = Bucket::new(rate, now);
            Box::new(Limit { bucket, over, paused_until: None, is_flooding: false })
        });
        Self {
            from,
            inspector: FrameInspector::new(from, limits),
            carry: arrived.to_vec(),
            ready: 0,
            unparsed: !arrived.is_empty(),
            unflushed: 0,
            stop: Stop::Never,
            ended: None,
            stalled: None,
            limit,
        }
    }

    /// Since when the sink has taken nothing.
    pub(crate) fn stalled_since(&self) -> Option<Instant> {
        self.stalled.map(|stall| stall.since)
    }

    /// Until when the source is paused for sending too fast.
    pub(crate) fn paused_until(&self) -> Option<Instant> {
        self.limit.as_ref()?.paused_until
    }

    /// Bytes held, those in the sink's TLS buffers included while they wait.
    pub(crate) fn held(&self) -> usize {
        self.carry.len() + if self.stalled.is_some() { self.unflushed } else { 0 }
    }

    /// Whether the source is being read: not while its bytes cannot be passed on.
    pub(crate) fn is_reading(&self) -> bool {
        self.stop != Stop::Now && self.stalled.is_none() && self.paused_until().is_none()
    }

    /// Whether the sink has part of a frame that has not wholly passed.
    pub(crate) fn is_within_frame(&self) -> bool {
        self.inspector.is_within_frame()
    }

    /// Reads on only until the frame that is under way has passed.
    pub(crate) fn stop_at_boundary(&mut self) {
        if self.stop == Stop::Never {
            self.stop = if self.is_within_frame() { Stop::AtBoundary } else { Stop::Now };
        }
    }

    /// Whether nothing is read any more.
    pub(crate) fn has_stopped(&self) -> bool {
        self.stop == Stop::Now
    }

    /// Puts a frame of the gateway's own between the source's frames; false when the sink is within one.
    pub(crate) fn inject(&mut self, frame: &[u8]) -> bool {
        if self.is_within_frame() {
            return false;
        }
        self.carry.splice(self.ready..self.ready, frame.iter().copied());
        self.ready += frame.len();
        true
    }

    /// The bytes that may be written and have not been.
    pub(crate) fn into_unwritten(mut self) -> Vec<u8> {
        self.carry.truncate(self.ready);
        self.carry
    }

    /// Moves what can be moved. Pending: nothing more for now, with wakers registered. Once this
    /// direction has ended, what is left is still written, and the end told again.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut Stream,
        sink: &mut Stream,
        around: &mut Surroundings<'_>,
    ) -> Poll<PumpEnd> {
        loop {
            let written = self.poll_write(cx, sink, around.now);
            if let Some(end) = self.ended {
                return Poll::Ready(end);
            }
            if ready!(written).is_err() {
                return self.end(PumpEnd::SinkLost);
            }
            if self.stop == Stop::Now || self.is_paused(around.now) {
                return Poll::Pending;
            }
            let passed = scratch::with(|buffer| self.poll_pass(cx, source, sink, around, buffer));
            if let Some(end) = ready!(passed) {
                return self.end(end);
            }
        }
    }

    fn end(&mut self, end: PumpEnd) -> Poll<PumpEnd> {
        self.stop = Stop::Now;
        self.ended = Some(end);
        Poll::Ready(end)
    }

    /// Writes what may be written, and has TLS send what it holds back.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut Stream,
        now: Instant,
    ) -> Poll<Result<(), Gone>> {
        while self.ready > 0 {
            let bytes = self.carry.get(..self.ready).unwrap_or_default();
            match Pin::new(&mut *sink).poll_write(cx, bytes) {
                Poll::Ready(Ok(written)) if written > 0 => {
                    self.carry.drain(..written);
                    self.ready -= written;
                    self.wrote(sink, written);
                }
                Poll::Ready(_) => return Poll::Ready(Err(Gone)),
                Poll::Pending => return self.stall(sink, now),
            }
        }
        if self.unflushed > 0 {
            match Pin::new(&mut *sink).poll_flush(cx) {
                Poll::Ready(Ok(())) => self.unflushed = 0,
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Gone)),
                Poll::Pending => return self.stall(sink, now),
            }
        }
        self.stalled = None;
        if self.carry.is_empty() && self.carry.capacity() > 0 {
            self.carry = Vec::new();
        }
        Poll::Ready(Ok(()))
    }

    /// Bytes were taken: by the socket, or by TLS in front of it, which must be flushed.
    fn wrote(&mut self, sink: &Stream, written: usize) {
        if sink.taken_under_tls().is_some() {
            self.unflushed += written;
        } else {
            self.stalled = None;
        }
    }

    /// The sink makes us wait: since now, if it has taken anything since it last did.
    fn stall(&mut self, sink: &Stream, now: Instant) -> Poll<Result<(), Gone>> {
        let taken = sink.taken_under_tls();
        if self.stalled.is_none_or(|stall| stall.taken != taken) {
            self.stalled = Some(Stall { since: now, taken });
        }
        Poll::Pending
    }

    fn is_paused(&mut self, now: Instant) -> bool {
        let Some(limit) = &mut self.limit else { return false };
        if limit.paused_until.is_some_and(|until| now >= until) {
            limit.paused_until = None;
        }
        limit.paused_until.is_some()
    }

    /// Reads once, judges what is there and writes what may pass. `Some`: this direction has ended.
    fn poll_pass(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut Stream,
        sink: &mut Stream,
        around: &mut Surroundings<'_>,
        buffer: &mut [u8],
    ) -> Poll<Option<PumpEnd>> {
        let held = self.carry.len();
        let (front, free) = buffer.split_at_mut(held);
        front.copy_from_slice(&self.carry);
        let mut filled = held;
        if !std::mem::take(&mut self.unparsed) {
            let mut read = ReadBuf::new(self.within_reason(free));
            let result = ready!(Pin::new(source).poll_read(cx, &mut read));
            if result.is_err() || read.filled().is_empty() {
                return Poll::Ready(Some(PumpEnd::SourceLost));
            }
            filled += read.filled().len();
            around.source.heard(around.now);
        }
        let (passed, end) = self.judge(buffer, &mut filled, around);
        let keep_to = if end.is_some() { passed } else { filled };
        let sink_is_there = self.write_now(cx, sink, buffer, passed, keep_to, around.now);
        // What the source did counts for more than that the sink cannot be told of it.
        Poll::Ready(end.or(if sink_is_there { None } else { Some(PumpEnd::SinkLost) }))
    }

    /// As much of the scratch buffer as this source is trusted with.
    fn within_reason<'a>(&self, free: &'a mut [u8]) -> &'a mut [u8] {
        let is_flooding = self.limit.as_ref().is_some_and(|limit| limit.is_flooding);
        let len = if is_flooding { free.len().min(FLOOD_READ) } else { free.len() };
        free.split_at_mut(len).0
    }

    /// Judges `buffer[..filled]`: how much of its front may pass, and whether the direction ends
    /// there. Pongs to our own Pings are taken out, so `filled` may shrink.
    fn judge(
        &mut self,
        buffer: &mut [u8],
        filled: &mut usize,
        around: &mut Surroundings<'_>,
    ) -> (usize, Option<PumpEnd>) {
        let mut passed = 0;
        loop {
            let rest = buffer.get(passed..*filled).unwrap_or_default();
            if rest.is_empty() {
                self.is_within_rate();
                return (passed, None);
            }
            if let Some(over) = self.over_rate(around) {
                return (passed, over);
            }
            match self.inspector.inspect(rest) {
                Err(violation) => return (passed, Some(PumpEnd::Broken(violation))),
                Ok(Step::NeedMore) => return (passed, None),
                Ok(Step::Part { len, payload }) => {
                    around.traffic.bytes(payload);
                    *around.last_data = around.now;
                    passed += len;
                }
                Ok(Step::Frame { len, content: Content::Pong, .. })
                    if self.is_our_pong(rest, len, around) =>
                {
                    buffer.copy_within(passed + len..*filled, passed);
                    *filled -= len;
                }
                Ok(Step::Frame { len, payload, content }) => {
                    around.traffic.bytes(payload);
                    self.count(content, around);
                    passed += len;
                    if let Content::Close(status) = content {
                        return (passed, Some(PumpEnd::Closed(status)));
                    }
                    if self.stop == Stop::AtBoundary {
                        return (passed, Some(PumpEnd::AtBoundary));
                    }
                }
            }
        }
    }

    /// Whether the next frame would come too fast; then either the direction ends, or what is left
    /// waits until it may go on.
    fn over_rate(&mut self, around: &mut Surroundings<'_>) -> Option<Option<PumpEnd>> {
        let limit = self.limit.as_mut()?;
        limit.bucket.ready(around.now).err()?;
        match limit.over {
            OverRate::Close => Some(Some(PumpEnd::TooFast)),
            OverRate::Pause => {
                limit.paused_until = Some(around.now + limit.bucket.pause());
                limit.is_flooding = true;
                self.unparsed = true;
                around.noted.paused = true;
                Some(None)
            }
        }
    }

    /// Everything the source had sent could pass at once.
    fn is_within_rate(&mut self) {
        if let Some(limit) = &mut self.limit {
            limit.is_flooding = false;
        }
    }

    fn is_our_pong(&self, rest: &[u8], len: usize, around: &mut Surroundings<'_>) -> bool {
        let frame = rest.get(..len).unwrap_or_default();
        let ours = control_payload_is(frame, self.from, around.marker);
        if ours {
            let waited = around.source.pong_received(around.now);
            around.noted.pong = waited.map(|waited| (self.from, waited)).or(around.noted.pong);
        }
        ours
    }

    fn count(&mut self, content: Content, around: &mut Surroundings<'_>) {
        if let Some(limit) = &mut self.limit {
            limit.bucket.spend();
        }
        match content {
            Content::Fragment => *around.last_data = around.now,
            Content::Message(kind) => {
                around.traffic.message(kind);
                *around.last_data = around.now;
            }
            Content::Ping => {
                around.traffic.message(MessageKind::Ping);
                around.sink.ping_relayed(around.now);
            }
            Content::Pong => {
                around.traffic.message(MessageKind::Pong);
                around.source.pong_relayed();
            }
            Content::Close(_) => {}
        }
    }

    /// Writes `buffer[..passed]` straight from the scratch buffer; what is not taken, and what may
    /// not pass yet (`..keep_to`), is kept. False: the sink is gone.
    fn write_now(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut Stream,
        buffer: &[u8],
        passed: usize,
        keep_to: usize,
        now: Instant,
    ) -> bool {
        let mut written = 0;
        let mut sink_is_there = true;
        if passed > 0 {
            let bytes = buffer.get(..passed).unwrap_or_default();
            match Pin::new(&mut *sink).poll_write(cx, bytes) {
                Poll::Ready(Ok(taken)) if taken > 0 => {
                    written = taken;
                    self.wrote(sink, taken);
                }
                Poll::Ready(_) => sink_is_there = false,
                Poll::Pending => drop(self.stall(sink, now)),
            }
        }
        self.carry.clear();
        self.carry.extend_from_slice(buffer.get(written..keep_to).unwrap_or_default());
        self.ready = passed - written;
        sink_is_there
    }
}

/// A connection that cannot be written to.
struct Gone;

/// Bytes read at once from a client that sends faster than it may.
const FLOOD_READ: usize = 8 * 1024;
