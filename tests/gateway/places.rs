//! Places: in the process, per address, and the rate of handshakes; and how it is told that there is
//! none.

use serde_json::Value;

use crate::support::client::{Answered, answered};
use crate::support::{Authority, Backend, Client, Gateway, Setup, Wire};

const CONNECTIONS: &str = "framegate_connections{listener=\"127.0.0.1:0\"}";

/// An echoing backend behind these limits.
async fn limited(limits: &str, route: &str, listener: &str) -> Gateway {
    Gateway::start(&echoing().await.limits(limits).route(route).listener(listener)).await
}

async fn echoing() -> Setup {
    let backend = Backend::start().await.echo();
    Setup::open(&format!("http://{backend}"))
        .timeouts("close = \"300ms\"\ntls_handshake = \"1h\"\nrequest_head = \"1h\"")
}

/// Ends a session whose backend echoes.
async fn leave(mut client: Wire) {
    client.send_close(1000, "").await;
    assert_eq!(client.expect_close().await.0, Some(1000));
    client.expect_end().await;
}

/// The answer is this refusal by HTTP, and the connection ends.
async fn expect_refused(mut answered: Answered, status: u16, label: &str) {
    assert_eq!(answered.status, status, "{}", answered.head);
    let wait: u64 = answered.header("retry-after").expect("Retry-After").parse().unwrap();
    assert!((1..=3600).contains(&wait), "{wait}");
    assert_eq!(answered.header("connection").as_deref(), Some("close"));
    let body = answered.wire.rest().await;
    assert!(body.starts_with(&format!("{label}: ")), "{body}");
}

/// The handshake is completed, and then this is all that is said.
async fn expect_closed(answered: Answered, code: u16, label: &str) {
    assert_eq!(answered.status, 101, "{}", answered.head);
    let mut wire = answered.wire;
    assert_eq!(wire.expect_close().await, (Some(code), label.to_owned()));
    wire.expect_fin().await;
}

fn refused(label: &str) -> String {
    format!("framegate_handshakes_total{{result=\"{label}\",route=\"/ws\"}}")
}

#[tokio::test]
async fn past_the_connections_it_is_503_until_one_ends() {
    let mut gateway = limited("connections = 1", "", "").await;
    let first = gateway.client().session().await;
    // A browser is told by HTTP too: an accepted socket is dearer than this.
    for client in [gateway.client(), gateway.client().origin("https://chat.example.com")] {
        expect_refused(client.connect().await, 503, "overloaded").await;
        gateway.wait_for_metric(CONNECTIONS, 1.0).await;
    }
    for line in gateway.access_lines("overloaded", 2).await {
        assert_eq!((&line["status"], &line["by"]), (&503.into(), &"gateway".into()));
        assert_eq!((&line["phase"], &line["route"]), (&"admission".into(), &"/ws".into()));
        assert_eq!(line["client_close"], "none");
    }
    assert_eq!(gateway.metric(&refused("overloaded")).await, 2.0);
    assert_eq!(gateway.metric("framegate_limit_connections").await, 1.0);
    leave(first).await;
    gateway.wait_for_metric(CONNECTIONS, 0.0).await;
    leave(gateway.client().session().await).await;
}

#[tokio::test]
async fn a_route_that_refuses_by_close_says_1013() {
    let mut gateway = limited("connections = 1", "refuse = \"close\"", "").await;
    let _first = gateway.client().session().await;
    expect_closed(gateway.client().connect().await, 1013, "overloaded").await;
    let line = gateway.access_line("overloaded").await;
    assert_eq!((&line["status"], &line["client_close"]), (&101.into(), &"1013".into()));
    let series = "framegate_closes_total{by=\"gateway\",code=\"1013\",route=\"/ws\"}";
    assert_eq!(gateway.metric(series).await, 1.0);
    gateway.wait_for_metric(CONNECTIONS, 1.0).await;
    // Where there is no route, nobody has said how.
    expect_refused(gateway.client().path("/none").connect().await, 503, "overloaded").await;
}

#[tokio::test]
async fn through_tls_it_is_told_too() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let certificate = authority.sign(&["chat.example.com"]).write(folder.path(), "chat");
    let tls = format!("[listener.tls]\ncertificates = [{certificate}]");
    let setup = echoing().await.limits("connections = 1").listener(&tls);
    let gateway = Gateway::start_in(folder, &setup).await;
    let connect = async || {
        let client = authority.client();
        let stream = client.connect(gateway.addresses[0], "chat.example.com").await.unwrap();
        answered(gateway.client().ask_over(stream).await).await
    };
    let first = connect().await;
    assert_eq!(first.status, 101);
    expect_refused(connect().await, 503, "overloaded").await;
}

