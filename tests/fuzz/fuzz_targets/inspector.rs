//! Any bytes, from either side, at any split: the verdict is that of a plain reading of RFC 6455,
//! what passes is never more than that allows, and tungstenite reads the same messages.
//!
//! Input: a byte of switches (side, limits), a byte for the size of chunks, the stream.
#![no_main]

use framegate::internals::protocol::ws::inspector::{Content, FrameInspector, FrameLimits, Step};
use framegate::internals::protocol::ws::violation::{Side, Violation};
use framegate_fuzz::frames::{Judged, judge, tungstenite_reads};
use libfuzzer_sys::fuzz_target;

/// Feeds chunks as a pump does, and holds every answer to the reference.
fn feed(side: Side, limits: FrameLimits, bytes: &[u8], size: usize, expected: &Judged) {
    let mut inspector = FrameInspector::new(side, limits);
    let (mut passed, mut whole, mut payload, mut shown) = (0, 0, 0, 0);
    let mut contents = Vec::new();
    let mut violation = None;
    'stream: while shown < bytes.len() {
        shown = bytes.len().min(shown + size);
        while passed < shown {
            let (len, seen) = match inspector.inspect(&bytes[passed..shown]) {
                Ok(Step::NeedMore) => break,
                Ok(Step::Part { len, payload: part }) => {
                    payload += part;
                    (len, None)
                }
                Ok(Step::Frame { len, payload: part, content }) => {
                    payload += part;
                    (len, Some(content))
                }
                Err(breach) => {
                    violation = Some(breach);
                    break 'stream;
                }
            };
            assert!(len > 0 && passed + len <= shown);
            passed += len;
            if let Some(content) = seen {
                whole = passed;
                contents.push(content);
            }
            assert_eq!(inspector.is_within_frame(), passed > whole);
            if matches!(seen, Some(Content::Close(_))) {
                break 'stream;
            }
        }
    }
    assert_eq!((&contents, violation), (&expected.contents, expected.violation));
    assert_eq!(whole, expected.whole);
    assert!(passed <= expected.may_pass, "{passed} of {} passed", expected.may_pass);
    assert!(violation.is_some() || passed == expected.may_pass, "{passed} of all");
    assert!(payload >= expected.payload && payload <= passed as u64);
}

/// tungstenite takes long forms of short lengths, of control frames too, and has no limits; all else it
/// reads as we do.
fn compare(side: Side, bytes: &[u8], expected: &Judged) {
    let theirs = tungstenite_reads(bytes, side);
    let is_laxer = |breach| {
        matches!(
            breach,
            Violation::Length | Violation::Size | Violation::Fragments | Violation::Control
        )
    };
    if expected.violation.is_some_and(is_laxer) {
        assert!(theirs.starts_with(&expected.messages));
    } else {
        assert_eq!(theirs, expected.messages);
    }
}

fuzz_target!(|input: &[u8]| {
    let [switches, size, bytes @ ..] = input else { return };
    let side = if switches & 1 == 0 { Side::Client } else { Side::Upstream };
    let limits = FrameLimits {
        text_utf8: switches & 2 == 0,
        message_size: [u64::MAX, 300, 5000, 20_000][usize::from(switches >> 2 & 3)],
        fragments: [u32::MAX, 1, 3, 8][usize::from(switches >> 4 & 3)],
    };
    let expected = judge(bytes, side, limits);
    for size in [1, usize::from(*size).max(1), 1024, usize::MAX / 2] {
        feed(side, limits, bytes, size, &expected);
    }
    if limits.text_utf8 {
        compare(side, bytes, &expected);
    }
});
