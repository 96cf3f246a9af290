//! The inspector row by row, at every split, and against tungstenite.

use proptest::prelude::*;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::protocol::frame::{Frame, FrameHeader};
use tungstenite::protocol::{Role, WebSocketConfig};

use super::*;

const LIMITS: FrameLimits = FrameLimits { message_size: 100_000, fragments: 5, text_utf8: true };

/// A frame as bytes, whatever the rules say of it.
fn frame(first: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
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
    let mut payload = payload.to_vec();
    if let Some(key) = mask {
        bytes.extend_from_slice(&key);
        unmask(&mut payload, key, 0);
    }
    bytes.extend_from_slice(&payload);
    bytes
}

#[derive(Debug, PartialEq, Clone, Default)]
struct Seen {
    passed: usize,
    contents: Vec<Content>,
    violation: Option<Violation>,
}

/// Feeds chunks as a pump does: unconsumed bytes are shown again with the next chunk in front.
fn feed(side: Side, limits: FrameLimits, chunks: &[&[u8]]) -> Seen {
    let mut inspector = FrameInspector::new(side, limits);
    let mut held = Vec::new();
    let mut seen = Seen::default();
    for chunk in chunks {
        held.extend_from_slice(chunk);
        loop {
            match inspector.inspect(&held) {
                Ok(Step::NeedMore) => break,
                Ok(Step::Part { len, .. }) => {
                    seen.passed += len;
                    held.drain(..len);
                }
                Ok(Step::Frame { len, content, .. }) => {
                    seen.passed += len;
                    held.drain(..len);
                    seen.contents.push(content);
                    if matches!(content, Content::Close(_)) {
                        return seen;
                    }
                }
                Err(violation) => {
                    seen.violation = Some(violation);
                    return seen;
                }
            }
        }
    }
    seen
}

fn every_split(side: Side, limits: FrameLimits, bytes: &[u8]) -> Seen {
    let whole = feed(side, limits, &[bytes]);
    for cut in 0..=bytes.len() {
        let (one, two) = bytes.split_at(cut);
        let split = feed(side, limits, &[one, two]);
        assert_eq!(
            (&split.contents, split.violation),
            (&whole.contents, whole.violation),
            "cut at {cut} of {}",
            bytes.len()
        );
    }
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    let dripped = feed(side, limits, &single);
    assert_eq!((dripped.contents, dripped.violation), (whole.contents.clone(), whole.violation));
    whole
}

#[test]
fn legal_streams_pass_whole() {
    let mask = Some([0x11, 0xf2, 0x33, 0x84]);
    let text = "né😀".as_bytes();
    let mut bytes = frame(0x81, text, mask);
    bytes.extend(frame(0x01, &text[..2], mask));
    bytes.extend(frame(0x89, b"are you there", mask));
    bytes.extend(frame(0x00, &text[2..5], mask));
    bytes.extend(frame(0x80, &text[5..], mask));
    bytes.extend(frame(0x82, &[0xff; 300], mask));
    bytes.extend(frame(0x8a, b"", mask));
    bytes.extend(frame(0x88, b"\x03\xe8bye", mask));
    let seen = every_split(Side::Client, LIMITS, &bytes);
    use Content::{Close, Fragment, Message, Ping, Pong};
    let expected = [
        Message(MessageKind::Text),
        Fragment,
        Ping,
        Fragment,
        Message(MessageKind::Text),
        Message(MessageKind::Binary),
        Pong,
        Close(CloseStatus::Code(1000)),
    ];
    assert_eq!(seen, Seen { passed: bytes.len(), contents: expected.to_vec(), violation: None });
}