#[tokio::test]
async fn past_the_reserve_for_refusals_a_socket_is_closed_at_once() {
    // One connection, and a reserve of one.
    let gateway = limited("connections = 1", "", "").await;
    let first = gateway.client().session().await;
    let silent = gateway.client().tcp().await;
    gateway.wait_for_metric(CONNECTIONS, 2.0).await;
    let dropped = "framegate_handshakes_total{result=\"dropped\",route=\"none\"}";
    assert_eq!(gateway.metric(dropped).await, 0.0);
    for count in 1..=3 {
        let mut wire = Wire::new(gateway.client().tcp().await, None);
        wire.expect_end().await;
        gateway.wait_for_metric(dropped, f64::from(count)).await;
    }
    // What was dropped holds nothing.
    assert_eq!(gateway.metric(CONNECTIONS).await, 2.0);
    drop(silent);
    gateway.wait_for_metric(CONNECTIONS, 1.0).await;
    expect_refused(gateway.client().connect().await, 503, "overloaded").await;
    leave(first).await;
    assert_eq!(gateway.metric(dropped).await, 3.0);
}

#[tokio::test]
async fn the_reserve_is_a_twentieth_of_the_connections() {
    let gateway = limited("connections = 40", "", "").await;
    let mut silent = Vec::new();
    for count in 1..=42 {
        silent.push(gateway.client().tcp().await);
        gateway.wait_for_metric(CONNECTIONS, f64::from(count)).await;
    }
    let mut wire = Wire::new(gateway.client().tcp().await, None);
    wire.expect_end().await;
    gateway
        .wait_for_metric("framegate_handshakes_total{result=\"dropped\",route=\"none\"}", 1.0)
        .await;
}

#[tokio::test]
async fn an_address_has_so_many_connections() {
    let mut gateway = limited("connections_per_address = 1", "", "").await;
    let first = gateway.client().session().await;
    expect_refused(gateway.client().connect().await, 429, "address_limit").await;
    // Forwarding headers of a stranger change nothing.
    let forged = gateway.client().header("X-Forwarded-For", "203.0.113.7");
    expect_refused(forged.connect().await, 429, "address_limit").await;
    leave(gateway.client().from("127.0.0.2").session().await).await;
    for line in gateway.access_lines("address_limit", 2).await {
        assert_eq!((&line["status"], &line["by"]), (&429.into(), &"gateway".into()));
        assert_eq!(line["phase"], "admission");
    }
    assert_eq!(gateway.metric(&refused("address_limit")).await, 2.0);
    leave(first).await;
    gateway.wait_for_metric(CONNECTIONS, 0.0).await;
    leave(gateway.client().session().await).await;
}

#[tokio::test]
async fn an_address_connects_so_often() {
    let limits = "handshakes_per_address = { rate = \"1/h\", burst = 2 }";
    let mut gateway = limited(limits, "", "").await;
    for _ in 0..2 {
        leave(gateway.client().session().await).await;
    }
    let third = gateway.client().connect().await;
    let wait: u64 = third.header("retry-after").unwrap().parse().unwrap();
    assert!((3500..=3600).contains(&wait), "an hour for one: {wait}");
    expect_refused(third, 429, "rate_limited").await;
    let line = gateway.access_line("rate_limited").await;
    assert_eq!((&line["status"], &line["phase"]), (&429.into(), &"admission".into()));
    assert_eq!(gateway.metric(&refused("rate_limited")).await, 1.0);
    leave(gateway.client().from("127.0.0.2").session().await).await;
}

#[tokio::test]
async fn a_route_that_refuses_by_close_says_4429() {
    let limits =
        "connections_per_address = 1\nhandshakes_per_address = { rate = \"1/h\", burst = 2 }";
    let mut gateway = limited(limits, "refuse = \"close\"", "").await;
    let _first = gateway.client().session().await;
    for label in ["address_limit", "rate_limited"] {
        expect_closed(gateway.client().connect().await, 4429, label).await;
        let line = gateway.access_line(label).await;
        assert_eq!((&line["status"], &line["client_close"]), (&101.into(), &"4429".into()));
        gateway.wait_for_metric(CONNECTIONS, 1.0).await;
    }
}

/// Sorted, as connections that end at the same time are logged in any order.
fn clients_of(lines: &[Value]) -> Vec<&str> {
    let mut clients: Vec<_> = lines.iter().map(|line| line["client"].as_str().unwrap()).collect();
    clients.sort_unstable();
    clients
}

