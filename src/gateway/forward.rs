//! What goes upstream beside the client's own headers: where the request came from, and the user. Pure.

use http::HeaderMap;
use serde_json::{Map, Value};

use crate::admission::Permit;
use crate::config::Route;
use crate::handshake::forwarded::{self, Source};
use crate::handshake::headers::{Scheme, Trust};
use crate::listener::{Listener, Peer};

/// Where a request with these headers comes from, as far as trusted proxies tell it.
pub(super) fn source(listener: &Listener, peer: Peer, headers: &HeaderMap) -> Source {
    let direct = peer.address.ip().to_canonical();
    let trusted = &listener.config.trusted_proxies;
    Source {
        client: forwarded::client_address(direct, trusted, headers),
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
