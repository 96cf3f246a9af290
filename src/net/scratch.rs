//! One read buffer per worker thread instead of one per session.
//!
//! It is borrowed only within a poll, never across an await, so sessions can share it and an idle
//! session owns no buffer at all.

use std::cell::RefCell;

/// Bytes read at most at once. Larger than a 16 KiB message with its headers, so that such a message
/// costs one read, and no more than what a slow reader may leave to be kept.
pub(crate) const SCRATCH: usize = 64 * 1024;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into_boxed_slice());
}

/// Lends this thread's buffer to `use_it`, which must not call this function again.
pub(crate) fn with<T>(use_it: impl FnOnce(&mut [u8]) -> T) -> T {
    BUFFER.with_borrow_mut(|buffer| use_it(buffer))
}
