//! The opening handshake: what is read strictly, and what the upstream gets of it.

use serde_json::json;

use crate::support::backend::{Asked, header};
use crate::support::client::answered;
use crate::support::tokens::{subprotocol_entry, token, token_with};
use crate::support::wire::{TEXT, encode};
use crate::support::{Backend, Gateway, Setup};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// For [`KEY`], from RFC 6455 section 1.3.
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

const GOOD: [&str; 5] = [
    "Host: chat.example.com",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

/// A good request with this request line, without the headers of these names, with these lines.
fn request(first: &str, without: &[&str], with: &[&str]) -> String {
    let is_left_out = |line: &&str| {
        let name = line.split(':').next().unwrap();
        without.iter().any(|other| other.eq_ignore_ascii_case(name))
    };
    let mut lines = vec![first];
    lines.extend(GOOD.into_iter().filter(|line| !is_left_out(line)));
    lines.extend(with);
    lines.join("\r\n") + "\r\n\r\n"
}

const GET: &str = "GET /ws HTTP/1.1";

/// A good request but that these headers are replaced, each by its lines.
fn replaced(with: &[&str]) -> String {
    let names: Vec<_> = with.iter().map(|line| line.split(':').next().unwrap()).collect();
    request(GET, &names, with)
}

fn added(with: &[&str]) -> String {
    request(GET, &[], with)
}

async fn gateway_and_backend() -> (Gateway, Backend) {
    let backend = Backend::start().await;
    let setup = Setup::open(&backend.url()).timeouts("close = \"300ms\"");
    (Gateway::start(&setup).await, backend)
}

/// None of what was sent before has reached the upstream: this is the first it sees.
async fn assert_untouched(gateway: &Gateway, backend: &Backend) {
    let client = gateway.client().path("/ws?first=1");
    let (mut client, asked) = tokio::join!(client.ask(), backend.asked());
    assert!(asked.head.starts_with("GET /ws?first=1 HTTP/1.1\r\n"), "{}", asked.head);
    let mut upstream = asked.accept("").await;
    client.head().await.unwrap();
    upstream.send_text("yes").await;
    client.expect_text("yes").await;
}

#[tokio::test]
async fn every_legal_spelling_is_accepted() {
    let backend = Backend::start().await.echo();
    let gateway = Gateway::start(&Setup::open(&format!("http://{backend}"))).await;
    let rows = [
        added(&[]),
        added(&[])
            .to_ascii_lowercase()
            .replace("get /ws http/1.1", GET)
            .replace(&KEY.to_ascii_lowercase(), KEY),
        replaced(&["Upgrade: WebSocket"]),
        replaced(&["Upgrade: h2c, websocket"]),
        replaced(&["Connection: keep-alive, Upgrade"]),
        replaced(&["Connection: keep-alive", "Connection: upgrade"]),
        replaced(&["Sec-WebSocket-Version:13"]),
        added(&["Content-Length: 0"]),
        added(&["Sec-WebSocket-Protocol: a, b", "Sec-WebSocket-Protocol: c"]),
        // RFC 9112 section 2.2.
        added(&[]).replace("\r\n", "\n"),
        format!("\r\n{}", added(&[])),
        replaced(&["Host: [2001:db8::1]:8080"]),
        request("GET /ws?a=%20b&&c=?/ HTTP/1.1", &[], &[]),
    ];
    for raw in rows {
        let answered = answered(gateway.client().raw(raw.as_bytes()).await).await;
        assert_eq!(answered.status, 101, "{raw}");
        assert_eq!(answered.header("sec-websocket-accept").unwrap(), ACCEPT, "{raw}");
        assert_eq!(answered.header("upgrade").unwrap(), "websocket");
        assert_eq!(answered.header("connection").unwrap(), "Upgrade");
        assert_eq!(answered.header("sec-websocket-extensions"), None);
        assert_eq!(answered.header("sec-websocket-protocol"), None);
    }
}

/// Requests that are HTTP and no handshake, with a word of the explanation.
fn no_handshakes() -> Vec<(String, u16, &'static str)> {
    let line = |first: &str| request(first, &[], &[]);
    let without = |name: &str| request(GET, &[name], &[]);
    vec![
        (line("POST /ws HTTP/1.1"), 400, "GET"),
        (line("HEAD /ws HTTP/1.1"), 400, ""),
        (line("OPTIONS * HTTP/1.1"), 400, "GET"),
        (line("CONNECT chat.example.com:80 HTTP/1.1"), 400, "GET"),
        (line("GET /ws HTTP/1.0"), 400, "HTTP/1.1"),
        (line("GET http://evil.example/ws HTTP/1.1"), 400, "Host"),
        (line("GET ftp://chat.example.com/ws HTTP/1.1"), 400, "path"),
        (line("GET * HTTP/1.1"), 400, "path"),
        (without("Host"), 400, "Host"),
        (without("Upgrade"), 400, "Upgrade"),
        (without("Connection"), 400, "Connection"),
        (without("Sec-WebSocket-Version"), 426, "13"),
        (without("Sec-WebSocket-Key"), 400, "Sec-WebSocket-Key"),
        (added(&["Host: chat.example.com"]), 400, "Host"),
        (added(&["Host: other.example.com"]), 400, "Host"),
        (replaced(&["Host: "]), 400, "Host"),
        (replaced(&["Host: a, b"]), 400, "Host"),
        (replaced(&["Host: user@chat.example.com"]), 400, "Host"),
        (replaced(&["Host: chat.example.com/x"]), 400, "Host"),
        (replaced(&["Host: chat.example.com:99999"]), 400, "Host"),
        (replaced(&["Upgrade: h2c"]), 400, "websocket"),
        (replaced(&["Upgrade: websocket/13"]), 400, "websocket"),
        (replaced(&["Connection: close"]), 400, "Connection"),
        (replaced(&["Sec-WebSocket-Version: 8"]), 426, "13"),
        (replaced(&["Sec-WebSocket-Version: 13, 8"]), 426, "13"),
        (replaced(&["Sec-WebSocket-Version: 013"]), 426, "13"),
        (added(&["Sec-WebSocket-Version: 13"]), 426, "13"),
        (added(&["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]), 400, "exactly one"),
        (replaced(&["Sec-WebSocket-Key: "]), 400, "24 characters"),
        (replaced(&["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ"]), 400, "24 characters"),
        (replaced(&["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZSBvZiAyMA=="]), 400, "24"),
        (replaced(&["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j!Q=="]), 400, "24 characters"),
        (added(&["Origin: https://a.example", "Origin: https://a.example"]), 400, "Origin"),
        (added(&["Origin: "]), 400, "Origin"),
        (added(&["Origin: https://a.example https://b.example"]), 400, "Origin"),
    ]
}

/// The same: lists that are none, and bodies.
fn no_handshakes_either() -> Vec<(String, u16, &'static str)> {
    let many: String = (0..65).map(|n| format!("p{n},")).collect();
    let many = format!("Sec-WebSocket-Protocol: {many}");
    vec![
        (added(&["Sec-WebSocket-Protocol: "]), 400, "Sec-WebSocket-Protocol"),
        (added(&["Sec-WebSocket-Protocol: a b"]), 400, "Sec-WebSocket-Protocol"),
        (added(&["Sec-WebSocket-Protocol: a/b"]), 400, "Sec-WebSocket-Protocol"),
        (added(&["Sec-WebSocket-Protocol: a, b, a"]), 400, "twice"),
        (added(&["Sec-WebSocket-Protocol: a", "Sec-WebSocket-Protocol: a"]), 400, "twice"),
        (added(&[&many]), 400, "64"),
        (added(&["Transfer-Encoding: chunked"]), 400, "Transfer-Encoding"),
        (added(&["Transfer-Encoding: chunked"]) + "0\r\n\r\n", 400, "Transfer-Encoding"),
        (added(&["Content-Length: 5"]) + "hello", 400, "Content-Length"),
        (added(&["Content-Length: 5"]), 400, "Content-Length"),
    ]
}

#[tokio::test]
async fn what_is_no_handshake_is_refused_with_the_reason() {
    let (mut gateway, backend) = gateway_and_backend().await;
    let rows = [no_handshakes(), no_handshakes_either()].concat();
    let count = rows.len();
    for (raw, status, why) in rows {
        let mut answered = answered(gateway.client().raw(raw.as_bytes()).await).await;
        assert_eq!(answered.status, status, "{raw}\n{}", answered.head);
        let id = answered.header("x-request-id").unwrap();
        let body = answered.wire.rest().await;
        let is_told = body.starts_with("bad_request: ") && body.contains(why);
        assert!(is_told || raw.starts_with("HEAD"), "{raw}\n{body}");
        drop(answered);
        let line = gateway.line_of(&id).await;
        assert_eq!(line["label"], "bad_request", "{raw}");
        assert_eq!(line["status"], status, "{raw}");
        assert_eq!((&line["by"], &line["phase"]), (&json!("client"), &json!("request")));
    }
    let series = "framegate_handshakes_total{result=\"bad_request\",route=\"none\"}";
    assert_eq!(gateway.metric(series).await, count as f64);
    assert_untouched(&gateway, &backend).await;
}

/// Requests that cannot be read as one in one way only, with the status of the parser's bare
/// answer; 0: none.
fn unreadable() -> Vec<(String, u16)> {
    let headers = |count| -> Vec<String> { (0..count).map(|n| format!("H{n}: x")).collect() };
    let lines = |lines: &[String]| added(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    let large = |size| added(&[&format!("Large: {}", "x".repeat(size))]);
    vec![
        (added(&["Folded: a\r\n b"]), 400),
        (added(&["Folded: a\r\n\tTransfer-Encoding: chunked"]), 400),
        (added(&["Transfer-Encoding : chunked"]), 400),
        (added(&[" Transfer-Encoding: chunked"]), 400),
        (replaced(&["Host : chat.example.com"]), 400),
        (added(&["No-Colon"]), 400),
        (added(&[": no name"]), 400),
        (added(&["Nul: a\0b"]), 400),
        (added(&["N\0ul: ab"]), 400),
        (added(&["Return: a\rX-Auth-User: b"]), 400),
        (request("GET /w\0s HTTP/1.1", &[], &[]), 400),
        (request("GET /ws", &[], &[]), 400),
        (request("GET /w s HTTP/1.1", &[], &[]), 400),
        (request("GET  /ws HTTP/1.1", &[], &[]), 400),
        (request("GET /ws HTTP/2.0", &[], &[]), 400),
        (request("GET /ws HTTP/1.1 ", &[], &[]), 400),
        (request(" GET /ws HTTP/1.1", &[], &[]), 400),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 400),
        (added(&["Content-Length: 5", "Content-Length: 6"]), 400),
        (added(&["Content-Length: -1"]), 400),
        (added(&["Content-Length: +0"]), 400),
        (added(&["Transfer-Encoding: gzip"]), 400),
        (added(&["Transfer-Encoding: chunked, identity"]), 400),
        (lines(&headers(96)), 431),
        (lines(&headers(10_000)), 431),
        (large(16 * 1024), 431),
        (large(100_000), 431),
        (request(&format!("GET /{} HTTP/1.1", "x".repeat(100_000)), &[], &[]), 431),
    ]
}

#[tokio::test]
async fn what_can_be_read_in_two_ways_is_not_read() {
    let (mut gateway, backend) = gateway_and_backend().await;
    let rows = unreadable();
    for (raw, status) in &rows {
        let shown = raw.get(..400).unwrap_or(raw);
        let mut wire = gateway.client().raw(raw.as_bytes()).await;
        // RST would be a fault: the answer is lost with it.
        let answer = wire.rest().await;
        let first = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&first), "{shown:?}: {answer}");
        assert!(answer.to_ascii_lowercase().contains("connection: close\r\n"), "{answer}");
        assert!(answer.contains("\r\n\r\nbad_request: "), "{answer}");
    }
    let is_line = |line: &serde_json::Value| {
        line["outcome"] == "no_request" || line["label"] == "bad_request"
    };
    let count = rows.len();
    let all =
        |lines: &[serde_json::Value]| lines.iter().filter(|line| is_line(line)).count() == count;
    gateway.wait_for_log("a line for each", all).await;
    assert_untouched(&gateway, &backend).await;
}

#[tokio::test]
async fn a_head_up_to_the_limits_is_read() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&Setup::open(&backend.url())).await;
    let mut headers: Vec<String> = (0..95).map(|n| format!("H{n}: x")).collect();
    headers[0] = format!("Large: {}", "x".repeat(14_000));
    let raw = added(&headers.iter().map(String::as_str).collect::<Vec<_>>());
    let (client, asked) = tokio::join!(gateway.client().raw(raw.as_bytes()), backend.asked());
    assert_eq!(asked.header("large").unwrap().len(), 14_000);
    assert_eq!(asked.header("h94").unwrap(), "x");
    let _upstream = asked.accept("").await;
    assert_eq!(answered(client).await.status, 101);
}

