//! The rules of the opening handshake, row by row, and requests nobody thought of.

use proptest::prelude::*;

use super::*;

const VALID: &[(&str, &str)] = &[
    ("host", "chat.example.com:8443"),
    ("upgrade", "websocket"),
    ("connection", "Upgrade"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("sec-websocket-version", "13"),
];

fn map(lines: &[(&str, &[u8])]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_bytes(value).unwrap());
    }
    headers
}

/// The valid request, with all lines called like those in `changes` replaced by them.
fn headers(changes: &[(&str, &[u8])], removed: &[&str]) -> HeaderMap {
    let replaced = |name: &str| changes.iter().any(|(changed, _)| *changed == name);
    let kept = VALID.iter().filter(|(name, _)| !replaced(name) && !removed.contains(name));
    let mut lines: Vec<_> = kept.map(|(name, value)| (*name, value.as_bytes())).collect();
    lines.extend(changes);
    map(&lines)
}

fn parse_target(target: &str, headers: HeaderMap) -> Result<UpgradeRequest, BadRequest> {
    UpgradeRequest::parse(&Method::GET, &target.parse().unwrap(), Version::HTTP_11, headers)
}

fn with(changes: &[(&str, &[u8])]) -> Result<UpgradeRequest, BadRequest> {
    parse_target("/chat", headers(changes, &[]))
}

#[test]
fn a_valid_handshake_is_read() {
    let changes: &[(&str, &[u8])] = &[
        ("origin", b"https://chat.example.com"),
        ("sec-websocket-protocol", b"framegate, chat.v2"),
        ("sec-websocket-protocol", b" ,chat.v1"),
    ];
    let request = parse_target("/%63hat/42?a=%20b&c", headers(changes, &[])).unwrap();
    assert_eq!(request.host, "chat.example.com:8443");
    assert_eq!(request.path, "/chat/42");
    assert_eq!(request.query.as_deref(), Some("a=%20b&c"));
    assert_eq!(request.key, "dGhlIHNhbXBsZSBub25jZQ==");
    assert_eq!(request.origin.as_deref(), Some("https://chat.example.com"));
    assert_eq!(request.offered, ["framegate", "chat.v2", "chat.v1"]);
    assert_eq!(request.headers, headers(changes, &[]));
}

#[test]
fn a_minimal_handshake_has_no_query_no_origin_and_no_subprotocols() {
    let request = with(&[]).unwrap();
    assert_eq!((request.query, request.origin), (None, None));
    assert!(request.offered.is_empty());
}

#[test]
fn only_get_over_http_1_1_is_a_handshake() {
    let parse = |method: Method, version| {
        UpgradeRequest::parse(&method, &Uri::from_static("/"), version, headers(&[], &[])).err()
    };
    assert_eq!(parse(Method::GET, Version::HTTP_11), None);
    for method in [Method::POST, Method::HEAD, Method::CONNECT, Method::OPTIONS] {
        assert_eq!(parse(method, Version::HTTP_11), Some(BadRequest::Method));
    }
    for version in [Version::HTTP_09, Version::HTTP_10, Version::HTTP_2, Version::HTTP_3] {
        assert_eq!(parse(Method::GET, version), Some(BadRequest::HttpVersion));
    }
}

#[test]
fn a_target_is_a_path_or_a_whole_url_of_the_same_host() {
    for (host, target, expected) in [
        ("chat.example.com", "http://chat.example.com/chat", None),
        ("chat.example.com", "ws://Chat.Example.com:80/chat", None),
        ("chat.example.com:443", "wss://chat.example.com/chat?a=b", None),
        ("chat.example.com:8443", "wss://chat.example.com:8443/chat", None),
        ("chat.example.com:8443", "ws://chat.example.com/chat", Some(BadRequest::TargetHost)),
        ("chat.example.com", "wss://chat.example.com:80/chat", Some(BadRequest::TargetHost)),
        ("chat.example.com", "ws://evil.example/chat", Some(BadRequest::TargetHost)),
        ("chat.example.com", "ws://a@chat.example.com/chat", Some(BadRequest::TargetHost)),
        ("chat.example.com", "ftp://chat.example.com/chat", Some(BadRequest::Target)),
        ("chat.example.com", "chat.example.com", Some(BadRequest::Target)),
        ("chat.example.com", "*", Some(BadRequest::Target)),
    ] {
        let found = parse_target(target, headers(&[("host", host.as_bytes())], &["host"]));
        if let Ok(request) = &found {
            assert_eq!(request.path, "/chat", "{target}");
        }
        assert_eq!(found.err(), expected, "{target}");
    }
}

