//! What the gateway answers by itself on a public listener: health, and the page that tries connections.

use std::time::Instant;

use bytes::Bytes;
use http::header::UPGRADE;
use http::{Method, Response, StatusCode};
use http_body_util::Full;

use super::exchange::Exchange;
use super::{Gateway, forward};
use crate::outcome::rejection::Rejection;
use crate::pages;

/// The answer to a load balancer that asks for our health, and to a browser that opens the connection
/// tester where the listener has it. Neither is recorded: they are no handshakes.
///
/// # Errors
///
/// A client that asks too often is refused.
pub(super) fn answer(
    gateway: &Gateway,
    exchange: &Exchange,
) -> Option<Result<Response<Full<Bytes>>, Rejection>> {
    let head = &exchange.request;
    // HEAD is what some monitors ask with; the body is left out by hyper then.
    if head.method() != Method::GET && head.method() != Method::HEAD {
        return None;
    }
    let page: fn(&Gateway) -> Response<Full<Bytes>> = match head.uri().path() {
        HEALTH => health,
        TESTER if exchange.listener.config.doctor && !head.headers().contains_key(UPGRADE) => {
            |_| pages::tester().map(Full::new)
        }
        _ => return None,
    };
    Some(charge(gateway, exchange).map(|()| page(gateway)))
}

/// Full or not, a gateway says how it is; but not to a client that asks too often. Behind a trusted proxy
/// it is the client's own rate that a request takes from; else that was done when the connection, or its
/// further request, came. The proxy's own requests are its health checks.
fn charge(gateway: &Gateway, exchange: &Exchange) -> Result<(), Rejection> {
    if let Some(over @ Rejection::RateLimited { .. }) = &exchange.refusal {
        return Err(over.clone());
    }
    let source = forward::source(&exchange.listener, exchange.peer, exchange.request.headers());
    if !exchange.listener.trusts(exchange.peer.address.ip()) || source.client == source.direct {
        return Ok(());
    }
    let limits = &gateway.config().limits;
    gateway.process().addresses.charge(source.client, limits, Instant::now())
}

fn health(gateway: &Gateway) -> Response<Full<Bytes>> {
    let (status, text) = if gateway.unready().is_empty() {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response
}

/// Where balancers in front ask.
const HEALTH: &str = "/.framegate/health";
/// Where the connection tester is, on listeners that have it.
const TESTER: &str = "/.framegate/doctor";
