//! Where the token of a handshake stands; [`mod@strip`] has the handshake without it for the upstream. Pure.
//!
//! What the token says is checked in [`super::jwt`]. A token is never printed: [`Presented`] hides
//! it, and faults name the place and the rule, not the content.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::cast_possible_truncation))]

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE, HeaderValue};
use percent_encoding::percent_decode;

use super::origin;
use crate::config::TokenSource;
use crate::handshake::headers::Trust;
use crate::handshake::request::UpgradeRequest;
use crate::outcome::rejection::TokenFault;

pub(crate) use strip::untouched;
pub use strip::{forward, strip};

mod strip;

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

/// What a request is judged by that it does not say itself.
#[derive(Debug, Clone, Copy)]
pub struct Sender<'a> {
    /// Whether headers of a trusted proxy count.
    pub trust: Trust,
    /// The host that pages know: Host, or a trusted proxy's X-Forwarded-Host.
    pub host: &'a str,
    /// Origins whose pages may connect; empty: all.
    pub origins: &'a [String],
}

impl Sender<'_> {
    /// Whether a cookie may count at all: cookies travel with requests that foreign pages make.
    fn cookies_count(&self, request: &UpgradeRequest) -> bool {
        match &request.origin {
            None => true,
            Some(page) if self.origins.is_empty() => origin::is_same_host(page, self.host),
            Some(page) => origin::is_listed(self.origins, page),
        }
    }

    /// Whether there is a token in a cookie that does not count.
    pub(crate) fn leaves_a_cookie_out(
        &self,
        sources: &[TokenSource],
        request: &UpgradeRequest,
    ) -> bool {
        let is_there = |source: &TokenSource| match source {
            TokenSource::Cookie(name) => in_cookies(&request.headers, name)
                .is_ok_and(|found| found.is_some_and(|value| !value.is_empty())),
            _ => false,
        };
        !self.cookies_count(request) && sources.iter().any(is_there)
    }
}

/// Finds the token: the first of `sources` in which one is present counts, and later ones are not
/// looked at. An empty value (a cookie that was cleared, `?token=`) is no token.
///
/// A cookie is only a token when the browser cannot have been made to send it by a foreign page:
/// without `Origin`, with one of `origins`, or, `origins` empty, with one whose host equals `Host`. A header
/// with a name of its own counts only from a trusted proxy.
///
/// # Errors
///
/// [`TokenFault::Missing`] when no source has one; [`TokenFault::Malformed`] when the source that
/// counts has two (which of them the backend would believe cannot be known), or one that cannot be
/// decoded or is too long.
pub fn extract(
    sources: &[TokenSource],
    request: &UpgradeRequest,
    sender: Sender<'_>,
) -> Result<Presented, TokenFault> {
    for source in sources {
        let found = match source {
            TokenSource::Header => in_authorization(&request.headers),
            TokenSource::Subprotocol => in_subprotocol(&request.offered),
            TokenSource::SubprotocolAfter(name) => after_subprotocol(&request.offered, name),
            TokenSource::SubprotocolPrefix(prefix) => behind_prefix(&request.offered, prefix),
            TokenSource::HeaderNamed(name) if sender.trust == Trust::Trusted => {
                in_header(&request.headers, name)
            }
            // Anybody could have written it.
            TokenSource::HeaderNamed(_) => Ok(None),
            TokenSource::Cookie(name) if sender.cookies_count(request) => {
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

/// Offered subprotocols that are tokens: they follow the NAME of a source `subprotocol:NAME`, or begin with the
/// PREFIX of a source `subprotocol-prefix:PREFIX`.
pub(crate) fn named_entries<'a>(sources: &[TokenSource], offered: &'a [String]) -> Vec<&'a str> {
    let after = |name: &String| {
        let at = offered.iter().position(|entry| entry == name)?;
        offered.get(at + 1)
    };
    let of = |source: &TokenSource| -> Vec<&'a str> {
        match source {
            TokenSource::SubprotocolAfter(name) => {
                after(name).map(String::as_str).into_iter().collect()
            }
            TokenSource::SubprotocolPrefix(prefix) => {
                let entries = offered.iter().filter(|entry| entry.starts_with(prefix));
                entries.map(String::as_str).collect()
            }
            _ => Vec::new(),
        }
    };
    sources.iter().flat_map(of).collect()
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

/// A token, or base64url of one, as the rest of an entry.
fn behind_prefix<'a>(offered: &'a [String], prefix: &str) -> Found<'a> {
    let entries = offered.iter().filter_map(|entry| entry.strip_prefix(prefix));
    let Some(rest) = only(entries, "two tokens among the subprotocols")? else {
        return Ok(None);
    };
    // A token has dots, and base64url has none.
    if rest.is_empty() || rest.contains('.') {
        return Ok(Some(Cow::Borrowed(rest.as_bytes())));
    }
    let token = URL_SAFE_NO_PAD.decode(rest);
    token.map(|token| Some(Cow::Owned(token))).map_err(|_| {
        TokenFault::Malformed("its subprotocol entry is neither a token nor base64url of one")
    })
}

