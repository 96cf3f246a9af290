//! Programs beside the gateway: large, optional, and never used by it. Each is a cargo feature.

#[cfg(feature = "demo")]
pub(crate) mod demo;
#[cfg(feature = "doctor")]
pub(crate) mod doctor;
