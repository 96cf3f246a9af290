//! Host names and origins as they are compared with request headers: lower case. Pure.

use std::net::Ipv6Addr;

/// A host without port as it stands in a Host header: `chat.example.com`, `10.0.0.1`, `[::1]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Host(String);

/// Why a text is no host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum HostError {
    /// `chat.example.com:443`
    #[error("must have no port; did you mean {0:?}?")]
    Port(String),
    /// `*`
    #[error("any host is what an empty list means: leave `hosts` out")]
    Any,
    /// `chat*.example.com`, or `*.example.com` where one name is meant.
    #[error("{0}")]
    Wildcard(&'static str),
    /// `::1`
    #[error("IPv6 addresses stand in brackets; did you mean \"[{0}]\"?")]
    Brackets(Ipv6Addr),
    /// `чат.example`
    #[error("must be in the form that is sent, for names beyond ASCII that is \"xn--…\"")]
    NotAscii,
    /// Anything else.
    #[error("must be a host name, such as \"chat.example.com\"")]
    Form,
}

impl Host {
    /// Reads a host; upper case becomes lower.
    pub(super) fn parse(text: &str) -> Result<Self, HostError> {
        if text == "*" {
            return Err(HostError::Any);
        }
        if let Ok(address) = text.parse::<Ipv6Addr>() {
            return Err(HostError::Brackets(address));
        }
        if is_host(text) {
            return Ok(Self(text.to_ascii_lowercase()));
        }
        Err(match text.rsplit_once(':') {
            Some((host, port)) if is_host(host) && is_port(port) => {
                HostError::Port(host.to_ascii_lowercase())
            }
            _ if text.contains('*') => HostError::Wildcard("must be one name, without wildcard"),
            _ if !text.is_ascii() => HostError::NotAscii,
            _ => HostError::Form,
        })
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }

    /// Reads a host, or `*.` and the end of names: one or more whole labels stand before it.
    pub(super) fn parse_pattern(text: &str) -> Result<Self, HostError> {
        match text.strip_prefix("*.") {
            Some(end) if is_wild(end) => Ok(Self(text.to_ascii_lowercase())),
            _ if text.contains('*') && text != "*" => Err(HostError::Wildcard(WILD)),
            _ => Self::parse(text),
        }
    }
}

/// Whether names may end like this behind a wildcard.
fn is_wild(end: &str) -> bool {
    is_host(end) && !end.starts_with('[') && end.parse::<std::net::Ipv4Addr>().is_err()
}

const WILD: &str = "\"*.\" stands for one or more whole labels at the front, as in \"*.example.com\", and for nothing else";

/// Why a text is no origin (RFC 6454 section 6.2: scheme, host, port).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum OriginError {
    /// `*`
    #[error("any origin is what an empty list means: leave `origins` out")]
    Any,
    /// `null`
    #[error("\"null\" is sent by any sandboxed page: it cannot be told whose it is")]
    Null,
    /// `https://chat*.example.com`, `*://chat.example.com`
    #[error("{WILD}: write scheme and port out, such as \"https://*.example.com\"")]
    Wildcard,
    /// `chat.example.com`
    #[error("has no scheme; did you mean {0:?}?")]
    NoScheme(String),
    /// `wss://chat.example.com`
    #[error("is the origin of the page, not of the WebSocket; did you mean {0:?}?")]
    WebSocket(String),
    /// `https://chat.example.com/`
    #[error("must have no path; did you mean {0:?}?")]
    Path(String),
    /// `https://чат.example`
    #[error("must be in the form that is sent, for names beyond ASCII that is \"xn--…\"")]
    NotAscii,
    /// Anything else.
    #[error("must be scheme://host or scheme://host:port, such as \"https://chat.example.com\"")]
    Form,
}

/// An origin as browsers send it: lower case, without the scheme's own port.
pub(super) fn origin(text: &str) -> Result<String, OriginError> {
    match text {
        "*" => return Err(OriginError::Any),
        "null" => return Err(OriginError::Null),
        // Pages that are loaded from files, in Cordova's apps for instance.
        "file://" => return Ok(text.to_owned()),
        _ if !text.is_ascii() => return Err(OriginError::NotAscii),
        _ => {}
    }
    let text = text.to_ascii_lowercase();
    let Some((scheme, rest)) = text.split_once("://") else {
        let guess = format!("https://{text}");
        return Err(origin(&guess).map_or(OriginError::Form, OriginError::NoScheme));
    };
    if let Some((authority, _)) = rest.split_once(['/', '?', '#']) {
        let without = format!("{scheme}://{authority}");
        return Err(origin(&without).map_or(OriginError::Form, OriginError::Path));
    }
    let wrong = if text.contains('*') { OriginError::Wildcard } else { OriginError::Form };
    let Some((host, port)) = split_port(rest) else { return Err(wrong) };
    let is_pattern = host.strip_prefix("*.").is_some_and(is_wild);
    if !is_scheme(scheme) || !is_pattern && !is_host(host) {
        return Err(wrong);
    }
    let own_port = match scheme {
        "https" => Some(443),
        "http" => Some(80),
        "wss" => return Err(OriginError::WebSocket(format!("https://{rest}"))),
        "ws" => return Err(OriginError::WebSocket(format!("http://{rest}"))),
        _ => None,
    };
    // Browsers leave the scheme's own port out (RFC 6454 section 6.2, step 5).
    Ok(match port.filter(|port| Some(*port) != own_port) {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    })
}

