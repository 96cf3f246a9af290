//! Decides, frame by frame, what of one direction may pass. Pure.
//!
//! The contract: show [`FrameInspector::inspect`] what has arrived and is not yet passed; it answers
//! how many bytes at the front may be written on as they came, or which rule they break. Bytes it
//! asks to see again with [`Step::NeedMore`] are kept by the caller, so any split of the stream into
//! chunks gives the same answers. A frame with up to [`WHOLE_FRAME`] bytes of payload passes only when
//! all of it has been read and checked; a larger one streams, and of one that turns out illegal the
//! end never passes. Nothing is re-framed and nothing assembled: text is unmasked into a scratch
//! array only to be checked.

use super::close;
use super::header::{self, Header, Opcode};
use super::message::{is_ascii_masked, unmask};
use super::utf8::Utf8Stream;
use super::violation::{Side, Violation};
use crate::protocol::ws::close::CloseStatus;
use crate::protocol::ws::message::MessageKind;

/// Largest payload, in bytes, of a frame that passes only as a whole.
pub const WHOLE_FRAME: u64 = 4096;

/// What a sender may do beyond the rules of RFC 6455.
#[derive(Debug, Clone, Copy)]
pub struct FrameLimits {
    /// Payload bytes of a message, all fragments together.
    pub message_size: u64,
    /// Frames of a message.
    pub fragments: u32,
    /// Text must be UTF-8.
    pub text_utf8: bool,
}

/// The answer for the bytes shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The frame at the front is not whole: show it again with what follows.
    NeedMore,
    /// A piece of a large frame that is not at its end.
    Part {
        /// Bytes that may pass.
        len: usize,
        /// Payload among them.
        payload: u64,
    },
    /// A frame, or the last piece of one.
    Frame {
        /// Bytes that may pass.
        len: usize,
        /// Payload among them.
        payload: u64,
        /// What it is.
        content: Content,
    },
}

/// What a frame is that has come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// A fragment that is not the last of its message.
    Fragment,
    /// The end of a text or binary message.
    Message(MessageKind),
    /// A Ping.
    Ping,
    /// A Pong.
    Pong,
    /// A Close; nothing behind it counts.
    Close(CloseStatus),
}

/// The state of one direction between two calls.
#[derive(Debug)]
pub struct FrameInspector {
    from: Side,
    limits: FrameLimits,
    message: Option<OpenMessage>,
    streaming: Option<Streaming>,
    utf8: Utf8Stream,
}

/// A data message whose last frame has not ended.
#[derive(Debug, Clone, Copy)]
struct OpenMessage {
    kind: MessageKind,
    bytes: u64,
    frames: u32,
}

/// A large frame of which a part has passed.
#[derive(Debug, Clone, Copy)]
struct Streaming {
    remaining: u64,
    fin: bool,
    mask: Option<[u8; 4]>,
    /// Payload bytes before the next one, modulo 4.
    mask_offset: usize,
}

impl FrameInspector {
    /// An inspector for the frames of `from`, with nothing read.
    pub fn new(from: Side, limits: FrameLimits) -> Self {
        Self { from, limits, message: None, streaming: None, utf8: Utf8Stream::default() }
    }

    /// Whether a part of a frame has passed that is not at its end.
    pub fn is_within_frame(&self) -> bool {
        self.streaming.is_some()
    }

    /// Whether a part of a message has passed that is not at its end.
    pub(crate) fn is_within_message(&self) -> bool {
        self.is_within_frame() || self.message.is_some()
    }

    /// Judges the front of `bytes`, which begins where the last answer's `len` ended.
    pub fn inspect(&mut self, bytes: &[u8]) -> Result<Step, Violation> {
        if let Some(streaming) = self.streaming {
            return self.go_on(streaming, bytes, 0);
        }
        let Some(header) = header::parse(bytes, self.from)? else { return Ok(Step::NeedMore) };
        let behind = bytes.get(header.header_len..).unwrap_or_default();
        if header.opcode.is_control() {
            return control(&header, behind);
        }
        let message = self.admit_data_frame(&header)?;
        if header.payload_len > WHOLE_FRAME {
            self.message = Some(message);
            let streaming = Streaming {
                remaining: header.payload_len,
                fin: header.fin,
                mask: header.mask,
                mask_offset: 0,
            };
            return self.go_on(streaming, behind, header.header_len);
        }
        let Some(payload) = prefix(behind, header.payload_len) else { return Ok(Step::NeedMore) };
        self.message = Some(message);
        self.check_text(payload, header.mask, 0)?;
        let content = self.end_data_frame(header.fin)?;
        let len = header.header_len + payload.len();
        Ok(Step::Frame { len, payload: header.payload_len, content })
    }

