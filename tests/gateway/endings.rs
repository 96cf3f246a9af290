//! How sessions end: what both ends see, what is logged and what is counted (the table of endings).

use crate::support::backend::Asked;
use crate::support::client::answered;
use crate::support::wire::{BINARY, CLOSE, PING, PONG, TEXT, close_payload, encode};
use crate::support::{Backend, End, Ended, Gateway, Pair, Setup, Side, Wire, within};

/// An open route whose closing does not wait long.
fn quick(backend: &Backend) -> Setup {
    Setup::open(&backend.url())
        .timeouts("close = \"300ms\"")
        .limits("handshakes_per_address = { rate = \"0/s\" }")
}

fn closed_by(side: Side) -> &'static str {
    match side {
        Side::Client => "client_closed",
        Side::Upstream => "upstream_closed",
    }
}

fn lost(side: Side) -> &'static str {
    match side {
        Side::Client => "client_lost",
        Side::Upstream => "upstream_lost",
    }
}

fn violation_of(side: Side) -> &'static str {
    match side {
        Side::Client => "client_violation",
        Side::Upstream => "upstream_violation",
    }
}

fn word_of(code: Option<u16>) -> String {
    code.map_or_else(|| "empty".to_owned(), |code| code.to_string())
}

#[tokio::test]
async fn a_close_is_relayed_verbatim_and_so_is_its_reply() {
    let longest = "é".repeat(61) + "!";
    let rows: Vec<(Option<u16>, &str)> = vec![
        (None, ""),
        (Some(1000), ""),
        (Some(1000), "bye"),
        (Some(1001), "tab closed"),
        (Some(1002), ""),
        (Some(1003), ""),
        (Some(1007), ""),
        (Some(1008), "policy"),
        (Some(1009), ""),
        (Some(1010), ""),
        (Some(1011), ""),
        (Some(1012), ""),
        (Some(1013), ""),
        (Some(1014), ""),
        (Some(3000), "registered"),
        (Some(3999), ""),
        (Some(4000), "own\u{0}é\u{1f980}"),
        (Some(4999), &longest),
    ];
    let backend = Backend::start().await;
    let mut gateway = Gateway::start(&quick(&backend)).await;
    for side in Side::BOTH {
        for (code, reason) in &rows {
            let before = gateway.metrics().await;
            let mut pair = Pair::open(&gateway, &backend).await;
            let (one, other) = side.ends(&mut pair);
            one.send(CLOSE, &close_payload(*code, reason)).await;
            assert_eq!(other.expect_close().await, (*code, (*reason).to_owned()));
            let reply = if code.is_some() { "the reply's" } else { "" };
            other.send(CLOSE, &close_payload(*code, reply)).await;
            assert_eq!(one.expect_close().await, (*code, reply.to_owned()));
            pair.expect_fins().await;
            let code = word_of(*code);
            let ended = Ended::new(closed_by(side), side.word(), &code, &code);
            gateway.expect_record(&pair.id, &before, &ended).await;
        }
    }
}

#[tokio::test]
async fn a_code_that_must_not_be_sent_does_not_pass() {
    let backend = Backend::start().await;
    let mut gateway = Gateway::start(&quick(&backend)).await;
    for side in Side::BOTH {
        for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1999, 2000, 2999, 5000, 65535] {
            let before = gateway.metrics().await;
            let mut pair = Pair::open(&gateway, &backend).await;
            side.ends(&mut pair).0.send_close(code, "x").await;
            let (to_client, to_upstream) = match side {
                Side::Client => (1002, 1001),
                Side::Upstream => (1011, 1002),
            };
            let reason = closed_by(side).to_owned();
            assert_eq!(pair.client.expect_close().await, (Some(to_client), reason.clone()));
            assert_eq!(pair.upstream.expect_close().await, (Some(to_upstream), reason));
            pair.expect_fins().await;
            let (client, upstream) = (to_client.to_string(), to_upstream.to_string());
            let ended = Ended::new(closed_by(side), side.word(), &client, &upstream)
                .violation(side.word(), "close_code");
            gateway.expect_record(&pair.id, &before, &ended).await;
        }
    }
}

