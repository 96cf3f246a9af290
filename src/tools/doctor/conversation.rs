//! Frames both ways over a connection that has answered 101. I/O.
//!
//! What comes is judged by the same inspector that judges a backend's frames in the gateway.

use std::io;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::diagnosis::frames;
use super::report::Finding;
use crate::net::stream::Stream;
use crate::protocol::ws::close::CloseStatus;
use crate::protocol::ws::header;
use crate::protocol::ws::inspector::{Content, FrameInspector, FrameLimits, Step};
use crate::protocol::ws::message::MessageKind;
use crate::protocol::ws::message::{self, Masking};
use crate::protocol::ws::violation::{Side, Violation};

/// A message, the begin of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// Text or binary.
    pub(crate) kind: MessageKind,
    /// Payload bytes.
    pub(crate) bytes: u64,
    /// The begin of a text.
    pub(crate) preview: String,
}

/// How a conversation ended that was not ended by us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// A Close, with its reason.
    Closed(CloseStatus, String),
    /// A frame that begins with these bytes breaks a rule.
    Violation(Violation, [u8; 2]),
    /// The stream ended without a Close.
    Lost {
        /// By RST.
        was_reset: bool,
    },
}

/// What is heard next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    /// A whole message.
    Message(Message),
    /// A Pong with this payload.
    Pong(Vec<u8>),
    /// Nothing more will come.
    End(End),
}

/// An open WebSocket.
#[derive(Debug)]
pub(crate) struct Conversation {
    stream: Stream,
    buffer: Vec<u8>,
    inspector: FrameInspector,
    /// The first bytes of the frame at the front.
    begin: [u8; 2],
    preview: Vec<u8>,
    /// Payload of the message at the front: what has come of it, and what its frames announce.
    bytes: u64,
    announced: u64,
    /// Whether the frame at the front lacks something.
    is_waiting: bool,
    /// What is still to be written.
    unsent: Vec<u8>,
    /// Pings of the server that were answered.
    pub(crate) pings: u32,
}

impl Conversation {
    /// `arrived` is what came right behind the 101.
    pub(crate) fn new(stream: Stream, arrived: Vec<u8>) -> Self {
        let limits = FrameLimits { message_size: u64::MAX, fragments: u32::MAX, text_utf8: true };
        let inspector = FrameInspector::new(Side::Upstream, limits);
        Self {
            stream,
            buffer: arrived,
            inspector,
            begin: [0; 2],
            preview: Vec::new(),
            bytes: 0,
            announced: 0,
            is_waiting: false,
            unsent: Vec::new(),
            pings: 0,
        }
    }

    /// Whether a frame has begun and not ended.
    pub(crate) fn is_within_frame(&self) -> bool {
        self.inspector.is_within_frame() || self.is_waiting
    }

    /// Whether a message has begun and not ended.
    pub(crate) fn is_within_message(&self) -> bool {
        self.inspector.is_within_message()
    }

    /// What has come of a message that has not ended.
    pub(crate) fn come(&self) -> u64 {
        self.bytes
    }

    /// What is said of a message that began and has not ended.
    pub(crate) fn unfinished(&self) -> Option<Finding> {
        match self.inspector.is_within_frame() {
            true => Some(frames::still_coming(self.bytes, self.announced)),
            false => self.is_within_message().then(frames::unfinished_message),
        }
    }

    /// What is said of a frame that keeps a Pong from coming, where this much had come of it when the
    /// waiting began.
    pub(crate) fn in_the_way(&self, before: u64) -> Finding {
        match self.bytes > before {
            true => frames::still_coming(self.bytes, self.announced),
            false => frames::unfinished(),
        }
    }

    /// Sends a text message.
    pub(crate) async fn send(&mut self, text: &str) -> io::Result<()> {
        self.write(&message::text(text, masking())).await
    }

    /// Sends a Ping.
    pub(crate) async fn ping(&mut self, payload: &[u8]) -> io::Result<()> {
        self.write(&message::ping(payload, masking())).await
    }