    /// The rules for a data frame that can be checked when its header is there: the order of
    /// fragments (section 5.4) and the message's size, which is known before the payload comes.
    fn admit_data_frame(&self, header: &Header) -> Result<OpenMessage, Violation> {
        let mut message = match (header.opcode, self.message) {
            (Opcode::Continuation, Some(open)) => open,
            (Opcode::Continuation, None) | (_, Some(_)) => return Err(Violation::Fragmentation),
            (Opcode::Text, None) => OpenMessage { kind: MessageKind::Text, bytes: 0, frames: 0 },
            (_, None) => OpenMessage { kind: MessageKind::Binary, bytes: 0, frames: 0 },
        };
        message.bytes = message.bytes.saturating_add(header.payload_len);
        message.frames = message.frames.saturating_add(1);
        if message.bytes > self.limits.message_size {
            return Err(Violation::Size);
        }
        if message.frames > self.limits.fragments {
            return Err(Violation::Fragments);
        }
        Ok(message)
    }

    fn go_on(
        &mut self,
        mut frame: Streaming,
        bytes: &[u8],
        before: usize,
    ) -> Result<Step, Violation> {
        let payload = prefix(bytes, frame.remaining).unwrap_or(bytes);
        self.check_text(payload, frame.mask, frame.mask_offset)?;
        let len = before + payload.len();
        if len == 0 {
            return Ok(Step::NeedMore);
        }
        let passed = payload.len() as u64;
        frame.remaining -= passed;
        frame.mask_offset = (frame.mask_offset + payload.len()) % 4;
        if frame.remaining > 0 {
            self.streaming = Some(frame);
            return Ok(Step::Part { len, payload: passed });
        }
        // Found illegal by its last byte, the frame still stands open where its begin has passed.
        let content = self.end_data_frame(frame.fin)?;
        self.streaming = None;
        Ok(Step::Frame { len, payload: passed, content })
    }

    fn end_data_frame(&mut self, fin: bool) -> Result<Content, Violation> {
        if !fin {
            return Ok(Content::Fragment);
        }
        let kind = self.message.take().map_or(MessageKind::Binary, |message| message.kind);
        if kind == MessageKind::Text && self.limits.text_utf8 {
            self.utf8.finish().map_err(|_| Violation::Utf8)?;
        }
        Ok(Content::Message(kind))
    }

    /// "When an endpoint is to interpret a byte stream as UTF-8 but finds that the byte stream is
    /// not, in fact, a valid UTF-8 stream, that endpoint MUST _Fail the WebSocket Connection_"
    /// (section 8.1).
    fn check_text(
        &mut self,
        payload: &[u8],
        mask: Option<[u8; 4]>,
        offset: usize,
    ) -> Result<(), Violation> {
        let is_text = self.message.is_some_and(|message| message.kind == MessageKind::Text);
        if !is_text || !self.limits.text_utf8 {
            return Ok(());
        }
        let Some(key) = mask else {
            return self.utf8.feed(payload).map_err(|_| Violation::Utf8);
        };
        // A multiple of 4, so that `offset` holds for each piece.
        for piece in payload.chunks(PIECE) {
            if self.utf8.is_between_characters() && is_ascii_masked(piece, key, offset) {
                continue;
            }
            let mut scratch = [0; PIECE];
            let plain = scratch.get_mut(..piece.len()).unwrap_or_default();
            plain.copy_from_slice(piece);
            unmask(plain, key, offset);
            self.utf8.feed(plain).map_err(|_| Violation::Utf8)?;
        }
        Ok(())
    }
}

/// Judges a control frame: at most 125 bytes, which may stand between fragments (section 5.5).
fn control(header: &Header, behind: &[u8]) -> Result<Step, Violation> {
    let Some(payload) = prefix(behind, header.payload_len) else { return Ok(Step::NeedMore) };
    let content = match header.opcode {
        Opcode::Ping => Content::Ping,
        Opcode::Pong => Content::Pong,
        _ => Content::Close(with_plain(payload, header.mask, close::parse)?),
    };
    let len = header.header_len + payload.len();
    Ok(Step::Frame { len, payload: header.payload_len, content })
}

/// Whether `frame`, a whole control frame that has passed inspection, has exactly this payload.
pub(crate) fn control_payload_is(frame: &[u8], from: Side, expected: &[u8]) -> bool {
    let Ok(Some(header)) = header::parse(frame, from) else { return false };
    let payload = frame.get(header.header_len..).unwrap_or_default();
    with_plain(payload, header.mask, |plain| plain == expected)
}

/// Calls `read` with the unmasked payload of a control frame.
fn with_plain<T>(payload: &[u8], mask: Option<[u8; 4]>, read: impl FnOnce(&[u8]) -> T) -> T {
    let Some(key) = mask else { return read(payload) };
    let mut scratch = [0; 125];
    let len = payload.len().min(scratch.len());
    let (plain, _) = scratch.split_at_mut(len);
    plain.copy_from_slice(payload.get(..len).unwrap_or_default());
    unmask(plain, key, 0);
    read(plain)
}

/// The first `len` bytes, if they are all there.
fn prefix(bytes: &[u8], len: u64) -> Option<&[u8]> {
    bytes.get(..usize::try_from(len).ok()?)
}

/// Bytes of text that are unmasked at once.
const PIECE: usize = 1024;

#[cfg(test)]
mod tests;