#[tokio::test]
async fn after_a_close_the_other_side_still_finishes_what_it_has_to_say() {
    let backend = Backend::start().await;
    let mut gateway = Gateway::start(&quick(&backend).timeouts("")).await;
    for side in Side::BOTH {
        let before = gateway.metrics().await;
        let mut pair = Pair::open(&gateway, &backend).await;
        let (one, other) = side.ends(&mut pair);
        one.send_close(1000, "done").await;
        assert_eq!(other.expect_close().await, (Some(1000), "done".to_owned()));
        let large = vec![b'x'; 100 * 1024];
        other.send_text("one more").await;
        other.send(BINARY, &large).await;
        other.send(PING, b"still here").await;
        other.send_close(1000, "now").await;
        one.expect_text("one more").await;
        assert_eq!(one.frame().await.unwrap().payload, large);
        assert_eq!(one.frame().await.unwrap().first, PING);
        assert_eq!(one.expect_close().await, (Some(1000), "now".to_owned()));
        pair.expect_fins().await;
        let ended = Ended::new(closed_by(side), side.word(), "1000", "1000");
        gateway.expect_record(&pair.id, &before, &ended).await;
    }
}

#[tokio::test]
async fn what_follows_a_close_is_not_relayed() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&quick(&backend)).await;
    for side in Side::BOTH {
        let mut pair = Pair::open(&gateway, &backend).await;
        let (one, other) = side.ends(&mut pair);
        let close = encode(CLOSE, &close_payload(Some(1000), ""), one.mask);
        let text = encode(TEXT, b"too late", one.mask);
        one.send_raw(&[&close[..], &text, &text].concat()).await;
        other.expect_close().await;
        one.send_raw(&text).await;
        other.send_close(1000, "").await;
        assert_eq!(one.expect_close().await.0, Some(1000));
        pair.expect_fins().await;
    }
}

#[tokio::test]
async fn a_close_without_a_reply_is_answered_by_the_gateway() {
    let backend = Backend::start().await;
    let mut gateway = Gateway::start(&quick(&backend)).await;
    for side in Side::BOTH {
        for code in [None, Some(1000), Some(4001)] {
            let before = gateway.metrics().await;
            let mut pair = Pair::open(&gateway, &backend).await;
            let (one, other) = side.ends(&mut pair);
            one.send(CLOSE, &close_payload(code, "")).await;
            assert_eq!(other.expect_close().await.0, code);
            // The other end says nothing and keeps its connection open.
            assert_eq!(one.expect_close().await, (code, String::new()));
            one.expect_fin().await;
            other.expect_fin().await;
            let code = word_of(code);
            let ended = Ended::new(closed_by(side), side.word(), &code, &code).phase("closing");
            gateway.expect_record(&pair.id, &before, &ended).await;
        }
    }
}

/// Does both while the gateway is stopped, so that it finds both at once.
async fn at_once(gateway: &Gateway, pair: &mut Pair, [client, upstream]: [Deed; 2]) {
    gateway.freeze().await;
    client.by(&mut pair.client).await;
    upstream.by(&mut pair.upstream).await;
    gateway.signal("CONT");
}

#[derive(Debug, Clone, Copy)]
enum Deed {
    Close(u16),
    Leave,
    Breach,
}

impl Deed {
    async fn by(self, wire: &mut Wire) {
        match self {
            Self::Close(code) => wire.send_close(code, "crossing").await,
            Self::Leave => wire.finish().await,
            Self::Breach => wire.send(0xc1, b"").await,
        }
    }
}

