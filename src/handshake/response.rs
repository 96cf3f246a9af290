//! The 101 that accepts a handshake (RFC 6455 section 4.2.2). Pure.

use http::header::{CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use tungstenite::handshake::derive_accept_key;

use super::request::UpgradeRequest;
use super::spelling::usual;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The 101 (RFC 6455 section 4.2.2). `subprotocol` is one of those the client offered.
pub(crate) fn switching(
    request: &UpgradeRequest,
    subprotocol: Option<&str>,
    request_id: &str,
) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    set(headers, SEC_WEBSOCKET_ACCEPT, &derive_accept_key(request.key.as_bytes()));
    if let Some(subprotocol) = subprotocol {
        set(headers, SEC_WEBSOCKET_PROTOCOL, subprotocol);
    }
    set(headers, X_REQUEST_ID, request_id);
    response
}

/// The 101 as it goes to the client. Names are spelled as RFC 6455 spells them: several client libraries
/// compare them letter for letter.
/// `further` headers follow.
pub(crate) fn to_bytes(response: &Response<()>, further: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = b"HTTP/1.1 101 Switching Protocols\r\n".to_vec();
    let mut line = |name: &str, value: &[u8]| {
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            bytes.extend_from_slice(part);
        }
    };
    for (name, value) in response.headers() {
        line(&usual(name.as_str()), value.as_bytes());
    }
    for (name, value) in further {
        line(name, value);
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// Every value set here is made of visible ASCII; one that were not is left out rather than sent.
fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use http::{Method, Uri, Version};

    use super::*;

    const ID: &str = "00000000000000ff";

    fn request() -> UpgradeRequest {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("host", "chat.example.com"),
            ("upgrade", "websocket"),
            ("connection", "Upgrade"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-version", "13"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let uri = Uri::from_static("/chat");
        UpgradeRequest::parse(&Method::GET, &uri, Version::HTTP_11, headers).unwrap()
    }

    #[test]
    fn names_are_spelled_as_in_the_rfc() {
        let response = switching(&request(), Some("chat.v1"), ID);
        let text = String::from_utf8(to_bytes(&response, &[])).unwrap();
        assert!(text.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{text}");
        assert!(text.ends_with("\r\n\r\n"), "{text}");
        let mut lines: Vec<_> = text.lines().skip(1).filter(|line| !line.is_empty()).collect();
        lines.sort_unstable();
        let expected = [
            "Connection: Upgrade",
            "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
            "Sec-WebSocket-Protocol: chat.v1",
            "Upgrade: websocket",
            "X-Request-Id: 00000000000000ff",
        ];
        assert_eq!(lines, expected);
    }

    fn sorted(headers: &HeaderMap) -> Vec<(&str, &str)> {
        let mut lines: Vec<_> =
            headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        lines.sort_unstable();
        lines
    }

    #[test]
    fn the_101_proves_that_the_key_was_read() {
        let response = switching(&request(), Some("chat"), ID);
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        let expected = [
            ("connection", "Upgrade"),
            // The example of RFC 6455 section 1.3.
            ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            ("sec-websocket-protocol", "chat"),
            ("upgrade", "websocket"),
            ("x-request-id", ID),
        ];
        assert_eq!(sorted(response.headers()), expected);
    }

    #[test]
    fn no_subprotocol_is_no_header() {
        let response = switching(&request(), None, ID);
        assert!(!response.headers().contains_key(SEC_WEBSOCKET_PROTOCOL));
        let response = switching(&request(), Some("a\r\nX: y"), ID);
        assert!(!response.headers().contains_key(SEC_WEBSOCKET_PROTOCOL));
    }
}