#[tokio::test]
async fn a_second_request_behind_the_first_is_never_answered() {
    let (mut gateway, backend) = gateway_and_backend().await;
    // Behind a refused request, whatever it is.
    for first in [request("GET /nowhere HTTP/1.1", &[], &[]), replaced(&["Upgrade: h2c"])] {
        let raw = first + &request("GET /ws?smuggled=1 HTTP/1.1", &[], &[]);
        let mut wire = gateway.client().raw(raw.as_bytes()).await;
        let answer = wire.rest().await;
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    }
    // Behind an accepted one it is a frame, and an illegal one.
    let raw = added(&[]) + &request("GET /ws?smuggled=1 HTTP/1.1", &[], &[]);
    let (mut client, asked) = tokio::join!(gateway.client().raw(raw.as_bytes()), backend.asked());
    assert!(asked.head.starts_with("GET /ws HTTP/1.1\r\n"), "{}", asked.head);
    let mut upstream = asked.accept("").await;
    client.head().await.unwrap();
    assert_eq!(client.expect_close().await, (Some(1002), "client_violation".to_owned()));
    assert_eq!(upstream.expect_close().await.0, Some(1001));
    drop((client, upstream));
    gateway.access_line("client_violation").await;
    assert_untouched(&gateway, &backend).await;
}

