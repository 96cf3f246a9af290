//! The name a Host header is looked up by. Pure.

use std::borrow::Cow;
use std::net::Ipv6Addr;

/// The host without port, lower case, without trailing dot; IPv6 in one spelling, without brackets.
///
/// `None` for what is no host (RFC 3986 section 3.2.2): it equals no configured name.
pub(super) fn key(host: &str) -> Option<Cow<'_, str>> {
    if let Some(bracketed) = host.strip_prefix('[') {
        let (address, port) = bracketed.split_once(']')?;
        if !(port.is_empty() || port.strip_prefix(':').is_some_and(is_port)) {
            return None;
        }
        return address.parse::<Ipv6Addr>().ok().map(|address| address.to_string().into());
    }
    // A configured address may stand without brackets.
    if let Ok(address) = host.parse::<Ipv6Addr>() {
        return Some(address.to_string().into());
    }
    let name = match host.split_once(':') {
        Some((name, port)) if is_port(port) => name,
        Some(_) => return None,
        None => host,
    };
    // "chat.example.com." is the same name, fully qualified.
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() {
        return None;
    }
    Some(if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        name.to_ascii_lowercase().into()
    } else {
        name.into()
    })
}

/// RFC 3986 section 3.2.3: digits, also none.
fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hosts_are_compared_without_port_case_and_trailing_dot() {
        for (host, expected) in [
            ("chat.example.com", Some("chat.example.com")),
            ("Chat.EXAMPLE.com", Some("chat.example.com")),
            ("chat.example.com.", Some("chat.example.com")),
            ("chat.example.com:8443", Some("chat.example.com")),
            ("chat.example.com.:8443", Some("chat.example.com")),
            ("chat.example.com:", Some("chat.example.com")),
            ("chat.example.com..", Some("chat.example.com.")),
            ("10.0.0.1:80", Some("10.0.0.1")),
            ("[::1]", Some("::1")),
            ("[::1]:8443", Some("::1")),
            ("[::1]:", Some("::1")),
            ("[0:0:0:0:0:0:0:1]", Some("::1")),
            ("[2001:DB8::A]:1", Some("2001:db8::a")),
            ("::1", Some("::1")),
            ("", None),
            (".", None),
            (":80", None),
            ("a:b", None),
            ("a:80:90", None),
            ("a:-1", None),
            ("[::1", None),
            ("[]", None),
            ("[a]", None),
            ("[::1]x", None),
            ("[::1]:x", None),
        ] {
            assert_eq!(key(host).as_deref(), expected, "{host:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(host in "(\\PC|[\\[\\]:.1a]){0,20}") {
            let _ = key(&host);
        }
    }
}