/// A client of a trusted proxy.
fn behind_proxy(gateway: &Gateway, address: &str) -> Client {
    gateway.client().header("X-Forwarded-For", address)
}

#[tokio::test]
async fn behind_a_trusted_proxy_the_forwarded_address_counts() {
    let trusted = "trusted_proxies = [\"127.0.0.1\"]";
    let mut gateway = limited("connections_per_address = 1", "", trusted).await;
    let rows = [
        ("203.0.113.7", true),
        ("203.0.113.7", false),
        ("6.6.6.6, 203.0.113.7", false),
        ("::ffff:203.0.113.7", false),
        ("203.0.113.8", true),
        // A /64 is one client.
        ("2001:db8::1", true),
        ("2001:db8::ffff:ffff", false),
        ("2001:db8:0:1::1", true),
    ];
    let mut sessions = Vec::new();
    for (chain, is_admitted) in rows {
        let answered = behind_proxy(&gateway, chain).connect().await;
        if is_admitted {
            assert_eq!(answered.status, 101, "{chain}: {}", answered.head);
            sessions.push(answered.wire);
        } else {
            expect_refused(answered, 429, "address_limit").await;
        }
    }
    let lines = gateway.access_lines("address_limit", 4).await;
    let seven = "203.0.113.7:0";
    assert_eq!(clients_of(&lines), [seven, seven, seven, "[2001:db8::ffff:ffff]:0"]);
    assert!(lines.iter().all(|line| line["via"].as_str().unwrap().starts_with("127.0.0.1:")));
    for session in sessions {
        leave(session).await;
    }
    gateway.wait_for_metric(CONNECTIONS, 0.0).await;
    leave(behind_proxy(&gateway, "203.0.113.7").session().await).await;
}

#[tokio::test]
async fn behind_a_trusted_proxy_the_rate_is_the_forwarded_address_s() {
    let limits = "handshakes_per_address = { rate = \"1/h\", burst = 1 }";
    let gateway = limited(limits, "", "trusted_proxies = [\"127.0.0.1\"]").await;
    for (address, status) in
        [("203.0.113.7", 101), ("203.0.113.7", 429), ("203.0.113.8", 101), ("203.0.113.8", 429)]
    {
        let answered = behind_proxy(&gateway, address).connect().await;
        assert_eq!(answered.status, status, "{address}");
    }
}

#[tokio::test]
async fn behind_a_proxy_header_a_silent_client_takes_no_more_places_than_its_own() {
    let listener = "proxy_protocol = true\ntrusted_proxies = [\"127.0.0.1\"]";
    let gateway = limited("connections = 20\nconnections_per_address = 2", "", listener).await;
    let mut silent = Vec::new();
    for _ in 0..30 {
        silent.push(gateway.client().raw(b"PROXY TCP4 203.0.113.7 192.0.2.1 1 443\r\n").await);
    }
    // Two have places, and one more is only refused.
    gateway.wait_for_metric(CONNECTIONS, 3.0).await;
    // However many it has opened: another client is served.
    let header = b"PROXY TCP4 203.0.113.8 192.0.2.1 1 443\r\n";
    let other = gateway.client().with_before(header).connect().await;
    assert_eq!(other.status, 101, "{}", other.head);
}

#[tokio::test]
async fn behind_a_proxy_header_its_client_is_held_to_account() {
    let listener = "proxy_protocol = true\ntrusted_proxies = [\"127.0.0.1\"]";
    let mut gateway = limited("connections_per_address = 1", "", listener).await;
    let rows = [
        ("TCP4 203.0.113.7 192.0.2.1", true),
        ("TCP4 203.0.113.7 192.0.2.1", false),
        ("TCP6 2001:db8::1 2001:db8:ffff::1", true),
        ("TCP6 2001:db8::2 2001:db8:ffff::1", false),
        ("TCP6 2001:db8:1::1 2001:db8:ffff::1", true),
    ];
    let mut sessions = Vec::new();
    for (addresses, is_admitted) in rows {
        let header = format!("PROXY {addresses} 4711 443\r\n");
        let answered = gateway.client().with_before(header.as_bytes()).connect().await;
        if is_admitted {
            assert_eq!(answered.status, 101, "{addresses}: {}", answered.head);
            sessions.push(answered.wire);
        } else {
            expect_refused(answered, 429, "address_limit").await;
        }
    }
    let lines = gateway.access_lines("address_limit", 2).await;
    assert_eq!(clients_of(&lines), ["203.0.113.7:4711", "[2001:db8::2]:4711"]);
}
