//! Opening the upstream: what it may answer, which endpoint is tried when, and who waits for whom.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, UnixListener};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::support::backend::Asked;
use crate::support::client::answered;
use crate::support::wire::{TEXT, encode};
use crate::support::{Backend, Gateway, Refusal, Setup, Wire, within};

fn setup(endpoint: &str) -> Setup {
    Setup::open(endpoint).timeouts("close = \"300ms\"")
}

fn refused(label: &str, status: u16, code: u16) -> Refusal<'_> {
    Refusal::by_upstream(label, status, code, "/ws")
}

/// A session over the upstream's end that was asked.
async fn assert_relays(client: Wire, asked: Asked) {
    let mut upstream = asked.accept("").await;
    let mut client = answered(client).await;
    assert_eq!(client.status, 101, "{}", client.head);
    upstream.send_text("hello").await;
    client.wire.expect_text("hello").await;
    client.wire.send_text("back").await;
    upstream.expect_text("back").await;
}

#[tokio::test]
async fn frames_right_behind_the_101_arrive_wherever_the_packets_are_cut() {
    let backend = Backend::start().await;
    let setup = setup(&backend.url()).limits("handshakes_per_address = { rate = \"0/s\" }");
    let gateway = Gateway::start(&setup).await;
    let frames = [encode(TEXT, b"one", None), encode(TEXT, "zwei\u{fc}".as_bytes(), None)].concat();
    let mut cut = 0;
    loop {
        let (mut client, mut asked) = tokio::join!(gateway.client().ask(), backend.asked());
        let head = asked.switching("Server: x\r\n");
        let all = [head.as_bytes(), &frames].concat();
        let (first, second) = all.split_at(cut);
        asked.wire.send_raw(first).await;
        if cut >= head.len() {
            // The client's 101 shows that the gateway has read the first part.
            client.head().await.unwrap();
        }
        asked.wire.send_raw(second).await;
        if cut < head.len() {
            client.head().await.unwrap();
        }
        client.expect_text("one").await;
        client.expect_text("zwei\u{fc}").await;
        if cut == all.len() {
            break;
        }
        cut += 1;
    }
    assert!(cut > 150);
}

#[tokio::test]
async fn a_101_that_comes_byte_by_byte_is_read() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&setup(&backend.url())).await;
    let (mut client, mut asked) = tokio::join!(gateway.client().ask(), backend.asked());
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
    let frame = encode(TEXT, b"one", None);
    for byte in [interim.as_bytes(), asked.switching("").as_bytes(), &frame].concat() {
        asked.wire.send_raw(&[byte]).await;
    }
    assert!(client.head().await.unwrap().starts_with("HTTP/1.1 101 "));
    client.expect_text("one").await;
}

#[tokio::test]
async fn much_behind_the_101_and_behind_the_request_arrives_whole() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&setup(&backend.url())).await;
    let (down, up) = ("d".repeat(200_000), "u".repeat(50_000));
    let behind = encode(TEXT, up.as_bytes(), Some([9, 8, 7, 6]));
    let client = gateway.client().with_behind(&behind);
    let (mut client, mut asked) = tokio::join!(client.ask(), backend.asked());
    let mut answer = asked.switching("").into_bytes();
    answer.extend(encode(TEXT, down.as_bytes(), None));
    let (wire, client) = (&mut asked.wire, &mut client);
    tokio::join!(
        async {
            wire.send_raw(&answer).await;
            wire.expect_text(&up).await;
        },
        async {
            assert!(client.head().await.unwrap().starts_with("HTTP/1.1 101 "));
            client.expect_text(&down).await;
        },
    );
}

