//! Limits on sessions: places per user, message rate, slow readers, silence.

use std::future::{Future, poll_fn};
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::support::client::Answered;
use crate::support::tokens::token;
use crate::support::wire::{BINARY, PING, PONG, TEXT, close_payload, encode};
use crate::support::{Backend, Client, End, Ended, Gateway, Pair, Setup, Side, Wire, within};

const UNLIMITED: &str = "handshakes_per_address = { rate = \"0/s\" }";
const NO_RATE: &str = "messages = { rate = \"0/s\" }";
/// For what may take long on a busy machine, and tells every byte.
const NO_PINGS: &str = "client_ping = \"0\"\nupstream_ping = \"0\"";
const EVICTIONS: &str = "framegate_evictions_total{reason=\"user_limit\"}";

fn open(backend: &Backend) -> Setup {
    Setup::open(&backend.url()).timeouts("close = \"300ms\"").limits(UNLIMITED)
}

fn per_user(backend: &Backend, limits: &str) -> Setup {
    Setup::with_tokens(&backend.url())
        .timeouts("close = \"300ms\"")
        .limits(UNLIMITED)
        .limits(limits)
}

fn client_of(gateway: &Gateway, user: &str) -> Client {
    gateway.client().token(&token(user))
}

async fn open_as(user: &str, gateway: &Gateway, backend: &Backend) -> Pair {
    Pair::of(client_of(gateway, user), backend).await
}

fn assert_user_limit(answered: &Answered) {
    assert_eq!(answered.status, 429, "{}", answered.head);
}

#[tokio::test]
async fn the_oldest_session_gives_way_and_no_other_users() {
    let backend = Backend::start().await;
    let mut gateway = Gateway::start(&per_user(&backend, "connections_per_user = 2")).await;
    let mut other = open_as("ben", &gateway, &backend).await;
    let mut sessions = Vec::new();
    for _ in 0..4 {
        sessions.push(open_as("ann", &gateway, &backend).await);
    }
    for pair in &mut sessions[..2] {
        assert_eq!(pair.client.expect_close().await, (Some(4409), "replaced".to_owned()));
        assert_eq!(pair.upstream.expect_close().await, (Some(1001), "replaced".to_owned()));
        pair.expect_fins().await;
        assert_eq!(gateway.line_of(&pair.id).await["user"], "ann");
    }
    for pair in sessions[2..].iter_mut().chain([&mut other]) {
        pair.round_trip().await;
    }
    assert_eq!(gateway.metric(EVICTIONS).await, 2.0);
    assert_eq!(gateway.metric("framegate_sessions_active{route=\"/ws\"}").await, 3.0);
}

#[tokio::test]
async fn a_holder_that_answers_the_ping_keeps_its_place() {
    let backend = Backend::start().await;
    let limits = "connections_per_user = 1\nwhen_user_full = \"refuse\"";
    // Nobody is asked but for the place.
    let setup = per_user(&backend, limits).keepalive("client_ping = \"1h\"\nclient_pong = \"1h\"");
    let mut gateway = Gateway::start(&setup).await;
    let mut holder = open_as("ann", &gateway, &backend).await;
    for _ in 0..2 {
        let answer = async {
            let ping = holder.client.frame().await.unwrap();
            assert_eq!(ping.first, PING);
            holder.client.send(PONG, &ping.payload).await;
        };
        let (refused, ()) = tokio::join!(client_of(&gateway, "ann").connect(), answer);
        assert_user_limit(&refused);
    }
    let lines = gateway.access_lines("user_limit", 2).await;
    assert_eq!((&lines[1]["by"], &lines[1]["user"]), (&"gateway".into(), &"ann".into()));
    holder.round_trip().await;
    assert_eq!(gateway.metric(EVICTIONS).await, 0.0);
    let refused = "framegate_handshakes_total{result=\"user_limit\",route=\"/ws\"}";
    assert_eq!(gateway.metric(refused).await, 2.0);
}

