//! The sentences: what happened, what to do, and whether to come back. Pure.

use super::{Meaning, Retry};
use crate::outcome::label::Label;

/// What a label means.
#[allow(clippy::too_many_lines, reason = "one row per label")]
pub(crate) fn meaning(label: Label) -> Meaning {
    match label {
        Label::BadRequest => no(
            "The request was no valid WebSocket handshake.",
            "Connect with a WebSocket client, and let proxies in between pass on Upgrade, Connection and Sec-WebSocket-*.",
        ),
        Label::NoRoute => no(
            "Nothing is served at this host and path, or a part of the path has the wrong form.",
            "Compare host and path with the [[route]] entries: path, parameters (uuid, integer), hosts.",
        ),
        Label::OriginDenied => no(
            "Pages of this origin may not connect to this route.",
            "Add the page's origin, with its scheme and port, to `origins` of the route.",
        ),
        Label::TokenMissing => no(
            "No token was found where the route looks for one.",
            "Send it where `sources` of the verifier says; a page has subprotocol, query or cookie, never a header.",
        ),
        Label::TokenMalformed => no(
            "What was sent as a token is no JWT, or one of the wrong form.",
            "Send the token alone, unchanged: no quotes, no \"Bearer \", no line break, not cut off.",
        ),
        Label::TokenExpired => no(
            "The token's `exp` has passed.",
            "Get a fresh token before every attempt; if it is fresh, compare the clocks of issuer and gateway.",
        ),
        Label::TokenNotYetValid => no(
            "The token's `nbf` or `iat` lies in the future.",
            "The issuer's clock is ahead of the gateway's: set both by NTP, or raise `leeway`.",
        ),
        Label::TokenSignature => no(
            "The token's signature does not verify with the gateway's key.",
            "Signed with another key, or changed on the way: compare the issuer's key with `keys` of the verifier.",
        ),
        Label::TokenKeyUnknown => no(
            "The gateway has no key for the token's `kid` and algorithm.",
            "Add the issuer's new key to the verifier and reload; check that the algorithm is the one configured.",
        ),
        Label::TokenIssuer => no(
            "The token comes from another issuer.",
            "Compare the token's `iss` with `issuers` of the verifier, to the last slash.",
        ),
        Label::TokenAudience => no(
            "The token is meant for another service.",
            "Ask for a token with an `aud` that is in `audiences` of the verifier.",
        ),
        Label::TokenKind => no(
            "The token is of another kind, such as a refresh token or an ID token.",
            "Send the access token.",
        ),
        Label::Forbidden => no(
            "The token is good, but does not allow this: a claim does not have what the route asks for.",
            "Compare the token's claims with `authorize` of the route; the user may not be a member.",
        ),
        Label::UserLimit => later(
            "This user has as many connections as allowed.",
            "Close other tabs; look for a client that reconnects without closing, or raise `connections_per_user`.",
        ),
        Label::AddressLimit => later(
            "This client address has as many connections as allowed.",
            "Many users behind one address? Raise `connections_per_address`, or set `trusted_proxies` if it is your balancer's.",
        ),
        Label::RateLimited => later(
            "This client address connects too often.",
            "Wait as long as Retry-After says; clients must back off between attempts.",
        ),
        Label::Overloaded => later(
            "The gateway has as many connections as it may have.",
            "Try again later; the operator can raise `limits.connections` or add a gateway.",
        ),
        Label::Draining => later(
            "The gateway is going down and takes nobody new.",
            "Try again: another gateway, or its successor, will answer.",
        ),
        Label::KeysUnavailable => later(
            "The gateway could not load any key to check tokens with yet.",
            "Try again later; the operator looks why the keys cannot be fetched.",
        ),
        Label::UpstreamTimeout => later(
            "The backend did not answer in time.",
            "Look at the backend: it hangs, is overloaded, or a firewall swallows its packets.",
        ),
        Label::UpstreamUnreachable => later(
            "The gateway could not connect to the backend: it refused or reset the connection, its name is unknown, or its certificate is not accepted.",
            "Look whether the backend runs and listens at the configured endpoint; the gateway's log says why it failed.",
        ),
        Label::UpstreamRefused => later(
            "The backend answered something else than 101; its own 401, 403, 404 and 429 are passed on.",
            "Look at the backend's log: wrong path, its own authentication, a redirect, an error.",
        ),
        Label::UpstreamProtocol => later(
            "The backend's 101 breaks the protocol: a wrong accept key, or something nobody asked for.",
            "Mend the backend's WebSocket handshake; something that is no WebSocket server may listen there.",
        ),
        Label::ClientClosed => no(
            "The client closed the connection, and got its own code back.",
            "Nothing to mend, unless the client had no reason: look at its own log.",
        ),
        Label::UpstreamClosed => later(
            "The backend closed the connection; the code and reason are its own.",
            "The backend's documentation or log says what they mean.",
        ),
        Label::ClientViolation => no(
            "The client broke the WebSocket protocol, or sent a larger message than allowed.",
            "Mend the client: 1002 is a wrong frame, 1007 text that is no UTF-8, 1009 a message over `message_size`.",
        ),
        Label::UpstreamViolation => later(
            "The backend sent frames that break the WebSocket protocol.",
            "Mend the backend; often it compresses though nobody agreed to it, or two tasks write at once.",
        ),
        Label::ClientLost => later(
            "The client's connection broke without a Close.",
            "Usual for phones and closed laptops; if it is everybody, look at what is between client and gateway.",
        ),
        Label::UpstreamLost => later(
            "The backend's connection broke without a Close.",
            "Look at the backend: it crashed, was restarted or killed, or drops connections without closing.",
        ),
        Label::ClientTimeout => later(
            "The client answered no ping in time, or stopped reading.",
            "The network was gone, the device asleep, or the page was blocked; reconnect.",
        ),
        Label::UpstreamStalled => later(
            "The backend answered no ping in time, or stopped reading.",
            "Look at the backend: it hangs or is overloaded; it must answer pings.",
        ),
        Label::Idle => later(
            "No message went either way for `timeouts.idle`.",
            "Send something now and then, or raise `timeouts.idle`.",
        ),
        Label::MessageRate => later(
            "The client sent more frames than `messages.rate` allows.",
            "Send less, or in larger pieces; a loop in the client is a common cause.",
        ),
        Label::Replaced => no(
            "A newer connection of the same user took the place.",
            "The user is connected elsewhere: show that, and do not reconnect by yourself, or two tabs end each other for ever.",
        ),
        Label::Kicked => {
            no("An operator ended the session.", "Ask the operator; do not reconnect by yourself.")
        }
        Label::SlowConsumer => later(
            "The client read too slowly while the gateway's memory for slow readers was short.",
            "Read faster, or ask for less; then reconnect.",
        ),
        Label::Drained => later(
            "The gateway went down for an update or restart.",
            "Reconnect after the time named in the reason (`drained;retry=7s`).",
        ),
        Label::Internal => later(
            "A fault of the gateway.",
            "Report it with the request id; reconnect with a pause.",
        ),
    }
}

