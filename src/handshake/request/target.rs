//! What a request is for: its host, and a target that may name one too. Pure.

use http::header::HOST;
use http::{HeaderMap, Uri};

use super::{BadRequest, at_most_one};

pub(super) fn host(headers: &HeaderMap) -> Result<String, BadRequest> {
    let value = at_most_one(headers, &HOST, BadRequest::HostRepeated)?;
    let host = value.ok_or(BadRequest::HostMissing)?.to_str().ok();
    host.filter(|host| is_host(host)).map(str::to_owned).ok_or(BadRequest::HostInvalid)
}

/// The absolute form (RFC 9112 section 3.2.2), which clients send that take the gateway for a proxy: its
/// authority must be that of Host, so that there is one host only.
pub(super) fn target(uri: &Uri, host: &str) -> Result<(), BadRequest> {
    let Some(authority) = uri.authority() else { return Ok(()) };
    let own_port = match uri.scheme_str() {
        Some("ws" | "http") => ":80",
        Some("wss" | "https") => ":443",
        _ => return Err(BadRequest::Target),
    };
    let plain = |text: &str| text.strip_suffix(own_port).unwrap_or(text).to_ascii_lowercase();
    if plain(authority.as_str()) == plain(host) { Ok(()) } else { Err(BadRequest::TargetHost) }
}

/// A DNS name (with `_`, which exists in practice), an IPv4 or a bracketed IPv6 address, and perhaps a port.
///
/// Narrower than RFC 3986: the other characters of a reg-name exist in no host that is served, but
/// mean something in the places the value is written to later (a comma in X-Forwarded-Host).
pub(in crate::handshake) fn is_host(text: &str) -> bool {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) if address.parse::<std::net::Ipv6Addr>().is_ok() => (None, port),
            _ => return false,
        },
        None => {
            let end = text.find(':').unwrap_or(text.len());
            let (name, port) = text.split_at_checked(end).unwrap_or((text, ""));
            (Some(name), port)
        }
    };
    name.is_none_or(is_host_name)
        && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
}

fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        !label.is_empty() && label.bytes().all(legal)
    };
    name.len() <= 255 && name.strip_suffix('.').unwrap_or(name).split('.').all(is_label)
}

fn is_port(digits: &str) -> bool {
    digits.bytes().all(|digit| digit.is_ascii_digit()) && digits.parse::<u16>().is_ok()
}
