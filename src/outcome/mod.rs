//! Every way a connection can end: its name, who ended it and when, what each side is sent. Pure.
//!
//! [`label`] is the closed set of names, [`blame`] the two axes beside it, [`rejection`] a handshake
//! that is refused (the table of refusals), [`settle`] a session that ends (the table of endings).
//! Only these two choose close codes; [`refusal`] is a rejection as an HTTP response; [`close_codes`] is what an operator may set about them.

pub(crate) mod blame;
pub(crate) mod close_codes;
pub(crate) mod label;
pub(crate) mod refusal;
pub(crate) mod rejection;
pub(crate) mod settle;
