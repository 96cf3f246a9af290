//! Of any handshake the token is the only one of the first source that has one, never one of two;
//! and what goes upstream without it holds none, but everything else.
//!
//! Input: a request head as it comes from a socket.
#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use framegate::internals::admission::token::{
    MAX_TOKEN_BYTES, Presented, Sender, extract, forward, strip,
};
use framegate::internals::config::{ForwardToken, TokenSource};
use framegate::internals::handshake::headers::Trust;
use framegate::internals::handshake::request::{Forwardable, UpgradeRequest};
use framegate::internals::outcome::rejection::TokenFault;
use framegate_fuzz::heads;
use libfuzzer_sys::fuzz_target;

const PREFIX: &str = "base64url.bearer.authorization.framegate.";
const COOKIE: &str = "session";
const PARAMETER: &str = "token";
const PAGE: &str = "https://chat.example.com";

fn sources() -> [TokenSource; 6] {
    [
        TokenSource::Header,
        TokenSource::Subprotocol,
        TokenSource::SubprotocolAfter("bearer".to_owned()),
        TokenSource::SubprotocolAfter("access_token".to_owned()),
        TokenSource::Cookie(COOKIE.to_owned()),
        TokenSource::Query(PARAMETER.to_owned()),
    ]
}

/// The scheme and what follows it, if there is a blank between.
fn bearer(value: &[u8]) -> Option<Vec<u8>> {
    let value = value.trim_ascii();
    let is_bearer = value.len() >= 6 && value[..6].eq_ignore_ascii_case(b"bearer");
    let rest = value.get(6..).filter(|_| is_bearer)?;
    (rest.is_empty() || rest[0] == b' ' || rest[0] == b'\t').then(|| rest.trim_ascii().to_vec())
}

/// Names and values of all cookies.
fn cookies(request: &Forwardable) -> Vec<(Vec<u8>, Vec<u8>)> {
    let lines = request.headers.get_all("cookie").iter();
    let pairs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    let pair = |pair: &[u8]| {
        let at = pair.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (pair[..at].trim_ascii(), pair[at + 1..].trim_ascii());
        let quoted = value.len() > 1 && value.starts_with(b"\"") && value.ends_with(b"\"");
        let value = if quoted { &value[1..value.len() - 1] } else { value };
        Some((name.to_vec(), value.to_vec()))
    };
    pairs.filter_map(pair).collect()
}

/// WHATWG URL, application/x-www-form-urlencoded.
fn decoded(text: &str) -> Vec<u8> {
    let (bytes, mut plain, mut at) = (text.as_bytes(), Vec::new(), 0);
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    while let Some(byte) = bytes.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                plain.push((high * 16 + low) as u8);
                at += 2;
            }
            (b'+', ..) => plain.push(b' '),
            _ => plain.push(*byte),
        }
        at += 1;
    }
    plain
}

fn parameters(request: &Forwardable) -> Vec<(Vec<u8>, Vec<u8>)> {
    let query = request.query.as_deref().unwrap_or_default();
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.map(|(name, value)| (decoded(name), decoded(value))).collect()
}

/// Everything a source holds that could be taken for a token.
fn candidates(source: &TokenSource, request: &Forwardable) -> Vec<Vec<u8>> {
    let values = |pairs: Vec<(Vec<u8>, Vec<u8>)>, wanted: &str| -> Vec<Vec<u8>> {
        let found = pairs.into_iter().filter(|(name, _)| name == wanted.as_bytes());
        found.map(|(_, value)| value).collect()
    };
    match source {
        TokenSource::Header => {
            let lines = request.headers.get_all("authorization").iter();
            lines.filter_map(|line| bearer(line.as_bytes())).collect()
        }
        TokenSource::Subprotocol => {
            let entries = request.offered.iter().filter_map(|entry| entry.strip_prefix(PREFIX));
            entries.map(|entry| URL_SAFE_NO_PAD.decode(entry).unwrap_or(vec![0xff])).collect()
        }
        TokenSource::SubprotocolAfter(name) => {
            let pairs = request.offered.windows(2).filter(|pair| pair[0] == *name);
            pairs.map(|pair| pair[1].clone().into_bytes()).collect()
        }
        TokenSource::Cookie(name) => values(cookies(request), name),
        TokenSource::Query(name) => {
            let found = values(parameters(request), name);
            found.into_iter().map(|value| bearer(&value).unwrap_or(value)).collect()
        }
        TokenSource::HeaderNamed(_) | TokenSource::SubprotocolPrefix(_) => Vec::new(),
    }
}

fn pages() -> [String; 1] {
    [PAGE.to_owned()]
}

fn sender(origins: &[String]) -> Sender<'_> {
    Sender { trust: Trust::Untrusted, host: "chat.example.com", origins }
}

/// RFC 6454: the default port may be written out.
fn is_our_page(origin: &str) -> bool {
    let origin = origin.to_ascii_lowercase();
    let port = origin.strip_prefix(PAGE).unwrap_or("is another");
    port.is_empty() || port.strip_prefix(':').and_then(|port| port.parse().ok()) == Some(443)
}