#[test]
fn the_path_is_checked() {
    for (target, expected) in [
        ("/a/%2e%2e/b", BadRequest::PathDotSegment),
        ("//chat", BadRequest::PathEmptySegment),
        ("/a%5cb", BadRequest::PathEncodedSlash),
        ("/%zz", BadRequest::PathPercent),
        ("/é", BadRequest::PathCharacter),
    ] {
        assert_eq!(parse_target(target, headers(&[], &[])).err(), Some(expected), "{target}");
    }
}

#[test]
fn each_header_that_is_missing_is_named() {
    for (name, expected) in [
        ("host", BadRequest::HostMissing),
        ("upgrade", BadRequest::UpgradeMissing),
        ("connection", BadRequest::ConnectionUpgrade),
        ("sec-websocket-key", BadRequest::KeyMissing),
        ("sec-websocket-version", BadRequest::VersionMissing),
    ] {
        let missing = parse_target("/", headers(&[], &[name])).err();
        assert_eq!(missing, Some(expected), "{name}");
    }
}

#[test]
fn what_is_no_handshake_at_all_is_told_first() {
    let plain = map(&[("host", b"a"), ("accept", b"text/html")]);
    assert_eq!(parse_target("/", plain).err(), Some(BadRequest::UpgradeMissing));
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn the_rules_on_headers_hold() {
    use BadRequest as B;
    type Rows<'a> = &'a [(&'a [(&'a str, &'a [u8])], Option<BadRequest>)];
    let rows: Rows<'_> = &[
        // Host.
        (&[("host", b"a"), ("host", b"a")], Some(B::HostRepeated)),
        (&[("host", b"a"), ("host", b"b")], Some(B::HostRepeated)),
        // Bodies and smuggling.
        (&[("transfer-encoding", b"chunked")], Some(B::TransferEncoding)),
        (&[("transfer-encoding", b"identity")], Some(B::TransferEncoding)),
        (&[("transfer-encoding", b"")], Some(B::TransferEncoding)),
        (&[("content-length", b"0")], None),
        (&[("content-length", b"5")], Some(B::ContentLength)),
        (&[("content-length", b"00")], Some(B::ContentLength)),
        (&[("content-length", b"+0")], Some(B::ContentLength)),
        (&[("content-length", b"")], Some(B::ContentLength)),
        (&[("content-length", b"0, 0")], Some(B::ContentLength)),
        (&[("content-length", b"0"), ("content-length", b"0")], Some(B::ContentLength)),
        (&[("content-length", b"0"), ("transfer-encoding", b"chunked")], Some(B::TransferEncoding)),
        // Upgrade and Connection.
        (&[("upgrade", b"WebSocket")], None),
        (&[("upgrade", b"h2c, websocket")], None),
        (&[("upgrade", b"h2c"), ("upgrade", b"WEBSOCKET")], None),
        (&[("upgrade", b"h2c")], Some(B::UpgradeOther)),
        (&[("upgrade", b"")], Some(B::UpgradeOther)),
        (&[("upgrade", b"websocket2")], Some(B::UpgradeOther)),
        (&[("upgrade", b"web socket")], Some(B::UpgradeOther)),
        (&[("upgrade", b"websocket/13")], Some(B::UpgradeOther)),
        (&[("connection", b"keep-alive, Upgrade")], None),
        (&[("connection", b"keep-alive"), ("connection", b",\tupgrade ,")], None),
        (&[("connection", b"keep-alive")], Some(B::ConnectionUpgrade)),
        (&[("connection", b"upgraded")], Some(B::ConnectionUpgrade)),
        // Version.
        (&[("sec-websocket-version", b"8")], Some(B::VersionOther)),
        (&[("sec-websocket-version", b"")], Some(B::VersionOther)),
        (&[("sec-websocket-version", b"013")], Some(B::VersionOther)),
        (&[("sec-websocket-version", b"13, 8")], Some(B::VersionOther)),
        (
            &[("sec-websocket-version", b"13"), ("sec-websocket-version", b"13")],
            Some(B::VersionOther),
        ),
        // Key.
        (&[("sec-websocket-key", b"AAAAAAAAAAAAAAAAAAAAAA==")], None),
        (&[("sec-websocket-key", b"////////////////////+/==")], None),
        (&[("sec-websocket-key", b"")], Some(B::KeyInvalid)),
        (&[("sec-websocket-key", b"AAAAAAAAAAAAAAAAAAAAAA")], Some(B::KeyInvalid)),
        (&[("sec-websocket-key", b"AAAAAAAAAAAAAAAAAAAAAAA=")], Some(B::KeyInvalid)),
        (&[("sec-websocket-key", b"AAAAAAAAAAAAAAAAAAAAAAAA")], Some(B::KeyInvalid)),
        (&[("sec-websocket-key", b"AAAAAAAAAAAAAAAAAAAA====")], Some(B::KeyInvalid)),
        (&[("sec-websocket-key", b"-_AAAAAAAAAAAAAAAAAAAA==")], Some(B::KeyInvalid)),
        (&[("sec-websocket-key", b"AAAAAAAAAAA AAAAAAAAAA==")], Some(B::KeyInvalid)),
        (&[("sec-websocket-key", b"\xffAAAAAAAAAAAAAAAAAAAAA==")], Some(B::KeyInvalid)),
        (
            &[
                ("sec-websocket-key", b"AAAAAAAAAAAAAAAAAAAAAA=="),
                ("sec-websocket-key", b"AAAAAAAAAAAAAAAAAAAAAA=="),
            ],
            Some(B::KeyRepeated),
        ),
        // Origin.
        (&[("origin", b"null")], None),
        (&[("origin", b"https://a"), ("origin", b"https://a")], Some(B::OriginRepeated)),
        (&[("origin", b"")], Some(B::OriginInvalid)),
        (&[("origin", b"https://a https://b")], Some(B::OriginInvalid)),
        (&[("origin", b"https://\xc3\xa9")], Some(B::OriginInvalid)),
        // Subprotocols.
        (&[("sec-websocket-protocol", b"a,,b,")], None),
        (&[("sec-websocket-protocol", b"a, A")], None),
        (&[("sec-websocket-protocol", b"a, b, a")], Some(B::SubprotocolRepeated)),
        (
            &[("sec-websocket-protocol", b"a"), ("sec-websocket-protocol", b"a")],
            Some(B::SubprotocolRepeated),
        ),
        (&[("sec-websocket-protocol", b"")], Some(B::SubprotocolInvalid)),
        (&[("sec-websocket-protocol", b" , ,")], Some(B::SubprotocolInvalid)),
        (&[("sec-websocket-protocol", b"a b")], Some(B::SubprotocolInvalid)),
        (&[("sec-websocket-protocol", b"a;q=1")], Some(B::SubprotocolInvalid)),
        (&[("sec-websocket-protocol", b"\"a\"")], Some(B::SubprotocolInvalid)),
        (&[("sec-websocket-protocol", b"caf\xc3\xa9")], Some(B::SubprotocolInvalid)),
    ];
    for (changes, expected) in rows {
        assert_eq!(with(changes).err(), *expected, "{changes:?}");
    }
}

#[test]
fn a_host_is_a_name_or_an_address_and_perhaps_a_port() {
    for good in [
        "a",
        "a.b",
        "A-b.c_d.",
        "localhost:80",
        "127.0.0.1",
        "127.0.0.1:8080",
        "[::1]",
        "[2001:db8::1]:443",
        "xn--bcher-kva.example",
    ] {
        assert_eq!(with(&[("host", good.as_bytes())]).unwrap().host, good);
    }
    for bad in [
        "",
        ".",
        "a..b",
        ".a",
        ":80",
        "a:",
        "a:b",
        "a:+80",
        "a:65536",
        "a:80:80",
        "::1",
        "[::1",
        "[::1]x",
        "[]",
        "[a]",
        "[::1%25eth0]",
        "user@a",
        "a/b",
        "a?b",
        "a#b",
        "a b",
        "a, b",
        "a,b",
        "a%2eb",
        "a\\b",
        "b\u{fc}cher",
        "a\tb",
        "\"a\"",
        "a;b",
        "http://a",
    ] {
        let error = with(&[("host", bad.as_bytes())]).err();
        assert_eq!(error, Some(BadRequest::HostInvalid), "{bad:?}");
    }
    let long = "a".repeat(256);
    assert_eq!(with(&[("host", long.as_bytes())]).err(), Some(BadRequest::HostInvalid));
}

#[test]
fn sixty_four_subprotocols_are_enough() {
    let list = |count: usize| (0..count).map(|n| format!("p{n}")).collect::<Vec<_>>().join(",");
    let offered = |count| with(&[("sec-websocket-protocol", list(count).as_bytes())]);
    assert_eq!(offered(64).unwrap().offered.len(), 64);
    assert_eq!(offered(65).err(), Some(BadRequest::SubprotocolsTooMany));
}

#[test]
fn extensions_are_counted_whatever_they_look_like() {
    let rows: &[(&[&[u8]], (bool, bool))] = &[
        (&[], (false, false)),
        (&[b""], (false, false)),
        (&[b"permessage-deflate"], (true, false)),
        (&[b"Permessage-Deflate ; client_max_window_bits"], (true, false)),
        (&[b"permessage-deflate; a=1, permessage-deflate"], (true, false)),
        (&[b"x-webkit-deflate-frame"], (false, true)),
        (&[b"bbf-usp-protocol", b"permessage-deflate"], (true, true)),
        (&[b"\xff"], (false, true)),
    ];
    for (lines, expected) in rows {
        let changes: Vec<_> =
            lines.iter().map(|line| ("sec-websocket-extensions", *line)).collect();
        assert_eq!(with(&changes).unwrap().stripped_extensions(), *expected, "{lines:?}");
    }
}

#[test]
fn a_wrong_version_is_426_and_everything_else_400() {
    assert_eq!(BadRequest::VersionOther.status(), StatusCode::UPGRADE_REQUIRED);
    assert_eq!(BadRequest::VersionMissing.status(), StatusCode::UPGRADE_REQUIRED);
    assert_eq!(BadRequest::UpgradeMissing.status(), StatusCode::BAD_REQUEST);
    assert_eq!(BadRequest::KeyInvalid.status(), StatusCode::BAD_REQUEST);
}

#[test]
fn debug_output_shows_no_token() {
    let changes: &[(&str, &[u8])] =
        &[("authorization", b"Bearer s3cret"), ("sec-websocket-protocol", b"s3cret")];
    let request = parse_target("/chat?token=s3cret", headers(changes, &[])).unwrap();
    assert!(!format!("{request:?}").contains("s3cret"));
}

proptest! {
    #[test]
    fn no_header_panics_and_what_is_accepted_keeps_its_promises(
        name in prop::sample::select(vec![
            "host", "upgrade", "connection", "sec-websocket-key", "sec-websocket-version",
            "sec-websocket-protocol", "sec-websocket-extensions", "origin", "content-length",
        ]),
        value in prop::collection::vec(
            prop_oneof![Just(b'\t'), 0x20..0x7f_u8, 0x80..=0xff_u8],
            0..40,
        ),
        target in "/[!-~]{0,20}",
    ) {
        let (Ok(uri), headers) = (target.parse::<Uri>(), headers(&[(name, &value)], &[])) else {
            return Ok(());
        };
        let parsed = UpgradeRequest::parse(&Method::GET, &uri, Version::HTTP_11, headers);
        if let Ok(request) = parsed {
            request.stripped_extensions();
            prop_assert!(is_host(&request.host));
            prop_assert!(request.path.starts_with('/'));
            prop_assert!(request.offered.iter().all(|entry| is_token(entry)));
            prop_assert_eq!(request.key.len(), 24);
        }
    }
}
