//! The pages for browsers.

pub mod meanings;
