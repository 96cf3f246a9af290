//! The PROXY protocol header, versions 1 and 2: a balancer tells who its client is. Pure.
//!
//! Specification: HAProxy's `doc/proxy-protocol.txt`, sections 2.1 (version 1, a line of text) and
//! 2.2 (version 2, binary). The bytes behind the header belong to TLS or HTTP, so [`parse`] tells
//! how many bytes may be read without reading past the header's end. Whether a peer may send one is
//! decided by the listener, not here.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::cast_possible_truncation))]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// How far a header has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// At least this many more bytes belong to the header, never 0: read at most so many, then
    /// parse everything read so far again.
    Need(usize),
    /// The header is complete.
    Done(ProxyHeader),
}

/// What a header says of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyHeader {
    /// The balancer speaks for itself (a health check): its own address counts.
    Local,
    /// The balancer speaks for a client. IPv4-mapped IPv6 addresses are given as IPv4.
    Proxied {
        /// The client.
        source: SocketAddr,
        /// What the client connected to.
        destination: SocketAddr,
    },
    /// The balancer speaks for a client without an IP address (unix socket) or does not know it.
    Unknown,
}

/// Why bytes are no PROXY header. The bytes themselves are not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// Neither version's first bytes.
    #[error(
        "the connection does not begin with a PROXY header; set the proxy in front to send one"
    )]
    Missing,
    /// Version 1: no line end within 107 bytes.
    #[error("the PROXY v1 line is longer than 107 bytes")]
    LineTooLong,
    /// Version 1: CR or LF alone.
    #[error("the PROXY v1 line does not end with CR LF")]
    LineEnd,
    /// Version 1: not TCP4, TCP6 or UNKNOWN.
    #[error("the PROXY v1 line names a protocol other than TCP4, TCP6 and UNKNOWN")]
    Protocol,
    /// Version 1: not two addresses and two ports, one space between them.
    #[error("the PROXY v1 line is not made of two addresses and two ports")]
    Fields,
    /// Version 1: an address is none of the family named.
    #[error("the PROXY v1 line has an address that is none of its protocol")]
    Address,
    /// Version 1: a port is no decimal number from 0 to 65535.
    #[error("the PROXY v1 line has a port that is no number from 0 to 65535")]
    Port,
    /// Version 2: the version is not 2.
    #[error("the binary PROXY header has version {0}, not 2")]
    Version(u8),
    /// Version 2: neither LOCAL nor PROXY.
    #[error("the PROXY v2 header has the unknown command {0}")]
    Command(u8),
    /// Version 2: an address family or transport that is not defined.
    #[error("the PROXY v2 header has the unknown address family {0:#04x}")]
    Family(u8),
    /// Version 2: too short for the addresses of its family.
    #[error("the PROXY v2 header is too short for the addresses of its family")]
    AddressesCut,
    /// Version 2: longer than 4 KiB.
    #[error("the PROXY v2 header is {0} bytes long, more than 4096")]
    TooLong(usize),
}

/// Reads a header from all bytes received so far; bytes behind its end are not looked at.
///
/// # Errors
///
/// When the bytes can no longer become a header; at the latest with its last byte.
pub fn parse(bytes: &[u8]) -> Result<Progress, ProxyError> {
    // Nothing at all is the beginning of both; the shortest header is one of version 1.
    if starts_alike(bytes, V1_SIGNATURE) {
        parse_v1(bytes)
    } else if starts_alike(bytes, V2_SIGNATURE) {
        parse_v2(bytes)
    } else {
        Err(ProxyError::Missing)
    }
}

/// Section 2.1: one line of text.
fn parse_v1(bytes: &[u8]) -> Result<Progress, ProxyError> {
    let line = bytes.get(..V1_MAX).unwrap_or(bytes);
    let end = line.iter().position(|byte| matches!(byte, b'\r' | b'\n')).unwrap_or(line.len());
    let (text, line_end) = line.split_at(end);
    let missing = match line_end {
        [b'\r', b'\n', ..] => return v1_line(text).map(Progress::Done),
        // What is before the CR is whole: it is judged now, not when the LF comes.
        [b'\r'] => v1_line(text).map(|_| 1)?,
        [] => v1_missing(text)?,
        _ => return Err(ProxyError::LineEnd),
    };
    if line.len().saturating_add(missing) > V1_MAX {
        return Err(ProxyError::LineTooLong);
    }
    Ok(Progress::Need(missing))
}

