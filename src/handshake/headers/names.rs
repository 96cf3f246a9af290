//! Which headers of a client are copied, by their names. Pure.

use http::header::{AUTHORIZATION, COOKIE, HOST, HeaderName, ORIGIN};

/// A name as a backend may read it. Every character that is not a letter or a digit is `-`: CGI, WSGI and PHP
/// make the same variable of them, so `X_Auth_User` and `X.Auth.User` would be believed as X-Auth-User.
pub(crate) fn normalised(name: &str) -> String {
    let map = |character: char| match character {
        character if character.is_ascii_alphanumeric() => character.to_ascii_lowercase(),
        _ => '-',
    };
    name.chars().map(map).collect()
}

/// Whether a client's header of this (normalised) name is never copied, on any route.
pub(super) fn is_ours(name: &str) -> bool {
    OF_THE_HOP.contains(&name) || is_set_anew(name) || name.starts_with("x-forwarded-")
}

/// Whether the gateway itself says what a header of this (normalised) name says, of the hop or of the client.
pub(crate) fn is_set_anew(name: &str) -> bool {
    OF_THE_HOP.contains(&name) || SET_ANEW.contains(&name)
}

/// RFC 9110 section 7.6.1: what Connection lists belongs to the hop. Not what the gateway decided by:
/// the upstream must not miss an Origin or credential that the gateway saw.
pub(super) fn is_listed(name: &HeaderName, listed: &[&[u8]]) -> bool {
    !DECIDED_BY.contains(name)
        && listed.iter().any(|listed| listed.eq_ignore_ascii_case(name.as_str().as_bytes()))
}

/// Headers of the hop, of the handshake, and of a body.
const OF_THE_HOP: &[&str] = &[
    "host",
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "content-length",
    "expect",
    "via",
    "sec-websocket-extensions",
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-protocol",
    "sec-websocket-accept",
];

/// Headers by which a backend believes a proxy.
const SET_ANEW: &[&str] = &[
    "x-request-id",
    "x-real-ip",
    "forwarded",
    "x-auth-user",
    "x-auth-claims",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
];

const DECIDED_BY: &[HeaderName] = &[HOST, ORIGIN, COOKIE, AUTHORIZATION];
