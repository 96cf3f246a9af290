//! The network below HTTP: byte streams, TLS on both sides, certificates, names, ends. I/O.
//!
//! [`stream`] is a connection of whatever kind, [`server_tls`] is TLS towards clients, [`connect`]
//! reaches a server, [`tls`] and [`pem`] are what both sides of TLS are made of, [`tls_fault`] puts
//! their failures into words, and [`linger`] ends a connection so that the last bytes arrive.

pub mod connect;
pub mod descriptors;
pub mod linger;
pub mod pem;
pub mod scratch;
pub mod server_tls;
pub mod stream;
pub mod tls;
pub mod tls_fault;
