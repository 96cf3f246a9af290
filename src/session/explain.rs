//! What each label means, and what to do about it, in sentences. Pure.
//!
//! The texts are for operators; they say nothing of a single connection. [`sentence`] adds what is
//! known of one.

use super::record::{Outcome, SessionRecord};
use crate::outcome::label::Label;
use crate::protocol::ws::close::CloseStatus;

/// A label in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Explanation {
    /// What happened, who caused it and why; a sentence.
    pub(crate) what: &'static str,
    /// What to do if it was a fault; a sentence.
    pub(crate) cure: &'static str,
}

/// What a label says of a handshake that was refused.
// A table in the form of a function.
#[allow(clippy::too_many_lines, reason = "one row per label")]
pub(crate) const fn refusal(label: Label) -> Explanation {
    let (what, cure) = match label {
        Label::BadRequest => (
            "The client's request is not a valid WebSocket handshake.",
            "If it comes through another proxy, have that one pass the Upgrade and Connection headers on; else mend the client.",
        ),
        Label::NoRoute => (
            "No route has this host and path, or a path parameter has the wrong form.",
            "Compare host and path with the routes of the configuration.",
        ),
        Label::OriginDenied => (
            "The page's Origin is not in the route's list.",
            "If the page is yours, add its origin to the route's `origins`.",
        ),
        Label::TokenMissing => (
            "The client sent no token where the route's verifier looks for one.",
            "Have the client send its token, or add the place it uses to the verifier's `sources`.",
        ),
        Label::TokenMalformed => (
            "What the client sent as a token is no well-formed JWT.",
            "Look at how the client obtains and sends its token; the detail says which rule of form it breaks.",
        ),
        Label::TokenExpired => (
            "The client's token had expired.",
            "Have the client fetch a fresh token before it connects; if tokens are fresh, compare the clocks of issuer and gateway.",
        ),
        Label::TokenNotYetValid => (
            "The client's token begins to be valid only later.",
            "Compare the clocks of issuer and gateway; `leeway` allows for a difference.",
        ),
        Label::TokenSignature => (
            "The signature of the client's token does not verify.",
            "Compare the verifier's key with the issuer's; a token of another environment looks like this.",
        ),
        Label::TokenKeyUnknown => (
            "No key of the verifier has the token's kid and algorithm.",
            "If the issuer has new keys, add them to the verifier's `keys`.",
        ),
        Label::TokenIssuer => (
            "The client's token comes from another issuer.",
            "If that issuer is to be trusted, add it to the verifier's `issuers`.",
        ),
        Label::TokenAudience => (
            "The client's token is meant for another audience.",
            "Have the client ask for a token for this service, or add the audience to the verifier's `audiences`.",
        ),
        Label::TokenKind => (
            "The client's token is of another kind, such as a refresh token.",
            "Have the client send its access token.",
        ),
        Label::Forbidden => (
            "The token is good, but an authorisation rule of the route does not hold.",
            "If the user should be allowed, look at the claims of the token and at the route's `authorize`.",
        ),
        Label::UserLimit => (
            "The user has as many connections as allowed.",
            "Look for clients of the user that do not close; `connections_per_user` is the limit.",
        ),
        Label::AddressLimit => (
            "The address has as many connections as allowed.",
            "If many users share the address, or a proxy stands in front, raise `connections_per_address` or name the proxy in `trusted_proxies`.",
        ),
        Label::RateLimited => (
            "The address connects too often.",
            "Look for a client that reconnects without waiting; `handshakes_per_address` is the limit.",
        ),
        Label::Overloaded => (
            "The gateway has as many connections as allowed.",
            "Raise `limits.connections` (and the limit of open files) or add a gateway.",
        ),
        Label::Draining => (
            "The gateway was going down.",
            "Nothing is wrong: the client comes back to another gateway or after the restart.",
        ),
        Label::KeysUnavailable => (
            "The keys to check tokens with could not be loaded yet.",
            "Look at the verifier in GET /health/ws: its issuer must be reachable.",
        ),
        Label::UpstreamTimeout => (
            "The upstream took too long to connect or to answer the handshake.",
            "Look at the backend: it hangs or is overloaded; `connect_timeout` and `handshake_timeout` are the limits.",
        ),
        Label::UpstreamUnreachable => (
            "The upstream could not be reached, or closed before it answered.",
            "See whether the backend runs and listens where the configuration says.",
        ),
        Label::UpstreamRefused => (
            "The upstream answered the handshake with an HTTP status instead of 101.",
            "The refusal is the backend's own: look at its log for this request id (X-Request-Id).",
        ),
        Label::UpstreamProtocol => (
            "The upstream's 101 breaks the WebSocket protocol.",
            "Mend the backend, or whatever stands between it and the gateway; the detail says what is wrong.",
        ),
        Label::Internal => INTERNAL,
        Label::ClientClosed
        | Label::UpstreamClosed
        | Label::ClientViolation
        | Label::UpstreamViolation
        | Label::ClientLost
        | Label::UpstreamLost
        | Label::ClientTimeout
        | Label::UpstreamStalled
        | Label::Idle
        | Label::MessageRate
        | Label::Replaced
        | Label::Kicked
        | Label::SlowConsumer
        | Label::Drained => return ending(label),
    };
    Explanation { what, cure }
}