    /// Sends Close.
    pub(crate) async fn close(&mut self, code: u16) -> io::Result<()> {
        self.write(&message::close(Some(code), "", masking())).await
    }

    /// Waits until the server ends the stream; what comes until then does not count.
    pub(crate) async fn end_of_stream(&mut self) {
        self.buffer.clear();
        while let Ok(1..) = self.stream.read_buf(&mut self.buffer).await {
            self.buffer.clear();
        }
    }

    /// The next message, Pong or end; the server's Pings are answered. Nothing is lost when the
    /// waiting is given up.
    pub(crate) async fn next(&mut self) -> Heard {
        loop {
            // In the middle of a large frame its begin is not there any more.
            if !self.inspector.is_within_frame() {
                let byte = |at| self.buffer.get(at).copied().unwrap_or_default();
                self.begin = [byte(0), byte(1)];
                if let Ok(Some(header)) = header::parse(&self.buffer, Side::Upstream)
                    && !header.opcode.is_control()
                {
                    self.announced = self.bytes.saturating_add(header.payload_len);
                }
            }
            self.is_waiting = false;
            match self.inspector.inspect(&self.buffer) {
                Err(violation) => return Heard::End(End::Violation(violation, self.begin)),
                Ok(Step::NeedMore) => {
                    self.is_waiting = !self.buffer.is_empty();
                    if let Some(end) = self.read().await {
                        return Heard::End(end);
                    }
                }
                Ok(Step::Part { len, payload }) => self.take(len, payload),
                Ok(Step::Frame { len, payload, content }) => {
                    if let Some(heard) = self.frame(len, payload, content).await {
                        return heard;
                    }
                }
            }
        }
    }

    /// Reads more; `Some`: there will be no more.
    async fn read(&mut self) -> Option<End> {
        self.buffer.reserve(CHUNK);
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(1..) => None,
            Ok(0) => Some(End::Lost { was_reset: false }),
            Err(error) => {
                let was_reset = error.kind() == io::ErrorKind::ConnectionReset;
                Some(End::Lost { was_reset })
            }
        }
    }

    async fn frame(&mut self, len: usize, payload: u64, content: Content) -> Option<Heard> {
        match content {
            Content::Fragment => {
                self.take(len, payload);
                None
            }
            Content::Message(kind) => {
                self.take(len, payload);
                let preview = std::mem::take(&mut self.preview);
                let bytes = std::mem::take(&mut self.bytes);
                let preview = match kind {
                    MessageKind::Text => text_begin(&preview),
                    _ => String::new(),
                };
                Some(Heard::Message(Message { kind, bytes, preview }))
            }
            Content::Ping => {
                let payload = self.control(len);
                self.pings = self.pings.saturating_add(1);
                // Where it fails, the next read tells.
                let _ = self.write(&message::pong(&payload, masking())).await;
                None
            }
            Content::Pong => Some(Heard::Pong(self.control(len))),
            Content::Close(status) => {
                let payload = self.control(len);
                let reason = payload.get(2..).unwrap_or_default();
                let reason = String::from_utf8_lossy(reason).into_owned();
                Some(Heard::End(End::Closed(status, reason)))
            }
        }
    }

    /// Takes bytes of a data message off the buffer, and keeps the begin of the payload.
    fn take(&mut self, len: usize, payload: u64) {
        let taken: Vec<u8> = self.buffer.drain(..len.min(self.buffer.len())).collect();
        let payload_len = usize::try_from(payload).unwrap_or(usize::MAX).min(taken.len());
        let payload_bytes = taken.get(taken.len() - payload_len..).unwrap_or_default();
        let room = PREVIEW.saturating_sub(self.preview.len()).min(payload_bytes.len());
        self.preview.extend_from_slice(payload_bytes.get(..room).unwrap_or_default());
        self.bytes = self.bytes.saturating_add(payload);
    }

    /// Takes a control frame off the buffer; its payload.
    fn control(&mut self, len: usize) -> Vec<u8> {
        let frame: Vec<u8> = self.buffer.drain(..len.min(self.buffer.len())).collect();
        let header = header::parse(&frame, Side::Upstream).ok().flatten();
        let at = header.map_or(frame.len(), |header| header.header_len);
        frame.get(at..).unwrap_or_default().to_vec()
    }

    /// Half a frame that was given up would spoil what is written next: its rest goes before that.
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.unsent.extend_from_slice(bytes);
        while !self.unsent.is_empty() {
            let written = self.stream.write(&self.unsent).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.unsent.drain(..written.min(self.unsent.len()));
        }
        self.stream.flush().await
    }
}

