//! Public sockets: several of them, the request head's deadline and limits, the balancers' question.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::client::answered;
use crate::support::gateway::http_get;
use crate::support::{Authority, Backend, Client, Gateway, Setup, Wire, within};

const HEALTH: &str = "/.framegate/health";

#[tokio::test]
async fn each_of_several_listeners_has_its_own_rules() {
    let (authority, backend) = (Authority::new(), Backend::start().await.echo());
    let folder = tempfile::tempdir().unwrap();
    let certificate = authority.sign(&["chat.example.com"]).write(folder.path(), "chat");
    let mut setup = Setup::open(&format!("http://{backend}")).timeouts("close = \"300ms\"");
    setup.more_listeners = format!(
        "[[listener]]\nbind = \"127.0.0.2:0\"\n[listener.tls]\ncertificates = [{certificate}]\n\
         [[listener]]\nbind = \"127.0.0.3:0\"\nproxy_protocol = true\ntrusted_proxies = [\"127.0.0.1\"]\n"
    );
    let mut gateway = Gateway::start_in(folder, &setup).await;
    let [plain, secure, proxied] = gateway.addresses[..] else { panic!("three listeners") };
    let stream = authority.client().connect(secure, "chat.example.com").await.unwrap();
    let header = b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\n";
    let mut sessions = [
        Client::new(plain).session().await,
        answered(Client::new(secure).ask_over(stream).await).await.wire,
        Client::new(proxied).with_before(header).session().await,
    ];
    for session in &mut sessions {
        session.send_text("hello").await;
        session.expect_text("hello").await;
        for listener in ["127.0.0.1:0", "127.0.0.2:0", "127.0.0.3:0"] {
            let series = format!("framegate_connections{{listener=\"{listener}\"}}");
            gateway.wait_for_metric(&series, 1.0).await;
        }
    }
    drop(sessions);
    let mut lines = gateway.access_lines("client_lost", 3).await;
    lines.sort_by_key(|line| line["listener"].to_string());
    let of = |line: &Value| (line["listener"].clone(), line["tls_ms"].is_number());
    let found: Vec<_> = lines.iter().map(of).collect();
    let expected = [("127.0.0.1:0", false), ("127.0.0.2:0", true), ("127.0.0.3:0", false)];
    assert_eq!(found, expected.map(|(listener, is_tls)| (listener.into(), is_tls)));
    assert_eq!(lines[2]["client"], "203.0.113.7:4711");
}

#[tokio::test]
async fn a_request_head_that_does_not_come_to_an_end_is_given_up() {
    let setup = Setup::open("http://127.0.0.1:9")
        .timeouts("request_head = \"200ms\"")
        .timeouts("tls_handshake = \"1h\"");
    let mut gateway = Gateway::start(&setup).await;
    let request = gateway.client().request();
    let half = &request.as_bytes()[..request.len() / 2];
    // Nothing at all, half a head and silence, and a head without end, byte for byte.
    let rows: [(&[u8], &[u8]); 3] = [(b"", b""), (half, b""), (b"GET /ws HTTP/1.1\r\nX: ", b"x")];
    for (sent, dripped) in rows {
        let mut wire = Wire::new(gateway.client().tcp().await, None);
        wire.send_raw(sent).await;
        let answer = wire.drip_until_end(dripped, Duration::from_millis(10)).await;
        assert_eq!(String::from_utf8(answer).unwrap(), "");
    }
    let reason = "the request head took too long";
    let is_late = |line: &Value| line["detail"] == reason;
    gateway.wait_for_log(reason, |log| log.iter().filter(|l| is_late(l)).count() == 3).await;
    for line in gateway.log().iter().filter(|line| is_late(line)) {
        assert_eq!((&line["phase"], &line["by"]), (&"request".into(), &"gateway".into()));
    }
    let series =
        "framegate_endings_total{label=\"client_timeout\",phase=\"request\",route=\"none\"}";
    assert_eq!(gateway.metric(series).await, 3.0);
}

