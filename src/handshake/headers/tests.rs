//! What the upstream sees of a request, and what it never sees.

use proptest::prelude::*;
use serde_json::json;

use super::*;

type Lines<'a> = &'a [(&'a str, &'a [u8])];

fn map(lines: Lines<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_bytes(value).unwrap());
    }
    headers
}

fn head(headers: &HeaderMap) -> UpstreamHead<'_> {
    UpstreamHead {
        path: "/chat",
        query: None,
        headers,
        offered: &[],
        key: "AAAAAAAAAAAAAAAAAAAAAA==",
        host: "chat.example.com",
        forwarded: Forwarded {
            client: IpAddr::from([9, 9, 9, 9]),
            direct: IpAddr::from([9, 9, 9, 9]),
            trust: Trust::Untrusted,
            scheme: Scheme::Https,
            host: "chat.example.com",
        },
        identity: None,
        request_id: "0000000000000abc",
        authorization: None,
        rules: Rules::default(),
    }
}

/// A trusted proxy at 10.0.0.1 in front of 1.1.1.1.
fn behind_proxy(headers: &HeaderMap) -> UpstreamHead<'_> {
    let mut head = head(headers);
    head.forwarded.client = IpAddr::from([1, 1, 1, 1]);
    head.forwarded.direct = IpAddr::from([10, 0, 0, 1]);
    head.forwarded.trust = Trust::Trusted;
    head
}

/// Name and value of each line behind the request line, read by another parser.
fn lines_of(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut buffer = [httparse::EMPTY_HEADER; 200];
    let mut request = httparse::Request::new(&mut buffer);
    assert_eq!(request.parse(bytes), Ok(httparse::Status::Complete(bytes.len())));
    let lines = request.headers.iter();
    lines.map(|line| (line.name.to_ascii_lowercase(), line.value.to_vec())).collect()
}

fn values(head: &UpstreamHead<'_>, name: &str) -> Vec<String> {
    let lines = lines_of(&head.write().unwrap());
    let wanted = lines.into_iter().filter(|(line, _)| line == name);
    wanted.map(|(_, value)| String::from_utf8_lossy(&value).into_owned()).collect()
}

#[test]
fn a_whole_head_looks_like_this() {
    let headers = map(&[
        ("host", b"chat.example.com"),
        ("upgrade", b"websocket"),
        ("connection", b"keep-alive, Upgrade"),
        ("sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-version", b"13"),
        ("sec-websocket-extensions", b"permessage-deflate"),
        ("sec-websocket-protocol", b"framegate, chat.v2"),
        ("origin", b"https://chat.example.com"),
        ("cookie", b"a=1"),
        ("x-auth-user", b"root"),
    ]);
    let offered =
        ["framegate", "base64url.bearer.authorization.framegate.eyJ", "chat.v2", "chat.v1"];
    let offered = offered.map(str::to_owned);
    let claims = json!({ "role": "admin" });
    let whole = UpstreamHead {
        query: Some("a=b&c=%20"),
        offered: &offered,
        identity: Some(ForwardedIdentity { user: Some("ann"), claims: claims.as_object() }),
        ..head(&headers)
    };
    let expected = "GET /chat?a=b&c=%20 HTTP/1.1\r\n\
        Host: chat.example.com\r\n\
        Upgrade: websocket\r\n\
        Connection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
        Sec-WebSocket-Protocol: chat.v2, chat.v1\r\n\
        Origin: https://chat.example.com\r\n\
        Cookie: a=1\r\n\
        X-Request-Id: 0000000000000abc\r\n\
        X-Forwarded-For: 9.9.9.9\r\n\
        X-Forwarded-Proto: https\r\n\
        X-Forwarded-Host: chat.example.com\r\n\
        X-Real-IP: 9.9.9.9\r\n\
        Forwarded: for=9.9.9.9;proto=https;host=chat.example.com\r\n\
        X-Auth-User: ann\r\n\
        X-Auth-Claims: eyJyb2xlIjoiYWRtaW4ifQ\r\n\
        \r\n";
    assert_eq!(String::from_utf8(whole.write().unwrap()).unwrap(), expected);
}

#[test]
fn end_to_end_headers_are_copied_byte_by_byte_in_order() {
    let headers = map(&[
        ("x-odd", b"\xff\xfe caf\xc3\xa9\t%0d%0a"),
        ("cookie", b"a=1"),
        ("cookie", b"b=2"),
        ("x_custom", b"under_score"),
        ("x-forwarded", b"no dash, no family"),
        ("x-authority", b"neither"),
        ("x-empty", b""),
    ]);
    let written = lines_of(&head(&headers).write().unwrap());
    for (name, value) in &headers {
        assert!(written.contains(&(name.as_str().to_owned(), value.as_bytes().to_vec())), "{name}");
    }
    assert_eq!(values(&head(&headers), "cookie"), ["a=1", "b=2"]);
}

