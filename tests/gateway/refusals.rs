//! The table of refusals, row by row: by HTTP and by Close, in the log and in the metrics.

use serde_json::json;

use crate::support::tokens::{claims, sign_as, sign_with, subprotocol_entry, token, token_with};
use crate::support::wire::{PING, PONG, encode};
use crate::support::{Backend, Client, Gateway, Refusal, Setup, Wire};

const PAGE: &str = "https://chat.example.com";
const MODES: [&str; 3] = ["auto", "http", "close"];

/// Tells a refusal in every way: by HTTP and by Close, chosen by `auto` and by the route. `client`
/// makes the client for a mode.
async fn in_every_way(gateway: &mut Gateway, row: Refusal<'_>, client: impl Fn(&str) -> Client) {
    let on = |mode: &str| row.route.replace("MODE", mode);
    let routes = MODES.map(on);
    let [auto, http, close] = [0, 1, 2].map(|mode| Refusal { route: &routes[mode], ..row });
    auto.by_http(gateway, client("auto")).await;
    auto.by_close(gateway, client("auto").origin(PAGE)).await;
    http.by_http(gateway, client("http").origin(PAGE)).await;
    close.by_close(gateway, client("close")).await;
}

/// The same routes for each mode of refusing, below `/MODE/`.
fn in_every_mode(mut setup: Setup, path: &str, upstream: &str, lines: &str) -> Setup {
    for mode in MODES {
        let lines = format!("refuse = \"{mode}\"\n{lines}");
        setup = setup.another_route(&format!("/{mode}{path}"), upstream, &lines);
    }
    setup
}