/// What an upstream answers instead of a proper 101; `KEY` becomes the right accept value.
fn wrong_answers() -> Vec<(String, &'static str, u16, u16)> {
    let good = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Accept: KEY"];
    let head = |first: &str, lines: &[&str]| format!("{first}\r\n{}\r\n\r\n", lines.join("\r\n"));
    let switching = |lines: &[&str]| head("HTTP/1.1 101 Switching Protocols", lines);
    let with = |line: &str| switching(&[good[0], good[1], good[2], line]);
    let protocol = |answer: String| (answer, "upstream_protocol", 502, 1014);
    let many = "X: y\r\n".repeat(200);
    let mut rows: Vec<_> = [
        "\0\x01\x02garbage".to_owned(),
        "SSH-2.0-OpenSSH_9.2\r\n".to_owned(),
        "\r\nHTTP/1.1 101 x\r\n\r\n".to_owned(),
        "HTTP/2 101\r\n\r\n".to_owned(),
        "HTTP/1.1 099 x\r\n\r\n".to_owned(),
        head("HTTP/1.0 101 Switching Protocols", &good),
        switching(&good[..2]),
        switching(&[good[0], good[2]]),
        switching(&good[1..]),
        switching(&["Upgrade: h2c", good[1], good[2]]),
        switching(&[good[0], "Connection: close", good[2]]),
        switching(&[good[0], good[1], "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="]),
        with(good[2]),
        with("Sec-WebSocket-Extensions: permessage-deflate"),
        with("Sec-WebSocket-Protocol: never-offered"),
        with("Sec-WebSocket-Protocol: framegate"),
        with("Sec-WebSocket-Protocol: chat, other"),
        with("Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: chat"),
        with("Folded: a\r\n b"),
        with("Space : a"),
        with(&format!("Large: {}", "x".repeat(20_000))),
        with(&format!("Endless: {}", "x".repeat(1_000_000))),
        with(&many),
        "HTTP/1.1 100 Continue\r\n\r\n".repeat(10_000),
    ]
    .into_iter()
    .map(protocol)
    .collect();
    rows.extend([
        // Known by its first line, however wrong the rest is.
        (format!("HTTP/1.1 403 No\r\n{many}"), "upstream_refused", 403, 4403),
        (format!("HTTP/1.1 404 No\r\nX: {}", "x".repeat(100_000)), "upstream_refused", 404, 4404),
        ("HTTP/1.0 401 No\r\nbroken\r\n".to_owned(), "upstream_refused", 401, 4401),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 429 No\r\n".into(), "upstream_refused", 429, 4429),
        ("HTTP/1.1 302 Found\r\nLocation: /login\r\n\r\n".into(), "upstream_refused", 502, 1014),
        ("HTTP/1.1 200 OK\r\n\r\n".into(), "upstream_refused", 502, 1014),
        ("HTTP/1.1 500 \r\n\r\n".into(), "upstream_refused", 502, 1014),
    ]);
    rows
}

#[tokio::test]
async fn an_answer_that_is_no_proper_101_is_refused() {
    let backend = Arc::new(Backend::start().await);
    let setup = setup(&backend.url()).upstream("retries = 5").route("refuse = \"close\"");
    let mut gateway = Gateway::start(&setup).await;
    for (answer, label, _, code) in wrong_answers() {
        let serving = Arc::clone(&backend);
        let upstream = tokio::spawn(async move {
            let mut asked = serving.asked().await;
            let key = asked.header("sec-websocket-key").unwrap();
            let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
            let answer = answer.replace("KEY", &accept);
            // The gateway hangs up as soon as it knows.
            let _ = asked.wire.stream.write_all(answer.as_bytes()).await;
            while asked.wire.fill().await {}
        });
        let client = gateway.client().header("Sec-WebSocket-Protocol", "chat, other, framegate");
        refused(label, 101, code).by_close(&mut gateway, client).await;
        // It was the only connection, and the gateway has ended it.
        upstream.await.unwrap();
    }
}

#[tokio::test]
async fn an_upstreams_refusal_reaches_the_client_as_it_is() {
    for status in [302, 400, 401, 403, 404, 410, 429, 500, 503] {
        let answer = format!(
            "HTTP/1.1 {status} Whatever\r\nWWW-Authenticate: Digest realm=\"a\"\r\nRetry-After: 77\r\n\
             Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Request-Id: theirs\r\nX-Framegate-Refusal: forged\r\n\
             Keep-Alive: timeout=5\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\r\n\
             {{\"code\":\"BANNED\"}}"
        );
        let backend = Backend::start().await.answering(answer);
        let mut gateway = Gateway::start(&setup(&format!("http://{backend}"))).await;
        let client = gateway.client();
        let told = refused("upstream_refused", status, 0).by_http(&mut gateway, client).await;
        let head = told.head.to_ascii_lowercase();
        for line in [
            "www-authenticate: digest realm=\"a\"",
            "retry-after: 77",
            "set-cookie: a=1",
            "set-cookie: b=2",
        ] {
            assert!(head.contains(line), "{line}: {head}");
        }
        for line in ["theirs", "forged", "keep-alive"] {
            assert!(!head.contains(line), "{line}: {head}");
        }
        assert_eq!(told.body, "{\"code\":\"BANNED\"}");
        let detail = told.line["detail"].as_str().unwrap();
        assert!(detail.ends_with("; it says: {\"code\":\"BANNED\"}"), "{detail}");
        // For a page: when to come back.
        let mut page = gateway.client().origin("https://chat.example.com").connect().await;
        assert_eq!(page.status, 101, "{}", page.head);
        assert!(!page.head.contains("a=1"), "{}", page.head);
        assert_eq!(page.wire.expect_close().await.1, "upstream_refused;retry=77s");
    }
}

