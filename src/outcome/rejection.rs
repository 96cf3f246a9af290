//! Why a handshake is refused, and what that means on the wire (the table of refusals). Pure.
//!
//! With `outcome::settle`, the only place that chooses close codes. Each match is exhaustive: a new
//! variant does not compile until its label, status and close code are decided.

use http::StatusCode;

use super::blame::{By, Phase};
use super::close_codes::{CloseCodes, RefuseMode};
use super::label::Label;
use crate::handshake::request::BadRequest;

/// A refusal, decided before the 101.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Not a valid handshake.
    #[error("{0}")]
    BadRequest(#[from] BadRequest),
    /// Nothing is served there.
    #[error("no route for this host and path")]
    NoRoute,
    /// A page of this origin may not connect.
    #[error("this origin may not connect to this route")]
    OriginDenied,
    /// Something is wrong with the token.
    #[error(transparent)]
    Token(#[from] TokenFault),
    /// No token but one in a cookie, which a page of another host has made the browser send.
    #[error(
        "no token was sent that counts: the cookie is left out because the page's origin is {origin} and the host \
         {host}; list the origin in the route's origins if its pages may connect"
    )]
    CookieLeftOut {
        /// Origin of the page.
        origin: String,
        /// The host it asked for.
        host: String,
    },
    /// The token is good but does not allow this.
    #[error("{0}")]
    Forbidden(Forbidden),
    /// The user has all sessions allowed.
    #[error("this user has as many connections as allowed")]
    UserLimit,
    /// The address has all connections allowed.
    #[error("this address has as many connections as allowed")]
    AddressLimit,
    /// The address connects too often.
    #[error("this address connects too often")]
    RateLimited {
        /// Seconds until the next attempt can succeed.
        retry_after: u64,
    },
    /// The process has all connections allowed.
    #[error("the gateway has as many connections as allowed")]
    Overloaded,
    /// The gateway is going down.
    #[error("the gateway is going down")]
    Draining,
    /// There is no key to check the token with, or none that is fresh enough.
    #[error("the keys to check tokens with are not available at the moment")]
    KeysUnavailable,
    /// The upstream took too long.
    #[error("the upstream took too long to {0}")]
    UpstreamTimeout(&'static str),
    /// The upstream cannot be reached.
    #[error("the upstream cannot be reached: {0}")]
    UpstreamUnreachable(String),
    /// It took the connection and the request, and closed.
    #[error(
        "the upstream closed the connection without an answer: it was reached; look at its own log, and whether it \
         speaks TLS or another protocol on this port"
    )]
    UpstreamSilentlyClosed,
    /// The upstream answered without 101.
    #[error("the upstream answered {status} instead of 101")]
    UpstreamRefused { status: u16 },
    /// The upstream's answer breaks the protocol.
    #[error("the upstream's handshake is wrong: {0}")]
    UpstreamProtocol(&'static str),
    /// A fault of the gateway.
    #[error("internal error")]
    Internal,
}

/// What is wrong with a token. Says nothing of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// There is none.
    #[error("no token was sent")]
    Missing,
    /// The form is wrong, in the way named.
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    /// `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// `nbf` or `iat` lies ahead.
    #[error("the token is not yet valid")]
    NotYetValid,
    /// The signature does not verify.
    #[error("the token's signature does not verify")]
    Signature,
    /// No key for its `kid` and algorithm.
    #[error("no key is known for the token's kid and algorithm")]
    KeyUnknown,
    /// It names no key, and there is none of its algorithm.
    #[error("the token names no key (kid), and no key of its algorithm is known")]
    NoKey,
    /// Wrong `iss`.
    #[error("the token comes from another issuer")]
    Issuer,
    /// Wrong `aud`.
    #[error("the token is meant for another audience")]
    Audience,
    /// Another kind of token, such as a refresh token.
    #[error("the token is of another kind: {0}")]
    Kind(&'static str),
}

/// Which authorisation rule did not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Forbidden {
    /// A claim has none of the values asked for.
    #[error("claim {0} does not allow this route")]
    Claim(String),
    /// The token lacks a scope.
    #[error("scope {0} is needed for this route")]
    Scope(String),
    /// A path parameter is not contained in a claim.
    #[error("path parameter {parameter} is not contained in claim {claim}")]
    NotContained {
        /// Claim name, from the configuration.
        claim: String,
        /// Parameter name, from the configuration.
        parameter: String,
    },
}

impl Rejection {
    /// One of each kind, and of each status or code where a kind has several: for whoever has to know
    /// beforehand what can be told.
    pub(crate) fn each() -> Vec<Self> {
        let tokens = [
            TokenFault::Missing,
            TokenFault::Malformed(""),
            TokenFault::Expired,
            TokenFault::NotYetValid,
            TokenFault::Signature,
            TokenFault::KeyUnknown,
            TokenFault::NoKey,
            TokenFault::Issuer,
            TokenFault::Audience,
            TokenFault::Kind(""),
        ];
        let upstream = [401, 403, 404, 429, 500].map(|status| Self::UpstreamRefused { status });
        let others = [
            Self::BadRequest(BadRequest::Method),
            Self::BadRequest(BadRequest::VersionOther),
            Self::NoRoute,
            Self::OriginDenied,
            Self::Forbidden(Forbidden::Claim(String::new())),
            Self::UserLimit,
            Self::AddressLimit,
            Self::RateLimited { retry_after: 1 },
            Self::Overloaded,
            Self::Draining,
            Self::KeysUnavailable,
            Self::UpstreamTimeout(""),
            Self::UpstreamUnreachable(String::new()),
            Self::UpstreamSilentlyClosed,
            Self::UpstreamProtocol(""),
            Self::Internal,
        ];
        tokens.map(Self::Token).into_iter().chain(upstream).chain(others).collect()
    }