#[tokio::test]
async fn a_holder_that_answers_no_ping_gives_its_place_up() {
    let backend = Backend::start().await;
    let limits = "connections_per_user = 1\nwhen_user_full = \"refuse\"";
    let setup =
        per_user(&backend, limits).keepalive("client_ping = \"1h\"\nclient_pong = \"200ms\"");
    let mut gateway = Gateway::start(&setup).await;
    let mut holder = open_as("ann", &gateway, &backend).await;
    let mut newer = open_as("ann", &gateway, &backend).await;
    newer.round_trip().await;
    assert_eq!(holder.client.frame().await.unwrap().first, PING);
    assert_eq!(holder.client.expect_close().await, (Some(4408), "client_timeout".to_owned()));
    assert_eq!(holder.client.end().await, End::Reset);
    assert_eq!(holder.upstream.expect_close().await, (Some(1001), "client_timeout".to_owned()));
    drop(holder.upstream);
    assert_eq!(gateway.line_of(&holder.id).await["label"], "client_timeout");
}

#[tokio::test]
async fn asking_a_dead_holder_again_and_again_does_not_keep_it_alive() {
    let backend = Backend::start().await;
    let limits = "connections_per_user = 1\nwhen_user_full = \"refuse\"";
    let setup = per_user(&backend, limits).keepalive("client_ping = \"1h\"\nclient_pong = \"1s\"");
    let gateway = Gateway::start(&setup).await;
    let mut holder = open_as("ann", &gateway, &backend).await;
    let told = async {
        loop {
            // Each gives up as soon as the holder has been asked for it.
            let _impatient = client_of(&gateway, "ann").ask().await;
            let frame = holder.client.frame().await.unwrap();
            if frame.first != PING {
                return frame;
            }
        }
    };
    let frame = within("the end of the holder", told).await;
    assert_eq!(frame.payload, close_payload(Some(4408), "client_timeout"));
}

#[tokio::test]
async fn a_dirty_disconnect_frees_the_place() {
    let backend = Backend::start().await;
    let limits = "connections_per_user = 1\nwhen_user_full = \"refuse\"";
    // Neither a pong nor the old upstream's Close is waited for.
    let setup = Setup::with_tokens(&backend.url())
        .limits(UNLIMITED)
        .limits(limits)
        .timeouts("close = \"1h\"")
        .keepalive("client_ping = \"1h\"\nclient_pong = \"1h\"");
    let gateway = Gateway::start(&setup).await;
    let mut upstreams = Vec::new();
    for _ in 0..3 {
        let client = client_of(&gateway, "ann");
        for client in [client.clone(), client.resetting()] {
            let mut pair = Pair::of(client, &backend).await;
            pair.round_trip().await;
            upstreams.push(pair.upstream);
        }
    }
    for upstream in &mut upstreams {
        assert_eq!(upstream.expect_close().await, (Some(1001), "client_lost".to_owned()));
    }
}

/// Opens sessions of one user at these paths and says which of them gave way.
async fn evicted(scope: &str, paths: &[&str]) -> Vec<usize> {
    let backend = Backend::start().await;
    let limits = format!("connections_per_user = 1\nuser_scope = \"{scope}\"");
    let mut setup = per_user(&backend, "");
    setup.path = "/a/{chat_id}".to_owned();
    setup.route.push_str(&format!("limits = {{ {} }}\n", limits.replace('\n', ", ")));
    let second = setup.route.clone();
    setup.more_routes =
        format!("[[route]]\npath = \"/b/{{chat_id}}\"\nupstream = \"chat\"\n{second}");
    let gateway = Gateway::start(&setup).await;
    let mut sessions = Vec::new();
    let mut evicted = Vec::new();
    for path in paths {
        let before = gateway.metric(EVICTIONS).await;
        let pair = Pair::of(client_of(&gateway, "ann").path(path), &backend).await;
        sessions.push(Some(pair));
        // Counted before the 101.
        if gateway.metric(EVICTIONS).await == before {
            continue;
        }
        let given_way = within("a session to give way", first_closed(&mut sessions)).await;
        sessions[given_way] = None;
        evicted.push(given_way);
    }
    for pair in sessions.iter_mut().flatten() {
        pair.round_trip().await;
    }
    evicted
}