#[tokio::test]
async fn a_balancers_question_is_answered_and_holds_no_connection() {
    let backend = Backend::start().await;
    let setup = Setup::open(&backend.url()).listener("http = { keep_alive = \"0s\" }");
    let gateway = Gateway::start(&setup).await;
    let health = "GET /.framegate/health HTTP/1.1\r\nHost: balancer\r\n\r\n";
    let mut client = gateway.client().raw(health.repeat(3).as_bytes()).await;
    let head = client.head().await.unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(head.contains("connection: close"), "{head}");
    assert_eq!(client.rest().await, "ok\n");
    drop(client);
    gateway.wait_for_metric("framegate_connections{listener=\"127.0.0.1:0\"}", 0.0).await;
}

#[tokio::test]
async fn the_upstream_gets_the_path_that_the_router_saw() {
    let backend = Backend::start().await;
    let setup = Setup::open("unix:none")
        .timeouts("close = \"300ms\"")
        .another_upstream("back", &[&backend.url()], "")
        .another_route("/chats/{id}/ws", "back", "verifier = \"none\"")
        .another_route("/files/{*rest}", "back", "verifier = \"none\"");
    let mut gateway = Gateway::start(&setup).await;
    let rows = [
        ("/chats/7/ws", "/chats/7/ws", "/chats/{id}/ws"),
        ("/chats/7/ws?token=%2e%2e/%2F", "/chats/7/ws?token=%2e%2e/%2F", "/chats/{id}/ws"),
        ("/%63hats/%37/%77s", "/chats/7/ws", "/chats/{id}/ws"),
        ("/chats/a%20b%c3%a9/ws", "/chats/a%20b%c3%a9/ws", "/chats/{id}/ws"),
        ("/chats/%2525/ws?", "/chats/%2525/ws?", "/chats/{id}/ws"),
        ("/chats/a;b=c/ws", "/chats/a;b=c/ws", "/chats/{id}/ws"),
        ("/files/", "/files/", "/files/{*rest}"),
        ("/files/a/b%2Dc/..d/", "/files/a/b-c/..d/", "/files/{*rest}"),
    ];
    for (sent, received, route) in rows {
        let client = gateway.client().path(sent);
        let (client, asked) = tokio::join!(client.ask(), backend.asked());
        assert_eq!(asked.head.lines().next().unwrap(), format!("GET {received} HTTP/1.1"));
        let upstream = asked.accept("").await;
        let answered = answered(client).await;
        let id = answered.header("x-request-id").unwrap();
        drop((answered, upstream));
        let line = gateway.line_of(&id).await;
        assert_eq!(line["route"], route, "{sent}");
        assert_eq!(line["path"], received.split('?').next().unwrap(), "{sent}");
    }
}

