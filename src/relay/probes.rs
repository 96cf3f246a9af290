//! Who has asked whether a session's client lives. No I/O.

use std::sync::Arc;

use crate::session::registry::Probe;

/// Who waits to hear whether the client lives; at the latest, the session's end is an answer.
#[derive(Default)]
pub(super) struct Probes(pub(super) Vec<Arc<Probe>>);

impl Probes {
    pub(super) fn answer(&mut self) {
        for probe in self.0.drain(..) {
            probe.answer();
        }
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        self.answer();
    }
}