#[test]
fn breaches_are_named_and_nothing_of_a_small_illegal_frame_passes() {
    let good = frame(0x81, b"before", None);
    let rows: [(Vec<u8>, Violation); 14] = [
        (frame(0xc1, b"compressed", None), Violation::Rsv),
        (frame(0x80, b"", None), Violation::Fragmentation),
        ([frame(0x01, b"a", None), frame(0x81, b"b", None)].concat(), Violation::Fragmentation),
        ([frame(0x01, b"a", None), frame(0xc0, b"b", None)].concat(), Violation::Rsv),
        (frame(0x81, b"\xc3\x28", None), Violation::Utf8),
        (frame(0x81, b"\xe2\x82", None), Violation::Utf8),
        (frame(0x84, b"", None), Violation::Opcode),
        (frame(0x81, b"x", Some([1, 2, 3, 4])), Violation::Mask),
        (frame(0x09, b"", None), Violation::Control),
        (frame(0x88, b"\x03", None), Violation::Control),
        (frame(0x88, b"\x03\xee", None), Violation::CloseCode(1006)),
        (frame(0x88, b"\x03\xe8\xff", None), Violation::Utf8),
        (vec![0x82, 127, 0, 0, 0, 0, 0, 1, 0x86, 0xa1], Violation::Size),
        (frame(0x00, b"x", None).repeat(2), Violation::Fragmentation),
    ];
    for (bytes, violation) in rows {
        let seen = every_split(Side::Upstream, LIMITS, &[good.clone(), bytes.clone()].concat());
        assert_eq!(seen.violation, Some(violation), "{bytes:x?}");
        assert_eq!(seen.contents[0], Content::Message(MessageKind::Text));
    }
}

#[test]
fn fragments_and_their_bytes_are_limited_together() {
    let mut bytes = frame(0x01, b"a", None);
    bytes.extend(frame(0x00, b"", None).repeat(4));
    assert_eq!(feed(Side::Upstream, LIMITS, &[&bytes]).violation, None);
    bytes.extend(frame(0x00, b"", None));
    assert_eq!(feed(Side::Upstream, LIMITS, &[&bytes]).violation, Some(Violation::Fragments));

    let half = vec![0; 60_000];
    let bytes = [frame(0x02, &half, None), frame(0x80, &half, None)].concat();
    assert_eq!(feed(Side::Upstream, LIMITS, &[&bytes]).violation, Some(Violation::Size));
}

#[test]
fn a_large_text_frame_streams_and_stops_before_the_piece_that_is_not_utf8() {
    let mut text = "é".repeat(5000).into_bytes();
    text[9000] = 0xff;
    let bytes = frame(0x81, &text, Some([9, 8, 7, 6]));
    let chunks: Vec<&[u8]> = bytes.chunks(1000).collect();
    let seen = feed(Side::Client, LIMITS, &chunks);
    assert_eq!(seen.violation, Some(Violation::Utf8));
    assert_eq!((seen.passed, seen.contents.len()), (9000, 0));
}

#[test]
fn text_may_be_anything_when_the_route_says_so() {
    let limits = FrameLimits { text_utf8: false, ..LIMITS };
    let seen = every_split(Side::Upstream, limits, &frame(0x81, b"\xff\xfe", None));
    assert_eq!(seen.violation, None);
}

#[test]
fn a_control_frames_payload_is_compared_unmasked() {
    let bytes = frame(0x8a, b"marker", Some([5, 6, 7, 8]));
    assert!(control_payload_is(&bytes, Side::Client, b"marker"));
    assert!(!control_payload_is(&bytes, Side::Client, b"Marker"));
}

/// What tungstenite, as the receiver, makes of the same bytes: messages read, and whether it failed.
fn tungstenite_verdict(bytes: &[u8], side: Side) -> (usize, bool) {
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
    let role = if side == Side::Client { Role::Server } else { Role::Client };
    let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
    let mut socket = tungstenite::WebSocket::from_raw_socket(Wire(bytes), role, Some(config));
    let mut messages = 0;
    loop {
        match socket.read() {
            Ok(tungstenite::Message::Close(_)) => return (messages, false),
            Ok(_) => messages += 1,
            Err(tungstenite::Error::Io(error))
                if error.kind() == std::io::ErrorKind::WouldBlock =>
            {
                return (messages, false);
            }
            Err(_) => return (messages, true),
        }
    }
}

