//! A session over real sockets, ordered about as the rest of the process does.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::*;
use crate::net::stream::Stream;
use crate::protocol::ws::violation::Side;
use crate::session::id::SessionId;
use crate::session::record::Facts;
use crate::session::registry::{Lease, Order, SessionHandle};
use crate::telemetry::testing::{config, facts};

/// A session that relays, and the far ends of its connections.
struct Running {
    client: TcpStream,
    upstream: TcpStream,
    handle: Arc<SessionHandle>,
    environment: Arc<Environment>,
    task: JoinHandle<()>,
}

/// Our end and the peer's.
async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (peer, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    (accepted.unwrap().0, peer.unwrap())
}

fn opened(stream: TcpStream) -> Opened {
    Opened { stream: Stream::Tcp(stream), arrived: Vec::new(), place: Held::new(()) }
}

fn environment() -> Arc<Environment> {
    let telemetry = Telemetry::new(&config());
    Arc::new(Environment {
        _in_use: telemetry.metrics.configuration(),
        telemetry: Arc::new(telemetry),
        registry: Arc::new(Registry::new(1 << 20, Instant::now())),
        abort: CancellationToken::new(),
        config: Arc::new(config()),
    })
}

#[expect(clippy::disallowed_methods, reason = "the test waits for its task")]
async fn run_session() -> Running {
    let environment = environment();
    let ((client_here, client), (upstream_here, upstream)) = (pair().await, pair().await);
    let unrecorded = Unrecorded::new(Facts { subprotocol: None, ..facts() });
    let handle = SessionHandle::new(Arc::clone(unrecorded.facts()), Instant::now());
    let opening = Opening {
        client: opened(client_here),
        upstream: opened(upstream_here),
        registered: environment.registry.insert(Arc::clone(&handle)),
        unrecorded,
        route: RouteId::new(0),
        places: Held::new(()),
    };
    let task = tokio::spawn(run(Arc::clone(&environment), opening));
    Running { client, upstream, handle, environment, task }
}

/// The code of a Close and its reason, as the whole of what is left to read.
async fn close(stream: &mut TcpStream) -> (u16, String) {
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes);
    tokio::time::timeout(Duration::from_secs(30), read).await.expect("an end").unwrap();
    let masked = bytes[1] & 0x80 != 0;
    let (key, payload) =
        if masked { (&bytes[2..6], &bytes[6..]) } else { (&[0; 4][..], &bytes[2..]) };
    let payload: Vec<u8> =
        payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
    assert_eq!(bytes[0], 0x88, "{bytes:?}");
    let reason = String::from_utf8(payload[2..].to_vec()).unwrap();
    (u16::from_be_bytes([payload[0], payload[1]]), reason)
}

#[tokio::test]
async fn a_session_ends_with_its_lease_and_not_before() {
    let mut session = run_session().await;
    let now = Instant::now();
    session.handle.order(Order::Lease(Lease { until: Some(now + Duration::from_secs(3600)) }));
    // It goes on: a frame still passes.
    session.upstream.write_all(b"\x81\x02hi").await.unwrap();
    let mut passed = [0; 4];
    session.client.read_exact(&mut passed).await.unwrap();
    assert_eq!(&passed, b"\x81\x02hi");
    session.handle.order(Order::Lease(Lease { until: Some(now) }));
    let (client, upstream) = (close(&mut session.client).await, async {
        let told = close(&mut session.upstream).await;
        drop(session.upstream);
        told
    });
    drop(session.client);
    // The configuration of the tests has another code for it than 4401.
    let code = config().close_codes.get(crate::outcome::label::Label::TokenExpired, None);
    assert_eq!(client, (code.unwrap_or(4401), "token_expired".to_owned()));
    assert_eq!(upstream.await.0, 1001);
    session.task.await.unwrap();
    let ended = session.environment.telemetry.recent.get(SessionId::new(0xab), now).unwrap();
    let (label, by) = (&ended.record.outcome, ended.record.by);
    assert_eq!(*label, Outcome::Ended(crate::outcome::label::Label::TokenExpired));
    assert_eq!(by, crate::outcome::blame::By::Gateway);
}

#[tokio::test]
async fn a_session_whose_task_is_dropped_leaves_the_registry() {
    let session = run_session().await;
    session.task.abort();
    assert!(session.task.await.unwrap_err().is_cancelled());
    let registry = &session.environment.registry;
    assert_eq!((registry.len(), registry.pending.total()), (0, 0));
    assert!(registry.get_closing(session.handle.id).is_none());
}

/// Wakes nothing, and counts.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A socket with at least so many bytes to read, the begin of a frame. How many it takes grows as it is read.
async fn full_of_a_frame(socket: TcpStream, peer: &TcpStream, len: usize) -> TcpStream {
    let mut frame = vec![0x82, 127, 0, 0, 0, 0, 0, 0x80, 0, 0];
    frame.resize(8 << 20, 0);
    let mut buffer = vec![0; 1 << 20];
    let filling = async {
        loop {
            let mut written = 0;
            peer.writable().await.unwrap();
            while let Ok(count) = peer.try_write(&frame[written..]) {
                written += count;
            }
            if socket.peek(&mut buffer).await.unwrap() >= len {
                return;
            }
            while written > 0 {
                socket.readable().await.unwrap();
                written -= socket.try_read(&mut buffer).unwrap_or_default();
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), filling).await.expect("a full socket");
    socket
}

#[tokio::test]
async fn a_direction_moves_a_few_reads_and_asks_for_a_further_turn() {
    let ((client_here, _client), (upstream_here, upstream)) = (pair().await, pair().await);
    let upstream_here = full_of_a_frame(upstream_here, &upstream, 5 * 65_536).await;
    let handle = SessionHandle::new(Arc::new(facts()), Instant::now());
    let (client, upstream_here) = (opened(client_here), opened(upstream_here));
    let mut relay = Relay::new(environment(), RouteId::new(0), &handle, client, upstream_here);
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    for turn in 1..=2 {
        let mut context = Context::from_waker(&waker);
        assert!(relay.poll_direction(Side::Upstream, &mut context, Instant::now()).is_pending());
        let moved = relay.client.handed();
        assert!((1..=turn * 4 * 65_536).contains(&moved), "{moved} in {turn} turns");
        assert_eq!(wakes.0.load(Ordering::Relaxed) as u64, turn, "nothing kept it from going on");
    }
}
