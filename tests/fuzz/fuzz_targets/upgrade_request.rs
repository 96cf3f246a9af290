//! A request head is refused, or goes upstream as a head that httparse reads as the same request, with
//! nothing in it that only the gateway may say.
//!
//! Input: a request head as it comes from a socket.
#![no_main]

use std::net::IpAddr;

use framegate::internals::handshake::forwarded::client_address;
use framegate::internals::handshake::headers::{
    Forwarded, ForwardedIdentity, Rules, Scheme, Trust, UpstreamHead,
};
use framegate::internals::handshake::path::normalise;
use framegate::internals::handshake::request::{MAX_SUBPROTOCOLS, UpgradeRequest};
use framegate_fuzz::heads::{self, Head, Line};
use http::HeaderMap;
use libfuzzer_sys::fuzz_target;

/// How the gateway is configured and reached.
#[derive(Clone, Copy)]
struct Case {
    trust: Trust,
    identified: bool,
    authorization: Option<&'static str>,
}

const KEY: &str = "AQIDBAUGBwgJCgsMDQ4PEC==";
const DIRECT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const USER: &str = "Ann \u{e9}%";

fn client_of(headers: &HeaderMap, trust: Trust) -> IpAddr {
    let trusted = ["10.0.0.0/8".parse().expect("a network")];
    let trusted = if trust == Trust::Trusted { &trusted[..] } else { &[] };
    client_address(DIRECT, trusted, headers)
}

fn write(request: &UpgradeRequest, case: Case) -> Vec<u8> {
    let client = client_of(&request.headers, case.trust);
    let head = UpstreamHead {
        path: &request.path,
        query: request.query.as_deref(),
        headers: &request.headers,
        offered: &request.offered,
        key: KEY,
        host: &request.host,
        forwarded: Forwarded {
            client,
            direct: DIRECT,
            trust: case.trust,
            scheme: Scheme::Https,
            host: &request.host,
        },
        identity: case.identified.then_some(ForwardedIdentity { user: Some(USER), claims: None }),
        request_id: "0000000000000007",
        authorization: case.authorization,
        rules: Rules::default(),
    };
    head.write().expect("what was parsed can be written")
}

/// RFC 6455 section 4.2.1 and what the gateway promises of paths and subprotocols.
fn check_parsed(head: &Head, request: &UpgradeRequest) {
    assert_eq!(head.method, "GET");
    assert_eq!(head.only("host"), request.host.as_bytes());
    assert_eq!(head.only("sec-websocket-key"), request.key.as_bytes());
    assert_eq!(head.only("sec-websocket-version"), b"13");
    assert!(head.list("upgrade").contains(&b"websocket".to_vec()));
    assert!(head.list("connection").contains(&b"upgrade".to_vec()));
    assert!(head.values("transfer-encoding").is_empty());
    assert!(head.values("content-length").iter().all(|length| *length == b"0"));
    let path = &request.path;
    // A route may allow encoded slashes; all else is normal.
    let plain = path.replace("%2F", "x").replace("%2f", "x");
    assert_eq!(normalise(&plain).as_ref(), Ok(&plain));
    assert!(path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic()));
    assert!(!path.contains("//") && !path.contains('\\') && !path.contains(['?', '#']));
    assert!(path.split('/').all(|segment| segment != "." && segment != ".."));
    // `http::Uri` drops a fragment before anybody sees it.
    let target = head.target.split('#').next().unwrap_or_default();
    assert_eq!(request.query.as_deref(), target.split_once('?').map(|(_, query)| query));
    let mut offered = request.offered.clone();
    assert!(offered.len() <= MAX_SUBPROTOCOLS);
    offered.sort();
    offered.dedup();
    assert_eq!(offered.len(), request.offered.len(), "a subprotocol twice");
    let deflate = head.list("sec-websocket-extensions").iter().any(|one| {
        one.split(|byte| *byte == b';').next().unwrap().trim_ascii() == b"permessage-deflate"
    });
    assert_eq!(request.stripped_extensions().0, deflate);
}

/// What only the gateway says upstream, whatever the spelling.
fn is_reserved(name: &str) -> bool {
    let name = name.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let own = ["forwarded", "x-real-ip", "x-request-id", "x-auth-user", "x-auth-claims"];
    own.contains(&&*name) || name.starts_with("x-forwarded-")
}

/// Headers of the hop, of a body, or of the handshake (RFC 9110 section 7.6.1, RFC 6455).
fn is_of_the_hop(name: &str) -> bool {
    let name = name.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    matches!(
        &*name,
        "host"
            | "connection"
            | "upgrade"
            | "keep-alive"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "content-length"
            | "http2-settings"
            | "expect"
            | "via"
    ) || name.starts_with("sec-websocket-")
        && matches!(&name[14..], "key" | "version" | "accept" | "protocol" | "extensions")
        || name.starts_with("proxy-")
            && matches!(&name[6..], "connection" | "authenticate" | "authorization")
}

/// The lines of the client that belong to the upstream.
fn end_to_end(head: &Head, case: Case) -> Vec<Line> {
    let listed = head.list("connection");
    let passes = |(name, _): &&Line| {
        let decided_by = ["origin", "cookie", "authorization"].contains(&name.as_str());
        !is_reserved(name)
            && !is_of_the_hop(name)
            && (decided_by || !listed.iter().any(|listed| listed == name.as_bytes()))
            && !(name == "authorization" && case.authorization.is_some())
    };
    head.lines.iter().filter(passes).cloned().collect()
}