/// What a label says of a session that has ended.
// A table in the form of a function.
#[allow(clippy::too_many_lines, reason = "one row per label")]
pub(crate) const fn ending(label: Label) -> Explanation {
    let (what, cure) = match label {
        Label::ClientClosed => {
            ("The client closed the session.", "Nothing is wrong, unless its close code says so.")
        }
        Label::UpstreamClosed => (
            "The upstream closed the session.",
            "Its close code is the backend's own: if it is no ordinary end, look at the backend's log.",
        ),
        Label::ClientViolation => (
            "The client broke the WebSocket protocol or a limit on messages.",
            "Mend the client's library or raise the limit it met; the detail says which rule it was.",
        ),
        Label::UpstreamViolation => (
            "The upstream broke the WebSocket protocol or a limit on messages.",
            "Mend the backend or raise the limit it met; the detail says which rule it was.",
        ),
        Label::ClientLost => (
            "The client's connection ended without a Close.",
            "A page that was left or a network that went away looks like this; if it is frequent, look at what stands between client and gateway.",
        ),
        Label::UpstreamLost => (
            "The upstream's connection ended without a Close.",
            "A backend that crashed or was restarted looks like this: look at its log.",
        ),
        Label::ClientTimeout => (
            "The client answered no ping in time or stopped reading.",
            "A device that sleeps or lost its network looks like this; `keepalive` and `write_stall` are the limits.",
        ),
        Label::UpstreamStalled => (
            "The upstream answered no ping in time or stopped reading.",
            "Look at the backend: it hangs or is overloaded.",
        ),
        Label::Idle => (
            "No data message passed either way for `timeouts.idle`.",
            "If sessions may be silent for longer, raise `timeouts.idle`; pings prove life without it.",
        ),
        Label::MessageRate => (
            "The client sent more frames than allowed.",
            "Look for a loop in the client, or raise the limit `messages` of the route.",
        ),
        Label::TokenExpired => (
            "The token expired during the session.",
            "Nothing is wrong: the client comes back with a fresh token.",
        ),
        Label::Replaced => (
            "A newer connection of the same user took its place.",
            "Nothing is wrong, unless clients reconnect while their old connection is open; `connections_per_user` is the limit.",
        ),
        Label::Kicked => (
            "An operator ended the session over the admin API.",
            "Nothing is wrong: the gateway's log has the request.",
        ),
        Label::SlowConsumer => (
            "The client read too slowly while memory for slow readers was short.",
            "Look at pending_bytes in the metrics: send less, or raise `limits.pending_bytes`.",
        ),
        Label::Drained => (
            "The gateway, or the endpoint behind it, was being drained.",
            "Nothing is wrong: the client comes back when its close reason says.",
        ),
        Label::Internal => INTERNAL,
        Label::BadRequest
        | Label::NoRoute
        | Label::OriginDenied
        | Label::TokenMissing
        | Label::TokenMalformed
        | Label::TokenNotYetValid
        | Label::TokenSignature
        | Label::TokenKeyUnknown
        | Label::TokenIssuer
        | Label::TokenAudience
        | Label::TokenKind
        | Label::Forbidden
        | Label::UserLimit
        | Label::AddressLimit
        | Label::RateLimited
        | Label::Overloaded
        | Label::Draining
        | Label::KeysUnavailable
        | Label::UpstreamTimeout
        | Label::UpstreamUnreachable
        | Label::UpstreamRefused
        | Label::UpstreamProtocol => return refusal(label),
    };
    Explanation { what, cure }
}