/// The session whose client is the first to get a Close.
async fn first_closed(sessions: &mut [Option<Pair>]) -> usize {
    let closes = sessions.iter_mut().enumerate().filter_map(|(index, pair)| {
        let close = Box::pin(pair.as_mut()?.client.expect_close());
        Some((index, close))
    });
    let mut closes: Vec<_> = closes.collect();
    poll_fn(|cx| {
        for (index, close) in &mut closes {
            if close.as_mut().poll(cx).is_ready() {
                return Poll::Ready(*index);
            }
        }
        Poll::Pending
    })
    .await
}

#[tokio::test]
async fn a_users_sessions_are_counted_by_the_scope() {
    let paths = ["/a/1", "/b/1", "/a/2", "/b/2"];
    assert_eq!(evicted("route", &paths).await, [0, 1]);
    assert_eq!(evicted("all", &paths).await, [0, 1, 2]);
    assert_eq!(evicted("path.chat_id", &paths).await, [0, 2]);
}

#[tokio::test]
async fn a_backend_that_says_no_evicts_nobody() {
    let backend = Backend::start().await;
    let mut gateway = Gateway::start(&per_user(&backend, "connections_per_user = 1")).await;
    let mut holder = open_as("ann", &gateway, &backend).await;
    let no = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
    let refuse = async { backend.asked().await.answer(no).await };
    let (answered, ()) = tokio::join!(client_of(&gateway, "ann").connect(), refuse);
    assert_eq!(answered.status, 503);
    // Nor does one that is not there.
    drop(backend);
    assert_eq!(client_of(&gateway, "ann").connect().await.status, 502);
    gateway.access_lines("upstream_unreachable", 1).await;
    assert_eq!(gateway.metric(EVICTIONS).await, 0.0);
    holder.round_trip().await;
}

#[tokio::test]
async fn who_evicts_without_end_is_refused() {
    let backend = Backend::start().await;
    let mut gateway = Gateway::start(&per_user(&backend, "connections_per_user = 2")).await;
    let mut sessions: Vec<Pair> = Vec::new();
    // Two places, then three evictions for each, whose clients answer.
    for count in 0..2_usize + 6 {
        sessions.push(open_as("ann", &gateway, &backend).await);
        if let Some(evicted) = count.checked_sub(2) {
            let client = &mut sessions[evicted].client;
            assert_eq!(client.expect_close().await.0, Some(4409));
            client.send_close(4409, "").await;
            client.finish().await;
            gateway.access_lines("replaced", evicted + 1).await;
        }
    }
    for _ in 0..2 {
        assert_user_limit(&client_of(&gateway, "ann").connect().await);
    }
    gateway.access_lines("user_limit", 2).await;
    assert_eq!(gateway.metric(EVICTIONS).await, 6.0);
    for pair in &mut sessions[6..] {
        pair.round_trip().await;
    }
    open_as("ben", &gateway, &backend).await.round_trip().await;
}

#[tokio::test]
async fn who_comes_back_because_the_old_connection_is_dead_is_never_refused() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&per_user(&backend, "connections_per_user = 1")).await;
    // Their kernels take the Close, but no client answers it.
    let mut sessions = Vec::new();
    for _ in 0..12 {
        sessions.push(open_as("ann", &gateway, &backend).await);
    }
    sessions.last_mut().unwrap().round_trip().await;
    assert_eq!(gateway.metric(EVICTIONS).await, 11.0);
}