#[test]
fn headers_of_the_hop_and_forged_ones_are_removed_in_every_spelling() {
    for name in [
        "keep-alive",
        "proxy-connection",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "transfer_encoding",
        "content-length",
        "content_length",
        "http2-settings",
        "sec-websocket-extensions",
        "sec_websocket_extensions",
        "sec-websocket-accept",
        "x-auth-user",
        "X_AUTH_USER",
        "x-auth_claims",
        "x_auth_claims",
        "x.auth.user",
        "X~Auth!User",
        "x-forwarded.for",
        "transfer.encoding",
        "expect",
        "via",
        "x-request-id",
        "x_request_id",
        "X-Forwarded-For",
        "x_forwarded_for",
        "x-forwarded-port",
        "x-forwarded_prefix",
        "forwarded",
        "x-real-ip",
        "x_real_ip",
        "X-Real_IP",
    ] {
        for build in [head, behind_proxy] {
            // A trusted proxy's chain is passed on, so it gets a value that is no forgery.
            let is_chain = name.eq_ignore_ascii_case("x-forwarded-for");
            let headers = map(&[(name, b"evil")]);
            let text = String::from_utf8(build(&headers).write().unwrap()).unwrap();
            let trusted = build(&headers).forwarded.trust == Trust::Trusted;
            assert_eq!(text.contains("evil"), is_chain && trusted, "{name}");
        }
    }
}

#[test]
fn the_gateways_own_headers_are_set_exactly_once() {
    let forged: Lines<'_> = &[
        ("host", b"evil"),
        ("host", b"evil"),
        ("upgrade", b"h2c"),
        ("sec-websocket-key", b"evil"),
        ("sec-websocket-version", b"8"),
        ("sec-websocket-protocol", b"evil"),
        ("x-request-id", b"evil"),
        ("x-forwarded-for", b"6.6.6.6"),
        ("x-forwarded-proto", b"http"),
        ("x-forwarded-host", b"evil"),
        ("x-real-ip", b"6.6.6.6"),
        ("forwarded", b"for=6.6.6.6"),
    ];
    let headers = map(forged);
    let head = head(&headers);
    for (name, expected) in [
        ("host", "chat.example.com"),
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA=="),
        ("sec-websocket-version", "13"),
        ("x-request-id", "0000000000000abc"),
        ("x-forwarded-for", "9.9.9.9"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "chat.example.com"),
        ("x-real-ip", "9.9.9.9"),
        ("forwarded", "for=9.9.9.9;proto=https;host=chat.example.com"),
    ] {
        assert_eq!(values(&head, name), [expected], "{name}");
    }
    assert!(values(&head, "sec-websocket-protocol").is_empty());
}

#[test]
fn what_connection_lists_is_removed_but_not_what_the_gateway_decided_by() {
    let headers = map(&[
        ("connection", b"Upgrade, X-Hop, origin, Cookie, authorization, host"),
        ("connection", b"x-second , sec-websocket-key, x-request-id, x-forwarded-for"),
        ("x-hop", b"1"),
        ("x-hop", b"2"),
        ("x-second", b"1"),
        ("x-kept", b"1"),
        ("origin", b"https://a"),
        ("cookie", b"a=1"),
        ("authorization", b"Bearer t"),
    ]);
    let head = head(&headers);
    for (name, expected) in [
        ("x-hop", 0),
        ("x-second", 0),
        ("x-kept", 1),
        ("origin", 1),
        ("cookie", 1),
        ("authorization", 1),
        ("host", 1),
        ("sec-websocket-key", 1),
        ("x-request-id", 1),
        ("x-forwarded-for", 1),
    ] {
        assert_eq!(values(&head, name).len(), expected, "{name}");
    }
}

