//! Facts about PROXY headers of both versions.

use std::net::{SocketAddrV4, SocketAddrV6};

use proptest::prelude::*;

use super::*;

#[test]
fn lines_of_version_1_tell_both_addresses() {
    for (line, expected) in [
        ("PROXY TCP4 192.0.2.1 198.51.100.2 56324 443", v4()),
        ("PROXY TCP4 0.0.0.0 0.0.0.0 0 0", proxied_text("0.0.0.0:0", "0.0.0.0:0")),
        (
            "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535",
            proxied_text("255.255.255.255:65535", "255.255.255.255:65535"),
        ),
        ("PROXY TCP6 2001:db8::1 2001:DB8::2 56324 443", v6()),
        ("PROXY TCP6 :: :: 0 0", proxied_text("[::]:0", "[::]:0")),
        (LONGEST_TCP6, proxied_text(&format!("[{ONES}]:65535"), &format!("[{ONES}]:65535"))),
        ("PROXY TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.2 56324 443", v4()),
        ("PROXY TCP6 ::ffff:c000:201 ::ffff:c633:6402 56324 443", v4()),
        ("PROXY UNKNOWN", ProxyHeader::Unknown),
        ("PROXY UNKNOWN ", ProxyHeader::Unknown),
        ("PROXY UNKNOWN ff:: anything 1  2 \u{e9}", ProxyHeader::Unknown),
    ] {
        assert_eq!(parse(&v1(line)), Ok(Progress::Done(expected)), "{line}");
    }
}

#[test]
fn lines_of_version_1_are_read_strictly() {
    for (line, expected) in [
        ("GET / HTTP/1.1\r\n", ProxyError::Missing),
        ("proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n", ProxyError::Missing),
        (" PROXY UNKNOWN\r\n", ProxyError::Missing),
        ("PROXY\r\n", ProxyError::Missing),
        ("PROXY \r\n", ProxyError::Protocol),
        ("PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n", ProxyError::Protocol),
        ("PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n", ProxyError::Protocol),
        ("PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n", ProxyError::Protocol),
        ("PROXY tcp4 192.0.2.1 192.0.2.2 1 2\r\n", ProxyError::Protocol),
        ("PROXY UNKNOWNX\r\n", ProxyError::Protocol),
        ("PROXY UNKN\r\n", ProxyError::Protocol),
        ("PROXY TCP4\r\n", ProxyError::Fields),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n", ProxyError::Fields),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n", ProxyError::Fields),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n", ProxyError::Fields),
        ("PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n", ProxyError::Fields),
        ("PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n", ProxyError::Address),
        ("PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n", ProxyError::Address),
        ("PROXY TCP4 192.0.2.1 ::1 1 2\r\n", ProxyError::Address),
        ("PROXY TCP4 ::ffff:192.0.2.1 ::ffff:192.0.2.2 1 2\r\n", ProxyError::Address),
        ("PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n", ProxyError::Address),
        ("PROXY TCP6 [::1] [::1] 1 2\r\n", ProxyError::Address),
        ("PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", ProxyError::Address),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n", ProxyError::Port),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n", ProxyError::Port),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n", ProxyError::Port),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 00\r\n", ProxyError::Port),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 \r\n", ProxyError::Port),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 x\r\n", ProxyError::Port),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n", ProxyError::LineEnd),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\rx", ProxyError::LineEnd),
        ("PROXY UNKNOWN \r \r\n", ProxyError::LineEnd),
    ] {
        assert_eq!(parse(line.as_bytes()), Err(expected), "{line:?}");
    }
    assert_eq!(parse(b"PROXY TCP4 \xff 192.0.2.2 1 2\r\n"), Err(ProxyError::Fields));
}

#[test]
fn a_line_of_version_1_has_at_most_107_bytes() {
    let padded = |length: usize| v1(&format!("PROXY UNKNOWN {:x<1$}", "", length - 16));
    assert_eq!(padded(107).len(), 107);
    assert_eq!(parse(&padded(107)), Ok(Progress::Done(ProxyHeader::Unknown)));
    assert_eq!(parse(&padded(108)), Err(ProxyError::LineTooLong));
    // Told as soon as no room is left for the line end.
    assert_eq!(parse(&padded(108)[..105]), Ok(Progress::Need(2)));
    assert_eq!(parse(&padded(108)[..106]), Err(ProxyError::LineTooLong));
}

