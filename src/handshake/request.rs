//! The client's upgrade request, parsed once (RFC 6455 section 4.2.1). Pure.

use http::{HeaderMap, StatusCode};

/// A valid opening handshake; nothing behind it checks the form again.
#[derive(Debug, Clone)]
pub struct UpgradeRequest {
    /// Host header as sent, with its port.
    pub host: String,
    /// Normalised path: unreserved characters decoded, nothing else changed; what the upstream gets.
    pub path: String,
    /// Query as sent, without `?`.
    pub query: Option<String>,
    /// All headers as sent.
    pub headers: HeaderMap,
    /// Sec-WebSocket-Key.
    pub key: String,
    /// Origin header as sent: a browser sends one, others mostly don't.
    pub origin: Option<String>,
    /// Offered subprotocols in order, token entries included.
    pub offered: Vec<String>,
}

/// Why a request is no valid opening handshake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// placeholder
    #[error("bad")]
    Placeholder,
}

impl BadRequest {
    /// 400, or 426 for a wrong version.
    pub fn status(&self) -> StatusCode {
        StatusCode::BAD_REQUEST
    }
}
