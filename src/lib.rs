//! framegate: a WebSocket gateway that checks every frame and gives every connection an honest ending.
//!
//! # The life of a connection
//!
//! ```text
//! gateway    accept        Arrival: socket + place     process cap, per-address cap, handshake rate
//! listener   establish     Peer {client, direct}       PROXY v1/v2, only from trusted proxies; TLS by SNI
//!            http          Exchange: one request       hyper, HTTP/1.1; a connection carries several
//! handshake  UpgradeRequest                            RFC 6455 4.2.1 parsed once, else 400/426
//! route      RouteId + typed path parameters           else 404
//! admission  Permit | Rejection                        cheap before expensive
//! upstream   open connection | Rejection               before the client is accepted
//! handshake  101                                       only now
//! relay      Session: two legs, two directions         one task
//! outcome    close codes for both sides                one table
//! telemetry  SessionRecord                             metrics + one access-log line, exactly once
//! ```
//!
//! Each stage consumes the type the stage before produced. Two functions are the spine, each about a
//! screen: `gateway::connection::serve` carries a connection, [`gateway::Gateway::handle`] decides on one
//! request: a session, an answer of our own, or a refusal.
//!
//! # Lexicon
//!
//! *downstream* or *client*: who connects to the gateway. *upstream*: a group of equivalent
//! *endpoints* behind it. *listener*: a public socket. *route*: host and path pattern to upstream.
//! *handshake*: from the request head to the 101. *subprotocol*, *frame*, *message*, *control frame*,
//! *close code*: as in RFC 6455. *exchange*: one request on a connection. *session*: a relayed
//! connection; its client and its upstream are its *legs*, what is checked on the way from one to the
//! other is a *direction*. *rejection*: a handshake refused.
//! *violation*: a peer broke RFC 6455. *ending*: how a session ended; not an error. *permit*: the
//! right to hold a place, given back on drop. *drain*: ending all sessions, paced. *settle*: choosing
//! what each side is told at the end. *gateway*: one configuration at work, immutable; the *process*
//! outlives it.
//!
//! # Invariants
//!
//! - A module imports only from the groups below its own; `tests/tidy.rs` has the table.
//! - [`protocol`], [`route`], [`handshake`], [`outcome`], [`config`] and every file marked *Pure* name
//!   no tokio, hyper, tracing, socket or clock; time comes in as an argument.
//! - Only [`telemetry`] knows prometheus.
//! - Only [`outcome::settle`] and [`outcome::rejection`] choose close codes.
//! - No session starts without its permit; whatever counts up is a guard that counts down on drop.
//! - Tokens, query strings and payloads are never logged.

// Some parts are for the tools alone.
#![cfg_attr(not(all(feature = "demo", feature = "doctor")), allow(dead_code))]

mod listener;

mod gateway;

mod relay;
mod upstream;

mod route;

mod protocol;

mod handshake;

mod outcome;

mod admission;

mod config;

mod session;

mod net;

mod fetch;

mod telemetry;

mod pages;

mod admin;

mod server;

#[cfg(any(feature = "demo", feature = "doctor"))]
mod tools;

mod cli;

pub use cli::main;

#[doc(hidden)]
pub mod internals;