fn check_found(sources: &[TokenSource], request: &UpgradeRequest, found: &Presented) {
    let parts = strip(request, &[]);
    assert!(!found.token.is_empty() && found.token.len() <= MAX_TOKEN_BYTES);
    let cookies_count = request.origin.as_deref().is_none_or(is_our_page);
    for source in sources {
        let there = candidates(source, &parts);
        if *source == found.source {
            assert_eq!(there, [found.token.as_bytes()], "never one of two");
            assert!(cookies_count || !matches!(source, TokenSource::Cookie(_)));
            return;
        }
        let ignored = matches!(source, TokenSource::Cookie(_)) && !cookies_count;
        assert!(ignored || there.iter().all(Vec::is_empty), "{source:?} came first");
    }
    panic!("found in a source that was not asked for");
}

/// Without tokens, and with everything else.
fn check_stripped(sources: &[TokenSource], request: &UpgradeRequest) {
    let (before, after) = (strip(request, &[]), strip(request, sources));
    for source in sources {
        assert!(candidates(source, &after).is_empty(), "{source:?} left one");
    }
    let without = UpgradeRequest {
        headers: after.headers.clone(),
        query: after.query.clone(),
        offered: after.offered.clone(),
        ..request.clone()
    };
    assert_eq!(extract(sources, &without, sender(&pages())), Err(TokenFault::Missing));
    let is_token = |at: usize| {
        let entry = &before.offered[at];
        let previous = at.checked_sub(1).map(|at| &before.offered[at]);
        sources.iter().any(|source| match source {
            TokenSource::Subprotocol => entry.starts_with(PREFIX),
            TokenSource::SubprotocolAfter(name) => entry == name || previous == Some(name),
            _ => false,
        })
    };
    let rest = (0..before.offered.len()).filter(|at| !is_token(*at)).map(|at| &before.offered[at]);
    assert!(rest.eq(&after.offered), "{:?} of {:?}", after.offered, before.offered);
    check_rest(sources, &before, &after);
}

fn check_rest(sources: &[TokenSource], before: &Forwardable, after: &Forwardable) {
    let strips = |source: TokenSource| sources.contains(&source);
    let rest = |pairs: Vec<(Vec<u8>, Vec<u8>)>, stripped: bool, token: &str| {
        let mut pairs = pairs;
        pairs.retain(|(name, value)| {
            !(stripped && name == token.as_bytes()) && !(name.is_empty() && value.is_empty())
        });
        pairs
    };
    let stripped = strips(TokenSource::Cookie(COOKIE.to_owned()));
    assert_eq!(rest(cookies(after), false, ""), rest(cookies(before), stripped, COOKIE));
    let stripped = strips(TokenSource::Query(PARAMETER.to_owned()));
    assert_eq!(rest(parameters(after), false, ""), rest(parameters(before), stripped, PARAMETER));
    let touched = ["authorization", "cookie", "sec-websocket-protocol"];
    let others = |parts: &Forwardable| {
        let lines = parts.headers.iter().filter(|(name, _)| !touched.contains(&name.as_str()));
        let mut lines: Vec<_> = lines.map(|(name, value)| (name.clone(), value.clone())).collect();
        // The map has an order of its own; lines of one name keep theirs.
        lines.sort_by(|a, b| a.0.as_str().cmp(b.0.as_str()));
        lines
    };
    assert_eq!(others(after), others(before));
}

fn check(sources: &[TokenSource], request: &UpgradeRequest) {
    match extract(sources, request, sender(&pages())) {
        Ok(found) => {
            check_found(sources, request, &found);
            let moved = forward(request, &found, sources, ForwardToken::Authorization);
            let bearers = candidates(&TokenSource::Header, &moved);
            assert!(bearers.len() <= 1);
            if found.token.bytes().all(|byte| byte.is_ascii_graphic()) {
                assert_eq!(bearers, [found.token.as_bytes()]);
                assert_eq!(moved.headers.get_all("authorization").iter().count(), 1);
            }
        }
        Err(fault) => assert!(matches!(fault, TokenFault::Missing | TokenFault::Malformed(_))),
    }
    check_stripped(sources, request);
}

fuzz_target!(|bytes: &[u8]| {
    let Some(head) = heads::read(bytes) else { return };
    let Some((method, uri, version, headers)) = head.typed() else { return };
    let Ok(request) = UpgradeRequest::parse(&method, &uri, version, headers) else { return };
    // Cookies in parts are for the unit tests: this model of a handshake knows whole ones.
    let parts = format!("{COOKIE}.");
    let is_part = |name: &[u8]| name.starts_with(parts.as_bytes());
    if cookies(&strip(&request, &[])).iter().any(|(name, _)| is_part(name)) {
        return;
    }
    let mut all = sources();
    check(&all, &request);
    all.reverse();
    check(&all, &request);
    for source in all {
        check(std::slice::from_ref(&source), &request);
    }
});