#[tokio::test]
async fn a_success_that_is_no_101_is_no_answer_for_a_client() {
    let answer = "HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nContent-Length: 5\r\n\r\nhello";
    let backend = Backend::start().await.answering(answer);
    let mut gateway = Gateway::start(&setup(&format!("http://{backend}"))).await;
    let client = gateway.client();
    let told = refused("upstream_refused", 502, 0).by_http(&mut gateway, client).await;
    assert!(
        !told.head.contains("a=1") && told.body.starts_with("upstream_refused: "),
        "{}",
        told.body
    );
}

#[tokio::test]
async fn an_upstream_that_hangs_or_drips_is_given_up_and_no_other_is_tried() {
    let (hangs, drips) = (Backend::start().await, Backend::start().await);
    let echo = format!("http://{}", Backend::start().await.echo());
    let lines = "retries = 3\nbalance = \"round_robin\"\nhandshake_timeout = \"200ms\"";
    let with = |first: &Backend| {
        setup(&first.url()).endpoint(&echo).upstream(lines).route("refuse = \"http\"")
    };
    let row = refused("upstream_timeout", 504, 1013);
    let mut gateway = Gateway::start(&with(&hangs)).await;
    let client = gateway.client();
    // The next one in turn would have answered.
    row.by_http(&mut gateway, client).await;

    let mut gateway = Gateway::start(&with(&drips)).await;
    let dripping = tokio::spawn(async move {
        let mut asked = drips.asked().await;
        let mut pace = tokio::time::interval(Duration::from_millis(10));
        for byte in
            b"HTTP/1.1 101 Switching Protocols\r\nDrip: ".iter().chain(std::iter::repeat(&b'.'))
        {
            pace.tick().await;
            if asked.wire.stream.write_all(&[*byte]).await.is_err() {
                return;
            }
        }
    });
    let client = gateway.client();
    row.by_http(&mut gateway, client).await;
    within("the gateway to hang up", dripping).await.unwrap();
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_connected_to_in_time_is_a_timeout() {
    // One connection fills the queue of a listener that accepts none: more SYNs are not answered.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = socket.listen(0).unwrap();
    let address = full.local_addr().unwrap();
    let _fills = tokio::net::TcpStream::connect(address).await.unwrap();
    // This one is connected to, but says nothing to the ClientHello.
    let silent = Backend::start().await;
    let echo = format!("http://{}", Backend::start().await.echo());
    for endpoint in [format!("http://{address}"), format!("https://{}", silent.address())] {
        let lines = "retries = 3\nbalance = \"round_robin\"\nconnect_timeout = \"200ms\"";
        let setup = setup(&endpoint).endpoint(&echo).upstream(lines).upstream("ca = \"ca.pem\"");
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), authority().0.pem()).unwrap();
        let mut gateway = Gateway::start_in(folder, &setup).await;
        let client = gateway.client();
        let told = refused("upstream_timeout", 504, 1013).by_http(&mut gateway, client).await;
        assert!(told.line["upstream_connect_ms"].as_f64().unwrap() >= 200.0, "{}", told.line);
        assert_eq!(connect_failures(&gateway, "timeout").await, 1.0);
    }
}

async fn connect_failures(gateway: &Gateway, reason: &str) -> f64 {
    let labels = format!("reason=\"{reason}\",upstream=\"chat\"");
    gateway.metric(&format!("framegate_upstream_connect_failures_total{{{labels}}}")).await
}

/// Takes the next request and ends the connection after these bytes of an answer.
async fn ends_after(backend: &Backend, bytes: &[u8]) {
    let mut asked = backend.asked().await;
    asked.wire.send_raw(bytes).await;
}

