//! The WebSocket protocol as a relay sees it (RFC 6455 sections 5 and 7). Pure.
//!
//! [`header`] reads frame headers, [`inspector`] decides frame by frame what may pass, [`message`]
//! builds the few frames the gateway writes itself, [`close`] knows which close codes are legal,
//! and [`violation`] names every breach.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::cast_possible_truncation))]

pub(crate) mod close;
pub(crate) mod header;
pub(crate) mod inspector;
pub(crate) mod message;
pub(crate) mod utf8;
pub(crate) mod violation;
