//! The upgrade request as it goes upstream, always written anew. Pure.
//!
//! Three kinds of header exist here. Those of the hop or of the handshake are the gateway's own on each
//! side and are never copied. Those by which backends believe a proxy (X-Auth-User, X-Forwarded-*, ...)
//! are removed in every spelling that a backend could take for them, and then set; so are those that a
//! route sets, and those that a trusted proxy may send, from all others. The rest is copied byte by byte, in
//! the client's spelling and order. RFC 9110 section 7.6.1, RFC 7239, RFC 6455 section 4.1.

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{AUTHORIZATION, CONNECTION, HeaderName};
use http::{HeaderMap, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::{Map, Value};

use super::forwarded::{self, trusted_value};
use super::request::{elements, is_host, is_token};
use super::spelling::Spelling;
use super::subprotocol;

use names::{is_listed, is_ours};
pub(crate) use names::{is_set_anew, normalised};

mod names;

/// All that the request upstream is made of. The client's part may have had its token taken out.
///
/// Has no `Debug`: it holds tokens.
#[derive(Clone, Copy)]
pub struct UpstreamHead<'a> {
    /// Normalised path.
    pub path: &'a str,
    /// Query without `?`.
    pub query: Option<&'a str>,
    /// The client's headers.
    pub headers: &'a HeaderMap,
    /// The subprotocols the client offered; the gateway's own entries are removed here.
    pub offered: &'a [String],
    /// A fresh Sec-WebSocket-Key: the client's would let it choose what the gateway's side hashes.
    pub key: &'a str,
    /// Host: the client's, or the endpoint's `host:port` (IPv6 in brackets).
    pub host: &'a str,
    /// Where the request came from.
    pub forwarded: Forwarded<'a>,
    /// X-Auth-*, if the route sends it.
    pub identity: Option<ForwardedIdentity<'a>>,
    /// X-Request-Id.
    pub request_id: &'a str,
    /// Replaces the client's Authorization (`Bearer …`); `None`: that one is kept.
    pub authorization: Option<&'a str>,
    /// What the configuration says of headers.
    pub rules: Rules<'a>,
}

/// What the configuration says of headers; names as [`normalised`] gives them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rules<'a> {
    /// Never copied from a client, on any route.
    pub reserved: &'a [String],
    /// Those of them that a trusted proxy may send, one value each.
    pub trusted: &'a [String],
    /// Not copied on this route.
    pub remove: &'a [String],
    /// Set on this route: names as they are to be spelled, and values.
    pub set: &'a [(String, String)],
    /// The client's names.
    pub spelling: Option<&'a Spelling>,
}

/// Where a request came from, as the gateway sees it.
#[derive(Debug, Clone, Copy)]
pub struct Forwarded<'a> {
    /// The client, by [`super::forwarded::client_address`].
    pub client: IpAddr,
    /// Who spoke HTTP to the gateway: the TCP peer, or whom its PROXY header named.
    pub direct: IpAddr,
    /// What the direct peer's own forwarding headers are worth.
    pub trust: Trust,
    /// How the client's connection reached the gateway.
    pub scheme: Scheme,
    /// The client's Host.
    pub host: &'a str,
}

/// Whether forwarding headers of the direct peer are believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// It is in `trusted_proxies`: its chain is continued, its X-Forwarded-Proto and -Host are kept.
    Trusted,
    /// It is not: all of them are replaced.
    Untrusted,
}

/// With or without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// `ws://`
    Http,
    /// `wss://`
    Https,
}

/// Who is connecting, for the upstream to believe.
#[derive(Debug, Clone, Copy)]
pub struct ForwardedIdentity<'a> {
    /// X-Auth-User, percent-encoded beyond visible ASCII (and `%`).
    pub user: Option<&'a str>,
    /// X-Auth-Claims: the claims the route names, as base64url of JSON.
    pub claims: Option<&'a Map<String, Value>>,
}

