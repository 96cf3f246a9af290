//! What the upstream is asked on behalf of a client. No I/O but the random key.
//!
//! The request is always written anew, from what was parsed: nothing a client put between the lines
//! reaches the backend.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::endpoint::Endpoint;
use crate::config::{ForwardHost, Route, Target};
use crate::handshake::forwarded::Source;
use crate::handshake::headers::{Forwarded, ForwardedIdentity, HeadError, Rules, UpstreamHead};
use crate::handshake::request::{BadRequest, Forwardable, UpgradeRequest};
use crate::handshake::template::Values;
use crate::handshake::{path, subprotocol};
use crate::outcome::rejection::{Rejection, TokenFault};

/// The upgrade request for one client; only its Host can depend on the endpoint.
pub(crate) struct UpstreamRequest<'a> {
    /// Sec-WebSocket-Key.
    pub(crate) key: String,
    request: &'a UpgradeRequest,
    parts: Forwardable,
    route: &'a Route,
    source: Source,
    identity: Option<(&'a str, Map<String, Value>)>,
    path: String,
    request_id: String,
    rules: HeaderRules<'a>,
    set: Vec<(String, String)>,
}

/// What the configuration says of headers for this request.
pub(crate) struct HeaderRules<'a> {
    /// Names that no client's header may have.
    pub(crate) reserved: &'a [String],
    /// Names that a trusted proxy's headers may have all the same.
    pub(crate) trusted: Cow<'a, [String]>,
}

impl<'a> UpstreamRequest<'a> {
    /// The request of this client as `route` has it forwarded: `parts` are what is left of it without
    /// its token, `identity` is what the token says of the user, if that is to be sent; `values` are for
    /// the route's templates.
    ///
    /// # Errors
    ///
    /// When `upstream_path` makes a path of this request's that could be read in two ways.
    pub(crate) fn new(
        route: &'a Route,
        request: &'a UpgradeRequest,
        parts: Forwardable,
        identity: Option<(&'a str, Map<String, Value>)>,
        source: Source,
        values: &Values<'_>,
        rules: HeaderRules<'a>,
    ) -> Result<Self, BadRequest> {
        let mut key = [0; 16];
        getrandom::fill(&mut key).expect("the operating system gives random bytes");
        let key = STANDARD.encode(key);
        let path = match &route.upstream_path {
            None => request.path.clone(),
            Some(template) => {
                path::normalise_with_slashes(&template.write(values).unwrap_or_default())?
            }
        };
        let set = route.request_headers.set.iter();
        let set = set.filter_map(|(name, value)| Some((name.clone(), value.write(values)?)));
        Ok(Self {
            key,
            request,
            parts,
            route,
            source,
            identity,
            path,
            request_id: values.request_id.clone(),
            rules,
            set: set.collect(),
        })
    }

    /// The subprotocols it offers.
    pub(crate) fn offered(&self) -> Vec<&str> {
        subprotocol::upstream_offer(&self.parts.offered)
    }

    /// The request head for this endpoint.
    pub(crate) fn head(&self, endpoint: &Endpoint) -> Result<Vec<u8>, Rejection> {
        let own = host_of(&endpoint.target);
        let head = UpstreamHead {
            path: &self.path,
            query: self.parts.query.as_deref(),
            headers: &self.parts.headers,
            offered: &self.parts.offered,
            key: &self.key,
            host: match self.route.forward.host {
                ForwardHost::Client => &self.request.host,
                ForwardHost::Upstream => &own,
            },
            forwarded: Forwarded {
                client: self.source.client,
                direct: self.source.direct,
                trust: self.source.trust,
                scheme: self.source.scheme,
                host: &self.request.host,
            },
            identity: self.identity.as_ref().map(|(user, claims)| ForwardedIdentity {
                user: Some(user),
                claims: (!claims.is_empty()).then_some(claims),
            }),
            request_id: &self.request_id,
            authorization: None,
            rules: Rules {
                reserved: self.rules.reserved,
                trusted: &self.rules.trusted,
                remove: &self.route.request_headers.remove,
                set: &self.set,
                spelling: Some(&self.request.spelling),
            },
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
