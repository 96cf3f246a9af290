//! Going down in order: who is told what and when, and what is let pass before.

use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::client::answered;
use crate::support::wire::{PING, TEXT, encode};
use crate::support::{Backend, Gateway, Pair, Setup, Side, Wire, within};

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

#[tokio::test]
async fn a_second_signal_ends_it_soon_and_every_session_is_recorded() {
    for waits in ["announce", "window"] {
        let backend = Backend::start().await;
        // The gateway's own patience is longer than that of whoever sends the signal.
        let mut setup = Setup::open(&backend.url()).timeouts("close = \"1h\"");
        setup.drain = format!("{waits} = \"{FOR_EVER}\"");
        let mut gateway = Gateway::start(&setup).await;
        let mut polite = opened(&gateway, &backend).await;
        // It reads nothing more and says nothing.
        let silent = opened(&gateway, &backend).await;
        gateway.signal("TERM");
        gateway.wait_for_metric("framegate_draining", 1.0).await;
        gateway.signal("TERM");
        let (code, reason) = polite.client.expect_close().await;
        assert_eq!((code, retry(&reason) > 0), (Some(1012), true), "{reason}");
        let ids = [polite.id.clone(), silent.id.clone()];
        drop(polite);
        for id in &ids {
            let line = gateway.line_of(id).await;
            assert_eq!((&line["label"], &line["outcome"]), (&"drained".into(), &"accepted".into()));
        }
        let cut = "drain finished, sessions that would not end were aborted";
        gateway.wait_for_log(cut, |log| log.iter().any(|l| l["message"] == cut)).await;
        let log = gateway.log();
        let aborted = &log.iter().find(|l| l["message"] == cut).unwrap()["aborted"];
        // Two, if the polite one has not come to its end within half a second.
        assert!(matches!(aborted.as_u64(), Some(1 | 2)), "{aborted}");
        assert_eq!(gateway.ended().await.code(), Some(1));
    }
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

/// When a session was told to end, from the signal on, with which code, and when its client is to be
/// back, from the signal on.
struct Told {
    after: f64,
    code: Option<u16>,
    back: f64,
}

/// Waits until both ends have been told, and ends the session as peers do.
async fn told(mut pair: Pair, began: Instant) -> Told {
    let (code, reason) = pair.client.expect_close().await;
    let after = began.elapsed().as_secs_f64();
    pair.client.expect_fin().await;
    assert_eq!(pair.upstream.expect_close().await, (Some(1001), "drained".to_owned()));
    Told { after, code, back: after + retry(&reason) as f64 }
}

#[tokio::test]
async fn closes_are_spread_over_the_window_and_the_return_behind_it() {
    const SESSIONS: usize = 40;
    let backend = Backend::start().await;
    let setup = with_drain(&backend, "window = \"4s\"\ncode = 4321");
    let mut gateway = Gateway::start(&setup).await;
    let mut pairs = Vec::new();
    for _ in 0..SESSIONS {
        pairs.push(opened(&gateway, &backend).await);
    }
    let began = Instant::now();
    gateway.signal("TERM");
    let told = JoinSet::from_iter(pairs.into_iter().map(|pair| told(pair, began)));
    let mut told = told.join_all().await;
    let ended = began.elapsed().as_secs_f64();
    told.sort_by(|one, other| one.after.total_cmp(&other.after));
    for (turn, told) in told.iter().enumerate() {
        // Late if the machine is busy, never early.
        assert!(told.after >= turn as f64 * 0.1, "{turn}: {}", told.after);
        assert_eq!(told.code, Some(4321));
        // The window, a second for the successor to begin, and the window once more.
        assert!((5.0..=ended + 6.0).contains(&told.back), "{}", told.back);
    }
    let in_second = |second: usize| told.iter().filter(|t| t.back as usize == second).count();
    let arrivals: Vec<_> = (0..told[SESSIONS - 1].back as usize + 1).map(in_second).collect();
    assert!(arrivals.iter().all(|count| *count <= SESSIONS / 2), "{arrivals:?}");
    for line in gateway.access_lines("drained", SESSIONS).await {
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

/// A drain that closes everybody at once, but waits this long for what is under way.
async fn hurried(close: &str) -> (Backend, Gateway) {
    let backend = Backend::start().await;
    let setup = Setup::open(&backend.url()).timeouts(&format!("close = {close:?}"));
    let gateway = Gateway::start(&setup).await;
    (backend, gateway)
}

/// SIGTERM, and waits until the only session has its order: it counts no more from then on.
async fn ordered(gateway: &mut Gateway) {
    drain(gateway).await;
    gateway.wait_for_metric("framegate_sessions_active{route=\"/ws\"}", 0.0).await;
}

/// Both ends were told so; then the process ends, and the session is on record.
async fn expect_drained(mut gateway: Gateway, mut pair: Pair) {
    assert_eq!(pair.client.expect_close().await, (Some(1012), "drained;retry=1s".to_owned()));
    assert_eq!(pair.upstream.expect_close().await, (Some(1001), "drained".to_owned()));
    drop(pair);
    let line = gateway.access_line("drained").await;
    let names = ["by", "phase", "client_close", "upstream_close"];
    assert_eq!(names.map(|name| &line[name]), ["gateway", "relay", "1012", "1001"], "{line:#}");
    assert_eq!(line["cut_frame"], false, "{line:#}");
    assert_eq!(gateway.ended().await.code(), Some(0));
}

async fn expect_frame(wire: &mut Wire, first: u8, payload: &[u8]) {
    let frame = wire.frame().await.expect("a frame");
    assert_eq!((frame.first, frame.payload.as_slice()), (first, payload));
}

#[tokio::test]
async fn a_fragmented_message_is_finished_before_the_close() {
    for side in Side::BOTH {
        let (backend, mut gateway) = hurried("1h").await;
        let mut pair = opened(&gateway, &backend).await;
        let (from, to) = side.ends(&mut pair);
        from.send(0x01, b"one, ").await;
        expect_frame(to, 0x01, b"one, ").await;
        ordered(&mut gateway).await;
        // Control frames may stand between; what follows the message is not passed on.
        from.send(0x00, b"two, ").await;
        from.send(PING, b"between").await;
        from.send(0x80, b"three").await;
        from.send_text("too late").await;
        expect_frame(to, 0x00, b"two, ").await;
        expect_frame(to, PING, b"between").await;
        expect_frame(to, 0x80, b"three").await;
        expect_drained(gateway, pair).await;
    }
}

#[tokio::test]
async fn a_frame_of_which_a_part_has_come_is_finished_before_the_close() {
    for side in Side::BOTH {
        // A small frame passes only whole, of a large one the begin has passed.
        for len in [100, 100_000] {
            let (backend, mut gateway) = hurried("1h").await;
            let mut pair = opened(&gateway, &backend).await;
            let (from, to) = side.ends(&mut pair);
            let payload = vec![b'x'; len];
            let frame = encode(TEXT, &payload, from.mask);
            let (begin, rest) = frame.split_at(len / 2);
            // The text before shows that the begin has been read.
            let before = encode(TEXT, b"before", from.mask);
            from.send_raw(&[&before[..], begin].concat()).await;
            to.expect_text("before").await;
            ordered(&mut gateway).await;
            from.send_raw(rest).await;
            expect_frame(to, TEXT, &payload).await;
            expect_drained(gateway, pair).await;
        }
    }
}

#[tokio::test]
async fn both_directions_finish_what_they_have_begun() {
    let (backend, mut gateway) = hurried("1h").await;
    let mut pair = opened(&gateway, &backend).await;
    pair.client.send(0x01, b"to the ").await;
    expect_frame(&mut pair.upstream, 0x01, b"to the ").await;
    pair.upstream.send(0x01, b"from the ").await;
    expect_frame(&mut pair.client, 0x01, b"from the ").await;
    ordered(&mut gateway).await;
    pair.client.send(0x80, b"upstream").await;
    expect_frame(&mut pair.upstream, 0x80, b"upstream").await;
    pair.upstream.send(0x80, b"upstream").await;
    expect_frame(&mut pair.client, 0x80, b"upstream").await;
    expect_drained(gateway, pair).await;
}

#[tokio::test]
async fn a_message_that_does_not_end_is_waited_for_no_longer_than_for_a_close() {
    for side in Side::BOTH {
        let (backend, mut gateway) = hurried("300ms").await;
        let mut pair = opened(&gateway, &backend).await;
        let (from, to) = side.ends(&mut pair);
        from.send(0x01, b"one, ").await;
        expect_frame(to, 0x01, b"one, ").await;
        drain(&mut gateway).await;
        // Between two frames a Close may stand.
        expect_drained(gateway, pair).await;
    }
}

#[tokio::test]
async fn who_closes_in_the_middle_of_a_message_is_told_once_and_so_is_the_other_end() {
    for side in Side::BOTH {
        let (backend, mut gateway) = hurried("1h").await;
        let mut pair = opened(&gateway, &backend).await;
        let (from, to) = side.ends(&mut pair);
        from.send(0x01, b"one, ").await;
        expect_frame(to, 0x01, b"one, ").await;
        // Keeps the drain from ending the session, whichever side has closed.
        to.send(0x01, b"one, ").await;
        expect_frame(from, 0x01, b"one, ").await;
        ordered(&mut gateway).await;
        from.send_close(4000, "enough").await;
        assert_eq!(to.expect_close().await, (Some(4000), "enough".to_owned()));
        to.send(0x80, b"two").await;
        expect_frame(from, 0x80, b"two").await;
        let (code, _) = from.expect_close().await;
        assert_eq!(code, Some(if side == Side::Client { 1012 } else { 1001 }));
        // Nothing more behind either Close.
        pair.client.expect_fin().await;
        pair.client.finish().await;
        pair.upstream.finish().await;
        pair.upstream.expect_fin().await;
        assert_eq!(gateway.ended().await.code(), Some(0));
    }
}
