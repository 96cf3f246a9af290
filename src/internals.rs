//! What the fuzz targets (`tests/fuzz`) and the micro benchmarks (`benches/micro`) call: they are crates
//! beside this one, and read single parts of it. Not an interface: it changes with the parts.
#![allow(missing_docs)]

pub mod admission {
    use std::sync::Arc;
    use std::time::Instant;

    pub use crate::admission::Admission;
    use crate::admission::users::UserTable;
    use crate::session::limiter::Limiter;
    use crate::session::registry::Registry;

    /// A count of users with no sessions.
    pub fn limiter() -> Arc<dyn Limiter> {
        Arc::new(UserTable::new(Arc::new(Registry::new(0, Instant::now()))))
    }

    pub mod jwt {
        pub use crate::admission::jwt::verify;
    }
    pub mod keys {
        pub use crate::admission::keys::{KeySet, VerificationKey, load};
    }
    pub mod token {
        pub use crate::admission::token::{
            MAX_TOKEN_BYTES, Presented, Sender, extract, forward, strip,
        };
    }
    pub mod jwks {
        pub use crate::admission::jwks::SourceTable;
    }
    pub mod limits {
        pub use crate::admission::limits::AddressTable;
    }
}

pub mod cli {
    pub mod token {
        pub use crate::cli::token::{sign, signing_key};
    }
}

pub mod config {
    pub use crate::config::{Config, ForwardToken, Problem, Rate, TokenSource, Verifier};

    /// Every reference is resolved and every route can be reached.
    pub fn assert_sound(config: &Config) {
        assert!(!config.listeners.is_empty() && !config.routes.is_empty());
        let router = config.router();
        for (index, route) in config.routes.iter().enumerate() {
            assert!(route.upstream.index() < config.upstreams.len());
            assert!(route.verifier.is_none_or(|verifier| verifier < config.verifiers.len()));
            assert!(route.limits.message_size > 0 && route.limits.fragments > 0);
            let has_parameters = route.path.names().next().is_some();
            let path = route.path.to_string();
            let host = route.hosts.first().map_or("any.example", String::as_str);
            if !has_parameters && !path.contains('%') && route.hosts.is_empty() {
                let found = router.find(host, &path).map(|found| found.route);
                assert!(found.is_some(), "{index}: {path} leads nowhere");
            }
        }
        for upstream in &config.upstreams {
            assert!(!upstream.endpoints.is_empty());
        }
        for verifier in &config.verifiers {
            assert!(!verifier.keys.is_empty() || verifier.jwks.is_some());
            assert!(!verifier.sources.is_empty());
            let jwks = verifier.jwks.as_ref();
            assert!(jwks.is_none_or(|jwks| jwks.refresh <= jwks.stale && !jwks.timeout.is_zero()));
        }
    }
}

pub mod handshake {
    pub mod forwarded {
        pub use crate::handshake::forwarded::client_address;
    }
    pub mod headers {
        pub use crate::handshake::headers::{
            Forwarded, ForwardedIdentity, Rules, Scheme, Trust, UpstreamHead,
        };
    }
    pub mod path {
        pub use crate::handshake::path::normalise;
    }
    pub mod request {
        pub use crate::handshake::request::{Forwardable, MAX_SUBPROTOCOLS, UpgradeRequest};
    }
}

pub mod outcome {
    pub mod rejection {
        pub use crate::outcome::rejection::TokenFault;
    }
}

pub mod protocol {
    pub mod proxy_protocol {
        pub use crate::protocol::proxy_protocol::{Progress, ProxyError, ProxyHeader, parse};
    }
    pub mod ws {
        pub mod close {
            pub use crate::protocol::ws::close::CloseStatus;
        }
        pub mod header {
            pub use crate::protocol::ws::header::parse;
        }
        pub mod inspector {
            pub use crate::protocol::ws::inspector::{
                Content, FrameInspector, FrameLimits, Step, WHOLE_FRAME,
            };
        }
        pub mod message {
            pub use crate::protocol::ws::message::{MessageKind, unmask};
        }
        pub mod violation {
            pub use crate::protocol::ws::violation::{Side, Violation};
        }
    }
}

pub mod route {
    pub use crate::route::Router;
}

pub mod session {
    pub mod identity {
        pub use crate::session::identity::Identity;
    }
}

pub mod upstream {
    pub mod answer {
        pub use crate::upstream::answer::{Answer, AnswerError, MAX_HEAD, parse};
    }
}
