//! TLS of a listener: versions, certificates by SNI, client certificates, ALPN, resumption, deadline.

use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::{HandshakeKind, ProtocolVersion};

use crate::support::client::answered;
use crate::support::{Authority, Backend, Client, Gateway, Setup, TlsClient, Wire, within};

const HOST: &str = "chat.example.com";
const BOTH: [ProtocolVersion; 2] = [ProtocolVersion::TLSv1_2, ProtocolVersion::TLSv1_3];

/// A gateway with TLS for [`HOST`], further lines in `[listener.tls]`, and an echoing backend.
async fn gateway_with(authority: &Authority, lines: &str) -> Gateway {
    let folder = tempfile::tempdir().unwrap();
    let certificates = authority.sign(&[HOST]).write(folder.path(), "chat");
    gateway_in(folder, &certificates, lines).await
}

async fn gateway_in(folder: TempDir, certificates: &str, lines: &str) -> Gateway {
    let backend = Backend::start().await.echo();
    let setup = Setup::open(&format!("http://{backend}"))
        .timeouts("close = \"300ms\"")
        .listener("[listener.tls]")
        .listener(&format!("certificates = [{certificates}]"))
        .listener(lines);
    Gateway::start_in(folder, &setup).await
}

/// A session over TLS that is there already: one message there and back, then Close.
async fn use_session(gateway: &Gateway, stream: TlsStream<tokio::net::TcpStream>) {
    let answered = answered(gateway.client().ask_over(stream).await).await;
    assert_eq!(answered.status, 101, "{}", answered.head);
    let mut wire = answered.wire;
    wire.send_text("over TLS").await;
    wire.expect_text("over TLS").await;
    wire.send_close(1000, "").await;
    assert_eq!(wire.expect_close().await.0, Some(1000));
    wire.expect_end().await;
}

/// What a client meets whose handshake may fail only after it believes it to be over, as a TLS 1.3
/// client's does: the error, or the status of the answer.
async fn outcome(gateway: &Gateway, client: TlsClient) -> Result<u16, String> {
    let address = gateway.addresses[0];
    let mut stream = client.connect(address, HOST).await.map_err(|error| error.to_string())?;
    let request = gateway.client().request();
    let mut answer = [0; 12];
    let asked = async {
        stream.write_all(request.as_bytes()).await?;
        stream.read_exact(&mut answer).await
    };
    within("an answer or an alert", asked).await.map_err(|error| error.to_string())?;
    Ok(std::str::from_utf8(&answer[9..]).unwrap().parse().unwrap())
}

#[tokio::test]
async fn tls_1_2_and_1_3_carry_sessions() {
    let authority = Authority::new();
    let mut gateway = gateway_with(&authority, "").await;
    for version in BOTH {
        let client = authority.client().version(version);
        let stream = client.connect(gateway.addresses[0], HOST).await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(version));
        use_session(&gateway, stream).await;
    }
    for line in gateway.access_lines("client_closed", 2).await {
        assert!(line["tls_ms"].as_f64().unwrap() > 0.0, "{line:#}");
        assert_eq!(line["client_close"], "1000");
    }
    let series = "framegate_handshake_duration_seconds_count{route=\"/ws\",stage=\"tls\"}";
    assert_eq!(gateway.metric(series).await, 2.0);
}

#[tokio::test]
async fn the_backend_is_told_that_the_client_came_over_tls() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let certificate = authority.sign(&[HOST]).write(folder.path(), "chat");
    let backend = Backend::start().await;
    let setup = Setup::open(&backend.url())
        .listener("[listener.tls]")
        .listener(&format!("certificates = [{certificate}]"));
    let gateway = Gateway::start_in(folder, &setup).await;
    let stream = authority.client().connect(gateway.addresses[0], HOST).await.unwrap();
    let (_client, asked) = tokio::join!(gateway.client().ask_over(stream), backend.asked());
    assert_eq!(asked.header("x-forwarded-proto").as_deref(), Some("https"));
}

#[tokio::test]
async fn a_listener_for_1_3_refuses_1_2() {
    let authority = Authority::new();
    let mut gateway = gateway_with(&authority, "min_version = \"1.3\"").await;
    let old = authority.client().version(ProtocolVersion::TLSv1_2);
    let error = outcome(&gateway, old).await.unwrap_err();
    assert!(error.contains("ProtocolVersion"), "{error}");
    let line = gateway.no_request_line("the TLS handshake failed").await;
    assert_eq!((&line["phase"], &line["by"]), (&"tls".into(), &"client".into()));
    assert_eq!(outcome(&gateway, authority.client()).await, Ok(101));
    let series = "framegate_endings_total{label=\"client_lost\",phase=\"tls\",route=\"none\"}";
    assert_eq!(gateway.metric(series).await, 1.0);
}

