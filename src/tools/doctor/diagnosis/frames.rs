//! Frames that break the rules, and ends without a Close. Pure.

use super::super::report::{Finding, StepName};
use crate::protocol::ws::violation::Violation;

/// A frame that breaks a rule: the step it belongs to when it came at `shown_at`, cause and cure.
/// `begin` is what it begins with.
pub(crate) fn violation(
    violation: Violation,
    begin: [u8; 2],
    shown_at: StepName,
) -> (StepName, Finding) {
    let [first, _] = begin;
    if let Some(finding) = broken_close(violation, begin) {
        return (shown_at, finding);
    }
    let (step, cause, cure) = match violation {
        // RFC 7692 section 7: RSV1 is how permessage-deflate marks a compressed message.
        Violation::Rsv if first & 0x70 == 0x40 && first & 0x0f <= 2 => (
            StepName::Extensions,
            "the server sends compressed frames (RSV1 is set) although nobody agreed on compression: it does not \
             look at the handshake, or a proxy between took the agreement out"
                .to_owned(),
            "switch permessage-deflate off on the server, or let no proxy answer the extension header for it",
        ),
        Violation::Rsv if first & 0x80 != 0 => (
            StepName::Extensions,
            "the server sets reserved bits in its frames, which only an extension could explain, and none was agreed on"
                .to_owned(),
            "renew the server's WebSocket library; if there is a proxy between, see that it passes the stream unchanged",
        ),
        Violation::Mask => (
            shown_at,
            "the server masks its frames, which only clients may: it is a client library used as a server, or the \
             two ends were mixed up in a proxy"
                .to_owned(),
            "use the server side of the library",
        ),
        Violation::Utf8 => (
            shown_at,
            "the server sent text that is not UTF-8, which every browser fails with 1007".to_owned(),
            "send it as a binary message, or encode it as UTF-8",
        ),
        Violation::CloseCode(code) => (
            shown_at,
            format!("the server closed with {code}, a code that must never be sent"),
            "make it send 1000 to 1003, 1007 to 1014 or 3000 to 4999; 1005 and 1006 are what a page sees, not what is sent",
        ),
        Violation::Rsv | Violation::Opcode | Violation::Length | Violation::Fragmentation | Violation::Control => (
            shown_at,
            format!("what the server sent is no proper frame ({violation}): it does not speak WebSocket behind its \
                     101, or something between changes the stream"),
            "ask the server directly with --compare; if it is the same there, renew its WebSocket library",
        ),
        Violation::Size | Violation::Fragments => (
            shown_at,
            "the server sent a message that is larger than doctor takes".to_owned(),
            "send less in a message",
        ),
        // The gateway's to find, of its clients: doctor reads through a TLS library.
        Violation::EmptyRecords => (shown_at, format!("the server sent {violation}"), "renew its TLS library"),
    };
    (step, Finding::new(cause, cure))
}

/// A Close whose content breaks a rule.
fn broken_close(violation: Violation, begin: [u8; 2]) -> Option<Finding> {
    match (violation, begin) {
        (Violation::Utf8, [0x88, _]) => Some(Finding::new(
            "the server closed with a reason that is not UTF-8, which browsers fail: pages see 1006 instead of its \
             code",
            "write the reason in UTF-8, or send none; one that is cut to 123 bytes must end at a whole character",
        )),
        (Violation::Control, [0x88, 1]) => Some(Finding::new(
            "the server sent a Close with one byte, which is half a close code, so browsers fail it and pages see 1006",
            "send a Close without content, or with a code of two bytes, the high one first",
        )),
        _ => None,
    }
}

/// The connection ended without a Close.
pub(crate) fn lost(was_reset: bool) -> Finding {
    let how = if was_reset { "was cut (reset)" } else { "ended" };
    Finding::new(
        format!(
            "the connection {how} without a Close frame, which a page sees as 1006 without a reason: the \
                 server process crashed or was killed, or a proxy between cut it"
        ),
        "look at the server's log for this moment; a gateway that watches both sides would have told 1011",
    )
}

pub(crate) fn no_pong() -> Finding {
    Finding::new(
        "the server does not answer a Ping, which every WebSocket end must: its reading is blocked, or a proxy \
         between swallows Pings",
        "see what the server does while it should read; proxies and keepalives will take it for dead",
    )
}

/// Pongs, none of which answers our Ping.
pub(crate) fn foreign_pong() -> Finding {
    Finding::new(
        "the server answers a Ping by a Pong with other content, so that nobody can tell what it answers",
        "let it send back the Ping's own payload (RFC 6455 section 5.5.3)",
    )
}

