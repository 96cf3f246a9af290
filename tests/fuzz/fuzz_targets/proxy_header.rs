//! Any PROXY header is read to its end and not beyond, or refused.
#![no_main]

use framegate::listener::proxy_protocol::{Progress, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut end = 0;
    while let Ok(Progress::Need(more)) = parse(&bytes[..end]) {
        assert!(more > 0);
        if end + more > bytes.len() {
            return;
        }
        end += more;
        assert!(end <= 5000);
    }
});
