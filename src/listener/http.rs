//! HTTP/1.1 on a client connection: request heads out, answers in, and the raw stream back. I/O.
//!
//! hyper reads and writes HTTP; the decision is made outside. [`HttpConnection`] turns hyper's service
//! inside out: [`HttpConnection::next`] gives a request, [`HttpConnection::respond`] answers it,
//! and when the last answer is written [`HttpConnection::finish`] hands the connection back for
//! the relay (or for a lingering close) with the bytes that came behind the request. hyper's own
//! upgrade machinery would end this connection's future in the middle of that.
//!
//! Time is kept here, not by hyper: its limit for a head runs while a kept connection is idle, too.

use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::handshake::request::BadRequest;
use crate::handshake::spelling::Spelling;
use crate::net::stream::Stream;

use super::handover::{Handover, Heard};

/// A client connection that speaks HTTP.
pub(crate) struct HttpConnection {
    connection: http1::Connection<TokioIo<Heard>, Handover>,
    handover: Handover,
    respond: Option<oneshot::Sender<Response<Full<Bytes>>>>,
    is_over: bool,
    /// Bytes of a head that are read at most.
    most: usize,
}

/// How large a request's head was, where that is known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadLength(pub(crate) usize);

/// A connection whose last answer has been written.
pub(crate) struct Finished {
    pub(crate) stream: Stream,
    /// What came behind the last request.
    pub(crate) arrived: Vec<u8>,
}

/// Why there is no (further) request.
#[derive(Debug)]
pub(crate) enum NoRequest {
    /// The client closed between requests.
    Closed,
    /// The head did not come in time.
    Timeout,
    /// The head is no HTTP, too large, or the connection broke; hyper has answered where it could.
    Broken(hyper::Error),
}

impl NoRequest {
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Closed => "closed without a request",
            Self::Timeout => "the request head took too long",
            Self::Broken(_) => "not a readable request",
        }
    }
}

impl HttpConnection {
    /// Speaks HTTP on `stream`; a head should have at most `head_size` bytes, which is the caller's to check.
    pub(crate) fn new(stream: Stream, head_size: u32) -> Self {
        let handover = Handover::default();
        // Above the limit, so that what is little over it can still be told by how much.
        let most = head_size as usize + HEAD_MARGIN;
        let io = TokioIo::new(Heard { stream, handover: handover.clone() });
        let connection = http1::Builder::new()
            .max_buf_size(most)
            .max_headers(MAX_HEADERS)
            .serve_connection(io, handover.clone());
        Self { connection, handover, respond: None, is_over: false, most }
    }

    /// Waits for the first byte of a further request; writes what is left of the last answer meanwhile.
    ///
    /// # Errors
    ///
    /// [`NoRequest`] when there is none, after `limit` at the latest.
    pub(crate) async fn wait(&mut self, limit: Duration) -> Result<(), NoRequest> {
        self.handover.heard.store(false, Ordering::Relaxed);
        if !self.handover.is_filled() {
            *self.handover.head() = Some(Vec::new());
        }
        let heard = std::future::poll_fn(|cx| {
            let polled = self.poll_connection(cx);
            let is_heard = self.handover.heard.load(Ordering::Relaxed) || self.handover.is_filled();
            if is_heard { Poll::Ready(Ok(())) } else { polled.map(|ended| Err(no_request(ended))) }
        });
        timeout(limit, heard).await.unwrap_or(Err(NoRequest::Timeout))
    }

    /// The next request, whose head must be read within `limit`.
    ///
    /// # Errors
    ///
    /// [`NoRequest`] when there is none.
    pub(crate) async fn next(&mut self, limit: Duration) -> Result<Request<Incoming>, NoRequest> {
        // What hyper says by itself from here on is about a head that it cannot read.
        self.handover
            .is_silenced
            .store(self.handover.is_flushed.load(Ordering::Relaxed), Ordering::Relaxed);
        let next = std::future::poll_fn(|cx| {
            let polled = self.poll_connection(cx);
            if let Some(mut handed) = self.handover.take() {
                self.respond = Some(handed.respond);
                // hyper has only the lower case of names. Known of a connection's first request, and of a
                // further one unless it came with the one before.
                if let Some(head) = self.handover.head().take() {
                    let extensions = handed.request.extensions_mut();
                    extensions.insert(Spelling::of(&head));
                    extensions.insert(HeadLength(length_of(&head)));
                }
                return Poll::Ready(Ok(handed.request));
            }
            polled.map(|ended| Err(no_request(ended)))
        });
        timeout(limit, next).await.unwrap_or(Err(NoRequest::Timeout))
    }

