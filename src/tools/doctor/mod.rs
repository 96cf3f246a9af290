//! `framegate doctor`: walks through a connection step by step, and says where it fails, why, and what
//! to do. It works against any WebSocket server, with framegate in front or not.
//!
//! [`walk`] takes the steps ([`net`], [`tls`], [`upgrade`], [`conversation`] do the I/O); what was seen
//! is judged by the tables of [`diagnosis`], which are pure, and kept in a [`report::Report`], which
//! [`render`] shows to people and [`compare`] puts beside another one. Protocol rules are those of `ws`
//! and `upstream::answer`: doctor sees what the gateway would see. What the gateway saw is fetched by the
//! command and put into words by [`gateway_view`].

pub mod certificate;
pub mod compare;
pub mod conversation;
pub mod diagnosis;
pub mod gateway_view;
pub mod head;
pub mod net;
pub mod plan;
pub mod render;
pub mod report;
pub mod request;
pub mod secrets;
pub mod tls;
pub mod token;
pub mod upgrade;
pub mod walk;