fn signed_elsewhere() -> String {
    let payload = json!(claims("ann")).to_string();
    sign_with("another secret of more than 32 bytes length", r#"{"alg":"HS256"}"#, &payload)
}

#[tokio::test]
async fn a_token_that_is_refused_is_told_by_http_and_by_close() {
    let setup = Setup::open("unix:none").timeouts("close = \"300ms\"");
    let lines = "verifier = \"users\"\norigins = [\"https://chat.example.com\"]\n\
                 parameters = { chat = \"integer\" }\nauthorize = { contains = { chats = \"chat\" } }";
    let setup = in_every_mode(setup, "/{chat}", "chat", lines);
    let mut gateway = Gateway::start(&setup).await;
    let unknown_key = sign_as(&json!({"alg": "HS384"}), &json!(claims("ann")).to_string());
    let rows = [
        ("token_missing", 401, 4401, None),
        ("token_malformed", 401, 4401, Some("a.b.c".to_owned())),
        ("token_expired", 401, 4401, Some(token_with("ann", json!({"exp": 1})))),
        ("token_not_yet_valid", 401, 4401, Some(token_with("ann", json!({"nbf": 9999999999_u64})))),
        ("token_signature", 401, 4401, Some(signed_elsewhere())),
        ("token_key_unknown", 401, 4401, Some(unknown_key)),
        ("token_issuer", 401, 4401, Some(token_with("ann", json!({"iss": "https://evil"})))),
        ("token_audience", 401, 4401, Some(token_with("ann", json!({"aud": "mail"})))),
        ("token_kind", 401, 4401, Some(token_with("ann", json!({"token_use": "refresh"})))),
        ("forbidden", 403, 4403, Some(token_with("ann", json!({"chats": [6]})))),
    ];
    for (label, status, code, token) in rows {
        let row = Refusal::at_admission(label, status, code, "/MODE/{chat}");
        let plain = gateway.client();
        in_every_way(&mut gateway, row, |mode| {
            let client = plain.clone().path(&format!("/{mode}/7"));
            token.iter().fold(client, |client, token| client.token(token))
        })
        .await;
    }
}

#[tokio::test]
async fn a_401_says_what_would_be_accepted() {
    let refused = Backend::start().await.answering("HTTP/1.1 401 No\r\n\r\n");
    let setup = Setup::with_tokens(&format!("http://{refused}")).timeouts("close = \"300ms\"");
    let mut gateway = Gateway::start(&setup).await;
    let invalid = "Bearer error=\"invalid_token\"";
    let here = Refusal::at_admission;
    let rows = [
        (here("token_missing", 401, 4401, "/ws"), None, "Bearer"),
        (here("token_malformed", 401, 4401, "/ws"), Some("x".to_owned()), invalid),
        (here("token_signature", 401, 4401, "/ws"), Some(signed_elsewhere()), invalid),
        // What the upstream disliked is not known.
        (Refusal::by_upstream("upstream_refused", 401, 4401, "/ws"), Some(token("ann")), "Bearer"),
    ];
    for (row, token, challenge) in rows {
        let client = gateway.client();
        let client = token.iter().fold(client, |client, token| client.token(token));
        let told = row.by_http(&mut gateway, client).await;
        let found = crate::support::backend::header(&told.head, "www-authenticate");
        assert_eq!(found.as_deref(), Some(challenge), "{row:?}");
    }
}

#[tokio::test]
async fn an_origin_that_is_not_listed_is_told_by_http_and_by_close() {
    let setup = Setup::open("unix:none").timeouts("close = \"300ms\"");
    let lines = "verifier = \"none\"\norigins = [\"https://chat.example.com\"]";
    let mut gateway = Gateway::start(&in_every_mode(setup, "/ws", "chat", lines)).await;
    for evil in ["https://evil.example", "null", "http://chat.example.com"] {
        let client = |gateway: &Gateway, mode: &str| {
            gateway.client().path(&format!("/{mode}/ws")).origin(evil)
        };
        let row = |route| Refusal::at_admission("origin_denied", 403, 4403, route);
        // Who sends Origin is a browser.
        let (auto, http) = (client(&gateway, "auto"), client(&gateway, "http"));
        row("/auto/ws").by_close(&mut gateway, auto).await;
        row("/http/ws").by_http(&mut gateway, http).await;
        let close = client(&gateway, "close");
        row("/close/ws").by_close(&mut gateway, close).await;
    }
}

#[tokio::test]
async fn without_a_route_a_browser_is_told_by_close_and_others_by_http() {
    let lines = "verifier = \"none\"\nhosts = [\"only.example.com\"]\nrefuse = \"http\"";
    let setup = Setup::open("unix:none")
        .timeouts("close = \"300ms\"")
        .another_route(
            "/number/{n}",
            "chat",
            "verifier = \"none\"\nparameters = { n = \"integer\" }",
        )
        .another_route("/hosted", "chat", lines);
    let mut gateway = Gateway::start(&setup).await;
    let row = Refusal::at_admission("no_route", 404, 4404, "none");
    for path in ["/", "/ws/", "/WS", "/wss", "/number/x", "/number/7/8", "/hosted"] {
        let client = gateway.client().path(path);
        row.by_http(&mut gateway, client.clone()).await;
        row.by_close(&mut gateway, client.origin(PAGE)).await;
    }
}

#[tokio::test]
async fn what_the_upstream_did_is_told_by_http_and_by_close() {
    let silent = Backend::start().await;
    let mut setup = Setup::open("unix:none")
        .timeouts("close = \"300ms\"")
        .another_upstream("silent", &[&silent.url()], "handshake_timeout = \"200ms\"")
        .another_upstream("gone", &["unix:nowhere"], "");
    let mut rows = vec![
        ("upstream_timeout", 504, 1013, "silent".to_owned()),
        ("upstream_unreachable", 502, 1014, "gone".to_owned()),
        ("upstream_protocol", 502, 1014, "answer101".to_owned()),
    ];
    let own = [(401, 4401), (403, 4403), (404, 4404), (429, 4429)];
    for (status, code) in own {
        rows.push(("upstream_refused", status, code, format!("answer{status}")));
    }
    for (status, told) in [(200, 502), (302, 302), (400, 400), (500, 500), (503, 503)] {
        rows.push(("upstream_refused", told, 1014, format!("answer{status}")));
    }
    for (.., name) in &rows {
        if let Some(status) = name.strip_prefix("answer") {
            let answer = format!(
                "HTTP/1.1 {status} Whatever\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n"
            );
            let backend = format!("http://{}", Backend::start().await.answering(answer));
            setup = setup.another_upstream(name, &[&backend], "");
        }
        setup = in_every_mode(setup, &format!("/{name}"), name, "verifier = \"none\"");
    }
    let mut gateway = Gateway::start(&setup).await;
    for (label, status, code, name) in &rows {
        let route = format!("/MODE/{name}");
        let row = Refusal::by_upstream(label, *status, *code, &route);
        let plain = gateway.client();
        let client = |mode: &str| plain.clone().path(&format!("/{mode}/{name}"));
        let before = gateway.metrics().await;
        in_every_way(&mut gateway, row, client).await;
        // The label alone does not tell the backend's verdict on a client from its own fault.
        let counted = gateway.growth(&before, "framegate_upstream_refusals_total").await;
        let counted: Vec<_> = counted.iter().map(|(series, _)| series.as_str()).collect();
        let expected = |status| format!("status=\"{status}\"}}");
        match name.strip_prefix("answer") {
            Some("200" | "302") => assert!(counted.iter().all(|s| s.ends_with(&expected("other")))),
            Some("400") => assert!(counted.iter().all(|s| s.ends_with(&expected("4xx")))),
            Some("500" | "503") => assert!(counted.iter().all(|s| s.ends_with(&expected("5xx")))),
            Some("101") | None => assert_eq!(counted, [""; 0]),
            Some(own) => assert!(counted.iter().all(|s| s.ends_with(&expected(own)))),
        }
        assert_eq!(counted.is_empty(), *label != "upstream_refused", "{name}: {counted:?}");
    }
}

#[tokio::test]
async fn what_is_no_handshake_is_always_told_by_http() {
    let setup = Setup::open("unix:none").timeouts("close = \"300ms\"").another_route(
        "/close",
        "chat",
        "verifier = \"none\"\nrefuse = \"close\"",
    );
    let mut gateway = Gateway::start(&setup).await;
    let by_client = |status| Refusal {
        by: "client",
        phase: "request",
        ..Refusal::at_admission("bad_request", status, 0, "none")
    };
    for path in ["/ws", "/close", "/nowhere"] {
        let client = gateway.client().path(path).origin(PAGE);
        let twice = client.clone().header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
        by_client(400).by_http(&mut gateway, twice).await;
        let version = client.header("Sec-WebSocket-Version", "8");
        let told = by_client(426).by_http(&mut gateway, version).await;
        let header = |name| crate::support::backend::header(&told.head, name).unwrap();
        assert_eq!(header("sec-websocket-version"), "13");
        assert_eq!(header("upgrade"), "websocket");
        assert_eq!(header("connection"), "close, Upgrade");
    }
}

/// A holder's client: answers Pings for as long as the test runs.
fn answer_pings(mut holder: Wire) {
    tokio::spawn(async move {
        while let Some(frame) = holder.frame().await {
            if frame.first == PING {
                holder.send(PONG, &frame.payload).await;
            }
        }
    });
}

#[tokio::test]
async fn a_user_who_has_all_places_is_refused_while_the_holders_live() {
    let backend = Backend::start().await.echo();
    let setup = Setup::with_tokens(&format!("http://{backend}"))
        .timeouts("close = \"300ms\"")
        .keepalive("client_ping = \"0\"\nclient_pong = \"600s\"")
        .limits("connections_per_user = 1\nwhen_user_full = \"refuse\"")
        .another_route("/close", "chat", "verifier = \"users\"\nrefuse = \"close\"");
    let mut gateway = Gateway::start(&setup).await;
    for path in ["/ws", "/close"] {
        let client = gateway.client().path(path).token(&token("ann"));
        answer_pings(client.session().await);
    }
    let client = gateway.client().token(&token("ann"));
    let row = |route| Refusal::at_admission("user_limit", 429, 4429, route);
    row("/ws").by_http(&mut gateway, client.clone()).await;

    row("/ws").by_close(&mut gateway, client.clone().origin(PAGE)).await;
    row("/close").by_close(&mut gateway, client.path("/close")).await;
    gateway.client().token(&token("bob")).session().await;
}

#[tokio::test]
async fn a_dead_holder_gives_its_place_up() {
    let backend = Backend::start().await.echo();
    let setup = Setup::with_tokens(&format!("http://{backend}"))
        .timeouts("close = \"300ms\"")
        .keepalive("client_ping = \"0\"\nclient_pong = \"200ms\"")
        .limits("connections_per_user = 1\nwhen_user_full = \"refuse\"");
    let mut gateway = Gateway::start(&setup).await;
    // It is there but answers no Ping.
    let _dead = gateway.client().token(&token("ann")).session().await;
    gateway.client().token(&token("ann")).session().await;
    let line = gateway.access_line("client_timeout").await;
    assert_eq!(line["user"], "ann");
}

#[tokio::test]
async fn an_address_that_has_all_places_is_refused_by_http_even_if_it_is_a_browser() {
    let backend = Backend::start().await.echo();
    let setup = Setup::open(&format!("http://{backend}"))
        .timeouts("close = \"300ms\"")
        .limits("connections_per_address = 1");
    let mut gateway = Gateway::start(&setup).await;
    let holder = gateway.client().session().await;
    let row = Refusal::at_admission("address_limit", 429, 4429, "/ws");
    for client in [gateway.client(), gateway.client().origin(PAGE)] {
        let told = row.by_http(&mut gateway, client).await;
        assert_eq!(retry_after(&told.head), 5);
    }
    gateway.client().from("127.0.0.2").session().await;
    drop(holder);
    gateway.access_line("client_lost").await;
    gateway.wait_for_metric("framegate_sessions_active{route=\"/ws\"}", 0.0).await;
    gateway.wait_for_metric("framegate_connections{listener=\"127.0.0.1:0\"}", 0.0).await;
    gateway.client().session().await;
}

#[tokio::test]
async fn behind_a_trusted_proxy_the_clients_address_is_what_counts() {
    let backend = Backend::start().await.echo();
    let setup = Setup::open(&format!("http://{backend}"))
        .timeouts("close = \"300ms\"")
        .listener("trusted_proxies = [\"127.0.0.1\"]")
        .limits("connections_per_address = 1");
    let mut gateway = Gateway::start(&setup).await;
    let client = |address: &str| gateway.client().header("X-Forwarded-For", address);
    let _holder = client("192.0.2.1").session().await;
    let (again, v6) = (client("6.6.6.6, 192.0.2.1"), client("2001:db8::1"));
    let (same_network, other_network) = (client("2001:db8::2"), client("2001:db8:0:1::2"));
    let row = Refusal::at_admission("address_limit", 429, 4429, "/ws");
    let told = row.by_http(&mut gateway, again.origin(PAGE)).await;
    assert_eq!(told.line["client"], "192.0.2.1:0");
    assert!(told.line["via"].as_str().unwrap().starts_with("127.0.0.1:"), "{}", told.line);
    let _holder = v6.session().await;
    row.by_http(&mut gateway, same_network).await;
    let _holder = other_network.session().await;
}

fn retry_after(head: &str) -> u64 {
    crate::support::backend::header(head, "retry-after").unwrap().parse().unwrap()
}

#[tokio::test]
async fn an_address_that_connects_too_often_is_told_when_to_come_back() {
    let backend = Backend::start().await.echo();
    let setup = Setup::open(&format!("http://{backend}"))
        .timeouts("close = \"300ms\"")
        .limits("handshakes_per_address = { rate = \"1/h\", burst = 2 }");
    let mut gateway = Gateway::start(&setup).await;
    let _first = gateway.client().session().await;
    let _second = gateway.client().session().await;
    let row = Refusal::at_admission("rate_limited", 429, 4429, "/ws");
    for client in [gateway.client(), gateway.client().origin(PAGE)] {
        let told = row.by_http(&mut gateway, client).await;
        // An hour, less what the test has taken so far.
        assert!((3000..=3600).contains(&retry_after(&told.head)), "{}", told.head);
    }
    gateway.client().from("127.0.0.2").session().await;
}

#[tokio::test]
async fn past_the_process_limit_some_are_told_by_http_and_the_rest_are_dropped() {
    let backend = Backend::start().await.echo();
    let setup = Setup::open(&format!("http://{backend}"))
        .timeouts("close = \"300ms\"\nrequest_head = \"60s\"")
        .limits("connections = 1");
    let mut gateway = Gateway::start(&setup).await;
    let holder = gateway.client().session().await;
    let row = Refusal::at_admission("overloaded", 503, 1013, "/ws");
    for client in [gateway.client(), gateway.client().origin(PAGE)] {
        let told = row.by_http(&mut gateway, client).await;
        assert_eq!(retry_after(&told.head), 5);
        // Its place for being refused is free again when its socket is closed.
        gateway.wait_for_metric("framegate_connections{listener=\"127.0.0.1:0\"}", 1.0).await;
    }
    // The one place for refusing is taken by who says nothing.
    let silent = gateway.client().raw(b"").await;
    gateway.wait_for_metric("framegate_connections{listener=\"127.0.0.1:0\"}", 2.0).await;
    let mut dropped = gateway.client().raw(b"").await;
    dropped.expect_fin().await;
    let series = "framegate_handshakes_total{result=\"dropped\",route=\"none\"}";
    assert_eq!(gateway.metric(series).await, 1.0);
    drop((silent, holder));
    gateway.wait_for_metric("framegate_connections{listener=\"127.0.0.1:0\"}", 0.0).await;
    gateway.client().session().await;
}

#[tokio::test]
async fn a_request_on_a_connection_from_before_the_drain_is_refused() {
    let setup = Setup::open("unix:none")
        .timeouts("close = \"300ms\"\nrequest_head = \"60s\"")
        .drain("grace = \"60s\"");
    let mut gateway = Gateway::start(&setup).await;
    let (plain, browser) = (gateway.client(), gateway.client().origin(PAGE));
    let (for_plain, for_browser) = (plain.tcp().await, browser.tcp().await);
    let _keeps_the_drain_going = plain.tcp().await;
    gateway.wait_for_metric("framegate_connections{listener=\"127.0.0.1:0\"}", 3.0).await;
    gateway.signal("TERM");
    let began =
        |lines: &[serde_json::Value]| lines.iter().any(|line| line["message"] == "drain started");
    gateway.wait_for_log("the drain", began).await;
    let row = Refusal::at_admission("draining", 503, 1012, "/ws");
    let told = row.by_http(&mut gateway, plain.over(for_plain)).await;
    assert_eq!(retry_after(&told.head), 5);
    row.by_close(&mut gateway, browser.over(for_browser)).await;
}

#[tokio::test]
async fn close_codes_are_overridden_by_label_and_by_subprotocol() {
    let setup = Setup::with_tokens("unix:none")
        .timeouts("close = \"300ms\"")
        .route("refuse = \"close\"")
        .close_codes("[close_codes]\ntoken_missing = 4901\nno_route = 3000")
        .close_codes("[close_codes.subprotocol.\"graphql-ws\"]\ntoken_missing = 4902")
        .close_codes("[close_codes.subprotocol.framegate]\ntoken_missing = 4903");
    let mut gateway = Gateway::start(&setup).await;
    let empty = subprotocol_entry("");
    let rows = [
        ("token_missing", 4901, None),
        ("token_missing", 4901, Some("chat")),
        ("token_missing", 4902, Some("graphql-ws")),
        ("token_missing", 4902, Some("graphql-ws, chat")),
        ("token_missing", 4901, Some("chat, graphql-ws")),
        ("token_missing", 4903, Some(&*format!("{empty}, framegate, graphql-ws"))),
        // Not overridden.
        ("token_malformed", 4401, Some("graphql-ws")),
    ]
    .map(|(label, code, offered)| (label, code, offered.map(str::to_owned)));
    for (label, code, offered) in rows {
        let mut client = gateway.client();
        if let Some(offered) = &offered {
            client = client.header("Sec-WebSocket-Protocol", offered);
        }
        if label == "token_malformed" {
            client = client.token("x");
        }
        let row = Refusal::at_admission(label, 401, code, "/ws");
        row.by_close(&mut gateway, client).await;
    }
    let nowhere = gateway.client().path("/nowhere").origin(PAGE);
    Refusal::at_admission("no_route", 404, 3000, "none").by_close(&mut gateway, nowhere).await;
}

#[tokio::test]
async fn a_refusing_101_selects_what_a_browser_accepts() {
    let setup = Setup::with_tokens("unix:none").timeouts("close = \"300ms\"");
    let mut gateway = Gateway::start(&setup).await;
    let entry = subprotocol_entry("no token");
    let rows: [(String, &str, Option<&str>); 5] = [
        (String::new(), "token_missing", None),
        ("chat, other".to_owned(), "token_missing", Some("chat")),
        (format!("framegate, {entry}, chat"), "token_malformed", Some("framegate")),
        (format!("{entry}, chat"), "token_malformed", Some("chat")),
        (entry.clone(), "token_malformed", Some(&entry)),
    ];
    for (offered, label, selected) in &rows {
        let mut client = gateway.client().origin(PAGE);
        if !offered.is_empty() {
            client = client.header("Sec-WebSocket-Protocol", offered);
        }
        let row = Refusal::at_admission(label, 401, 4401, "/ws");
        let head = row.by_close(&mut gateway, client).await;
        let found = crate::support::backend::header(&head, "sec-websocket-protocol");
        assert_eq!(found.as_deref(), *selected, "{offered}");
    }
}

/// More than the gateway reads with the request, less than fits into a socket's buffer: it lies
/// unread in the gateway's when the refusal is written.
const BEHIND: usize = 60_000;

#[tokio::test]
async fn bytes_behind_a_refused_request_do_not_destroy_the_refusal() {
    let setup = Setup::with_tokens("unix:none").timeouts("close = \"300ms\"");
    let mut gateway = Gateway::start(&setup).await;
    let behind = encode(0x82, &[7; BEHIND], Some([1, 2, 3, 4]));
    let row = Refusal::at_admission("token_missing", 401, 4401, "/ws");
    for _ in 0..5 {
        let client = gateway.client().with_behind(&behind);
        row.by_http(&mut gateway, client.clone()).await;
        row.by_close(&mut gateway, client.origin(PAGE)).await;
    }
}

#[tokio::test]
async fn a_client_that_goes_on_sending_still_reads_why_it_is_refused() {
    let setup = Setup::with_tokens("unix:none").timeouts("close = \"60s\"");
    let mut gateway = Gateway::start(&setup).await;
    let frame = encode(0x82, &[7; 10_000], Some([1, 2, 3, 4]));
    let mut answered = gateway.client().connect().await;
    let id = answered.header("x-request-id").unwrap();
    // Frames that come after the refusal was written, and after FIN was sent.
    for _ in 0..20 {
        answered.wire.send_raw(&frame).await;
    }
    assert!(answered.wire.rest().await.starts_with("token_missing: "));
    answered.wire.send_raw(&frame).await;
    drop(answered);
    assert_eq!(gateway.line_of(&id).await["label"], "token_missing");
}

#[tokio::test]
async fn a_refused_client_that_never_closes_is_let_go() {
    // By HTTP after `timeouts.close`; by Close after a second, however long that is.
    for (timeout, origin) in [("100ms", None), ("600s", Some(PAGE))] {
        let setup = Setup::with_tokens("unix:none").timeouts(&format!("close = \"{timeout}\""));
        let mut gateway = Gateway::start(&setup).await;
        let client = gateway.client();
        let client = origin.iter().fold(client, |client, page| client.origin(page));
        let answered = client.connect().await;
        let id = answered.header("x-request-id").unwrap();
        gateway.line_of(&id).await;
        gateway.wait_for_metric("framegate_connections{listener=\"127.0.0.1:0\"}", 0.0).await;
        drop(answered);
    }
}

#[tokio::test]
async fn refusing_closes_hold_a_tenth_of_the_connections_and_the_rest_is_told_by_http() {
    let setup = Setup::with_tokens("unix:none")
        .timeouts("close = \"300ms\"")
        .route("refuse = \"close\"")
        .limits("connections = 20");
    let mut gateway = Gateway::start(&setup).await;
    // None of them closes; two at a time may be told by Close.
    let mut answers = Vec::new();
    for _ in 0..12 {
        answers.push(gateway.client().connect().await);
    }
    let statuses: Vec<_> = answers.iter().map(|answered| answered.status).collect();
    assert_eq!(statuses[..2], [101, 101]);
    assert!(statuses.contains(&401), "{statuses:?}");
    for answered in &mut answers {
        if answered.status == 101 {
            let told = (Some(4401), "token_missing".to_owned());
            assert_eq!(answered.wire.expect_close().await, told);
        } else {
            assert_eq!(answered.status, 401, "{}", answered.head);
            assert!(answered.wire.rest().await.starts_with("token_missing: "));
        }
    }
    drop(answers);
    gateway.access_lines("token_missing", 12).await;
    // Their places are free again.
    let row = Refusal::at_admission("token_missing", 401, 4401, "/ws");
    let client = gateway.client();
    row.by_close(&mut gateway, client).await;
}
