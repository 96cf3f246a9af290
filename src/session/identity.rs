//! Who a verified token says is connecting. Pure.

use std::sync::Arc;

use serde_json::{Map, Value};

/// The subject of a verified token.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The user claim: 1 to 256 bytes, no control characters.
    pub user: Arc<str>,
    /// `iss`, where the token has one.
    pub(crate) issuer: Option<Arc<str>>,
    /// All claims.
    pub claims: Map<String, Value>,
    /// `exp`, seconds since 1970.
    pub expires_at: u64,
}
