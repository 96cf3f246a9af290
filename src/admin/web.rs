//! The pages for browsers, on the admin listener. No I/O.

use bytes::Bytes;
use http::Response;

use super::Context;
use super::reply::Failure;
use super::resource::{Action, Call, Handler, Resource, Takes, Verb};
use crate::gateway::guards::Access;
use crate::pages;

/// The live dashboard.
pub(crate) static DASHBOARD: Resource =
    Resource { path: "/", access: Access::Open, actions: &[get(dashboard)] };

/// The connection tester.
pub(crate) static DOCTOR: Resource =
    Resource { path: "/doctor", access: Access::Open, actions: &[get(doctor)] };

const fn get(handler: Handler) -> Action {
    Action { verb: Verb::Get, query: Takes::Anything, handler }
}

fn dashboard(_: &Context, _: &Call) -> Result<Response<Bytes>, Failure> {
    Ok(pages::dashboard())
}

fn doctor(_: &Context, _: &Call) -> Result<Response<Bytes>, Failure> {
    Ok(pages::tester())
}
