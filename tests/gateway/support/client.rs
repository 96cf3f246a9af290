//! A raw client: builds its own requests and frames.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::net::{TcpSocket, TcpStream};

use super::backend::{header, websocket_key};
use super::{Wire, reset_on_drop, within};

/// Builds a handshake; `connect` sends it.
#[derive(Debug, Clone)]
pub struct Client {
    address: SocketAddr,
    from: Option<SocketAddr>,
    path: String,
    host: String,
    headers: String,
    behind: Vec<u8>,
    before: Vec<u8>,
    over: Option<Arc<Mutex<Option<TcpStream>>>>,
    resets: bool,
    receive_buffer: Option<u32>,
}

/// The answer to a handshake.
pub struct Answered {
    pub status: u16,
    pub head: String,
    /// The connection; what follows the head is in its buffer or still comes.
    pub wire: Wire,
}

impl Client {
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            from: None,
            path: "/ws".to_owned(),
            host: "chat.example.com".to_owned(),
            headers: String::new(),
            behind: Vec::new(),
            before: Vec::new(),
            over: None,
            resets: false,
            receive_buffer: None,
        }
    }

    pub fn path(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    pub fn host(mut self, host: &str) -> Self {
        host.clone_into(&mut self.host);
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    pub fn origin(self, origin: &str) -> Self {
        self.header("Origin", origin)
    }

    pub fn token(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    /// Connects from this address, e.g. another of 127.0.0.0/8.
    pub fn from(mut self, address: &str) -> Self {
        self.from = Some(SocketAddr::new(address.parse().unwrap(), 0));
        self
    }

    /// Sends these bytes right behind the request, in the same write.
    pub fn with_behind(mut self, bytes: &[u8]) -> Self {
        self.behind = bytes.to_vec();
        self
    }

    /// Sends these bytes first, e.g. a PROXY header.
    pub fn with_before(mut self, bytes: &[u8]) -> Self {
        self.before = bytes.to_vec();
        self
    }

    /// Uses this connection, which is there already, instead of a new one.
    pub fn over(mut self, tcp: TcpStream) -> Self {
        self.over = Some(Arc::new(Mutex::new(Some(tcp))));
        self
    }

    /// Ends with RST instead of FIN when it is dropped.
    pub fn resetting(mut self) -> Self {
        self.resets = true;
        self
    }

    /// Has little room for what it does not read.
    pub fn with_little_room(mut self) -> Self {
        self.receive_buffer = Some(super::LITTLE_ROOM);
        self
    }

    /// The request as bytes.
    pub fn request(&self) -> String {
        let Self { path, host, headers, .. } = self;
        let key = websocket_key();
        format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{headers}\r\n"
        )
    }

    pub async fn tcp(&self) -> TcpStream {
        if let Some(over) = &self.over {
            return over.lock().unwrap().take().expect("a connection carries one request");
        }
        let socket = TcpSocket::new_v4().unwrap();
        if let Some(from) = self.from {
            socket.bind(from).unwrap();
        }
        if let Some(size) = self.receive_buffer {
            socket.set_recv_buffer_size(size).unwrap();
        }
        let stream = within("a TCP connection", socket.connect(self.address)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        if self.resets {
            reset_on_drop(&stream);
        }
        stream
    }

    /// Connects and sends the request; the answer is not read.
    pub async fn ask(self) -> Wire {
        {
            let tcp = self.tcp().await;
            self.ask_over(tcp).await
        }
    }

    /// Connects and sends these bytes instead of a request.
    pub async fn raw(self, bytes: &[u8]) -> Wire {
        let mut wire = Wire::new(self.tcp().await, Some([0x1f, 0x2e, 0x3d, 0x4c]));
        wire.send_raw(bytes).await;
        wire
    }

    /// The same over a stream that is there already, e.g. TLS.
    pub async fn ask_over(self, stream: impl super::wire::Bytes + 'static) -> Wire {
        let mut wire = Wire::new(stream, Some([0x1f, 0x2e, 0x3d, 0x4c]));
        let request = self.request();
        wire.send_raw(&[&self.before[..], request.as_bytes(), &self.behind[..]].concat()).await;
        wire
    }

    /// Connects, asks and reads the answer.
    pub async fn connect(self) -> Answered {
        answered(self.ask().await).await
    }

    /// Connects and must be accepted.
    pub async fn session(self) -> Wire {
        let answered = self.connect().await;
        assert_eq!(answered.status, 101, "{}", answered.head);
        answered.wire
    }
}

/// Reads the answer to a request that was sent.
pub async fn answered(mut wire: Wire) -> Answered {
    let head = wire.head().await.expect("an answer");
    let status = head.split_whitespace().nth(1).unwrap().parse().unwrap();
    Answered { status, head, wire }
}

impl Answered {
    pub fn header(&self, name: &str) -> Option<String> {
        header(&self.head, name)
    }

    /// The body of a refusal, up to the end of the connection.
    pub async fn body(mut self) -> String {
        while self.wire.fill().await {}
        String::from_utf8(self.wire.buffer).unwrap()
    }
}
