//! The labels in words: the table. Pure.

use super::{Retry, Words};
use crate::outcome::label::Label;

/// What a label says of a handshake that was refused.
#[allow(clippy::too_many_lines, reason = "one row per label")]
pub(crate) const fn refusal(label: Label) -> Words {
    match label {
        Label::BadRequest => Words {
            explanation: "The client's request is not a valid WebSocket handshake.",
            cause: "A proxy in between changed the handshake, or what connected is not a WebSocket client.",
            remedy: "If it comes through another proxy, have that one pass the Upgrade and Connection headers on; else mend the client.",
            retry: Retry::No,
        },
        Label::NoRoute => Words {
            explanation: "No route has this host and path, or a path parameter has the wrong form.",
            cause: "Another path or host was typed, or `parameters` asks for another form (uuid, integer).",
            remedy: "Compare host and path with the routes of the configuration.",
            retry: Retry::No,
        },
        Label::OriginDenied => Words {
            explanation: "The page's Origin is not in the route's list.",
            cause: "The list has another scheme, host or port than the page.",
            remedy: "If the page is yours, add its origin to the route's `origins`.",
            retry: Retry::No,
        },
        Label::TokenMissing => Words {
            explanation: "The client sent no token where the route's verifier looks for one.",
            cause: "A page has subprotocol, query or cookie, never a header.",
            remedy: "Have the client send its token, or add the place it uses to the verifier's `sources`.",
            retry: Retry::No,
        },
        Label::TokenMalformed => Words {
            explanation: "What the client sent as a token is no well-formed JWT.",
            cause: "Quotes, \"Bearer \", a line break or a cut-off end are the usual faults.",
            remedy: "Look at how the client obtains and sends its token; the detail says which rule of form it breaks.",
            retry: Retry::No,
        },
        Label::TokenExpired => Words {
            explanation: "The client's token had expired.",
            cause: "The token was kept for longer than it is valid, or the clocks differ.",
            remedy: "Have the client fetch a fresh token before it connects; if tokens are fresh, compare the clocks of issuer and gateway.",
            retry: Retry::No,
        },
        Label::TokenNotYetValid => Words {
            explanation: "The client's token begins to be valid only later.",
            cause: "The token's `nbf` or `iat` lies in the future: the issuer's clock is ahead of the gateway's.",
            remedy: "Compare the clocks of issuer and gateway; `leeway` allows for a difference.",
            retry: Retry::No,
        },
        Label::TokenSignature => Words {
            explanation: "The signature of the client's token does not verify.",
            cause: "The token was signed with another key, or changed on the way.",
            remedy: "Compare the verifier's key with the issuer's; a token of another environment looks like this.",
            retry: Retry::No,
        },
        Label::TokenKeyUnknown => Words {
            explanation: "No key of the verifier has the token's kid and algorithm.",
            cause: "The issuer has changed its keys, or the algorithm is not the one configured.",
            remedy: "If the issuer has new keys, add them to the verifier's `keys`.",
            retry: Retry::No,
        },
        Label::TokenIssuer => Words {
            explanation: "The client's token comes from another issuer.",
            cause: "The `iss` of a token must be the same to the last slash.",
            remedy: "If that issuer is to be trusted, add it to the verifier's `issuers`.",
            retry: Retry::No,
        },
        Label::TokenAudience => Words {
            explanation: "The client's token is meant for another audience.",
            cause: "The token's `aud` is none of the verifier's.",
            remedy: "Have the client ask for a token for this service, or add the audience to the verifier's `audiences`.",
            retry: Retry::No,
        },
        Label::TokenKind => Words {
            explanation: "The client's token is of another kind, such as a refresh token.",
            cause: "Clients with several tokens at hand send the wrong one.",
            remedy: "Have the client send its access token.",
            retry: Retry::No,
        },
        Label::Forbidden => Words {
            explanation: "The token is good, but an authorisation rule of the route does not hold.",
            cause: "A claim does not have what the route asks for; the user may not be a member.",
            remedy: "If the user should be allowed, look at the claims of the token and at the route's `authorize`.",
            retry: Retry::No,
        },
        Label::UserLimit => Words {
            explanation: "The user has as many connections as allowed.",
            cause: "This user has as many connections open as allowed: other tabs or devices, or a client that reconnects without closing.",
            remedy: "Look for clients of the user that do not close; `connections_per_user` is the limit.",
            retry: Retry::Later,
        },
        Label::AddressLimit => Words {
            explanation: "The address has as many connections as allowed.",
            cause: "This client address has as many connections open as allowed: many users share it, or it is a balancer's.",
            remedy: "If many users share the address, or a proxy stands in front, raise `connections_per_address` or name the proxy in `trusted_proxies`.",
            retry: Retry::Later,
        },
        Label::RateLimited => Words {
            explanation: "The address connects too often.",
            cause: "A client at this address reconnects without waiting, or many users share the address.",
            remedy: "Look for a client that reconnects without waiting; `handshakes_per_address` is the limit.",
            retry: Retry::Later,
        },
        Label::Overloaded => Words {
            explanation: "The gateway has as many connections as allowed.",
            cause: "The gateway has as many connections as `limits.connections` allows.",
            remedy: "Raise `limits.connections` (and the limit of open files) or add a gateway.",
            retry: Retry::Later,
        },
        Label::Draining => Words {
            explanation: "The gateway was going down.",
            cause: "This gateway is being shut down, restarted or updated, and takes no new connections.",
            remedy: "Nothing is wrong: the client comes back to another gateway or after the restart.",
            retry: Retry::Later,
        },
        Label::KeysUnavailable => Words {
            explanation: "The keys to check tokens with could not be loaded yet.",
            cause: "The gateway could not load the issuer's keys since it started.",
            remedy: "Look at the verifier in GET /health/ws: its issuer must be reachable.",
            retry: Retry::Later,
        },
        Label::UpstreamTimeout => Words {
            explanation: "The upstream took too long to connect or to answer the handshake.",
            cause: "The backend behind framegate hangs on something it needs (a database, Redis), is overloaded, or a firewall drops its packets.",
            remedy: "Look at the backend: it hangs or is overloaded; `connect_timeout` and `handshake_timeout` are the limits.",
            retry: Retry::Later,
        },
        Label::UpstreamUnreachable => Words {
            explanation: "The upstream could not be reached, or closed before it answered.",
            cause: "The backend behind framegate cannot be reached: it is down, `endpoints` has a wrong address or name, or its certificate is not accepted.",
            remedy: "See whether the backend runs and listens where the configuration says.",
            retry: Retry::Later,
        },
        Label::UpstreamRefused => Words {
            explanation: "The upstream answered the handshake with an HTTP status instead of 101.",
            cause: "A wrong path, its own authentication, a redirect or an error; its answer is passed on where the refusal goes by HTTP.",
            remedy: "The refusal is the backend's own: look at its log for this request id (X-Request-Id).",
            retry: Retry::Later,
        },
        Label::UpstreamProtocol => Words {
            explanation: "The upstream's 101 breaks the WebSocket protocol.",
            cause: "The backend behind framegate broke the rules of the handshake: a wrong accept key, an extension that was not offered, or it is not a WebSocket server.",
            remedy: "Mend the backend, or whatever stands between it and the gateway; the detail says what is wrong.",
            retry: Retry::Later,
        },
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
        | Label::Drained => ending(label),
    }
}