#[tokio::test]
async fn a_path_that_could_be_read_in_two_ways_is_refused() {
    let (mut gateway, backend) = gateway_and_backend().await;
    let paths = [
        "/./ws",
        "/../ws",
        "/a/../ws",
        "/ws/.",
        "/ws/..",
        "/%2e/ws",
        "/%2E%2e/ws",
        "/.%2e/ws",
        "/a/..;x=y/ws",
        "//ws",
        "/a//b",
        "/ws//",
        "/a%2Fws",
        "/a%2fws",
        "/a%5Cws",
        "/a%5cws",
        "/a\\ws",
        "/ws%00",
        "/ws%0a",
        "/ws%0D",
        "/ws%7f",
        "/ws%",
        "/ws%2",
        "/ws%zz",
        "/ws%+1",
    ];
    for path in paths {
        let mut answered = gateway.client().path(path).connect().await;
        assert_eq!(answered.status, 400, "{path} {}", answered.head);
        let id = answered.header("x-request-id").unwrap();
        assert!(answered.wire.rest().await.starts_with("bad_request: the path "), "{path}");
        drop(answered);
        assert_eq!(gateway.line_of(&id).await["label"], "bad_request", "{path}");
    }
    assert_untouched(&gateway, &backend).await;
}

#[tokio::test]
async fn the_101_selects_the_upstreams_subprotocol_or_what_a_browser_accepts() {
    let backend = Backend::start().await;
    let mut gateway = Gateway::start(&Setup::open(&backend.url())).await;
    let entry = subprotocol_entry("no token here");
    // Offered, what the upstream is offered, its choice, what the client gets, what is logged.
    type Row<'a> = (String, Option<&'a str>, Option<&'a str>, Option<&'a str>, Option<&'a str>);
    let rows: [Row<'_>; 9] = [
        ("a, b".to_owned(), Some("a, b"), Some("b"), Some("b"), Some("b")),
        ("a, b".to_owned(), Some("a, b"), None, None, None),
        ("a,framegate,b".to_owned(), Some("a, b"), Some("a"), Some("a"), Some("a")),
        ("a, framegate".to_owned(), Some("a"), None, Some("framegate"), Some("framegate")),
        ("framegate".to_owned(), None, None, Some("framegate"), Some("framegate")),
        (format!("framegate, {entry}, a"), Some("a"), Some("a"), Some("a"), Some("a")),
        (format!("framegate, {entry}"), None, None, Some("framegate"), Some("framegate")),
        (format!("{entry}, a"), Some("a"), None, None, None),
        // Chromium would fail a 101 without; it is a token, and not for the log.
        (entry.clone(), None, None, Some(&entry), None),
    ];
    for (offered, upstream_offer, choice, selected, logged) in &rows {
        let client = gateway.client().header("Sec-WebSocket-Protocol", offered);
        let (client, asked) = tokio::join!(client.ask(), backend.asked());
        let header = asked.header("sec-websocket-protocol");
        assert_eq!(header.as_deref(), *upstream_offer, "{offered}");
        let choice = choice.map(|name| format!("Sec-WebSocket-Protocol: {name}\r\n"));
        let upstream = asked.accept(&choice.unwrap_or_default()).await;
        let answered = answered(client).await;
        assert_eq!(answered.header("sec-websocket-protocol").as_deref(), *selected, "{offered}");
        let id = answered.header("x-request-id").unwrap();
        drop((answered, upstream));
        let line = gateway.line_of(&id).await;
        assert_eq!(line["subprotocol"].as_str(), *logged, "{offered}");
    }
}

