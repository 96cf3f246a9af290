//! Any answer of an upstream, however it arrives, is judged the same and never panics.
#![no_main]

use framegate::upstream::answer::{Answer, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let judge = |bytes| parse(bytes, "dGhlIHNhbXBsZSBub25jZQ==", &["chat", "v2"]);
    for end in 0..=bytes.len() {
        match judge(&bytes[..end]) {
            Ok(Answer::Incomplete) => {}
            Ok(Answer::Switched { head_len, .. }) => {
                assert!(head_len <= end);
                return;
            }
            _ => return,
        }
    }
});