/// What each end does and is told by Close (code and reason), and what is recorded.
type AtOnce = ([Deed; 2], [(u16, &'static str); 2], Ended<'static>);

fn deeds_at_once() -> Vec<AtOnce> {
    use Deed::{Breach, Close, Leave};
    let ended = Ended::new;
    let (client, upstream) = ("client_violation", "upstream_violation");
    vec![
        // Closes that cross are each other's reply.
        (
            [Close(4000), Close(4001)],
            [(4001, "crossing"), (4000, "crossing")],
            ended("client_closed", "client", "4001", "4000"),
        ),
        // What an end says counts for more than that the other is gone.
        (
            [Close(4000), Leave],
            [(4000, ""), (4000, "crossing")],
            ended("client_closed", "client", "4000", "4000").phase("closing"),
        ),
        (
            [Leave, Close(4001)],
            [(4001, "crossing"), (4001, "")],
            ended("upstream_closed", "upstream", "4001", "4001").phase("closing"),
        ),
        (
            [Breach, Leave],
            [(1002, client), (1001, client)],
            ended(client, "client", "1002", "1001").violation("client", "rsv"),
        ),
        (
            [Leave, Breach],
            [(1011, upstream), (1002, upstream)],
            ended(upstream, "upstream", "1011", "1002").violation("upstream", "rsv"),
        ),
    ]
}

#[tokio::test]
async fn what_both_ends_do_at_once_has_one_ending_and_nobody_waits_or_hears_twice() {
    let backend = Backend::start().await;
    // Nothing here may wait for this.
    let mut setup = Setup::open(&backend.url()).timeouts("close = \"1h\"");
    // Another thread could see the one deed before this one tells of the other.
    setup.workers = Some(1);
    let mut gateway = Gateway::start(&setup).await;
    for (deeds, told, ended) in deeds_at_once() {
        let before = gateway.metrics().await;
        let mut pair = Pair::open(&gateway, &backend).await;
        pair.round_trip().await;
        at_once(&gateway, &mut pair, deeds).await;
        let told = told.map(|(code, reason)| (Some(code), reason.to_owned()));
        let found = [pair.client.expect_close().await, pair.upstream.expect_close().await];
        assert_eq!(found, told, "{deeds:?}");
        pair.expect_fins().await;
        gateway.expect_record(&pair.id, &before, &ended).await;
    }
}

#[tokio::test]
async fn an_end_that_leaves_without_answering_a_close_is_answered_for_at_once() {
    let backend = Backend::start().await;
    // Nothing here may wait for this.
    let setup = Setup::open(&backend.url()).timeouts("close = \"1h\"");
    let mut gateway = Gateway::start(&setup).await;
    for side in Side::BOTH {
        let before = gateway.metrics().await;
        let mut pair = Pair::open(&gateway, &backend).await;
        let (one, other) = side.ends(&mut pair);
        one.send_close(4000, "").await;
        other.expect_close().await;
        other.finish().await;
        assert_eq!(one.expect_close().await, (Some(4000), String::new()));
        one.finish().await;
        one.expect_fin().await;
        let ended = Ended::new(closed_by(side), side.word(), "4000", "4000").phase("closing");
        gateway.expect_record(&pair.id, &before, &ended).await;
    }
}

#[tokio::test]
async fn a_lost_end_is_told_to_the_other_one() {
    let backend = Backend::start().await;
    let resetting = Backend::start().await.resetting();
    let setup = quick(&resetting);
    let mut ways = [(Gateway::start(&quick(&backend)).await, backend), {
        (Gateway::start(&setup).await, resetting)
    }];
    for (gateway, backend) in &mut ways {
        for client in [gateway.client(), gateway.client().resetting()] {
            let before = gateway.metrics().await;
            let mut pair = Pair::of(client, backend).await;
            pair.client.send_text("last words").await;
            drop(pair.client);
            pair.upstream.expect_text("last words").await;
            let close = pair.upstream.expect_close().await;
            assert_eq!(close, (Some(1001), "client_lost".to_owned()));
            drop(pair.upstream);
            let ended = Ended::new("client_lost", "client", "none", "1001");
            gateway.expect_record(&pair.id, &before, &ended).await;
        }
        let before = gateway.metrics().await;
        let mut pair = Pair::open(gateway, backend).await;
        pair.round_trip().await;
        drop(pair.upstream);
        let close = pair.client.expect_close().await;
        assert_eq!(close, (Some(1011), "upstream_lost".to_owned()));
        pair.client.expect_fin().await;
        let ended = Ended::new("upstream_lost", "upstream", "1011", "none");
        gateway.expect_record(&pair.id, &before, &ended).await;
    }
}

#[tokio::test]
async fn what_an_end_said_before_it_was_lost_still_arrives() {
    let backend = Backend::start().await;
    let mut gateway = Gateway::start(&quick(&backend)).await;
    for side in Side::BOTH {
        let mut pair = Pair::open(&gateway, &backend).await;
        let large = vec![7; 200_000];
        let (one, other) = side.ends(&mut pair);
        let say = async {
            one.send(BINARY, &large).await;
            one.finish().await;
        };
        let (frame, ()) = tokio::join!(other.frame(), say);
        assert_eq!(frame.unwrap().payload, large);
        let code = if side == Side::Client { 1001 } else { 1011 };
        assert_eq!(other.expect_close().await, (Some(code), lost(side).to_owned()));
        drop(pair.upstream);
        assert_eq!(gateway.line_of(&pair.id).await["label"], lost(side));
    }
}

#[tokio::test]
async fn a_client_with_unread_input_still_gets_its_close_and_a_fin() {
    let backend = Backend::start().await;
    let mut gateway = Gateway::start(&quick(&backend)).await;
    let before = gateway.metrics().await;
    let mut pair = Pair::open(&gateway, &backend).await;
    // The breach is followed by more than the gateway has read when it decides.
    let breach = encode(0xc1, b"", pair.client.mask);
    pair.client.send_raw(&[breach, vec![0; 2 << 20]].concat()).await;
    let close = pair.client.expect_close().await;
    assert_eq!(close, (Some(1002), "client_violation".to_owned()));
    // Nor does what comes only after the gateway's FIN destroy anything.
    pair.client.expect_fin().await;
    pair.client.send_raw(&vec![0; 1 << 20]).await;
    pair.client.finish().await;
    assert_eq!(pair.upstream.expect_close().await.0, Some(1001));
    drop(pair.upstream);
    let ended = Ended::new("client_violation", "client", "1002", "1001").violation("client", "rsv");
    gateway.expect_record(&pair.id, &before, &ended).await;
}

#[tokio::test]
async fn the_gateway_ends_the_clients_connection_first_and_the_upstreams_second() {
    let backend = Backend::start().await;
    let setup = Setup::open(&backend.url()).timeouts("close = \"1m\"");
    let gateway = Gateway::start(&setup).await;
    for ending in ["client", "upstream", "violation"] {
        let tcp = gateway.client().tcp().await;
        let client_port = tcp.local_addr().unwrap().port();
        let accept = async {
            let tcp = backend.accept().await;
            let port = tcp.peer_addr().unwrap().port();
            (Asked::read(tcp).await.accept("").await, port)
        };
        let asked = gateway.client().ask_over(tcp);
        let (asked, (mut upstream, upstream_port)) = tokio::join!(asked, accept);
        let mut client = answered(asked).await.wire;
        if ending == "upstream" {
            upstream.send_close(1000, "").await;
            client.expect_close().await;
            client.send_close(1000, "").await;
            upstream.expect_close().await;
        } else {
            let close = close_payload(Some(1000), "");
            client.send(if ending == "client" { CLOSE } else { 0xf8 }, &close).await;
            upstream.expect_close().await;
            upstream.send_close(1000, "").await;
            client.expect_close().await;
        }
        client.expect_fin().await;
        drop(client);
        upstream.finish().await;
        upstream.expect_fin().await;
        // Whoever is first keeps the connection in TIME_WAIT: the gateway's end, the backend's end.
        expect_time_wait(gateway.addresses[0].port(), client_port).await;
        expect_time_wait(backend.address().port(), upstream_port).await;
    }
}

/// Waits until this end (and not the other one) of a connection is in TIME_WAIT.
async fn expect_time_wait(local: u16, remote: u16) {
    let port = |address: &str| u16::from_str_radix(address.split_once(':').unwrap().1, 16).unwrap();
    within("TIME_WAIT", async {
        loop {
            let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
            let rows = table.lines().skip(1).map(|line| line.split_whitespace());
            let waiting: Vec<_> = rows
                .map(Iterator::collect::<Vec<_>>)
                .filter(|fields| fields[3] == "06")
                .map(|fields| (port(fields[1]), port(fields[2])))
                .collect();
            assert!(!waiting.contains(&(remote, local)), "the other end was first");
            if waiting.contains(&(local, remote)) {
                return;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// A part of a frame of 100 KiB, with its header; what is missing of it.
fn torn_frame(first: u8, mask: Option<[u8; 4]>) -> (Vec<u8>, Vec<u8>) {
    let mut frame = encode(first, &vec![b'a'; 100 * 1024], mask);
    let rest = frame.split_off(50 * 1024);
    (frame, rest)
}

#[tokio::test]
async fn a_side_that_holds_part_of_a_frame_whose_sender_is_gone_is_aborted() {
    let backend = Backend::start().await;
    let mut gateway = Gateway::start(&quick(&backend)).await;
    for side in Side::BOTH {
        let before = gateway.metrics().await;
        let mut pair = Pair::open(&gateway, &backend).await;
        let (one, other) = side.ends(&mut pair);
        let (part, _) = torn_frame(BINARY, one.mask);
        one.send_raw(&part).await;
        other.expect_raw(&part).await;
        one.finish().await;
        assert_eq!(other.expect_reset().await, b"");
        let ended = Ended::new(lost(side), side.word(), "none", "none").cut();
        gateway.expect_record(&pair.id, &before, &ended).await;
    }
}

#[tokio::test]
async fn of_a_small_frame_whose_sender_is_gone_nothing_has_passed() {
    let backend = Backend::start().await;
    let mut gateway = Gateway::start(&quick(&backend)).await;
    for side in Side::BOTH {
        for first in [TEXT, BINARY, PING] {
            let before = gateway.metrics().await;
            let mut pair = Pair::open(&gateway, &backend).await;
            let (one, other) = side.ends(&mut pair);
            let len = if first == PING { 125 } else { 4096 };
            let frame = encode(first, &vec![b'a'; len], one.mask);
            one.send_raw(&frame[..frame.len() - 1]).await;
            one.finish().await;
            let (code, client, upstream) = match side {
                Side::Client => (1001, "none", "1001"),
                Side::Upstream => (1011, "1011", "none"),
            };
            assert_eq!(other.expect_close().await, (Some(code), lost(side).to_owned()));
            other.finish().await;
            let ended = Ended::new(lost(side), side.word(), client, upstream);
            gateway.expect_record(&pair.id, &before, &ended).await;
        }
    }
}

#[tokio::test]
async fn a_large_frame_found_illegal_is_never_finished() {
    // Illegal in its middle, and only by its end.
    let size = 100 * 1024;
    let (mut middle, mut end) = (vec![b'a'; size], vec![b'a'; size]);
    middle[60 * 1024] = 0xff;
    end[size - 1] = 0xc3;
    let backend = Backend::start().await;
    let mut gateway = Gateway::start(&quick(&backend)).await;
    for side in Side::BOTH {
        for payload in [&middle, &end] {
            let before = gateway.metrics().await;
            let mut pair = Pair::open(&gateway, &backend).await;
            let (one, other) = side.ends(&mut pair);
            let frame = encode(TEXT, payload, one.mask);
            let (part, rest) = frame.split_at(50 * 1024);
            one.send_raw(part).await;
            other.expect_raw(part).await;
            one.send_raw(rest).await;
            let passed = other.expect_reset().await;
            assert!(rest.starts_with(&passed) && passed.len() < rest.len(), "{}", passed.len());
            assert_eq!(one.expect_close().await, (Some(1007), violation_of(side).to_owned()));
            pair.upstream.finish().await;
            let ended = match side {
                Side::Client => Ended::new("client_violation", "client", "1007", "none"),
                Side::Upstream => Ended::new("upstream_violation", "upstream", "none", "1007"),
            };
            let ended = ended.cut().violation(side.word(), "utf8");
            gateway.expect_record(&pair.id, &before, &ended).await;
        }
    }
}

/// A route with a place per user, whose older session gives way.
fn with_one_place(backend: &Backend, close: &str) -> Setup {
    Setup::with_tokens(&backend.url())
        .limits("connections_per_user = 1\nhandshakes_per_address = { rate = \"0/s\" }")
        .timeouts(&format!("close = \"{close}\""))
}

async fn open_as(user: &str, gateway: &Gateway, backend: &Backend) -> Pair {
    let token = crate::support::tokens::token(user);
    Pair::of(gateway.client().token(&token), backend).await
}

#[tokio::test]
async fn a_replaced_session_is_told_so_on_both_sides() {
    let backend = Backend::start().await;
    let mut gateway = Gateway::start(&with_one_place(&backend, "300ms")).await;
    let before = gateway.metrics().await;
    let mut old = open_as("ann", &gateway, &backend).await;
    let mut new = open_as("ann", &gateway, &backend).await;
    assert_eq!(old.client.expect_close().await, (Some(4409), "replaced".to_owned()));
    old.client.expect_fin().await;
    let close = old.upstream.frame().await.unwrap();
    assert!(close.masked);
    assert_eq!(close.payload, close_payload(Some(1001), "replaced"));
    drop(old.upstream);
    let ended = Ended::new("replaced", "gateway", "4409", "1001");
    gateway.expect_record(&old.id, &before, &ended).await;
    new.round_trip().await;
}

#[tokio::test]
async fn an_ending_of_the_gateway_waits_for_the_frame_under_way() {
    let backend = Backend::start().await;
    let mut gateway = Gateway::start(&with_one_place(&backend, "1m")).await;
    let mut newer = Vec::new();
    for (count, side) in (1..).zip(Side::BOTH) {
        let before = gateway.metrics().await;
        let mut old = open_as(side.word(), &gateway, &backend).await;
        let (one, other) = side.ends(&mut old);
        let (part, rest) = torn_frame(BINARY, one.mask);
        one.send_raw(&part).await;
        other.expect_raw(&part).await;
        newer.push(open_as(side.word(), &gateway, &backend).await);
        let evictions = "framegate_evictions_total{reason=\"user_limit\"}";
        gateway.wait_for_metric(evictions, f64::from(count)).await;
        let after = encode(TEXT, b"comes after the frame", one.mask);
        one.send_raw(&[&rest[..], &after].concat()).await;
        other.expect_raw(&rest).await;
        assert_eq!(old.client.expect_close().await, (Some(4409), "replaced".to_owned()));
        assert_eq!(old.upstream.expect_close().await, (Some(1001), "replaced".to_owned()));
        old.upstream.finish().await;
        old.client.finish().await;
        let ended = Ended::new("replaced", "gateway", "4409", "1001");
        gateway.expect_record(&old.id, &before, &ended).await;
    }
}

#[tokio::test]
async fn a_frame_that_does_not_come_to_its_end_is_cut_after_the_close_timeout() {
    let backend = Backend::start().await;
    let mut gateway = Gateway::start(&with_one_place(&backend, "200ms")).await;
    let mut newer = Vec::new();
    for side in Side::BOTH {
        let before = gateway.metrics().await;
        let mut old = open_as(side.word(), &gateway, &backend).await;
        let (one, other) = side.ends(&mut old);
        let (part, _) = torn_frame(BINARY, one.mask);
        one.send_raw(&part).await;
        other.expect_raw(&part).await;
        newer.push(open_as(side.word(), &gateway, &backend).await);
        assert_eq!(other.expect_reset().await, b"");
        let ended = match side {
            Side::Client => {
                assert_eq!(one.expect_close().await, (Some(4409), "replaced".to_owned()));
                Ended::new("replaced", "gateway", "4409", "none")
            }
            Side::Upstream => {
                assert_eq!(one.expect_close().await, (Some(1001), "replaced".to_owned()));
                Ended::new("replaced", "gateway", "none", "1001")
            }
        };
        drop(old.upstream);
        gateway.expect_record(&old.id, &before, &ended.cut()).await;
    }
}

#[tokio::test]
async fn a_session_without_messages_is_idle_whatever_pings_pass() {
    let backend = Backend::start().await;
    let mut gateway = Gateway::start(&quick(&backend).timeouts("idle = \"300ms\"")).await;
    let before = gateway.metrics().await;
    let mut pair = Pair::open(&gateway, &backend).await;
    // Pings go round and round until the session ends.
    let client = async {
        loop {
            pair.client.send(PING, b"alive").await;
            let frame = pair.client.frame().await.unwrap();
            if frame.first == CLOSE {
                assert_eq!(frame.payload, close_payload(Some(4408), "idle"));
                break;
            }
            assert_eq!(frame.first, PONG);
        }
    };
    let upstream = async {
        loop {
            let frame = pair.upstream.frame().await.unwrap();
            if frame.first == CLOSE {
                assert_eq!(frame.payload, close_payload(Some(1001), "idle"));
                break;
            }
            pair.upstream.send(PONG, &frame.payload).await;
        }
    };
    tokio::join!(client, upstream);
    drop(pair.upstream);
    let ended = Ended::new("idle", "gateway", "4408", "1001");
    gateway.expect_record(&pair.id, &before, &ended).await;
}

#[tokio::test]
async fn a_client_over_its_message_rate_is_closed_and_what_was_within_it_passes() {
    let backend = Backend::start().await;
    let setup =
        quick(&backend).limits("messages = { rate = \"1/h\", burst = 3, over = \"close\" }");
    let mut gateway = Gateway::start(&setup).await;
    let before = gateway.metrics().await;
    let mut pair = Pair::open(&gateway, &backend).await;
    let frames: Vec<u8> = ["one", "two", "three", "four", "five"]
        .iter()
        .flat_map(|text| encode(TEXT, text.as_bytes(), pair.client.mask))
        .collect();
    pair.client.send_raw(&frames).await;
    for text in ["one", "two", "three"] {
        pair.upstream.expect_text(text).await;
    }
    assert_eq!(pair.upstream.expect_close().await, (Some(1001), "message_rate".to_owned()));
    assert_eq!(pair.client.expect_close().await, (Some(4429), "message_rate".to_owned()));
    pair.expect_fins().await;
    let ended = Ended::new("message_rate", "gateway", "4429", "1001");
    gateway.expect_record(&pair.id, &before, &ended).await;
    let limited = "framegate_messages_limited_total{action=\"close\"}";
    assert_eq!(gateway.metric(limited).await, 1.0);
}

#[tokio::test]
async fn a_client_without_a_pong_is_told_once_and_aborted() {
    let backend = Backend::start().await;
    let setup = quick(&backend).keepalive("client_ping = \"100ms\"\nclient_pong = \"100ms\"");
    let mut gateway = Gateway::start(&setup).await;
    let before = gateway.metrics().await;
    let mut pair = Pair::open(&gateway, &backend).await;
    assert_eq!(pair.client.frame().await.unwrap().first, PING);
    assert_eq!(pair.client.expect_close().await, (Some(4408), "client_timeout".to_owned()));
    assert_eq!(pair.client.end().await, End::Reset);
    assert_eq!(pair.upstream.expect_close().await, (Some(1001), "client_timeout".to_owned()));
    drop(pair.upstream);
    let ended = Ended::new("client_timeout", "gateway", "4408", "1001");
    gateway.expect_record(&pair.id, &before, &ended).await;
    assert_eq!(gateway.metric("framegate_pong_timeouts_total{leg=\"client\"}").await, 1.0);
}

#[tokio::test]
async fn an_upstream_without_a_pong_is_told_and_aborted_and_the_client_gets_1011() {
    let backend = Backend::start().await;
    let setup = quick(&backend).keepalive("upstream_ping = \"100ms\"\nupstream_pong = \"100ms\"");
    let mut gateway = Gateway::start(&setup).await;
    let before = gateway.metrics().await;
    let mut pair = Pair::open(&gateway, &backend).await;
    let ping = pair.upstream.frame().await.unwrap();
    assert_eq!((ping.first, ping.masked), (PING, true));
    assert_eq!(pair.upstream.expect_close().await, (Some(1001), "upstream_stalled".to_owned()));
    assert_eq!(pair.upstream.end().await, End::Reset);
    assert_eq!(pair.client.expect_close().await, (Some(1011), "upstream_stalled".to_owned()));
    pair.client.expect_fin().await;
    drop(pair.client);
    let ended = Ended::new("upstream_stalled", "gateway", "1011", "1001");
    gateway.expect_record(&pair.id, &before, &ended).await;
    assert_eq!(gateway.metric("framegate_pong_timeouts_total{leg=\"upstream\"}").await, 1.0);
}

#[tokio::test]
async fn an_operators_code_goes_to_the_client_and_not_upstream() {
    let backend = Backend::start().await;
    let mut setup = quick(&backend).timeouts("idle = \"100ms\"");
    setup.close_codes = "[close_codes]\nidle = 4900\n\
                         [close_codes.subprotocol.\"graphql-transport-ws\"]\nidle = 4901\n"
        .to_owned();
    let mut gateway = Gateway::start(&setup).await;
    for (subprotocol, code) in [("", 4900), ("graphql-transport-ws", 4901)] {
        let before = gateway.metrics().await;
        let (mut client, header) = (gateway.client(), "Sec-WebSocket-Protocol");
        let mut chosen = String::new();
        if !subprotocol.is_empty() {
            client = client.header(header, subprotocol);
            chosen = format!("{header}: {subprotocol}\r\n");
        }
        let accept = async {
            let asked = backend.asked().await;
            (asked.header("x-request-id").unwrap(), asked.accept(&chosen).await)
        };
        let (mut client, (id, mut upstream)) = tokio::join!(client.session(), accept);
        assert_eq!(client.expect_close().await, (Some(code), "idle".to_owned()));
        assert_eq!(upstream.expect_close().await, (Some(1001), "idle".to_owned()));
        drop(upstream);
        assert_eq!(gateway.line_of(&id).await["client_close"], code.to_string());
        let series =
            format!("framegate_closes_total{{by=\"gateway\",code=\"{code}\",route=\"/ws\"}}");
        let growth = gateway.growth(&before, "framegate_closes_total").await;
        assert_eq!(growth, [(series, 1.0)]);
    }
}