#[tokio::test]
async fn another_endpoint_is_tried_if_the_first_closed_before_any_byte() {
    let (first, second) = (Backend::start().await, Backend::start().await);
    let setup = setup(&first.url()).endpoint(&second.url());
    let mut gateway = Gateway::start(&setup.upstream("balance = \"round_robin\"")).await;
    let (client, (), asked) =
        tokio::join!(gateway.client().ask(), ends_after(&first, b""), second.asked());
    let id = asked.header("x-request-id").unwrap();
    assert_relays(client, asked).await;
    let line = gateway.line_of(&id).await;
    assert_eq!(line["endpoint"], second.url());
}

#[tokio::test]
async fn no_other_endpoint_is_tried_once_a_byte_was_answered_or_without_retries() {
    let rows: [(&str, &[u8]); 3] =
        [("retries = 3", b"H"), ("retries = 3", b"HTTP/1.1 101 x\r\nUpg"), ("retries = 0", b"")];
    for (retries, bytes) in rows {
        let first = Backend::start().await;
        let echo = format!("http://{}", Backend::start().await.echo());
        let setup = setup(&first.url()).endpoint(&echo).upstream("balance = \"round_robin\"");
        let mut gateway = Gateway::start(&setup.upstream(retries)).await;
        let client = gateway.client();
        let row = refused("upstream_unreachable", 502, 1014);
        let (told, ()) = tokio::join!(row.by_http(&mut gateway, client), ends_after(&first, bytes));
        assert!(told.body.ends_with("closed the connection without an answer\n"), "{}", told.body);
        gateway.client().session().await;
    }
}

#[tokio::test]
async fn retries_are_as_many_as_configured_each_on_another_endpoint() {
    let echo = format!("http://{}", Backend::start().await.echo());
    let with = |retries: u32| {
        let lines = format!("balance = \"round_robin\"\nretries = {retries}");
        let setup = setup("unix:one").endpoint("unix:two").endpoint("unix:three");
        setup.endpoint(&echo).upstream(&lines)
    };
    let mut gateway = Gateway::start(&with(2)).await;
    let client = gateway.client();
    refused("upstream_unreachable", 502, 1014).by_http(&mut gateway, client).await;
    assert_eq!(connect_failures(&gateway, "refused").await, 3.0);

    let gateway = Gateway::start(&with(3)).await;
    gateway.client().session().await;
    assert_eq!(connect_failures(&gateway, "refused").await, 3.0);

    // There is no fourth endpoint to be tried.
    let setup = setup("unix:one").endpoint("unix:two").upstream("retries = 100");
    let mut gateway = Gateway::start(&setup).await;
    let client = gateway.client();
    refused("upstream_unreachable", 502, 1014).by_http(&mut gateway, client).await;
    assert_eq!(connect_failures(&gateway, "refused").await, 2.0);
}

#[tokio::test]
async fn an_address_where_nobody_listens_is_unreachable() {
    // Bound and not listening: nobody else can come to listen there.
    let bound = TcpSocket::new_v4().unwrap();
    bound.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let endpoint = format!("http://{}", bound.local_addr().unwrap());
    let mut gateway = Gateway::start(&setup(&endpoint)).await;
    let client = gateway.client();
    let told = refused("upstream_unreachable", 502, 1014).by_http(&mut gateway, client).await;
    assert_eq!(connect_failures(&gateway, "refused").await, 1.0);
    // Which address it was is for the log only.
    assert!(!told.body.contains("127.0.0.1"), "{}", told.body);
}

#[tokio::test]
async fn a_unix_socket_is_an_endpoint() {
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join("chat.sock")).unwrap();
    let setup = setup("unix:chat.sock").route("forward = { host = \"upstream\" }");
    let mut gateway = Gateway::start_in(folder, &setup).await;
    let (client, asked) = tokio::join!(gateway.client().ask(), async {
        let (stream, _) = within("a connection", listener.accept()).await.unwrap();
        Asked::read(stream).await
    });
    assert_eq!(asked.header("host").unwrap(), "localhost");
    let id = asked.header("x-request-id").unwrap();
    assert_relays(client, asked).await;
    assert_eq!(gateway.line_of(&id).await["endpoint"], "unix:chat.sock");
}

type Authority = rcgen::CertifiedIssuer<'static, rcgen::KeyPair>;

