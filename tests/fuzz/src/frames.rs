//! What a whole stream of frames is, by RFC 6455 section 5 and 8.1 (see [`crate`]).

use framegate::internals::protocol::ws::close::CloseStatus;
use framegate::internals::protocol::ws::inspector::{Content, FrameLimits, WHOLE_FRAME};
use framegate::internals::protocol::ws::message::MessageKind;
use framegate::internals::protocol::ws::violation::{Side, Violation};

/// A stream judged.
#[derive(Debug, Default)]
pub struct Judged {
    /// What each whole frame was, up to the Close or the breach.
    pub contents: Vec<Content>,
    /// Messages and control frames but Close, unmasked.
    pub messages: Vec<(MessageKind, Vec<u8>)>,
    /// The breach, if there is one.
    pub violation: Option<Violation>,
    /// Bytes of whole, legal frames.
    pub whole: usize,
    /// Bytes that may pass at most: whole frames, and of a large one what is not known to be illegal.
    pub may_pass: usize,
    /// Payload of whole, legal frames.
    pub payload: u64,
}

/// A frame taken apart; nothing of it checked.
struct Frame<'a> {
    first: u8,
    masked: bool,
    short: u8,
    len: u64,
    header_len: usize,
    /// What is there of the payload, unmasked.
    payload: Vec<u8>,
    raw: &'a [u8],
}

/// An unfinished message: text or not, its bytes, its frames.
struct Open {
    text: bool,
    bytes: Vec<u8>,
    announced: u64,
    frames: u32,
}

/// Judges all bytes one side has sent.
pub fn judge(bytes: &[u8], side: Side, limits: FrameLimits) -> Judged {
    let mut judged = Judged::default();
    let mut open = None;
    while let Some(rest) = bytes.get(judged.whole..).filter(|rest| rest.len() >= 2) {
        judged.may_pass = judged.whole;
        match judge_frame(rest, side, limits, &mut open, &mut judged) {
            Ok(true) => {}
            Ok(false) => return judged,
            Err(violation) => {
                judged.violation = Some(violation);
                return judged;
            }
        }
        if matches!(judged.contents.last(), Some(Content::Close(_))) {
            break;
        }
    }
    judged.may_pass = judged.whole;
    judged
}

/// Whether the frame at the front is whole.
fn judge_frame(
    rest: &[u8],
    side: Side,
    limits: FrameLimits,
    open: &mut Option<Open>,
    judged: &mut Judged,
) -> Result<bool, Violation> {
    let opcode = first_bytes(rest[0], rest[1], side)?;
    let Some(frame) = take_apart(rest)? else { return Ok(false) };
    let is_whole = frame.payload.len() as u64 == frame.len;
    if opcode >= 8 {
        if is_whole {
            let content = control(opcode, &frame, judged)?;
            judged.pass(&frame, content);
        }
        return Ok(is_whole);
    }
    let message = match (opcode, &mut *open) {
        (0, Some(message)) => message,
        (1 | 2, none @ None) => {
            none.insert(Open { text: opcode == 1, bytes: Vec::new(), announced: 0, frames: 0 })
        }
        _ => return Err(Violation::Fragmentation),
    };
    message.announced = message.announced.saturating_add(frame.len);
    message.frames += 1;
    if message.announced > limits.message_size {
        return Err(Violation::Size);
    }
    if message.frames > limits.fragments {
        return Err(Violation::Fragments);
    }
    let streams = frame.len > WHOLE_FRAME;
    if !streams && !is_whole {
        return Ok(false);
    }
    let before = message.bytes.len();
    message.bytes.extend_from_slice(&frame.payload);
    if streams {
        judged.may_pass = judged.whole + rest.len().min(frame.raw.len());
    }
    if message.text
        && limits.text_utf8
        && let Err(error) = std::str::from_utf8(&message.bytes)
    {
        if let Some(len) = error.error_len() {
            if streams {
                let good = (error.valid_up_to() + len).saturating_sub(before);
                judged.may_pass = judged.whole + frame.header_len + good;
            }
            return Err(Violation::Utf8);
        }
        if is_whole && frame.first & 0x80 != 0 {
            judged.may_pass -= usize::from(streams);
            return Err(Violation::Utf8);
        }
    }
    if !is_whole {
        return Ok(false);
    }
    judged.pass(&frame, Content::Fragment);
    if frame.first & 0x80 != 0 {
        let kind = if message.text { MessageKind::Text } else { MessageKind::Binary };
        judged.messages.push((kind, std::mem::take(&mut message.bytes)));
        *judged.contents.last_mut().expect("just pushed") = Content::Message(kind);
        *open = None;
    }
    Ok(true)
}

