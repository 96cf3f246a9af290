//! Hostile frames, exhaustively: every first byte, every control opcode's lengths, every class of close
//! codes, judged by an oracle written from RFC 6455 and not from the gateway.
//!
//! The breaches one by one, and that nothing of them passes, are in `frames`; here it is that no value
//! is forgotten, from both sides.

use crate::support::hostile::{all_is_back, calm};
use crate::support::wire::{CLOSE, close_payload, encode};
use crate::support::{Backend, Gateway, Pair, Side};

/// What RFC 6455 section 5.2 and 5.4 say of a masked frame with two bytes of payload, first in its session.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Passes,
    Closes,
    Breach(u16),
}

/// The payload of every frame here: text, and as a Close the code 1000.
const PAYLOAD: &[u8] = b"\x03\xe8";

fn oracle(first: u8) -> Verdict {
    let (fin, rsv, opcode) = (first & 0x80 != 0, first & 0x70, first & 0x0f);
    match opcode {
        // No extension was negotiated: RSV must be 0, whatever the rest says.
        _ if rsv != 0 => Verdict::Breach(1002),
        3..=7 | 11..=15 => Verdict::Breach(1002),
        0 => Verdict::Breach(1002),
        // Two bytes that are not UTF-8: 0xe8 alone begins a character of three.
        1 if fin => Verdict::Breach(1007),
        1 | 2 => Verdict::Passes,
        8 if fin => Verdict::Closes,
        9 | 10 if fin => Verdict::Passes,
        _ => Verdict::Breach(1002),
    }
}

/// The codes that the sides are told for a breach of `side`.
fn told(side: Side, blame: u16) -> (u16, u16, &'static str) {
    match side {
        Side::Client => (blame, 1001, "client_violation"),
        Side::Upstream => (1011, blame, "upstream_violation"),
    }
}

async fn expect_breach(pair: &mut Pair, side: Side, blame: u16, what: &str) {
    let (client, upstream, label) = told(side, blame);
    let found = (pair.client.expect_close().await, pair.upstream.expect_close().await);
    let expected = ((Some(client), label.to_owned()), (Some(upstream), label.to_owned()));
    assert_eq!(found, expected, "{side:?} {what}");
    pair.expect_fins().await;
}

#[tokio::test]
async fn every_first_byte_of_a_frame_is_judged_as_the_rfc_says() {
    let backend = Backend::start().await;
    let mut gateway = Gateway::start(&calm(&backend.url())).await;
    for side in Side::BOTH {
        for first in 0..=255 {
            let mut pair = Pair::open(&gateway, &backend).await;
            let (one, other) = side.ends(&mut pair);
            let frame = encode(first, PAYLOAD, one.mask);
            one.send_raw(&frame).await;
            let verdict = oracle(first);
            match verdict {
                Verdict::Passes => {
                    other.expect_raw(&frame).await;
                    one.send_close(1000, "").await;
                    assert_eq!(other.expect_close().await.0, Some(1000), "{first:#x}");
                }
                Verdict::Closes => {
                    assert_eq!(other.expect_close().await.0, Some(1000), "{first:#x}");
                }
                Verdict::Breach(blame) => {
                    expect_breach(&mut pair, side, blame, &format!("{first:#x}")).await;
                    assert_eq!(gateway.line_of(&pair.id).await["label"], told(side, blame).2);
                    continue;
                }
            }
            other.send_close(1000, "").await;
            assert_eq!(one.expect_close().await.0, Some(1000), "{first:#x}");
            pair.expect_fins().await;
        }
    }
    all_is_back(&gateway).await;
}

/// A header with an explicit length field: 7, 16 or 64 bits.
fn header(first: u8, field: u8, len: u64, mask: Option<[u8; 4]>) -> Vec<u8> {
    let bit = if mask.is_some() { 0x80 } else { 0 };
    let extended = match field {
        126 => len.to_be_bytes()[6..].to_vec(),
        127 => len.to_be_bytes().to_vec(),
        _ => Vec::new(),
    };
    let key = mask.map(|key| key.to_vec()).unwrap_or_default();
    [vec![first, bit | field], extended, key].concat()
}

/// Length fields, and the code for them in a data frame; limits are the defaults or below 16 MiB.
const LENGTHS: &[(u8, u64, u16)] = &[
    // Not in the shortest form (RFC 6455 section 5.2).
    (126, 0, 1002),
    (126, 1, 1002),
    (126, 124, 1002),
    (126, 125, 1002),
    (127, 0, 1002),
    (127, 1, 1002),
    (127, 125, 1002),
    (127, 126, 1002),
    (127, 65534, 1002),
    (127, 65535, 1002),
    // The most significant bit must be 0.
    (127, 1 << 63, 1002),
    (127, (1 << 63) + 5, 1002),
    (127, u64::MAX, 1002),
    // Legal, and more than anybody takes: said by the header alone, nothing of it is waited for.
    (127, (16 << 20) + 1, 1009),
    (127, u32::MAX as u64, 1009),
    (127, 1 << 32, 1009),
    (127, (1 << 32) + 1, 1009),
    (127, (1 << 63) - 1, 1009),
];