#[tokio::test]
async fn a_request_head_over_tls_has_the_same_deadline() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let certificate = authority.sign(&["chat.example.com"]).write(folder.path(), "chat");
    let setup = Setup::open("http://127.0.0.1:9")
        .timeouts("request_head = \"200ms\"")
        .listener(&format!("[listener.tls]\ncertificates = [{certificate}]"));
    let mut gateway = Gateway::start_in(folder, &setup).await;
    for dripped in [&b""[..], b"x"] {
        let client = authority.client();
        let stream = client.connect(gateway.addresses[0], "chat.example.com").await.unwrap();
        let mut wire = Wire::new(stream, None);
        wire.send_raw(b"GET /ws HTTP/1.1\r\nX: ").await;
        assert!(wire.drip_until_end(dripped, Duration::from_millis(10)).await.is_empty());
    }
    let line = gateway.no_request_line("the request head took too long").await;
    assert_eq!((&line["phase"], &line["by"]), (&"request".into(), &"gateway".into()));
    assert!(line["tls_ms"].is_number(), "{line:#}");
}

#[tokio::test]
async fn what_is_no_readable_head_is_answered_and_logged() {
    let setup = Setup::open("http://127.0.0.1:9").timeouts("close = \"200ms\"");
    let mut gateway = Gateway::start(&setup).await;
    let head = |lines: &str| format!("GET /ws HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    let rows = [
        ("no HTTP at all\r\n\r\n".to_owned(), "400"),
        (head("broken\r\n"), "400"),
        (head(&format!("X: {}\r\n", "x".repeat(40_000))), "431"),
        (head(&"X: y\r\n".repeat(100)), "431"),
        (format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(70_000)), "431"),
    ];
    for (request, status) in &rows {
        let mut wire = Wire::new(gateway.client().tcp().await, None);
        wire.send_raw(request.as_bytes()).await;
        let answer = wire.head().await.unwrap_or_else(|| panic!("an answer {status}"));
        assert_eq!(answer.split(' ').nth(1), Some(*status), "{answer}");
        let lower = answer.to_ascii_lowercase();
        let id = lower.lines().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap();
        let body = wire.rest().await;
        assert!(body.starts_with("bad_request: ") && body.ends_with('\n'), "{body}");
        drop(wire);
        // The log says the same, by the id that the client was told.
        let line = gateway.line_of(id).await;
        let said = body.trim_start_matches("bad_request: ").trim_end();
        assert!(line["detail"].as_str().unwrap().ends_with(said), "{line} {body}");
    }
}

#[tokio::test]
async fn a_head_may_be_as_large_as_the_listener_says() {
    let backend = Backend::start().await.echo();
    for (setting, limit) in
        [("", 16 * 1024), ("head_size = \"64KiB\"", 64 * 1024), ("head_size = \"8KiB\"", 8 * 1024)]
    {
        let setup = Setup::open(&format!("http://{backend}")).listener(setting);
        let mut gateway = Gateway::start(&setup).await;
        let plain = gateway.client();
        let client = |len: usize| {
            let client = plain.clone();
            let rest = client.clone().header("Cookie", "").request().len();
            client.header("Cookie", &"x".repeat(len - rest))
        };
        assert_eq!(client(limit).connect().await.status, 101, "{setting}");
        for len in [limit + 1, limit + 10_000, limit + 100_000] {
            let answered = client(len).connect().await;
            assert_eq!(answered.status, 431, "{setting} {len}");
            let id = answered.header("x-request-id").unwrap();
            let body = answered.body().await;
            assert!(
                body.contains(&format!("larger than {limit} bytes, the listener's head_size")),
                "{body}"
            );
            gateway.line_of(&id).await;
        }
    }
}

