//! Connections that carry several requests: each is decided by itself, counts by itself, and a
//! connection that waits takes nothing from others.

use crate::support::client::answered;
use crate::support::{Backend, Client, Gateway, Setup, Wire};

const CONNECTIONS: &str = "framegate_connections{listener=\"127.0.0.1:0\"}";
const HEALTH: &str = "GET /.framegate/health HTTP/1.1\r\nHost: balancer\r\n\r\n";

/// A gateway in front of an echoing backend.
async fn gateway(limits: &str, listener: &str) -> Gateway {
    Gateway::start(&setup(limits, listener).await).await
}

async fn setup(limits: &str, listener: &str) -> Setup {
    let backend = Backend::start().await.echo();
    Setup::open(&format!("http://{backend}"))
        .limits(limits)
        .listener(listener)
        .timeouts("close = \"300ms\"")
}

async fn wire(client: &Client) -> Wire {
    Wire::new(client.tcp().await, Some([1, 2, 3, 4]))
}

/// Asks for the gateway's health; whether the connection stays open.
async fn health(wire: &mut Wire) -> bool {
    wire.send_raw(HEALTH.as_bytes()).await;
    healthy(wire).await
}

async fn healthy(wire: &mut Wire) -> bool {
    let head = wire.head().await.expect("an answer");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert_eq!(wire.raw(3).await, b"ok\n");
    !head.to_lowercase().contains("connection: close")
}

/// Becomes a session on the connection that has carried other requests.
async fn upgrade(mut wire: Wire, client: &Client) -> Wire {
    wire.send_raw(client.request().as_bytes()).await;
    let answered = answered(wire).await;
    assert_eq!(answered.status, 101, "{}", answered.head);
    let mut session = answered.wire;
    session.send_text("hello").await;
    session.expect_text("hello").await;
    session
}

#[tokio::test]
async fn requests_follow_one_another_and_the_last_may_become_a_session() {
    let mut gateway = gateway("", "").await;
    let client = gateway.client();
    let mut wire = wire(&client).await;
    assert!(health(&mut wire).await);
    // Pipelined: answered in their order.
    wire.send_raw(HEALTH.repeat(3).as_bytes()).await;
    for _ in 0..3 {
        assert!(healthy(&mut wire).await);
    }
    let mut session = upgrade(wire, &client).await;
    session.send_close(1000, "").await;
    assert_eq!(session.expect_close().await.0, Some(1000));
    let line = gateway.access_line("client_closed").await;
    // Neither TLS nor accept was this request's.
    assert!(line.get("accept_ms").is_none_or(serde_json::Value::is_null), "{line}");
}

#[tokio::test]
async fn the_101_spells_its_names_as_the_rfc_does_on_every_request() {
    let gateway = gateway("", "").await;
    let client = gateway.client();
    let spelled = |head: &str| {
        for name in ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Accept: "] {
            assert!(head.contains(&format!("\r\n{name}")), "{head}");
        }
    };
    spelled(&gateway.client().connect().await.head);
    let mut kept = wire(&client).await;
    assert!(health(&mut kept).await);
    kept.send_raw(client.request().as_bytes()).await;
    spelled(&answered(kept).await.head);
    // A refusal by Close begins with a 101, too.
    let refused = gateway.client().path("/none").origin("https://chat.example.com");
    let refused = refused.connect().await;
    assert_eq!(refused.status, 101);
    spelled(&refused.head);
}

#[tokio::test]
async fn frames_right_behind_a_later_request_are_not_lost() {
    let gateway = gateway("", "").await;
    let client = gateway.client();
    let mut wire = wire(&client).await;
    assert!(health(&mut wire).await);
    let hello = crate::support::wire::encode(0x81, b"early", Some([1, 2, 3, 4]));
    wire.send_raw(&[HEALTH.as_bytes(), client.request().as_bytes(), &hello].concat()).await;
    assert!(healthy(&mut wire).await);
    let mut answered = answered(wire).await;
    assert_eq!(answered.status, 101, "{}", answered.head);
    answered.wire.expect_text("early").await;
}