/// Found by fuzzing: at 94 bytes the line was too long for what had to follow, and two spaces later,
/// with the fields in between empty, it was not.
#[test]
fn a_field_of_version_1_that_ends_too_short_is_an_error_at_once() {
    let long = format!("PROXY TCP4 {}", "1".repeat(83));
    assert_eq!(parse(long.as_bytes()), Err(ProxyError::LineTooLong));
    assert!(parse(format!("{long}  ").as_bytes()).is_err());
    assert_eq!(parse(b"PROXY TCP4 1.2.3 "), Err(ProxyError::Fields));
    assert_eq!(parse(b"PROXY TCP6 ::  "), Err(ProxyError::Fields));
}

#[test]
fn version_2_tells_both_addresses() {
    let tlvs = [0x04, 0x00, 0x01, 0xff, 0x20, 0x00, 0x00];
    let mapped: [u8; 36] = *b"\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\x02\x01\
        \0\0\0\0\0\0\0\0\0\0\xff\xff\xc6\x33\x64\x02\xdc\x04\x01\xbb";
    for (command, family, body, expected) in [
        (0x21, 0x11, V4_BODY.to_vec(), v4()),
        (0x21, 0x12, V4_BODY.to_vec(), v4()),
        (0x21, 0x21, V6_BODY.to_vec(), v6()),
        (0x21, 0x22, V6_BODY.to_vec(), v6()),
        (0x21, 0x21, mapped.to_vec(), v4()),
        (0x21, 0x11, [V4_BODY, &tlvs].concat(), v4()),
        (0x21, 0x21, [V6_BODY, &tlvs].concat(), v6()),
        (0x21, 0x11, [V4_BODY, &[0; 4096 - 16 - 12]].concat(), v4()),
        (0x21, 0x31, vec![b'/'; 216], ProxyHeader::Unknown),
        (0x21, 0x32, vec![b'/'; 300], ProxyHeader::Unknown),
        (0x21, 0x00, vec![], ProxyHeader::Unknown),
        (0x21, 0x00, tlvs.to_vec(), ProxyHeader::Unknown),
        (0x20, 0x00, vec![], ProxyHeader::Local),
        (0x20, 0x11, V4_BODY.to_vec(), ProxyHeader::Local),
        // The family of LOCAL is ignored, whatever it is.
        (0x20, 0xff, vec![1, 2, 3], ProxyHeader::Local),
    ] {
        let found = parse(&v2(command, family, &body));
        assert_eq!(found, Ok(Progress::Done(expected)), "{command:#x} {family:#x} {}", body.len());
    }
}

#[test]
fn version_2_is_read_strictly() {
    for (command, family, body, expected) in [
        (0x11, 0x11, V4_BODY.to_vec(), ProxyError::Version(1)),
        (0x31, 0x11, V4_BODY.to_vec(), ProxyError::Version(3)),
        (0x22, 0x11, V4_BODY.to_vec(), ProxyError::Command(2)),
        (0x2f, 0x11, V4_BODY.to_vec(), ProxyError::Command(15)),
        (0x21, 0x10, V4_BODY.to_vec(), ProxyError::Family(0x10)),
        (0x21, 0x13, V4_BODY.to_vec(), ProxyError::Family(0x13)),
        (0x21, 0x01, V4_BODY.to_vec(), ProxyError::Family(0x01)),
        (0x21, 0x41, V6_BODY.to_vec(), ProxyError::Family(0x41)),
        (0x21, 0x11, vec![], ProxyError::AddressesCut),
        (0x21, 0x11, V4_BODY[..11].to_vec(), ProxyError::AddressesCut),
        (0x21, 0x21, V6_BODY[..35].to_vec(), ProxyError::AddressesCut),
        (0x21, 0x31, vec![0; 215], ProxyError::AddressesCut),
        (0x21, 0x11, vec![0; 4081], ProxyError::TooLong(4097)),
        (0x20, 0x00, vec![0; 65535], ProxyError::TooLong(65551)),
    ] {
        let bytes = v2(command, family, &body);
        assert_eq!(parse(&bytes), Err(expected), "{command:#x} {family:#x} {}", body.len());
    }
    assert_eq!(parse(b"\r\n\r\n\0\r\nQUIT\r"), Err(ProxyError::Missing));
}

