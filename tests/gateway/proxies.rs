//! Proxies in front: the PROXY header, X-Forwarded-For, and whom the gateway believes.

use std::time::Duration;

use serde_json::Value;

use crate::support::backend::header;
use crate::support::client::answered;
use crate::support::{Authority, Backend, Client, Gateway, Setup, Wire};

/// A listener that wants a PROXY header from these.
fn proxied(endpoint: &str, trusted: &str) -> Setup {
    let timeouts = "close = \"300ms\"";
    Setup::open(endpoint)
        .timeouts(timeouts)
        .listener("proxy_protocol = true")
        .listener(&format!("trusted_proxies = [{trusted}]"))
}

/// A PROXY header of version 2: command, family and transport, addresses and TLVs.
fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([0x20 | command, family]);
    header.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    header.extend(body);
    header
}

/// Source, destination, ports 4711 and 443.
fn v2_body(source: &[u8], destination: &[u8], behind: &[u8]) -> Vec<u8> {
    [source, destination, &4711u16.to_be_bytes(), &443u16.to_be_bytes(), behind].concat()
}

/// Connects so, is refused by the backend at once: the request head as the backend saw it, and the
/// access-log line.
async fn pass(gateway: &mut Gateway, backend: &Backend, client: Client) -> (String, Value) {
    let (_wire, asked) = tokio::join!(client.ask(), backend.asked());
    let (head, id) = (asked.head.clone(), asked.header("x-request-id").unwrap());
    asked.answer("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").await;
    (head, gateway.line_of(&id).await)
}

