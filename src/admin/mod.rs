//! The admin listener: metrics and health over plain HTTP, for operators and their tools.
//!
//! [`answer`] is the whole of it: the guards first ([`guards`]), then the page ([`pages`]). The
//! socket is in [`serve`]; what the gateway is doing comes in through [`AdminState`].

use bytes::Bytes;
use http::{HeaderMap, Method, Response};

use crate::telemetry::metrics::Scrape;

use self::guards::Guards;

pub mod guards;
pub mod pages;
pub mod serve;

/// What the admin pages need to know of the gateway.
pub trait AdminState {
    /// The metrics, live traffic included.
    fn scrape(&self) -> Scrape;

    /// Why the gateway should get no new connections; empty: it is ready.
    fn unready(&self) -> Vec<Unready>;
}

/// A reason for not being ready. A single failed upstream is none: other routes still work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unready {
    /// The gateway is going down.
    #[error("draining")]
    Draining,
    /// A verifier has no key to check tokens with.
    #[error("verifier {0} has no keys")]
    NoKeys(String),
    /// No public listener takes connections.
    #[error("no listener is open")]
    NoListener,
    /// All endpoints of all upstreams are unhealthy.
    #[error("no upstream has a healthy endpoint")]
    NoHealthyEndpoint,
}

/// Answers one request. `path` is without query; the body of the answer to a HEAD request is to be
/// left out by the HTTP implementation (RFC 9110 section 9.3.2).
pub fn answer(
    guards: &Guards,
    state: &dyn AdminState,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
) -> Response<Bytes> {
    let page = pages::route(path);
    match guards.check(method, page, headers) {
        Ok(()) => pages::answer(page, method, state),
        Err(denied) => denied.into_response(),
    }
}

#[cfg(test)]
mod tests;