/// A client that left before its handshake was answered.
pub(crate) const ABANDONED: Explanation = Explanation {
    what: "The client left before its handshake was answered.",
    cure: "If that took long, look at the steps: the slowest one made it leave.",
};

/// Who ended a connection, why, and what to do if it was a fault.
pub(crate) fn sentence(record: &SessionRecord) -> String {
    let explanation = match record.outcome {
        Outcome::Ended(Label::UpstreamClosed) if is_illegal(record) => ILLEGALLY_BY_UPSTREAM,
        Outcome::Ended(Label::ClientClosed) if is_illegal(record) => ILLEGALLY_BY_CLIENT,
        Outcome::Refused(refused) if refused.label == Label::UpstreamUnreachable => {
            unreachable(record.detail.as_deref().unwrap_or_default())
        }
        Outcome::Refused(refused) => refusal(refused.label),
        Outcome::Ended(label) => ending(label),
        Outcome::Abandoned | Outcome::NoRequest(_) => ABANDONED,
    };
    let mut sentence = explanation.what.trim_end_matches('.').to_owned();
    if let Outcome::Ended(label) = record.outcome {
        let said = match label {
            // What was exchanged then is the gateway's own answer.
            _ if is_illegal(record) => CloseStatus::None,
            Label::ClientClosed => record.client_close,
            Label::UpstreamClosed => record.upstream_close,
            _ => CloseStatus::None,
        };
        match said {
            CloseStatus::Code(code) => sentence.push_str(&format!(" with code {code}")),
            CloseStatus::Empty => sentence.push_str(" without a code"),
            CloseStatus::None => {}
        }
    }
    if let Some(detail) = &record.detail {
        sentence.push_str(&format!(" ({detail})"));
    }
    if record.cut_frame {
        sentence.push_str(", in the middle of a frame");
    }
    format!("{sentence}. {}", explanation.cure)
}

/// What to do for an upstream that cannot be reached depends on why, which the detail ends with.
fn unreachable(detail: &str) -> Explanation {
    let explanation = refusal(Label::UpstreamUnreachable);
    let why = detail.split_once("reached: ").map_or("", |(_, why)| why);
    let cure = match why {
        "dns" => {
            "Its name cannot be resolved: correct it in `endpoints`, or look at this machine's name servers."
        }
        "timeout" => {
            "Nothing answers at its address: look whether its host is up and what a firewall between does with packets."
        }
        _ if why.starts_with("its certificate is not accepted") => {
            "Set `ca` of the upstream to the authority that signed it, or get a certificate that is valid and names the host."
        }
        _ if why.starts_with("TLS: ") => {
            "See whether the endpoint speaks TLS there, 1.2 or 1.3: if it speaks none, write http:// in `endpoints`."
        }
        _ => explanation.cure,
    };
    Explanation { cure, ..explanation }
}

/// Whether a side closed with a code that must not be sent: only then has such an end a detail.
fn is_illegal(record: &SessionRecord) -> bool {
    record.detail.is_some()
        && matches!(record.outcome, Outcome::Ended(Label::ClientClosed | Label::UpstreamClosed))
}

const ILLEGALLY_BY_UPSTREAM: Explanation = Explanation {
    what: "The upstream closed the session with a code that must not be sent.",
    cure: "Have the backend close with 1000 to 1003, 1007 to 1014 or 3000 to 4999; 1005 and 1006 are what a page sees, not what is sent.",
};

const ILLEGALLY_BY_CLIENT: Explanation = Explanation {
    what: "The client closed the session with a code that must not be sent.",
    cure: "Mend the client's library: browsers let a page close with 1000 or 3000 to 4999 only.",
};

