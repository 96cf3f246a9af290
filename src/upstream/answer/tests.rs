//! Answers of every kind, at every boundary the network can cut them at.

use proptest::prelude::*;

use super::*;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const VALID: &[&str] = &[
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
];

/// The valid 101 without the lines that begin with one of `without`, and with `more` lines.
fn switching(without: &[&str], more: &[&str]) -> String {
    let kept = VALID.iter().filter(|line| !without.iter().any(|name| line.starts_with(name)));
    let lines: Vec<_> = kept.chain(more).copied().collect();
    format!("HTTP/1.1 101 Switching Protocols\r\n{}\r\n\r\n", lines.join("\r\n"))
}

fn read(text: &str) -> Result<Answer, AnswerError> {
    let answer = parse(text.as_bytes(), KEY, &["chat.v2", "chat.v1"])?;
    Ok(match answer {
        Answer::Switched { subprotocol, head_len, .. } => {
            Answer::Switched { subprotocol, head_len, headers: Vec::new() }
        }
        answer => answer,
    })
}

fn switched(subprotocol: Option<&str>, head_len: usize) -> Result<Answer, AnswerError> {
    let subprotocol = subprotocol.map(str::to_owned);
    Ok(Answer::Switched { subprotocol, head_len, headers: Vec::new() })
}

fn error(rule: &'static str) -> Result<Answer, AnswerError> {
    Err(AnswerError::Protocol(rule))
}

#[test]
fn headers_of_a_101_are_for_the_client_but_for_those_of_the_hop_and_the_handshake() {
    let more = [
        "Set-Cookie: a=1; Path=/",
        "set-cookie: b=2",
        "X-Node:  seven ",
        "X-Empty:",
        "Connection: X-Hop, keep-alive",
        "X-Hop: 1",
        "Keep-Alive: timeout=5",
        "Content-Length: 0",
        "Server: secret/1.0",
        "Alt-Svc: h3=\":443\"",
        "X-Request-Id: theirs",
        "X-Framegate-Refusal: forged",
        "Sec-WebSocket-Version: 13",
        "Date: today",
    ];
    let text = switching(&[], &more);
    let Ok(Answer::Switched { headers, .. }) = parse(text.as_bytes(), KEY, &[]) else {
        panic!("no 101: {text}")
    };
    let lines: Vec<_> = headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value)))
        .collect();
    let expected =
        ["Set-Cookie: a=1; Path=/", "set-cookie: b=2", "X-Node: seven", "X-Empty: ", "Date: today"];
    assert_eq!(lines, expected);
}

const HINTS: &str = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";

#[test]
fn a_valid_101_is_taken_and_the_frames_behind_it_left() {
    let plain = switching(&[], &[]);
    for frames in ["", "\u{1}\u{2}hi", "HTTP/1.1 200 OK\r\n\r\n"] {
        assert_eq!(read(&format!("{plain}{frames}")), switched(None, plain.len()));
    }
    let rows: &[(&[&str], &[&str], Option<&str>)] = &[
        (&[], &["Sec-WebSocket-Protocol: chat.v1"], Some("chat.v1")),
        (&[], &["sec-websocket-protocol:chat.v2  "], Some("chat.v2")),
        (&["Upgrade"], &["UPGRADE: WebSocket"], None),
        (&["Connection"], &["connection: keep-alive, upgrade"], None),
        (&["Connection"], &["connection: keep-alive", "connection: UPGRADE"], None),
        (&[], &["Sec-WebSocket-Extensions:"], None),
        (&[], &["Sec-WebSocket-Extensions:  \t"], None),
        // RFC 9112 section 6.3: a 1xx ends with its head, whatever it says of a body.
        (&[], &["Content-Length: 5", "Transfer-Encoding: chunked"], None),
    ];
    for (without, more, subprotocol) in rows {
        let text = switching(without, more);
        assert_eq!(read(&text), switched(*subprotocol, text.len()), "{more:?}");
    }
}

#[test]
fn bare_line_feeds_and_a_missing_reason_are_legal() {
    let text = switching(&[], &[]).replace("\r\n", "\n").replace(" Switching Protocols", "");
    assert_eq!(read(&text), switched(None, text.len()));
}

