//! The lingering close: a connection is ended so that what was written last arrives. I/O.
//!
//! Closing a socket with unread input sends RST, which destroys what is still on its way (RFC 6455
//! section 7.1.1 has a server close first and wait for the client). The caller sets the limit.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::scratch;
use super::stream::Stream;

/// Sends FIN, then reads and discards until the peer's FIN.
pub(crate) async fn shut_down(stream: &mut Stream) {
    if stream.shutdown().await.is_ok() {
        discard(stream).await;
    }
}

/// Answers a peer that has ended, as far as the socket takes it at once: close_notify by its like (RFC
/// 8446 section 6.1), then FIN.
pub(crate) async fn leave(stream: &mut Stream) {
    std::future::poll_fn(|cx| {
        // The peer may be gone without a word; then there is nothing to be answered.
        let _ = Pin::new(&mut *stream).poll_shutdown(cx);
        Poll::Ready(())
    })
    .await;
}

/// Reads and discards until the peer's FIN.
pub(crate) async fn discard(stream: &mut Stream) {
    std::future::poll_fn(|cx| poll_discard(stream, cx)).await;
}

/// Reads and discards what there is; ready at the peer's end: whether that was FIN. Many TLS clients send none
/// of close_notify before it.
pub(crate) fn poll_discard(stream: &mut Stream, cx: &mut Context<'_>) -> Poll<bool> {
    scratch::with(|buffer| {
        loop {
            let mut read = ReadBuf::new(buffer);
            match Pin::new(&mut *stream).poll_read(cx, &mut read) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if !read.filled().is_empty() => {}
                Poll::Ready(Ok(())) => return Poll::Ready(true),
                Poll::Ready(Err(error)) => {
                    return Poll::Ready(error.kind() == io::ErrorKind::UnexpectedEof);
                }
            }
        }
    })
}
