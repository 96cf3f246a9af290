//! `framegate doctor`: walks through a connection step by step, and says where it fails, why, and what
//! to do. It works against any WebSocket server, with framegate in front or not.
//!
//! [`walk`] takes the steps ([`net`], [`tls`], [`upgrade`], [`conversation`] do the I/O); what was seen
//! is judged by the tables of [`diagnosis`], which are pure, and kept in a [`report::Report`], which
//! [`render`] shows to people and [`compare`] puts beside another one. Protocol rules are those of `ws`
//! and `upstream::answer`: doctor sees what the gateway would see. What the gateway saw is fetched by the
//! command and put into words by [`gateway_view`].

pub(crate) mod certificate;
pub(crate) mod compare;
pub(crate) mod conversation;
pub(crate) mod diagnosis;
pub(crate) mod gateway_view;
pub(crate) mod head;
pub(crate) mod net;
pub(crate) mod plan;
pub(crate) mod render;
pub(crate) mod report;
pub(crate) mod request;
pub(crate) mod secrets;
pub(crate) mod tls;
pub(crate) mod token;
pub(crate) mod upgrade;
pub(crate) mod walk;