#[test]
fn interim_answers_are_skipped_and_counted_into_the_head() {
    let text = format!("{HINTS}{}", switching(&[], &[]));
    assert_eq!(read(&text), switched(None, text.len()));
    assert_eq!(read(&format!("{text}frames")), switched(None, text.len()));
    assert_eq!(read(HINTS), Ok(Answer::Incomplete));
    assert_eq!(read(&format!("{HINTS}HTTP/1.1 403 \r\n")), Ok(Answer::Refused { status: 403 }));
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn a_101_that_breaks_a_rule_is_refused() {
    let upgrade = "its 101 has not exactly one Upgrade: websocket";
    let connection = "its 101 lacks Connection: Upgrade";
    let wrong_accept = "its 101 has a wrong Sec-WebSocket-Accept";
    let extension = "its 101 has an extension that was not offered";
    let not_offered = "its 101 selects a subprotocol that was not offered";
    let rows: &[(&[&str], &[&str], &'static str)] = &[
        (&["Upgrade"], &[], upgrade),
        (&["Upgrade"], &["Upgrade: h2c"], upgrade),
        (&["Upgrade"], &["Upgrade: websocket, h2c"], upgrade),
        (&[], &["Upgrade: websocket"], upgrade),
        (&["Connection"], &[], connection),
        (&["Connection"], &["Connection: close"], connection),
        (&["Connection"], &["Connection: upgraded"], connection),
        (&["Sec-WebSocket-Accept"], &[], "its 101 lacks Sec-WebSocket-Accept"),
        (&["Sec-WebSocket-Accept"], &["Sec-WebSocket-Accept:"], wrong_accept),
        (
            &["Sec-WebSocket-Accept"],
            // The key itself, another case, an embedded right one.
            &["Sec-WebSocket-Accept: dGhlIHNhbXBsZSBub25jZQ=="],
            wrong_accept,
        ),
        (
            &["Sec-WebSocket-Accept"],
            &["Sec-WebSocket-Accept: S3pPLMBiTxaQ9kYGzzhZRbK+xOo="],
            wrong_accept,
        ),
        (
            &["Sec-WebSocket-Accept"],
            &["Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=, x"],
            wrong_accept,
        ),
        (&[], &[VALID[2]], "its 101 has two Sec-WebSocket-Accept headers"),
        (&[], &["Sec-WebSocket-Extensions: permessage-deflate"], extension),
        (&[], &["Sec-WebSocket-Extensions:", "Sec-WebSocket-Extensions: x"], extension),
        (&[], &["Sec-WebSocket-Protocol: chat.v3"], not_offered),
        (&[], &["Sec-WebSocket-Protocol: Chat.v1"], not_offered),
        (&[], &["Sec-WebSocket-Protocol: chat.v1, chat.v2"], not_offered),
        (&[], &["Sec-WebSocket-Protocol:"], not_offered),
        (
            &[],
            &["Sec-WebSocket-Protocol: chat.v1", "Sec-WebSocket-Protocol: chat.v1"],
            "its 101 selects more than one subprotocol",
        ),
        (&[], &["Foo : bar"], "a header of the answer is malformed"),
        (&[], &["Foo: bar", " folded"], "a header of the answer is malformed"),
        (&[], &["Foo"], "a header of the answer is malformed"),
        (&[], &["Foo: a\rb"], "a header of the answer is malformed"),
        (&[], &["Foo: a\0b"], "a header of the answer is malformed"),
    ];
    for (without, more, rule) in rows {
        assert_eq!(read(&switching(without, more)), error(rule), "{more:?}");
    }
}

#[test]
fn the_accept_key_belongs_to_the_key_that_was_sent() {
    let text = switching(&[], &[]);
    let other = parse(text.as_bytes(), "AAAAAAAAAAAAAAAAAAAAAA==", &[]);
    assert_eq!(other, error("its 101 has a wrong Sec-WebSocket-Accept"));
}

#[test]
fn a_refusal_is_known_with_its_first_line() {
    for (text, status) in [
        ("HTTP/1.1 200 OK\r\n", 200),
        ("HTTP/1.1 302 Found\r\nlocation: /login\r\n\r\n", 302),
        ("HTTP/1.1 403\r\n", 403),
        ("HTTP/1.1 404 \n", 404),
        ("HTTP/1.0 502 Bad Gateway\r\n\r\n", 502),
        ("HTTP/1.1 503 Service Unavailable\r\nbroken header\r\n\r\n", 503),
        ("HTTP/1.1 400 caf\u{e9}\r\n", 400),
    ] {
        assert_eq!(read(text), Ok(Answer::Refused { status }), "{text:?}");
    }
    let many = format!("HTTP/1.1 429 Slow\r\n{}\r\n", "a: b\r\n".repeat(200));
    assert_eq!(read(&many), Ok(Answer::Refused { status: 429 }));
    assert_eq!(read("HTTP/1.1 403 Forbidden"), Ok(Answer::Incomplete));
}

#[test]
fn garbage_is_noticed_at_once() {
    for (text, rule) in [
        ("\u{15}\u{3}\u{3}", "the answer is not HTTP/1.1"),
        ("SSH-2.0-OpenSSH_9.2\r\n", "the answer is not HTTP/1.1"),
        ("X", "the answer is not HTTP/1.1"),
        ("HTTQ", "the answer is not HTTP/1.1"),
        ("http/1.1", "the answer is not HTTP/1.1"),
        ("HTTP/2.0", "the answer is not HTTP/1.1"),
        ("HTTP/1.2", "the answer is not HTTP/1.1"),
        ("\r\n", "the answer is not HTTP"),
        ("\n", "the answer is not HTTP"),
        ("HTTP/1.1 x", "the status line is malformed"),
        ("HTTP/1.1 1013", "the status line is malformed"),
        ("HTTP/1.1 099 Low\r\n", "the status is out of range"),
        ("HTTP/1.1 600 High\r\n", "the status is out of range"),
        ("HTTP/1.0 101 Switching Protocols\r\n", "the answer is HTTP/1.0"),
        ("HTTP/1.0 100 Continue\r\n", "the answer is HTTP/1.0"),
        ("HTTP/1.1 101 Switching\r\nno colon", "a header of the answer is malformed"),
        ("HTTP/1.1 100 Continue\r\n\r\ngarbage", "the answer is not HTTP/1.1"),
        ("HTTP/1.1 100 Continue\r\n\r\n\r\n", "the answer is not HTTP"),
    ] {
        assert_eq!(read(text), error(rule), "{text:?}");
    }
    assert_eq!(read(""), Ok(Answer::Incomplete));
}

#[test]
fn a_head_of_16_kib_is_taken_and_one_byte_more_is_not() {
    let padded = |length: usize| {
        let bare = switching(&[], &["Pad: "]).len();
        switching(&[], &[&format!("Pad: {}", "x".repeat(length - bare))])
    };
    let largest = padded(MAX_HEAD);
    assert_eq!(read(&largest), switched(None, MAX_HEAD));
    assert_eq!(read(&format!("{largest}frames")), switched(None, MAX_HEAD));
    assert_eq!(read(&padded(MAX_HEAD + 1)), error("the head is larger than 16 KiB"));
    assert_eq!(
        read(&"HTTP/1.1 100 \r\n\r\n".repeat(1100)),
        error("the head is larger than 16 KiB")
    );
}

#[test]
fn a_hundred_headers_are_taken_and_one_more_is_not() {
    let with = |count: usize| switching(&[], &vec!["a: b"; count - VALID.len()]);
    assert_eq!(read(&with(100)), switched(None, with(100).len()));
    assert_eq!(read(&with(101)), error("the answer has more than 100 headers"));
}

/// The first answer that is not `Incomplete`, with the bytes it took; checks that it never changes.
fn at_every_split(bytes: &[u8]) -> Option<(usize, Result<Answer, AnswerError>)> {
    let mut verdict: Option<(usize, Result<Answer, AnswerError>)> = None;
    for end in 0..=bytes.len() {
        let answer = parse(&bytes[..end], KEY, &["chat.v1"]);
        match &verdict {
            Some((_, earlier)) => assert_eq!(answer, *earlier, "after {end} bytes"),
            None if answer == Ok(Answer::Incomplete) => {}
            None => verdict = Some((end, answer)),
        }
    }
    verdict
}

#[test]
fn the_verdict_does_not_depend_on_how_the_answer_is_cut() {
    let good = switching(&[], &["Sec-WebSocket-Protocol: chat.v1"]);
    let text = format!("{HINTS}{good}\u{1}\u{1}frame");
    let head_len = HINTS.len() + good.len();
    let verdict = at_every_split(text.as_bytes());
    assert_eq!(verdict, Some((head_len, switched(Some("chat.v1"), head_len))));

    let refused = "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\nbroken\r\n\r\nno";
    let verdict = at_every_split(refused.as_bytes());
    assert_eq!(verdict, Some((24, Ok(Answer::Refused { status: 403 }))));

    let bad = switching(&["Sec-WebSocket-Accept"], &["Sec-WebSocket-Accept: no"]);
    let verdict = at_every_split(format!("{bad}more").as_bytes());
    assert_eq!(verdict, Some((bad.len(), error("its 101 has a wrong Sec-WebSocket-Accept"))));
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes, KEY, &["chat.v1"]);
    }

    #[test]
    fn no_altered_answer_panics_or_changes_its_verdict(
        at in 0usize..220,
        byte in any::<u8>(),
        insert in any::<bool>(),
    ) {
        let text = format!("{HINTS}{}", switching(&[], &["Sec-WebSocket-Protocol: chat.v1"]));
        let mut bytes = text.into_bytes();
        let at = at.min(bytes.len() - 1);
        if insert { bytes.insert(at, byte) } else { bytes[at] = byte }
        at_every_split(&bytes);
    }
}
