//! A handshake without its token, for the upstream. Pure.

use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE, HeaderName, HeaderValue, SEC_WEBSOCKET_PROTOCOL};

use super::{Presented, SUBPROTOCOL_PREFIX, bearer, cookie, form_decode, part_number};
use crate::config::{ForwardToken, TokenSource};
use crate::handshake::request::{Forwardable, UpgradeRequest};

/// The request as it goes upstream under `forward.token`: the token kept where it came, removed, or
/// moved into `Authorization: Bearer`, where it replaces whatever the client had there. What is
/// removed is removed from all of `sources`: one that did not count holds a token all the same.
pub fn forward(
    request: &UpgradeRequest,
    presented: &Presented,
    sources: &[TokenSource],
    mode: ForwardToken,
) -> Forwardable {
    if mode == ForwardToken::Keep {
        return untouched(request);
    }
    let mut stripped = strip(request, sources);
    if mode == ForwardToken::Authorization {
        stripped.headers.remove(AUTHORIZATION);
        // A verified token is base64url and dots, always a legal value; another moves nowhere.
        if let Ok(mut value) = HeaderValue::try_from(format!("Bearer {}", presented.token)) {
            value.set_sensitive(true);
            stripped.headers.insert(AUTHORIZATION, value);
        }
    }
    stripped
}

/// The request without the tokens of `sources`; everything else stays byte for byte as it was.
pub fn strip(request: &UpgradeRequest, sources: &[TokenSource]) -> Forwardable {
    let mut stripped = untouched(request);
    for source in sources {
        strip_source(&mut stripped, source);
    }
    strip_offered(&mut stripped, sources);
    stripped
}

fn strip_source(stripped: &mut Forwardable, source: &TokenSource) {
    match source {
        TokenSource::Header => strip_bearer(&mut stripped.headers),
        TokenSource::Cookie(name) => strip_cookie(&mut stripped.headers, name),
        TokenSource::Query(name) => {
            stripped.query = stripped.query.take().and_then(|query| strip_parameter(query, name));
        }
        TokenSource::HeaderNamed(name) => {
            stripped.headers.remove(name.as_str());
        }
        // All of them together, in `strip_offered`.
        TokenSource::Subprotocol
        | TokenSource::SubprotocolAfter(_)
        | TokenSource::SubprotocolPrefix(_) => {}
    }
}

/// Drops the tokens among the subprotocols and the names that announce them. What an entry is depends
/// on the one before it as it was sent, whatever another source takes out there.
fn strip_offered(stripped: &mut Forwardable, sources: &[TokenSource]) {
    let mut before: Option<String> = None;
    retain_offered(stripped, |entry| {
        let before = before.replace(entry.clone());
        !sources.iter().any(|source| match source {
            TokenSource::Subprotocol => entry.starts_with(SUBPROTOCOL_PREFIX),
            TokenSource::SubprotocolAfter(name) => entry == name || before.as_ref() == Some(name),
            TokenSource::SubprotocolPrefix(prefix) => entry.starts_with(prefix),
            _ => false,
        })
    });
}

/// Drops Bearer tokens; another scheme's credentials are the backend's business.
fn strip_bearer(headers: &mut HeaderMap) {
    let values = headers.get_all(AUTHORIZATION).iter();
    let kept: Vec<_> = values.filter(|value| bearer(value.as_bytes()).is_none()).cloned().collect();
    replace(headers, AUTHORIZATION, kept);
}

/// The request as it came.
pub(crate) fn untouched(request: &UpgradeRequest) -> Forwardable {
    Forwardable {
        headers: request.headers.clone(),
        query: request.query.clone(),
        offered: request.offered.clone(),
    }
}

/// Drops the cookie from every Cookie header; a header that had nothing else goes too.
fn strip_cookie(headers: &mut HeaderMap, name: &str) {
    let is_token = |pair: &[u8]| {
        cookie(pair)
            .is_some_and(|(key, _)| key == name.as_bytes() || part_number(key, name).is_some())
    };
    let kept: Vec<HeaderValue> = headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|header| {
            let pairs = || header.as_bytes().split(|byte| *byte == b';');
            if !pairs().any(is_token) {
                return Some(header.clone());
            }
            let rest = pairs().filter(|pair| !is_token(pair)).collect::<Vec<_>>().join(&b';');
            let rest = rest.trim_ascii_start();
            // Part of a legal value is one.
            HeaderValue::from_bytes(rest).ok().filter(|_| !rest.is_empty())
        })
        .collect();
    replace(headers, COOKIE, kept);
}

fn strip_parameter(query: String, name: &str) -> Option<String> {
    let is_token = |pair: &str| {
        let key = pair.split_once('=').map_or(pair, |(key, _)| key);
        *form_decode(key) == *name.as_bytes()
    };
    if !query.split('&').any(is_token) {
        return Some(query);
    }
    let rest = query.split('&').filter(|pair| !is_token(pair)).collect::<Vec<_>>().join("&");
    (!rest.is_empty()).then_some(rest)
}

/// Drops the entries and writes the header anew, so that whoever copies headers copies no token.
fn retain_offered(stripped: &mut Forwardable, keep: impl FnMut(&String) -> bool) {
    let before = stripped.offered.len();
    stripped.offered.retain(keep);
    if stripped.offered.len() == before {
        return;
    }
    let offered = HeaderValue::try_from(stripped.offered.join(", ")).ok();
    let value = offered.filter(|_| !stripped.offered.is_empty());
    replace(&mut stripped.headers, SEC_WEBSOCKET_PROTOCOL, value);
}

fn replace(
    headers: &mut HeaderMap,
    name: HeaderName,
    values: impl IntoIterator<Item = HeaderValue>,
) {
    headers.remove(&name);
    for value in values {
        headers.append(&name, value);
    }
}
