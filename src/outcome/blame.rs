//! Who ended a connection, in which phase: the two axes beside the label. Pure.

/// Who ended it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum By {
    /// The client: it closed, broke the protocol or went away.
    Client,
    Upstream,
    /// The gateway, by one of its rules.
    Gateway,
    /// An operator, over the admin API.
    Admin,
}

impl By {
    /// The word in logs and metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
            Self::Gateway => "gateway",
            Self::Admin => "admin",
        }
    }
}

/// When it was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    /// Accepted, PROXY header.
    Accept,
    /// TLS handshake.
    Tls,
    /// Reading the request head.
    Request,
    /// Deciding whether it may connect.
    Admission,
    /// Opening the upstream.
    Connect,
    /// Relaying.
    Relay,
    /// After the first Close.
    Closing,
}

impl Phase {
    /// The word in logs and metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Tls => "tls",
            Self::Request => "request",
            Self::Admission => "admission",
            Self::Connect => "connect",
            Self::Relay => "relay",
            Self::Closing => "closing",
        }
    }
}