#[test]
fn a_trusted_peers_chain_is_continued_and_an_untrusted_ones_replaced() {
    let rows: &[(&[&[u8]], &str)] = &[
        (&[b"1.1.1.1"], "1.1.1.1, 10.0.0.1"),
        (&[b"6.6.6.6, 1.1.1.1", b"10.0.0.2"], "6.6.6.6, 1.1.1.1, 10.0.0.2, 10.0.0.1"),
        (&[], "1.1.1.1, 10.0.0.1"),
        (&[b" "], "1.1.1.1, 10.0.0.1"),
    ];
    for (lines, expected) in rows {
        let lines: Vec<_> = lines.iter().map(|line| ("x-forwarded-for", *line)).collect();
        let headers = map(&lines);
        assert_eq!(values(&behind_proxy(&headers), "x-forwarded-for"), [*expected]);
        assert_eq!(values(&behind_proxy(&headers), "x-real-ip"), ["1.1.1.1"]);
        assert_eq!(values(&head(&headers), "x-forwarded-for"), ["9.9.9.9"]);
    }
    let headers = map(&[]);
    let mut alone = behind_proxy(&headers);
    alone.forwarded.client = alone.forwarded.direct;
    assert_eq!(values(&alone, "x-forwarded-for"), ["10.0.0.1"]);
}

