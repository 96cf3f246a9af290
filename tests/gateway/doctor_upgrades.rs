//! doctor and the upgrade: answers that are no 101, 101s that no browser takes, compression.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::process::{Child, Command};

use crate::support::doctor::{doctor, examine, polite, serving};
use crate::support::wire::encode;
use crate::support::{Backend, Gateway, Setup, within};

fn ws(address: SocketAddr) -> String {
    format!("ws://{address}/ws")
}

/// A server that answers so.
async fn answering(answer: &str) -> SocketAddr {
    let text = answer.to_owned();
    Backend::start().await.answering(text)
}

/// An ordinary answer with this status.
fn plain(status: u16, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len())
}

#[tokio::test]
async fn each_status_of_a_server_has_its_diagnosis() {
    let rows: &[(u16, &str, &str, &str, &str)] = &[
        (200, "", "<html>", "upgrade", "no WebSocket, or a proxy removed the Upgrade"),
        (301, "Location: https://127.0.0.1/ws\r\n", "", "upgrade", "sends everybody to https"),
        (302, "Location: /login?next=%2Fws\r\n", "", "upgrade", "login page (/login)"),
        (307, "Location: /ws/\r\n", "", "upgrade", "only a slash at the end"),
        (
            400,
            "",
            "Can \"Upgrade\" only to \"WebSocket\".",
            "upgrade",
            "a proxy on the way removed them",
        ),
        (
            400,
            "Sec-WebSocket-Version: 8\r\n",
            "",
            "upgrade",
            "other versions of WebSocket only (8)",
        ),
        (401, "WWW-Authenticate: Bearer\r\n", "", "auth", "no token was sent"),
        (403, "", "", "auth", "says no"),
        (404, "Server: nginx\r\n", "", "upgrade", "calls itself \"nginx\" has nothing at /ws"),
        (405, "", "", "upgrade", "an ordinary HTTP endpoint"),
        (426, "Upgrade: websocket\r\n", "", "upgrade", "a proxy on the way removed them"),
        (429, "Retry-After: 7\r\n", "", "upgrade", "(Retry-After: 7)"),
        (500, "", "", "upgrade", "failed while it handled the handshake"),
        (502, "Server: nginx\r\n", "", "upgrade", "a proxy whose backend gave no usable answer"),
        (503, "", "", "upgrade", "takes nobody right now"),
        (504, "", "", "upgrade", "a proxy whose backend hangs"),
    ];
    for (status, headers, body, step, cause) in rows {
        let address = answering(&plain(*status, headers, body)).await;
        let walked = examine(&ws(address), &[]).await;
        walked.expect(&format!("{status} {headers}"), step, cause);
        assert!(walked.seen("upgrade").starts_with(&format!("HTTP {status} X instead of 101")));
    }
}

#[tokio::test]
async fn each_status_behind_framegate_has_its_diagnosis() {
    let rows = [
        (401, "auth", "the backend behind it refused the handshake", 401),
        (403, "auth", "the backend behind it refused the handshake", 403),
        (404, "upgrade", "the backend behind it refused the handshake", 404),
        (426, "upgrade", "the backend behind it refused the handshake", 426),
        (429, "upgrade", "the backend behind it refused the handshake", 429),
        (502, "upgrade", "the backend behind it refused the handshake", 502),
        (503, "upgrade", "the backend behind it refused the handshake", 503),
        (504, "upgrade", "the backend behind it refused the handshake", 504),
    ];
    for (status, step, cause, told) in rows {
        let backend = answering(&plain(status, "", "")).await;
        let gateway = Gateway::start(&Setup::open(&format!("http://{backend}"))).await;
        let url = ws(gateway.addresses[0]);
        let walked = examine(&url, &[]).await;
        walked.expect(&format!("{status} behind framegate"), step, cause);
        assert!(walked.seen("upgrade").contains(&format!("HTTP {told} ")), "{}", walked.json);
        let id = walked.json["request_id"].as_str().unwrap();
        assert_eq!(id.len(), 16, "{id}");
        // As a page, told by Close.
        let walked = examine(&url, &["--origin", "https://chat.example.com"]).await;
        let step = if step == "upgrade" { "messages" } else { step };
        walked.expect(&format!("{status} behind framegate, for a page"), step, cause);
    }
}

