//! A refusal by HTTP: status, headers and one line of text. Pure.

use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, RETRY_AFTER, SEC_WEBSOCKET_VERSION,
    UPGRADE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, Response, StatusCode};

use super::rejection::{Rejection, TokenFault};

/// A refusal told by HTTP. Its body is one line, `label: explanation`, for the person who looks at the
/// answer; the connection ends with it.
pub(crate) fn refusal(rejection: &Rejection, request_id: &str) -> Response<String> {
    let label = rejection.label().as_str();
    let mut response = Response::new(format!("{label}: {}\n", explanation(rejection)));
    let status = rejection.status();
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // An id is made of visible ASCII; one that were not is left out rather than sent.
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(X_REQUEST_ID, id);
    }
    if let Some(seconds) = rejection.retry_after() {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge(rejection)));
    }
    if status == StatusCode::UPGRADE_REQUIRED {
        // RFC 6455 section 4.4, and RFC 9110 section 7.8: who sends Upgrade lists it in Connection.
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("close, Upgrade"));
    }
    response
}

/// RFC 6750 section 3.1: a request without a token gets no error code. A 401 of the upstream names no
/// error either: what it disliked is not known here.
fn challenge(rejection: &Rejection) -> &'static str {
    match rejection {
        Rejection::Token(fault) if *fault != TokenFault::Missing => {
            "Bearer error=\"invalid_token\""
        }
        _ => "Bearer",
    }
}

/// One line that may be shown to anybody: an upstream's address and the system's error are for the
/// log, and a line break would make a second line.
fn explanation(rejection: &Rejection) -> String {
    match rejection {
        Rejection::UpstreamUnreachable(_) => "the upstream cannot be reached".to_owned(),
        Rejection::UpstreamSilentlyClosed => {
            "the upstream closed the connection without an answer".to_owned()
        }
        _ => rejection.to_string().replace(char::is_control, " "),
    }
}

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::super::rejection::Forbidden;
    use super::*;
    use crate::handshake::request::BadRequest;

    const ID: &str = "00000000000000ff";

    fn sorted(headers: &HeaderMap) -> Vec<(&str, &str)> {
        let mut lines: Vec<_> =
            headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        lines.sort_unstable();
        lines
    }

    #[test]
    fn a_refusal_is_one_line_and_ends_the_connection() {
        let response = refusal(&Rejection::NoRoute, ID);
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        assert_eq!(response.body(), "no_route: no route for this host and path\n");
        let expected = [
            ("cache-control", "no-store"),
            ("connection", "close"),
            ("content-type", "text/plain; charset=utf-8"),
            ("x-content-type-options", "nosniff"),
            ("x-request-id", ID),
        ];
        assert_eq!(sorted(response.headers()), expected);
    }

    #[test]
    fn what_a_client_can_act_on_is_in_the_headers() {
        let version = Rejection::BadRequest(BadRequest::VersionOther);
        let upgrade_missing = Rejection::BadRequest(BadRequest::UpgradeMissing);
        let invalid = "Bearer error=\"invalid_token\"";
        type Row<'a> = (Rejection, u16, &'a [(&'a str, &'a str)]);
        let rows: &[Row<'_>] = &[
            (upgrade_missing, 400, &[]),
            (
                version,
                426,
                &[
                    ("connection", "close, Upgrade"),
                    ("sec-websocket-version", "13"),
                    ("upgrade", "websocket"),
                ],
            ),
            (Rejection::Token(TokenFault::Missing), 401, &[("www-authenticate", "Bearer")]),
            (Rejection::Token(TokenFault::Expired), 401, &[("www-authenticate", invalid)]),
            (Rejection::Token(TokenFault::Malformed("x")), 401, &[("www-authenticate", invalid)]),
            (Rejection::UpstreamRefused { status: 401 }, 401, &[("www-authenticate", "Bearer")]),
            (Rejection::UpstreamRefused { status: 302 }, 502, &[]),
            (Rejection::RateLimited { retry_after: 0 }, 429, &[("retry-after", "1")]),
            (Rejection::Overloaded, 503, &[("retry-after", "5")]),
            (Rejection::Draining, 503, &[("retry-after", "5")]),
            (Rejection::OriginDenied, 403, &[]),
        ];
        for (rejection, status, expected) in rows {
            let response = refusal(rejection, ID);
            assert_eq!(response.status().as_u16(), *status, "{rejection:?}");
            let telling = [
                "retry-after",
                "www-authenticate",
                "upgrade",
                "sec-websocket-version",
                "connection",
            ];
            let is_telling = |line: &(&str, &str)| telling.contains(&line.0) && line.1 != "close";
            let found: Vec<_> = sorted(response.headers()).into_iter().filter(is_telling).collect();
            assert_eq!(found, *expected, "{rejection:?}");
        }
    }

    #[test]
    fn every_bad_request_explains_itself_in_one_line() {
        let response = refusal(&BadRequest::UpgradeMissing.into(), ID);
        assert_eq!(
            response.body(),
            "bad_request: not a WebSocket handshake: the Upgrade header is missing; \
             this port serves WebSocket only\n"
        );
        let broken = Rejection::Forbidden(Forbidden::Claim("a\r\nb\u{0}".to_owned()));
        let response = refusal(&broken, ID);
        assert_eq!(response.body(), "forbidden: claim a  b  does not allow this route\n");
    }

    #[test]
    fn the_address_of_an_upstream_is_not_told() {
        let detail = "10.0.0.7:9001: connection refused".to_owned();
        let response = refusal(&Rejection::UpstreamUnreachable(detail), ID);
        assert_eq!(response.body(), "upstream_unreachable: the upstream cannot be reached\n");
    }
}
