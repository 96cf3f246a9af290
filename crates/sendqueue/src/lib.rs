//! How many bytes of a socket's send queue its peer has not taken yet (Linux).
//!
//! The only `unsafe` code of the project is here: one `ioctl` that writes one integer.

use std::io;
use std::os::fd::AsFd;

use rustix::ioctl::{Getter, ioctl};

/// `SIOCOUTQ` (the number of `TIOCOUTQ`): an `int`, the bytes of the send queue.
const SIOCOUTQ: rustix::ioctl::Opcode = 0x5411;

/// Bytes that were written to a socket and are still in the kernel.
///
/// Of TCP: what is not sent, and what is sent and not acknowledged (tcp(7)). Of a unix stream socket: what
/// the peer has not read, counted with the kernel's own overhead (`unix(7)`), so that only zero and the
/// direction of change mean the same as for TCP.
///
/// # Errors
///
/// Those of `ioctl(2)`: the descriptor is not a socket that has a send queue.
pub fn queued(socket: impl AsFd) -> io::Result<u64> {
    // SAFETY: SIOCOUTQ takes a pointer to an `int` and writes it (tcp(7), unix(7)); `Getter` provides an
    // initialised place of that type and hands its value out only if the call succeeded.
    let getter = unsafe { Getter::<SIOCOUTQ, std::ffi::c_int>::new() };
    // SAFETY: the opcode and its output type belong together, as said above; the descriptor is borrowed for
    // the call and therefore open.
    let bytes = unsafe { ioctl(socket, getter) }?;
    // The kernel never gives a negative length.
    Ok(u64::try_from(bytes).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    use super::*;

    /// Waits until the queue is `expected`.
    fn until(socket: &impl AsFd, expected: impl Fn(u64) -> bool) -> u64 {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let found = queued(socket).unwrap();
            if expected(found) {
                return found;
            }
            assert!(Instant::now() < deadline, "{found}");
            std::thread::yield_now();
        }
    }

    /// Writes until nothing more is taken; how much was.
    fn fill(stream: &mut impl Write) -> u64 {
        let mut filled = 0;
        while let Ok(count) = stream.write(&[7; 4096]) {
            filled += count as u64;
        }
        filled
    }

    fn drain(mut stream: impl Read, mut bytes: u64) {
        let mut buffer = vec![0; 65_536];
        while bytes > 0 {
            let most = buffer.len().min(usize::try_from(bytes).unwrap());
            bytes -= stream.read(&mut buffer[..most]).unwrap() as u64;
        }
    }

    #[test]
    fn a_tcp_queue_shrinks_as_the_peer_takes_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far, _) = listener.accept().unwrap();
        assert_eq!(queued(&near).unwrap(), 0);
        near.set_nonblocking(true).unwrap();
        let filled = fill(&mut near);
        let waiting = until(&near, |queued| queued > 0);
        assert!(waiting <= filled, "{waiting} of {filled}");
        let taken = std::thread::spawn(move || {
            drain(&far, filled / 2);
            far
        });
        let far = taken.join().unwrap();
        until(&near, |queued| queued < waiting);
        drain(&far, filled - filled / 2);
        until(&near, |queued| queued == 0);
    }

    #[test]
    fn a_unix_queue_is_empty_when_all_is_read() {
        let (mut near, far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let filled = fill(&mut near);
        assert!(queued(&near).unwrap() > 0);
        drain(&far, filled);
        assert_eq!(queued(&near).unwrap(), 0);
    }

    #[test]
    fn what_has_no_send_queue_is_an_error() {
        assert!(queued(std::fs::File::open("/dev/null").unwrap()).is_err());
    }
}