#[tokio::test]
async fn framegates_own_refusals_have_their_diagnosis() {
    let hanging = Backend::start().await;
    let gone = answering("").await;
    let rows = [
        ("no route", hanging.url(), "/other", "knows no route"),
        ("a hanging backend", hanging.url(), "/ws", "the backend behind framegate hangs"),
        ("a lost backend", format!("http://{gone}"), "/ws", "cannot be reached"),
    ];
    for (what, endpoint, path, cause) in rows {
        let setup = Setup::open(&endpoint).upstream("handshake_timeout = \"300ms\"\nretries = 0");
        let gateway = Gateway::start(&setup).await;
        let url = format!("ws://{}{path}", gateway.addresses[0]);
        examine(&url, &[]).await.expect(what, "upgrade", cause);
        let origin = ["--origin", "https://chat.example.com"];
        examine(&url, &origin).await.expect(what, "messages", cause);
    }
    let limits = "connections_per_address = 1";
    let backend = Backend::start().await;
    let gateway = Gateway::start(&Setup::open(&backend.url()).limits(limits)).await;
    let (_holder, _upstream) = tokio::join!(gateway.client().session(), backend.session());
    let walked = examine(&ws(gateway.addresses[0]), &[]).await;
    walked.expect("429 of framegate", "upgrade", "as many connections open as allowed");
    let gateway = Gateway::start(&Setup::open(&backend.url()).limits("connections = 1")).await;
    let (_holder, _upstream) = tokio::join!(gateway.client().session(), backend.session());
    let walked = examine(&ws(gateway.addresses[0]), &[]).await;
    walked.expect("503 of framegate", "upgrade", "as `limits.connections` allows");
}

#[tokio::test]
async fn a_101_that_no_browser_takes_is_refused_here_too() {
    let switching = |headers: &str| format!("HTTP/1.1 101 Switching Protocols\r\n{headers}\r\n");
    let good = "Upgrade: websocket\r\nConnection: Upgrade\r\n";
    let wrong = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
    let rows = [
        (
            "wrong accept",
            switching(&format!("{good}{wrong}")),
            "does not prove that our key was read",
        ),
        ("no accept", switching(good), "does not prove that our key was read"),
        ("no Upgrade", switching("Connection: Upgrade\r\n"), "the 101 lacks `Upgrade: websocket`"),
        (
            "no Connection",
            switching("Upgrade: websocket\r\n"),
            "the 101 lacks `Connection: Upgrade`",
        ),
        ("Upgrade twice", switching(&format!("Upgrade: websocket\r\n{good}")), "Upgrade twice"),
        (
            "another Upgrade",
            switching("Upgrade: h2c\r\nConnection: Upgrade\r\n"),
            "another value for Upgrade",
        ),
    ];
    for (what, answer, cause) in rows {
        let walked = examine(&ws(answering(&answer).await), &[]).await;
        walked.expect(what, "upgrade", cause);
        let seen = walked.seen("upgrade");
        for line in answer.lines().skip(1) {
            assert!(seen.contains(line), "{what}: {line:?} is not in {seen:?}");
        }
    }
    let chooser = serving(async |asked| {
        let mut wire = asked.accept("Sec-WebSocket-Protocol: mqtt\r\n").await;
        while wire.fill().await {}
    });
    let url = ws(chooser.await);
    let cause = "chose the subprotocol \"mqtt\", which was not offered";
    examine(&url, &[]).await.expect("unknown subprotocol", "upgrade", cause);
    examine(&url, &["--subprotocol", "chat"]).await.expect("another one", "upgrade", cause);
}

#[tokio::test]
async fn a_subprotocol_that_is_not_chosen_is_a_warning() {
    let url = ws(Backend::start().await.echo());
    let walked = examine(&url, &["--subprotocol", "chat"]).await;
    walked.expect_ok("none chosen");
    assert!(walked.warning("upgrade").contains("Chrome"), "{}", walked.json);
}

