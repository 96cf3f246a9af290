//! Headers and paths on their way: what passes as it is, and what a route or a listener changes.

use crate::support::client::answered;
use crate::support::tokens::token;
use crate::support::{Backend, Client, Gateway, Setup, within};

/// What the backend is asked, and what the client is answered when the backend's 101 has `headers`.
async fn pass(backend: &Backend, client: Client, headers: &str) -> (String, String) {
    let (wire, asked) = tokio::join!(client.ask(), backend.asked());
    let head = asked.head.clone();
    let _upstream = asked.accept(headers).await;
    let answered = within("the answer", answered(wire)).await;
    assert_eq!(answered.status, 101, "{}", answered.head);
    (head, answered.head)
}

#[tokio::test]
async fn headers_of_the_backends_101_reach_the_client_as_the_route_changes_them() {
    let backend = Backend::start().await;
    let rules = "response_headers = { set = { X-Gate = \"{request_id}\", x-node = \"ours\" }, remove = [\"X-Secret\"] }";
    let setup = Setup::open(&backend.url()).another_route(
        "/ruled",
        "chat",
        &format!("verifier = \"none\"\n{rules}"),
    );
    let gateway = Gateway::start(&setup).await;
    let sent = "Set-Cookie: a=1; Path=/\r\nset-cookie: b=2\r\nX-Node: seven\r\nX_Secret: s\r\nServer: x\r\n\
                X-Request-Id: theirs\r\nKeep-Alive: timeout=5\r\n";
    let (_, plain) = pass(&backend, gateway.client(), sent).await;
    for line in
        ["\r\nSet-Cookie: a=1; Path=/\r\n", "\r\nset-cookie: b=2\r\n", "\r\nX-Node: seven\r\n"]
    {
        assert!(plain.contains(line), "{plain}");
    }
    for name in ["theirs", "Server", "Keep-Alive"] {
        assert!(!plain.contains(name), "{plain}");
    }
    let (asked, ruled) = pass(&backend, gateway.client().path("/ruled"), sent).await;
    let id = asked.lines().find_map(|line| line.strip_prefix("X-Request-Id: ")).unwrap();
    assert!(ruled.contains(&format!("\r\nX-Gate: {id}\r\n")), "{ruled}");
    assert!(ruled.contains("\r\nx-node: ours\r\n") && !ruled.contains("seven"), "{ruled}");
    assert!(!ruled.contains("X_Secret") && ruled.contains("a=1"), "{ruled}");
}

#[tokio::test]
async fn the_clients_headers_keep_their_spelling_and_their_order() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&Setup::open(&backend.url())).await;
    let names = [
        "X-CamelCase",
        "x-lower",
        "X-UPPER",
        "User-AGENT",
        "X-lower",
        "Accept-language",
        "X-Auth-Token",
    ];
    let client = || names.iter().fold(gateway.client(), |client, name| client.header(name, "1"));
    let (first, _) = pass(&backend, client(), "").await;
    let found: Vec<_> = first.lines().filter_map(|line| line.strip_suffix(": 1")).collect();
    assert_eq!(found, names);
    // Also on a connection that has carried another request before.
    let tcp = gateway.client().tcp().await;
    let mut wire = crate::support::Wire::new(tcp, None);
    wire.send_raw(b"GET /.framegate/health HTTP/1.1\r\nHost: chat.example.com\r\n\r\n").await;
    let head = wire.head().await.unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    wire.raw(length.parse().unwrap()).await;
    wire.send_raw(client().request().as_bytes()).await;
    let asked = backend.asked().await;
    let found: Vec<_> = asked.head.lines().filter_map(|line| line.strip_suffix(": 1")).collect();
    assert_eq!(found, names);
}