#[tokio::test]
async fn each_request_meets_the_configuration_in_force() {
    let before = setup("", "").await;
    let mut gateway = Gateway::start(&before).await;
    let client = gateway.client();
    let mut kept = wire(&client).await;
    assert!(health(&mut kept).await);
    gateway.reload(&Setup { path: "/new".to_owned(), ..before }).await;
    let session = upgrade(kept, &gateway.client().path("/new")).await;
    drop(session);
    assert_eq!(gateway.client().connect().await.status, 404);
}

#[tokio::test]
async fn a_refused_handshake_ends_the_connection() {
    let mut gateway = gateway("", "").await;
    let client = gateway.client().path("/none");
    let mut wire = wire(&client).await;
    assert!(health(&mut wire).await);
    wire.send_raw(format!("{}{HEALTH}", client.request()).as_bytes()).await;
    let mut refused = answered(wire).await;
    assert_eq!(refused.status, 404, "{}", refused.head);
    assert_eq!(refused.header("connection").as_deref(), Some("close"));
    let rest = refused.wire.rest().await;
    assert!(!rest.contains("ok\n"), "{rest}");
    gateway.access_line("no_route").await;
}

#[tokio::test]
async fn the_number_of_requests_is_limited() {
    let gateway = gateway("", "http = { requests = 2 }").await;
    let mut wire = wire(&gateway.client()).await;
    wire.send_raw(HEALTH.repeat(3).as_bytes()).await;
    assert!(healthy(&mut wire).await);
    assert!(!healthy(&mut wire).await);
    wire.expect_end().await;
}

#[tokio::test]
async fn without_keep_alive_each_answer_is_the_last() {
    let gateway = gateway("", "http = { keep_alive = \"0s\" }").await;
    let mut wire = wire(&gateway.client()).await;
    wire.send_raw(HEALTH.repeat(2).as_bytes()).await;
    assert!(!healthy(&mut wire).await);
    wire.expect_end().await;
}

#[tokio::test]
async fn a_client_that_says_close_is_answered_and_closed() {
    let gateway = gateway("", "").await;
    for request in [
        "GET /.framegate/health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "GET /.framegate/health HTTP/1.0\r\nHost: a\r\n\r\n",
    ] {
        let mut wire = gateway.client().raw(request.as_bytes()).await;
        let head = wire.head().await.expect("an answer");
        assert!(head.contains(" 200 OK"), "{head}");
        assert_eq!(wire.rest().await, "ok\n");
    }
}

#[tokio::test]
async fn every_further_request_takes_from_the_rate_of_its_address() {
    let gateway = gateway("handshakes_per_address = { rate = \"1/h\", burst = 3 }", "").await;
    let client = gateway.client();
    let mut wire = wire(&client).await;
    for _ in 0..3 {
        assert!(health(&mut wire).await);
    }
    wire.send_raw(client.request().as_bytes()).await;
    let mut refused = answered(wire).await;
    assert_eq!(refused.status, 429, "{}", refused.head);
    assert!(refused.wire.rest().await.starts_with("rate_limited: "));
    // A question counts as a handshake does.
    let gateway = gateway2().await;
    let mut wire = self::wire(&gateway.client()).await;
    assert!(health(&mut wire).await);
    wire.send_raw(HEALTH.as_bytes()).await;
    assert_eq!(answered(wire).await.status, 429);
}

async fn gateway2() -> Gateway {
    gateway("handshakes_per_address = { rate = \"1/h\", burst = 1 }", "").await
}

#[tokio::test]
async fn behind_a_trusted_proxy_each_request_counts_for_its_own_client() {
    let limits =
        "connections_per_address = 1\nhandshakes_per_address = { rate = \"1/h\", burst = 2 }";
    let gateway = gateway(limits, "trusted_proxies = [\"127.0.0.1\"]").await;
    let of = |client: &str| {
        let forwarded = format!("X-Forwarded-For: {client}\r\n\r\n");
        HEALTH.replacen("\r\n\r\n", &format!("\r\n{forwarded}"), 1)
    };
    let mut proxy = wire(&gateway.client()).await;
    // The proxy's own questions are its health checks, and free.
    for _ in 0..5 {
        assert!(health(&mut proxy).await);
    }
    for client in ["192.0.2.1", "192.0.2.2", "192.0.2.1"] {
        proxy.send_raw(of(client).as_bytes()).await;
        assert!(healthy(&mut proxy).await);
    }
    // Its client's rate is used up; another client's is not.
    proxy.send_raw(of("192.0.2.1").as_bytes()).await;
    assert_eq!(answered(proxy).await.status, 429);
    let client = gateway.client().header("X-Forwarded-For", "192.0.2.2");
    let kept = wire(&client).await;
    let _session = upgrade(kept, &client).await;
}

