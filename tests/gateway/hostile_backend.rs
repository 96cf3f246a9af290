//! Hostile backends: whatever one does, each client is told by the table of refusals or of endings, one
//! with an Origin (a browser) by Close and one without by HTTP.
//!
//! What an answer may be in detail is in `upstream`, what a frame may be in `frames`; the same rows in
//! a real browser are in `tests/browser`. Here each deed stands with what the client sees of it.

use std::time::Duration;

use tokio::io::AsyncWriteExt;

use crate::support::backend::Asked;
use crate::support::client::answered;
use crate::support::hostile::{all_is_back, calm};
use crate::support::wire::{BINARY, CLOSE, PING, TEXT, close_payload, encode};
use crate::support::{Backend, Client, Gateway, Refusal, Setup, Wire};

const PAGE: &str = "https://chat.example.com";

/// With and without an Origin.
fn both(gateway: &Gateway) -> [Client; 2] {
    let client = || gateway.client().header("Sec-WebSocket-Protocol", "chat, other");
    [client(), client().origin(PAGE)]
}

/// How a backend answers the request; `ACCEPT` becomes the right accept value.
#[derive(Debug, Clone)]
enum Answer {
    /// Nothing, for ever.
    Hang,
    /// These bytes, then one byte more again and again.
    Drip(&'static str),
    /// These bytes, then FIN.
    Say(String),
    /// These bytes, then RST.
    Reset(&'static str),
}

/// What the deed is called, the answer, and what a client is told: label, status, code.
type Refused = (&'static str, Answer, (&'static str, u16, u16));

const TIMEOUT: (&str, u16, u16) = ("upstream_timeout", 504, 1013);
const PROTOCOL: (&str, u16, u16) = ("upstream_protocol", 502, 1014);
const UNREACHABLE: (&str, u16, u16) = ("upstream_unreachable", 502, 1014);
const GOOD: [&str; 3] =
    ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Accept: ACCEPT"];

fn switching(lines: &[&str]) -> Answer {
    Answer::Say(format!("HTTP/1.1 101 Switching Protocols\r\n{}\r\n\r\n", lines.join("\r\n")))
}

fn with(line: &str) -> Answer {
    switching(&[GOOD[0], GOOD[1], GOOD[2], line])
}

/// An answer of its own, with headers and a body: all of it is the backend's word to its client, unless it is a
/// success, which a handshake that failed is not.
fn own(status: u16, told: (u16, u16)) -> Refused {
    let answer = format!(
        "HTTP/1.1 {status} Secret\r\nLocation: https://secret.example/\r\nSet-Cookie: secret=1\r\n\
         Content-Length: 6\r\n\r\nsecret"
    );
    ("an answer of its own", Answer::Say(answer), ("upstream_refused", told.0, told.1))
}

/// Answers that are an HTTP answer, or nearly.
fn refusing() -> Vec<Refused> {
    let say = |text: &str| Answer::Say(text.to_owned());
    vec![
        ("garbage", say("\x16\x03\x01garbage\0\0\0"), PROTOCOL),
        ("another protocol", say("220 mail.example.com ESMTP\r\n"), PROTOCOL),
        ("frames at once", say("\u{1}\u{5}hello"), PROTOCOL),
        own(200, (502, 1014)),
        own(204, (502, 1014)),
        own(302, (302, 1014)),
        own(401, (401, 4401)),
        own(403, (403, 4403)),
        own(404, (404, 4404)),
        own(426, (426, 1014)),
        own(429, (429, 4429)),
        own(500, (500, 1014)),
        own(503, (503, 1014)),
        (
            "100 first, then 403",
            say("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 No\r\n\r\n"),
            ("upstream_refused", 403, 4403),
        ),
    ]
}

/// Answers of 101 that a browser would not take either.
fn wrong_switching() -> Vec<Refused> {
    let say = |text: &str| Answer::Say(text.to_owned());
    let immense = format!("X: {}", "x".repeat(1 << 20));
    vec![
        (
            "a wrong accept",
            switching(&[GOOD[0], GOOD[1], "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="]),
            PROTOCOL,
        ),
        ("no accept", switching(&GOOD[..2]), PROTOCOL),
        ("an empty accept", switching(&[GOOD[0], GOOD[1], "Sec-WebSocket-Accept: "]), PROTOCOL),
        ("another Upgrade", switching(&["Upgrade: h2c", GOOD[1], GOOD[2]]), PROTOCOL),
        ("no Upgrade", switching(&GOOD[1..]), PROTOCOL),
        ("Connection: close", switching(&[GOOD[0], "Connection: close", GOOD[2]]), PROTOCOL),
        (
            "compression nobody offered",
            with("Sec-WebSocket-Extensions: permessage-deflate"),
            PROTOCOL,
        ),
        ("a subprotocol nobody offered", with("Sec-WebSocket-Protocol: graphql-ws"), PROTOCOL),
        ("two subprotocols", with("Sec-WebSocket-Protocol: chat, other"), PROTOCOL),
        (
            "two lines of subprotocols",
            with("Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: other"),
            PROTOCOL,
        ),
        ("an immense header", with(&immense), PROTOCOL),
        ("immensely many headers", with(&["X: y"; 10_000].join("\r\n")), PROTOCOL),
        (
            "interim answers without end",
            say(&"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(2000)),
            PROTOCOL,
        ),
    ]
}

/// Connections that end before there is an answer, or without one.
fn unreachable() -> Vec<Refused> {
    let say = |text: &str| Answer::Say(text.to_owned());
    vec![
        ("hangs", Answer::Hang, TIMEOUT),
        ("drips a head", Answer::Drip("HTTP/1.1 101 Switching Protocols\r\nX: "), TIMEOUT),
        (
            "drips interim answers",
            Answer::Drip("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 103 x\r\nX: "),
            TIMEOUT,
        ),
        ("FIN", say(""), UNREACHABLE),
        ("FIN within the head", say("HTTP/1.1 101 Switching Pro"), UNREACHABLE),
        ("FIN behind 100", say("HTTP/1.1 100 Continue\r\n\r\n"), UNREACHABLE),
        ("RST", Answer::Reset(""), UNREACHABLE),
        ("RST within the head", Answer::Reset("HTTP/1.1 101 Switching Pro"), UNREACHABLE),
    ]
}

impl Answer {
    async fn give(self, mut asked: Asked) {
        let key = asked.header("sec-websocket-key").unwrap();
        let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
        let bytes = match &self {
            Self::Hang => String::new(),
            Self::Drip(text) | Self::Reset(text) => (*text).to_owned(),
            Self::Say(text) => text.replace("ACCEPT", &accept),
        };
        // The gateway hangs up as soon as it knows.
        let _ = asked.wire.stream.write_all(bytes.as_bytes()).await;
        match self {
            Self::Reset(_) => return,
            Self::Drip(_) => {
                asked.wire.drip_until_end(b"1", Duration::from_millis(10)).await;
            }
            Self::Hang => {}
            Self::Say(_) => drop(asked.wire.stream.shutdown().await),
        }
        while asked.wire.fill().await {}
    }
}

fn impatient(backend: &Backend) -> Setup {
    calm(&backend.url()).upstream("retries = 0\nhandshake_timeout = \"500ms\"")
}

#[tokio::test]
async fn an_answer_that_is_no_yes_is_told_to_each_client_in_its_own_way() {
    let (plain, resetting) = (Backend::start().await, Backend::start().await.resetting());
    let mut gateways =
        [Gateway::start(&impatient(&plain)).await, Gateway::start(&impatient(&resetting)).await];
    for (what, answer, (label, status, code)) in
        [refusing(), wrong_switching(), unreachable()].concat()
    {
        println!("{what}: {label}");
        let (gateway, backend) = match answer {
            Answer::Reset(_) => (&mut gateways[1], &resetting),
            _ => (&mut gateways[0], &plain),
        };
        let [program, browser] = both(gateway);
        let by_http = Refusal::by_upstream(label, status, code, "/ws");
        let by_close = Refusal { status: 101, ..by_http };
        let serve = async || answer.clone().give(backend.asked().await).await;
        let (told, ()) = tokio::join!(by_http.by_http(gateway, program), serve());
        let told = format!("{}{}", told.head, told.body);
        let is_passed =
            label == "upstream_refused" && status != 502 && *what != *"100 first, then 403";
        assert_eq!(told.to_ascii_lowercase().contains("secret=1"), is_passed, "{what}: {told}");
        let (head, ()) = tokio::join!(by_close.by_close(gateway, browser), serve());
        assert!(!head.to_ascii_lowercase().contains("secret"), "{what}: {head}");
    }
    for gateway in &gateways {
        all_is_back(gateway).await;
    }
}

#[tokio::test]
async fn interim_answers_before_the_101_are_passed_over() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&impatient(&backend)).await;
    let interim =
        ["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"];
    for first in [interim[0].to_owned(), interim[1].to_owned(), interim.concat()] {
        for client in both(&gateway) {
            let (client, mut asked) = tokio::join!(client.ask(), backend.asked());
            let switched = asked.switching("Sec-WebSocket-Protocol: other\r\n");
            asked.wire.send_raw(format!("{first}{switched}").as_bytes()).await;
            asked.wire.send_text("hello").await;
            let mut client = answered(client).await;
            assert_eq!((client.status, client.head.matches("HTTP/").count()), (101, 1), "{first}");
            client.wire.expect_text("hello").await;
        }
    }
}

