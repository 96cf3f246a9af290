//! What the gateway knows of a connection from its first byte to its accounting.
//!
//! [`explain`] says every outcome in sentences, [`record`] has the facts at the end, [`registry`] lists the sessions that are open so that they can be counted,
//! ended and shown, [`recent`] the connections that are over, [`trace`] who is watched frame by frame.

pub(crate) mod address;
pub(crate) mod connecting;
pub(crate) mod explain;
pub(crate) mod id;
pub(crate) mod identity;
pub(crate) mod limiter;
pub(crate) mod pacing;
pub(crate) mod pending;
pub(crate) mod rate;
pub(crate) mod recent;
pub(crate) mod record;
pub(crate) mod registry;
pub(crate) mod trace;
pub(crate) mod traffic;
