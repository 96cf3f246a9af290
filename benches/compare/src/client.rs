//! The load: WebSocket clients, plain or TLS, that do nothing but what is measured.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, ready};

use base64::Engine;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf, ReadHalf, WriteHalf};
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, HandshakeKind, RootCertStore};

/// Bytes both ways.
pub trait Bytes: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Bytes for T {}

/// How clients reach the proxy.
#[derive(Clone)]
pub struct Target {
    pub address: SocketAddr,
    pub tls: Option<Arc<ClientConfig>>,
    pub token: Option<String>,
    pub path: &'static str,
}

/// An open session.
pub struct Session {
    stream: Box<dyn Bytes>,
    buffer: Vec<u8>,
    /// TLS was resumed.
    pub resumed: bool,
}

/// Client TLS that trusts one certificate; without resumption each handshake is a full one.
pub fn tls(certificate: &CertificateDer<'static>, resume: bool) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    if !resume {
        config.resumption = tokio_rustls::rustls::client::Resumption::disabled();
    }
    Arc::new(config)
}

impl Target {
    /// Opens a session. Each comes from another of 200 addresses, and ends by RST: a port that waits
    /// for a minute is one the next measurement, or the proxy itself, has to look for another for.
    pub async fn open(&self) -> std::io::Result<Session> {
        static OPENED: AtomicUsize = AtomicUsize::new(0);
        let socket = TcpSocket::new_v4()?;
        let from = [127, 0, 0, 2 + (OPENED.fetch_add(1, Ordering::Relaxed) % 200) as u8];
        socket.bind(SocketAddr::from((from, 0)))?;
        socket.set_zero_linger()?;
        let tcp = socket.connect(self.address).await?;
        tcp.set_nodelay(true)?;
        let mut resumed = false;
        let mut stream: Box<dyn Bytes> = match &self.tls {
            None => Box::new(tcp),
            Some(config) => {
                let name = ServerName::try_from("localhost").unwrap();
                let connector = TlsConnector::from(Arc::clone(config));
                let stream = connector.connect(name, tcp).await?;
                resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
                Box::new(stream)
            }
        };
        let key =
            base64::engine::general_purpose::STANDARD.encode(fastrand::u128(..).to_be_bytes());
        let token =
            self.token.as_ref().map_or(String::new(), |t| format!("Authorization: Bearer {t}\r\n"));
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{token}\r\n",
            self.path
        );
        stream.write_all(request.as_bytes()).await?;
        let mut buffer = Vec::with_capacity(512);
        loop {
            if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                if !buffer.starts_with(b"HTTP/1.1 101") {
                    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
                    return Err(std::io::Error::other(head));
                }
                buffer.drain(..end + 4);
                buffer.shrink_to_fit();
                return Ok(Session { stream, buffer, resumed });
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// A masked text frame of `size` payload bytes.
pub fn frame(size: usize) -> Vec<u8> {
    let mut bytes = vec![0x81];
    match size {
        n @ 0..126 => bytes.push(0x80 | n as u8),
        n @ 126..65536 => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&(n as u16).to_be_bytes());
        }
        n => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&(n as u64).to_be_bytes());
        }
    }
    let key = [0x13, 0x57, 0x9b, 0xdf];
    bytes.extend_from_slice(&key);
    bytes.extend(
        (0..size).map(|i| b'a' + (i % 26) as u8).zip(key.iter().cycle()).map(|(b, k)| b ^ k),
    );
    bytes
}

/// Bytes of the echo of [`frame`].
pub fn echo_len(size: usize) -> usize {
    size + if size < 126 {
        2
    } else if size < 65536 {
        4
    } else {
        10
    }
}

impl Session {
    pub async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Reads exactly `len` bytes and forgets them.
    pub async fn skip(&mut self, len: usize) -> std::io::Result<()> {
        skip(&mut self.stream, &mut self.buffer, len).await
    }

    /// The two directions apart.
    pub fn into_halves(self) -> (Reader, Writer) {
        let (from, to) = tokio::io::split(self.stream);
        (Reader { from, buffer: self.buffer }, Writer { to })
    }
}

/// What comes from the proxy.
pub struct Reader {
    from: ReadHalf<Box<dyn Bytes>>,
    buffer: Vec<u8>,
}

impl Reader {
    /// Reads exactly `len` bytes and forgets them.
    pub async fn skip(&mut self, len: usize) -> std::io::Result<()> {
        skip(&mut self.from, &mut self.buffer, len).await
    }
}

/// What goes to the proxy.
pub struct Writer {
    to: WriteHalf<Box<dyn Bytes>>,
}

impl Writer {
    pub async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.to.write_all(bytes).await?;
        self.to.flush().await
    }
}

async fn skip(
    from: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
    mut len: usize,
) -> std::io::Result<()> {
    let from_buffer = len.min(buffer.len());
    buffer.drain(..from_buffer);
    len -= from_buffer;
    while len > 0 {
        let count = std::future::poll_fn(|cx| {
            // One buffer for all: thousands of waiting readers stay small.
            SCRATCH.with_borrow_mut(|scratch| {
                let want = len.min(scratch.len());
                let mut read = ReadBuf::new(&mut scratch[..want]);
                ready!(Pin::new(&mut *from).poll_read(cx, &mut read))?;
                Poll::Ready(Ok::<usize, std::io::Error>(read.filled().len()))
            })
        });
        match count.await? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => len -= count,
        }
    }
    Ok(())
}

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; 65_536]);
}
