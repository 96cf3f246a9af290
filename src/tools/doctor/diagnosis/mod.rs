//! From what was seen to the likely cause and the cure: tables, one file for each kind of evidence. Pure.
//!
//! A cause says what most often lies behind it, a cure what to do first. Both are for somebody who
//! never saw a WebSocket handshake: no word of the RFC without what it means.

pub(crate) mod auth;
pub(crate) mod closing;
pub(crate) mod frames;
pub(crate) mod labels;
pub(crate) mod network;
pub(crate) mod redirect;
pub(crate) mod status;
pub(crate) mod switching;
pub(crate) mod tls;

use super::plan::Plan;
use super::token::Reading;

/// What goes into every judgement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case<'a> {
    /// What was asked for.
    pub(crate) plan: &'a Plan,
    /// The token that was sent.
    pub(crate) token: Option<&'a Reading>,
    /// Seconds since 1970, by this machine's clock.
    pub(crate) now: i64,
    /// Seconds by which the server's clock is ahead.
    pub(crate) ahead: Option<i64>,
    /// Whether framegate took part: then its words are taken for what they mean with it.
    pub(crate) framegate: bool,
}
