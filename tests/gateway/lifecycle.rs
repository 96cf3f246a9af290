//! The process over its life: going down in order, leaking nothing, running out of descriptors.

use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::client::answered;
use crate::support::tokens::token;
use crate::support::wire::{BINARY, PING, encode};
use crate::support::{Backend, Client, Gateway, Pair, Setup, Wire, within};

/// So long that nothing of it happens by itself while a test runs.
const FOR_EVER: &str = "8760h";

fn with_drain(backend: &Backend, drain: &str) -> Setup {
    let mut setup = Setup::open(&backend.url())
        .timeouts("close = \"300ms\"")
        .limits("handshakes_per_address = { rate = \"0/s\" }");
    drain.clone_into(&mut setup.drain);
    setup
}

/// A session that is under way: one whose 101 is only just out may miss its turn in the window.
async fn opened(gateway: &Gateway, backend: &Backend) -> Pair {
    let mut pair = Pair::open(gateway, backend).await;
    pair.round_trip().await;
    pair
}

/// SIGTERM, and waits until no handshake is taken any more.
async fn drain(gateway: &mut Gateway) {
    gateway.signal("TERM");
    let begun = |lines: &[serde_json::Value]| lines.iter().any(|l| l["message"] == "drain started");
    gateway.wait_for_log("the drain", begun).await;
}

/// The seconds in `drained;retry=7s`.
fn retry(reason: &str) -> u64 {
    let seconds = reason.strip_prefix("drained;retry=").and_then(|rest| rest.strip_suffix('s'));
    seconds.unwrap_or_else(|| panic!("{reason}")).parse().unwrap()
}

