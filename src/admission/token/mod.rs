//! Where the token of a handshake stands, and the handshake without it for the upstream. Pure.
//!
//! What the token says is checked in [`super::jwt`]. A token is never printed: [`Presented`] hides
//! it, and faults name the place and the rule, not the content.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::cast_possible_truncation))]

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE, HeaderName, HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use percent_encoding::percent_decode;

use super::origin;
use crate::config::{ForwardToken, TokenSource};
use crate::handshake::request::{Forwardable, UpgradeRequest};
use crate::outcome::rejection::TokenFault;

/// Start of the subprotocol entry that carries a token, as Kubernetes does it: what follows is the
/// token in base64url without padding, since a subprotocol is an RFC 9110 `token`.
pub(crate) const SUBPROTOCOL_PREFIX: &str = "base64url.bearer.authorization.framegate.";

/// Longest token taken, in bytes. A request head has no more room either.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// A token as it was sent, not yet verified.
#[derive(Clone, PartialEq, Eq)]
pub struct Presented {
    /// The token: not empty, at most [`MAX_TOKEN_BYTES`].
    pub token: String,
    /// Where it stood.
    pub source: TokenSource,
}

impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presented")
            .field("token", &"[redacted]")
            .field("source", &self.source)
            .finish()
    }
}

/// Finds the token: the first of `sources` in which one is present counts, and later ones are not
/// looked at. An empty value (a cookie that was cleared, `?token=`) is no token.
///
/// A cookie is only a token when the browser cannot have been made to send it by a foreign page:
/// without `Origin`, with one of `origins`, or, `origins` empty, with one whose host equals `Host`.
///
/// # Errors
///
/// [`TokenFault::Missing`] when no source has one; [`TokenFault::Malformed`] when the source that
/// counts has two (which of them the backend would believe cannot be known), or one that cannot be
/// decoded or is too long.
pub fn extract(
    sources: &[TokenSource],
    request: &UpgradeRequest,
    origins: &[String],
) -> Result<Presented, TokenFault> {
    for source in sources {
        let found = match source {
            TokenSource::Header => in_authorization(&request.headers),
            TokenSource::Subprotocol => in_subprotocol(&request.offered),
            TokenSource::SubprotocolAfter(name) => after_subprotocol(&request.offered, name),
            TokenSource::Cookie(name) if cookies_count(request, origins) => {
                in_cookies(&request.headers, name)
            }
            TokenSource::Cookie(_) => Ok(None),
            TokenSource::Query(name) => in_query(request.query.as_deref(), name),
        }?;
        if let Some(bytes) = found.filter(|bytes| !bytes.is_empty()) {
            if bytes.len() > MAX_TOKEN_BYTES {
                return Err(TokenFault::Malformed("it is longer than 16 KiB"));
            }
            let token = String::from_utf8(bytes.into_owned())
                .map_err(|_| TokenFault::Malformed("it is not UTF-8"))?;
            return Ok(Presented { token, source: source.clone() });
        }
    }
    Err(TokenFault::Missing)
}

/// Offered subprotocols that are tokens because they follow the NAME of a source `subprotocol:NAME`.
pub(crate) fn named_entries<'a>(sources: &[TokenSource], offered: &'a [String]) -> Vec<&'a str> {
    let after = |source: &TokenSource| match source {
        TokenSource::SubprotocolAfter(name) => {
            let at = offered.iter().position(|entry| entry == name)?;
            offered.get(at + 1).map(String::as_str)
        }
        _ => None,
    };
    sources.iter().filter_map(after).collect()
}

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
        // All of them together, in `strip_offered`.
        TokenSource::Subprotocol | TokenSource::SubprotocolAfter(_) => {}
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

/// What one source holds: bytes that may be empty, nothing, or two tokens.
type Found<'a> = Result<Option<Cow<'a, [u8]>>, TokenFault>;

/// RFC 6750 section 2.1. Another scheme than Bearer is not for us.
fn in_authorization(headers: &HeaderMap) -> Found<'_> {
    let mut values = headers.get_all(AUTHORIZATION).iter().map(HeaderValue::as_bytes);
    let Some(first) = values.next() else { return Ok(None) };
    let mut rest = values.peekable();
    // Authorization is a single field (RFC 9110 section 5.3): which of two counts is open.
    if rest.peek().is_some() && (bearer(first).is_some() || rest.any(|v| bearer(v).is_some())) {
        return Err(TokenFault::Malformed(
            "two tokens: there is more than one Authorization header",
        ));
    }
    Ok(bearer(first).map(Cow::Borrowed))
}

