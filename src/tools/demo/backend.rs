//! The demo's chat backend: a plain WebSocket server on loopback, as behind any gateway.
//!
//! It knows nothing of tokens: who is talking stands in X-Auth-User, set by the gateway. It selects
//! no subprotocol. It can be stopped as if it had crashed (every connection is cut, new ones are
//! refused) and started again, so that a person can watch what the gateway makes of it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use percent_encoding::percent_decode_str;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tungstenite::handshake::derive_accept_key;

use super::member;
use super::room::Rooms;

/// The running backend; clones are the same backend.
#[derive(Debug, Clone)]
pub(crate) struct Backend {
    addr: SocketAddr,
    wanted: Arc<watch::Sender<Phase>>,
    reached: watch::Receiver<Phase>,
}

/// Whether the backend takes connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It listens.
    Up,
    /// Stopped: its port refuses connections.
    Down,
}

impl Backend {
    /// Listens on `addr` (port 0: any) until `shutdown`; tasks are spawned on `tracker`.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub(crate) async fn start(
        addr: SocketAddr,
        tracker: &TaskTracker,
        shutdown: CancellationToken,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        let (wanted, wishes) = watch::channel(Phase::Up);
        let (reach, reached) = watch::channel(Phase::Up);
        let server = Server { addr, rooms: Arc::default(), tracker: tracker.clone(), shutdown };
        tracker.spawn(server.run(listener, wishes, reach));
        Ok(Self { addr, wanted: Arc::new(wanted), reached })
    }

    /// Where it listens, or would if it were up.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Up or down, as far as it has come.
    pub(crate) fn phase(&self) -> Phase {
        *self.reached.borrow()
    }

    /// Stops or starts it and waits until that is done; nothing happens if it is so already.
    /// Returns the phase reached: the other one if the demo is shutting down or the port was lost.
    pub(crate) async fn switch(&self, phase: Phase) -> Phase {
        self.wanted.send_replace(phase);
        let mut reached = self.reached.clone();
        let wait = reached.wait_for(|reached| *reached == phase);
        let _ = tokio::time::timeout(SWITCH_TIMEOUT, wait).await;
        self.phase()
    }
}

#[derive(Debug)]
struct Server {
    addr: SocketAddr,
    rooms: Arc<Rooms>,
    tracker: TaskTracker,
    shutdown: CancellationToken,
}

impl Server {
    async fn run(
        self,
        mut listener: TcpListener,
        mut wishes: watch::Receiver<Phase>,
        reach: watch::Sender<Phase>,
    ) {
        let shutdown = self.shutdown.clone();
        let life = async {
            loop {
                reach.send_replace(Phase::Up);
                self.accept_while_up(listener, &mut wishes).await;
                let held = hold(self.addr);
                reach.send_replace(Phase::Down);
                if wishes.wait_for(|wish| *wish == Phase::Up).await.is_err() {
                    return;
                }
                listener = match held.and_then(|socket| socket.listen(BACKLOG)) {
                    Ok(listener) => listener,
                    Err(_) => return,
                };
            }
        };
        tokio::select! {
            () = life => {}
            () = shutdown.cancelled() => {}
        }
    }