/// The fewest bytes that can complete the beginning of a line. Its length is unknown until it ends,
/// but reading byte by byte would cost a system call for each.
fn v1_missing(text: &[u8]) -> Result<usize, ProxyError> {
    let shortest = |whole: usize| Ok(whole.saturating_sub(text.len()));
    let Some(behind) = text.strip_prefix(V1_SIGNATURE) else {
        return shortest(V1_UNKNOWN_MIN);
    };
    let mut fields = behind.split(|byte| *byte == b' ');
    let protocol = fields.next().unwrap_or_default();
    let (minima, whole) = match protocol {
        b"TCP4" => ([7, 7, 1, 1], V1_TCP4_MIN), // 0.0.0.0 0.0.0.0 0 0
        b"TCP6" => ([2, 2, 1, 1], V1_TCP6_MIN), // :: :: 0 0
        b"UNKNOWN" => return Ok(LINE_END.len()),
        _ if protocol.len() < behind.len() => return Err(ProxyError::Protocol),
        _ if b"UNKNOWN".starts_with(protocol) => return shortest(V1_UNKNOWN_MIN),
        _ if b"TCP6".starts_with(protocol) => return shortest(V1_TCP6_MIN),
        _ => return Err(ProxyError::Protocol),
    };
    let Some((index, current)) = fields.clone().enumerate().last() else {
        return shortest(whole);
    };
    // A field that is over grows no more: else a line could be too long now and not with more of it.
    if fields.zip(minima).take(index).any(|(field, minimum)| field.len() < minimum) {
        return Err(ProxyError::Fields);
    }
    let minimum: usize = *minima.get(index).ok_or(ProxyError::Fields)?;
    let later: usize = minima.iter().skip(index).skip(1).map(|minimum| 1 + minimum).sum();
    Ok(minimum.saturating_sub(current.len()) + later + LINE_END.len())
}

/// A whole line, without its CR LF.
fn v1_line(line: &[u8]) -> Result<ProxyHeader, ProxyError> {
    let text = line.strip_prefix(V1_SIGNATURE).ok_or(ProxyError::Missing)?;
    let (protocol, fields) = match text.iter().position(|byte| *byte == b' ') {
        Some(space) => text.split_at(space),
        None => (text, &[][..]),
    };
    let is_protocol = match protocol {
        // "The receiver must ignore anything presented before the CRLF."
        b"UNKNOWN" => return Ok(ProxyHeader::Unknown),
        b"TCP4" => IpAddr::is_ipv4,
        b"TCP6" => IpAddr::is_ipv6,
        _ => return Err(ProxyError::Protocol),
    };
    let fields = str::from_utf8(fields).map_err(|_| ProxyError::Fields)?;
    let fields: Vec<&str> = fields.split(' ').skip(1).collect();
    let &[source, destination, source_port, destination_port] = fields.as_slice() else {
        return Err(ProxyError::Fields);
    };
    let address =
        |text: &str| text.parse::<IpAddr>().ok().filter(is_protocol).ok_or(ProxyError::Address);
    let (source, destination) = (address(source)?, address(destination)?);
    Ok(proxied((source, v1_port(source_port)?), (destination, v1_port(destination_port)?)))
}

/// Decimal, without the sign or leading zeros that `u16::from_str` would take.
fn v1_port(text: &str) -> Result<u16, ProxyError> {
    let is_canonical = text == "0" || text.starts_with(|first: char| matches!(first, '1'..='9'));
    text.parse().ok().filter(|_| is_canonical).ok_or(ProxyError::Port)
}

