//! Clients that read slowly and steadily: they are alive, and get everything.

use std::time::Duration;

use crate::support::wire::close_payload;
use crate::support::{Backend, Gateway, Setup, Wire, within};

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
    let (_, list) = gateway.admin("GET /api/sessions").await;
    let id = list["sessions"][0]["id"].as_str().unwrap().to_owned();
    let (closed, ()) = tokio::join!(
        async {
            // The gateway holds part of a frame itself: the rest of it is still to come.
            within("held bytes", async {
                while gateway.metric("framegate_pending_bytes").await == 0.0 {
                    tokio::task::yield_now().await;
                }
            })
            .await;
            gateway.admin(&format!("DELETE /api/sessions/{id}")).await;
            loop {
                let frame = client.frame().await.expect("a Close");
                if frame.opcode() == CLOSE {
                    return frame.payload;
                }
                assert_eq!(frame.payload.len(), FRAME);
                tokio::time::sleep(Duration::from_millis(60)).await;
            }
        },
        send_all(&mut upstream)
    );
    assert_eq!(closed, close_payload(Some(4403), "kicked"));
    client.finish().await;
    let line = gateway.access_line("kicked").await;
    assert_eq!(
        (&line["client_close"], &line["cut_frame"]),
        (&"4403".into(), &false.into()),
        "{line}"
    );
}

/// Bytes in the send queues of the sockets with this local and this remote port (proc_net_tcp(5)).
fn send_queue(local: u16, remote: u16) -> u64 {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let port =
        |address: &str| u16::from_str_radix(address.rsplit(':').next().unwrap(), 16).unwrap();
    let queues = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let is_it = port(fields[1]) == local && port(fields[2]) == remote;
        let (queued, _) = fields[4].split_once(':').unwrap();
        is_it.then(|| u64::from_str_radix(queued, 16).unwrap())
    });
    queues.sum()
}

#[tokio::test]
async fn the_kernel_holds_little_for_a_client_that_does_not_read() {
    let backend = Backend::start().await;
    let setup = Setup::open(&backend.url());
    let gateway = Gateway::start(&setup).await;
    let client = gateway.client().with_little_room();
    let tcp = client.tcp().await;
    let remote = tcp.local_addr().unwrap().port();
    let session = client.over(tcp).session();
    let (_client, upstream) = tokio::join!(session, backend.session());
    let (_upstream, sent) = upstream.flood(0x82, &[7; 1000]);
    gateway.wait_for_metric("framegate_sessions_active{route=\"/ws\"}", 1.0).await;
    // Until the gateway holds something itself: the socket takes no more.
    within("held bytes", async {
        while gateway.metric("framegate_pending_bytes").await == 0.0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let queued = send_queue(gateway.addresses[0].port(), remote);
    // 128 KiB that cannot be sent, the write that went beyond, and what a small window lets on its way.
    assert!((1..=320 * 1024).contains(&queued), "{queued}");
    assert!(sent.load(std::sync::atomic::Ordering::Relaxed) > 0);
}
