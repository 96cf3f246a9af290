//! Hostile clients in a session: floods, endless messages, silence. The answer stands beside each
//! row, the memory stays bounded, and a bystander's messages are all answered meanwhile.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::backend::Asked;
use crate::support::hostile::{Witness, all_is_back, calm, resident};
use crate::support::wire::{BINARY, PING, PONG, TEXT, close_payload, encode};
use crate::support::{Backend, End, Gateway, Setup, Wire, within};

/// Frames of a flood: enough that a byte kept of each would show, few enough for a debug build.
const FRAMES: usize = 200_000;

/// What an attack may add to the gateway's memory: a session holds at most 64 KiB for each side, a
/// thread its scratch buffers, and what the allocator keeps of them fits easily into the rest. A gateway
/// that kept 24 bytes of each of [`FRAMES`] frames would be over it.
const GROWTH: f64 = (4 << 20) as f64;

/// An attack within a session, whole as bytes; the answer is what both ends are told.
struct Flood {
    what: &'static str,
    /// Sent again and again.
    unit: Vec<u8>,
    times: usize,
    /// Sent first and last.
    first: Vec<u8>,
    last: Vec<u8>,
    /// Code to the client, label, code upstream.
    told: (u16, &'static str, u16),
    /// Frames that reach the upstream before its Close.
    passes: usize,
}

const KEY: Option<[u8; 4]> = Some([0x1f, 0x2e, 0x3d, 0x4c]);

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    encode(first, payload, KEY)
}

/// What a peaceful end is told: its own code.
const DONE: (u16, &str, u16) = (4000, "client_closed", 4000);
const SIZE: (u16, &str, u16) = (1009, "client_violation", 1001);
const BROKEN: (u16, &str, u16) = (1002, "client_violation", 1001);

fn close() -> Vec<u8> {
    frame(0x88, &close_payload(Some(4000), "enough"))
}

/// A flood with a Close at its end, what is told for it and how many frames pass.
fn row(
    what: &'static str,
    unit: Vec<u8>,
    times: usize,
    (told, passes): ((u16, &'static str, u16), usize),
) -> Flood {
    Flood { what, unit, times, first: Vec::new(), last: close(), told, passes }
}

fn floods() -> Vec<Flood> {
    let close = close();
    vec![
        row("pings", frame(PING, b"x"), FRAMES, (DONE, FRAMES)),
        row("pongs nobody asked for", frame(PONG, &[b'x'; 125]), FRAMES, (DONE, FRAMES)),
        row("messages of one byte", frame(BINARY, b"x"), FRAMES, (DONE, FRAMES)),
        row("messages of nothing", frame(TEXT, b""), FRAMES, (DONE, FRAMES)),
        Flood {
            first: frame(0x02, b""),
            last: [frame(0x80, b""), close.clone()].concat(),
            ..row("fragments up to the limit", frame(0x00, b"x"), 65_534, (DONE, 65_536))
        },
        Flood {
            first: frame(0x01, b""),
            ..row("endless fragments of nothing", frame(0x00, b""), FRAMES, (SIZE, 65_536))
        },
        Flood {
            first: frame(0x02, b""),
            ..row(
                "endless fragments with pings between",
                [frame(0x00, b"x"), frame(PING, b"")].concat(),
                FRAMES,
                (SIZE, 65_536 + 65_535),
            )
        },
        Flood {
            first: frame(0x02, b""),
            ..row(
                "a message without end",
                frame(0x00, &[b'x'; 4000]),
                20_000,
                (SIZE, 1 + (1 << 20) / 4000),
            )
        },
        Flood {
            last: vec![0x83, 0x80, 0, 0, 0, 0],
            ..row("a breach behind a flood", frame(BINARY, b"x"), FRAMES, (BROKEN, FRAMES))
        },
        Flood {
            first: close.clone(),
            ..row("data behind the Close", frame(BINARY, &[b'x'; 1000]), 20_000, (DONE, 0))
        },
        Flood {
            first: close.clone(),
            ..row("Closes behind the Close", close.clone(), FRAMES, (DONE, 0))
        },
    ]
}

/// What the other end of an attacked session had: its bytes are not kept.
struct Heard {
    frames: usize,
    close: Option<u16>,
}

/// Reads frames until a Close, answers it.
async fn hear(mut wire: Wire) -> Heard {
    let mut heard = Heard { frames: 0, close: None };
    // `Wire::frame` takes a frame off the front of its buffer, which is dear for a million of them.
    let mut buffer = Vec::new();
    let mut at = 0;
    loop {
        while let Some((first, code, len)) = whole_frame(&buffer[at..]) {
            at += len;
            if first == 0x88 {
                heard.close = code;
                // The gateway may be gone already.
                let _ = wire.stream.write_all(&encode(0x88, &close_payload(code, ""), None)).await;
                let _ = wire.stream.shutdown().await;
                drop(within("FIN", wire.stream.read_to_end(&mut buffer)).await);
                return heard;
            }
            heard.frames += 1;
        }
        buffer.drain(..at);
        at = 0;
        match within("frames", wire.stream.read_buf(&mut buffer)).await {
            Ok(count) if count > 0 => {}
            _ => return heard,
        }
    }
}

/// First byte, close code and length of the masked frame of at most 64 KiB that the bytes begin with.
fn whole_frame(bytes: &[u8]) -> Option<(u8, Option<u16>, usize)> {
    let [first, second, ..] = *bytes else { return None };
    let (len, head) = match second & 0x7f {
        126 => (usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap())), 8),
        short => (usize::from(short), 6),
    };
    let payload = bytes.get(head..head + len)?;
    let key = &bytes[head - 4..head];
    let code = (len >= 2).then(|| u16::from_be_bytes([payload[0] ^ key[0], payload[1] ^ key[1]]));
    Some((first, code, head + len))
}

