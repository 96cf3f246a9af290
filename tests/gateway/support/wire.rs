//! WebSocket frames over any byte stream, legal or not.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::within;

/// Bytes both ways.
pub trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

/// A connection with what has been read of it and not yet looked at.
pub struct Wire {
    pub stream: Box<dyn Bytes>,
    pub buffer: Vec<u8>,
    /// Key to mask with: a client's frames are masked.
    pub mask: Option<[u8; 4]>,
}

/// A frame as it was on the wire, unmasked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// First byte: FIN, RSV, opcode.
    pub first: u8,
    pub masked: bool,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn opcode(&self) -> u8 {
        self.first & 0x0f
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).unwrap()
    }
}

/// What a Close frame says: code (`None`: empty) and reason.
pub type Closed = (Option<u16>, String);

pub const TEXT: u8 = 0x81;
pub const BINARY: u8 = 0x82;
pub const CLOSE: u8 = 0x88;
pub const PING: u8 = 0x89;
pub const PONG: u8 = 0x8a;

/// A frame's bytes, whatever the rules say of it.
pub fn encode(first: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let bit = if mask.is_some() { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..126 => bytes.push(bit | len as u8),
        len @ 126..65536 => {
            bytes.push(bit | 126);
            bytes.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            bytes.push(bit | 127);
            bytes.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(mask.as_ref().map_or(&[][..], |key| &key[..]));
    let key = mask.unwrap_or_default();
    bytes.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Fin,
    Reset,
}

/// The payload of a Close frame.
pub fn close_payload(code: Option<u16>, reason: &str) -> Vec<u8> {
    let code = code.map(u16::to_be_bytes);
    [code.as_ref().map_or(&[][..], |code| &code[..]), reason.as_bytes()].concat()
}

impl Wire {
    pub fn new(stream: impl Bytes + 'static, mask: Option<[u8; 4]>) -> Self {
        Self { stream: Box::new(stream), buffer: Vec::new(), mask }
    }

    pub async fn send_raw(&mut self, bytes: &[u8]) {
        within("a write", async {
            self.stream.write_all(bytes).await.unwrap();
            self.stream.flush().await.unwrap();
        })
        .await;
    }

    /// Sends a frame masked as this side should.
    pub async fn send(&mut self, first: u8, payload: &[u8]) {
        self.send_raw(&encode(first, payload, self.mask)).await;
    }

    pub async fn send_text(&mut self, text: &str) {
        self.send(TEXT, text.as_bytes()).await;
    }

    pub async fn send_close(&mut self, code: u16, reason: &str) {
        self.send(CLOSE, &[&code.to_be_bytes()[..], reason.as_bytes()].concat()).await;
    }

    /// Sends this frame again and again until the connection is gone, and counts the bytes it got
    /// rid of; what comes is still read, but nothing else can be sent.
    pub fn flood(self, first: u8, payload: &[u8]) -> (Self, Arc<AtomicU64>) {
        let frame = encode(first, payload, self.mask);
        let (reads, mut writes) = tokio::io::split(self.stream);
        let sent = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&sent);
        let wire = Self { stream: Box::new(tokio::io::join(reads, tokio::io::sink())), ..self };
        tokio::spawn(async move {
            while writes.write_all(&frame).await.is_ok() {
                sent.fetch_add(frame.len() as u64, Ordering::Relaxed);
            }
        });
        (wire, count)
    }

    /// More bytes into the buffer; false at the end of the stream (FIN or RST).
    pub async fn fill(&mut self) -> bool {
        let read = within("bytes", self.stream.read_buf(&mut self.buffer)).await;
        matches!(read, Ok(count) if count > 0)
    }

    /// The next frame; `None` at the end of the stream.
    pub async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some((frame, len)) = decode(&self.buffer) {
                self.buffer.drain(..len);
                return Some(frame);
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    /// The next frame, which must be this text.
    pub async fn expect_text(&mut self, text: &str) {
        let frame = self.frame().await.expect("a text frame");
        assert_eq!((frame.first, frame.payload.as_slice()), (TEXT, text.as_bytes()));
    }

    /// What the next frame says, which must be a Close.
    pub async fn expect_close(&mut self) -> Closed {
        let frame = self.frame().await.expect("a Close frame before the end");
        assert_eq!(frame.first, CLOSE, "not a Close: {frame:?}");
        close_of(&frame)
    }

    /// Frames up to and with the Close, whose meaning is returned; `None`: the stream ended without.
    pub async fn until_close(&mut self) -> Option<Closed> {
        loop {
            let frame = self.frame().await?;
            if frame.first == CLOSE {
                return Some(close_of(&frame));
            }
        }
    }

    /// The stream must end without another byte.
    pub async fn expect_end(&mut self) {
        while self.fill().await {}
        assert!(self.buffer.is_empty(), "unexpected bytes: {:?}", self.buffer);
    }

    /// Everything up to FIN, which must come; RST is a failure.
    pub async fn rest(&mut self) -> String {
        within("the rest, up to FIN", self.stream.read_to_end(&mut self.buffer))
            .await
            .expect("FIN, not RST");
        String::from_utf8(std::mem::take(&mut self.buffer)).unwrap()
    }

    /// Sends a byte every `pause`, round and round, until the peer has ended the connection;
    /// returns what the peer said. No bytes: waits for the end.
    pub async fn drip_until_end(&mut self, bytes: &[u8], pause: Duration) -> Vec<u8> {
        let (mut from, mut to) = tokio::io::split(&mut self.stream);
        let mut answer = Vec::new();
        let drip = async {
            let mut ticks = tokio::time::interval(pause);
            for byte in bytes.iter().cycle() {
                ticks.tick().await;
                if to.write_all(&[*byte]).await.is_err() {
                    break;
                }
            }
        };
        // A reset is an end too.
        let ended = async { drop(from.read_to_end(&mut answer).await) };
        within("the end of a dripping connection", async {
            tokio::pin!(ended);
            tokio::select! {
                () = &mut ended => {}
                () = drip => ended.await,
            }
        })
        .await;
        answer
    }

    /// Reads to the end of the stream and says which it was; what came before stays in the buffer.
    pub async fn end(&mut self) -> End {
        loop {
            match within("the end of the stream", self.stream.read_buf(&mut self.buffer)).await {
                Ok(0) => return End::Fin,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return End::Reset,
                Err(error) => panic!("neither FIN nor RST: {error}"),
            }
        }
    }

    /// The stream must end with FIN and without another byte.
    pub async fn expect_fin(&mut self) {
        assert_eq!(self.end().await, End::Fin);
        assert!(self.buffer.is_empty(), "unexpected bytes: {:?}", self.buffer);
    }

    /// The stream must end with RST; returns the bytes before it.
    pub async fn expect_reset(&mut self) -> Vec<u8> {
        assert_eq!(self.end().await, End::Reset);
        std::mem::take(&mut self.buffer)
    }

    /// Sends FIN and goes on reading.
    pub async fn finish(&mut self) {
        within("a FIN", self.stream.shutdown()).await.unwrap();
    }

    /// Exactly this many bytes as they come.
    pub async fn raw(&mut self, len: usize) -> Vec<u8> {
        while self.buffer.len() < len {
            assert!(self.fill().await, "the stream ended after {} of {len}", self.buffer.len());
        }
        self.buffer.drain(..len).collect()
    }

    /// The next bytes must be these.
    pub async fn expect_raw(&mut self, bytes: &[u8]) {
        let found = self.raw(bytes.len()).await;
        if let Some(at) = found.iter().zip(bytes).position(|(found, sent)| found != sent) {
            panic!("byte {at} of {} is {:#x}, not {:#x}", bytes.len(), found[at], bytes[at]);
        }
    }

    /// A request or response head with the blank line; `None` if the stream ends before.
    pub async fn head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
                return Some(String::from_utf8(head).unwrap());
            }
            if !self.fill().await {
                return None;
            }
        }
    }
}

fn decode(bytes: &[u8]) -> Option<(Frame, usize)> {
    let [first, second, ..] = *bytes else { return None };
    let (len, mut at) = match second & 0x7f {
        126 => (u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap())), 4),
        127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap()), 10),
        short => (u64::from(short), 2),
    };
    let masked = second & 0x80 != 0;
    let key: [u8; 4] = if masked {
        let key = bytes.get(at..at + 4)?.try_into().unwrap();
        at += 4;
        key
    } else {
        [0; 4]
    };
    let payload = bytes.get(at..at + usize::try_from(len).unwrap())?;
    let payload: Vec<u8> =
        payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
    let whole = at + payload.len();
    Some((Frame { first, masked, payload }, whole))
}

fn close_of(frame: &Frame) -> Closed {
    match frame.payload.split_first_chunk::<2>() {
        None => (None, String::new()),
        Some((code, reason)) => {
            (Some(u16::from_be_bytes(*code)), String::from_utf8(reason.to_vec()).unwrap())
        }
    }
}
