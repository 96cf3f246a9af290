//! Close codes by number, for reasons that are not a label. Pure.

use super::{Retry, Words};

const fn no(explanation: &'static str, remedy: &'static str) -> Words {
    Words { explanation, cause: "", remedy, retry: Retry::No }
}

const fn later(explanation: &'static str, remedy: &'static str) -> Words {
    Words { explanation, cause: "", remedy, retry: Retry::Later }
}

/// Close codes by number, for reasons that are no label: sent by a backend, or made up by the browser.
pub(crate) const CODES: &[(&str, &str, Words)] = &[
    (
        "1000",
        "normal",
        no("One side is done.", "Nothing is wrong; reconnect only if the user wants to."),
    ),
    (
        "1001",
        "going away",
        later("The page was left, or the server goes down.", "Reconnect with a pause."),
    ),
    (
        "1002",
        "protocol error",
        no("One side broke the WebSocket protocol.", "Fix the side that sent the wrong frame."),
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
            "The side that closes should say why, with a code.",
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
        no("A text message was not UTF-8.", "Fix the side that sent it; send bytes as binary."),
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
