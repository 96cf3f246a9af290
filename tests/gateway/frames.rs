//! Frames pass byte for byte as they came, or not at all.

use crate::support::wire::{BINARY, CLOSE, PING, PONG, TEXT, close_payload, encode};
use crate::support::{Backend, Ended, Gateway, Pair, Setup, Side};

/// An open route without a message rate and without pings of the gateway, whose closing does not wait
/// long.
fn open(backend: &Backend) -> Setup {
    Setup::open(&backend.url())
        .timeouts("close = \"300ms\"")
        .keepalive("client_ping = \"0\"\nupstream_ping = \"0\"")
        .limits("handshakes_per_address = { rate = \"0/s\" }\nmessages = { rate = \"0/s\" }")
}

/// Frames of one side, legal or not.
trait Speaks {
    fn frame(self, first: u8, payload: &[u8]) -> Vec<u8>;
    fn key(self) -> Option<[u8; 4]>;
    fn header(self, first: u8, len: u64, bytes: usize) -> Vec<u8>;
}

impl Speaks for Side {
    /// A frame of this side; a client's has a key of its own.
    fn frame(self, first: u8, payload: &[u8]) -> Vec<u8> {
        encode(first, payload, self.key())
    }

    fn key(self) -> Option<[u8; 4]> {
        (self == Self::Client).then(|| fastrand::u32(..).to_be_bytes())
    }

    /// A header that says its payload has this length in this many bytes; nothing of it follows.
    fn header(self, first: u8, len: u64, bytes: usize) -> Vec<u8> {
        let masked = if self == Self::Client { 0x80 } else { 0 };
        let (short, extended) = match bytes {
            2 => (126, len.to_be_bytes()[6..].to_vec()),
            8 => (127, len.to_be_bytes().to_vec()),
            _ => (u8::try_from(len).unwrap(), Vec::new()),
        };
        let key = self.key().map(|key| key.to_vec()).unwrap_or_default();
        [vec![first, masked | short], extended, key].concat()
    }
}

/// Random bytes, or text of characters with one to four bytes.
fn payload(first: u8, len: usize) -> Vec<u8> {
    if first & 0x0f == TEXT & 0x0f {
        let mut text: String = "aé€🦀".chars().cycle().take(len).collect();
        text.truncate(text.floor_char_boundary(len));
        let missing = len - text.len();
        return [text.into_bytes(), vec![b'.'; missing]].concat();
    }
    std::iter::repeat_with(|| fastrand::u8(..)).take(len).collect()
}

/// Sends the bytes on one side and demands them, unchanged, on the other.
async fn expect_verbatim(pair: &mut Pair, side: Side, bytes: &[u8]) {
    let (one, other) = side.ends(pair);
    tokio::join!(one.send_raw(bytes), other.expect_raw(bytes));
}

const LENGTHS: [usize; 22] = [
    0, 1, 2, 3, 7, 124, 125, 126, 127, 128, 255, 256, 4095, 4096, 4097, 4100, 16384, 65534, 65535,
    65536, 65537, 70000,
];

#[tokio::test]
async fn messages_of_every_length_pass_byte_for_byte() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&open(&backend)).await;
    let mut pair = Pair::open(&gateway, &backend).await;
    for side in Side::BOTH {
        for first in [TEXT, BINARY] {
            let frames = LENGTHS.map(|len| side.frame(first, &payload(first, len)));
            for frame in &frames {
                expect_verbatim(&mut pair, side, frame).await;
            }
            expect_verbatim(&mut pair, side, &frames.concat()).await;
        }
    }
}

#[tokio::test]
async fn fragments_pass_as_they_came_with_control_frames_between_them() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&open(&backend)).await;
    let mut pair = Pair::open(&gateway, &backend).await;
    let crab = "🦀".as_bytes();
    let long = payload(BINARY, 70_000);
    let rows: Vec<Vec<(u8, &[u8])>> = vec![
        vec![(0x01, b"one"), (0x00, b"two"), (0x80, b"three")],
        vec![(0x02, b""), (0x00, b""), (0x80, b"")],
        vec![(0x01, b""), (0x80, b"")],
        // A character in four fragments, and controls in the middle of it.
        vec![
            (0x01, &crab[..1]),
            (PING, b""),
            (0x00, &crab[1..2]),
            (PONG, b"unasked"),
            (0x00, b""),
            (0x00, &crab[2..3]),
            (PING, &[0xff; 125]),
            (0x80, &crab[3..]),
        ],
        vec![(0x02, &long), (PING, b"between"), (0x00, &long), (0x80, &long[..126])],
        vec![(0x02, b"\xff"), (0x80, b"\xfe"), (TEXT, b"and so on"), (BINARY, b"\x00")],
    ];
    for side in Side::BOTH {
        for row in &rows {
            let frames = row.iter().flat_map(|(first, payload)| side.frame(*first, payload));
            expect_verbatim(&mut pair, side, &frames.collect::<Vec<_>>()).await;
        }
    }
}

