//! Frame headers, read and checked (RFC 6455 section 5.2). Pure.
//!
//! Our own reader rather than tungstenite's: it also refuses lengths that are not in their shortest
//! form, reports a breach as soon as the two bytes that show it are there, and needs no cursor.

use super::violation::{Side, Violation};

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opcode {
    /// 0: goes on with the message begun before.
    Continuation,
    /// 1
    Text,
    /// 2
    Binary,
    /// 8
    Close,
    /// 9
    Ping,
    /// 10
    Pong,
}

impl Opcode {
    fn parse(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    /// The word in logs.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Continuation => "continuation",
            Self::Text => "text",
            Self::Binary => "binary",
            Self::Close => "close",
            Self::Ping => "ping",
            Self::Pong => "pong",
        }
    }

    /// Whether it is a control frame (section 5.5).
    pub(crate) const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// A frame header that is legal in itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Last (or only) frame of its message.
    pub(crate) fin: bool,
    /// What the frame is.
    pub(crate) opcode: Opcode,
    /// Masking key, from clients.
    pub(crate) mask: Option<[u8; 4]>,
    /// Bytes of the header itself.
    pub(crate) header_len: usize,
    /// Bytes of payload; at most 2^63 - 1.
    pub(crate) payload_len: u64,
}

/// Reads the header at the begin of `bytes`; `None` when more bytes are needed.
pub fn parse(bytes: &[u8], from: Side) -> Result<Option<Header>, Violation> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    // "MUST be 0 unless an extension is negotiated that defines meanings for non-zero values."
    if first & 0x70 != 0 {
        return Err(Violation::Rsv);
    }
    let fin = first & 0x80 != 0;
    let opcode = Opcode::parse(first & 0x0f).ok_or(Violation::Opcode)?;
    let masked = second & 0x80 != 0;
    // Section 5.1: a client masks all frames, a server none.
    if masked != (from == Side::Client) {
        return Err(Violation::Mask);
    }
    let short = second & 0x7f;
    // Section 5.5: control frames have at most 125 bytes and "MUST NOT be fragmented".
    if opcode.is_control() && (!fin || short > 125) {
        return Err(Violation::Control);
    }
    let (payload_len, extended) = match short {
        126 => {
            let Some(field) = rest.first_chunk::<2>() else { return Ok(None) };
            (u64::from(u16::from_be_bytes(*field)), 2)
        }
        127 => {
            let Some(field) = rest.first_chunk::<8>() else { return Ok(None) };
            (u64::from_be_bytes(*field), 8)
        }
        short => (u64::from(short), 0),
    };
    // "the minimal number of bytes MUST be used to encode the length"; the top bit "MUST be 0".
    let minimal = match extended {
        2 => payload_len > 125,
        8 => payload_len > 0xffff && payload_len >> 63 == 0,
        _ => true,
    };
    if !minimal {
        return Err(Violation::Length);
    }
    let mask = if masked {
        let key = rest.get(extended..).and_then(<[u8]>::first_chunk::<4>);
        let Some(key) = key else { return Ok(None) };
        Some(*key)
    } else {
        None
    };
    let header_len = 2 + extended + if masked { 4 } else { 0 };
    Ok(Some(Header { fin, opcode, mask, header_len, payload_len }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_has_a_header_that_breaks_it() {
        use Side::{Client, Upstream};
        let rows: [(&[u8], Side, Violation); 14] = [
            (&[0xc1, 0x80], Client, Violation::Rsv),
            (&[0xa1, 0x00], Upstream, Violation::Rsv),
            (&[0x91, 0x00], Upstream, Violation::Rsv),
            (&[0x83, 0x00], Upstream, Violation::Opcode),
            (&[0x8b, 0x00], Upstream, Violation::Opcode),
            (&[0x81, 0x05], Client, Violation::Mask),
            (&[0x81, 0x85], Upstream, Violation::Mask),
            (&[0x09, 0x00], Upstream, Violation::Control),
            (&[0x89, 126], Upstream, Violation::Control),
            (&[0x88, 127], Upstream, Violation::Control),
            (&[0x82, 126, 0, 125], Upstream, Violation::Length),
            (&[0x82, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff], Upstream, Violation::Length),
            (&[0x82, 127, 0x80, 0, 0, 0, 0, 1, 0, 0], Upstream, Violation::Length),
            (&[0x82, 0xfe, 0, 1, 0, 0, 0, 0], Client, Violation::Length),
        ];
        for (bytes, from, violation) in rows {
            assert_eq!(parse(bytes, from), Err(violation), "{bytes:x?}");
        }
    }

    #[test]
    fn a_header_is_read_only_when_it_is_whole() {
        let whole = [0x82, 0xfe, 0x01, 0x00, 1, 2, 3, 4];
        for end in 0..whole.len() {
            assert_eq!(parse(&whole[..end], Side::Client), Ok(None), "{end}");
        }
        let expected = Header {
            fin: true,
            opcode: Opcode::Binary,
            mask: Some([1, 2, 3, 4]),
            header_len: 8,
            payload_len: 256,
        };
        assert_eq!(parse(&whole, Side::Client), Ok(Some(expected)));
        let large = [0x02, 127, 0x7f, 255, 255, 255, 255, 255, 255, 255];
        let header = parse(&large, Side::Upstream).unwrap().unwrap();
        assert_eq!((header.fin, header.payload_len), (false, u64::MAX >> 1));
    }
}
