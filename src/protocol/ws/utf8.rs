//! UTF-8 checked as it streams by (RFC 6455 section 8.1, RFC 3629). Pure.
//!
//! Characters may be cut by chunks and by fragments: at most three bytes are kept. The first byte
//! that cannot belong to any character is reported at once, not at the message's end.

/// The bytes are not UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotUtf8;

/// State of a text message that has been read up to some byte.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Utf8Stream {
    /// Begin of a character whose end has not come yet.
    tail: [u8; 4],
    len: u8,
}

impl Utf8Stream {
    /// Checks the next bytes.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> Result<(), NotUtf8> {
        while self.len > 0 {
            let Some((first, rest)) = bytes.split_first() else { return Ok(()) };
            bytes = rest;
            self.complete_tail(*first)?;
        }
        match simdutf8::compat::from_utf8(bytes) {
            Ok(_) => Ok(()),
            Err(error) if error.error_len().is_some() => Err(NotUtf8),
            Err(error) => {
                // The end is the valid begin of a character: at most three bytes.
                for byte in bytes.iter().skip(error.valid_up_to()) {
                    self.push(*byte);
                }
                Ok(())
            }
        }
    }

    /// Whether the bytes so far end with a whole character: then ASCII may follow unlooked at.
    pub(crate) fn is_between_characters(&self) -> bool {
        self.len == 0
    }

    /// Checks that the text does not end within a character.
    pub(crate) fn finish(&mut self) -> Result<(), NotUtf8> {
        let whole = self.is_between_characters();
        *self = Self::default();
        if whole { Ok(()) } else { Err(NotUtf8) }
    }

    fn complete_tail(&mut self, byte: u8) -> Result<(), NotUtf8> {
        self.push(byte);
        let tail = self.tail.get(..usize::from(self.len)).unwrap_or_default();
        match std::str::from_utf8(tail) {
            Ok(_) => {
                self.len = 0;
                Ok(())
            }
            Err(error) if error.error_len().is_none() => Ok(()),
            Err(_) => Err(NotUtf8),
        }
    }

    fn push(&mut self, byte: u8) {
        if let Some(slot) = self.tail.get_mut(usize::from(self.len)) {
            *slot = byte;
            self.len += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn in_chunks(chunks: &[&[u8]]) -> bool {
        let mut stream = Utf8Stream::default();
        chunks.iter().all(|chunk| stream.feed(chunk).is_ok()) && stream.finish().is_ok()
    }

    #[test]
    fn every_split_of_valid_and_invalid_text_is_judged_as_the_whole() {
        let rows: [&[u8]; 9] = [
            "κόσμε 😀 né".as_bytes(),
            b"\xf4\x8f\xbf\xbf",
            b"\xf4\x90\x80\x80",
            b"\xed\xa0\x80",
            b"\xc0\xaf",
            b"a\x80",
            b"\xe2\x82",
            b"\xf0\x9f\x98",
            b"\xfe",
        ];
        for bytes in rows {
            let whole = std::str::from_utf8(bytes).is_ok();
            for cut in 0..=bytes.len() {
                for second in cut..=bytes.len() {
                    let chunks = [&bytes[..cut], &bytes[cut..second], &bytes[second..]];
                    assert_eq!(in_chunks(&chunks), whole, "{bytes:x?} at {cut}, {second}");
                }
            }
        }
    }

    #[test]
    fn an_impossible_byte_is_reported_before_the_end() {
        let mut stream = Utf8Stream::default();
        assert_eq!(stream.feed(b"\xf4"), Ok(()));
        assert_eq!(stream.feed(b"\x90"), Err(NotUtf8));
    }

    proptest! {
        #[test]
        fn agrees_with_the_standard_library(bytes: Vec<u8>, cut: usize) {
            let cut = cut % (bytes.len() + 1);
            let chunks = [&bytes[..cut], &bytes[cut..]];
            prop_assert_eq!(in_chunks(&chunks), std::str::from_utf8(&bytes).is_ok());
        }
    }
}
