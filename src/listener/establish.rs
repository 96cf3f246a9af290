//! What lies before HTTP on a client connection: the PROXY header and TLS. I/O.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{timeout, timeout_at};

use super::Listener;
use super::http::NoRequest;
use crate::config::Timeouts;
use crate::net::linger;
use crate::net::{server_tls::ServerTls, stream::Stream};
use crate::outcome::blame::{By, Phase};
use crate::protocol::proxy_protocol::{self, Progress, ProxyHeader};

/// Why a connection never came to a request.
pub(crate) struct GaveUp {
    pub(crate) phase: Phase,
    pub(crate) by: By,
    pub(crate) reason: &'static str,
    pub(crate) detail: Option<String>,
}

impl GaveUp {
    fn by_client(phase: Phase, reason: &'static str) -> Self {
        Self { phase, by: By::Client, reason, detail: None }
    }

    /// The gateway's patience is over.
    fn late(phase: Phase, reason: &'static str) -> Self {
        Self { phase, by: By::Gateway, reason, detail: None }
    }

    fn because(self, detail: impl ToString) -> Self {
        Self { detail: Some(detail.to_string()), ..self }
    }
}

impl From<&NoRequest> for GaveUp {
    fn from(why: &NoRequest) -> Self {
        let reason = why.as_str();
        match why {
            NoRequest::Closed => Self::by_client(Phase::Request, reason),
            NoRequest::Timeout => Self::late(Phase::Request, reason),
            NoRequest::Broken(error) => Self::by_client(Phase::Request, reason).because(error),
        }
    }
}

/// Reads the PROXY header where one is required; the client's address in it, if it has one.
///
/// # Errors
///
/// There is none in time, or it is not valid.
pub(crate) async fn read_proxy_header(
    listener: &Listener,
    tcp: &mut TcpStream,
    direct: SocketAddr,
    accepted: Instant,
    timeouts: &Timeouts,
) -> Result<Option<SocketAddr>, GaveUp> {
    if !listener.config.proxy_protocol {
        return Ok(None);
    }
    let deadline = accepted + timeouts.tls_handshake;
    let failed = |reason| GaveUp::by_client(Phase::Accept, reason);
    if !listener.trusts(direct.ip()) {
        return Err(failed("a PROXY header is required, and only from trusted_proxies"));
    }
    let read = async {
        let mut bytes = Vec::with_capacity(128);
        loop {
            match proxy_protocol::parse(&bytes) {
                Err(error) => return Err(failed("not a valid PROXY header").because(error)),
                Ok(Progress::Done(ProxyHeader::Proxied { source, .. })) => return Ok(Some(source)),
                Ok(Progress::Done(_)) => return Ok(None),
                Ok(Progress::Need(more)) => {
                    let mut next = (&mut *tcp).take(more as u64);
                    match next.read_buf(&mut bytes).await {
                        Ok(0) | Err(_) => return Err(failed("closed within the PROXY header")),
                        Ok(_) => {}
                    }
                }
            }
        }
    };
    let late = GaveUp::late(Phase::Accept, "the PROXY header took too long");
    timeout_at(deadline.into(), read).await.unwrap_or(Err(late))
}

/// TLS where configured. The first byte tells when somebody speaks the other of http and https, which
/// is worth a clear word: it is what a wrong URL looks like from here.
///
/// All other time begins with the first byte: in a storm, a client (or the gateway) that comes to it
/// late has no less for it.
pub(crate) async fn secure(
    listener: &Listener,
    mut tcp: TcpStream,
    timeouts: &Timeouts,
) -> Result<Stream, GaveUp> {
    let patience = SILENCE * timeouts.request_head;
    let Some(tls) = &listener.tls else { return plain(tcp, patience).await };
    let failed = |reason| GaveUp::by_client(Phase::Tls, reason);
    let late = || GaveUp::late(Phase::Tls, "the TLS handshake took too long");
    let patience = patience.min(timeouts.tls_handshake);
    let first = timeout(patience, first_byte(&tcp)).await.map_err(|_| late())?;
    match first {
        // Not a handshake that failed: balancers look whether the port is open.
        None => Err(GaveUp::by_client(Phase::Accept, NoRequest::Closed.as_str())),
        Some(TLS_HANDSHAKE_RECORD) => {
            let accept = ServerTls::accept(tcp, Arc::clone(&tls.config), tls.client_certificate());
            let accepted = timeout(timeouts.tls_handshake, accept).await.map_err(|_| late())?;
            accepted
                .map(|stream| Stream::Tls(Box::new(stream)))
                .map_err(|error| failed("the TLS handshake failed").because(error))
        }
        Some(letter) if letter.is_ascii_alphabetic() => {
            let told = async {
                let _ = tcp.write_all(PLAIN_ON_TLS.as_bytes()).await;
                linger::shut_down(&mut Stream::Tcp(tcp)).await;
            };
            let _ = timeout(timeouts.close, told).await;
            Err(failed("plain HTTP (ws:// or http://) on a TLS port"))
        }
        Some(_) => Err(failed("neither TLS nor HTTP")),
    }
}

/// A connection without TLS, once it is known that the client does not expect it.
async fn plain(tcp: TcpStream, limit: Duration) -> Result<Stream, GaveUp> {
    let failed = |reason| GaveUp::by_client(Phase::Request, reason);
    match timeout(limit, first_byte(&tcp)).await {
        Ok(None) => Err(failed(NoRequest::Closed.as_str())),
        Ok(Some(TLS_HANDSHAKE_RECORD)) => Err(failed("TLS (wss:// or https://) on a plain port")),
        Ok(Some(_)) => Ok(Stream::Tcp(tcp)),
        Err(_) => Err(GaveUp::late(Phase::Request, NoRequest::Timeout.as_str())),
    }
}

/// What the client says first, left where it is; `None` if it closed instead.
async fn first_byte(tcp: &TcpStream) -> Option<u8> {
    let mut first = [0];
    let peeked = tcp.peek(&mut first).await.ok()?;
    (peeked > 0).then_some(first[0])
}

/// A client that says nothing is waited for this many times as long as for a whole request head: of many
/// that connect at once on one machine, the last come late to their first byte.
const SILENCE: u32 = 2;
/// First byte of a TLS record that carries a handshake (RFC 8446 section 5.1).
const TLS_HANDSHAKE_RECORD: u8 = 0x16;
const PLAIN_ON_TLS: &str = "HTTP/1.1 400 Bad Request\r\n\
    Content-Type: text/plain\r\n\
    Content-Length: 68\r\n\
    Connection: close\r\n\r\n\
    this port speaks TLS: use https:// or wss:// instead of http or ws.\n";
