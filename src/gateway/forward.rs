//! What goes upstream beside the client's own headers: where the request came from, and the user. Pure.

use std::sync::Arc;

use http::HeaderMap;
use serde_json::{Map, Value};

use crate::admission::Permit;
use crate::config::Route;
use crate::handshake::forwarded::{self, Source};
use crate::handshake::headers::{Scheme, Trust, normalised};
use crate::handshake::template::Values;
use crate::listener::{Listener, Peer};

/// Where a request with these headers comes from, as far as trusted proxies tell it.
pub(super) fn source(listener: &Listener, peer: Peer, headers: &HeaderMap) -> Source {
    let direct = peer.address.ip().to_canonical();
    let trusted = &listener.config.trusted_proxies;
    Source {
        client: listener.config.client_address.read(direct, trusted, headers),
        direct,
        trust: if listener.trusts(direct) { Trust::Trusted } else { Trust::Untrusted },
        scheme: if peer.is_secure { Scheme::Https } else { Scheme::Http },
    }
}

/// What the backend is to know of the user.
pub(super) fn identity<'a>(
    route: &Route,
    permit: &'a Permit,
) -> Option<(&'a str, Map<String, Value>)> {
    let subject = permit.subject.as_ref().filter(|_| route.forward.identity)?;
    let named = route.forward.claims.iter();
    let claims = named
        .filter_map(|name| Some((name.clone(), subject.identity.claims.get(name)?.clone())))
        .collect();
    Some((&*subject.identity.user, claims))
}

/// What a trusted proxy calls the request; anybody else's id could be another's.
pub(super) fn request_id(source: &Source, headers: &HeaderMap) -> Option<Arc<str>> {
    let is_sane = |id: &str| {
        let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        (1..=64).contains(&id.len()) && id.bytes().all(is_legal)
    };
    forwarded::trusted_value(source.trust, headers, "x-request-id", is_sane).map(Arc::from)
}

/// The headers of a session's 101 besides the handshake's: the backend's, as the route changes them.
pub(super) fn further(
    route: &Route,
    backend: Vec<(String, Vec<u8>)>,
    values: &Values<'_>,
) -> Vec<(String, Vec<u8>)> {
    let rules = &route.response_headers;
    let mut headers = backend;
    let is_set = |name: &str| rules.set.iter().any(|(own, _)| own.eq_ignore_ascii_case(name));
    headers.retain(|(name, _)| !rules.remove.contains(&normalised(name)) && !is_set(name));
    let set = rules.set.iter();
    headers
        .extend(set.filter_map(|(name, value)| Some((name.clone(), value.write(values)?.into()))));
    headers
}
