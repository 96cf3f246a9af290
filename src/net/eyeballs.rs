//! Happy Eyeballs: of several addresses, the first that answers (RFC 8305). I/O.
//!
//! Addresses are tried one after the other, families in turn, each a quarter of a second after the one
//! before or as soon as that has failed. An address that drops packets costs 250 ms, not the whole time
//! for connecting.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use tokio::net::TcpStream;

type Attempt = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// Connects to the first of these addresses that answers; the caller sets the limit.
///
/// # Errors
///
/// The last attempt's, if all have failed.
pub(super) async fn connect(addresses: &[IpAddr], port: u16) -> io::Result<TcpStream> {
    if let [address] = addresses {
        return TcpStream::connect(SocketAddr::new(*address, port)).await;
    }
    let mut left = in_turn(addresses).into_iter();
    let mut attempts: Vec<Attempt> = Vec::new();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let mut delay = pin!(tokio::time::sleep(Duration::ZERO));
    let mut begin_next = true;
    std::future::poll_fn(move |cx| {
        loop {
            if std::mem::take(&mut begin_next)
                && let Some(address) = left.next()
            {
                attempts.push(Box::pin(TcpStream::connect(SocketAddr::new(address, port))));
                delay.as_mut().reset(tokio::time::Instant::now() + ATTEMPT_DELAY);
            }
            let mut at = 0;
            while let Some(attempt) = attempts.get_mut(at) {
                match attempt.as_mut().poll(cx) {
                    Poll::Ready(Ok(stream)) => return Poll::Ready(Ok(stream)),
                    Poll::Ready(Err(error)) => {
                        last = error;
                        drop(attempts.remove(at));
                        begin_next = true;
                    }
                    Poll::Pending => at += 1,
                }
            }
            if attempts.is_empty() && left.len() == 0 {
                return Poll::Ready(Err(std::mem::replace(&mut last, io::ErrorKind::Other.into())));
            }
            if !begin_next && left.len() > 0 && delay.as_mut().poll(cx).is_ready() {
                begin_next = true;
            }
            if !begin_next || left.len() == 0 {
                return Poll::Pending;
            }
        }
    })
    .await
}

/// Families in turn, beginning with that of the first address (RFC 8305 section 4).
fn in_turn(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let first = addresses.first().is_some_and(IpAddr::is_ipv6);
    let (mut of_first, mut of_other) = (
        addresses.iter().filter(|address| address.is_ipv6() == first),
        addresses.iter().filter(|address| address.is_ipv6() != first),
    );
    let mut ordered = Vec::with_capacity(addresses.len());
    loop {
        let before = ordered.len();
        ordered.extend(of_first.next());
        ordered.extend(of_other.next());
        if ordered.len() == before {
            return ordered;
        }
    }
}

/// RFC 8305 section 5: "Connection Attempt Delay", 250 ms recommended.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use socket2::{Domain, Socket, Type};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn families_take_turns() {
        let rows = [
            ("", ""),
            ("1.1.1.1", "1.1.1.1"),
            ("1.1.1.1 2.2.2.2 ::1 ::2 ::3", "1.1.1.1 ::1 2.2.2.2 ::2 ::3"),
            ("::1 ::2 1.1.1.1", "::1 1.1.1.1 ::2"),
            ("::1 ::2", "::1 ::2"),
        ];
        let parse = |text: &str| -> Vec<IpAddr> {
            text.split_whitespace().map(|address| address.parse().unwrap()).collect()
        };
        for (addresses, expected) in rows {
            assert_eq!(in_turn(&parse(addresses)), parse(expected), "{addresses}");
        }
    }

    /// A listener whose backlog is full: further SYNs to it are dropped.
    fn full(address: SocketAddr) -> (Socket, Vec<Socket>) {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.set_reuse_address(true).unwrap();
        listener.bind(&address.into()).unwrap();
        listener.listen(0).unwrap();
        let fill = |_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            // In progress: whether it comes to anything is not asked.
            let _ = socket.connect(&address.into());
            socket
        };
        let clients = (0..4).map(fill).collect();
        (listener, clients)
    }

    #[tokio::test]
    async fn an_address_that_drops_packets_does_not_hold_up_the_next() {
        let good = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = good.local_addr().unwrap().port();
        let dropping: IpAddr = "127.0.0.77".parse().unwrap();
        let _full = full(SocketAddr::new(dropping, port));
        let alone = TcpStream::connect(SocketAddr::new(dropping, port));
        let alone = tokio::time::timeout(Duration::from_millis(600), alone).await;
        assert!(alone.is_err(), "its SYNs are dropped");
        let addresses = [dropping, "127.0.0.1".parse().unwrap()];
        let stream = connect(&addresses, port).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good.local_addr().unwrap());
    }

    #[tokio::test]
    async fn a_refusal_leads_on_at_once_and_the_last_is_the_error() {
        let good = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = good.local_addr().unwrap().port();
        let refusing: Vec<IpAddr> = (1..9).map(|last| IpAddr::from([127, 0, 1, last])).collect();
        let error = connect(&refusing, port).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let all = [refusing, vec!["127.0.0.1".parse().unwrap()]].concat();
        assert!(connect(&all, port).await.is_ok());
        assert_eq!(connect(&[], port).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
