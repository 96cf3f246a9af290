//! The frames the gateway writes itself: Close and Ping; and doctor's, which is a client. Pure.
//!
//! Formatting is tungstenite's. Towards the upstream the gateway is a client and masks with a fresh
//! random key, which the caller brings (RFC 6455 section 5.3).

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::close::MAX_REASON;

/// What is counted as a message; fragments count once, when the message is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageKind {
    /// Text message.
    Text,
    /// Binary message.
    Binary,
    /// Ping.
    Ping,
    /// Pong.
    Pong,
}

impl MessageKind {
    /// All kinds, in the order of `session::traffic::Counts::messages`.
    pub(crate) const ALL: [Self; 4] = [Self::Text, Self::Binary, Self::Ping, Self::Pong];

    /// The metric label.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Binary => "binary",
            Self::Ping => "ping",
            Self::Pong => "pong",
        }
    }
}

/// How a frame is masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Masking {
    /// Towards a client: not at all.
    None,
    /// Towards an upstream: with this key.
    Key([u8; 4]),
}

/// A Close frame; without code it is empty. The reason is cut at a character within 123 bytes.
pub(crate) fn close(code: Option<u16>, reason: &str, masking: Masking) -> Vec<u8> {
    let mut payload = Vec::new();
    if let Some(code) = code {
        payload.extend_from_slice(&code.to_be_bytes());
        let end = reason.floor_char_boundary(MAX_REASON);
        payload.extend_from_slice(reason.get(..end).unwrap_or_default().as_bytes());
    }
    frame(OpCode::Control(Control::Close), payload, masking)
}

/// A Ping frame with this payload (at most 125 bytes).
pub(crate) fn ping(payload: &[u8], masking: Masking) -> Vec<u8> {
    frame(OpCode::Control(Control::Ping), payload.to_vec(), masking)
}

/// The Pong that answers a Ping with this payload (at most 125 bytes).
pub(crate) fn pong(payload: &[u8], masking: Masking) -> Vec<u8> {
    frame(OpCode::Control(Control::Pong), payload.to_vec(), masking)
}

/// A text message in one frame.
pub(crate) fn text(text: &str, masking: Masking) -> Vec<u8> {
    frame(OpCode::Data(Data::Text), text.as_bytes().to_vec(), masking)
}

fn frame(opcode: OpCode, mut payload: Vec<u8>, masking: Masking) -> Vec<u8> {
    let mask = match masking {
        Masking::None => None,
        Masking::Key(key) => Some(key),
    };
    let header = FrameHeader { is_final: true, opcode, mask, ..FrameHeader::default() };
    let mut frame = Vec::with_capacity(14 + payload.len());
    header.format(payload.len() as u64, &mut frame).expect("writing into a Vec cannot fail");
    if let Some(key) = mask {
        unmask(&mut payload, key, 0);
    }
    frame.extend_from_slice(&payload);
    frame
}

/// Applies a masking key to bytes that begin `offset` bytes into the payload (section 5.3).
pub fn unmask(bytes: &mut [u8], key: [u8; 4], offset: usize) {
    let (rotated, word) = rotated(key, offset);
    let (chunks, rest) = bytes.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ word).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(rotated.into_iter().cycle()) {
        *byte ^= key;
    }
}

/// Whether masked bytes are ASCII under their mask, without unmasking them: only the highest bit of
/// each is of interest.
pub(crate) fn is_ascii_masked(bytes: &[u8], key: [u8; 4], offset: usize) -> bool {
    let (rotated, word) = rotated(key, offset);
    let (chunks, rest) = bytes.as_chunks::<8>();
    let mut all = 0;
    for chunk in chunks {
        all |= u64::from_ne_bytes(*chunk) ^ word;
    }
    let mut last = 0;
    for (byte, key) in rest.iter().zip(rotated.into_iter().cycle()) {
        last |= byte ^ key;
    }
    all & u64::from_ne_bytes([0x80; 8]) == 0 && last.is_ascii()
}

/// The key as it applies `offset` bytes into the payload, and twice in a word.
fn rotated(mut key: [u8; 4], offset: usize) -> ([u8; 4], u64) {
    key.rotate_left(offset % 4);
    let [a, b, c, d] = key;
    (key, u64::from_ne_bytes([a, b, c, d, a, b, c, d]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ascii_under_a_mask_is_seen_without_unmasking(
            text in "[ -~]{0,70}",
            odd in proptest::option::of((0_usize..70, 0x80_u8..)),
            key: [u8; 4],
            offset in 0_usize..9,
        ) {
            let mut bytes = text.into_bytes();
            if let Some((at, byte)) = odd
                && let Some(place) = bytes.get_mut(at)
            {
                *place = byte;
            }
            let expected = bytes.is_ascii();
            unmask(&mut bytes, key, offset);
            prop_assert_eq!(is_ascii_masked(&bytes, key, offset), expected);
        }
    }
}
