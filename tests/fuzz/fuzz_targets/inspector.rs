//! Any bytes, from either side, at any split, get one verdict and no panic.
#![no_main]

use framegate::ws::inspector::{Content, FrameInspector, FrameLimits, Step};
use framegate::ws::violation::{Side, Violation};
use libfuzzer_sys::fuzz_target;

const LIMITS: FrameLimits = FrameLimits { message_size: 20_000, fragments: 8, text_utf8: true };

type Verdict = (Vec<Content>, Option<Violation>);

fn feed<'a>(side: Side, chunks: impl Iterator<Item = &'a [u8]>) -> Verdict {
    let mut inspector = FrameInspector::new(side, LIMITS);
    let (mut held, mut contents) = (Vec::new(), Vec::new());
    for chunk in chunks {
        held.extend_from_slice(chunk);
        loop {
            match inspector.inspect(&held) {
                Ok(Step::NeedMore) => break,
                Ok(Step::Part { len, .. }) => {
                    assert!(len > 0);
                    held.drain(..len);
                }
                Ok(Step::Frame { len, content, .. }) => {
                    assert!(len > 0);
                    held.drain(..len);
                    contents.push(content);
                    if matches!(content, Content::Close(_)) {
                        return (contents, None);
                    }
                }
                Err(violation) => return (contents, Some(violation)),
            }
        }
    }
    (contents, None)
}

fuzz_target!(|input: (bool, u8, &[u8])| {
    let (client, size, bytes) = input;
    let side = if client { Side::Client } else { Side::Upstream };
    let whole = feed(side, std::iter::once(bytes));
    let pieces = feed(side, bytes.chunks(usize::from(size).max(1)));
    assert_eq!(whole, pieces);
});