#[test]
fn what_is_no_header_is_told_by_its_first_bytes() {
    for bytes in [&b"G"[..], b"\x16\x03\x01", b"P ", b"PRI * HTTP/2.0\r\n", b"\r\nGET", b"\0"] {
        assert_eq!(parse(bytes), Err(ProxyError::Missing), "{bytes:?}");
    }
    for bytes in [&b"PROXY TCP7"[..], b"PROXY X", b"PROXY TCP ", b"PROXY  ", b"PROXY TCP7\r"] {
        assert_eq!(parse(bytes), Err(ProxyError::Protocol), "{bytes:?}");
    }
}

#[test]
fn every_split_of_a_header_is_read_to_its_end_and_not_beyond() {
    for header in headers() {
        let done = parse(&header).unwrap();
        assert!(matches!(done, Progress::Done(_)));
        for length in 0..header.len() {
            match parse(&header[..length]) {
                Ok(Progress::Need(more)) => {
                    assert!((1..=header.len() - length).contains(&more), "{length} {header:?}");
                }
                other => panic!("{length} {header:?}: {other:?}"),
            }
        }
        // Whatever a read gives at most, what follows the header stays unread.
        for most in [1, 2, 3, 5, 15, 16, 17, 64, usize::MAX] {
            let stream = [&header[..], b"GET / HTTP/1.1\r\n\r\n"].concat();
            assert_eq!(feed(&stream, most).0, Ok(done));
            assert_eq!(feed(&stream, most).1, header.len(), "{most} {header:?}");
        }
    }
}

#[test]
fn a_header_takes_few_reads() {
    for (header, most) in [
        (v1("PROXY TCP4 192.0.2.1 198.51.100.2 56324 443"), 8),
        (v1(LONGEST_TCP6), 16),
        (v1("PROXY UNKNOWN"), 1),
        (v2(0x21, 0x21, V6_BODY), 3),
    ] {
        let reads = feed(&header, usize::MAX).2;
        assert!(reads <= most, "{reads} reads for {header:?}");
    }
}

#[test]
fn bytes_behind_the_header_do_not_matter() {
    for header in headers() {
        for tail in [&b"\r\n"[..], b"\n", b" 1 2\r\n", &[0xff; 5000]] {
            assert_eq!(parse(&[&header[..], tail].concat()), parse(&header), "{header:?}");
        }
    }
}

/// Text near enough to version 1 to get past its first bytes.
fn like_v1() -> impl Strategy<Value = Vec<u8>> {
    let part = prop::sample::select(
        &[
            "TCP4",
            "TCP6",
            "UNKNOWN",
            "UNK",
            " ",
            " ",
            " ",
            "192.0.2.1",
            "::1",
            "::ffff:1.2.3.4",
            "0",
            "443",
            "65536",
            "\r\n",
            "\r",
            "\n",
            "x",
            ".",
            ":",
        ][..],
    );
    prop::collection::vec(part, 0..24).prop_map(|parts| format!("PROXY {}", parts.concat()).into())
}

/// Version 2 with any fixed part and any body, whole or not.
fn like_v2() -> impl Strategy<Value = Vec<u8>> {
    let command = prop_oneof![4 => Just(0x21_u8), 1 => Just(0x20), 1 => any::<u8>()];
    let known = [0x00_u8, 0x11, 0x12, 0x21, 0x22, 0x31, 0x32];
    let family = prop_oneof![4 => prop::sample::select(known.to_vec()), 1 => any::<u8>()];
    let length = prop_oneof![4 => 0..260_u16, 1 => any::<u16>()];
    let body = prop::collection::vec(any::<u8>(), 0..300);
    (command, family, length, body).prop_map(|(command, family, length, body)| {
        let [high, low] = length.to_be_bytes();
        [V2_SIGNATURE, &[command, family, high, low], &body].concat()
    })
}

fn both<T: Into<SocketAddr>>((source, destination): (T, T)) -> (SocketAddr, SocketAddr) {
    (source.into(), destination.into())
}