/// What a backend does in a session, behind a message that is in order.
#[derive(Debug, Clone)]
enum Deed {
    /// These bytes; it stays and goes on reading.
    Send(Vec<u8>),
    /// These bytes and, when the client has some of them and says so, those.
    Torn(Vec<u8>, Vec<u8>),
    /// These bytes, then FIN.
    Finish(Vec<u8>),
    /// These bytes, then RST.
    Reset(Vec<u8>),
}

/// What the client sees behind that message.
#[derive(Debug, Clone, Copy)]
enum Seen {
    /// A Close with the label as reason.
    Close(u16),
    /// A Close as the backend sent it.
    Relayed(Option<u16>, &'static str),
    /// Part of a frame, then RST: the only ending without a Close.
    Cut,
    /// The same, and it asks for the rest when it has some.
    CutLater,
}

/// Deed, what the client sees, the label, and the code that the backend is told (0: nothing).
type Ended = (&'static str, Deed, Seen, &'static str, u16);

const VIOLATION: &str = "upstream_violation";
const CLOSED: &str = "upstream_closed";
const LOST: &str = "upstream_lost";

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    encode(first, payload, None)
}

fn breach(what: &'static str, bytes: Vec<u8>, told: u16) -> Ended {
    (what, Deed::Send(bytes), Seen::Close(1011), VIOLATION, told)
}