#[tokio::test]
async fn every_border_of_a_length_is_judged_by_the_header_alone() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&calm(&backend.url())).await;
    for side in Side::BOTH {
        for (field, len, blame) in LENGTHS {
            // A data frame, a fragment of one, and controls, which have at most 125 bytes.
            for first in [0x81, 0x82, 0x01, 0x02, 0x88, 0x89, 0x8a] {
                let blame = if first & 8 != 0 { 1002 } else { *blame };
                let mut pair = Pair::open(&gateway, &backend).await;
                let (one, _) = side.ends(&mut pair);
                let bytes = header(first, *field, *len, one.mask);
                one.send_raw(&bytes).await;
                let what = format!("{first:#x} with a length of {len} in {field}");
                expect_breach(&mut pair, side, blame, &what).await;
            }
        }
    }
    all_is_back(&gateway).await;
}

/// Classes of codes that must not be on the wire, by their borders.
const ILLEGAL: &[(u16, u16)] = &[(0, 999), (1004, 1006), (1015, 2999), (5000, 65535)];
/// Those that may.
const LEGAL: &[(u16, u16)] = &[(1000, 1003), (1007, 1014), (3000, 4999)];

/// Borders of each class, and some within it.
fn samples(classes: &[(u16, u16)], random: &mut fastrand::Rng) -> Vec<u16> {
    let of = |(low, high): &(u16, u16)| {
        let within: Vec<u16> = (0..6).map(|_| random.u16(*low..=*high)).collect();
        [vec![*low, *high], within].concat()
    };
    classes.iter().flat_map(of).collect()
}

#[tokio::test]
async fn every_class_of_close_codes_is_told_apart_at_its_borders() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let classes = [(samples(ILLEGAL, &mut random), false), (samples(LEGAL, &mut random), true)];
    let backend = Backend::start().await;
    let mut gateway = Gateway::start(&calm(&backend.url())).await;
    for side in Side::BOTH {
        for (code, is_legal) in
            classes.iter().flat_map(|(codes, is)| codes.iter().map(|c| (*c, *is)))
        {
            let mut pair = Pair::open(&gateway, &backend).await;
            let (one, other) = side.ends(&mut pair);
            one.send(CLOSE, &close_payload(Some(code), "why")).await;
            let label = if side == Side::Client { "client_closed" } else { "upstream_closed" };
            if is_legal {
                assert_eq!(other.expect_close().await, (Some(code), "why".to_owned()));
                other.send_close(code, "").await;
                assert_eq!(one.expect_close().await.0, Some(code));
            } else {
                let codes = if side == Side::Client { [1002, 1001] } else { [1011, 1002] };
                let found = [pair.client.expect_close().await, pair.upstream.expect_close().await];
                assert_eq!(found, codes.map(|code| (Some(code), label.to_owned())), "{code}");
            }
            pair.expect_fins().await;
            assert_eq!(gateway.line_of(&pair.id).await["label"], label, "{code}");
        }
    }
    all_is_back(&gateway).await;
}

#[tokio::test]
async fn a_close_payload_that_is_none_is_a_breach_of_its_kind() {
    let crab = "\u{1f980}".as_bytes();
    let reason = |bytes: &[u8]| [&b"\x03\xe8"[..], bytes].concat();
    let rows = [
        (vec![0x03], 1002),
        (vec![0xff], 1002),
        (reason(b"\xff"), 1007),
        (reason(b"\xc0\x80"), 1007),
        (reason(b"\xed\xbf\xbf"), 1007),
        (reason(b"\xf5\x80\x80\x80"), 1007),
        (reason(b"fine so far \xe2\x82"), 1007),
        (reason(&crab[..3]), 1007),
        // Cut where 125 bytes end.
        (reason(&[&[b'x'; 122][..], &crab[..1]].concat()), 1007),
        // As long as a reason can be.
        (reason(&[0x80; 123]), 1007),
    ];
    let backend = Backend::start().await;
    let mut gateway = Gateway::start(&calm(&backend.url())).await;
    for side in Side::BOTH {
        for (payload, blame) in &rows {
            let mut pair = Pair::open(&gateway, &backend).await;
            side.ends(&mut pair).0.send(CLOSE, payload).await;
            expect_breach(&mut pair, side, *blame, &format!("{payload:?}")).await;
            assert_eq!(gateway.line_of(&pair.id).await["label"], told(side, *blame).2);
        }
    }
}