#[tokio::test]
async fn extensions_are_stripped_and_counted() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&Setup::open(&backend.url())).await;
    let deflate = "permessage-deflate; client_max_window_bits";
    let rows = [
        (deflate, (1.0, 0.0)),
        ("x-webkit-deflate-frame", (1.0, 1.0)),
        ("permessage-bzip2, PerMessage-Deflate", (2.0, 2.0)),
        (",", (2.0, 2.0)),
    ];
    for (offered, counted) in rows {
        let client = gateway.client().header("Sec-WebSocket-Extensions", offered);
        let (client, asked) = tokio::join!(client.ask(), backend.asked());
        assert_eq!(asked.header("sec-websocket-extensions"), None);
        let _upstream = asked.accept("").await;
        let answered = answered(client).await;
        assert_eq!((answered.status, answered.header("sec-websocket-extensions")), (101, None));
        let metric = async |extension: &str| {
            let labels = format!("extension=\"{extension}\"");
            gateway.metric(&format!("framegate_extensions_stripped_total{{{labels}}}")).await
        };
        assert_eq!((metric("permessage-deflate").await, metric("other").await), counted);
    }
}

/// Name (lower case) and value of each header, sorted.
fn headers(asked: &Asked) -> Vec<(String, String)> {
    let lines = asked.head.trim_end().split("\r\n").skip(1);
    let pair = |line: &str| {
        let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("{line:?}"));
        (name.to_ascii_lowercase(), value.to_owned())
    };
    let mut all: Vec<_> = lines.map(pair).collect();
    all.sort();
    all
}

fn owned(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut all: Vec<_> =
        expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    all.sort();
    all
}

/// Of the hop, of the handshake and end to end; Connection lists some that must pass nevertheless.
const ALL_KINDS: &[&str] = &[
    "Connection: keep-alive, Upgrade, X-Hop, Origin, Cookie, Authorization, Host",
    "X-Hop: 1",
    "Keep-Alive: timeout=5",
    "TE: trailers",
    "Trailer: X",
    "Proxy-Connection: x",
    "Proxy-Authorization: Basic eA==",
    "HTTP2-Settings: AAMAAABkAAQAAP__",
    "Content-Length: 0",
    "Sec-WebSocket-Extensions: permessage-deflate",
    "Sec-WebSocket-Accept: x",
    "Origin: https://chat.example.com",
    "User-Agent: a (b; c)",
    "Cookie: a=b; c=\"d\"",
    "Authorization: Basic dTpw",
    "X-Own: 1",
    "X-Own: 2",
    "Accept-Language: de, en;q=0.5",
];

