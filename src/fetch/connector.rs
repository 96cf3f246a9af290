//! Connections for the client's pool: TCP or TLS by the address cache, or a unix socket. I/O.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::task::spawn_blocking;
use tower_service::Service;

use super::Destination;
use crate::config::Target;
use crate::net::connect::{ConnectError, reach};
use crate::net::names::Names;
use crate::net::stream::Stream;
use crate::net::tls::tls_connector;
use crate::net::tls_fault::TlsFault;

/// Opens connections to one destination.
#[derive(Clone)]
pub(super) struct Connector {
    to: Arc<Destination>,
    names: Arc<Names>,
}

/// A destination that could not be connected to.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(super) struct Failed(pub(super) ConnectError);

impl Connector {
    pub(super) fn new(to: &Destination, names: Arc<Names>) -> Self {
        Self { to: Arc::new(to.clone()), names }
    }
}

impl Service<Uri> for Connector {
    type Response = Pooled;
    type Error = Failed;
    type Future = Pin<Box<dyn Future<Output = Result<Pooled, Failed>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (to, names) = (Arc::clone(&self.to), Arc::clone(&self.names));
        Box::pin(async move {
            let connected = open(&to, &names).await.map_err(Failed)?;
            Ok(Pooled(TokioIo::new(connected)))
        })
    }
}

async fn open(to: &Destination, names: &Names) -> Result<Stream, ConnectError> {
    let tls = match &to.target {
        Target::Https { .. } => {
            // Read each time: it may have been renewed, and is too large to be kept for so little.
            let ca = to.ca.clone();
            let made = spawn_blocking(move || tls_connector(ca.as_deref())).await;
            let made = made.unwrap_or_else(|error| Err(error.to_string()));
            Some(made.map_err(|error| ConnectError::Tls(TlsFault::Other(error)))?)
        }
        Target::Http { .. } | Target::Unix(_) => None,
    };
    reach(&to.target, tls.as_ref(), names).await
}

/// A connection as the pool keeps it.
pub(super) struct Pooled(TokioIo<Stream>);

impl Connection for Pooled {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Pooled {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl Write for Pooled {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, slices)
    }
}
