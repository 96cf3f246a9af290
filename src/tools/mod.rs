//! Programs beside the gateway: large, optional, and never used by it. Each is a cargo feature.

#[cfg(feature = "demo")]
pub mod demo;
#[cfg(feature = "doctor")]
pub mod doctor;