/// Why no request was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// X-Auth-Claims would be larger than [`MAX_CLAIMS`].
    #[error("X-Auth-Claims would have {size} bytes, {MAX_CLAIMS} are allowed")]
    ClaimsTooLarge {
        /// Bytes of the header's value.
        size: usize,
    },
    /// What is named here cannot stand in a request head; nothing else of it was written.
    #[error("{0} has characters that cannot stand in a request head")]
    Illegal(&'static str),
}

/// Bytes of X-Auth-Claims at most.
pub(crate) const MAX_CLAIMS: usize = 8 * 1024;

impl Scheme {
    /// As in X-Forwarded-Proto.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

impl UpstreamHead<'_> {
    /// The request head, up to and including the empty line.
    ///
    /// # Errors
    ///
    /// Claims that are too large, or a part that would break out of its line. The latter cannot come
    /// from a parsed [`super::request::UpgradeRequest`].
    pub fn write(&self) -> Result<Vec<u8>, HeadError> {
        self.check()?;
        let mut head = Head(Vec::with_capacity(1024));
        head.request_line(self.path, self.query);
        self.write_handshake(&mut head);
        self.write_end_to_end(&mut head);
        self.write_forwarded(&mut head);
        self.write_identity(&mut head)?;
        head.0.extend_from_slice(b"\r\n");
        Ok(head.0)
    }

    /// Everything that is not a `HeaderValue` (which holds no line break) or made here.
    fn check(&self) -> Result<(), HeadError> {
        let graphic = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        let breaks_line = |byte: u8| byte <= b' ' || byte == 0x7f;
        let is_value =
            |text: &str| text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        let rules = [
            ("path", self.path.starts_with('/') && graphic(self.path)),
            ("query", !self.query.is_some_and(|query| query.bytes().any(breaks_line))),
            ("Host", is_host(self.host)),
            ("X-Forwarded-Host", is_host(self.forwarded.host)),
            ("Sec-WebSocket-Key", graphic(self.key)),
            ("Sec-WebSocket-Protocol", self.offered.iter().all(|entry| is_token(entry))),
            ("Authorization", self.authorization.is_none_or(is_value)),
            ("request_headers", self.rules.set.iter().all(|(_, value)| is_value(value))),
        ];
        match rules.iter().find(|(_, holds)| !holds) {
            Some((part, _)) => Err(HeadError::Illegal(part)),
            None => Ok(()),
        }
    }

    /// RFC 6455 section 4.1. No extension is ever offered: frames are relayed as they come.
    fn write_handshake(&self, head: &mut Head) {
        head.line("Host", self.host);
        head.line("Upgrade", "websocket");
        head.line("Connection", "Upgrade");
        head.line("Sec-WebSocket-Version", "13");
        head.line("Sec-WebSocket-Key", self.key);
        let offer = subprotocol::upstream_offer(self.offered);
        if !offer.is_empty() {
            head.line("Sec-WebSocket-Protocol", offer.join(", "));
        }
    }

    fn write_end_to_end(&self, head: &mut Head) {
        let listed: Vec<&[u8]> = elements(self.headers, &CONNECTION).collect();
        let as_usual = Spelling::default();
        let spelling = self.rules.spelling.unwrap_or(&as_usual);
        for (name, value) in spelling.apply(self.headers) {
            if self.is_copied(&name, &listed) {
                head.line(&name, value);
            }
        }
        if let Some(authorization) = self.authorization {
            head.line("Authorization", authorization);
        }
        for (name, value) in self.rules.set {
            head.line(name, value);
        }
    }

    fn is_copied(&self, name: &str, listed: &[&[u8]]) -> bool {
        let Ok(name) = HeaderName::try_from(name) else { return false };
        let key = normalised(name.as_str());
        let Rules { reserved, trusted, remove, .. } = self.rules;
        if (name == AUTHORIZATION && self.authorization.is_some())
            || is_listed(&name, listed)
            || remove.contains(&key)
        {
            return false;
        }
        let is_believed = trusted.contains(&key) && *key == *name.as_str();
        if is_believed
            && trusted_value(self.forwarded.trust, self.headers, &key, |_| true).is_some()
        {
            return true;
        }
        !is_ours(&key) && !reserved.contains(&key)
    }

