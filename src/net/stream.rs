//! The byte streams the gateway holds: TCP, Unix sockets, and TLS over TCP. I/O.
//!
//! One enum instead of a type parameter: a session is the same code, and the same size, whatever
//! carries it.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

use super::server_tls::ServerTls;

/// A connection to a client or an upstream.
#[derive(Debug)]
pub(crate) enum Stream {
    /// Plain TCP.
    Tcp(TcpStream),
    /// TLS to a client.
    Tls(Box<ServerTls>),
    UpstreamTls(Box<TlsStream<CountedTcp>>),
    /// Unix socket.
    Unix(UnixStream),
}

/// TCP under TLS, which counts what the socket has taken: the TLS library takes bytes that the socket
/// has not, so only this tells whether the peer reads.
#[derive(Debug)]
pub(crate) struct CountedTcp {
    tcp: TcpStream,
    taken: u64,
}

impl Stream {
    /// Makes the coming drop send RST instead of FIN, where the transport knows the difference:
    /// the peer must not take a cut stream for a whole one.
    pub(crate) fn abort_on_drop(&self) {
        let tcp = match self {
            Self::Tcp(tcp) => tcp,
            Self::Tls(tls) => tls.tcp(),
            Self::UpstreamTls(tls) => &tls.get_ref().0.tcp,
            Self::Unix(_) => return,
        };
        // Fails only for a socket that is already gone, which is what is wanted.
        let _ = SockRef::from(tcp).set_linger(Some(std::time::Duration::ZERO));
    }

    /// Bytes TLS keeps of what has come and was not asked for: the begin of a record, or what a reader
    /// who is held up has left. What it keeps of what was written is known to who wrote it. Towards
    /// upstreams rustls keeps its own buffers, at most some 32 KiB, whose filling it does not tell.
    pub(crate) fn unread(&self) -> usize {
        match self {
            Self::Tls(tls) => tls.unread(),
            Self::UpstreamTls(_) | Self::Tcp(_) | Self::Unix(_) => 0,
        }
    }

    /// Whether the peer has sent FIN or RST, whatever may stand unread before it: known from the last
    /// event of the socket, without a system call.
    pub(crate) fn has_ended(&self) -> bool {
        let is_closed = |ready: Ready| ready.is_read_closed() || ready.is_error();
        let mut context = Context::from_waker(Waker::noop());
        // Only looked at: nothing waits for it.
        let polled = match self {
            Self::Unix(unix) => pin!(unix.ready(Interest::READABLE)).poll(&mut context),
            Self::Tcp(tcp) => pin!(tcp.ready(Interest::READABLE)).poll(&mut context),
            Self::Tls(tls) => pin!(tls.tcp().ready(Interest::READABLE)).poll(&mut context),
            Self::UpstreamTls(tls) => {
                pin!(tls.get_ref().0.tcp.ready(Interest::READABLE)).poll(&mut context)
            }
        };
        matches!(polled, Poll::Ready(Ok(ready)) if is_closed(ready))
    }

    /// Bytes in the socket's send queue: written, and not yet taken by the peer. `None` where the system
    /// does not say.
    pub(crate) fn queued(&self) -> Option<u64> {
        let queued = match self {
            Self::Tcp(tcp) => sendqueue::queued(tcp),
            Self::Tls(tls) => sendqueue::queued(tls.tcp()),
            Self::UpstreamTls(tls) => sendqueue::queued(&tls.get_ref().0.tcp),
            Self::Unix(unix) => sendqueue::queued(unix),
        };
        queued.ok()
    }

    /// Bytes the socket under TLS has taken so far; `None` without TLS, where writing itself tells.
    pub(crate) fn taken_under_tls(&self) -> Option<u64> {
        match self {
            Self::Tls(tls) => Some(tls.taken()),
            Self::UpstreamTls(tls) => Some(tls.get_ref().0.taken),
            Self::Tcp(_) | Self::Unix(_) => None,
        }
    }
}

/// Prepares a TCP connection for relaying: nothing waits for more bytes, and the kernel takes no more than
/// [`NOTSENT_LOWAT`] bytes that it cannot send yet. Where that fails, the socket is gone anyway.
pub(crate) fn tune(tcp: &TcpStream) {
    let _ = tcp.set_nodelay(true);
    let _ = SockRef::from(tcp).set_tcp_notsent_lowat(NOTSENT_LOWAT);
}

/// Bytes not sent that a socket's send queue holds at most; what was sent and not acknowledged comes on
/// top. Less would cut writes of 64 KiB into parts.
const NOTSENT_LOWAT: u32 = 128 * 1024;

impl From<TcpStream> for CountedTcp {
    fn from(tcp: TcpStream) -> Self {
        Self { tcp, taken: 0 }
    }
}

macro_rules! delegate {
    ($self:ident, $method:ident($($argument:expr),*)) => {
        match $self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).$method($($argument),*),
            Self::Tls(stream) => Pin::new(stream.as_mut()).$method($($argument),*),
            Self::UpstreamTls(stream) => Pin::new(stream.as_mut()).$method($($argument),*),
            Self::Unix(stream) => Pin::new(stream).$method($($argument),*),
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        delegate!(self, poll_read(cx, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, poll_shutdown(cx))
    }
}

impl AsyncRead for CountedTcp {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buffer)
    }
}

impl AsyncWrite for CountedTcp {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let taken = ready!(Pin::new(&mut self.tcp).poll_write(cx, bytes))?;
        self.taken = self.taken.wrapping_add(taken as u64);
        Poll::Ready(Ok(taken))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let taken = ready!(Pin::new(&mut self.tcp).poll_write_vectored(cx, slices))?;
        self.taken = self.taken.wrapping_add(taken as u64);
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
