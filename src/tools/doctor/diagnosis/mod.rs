//! From what was seen to the likely cause and the cure: tables, one file for each kind of evidence. Pure.
//!
//! A cause says what most often lies behind it, a cure what to do first. Both are for somebody who
//! never saw a WebSocket handshake: no word of the RFC without what it means.

pub mod auth;
pub mod closing;
pub mod frames;
pub mod labels;
pub mod network;
pub mod redirect;
pub mod status;
pub mod switching;
pub mod tls;

use super::plan::Plan;
use super::token::Reading;

/// What goes into every judgement.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// What was asked for.
    pub plan: &'a Plan,
    /// The token that was sent.
    pub token: Option<&'a Reading>,
    /// Seconds since 1970, by this machine's clock.
    pub now: i64,
    /// Seconds by which the server's clock is ahead.
    pub ahead: Option<i64>,
    /// Whether framegate took part: then its words are taken for what they mean with it.
    pub framegate: bool,
}
