//! TLS of a listener after its handshake: records without content, records that are broken, and its end.

use std::io::Write as _;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::HandshakeKind;
use tokio_rustls::rustls::ProtocolVersion::{TLSv1_2, TLSv1_3};

use crate::support::wire::encode;
use crate::support::{Authority, Backend, Gateway, Setup, Wire, within};

const HOST: &str = "chat.example.com";
const KEY: Option<[u8; 4]> = Some([0x1f, 0x2e, 0x3d, 0x4c]);

async fn gateway_with(authority: &Authority, endpoint: &str, lines: &str) -> Gateway {
    let folder = tempfile::tempdir().unwrap();
    authority.write(folder.path(), "clients.pem");
    let certificate = authority.sign(&[HOST]).write(folder.path(), "chat");
    let setup = Setup::open(endpoint)
        .listener("[listener.tls]")
        .listener(&format!("certificates = [{certificate}]"))
        .listener(lines);
    Gateway::start_in(folder, &setup).await
}

/// A client of a WebSocket over TLS, whose records are its own.
struct Records(TlsStream<TcpStream>);

impl Records {
    /// A session; the client has read its 101.
    async fn session(gateway: &Gateway, authority: &Authority) -> Self {
        let mut tls = authority.client().connect(gateway.addresses[0], HOST).await.unwrap();
        tls.write_all(gateway.client().request().as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(within("the 101", tls.read_u8()).await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 101"));
        Self(tls)
    }

    /// Changes its keys, which is a record without content.
    fn update_key(&mut self) {
        self.0.get_mut().1.refresh_traffic_keys().unwrap();
    }

    /// What has been sealed, instead of sending it.
    fn sealed(&mut self, bytes: &[u8]) -> Vec<u8> {
        let connection = self.0.get_mut().1;
        connection.writer().write_all(bytes).unwrap();
        let mut sealed = Vec::new();
        while connection.wants_write() {
            connection.write_tls(&mut sealed).unwrap();
        }
        sealed
    }
}

#[tokio::test]
async fn key_updates_beyond_a_few_in_a_minute_end_the_session_with_their_own_label() {
    let authority = Authority::new();
    let backend = Backend::start().await.echo();
    let mut gateway = gateway_with(&authority, &format!("http://{backend}"), "").await;
    let mut records = Records::session(&gateway, &authority).await;
    // As many as are allowed change nothing. Messages between them do not earn it more.
    for _ in 0..32 {
        records.update_key();
        records.0.write_all(&encode(0x81, b"there", KEY)).await.unwrap();
        records.0.flush().await.unwrap();
        let mut echo = [0; 7];
        within("the echo", records.0.read_exact(&mut echo)).await.unwrap();
        assert_eq!(&echo[2..], b"there");
    }
    records.update_key();
    records.0.write_all(&encode(0x81, b"last", KEY)).await.unwrap();
    records.0.flush().await.unwrap();
    let mut wire = Wire::new(records.0, KEY);
    // It came in the same read, and is still relayed; whether its echo is quicker than the Close is open.
    let closed = wire.until_close().await.unwrap();
    assert_eq!((closed.0, closed.1.as_str()), (Some(1008), "client_violation"));
    drop(wire);
    let line = gateway.access_line("client_violation").await;
    assert_eq!(line["detail"], "client: too many TLS records without content");
    assert_eq!(
        (&line["messages_to_upstream"], &line["upstream_close"]),
        (&33.into(), &"1001".into())
    );
    let series = "framegate_protocol_errors_total{kind=\"tls_records\",peer=\"client\"}";
    assert_eq!(gateway.metric(series).await, 1.0);
}

#[tokio::test]
async fn a_flood_of_key_updates_costs_its_sender_the_session() {
    let authority = Authority::new();
    let backend = Backend::start().await.echo();
    let mut gateway = gateway_with(&authority, &format!("http://{backend}"), "").await;
    let mut records = Records::session(&gateway, &authority).await;
    let mut flood = Vec::new();
    for _ in 0..1000 {
        records.update_key();
        flood.extend(records.sealed(b""));
    }
    let sent = records.0.get_mut().0.write_all(&flood).await;
    // The gateway may have ended before all was written.
    let _ = sent;
    let line = gateway.access_line("client_violation").await;
    assert_eq!(line["detail"], "client: too many TLS records without content");
    gateway.wait_for_metric("framegate_sessions{route=\"/ws\"}", 0.0).await;
}

#[tokio::test]
async fn what_came_before_a_broken_record_is_relayed() {
    let authority = Authority::new();
    let backend = Backend::start().await;
    let mut gateway = gateway_with(&authority, &backend.url(), "").await;
    let (mut records, mut upstream) =
        tokio::join!(Records::session(&gateway, &authority), backend.session());
    let mut bytes = records.sealed(&encode(0x81, b"before", KEY));
    // An application record whose seal is wrong (RFC 8446 section 5.2), in the same segment.
    bytes.extend([23, 3, 3, 0, 24]);
    bytes.extend([0; 24]);
    records.0.get_mut().0.write_all(&bytes).await.unwrap();
    upstream.expect_text("before").await;
    assert_eq!(upstream.expect_close().await.0, Some(1001));
    let line = gateway.access_line("client_lost").await;
    assert_eq!(line["messages_to_upstream"], 1);
}

#[tokio::test]
async fn close_notify_is_answered_by_its_like_before_fin() {
    let authority = Authority::new();
    let backend = Backend::start().await.echo();
    let gateway = gateway_with(&authority, &format!("http://{backend}"), "").await;
    for version in [TLSv1_2, TLSv1_3] {
        let connector = authority.client().version(version).connector();
        let connect = || connector.connect(gateway.addresses[0], HOST);
        let silent = connect().await.unwrap();
        let mut halfway = connect().await.unwrap();
        halfway.write_all(b"GET /ws HTTP/1.1\r\nHost: chat").await.unwrap();
        let mut answered = connect().await.unwrap();
        answered.write_all(b"GET /other HTTP/1.1\r\nHost: chat.example.com\r\n\r\n").await.unwrap();
        let session = Records::session(&gateway, &authority).await.0;
        let states = [("silent", silent), ("halfway", halfway), ("answered", answered)];
        for (state, mut tls) in states.into_iter().chain([("in a session", session)]) {
            // close_notify alone: a FIN of the client's would be an end by itself.
            tls.get_mut().1.send_close_notify();
            tls.flush().await.unwrap();
            let mut rest = Vec::new();
            let read = within(state, tls.read_to_end(&mut rest)).await;
            assert!(read.is_ok(), "{version:?} {state}: {read:?}");
        }
    }
}

#[tokio::test]
async fn clients_that_show_certificates_are_checked_each_time() {
    let authority = Authority::new();
    let gateway =
        gateway_with(&authority, "http://127.0.0.1:9", "client_ca = \"clients.pem\"").await;
    let laptop = authority.sign(&["laptop"]);
    for version in [TLSv1_2, TLSv1_3] {
        let connector = authority.client().version(version).showing(&laptop).connector();
        for _ in 0..2 {
            let mut tls = connector.connect(gateway.addresses[0], HOST).await.unwrap();
            tls.write_all(b"GET /other HTTP/1.1\r\nHost: chat.example.com\r\n\r\n").await.unwrap();
            // A 1.3 client would get its ticket before the answer.
            assert_eq!(within("an answer", tls.read_u8()).await.unwrap(), b'H');
            let kind = tls.get_ref().1.handshake_kind();
            assert_eq!(kind, Some(HandshakeKind::Full), "{version:?}");
        }
    }
}

#[tokio::test]
async fn past_its_rate_an_address_gets_few_tls_handshakes_only_to_be_refused() {
    const CONNECTIONS: usize = 60;
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let certificate = authority.sign(&[HOST]).write(folder.path(), "chat");
    let setup = Setup::open("http://127.0.0.1:9")
        .limits("handshakes_per_address = { rate = \"0.001/s\", burst = 1 }")
        .listener("[listener.tls]")
        .listener(&format!("certificates = [{certificate}]"));
    let gateway = Gateway::start_in(folder, &setup).await;
    let address = gateway.addresses[0];
    // They are decided on as they are accepted, all at once: before any handshake.
    let mut tcp = Vec::new();
    for _ in 0..CONNECTIONS {
        tcp.push(TcpStream::connect(address).await.unwrap());
    }
    let connector = authority.client().connector();
    let (mut statuses, mut closed) = (Vec::new(), 0);
    for tcp in tcp {
        let Ok(mut tls) = connector.over(tcp, HOST).await else {
            closed += 1;
            continue;
        };
        tls.write_all(gateway.client().request().as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        within("an answer", tls.read_exact(&mut answer)).await.unwrap();
        statuses.push(String::from_utf8_lossy(&answer[9..]).into_owned());
    }
    // Eight at once; more only as slowly as eight a second, should accepting them take that long.
    assert!(
        statuses.len() >= 9 && statuses[1..].iter().all(|status| status == "429"),
        "{statuses:?}"
    );
    assert_eq!(statuses.len() + closed, CONNECTIONS);
    assert!(closed > 0, "none was closed before its handshake");
    for series in [
        "framegate_handshakes_total{result=\"dropped\",route=\"none\"}",
        "framegate_connections_dropped_total{reason=\"rate_limited\"}",
    ] {
        assert_eq!(gateway.metric(series).await, closed as f64, "{series}");
    }
}
