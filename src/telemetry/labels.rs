//! Metric labels that are born in telemetry: closed sets, each with its words. Pure.
//!
//! Labels that the rest of the gateway speaks of too (`Label`, `By`, `Phase`, `Direction`) live in
//! [`crate::session`].

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::Config;
use crate::protocol::ws::close::CloseStatus;
use crate::session::record::Steps;

macro_rules! closed_set {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub(crate) enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            /// Every value, in order of declaration.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word in metrics and logs.
            pub(crate) const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

closed_set! {
    /// What a backend answered instead of 101; the `status` label. The first four are its verdict on the
    /// client, and are passed on to it.
    RefusalStatus {
        /// The client must show who it is.
        Unauthorized = "401",
        /// The client may not.
        Forbidden = "403",
        /// Nothing is there.
        NotFound = "404",
        /// The client asks too often.
        TooManyRequests = "429",
        /// Any other from 400 to 499.
        ClientError = "4xx",
        /// 500 to 599.
        ServerError = "5xx",
        /// A redirect, for instance.
        Other = "other",
    }
}

closed_set! {
    /// Why a connection was closed right after accept, without an answer; the `reason` label.
    DropReason {
        /// All places are taken, those where a client is only refused too.
        NoPlace = "no_place",
        /// Its TLS handshake would go beyond `limits.handshakes_per_address`.
        RateLimited = "rate_limited",
    }
}

closed_set! {
    /// What was done to a client that sends too fast; the `action` label.
    LimitAction {
        /// Its socket was not read for a while.
        Pause = "pause",
        /// Its session was ended.
        Close = "close",
    }
}

closed_set! {
    /// Why a session was ended in favour of another; the `reason` label.
    EvictionReason {
        /// Its user had all sessions allowed.
        UserLimit = "user_limit",
    }
}

closed_set! {
    /// An extension that a client offered and the gateway removed; the `extension` label.
    StrippedExtension {
        /// RFC 7692.
        PermessageDeflate = "permessage-deflate",
        /// Any other.
        Other = "other",
    }
}

closed_set! {
    /// How a reload of the configuration went; the `result` label.
    ReloadResult {
        /// The new one is in force.
        Success = "success",
        /// The old one stays in force.
        Error = "error",
    }
}

closed_set! {
    /// How a fetch of a key set went; the `result` label.
    KeyRefresh {
        /// Its keys are used from now on.
        Ok = "ok",
        /// The issuer could not be reached, or the file not be read.
        Unreachable = "unreachable",
        /// The issuer's certificate cannot be trusted, or TLS failed in another way.
        Tls = "tls",
        /// It took longer than `jwks.timeout`.
        Timeout = "timeout",
        /// The issuer answered with another status than 200.
        Status = "status",
        /// The set is larger than any set.
        TooLarge = "too_large",
        /// What came is no key set.
        Invalid = "invalid",
    }
}

/// The result of an endpoint's probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndpointHealth {
    /// It takes connections; also the state before the first probe.
    Healthy,
    /// It failed as many probes in a row as `health.fall`.
    Unhealthy,
}

closed_set! {
    /// A timed part of the handshake; the `stage` label.
    Stage {
        /// TLS with the client.
        Tls = "tls",
        /// Parsing, routing, origin, token, authorisation, limits.
        Admission = "admission",
        /// Name resolution, TCP and TLS with the endpoint.
        UpstreamConnect = "upstream_connect",
        /// From the upgrade request upstream to its answer.
        UpstreamHandshake = "upstream_handshake",
        /// All of these together, for accepted handshakes.
        Total = "total",
    }
}

impl StrippedExtension {
    /// The label for an extension's name (without parameters) as a client sent it.
    pub(crate) fn of(name: &str) -> Self {
        if name.trim().eq_ignore_ascii_case("permessage-deflate") {
            Self::PermessageDeflate
        } else {
            Self::Other
        }
    }
}

impl RefusalStatus {
    /// The label of a status.
    pub(crate) fn of(status: u16) -> Self {
        match status {
            401 => Self::Unauthorized,
            403 => Self::Forbidden,
            404 => Self::NotFound,
            429 => Self::TooManyRequests,
            400..=499 => Self::ClientError,
            500..=599 => Self::ServerError,
            _ => Self::Other,
        }
    }
}

impl Stage {
    /// What `steps` says of this stage. The total leaves out the time before the request head was
    /// there: a browser opens connections ahead of need, and that silence is nobody's latency.
    pub(crate) fn duration(self, steps: &Steps) -> Option<Duration> {
        match self {
            Self::Tls => steps.tls,
            Self::Admission => steps.admission,
            Self::UpstreamConnect => steps.upstream_connect,
            Self::UpstreamHandshake => steps.upstream_handshake,
            Self::Total => {
                let parts =
                    [steps.tls, steps.admission, steps.upstream_connect, steps.upstream_handshake];
                Some(parts.into_iter().flatten().sum())
            }
        }
    }
}

/// The closed set of `code` labels: what RFC 6455 and IANA name, and what is configured.
#[derive(Debug, Clone)]
pub(crate) struct CloseCodeLabels(BTreeMap<u16, String>);

impl CloseCodeLabels {
    /// The set for a configuration.
    pub(crate) fn new(config: &Config) -> Self {
        let overrides = &config.close_codes;
        let by_subprotocol = overrides.by_subprotocol.values().flat_map(|codes| codes.values());
        let configured = overrides.by_label.values().chain(by_subprotocol).copied();
        // 1004, 1005 and 1006 are never on the wire (RFC 6455 section 7.4.1).
        let registered = (1000..=1014).filter(|code| !matches!(code, 1004..=1006));
        let codes = registered
            .chain(DEFAULT_CODES)
            .chain([config.drain.code])
            .chain(configured)
            .map(|code| (code, code.to_string()));
        Self(codes.collect())
    }

    /// The label of what was exchanged; whatever is not in the set is `other`.
    pub(crate) fn label(&self, close: CloseStatus) -> &str {
        match close {
            CloseStatus::None => "none",
            CloseStatus::Empty => "empty",
            CloseStatus::Code(code) => self.0.get(&code).map_or("other", String::as_str),
        }
    }

    /// How many labels there are.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.0.len() + 3
    }
}

/// Private codes the gateway sends by itself.
const DEFAULT_CODES: [u16; 6] = [4401, 4403, 4404, 4408, 4409, 4429];