proptest! {
    // Cheap cases, of which few come near the edges.
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn lines_as_balancers_write_them_are_read(
        (source, destination) in prop_oneof![
            (any::<SocketAddrV4>(), any::<SocketAddrV4>()).prop_map(both),
            (any::<SocketAddrV6>(), any::<SocketAddrV6>()).prop_map(both),
        ],
        most in 1..120_usize,
    ) {
        let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
        let (from, to) = (source.ip(), destination.ip());
        let line = v1(&format!(
            "PROXY {family} {from} {to} {} {}", source.port(), destination.port()
        ));
        let expected = proxied((from, source.port()), (to, destination.port()));
        let stream = [&line[..], b"\r\nbehind"].concat();
        let (found, read, _) = feed(&stream, most);
        prop_assert_eq!(found, Ok(Progress::Done(expected)));
        prop_assert_eq!(read, line.len());
    }

    #[test]
    fn a_verdict_is_final_and_a_need_is_real(
        bytes in prop_oneof![like_v1(), like_v2(), prop::collection::vec(any::<u8>(), 0..64)]
    ) {
        for length in 0..=bytes.len() {
            match parse(&bytes[..length]) {
                Ok(Progress::Need(more)) => {
                    prop_assert!((1..=V2_MAX - length).contains(&more));
                    // Nothing shorter than what was asked for is a whole header.
                    for longer in length..(length + more).min(bytes.len() + 1) {
                        let found = parse(&bytes[..longer]);
                        prop_assert!(!matches!(found, Ok(Progress::Done(_))), "{}", longer);
                    }
                }
                Ok(done) => prop_assert_eq!(parse(&bytes), Ok(done)),
                Err(_) => prop_assert!(parse(&bytes).is_err()),
            }
        }
    }
}

/// Reads a stream as the listener does, at most `most` bytes at a time: what came out, how many
/// bytes were read and by how many reads.
fn feed(stream: &[u8], most: usize) -> (Result<Progress, ProxyError>, usize, usize) {
    let (mut read, mut reads) = (0, 0);
    loop {
        match parse(&stream[..read]) {
            Ok(Progress::Need(more)) if read < stream.len() => {
                read = (read + more.min(most)).min(stream.len());
                reads += 1;
            }
            other => return (other, read, reads),
        }
    }
}

/// One header of each kind.
fn headers() -> Vec<Vec<u8>> {
    vec![
        v1("PROXY TCP4 192.0.2.1 198.51.100.2 56324 443"),
        v1("PROXY TCP4 0.0.0.0 0.0.0.0 0 0"),
        v1("PROXY TCP4 0.0.0.0 255.255.255.255 0 65535"),
        v1("PROXY TCP6 :: :: 0 0"),
        v1("PROXY TCP6 2001:db8::1 ::ffff:192.0.2.1 56324 443"),
        v1(LONGEST_TCP6),
        v1("PROXY UNKNOWN"),
        v1("PROXY UNKNOWN "),
        v1(&format!("PROXY UNKNOWN {:x<91}", "")),
        v2(0x20, 0x00, &[]),
        v2(0x21, 0x00, &[]),
        v2(0x21, 0x11, V4_BODY),
        v2(0x21, 0x21, V6_BODY),
        v2(0x21, 0x31, &[b'/'; 216]),
        v2(0x21, 0x11, &[V4_BODY, &[0x20; 500]].concat()),
    ]
}

fn v1(line: &str) -> Vec<u8> {
    format!("{line}\r\n").into_bytes()
}

fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(body.len()).unwrap().to_be_bytes();
    [V2_SIGNATURE, &[command, family, high, low], body].concat()
}

fn proxied_text(source: &str, destination: &str) -> ProxyHeader {
    ProxyHeader::Proxied {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
    }
}

fn v4() -> ProxyHeader {
    proxied_text("192.0.2.1:56324", "198.51.100.2:443")
}

fn v6() -> ProxyHeader {
    proxied_text("[2001:db8::1]:56324", "[2001:db8::2]:443")
}

const ONES: &str = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
const LONGEST_TCP6: &str = "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
    ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535";
const V4_BODY: &[u8] = b"\xc0\0\x02\x01\xc6\x33\x64\x02\xdc\x04\x01\xbb";
const V6_BODY: &[u8] = b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\
    \x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02\xdc\x04\x01\xbb";
