//! Behaviour over real sockets: the `framegate` binary between scripted backends and raw clients.
#![allow(clippy::disallowed_methods, reason = "tests spawn on the test's own runtime")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(
    unreachable_pub,
    dead_code,
    unused_imports,
    reason = "the harness offers more than each test uses"
)]

mod admin;
mod admin_api;
mod admin_cli;
mod cli;
// It runs the doctor, as it says.
#[cfg(all(feature = "demo", feature = "doctor"))]
mod demo;
#[cfg(feature = "doctor")]
mod doctor;
#[cfg(feature = "doctor")]
mod doctor_auth;
#[cfg(feature = "doctor")]
mod doctor_sessions;
#[cfg(feature = "doctor")]
mod doctor_upgrades;
mod drain;
mod endings;
mod faults;
mod frames;
mod handshake;
mod header_rules;
mod hostile_backend;
mod hostile_client;
mod hostile_floods;
mod hostile_frames;
mod jwks;
mod jwks_faults;
mod keep_alive;
mod lifecycle;
mod limits;
mod listeners;
mod pages;
mod places;
mod proxies;
mod refusals;
mod reload;
mod reload_load;
mod shed;
mod slow_readers;
mod smoke;
mod support;
mod systemd;
mod tls;
mod tls_records;
mod token_attacks;
mod tokens;
mod upstream;