    fn write_forwarded(&self, head: &mut Head) {
        let Forwarded { scheme, host, trust, .. } = self.forwarded;
        let client = self.forwarded.client.to_canonical();
        let proto = forwarded::scheme(trust, self.headers).unwrap_or(scheme.as_str());
        let host = forwarded::host(trust, self.headers).unwrap_or(host);
        head.line("X-Request-Id", self.request_id);
        head.line("X-Forwarded-For", self.chain());
        head.line("X-Forwarded-Proto", proto);
        head.line("X-Forwarded-Host", host);
        if let Some(port) = trusted_value(trust, self.headers, "x-forwarded-port", is_port) {
            head.line("X-Forwarded-Port", port);
        }
        head.line("X-Real-IP", client.to_string());
        // RFC 7239 section 4: what is no token (here for the colons) is quoted; neither an address
        // nor a host has a quote or backslash in it. One element: the client, as the gateway sees it.
        let for_ = match client {
            IpAddr::V4(v4) => v4.to_string(),
            IpAddr::V6(v6) => format!("\"[{v6}]\""),
        };
        let quote = if is_token(host) { "" } else { "\"" };
        head.line("Forwarded", format!("for={for_};proto={proto};host={quote}{host}{quote}"));
    }

    /// What X-Forwarded-For says: the trusted peer's chain and the peer itself, or only the client.
    fn chain(&self) -> Vec<u8> {
        let Forwarded { client, direct, trust, .. } = self.forwarded;
        let (client, direct) = (client.to_canonical(), direct.to_canonical());
        if trust == Trust::Untrusted {
            return client.to_string().into_bytes();
        }
        let lines = self.headers.get_all("x-forwarded-for").iter().map(HeaderValue::as_bytes);
        let mut chain: Vec<&[u8]> = lines.filter(|line| !line.trim_ascii().is_empty()).collect();
        let (client_text, direct_text) = (client.to_string(), direct.to_string());
        if chain.is_empty() && client != direct {
            chain.push(client_text.as_bytes());
        }
        chain.push(direct_text.as_bytes());
        chain.join(&b", "[..])
    }

    fn write_identity(&self, head: &mut Head) -> Result<(), HeadError> {
        let Some(ForwardedIdentity { user, claims }) = self.identity else { return Ok(()) };
        if let Some(user) = user {
            head.line("X-Auth-User", utf8_percent_encode(user, BEYOND_VISIBLE).to_string());
        }
        if let Some(claims) = claims {
            let json = serde_json::to_vec(claims).expect("a JSON object always serialises");
            let value = URL_SAFE_NO_PAD.encode(json);
            if value.len() > MAX_CLAIMS {
                return Err(HeadError::ClaimsTooLarge { size: value.len() });
            }
            head.line("X-Auth-Claims", value);
        }
        Ok(())
    }
}

/// Bytes of a request head in the making.
struct Head(Vec<u8>);

impl Head {
    fn request_line(&mut self, path: &str, query: Option<&str>) {
        self.0.extend_from_slice(b"GET ");
        self.0.extend_from_slice(path.as_bytes());
        if let Some(query) = query {
            self.0.push(b'?');
            self.0.extend_from_slice(query.as_bytes());
        }
        self.0.extend_from_slice(b" HTTP/1.1\r\n");
    }

    fn line(&mut self, name: &str, value: impl AsRef<[u8]>) {
        for part in [name.as_bytes(), b": ", value.as_ref(), b"\r\n"] {
            self.0.extend_from_slice(part);
        }
    }
}

/// Non-ASCII is always encoded; `%` so that decoding is unambiguous.
pub(super) const BEYOND_VISIBLE: &AsciiSet = &CONTROLS.add(b' ').add(b'%');

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
mod tests;