const fn no(meaning: &'static str, cure: &'static str) -> Meaning {
    Meaning { meaning, cure, retry: Retry::No }
}

const fn later(meaning: &'static str, cure: &'static str) -> Meaning {
    Meaning { meaning, cure, retry: Retry::Later }
}

/// Close codes by number, for reasons that are no label: sent by a backend, or made up by the browser.
pub(super) const CODES: &[(&str, &str, Meaning)] = &[
    (
        "1000",
        "normal",
        no("One side is done.", "Nothing to mend; reconnect only if the user wants to."),
    ),
    (
        "1001",
        "going away",
        later("The page was left, or the server goes down.", "Reconnect with a pause."),
    ),
    (
        "1002",
        "protocol error",
        no("One side broke the WebSocket protocol.", "Mend who sent the wrong frame."),
    ),
    (
        "1003",
        "unsupported data",
        no(
            "One side cannot use this kind of message.",
            "Send text instead of binary, or the other way round.",
        ),
    ),
    (
        "1005",
        "no code",
        no(
            "The Close had no code. This number is never sent: the browser makes it up.",
            "Whoever closes should say why, with a code.",
        ),
    ),
    (
        "1006",
        "no Close at all",
        later(
            "The connection ended, or never began, without a Close. This number is never sent: the browser makes it up, and hides why.",
            "See the list of causes; the gateway's log line or its dashboard says which one it was.",
        ),
    ),
    (
        "1007",
        "invalid data",
        no("A text message was no UTF-8.", "Mend who sent it; send bytes as binary."),
    ),
    (
        "1008",
        "policy",
        no(
            "A rule of the backend was broken, often its own authentication.",
            "Look at the backend's log.",
        ),
    ),
    (
        "1009",
        "too big",
        no("A message was larger than allowed.", "Send smaller ones, or raise `message_size`."),
    ),
    (
        "1010",
        "extension missing",
        no(
            "The client insists on an extension.",
            "Connect without it: the gateway agrees to none.",
        ),
    ),
    (
        "1011",
        "server error",
        later("The backend failed.", "Look at the backend's log; reconnect with a pause."),
    ),
    (
        "1012",
        "restart",
        later("The server restarts.", "Reconnect with a pause, after the time in the reason."),
    ),
    (
        "1013",
        "try again later",
        later("The server is overloaded or not ready.", "Reconnect with a longer pause."),
    ),
    (
        "1014",
        "bad gateway",
        later(
            "The backend behind the gateway gave no good answer.",
            "Look whether the backend runs.",
        ),
    ),
    (
        "1015",
        "TLS failure",
        later(
            "The TLS handshake failed. This number is never sent: the browser makes it up.",
            "See untrusted certificates below.",
        ),
    ),
    (
        "4401",
        "unauthorized",
        no("The token is missing, wrong or has expired.", "Get a fresh token, then reconnect."),
    ),
    (
        "4403",
        "forbidden",
        no(
            "This user or page may not do that, or an operator ended it.",
            "Do not reconnect by yourself.",
        ),
    ),
    ("4404", "not found", no("Nothing is served there.", "Compare the URL with the routes.")),
    (
        "4408",
        "timeout",
        later("A side was silent or too slow for too long.", "Reconnect with a pause."),
    ),
    (
        "4409",
        "replaced",
        no("A newer connection of the user took the place.", "Do not reconnect by yourself."),
    ),
    (
        "4429",
        "too many",
        later("Too many connections or messages.", "Reconnect with a longer pause."),
    ),
];
