//! doctor behind the 101: messages, Pings, Closes, and ends without one.

use std::net::SocketAddr;
use std::time::Duration;

use crate::support::doctor::{doctor, examine, polite, serving, until_close};
use crate::support::wire::{PING, encode};
use crate::support::{Backend, Gateway, Setup, Wire};

fn ws(address: SocketAddr) -> String {
    format!("ws://{address}/ws")
}

/// Reads and answers nothing, until the client is gone.
async fn deaf(mut wire: Wire) {
    while wire.fill().await {}
}

#[tokio::test]
async fn a_close_right_after_open_is_read_by_its_code() {
    let rows: &[(u16, &str, &str, &str)] = &[
        (4401, "", "auth", "no token was sent"),
        (4401, "token expired", "auth", "no token was sent"),
        (4403, "", "auth", "does not let this user"),
        (4404, "", "messages", "nothing is served at this path"),
        (4408, "", "messages", "waited too long"),
        (4409, "", "messages", "a newer connection of the same user"),
        (4429, "", "messages", "too many connections or messages"),
        (1008, "", "auth", "its policy forbids"),
        (1000, "", "messages", "as if all were said"),
        (1011, "", "messages", "the server failed on this connection"),
        (1012, "", "messages", "shut down or restarted"),
        (1013, "", "messages", "has no room now"),
        (
            4711,
            "go away",
            "messages",
            "with 4711 (a code of this application) and the reason \"go away\"",
        ),
    ];
    for (code, reason, step, cause) in rows {
        let (code, told) = (*code, *reason);
        let address = serving(move |asked| async move {
            let mut wire = asked.accept("").await;
            wire.send_close(code, told).await;
            deaf(wire).await;
        });
        let walked = examine(&ws(address.await), &[]).await;
        walked.expect(&format!("close {code} {reason}"), step, cause);
        let seen = walked.seen(step);
        assert!(seen.contains(&format!("the server sent Close {code} (")), "{seen}");
    }
}

#[tokio::test]
async fn an_empty_close_and_illegal_codes_are_told_as_such() {
    let rows: [(&[u8], &str); 5] = [
        (b"", "an empty Close, which tells no reason"),
        (&[0x03, 0xee], "closed with 1006, a code that must never be sent"),
        (&[0x03, 0xed], "closed with 1005, a code that must never be sent"),
        (&[0x03], "with one byte, which is half a close code"),
        (b"\x03\xe8caf\xe9", "closed with a reason that is not UTF-8"),
    ];
    for (payload, cause) in rows {
        let frame = encode(0x88, payload, None);
        let address = serving(move |asked| {
            let frame = frame.clone();
            async move {
                let mut wire = asked.accept("").await;
                wire.send_raw(&frame).await;
                deaf(wire).await;
            }
        });
        examine(&ws(address.await), &[]).await.expect(cause, "messages", cause);
    }
}

#[tokio::test]
async fn frames_that_break_the_rules_are_named() {
    // 0x68 ends in an 8, as a Close begins: what is read last is no begin of a frame.
    let late = encode(0x81, &[&[b'h'; 99_999][..], b"\xff"].concat(), None);
    let rows: [(&str, Vec<u8>, &str); 5] = [
        ("not UTF-8 at its end", late, "sent text that is not UTF-8"),
        ("masked", encode(0x81, b"hi", Some([1, 2, 3, 4])), "masks its frames"),
        ("not UTF-8", encode(0x81, b"\xff", None), "text that is not UTF-8"),
        ("a reserved opcode", encode(0x83, b"", None), "no proper frame (the opcode is reserved)"),
        ("HTTP goes on", b"<html>and more</html>".to_vec(), "no proper frame"),
    ];
    for (what, bytes, cause) in rows {
        let address = serving(move |asked| {
            let bytes = bytes.clone();
            async move {
                let mut wire = asked.accept("").await;
                wire.send_raw(&bytes).await;
                deaf(wire).await;
            }
        });
        examine(&ws(address.await), &[]).await.expect(what, "messages", cause);
    }
}

#[tokio::test]
async fn a_ping_that_is_never_answered_fails_by_the_deadline() {
    let address = serving(async |asked| deaf(asked.accept("").await).await).await;
    let walked = examine(&ws(address), &["--timeout", "500ms"]).await;
    walked.expect("no Pong", "ping", "does not answer a Ping");
    assert_eq!(walked.seen("ping"), "no Pong within 500ms");
    let foreign = serving(async |asked| {
        let mut wire = asked.accept("").await;
        wire.frame().await;
        wire.send(0x8a, b"another").await;
        deaf(wire).await;
    });
    let walked = examine(&ws(foreign.await), &["--timeout", "500ms"]).await;
    walked.expect("another Pong", "ping", "a Pong with other content");
    let unfinished = serving(async |asked| {
        let mut wire = asked.accept("").await;
        wire.send_raw(&encode(0x82, &[0; 9000], None)[..5000]).await;
        deaf(wire).await;
    });
    let walked = examine(&ws(unfinished.await), &["--timeout", "500ms"]).await;
    walked.expect("half a frame", "ping", "began a frame that does not come to its end");
}