/// Host (in brackets for IPv6) and port of an authority without user; `None` for a bad port.
pub(super) fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    match authority.rsplit_once(':') {
        // The colon belongs to the address.
        Some((_, port)) if port.contains(']') => Some((authority, None)),
        Some((host, port)) if is_port(port) => Some((host, Some(port.parse().ok()?))),
        Some(_) => None,
        None => Some((authority, None)),
    }
}

/// A registered name, an IPv4 address or an IPv6 address in brackets.
pub(super) fn is_host(text: &str) -> bool {
    if let Some(rest) = text.strip_prefix('[') {
        return rest.strip_suffix(']').is_some_and(|inner| inner.parse::<Ipv6Addr>().is_ok());
    }
    let in_label = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    text.len() <= 253
        && text.split('.').all(|label| !label.is_empty() && label.bytes().all(in_label))
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0)
}

/// RFC 3986 section 3.1.
fn is_scheme(text: &str) -> bool {
    let in_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.bytes().all(in_scheme)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hosts_are_lower_cased_and_have_no_port() {
        for (text, expected) in [
            ("Chat.Example.COM", "chat.example.com"),
            ("localhost", "localhost"),
            ("10.0.0.1", "10.0.0.1"),
            ("[::1]", "[::1]"),
        ] {
            assert_eq!(Host::parse(text).map(Host::into_string), Ok(expected.to_owned()), "{text}");
        }
        for (text, is_pattern) in [
            ("*.Example.com", true),
            ("*.localhost", true),
            ("chat.example.com", true),
            ("*", false),
            ("*.", false),
            ("*.10.0.0.1", false),
            ("*.[::1]", false),
            ("a*.example.com", false),
            ("*a.example.com", false),
            ("a.*.example.com", false),
            ("*.*.example.com", false),
            ("*.example.com:443", false),
        ] {
            let read = Host::parse_pattern(text).map(Host::into_string);
            assert_eq!(read.is_ok(), is_pattern, "{text}");
        }
        for (text, expected) in [
            ("Chat.example.com:443", HostError::Port("chat.example.com".to_owned())),
            ("[::1]:443", HostError::Port("[::1]".to_owned())),
            ("*", HostError::Any),
            ("*.example.com", HostError::Wildcard("must be one name, without wildcard")),
            ("::1", HostError::Brackets(Ipv6Addr::LOCALHOST)),
            ("чат.example", HostError::NotAscii),
            ("https://chat.example.com", HostError::Form),
            ("chat..example.com", HostError::Form),
            ("chat.example.com/", HostError::Form),
            ("", HostError::Form),
        ] {
            assert_eq!(Host::parse(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn origins_are_what_a_browser_would_send() {
        for (text, expected) in [
            ("https://Chat.example.com", "https://chat.example.com"),
            ("https://chat.example.com:8443", "https://chat.example.com:8443"),
            ("https://chat.example.com:443", "https://chat.example.com"),
            ("http://localhost:80", "http://localhost"),
            ("http://localhost:443", "http://localhost:443"),
            ("https://[::1]:8443", "https://[::1]:8443"),
            ("https://[::1]", "https://[::1]"),
            ("chrome-extension://abcdef", "chrome-extension://abcdef"),
            ("capacitor://localhost", "capacitor://localhost"),
            ("file://", "file://"),
            ("https://*.Example.com", "https://*.example.com"),
            ("https://*.example.com:443", "https://*.example.com"),
            ("http://*.localhost:3000", "http://*.localhost:3000"),
        ] {
            assert_eq!(origin(text), Ok(expected.to_owned()), "{text}");
        }
        let https = || "https://chat.example.com".to_owned();
        for (text, expected) in [
            ("*", OriginError::Any),
            ("null", OriginError::Null),
            ("https://a*.example.com", OriginError::Wildcard),
            ("https://*", OriginError::Wildcard),
            ("https://*.10.0.0.1", OriginError::Wildcard),
            ("*://chat.example.com", OriginError::Wildcard),
            ("https://chat.example.com:*", OriginError::Wildcard),
            ("https://a.*.example.com", OriginError::Wildcard),
            ("chat.example.com", OriginError::NoScheme(https())),
            ("wss://chat.example.com", OriginError::WebSocket(https())),
            ("https://chat.example.com/", OriginError::Path(https())),
            ("https://chat.example.com/app?x#y", OriginError::Path(https())),
            ("https://чат.example", OriginError::NotAscii),
            ("https://", OriginError::Form),
            ("https://chat.example.com:0", OriginError::Form),
            ("https://user@chat.example.com", OriginError::Form),
            ("://", OriginError::Form),
            ("", OriginError::Form),
        ] {
            assert_eq!(origin(text), Err(expected), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_origin_or_refused(text in "[a-z:/.\\[\\]@*0-9é]{0,30}") {
            if let Ok(good) = origin(&text) {
                prop_assert_eq!(origin(&good), Ok(good.clone()));
            }
            let _ = Host::parse(&text);
        }
    }
}
