//! The upgrade request as a browser or a program would write it (RFC 6455 section 4.1). Pure.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN, USER_AGENT};

use super::plan::{Plan, Token};
use crate::admission::token::SUBPROTOCOL_PREFIX;
use crate::config::TokenSource;
use crate::handshake::subprotocol;

/// Whether compression is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offer {
    /// permessage-deflate, as browsers do.
    Deflate,
    /// No extension.
    Nothing,
}

/// What Sec-WebSocket-Extensions offers.
pub(crate) const DEFLATE: &str = "permessage-deflate; client_max_window_bits";

/// The subprotocols offered, token entries included.
pub(crate) fn offered(plan: &Plan) -> Vec<String> {
    let mut offered = Vec::new();
    match (&plan.token_in, &plan.token) {
        (TokenSource::Subprotocol, Some(Token(token))) => {
            offered.push(subprotocol::GATEWAY.to_owned());
            offered.push(format!("{SUBPROTOCOL_PREFIX}{}", URL_SAFE_NO_PAD.encode(token)));
        }
        (TokenSource::SubprotocolAfter(name), Some(Token(token))) => {
            offered.extend([name.clone(), token.clone()]);
        }
        _ => {}
    }
    for name in &plan.subprotocols {
        if !offered.contains(name) {
            offered.push(name.clone());
        }
    }
    offered
}

/// The request head, up to and including the empty line.
pub(crate) fn head(plan: &Plan, key: &str, offer: Offer) -> Vec<u8> {
    let mut head = Vec::with_capacity(1024);
    let mut line = |text: String| {
        head.extend_from_slice(text.as_bytes());
        head.extend_from_slice(b"\r\n");
    };
    line(format!("GET {} HTTP/1.1", plan.request_target()));
    if !plan.headers.iter().any(|(name, _)| *name == HOST) {
        line(format!("Host: {}", plan.target.authority()));
    }
    line("Upgrade: websocket".to_owned());
    line("Connection: Upgrade".to_owned());
    line("Sec-WebSocket-Version: 13".to_owned());
    line(format!("Sec-WebSocket-Key: {key}"));
    let offered = offered(plan);
    if !offered.is_empty() {
        line(format!("Sec-WebSocket-Protocol: {}", offered.join(", ")));
    }
    if offer == Offer::Deflate {
        line(format!("Sec-WebSocket-Extensions: {DEFLATE}"));
    }
    if let Some(origin) = &plan.origin {
        line(format!("Origin: {origin}"));
    }
    match (&plan.token_in, &plan.token) {
        (TokenSource::Header, Some(Token(token))) => line(format!("Authorization: Bearer {token}")),
        (TokenSource::Cookie(name), Some(Token(token))) => line(format!("Cookie: {name}={token}")),
        _ => {}
    }
    if !plan.headers.iter().any(|(name, _)| *name == USER_AGENT) {
        line("User-Agent: framegate-doctor".to_owned());
    }
    for (name, value) in &plan.headers {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// Why a plan cannot be asked for.
pub(crate) fn contradiction(plan: &Plan) -> Option<String> {
    const OURS: [&str; 4] = ["upgrade", "connection", "content-length", "transfer-encoding"];
    for (name, _) in &plan.headers {
        if OURS.contains(&name.as_str()) || name.as_str().starts_with("sec-websocket-") {
            return Some(format!("--header {name}: doctor writes that header itself"));
        }
        let twice =
            (*name == ORIGIN && plan.origin.is_some()).then_some("--origin").or_else(|| {
                let source = plan.token.as_ref().map(|_| &plan.token_in)?;
                match source {
                    TokenSource::Header if *name == AUTHORIZATION => Some("--token"),
                    TokenSource::Cookie(_) if *name == COOKIE => Some("--token-in cookie"),
                    _ => None,
                }
            });
        if let Some(option) = twice {
            return Some(format!("--header {name}: {option} writes that header already"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::super::plan::tests::plan;
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn lines(plan: &Plan, offer: Offer) -> Vec<String> {
        let head = String::from_utf8(head(plan, KEY, offer)).unwrap();
        head.strip_suffix("\r\n\r\n").unwrap().split("\r\n").map(str::to_owned).collect()
    }

    #[test]
    fn the_token_goes_where_it_was_asked_to() {
        let b64 = URL_SAFE_NO_PAD.encode("T.T.T");
        let rows = [
            ("header", "Authorization: Bearer T.T.T".to_owned()),
            ("cookie:sid", "Cookie: sid=T.T.T".to_owned()),
            (
                "subprotocol",
                format!("Sec-WebSocket-Protocol: framegate, {SUBPROTOCOL_PREFIX}{b64}, chat"),
            ),
            ("subprotocol:jwt", "Sec-WebSocket-Protocol: jwt, T.T.T, chat".to_owned()),
            ("query:token", "GET /ws?token=T.T.T HTTP/1.1".to_owned()),
        ];
        for (source, expected) in rows {
            let mut plan = plan("ws://a/ws");
            plan.token = Some(Token("T.T.T".to_owned()));
            plan.token_in = source.parse().unwrap();
            plan.subprotocols = vec!["chat".to_owned()];
            let lines = lines(&plan, Offer::Deflate);
            assert!(lines.contains(&expected), "{source}: {lines:#?}");
            let all = lines.join("\n");
            assert_eq!(all.matches("T.T.T").count() + all.matches(&b64).count(), 1, "{source}");
        }
    }

    #[test]
    fn a_request_has_all_that_rfc_6455_asks_for() {
        let mut plan = plan("wss://a.example:444/ws?x=1");
        plan.origin = Some("https://a.example".to_owned());
        plan.headers.push(("x-tenant".parse().unwrap(), HeaderValue::from_static("9")));
        let expected = [
            "GET /ws?x=1 HTTP/1.1",
            "Host: a.example:444",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Origin: https://a.example",
            "User-Agent: framegate-doctor",
            "x-tenant: 9",
        ];
        assert_eq!(lines(&plan, Offer::Nothing), expected);
        plan.headers.push(("host".parse().unwrap(), HeaderValue::from_static("other")));
        let lines = lines(&plan, Offer::Deflate);
        assert!(
            !lines.contains(&expected[1].to_owned()) && lines.contains(&"host: other".to_owned())
        );
        assert!(lines.contains(&format!("Sec-WebSocket-Extensions: {DEFLATE}")));
    }

    #[test]
    fn headers_that_would_stand_twice_are_refused() {
        for (header, origin, token, refused) in [
            ("connection", false, false, true),
            ("sec-websocket-key", false, false, true),
            ("origin", false, false, false),
            ("origin", true, false, true),
            ("authorization", false, false, false),
            ("authorization", false, true, true),
            ("cookie", false, true, false),
        ] {
            let mut plan = plan("ws://a/");
            plan.origin = origin.then(|| "https://a".to_owned());
            plan.token = token.then(|| Token("t".to_owned()));
            plan.headers.push((header.parse().unwrap(), HeaderValue::from_static("x")));
            assert_eq!(contradiction(&plan).is_some(), refused, "{header} {origin} {token}");
        }
    }
}
