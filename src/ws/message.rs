//! The frames the gateway writes itself: Close, Ping, Pong. Pure.
//!
//! Formatting is tungstenite's. Towards the upstream the gateway is a client and masks with a fresh
//! random key, which the caller brings (RFC 6455 section 5.3).

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, OpCode};

use super::close::MAX_REASON;

/// How a frame is masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Masking {
    /// Towards a client: not at all.
    None,
    /// Towards an upstream: with this key.
    Key([u8; 4]),
}

/// A Close frame; without code it is empty. The reason is cut at a character within 123 bytes.
pub fn close(code: Option<u16>, reason: &str, masking: Masking) -> Vec<u8> {
    let mut payload = Vec::new();
    if let Some(code) = code {
        payload.extend_from_slice(&code.to_be_bytes());
        let end = reason.floor_char_boundary(MAX_REASON);
        payload.extend_from_slice(reason.get(..end).unwrap_or_default().as_bytes());
    }
    control(Control::Close, payload, masking)
}

/// A Ping frame with this payload (at most 125 bytes).
pub fn ping(payload: &[u8], masking: Masking) -> Vec<u8> {
    control(Control::Ping, payload.to_vec(), masking)
}

fn control(opcode: Control, mut payload: Vec<u8>, masking: Masking) -> Vec<u8> {
    let mask = match masking {
        Masking::None => None,
        Masking::Key(key) => Some(key),
    };
    let header = FrameHeader {
        is_final: true,
        opcode: OpCode::Control(opcode),
        mask,
        ..FrameHeader::default()
    };
    let mut frame = Vec::with_capacity(6 + payload.len());
    header.format(payload.len() as u64, &mut frame).expect("writing into a Vec cannot fail");
    if let Some(key) = mask {
        unmask(&mut payload, key, 0);
    }
    frame.extend_from_slice(&payload);
    frame
}

/// Applies a masking key to bytes that begin `offset` bytes into the payload (section 5.3).
pub fn unmask(bytes: &mut [u8], key: [u8; 4], offset: usize) {
    let mut rotated = key;
    rotated.rotate_left(offset % 4);
    let word = u64::from_ne_bytes([
        rotated[0], rotated[1], rotated[2], rotated[3], rotated[0], rotated[1], rotated[2],
        rotated[3],
    ]);
    let (chunks, rest) = bytes.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ word).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(rotated.into_iter().cycle()) {
        *byte ^= key;
    }
}