    /// The word for it.
    pub(crate) fn label(&self) -> Label {
        match self {
            Self::BadRequest(_) => Label::BadRequest,
            Self::NoRoute => Label::NoRoute,
            Self::OriginDenied => Label::OriginDenied,
            Self::Token(fault) => match fault {
                TokenFault::Missing => Label::TokenMissing,
                TokenFault::Malformed(_) => Label::TokenMalformed,
                TokenFault::Expired => Label::TokenExpired,
                TokenFault::NotYetValid => Label::TokenNotYetValid,
                TokenFault::Signature => Label::TokenSignature,
                TokenFault::KeyUnknown | TokenFault::NoKey => Label::TokenKeyUnknown,
                TokenFault::Issuer => Label::TokenIssuer,
                TokenFault::Audience => Label::TokenAudience,
                TokenFault::Kind(_) => Label::TokenKind,
            },
            Self::CookieLeftOut { .. } => Label::TokenMissing,
            Self::Forbidden(_) => Label::Forbidden,
            Self::UserLimit => Label::UserLimit,
            Self::AddressLimit => Label::AddressLimit,
            Self::RateLimited { .. } => Label::RateLimited,
            Self::Overloaded => Label::Overloaded,
            Self::Draining => Label::Draining,
            Self::KeysUnavailable => Label::KeysUnavailable,
            Self::UpstreamTimeout(_) => Label::UpstreamTimeout,
            Self::UpstreamUnreachable(_) | Self::UpstreamSilentlyClosed => {
                Label::UpstreamUnreachable
            }
            Self::UpstreamRefused { .. } => Label::UpstreamRefused,
            Self::UpstreamProtocol(_) => Label::UpstreamProtocol,
            Self::Internal => Label::Internal,
        }
    }

    /// The HTTP status.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(bad) => bad.status(),
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::OriginDenied | Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::Token(_) | Self::CookieLeftOut { .. } => StatusCode::UNAUTHORIZED,
            Self::UserLimit | Self::AddressLimit | Self::RateLimited { .. } => {
                StatusCode::TOO_MANY_REQUESTS
            }
            Self::Overloaded | Self::Draining | Self::KeysUnavailable => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::UpstreamTimeout(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::UpstreamUnreachable(_)
            | Self::UpstreamSilentlyClosed
            | Self::UpstreamProtocol(_) => StatusCode::BAD_GATEWAY,
            // The backend's own verdict on the client is worth passing on; its other statuses
            // (a redirect to a login page, a 500) would mislead a WebSocket client.
            Self::UpstreamRefused { status } => match status {
                401 => StatusCode::UNAUTHORIZED,
                403 => StatusCode::FORBIDDEN,
                404 => StatusCode::NOT_FOUND,
                429 => StatusCode::TOO_MANY_REQUESTS,
                _ => StatusCode::BAD_GATEWAY,
            },
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The close code when it is told by Close; `None`: always told by HTTP.
    pub(crate) fn close_code(
        &self,
        overrides: &CloseCodes,
        subprotocol: Option<&str>,
    ) -> Option<u16> {
        let default = match self {
            Self::BadRequest(_) => return None,
            Self::NoRoute => 4404,
            Self::OriginDenied | Self::Forbidden(_) => 4403,
            Self::Token(_) | Self::CookieLeftOut { .. } => 4401,
            Self::UserLimit | Self::AddressLimit | Self::RateLimited { .. } => 4429,
            Self::Overloaded | Self::KeysUnavailable | Self::UpstreamTimeout(_) => 1013,
            Self::Draining => 1012,
            Self::UpstreamUnreachable(_)
            | Self::UpstreamSilentlyClosed
            | Self::UpstreamProtocol(_) => 1014,
            Self::UpstreamRefused { status } => match status {
                401 => 4401,
                403 => 4403,
                404 => 4404,
                429 => 4429,
                _ => 1014,
            },
            Self::Internal => 1011,
        };
        Some(overrides.get(self.label(), subprotocol).unwrap_or(default))
    }

    /// Seconds for a Retry-After header.
    pub(crate) fn retry_after(&self) -> Option<u64> {
        match self {
            Self::RateLimited { retry_after } => Some((*retry_after).max(1)),
            Self::AddressLimit | Self::Overloaded | Self::Draining => Some(5),
            _ => None,
        }
    }

    /// Whether `refuse = "auto"` tells it by HTTP even to a browser: an accepted socket is dearer
    /// than a refusal, and its `open` event resets naive back-off.
    fn prefers_http(&self) -> bool {
        matches!(self, Self::AddressLimit | Self::RateLimited { .. } | Self::Overloaded)
    }

    /// Whether it is told by Close rather than by HTTP; `from_browser`: the request has an Origin.
    /// What is no valid handshake cannot be completed, so it is always told by HTTP.
    pub(crate) fn is_told_by_close(&self, mode: RefuseMode, from_browser: bool) -> bool {
        !matches!(self, Self::BadRequest(_))
            && match mode {
                RefuseMode::Http => false,
                RefuseMode::Close => true,
                RefuseMode::Auto => from_browser && !self.prefers_http(),
            }
    }

    /// Who is to blame, and when it was decided.
    pub(crate) fn by_and_phase(&self) -> (By, Phase) {
        match self {
            Self::BadRequest(_) => (By::Client, Phase::Request),
            Self::UpstreamTimeout(_)
            | Self::UpstreamUnreachable(_)
            | Self::UpstreamSilentlyClosed
            | Self::UpstreamRefused { .. }
            | Self::UpstreamProtocol(_) => (By::Upstream, Phase::Connect),
            _ => (By::Gateway, Phase::Admission),
        }
    }
}