/// A backend that hears out every session on `/attacked` and echoes on every other path.
fn divided(backend: Backend) -> tokio::sync::mpsc::UnboundedReceiver<Heard> {
    let (tell, heard) = tokio::sync::mpsc::unbounded_channel();
    let backend = Arc::new(backend);
    tokio::spawn(async move {
        loop {
            let stream = backend.accept().await;
            let tell = tell.clone();
            tokio::spawn(async move {
                let mut wire = Wire::new(stream, None);
                let Some(head) = wire.head().await else { return };
                let is_attacked = head.starts_with("GET /attacked");
                let mut wire = Asked { wire, head }.accept("").await;
                if is_attacked {
                    let _ = tell.send(hear(wire).await);
                    return;
                }
                while let Some(frame) = wire.frame().await {
                    wire.send(frame.first, &frame.payload).await;
                    if frame.opcode() == 8 {
                        return wire.expect_end().await;
                    }
                }
            });
        }
    });
    heard
}

async fn attackable(
    change: impl Fn(Setup) -> Setup,
) -> (Gateway, tokio::sync::mpsc::UnboundedReceiver<Heard>) {
    let backend = Backend::start().await;
    let setup = calm(&backend.url()).another_route("/attacked", "chat", "verifier = \"none\"");
    let gateway = Gateway::start(&change(setup)).await;
    (gateway, divided(backend))
}

#[tokio::test]
async fn a_flood_has_its_answer_and_the_bystanders_messages_are_all_answered() {
    let (mut gateway, mut heard) = attackable(|setup| setup).await;
    for row in floods() {
        let witness = Witness::of(&gateway).await;
        let before = resident(&gateway).await;
        let answered = gateway.client().path("/attacked").connect().await;
        assert_eq!(answered.status, 101);
        let id = answered.header("x-request-id").unwrap();
        let (mut from, mut to) = tokio::io::split(answered.wire.stream);
        let bytes = [row.first.clone(), row.unit.repeat(row.times), row.last.clone()].concat();
        // The gateway stops reading at a breach; what is left then has nowhere to go.
        let sends = async { drop(to.write_all(&bytes).await) };
        let mut answer = answered.wire.buffer;
        let reads = async { drop(from.read_to_end(&mut answer).await) };
        within(row.what, async { tokio::join!(sends, reads) }).await;
        let (code, label, upstream) = row.told;
        assert_eq!(answer.get(..1), Some(&[0x88][..]), "{}: {answer:?}", row.what);
        assert_eq!(answer.get(2..4), Some(&code.to_be_bytes()[..]), "{}: {answer:?}", row.what);
        let heard = within("the upstream's end", heard.recv()).await.unwrap();
        assert_eq!(heard.close, Some(upstream), "{}", row.what);
        assert_eq!(heard.frames, row.passes, "{}", row.what);
        drop((from, to));
        assert_eq!(gateway.line_of(&id).await["label"], label, "{}", row.what);
        witness.leave(row.what).await;
        let growth = resident(&gateway).await - before;
        println!("{}: memory {:+.0} KiB", row.what, growth / 1024.0);
        assert!(growth < GROWTH, "{}: {growth}", row.what);
        all_is_back(&gateway).await;
    }
}

/// Members of a room, all of whom get what one says.
const MEMBERS: usize = 8;