#[tokio::test]
async fn a_connection_that_waits_gives_its_place_to_one_that_comes() {
    let gateway = gateway("connections = 2", "").await;
    let client = gateway.client();
    let mut oldest = wire(&client).await;
    assert!(health(&mut oldest).await);
    let mut other = wire(&client).await;
    assert!(health(&mut other).await);
    let first = upgrade(wire(&client).await, &client).await;
    oldest.expect_end().await;
    // The other has its place still, and uses it.
    assert!(health(&mut other).await);
    let second = upgrade(wire(&client).await, &client).await;
    other.expect_end().await;
    // Sessions give way to no one.
    let full = gateway.client().connect().await;
    assert_eq!(full.status, 503, "{}", full.head);
    drop((first, second, full));
    gateway.wait_for_metric(CONNECTIONS, 0.0).await;
}

#[tokio::test]
async fn a_connection_that_waits_too_long_is_closed_and_is_no_event() {
    let mut gateway = gateway("", "http = { keep_alive = \"50ms\" }").await;
    let mut wire = wire(&gateway.client()).await;
    assert!(health(&mut wire).await);
    wire.expect_end().await;
    drop(wire);
    gateway.wait_for_metric(CONNECTIONS, 0.0).await;
    // Lines are written in order: what comes after it is the first.
    assert_eq!(gateway.client().path("/none").connect().await.status, 404);
    gateway.access_line("no_route").await;
    let lines = gateway.log().into_iter().filter(|line| line["type"] == "access").count();
    assert_eq!(lines, 1);
}

#[tokio::test]
async fn a_further_head_has_the_time_of_a_head_and_not_that_of_waiting() {
    let backend = Backend::start().await.echo();
    let setup = Setup::open(&format!("http://{backend}"))
        .listener("http = { keep_alive = \"1h\" }")
        .timeouts("request_head = \"100ms\"");
    let mut gateway = Gateway::start(&setup).await;
    let mut wire = wire(&gateway.client()).await;
    assert!(health(&mut wire).await);
    wire.send_raw(b"GET /.framegate/hea").await;
    wire.expect_end().await;
    let line = gateway.no_request_line("the request head took too long").await;
    assert_eq!(line["phase"], "request");
}

#[tokio::test]
async fn a_drain_ends_connections_that_wait() {
    let setup = setup("", "http = { keep_alive = \"1h\" }").await;
    let mut gateway = Gateway::start(&setup).await;
    let mut wire = wire(&gateway.client()).await;
    assert!(health(&mut wire).await);
    gateway.signal("TERM");
    wire.expect_end().await;
    let status = crate::support::within("the end", gateway.ended()).await;
    assert!(status.success());
}

#[tokio::test]
async fn a_slow_reader_of_answers_holds_up_only_itself() {
    let gateway = gateway(
        "handshakes_per_address = { rate = \"0/s\" }",
        "doctor = true\nhttp = { requests = 100000 }",
    )
    .await;
    let client = gateway.client().with_little_room();
    let mut slow = wire(&client).await;
    // More pages than the kernel holds for a reader that does not read.
    let page = "GET /.framegate/doctor HTTP/1.1\r\nHost: a\r\n\r\n".repeat(200);
    slow.send_raw(page.as_bytes()).await;
    assert!(health(&mut wire(&gateway.client()).await).await);
    for _ in 0..200 {
        let head = slow.head().await.expect("an answer");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        assert_eq!(slow.raw(length.parse().unwrap()).await.len(), length.parse::<usize>().unwrap());
    }
    assert!(health(&mut slow).await);
}
