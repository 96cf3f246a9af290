//! The network below HTTP: byte streams, TLS on both sides, certificates, names, ends. I/O.
//!
//! [`stream`] is a connection of whatever kind, [`server_tls`] is TLS towards clients, [`connect`]
//! reaches a server, [`tls`] and [`pem`] are what both sides of TLS are made of, [`tls_fault`] puts
//! their failures into words, and [`linger`] ends a connection so that the last bytes arrive.

pub(crate) mod connect;
pub(crate) mod descriptors;
mod eyeballs;
pub(crate) mod linger;
pub(crate) mod names;
pub(crate) mod pem;
pub(crate) mod progress;
pub(crate) mod scratch;
pub(crate) mod server_tls;
pub(crate) mod stream;
pub(crate) mod tls;
pub(crate) mod tls_fault;
