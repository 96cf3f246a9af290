//! The opening handshake as data: requests parsed, answers and upstream requests built. Pure.

pub mod headers;
pub mod request;
pub mod response;
pub mod subprotocol;
