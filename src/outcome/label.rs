//! The closed set of names for how a connection was refused or ended. Pure.
//!
//! One word per outcome, the same in the close reason, the access log, the metrics and
//! `[close_codes]`. Refusals are decided before the 101, endings after it; `token_expired` is both.

macro_rules! labels {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)*) => {
        /// How a connection was refused or ended.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub(crate) enum Label { $($(#[$doc])* $variant,)* }

        impl Label {
            /// Every label, in the order of the tables.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word on the wire, in logs and in metrics.
            pub(crate) const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

labels! {
    /// Not a valid WebSocket handshake.
    BadRequest = "bad_request",
    /// No host and path match, or a path parameter has the wrong form.
    NoRoute = "no_route",
    /// Origin not in the route's list.
    OriginDenied = "origin_denied",
    /// No token where one is required.
    TokenMissing = "token_missing",
    /// Not a JWT, or one that breaks the rules of form.
    TokenMalformed = "token_malformed",
    /// `exp` has passed: at the handshake or during the session.
    TokenExpired = "token_expired",
    /// `nbf` or `iat` lies ahead.
    TokenNotYetValid = "token_not_yet_valid",
    /// The signature does not verify.
    TokenSignature = "token_signature",
    /// No key has the token's `kid` and algorithm.
    TokenKeyUnknown = "token_key_unknown",
    /// Wrong `iss`.
    TokenIssuer = "token_issuer",
    /// Wrong `aud`.
    TokenAudience = "token_audience",
    /// Another kind of token, such as a refresh token.
    TokenKind = "token_kind",
    /// An authorisation rule does not hold.
    Forbidden = "forbidden",
    /// The user has all sessions allowed.
    UserLimit = "user_limit",
    /// The address has all connections allowed.
    AddressLimit = "address_limit",
    /// The address connects too often.
    RateLimited = "rate_limited",
    /// The process has all connections allowed.
    Overloaded = "overloaded",
    /// The gateway is going down.
    Draining = "draining",
    /// No verification key could be loaded yet.
    KeysUnavailable = "keys_unavailable",
    /// Connecting to the upstream, or its answer, took too long.
    UpstreamTimeout = "upstream_timeout",
    /// The upstream refused or reset the connection.
    UpstreamUnreachable = "upstream_unreachable",
    /// The upstream answered without 101.
    UpstreamRefused = "upstream_refused",
    /// The upstream's 101 breaks the protocol.
    UpstreamProtocol = "upstream_protocol",
    /// The client sent Close.
    ClientClosed = "client_closed",
    /// The upstream sent Close.
    UpstreamClosed = "upstream_closed",
    /// The client broke RFC 6455.
    ClientViolation = "client_violation",
    /// The upstream broke RFC 6455.
    UpstreamViolation = "upstream_violation",
    /// The client's connection ended without Close.
    ClientLost = "client_lost",
    /// The upstream's connection ended without Close.
    UpstreamLost = "upstream_lost",
    /// The client answers no ping or stopped reading.
    ClientTimeout = "client_timeout",
    /// The upstream answers no ping or stopped reading.
    UpstreamStalled = "upstream_stalled",
    /// No data message either way.
    Idle = "idle",
    /// The client sent too many frames.
    MessageRate = "message_rate",
    /// A newer connection of the user took the place.
    Replaced = "replaced",
    /// Ended by an operator.
    Kicked = "kicked",
    /// Ended to keep memory for slow readers bounded.
    SlowConsumer = "slow_consumer",
    /// Ended because the gateway goes down.
    Drained = "drained",
    /// A fault of the gateway.
    Internal = "internal",
}

impl Label {
    /// The labels that a handshake can be refused with.
    pub(crate) fn refusals() -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(|label| *label <= Self::UpstreamProtocol)
    }

    /// The labels that a session can end with.
    pub(crate) fn endings() -> impl Iterator<Item = Self> {
        Self::ALL
            .iter()
            .copied()
            .filter(|label| *label >= Self::ClientClosed || *label == Self::TokenExpired)
    }

    /// Whether `[close_codes]` may set a code: the gateway chooses it, and one is sent.
    pub(crate) fn has_chosen_code(self) -> bool {
        !matches!(
            self,
            Self::BadRequest | Self::ClientClosed | Self::UpstreamClosed | Self::ClientLost
        )
    }

    /// The label of this name.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|label| label.as_str() == text)
    }
}

impl std::fmt::Display for Label {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
