//! TLS towards clients, on rustls' unbuffered interface. I/O.
//!
//! rustls' buffered connections keep a read buffer of at least 4 KiB each, which would be the largest
//! part of an idle session. Here records are read into a buffer of the thread's, opened there and sealed
//! there, so that an idle connection holds nothing but its keys; only what is incomplete, not yet
//! asked for or not taken by the socket is kept. A record of 16 KiB costs one read.
//!
//! It saves 4 KiB a session beside tokio-rustls (`docs/results/tls-stream.md`). rustls removed this
//! interface after 0.23 (pull request 2905): the dependency stays at 0.23 until its successor, a
//! connection whose buffers the caller owns, is in a release. [`ServerTls`] is all that has to move then.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use tokio_rustls::rustls::unbuffered::{
    ConnectionState, EncryptError, UnbufferedStatus, WriteTraffic,
};
use tokio_rustls::rustls::{self, ServerConfig};

use records::{EmptyBudget, RecordCounter};
use space::{append, exhausted, needed};

pub(crate) use records::TooManyEmptyRecords;

mod receive;
mod records;
mod space;

/// A client's TLS connection, handshaken.
pub(crate) struct ServerTls {
    tcp: TcpStream,
    connection: UnbufferedServerConnection,
    /// The begin of a record, or of a handshake message, that has not wholly come.
    incoming: Vec<u8>,
    /// Opened, and not yet asked for.
    plain: Vec<u8>,
    /// Sealed, and not yet taken by the socket.
    outgoing: Vec<u8>,
    /// Bytes the socket has taken.
    taken: u64,
    records: RecordCounter,
    empty: EmptyBudget,
    /// What is wrong behind data that came with it: reported when more is asked for.
    fault: Option<io::Error>,
    /// The client has sent close_notify.
    peer_closed: bool,
    /// close_notify has been sealed.
    closed: bool,
    /// Something illegal came, or the keys are used up: nothing is opened or sealed any more, and what was
    /// sealed before (the alert last) is all that is still sent.
    failed: bool,
    /// Bytes of handshake messages and records that may wait for their end.
    most_incoming: usize,
}

/// Whether clients show a certificate: their messages may be large then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientCertificate {
    Asked,
    NotAsked,
}

impl ServerTls {
    /// Shakes hands with the client at the other end of `tcp`.
    pub(crate) async fn accept(
        tcp: TcpStream,
        config: Arc<ServerConfig>,
        client: ClientCertificate,
    ) -> io::Result<Self> {
        let connection = UnbufferedServerConnection::new(config).map_err(io::Error::other)?;
        let mut tls = Box::new(Self {
            tcp,
            connection,
            incoming: Vec::new(),
            plain: Vec::new(),
            outgoing: Vec::new(),
            taken: 0,
            records: RecordCounter::default(),
            empty: EmptyBudget::default(),
            fault: None,
            peer_closed: false,
            closed: false,
            failed: false,
            most_incoming: match client {
                ClientCertificate::Asked => MOST,
                ClientCertificate::NotAsked => 2 * RECORD,
            },
        });
        std::future::poll_fn(|cx| tls.poll_handshake(cx)).await?;
        tls.most_incoming = 2 * RECORD;
        Ok(*tls)
    }

