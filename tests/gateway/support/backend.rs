//! A backend that does what the test says, connection by connection.

use std::net::SocketAddr;

use base64::Engine;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::{Wire, reset_on_drop, within};

/// Listens; the test takes each connection and speaks for the backend.
pub struct Backend {
    listener: TcpListener,
    resets: bool,
}

/// A connection whose request head has been read.
pub struct Asked {
    pub wire: Wire,
    /// The request head as the gateway sent it.
    pub head: String,
}

impl Backend {
    pub async fn start() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap(), resets: false }
    }

    /// Its connections have little room for what it does not read.
    pub fn start_with_little_room() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(super::LITTLE_ROOM).unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        Self { listener: socket.listen(1024).unwrap(), resets: false }
    }

    /// Its connections end with RST instead of FIN when they are dropped.
    pub fn resetting(mut self) -> Self {
        self.resets = true;
        self
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// The next connection, nothing read.
    pub async fn accept(&self) -> TcpStream {
        let (stream, _) =
            within("a connection to the backend", self.listener.accept()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        if self.resets {
            reset_on_drop(&stream);
        }
        stream
    }

    /// The same, whenever it comes.
    pub async fn accept_whenever(&self) -> TcpStream {
        self.listener.accept().await.unwrap().0
    }

    /// The next connection that sends a request; others (health checks) are let go.
    pub async fn asked(&self) -> Asked {
        loop {
            let mut wire = Wire::new(self.accept().await, None);
            if let Some(head) = wire.head().await {
                return Asked { wire, head };
            }
        }
    }

    /// The next client, accepted without a subprotocol.
    pub async fn session(&self) -> Wire {
        self.asked().await.accept("").await
    }

    /// Answers every request so, then ends the connection, for as long as the test runs.
    pub fn answering(self, response: impl Into<Vec<u8>>) -> SocketAddr {
        let (address, response) = (self.address(), response.into());
        tokio::spawn(async move {
            while let Ok((stream, _)) = self.listener.accept().await {
                let response = response.clone();
                tokio::spawn(async move {
                    let mut wire = Wire::new(stream, None);
                    if wire.head().await.is_some() {
                        // The gateway may hang up as soon as it has read enough.
                        let _ = wire.stream.write_all(&response).await;
                        let _ = wire.stream.shutdown().await;
                        while wire.fill().await {}
                    }
                });
            }
        });
        address
    }

    /// Echoes data messages of every client, answers Pings and Closes, for as long as the test runs.
    pub fn echo(self) -> SocketAddr {
        let address = self.address();
        tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = self.listener.accept().await else { return };
                tokio::spawn(async move {
                    let mut wire = Wire::new(stream, None);
                    let Some(head) = wire.head().await else { return };
                    let mut wire = Asked { wire, head }.accept("").await;
                    while let Some(frame) = wire.frame().await {
                        match frame.opcode() {
                            8 => return wire.send(frame.first, &frame.payload).await,
                            9 => wire.send(0x8a, &frame.payload).await,
                            10 => {}
                            _ => wire.send(frame.first, &frame.payload).await,
                        }
                    }
                });
            }
        });
        address
    }
}

impl Asked {
    /// The request on a connection that was accepted some other way, e.g. over a Unix socket.
    pub async fn read(stream: impl super::wire::Bytes + 'static) -> Self {
        let mut wire = Wire::new(stream, None);
        let head = wire.head().await.expect("a request");
        Self { wire, head }
    }

    /// The request on a connection that may end without one.
    pub async fn try_read(stream: impl super::wire::Bytes + 'static) -> Option<Self> {
        let mut wire = Wire::new(stream, None);
        let head = wire.head().await?;
        Some(Self { wire, head })
    }

    /// A header of the request, by lower-case name; several are joined by `, `.
    pub fn header(&self, name: &str) -> Option<String> {
        header(&self.head, name)
    }

    /// The 101 for this request, with further header lines (each ending in CRLF).
    pub fn switching(&self, headers: &str) -> String {
        let key = self.header("sec-websocket-key").unwrap();
        let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n{headers}\r\n"
        )
    }

    pub async fn accept(mut self, headers: &str) -> Wire {
        let answer = self.switching(headers);
        self.wire.send_raw(answer.as_bytes()).await;
        self.wire
    }

    /// Answers something else, then ends the connection.
    pub async fn answer(mut self, response: &str) {
        self.wire.send_raw(response.as_bytes()).await;
    }
}

/// A header of a head, by lower-case name; several are joined by `, `.
pub fn header(head: &str, name: &str) -> Option<String> {
    let values: Vec<_> = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim().to_owned())
        .collect();
    (!values.is_empty()).then(|| values.join(", "))
}

/// A fresh Sec-WebSocket-Key.
pub fn websocket_key() -> String {
    base64::engine::general_purpose::STANDARD.encode(fastrand::u128(..).to_be_bytes())
}
