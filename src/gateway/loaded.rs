//! What a configuration names, read and ready to be put to work. No I/O.

use std::sync::Arc;

use super::guards::Guards;
use crate::admission::Admission;
use crate::config::{Config, Problem};
use crate::listener::Listener;
use crate::upstream::endpoint::Upstream;

/// Everything read that a configuration names, and nothing bound.
pub(crate) struct Loaded {
    pub(crate) config: Config,
    pub(crate) admission: Admission,
    pub(crate) upstreams: Vec<Upstream>,
    pub(crate) listeners: Vec<Arc<Listener>>,
    pub(crate) guards: Option<Guards>,
    /// What is not wrong but unwise.
    pub(crate) warnings: Vec<Problem>,
}