#[tokio::test]
async fn answers_that_are_no_answer_are_told_apart() {
    let hanging = serving(async |mut asked| while asked.wire.fill().await {}).await;
    let stalling = serving(async |mut asked| {
        asked.wire.send_raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: web").await;
        while asked.wire.fill().await {}
    })
    .await;
    let hinting = serving(async |mut asked| {
        asked.wire.send_raw(b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n").await;
        while asked.wire.fill().await {}
    })
    .await;
    let hints = "HTTP/1.1 103 Early Hints\r\n\r\n";
    let settings = "\0\0\u{6}\u{4}\0\0\0\0\0\0\u{3}\0\0\0\u{64}";
    let rows = [
        ("hints and silence", hinting, "only an interim answer came (HTTP 103)"),
        ("hints and the end", answering(hints).await, "only an interim answer came (HTTP 103)"),
        ("half a head", answering("HTTP/1.1 101 Sw").await, "ended in the middle of its head"),
        ("HTTP/2", answering(settings).await, "speaks HTTP/2 only"),
        ("half an answer", stalling, "its head does not come to an end"),
        ("hanging backend", hanging, "nobody answers the upgrade request"),
        ("ended", answering("").await, "ended the connection without an answer"),
        ("SSH", answering("SSH-2.0-OpenSSH_9.2p1\r\n").await, "no web server"),
        ("a broken header", answering("HTTP/1.1 101 S\r\nbroken\r\n\r\n").await, "broken HTTP"),
    ];
    for (what, address, cause) in rows {
        let walked = examine(&ws(address), &["--timeout", "600ms"]).await;
        walked.expect(what, "upgrade", cause);
        // There is no TLS, as a question on the side has shown: nobody is sent there.
        assert!(!walked.json.to_string().contains("wss://"), "{what}: {}", walked.json);
    }
}

#[tokio::test]
async fn what_is_asked_on_the_side_does_not_count_as_waiting() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = ws(listener.local_addr().unwrap());
    let (walked, _held) = tokio::join!(examine(&url, &["--timeout", "3s"]), async {
        let (mut first, _) = listener.accept().await.unwrap();
        assert!(first.read(&mut [0; 4096]).await.unwrap() > 0);
        drop(first);
        // Whether there is TLS is asked here, and not answered for two seconds.
        listener.accept().await.unwrap()
    });
    walked.expect("ended", "upgrade", "ended the connection without an answer");
    let took = walked.json["steps"][3]["ms"].as_f64().unwrap();
    assert!(took < 1500.0, "{}", walked.json);
}

#[tokio::test]
async fn who_accepts_compression_is_said_and_who_forces_it_fails() {
    const DEFLATE: &str = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    let forced = serving(async |asked| {
        let mut wire = asked.accept(DEFLATE).await;
        while wire.fill().await {}
    });
    let walked = examine(&ws(forced.await), &[]).await;
    walked.expect("compression forced on", "extensions", "even for clients that do not offer it");

    let required = serving(async |asked| match asked.header("sec-websocket-extensions") {
        Some(_) => {
            let mut wire = asked.accept(DEFLATE).await;
            while wire.fill().await {}
        }
        None => asked.answer(&plain(400, "", "")).await,
    });
    let walked = examine(&ws(required.await), &[]).await;
    walked.expect(
        "compression required",
        "extensions",
        "takes only clients that offer compression",
    );

    let other = serving(async |asked| {
        let mut wire = asked.accept("Sec-WebSocket-Extensions: x-webkit-deflate-frame\r\n").await;
        while wire.fill().await {}
    });
    let walked = examine(&ws(other.await), &[]).await;
    walked.expect("another extension", "extensions", "not offered (x-webkit-deflate-frame)");

    let optional = serving(async |asked| {
        let offer = asked.header("sec-websocket-extensions");
        let accepted = format!("Server: deflating/1\r\n{DEFLATE}");
        let headers = if offer.is_some() { accepted.as_str() } else { "" };
        polite(asked.accept(headers).await).await;
    });
    let backend = optional.await;
    let walked = examine(&ws(backend), &[]).await;
    walked.expect_ok("compression accepted");
    let seen = walked.seen("extensions");
    assert!(seen.contains("accepted by a server that calls itself \"deflating/1\""), "{seen}");
    assert!(seen.contains("without the offer works too"), "{seen}");

    let gateway = Gateway::start(&Setup::open(&format!("http://{backend}"))).await;
    let walked = examine(&ws(gateway.addresses[0]), &[]).await;
    walked.expect_ok("framegate in front");
    assert!(walked.seen("extensions").contains("declined it, as framegate always does"));
}

#[tokio::test]
async fn compressed_frames_that_nobody_agreed_on_are_a_matter_of_extensions() {
    let at_once = serving(async |asked| {
        let mut wire = asked.accept("").await;
        wire.send_raw(&encode(0xc1, b"\xf2H\xcd\xc9\xc9\x07\0", None)).await;
        while wire.fill().await {}
    });
    let walked = examine(&ws(at_once.await), &[]).await;
    walked.expect("RSV1 on joining", "extensions", "compressed frames (RSV1 is set)");
    let as_answer = serving(async |asked| {
        let mut wire = asked.accept("").await;
        wire.frame().await;
        wire.send_raw(&encode(0xc1, b"\xf2H\xcd\xc9\xc9\x07\0", None)).await;
        while wire.fill().await {}
    });
    let walked = examine(&ws(as_answer.await), &["--send", "hello"]).await;
    walked.expect("RSV1 live", "extensions", "compressed frames (RSV1 is set)");
}

