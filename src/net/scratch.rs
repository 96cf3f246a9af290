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

/// Gives back most of what a buffer holds beyond its content, so that what it costs is what it holds.
pub(crate) fn shrink(buffer: &mut Vec<u8>) {
    if buffer.capacity() > 2 * buffer.len() + SPARE {
        buffer.shrink_to_fit();
    }
}

/// Bytes that are not worth another allocation.
const SPARE: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_costs_at_most_about_twice_its_content() {
        for (capacity, len, stays) in [
            (65_536, 1, false),
            (65_536, 32_000, false),
            (65_536, 33_000, true),
            (600, 50, true),
            (9000, 0, false),
        ] {
            let mut buffer = Vec::with_capacity(capacity);
            buffer.resize(len, 7_u8);
            shrink(&mut buffer);
            assert_eq!(buffer.capacity() >= capacity, stays, "{capacity} {len}");
            assert_eq!(buffer, vec![7; len]);
        }
    }
}