#[tokio::test]
async fn a_route_sets_and_removes_headers_towards_its_backend() {
    let backend = Backend::start().await;
    let rules = "request_headers = { set = { X-Tenant = \"acme\", X-Room = \"{room} {user} {client}\" }, remove = [\"X-Debug\"] }";
    let setup = Setup::with_tokens(&backend.url())
        .another_route("/rooms/{room}", "chat", &format!("verifier = \"users\"\n{rules}"))
        .another_route("/open/{room}", "chat", &format!("verifier = \"none\"\n{rules}"));
    let gateway = Gateway::start(&setup).await;
    let client = |path: &str| {
        let client = gateway.client().path(path).token(&token("änn"));
        client.header("X-Tenant", "evil").header("x_room", "evil").header("X.Debug", "1")
    };
    let (ruled, _) = pass(&backend, client("/rooms/a%20b"), "").await;
    assert!(ruled.contains("\r\nX-Tenant: acme\r\n"), "{ruled}");
    assert!(ruled.contains("\r\nX-Room: a%20b %C3%A4nn 127.0.0.1\r\n"), "{ruled}");
    let (nobody, _) = pass(&backend, client("/open/7"), "").await;
    assert!(nobody.contains("\r\nX-Tenant: acme\r\n") && !nobody.contains("Room: "), "{nobody}");
    let (other, _) = pass(&backend, client("/ws"), "").await;
    assert!(!other.contains("X-Tenant") && other.contains("\r\nX.Debug: 1\r\n"), "{other}");
    for head in [ruled, nobody, other] {
        assert!(!head.contains("evil"), "{head}");
    }
}

#[tokio::test]
async fn a_backend_may_be_asked_for_another_path() {
    let backend = Backend::start().await;
    let setup = Setup::open(&backend.url())
        .another_route("/chat/{*rest}", "chat", "verifier = \"none\"\nupstream_path = \"/{rest}\"")
        .another_route(
            "/rooms/{room}/ws",
            "chat",
            "verifier = \"none\"\nupstream_path = \"/v2/ws/{room}\"\nencoded_slash = true",
        );
    let gateway = Gateway::start(&setup).await;
    for (asked, expected) in [
        ("/chat/socket?a=%20b", "GET /socket?a=%20b HTTP/1.1\r\n"),
        ("/chat/a/%c3%A9", "GET /a/%c3%A9 HTTP/1.1\r\n"),
        ("/chat/", "GET / HTTP/1.1\r\n"),
        ("/rooms/7/ws", "GET /v2/ws/7 HTTP/1.1\r\n"),
        ("/rooms/group%2Fproject/ws", "GET /v2/ws/group%2Fproject HTTP/1.1\r\n"),
        ("/ws", "GET /ws HTTP/1.1\r\n"),
    ] {
        let (head, _) = pass(&backend, gateway.client().path(asked), "").await;
        assert!(head.starts_with(expected), "{asked}: {head}");
    }
    for path in ["/chat/a%2Fb", "/rooms/a%2F..%2Fb/ws"] {
        assert_eq!(gateway.client().path(path).connect().await.status, 400, "{path}");
    }
}

#[tokio::test]
async fn a_whole_url_is_a_target_if_its_host_is_the_requests() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&Setup::open(&backend.url())).await;
    let whole = gateway.client().path("ws://chat.example.com/ws?a=b");
    let (head, _) = pass(&backend, whole, "").await;
    assert!(head.starts_with("GET /ws?a=b HTTP/1.1\r\n"), "{head}");
    let other = gateway.client().path("ws://evil.example/ws").connect().await;
    assert_eq!(other.status, 400);
    assert!(other.body().await.contains("its host is not that of the Host header"));
}