impl Message {
    /// In a line, with how long after `since` it came.
    pub(crate) fn line(&self, after: Duration) -> String {
        let Self { kind, bytes, preview } = self;
        let kind = if *kind == MessageKind::Text { "text" } else { "binary" };
        let shown = if preview.is_empty() { String::new() } else { format!(": {preview}") };
        format!("{kind} of {bytes} bytes after {} ms{shown}", after.as_millis())
    }
}

/// A series of messages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Series {
    /// The first of them, each with the time after which it came.
    pub(crate) first: Vec<(Message, Duration)>,
    /// How many there were.
    pub(crate) count: u64,
}

/// How long is listened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Patience {
    /// For the first message.
    pub(crate) first: Duration,
    /// For each further one.
    pub(crate) quiet: Duration,
    /// For all together.
    pub(crate) total: Duration,
    /// For the end of a message that has begun by then.
    pub(crate) whole: Duration,
}

/// Listens until it is quiet, or the time is over, or the conversation.
pub(crate) async fn gather(
    conversation: &mut Conversation,
    patience: Patience,
) -> (Series, Option<End>) {
    let began = Instant::now();
    let mut series = Series::default();
    loop {
        let wait = if series.count == 0 { patience.first } else { patience.quiet };
        let total = if conversation.is_within_message() { patience.whole } else { patience.total };
        let left = total.saturating_sub(began.elapsed());
        if left.is_zero() {
            return (series, None);
        }
        match tokio::time::timeout(wait.min(left), conversation.next()).await {
            Err(_) if conversation.is_within_message() => {}
            Err(_) => return (series, None),
            Ok(Heard::Message(message)) => {
                series.count = series.count.saturating_add(1);
                if series.first.len() < LISTED {
                    series.first.push((message, began.elapsed()));
                }
            }
            Ok(Heard::Pong(_)) => {}
            Ok(Heard::End(end)) => return (series, Some(end)),
        }
    }
}

/// The begin of a text, up to the last whole character.
fn text_begin(bytes: &[u8]) -> String {
    let end = match std::str::from_utf8(bytes) {
        Ok(_) => bytes.len(),
        Err(error) => error.valid_up_to(),
    };
    let text = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default());
    let mut short: String = text.chars().take(SHOWN).collect();
    if text.chars().count() > SHOWN || bytes.len() == PREVIEW {
        short.push('…');
    }
    short
}

/// RFC 6455 section 5.3: a fresh key for every frame.
fn masking() -> Masking {
    let mut key = [0; 4];
    getrandom::fill(&mut key).expect("the operating system gives random bytes");
    Masking::Key(key)
}

/// Messages of a series that are kept.
const LISTED: usize = 5;

/// Bytes that are read at once.
const CHUNK: usize = 16 * 1024;

/// Bytes of a message that are kept.
const PREVIEW: usize = 512;

/// Characters of a text that are shown.
const SHOWN: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preview_ends_at_a_character() {
        assert_eq!(text_begin("grüße".as_bytes()), "grüße");
        assert_eq!(text_begin(&"ü".as_bytes()[..1]), "");
        let long = "ü".repeat(100);
        assert_eq!(text_begin(long.as_bytes()), format!("{}…", "ü".repeat(80)));
    }
}
