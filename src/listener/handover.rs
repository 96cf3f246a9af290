//! What hyper is given: a service that leaves requests for [`super::http`], and the stream under it. I/O.

use std::future::Future;
use std::io::{self, IoSlice};
use std::ops::Deref;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::Service;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

use crate::net::stream::Stream;

/// Where hyper leaves a request and waits for its answer.
#[derive(Clone, Default)]
pub(super) struct Handover(Arc<Place>);

pub(super) struct Place {
    pub(super) handed: Mutex<Option<Handed>>,
    /// Bytes have been read since this was last cleared.
    pub(super) heard: AtomicBool,
    /// All that was written has been flushed.
    pub(super) is_flushed: AtomicBool,
    /// What hyper writes is not sent: it answers unreadable heads without a word.
    pub(super) is_silenced: AtomicBool,
    /// The head that is being read, for the spelling of its names; `None` once it has been.
    head: Mutex<Option<Vec<u8>>>,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            handed: Mutex::default(),
            heard: AtomicBool::new(false),
            is_flushed: AtomicBool::new(true),
            is_silenced: AtomicBool::new(false),
            head: Mutex::new(Some(Vec::new())),
        }
    }
}

pub(super) struct Handed {
    pub(super) request: Request<Incoming>,
    pub(super) respond: oneshot::Sender<Response<Full<Bytes>>>,
}

impl Deref for Handover {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.0
    }
}

impl Place {
    pub(super) fn take(&self) -> Option<Handed> {
        self.handed().take()
    }

    pub(super) fn is_filled(&self) -> bool {
        self.handed().is_some()
    }

    pub(super) fn head(&self) -> MutexGuard<'_, Option<Vec<u8>>> {
        self.head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what is read of a head; what comes behind it does no harm.
    fn note(&self, read: &[u8]) {
        if let Some(head) = self.head().as_mut().filter(|head| head.len() < MOST_NOTED) {
            head.extend_from_slice(read);
        }
    }

    fn handed(&self) -> MutexGuard<'_, Option<Handed>> {
        self.handed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service<Request<Incoming>> for Handover {
    type Response = Response<Full<Bytes>>;
    type Error = Unanswered;
    type Future = Answer;

    fn call(&self, request: Request<Incoming>) -> Answer {
        let (respond, answer) = oneshot::channel();
        *self.handed() = Some(Handed { request, respond });
        Answer(answer)
    }
}

/// The stream under HTTP, which notes when the client is heard of.
pub(super) struct Heard {
    pub(super) stream: Stream,
    pub(super) handover: Handover,
}

impl AsyncRead for Heard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let read = buffer.filled().get(before..).unwrap_or_default();
        if !read.is_empty() {
            self.handover.heard.store(true, Ordering::Relaxed);
            self.handover.note(read);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Heard {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.handover.is_silenced.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(bytes.len()));
        }
        self.handover.is_flushed.store(false, Ordering::Relaxed);
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.handover.is_silenced.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        self.handover.is_flushed.store(false, Ordering::Relaxed);
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.handover.is_flushed.store(true, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The request was dropped without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the request was not answered")]
pub(crate) struct Unanswered;

/// Resolves to the answer.
pub(crate) struct Answer(oneshot::Receiver<Response<Full<Bytes>>>);

impl Future for Answer {
    type Output = Result<Response<Full<Bytes>>, Unanswered>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map_err(|_| Unanswered)
    }
}

/// Bytes of a head that are kept: more than any listener reads.
const MOST_NOTED: usize = 512 * 1024;
