//! Who may ask the admin listener: any web page can send requests to loopback. Pure.
//!
//! Against DNS rebinding the Host must be a name this listener is known by; against cross-site
//! requests a foreign Origin is refused and anything but GET needs a header that no form can send.
//! With a token, only what is open answers without it.

use std::net::IpAddr;

use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::{HeaderMap, HeaderName, Method, StatusCode};

use crate::config::{Admin, AdminBind};

/// The rules of one admin listener.
#[derive(Clone)]
pub(crate) struct Guards {
    names: Names,
    token: Option<Vec<u8>>,
}

/// A token file without a token: everybody could present that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the admin token file is empty")]
pub(crate) struct EmptyToken;

/// Who gets a resource, where there is a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everybody: probes have no token. Such a resource says nothing of users.
    Open,
    /// Who has the token.
    Token,
}

/// Why a request is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denied {
    /// The Host is none of ours, or there is not exactly one.
    #[error("this listener is not known by that name; admin.hosts adds names")]
    Host,
    /// A page of another origin asks.
    #[error("requests from other origins are not answered")]
    Origin,
    /// The header that proves the absence of a browser form is missing.
    #[error("anything but GET needs the header X-Framegate: 1")]
    Header,
    /// The token is missing or wrong.
    #[error("a bearer token is required")]
    Token,
}

/// What the listener may be called.
#[derive(Debug, Clone)]
enum Names {
    /// Anything: a browser cannot reach a unix socket, and its clients invent a Host.
    Any,
    /// Loopback names, the address it is bound to, and further names (lower case, without port).
    Known { bound: IpAddr, hosts: Vec<String> },
}

impl Guards {
    /// Rules for `admin`; `token` is the content of its `token_file`, of which surrounding
    /// whitespace does not count.
    ///
    /// # Errors
    ///
    /// [`EmptyToken`] when there is a token of no length.
    pub(crate) fn new(admin: &Admin, token: Option<&str>) -> Result<Self, EmptyToken> {
        let names = match &admin.bind {
            AdminBind::Unix(_) => Names::Any,
            AdminBind::Tcp(address) => Names::Known {
                bound: address.ip(),
                hosts: admin.hosts.iter().map(|host| name(host).to_ascii_lowercase()).collect(),
            },
        };
        let token = token.map(|token| token.trim().as_bytes().to_vec());
        match token {
            Some(token) if token.is_empty() => Err(EmptyToken),
            token => Ok(Self { names, token }),
        }
    }

    /// Whether a request may be answered; `resource` is what its path leads to.
    ///
    /// # Errors
    ///
    /// The first rule that does not hold.
    pub(crate) fn check(
        &self,
        method: &Method,
        access: Access,
        headers: &HeaderMap,
    ) -> Result<(), Denied> {
        let host = only(headers, HOST).unwrap_or_default();
        if !self.names.include(host) {
            return Err(Denied::Host);
        }
        if headers.contains_key(ORIGIN) && !only(headers, ORIGIN).is_some_and(|o| is_own(o, host)) {
            return Err(Denied::Origin);
        }
        // HEAD does nothing that GET does not.
        let harmless = method == Method::GET || method == Method::HEAD;
        if !harmless && only(headers, X_FRAMEGATE) != Some("1") {
            return Err(Denied::Header);
        }
        if access == Access::Open || self.token_fits(headers) { Ok(()) } else { Err(Denied::Token) }
    }

    fn token_fits(&self, headers: &HeaderMap) -> bool {
        let Some(expected) = &self.token else { return true };
        only(headers, AUTHORIZATION)
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .is_some_and(|(_, token)| is_same(expected, token.trim().as_bytes()))
    }
}

impl std::fmt::Debug for Guards {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let token = self.token.as_ref().map(|_| "…");
        f.debug_struct("Guards").field("names", &self.names).field("token", &token).finish()
    }
}

impl Denied {
    /// 421, 403 or 401.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Host => StatusCode::MISDIRECTED_REQUEST,
            Self::Origin | Self::Header => StatusCode::FORBIDDEN,
            Self::Token => StatusCode::UNAUTHORIZED,
        }
    }
}

impl Names {
    /// Whether a Host header names this listener. Its port does not count: behind a tunnel or a
    /// port mapping it is another, and no attack is told by it.
    fn include(&self, host: &str) -> bool {
        let Self::Known { bound, hosts } = self else { return true };
        let name = name(host).to_ascii_lowercase();
        if let Ok(address) = name.parse::<IpAddr>() {
            // Bound to every address, it answers to every address: rebinding needs a name.
            return address.to_canonical().is_loopback()
                || bound.is_unspecified()
                || address == *bound
                || hosts.contains(&name);
        }
        name == "localhost" || name.ends_with(".localhost") || hosts.contains(&name)
    }
}

/// The value of a header that is there exactly once and is text.
fn only(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// `host` of `host:port`, `[::1]:port`, `::1` and `host.`
fn name(authority: &str) -> &str {
    let host = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None if authority.matches(':').count() == 1 => {
            authority.split_once(':').map_or(authority, |(host, _)| host)
        }
        None => authority,
    };
    host.strip_suffix('.').unwrap_or(host)
}

/// Whether a page of this origin was served from here: under the name that the request uses. The
/// scheme does not count, as TLS may end in front.
fn is_own(origin: &str, host: &str) -> bool {
    ["http://", "https://"]
        .iter()
        .find_map(|scheme| origin.strip_prefix(scheme))
        .is_some_and(|authority| !authority.is_empty() && authority.eq_ignore_ascii_case(host))
}

/// Compares in a time that depends on the presented token's length alone.
fn is_same(expected: &[u8], presented: &[u8]) -> bool {
    let lengths = u8::from(expected.len() != presented.len());
    let difference = expected
        .iter()
        .cycle()
        .zip(presented)
        .fold(lengths, |difference, (a, b)| std::hint::black_box(difference | (a ^ b)));
    difference == 0
}

const X_FRAMEGATE: HeaderName = HeaderName::from_static("x-framegate");
