//! What becomes of one client connection, from accept to session or refusal. I/O.
//!
//! [`serve`] is the first half of the spine: PROXY header, TLS, request head, then the decision of
//! [`Gateway::handle`], then either the session or an honest refusal. Whatever happens, it is
//! recorded once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Response, StatusCode};
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::http::{HttpConnection, NoRequest};
use super::proxy_protocol::{self, Progress, ProxyHeader};
use super::{Arrival, ConnectionPlaces, Listener};
use crate::gateway::{Accepted, Caller, Gateway, Refusal};
use crate::handshake::response;
use crate::relay;
use crate::session::record::{CloseStatus, Outcome, Refused, SessionRecord};
use crate::session::termination::{By, Phase};
use crate::stream::Stream;
use crate::ws::message::{self, Masking};

/// Who is at the other end, as far as the connection itself says.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// The client, or the nearest proxy: from the PROXY header where there is one.
    pub address: SocketAddr,
    /// The TCP peer.
    pub direct: SocketAddr,
    /// The connection came over TLS.
    pub is_secure: bool,
}

/// Serves one connection to its end, or to where its session becomes a task of its own.
pub(crate) async fn serve(gateway: Arc<Gateway>, listener: Arc<Listener>, arrival: Arrival) {
    let Arrival { tcp, peer: direct, at, mut places, refusal } = arrival;
    let mut record = SessionRecord::new(gateway.new_id(), Arc::clone(&listener.label), direct);
    let timeouts = &gateway.config().timeouts;

    let secured = establish(&listener, tcp, direct, at, timeouts.tls_handshake, &mut record).await;
    let (stream, peer) = match secured {
        Ok(secured) => secured,
        Err((phase, reason)) => return gave_up(&gateway, record, phase, reason),
    };

    let began = Instant::now();
    let mut http = HttpConnection::new(stream, timeouts.request_head);
    let head = match next_handshake(&mut http, &gateway).await {
        Ok(head) => head,
        Err(reason) => {
            if let NoRequest::Broken(error) = &reason {
                record.detail = Some(error.to_string());
            }
            return gave_up(&gateway, record, Phase::Request, reason.as_str());
        }
    };
    record.steps.request = Some(began.elapsed());

    let decision = {
        let from = Caller { listener: &listener, peer, places: &mut places, refusal };
        let mut handled = Box::pin(gateway.handle(head, from, &mut record));
        tokio::select! {
            biased;
            decision = &mut handled => Some(decision),
            () = http.gone() => None,
        }
    };
    match decision {
        Some(Ok(accepted)) => begin_session(gateway, http, accepted, record, places).await,
        Some(Err(refusal)) => refuse(&gateway, http, refusal, &mut record).await,
        None => abandoned(&gateway, record),
    }
}

/// PROXY header and TLS: a stream for HTTP, and who is at its other end.
async fn establish(
    listener: &Listener,
    mut tcp: TcpStream,
    direct: SocketAddr,
    accepted: Instant,
    limit: Duration,
    record: &mut SessionRecord,
) -> Result<(Stream, Peer), (Phase, &'static str)> {
    let header = read_proxy_header(listener, &mut tcp, direct, limit).await;
    let address = header.map_err(|reason| (Phase::Accept, reason))?.unwrap_or(direct);
    record.set_client(address);
    record.steps.accept = Some(accepted.elapsed());

    let began = Instant::now();
    let stream = timeout(limit, secure(listener, tcp))
        .await
        .unwrap_or(Err("nothing, or no whole TLS handshake, came in time"))
        .map_err(|reason| (Phase::Tls, reason))?;
    let is_secure = listener.tls.is_some();
    record.steps.tls = is_secure.then(|| began.elapsed());
    Ok((stream, Peer { address, direct, is_secure }))
}

/// Reads the PROXY header where one is required; the address it tells of, if any.
async fn read_proxy_header(
    listener: &Listener,
    tcp: &mut TcpStream,
    direct: SocketAddr,
    limit: Duration,
) -> Result<Option<SocketAddr>, &'static str> {
    if !listener.config.proxy_protocol {
        return Ok(None);
    }
    if !listener.trusts(direct.ip()) {
        return Err("a PROXY header is required, and only from trusted_proxies");
    }
    let read = async {
        let mut bytes = Vec::with_capacity(128);
        loop {
            match proxy_protocol::parse(&bytes) {
                Err(_) => return Err("not a valid PROXY header"),
                Ok(Progress::Done(ProxyHeader::Proxied { source, .. })) => return Ok(Some(source)),
                Ok(Progress::Done(_)) => return Ok(None),
                Ok(Progress::Need(more)) => {
                    let mut next = (&mut *tcp).take(more as u64);
                    match next.read_buf(&mut bytes).await {
                        Ok(0) | Err(_) => return Err("closed within the PROXY header"),
                        Ok(_) => {}
                    }
                }
            }
        }
    };
    timeout(limit, read).await.unwrap_or(Err("the PROXY header took too long"))
}

