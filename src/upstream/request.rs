//! What the upstream is asked on behalf of a client. No I/O but the random key.
//!
//! The request is always written anew, from what was parsed: nothing a client put between the lines
//! reaches the backend.

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use serde_json::{Map, Value};

use super::endpoint::Endpoint;
use crate::admission::Permit;
use crate::admission::rejection::{Rejection, TokenFault};
use crate::admission::token::{self, Stripped};
use crate::config::{ForwardHost, Route, Target, TokenSource};
use crate::handshake::headers::{
    Forwarded, ForwardedIdentity, HeadError, Scheme, Trust, UpstreamHead,
};
use crate::handshake::request::UpgradeRequest;
use crate::handshake::{forwarded, subprotocol};
use crate::listener::Listener;
use crate::listener::connection::Peer;
use crate::session::id::SessionId;

/// The upgrade request for one client; only its Host can depend on the endpoint.
pub struct UpstreamRequest<'a> {
    /// Sec-WebSocket-Key.
    pub key: String,
    request: &'a UpgradeRequest,
    parts: Stripped,
    host: ForwardHost,
    origin: Origin,
    identity: Option<(&'a str, Map<String, Value>)>,
    id: SessionId,
}

/// Where the client's request came from.
#[derive(Debug, Clone, Copy)]
pub struct Origin {
    /// The client, as far as it is known.
    pub client: IpAddr,
    /// Who spoke HTTP to the gateway.
    pub direct: IpAddr,
    /// Whether that one's forwarding headers are believed.
    pub trust: Trust,
    /// Whether it used TLS.
    pub scheme: Scheme,
}

impl Origin {
    /// Where a request with these headers comes from, as far as trusted proxies tell it.
    pub fn of(listener: &Listener, peer: Peer, headers: &HeaderMap) -> Self {
        let direct = peer.address.ip().to_canonical();
        let trusted = &listener.config.trusted_proxies;
        Self {
            client: forwarded::client_address(direct, trusted, headers),
            direct,
            trust: if listener.trusts(direct) { Trust::Trusted } else { Trust::Untrusted },
            scheme: if peer.is_secure { Scheme::Https } else { Scheme::Http },
        }
    }
}

impl<'a> UpstreamRequest<'a> {
    /// The request of this client for this route, whose verifier has these token sources.
    pub fn new(
        route: &Route,
        sources: &[TokenSource],
        request: &'a UpgradeRequest,
        permit: &'a Permit,
        origin: Origin,
        id: SessionId,
    ) -> Self {
        let subject = permit.subject.as_ref();
        let parts = match subject {
            Some(subject) => {
                token::forward(request, &subject.presented, sources, route.forward.token)
            }
            None => token::untouched(request),
        };
        let identity = subject.filter(|_| route.forward.identity).map(|subject| {
            let named = route.forward.claims.iter();
            let claims = named
                .filter_map(|name| Some((name.clone(), subject.identity.claims.get(name)?.clone())))
                .collect();
            (&*subject.identity.user, claims)
        });
        let mut key = [0; 16];
        getrandom::fill(&mut key).expect("the operating system gives random bytes");
        let key = STANDARD.encode(key);
        Self { key, request, parts, host: route.forward.host, origin, identity, id }
    }

    /// The subprotocols it offers.
    pub fn offered(&self) -> Vec<&str> {
        subprotocol::upstream_offer(&self.parts.offered)
    }

    /// The request head for this endpoint.
    pub fn head(&self, endpoint: &Endpoint) -> Result<Vec<u8>, Rejection> {
        let own = host_of(&endpoint.target);
        let head = UpstreamHead {
            path: &self.request.path,
            query: self.parts.query.as_deref(),
            headers: &self.parts.headers,
            offered: &self.parts.offered,
            key: &self.key,
            host: match self.host {
                ForwardHost::Client => &self.request.host,
                ForwardHost::Upstream => &own,
            },
            forwarded: Forwarded {
                client: self.origin.client,
                direct: self.origin.direct,
                trust: self.origin.trust,
                scheme: self.origin.scheme,
                host: &self.request.host,
            },
            identity: self.identity.as_ref().map(|(user, claims)| ForwardedIdentity {
                user: Some(user),
                claims: (!claims.is_empty()).then_some(claims),
            }),
            request_id: self.id,
            authorization: None,
        };
        head.write().map_err(|error| match error {
            HeadError::ClaimsTooLarge { .. } => Rejection::Token(TokenFault::Malformed(
                "the claims to be forwarded are larger than 8 KiB",
            )),
            HeadError::Illegal(_) => Rejection::Internal,
        })
    }
}

/// The Host that names an endpoint.
fn host_of(target: &Target) -> String {
    let (host, port, default) = match target {
        Target::Http { host, port } => (host, *port, 80),
        Target::Https { host, port } => (host, *port, 443),
        Target::Unix(_) => return "localhost".to_owned(),
    };
    let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    if port == default { host } else { format!("{host}:{port}") }
}