fn check_written(head: &Head, request: &UpgradeRequest, case: Case) {
    let bytes = write(request, case);
    let mut headers = [httparse::EMPTY_HEADER; 120];
    let mut parsed = httparse::Request::new(&mut headers);
    let length = parsed.parse(&bytes).expect("what is written is HTTP");
    assert_eq!(length, httparse::Status::Complete(bytes.len()), "something stands behind the head");
    assert_eq!((parsed.method, parsed.version), (Some("GET"), Some(1)));
    let line = |line: &httparse::Header<'_>| (line.name.to_ascii_lowercase(), line.value.to_vec());
    let lines: Vec<Line> = parsed.headers.iter().map(line).collect();
    let target = parsed.path.expect("complete").to_owned();
    let written = Head { method: "GET".to_owned(), target, lines, len: bytes.len() };
    match &request.query {
        Some(query) => assert_eq!(written.target, format!("{}?{query}", request.path)),
        None => assert_eq!(written.target, request.path),
    }
    check_handshake(&written, request);
    check_identity(&written, request, case);
    let ours = |(name, _): &Line| !is_reserved(name) && !is_of_the_hop(name);
    let mut copied: Vec<Line> = written.lines.iter().filter(|line| ours(line)).cloned().collect();
    let mut expected = end_to_end(head, case);
    if let Some(value) = case.authorization {
        expected.push(("authorization".to_owned(), value.as_bytes().to_vec()));
    }
    // The order of lines with different names says nothing (RFC 9110 section 5.3): a stable sort.
    copied.sort_by(|a, b| a.0.cmp(&b.0));
    expected.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(copied, expected);
}

fn check_handshake(written: &Head, request: &UpgradeRequest) {
    assert_eq!(written.only("host"), request.host.as_bytes());
    assert_eq!(written.only("upgrade"), b"websocket");
    assert_eq!(written.only("connection"), b"Upgrade");
    assert_eq!(written.only("sec-websocket-version"), b"13");
    assert_eq!(written.only("sec-websocket-key"), KEY.as_bytes());
    let offers = written.values("sec-websocket-protocol");
    let expected: Vec<&str> = request
        .offered
        .iter()
        .map(String::as_str)
        .filter(|name| *name != "framegate" && !name.contains(".bearer.authorization.framegate."))
        .collect();
    if offers.is_empty() {
        let token = "base64url.bearer.authorization.framegate.";
        assert!(expected.iter().all(|name| name.starts_with(token)), "{expected:?}");
    } else {
        let offered = std::str::from_utf8(written.only("sec-websocket-protocol")).expect("ASCII");
        let offered: Vec<&str> = offered.split(", ").collect();
        assert!(expected.iter().all(|name| offered.contains(name)), "{offered:?}");
        assert!(!offered.contains(&"framegate"));
    }
    let hop: Vec<&String> =
        written.lines.iter().map(|(name, _)| name).filter(|name| is_of_the_hop(name)).collect();
    assert_eq!(hop.len(), 5 + usize::from(!offers.is_empty()), "{hop:?}");
}

fn check_identity(written: &Head, request: &UpgradeRequest, case: Case) {
    let reserved: Vec<&String> =
        written.lines.iter().map(|(name, _)| name).filter(|name| is_reserved(name)).collect();
    let (ports, reserved): (Vec<&String>, Vec<_>) =
        reserved.into_iter().partition(|name| *name == "x-forwarded-port");
    assert!(ports.len() <= usize::from(case.trust == Trust::Trusted));
    let mut expected = vec![
        "x-request-id",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-real-ip",
        "forwarded",
    ];
    expected.extend(case.identified.then_some("x-auth-user"));
    assert_eq!(reserved, expected);
    let client = client_of(&request.headers, case.trust).to_string();
    assert_eq!(written.only("x-request-id"), b"0000000000000007");
    assert_eq!(written.only("x-real-ip"), client.as_bytes());
    if case.identified {
        assert_eq!(written.only("x-auth-user"), b"Ann%20%C3%A9%25");
    }
    let chain = written.only("x-forwarded-for");
    match case.trust {
        Trust::Untrusted => {
            assert_eq!((chain, client.as_str()), (&b"10.0.0.1"[..], "10.0.0.1"));
            assert_eq!(written.only("x-forwarded-proto"), b"https");
            assert_eq!(written.only("x-forwarded-host"), request.host.as_bytes());
        }
        Trust::Trusted => {
            assert!(chain.ends_with(b"10.0.0.1"));
            let proto = written.only("x-forwarded-proto");
            assert!([&b"http"[..], b"https", b"ws", b"wss"].contains(&proto));
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some(head) = heads::read(bytes) else { return };
    let Some((method, uri, version, headers)) = head.typed() else { return };
    match UpgradeRequest::parse(&method, &uri, version, headers) {
        Err(refusal) => {
            assert!(matches!(refusal.status().as_u16(), 400 | 426));
            assert!(!refusal.to_string().contains(char::is_control));
        }
        Ok(request) => {
            check_parsed(&head, &request);
            for trust in [Trust::Trusted, Trust::Untrusted] {
                for (identified, authorization) in [(false, None), (true, Some("Bearer abc"))] {
                    check_written(&head, &request, Case { trust, identified, authorization });
                }
            }
        }
    }
});