fn breaches() -> Vec<Ended> {
    let mut rows = vec![
        breach("RSV1: compression", frame(0xc1, b"hi"), 1002),
        breach("RSV2", frame(0xa1, b"hi"), 1002),
        breach("RSV3", frame(0x91, b"hi"), 1002),
        breach("RSV1 on a Close", frame(0xc8, b"\x03\xe8"), 1002),
        breach("a masked message", encode(TEXT, b"hi", Some([1, 2, 3, 4])), 1002),
        breach("a masked Ping", encode(PING, b"", Some([0; 4])), 1002),
        breach("a masked Close", encode(CLOSE, b"\x03\xe8", Some([9; 4])), 1002),
        breach("a Close of one byte", frame(CLOSE, b"\x03"), 1002),
        breach("a Close with a reason that is no text", frame(CLOSE, b"\x03\xe8\xff\xfe"), 1007),
    ];
    let reserved = (3..=7).chain(11..=15);
    rows.extend(
        reserved.map(|opcode| breach("a reserved opcode", frame(0x80 | opcode, b""), 1002)),
    );
    rows
}

/// Breaches of fragmentation, length, size and text.
fn more_breaches() -> Vec<Ended> {
    let bad_large = [&[b'a'; 60_000][..], b"\xff", &[b'a'; 40_000][..]].concat();
    let bad_large = frame(TEXT, &bad_large);
    let (part, rest) = bad_large.split_at(50_000);
    vec![
        breach("a Ping in fragments", frame(0x09, b"hi"), 1002),
        breach("a Close in fragments", frame(0x08, b"\x03\xe8"), 1002),
        breach("a Ping of 126 bytes", frame(PING, &[0; 126]), 1002),
        breach(
            "a Close of 126 bytes",
            frame(CLOSE, &close_payload(Some(1000), &"x".repeat(124))),
            1002,
        ),
        breach("a Ping of 64 KiB", frame(PING, &[0; 65_536]), 1002),
        breach("a continuation of nothing", frame(0x80, b"hi"), 1002),
        breach("a message within a message", [frame(0x01, b"a"), frame(TEXT, b"b")].concat(), 1002),
        breach("text that is none", frame(TEXT, b"\xff"), 1007),
        breach("text cut in a character", frame(TEXT, b"\xf0\x9f\xa6"), 1007),
        breach(
            "text broken in its second fragment",
            [frame(0x01, b"\xe2"), frame(0x80, b"a")].concat(),
            1007,
        ),
        breach("a length not in its shortest form", vec![0x82, 126, 0, 5], 1002),
        breach("a length of 2^63", [&[0x82, 127, 0x80][..], &[0; 7]].concat(), 1002),
        breach(
            "a message too large by its header",
            [&[0x82, 127][..], &(20_u64 << 20).to_be_bytes()].concat(),
            1009,
        ),
        breach("a second head", b"HTTP/1.1 101 Switching Protocols\r\n\r\n".to_vec(), 1002),
        breach(
            "a Close, wrong by RSV, behind a good Ping",
            [frame(PING, b""), frame(0xf8, b"")].concat(),
            1002,
        ),
        (
            "a large text, broken in its middle",
            Deed::Torn(part.to_vec(), rest.to_vec()),
            Seen::CutLater,
            VIOLATION,
            1007,
        ),
    ]
}