#[tokio::test]
async fn a_client_over_its_rate_is_not_read_and_the_other_direction_goes_on() {
    let backend = Backend::start().await;
    // The seventh frame would have to wait for an hour; a client that is not read owes no pong.
    let setup = open(&backend)
        .limits("messages = { rate = \"1/h\", burst = 6 }")
        .keepalive("client_ping = \"50ms\"\nclient_pong = \"50ms\"")
        .timeouts("idle = \"2s\"");
    let mut gateway = Gateway::start(&setup).await;
    let before = gateway.metrics().await;
    // Frames of any kind count. They come with the request: the client is paused from the beginning.
    let frames =
        [(0x01, b"1"), (0x00, b"2"), (PING, b"3"), (0x80, b"4"), (PONG, b"5"), (BINARY, b"6")];
    let within = frames.map(|(first, payload)| encode(first, payload, Some([1, 2, 3, 4]))).concat();
    let over = encode(TEXT, b"7", Some([1, 2, 3, 4])).repeat(3);
    let client = gateway.client().with_behind(&[&within[..], &over].concat());
    let mut pair = Pair::of(client, &backend).await;
    pair.upstream.expect_raw(&within).await;
    for _ in 0..20 {
        pair.upstream.send_text("goes on").await;
        pair.client.expect_text("goes on").await;
    }
    let paused = "framegate_messages_limited_total{action=\"pause\"}";
    gateway.wait_for_metric(paused, 1.0).await;
    assert_eq!(pair.client.expect_close().await, (Some(4408), "idle".to_owned()));
    assert_eq!(pair.upstream.expect_close().await, (Some(1001), "idle".to_owned()));
    drop(pair.upstream);
    pair.client.finish().await;
    let ended = Ended::new("idle", "gateway", "4408", "1001");
    gateway.expect_record(&pair.id, &before, &ended).await;
    assert_eq!(gateway.metric(paused).await, 1.0);
}

#[tokio::test]
async fn a_paused_client_is_read_again_and_nothing_is_lost() {
    let backend = Backend::start().await;
    let setup = open(&backend).limits("messages = { rate = \"50/s\", burst = 5 }");
    let gateway = Gateway::start(&setup).await;
    let mut pair = Pair::open(&gateway, &backend).await;
    let frames: Vec<u8> = (0..30)
        .flat_map(|n| encode(TEXT, format!("message {n}").as_bytes(), pair.client.mask))
        .collect();
    let began = Instant::now();
    tokio::join!(pair.client.send_raw(&frames), pair.upstream.expect_raw(&frames));
    // 25 frames at 50 a second.
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(450), "{took:?}");
    let paused = "framegate_messages_limited_total{action=\"pause\"}";
    assert!(gateway.metric(paused).await >= 1.0);
}

#[tokio::test]
async fn what_a_paused_client_has_sent_still_passes_after_the_upstreams_close() {
    let backend = Backend::start().await;
    // Nothing here may wait for the close timeout.
    let setup = Setup::open(&backend.url())
        .timeouts("close = \"1h\"")
        .limits("messages = { rate = \"20/s\", burst = 1 }");
    let mut gateway = Gateway::start(&setup).await;
    let before = gateway.metrics().await;
    let mut pair = Pair::open(&gateway, &backend).await;
    let texts = encode(TEXT, b"text", pair.client.mask).repeat(4);
    pair.client.send_raw(&texts).await;
    pair.upstream.expect_text("text").await;
    pair.upstream.send_close(1000, "").await;
    assert_eq!(pair.client.expect_close().await.0, Some(1000));
    pair.client.send_close(1000, "").await;
    for _ in 0..3 {
        pair.upstream.expect_text("text").await;
    }
    assert_eq!(pair.upstream.expect_close().await.0, Some(1000));
    pair.expect_fins().await;
    let ended = Ended::new("upstream_closed", "upstream", "1000", "1000");
    gateway.expect_record(&pair.id, &before, &ended).await;
}

/// A session whose `slow` end reads nothing while the other one sends without end.
async fn stalled(gateway: &Gateway, backend: &Backend, slow: Side) -> (Pair, Flooded) {
    let pair = Pair::of(gateway.client().with_little_room(), backend).await;
    let Pair { client, upstream, id } = pair;
    let (client, upstream, sent) = match slow {
        Side::Client => {
            let (upstream, sent) = upstream.flood(BINARY, &[b'x'; 1000]);
            (client, upstream, sent)
        }
        Side::Upstream => {
            let (client, sent) = client.flood(BINARY, &[b'x'; 1000]);
            (client, upstream, sent)
        }
    };
    (Pair { client, upstream, id }, sent)
}

type Flooded = std::sync::Arc<std::sync::atomic::AtomicU64>;

const PENDING: &str = "framegate_pending_bytes";