#[tokio::test]
async fn end_to_end_headers_pass_and_those_of_the_hop_do_not() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&Setup::open(&backend.url())).await;
    let raw = request(GET, &["connection"], ALL_KINDS);
    let (_client, asked) = tokio::join!(gateway.client().raw(raw.as_bytes()), backend.asked());
    let (id, key) =
        (asked.header("x-request-id").unwrap(), asked.header("sec-websocket-key").unwrap());
    assert_ne!(key, KEY, "the client's key is not the gateway's");
    let expected = [
        ("host", "chat.example.com"),
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", &key),
        ("x-request-id", &id),
        ("origin", "https://chat.example.com"),
        ("user-agent", "a (b; c)"),
        ("cookie", "a=b; c=\"d\""),
        ("authorization", "Basic dTpw"),
        ("x-own", "1"),
        ("x-own", "2"),
        ("accept-language", "de, en;q=0.5"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "chat.example.com"),
        ("x-real-ip", "127.0.0.1"),
        ("forwarded", "for=127.0.0.1;proto=http;host=chat.example.com"),
    ];
    assert_eq!(headers(&asked), owned(&expected));
}

#[tokio::test]
async fn headers_by_which_backends_believe_a_proxy_cannot_be_spoofed_in_any_spelling() {
    let backend = Backend::start().await;
    let setup = Setup::open(&backend.url()).listener("trusted_proxies = [\"127.0.0.1\"]");
    let setup = setup.another_route("/users", "chat", "verifier = \"users\"");
    let mut gateway = Gateway::start(&setup).await;
    let names = [
        "X-Auth-User",
        "X_Auth_User",
        "x-auth_user",
        "X_AUTH-USER",
        "X.Auth.User",
        "X~Auth~User",
        "X-Auth-Claims",
        "X_Auth_Claims",
        "X_Request_Id",
        "X-Real-IP",
        "X_Real_IP",
        "X_Forwarded_For",
        "X-Forwarded_Proto",
        "X_Forwarded-Host",
        "X-Forwarded-Port",
        "X-Forwarded-Prefix",
        "X-Forwarded-User",
        "X_Forwarded_Proto",
        "Forwarded",
    ];
    for (path, user) in [("/ws", None), ("/users", Some("ann"))] {
        let mut client = gateway.client().path(path).token(&token("ann"));
        for name in names {
            client = client.header(name, "spoofed");
        }
        let (client, asked) = tokio::join!(client.ask(), backend.asked());
        assert!(!asked.head.contains("spoofed"), "{}", asked.head);
        assert!(
            !headers(&asked).iter().any(|(name, _)| name.contains(['_', '.', '~'])),
            "{}",
            asked.head
        );
        assert_eq!(asked.header("x-auth-user").as_deref(), user);
        let id = asked.header("x-request-id").unwrap();
        let upstream = asked.accept("").await;
        let answered = answered(client).await;
        assert_eq!(answered.header("x-request-id").unwrap(), id);
        drop((answered, upstream));
        assert_eq!(gateway.line_of(&id).await["user"].as_str(), user);
    }
}

#[tokio::test]
async fn the_identity_goes_upstream_as_the_route_says() {
    let backend = Backend::start().await;
    let route = |forward: &str| format!("verifier = \"users\"\nforward = {{ {forward} }}");
    let setup = Setup::open(&backend.url())
        .another_route("/user", "chat", "verifier = \"users\"")
        .another_route("/off", "chat", &route("identity = false, claims = [\"role\"]"))
        .another_route("/claims", "chat", &route("claims = [\"role\", \"org\", \"absent\"]"))
        .another_route("/absent", "chat", &route("claims = [\"absent\"]"));
    let mut gateway = Gateway::start(&setup).await;
    let claims = json!({"role": ["a", "b"], "org": {"id": 7}, "secret": 1});
    // base64url of {"org":{"id":7},"role":["a","b"]}
    let forwarded = "eyJvcmciOnsiaWQiOjd9LCJyb2xlIjpbImEiLCJiIl19";
    let rows = [
        ("/user", "ann", Some("ann"), None),
        ("/user", "Jürgen 100%", Some("J%C3%BCrgen%20100%25"), None),
        ("/user", "a|b@example.com", Some("a|b@example.com"), None),
        ("/off", "ann", None, None),
        ("/claims", "ann", Some("ann"), Some(forwarded)),
        ("/absent", "ann", Some("ann"), None),
    ];
    for (path, user, expected, claimed) in rows {
        let client = gateway.client().path(path).token(&token_with(user, claims.clone()));
        let (client, asked) = tokio::join!(client.ask(), backend.asked());
        assert_eq!(asked.header("x-auth-user").as_deref(), expected, "{path} {user}");
        assert_eq!(asked.header("x-auth-claims").as_deref(), claimed, "{path} {user}");
        let id = asked.header("x-request-id").unwrap();
        let upstream = asked.accept("").await;
        answered(client).await;
        drop(upstream);
        assert_eq!(gateway.line_of(&id).await["user"], user);
    }
}