/// TLS where configured. The first byte tells when somebody speaks the other of http and https, which
/// is worth a clear word: it is what a wrong URL looks like from here.
async fn secure(listener: &Listener, mut tcp: TcpStream) -> Result<Stream, &'static str> {
    let mut first = [0];
    let peeked = tcp.peek(&mut first).await.map_err(|_| "closed at once")?;
    let speaks_tls = first[0] == TLS_HANDSHAKE_RECORD;
    match &listener.tls {
        _ if peeked == 0 => Err("closed without a request"),
        None if speaks_tls => Err("TLS (wss:// or https://) on a plain port"),
        None => Ok(Stream::Tcp(tcp)),
        Some(_) if !speaks_tls => {
            if first[0].is_ascii_alphabetic() {
                let _ = tcp.write_all(PLAIN_ON_TLS.as_bytes()).await;
                let mut stream = Stream::Tcp(tcp);
                relay::linger_client(&mut stream).await;
                return Err("plain HTTP (ws:// or http://) on a TLS port");
            }
            Err("neither TLS nor HTTP")
        }
        Some(tls) => {
            let accepted = Box::pin(tls.acceptor.accept(tcp)).await;
            // Which alert it was is the client's business; `openssl s_client` tells it better.
            accepted.map(|stream| Stream::Tls(Box::new(stream.into()))).map_err(|error| {
                tracing::debug!(%error, "TLS handshake failed");
                "the TLS handshake failed"
            })
        }
    }
}

/// The next request that is not a balancer's question whether we are well.
async fn next_handshake(http: &mut HttpConnection, gateway: &Gateway) -> Result<Parts, NoRequest> {
    loop {
        let head = http.next().await?;
        if head.uri.path() != HEALTH || head.method != Method::GET {
            return Ok(head);
        }
        let (status, text) = if gateway.unready().is_empty() {
            (StatusCode::OK, "ok\n")
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
        };
        let mut response = Response::new(Full::from(text));
        *response.status_mut() = status;
        http.respond(response);
    }
}

/// Answers 101 and starts the session as a task of its own, so that what only the handshake needed
/// is freed.
async fn begin_session(
    gateway: Arc<Gateway>,
    http: HttpConnection,
    accepted: Accepted,
    record: SessionRecord,
    places: ConnectionPlaces,
) {
    let (client, from_client) = http.finish(without_body(accepted.response)).await;
    gateway.telemetry().handshake_accepted(accepted.route, &record.steps);
    let opening = relay::Opening {
        client,
        from_client,
        upstream: accepted.upstream,
        from_upstream: accepted.from_upstream,
        route: accepted.route,
        handle: accepted.handle,
        record: Box::new(record),
        places: accepted.places,
        connection: places,
    };
    gateway.tasks().spawn(relay::run(Arc::clone(gateway.environment()), opening));
}

/// Tells a refusal, by Close or by HTTP, and records it.
async fn refuse(
    gateway: &Gateway,
    http: HttpConnection,
    refusal: Refusal,
    record: &mut SessionRecord,
) {
    let rejection = &refusal.rejection;
    let label = rejection.label();
    record.detail = Some(rejection.to_string());
    (record.by, record.phase) = rejection.by_and_phase();
    let by_close = refusal.by_close.and_then(|told| {
        // A socket kept open for a refusal is dear: past a tenth of all, it is told by HTTP.
        let place = gateway.connections().refusing_closes.take()?;
        Some((told, place))
    });
    let status = if let Some((told, _place)) = by_close {
        let (mut stream, _) = http.finish(without_body(told.response)).await;
        let frame = message::close(Some(told.code), label.as_str(), Masking::None);
        let farewell = async {
            if stream.write_all(&frame).await.is_ok() && stream.flush().await.is_ok() {
                record.client_close = CloseStatus::Code(told.code);
            }
            relay::linger_client(&mut stream).await;
        };
        let _ = timeout(REFUSING_CLOSE, farewell).await;
        StatusCode::SWITCHING_PROTOCOLS
    } else {
        let response = response::refusal(rejection, record.id);
        let status = response.status();
        let (mut stream, _) = http.finish(response.map(Full::from)).await;
        let limit = gateway.config().timeouts.close;
        let _ = timeout(limit, relay::linger_client(&mut stream)).await;
        status
    };
    record.outcome = Outcome::Refused(Refused { label, status: status.as_u16() });
    gateway.telemetry().connection_recorded(record, refusal.route);
}

/// A connection that never came to a request.
fn gave_up(gateway: &Gateway, mut record: SessionRecord, phase: Phase, reason: &'static str) {
    record.outcome = Outcome::NoRequest(reason);
    record.by = By::Client;
    record.phase = phase;
    gateway.telemetry().connection_recorded(&record, None);
}

/// The client left while its request was being decided.
fn abandoned(gateway: &Gateway, mut record: SessionRecord) {
    let is_admitted = record.steps.admission.is_some();
    record.phase = if is_admitted { Phase::Connect } else { Phase::Admission };
    gateway.telemetry().connection_recorded(&record, None);
}

fn without_body(response: Response<()>) -> Response<Full<Bytes>> {
    response.map(|()| Full::default())
}

/// First byte of a TLS record that carries a handshake (RFC 8446 section 5.1).
const TLS_HANDSHAKE_RECORD: u8 = 0x16;
/// Where balancers in front ask.
const HEALTH: &str = "/.framegate/health";
/// How long a socket is kept for a refusal by Close.
const REFUSING_CLOSE: Duration = Duration::from_secs(1);
const PLAIN_ON_TLS: &str = "HTTP/1.1 400 Bad Request\r\n\
    Content-Type: text/plain\r\n\
    Content-Length: 68\r\n\
    Connection: close\r\n\r\n\
    this port speaks TLS: use https:// or wss:// instead of http or ws.\n";