#[tokio::test]
async fn pings_and_pongs_of_both_ends_pass() {
    let backend = Backend::start().await;
    let mut gateway = Gateway::start(&open(&backend)).await;
    let mut pair = Pair::open(&gateway, &backend).await;
    for side in Side::BOTH {
        for first in [PING, PONG] {
            for len in [0, 1, 8, 124, 125] {
                expect_verbatim(&mut pair, side, &side.frame(first, &payload(first, len))).await;
            }
        }
    }
    pair.client.send_close(1000, "").await;
    pair.upstream.expect_close().await;
    pair.upstream.send_close(1000, "").await;
    pair.client.expect_close().await;
    pair.expect_fins().await;
    gateway.line_of(&pair.id).await;
    for direction in ["to_upstream", "to_client"] {
        for kind in ["ping", "pong"] {
            let labels = format!("direction=\"{direction}\",kind=\"{kind}\",route=\"/ws\"");
            let series = format!("framegate_messages_total{{{labels}}}");
            assert_eq!(gateway.metric(&series).await, 5.0, "{series}");
        }
    }
}

/// Frames of every kind, some of them longer than what passes only whole.
fn mixed(side: Side) -> Vec<u8> {
    [
        side.frame(TEXT, "aé€🦀".as_bytes()),
        side.frame(0x01, "é".as_bytes().split_at(1).0),
        side.frame(PING, b"p"),
        side.frame(0x80, "é".as_bytes().split_at(1).1),
        side.frame(BINARY, &payload(BINARY, 126)),
        side.frame(PONG, b""),
        side.frame(TEXT, b""),
    ]
    .concat()
}

#[tokio::test]
async fn a_stream_passes_however_it_is_split() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&open(&backend)).await;
    let mut pair = Pair::open(&gateway, &backend).await;
    for side in Side::BOTH {
        let bytes = mixed(side);
        for at in 1..bytes.len() {
            let (one, other) = side.ends(&mut pair);
            one.send_raw(&bytes[..at]).await;
            // What comes back was sent later: the gateway has been there in between.
            other.send_text("split here").await;
            one.expect_text("split here").await;
            one.send_raw(&bytes[at..]).await;
            other.expect_raw(&bytes).await;
        }
        // Byte by byte.
        let (one, other) = side.ends(&mut pair);
        for byte in &bytes {
            one.send_raw(&[*byte]).await;
            other.send(PONG, b"").await;
            one.frame().await.unwrap();
        }
        other.expect_raw(&bytes).await;
    }
}

#[tokio::test]
async fn a_large_frame_passes_part_by_part() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&open(&backend)).await;
    let mut pair = Pair::open(&gateway, &backend).await;
    for side in Side::BOTH {
        for first in [TEXT, BINARY] {
            let large = side.frame(first, &payload(first, 300_000));
            let (one, other) = side.ends(&mut pair);
            // The rest is sent only when the other end has this part.
            for part in [&large[..5000], &large[5000..100_000], &large[100_000..]] {
                tokio::join!(one.send_raw(part), other.expect_raw(part));
            }
        }
    }
}

/// A breach as bytes, its kind and the code for whoever commits it.
struct Breach {
    what: &'static str,
    kind: &'static str,
    code: u16,
    bytes: Vec<u8>,
}