#[tokio::test]
async fn a_peer_that_stops_reading_is_given_up_and_holds_little_memory() {
    for slow in Side::BOTH {
        let backend = Backend::start_with_little_room();
        let setup = open(&backend).limits(NO_RATE).timeouts("write_stall = \"1s\"");
        let mut gateway = Gateway::start(&setup).await;
        let before = gateway.metrics().await;
        let (mut pair, sent) = stalled(&gateway, &backend, slow).await;
        within("held bytes", async {
            while gateway.metric(PENDING).await == 0.0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert!(gateway.metric(PENDING).await <= 65536.0);
        let (one, other) = slow.ends(&mut pair);
        let (label, code) = match slow {
            Side::Client => ("client_timeout", 1001),
            Side::Upstream => ("upstream_stalled", 1011),
        };
        assert_eq!(other.expect_close().await, (Some(code), label.to_owned()));
        // The sender was made to wait: what it got rid of are the sockets' buffers.
        let sent = sent.load(Ordering::Relaxed);
        assert!((100_000..64 << 20).contains(&sent), "{sent}");
        let resident = gateway.metric("process_resident_memory_bytes").await;
        assert!(resident < f64::from(128 << 20), "{resident}");
        // What there is no room for is not said: the slow side sees data, then RST.
        assert_eq!(one.end().await, End::Reset);
        let close = code.to_string();
        let ended = match slow {
            Side::Client => Ended::new(label, "gateway", "none", &close),
            Side::Upstream => Ended::new(label, "gateway", &close, "none"),
        };
        let id = pair.id.clone();
        drop(pair);
        gateway.expect_record(&id, &before, &ended).await;
        assert_eq!(gateway.metric(PENDING).await, 0.0);
    }
}

/// Waits until more is held than `held` and no more comes to it: in twenty turns of the gateway
/// nothing has changed. Or until a session has ended.
async fn stuck(gateway: &Gateway, held: f64, ends: &str) {
    let (mut last, mut turns) = (held, 0);
    while turns < 20 {
        let metrics = gateway.metrics().await;
        if metrics[ends] > 0.0 {
            return;
        }
        let now = metrics[PENDING];
        turns = if now == last && now > held { turns + 1 } else { 0 };
        last = now;
    }
}

#[tokio::test]
async fn when_memory_for_slow_readers_is_short_one_of_them_ends_and_the_others_lose_nothing() {
    let backend = Backend::start().await;
    let setup = open(&backend).limits(NO_RATE).limits("pending_bytes = \"128KiB\"");
    let mut gateway = Gateway::start(&setup).await;
    let ends = "framegate_endings_total{label=\"slow_consumer\",phase=\"relay\",route=\"/ws\"}";
    let mut sessions: Vec<Pair> = Vec::new();
    // Each holds at most 64 KiB; the next one begins when the one before is stuck.
    while gateway.metric(ends).await == 0.0 {
        let held = gateway.metric(PENDING).await;
        sessions.push(stalled(&gateway, &backend, Side::Client).await.0);
        within("a stalled session", stuck(&gateway, held, ends)).await;
        assert!(sessions.len() < 1000);
    }
    assert!(sessions.len() > 2, "{}", sessions.len());
    let ended = gateway.log().into_iter().find(|line| line["label"] == "slow_consumer");
    let ended = match ended {
        Some(line) => line,
        None => gateway.access_line("slow_consumer").await,
    };
    let found = ["by", "phase", "client_close", "upstream_close"].map(|name| &ended[name]);
    assert_eq!(found, ["gateway", "relay", "none", "1001"]);
    let (gone, mut others): (Vec<_>, Vec<_>) =
        sessions.into_iter().partition(|pair| ended["id"] == *pair.id);
    for mut pair in gone {
        assert_eq!(pair.upstream.expect_close().await, (Some(1001), "slow_consumer".to_owned()));
        assert_eq!(pair.client.end().await, End::Reset);
    }
    // The others live: who reads gets everything.
    let other = &mut others.last_mut().unwrap().client;
    for _ in 0..1000 {
        assert_eq!(other.frame().await.unwrap().payload, [b'x'; 1000]);
    }
}

#[tokio::test]
async fn paused_clients_give_way_too_when_memory_is_short() {
    let backend = Backend::start().await;
    let setup = open(&backend)
        .limits("messages = { rate = \"1/h\", burst = 1 }")
        .limits("pending_bytes = \"128KiB\"");
    let mut gateway = Gateway::start(&setup).await;
    // One read of it is kept for each.
    let flood = encode(BINARY, &[b'x'; 100], Some([1, 2, 3, 4])).repeat(600);
    let mut pairs = Vec::new();
    for _ in 0..5 {
        let mut pair = Pair::open(&gateway, &backend).await;
        pair.client.send_raw(&flood).await;
        pair.upstream.expect_raw(&flood[..106]).await;
        pairs.push(pair);
    }
    let line = gateway.access_line("message_rate").await;
    let ended = pairs.iter_mut().find(|pair| line["id"] == *pair.id).unwrap();
    assert_eq!(ended.upstream.expect_close().await.0, Some(1001));
    assert!(gateway.metric(PENDING).await <= 131_072.0);
    assert!(gateway.log().iter().filter(|line| line["label"] == "message_rate").count() < 5);
}

#[tokio::test]
async fn a_paused_client_that_has_left_is_noticed_and_gives_its_place_back() {
    let backend = Backend::start().await;
    // It would be read again after an hour.
    let limits = "messages = { rate = \"1/h\", burst = 1 }\nconnections_per_user = 1\nwhen_user_full = \"refuse\"";
    let mut gateway = Gateway::start(&per_user(&backend, limits)).await;
    let before = gateway.metrics().await;
    let mut old = open_as("ann", &gateway, &backend).await;
    let texts = encode(TEXT, b"text", old.client.mask).repeat(20);
    old.client.send_raw(&texts).await;
    old.upstream.expect_text("text").await;
    gateway.wait_for_metric("framegate_messages_limited_total{action=\"pause\"}", 1.0).await;
    drop(old.client);
    // It is asked for its place as soon as it is wanted.
    let mut new = open_as("ann", &gateway, &backend).await;
    new.upstream.send_text("there").await;
    new.client.expect_text("there").await;
    assert_eq!(old.upstream.expect_close().await.0, Some(1001));
    drop(old.upstream);
    let ended = Ended::new("client_lost", "client", "none", "1001");
    gateway.expect_record(&old.id, &before, &ended).await;
    // And without being asked.
    let texts = encode(TEXT, b"text", new.client.mask).repeat(20);
    new.client.send_raw(&texts).await;
    gateway.wait_for_metric("framegate_messages_limited_total{action=\"pause\"}", 2.0).await;
    drop(new.client);
    gateway.access_lines("client_lost", 2).await;
}

#[tokio::test]
async fn a_client_that_reads_again_gets_everything_that_waited() {
    let backend = Backend::start().await;
    let mut bytes = vec![0; 16 << 20];
    fastrand::fill(&mut bytes);
    let frame = encode(BINARY, &bytes, None);
    let gateway = Gateway::start(&open(&backend).keepalive(NO_PINGS)).await;
    let mut pair = Pair::of(gateway.client().with_little_room(), &backend).await;
    let read = async {
        // It begins to read when the gateway has something that waits.
        while gateway.metric(PENDING).await == 0.0 {
            tokio::task::yield_now().await;
        }
        pair.client.expect_raw(&frame).await;
    };
    tokio::join!(pair.upstream.send_raw(&frame), within("the frame", read));
    gateway.wait_for_metric(PENDING, 0.0).await;
}

/// Pings of the gateway to one side only.
fn pings(side: Side, interval: &str, pong: &str) -> String {
    let (one, other) = match side {
        Side::Client => ("client", "upstream"),
        Side::Upstream => ("upstream", "client"),
    };
    format!("{one}_ping = \"{interval}\"\n{one}_pong = \"{pong}\"\n{other}_ping = \"0\"")
}

#[tokio::test]
async fn the_gateways_own_pong_is_measured_and_goes_no_further() {
    let backend = Backend::start().await;
    for side in Side::BOTH {
        let setup = open(&backend).keepalive(&pings(side, "50ms", "1h"));
        let gateway = Gateway::start(&setup).await;
        let (mut markers, mut keys) = (Vec::new(), Vec::new());
        for _ in 0..2 {
            let mut pair = Pair::open(&gateway, &backend).await;
            let (one, other) = side.ends(&mut pair);
            for _ in 0..2 {
                let (payload, key) = own_ping(one, side).await;
                one.send(PONG, &payload).await;
                markers.push(payload);
                keys.push(key);
            }
            // Nor is a pong that only looks like it kept back.
            one.send(PONG, b"another").await;
            assert_eq!(other.frame().await.unwrap().payload, b"another");
        }
        assert_eq!(markers[0], markers[1]);
        assert_ne!(markers[0], markers[2]);
        keys.dedup();
        assert_eq!(keys.len(), if side == Side::Client { 1 } else { 4 });
        let count = format!("framegate_ping_rtt_seconds_count{{leg=\"{}\"}}", side.word());
        gateway.wait_for_metric(&count, 4.0).await;
    }
}

#[tokio::test]
async fn a_pong_that_repeats_ours_is_an_ordinary_one_and_all_count_against_the_rate() {
    let backend = Backend::start().await;
    let setup = open(&backend)
        .keepalive(&pings(Side::Client, "200ms", "1h"))
        .limits("messages = { rate = \"1/h\", burst = 3, over = \"close\" }");
    let mut gateway = Gateway::start(&setup).await;
    let mut pair = Pair::open(&gateway, &backend).await;
    let (payload, _) = own_ping(&mut pair.client, Side::Client).await;
    for _ in 0..4 {
        pair.client.send(PONG, &payload).await;
    }
    for _ in 0..2 {
        assert_eq!(pair.upstream.frame().await.unwrap().payload, payload);
    }
    assert_eq!(pair.client.until_close().await.unwrap().0, Some(4429));
    gateway.access_line("message_rate").await;
}

/// The next frame, a Ping of the gateway: payload and key.
async fn own_ping(wire: &mut Wire, to: Side) -> (Vec<u8>, Vec<u8>) {
    let key_len = if to == Side::Upstream { 4 } else { 0 };
    let head = wire.raw(2).await;
    assert_eq!(head, [PING, if key_len == 0 { 8 } else { 0x88 }]);
    let key = wire.raw(key_len).await;
    let mut payload = wire.raw(8).await;
    for (byte, key) in payload.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
    (payload, key)
}

#[tokio::test]
async fn any_frame_is_a_sign_of_life() {
    let backend = Backend::start().await;
    for side in Side::BOTH {
        let setup = open(&backend).keepalive(&pings(side, "50ms", "10s"));
        let gateway = Gateway::start(&setup).await;
        let mut pair = Pair::open(&gateway, &backend).await;
        let (one, other) = side.ends(&mut pair);
        // Each silence is a new question, although no Ping is ever answered by a Pong.
        for _ in 0..5 {
            own_ping(one, side).await;
            one.send_text("no pong").await;
            other.expect_text("no pong").await;
        }
    }
}

#[tokio::test]
async fn an_unanswered_ping_of_the_other_end_stands_in_for_the_gateways() {
    let backend = Backend::start().await;
    for side in Side::BOTH {
        let setup = open(&backend).keepalive(&pings(side, "2s", "200ms"));
        let mut gateway = Gateway::start(&setup).await;
        let mut pair = Pair::open(&gateway, &backend).await;
        let (one, other) = side.ends(&mut pair);
        other.send(PING, b"of the other end").await;
        assert_eq!(one.frame().await.unwrap().payload, b"of the other end");
        // No Ping of the gateway comes between, and its silence has the same end.
        let (label, code) = match side {
            Side::Client => ("client_timeout", 4408),
            Side::Upstream => ("upstream_stalled", 1001),
        };
        assert_eq!(one.expect_close().await, (Some(code), label.to_owned()));
        assert_eq!(one.end().await, End::Reset);
        other.expect_close().await;
        drop(pair.upstream);
        drop(pair.client);
        let line = gateway.line_of(&pair.id).await;
        assert_eq!(line["label"], label);
        assert_eq!(line["detail"], format!("the {} answered no ping", side.word()));
    }
}