fn arbitrary_frame() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![
        "[a-zé😀]{0,40}".prop_map(String::into_bytes),
        proptest::collection::vec(any::<u8>(), 0..140),
        proptest::collection::vec(any::<u8>(), 4090..4110),
        Just(b"\x03\xe8".to_vec()),
    ];
    let first = prop_oneof![
        8 => prop_oneof![
            Just(0x81u8), Just(0x82), Just(0x01), Just(0x00), Just(0x80), Just(0x89), Just(0x8a)
        ],
        1 => Just(0x88u8),
        1 => any::<u8>(),
    ];
    (first, payload, any::<[u8; 4]>(), prop::bool::weighted(0.97))
        .prop_map(|(first, payload, key, masked)| frame(first, &payload, masked.then_some(key)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Only Close payloads and lengths differ by intent, and neither can arise here but for codes:
    /// tungstenite takes any code up to 65535 with a Close and then ends, as we refuse.
    #[test]
    fn agrees_with_tungstenite(frames in proptest::collection::vec(arbitrary_frame(), 1..8)) {
        let bytes = frames.concat();
        let limits = FrameLimits { message_size: u64::MAX, fragments: u32::MAX, text_utf8: true };
        let ours = feed(Side::Client, limits, &[&bytes]);
        let (messages, failed) = tungstenite_verdict(&bytes, Side::Client);
        let passed = ours.contents.iter()
            .filter(|content| !matches!(content, Content::Fragment | Content::Close(_)))
            .count();
        prop_assert_eq!(passed, messages, "{:?}", ours);
        if !matches!(ours.violation, Some(Violation::CloseCode(_) | Violation::Utf8 | Violation::Control)) {
            prop_assert_eq!(ours.violation.is_some(), failed, "{:?}", ours);
        } else {
            prop_assert!(failed || bytes.iter().any(|byte| byte & 0x0f == 8));
        }
    }

    #[test]
    fn any_bytes_at_any_split_give_one_verdict(
        bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..200, client: bool,
    ) {
        let side = if client { Side::Client } else { Side::Upstream };
        let cut = cut.min(bytes.len());
        let whole = feed(side, LIMITS, &[&bytes]);
        let split = feed(side, LIMITS, &[&bytes[..cut], &bytes[cut..]]);
        prop_assert_eq!((whole.contents, whole.violation), (split.contents, split.violation));
        prop_assert!(whole.passed <= bytes.len());
    }

    /// What tungstenite writes, we pass.
    #[test]
    fn passes_what_tungstenite_formats(payload: Vec<u8>, key: [u8; 4], fin: bool) {
        let header = FrameHeader {
            is_final: fin, opcode: OpCode::Data(Data::Binary), mask: Some(key), ..FrameHeader::default()
        };
        let mut bytes = Vec::new();
        Frame::from_payload(header, payload.into()).format(&mut bytes).unwrap();
        let seen = feed(Side::Client, LIMITS, &[&bytes]);
        prop_assert_eq!(seen.passed, bytes.len());
        prop_assert_eq!(seen.violation, None);
    }
}

#[test]
fn the_gateways_own_frames_are_legal() {
    use crate::protocol::ws::message::{self, Masking};
    let key = [1, 2, 3, 4];
    let reason = "é".repeat(100);
    for bytes in [
        message::close(Some(1012), &reason, Masking::Key(key)),
        message::close(None, "ignored", Masking::Key(key)),
        message::ping(b"marker", Masking::Key(key)),
    ] {
        let seen = feed(Side::Client, LIMITS, &[&bytes]);
        assert_eq!((seen.passed, seen.violation), (bytes.len(), None));
    }
    let bytes = message::close(Some(4401), "token_expired", Masking::None);
    assert_eq!(bytes, frame(0x88, b"\x11\x31token_expired", None));
}

#[test]
fn a_large_frame_that_its_end_makes_illegal_still_stands_open() {
    let mut payload = vec![b'a'; 5000];
    payload[4999] = 0xc3;
    let bytes = frame(0x81, &payload, None);
    let (begin, end) = bytes.split_at(4500);
    let mut inspector = FrameInspector::new(Side::Upstream, LIMITS);
    assert!(matches!(inspector.inspect(begin), Ok(Step::Part { len: 4500, .. })));
    assert_eq!(inspector.inspect(end), Err(Violation::Utf8));
    assert!(inspector.is_within_frame());
    // When nothing of it has passed, there is nothing to stand open.
    let mut inspector = FrameInspector::new(Side::Upstream, LIMITS);
    assert_eq!(inspector.inspect(&bytes), Err(Violation::Utf8));
    assert!(!inspector.is_within_frame());
}