/// An authority, and a server certificate for 127.0.0.1 that it has signed.
fn authority() -> (Authority, ServerConfig) {
    let mut params = rcgen::CertificateParams::new([]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let authority = rcgen::CertifiedIssuer::self_signed(params, key).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    (authority, config)
}

#[tokio::test]
async fn an_https_endpoint_is_checked_against_its_own_authority() {
    let (authority, config) = authority();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
    let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("https://{}", backend.local_addr().unwrap());
    let setup = setup(&endpoint).upstream("ca = \"ca.pem\"");
    let gateway = Gateway::start_in(folder, &setup).await;
    let (client, asked) = tokio::join!(gateway.client().ask(), async {
        let (tcp, _) = within("a connection", backend.accept()).await.unwrap();
        let accepting = TlsAcceptor::from(Arc::new(config)).accept(tcp);
        Asked::read(within("TLS", accepting).await.unwrap()).await
    });
    assert_relays(client, asked).await;
}

#[tokio::test]
async fn an_https_endpoint_of_an_unknown_authority_or_another_name_is_unreachable() {
    let (right, config) = authority();
    let (wrong, _) = authority();
    let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = backend.local_addr().unwrap().port();
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        while let Ok((tcp, _)) = backend.accept().await {
            assert!(acceptor.accept(tcp).await.is_err(), "the gateway must not be content");
        }
    });
    let unknown = "another authority that only has the same name";
    for (authority, host, fault) in
        [(wrong, "127.0.0.1", unknown), (right, "localhost", "the certificate is for 127.0.0.1")]
    {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
        let setup = setup(&format!("https://{host}:{port}")).upstream("ca = \"ca.pem\"");
        let mut gateway = Gateway::start_in(folder, &setup).await;
        let client = gateway.client();
        refused("upstream_unreachable", 502, 1014).by_http(&mut gateway, client).await;
        assert_eq!(connect_failures(&gateway, "tls").await, 1.0);
        let log = gateway.log();
        let warned = log.iter().find(|line| line["reason"] == "tls").expect("a warning");
        let access = log.iter().find(|line| line["type"] == "access").expect("an access line");
        for text in [&warned["error"], &access["detail"]] {
            let text = text.as_str().unwrap();
            assert!(
                text.contains("its certificate is not accepted") && text.contains(fault),
                "{text}"
            );
        }
    }
}

/// The `endpoint` of the next session's access line.
async fn next_endpoint(gateway: &mut Gateway) -> String {
    let answered = gateway.client().connect().await;
    assert_eq!(answered.status, 101, "{}", answered.head);
    let id = answered.header("x-request-id").unwrap();
    drop(answered);
    gateway.line_of(&id).await["endpoint"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn endpoints_take_turns_or_get_the_next_session_by_their_number() {
    let urls = [Backend::start().await.echo(), Backend::start().await.echo()]
        .map(|address| format!("http://{address}"));
    let with = |balance: &str| {
        let lines = format!("balance = \"{balance}\"");
        setup(&urls[0]).endpoint(&urls[1]).upstream(&lines)
    };
    let mut gateway = Gateway::start(&with("round_robin")).await;
    let mut turns = Vec::new();
    for _ in 0..6 {
        turns.push(next_endpoint(&mut gateway).await);
    }
    assert_eq!(turns, [&urls[..], &urls[..], &urls[..]].concat());

    let mut gateway = Gateway::start(&with("least_sessions")).await;
    let _held = gateway.client().session().await;
    let held_by = async |gateway: &Gateway, url: &str| {
        let labels = format!("endpoint=\"{url}\",upstream=\"chat\"");
        gateway.metric(&format!("framegate_upstream_sessions{{{labels}}}")).await
    };
    let busy = usize::from(held_by(&gateway, &urls[1]).await == 1.0);
    assert_eq!(held_by(&gateway, &urls[busy]).await, 1.0);
    // Each of these ends before the next begins.
    for _ in 0..4 {
        assert_eq!(next_endpoint(&mut gateway).await, urls[1 - busy]);
    }
}

/// Health checks that are quick to see.
const QUICK: &str = "health = { interval = \"20ms\", fall = 1 }";

async fn is_healthy(gateway: &Gateway, endpoint: &str, healthy: bool) {
    let labels = format!("endpoint=\"{endpoint}\",upstream=\"chat\"");
    let series = format!("framegate_upstream_healthy{{{labels}}}");
    gateway.wait_for_metric(&series, f64::from(u8::from(healthy))).await;
}

/// Accepts every client, for as long as the test runs or the handle is not aborted.
fn accept_all(listener: UnixListener) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut wire = Wire::new(stream, None);
                if let Some(head) = wire.head().await {
                    let mut wire = Asked { wire, head }.accept("").await;
                    while wire.fill().await {}
                }
            });
        }
    })
}