fn in_subprotocol(offered: &[String]) -> Found<'_> {
    let entries = offered.iter().filter_map(|entry| entry.strip_prefix(SUBPROTOCOL_PREFIX));
    let Some(encoded) = only(entries, "two tokens among the subprotocols")? else {
        return Ok(None);
    };
    let token = URL_SAFE_NO_PAD
        .decode(encoded)
        .map_err(|_| TokenFault::Malformed("its subprotocol entry is not base64url"))?;
    Ok(Some(Cow::Owned(token)))
}

fn after_subprotocol<'a>(offered: &'a [String], name: &str) -> Found<'a> {
    let tokens = offered
        .iter()
        .zip(offered.iter().skip(1))
        .filter(|(entry, _)| *entry == name)
        .map(|(_, token)| Cow::Borrowed(token.as_bytes()));
    only(tokens, "two tokens among the subprotocols")
}

fn in_cookies<'a>(headers: &'a HeaderMap, name: &str) -> Found<'a> {
    let values = headers
        .get_all(COOKIE)
        .iter()
        .flat_map(|header| header.as_bytes().split(|byte| *byte == b';'))
        .filter_map(|pair| cookie_value(pair, name))
        .map(Cow::Borrowed);
    only(values, "two tokens: the cookie is there twice")
}

fn in_query<'a>(query: Option<&'a str>, name: &str) -> Found<'a> {
    let values = query.into_iter().flat_map(|query| query.split('&')).filter_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (*form_decode(key) == *name.as_bytes()).then(|| form_decode(value))
    });
    let Some(value) = only(values, "two tokens: the query parameter is there twice")? else {
        return Ok(None);
    };
    Ok(Some(match bearer(&value) {
        Some(token) => Cow::Owned(token.to_vec()),
        None => value,
    }))
}

/// Whether a cookie may count at all: cookies travel with requests that foreign pages make.
fn cookies_count(request: &UpgradeRequest, origins: &[String]) -> bool {
    match &request.origin {
        None => true,
        Some(page) if origins.is_empty() => origin::is_same_host(page, &request.host),
        Some(page) => origin::is_listed(origins, page),
    }
}

fn only<T>(mut found: impl Iterator<Item = T>, two: &'static str) -> Result<Option<T>, TokenFault> {
    let first = found.next();
    match found.next() {
        None => Ok(first),
        Some(_) => Err(TokenFault::Malformed(two)),
    }
}

/// What follows `Bearer` and at least one space, spaces around it dropped; the scheme in any case
/// (RFC 9110 section 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let value = value.trim_ascii();
    let (scheme, rest) = value.split_at_checked("Bearer".len())?;
    let separated = rest.is_empty() || rest.starts_with(b" ") || rest.starts_with(b"\t");
    (scheme.eq_ignore_ascii_case(b"Bearer") && separated).then(|| rest.trim_ascii())
}

/// The value of a `name=value` pair of a Cookie header if it is called `name` (RFC 6265 section
/// 5.4; names differ by case), without the quotes that section 4.1.1 allows.
fn cookie_value<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let equals = pair.iter().position(|byte| *byte == b'=')?;
    let (key, value) = pair.split_at_checked(equals)?;
    let value = value.strip_prefix(b"=")?.trim_ascii();
    let unquoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    (key.trim_ascii() == name.as_bytes()).then(|| unquoted.unwrap_or(value))
}

/// `application/x-www-form-urlencoded`, as browsers write queries. A bad `%` stands for itself.
fn form_decode(text: &str) -> Cow<'_, [u8]> {
    if !text.contains('+') {
        return percent_decode(text.as_bytes()).into();
    }
    let spaced = text.replace('+', " ");
    Cow::Owned(percent_decode(spaced.as_bytes()).collect())
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
    let is_token = |pair: &[u8]| cookie_value(pair, name).is_some();
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

#[cfg(test)]
mod tests;