#[tokio::test]
async fn claims_that_are_too_large_to_be_forwarded_are_refused() {
    let backend = Backend::start().await;
    let setup = Setup::with_tokens(&backend.url()).timeouts("close = \"300ms\"");
    let setup = setup.route("forward = { claims = [\"large\"] }");
    let mut gateway = Gateway::start(&setup).await;
    let client = gateway.client().token(&token_with("ann", json!({"large": "x".repeat(6500)})));
    let row = crate::support::Refusal::by_upstream("token_malformed", 401, 4401, "/ws");
    let row = crate::support::Refusal { by: "gateway", phase: "admission", ..row };
    row.by_http(&mut gateway, client).await;
}

/// Authorization, Cookie, query and Sec-WebSocket-Protocol of a request.
type Places<'a> = [Option<&'a str>; 4];

/// What the upstream gets of a token that stood in one of the places.
async fn assert_forwarded(
    (gateway, backend): (&Gateway, &Backend),
    path: &str,
    sent: Places<'_>,
    expected: Places<'_>,
) {
    let target = |query: Option<&str>| match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let [authorization, cookie, query, offered] = sent;
    let mut client = gateway.client().path(&target(query));
    let names = ["Authorization", "Cookie", "Sec-WebSocket-Protocol"];
    for (name, value) in names.into_iter().zip([authorization, cookie, offered]) {
        client = value.iter().fold(client, |client, value| client.header(name, value));
    }
    let (client, asked) = tokio::join!(client.ask(), backend.asked());
    let [authorization, cookie, query, offered] = expected;
    let first = format!("GET {} HTTP/1.1", target(query));
    assert_eq!(asked.head.lines().next(), Some(&*first), "{path}");
    let found = names.map(|name| header(&asked.head, name));
    let expected = [authorization, cookie, offered].map(|value| value.map(str::to_owned));
    assert_eq!(found, expected, "{path}");
    assert_eq!(asked.header("x-auth-user").as_deref(), Some("ann"), "{path}");
    let _upstream = asked.accept("").await;
    assert_eq!(answered(client).await.status, 101, "{path}");
}

#[tokio::test]
async fn the_token_is_kept_stripped_or_moved_wherever_it_came_from() {
    let backend = Backend::start().await;
    let mut setup = Setup::open(&backend.url());
    let sources = ["header", "cookie:session", "query:token", "subprotocol:bearer", "subprotocol"];
    let names = ["header", "cookie", "query", "after", "entry"];
    for (source, name) in sources.into_iter().zip(names) {
        setup = setup.another_verifier(name, &format!("sources = [\"{source}\"]"));
        for mode in ["keep", "strip", "authorization"] {
            let lines = format!("verifier = \"{name}\"\nforward = {{ token = \"{mode}\" }}");
            setup = setup.another_route(&format!("/{name}/{mode}"), "chat", &lines);
        }
    }
    let gateway = Gateway::start(&setup).await;
    let (token, basic) = (token("ann"), Some("Basic dTpw"));
    let bearer = format!("Bearer {token}");
    let cookie = format!("a=b; session={token}; c=d");
    let query = format!("a=1&token={token}&b=2");
    let after = format!("x, bearer, {token}, y");
    let entry = format!("framegate, {}, x, y", subprotocol_entry(&token));
    let (ab, abcd) = (Some("a=b"), Some("a=b; c=d"));
    // Name, what is sent, what stripping leaves of it.
    let rows: [(&str, Places<'_>, Places<'_>); 5] = [
        ("header", [Some(&bearer), ab, None, None], [None, ab, None, None]),
        ("cookie", [basic, Some(&cookie), Some("q"), None], [basic, abcd, Some("q"), None]),
        ("query", [basic, None, Some(&query), None], [basic, None, Some("a=1&b=2"), None]),
        ("after", [None, None, None, Some(&after)], [None, None, None, Some("x, y")]),
        ("entry", [None, None, None, Some(&entry)], [None, None, None, Some("x, y")]),
    ];
    for (name, sent, stripped) in rows {
        // The gateway's own two entries go upstream in no mode.
        let kept = if name == "entry" { stripped } else { sent };
        let moved = [Some(&*bearer), stripped[1], stripped[2], stripped[3]];
        for (mode, expected) in [("keep", kept), ("strip", stripped), ("authorization", moved)] {
            let path = format!("/{name}/{mode}");
            assert_forwarded((&gateway, &backend), &path, sent, expected).await;
        }
    }
}

