//! The harness: a gateway process, its log and its metrics ([`Gateway`]), configured by [`Setup`];
//! a scripted backend ([`backend::Backend`]); raw clients ([`client::Client`]) that can misbehave.
//!
//! Everything waits for what it wants to see, with [`DEADLINE`]; nothing sleeps.

use std::future::Future;
use std::time::Duration;

pub mod backend;
pub mod client;
pub mod command;
pub mod doctor;
pub mod gateway;
pub mod hostile;
pub mod issuer;
pub mod pair;
pub mod refusal;
pub mod reload;
pub mod setup;
pub mod systemd;
pub mod tls;
pub mod tokens;
pub mod wire;

pub use backend::Backend;
pub use client::Client;
pub use gateway::Gateway;
pub use issuer::{Answer, Issuer, SigningKey};
pub use pair::{Ended, Pair, Side};
pub use refusal::Refusal;
pub use setup::Setup;
pub use tls::{Authority, TlsClient};
pub use wire::{End, Frame, Wire};

/// Longer than anything takes on a busy machine; reached only by a failing test.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Waits for `what` within [`DEADLINE`].
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

/// Receive buffer in bytes of a peer that is to be filled soon.
pub const LITTLE_ROOM: u32 = 4096;

/// Makes the coming drop send RST instead of FIN.
pub fn reset_on_drop(stream: &tokio::net::TcpStream) {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
}