    /// Serves connections until a stop is wished; returning cuts them all and frees the port.
    async fn accept_while_up(&self, listener: TcpListener, wishes: &mut watch::Receiver<Phase>) {
        let crash = self.shutdown.child_token();
        let _cut = crash.clone().drop_guard();
        let accept = async {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => self.serve(stream, &crash),
                    Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
                }
            }
        };
        tokio::select! {
            () = accept => {}
            _ = wishes.wait_for(|wish| *wish == Phase::Down) => {}
        }
    }

    fn serve(&self, stream: TcpStream, crash: &CancellationToken) {
        let _ = stream.set_nodelay(true);
        let (rooms, tracker, crash) = (self.rooms.clone(), self.tracker.clone(), crash.clone());
        let cut = crash.clone();
        let service = service_fn(move |request| {
            let response = answer(request, &rooms, &tracker, &crash);
            async move { Ok::<_, std::convert::Infallible>(response) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        self.tracker.spawn(async move {
            tokio::select! {
                _ = connection => {}
                () = cut.cancelled() => {}
            }
        });
    }
}

/// Keeps the port while the backend is down. Bound but not listening, it refuses connections as a
/// dead backend does, and neither another program nor a connection to itself can take it.
fn hold(addr: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    Ok(socket)
}

fn answer(
    mut request: Request<Incoming>,
    rooms: &Arc<Rooms>,
    tracker: &TaskTracker,
    crash: &CancellationToken,
) -> Response<Empty<Bytes>> {
    let Some(room) = room_of(request.uri().path()) else {
        return status(StatusCode::NOT_FOUND);
    };
    let Some(accept) = accept_key(request.headers()) else {
        return status(StatusCode::UPGRADE_REQUIRED);
    };
    let name = user_of(request.headers());
    let Ok(member) = rooms.join(room, &name) else {
        return status(StatusCode::SERVICE_UNAVAILABLE);
    };
    let (rooms, crash) = (rooms.clone(), crash.clone());
    let upgrade = hyper::upgrade::on(&mut request);
    let dropped = member.dropped.clone();
    tracker.spawn(async move {
        let mut member = member;
        let talk = async {
            if let Ok(upgraded) = upgrade.await {
                member::talk(TokioIo::new(upgraded), &mut member, &rooms).await;
            }
        };
        tokio::select! {
            () = talk => {}
            () = dropped.cancelled() => {}
            () = crash.cancelled() => {}
        }
        rooms.leave(&member);
    });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_ACCEPT, accept)
        .body(Empty::new())
        .expect("a base64 text is a header value")
}

fn status(status: StatusCode) -> Response<Empty<Bytes>> {
    let mut response = Response::new(Empty::new());
    *response.status_mut() = status;
    if status == StatusCode::UPGRADE_REQUIRED {
        response
            .headers_mut()
            .insert(header::UPGRADE, header::HeaderValue::from_static("websocket"));
    }
    response
}

/// The room in `/chat/{room}/ws`.
fn room_of(path: &str) -> Option<&str> {
    let room = path.strip_prefix("/chat/")?.strip_suffix("/ws")?;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    ((1..=ROOM_NAME).contains(&room.len()) && room.chars().all(plain)).then_some(room)
}

/// Sec-WebSocket-Accept, if this is an opening handshake (RFC 6455 section 4.2.1).
fn accept_key(headers: &HeaderMap) -> Option<String> {
    let upgrade = headers.get(header::UPGRADE)?.to_str().ok()?;
    let version = headers.get(header::SEC_WEBSOCKET_VERSION)?;
    let key = headers.get(header::SEC_WEBSOCKET_KEY)?;
    (upgrade.eq_ignore_ascii_case("websocket") && version == "13")
        .then(|| derive_accept_key(key.as_bytes()))
}

/// The user the gateway vouches for; "guest" to whoever comes without one.
fn user_of(headers: &HeaderMap) -> String {
    let sent = headers.get("x-auth-user").and_then(|value| value.to_str().ok()).unwrap_or("guest");
    percent_decode_str(sent).decode_utf8_lossy().into_owned()
}

/// Longest room name, bytes.
const ROOM_NAME: usize = 40;
const BACKLOG: u32 = 1024;
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const SWITCH_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_chat_path_with_a_plain_room_is_served() {
        for (path, room) in [
            ("/chat/tea/ws", Some("tea")),
            ("/chat/a-b_9/ws", Some("a-b_9")),
            ("/chat//ws", None),
            ("/chat/ws", None),
            ("/chat/a/b/ws", None),
            ("/chat/%41/ws", None),
            ("/chat/tea/wss", None),
            ("/", None),
        ] {
            assert_eq!(room_of(path), room, "{path}");
        }
        assert_eq!(room_of(&format!("/chat/{}/ws", "a".repeat(41))), None);
    }

    #[test]
    fn the_name_is_what_the_gateway_says_percent_decoded() {
        for (header, name) in [
            (Some("alice"), "alice"),
            (Some("J%C3%BCrgen%20M"), "J\u{fc}rgen M"),
            (Some("%FF"), "\u{fffd}"),
            (None, "guest"),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(header) = header {
                headers.insert("x-auth-user", header.parse().unwrap());
            }
            assert_eq!(user_of(&headers), name);
        }
    }
}
