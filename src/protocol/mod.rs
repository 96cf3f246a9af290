//! The two wire formats the gateway reads itself: WebSocket frames and PROXY headers. Pure.

pub(crate) mod proxy_protocol;
pub(crate) mod ws;
