//! What may be written to one side and has not been. I/O.
//!
//! While the sink takes everything this holds nothing, and owns no buffer.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::io::AsyncWrite;

use crate::net::scratch;
use crate::net::stream::Stream;

/// Bytes on their way to a connection.
#[derive(Debug, Default)]
pub(crate) struct Outlet {
    ready: Vec<u8>,
    /// Bytes the connection has taken so far.
    handed: u64,
    /// Bytes a TLS connection has taken and, as far as is known, not sent.
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
    /// Since when the sink has taken nothing.
    pub(crate) fn stalled_since(&self) -> Option<Instant> {
        self.stalled.map(|stall| stall.since)
    }

    /// Bytes the socket has taken so far: of TLS those under it.
    pub(crate) fn handed(&self, sink: &Stream) -> u64 {
        sink.taken_under_tls().unwrap_or(self.handed)
    }

    /// Bytes of memory held, those in the sink's TLS buffers included while they wait.
    pub(crate) fn held(&self) -> usize {
        self.ready.capacity() + if self.stalled.is_some() { self.unflushed } else { 0 }
    }

    /// Puts a whole frame behind what may be written.
    pub(crate) fn put(&mut self, frame: &[u8]) {
        self.ready.extend_from_slice(frame);
    }

    /// The bytes that may be written and have not been.
    pub(crate) fn take_unwritten(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.ready)
    }

    /// Writes what may be written, and has TLS send what it holds back.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut Stream,
        now: Instant,
    ) -> Poll<Result<(), Gone>> {
        while !self.ready.is_empty() {
            match Pin::new(&mut *sink).poll_write(cx, &self.ready) {
                Poll::Ready(Ok(written)) if written > 0 => {
                    self.ready.drain(..written);
                    scratch::shrink(&mut self.ready);
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
        if self.ready.capacity() > 0 {
            self.ready = Vec::new();
        }
        Poll::Ready(Ok(()))
    }

    /// Writes `bytes` straight from where they were read, and keeps what is not taken of them. Called
    /// only when nothing waits.
    ///
    /// # Errors
    ///
    /// [`Gone`] when the connection is.
    pub(crate) fn write(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut Stream,
        bytes: &[u8],
        now: Instant,
    ) -> Result<(), Gone> {
        if bytes.is_empty() {
            return Ok(());
        }
        let mut written = 0;
        let result = match Pin::new(&mut *sink).poll_write(cx, bytes) {
            Poll::Ready(Ok(taken)) if taken > 0 => {
                written = taken;
                self.wrote(sink, taken);
                Ok(())
            }
            Poll::Ready(_) => Err(Gone),
            Poll::Pending => {
                let _ = self.stall(sink, now);
                Ok(())
            }
        };
        let left = bytes.get(written..).unwrap_or_default();
        self.ready.reserve_exact(left.len());
        self.ready.extend_from_slice(left);
        result
    }

    /// Bytes were taken: by the socket, or by TLS in front of it, which must be flushed.
    fn wrote(&mut self, sink: &Stream, written: usize) {
        self.handed = self.handed.wrapping_add(written as u64);
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
