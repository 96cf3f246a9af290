//! The opening handshake as data: requests parsed, answers and upstream requests built. Pure.
//!
//! Nothing here reads or writes a socket: the listener hands in what hyper read, the upstream's
//! connector sends what [`headers`] wrote and feeds what comes back to `upstream::answer`.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::cast_possible_truncation))]

pub(crate) mod forwarded;
pub(crate) mod headers;
pub(crate) mod path;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod spelling;
pub(crate) mod subprotocol;
pub(crate) mod template;