/// Section 2.2: a fixed part, then addresses and TLVs of the length it tells.
fn parse_v2(bytes: &[u8]) -> Result<Progress, ProxyError> {
    let Some((fixed, behind)) = bytes.split_first_chunk::<V2_FIXED>() else {
        return Ok(Progress::Need(V2_FIXED.saturating_sub(bytes.len())));
    };
    let &[.., version_command, family, length_high, length_low] = fixed;
    if version_command >> 4 != 2 {
        return Err(ProxyError::Version(version_command >> 4));
    }
    let length = usize::from(u16::from_be_bytes([length_high, length_low]));
    if length > V2_MAX - V2_FIXED {
        return Err(ProxyError::TooLong(length + V2_FIXED));
    }
    let is_local = match version_command & 0x0f {
        0 => true,
        1 => false,
        command => return Err(ProxyError::Command(command)),
    };
    let Some(body) = behind.get(..length) else {
        return Ok(Progress::Need(length.saturating_sub(behind.len())));
    };
    // "The receiver must ... discard the protocol block including the family which is ignored."
    let header = if is_local { ProxyHeader::Local } else { v2_addresses(family, body)? };
    Ok(Progress::Done(header))
}

/// The addresses at the start of a body; the TLVs behind them are skipped.
fn v2_addresses(family: u8, body: &[u8]) -> Result<ProxyHeader, ProxyError> {
    match family {
        0x00 => Ok(ProxyHeader::Unknown),
        // Datagrams are what the client spoke to a balancer that terminates QUIC.
        0x11 | 0x12 => {
            let (source, body) = take::<4>(body)?;
            let (destination, body) = take::<4>(body)?;
            v2_proxied(Ipv4Addr::from(source), Ipv4Addr::from(destination), body)
        }
        0x21 | 0x22 => {
            let (source, body) = take::<16>(body)?;
            let (destination, body) = take::<16>(body)?;
            v2_proxied(Ipv6Addr::from(source), Ipv6Addr::from(destination), body)
        }
        0x31 | 0x32 => take::<V2_UNIX>(body).map(|_| ProxyHeader::Unknown),
        _ => Err(ProxyError::Family(family)),
    }
}

fn v2_proxied(
    source: impl Into<IpAddr>,
    destination: impl Into<IpAddr>,
    ports: &[u8],
) -> Result<ProxyHeader, ProxyError> {
    let (source_port, ports) = take::<2>(ports)?;
    let (destination_port, _) = take::<2>(ports)?;
    let source = (source.into(), u16::from_be_bytes(source_port));
    Ok(proxied(source, (destination.into(), u16::from_be_bytes(destination_port))))
}

fn proxied(source: (IpAddr, u16), destination: (IpAddr, u16)) -> ProxyHeader {
    // A dual-stack balancer writes IPv4 clients as ::ffff:a.b.c.d; limits and logs want
    // them as IPv4.
    let plain = |(address, port): (IpAddr, u16)| SocketAddr::new(address.to_canonical(), port);
    ProxyHeader::Proxied { source: plain(source), destination: plain(destination) }
}

fn take<const N: usize>(bytes: &[u8]) -> Result<([u8; N], &[u8]), ProxyError> {
    bytes.split_first_chunk().map(|(head, tail)| (*head, tail)).ok_or(ProxyError::AddressesCut)
}

/// Whether `bytes` begin with `signature`, or may still.
fn starts_alike(bytes: &[u8], signature: &[u8]) -> bool {
    bytes.starts_with(signature) || signature.starts_with(bytes)
}

const LINE_END: &[u8] = b"\r\n";
const V1_SIGNATURE: &[u8] = b"PROXY ";
/// The longest line a sender may write, CR LF included.
const V1_MAX: usize = 107;
const V1_UNKNOWN_MIN: usize = b"PROXY UNKNOWN\r\n".len();
const V1_TCP4_MIN: usize = b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n".len();
const V1_TCP6_MIN: usize = b"PROXY TCP6 :: :: 0 0\r\n".len();

const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const V2_FIXED: usize = 16;
/// The longest header taken, TLVs included: a balancer's are far shorter.
const V2_MAX: usize = 4096;
/// Two unix socket paths of 108 bytes.
const V2_UNIX: usize = 216;

#[cfg(test)]
mod tests;
