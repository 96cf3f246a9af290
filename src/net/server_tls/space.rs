//! Space for what rustls writes, which says how much it needs only when there is too little. No I/O.

use tokio_rustls::rustls;
use tokio_rustls::rustls::unbuffered::{EncodeError, InsufficientSizeError};

/// Lets `write` fill as much space behind `buffer` as it needs.
pub(super) fn append(
    buffer: &mut Vec<u8>,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Result<InsufficientSizeError, rustls::Error>>,
) -> Result<(), rustls::Error> {
    let begin = buffer.len();
    let mut room = 0;
    loop {
        buffer.resize(begin + room, 0);
        match write(&mut buffer[begin..]) {
            Ok(written) => {
                buffer.truncate(begin + written);
                return Ok(());
            }
            Err(Ok(needs)) => room = needs.required_size,
            Err(Err(error)) => return Err(error),
        }
    }
}

pub(super) fn needed(error: EncodeError) -> Result<InsufficientSizeError, rustls::Error> {
    match error {
        EncodeError::InsufficientSize(size) => Ok(size),
        EncodeError::AlreadyEncoded => Err(rustls::Error::General("encoded twice".to_owned())),
    }
}

pub(super) fn exhausted() -> rustls::Error {
    rustls::Error::General("the keys have been used as often as they may be".to_owned())
}