fn closes() -> Vec<Ended> {
    let relayed = |code: Option<u16>, reason| {
        let bytes = frame(CLOSE, &close_payload(code, reason));
        ("a legal Close", Deed::Send(bytes), Seen::Relayed(code, reason), CLOSED, 0)
    };
    let illegal = |code| {
        let bytes = frame(CLOSE, &close_payload(Some(code), "why"));
        ("a Close with an illegal code", Deed::Send(bytes), Seen::Close(1011), CLOSED, 1002)
    };
    let mut rows = vec![
        relayed(None, ""),
        relayed(Some(1000), "bye"),
        relayed(Some(1001), ""),
        relayed(Some(1012), "restart"),
        relayed(Some(4999), ""),
    ];
    let codes = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1999, 2000, 2999, 5000, 65535];
    rows.extend(codes.map(illegal));
    rows
}

fn losses() -> Vec<Ended> {
    use Deed::{Finish, Reset};
    let lost = |what, deed| (what, deed, Seen::Close(1011), LOST, 0);
    let small = frame(TEXT, &[b'a'; 4000]);
    let (small, header) = (small[..2000].to_vec(), vec![0x82, 126, 1]);
    let large = frame(BINARY, &[b'a'; 100_000])[..50_000].to_vec();
    let close = frame(CLOSE, b"\x03\xe8");
    vec![
        lost("FIN without a Close", Finish(Vec::new())),
        lost("RST", Reset(Vec::new())),
        lost("half a small frame, then FIN", Finish(small.clone())),
        lost("half a small frame, then RST", Reset(small)),
        lost("half a header, then FIN", Finish(header.clone())),
        lost("half a header, then RST", Reset(header)),
        lost("half a Close, then FIN", Finish(close[..3].to_vec())),
        ("half a large frame, then FIN", Finish(large.clone()), Seen::Cut, LOST, 0),
        ("half a large frame, then RST", Reset(large), Seen::Cut, LOST, 0),
        (
            "a Close and at once FIN",
            Finish(close.clone()),
            Seen::Relayed(Some(1000), ""),
            CLOSED,
            0,
        ),
        ("a Close and at once RST", Reset(close), Seen::Relayed(Some(1000), ""), CLOSED, 0),
    ]
}

/// The backend's part; what it was told by Close at the end, 0: nothing.
async fn act(mut wire: Wire, deed: Deed, before: &[u8]) -> u16 {
    let (Deed::Send(bytes) | Deed::Torn(bytes, _) | Deed::Finish(bytes) | Deed::Reset(bytes)) =
        &deed;
    wire.send_raw(&[before, bytes].concat()).await;
    match deed {
        Deed::Reset(_) => return 0,
        Deed::Finish(_) => wire.finish().await,
        Deed::Torn(_, rest) => {
            wire.expect_text("more").await;
            wire.send_raw(&rest).await;
        }
        Deed::Send(_) => {}
    }
    let told = wire.until_close().await.and_then(|(code, _)| code).unwrap_or_default();
    drop(wire.stream.shutdown().await);
    while wire.fill().await {}
    told
}