/// A frame that began and does not end.
pub(crate) fn unfinished() -> Finding {
    Finding::new(
        "the server began a frame that does not come to its end, and nothing can pass it: it stalls while it \
         writes, or the frame's length is wrong",
        "look at what it sends first after the handshake; a large message is better sent in fragments",
    )
}

/// A message that began and does not end, while the connection goes on.
pub(crate) fn unfinished_message() -> Finding {
    Finding::new(
        "a fragmented message began and was not finished; pages wait for it",
        "make the server send its last frame (FIN set); if messages are long, look again with a longer --timeout",
    )
}

/// A large message of which more and more comes, but not yet all.
pub(crate) fn still_coming(come: u64, announced: u64) -> Finding {
    Finding::new(
        format!(
            "a message of {announced} bytes or more began, of which {come} have come so far: it is too large for \
                 this connection, or sent too slowly, and all else waits behind it"
        ),
        "send less in a message, or in fragments, between which Pongs may pass; or look again with a longer --timeout",
    )
}

/// Pings without end, and no Pong.
pub(crate) fn flooded(pings: u32) -> Finding {
    Finding::new(
        format!(
            "the server sends Pings without a pause ({pings} while its Pong was waited for), behind which all else \
                 has to wait"
        ),
        "give its keepalive an interval, such as 20 s, and let it not answer a Pong by another Ping",
    )
}

/// As many, but the Pong came.
pub(crate) fn many_pings(pings: u32) -> Option<Finding> {
    (pings >= MANY).then(|| {
        Finding::new(
            format!("the server sent {pings} Pings within a few seconds: clients spend their time and battery on them"),
            "give its keepalive an interval, such as 20 s",
        )
    })
}

/// Pings of a server, in the few seconds that doctor is there, that are no keepalive any more.
pub(crate) const MANY: u32 = 100;

/// No Close in answer to ours.
pub(crate) fn no_close() -> Finding {
    Finding::new(
        "the server does not answer Close by Close, as it must: pages wait, then see 1006, and the server may keep \
         the session for ever",
        "make the server read until the end and let its library answer; see whether it holds dead sessions",
    )
}

/// The connection ended before the answer to our Close.
pub(crate) fn lost_instead_of_close(was_reset: bool) -> Finding {
    let how = if was_reset { "cuts the connection (reset)" } else { "ends the connection" };
    Finding::new(
        format!(
            "the server {how} instead of answering Close by Close: pages see 1006 although all was well"
        ),
        "let its WebSocket library finish the closing handshake before the socket is closed",
    )
}

/// A Close, and the connection stays.
pub(crate) fn stays_open() -> Finding {
    Finding::new(
        "the server answered Close but does not end the connection, which is its part (RFC 6455 section 7.1.1)",
        "let it close the socket, or connections pile up until the client does",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_bits_are_a_matter_of_extensions_and_the_rest_stays_where_it_showed() {
        let rows = [
            (Violation::Rsv, 0xc1, StepName::Extensions, "RSV1"),
            (Violation::Rsv, 0xa1, StepName::Extensions, "reserved bits"),
            (Violation::Rsv, b'<', StepName::Messages, "no proper frame"),
            (Violation::Mask, 0x81, StepName::Messages, "masks its frames"),
            (Violation::Utf8, 0x81, StepName::Messages, "not UTF-8"),
            (Violation::CloseCode(1006), 0x88, StepName::Messages, "1006"),
            (
                Violation::Opcode,
                0x83,
                StepName::Messages,
                "no proper frame (the opcode is reserved)",
            ),
            (Violation::Utf8, 0x88, StepName::Messages, "a reason that is not UTF-8"),
            (Violation::Utf8, 0x80, StepName::Messages, "sent text that is not UTF-8"),
            (Violation::Control, 0x88, StepName::Messages, "half a close code"),
            (Violation::Control, 0x89, StepName::Messages, "no proper frame"),
            (Violation::Size, 0x81, StepName::Messages, "larger"),
            (Violation::Fragments, 0x00, StepName::Messages, "larger"),
        ];
        for (kind, first, step, cause) in rows {
            let (found, finding) = violation(kind, [first, 1], StepName::Messages);
            assert_eq!(found, step, "{kind}");
            assert!(finding.cause.contains(cause), "{finding:?}");
        }
        let (_, long) = violation(Violation::Control, [0x88, 126], StepName::Messages);
        assert!(long.cause.contains("no proper frame"), "{long:?}");
    }
}