    /// The socket underneath.
    pub(super) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// Bytes the socket has taken so far.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// Bytes kept of what has come and was not asked for.
    pub(super) fn unread(&self) -> usize {
        self.incoming.capacity() + self.plain.capacity()
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_send(cx))?;
            if !self.connection.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_receive(cx, None))?;
            if self.peer_closed {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// Puts what TLS itself has queued into `outgoing`.
    fn take_queued(&mut self) -> io::Result<()> {
        while self.connection.wants_write() {
            let UnbufferedStatus { state, .. } = self.connection.process_tls_records(&mut []);
            let ConnectionState::EncodeTlsData(mut data) = state.map_err(broken)? else {
                return Err(io::ErrorKind::BrokenPipe.into());
            };
            append(&mut self.outgoing, |space| data.encode(space).map_err(needed))
                .map_err(broken)?;
        }
        Ok(())
    }

    /// Tells the client by an alert what is wrong, as far as the socket takes it at once.
    fn fail(&mut self, cx: &mut Context<'_>, error: rustls::Error) -> io::Error {
        self.failed = true;
        // Whether the alert gets out or not, the connection ends with the error.
        let _ = self.take_queued().map(|()| self.poll_send(cx));
        broken(error)
    }

    /// An error once anything has failed: rustls must not be asked again.
    fn check(&self) -> io::Result<()> {
        if self.failed { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }

    /// Lets `use_it` seal something. rustls looks at what is incomplete each time: it remembers
    /// places in it.
    fn sealing<T>(
        &mut self,
        use_it: impl FnOnce(&mut WriteTraffic<'_, ServerConnectionData>) -> io::Result<T>,
    ) -> io::Result<T> {
        self.check()?;
        self.take_queued()?;
        let sealed = loop {
            let status = self.connection.process_tls_records(&mut self.incoming);
            match status.state.map_err(broken) {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => break use_it(&mut traffic),
                Ok(ConnectionState::TransmitTlsData(transmit)) => transmit.done(),
                Ok(_) => break Err(io::ErrorKind::BrokenPipe.into()),
                Err(error) => break Err(error),
            }
        };
        self.failed |= sealed.is_err();
        sealed
    }

    /// Seals `bytes` into the front of `space`: how many bytes of it that took.
    fn seal(&mut self, bytes: &[u8], space: &mut [u8]) -> io::Result<usize> {
        let sealed = self.sealing(|traffic| traffic.encrypt(bytes, space).map_err(broken))?;
        // A change of keys that was due has been queued meanwhile, and stands before them.
        self.take_queued()?;
        Ok(sealed)
    }

    /// Sends what was sealed before.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.is_empty() {
            let taken = ready!(Pin::new(&mut self.tcp).poll_write(cx, &self.outgoing))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outgoing.drain(..taken);
            self.taken = self.taken.wrapping_add(taken as u64);
        }
        give_back(&mut self.outgoing);
        Poll::Ready(Ok(()))
    }

    /// Seals close_notify, once.
    fn close(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.closed, true) {
            return Ok(());
        }
        let mut alert = Vec::new();
        self.sealing(|traffic| {
            append(&mut alert, |space| {
                traffic.queue_close_notify(space).map_err(|error| match error {
                    EncryptError::InsufficientSize(size) => Ok(size),
                    EncryptError::EncryptExhausted => Err(exhausted()),
                })
            })
            .map_err(broken)
        })?;
        self.outgoing.append(&mut alert);
        Ok(())
    }
}

impl AsyncRead for ServerTls {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        loop {
            if !self.plain.is_empty() {
                let count = self.plain.len().min(buffer.remaining());
                buffer.put_slice(&self.plain[..count]);
                self.plain.drain(..count);
                give_back(&mut self.plain);
            }
            if buffer.filled().len() > before || buffer.remaining() == 0 || self.peer_closed {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_receive(cx, Some(buffer)))?;
            if !self.outgoing.is_empty() {
                // TLS itself has something to say. If the socket does not take it now, the next write
                // or flush will send it; reading need not wait.
                let _ = self.poll_send(cx)?;
            }
        }
    }
}

impl AsyncWrite for ServerTls {
    /// Ready as soon as `bytes` are sealed and the socket has taken what it will: what it has not is
    /// sent by `poll_flush`, and nothing more is sealed before.
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_send(cx))?;
        let bytes = bytes.get(..MOST_SEALED).unwrap_or(bytes);
        RECORDS.with_borrow_mut(|records| {
            let sealed = self.seal(bytes, records)?;
            let mut taken = 0;
            if self.outgoing.is_empty() {
                match Pin::new(&mut self.tcp).poll_write(cx, &records[..sealed]) {
                    Poll::Ready(Ok(count)) => taken = count,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => {}
                }
                self.taken = self.taken.wrapping_add(taken as u64);
            }
            self.outgoing.extend_from_slice(&records[taken..sealed]);
            Poll::Ready(Ok(bytes.len()))
        })
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // After a failure only the alert goes out.
        if !self.failed {
            self.close()?;
        }
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").field("tcp", &self.tcp).finish_non_exhaustive()
    }
}

fn broken(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// An idle connection keeps no buffer.
fn give_back(buffer: &mut Vec<u8>) {
    if buffer.is_empty() && buffer.capacity() > 0 {
        *buffer = Vec::new();
    }
}

/// Largest record: 2^14 bytes, at most 256 more when sealed, and its header (RFC 8446 section 5.2).
const RECORD: usize = 5 + 16_384 + 256;
/// Bytes read at once at most; a handshake message may have 64 KiB.
const MOST: usize = 96 * 1024;
/// Bytes sealed at once at most. With what records add they fit into [`MOST`].
const MOST_SEALED: usize = 64 * 1024;

thread_local! {
    /// Where this thread opens and seals records; used only within a poll.
    static RECORDS: RefCell<Box<[u8]>> = RefCell::new(vec![0; MOST].into_boxed_slice());
}

#[cfg(test)]
mod tests;
