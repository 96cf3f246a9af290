//! Every way a connection can end: its name, who ended it and when, what each side is sent. Pure.
//!
//! [`label`] is the closed set of names, [`blame`] the two axes beside it, [`rejection`] a handshake
//! that is refused (the table of refusals), [`settle`] a session that ends (the table of endings).
//! Only these two choose close codes; [`refusal`] is a rejection as an HTTP response, [`close_codes`] what
//! an operator may set about them, [`words`] what each label means and what to do about it.

pub(crate) mod blame;
pub(crate) mod close_codes;
pub(crate) mod label;
pub(crate) mod refusal;
pub(crate) mod rejection;
pub(crate) mod settle;
pub(crate) mod words;
