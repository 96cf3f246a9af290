//! Behaviour over real sockets: the `framegate` binary between scripted backends and raw clients.
#![allow(clippy::disallowed_methods, reason = "tests spawn on the test's own runtime")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;
