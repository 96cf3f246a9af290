//! Opening the upstream: choosing an endpoint, connecting, the opening handshake.
//!
//! [`endpoint`] knows what state an endpoint is in, [`balance`] picks one, `net::connect` reaches it,
//! [`request`] is what it is asked and [`answer`] what it says, [`open`] puts them together with the deadlines and the retry rule,
//! and [`health`] watches in the background.

pub(crate) mod answer;
pub(crate) mod balance;
pub(crate) mod endpoint;
pub(crate) mod health;
pub(crate) mod open;
pub(crate) mod refused;
pub(crate) mod request;
