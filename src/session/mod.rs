//! What the gateway knows of a connection from its first byte to its accounting.
//!
//! [`label`] and [`termination`] name every outcome, [`explain`] says it in sentences, [`record`] is
//! what is known at the end, [`registry`] lists the sessions that are open so that they can be counted,
//! ended and shown, [`recent`] the connections that are over, [`trace`] who is watched frame by frame.

pub mod explain;
pub mod id;
pub mod identity;
pub mod pacing;
pub mod rate;
pub mod recent;
pub mod record;
pub mod registry;
pub mod trace;
pub mod traffic;