#[tokio::test]
async fn a_trusted_proxy_names_client_request_and_user_and_nobody_else_does() {
    let backend = Backend::start().await;
    let lines = "trusted_proxies = [\"127.0.0.1\"]\nclient_address = \"CF-Connecting-IP\"\n\
                 trusted_headers = [\"X-Forwarded-User\"]";
    let mut gateway = Gateway::start(&Setup::open(&backend.url()).listener(lines)).await;
    let client = |from: &str| {
        gateway
            .client()
            .from(from)
            .header("CF-Connecting-IP", "192.0.2.7")
            .header("X-Forwarded-User", "ann")
            .header("X-Forwarded-Port", "8443")
            .header("X-Forwarded-Proto", "HTTPS, http")
            .header("X-Request-Id", "edge-17")
    };
    let (head, answer) = pass(&backend, client("127.0.0.1"), "").await;
    for line in [
        "X-Real-IP: 192.0.2.7",
        "X-Forwarded-User: ann",
        "X-Forwarded-Port: 8443",
        "X-Forwarded-Proto: https",
        "X-Request-Id: edge-17",
    ] {
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{line}: {head}");
    }
    // The client is told the id by which the gateway knows it.
    let id = answer.lines().find_map(|line| line.strip_prefix("X-Request-Id: ")).unwrap();
    let line = gateway.line_of(id).await;
    assert_eq!((&line["request_id"], &line["client"]), (&"edge-17".into(), &"192.0.2.7:0".into()));
    let stranger = {
        let client = gateway.client().from("127.0.0.9");
        client
            .header("CF-Connecting-IP", "192.0.2.7")
            .header("X-Forwarded-User", "ann")
            .header("X-Forwarded-Port", "8443")
            .header("X-Request-Id", "edge-17")
    };
    let (head, _) = pass(&backend, stranger, "").await;
    assert!(head.contains("\r\nX-Real-IP: 127.0.0.9\r\n"), "{head}");
    for forged in ["192.0.2.7", "ann", "8443", "edge-17"] {
        assert!(
            !head.replace("CF-Connecting-IP: 192.0.2.7", "").contains(forged),
            "{forged}: {head}"
        );
    }
}

#[tokio::test]
async fn a_balancers_token_is_read_from_it_only_and_goes_no_further_unless_that_is_written() {
    let backend = Backend::start().await;
    let setup = Setup::with_tokens(&backend.url())
        .listener("trusted_proxies = [\"127.0.0.1\"]")
        .verifier("sources = [\"header:Cf-Access-Jwt-Assertion\", \"header\"]")
        .another_route("/kept", "chat", "verifier = \"users\"\nforward = { token = \"keep\" }");
    let gateway = Gateway::start(&setup).await;
    let (ann, ben) = (token("ann"), token("ben"));
    let client = |from: &str, path: &str| {
        gateway.client().from(from).path(path).header("Cf-Access-Jwt-Assertion", &ann)
    };
    let (head, _) = pass(&backend, client("127.0.0.1", "/ws"), "").await;
    assert!(head.contains("\r\nX-Auth-User: ann\r\n") && !head.contains(&ann), "{head}");
    let (head, _) = pass(&backend, client("127.0.0.1", "/kept"), "").await;
    assert!(head.contains(&format!("Cf-Access-Jwt-Assertion: {ann}")), "{head}");
    assert_eq!(client("127.0.0.9", "/ws").connect().await.status, 401);
    let (head, _) = pass(&backend, client("127.0.0.9", "/kept").token(&ben), "").await;
    assert!(head.contains("\r\nX-Auth-User: ben\r\n") && !head.contains(&ann), "{head}");
}

#[tokio::test]
async fn a_cookie_that_is_left_out_is_said_to_be() {
    let backend = Backend::start().await;
    let setup = Setup::with_tokens(&backend.url())
        .verifier("sources = [\"cookie:session\"]")
        .route("refuse = \"http\"");
    let mut gateway = Gateway::start(&setup).await;
    let cookie = format!("session={}", token("ann"));
    let answered =
        gateway.client().origin("https://evil.example").header("Cookie", &cookie).connect().await;
    assert_eq!(answered.status, 401);
    let body = answered.body().await;
    assert!(body.contains("https://evil.example") && body.contains("chat.example.com"), "{body}");
    let line = gateway.access_line("token_missing").await;
    assert!(line["detail"].as_str().unwrap().contains("the cookie is left out"), "{line}");
}

#[tokio::test]
async fn who_is_refused_by_name_is_named() {
    let backend = Backend::start().await;
    let setup = Setup::with_tokens(&backend.url())
        .route("authorize = { scopes = [\"chat:read\"] }\nrefuse = \"http\"");
    let mut gateway = Gateway::start(&setup).await;
    let answered = gateway.client().token(&token("ann")).connect().await;
    assert_eq!(answered.status, 403);
    assert!(answered.body().await.contains("scope chat:read is needed"));
    assert_eq!(gateway.access_line("forbidden").await["user"], "ann");
}