#[tokio::test]
async fn each_way_not_to_answer_close_is_told() {
    let silent =
        serving(async |asked| deaf(until_close(asked.accept("").await).await.0).await).await;
    let walked = examine(&ws(silent), &["--timeout", "500ms"]).await;
    walked.expect("no Close", "close", "does not answer Close by Close");

    let dropping = serving(async |asked| drop(until_close(asked.accept("").await).await)).await;
    let walked = examine(&ws(dropping), &[]).await;
    walked.expect("drop at Close", "close", "instead of answering Close by Close");

    let failing = serving(async |asked| {
        let (mut wire, _) = until_close(asked.accept("").await).await;
        wire.send_close(1011, "").await;
    });
    let walked = examine(&ws(failing.await), &[]).await;
    walked.expect("1011 for an answer", "close", "the server failed on this connection");

    let staying = serving(async |asked| {
        let (mut wire, _) = until_close(asked.accept("").await).await;
        wire.send_close(1000, "").await;
        deaf(wire).await;
    });
    let walked = examine(&ws(staying.await), &["--timeout", "500ms"]).await;
    walked.expect_ok("stays open");
    assert!(walked.warning("close").contains("does not end the connection"), "{}", walked.json);
}

#[tokio::test]
async fn an_end_without_close_is_told_where_it_happens() {
    let at_once = serving(async |asked| drop(asked.accept("").await)).await;
    let walked = examine(&ws(at_once), &[]).await;
    walked.expect(
        "drop without Close",
        "messages",
        "ended without a Close frame, which a page sees as 1006",
    );

    let at_ping = serving(async |asked| {
        let mut wire = asked.accept("").await;
        wire.frame().await;
    });
    let walked = examine(&ws(at_ping.await), &[]).await;
    walked.expect("drop at Ping", "ping", "without a Close frame");

    let backend = Backend::start().await.resetting();
    let address = backend.address();
    tokio::spawn(async move { drop(backend.session().await) });
    let walked = examine(&ws(address), &[]).await;
    walked.expect("reset", "messages", "was cut (reset) without a Close frame");
}

#[tokio::test]
async fn a_backend_that_is_lost_is_1011_through_framegate() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&Setup::open(&backend.url())).await;
    tokio::spawn(async move { drop(backend.session().await) });
    let walked = examine(&ws(gateway.addresses[0]), &[]).await;
    walked.expect(
        "upstream lost",
        "messages",
        "the backend behind framegate went away without a Close",
    );
}

#[tokio::test]
async fn compressed_frames_of_a_backend_are_stopped_by_framegate_and_told() {
    let backend = serving(async |asked| {
        let mut wire = asked.accept("").await;
        wire.send_raw(&encode(0xc1, b"\xf2H\xcd\xc9\xc9\x07\0", None)).await;
        deaf(wire).await;
    });
    let gateway = Gateway::start(&Setup::open(&format!("http://{}", backend.await))).await;
    let walked = examine(&ws(gateway.addresses[0]), &[]).await;
    walked.expect(
        "RSV1 behind framegate",
        "messages",
        "the backend behind framegate sent frames that break",
    );
}

#[tokio::test]
async fn messages_on_joining_are_told_from_live_ones() {
    let address = serving(async |asked| {
        let mut wire = asked.accept("").await;
        wire.send_text("{\"type\":\"history\"}").await;
        wire.send(0x82, &[0; 70_000]).await;
        wire.send(0x89, b"are you there").await;
        while let Some(frame) = wire.frame().await {
            match frame.opcode() {
                1 => wire.send_text("{\"type\":\"live\"}").await,
                8 => return wire.send(frame.first, &frame.payload).await,
                9 => wire.send(0x8a, &frame.payload).await,
                _ => {}
            }
        }
    });
    let walked = examine(&ws(address.await), &["--send", "hello"]).await;
    walked.expect_ok("messages");
    let seen = walked.seen("messages");
    for part in [
        "on joining: text of 18 bytes after ",
        ": {\"type\":\"history\"}; on joining: binary of 70000 bytes after ",
        "; live, after sending 5 bytes: text of 15 bytes after ",
    ] {
        assert!(seen.contains(part), "{part:?} is not in {seen:?}");
    }
    assert!(walked.seen("ping").contains("the server pings too: 1 answered"), "{}", walked.json);
}