#[tokio::test]
async fn the_proxy_header_tells_who_the_client_is() {
    let backend = Backend::start().await;
    let mut gateway = Gateway::start(&proxied(&backend.url(), "\"127.0.0.1\"")).await;
    let (four, six) = ([203, 0, 113, 7], [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
    let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 203, 0, 113, 7];
    let tlv = [4, 0, 3, 1, 2, 3];
    let rows: Vec<(Vec<u8>, Option<&str>)> = vec![
        (b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\n".to_vec(), Some("203.0.113.7:4711")),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n".to_vec(), Some("[2001:db8::7]:4711")),
        (b"PROXY UNKNOWN\r\n".to_vec(), None),
        (v2(1, 0x11, &v2_body(&four, &four, b"")), Some("203.0.113.7:4711")),
        (v2(1, 0x11, &v2_body(&four, &four, &tlv)), Some("203.0.113.7:4711")),
        (v2(1, 0x21, &v2_body(&six, &six, b"")), Some("[2001:db8::7]:4711")),
        (v2(1, 0x21, &v2_body(&mapped, &mapped, b"")), Some("203.0.113.7:4711")),
        (v2(0, 0, b""), None),
        (v2(1, 0, b""), None),
    ];
    for (bytes, expected) in rows {
        let client = gateway.client().with_before(&bytes);
        let (head, line) = pass(&mut gateway, &backend, client).await;
        let forwarded = header(&head, "x-forwarded-for").unwrap();
        match expected {
            Some(client) => {
                assert_eq!(line["client"], client, "{bytes:?}");
                assert!(line["via"].as_str().unwrap().starts_with("127.0.0.1:"), "{line:#}");
                let address: std::net::SocketAddr = client.parse().unwrap();
                assert_eq!(forwarded, address.ip().to_string(), "{bytes:?}");
            }
            None => {
                assert!(line["client"].as_str().unwrap().starts_with("127.0.0.1:"), "{line:#}");
                assert_eq!(line["via"], Value::Null);
                assert_eq!(forwarded, "127.0.0.1", "{bytes:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_proxy_header_from_anybody_else_ends_the_connection() {
    let backend = Backend::start().await;
    let mut gateway = Gateway::start(&proxied(&backend.url(), "\"127.0.0.2/31\"")).await;
    let header = b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\n";
    let client = gateway.client().with_before(header);
    for before in [&header[..], b""] {
        // The request may meet a reset, so it is not sent with a check.
        let mut wire = Wire::new(gateway.client().with_before(before).tcp().await, None);
        assert!(wire.drip_until_end(before, Duration::from_millis(10)).await.is_empty());
    }
    let reason = "a PROXY header is required, and only from trusted_proxies";
    let line = gateway.no_request_line(reason).await;
    assert_eq!((&line["phase"], &line["by"]), (&"accept".into(), &"client".into()));
    assert!(
        line["client"].as_str().unwrap().starts_with("127.0.0.1:"),
        "its claim is not believed"
    );
    let series = "framegate_endings_total{label=\"client_lost\",phase=\"accept\",route=\"none\"}";
    gateway.wait_for_metric(series, 2.0).await;
    let (_, line) = pass(&mut gateway, &backend, client.from("127.0.0.3")).await;
    assert_eq!(line["client"], "203.0.113.7:4711");
}

#[tokio::test]
async fn what_is_no_proxy_header_is_closed_and_said_so() {
    let mut gateway = Gateway::start(&proxied("http://127.0.0.1:9", "\"127.0.0.1\"")).await;
    let request = gateway.client().request();
    let rows: [(&[u8], &str); 5] = [
        (request.as_bytes(), "the connection does not begin with a PROXY header"),
        (b"PROXY UDP4 203.0.113.7 192.0.2.1 1 2\r\n", "the PROXY v1 line names a protocol"),
        (b"PROXY TCP4 2001:db8::7 192.0.2.1 1 2\r\n", "the PROXY v1 line has an address"),
        (&v2(1, 0x99, b""), "the PROXY v2 header has the unknown address family"),
        (b"\x16\x03\x01", "the connection does not begin with a PROXY header"),
    ];
    for (bytes, expected) in rows {
        let mut wire = Wire::new(gateway.client().tcp().await, None);
        wire.send_raw(bytes).await;
        assert!(!wire.fill().await, "an answer to {bytes:?}: {:?}", wire.buffer);
        let reason = format!("not a valid PROXY header: {expected}");
        assert_eq!(gateway.no_request_line(&reason).await["phase"], "accept");
    }
    drop(gateway.client().tcp().await);
    let line = gateway.no_request_line("closed within the PROXY header").await;
    assert_eq!(line["by"], "client");
}

#[tokio::test]
async fn a_header_in_pieces_is_read_and_one_that_never_ends_is_not_waited_for() {
    let backend = Backend::start().await;
    let setup = proxied(&backend.url(), "\"127.0.0.1\"").timeouts("tls_handshake = \"2s\"");
    let mut gateway = Gateway::start(&setup).await;
    let mut wire = Wire::new(gateway.client().tcp().await, None);
    for byte in b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\n" {
        wire.send_raw(&[*byte]).await;
    }
    wire.send_raw(gateway.client().request().as_bytes()).await;
    assert_eq!(backend.asked().await.header("x-forwarded-for").as_deref(), Some("203.0.113.7"));
    let zeros = vec![0; 4000];
    let endless = v2(1, 0x11, &zeros);
    let drip = async |dripped: &[u8]| {
        let mut wire = Wire::new(gateway.client().tcp().await, None);
        wire.drip_until_end(dripped, Duration::from_millis(200)).await
    };
    let half = b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 4";
    let (nothing, half, endless) = tokio::join!(drip(b""), drip(half), drip(&endless));
    assert_eq!([nothing, half, endless], [b""; 3]);
    let reason = "the PROXY header took too long";
    let is_late = |line: &Value| line["detail"] == reason;
    gateway.wait_for_log(reason, |log| log.iter().filter(|l| is_late(l)).count() == 3).await;
    for line in gateway.log().iter().filter(|line| is_late(line)) {
        assert_eq!((&line["phase"], &line["by"]), (&"accept".into(), &"gateway".into()));
    }
}

#[tokio::test]
async fn behind_the_proxy_header_comes_tls() {
    let (authority, backend) = (Authority::new(), Backend::start().await);
    let folder = tempfile::tempdir().unwrap();
    let certificate = authority.sign(&["chat.example.com"]).write(folder.path(), "chat");
    let setup = proxied(&backend.url(), "\"127.0.0.1\"")
        .timeouts("tls_handshake = \"2s\"\nrequest_head = \"1h\"")
        .listener(&format!("[listener.tls]\ncertificates = [{certificate}]"));
    let mut gateway = Gateway::start_in(folder, &setup).await;
    let connector = authority.client().connector();
    let header = b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\n";
    let mut tcp = gateway.client().tcp().await;
    tokio::io::AsyncWriteExt::write_all(&mut tcp, header).await.unwrap();
    let stream = connector.over(tcp, "chat.example.com").await.unwrap();
    let (wire, mut upstream) = tokio::join!(gateway.client().ask_over(stream), backend.session());
    let mut client = answered(wire).await.wire;
    client.send_text("through both").await;
    upstream.expect_text("through both").await;
    drop(client);
    assert_eq!(upstream.expect_close().await.0, Some(1001));
    drop(upstream);
    let line = gateway.access_line("client_lost").await;
    assert_eq!(line["client"], "203.0.113.7:4711");
    assert!(line["tls_ms"].as_f64().is_some_and(|spent| spent > 0.0), "{line:#}");

    // One read must not take more than the header, however they arrive.
    let hello = authority.client().hello("chat.example.com");
    let mut wire = Wire::new(gateway.client().tcp().await, None);
    wire.send_raw(&[&header[..], &hello].concat()).await;
    assert!(wire.fill().await, "a ServerHello");
    assert_eq!(wire.buffer[0], 0x16, "a handshake record");

    // Header and handshake have one deadline.
    let mut wire = Wire::new(gateway.client().tcp().await, None);
    wire.send_raw(header).await;
    assert!(wire.drip_until_end(b"", Duration::from_millis(10)).await.is_empty());
    let line = gateway.no_request_line("the TLS handshake took too long").await;
    assert_eq!((&line["client"], &line["phase"]), (&"203.0.113.7:4711".into(), &"tls".into()));
}

#[tokio::test]
async fn the_forwarded_address_that_counts_is_the_right_most_not_trusted() {
    let backend = Backend::start().await;
    let setup = Setup::open(&backend.url())
        .timeouts("close = \"300ms\"")
        .listener("trusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]");
    let mut gateway = Gateway::start(&setup).await;
    let rows = [
        // Peer, X-Forwarded-For, the client it means, and the chain the backend gets.
        ("127.0.0.1", "203.0.113.7", "203.0.113.7:0", "203.0.113.7, 127.0.0.1"),
        ("127.0.0.1", "6.6.6.6, 203.0.113.7", "203.0.113.7:0", "6.6.6.6, 203.0.113.7, 127.0.0.1"),
        (
            "127.0.0.1",
            "6.6.6.6, 203.0.113.7, 10.1.2.3",
            "203.0.113.7:0",
            "6.6.6.6, 203.0.113.7, 10.1.2.3, 127.0.0.1",
        ),
        ("127.0.0.1", "2001:db8::7", "[2001:db8::7]:0", "2001:db8::7, 127.0.0.1"),
        // A stranger's word is replaced.
        ("127.0.0.2", "203.0.113.7", "127.0.0.2", "127.0.0.2"),
    ];
    for (peer, chain, client, upstream) in rows {
        let asking = gateway.client().from(peer).header("X-Forwarded-For", chain);
        let (head, line) = pass(&mut gateway, &backend, asking).await;
        let logged = line["client"].as_str().unwrap();
        assert!(logged.starts_with(client), "{chain}: {logged}");
        assert_eq!(header(&head, "x-forwarded-for").as_deref(), Some(upstream), "{chain}");
        let via = line["via"].as_str().map(|via| via.starts_with("127.0.0.1:"));
        assert_eq!(via, (peer == "127.0.0.1").then_some(true), "{chain}");
    }
}

#[tokio::test]
async fn behind_a_proxy_header_forwarded_addresses_count_if_its_client_is_trusted() {
    let backend = Backend::start().await;
    let setup = proxied(&backend.url(), "\"127.0.0.1\", \"10.0.0.0/8\"");
    let mut gateway = Gateway::start(&setup).await;
    for (source, expected) in [("10.1.2.3", "198.51.100.9:0"), ("203.0.113.7", "203.0.113.7:4711")]
    {
        let header = format!("PROXY TCP4 {source} 192.0.2.1 4711 443\r\n");
        let asking = gateway.client().with_before(header.as_bytes());
        let asking = asking.header("X-Forwarded-For", "198.51.100.9");
        let (_, line) = pass(&mut gateway, &backend, asking).await;
        assert_eq!(line["client"], expected, "{source}");
        assert!(line["via"].as_str().unwrap().starts_with("127.0.0.1:"), "{line:#}");
    }
}