#[tokio::test]
async fn the_certificate_is_chosen_by_sni_and_the_first_is_the_default() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let pairs = [
        // The default covers every name asked for below, or no client would accept it.
        authority.sign(&["a.example.com", "127.0.0.1", "x.y.chat.example.com", "other.example"]),
        authority.sign(&["*.chat.example.com", "c.example.com"]),
        authority.sign(&["b.example.com"]),
    ];
    let names = ["a", "wild", "b"];
    let entries: Vec<_> =
        pairs.iter().zip(names).map(|(pair, name)| pair.write(folder.path(), name)).collect();
    let gateway = gateway_in(folder, &entries.join(", "), "").await;
    let rows = [
        ("a.example.com", 0),
        ("b.example.com", 2),
        ("B.Example.COM", 2),
        ("c.example.com", 1),
        ("eu.chat.example.com", 1),
        // A wildcard stands for one label.
        ("x.y.chat.example.com", 0),
        ("other.example", 0),
        // A client that connects by address sends no SNI.
        ("127.0.0.1", 0),
    ];
    for version in BOTH {
        for (name, expected) in rows {
            let client = authority.client().version(version);
            let stream = client.connect(gateway.addresses[0], name).await.unwrap();
            let shown = &stream.get_ref().1.peer_certificates().unwrap()[0];
            let index = pairs.iter().position(|pair| pair.certificate.der() == shown);
            assert_eq!(index, Some(expected), "{name} {version:?}");
        }
    }
    for name in ["a.example.com", "*.chat.example.com", "b.example.com"] {
        let series =
            format!("framegate_tls_certificate_not_after_timestamp_seconds{{name=\"{name}\"}}");
        assert!(gateway.metric(&series).await > 1.7e9, "{name}");
    }
}

#[tokio::test]
async fn with_client_ca_only_its_clients_get_in() {
    let (authority, clients, strangers) = (Authority::new(), Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    clients.write(folder.path(), "clients.pem");
    let certificate = authority.sign(&[HOST]).write(folder.path(), "chat");
    let mut gateway = gateway_in(folder, &certificate, "client_ca = \"clients.pem\"").await;
    let (known, unknown) = (clients.sign(&["laptop"]), strangers.sign(&["laptop"]));
    for version in BOTH {
        let client = || authority.client().version(version);
        let none = outcome(&gateway, client()).await.unwrap_err();
        assert!(none.contains("alert"), "{version:?} {none}");
        let wrong = outcome(&gateway, client().showing(&unknown)).await.unwrap_err();
        assert!(wrong.contains("alert"), "{version:?} {wrong}");
        assert_eq!(outcome(&gateway, client().showing(&known)).await, Ok(101), "{version:?}");
    }
    let series = "framegate_endings_total{label=\"client_lost\",phase=\"tls\",route=\"none\"}";
    assert_eq!(gateway.metric(series).await, 4.0);
    // What an operator needs to know when a client cannot get in.
    gateway.no_request_line("the TLS handshake failed: peer sent no certificates").await;
    gateway.no_request_line("the TLS handshake failed: invalid peer certificate").await;
}

#[tokio::test]
async fn alpn_is_http_1_1_or_nothing() {
    let authority = Authority::new();
    let mut gateway = gateway_with(&authority, "").await;
    let rows: [(&'static [&'static str], Option<&str>); 3] =
        [(&[], None), (&["http/1.1"], Some("http/1.1")), (&["h2", "http/1.1"], Some("http/1.1"))];
    for (offered, expected) in rows {
        let client = authority.client().alpn(offered);
        let stream = client.connect(gateway.addresses[0], HOST).await.unwrap();
        let chosen = stream.get_ref().1.alpn_protocol();
        assert_eq!(chosen, expected.map(str::as_bytes), "{offered:?}");
        use_session(&gateway, stream).await;
    }
    let h2_only = authority.client().alpn(&["h2"]);
    let error = outcome(&gateway, h2_only).await.unwrap_err();
    assert!(error.contains("NoApplicationProtocol"), "{error}");
    assert_eq!(gateway.no_request_line("the TLS handshake failed").await["phase"], "tls");
}

#[tokio::test]
async fn a_client_that_comes_back_resumes_its_tls_session() {
    let authority = Authority::new();
    let gateway = gateway_with(&authority, "").await;
    for version in BOTH {
        let connector = authority.client().version(version).connector();
        let mut kinds = Vec::new();
        for _ in 0..3 {
            let stream = connector.connect(gateway.addresses[0], HOST).await.unwrap();
            kinds.push(stream.get_ref().1.handshake_kind().unwrap());
            // A 1.3 client gets its ticket behind the handshake.
            use_session(&gateway, stream).await;
        }
        let resumed = HandshakeKind::Resumed;
        assert_eq!(kinds, [HandshakeKind::Full, resumed, resumed], "{version:?}");
    }
}