fn in_header<'a>(headers: &'a HeaderMap, name: &str) -> Found<'a> {
    let values = headers.get_all(name).iter().map(|value| Cow::Borrowed(value.as_bytes()));
    only(values, "two tokens: its header is there twice")
}

fn in_cookies<'a>(headers: &'a HeaderMap, name: &str) -> Found<'a> {
    let twice = "two tokens: the cookie is there twice";
    let values =
        || cookies(headers).filter_map(|(key, value)| (key == name.as_bytes()).then_some(value));
    let whole = only(values(), twice)?;
    if let Some(value) = whole.filter(|value| !value.is_empty()) {
        return Ok(Some(Cow::Borrowed(value)));
    }
    let mut parts = BTreeMap::new();
    for (key, value) in cookies(headers) {
        if let Some(number) = part_number(key, name)
            && parts.insert(number, value).is_some()
        {
            return Err(TokenFault::Malformed(twice));
        }
    }
    // With one missing it is no token.
    let is_whole = parts.keys().enumerate().all(|(at, number)| at == *number);
    Ok(if is_whole && !parts.is_empty() {
        Some(Cow::Owned(parts.into_values().collect::<Vec<_>>().concat()))
    } else {
        whole.map(Cow::Borrowed)
    })
}

/// The pairs of all Cookie headers.
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    let lines = headers.get_all(COOKIE).iter();
    lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';')).filter_map(cookie)
}

/// The number of a part of a cookie that was too large for one: `session.0`, `session.1`.
fn part_number(key: &[u8], name: &str) -> Option<usize> {
    let number = key.strip_prefix(name.as_bytes())?.strip_prefix(b".")?;
    let number = std::str::from_utf8(number).ok()?;
    let is_plain = number.bytes().all(|digit| digit.is_ascii_digit());
    let is_shortest = number.len() == 1 || number.len() == 2 && !number.starts_with('0');
    (is_plain && is_shortest).then(|| number.parse().ok())?
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

/// Name and value of a `name=value` pair of a Cookie header (RFC 6265 section 5.4; names differ by case),
/// without the quotes that section 4.1.1 allows.
fn cookie(pair: &[u8]) -> Option<(&[u8], &[u8])> {
    let equals = pair.iter().position(|byte| *byte == b'=')?;
    let (key, value) = pair.split_at_checked(equals)?;
    let value = value.strip_prefix(b"=")?.trim_ascii();
    let unquoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    Some((key.trim_ascii(), unquoted.unwrap_or(value)))
}

/// `application/x-www-form-urlencoded`, as browsers write queries. A bad `%` stands for itself.
fn form_decode(text: &str) -> Cow<'_, [u8]> {
    if !text.contains('+') {
        return percent_decode(text.as_bytes()).into();
    }
    let spaced = text.replace('+', " ");
    Cow::Owned(percent_decode(spaced.as_bytes()).collect())
}

#[cfg(test)]
mod tests;