const INTERNAL: (&str, &str) = (
    "A fault of the gateway itself.",
    "Look in the gateway's log for an error at this time, and report it.",
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::record::Refused;
    use crate::telemetry::testing::record;

    #[test]
    fn every_label_has_words_of_its_own() {
        let mut seen = std::collections::HashSet::new();
        for (label, explain) in Label::refusals()
            .map(|label| (label, refusal as fn(_) -> _))
            .chain(Label::endings().map(|label| (label, ending as fn(_) -> _)))
        {
            let Explanation { what, cure } = explain(label);
            for text in [what, cure] {
                assert!(text.ends_with('.') && text.len() > 20, "{label}: {text}");
                assert!(text.starts_with(|c: char| c.is_uppercase()), "{label}: {text}");
            }
            assert!(seen.insert(what), "{label} says the same as another: {what}");
        }
    }

    #[test]
    fn a_label_that_is_only_one_of_both_means_the_same_either_way() {
        assert_eq!(refusal(Label::ClientLost), ending(Label::ClientLost));
        assert_eq!(ending(Label::NoRoute), refusal(Label::NoRoute));
        assert_ne!(ending(Label::TokenExpired), refusal(Label::TokenExpired));
    }

    #[test]
    fn sentences_say_what_is_known() {
        let refused = |label| Outcome::Refused(Refused { label, status: 401 });
        let rows = [
            (
                record(),
                "The client closed the session with code 1000. Nothing is wrong, unless its close code says so.",
            ),
            (
                SessionRecord { client_close: CloseStatus::Empty, ..record() },
                "The client closed the session without a code. Nothing is wrong, unless its close code says so.",
            ),
            (
                SessionRecord {
                    outcome: Outcome::Ended(Label::ClientViolation),
                    detail: Some("client: a reserved bit is set".into()),
                    cut_frame: true,
                    ..record()
                },
                "The client broke the WebSocket protocol or a limit on messages (client: a reserved bit is set), \
                 in the middle of a frame. Mend the client's library or raise the limit it met; the detail says which rule it was.",
            ),
            (
                SessionRecord { outcome: refused(Label::TokenKind), ..record() },
                "The client's token is of another kind, such as a refresh token. Have the client send its access token.",
            ),
            (
                SessionRecord { outcome: Outcome::Abandoned, ..record() },
                "The client left before its handshake was answered. If that took long, look at the steps: the slowest one made it leave.",
            ),
        ];
        for (record, expected) in rows {
            assert_eq!(sentence(&record), expected);
        }
    }

    #[test]
    fn what_to_do_for_an_unreachable_upstream_depends_on_why() {
        use crate::net::connect::ConnectError;
        use crate::net::tls_fault::{CertificateFault, TlsFault};
        let refused = |kind: std::io::ErrorKind| ConnectError::Socket(kind.into()).detail();
        let rows = [
            (refused(std::io::ErrorKind::ConnectionRefused), "runs and listens"),
            (refused(std::io::ErrorKind::TimedOut), "Nothing answers at its address"),
            (ConnectError::Dns(std::io::Error::other("x")).detail(), "name cannot be resolved"),
            (ConnectError::Certificate(CertificateFault::UnknownIssuer).detail(), "Set `ca` of"),
            (ConnectError::Tls(TlsFault::NotTls).detail(), "whether the endpoint speaks TLS"),
            ("it closed without an answer".to_owned(), "runs and listens"),
        ];
        for (why, cure) in rows {
            let rejection = crate::outcome::rejection::Rejection::UpstreamUnreachable(why);
            let said = sentence(&SessionRecord {
                outcome: Outcome::Refused(Refused { label: rejection.label(), status: 502 }),
                detail: Some(rejection.to_string()),
                ..record()
            });
            assert!(said.contains(cure) && said.contains(&rejection.to_string()), "{said}");
        }
    }

    #[test]
    fn whose_close_code_it_was_is_said_of_legal_ones_only() {
        let rows = [
            (
                SessionRecord {
                    outcome: Outcome::Ended(Label::UpstreamClosed),
                    upstream_close: CloseStatus::Code(1002),
                    detail: Some("upstream: close code 1005 must not be sent".into()),
                    ..record()
                },
                "The upstream closed the session with a code that must not be sent \
                 (upstream: close code 1005 must not be sent). Have the backend close with 1000 to 1003, 1007 to 1014 \
                 or 3000 to 4999; 1005 and 1006 are what a page sees, not what is sent.",
            ),
            (
                SessionRecord {
                    client_close: CloseStatus::Code(1002),
                    detail: Some("client: close code 1005 must not be sent".into()),
                    ..record()
                },
                "The client closed the session with a code that must not be sent \
                 (client: close code 1005 must not be sent). Mend the client's library: browsers let a page close \
                 with 1000 or 3000 to 4999 only.",
            ),
            (
                SessionRecord {
                    outcome: Outcome::Ended(Label::UpstreamClosed),
                    upstream_close: CloseStatus::Code(4000),
                    ..record()
                },
                "The upstream closed the session with code 4000. Its close code is the backend's own: if it is no \
                 ordinary end, look at the backend's log.",
            ),
        ];
        for (record, expected) in rows {
            assert_eq!(sentence(&record), expected);
        }
    }
}