#[tokio::test]
async fn members_who_never_read_cost_a_bounded_memory_and_end_and_the_rest_hear_all() {
    let backend = Backend::start().await;
    let setup = calm(&backend.url())
        .timeouts("write_stall = \"1s\"")
        .keepalive("client_ping = \"0\"\nupstream_ping = \"0\"");
    let mut gateway = Gateway::start(&setup).await;
    let (mut deaf, mut rooms) = (Vec::new(), Vec::new());
    for _ in 0..MEMBERS {
        let client = gateway.client().with_little_room();
        let (client, room) = tokio::join!(client.session(), backend.session());
        deaf.push(client);
        rooms.push(room);
    }
    let (mut hears, mut says) = tokio::join!(gateway.client().session(), backend.session());
    let before = resident(&gateway).await;
    // The room is busy: each deaf member's connection is filled until the gateway gives it up.
    let flooded: Vec<_> = rooms.into_iter().map(|room| room.flood(BINARY, &[b'x'; 4000])).collect();
    let mut rooms: Vec<_> = flooded.into_iter().map(|(room, _)| room).collect();
    let mut rounds = 0;
    while gateway.metric(STALLED).await < MEMBERS as f64 {
        let text = format!("round {rounds}");
        says.send_text(&text).await;
        hears.expect_text(&text).await;
        rounds += 1;
        let growth = resident(&gateway).await - before;
        assert!(growth < GROWTH + (MEMBERS * 2 * 65_536) as f64, "{growth}");
    }
    println!("{rounds} rounds while {MEMBERS} members did not read");
    for (room, client) in rooms.iter_mut().zip(&mut deaf) {
        assert_eq!(room.expect_close().await, (Some(1001), "client_timeout".to_owned()));
        // What there is no room for is not said: data, then RST.
        assert_eq!(client.end().await, End::Reset);
    }
    for line in gateway.access_lines("client_timeout", MEMBERS).await {
        let found = ["by", "phase", "client_close", "upstream_close"].map(|name| &line[name]);
        assert_eq!(found, ["gateway", "relay", "none", "1001"], "{line:#}");
    }
    drop((deaf, rooms, hears, says));
    all_is_back(&gateway).await;
}

const STALLED: &str =
    "framegate_endings_total{label=\"client_timeout\",phase=\"relay\",route=\"/ws\"}";

#[tokio::test]
async fn clients_that_vanish_without_fin_are_found_out_and_their_places_given_back() {
    let backend = Backend::start().await;
    let setup = calm(&backend.url())
        .limits(&format!("connections_per_address = {MEMBERS}"))
        .keepalive("client_ping = \"300ms\"\nclient_pong = \"300ms\"\nupstream_ping = \"0\"");
    let mut gateway = Gateway::start(&setup).await;
    let mut vanished = Vec::new();
    for _ in 0..MEMBERS {
        // Open as far as TCP is concerned, and never heard of again.
        vanished.push(tokio::join!(gateway.client().session(), backend.session()));
    }
    assert_eq!(gateway.client().connect().await.status, 429);
    for (_, upstream) in &mut vanished {
        assert_eq!(upstream.expect_close().await, (Some(1001), "client_timeout".to_owned()));
    }
    for line in gateway.access_lines("client_timeout", MEMBERS).await {
        assert_eq!((&line["by"], &line["upstream_close"]), (&"gateway".into(), &"1001".into()));
        assert_eq!(line["client_close"], "4408", "{line:#}");
    }
    // Their places are free although their sockets are not closed on their side.
    let later = tokio::join!(gateway.client().session(), backend.session());
    drop((later, vanished));
    all_is_back(&gateway).await;
}

#[tokio::test]
async fn a_flood_over_the_rate_makes_the_flooder_wait_and_nobody_else() {
    let (mut gateway, mut heard) = attackable(|setup| {
        let limited =
            "verifier = \"none\"\nlimits = { messages = { rate = \"200/s\", burst = 200 } }";
        setup.another_route("/attacked/limited", "chat", limited)
    })
    .await;
    let witness = Witness::of(&gateway).await;
    let began = std::time::Instant::now();
    let mut wire = gateway.client().path("/attacked/limited").session().await;
    wire.send_raw(&frame(PING, b"x").repeat(600)).await;
    wire.send_close(4000, "").await;
    let heard = within("the upstream's end", heard.recv()).await.unwrap();
    assert_eq!((heard.frames, heard.close), (600, Some(4000)));
    // 601 frames, of which 200 may pass at once: the rest takes two seconds.
    assert!(began.elapsed().as_secs_f64() > 1.9, "{:?}", began.elapsed());
    assert_eq!(wire.until_close().await.unwrap().0, Some(4000));
    wire.expect_fin().await;
    drop(wire);
    assert!(gateway.metric("framegate_messages_limited_total{action=\"pause\"}").await >= 1.0);
    gateway.access_line("client_closed").await;
    witness.leave("pings over the rate").await;
    all_is_back(&gateway).await;
}
