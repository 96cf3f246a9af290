//! The admin listener: metrics, health and actions over plain HTTP, for operators and their tools.
//!
//! [`answer`] is the whole of it: the resource is found ([`resource`]), then the guards are asked
//! ([`guards`]), then the resource answers. The socket is in [`serve`]. A further resource is a file
//! with its [`Resource`] and a line in [`RESOURCES`].

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{Response, StatusCode};

use crate::gateway::Gateway;

use self::guards::Guards;
use self::reply::Form;
use self::resource::Resource;

pub mod drains;
pub mod guards;
pub mod health;
pub mod history;
pub mod overview;
pub mod pages;
pub mod reply;
pub mod resource;
pub mod serve;
pub mod sessions;
pub mod trace;
pub mod views;
pub mod web;

/// Everything there is.
pub static RESOURCES: &[&Resource] = &[
    &pages::METRICS,
    &pages::HEALTH,
    &pages::READY,
    &health::DEPENDENCIES,
    &sessions::LIST,
    &sessions::RECENT,
    &sessions::ONE,
    &sessions::OF_USER,
    &trace::ALL,
    &trace::ONE,
    &web::DASHBOARD,
    &web::DOCTOR,
    &overview::OVERVIEW,
    &drains::SHARE,
    &drains::ENDPOINT,
];

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
    /// What is healthy gets nobody, because an operator wanted it so.
    #[error("all healthy endpoints are being emptied: framegate drain --undo takes them back")]
    EndpointsEmptied,
    /// All endpoints of all upstreams are unhealthy.
    #[error("no upstream has a healthy endpoint")]
    NoHealthyEndpoint,
}

/// Answers one request. The body of the answer to a HEAD request is to be left out by the HTTP
/// implementation (RFC 9110 section 9.3.2).
pub fn answer(guards: &Guards, gateway: &Arc<Gateway>, request: &Parts) -> Response<Bytes> {
    let path = request.uri.path();
    let form = Form::of(path);
    let found = resource::find(RESOURCES, path);
    let resource = found.as_ref().map(|found| found.resource);
    if let Err(denied) = guards.check(&request.method, resource, &request.headers) {
        return denied.into_response(form);
    }
    let Some(found) = found else {
        return form.error(StatusCode::NOT_FOUND, "there is no such page");
    };
    found
        .call(&request.method, request.uri.query().unwrap_or_default())
        .and_then(|(action, call)| (action.handler)(gateway, &call))
        .unwrap_or_else(|failure| failure.into_response(form))
}

#[cfg(test)]
pub(crate) mod tests;
