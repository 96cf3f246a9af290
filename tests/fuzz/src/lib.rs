//! Slow and simple second opinions that the fuzz targets hold the gateway's own code to.
//!
//! Written from the RFCs and not from `src/`: whole input at once, no state between calls, no care for
//! speed. Where the two disagree, one of them is wrong.

pub mod frames;
pub mod heads;