    /// What is wrong with a head that hyper could not read: the status, and the sentence for whoever sent it.
    /// `None`: hyper has answered, behind an earlier answer.
    pub(crate) fn explain(
        &self,
        error: &hyper::Error,
        head_size: u32,
    ) -> Option<(StatusCode, String)> {
        let is_silenced = self.handover.is_silenced.load(Ordering::Relaxed);
        is_silenced.then(|| self.fault(error, head_size))
    }

    fn fault(&self, error: &hyper::Error, head_size: u32) -> (StatusCode, String) {
        let head = self.handover.head().take().unwrap_or_default();
        let mut lines = head.split(|byte| *byte == b'\n');
        let target = lines.next().map_or(0, <[u8]>::len);
        if head.len() >= self.most {
            let fault = BadRequest::HeadTooLarge(head_size);
            (fault.status(), fault.to_string())
        } else if error.is_parse_too_large() && lines.count() > MAX_HEADERS {
            let text = format!("the request has more than {MAX_HEADERS} header lines");
            (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, text)
        } else if error.is_parse_too_large() && target > LONGEST_TARGET {
            (
                StatusCode::URI_TOO_LONG,
                format!("the request target is longer than {LONGEST_TARGET} bytes"),
            )
        } else if error.is_parse_too_large() {
            let text = "the request says that its body is too large to exist".to_owned();
            (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, text)
        } else {
            (StatusCode::BAD_REQUEST, format!("the request cannot be read: {error}"))
        }
    }

    /// Resolves when the client goes away while its request is being decided.
    pub(crate) async fn gone(&mut self) {
        std::future::poll_fn(|cx| self.poll_connection(cx).map(drop)).await;
    }

    /// Answers the request that [`Self::next`] gave; it is written while the next one is waited for.
    pub(crate) fn respond(&mut self, response: Response<Full<Bytes>>) {
        self.handover.is_silenced.store(false, Ordering::Relaxed);
        if let Some(respond) = self.respond.take() {
            // Fails only when the connection has ended, which the next call will show.
            let _ = respond.send(response);
        }
    }

    /// Answers, writes, and gives the stream back with what came behind the request. The answer must
    /// be the connection's last: a 101, or one with `Connection: close`.
    pub(crate) async fn finish(mut self, response: Response<Full<Bytes>>) -> Finished {
        self.respond(response);
        std::future::poll_fn(|cx| self.poll_connection(cx).map(drop)).await;
        let parts = self.connection.into_parts();
        let mut stream = parts.io.into_inner().stream;
        // hyper does not wait for TLS to have sent it. If it cannot be sent, reading will show it.
        let _ = stream.flush().await;
        Finished { stream, arrived: parts.read_buf.to_vec() }
    }

    /// Sends `head` instead of an answer by hyper, whose names are in lower case, and gives the stream back
    /// with what came behind the request.
    pub(crate) async fn switch(mut self, head: &[u8]) -> Finished {
        // An earlier answer may not have been written yet.
        std::future::poll_fn(|cx| {
            let is_over = self.poll_connection(cx).is_ready();
            let is_written = self.handover.is_flushed.load(Ordering::Relaxed);
            if is_over || is_written { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        let parts = self.connection.into_parts();
        let mut stream = parts.io.into_inner().stream;
        // If it cannot be sent, reading will show it.
        if stream.write_all(head).await.is_ok() {
            let _ = stream.flush().await;
        }
        Finished { stream, arrived: parts.read_buf.to_vec() }
    }

    /// Gives the stream back where there is no request left to answer.
    pub(crate) fn into_stream(self) -> Stream {
        self.connection.into_parts().io.into_inner().stream
    }

    fn poll_connection(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        if self.is_over {
            return Poll::Ready(Ok(()));
        }
        let polled = self.connection.poll_without_shutdown(cx);
        self.is_over = polled.is_ready();
        polled
    }
}

fn no_request(ended: Result<(), hyper::Error>) -> NoRequest {
    match ended {
        Ok(()) => NoRequest::Closed,
        Err(error) => NoRequest::Broken(error),
    }
}

/// Bytes up to the empty line behind a head, with it.
fn length_of(head: &[u8]) -> usize {
    let ends = |end: &[u8]| {
        head.windows(end.len()).position(|window| window == end).map(|at| at + end.len())
    };
    ends(b"\r\n\r\n").or_else(|| ends(b"\n\n")).unwrap_or(head.len())
}

/// What a head may have more than it should, and is read all the same.
const HEAD_MARGIN: usize = 16 * 1024;
/// The longest target that can be read (`http::Uri`).
const LONGEST_TARGET: usize = 65_534;
/// Most headers in a request.
const MAX_HEADERS: usize = 100;
