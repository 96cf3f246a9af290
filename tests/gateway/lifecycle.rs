//! The process over its life: leaking nothing, running out of descriptors.

use std::time::Instant;

use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::tokens::token;
use crate::support::wire::{BINARY, PING, encode};
use crate::support::{Backend, Client, Gateway, Pair, Setup, Wire};

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
    let mut setup = Setup::open(&backend.url())
        .limits("handshakes_per_address = { rate = \"0/s\" }")
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

#[tokio::test]
async fn running_out_of_descriptors_says_nothing_of_the_upstreams() {
    const NOT_CHECKED: &str = "an endpoint could not be checked, through no fault of its own";
    let backend = Backend::start().await.echo();
    // Any failure would count.
    let mut setup = Setup::open(&format!("http://{backend}"))
        .limits("handshakes_per_address = { rate = \"0/s\" }")
        .timeouts("request_head = \"1h\"");
    setup.upstream = "health = { interval = \"20ms\", fall = 1 }\n".to_owned();
    setup.open_files = Some(64);
    let mut gateway = Gateway::start(&setup).await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(gateway.client().tcp().await);
    }
    let is_it = |line: &serde_json::Value| line["message"] == NOT_CHECKED;
    gateway.wait_for_log(NOT_CHECKED, |lines| lines.iter().any(is_it)).await;
    drop(silent);
    let mut wire = gateway.client().session().await;
    wire.send_text("here again").await;
    wire.expect_text("here again").await;
    let is_unhealthy = |line: &serde_json::Value| line["message"] == "endpoint is unhealthy";
    assert!(!gateway.log().iter().any(is_unhealthy));
    let healthy = format!("{{endpoint=\"http://{backend}\",upstream=\"chat\"}}");
    assert_eq!(gateway.metric(&format!("framegate_upstream_healthy{healthy}")).await, 1.0);
}
