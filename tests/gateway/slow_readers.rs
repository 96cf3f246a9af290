//! Clients that read slowly and steadily: they are alive, and get everything.

use std::time::Duration;

use crate::support::{Backend, Gateway, Setup, Wire};

const PONG: u8 = 0x8a;
const CLOSE: u8 = 8;
const PING: u8 = 9;
/// More than a client with little room has taken by the time that the gateway's deadlines have passed.
const FRAMES: usize = 32;
const FRAME: usize = 64 * 1024;

async fn opened(setup: &Setup, backend: &Backend) -> (Gateway, Wire, Wire) {
    let gateway = Gateway::start(setup).await;
    let client = gateway.client().with_little_room();
    let (client, upstream) = tokio::join!(client.session(), backend.session());
    (gateway, client, upstream)
}

/// Reads frames, each a while after the one before, answers Pings and says something now and then, until
/// `FRAMES` have come; the Pings that came.
async fn read_slowly(client: &mut Wire) -> usize {
    let (mut frames, mut pings) = (0, 0);
    while frames < FRAMES {
        let frame = client.frame().await.expect("all frames");
        match frame.opcode() {
            PING => {
                pings += 1;
                client.send(PONG, &frame.payload).await;
            }
            CLOSE => panic!("closed after {frames} frames"),
            _ => {
                assert_eq!(frame.payload.len(), FRAME);
                frames += 1;
                tokio::time::sleep(Duration::from_millis(60)).await;
            }
        }
    }
    pings
}

async fn send_all(upstream: &mut Wire) {
    for _ in 0..FRAMES {
        upstream.send(0x82, &vec![7; FRAME]).await;
    }
}

#[tokio::test]
async fn the_last_data_and_the_close_reach_a_slow_client_that_also_sends() {
    let backend = Backend::start().await;
    let setup = Setup::open(&backend.url()).timeouts("close = \"500ms\"");
    let (mut gateway, mut client, mut upstream) = opened(&setup, &backend).await;
    send_all(&mut upstream).await;
    upstream.send_close(4000, "done").await;
    client.send_text("typing").await;
    read_slowly(&mut client).await;
    assert_eq!(client.expect_close().await, (Some(4000), "done".to_owned()));
    client.send_close(4000, "").await;
    client.expect_end().await;
    let line = gateway.access_line("upstream_closed").await;
    assert_eq!(
        (&line["client_close"], &line["cut_frame"]),
        (&"4000".into(), &false.into()),
        "{line}"
    );
}

#[tokio::test]
async fn a_ping_that_waits_behind_data_is_no_missing_pong() {
    let backend = Backend::start().await;
    let setup = Setup::open(&backend.url())
        .keepalive("client_ping = \"100ms\"\nclient_pong = \"300ms\"\nupstream_ping = \"0s\"");
    let (_gateway, mut client, mut upstream) = opened(&setup, &backend).await;
    send_all(&mut upstream).await;
    let pings = read_slowly(&mut client).await;
    // It has been silent for several pong times, and the session goes on.
    client.send_text("still here").await;
    upstream.expect_text("still here").await;
    assert!(pings > 0 || client.frame().await.is_some_and(|frame| frame.opcode() == PING));
}

#[tokio::test]
async fn a_kicked_client_that_reads_on_gets_its_close() {
    let backend = Backend::start().await;
    let setup = Setup::open(&backend.url()).timeouts("close = \"500ms\"");
    let (mut gateway, mut client, mut upstream) = opened(&setup, &backend).await;
    send_all(&mut upstream).await;
    let (status, list) = gateway.admin("GET /api/sessions").await;
    assert_eq!(status, 200);
    let id = list["sessions"][0]["id"].as_str().unwrap().to_owned();
    // When all is on its way: what is under way then are whole frames.
    let sent = u64::try_from(FRAMES * FRAME).unwrap();
    loop {
        let (_, session) = gateway.admin(&format!("GET /api/sessions/{id}")).await;
        if session["bytes"]["from_upstream"] == sent {
            break;
        }
        tokio::task::yield_now().await;
    }
    gateway.admin(&format!("DELETE /api/sessions/{id}")).await;
    read_slowly(&mut client).await;
    assert_eq!(client.expect_close().await, (Some(4403), "kicked".to_owned()));
    client.finish().await;
    let line = gateway.access_line("kicked").await;
    assert_eq!(
        (&line["client_close"], &line["cut_frame"]),
        (&"4403".into(), &false.into()),
        "{line}"
    );
}
