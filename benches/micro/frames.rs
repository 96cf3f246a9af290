//! Frame headers, and the inspection of whole frames.

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use framegate::internals::protocol::ws::header;
use framegate::internals::protocol::ws::inspector::{FrameInspector, FrameLimits, Step};
use framegate::internals::protocol::ws::message::unmask;
use framegate::internals::protocol::ws::violation::Side;

const LIMITS: FrameLimits =
    FrameLimits { message_size: 1 << 20, fragments: 65_536, text_utf8: true };
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// What stands in the frames.
#[derive(Debug, Clone, Copy)]
enum Payload {
    /// Text of ASCII.
    Ascii,
    /// Text of letters of two bytes, as of Greek or Cyrillic.
    Letters,
    /// Any bytes.
    Binary,
}

const PAYLOADS: [Payload; 3] = [Payload::Ascii, Payload::Letters, Payload::Binary];

/// Frames of one message each, one behind the other.
fn frames(from: Side, payload: Payload, size: usize, count: usize) -> Vec<u8> {
    let (first, mut content) = match payload {
        Payload::Ascii => (0x81, b"a word and ".iter().copied().cycle().take(size).collect()),
        Payload::Letters => (0x81, "\u{3b1}".repeat(size / 2).into_bytes()),
        Payload::Binary => (0x82, (0..size).map(|at| (at % 251) as u8).collect::<Vec<u8>>()),
    };
    let mask = if from == Side::Client { 0x80 } else { 0 };
    let mut frame = vec![first];
    match u8::try_from(size) {
        Ok(short) if short < 126 => frame.push(mask | short),
        _ => {
            let long = u16::try_from(size).expect("at most 64 KiB");
            frame.push(mask | 126);
            frame.extend(long.to_be_bytes());
        }
    }
    if from == Side::Client {
        frame.extend(KEY);
        unmask(&mut content, KEY, 0);
    }
    frame.extend(content);
    frame.repeat(count)
}

/// Inspects all frames, as a pump does that has them in its buffer.
fn inspect(from: Side, bytes: &[u8]) -> usize {
    let mut inspector = FrameInspector::new(from, LIMITS);
    let (mut at, mut whole) = (0, 0);
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        match inspector.inspect(rest) {
            Ok(Step::Frame { len, .. }) => (at, whole) = (at + len, whole + 1),
            Ok(Step::Part { len, .. }) => at += len,
            other => panic!("legal frames: {other:?}"),
        }
    }
    whole
}

fn measure(bencher: Bencher<'_, '_>, from: Side, payload: Payload, size: usize, count: usize) {
    let bytes = frames(from, payload, size, count);
    assert_eq!(inspect(from, &bytes), count);
    bencher
        .counter(BytesCount::new(bytes.len()))
        .counter(ItemsCount::new(count))
        .bench(|| inspect(from, black_box(&bytes)));
}

#[divan::bench(args = PAYLOADS)]
fn masked_128(bencher: Bencher<'_, '_>, payload: Payload) {
    measure(bencher, Side::Client, payload, 128, 1);
}

#[divan::bench(args = PAYLOADS)]
fn unmasked_128(bencher: Bencher<'_, '_>, payload: Payload) {
    measure(bencher, Side::Upstream, payload, 128, 1);
}

#[divan::bench(args = PAYLOADS)]
fn masked_16_kib(bencher: Bencher<'_, '_>, payload: Payload) {
    measure(bencher, Side::Client, payload, 16_384, 1);
}

#[divan::bench(args = PAYLOADS)]
fn unmasked_16_kib(bencher: Bencher<'_, '_>, payload: Payload) {
    measure(bencher, Side::Upstream, payload, 16_384, 1);
}

#[divan::bench(args = PAYLOADS)]
fn masked_128_pipelined_32(bencher: Bencher<'_, '_>, payload: Payload) {
    measure(bencher, Side::Client, payload, 128, 32);
}

#[divan::bench(args = PAYLOADS)]
fn unmasked_128_pipelined_32(bencher: Bencher<'_, '_>, payload: Payload) {
    measure(bencher, Side::Upstream, payload, 128, 32);
}

/// Headers of 2 to 14 bytes: by the size of what they announce.
#[divan::bench(args = [100, 1000, 60_000])]
fn header(bencher: Bencher<'_, '_>, size: usize) {
    let bytes = frames(Side::Client, Payload::Binary, size, 1);
    let head: Vec<u8> = bytes.into_iter().take(14).collect();
    bencher
        .counter(ItemsCount::new(1usize))
        .bench(|| header::parse(black_box(&head), black_box(Side::Client)));
}