#[tokio::test]
async fn the_balancers_question_is_answered_and_is_no_event() {
    let setup = Setup::open("http://127.0.0.1:9").timeouts("close = \"200ms\"");
    let mut gateway = Gateway::start(&setup).await;
    let mut wire = Wire::new(gateway.client().tcp().await, None);
    // One that keeps its connection for one question.
    let question =
        format!("GET {HEALTH}?probe HTTP/1.1\r\nHost: balancer\r\nConnection: close\r\n\r\n");
    wire.send_raw(question.as_bytes()).await;
    let answer = wire.rest().await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nok\n"), "{answer}");
    let mut wire = Wire::new(gateway.client().tcp().await, None);
    wire.send_raw(question.replace("GET", "HEAD").as_bytes()).await;
    let answer = wire.rest().await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
    let ok = (200, "ok\n".to_owned());
    assert_eq!(http_get(gateway.addresses[0], HEALTH, "balancer").await, ok);
    drop(wire);
    gateway.wait_for_metric("framegate_connections{listener=\"127.0.0.1:0\"}", 0.0).await;
    // Lines are written in order: what comes after it is the first.
    assert_eq!(gateway.client().path("/none").connect().await.status, 404);
    gateway.access_line("no_route").await;
    let lines = gateway.log().into_iter().filter(|line| line["type"] == "access").count();
    assert_eq!(lines, 1);
}

#[tokio::test]
async fn other_questions_about_health_are_refused() {
    let setup = Setup::open("http://127.0.0.1:9").timeouts("close = \"200ms\"");
    let mut gateway = Gateway::start(&setup).await;
    for request in ["POST /.framegate/health", "GET /.framegate/health/", "GET /.framegate"] {
        let mut wire = Wire::new(gateway.client().tcp().await, None);
        wire.send_raw(format!("{request} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await;
        let answer = wire.head().await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{request}: {answer}");
    }
    gateway.access_lines("bad_request", 3).await;
}

#[tokio::test]
async fn without_a_healthy_backend_the_question_is_answered_503() {
    let backend = Backend::start().await;
    let mut setup = Setup::open(&backend.url());
    setup.upstream = "health = { interval = \"20ms\", timeout = \"5s\", fall = 1 }\n".to_owned();
    let gateway = Gateway::start(&setup).await;
    let label = backend.address();
    let series =
        format!("framegate_upstream_healthy{{endpoint=\"http://{label}\",upstream=\"chat\"}}");
    assert_eq!(gateway.metric(&series).await, 1.0);
    assert_eq!(gateway.admin_get("/readyz").await, (200, "ready\n".to_owned()));
    drop(backend);
    gateway.wait_for_metric(&series, 0.0).await;
    let not_ready = (503, "not ready\n".to_owned());
    assert_eq!(http_get(gateway.addresses[0], HEALTH, "balancer").await, not_ready);
    let (status, reasons) = gateway.admin_get("/readyz").await;
    assert_eq!(status, 503);
    assert_eq!(reasons, "not ready\nno upstream has a healthy endpoint\n");
    assert_eq!(gateway.admin_get("/healthz").await, (200, "ok\n".to_owned()));
}

#[tokio::test]
async fn a_gateway_that_goes_down_says_so_while_it_still_serves() {
    let backend = Backend::start().await.echo();
    let mut setup = Setup::open(&format!("http://{backend}")).timeouts("close = \"300ms\"");
    setup.drain = "announce = \"1h\"\n".to_owned();
    let gateway = Gateway::start(&setup).await;
    let address = gateway.addresses[0];
    assert_eq!(http_get(address, HEALTH, "balancer").await.0, 200);
    gateway.signal("TERM");
    within("not ready", async {
        while http_get(address, HEALTH, "balancer").await.0 != 503 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(gateway.admin_get("/readyz").await, (503, "not ready\ndraining\n".to_owned()));
    let mut client = gateway.client().session().await;
    client.send_text("still here").await;
    client.expect_text("still here").await;
}

#[tokio::test]
async fn health_is_asked_over_tls_too() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let certificate = authority.sign(&["chat.example.com"]).write(folder.path(), "chat");
    let setup = Setup::open("http://127.0.0.1:9")
        .listener(&format!("[listener.tls]\ncertificates = [{certificate}]"));
    let gateway = Gateway::start_in(folder, &setup).await;
    let client = authority.client();
    let mut stream = client.connect(gateway.addresses[0], "chat.example.com").await.unwrap();
    let request = format!("GET {HEALTH} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within("the answer", stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nok\n"), "{answer}");
}