impl Judged {
    fn pass(&mut self, frame: &Frame<'_>, content: Content) {
        self.contents.push(content);
        self.whole += frame.raw.len();
        self.payload += frame.len;
    }
}

/// What the first two bytes show.
fn first_bytes(first: u8, second: u8, side: Side) -> Result<u8, Violation> {
    let opcode = first & 15;
    if (first >> 4) & 7 != 0 {
        return Err(Violation::Rsv);
    }
    if !matches!(opcode, 0..=2 | 8..=10) {
        return Err(Violation::Opcode);
    }
    if (second > 127) != (side == Side::Client) {
        return Err(Violation::Mask);
    }
    if opcode >= 8 && (first < 128 || second & 127 > 125) {
        return Err(Violation::Control);
    }
    Ok(opcode)
}

/// `None`: its header is not whole.
fn take_apart(rest: &[u8]) -> Result<Option<Frame<'_>>, Violation> {
    let (first, masked, short) = (rest[0], rest[1] > 127, rest[1] & 127);
    let extended = match short {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let mut len = u64::from(short);
    if extended > 0 {
        let Some(digits) = rest.get(2..2 + extended) else { return Ok(None) };
        len = digits.iter().fold(0, |len, digit| len << 8 | u64::from(*digit));
        let least = if extended == 2 { 126 } else { 65_536 };
        if len < least || len > i64::MAX as u64 {
            return Err(Violation::Length);
        }
    }
    let header_len = 2 + extended + 4 * usize::from(masked);
    let Some(behind) = rest.get(header_len..) else { return Ok(None) };
    let there = behind.len().min(usize::try_from(len).unwrap_or(usize::MAX));
    let key = &rest[header_len - 4 * usize::from(masked)..header_len];
    let unmask = |(at, byte): (usize, &u8)| byte ^ key.get(at % 4).copied().unwrap_or(0);
    let payload = behind[..there].iter().enumerate().map(unmask).collect();
    let raw = &rest[..header_len + there];
    Ok(Some(Frame { first, masked, short, len, header_len, payload, raw }))
}

fn control(opcode: u8, frame: &Frame<'_>, judged: &mut Judged) -> Result<Content, Violation> {
    debug_assert!(frame.short <= 125 && frame.header_len == 2 + 4 * usize::from(frame.masked));
    let payload = &frame.payload;
    if opcode != 8 {
        let kind = if opcode == 9 { MessageKind::Ping } else { MessageKind::Pong };
        judged.messages.push((kind, payload.clone()));
        return Ok(if opcode == 9 { Content::Ping } else { Content::Pong });
    }
    match payload.len() {
        0 => return Ok(Content::Close(CloseStatus::Empty)),
        1 => return Err(Violation::Control),
        _ => {}
    }
    let code = u16::from(payload[0]) * 256 + u16::from(payload[1]);
    // RFC 6455 section 7.4 and the IANA registry: 1004 is reserved, 1005, 1006 and 1015 are never sent.
    let is_registered = (1000..1015).contains(&code) && ![1004, 1005, 1006].contains(&code);
    if !is_registered && !(3000..5000).contains(&code) {
        return Err(Violation::CloseCode(code));
    }
    std::str::from_utf8(&payload[2..]).map_err(|_| Violation::Utf8)?;
    Ok(Content::Close(CloseStatus::Code(code)))
}

/// What tungstenite reads of the same bytes before it stops, whyever.
pub fn tungstenite_reads(bytes: &[u8], side: Side) -> Vec<(MessageKind, Vec<u8>)> {
    use tungstenite::Message;
    use tungstenite::protocol::{Role, WebSocketConfig};
    let role = if side == Side::Client { Role::Server } else { Role::Client };
    let config = WebSocketConfig::default().max_message_size(None).max_frame_size(Some(1 << 20));
    let mut socket = tungstenite::WebSocket::from_raw_socket(Wire(bytes), role, Some(config));
    let mut messages = Vec::new();
    while let Ok(message) = socket.read() {
        messages.push(match message {
            Message::Text(text) => (MessageKind::Text, text.as_str().as_bytes().to_vec()),
            Message::Binary(bytes) => (MessageKind::Binary, bytes.to_vec()),
            Message::Ping(bytes) => (MessageKind::Ping, bytes.to_vec()),
            Message::Pong(bytes) => (MessageKind::Pong, bytes.to_vec()),
            Message::Close(_) | Message::Frame(_) => break,
        });
    }
    messages
}

/// Reads to its end and then would block; what is written is gone.
struct Wire<'a>(&'a [u8]);

impl std::io::Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(std::io::ErrorKind::WouldBlock.into()),
            read => Ok(read),
        }
    }
}

impl std::io::Write for Wire<'_> {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        Ok(buffer.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