#[tokio::test]
async fn nothing_in_answer_to_a_message_is_a_warning() {
    let address = serving(async |asked| polite(asked.accept("").await).await);
    let walked = examine(&ws(address.await), &["--send", "hello", "--timeout", "500ms"]).await;
    walked.expect_ok("no answer");
    assert!(walked.warning("messages").contains("nothing came back within 500ms"));
}

#[tokio::test]
async fn a_message_that_is_never_finished_is_a_warning() {
    let address = serving(async |asked| {
        let mut wire = asked.accept("").await;
        wire.send_raw(&encode(0x01, b"begun", None)).await;
        polite(wire).await;
    });
    let url = ws(address.await);
    let warned = "a fragmented message began and was not finished";
    for options in [&["--timeout", "2s"][..], &["--timeout", "2s", "--send", "hello"]] {
        let walked = examine(&url, options).await;
        walked.expect_ok("a message without an end");
        assert!(walked.warning("messages").contains(warned), "{}", walked.json);
    }
}

#[tokio::test]
async fn pings_that_leave_no_room_are_told_from_a_dead_server() {
    let flooding = serving(async |asked| {
        let (wire, _) = asked.accept("").await.flood(PING, b"ping");
        deaf(wire).await;
    });
    let walked = examine(&ws(flooding.await), &["--timeout", "1s"]).await;
    walked.expect("Pings without end", "ping", "sends Pings without a pause");
    let eager = serving(async |asked| {
        let mut wire = asked.accept("").await;
        wire.send_raw(&encode(0x89, b"ping", None).repeat(5000)).await;
        polite(wire).await;
    });
    let walked = examine(&ws(eager.await), &[]).await;
    walked.expect_ok("many Pings");
    assert!(walked.warning("ping").contains("sent 5000 Pings"), "{}", walked.json);
}

#[tokio::test]
async fn a_large_message_that_is_still_coming_is_told_from_one_that_stalls() {
    let slow = serving(async |asked| {
        let mut wire = asked.accept("").await;
        wire.send_raw(b"\x82\x7f\0\0\0\0\x05\xf5\xe1\0").await;
        // Far slower than doctor waits, until it is gone.
        wire.drip_until_end(&[0], Duration::from_millis(10)).await;
    });
    let walked = examine(&ws(slow.await), &["--timeout", "600ms"]).await;
    let cause = "a message of 100000000 bytes or more began, of which ";
    walked.expect("100 MB", "ping", cause);
    assert!(walked.warning("messages").contains(cause), "{}", walked.json);
}

#[tokio::test]
async fn what_is_printed_can_be_read_without_colours_when_piped() {
    let url = ws(Backend::start().await.echo());
    let (code, stdout, stderr) = doctor(&[&url, "--send", "hello"]).await;
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(!stdout.contains('\u{1b}'), "{stdout}");
    let masked: Vec<String> = stdout.lines().map(without_times).collect();
    let address = url.strip_prefix("ws://").unwrap().strip_suffix("/ws").unwrap();
    let expected = GOLDEN.replace("ADDRESS", address);
    assert_eq!(masked.join("\n"), expected.trim_end());
}

/// A line with every figure of milliseconds as `N`.
fn without_times(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let mut masked: Vec<&str> = words.clone();
    for at in 1..words.len() {
        if words[at].trim_end_matches(':') == "ms" {
            masked[at - 1] = "N";
        }
    }
    let text = masked.join(" ");
    // The column of times is right-aligned.
    match text.split_once(" N ms  ") {
        Some((before, after)) => format!("{} N ms  {after}", before.trim_end()),
        None => text,
    }
}

const GOLDEN: &str = "\
framegate doctor ws://ADDRESS/ws

ok    dns N ms  look up the address of the name
                              127.0.0.1 is an address already: nothing to look up
ok    tcp N ms  open a connection to that address
                              connected to ADDRESS
ok    tls N ms  encrypt it, and check who answers
                              not used: a ws:// URL; everybody on the way can read along
ok    upgrade N ms  ask by HTTP to go on as a WebSocket; the only good answer is 101
                              HTTP 101 Switching Protocols
                              answered by a server that does not name itself
ok    extensions N ms  offer compression, and see who accepts it
                              offered permessage-deflate
                              the server declined it: frames travel as they are written
ok    auth N ms  look at the token, and whether it was believed
                              no token was sent
ok    messages N ms  listen for messages, and send one if asked to
                              on joining: nothing
                              live, after sending 5 bytes: text of 5 bytes after N ms: hello
ok    ping N ms  send a Ping; it must come back as a Pong
                              Pong after N ms
ok    close N ms  send Close; it must be answered by Close
                              sent Close 1000
                              answered by Close 1000 (normal end)
                              then the server ended the connection, as it should

All is well with this connection.
";