#[test]
fn a_trusted_peers_scheme_and_host_are_kept_if_they_are_single_and_good() {
    let rows: &[(Lines<'_>, &str, &str)] = &[
        (&[("x-forwarded-proto", b"http")], "http", "chat.example.com"),
        (&[("x-forwarded-proto", b"wss")], "wss", "chat.example.com"),
        (&[("x-forwarded-proto", b"https, http")], "https", "chat.example.com"),
        (&[("x-forwarded-proto", b"http;host=evil")], "https", "chat.example.com"),
        (&[("x-forwarded-proto", b"HTTP")], "http", "chat.example.com"),
        // The first hop's.
        (
            &[("x-forwarded-proto", b"http"), ("x-forwarded-proto", b"https")],
            "http",
            "chat.example.com",
        ),
        (&[("forwarded", b"for=1.1.1.1;proto=http")], "http", "chat.example.com"),
        (&[("x-forwarded-host", b"public.example:444")], "https", "public.example:444"),
        (&[("x-forwarded-host", b"a, b")], "https", "chat.example.com"),
        (&[("x-forwarded-host", b"\"a\"")], "https", "chat.example.com"),
        (&[("x-forwarded-host", b"\xff")], "https", "chat.example.com"),
    ];
    for (lines, proto, host) in rows {
        let headers = map(lines);
        assert_eq!(values(&behind_proxy(&headers), "x-forwarded-proto"), [*proto], "{lines:?}");
        assert_eq!(values(&behind_proxy(&headers), "x-forwarded-host"), [*host], "{lines:?}");
        assert_eq!(values(&head(&headers), "x-forwarded-proto"), ["https"], "{lines:?}");
        assert_eq!(values(&head(&headers), "x-forwarded-host"), ["chat.example.com"], "{lines:?}");
    }
}

#[test]
fn forwarded_is_quoted_where_rfc_7239_wants_it() {
    let headers = map(&[]);
    for (client, host, expected) in [
        ("1.2.3.4", "a.example", "for=1.2.3.4;proto=https;host=a.example"),
        ("1.2.3.4", "a.example:8443", "for=1.2.3.4;proto=https;host=\"a.example:8443\""),
        ("2001:db8::1", "[::1]:80", "for=\"[2001:db8::1]\";proto=https;host=\"[::1]:80\""),
        ("::ffff:1.2.3.4", "a", "for=1.2.3.4;proto=https;host=a"),
    ] {
        let mut head = head(&headers);
        head.forwarded.client = client.parse().unwrap();
        head.forwarded.host = host;
        assert_eq!(values(&head, "forwarded"), [expected]);
    }
}

#[test]
fn the_host_is_the_one_asked_for_and_the_clients_goes_to_x_forwarded_host() {
    let headers = map(&[("host", b"chat.example.com")]);
    let head = UpstreamHead { host: "127.0.0.1:9001", ..head(&headers) };
    assert_eq!(values(&head, "host"), ["127.0.0.1:9001"]);
    assert_eq!(values(&head, "x-forwarded-host"), ["chat.example.com"]);
}

#[test]
fn the_token_can_be_moved_into_authorization() {
    let headers = map(&[("authorization", b"Basic old"), ("authorization", b"Basic older")]);
    let moved = UpstreamHead { authorization: Some("Bearer new"), ..head(&headers) };
    assert_eq!(values(&moved, "authorization"), ["Bearer new"]);
    assert_eq!(values(&head(&headers), "authorization"), ["Basic old", "Basic older"]);
}

#[test]
fn subprotocols_without_the_gateways_own_go_upstream() {
    let headers = map(&[]);
    for (offered, expected) in [
        (vec!["framegate"], vec![]),
        (vec!["framegate", "base64url.bearer.authorization.framegate.eyJ"], vec![]),
        (vec!["b", "framegate", "a"], vec!["b, a"]),
    ] {
        let offered: Vec<_> = offered.into_iter().map(str::to_owned).collect();
        let head = UpstreamHead { offered: &offered, ..head(&headers) };
        assert_eq!(values(&head, "sec-websocket-protocol"), expected);
    }
}

#[test]
fn the_user_is_percent_encoded_beyond_visible_ascii() {
    let headers = map(&[]);
    for (user, expected) in [
        ("ann@example.com", "ann@example.com"),
        ("a b", "a%20b"),
        ("100%", "100%25"),
        ("%41", "%2541"),
        ("jos\u{e9}", "jos%C3%A9"),
        ("a\r\nX-Auth-Admin: 1", "a%0D%0AX-Auth-Admin:%201"),
        ("\u{7f}\0", "%7F%00"),
    ] {
        let identity = ForwardedIdentity { user: Some(user), claims: None };
        let head = UpstreamHead { identity: Some(identity), ..head(&headers) };
        assert_eq!(values(&head, "x-auth-user"), [expected]);
        assert!(values(&head, "x-auth-claims").is_empty());
    }
}

#[test]
fn claims_larger_than_8_kib_are_an_error_of_their_own() {
    let headers = map(&[]);
    let write = |length: usize| {
        let claims = json!({ "c": "x".repeat(length) });
        let identity = ForwardedIdentity { user: None, claims: claims.as_object() };
        UpstreamHead { identity: Some(identity), ..head(&headers) }.write().map(|_| ())
    };
    // {"c":""} is 8 bytes; 6144 bytes of JSON are 8192 of base64.
    assert_eq!(write(6136), Ok(()));
    assert_eq!(write(6137), Err(HeadError::ClaimsTooLarge { size: 8194 }));
}

#[test]
fn nothing_can_break_out_of_its_line() {
    let headers = map(&[]);
    let offered = ["a\r\nX: y".to_owned()];
    let base = head(&headers);
    let mut forged_host = base;
    forged_host.forwarded.host = "a\"\r\nX: y";
    for (head, part) in [
        (UpstreamHead { path: "/a\r\nX: y", ..base }, "path"),
        (UpstreamHead { path: "/a HTTP/1.1", ..base }, "path"),
        (UpstreamHead { path: "a", ..base }, "path"),
        (UpstreamHead { query: Some("a\nX: y"), ..base }, "query"),
        (UpstreamHead { query: Some("a b"), ..base }, "query"),
        (UpstreamHead { host: "a\r\nX: y", ..base }, "Host"),
        (UpstreamHead { host: "", ..base }, "Host"),
        (forged_host, "X-Forwarded-Host"),
        (UpstreamHead { key: "a\r\nX: y", ..base }, "Sec-WebSocket-Key"),
        (UpstreamHead { offered: &offered, ..base }, "Sec-WebSocket-Protocol"),
        (UpstreamHead { authorization: Some("Bearer a\r\nX: y"), ..base }, "Authorization"),
    ] {
        assert_eq!(head.write(), Err(HeadError::Illegal(part)), "{part}");
    }
}

/// Names that are, or come close to, those that must not survive.
fn name() -> impl Strategy<Value = String> {
    let first =
        prop::sample::select(vec!["x", "X", "content", "transfer", "sec", "keep", "proxy", "te"]);
    let second = prop::sample::select(vec![
        "auth",
        "forwarded",
        "real",
        "request",
        "length",
        "encoding",
        "websocket",
        "alive",
        "Connection",
    ]);
    let third =
        prop::sample::select(vec!["", "-user", "_for", "-ip", "_id", "-protocol", "_extensions"]);
    (first, prop::sample::select(vec!["-", "_"]), second, third)
        .prop_map(|(first, dash, second, third)| format!("{first}{dash}{second}{third}"))
}

/// Bytes that a `HeaderValue` takes.
fn value() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![Just(b'\t'), 0x20..0x7f_u8, 0x80..=0xff_u8], 0..20)
}

