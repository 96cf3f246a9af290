//! The two wire formats the gateway reads itself: WebSocket frames and PROXY headers. Pure.

pub mod proxy_protocol;
pub mod ws;