/// The client's part: the message before the deed, then what is to be seen. Every byte up to the end
/// belongs to a whole frame and the last is a Close, unless a frame was cut.
async fn see(client: &mut Wire, seen: Seen, label: &str, what: &str) {
    client.expect_text("before").await;
    match seen {
        Seen::Cut | Seen::CutLater => {
            client.raw(8).await;
            if matches!(seen, Seen::CutLater) {
                client.send_text("more").await;
            }
            let cut = client.expect_reset().await;
            assert!(cut.len() < 100_000 - 8, "{what}: {}", cut.len());
        }
        Seen::Close(code) => {
            let told = client.until_close().await;
            assert_eq!(told, Some((Some(code), label.to_owned())), "{what}");
            client.expect_fin().await;
        }
        Seen::Relayed(code, reason) => {
            assert_eq!(client.expect_close().await, (code, reason.to_owned()), "{what}");
            client.send(CLOSE, &close_payload(code, "")).await;
            client.expect_fin().await;
        }
    }
}

#[tokio::test]
async fn whatever_a_backend_does_its_client_is_told_by_a_close() {
    let (plain, resetting) = (Backend::start().await, Backend::start().await.resetting());
    let mut gateways = [
        (Gateway::start(&calm(&plain.url())).await, plain),
        (Gateway::start(&calm(&resetting.url())).await, resetting),
    ];
    for (what, deed, seen, label, told) in
        [breaches(), more_breaches(), closes(), losses()].concat()
    {
        println!("{what}: {label}");
        let (gateway, backend) = &mut gateways[usize::from(matches!(deed, Deed::Reset(_)))];
        for client in both(gateway) {
            let (client, asked) = tokio::join!(client.ask(), backend.asked());
            let id = asked.header("x-request-id").unwrap();
            let upstream = asked.accept("Sec-WebSocket-Protocol: chat\r\n").await;
            let mut client = answered(client).await;
            assert_eq!(client.status, 101, "{what}");
            let before = frame(TEXT, b"before");
            let upstream = act(upstream, deed.clone(), &before);
            let (found, ()) = tokio::join!(upstream, see(&mut client.wire, seen, label, what));
            drop(client);
            if told != 0 {
                assert_eq!(found, told, "{what}");
            }
            let line = gateway.line_of(&id).await;
            assert_eq!(
                (&line["label"], &line["by"]),
                (&label.into(), &"upstream".into()),
                "{line:#}"
            );
            assert_eq!(
                line["cut_frame"],
                matches!(seen, Seen::Cut | Seen::CutLater),
                "{what}: {line:#}"
            );
        }
    }
    for (gateway, _) in &gateways {
        all_is_back(gateway).await;
    }
}

#[tokio::test]
async fn a_backend_that_freezes_is_found_out_and_its_client_told() {
    let backend = Backend::start_with_little_room();
    let pings = "client_ping = \"0\"\nupstream_ping = \"300ms\"\nupstream_pong = \"300ms\"";
    let silent = Gateway::start(&calm(&backend.url()).keepalive(pings)).await;
    let stall = calm(&backend.url())
        .keepalive("client_ping = \"0\"\nupstream_ping = \"0\"")
        .timeouts("write_stall = \"500ms\"");
    let full = Gateway::start(&stall).await;
    // No Pong to an idle session, and no reading of a busy one.
    for (mut gateway, is_busy) in [(silent, false), (full, true)] {
        for client in both(&gateway) {
            let (client, asked) = tokio::join!(client.ask(), backend.asked());
            let id = asked.header("x-request-id").unwrap();
            // It keeps its connection open and is never heard of again.
            let frozen = asked.accept("Sec-WebSocket-Protocol: chat\r\n").await;
            let client = answered(client).await.wire;
            let mut client = if is_busy { client.flood(BINARY, &[b'x'; 1000]).0 } else { client };
            let told = client.until_close().await;
            assert_eq!(told, Some((Some(1011), "upstream_stalled".to_owned())), "{is_busy}");
            client.expect_fin().await;
            drop(client);
            assert_eq!(gateway.line_of(&id).await["label"], "upstream_stalled");
            drop(frozen);
        }
        all_is_back(&gateway).await;
    }
}