/// What a label says of a session that has ended.
#[allow(clippy::too_many_lines, reason = "one row per label")]
pub(crate) const fn ending(label: Label) -> Words {
    match label {
        Label::ClientClosed => Words {
            explanation: "The client closed the session.",
            cause: "The client ended the session on purpose, and got its own code back.",
            remedy: "Nothing is wrong, unless its close code says so.",
            retry: Retry::No,
        },
        Label::UpstreamClosed => Words {
            explanation: "The upstream closed the session.",
            cause: "The code and reason are the backend's own.",
            remedy: "Its close code is the backend's own: if it is no ordinary end, look at the backend's log.",
            retry: Retry::Later,
        },
        Label::ClientViolation => Words {
            explanation: "The client broke the WebSocket protocol or a limit on messages.",
            cause: "1002 is a wrong frame, 1007 text that is not UTF-8, 1009 a message over `message_size`.",
            remedy: "Mend the client's library or raise the limit it met; the detail says which rule it was.",
            retry: Retry::No,
        },
        Label::UpstreamViolation => Words {
            explanation: "The upstream broke the WebSocket protocol or a limit on messages.",
            cause: "The backend behind framegate sent frames that break RFC 6455; compressed frames (RSV1) that neither side agreed to are the usual ones.",
            remedy: "Mend the backend or raise the limit it met; the detail says which rule it was.",
            retry: Retry::Later,
        },
        Label::ClientLost => Words {
            explanation: "The client's connection ended without a Close.",
            cause: "Phones and closed laptops leave like this.",
            remedy: "A page that was left or a network that went away looks like this; if it is frequent, look at what stands between client and gateway.",
            retry: Retry::Later,
        },
        Label::UpstreamLost => Words {
            explanation: "The upstream's connection ended without a Close.",
            cause: "The backend behind framegate went away without a Close: a crash, a restart, or a worker's time limit.",
            remedy: "A backend that crashed or was restarted looks like this: look at its log.",
            retry: Retry::Later,
        },
        Label::ClientTimeout => Words {
            explanation: "The client answered no ping in time or stopped reading.",
            cause: "The client's network was gone, its device asleep, or its page was blocked.",
            remedy: "A device that sleeps or lost its network looks like this; `keepalive` and `write_stall` are the limits.",
            retry: Retry::Later,
        },
        Label::UpstreamStalled => Words {
            explanation: "The upstream answered no ping in time or stopped reading.",
            cause: "The backend behind framegate hangs or is overloaded; it must answer pings.",
            remedy: "Look at the backend: it hangs or is overloaded.",
            retry: Retry::Later,
        },
        Label::Idle => Words {
            explanation: "No data message passed either way for `timeouts.idle`.",
            cause: "No message was sent for as long as `timeouts.idle` allows.",
            remedy: "If sessions may be silent for longer, raise `timeouts.idle`; pings prove life without it.",
            retry: Retry::Later,
        },
        Label::MessageRate => Words {
            explanation: "The client sent more frames than allowed.",
            cause: "More messages came than `messages.rate` allows; a loop in the client is the usual reason.",
            remedy: "Look for a loop in the client, or raise the limit `messages` of the route.",
            retry: Retry::Later,
        },
        Label::TokenExpired => Words {
            explanation: "The token expired during the session.",
            cause: "The session counts only as long as its token.",
            remedy: "Nothing is wrong: the client comes back with a fresh token.",
            retry: Retry::No,
        },
        Label::Replaced => Words {
            explanation: "A newer connection of the same user took its place.",
            cause: "A newer connection of the same user took the place of this one; a client that reconnects by itself evicts its own other tab.",
            remedy: "Nothing is wrong, unless clients reconnect while their old connection is open; `connections_per_user` is the limit.",
            retry: Retry::No,
        },
        Label::Kicked => Words {
            explanation: "An operator ended the session over the admin API.",
            cause: "An operator ended this connection; the close reason may say why.",
            remedy: "Nothing is wrong: the gateway's log has the request.",
            retry: Retry::No,
        },
        Label::SlowConsumer => Words {
            explanation: "The client read too slowly while memory for slow readers was short.",
            cause: "The client's network or page takes less than it is sent.",
            remedy: "Look at pending_bytes in the metrics: send less, or raise `limits.pending_bytes`.",
            retry: Retry::Later,
        },
        Label::Drained => Words {
            explanation: "The gateway, or the endpoint behind it, was being drained.",
            cause: "The gateway is being shut down or restarted, or the endpoint behind it is emptied.",
            remedy: "Nothing is wrong: the client comes back when its close reason says.",
            retry: Retry::Later,
        },
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
        | Label::UpstreamProtocol => refusal(label),
    }
}

const INTERNAL: Words = Words {
    explanation: "A fault of the gateway itself.",
    cause: "A fault of the gateway itself, whose log has the error for this request id.",
    remedy: "Look in the gateway's log for an error at this time, and report it.",
    retry: Retry::Later,
};
