//! The admin listener: metrics, health and actions over plain HTTP, for operators and their tools.
//!
//! [`answer`] is the whole of it: the resource is found ([`resource`]), then the guards are asked
//! ([`crate::gateway::guards`]), then the resource answers. The socket is in [`serve`]. A further resource is a file
//! with its [`Resource`] and a line in [`RESOURCES`].

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{Response, StatusCode};

use crate::gateway::Gateway;
use crate::gateway::guards::{Access, Guards};

use self::overview::Dashboard;
use self::reply::Form;
use self::resource::Resource;

pub(crate) mod drains;
pub(crate) mod health;
pub(crate) mod history;
pub(crate) mod overview;
pub(crate) mod pages;
pub(crate) mod reply;
pub(crate) mod resource;
pub(crate) mod serve;
pub(crate) mod sessions;
pub(crate) mod trace;
pub(crate) mod views;
pub(crate) mod web;

/// What requests are answered from.
pub(crate) struct Context {
    /// The gateway in force when the request came.
    pub(crate) gateway: Arc<Gateway>,
    /// What the dashboard remembers.
    pub(crate) dashboard: Arc<Dashboard>,
}

/// Everything there is.
pub(crate) static RESOURCES: &[&Resource] = &[
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

/// Answers one request. The body of the answer to a HEAD request is to be left out by the HTTP
/// implementation (RFC 9110 section 9.3.2).
pub(crate) fn answer(guards: &Guards, context: &Context, request: &Parts) -> Response<Bytes> {
    let path = request.uri.path();
    let form = Form::of(path);
    let found = resource::find(RESOURCES, path);
    // Without token even the question whether a page exists has no answer.
    let access = found.as_ref().map_or(Access::Token, |found| found.resource.access);
    if let Err(denied) = guards.check(&request.method, access, &request.headers) {
        return reply::denied(denied, form);
    }
    let Some(found) = found else {
        return form.error(StatusCode::NOT_FOUND, "there is no such page");
    };
    found
        .call(&request.method, request.uri.query().unwrap_or_default())
        .and_then(|(action, call)| (action.handler)(context, &call))
        .unwrap_or_else(|failure| failure.into_response(form))
}

#[cfg(test)]
pub(crate) mod tests;