/// The first bytes of a client's handshake.
fn client_hello(authority: &Authority) -> Vec<u8> {
    authority.client().hello(HOST)
}

#[tokio::test]
async fn a_handshake_that_does_not_come_to_an_end_is_given_up() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let certificate = authority.sign(&[HOST]).write(folder.path(), "chat");
    let hello = client_hello(&authority);
    let setup = Setup::open("http://127.0.0.1:9")
        .timeouts("tls_handshake = \"2s\"")
        .timeouts("request_head = \"1h\"")
        .listener("[listener.tls]")
        .listener(&format!("certificates = [{certificate}]"));
    let mut gateway = Gateway::start_in(folder, &setup).await;
    let half = &hello[..hello.len() / 2];
    let meet = async |sent: &[u8], dripped: &[u8]| {
        let mut wire = Wire::new(gateway.client().tcp().await, None);
        wire.send_raw(sent).await;
        wire.drip_until_end(dripped, Duration::from_millis(10)).await
    };
    let (silent, halting, dripping, answered) =
        tokio::join!(meet(b"", b""), meet(half, b""), meet(b"", half), meet(&hello, b""));
    assert_eq!([silent, halting, dripping], [b""; 3]);
    assert_eq!(answered.first(), Some(&0x16), "a ServerHello");
    let late = |line: &serde_json::Value| line["detail"] == "the TLS handshake took too long";
    gateway.wait_for_log("4 lines", |log| log.iter().filter(|line| late(line)).count() == 4).await;
    for line in gateway.log().iter().filter(|line| late(line)) {
        assert_eq!((&line["phase"], &line["by"]), (&"tls".into(), &"gateway".into()));
    }
    let series = "framegate_endings_total{label=\"client_timeout\",phase=\"tls\",route=\"none\"}";
    assert_eq!(gateway.metric(series).await, 4.0);
    let series = "framegate_connections{listener=\"127.0.0.1:0\"}";
    gateway.wait_for_metric(series, 0.0).await;
}

#[tokio::test]
async fn plain_http_on_a_tls_port_is_told_to_use_tls() {
    let authority = Authority::new();
    let mut gateway = gateway_with(&authority, "").await;
    // More than one read, so that a close without reading it would be a reset.
    let long = "x".repeat(60_000);
    let mut answered = gateway.client().header("X-Long", &long).connect().await;
    assert_eq!(answered.status, 400);
    assert_eq!(answered.header("connection").as_deref(), Some("close"));
    let length = answered.header("content-length").unwrap();
    let body = answered.wire.rest().await;
    drop(answered);
    assert_eq!(length, body.len().to_string());
    for name in ["https://", "wss://"] {
        assert!(body.contains(name), "{body}");
    }
    let line = gateway.no_request_line("plain HTTP (ws:// or http://) on a TLS port").await;
    assert_eq!((&line["phase"], &line["by"]), (&"tls".into(), &"client".into()));
}

#[tokio::test]
async fn what_is_neither_tls_nor_http_is_closed_without_an_answer() {
    let authority = Authority::new();
    let mut gateway = gateway_with(&authority, "").await;
    let mut wire = Wire::new(gateway.client().tcp().await, None);
    wire.send_raw(&[0]).await;
    wire.expect_end().await;
    gateway.no_request_line("neither TLS nor HTTP").await;
}

#[tokio::test]
async fn a_client_hello_on_a_plain_port_is_logged_as_such() {
    let authority = Authority::new();
    let mut gateway = Gateway::start(&Setup::open("http://127.0.0.1:9")).await;
    let failed = authority.client().connect(gateway.addresses[0], HOST).await;
    assert!(failed.is_err());
    let line = gateway.no_request_line("TLS (wss:// or https://) on a plain port").await;
    assert_eq!((&line["phase"], &line["by"]), (&"request".into(), &"client".into()));
    assert_eq!(line["listener"], "127.0.0.1:0");
}

#[tokio::test]
async fn a_port_scan_that_says_nothing_is_logged_as_such() {
    let authority = Authority::new();
    let mut secure = gateway_with(&authority, "").await;
    let mut plain = Gateway::start(&Setup::open("http://127.0.0.1:9")).await;
    for (gateway, phase) in [(&mut secure, "accept"), (&mut plain, "request")] {
        drop(Client::new(gateway.addresses[0]).tcp().await);
        let line = gateway.no_request_line("closed without a request").await;
        assert_eq!(line["phase"], phase);
    }
}