#[tokio::test]
async fn a_health_check_takes_an_endpoint_out_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    let _one = accept_all(UnixListener::bind(&one).unwrap());
    let second = accept_all(UnixListener::bind(&two).unwrap());
    let mut setup = setup("unix:one").endpoint("unix:two");
    setup.upstream = format!("{QUICK}\nretries = 0\nbalance = \"round_robin\"\n");
    let mut gateway = Gateway::start_in(folder, &setup).await;
    second.abort();
    let _ = second.await;
    std::fs::remove_file(&two).unwrap();
    is_healthy(&gateway, "unix:two", false).await;
    for _ in 0..4 {
        assert_eq!(next_endpoint(&mut gateway).await, "unix:one");
    }
    let _two = accept_all(UnixListener::bind(&two).unwrap());
    is_healthy(&gateway, "unix:two", true).await;
    let turns = [next_endpoint(&mut gateway).await, next_endpoint(&mut gateway).await];
    assert_ne!(turns[0], turns[1]);
    let said = |text: &str| gateway.log().iter().any(|line| line["message"] == text);
    assert!(said("endpoint is unhealthy") && said("endpoint is healthy again"));
}

#[tokio::test]
async fn when_all_are_down_all_are_tried() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    let mut setup = setup("unix:one").endpoint("unix:two");
    // Checked once; what is up later is not seen.
    setup.upstream = "health = { interval = \"1h\", fall = 1 }\nretries = 1\n".to_owned();
    let mut gateway = Gateway::start_in(folder, &setup).await;
    is_healthy(&gateway, "unix:one", false).await;
    is_healthy(&gateway, "unix:two", false).await;
    assert_eq!(gateway.admin_get("/readyz").await.0, 503);
    let client = gateway.client();
    refused("upstream_unreachable", 502, 1014).by_http(&mut gateway, client).await;
    assert_eq!(connect_failures(&gateway, "refused").await, 2.0);
    for (path, name) in [(&two, "unix:two"), (&one, "unix:one")] {
        let serving = accept_all(UnixListener::bind(path).unwrap());
        assert_eq!(next_endpoint(&mut gateway).await, name);
        serving.abort();
        let _ = serving.await;
        std::fs::remove_file(path).unwrap();
    }
}

#[tokio::test]
async fn a_client_that_leaves_while_the_upstream_hangs_takes_the_upstream_along() {
    let backend = Backend::start().await;
    let setup = setup(&backend.url()).upstream("handshake_timeout = \"600s\"");
    let mut gateway = Gateway::start(&setup).await;
    let (client, mut asked) = tokio::join!(gateway.client().ask(), backend.asked());
    let id = asked.header("x-request-id").unwrap();
    drop(client);
    asked.wire.expect_end().await;
    let line = gateway.line_of(&id).await;
    assert_eq!(line["outcome"], "abandoned");
    assert_eq!((&line["by"], &line["phase"]), (&"client".into(), &"connect".into()));
    assert_eq!(line["route"], "/ws");
    assert_eq!(line["status"], serde_json::Value::Null);
    let accepted = "framegate_handshakes_total{result=\"accepted\",route=\"/ws\"}";
    assert_eq!(gateway.metric(accepted).await, 0.0);
    gateway.wait_for_metric("framegate_connections{listener=\"127.0.0.1:0\"}", 0.0).await;
    let labels = format!("endpoint=\"{}\",upstream=\"chat\"", backend.url());
    assert_eq!(gateway.metric(&format!("framegate_upstream_sessions{{{labels}}}")).await, 0.0);
}

#[tokio::test]
async fn each_side_has_a_key_of_its_own() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&setup(&backend.url())).await;
    let (client, asked) = tokio::join!(gateway.client().ask(), backend.asked());
    let key = asked.header("sec-websocket-key").unwrap();
    let _upstream = asked.accept("").await;
    let answered = answered(client).await;
    assert_eq!(answered.status, 101);
    let own = tungstenite::handshake::derive_accept_key(key.as_bytes());
    assert_ne!(answered.header("sec-websocket-accept").unwrap(), own);
}