/// A running nginx, which ends when this is dropped.
struct Nginx {
    address: SocketAddr,
    _child: Child,
    /// Holds the port: nginx shares it (`reuseport`), and nobody else can have it.
    _port: TcpSocket,
}

/// nginx with this `location`.
async fn nginx(folder: &Path, location: &str) -> Nginx {
    let port = TcpSocket::new_v4().unwrap();
    port.set_reuseport(true).unwrap();
    port.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = port.local_addr().unwrap();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path tmp;"))
        .join(" ");
    let config = format!(
        "daemon off; master_process off; pid nginx.pid; error_log stderr;\n\
         events {{ worker_connections 64; }}\n\
         http {{ access_log off; {temporary}\n\
         server {{ listen {address} reuseport; location / {{ {location} }} }} }}\n"
    );
    std::fs::write(folder.join("nginx.conf"), config).unwrap();
    let mut command = Command::new("nginx");
    command.arg("-p").arg(folder).args(["-c", "nginx.conf", "-e", "stderr"]);
    command.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn().expect("nginx is missing: apt-get install nginx-light");
    within("nginx listening", async {
        while TcpStream::connect(address).await.is_err() {
            assert!(child.try_wait().unwrap().is_none(), "nginx does not take its configuration");
            tokio::task::yield_now().await;
        }
    })
    .await;
    Nginx { address, _child: child, _port: port }
}

#[tokio::test]
async fn an_nginx_without_upgrade_headers_is_found_out() {
    let websocket = serving(async |asked| match asked.header("upgrade") {
        Some(_) => {
            let mut wire = asked.accept("").await;
            while wire.fill().await {}
        }
        None => asked.answer(&plain(426, "Upgrade: websocket\r\n", "Upgrade Required")).await,
    })
    .await;
    let gateway = Gateway::start(&Setup::open(&format!("http://{websocket}"))).await;
    for (what, behind) in [("a backend", websocket), ("framegate", gateway.addresses[0])] {
        let folder = tempfile::tempdir().unwrap();
        let location = format!("proxy_pass http://{behind};");
        let nginx = nginx(folder.path(), &location).await;
        let walked = examine(&ws(nginx.address), &[]).await;
        walked.expect(
            &format!("nginx without the headers before {what}"),
            "upgrade",
            "a proxy on the way removed them (the answer came from a server that calls itself \"nginx",
        );
    }
}

#[tokio::test]
async fn two_urls_side_by_side_say_whose_fault_it_is() {
    let backend = Backend::start().await.echo();
    let gateway = Gateway::start(&Setup::open(&format!("http://{backend}"))).await;
    let (front, direct) = (format!("ws://{}/typo", gateway.addresses[0]), ws(backend));
    let (code, stdout, _) = doctor(&[&front, "--compare", &direct]).await;
    assert_eq!(code, 13, "{stdout}");
    let verdict = format!(
        "{front} fails at upgrade, {direct} works: the fault lies with what stands in front"
    );
    assert!(stdout.contains(&verdict), "{stdout}");
    assert!(stdout.contains("cause: framegate knows no route"), "{stdout}");
    let walked = examine(&direct, &["--compare", &front]).await;
    assert_eq!((walked.code, &walked.json["ok"]), (13, &true.into()), "{:#}", walked.json);
    assert_eq!(walked.json["compare"]["failed"], "upgrade");
    assert!(walked.json["verdict"].as_str().unwrap().contains("for clients all is well"));
    let refusing = answering(&plain(500, "", "")).await;
    let gateway = Gateway::start(&Setup::open(&format!("http://{refusing}"))).await;
    let front = ws(gateway.addresses[0]);
    let alone = examine(&front, &[]).await;
    assert!(alone.cure("upgrade").contains("directly with --compare and"), "{}", alone.json);
    let walked = examine(&front, &["--compare", &ws(refusing)]).await;
    assert!(walked.cure("upgrade").contains("directly (the other URL of"), "{}", walked.json);
    assert!(!walked.json.to_string().contains("--compare"), "{}", walked.json);
}