proptest! {
    #[test]
    fn no_header_of_a_forbidden_class_survives(
        lines in prop::collection::vec((name(), value()), 0..12),
        listed in name(),
    ) {
        let mut headers: HeaderMap = HeaderMap::new();
        headers.append(CONNECTION, HeaderValue::from_str(&listed).unwrap());
        for (name, _) in &lines {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_static("from the client"));
        }
        for (name, value) in lines_of(&head(&headers).write().unwrap()) {
            if value == b"from the client" {
                let read = name.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
                prop_assert!(!read.starts_with("x-forwarded-"), "{}", name);
                prop_assert!(!["x-auth-user", "x-auth-claims", "x-request-id", "x-real-ip", "content-length", "transfer-encoding",
                    "keep-alive", "proxy-connection"].contains(&read.as_str()), "{}", name);
                prop_assert!(!name.eq_ignore_ascii_case(&listed), "{}", name);
            }
        }
    }

    #[test]
    fn whatever_the_parts_are_one_request_comes_out_or_an_error(
        lines in prop::collection::vec((name(), value()), 0..12),
        path in "/[ -~\\r\\n]{0,12}",
        query in prop::option::of(".{0,12}"),
        host in "[a-z:\\r\\n.]{1,12}",
        user in ".{0,12}",
        authorization in prop::option::of("[ -~\\r\\n\\t]{0,12}"),
        trusted in any::<bool>(),
    ) {
        let mut headers: HeaderMap = HeaderMap::new();
        for (name, value) in &lines {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_bytes(value).unwrap());
        }
        let base = if trusted { behind_proxy(&headers) } else { head(&headers) };
        let head = UpstreamHead {
            path: &path,
            query: query.as_deref(),
            host: &host,
            identity: Some(ForwardedIdentity { user: Some(&user), claims: None }),
            authorization: authorization.as_deref(),
            ..base
        };
        if let Ok(bytes) = head.write() {
            let text = String::from_utf8_lossy(&bytes);
            prop_assert_eq!(text.matches("\r\n\r\n").count(), 1);
            prop_assert!(text.ends_with("\r\n\r\n"));
            prop_assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
            let written = lines_of(&bytes);
            for ours in ["host", "upgrade", "connection", "x-auth-user", "x-forwarded-for"] {
                prop_assert_eq!(written.iter().filter(|(name, _)| name == ours).count(), 1);
            }
        }
    }
}

#[test]
fn headers_that_a_route_sets_come_from_nobody_else_and_those_of_a_proxy_only_from_it() {
    let reserved = ["x-tenant", "x-forwarded-user", "x-amzn-oidc-data"].map(str::to_owned);
    let trusted = ["x-forwarded-user".to_owned()];
    let remove = ["x-debug".to_owned()];
    let set = [("X-Tenant".to_owned(), "acme".to_owned())];
    let rules = Rules {
        reserved: &reserved,
        trusted: &trusted,
        remove: &remove,
        set: &set,
        spelling: None,
    };
    let one = |name: &'static str| map(&[(name, b"evil"), ("x-auth-token", b"kept")]);
    for (name, from_proxy) in [
        ("x-tenant", false),
        ("x_tenant", false),
        ("X.Tenant", false),
        ("x-debug", false),
        ("x~debug", false),
        ("x-amzn-oidc-data", false),
        ("x-forwarded-user", true),
        ("x_forwarded_user", false),
    ] {
        let headers = one(name);
        for (build, is_passed) in
            [(head as fn(&HeaderMap) -> UpstreamHead<'_>, false), (behind_proxy, from_proxy)]
        {
            let written = UpstreamHead { rules, ..build(&headers) }.write().unwrap();
            let text = String::from_utf8(written).unwrap();
            assert_eq!(text.contains("evil"), is_passed, "{name} {text}");
            assert!(text.contains("\r\nX-Tenant: acme\r\n"), "{text}");
            assert!(text.contains("\r\nX-Auth-Token: kept\r\n"), "{text}");
        }
    }
    // Two values are nobody's word.
    let twice = map(&[("x-forwarded-user", b"a"), ("x-forwarded-user", b"b")]);
    assert!(values(&UpstreamHead { rules, ..behind_proxy(&twice) }, "x-forwarded-user").is_empty());
    let broken = [("X-Tenant".to_owned(), "a\r\nb".to_owned())];
    let rules = Rules { set: &broken, ..Rules::default() };
    assert!(UpstreamHead { rules, ..head(&twice) }.write().is_err());
}

#[test]
fn a_trusted_proxys_port_is_passed_on() {
    for (value, expected) in
        [("8443", vec!["8443"]), ("0", vec![]), ("x", vec![]), ("70000", vec![])]
    {
        let headers = map(&[("x-forwarded-port", value.as_bytes())]);
        assert_eq!(values(&behind_proxy(&headers), "x-forwarded-port"), expected, "{value}");
        assert!(values(&head(&headers), "x-forwarded-port").is_empty());
    }
}
