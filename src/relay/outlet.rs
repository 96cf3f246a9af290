//! The writing end of a pump, and what waits in front of it. I/O.
//!
//! While the sink takes everything this holds nothing, and owns no buffer.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::io::AsyncWrite;

use crate::net::stream::Stream;

/// Bytes on their way to a sink.
#[derive(Debug)]
pub(crate) struct Outlet {
    /// First [`Self::ready`] bytes that may be written, then bytes that wait to be judged.
    carry: Vec<u8>,
    ready: usize,
    /// Bytes a TLS sink has taken and, as far as is known, not sent.
    unflushed: usize,
    stalled: Option<Stall>,
}

/// A connection that cannot be written to.
#[derive(Debug)]
pub(crate) struct Gone;

/// A sink that makes us wait.
#[derive(Debug, Clone, Copy)]
struct Stall {
    since: Instant,
    /// What the socket under TLS had taken by then: more than that is no stall.
    taken: Option<u64>,
}

impl Outlet {
    /// Nothing written; `arrived` waits to be judged.
    pub(crate) fn new(arrived: &[u8]) -> Self {
        Self { carry: arrived.to_vec(), ready: 0, unflushed: 0, stalled: None }
    }

    /// Since when the sink has taken nothing.
    pub(crate) fn stalled_since(&self) -> Option<Instant> {
        self.stalled.map(|stall| stall.since)
    }

    /// Bytes held, those in the sink's TLS buffers included while they wait.
    pub(crate) fn held(&self) -> usize {
        self.carry.len() + if self.stalled.is_some() { self.unflushed } else { 0 }
    }

    /// The bytes that wait to be judged.
    pub(crate) fn waiting(&self) -> &[u8] {
        self.carry.get(self.ready..).unwrap_or_default()
    }

    /// Puts a whole frame behind what may be written.
    pub(crate) fn put(&mut self, frame: &[u8]) {
        self.carry.splice(self.ready..self.ready, frame.iter().copied());
        self.ready += frame.len();
    }

    /// The bytes that may be written and have not been.
    pub(crate) fn into_unwritten(mut self) -> Vec<u8> {
        self.carry.truncate(self.ready);
        self.carry
    }

    /// Writes what may be written, and has TLS send what it holds back.
    pub(crate) fn poll_write(
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

    /// Writes `may_pass` straight from where it was read, and keeps what is not taken of it, and
    /// `to_judge`. Called only when nothing may be written before. False: the sink is gone.
    pub(crate) fn write(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut Stream,
        may_pass: &[u8],
        to_judge: &[u8],
        now: Instant,
    ) -> bool {
        let mut written = 0;
        let mut sink_is_there = true;
        if !may_pass.is_empty() {
            match Pin::new(&mut *sink).poll_write(cx, may_pass) {
                Poll::Ready(Ok(taken)) if taken > 0 => {
                    written = taken;
                    self.wrote(sink, taken);
                }
                Poll::Ready(_) => sink_is_there = false,
                Poll::Pending => drop(self.stall(sink, now)),
            }
        }
        let left = may_pass.get(written..).unwrap_or_default();
        self.carry.clear();
        self.carry.extend_from_slice(left);
        self.carry.extend_from_slice(to_judge);
        self.ready = left.len();
        sink_is_there
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
}
