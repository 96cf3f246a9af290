//! What an operator may set about close codes and the way refusals are sent. Pure.

use std::collections::HashMap;

use super::label::Label;

/// Overrides of the close-code tables (`[close_codes]`).
#[derive(Debug, Clone, Default)]
pub(crate) struct CloseCodes {
    pub(crate) by_label: HashMap<Label, u16>,
    /// By negotiated subprotocol, then label.
    pub(crate) by_subprotocol: HashMap<String, HashMap<Label, u16>>,
}

impl CloseCodes {
    /// The operator's code for `label`, if one was set; the subprotocol's own entry wins.
    pub(crate) fn get(&self, label: Label, subprotocol: Option<&str>) -> Option<u16> {
        subprotocol
            .and_then(|name| self.by_subprotocol.get(name)?.get(&label))
            .or_else(|| self.by_label.get(&label))
            .copied()
    }
}

/// What `drain.code` is if nobody sets it: service restart.
pub(crate) const DEFAULT_DRAIN_CODE: u16 = 1012;

/// How a refusal is told to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RefuseMode {
    /// `Close` for browsers (an Origin header is there), `Http` for others.
    Auto,
    /// By HTTP status.
    Http,
    /// By completing the handshake and sending Close.
    Close,
}
