//! A PROXY header is read to its end and not a byte beyond, as a plain reading of the specification
//! has it, or refused.
//!
//! Input: what a balancer sends first.
#![no_main]

use std::net::{IpAddr, SocketAddr};

use framegate::internals::protocol::proxy_protocol::{Progress, ProxyError, ProxyHeader, parse};
use libfuzzer_sys::fuzz_target;

/// Reads as the listener does: never more than was asked for. The header and its length.
fn obediently(bytes: &[u8]) -> Option<Result<(ProxyHeader, usize), ProxyError>> {
    let mut end = 0;
    loop {
        match parse(&bytes[..end]) {
            Ok(Progress::Need(more)) => {
                assert!(more > 0 && end + more <= 4096);
                end += more;
            }
            Ok(Progress::Done(header)) => return Some(Ok((header, end))),
            Err(error) => return Some(Err(error)),
        }
        if end > bytes.len() {
            return None;
        }
    }
}

/// The header that a plain reading finds, and its length.
fn reference(bytes: &[u8]) -> Option<(ProxyHeader, usize)> {
    if bytes.starts_with(b"PROXY ") { version_1(bytes) } else { version_2(bytes) }
}

fn version_1(bytes: &[u8]) -> Option<(ProxyHeader, usize)> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let line = &bytes[..end];
    if end + 2 > 107 || line.contains(&b'\r') || line.contains(&b'\n') {
        return None;
    }
    if line == b"PROXY UNKNOWN" || line.starts_with(b"PROXY UNKNOWN ") {
        return Some((ProxyHeader::Unknown, end + 2));
    }
    let words: Vec<&str> = std::str::from_utf8(line).ok()?.split(' ').collect();
    let &[_, family, source, destination, source_port, destination_port] = &words[..] else {
        return None;
    };
    let address = |text: &str, port: &str| {
        let ip: IpAddr = text.parse().ok()?;
        let number: u16 = port.parse().ok()?;
        let fits = family == if ip.is_ipv4() { "TCP4" } else { "TCP6" };
        (fits && number.to_string() == port).then(|| SocketAddr::new(ip.to_canonical(), number))
    };
    let source = address(source, source_port)?;
    let destination = address(destination, destination_port)?;
    Some((ProxyHeader::Proxied { source, destination }, end + 2))
}

fn version_2(bytes: &[u8]) -> Option<(ProxyHeader, usize)> {
    let head = bytes.get(..16).filter(|head| head.starts_with(b"\r\n\r\n\0\r\nQUIT\n"))?;
    let end = 16 + usize::from(head[14]) * 256 + usize::from(head[15]);
    let body = bytes.get(16..end).filter(|_| end <= 4096)?;
    let width = match (head[12], head[13]) {
        (0x20, _) => return Some((ProxyHeader::Local, end)),
        (0x21, 0x11 | 0x12) => 4,
        (0x21, 0x21 | 0x22) => 16,
        (0x21, 0x31 | 0x32) if body.len() >= 216 => return Some((ProxyHeader::Unknown, end)),
        (0x21, 0) => return Some((ProxyHeader::Unknown, end)),
        _ => return None,
    };
    let (addresses, ports) = (body.get(..2 * width)?, body.get(2 * width..2 * width + 4)?);
    let side = |at: usize| {
        let octets = &addresses[at * width..][..width];
        let ip = match <[u8; 4]>::try_from(octets) {
            Ok(v4) => IpAddr::from(v4),
            Err(_) => IpAddr::from(<[u8; 16]>::try_from(octets).expect("16 bytes")),
        };
        let port = u16::from(ports[2 * at]) << 8 | u16::from(ports[2 * at + 1]);
        SocketAddr::new(ip.to_canonical(), port)
    };
    Some((ProxyHeader::Proxied { source: side(0), destination: side(1) }, end))
}

fuzz_target!(|bytes: &[u8]| {
    let expected = reference(bytes);
    match obediently(bytes) {
        Some(Ok((header, end))) => {
            assert_eq!(expected, Some((header, end)));
            assert_eq!(parse(bytes), Ok(Progress::Done(header)), "what follows was looked at");
        }
        Some(Err(error)) => {
            assert_eq!(expected, None, "{error:?}");
            assert!(parse(bytes).is_err());
        }
        None => assert_eq!(expected, None),
    }
    // However it is cut: nothing is decided before the end, and nothing changes behind it.
    let is_refused = parse(bytes).is_err();
    for end in 0..bytes.len().min(600) {
        match parse(&bytes[..end]) {
            Ok(Progress::Need(_)) => assert!(expected.is_none_or(|(_, len)| len > end)),
            Ok(Progress::Done(header)) => {
                let (expected, len) = expected.expect("a header there is one with more behind it");
                assert!(header == expected && len <= end);
            }
            Err(_) => assert!(is_refused, "an error at {end} made good again"),
        }
    }
});