#[tokio::test]
async fn while_it_announces_its_end_it_is_not_ready_and_serves_on() {
    let backend = Backend::start().await;
    let setup = with_drain(&backend, &format!("announce = \"{FOR_EVER}\""));
    let mut gateway = Gateway::start(&setup).await;
    let mut before = opened(&gateway, &backend).await;
    assert_eq!(gateway.admin_get("/readyz").await.0, 200);
    gateway.signal("TERM");
    within("not being ready", async {
        while gateway.admin_get("/readyz").await.0 != 503 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(gateway.admin_get("/readyz").await.1.contains("drain"));
    assert_eq!(gateway.admin_get("/healthz").await.0, 200);
    let health = http_health(&gateway).await;
    assert!(health.starts_with("HTTP/1.1 503 "), "{health}");
    before.round_trip().await;
    opened(&gateway, &backend).await;
    // A second signal does not wait for anything.
    gateway.signal("TERM");
    assert_eq!(gateway.ended().await.code(), Some(1));
}

async fn http_health(gateway: &Gateway) -> String {
    let mut wire = Wire::new(gateway.client().tcp().await, None);
    wire.send_raw(b"GET /.framegate/health HTTP/1.1\r\nHost: a\r\n\r\n").await;
    wire.head().await.unwrap()
}

#[tokio::test]
async fn requests_on_open_connections_are_refused_while_it_drains_and_new_ones_find_nobody() {
    let backend = Backend::start().await;
    let setup =
        with_drain(&backend, &format!("window = \"{FOR_EVER}\"")).timeouts("request_head = \"1h\"");
    let mut gateway = Gateway::start(&setup).await;
    let mut session = opened(&gateway, &backend).await;
    let (machine, browser) = (gateway.client(), gateway.client().origin("https://a.example"));
    let (one, other) = (machine.tcp().await, browser.tcp().await);
    // Both have been accepted.
    gateway.wait_for_metric("framegate_connections{listener=\"127.0.0.1:0\"}", 3.0).await;
    drain(&mut gateway).await;
    assert_eq!(gateway.metric("framegate_draining").await, 1.0);
    let refused = answered(machine.ask_over(one).await).await;
    assert_eq!(refused.status, 503);
    assert!(refused.header("retry-after").is_some());
    let mut told = answered(browser.ask_over(other).await).await;
    assert_eq!(told.status, 101);
    assert_eq!(told.wire.expect_close().await, (Some(1012), "draining".to_owned()));
    told.wire.expect_fin().await;
    drop((refused, told));
    gateway.access_lines("draining", 2).await;
    TcpStream::connect(gateway.addresses[0]).await.unwrap_err();
    // The session is served on until its turn comes, or until it ends by itself.
    session.round_trip().await;
    drop(session);
    assert_eq!(gateway.ended().await.code(), Some(0));
}

#[tokio::test]
async fn closes_are_spread_over_the_window_and_say_when_to_come_back() {
    const SESSIONS: u32 = 20;
    let backend = Backend::start().await;
    let setup = with_drain(&backend, "window = \"2s\"\ncode = 4321");
    let mut gateway = Gateway::start(&setup).await;
    let mut pairs = Vec::new();
    for _ in 0..SESSIONS {
        pairs.push(opened(&gateway, &backend).await);
    }
    let began = Instant::now();
    gateway.signal("TERM");
    let told = pairs.into_iter().map(|Pair { mut client, mut upstream, .. }| async move {
        let (code, reason) = client.expect_close().await;
        let after = began.elapsed();
        client.expect_fin().await;
        assert_eq!(upstream.expect_close().await, (Some(1001), "drained".to_owned()));
        (after, code, retry(&reason))
    });
    let mut closed = JoinSet::from_iter(told).join_all().await;
    closed.sort();
    let share = Duration::from_secs(2) / SESSIONS;
    for (turn, (after, code, retry)) in (0..).zip(closed) {
        assert!(after >= share * turn, "{turn}: {after:?}");
        assert_eq!(code, Some(4321));
        assert!((1..=2).contains(&retry), "{retry}");
    }
    for line in gateway.access_lines("drained", SESSIONS as usize).await {
        let found = ["by", "phase", "client_close", "upstream_close"].map(|name| &line[name]);
        assert_eq!(found, ["gateway", "relay", "4321", "1001"]);
    }
    assert_eq!(gateway.ended().await.code(), Some(0));
}

#[tokio::test]
async fn sigint_drains_too_and_the_code_is_1012_by_default() {
    let backend = Backend::start().await;
    let mut gateway = Gateway::start(&with_drain(&backend, "window = \"0s\"")).await;
    let mut pair = opened(&gateway, &backend).await;
    gateway.signal("INT");
    let (code, reason) = pair.client.expect_close().await;
    assert_eq!((code, retry(&reason)), (Some(1012), 1));
    assert_eq!(pair.upstream.expect_close().await, (Some(1001), "drained".to_owned()));
    pair.expect_fins().await;
    assert_eq!(gateway.ended().await.code(), Some(0));
}

#[tokio::test]
async fn it_exits_as_soon_as_no_session_is_left() {
    let drain_for_ever = format!("window = \"{FOR_EVER}\"\ngrace = \"{FOR_EVER}\"");
    for sessions in [0, 1, 3] {
        let backend = Backend::start().await;
        let mut gateway = Gateway::start(&with_drain(&backend, &drain_for_ever)).await;
        let mut pairs = Vec::new();
        for _ in 0..sessions {
            pairs.push(opened(&gateway, &backend).await);
        }
        drain(&mut gateway).await;
        for pair in &mut pairs {
            pair.client.send_close(1000, "").await;
            pair.upstream.expect_close().await;
            pair.upstream.send_close(1000, "").await;
            pair.client.expect_close().await;
            pair.expect_fins().await;
        }
        assert_eq!(gateway.ended().await.code(), Some(0));
        assert_eq!(gateway.access_lines("client_closed", sessions).await.len(), sessions);
    }
}

#[tokio::test]
async fn a_session_that_does_not_end_is_aborted_after_the_grace() {
    let backend = Backend::start().await;
    let setup = with_drain(&backend, "window = \"0s\"\ngrace = \"300ms\"").timeouts("").limits("");
    let setup = Setup { timeouts: "close = \"1h\"\n".to_owned(), ..setup };
    let mut gateway = Gateway::start(&setup).await;
    let mut pair = opened(&gateway, &backend).await;
    gateway.signal("TERM");
    // Neither end leaves.
    assert_eq!(pair.client.expect_close().await.0, Some(1012));
    assert_eq!(pair.upstream.expect_close().await.0, Some(1001));
    assert_eq!(gateway.ended().await.code(), Some(0));
    let is_aborted = |line: &serde_json::Value| line["aborted"] == 1;
    gateway.wait_for_log("the aborted session", |lines| lines.iter().any(is_aborted)).await;
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let drain_for_ever = format!("window = \"{FOR_EVER}\"\ngrace = \"{FOR_EVER}\"");
    for second in ["TERM", "INT"] {
        let backend = Backend::start().await;
        let mut gateway = Gateway::start(&with_drain(&backend, &drain_for_ever)).await;
        let _pair = opened(&gateway, &backend).await;
        drain(&mut gateway).await;
        gateway.signal(second);
        assert_eq!(gateway.ended().await.code(), Some(1));
    }
}

#[tokio::test]
async fn a_handshake_under_way_when_the_drain_begins_becomes_a_session_that_is_drained() {
    let backend = Backend::start().await;
    let mut gateway = Gateway::start(&with_drain(&backend, "window = \"0s\"")).await;
    let client = gateway.client().ask().await;
    let asked = backend.asked().await;
    drain(&mut gateway).await;
    let mut upstream = asked.accept("").await;
    let mut accepted = answered(client).await;
    assert_eq!(accepted.status, 101);
    let (code, reason) = accepted.wire.expect_close().await;
    assert_eq!((code, retry(&reason)), (Some(1012), 1));
    assert_eq!(upstream.expect_close().await, (Some(1001), "drained".to_owned()));
    drop((accepted, upstream));
    assert_eq!(gateway.ended().await.code(), Some(0));
}

/// Sessions at once, and how often.
const AT_ONCE: usize = 200;
const ROUNDS: usize = 10;
const WAYS: usize = 8;

/// Does what the first byte of each message says.
fn obedient(backend: Backend) {
    tokio::spawn(async move {
        loop {
            let stream = backend.accept().await;
            tokio::spawn(async move {
                let Some(mut wire) = handshaken(stream).await else { return };
                while let Some(frame) = wire.frame().await {
                    match (frame.opcode(), frame.payload.first()) {
                        (2, Some(b'c')) => wire.send_close(1000, "").await,
                        (2, Some(b'f')) => return wire.finish().await,
                        (2, Some(b'r')) => return,
                        (2, Some(b't')) => {
                            let frame = encode(BINARY, &[0; 100_000], None);
                            wire.send_raw(&frame[..50_000]).await;
                            return;
                        }
                        (8, _) => return wire.send(frame.first, &frame.payload).await,
                        _ => {}
                    }
                }
            });
        }
    });
}

async fn handshaken(stream: TcpStream) -> Option<Wire> {
    let mut wire = Wire::new(stream, None);
    let head = wire.head().await?;
    Some(crate::support::backend::Asked { wire, head }.accept("").await)
}

/// One session of the client's, which ends in one of [`WAYS`].
async fn live(client: Client, way: usize) {
    let client = if way == 2 { client.resetting() } else { client };
    let mut wire = client.session().await;
    match way {
        0 => wire.send_close(1000, "").await,
        1 | 2 => return,
        3 => wire.send(BINARY, b"close").await,
        4 => wire.send(BINARY, b"finish").await,
        5 => wire.send(BINARY, b"reset").await,
        6 => wire.send(BINARY, b"torn frame").await,
        _ => wire.send(0xf2, b"breach").await,
    }
    wire.end().await;
}

#[tokio::test]
async fn two_thousand_sessions_leave_nothing_behind() {
    let backend = Backend::start().await.resetting();
    // What one session kept would be missing in a later round.
    let setup = Setup::with_tokens(&backend.url()).timeouts("close = \"300ms\"").limits(&format!(
        "connections = {AT_ONCE}\nconnections_per_address = 4\nconnections_per_user = 1\n\
         when_user_full = \"refuse\"\nhandshakes_per_address = {{ rate = \"0/s\" }}"
    ));
    let address = backend.address();
    obedient(backend);
    let mut gateway = Gateway::start(&setup).await;
    let gauges = [
        "framegate_sessions_active{route=\"/ws\"}".to_owned(),
        "framegate_connections{listener=\"127.0.0.1:0\"}".to_owned(),
        format!("framegate_upstream_sessions{{endpoint=\"http://{address}\",upstream=\"chat\"}}"),
        "framegate_pending_bytes".to_owned(),
    ];
    let metrics = gateway.metrics().await;
    assert!(gauges.iter().all(|gauge| metrics.contains_key(gauge)), "{metrics:#?}");
    let descriptors = open_descriptors(&gateway);
    for round in 0..ROUNDS {
        let sessions = (0..AT_ONCE).map(|n| {
            let client = gateway.client().from(&format!("127.0.0.{}", 2 + n / 4));
            live(client.token(&token(&format!("user {n}"))), (n + round) % WAYS)
        });
        JoinSet::from_iter(sessions).join_all().await;
        for gauge in &gauges {
            gateway.wait_for_metric(gauge, 0.0).await;
        }
    }
    let accepted = |lines: &[serde_json::Value]| {
        lines.iter().filter(|line| line["outcome"] == "accepted").count()
    };
    gateway.wait_for_log("every access line", |lines| accepted(lines) >= AT_ONCE * ROUNDS).await;
    assert_eq!(accepted(&gateway.log()), AT_ONCE * ROUNDS);
    assert!(open_descriptors(&gateway) <= descriptors + 2);
}

fn open_descriptors(gateway: &Gateway) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", gateway.pid())).unwrap().count()
}

#[tokio::test]
async fn running_out_of_descriptors_ends_nothing_and_passes() {
    const ACCEPT_ERRORS: &str = "framegate_accept_errors_total{listener=\"127.0.0.1:0\"}";
    let backend = Backend::start().await;
    let mut setup = with_drain(&backend, "window = \"0s\"")
        .timeouts("request_head = \"1h\"")
        .keepalive("client_ping = \"300ms\"\nclient_pong = \"1h\"");
    setup.open_files = Some(64);
    let mut gateway = Gateway::start(&setup).await;
    let mut session = Pair::open(&gateway, &backend).await;
    let began = Instant::now();
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(gateway.client().tcp().await);
    }
    let failed = "a connection could not be accepted";
    let is_failed = |line: &serde_json::Value| line["message"] == failed;
    gateway.wait_for_log(failed, |lines| lines.iter().any(is_failed)).await;
    // Sessions go on meanwhile; their pings tell the time.
    for _ in 0..4 {
        let ping = session.client.frame().await.unwrap();
        assert_eq!(ping.first, PING);
        session.client.send(0x8a, &ping.payload).await;
    }
    drop(silent);
    let mut later = Pair::open(&gateway, &backend).await;
    later.client.send_text("here again").await;
    later.upstream.expect_text("here again").await;
    // It waits after each failure, at least the shortest pause.
    let errors = gateway.metric(ACCEPT_ERRORS).await;
    let most = began.elapsed().as_secs_f64() * 100.0 + 1.0;
    assert!((2.0..=most).contains(&errors), "{errors} of {most}");
    session.client.send_text("still here").await;
    session.upstream.expect_text("still here").await;
}
