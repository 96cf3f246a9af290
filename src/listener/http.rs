//! HTTP/1.1 on a client connection: request heads out, answers in, and the raw stream back. I/O.
//!
//! hyper reads and writes HTTP; who decides is outside. [`HttpConnection`] turns hyper's service
//! inside out: [`HttpConnection::next`] gives a request head, [`HttpConnection::respond`] answers it,
//! and when the last answer is written [`HttpConnection::finish`] hands the connection back for
//! the relay (or for a lingering close) with the bytes that came behind the request. hyper's own
//! upgrade machinery would end this connection's future in the middle of that.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt;
use tokio::sync::oneshot;

use crate::net::stream::Stream;

/// A client connection that speaks HTTP.
pub(crate) struct HttpConnection {
    connection: http1::Connection<TokioIo<Stream>, Desk>,
    desk: Desk,
    respond: Option<oneshot::Sender<Response<Full<Bytes>>>>,
    is_over: bool,
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
    /// Speaks HTTP on `stream`; each request head must be read within `head_timeout`.
    pub(crate) fn new(stream: Stream, head_timeout: Duration) -> Self {
        let desk = Desk::default();
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(head_timeout)
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_HEADERS)
            .serve_connection(TokioIo::new(stream), desk.clone());
        Self { connection, desk, respond: None, is_over: false }
    }

    /// The next request's head.
    pub(crate) async fn next(&mut self) -> Result<Parts, NoRequest> {
        std::future::poll_fn(|cx| {
            let polled = self.poll_connection(cx);
            if let Some(visit) = self.desk.take() {
                self.respond = Some(visit.respond);
                return Poll::Ready(Ok(visit.head));
            }
            polled.map(|ended| {
                Err(match ended {
                    Ok(()) => NoRequest::Closed,
                    Err(error) if error.is_timeout() => NoRequest::Timeout,
                    Err(error) => NoRequest::Broken(error),
                })
            })
        })
        .await
    }

    /// Resolves when the client goes away while its request is being decided.
    pub(crate) async fn gone(&mut self) {
        std::future::poll_fn(|cx| self.poll_connection(cx).map(drop)).await;
    }

    /// Answers the request that [`Self::next`] gave, without waiting for it to be written.
    pub(crate) fn respond(&mut self, response: Response<Full<Bytes>>) {
        if let Some(respond) = self.respond.take() {
            // Fails only when the connection has ended, which the next call will show.
            let _ = respond.send(response);
        }
    }

    /// Answers, writes, and gives the stream back with what came behind the request. The answer must
    /// be the connection's last: a 101, or one with `Connection: close`.
    pub(crate) async fn finish(mut self, response: Response<Full<Bytes>>) -> (Stream, Vec<u8>) {
        self.respond(response);
        std::future::poll_fn(|cx| self.poll_connection(cx).map(drop)).await;
        let parts = self.connection.into_parts();
        let mut stream = parts.io.into_inner();
        // hyper does not wait for TLS to have sent it. If it cannot be sent, reading will show it.
        let _ = stream.flush().await;
        (stream, parts.read_buf.to_vec())
    }

    /// Gives the stream back where there is no request left to answer.
    pub(crate) fn into_stream(self) -> Stream {
        self.connection.into_parts().io.into_inner()
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

/// Where hyper leaves a request and waits for its answer.
#[derive(Clone, Default)]
struct Desk(Arc<Mutex<Option<Visit>>>);

struct Visit {
    head: Parts,
    respond: oneshot::Sender<Response<Full<Bytes>>>,
}

impl Desk {
    fn take(&self) -> Option<Visit> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Service<Request<Incoming>> for Desk {
    type Response = Response<Full<Bytes>>;
    type Error = Unanswered;
    type Future = Answer;

    fn call(&self, request: Request<Incoming>) -> Answer {
        // Bodies are not read: no request that may have one is answered with anything but an end.
        let (head, _) = request.into_parts();
        let (respond, answer) = oneshot::channel();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Visit { head, respond });
        Answer(answer)
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

/// Largest request head in bytes.
const MAX_HEAD: usize = 16 * 1024;
/// Most headers in a request.
const MAX_HEADERS: usize = 100;