fn breaches(side: Side) -> Vec<Breach> {
    let breach = |what, kind, bytes| {
        let code = match kind {
            "utf8" => 1007,
            "size" => 1009,
            _ => 1002,
        };
        Breach { what, kind, code, bytes }
    };
    let frame = |first, payload: &[u8]| side.frame(first, payload);
    let wrong_mask = encode(TEXT, b"hi", if side == Side::Client { None } else { Some([7; 4]) });
    let fragments = |frames: &[(u8, &[u8])]| {
        frames.iter().flat_map(|(first, payload)| side.frame(*first, payload)).collect()
    };
    let bad_end = [&[b'a'; 4095][..], b"\xff"].concat();
    vec![
        breach("RSV1 (compression nobody agreed to)", "rsv", frame(0xc1, b"hi")),
        breach("RSV2", "rsv", frame(0xa2, b"hi")),
        breach("RSV3 on a control frame", "rsv", frame(0x99, b"")),
        breach("the mask is wrong", "mask", wrong_mask),
        breach("opcode 3", "opcode", frame(0x83, b"hi")),
        breach("opcode 7", "opcode", frame(0x87, b"")),
        breach("opcode 11", "opcode", frame(0x8b, b"")),
        breach("opcode 15", "opcode", frame(0x8f, b"")),
        breach("125 bytes in two", "length", side.header(BINARY, 125, 2)),
        breach("65535 bytes in eight", "length", side.header(BINARY, 65535, 8)),
        breach("2^63 bytes", "length", side.header(BINARY, 1 << 63, 8)),
        breach("continuation of nothing", "fragmentation", frame(0x80, b"hi")),
        breach("continuation after the end", "fragmentation", frame(0x00, b"hi")),
        breach("a fragmented ping", "control", frame(0x09, b"")),
        breach("a fragmented close", "control", frame(0x08, b"")),
        breach("a ping of 126 bytes", "control", frame(PING, &[0; 126])),
        breach(
            "a close of 126 bytes",
            "control",
            frame(CLOSE, &close_payload(Some(1000), &"x".repeat(124))),
        ),
        breach("half a close code", "control", frame(CLOSE, b"\x03")),
        breach("a close reason that is no text", "utf8", frame(CLOSE, b"\x03\xe8\xff")),
        breach("text that is none", "utf8", frame(TEXT, b"hi\xff")),
        breach("overlong", "utf8", frame(TEXT, b"\xc0\xaf")),
        breach("a surrogate", "utf8", frame(TEXT, b"\xed\xa0\x80")),
        breach("beyond Unicode", "utf8", frame(TEXT, b"\xf4\x90\x80\x80")),
        breach("half a character", "utf8", frame(TEXT, b"\xc3")),
        breach("illegal by its last byte", "utf8", frame(TEXT, &bad_end)),
        breach("too large, by its header", "size", side.header(BINARY, 9001, 2)),
        breach("far too large", "size", side.header(BINARY, (1 << 63) - 1, 8)),
        breach("whole and too large", "size", fragments(&[(BINARY, &[0; 9001])])),
    ]
}

/// Breaches for which legal frames of the same message must come before.
fn late_breaches(side: Side) -> Vec<(Vec<u8>, Breach)> {
    let frame = |first, payload: &[u8]| side.frame(first, payload);
    let breach = |what, kind, code, bytes| Breach { what, kind, code, bytes };
    let row = |legal, breach| (legal, breach);
    vec![
        row(
            frame(0x01, b"be"),
            breach("a message within a message", "fragmentation", 1002, frame(TEXT, b"gin")),
        ),
        row(
            frame(0x02, b"be"),
            breach("a start within a message", "fragmentation", 1002, frame(0x01, b"gin")),
        ),
        row(
            frame(0x01, b"\xe2\x82"),
            breach("a character broken off", "utf8", 1007, frame(0x80, b"a")),
        ),
        row(
            frame(0x01, b"\xe2\x82"),
            breach("a character without its end", "utf8", 1007, frame(0x80, b"")),
        ),
        row(
            [frame(0x02, &[0; 4000]), frame(PING, b""), frame(0x00, &[0; 5000])].concat(),
            breach("a byte too many in all fragments", "size", 1009, frame(0x80, b"x")),
        ),
        row(
            [frame(0x02, b""), frame(0x00, b""), frame(0x00, b"")].concat(),
            breach("a fragment too many", "size", 1009, frame(0x80, b"")),
        ),
    ]
}

async fn expect_breach(
    gateway: &mut Gateway,
    backend: &Backend,
    side: Side,
    legal: &[u8],
    breach: &Breach,
) {
    println!("{side:?}: {}", breach.what);
    let before = gateway.metrics().await;
    let mut pair = Pair::open(gateway, backend).await;
    let (one, other) = side.ends(&mut pair);
    let behind = side.frame(TEXT, b"comes behind it");
    one.send_raw(&[legal, &breach.bytes, &behind].concat()).await;
    other.expect_raw(legal).await;
    let (label, by, to_client, to_upstream) = match side {
        Side::Client => ("client_violation", "client", breach.code, 1001),
        Side::Upstream => ("upstream_violation", "upstream", 1011, breach.code),
    };
    assert_eq!(pair.client.expect_close().await, (Some(to_client), label.to_owned()));
    assert_eq!(pair.upstream.expect_close().await, (Some(to_upstream), label.to_owned()));
    pair.expect_fins().await;
    let (to_client, to_upstream) = (to_client.to_string(), to_upstream.to_string());
    let ended = Ended::new(label, by, &to_client, &to_upstream).violation(by, breach.kind);
    gateway.expect_record(&pair.id, &before, &ended).await;
}