#[tokio::test]
async fn the_host_goes_upstream_as_the_route_says() {
    let backend = Backend::start().await;
    let rewritten = "verifier = \"none\"\nforward = { host = \"upstream\" }";
    let setup = Setup::open(&backend.url()).another_route("/rewritten", "chat", rewritten);
    let gateway = Gateway::start(&setup).await;
    let own = backend.address().to_string();
    for (path, host) in [("/ws", "Chat.Example.com:8443"), ("/rewritten", own.as_str())] {
        let client = gateway.client().path(path).host("Chat.Example.com:8443");
        let (_client, asked) = tokio::join!(client.ask(), backend.asked());
        assert_eq!(asked.header("host").unwrap(), host);
        assert_eq!(asked.header("x-forwarded-host").unwrap(), "Chat.Example.com:8443");
    }
}

#[tokio::test]
async fn forwarding_headers_are_believed_only_from_trusted_proxies() {
    let backend = Backend::start().await;
    let setup =
        Setup::open(&backend.url()).listener("trusted_proxies = [\"127.0.0.2\", \"10.0.0.0/8\"]");
    let gateway = Gateway::start(&setup).await;
    let chain = "6.6.6.6, 192.0.2.1, 10.0.0.7";
    // From, what it says of For, Proto and Host; what goes upstream of these and as X-Real-IP.
    let rows = [
        ("127.0.0.1", [chain, "https", "evil.example"], ["127.0.0.1", "http", "own", "127.0.0.1"]),
        ("127.0.0.1", ["", "", ""], ["127.0.0.1", "http", "own", "127.0.0.1"]),
        ("127.0.0.2", ["", "", ""], ["127.0.0.2", "http", "own", "127.0.0.2"]),
        (
            "127.0.0.2",
            [chain, "https", "public.example"],
            ["6.6.6.6, 192.0.2.1, 10.0.0.7, 127.0.0.2", "https", "public.example", "192.0.2.1"],
        ),
        (
            "127.0.0.2",
            ["2001:db8::1", "gopher", "a b"],
            ["2001:db8::1, 127.0.0.2", "http", "own", "2001:db8::1"],
        ),
    ];
    for (from, said, expected) in rows {
        let mut client = gateway.client().from(from).host("own");
        for (name, value) in ["For", "Proto", "Host"].into_iter().zip(said) {
            if !value.is_empty() {
                client = client.header(&format!("X-Forwarded-{name}"), value);
            }
        }
        let (_client, asked) = tokio::join!(client.ask(), backend.asked());
        let found = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-real-ip"]
            .map(|name| asked.header(name).unwrap());
        assert_eq!(found, expected.map(str::to_owned), "{from} {said:?}");
        let [_, proto, host, client] = expected;
        let client =
            if client.contains(':') { format!("\"[{client}]\"") } else { client.to_owned() };
        let forwarded = format!("for={client};proto={proto};host={host}");
        assert_eq!(asked.header("forwarded").unwrap(), forwarded);
    }
}

#[tokio::test]
async fn frames_behind_the_request_reach_the_upstream_after_its_101() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&Setup::open(&backend.url())).await;
    let mask = Some([1, 2, 3, 4]);
    let frames = [encode(TEXT, b"one", mask), encode(TEXT, b"two", mask)].concat();
    // Whole, and cut within the second.
    for cut in [frames.len(), frames.len() - 5] {
        let client = gateway.client().with_behind(&frames[..cut]);
        let (mut client, asked) = tokio::join!(client.ask(), backend.asked());
        assert!(asked.wire.buffer.is_empty(), "frames before the 101");
        let mut upstream = asked.accept("").await;
        client.head().await.unwrap();
        upstream.expect_text("one").await;
        client.send_raw(&frames[cut..]).await;
        upstream.expect_text("two").await;
    }
}
