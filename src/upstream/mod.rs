//! Opening the upstream: choosing an endpoint, connecting, the opening handshake.
//!
//! [`endpoint`] knows what state an endpoint is in, [`balance`] picks one, `net::connect` reaches it,
//! [`request`] is what it is asked and [`answer`] what it says, [`open`] puts them together with the deadlines and the retry rule,
//! and [`health`] watches in the background.

pub mod answer;
pub mod balance;
pub mod endpoint;
pub mod health;
pub mod open;
pub mod request;