#[tokio::test]
async fn nothing_of_an_illegal_frame_passes_and_the_legal_ones_before_it_do() {
    let backend = Backend::start().await;
    let setup = open(&backend)
        .limits("message_size = \"9000\"\nupstream_message_size = \"9000\"\nfragments = 3");
    let mut gateway = Gateway::start(&setup).await;
    for side in Side::BOTH {
        let legal = [
            side.frame(TEXT, b"before"),
            side.frame(PING, b"as well"),
            side.frame(BINARY, &[9; 5000]),
        ];
        for breach in breaches(side) {
            expect_breach(&mut gateway, &backend, side, &legal.concat(), &breach).await;
        }
        for (legal, breach) in late_breaches(side) {
            expect_breach(&mut gateway, &backend, side, &legal, &breach).await;
        }
    }
}

#[tokio::test]
async fn nothing_of_an_illegal_frame_passes_however_it_is_split() {
    let backend = Backend::start().await;
    let mut gateway = Gateway::start(&open(&backend)).await;
    for side in Side::BOTH {
        let frame = side.frame(TEXT, b"hello \xff");
        for at in 1..frame.len() {
            let mut pair = Pair::open(&gateway, &backend).await;
            let (one, other) = side.ends(&mut pair);
            one.send_raw(&frame[..at]).await;
            other.send_text("split here").await;
            one.expect_text("split here").await;
            one.send_raw(&frame[at..]).await;
            assert_eq!(one.expect_close().await.0, Some(1007));
            other.expect_close().await;
            pair.expect_fins().await;
            gateway.line_of(&pair.id).await;
        }
    }
}

#[tokio::test]
async fn each_direction_has_its_own_size_limit_and_what_is_just_within_passes() {
    let backend = Backend::start().await;
    let setup = open(&backend)
        .limits("message_size = \"1000\"\nupstream_message_size = \"100KiB\"\nfragments = 3");
    let mut gateway = Gateway::start(&setup).await;
    for (side, most, detail) in [
        (Side::Client, 1000, "client: the message is larger than limits.message_size, 1000 bytes"),
        (
            Side::Upstream,
            100 * 1024,
            "upstream: the message is larger than limits.upstream_message_size, 102400 bytes",
        ),
    ] {
        let mut pair = Pair::open(&gateway, &backend).await;
        let bytes = payload(BINARY, most);
        let half = bytes.split_at(most / 2);
        let whole = side.frame(BINARY, &bytes);
        let halves = [side.frame(0x02, half.0), side.frame(0x80, half.1)].concat();
        let three = [(0x02, b"1"), (0x00, b"2"), (0x80, b"3")];
        let three = three.map(|(first, payload)| side.frame(first, payload)).concat();
        // Each message starts anew.
        for frames in [&whole, &halves, &three, &whole, &three] {
            expect_verbatim(&mut pair, side, frames).await;
        }
        let (one, other) = side.ends(&mut pair);
        one.send_raw(&side.header(BINARY, most as u64 + 1, if most < 65536 { 2 } else { 8 })).await;
        assert_eq!(one.expect_close().await.0, Some(1009));
        other.expect_close().await;
        pair.expect_fins().await;
        assert_eq!(gateway.line_of(&pair.id).await["detail"], detail);
    }
}

#[tokio::test]
async fn text_is_not_looked_into_where_that_is_switched_off() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&open(&backend).limits("text_utf8 = false")).await;
    let mut pair = Pair::open(&gateway, &backend).await;
    for side in Side::BOTH {
        for bytes in [&b"\xff"[..], b"\xc3", &[0xfe; 70_000]] {
            expect_verbatim(&mut pair, side, &side.frame(TEXT, bytes)).await;
        }
        // A close reason is still read, and must be text.
        let mut pair = Pair::open(&gateway, &backend).await;
        let (one, other) = side.ends(&mut pair);
        one.send(CLOSE, b"\x03\xe8\xff").await;
        assert_eq!(one.expect_close().await.0, Some(1007));
        other.expect_close().await;
        pair.expect_fins().await;
    }
}
