//! Endpoints of an upstream as they are typed: `http://10.0.0.1:9001`, `unix:/run/chat.sock`. Pure.

use std::net::Ipv6Addr;
use std::path::PathBuf;

use super::hosts;
use super::suggest::did_you_mean;
use super::upstream::Target;

/// Why a text is no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum EndpointError {
    /// `ws://10.0.0.1:9001`
    #[error("a WebSocket begins as HTTP{}", did_you_mean(Some(.0)))]
    WebSocket(String),
    /// `10.0.0.1:9001`
    #[error("has no scheme{}", did_you_mean(Some(.0)))]
    NoScheme(String),
    /// `ftp://10.0.0.1`
    #[error("must begin with http://, https:// or unix:")]
    Scheme,
    /// `http://10.0.0.1:9001/ws`
    #[error("must have no path or query, the client's are passed on{}", did_you_mean(Some(.0)))]
    Path(String),
    /// `http://user:password@10.0.0.1`
    #[error("must have no user or password in it")]
    User,
    /// `http://::1:9001`
    #[error("IPv6 addresses stand in brackets, such as \"http://[::1]:9001\"")]
    Brackets,
    /// `http://10.0.0.1:99999`
    #[error("has a bad port: a number from 1 to 65535")]
    Port,
    /// `http://`, `http://a b`
    #[error("must name a host, such as \"http://127.0.0.1:9001\"")]
    Host,
    /// A unix path that is not.
    #[error(transparent)]
    Unix(#[from] UnixError),
}

/// Why a text is no unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum UnixError {
    /// `unix:`
    #[error("must name a socket, such as \"unix:/run/chat/chat.sock\"")]
    Path,
    /// `unix://run/chat.sock`
    #[error("must be \"unix:\" and a path: \"unix:/run/chat.sock\"")]
    Slashes,
    /// `sun_path` has 108 bytes, one of them the end.
    #[error("is too long a path for a socket: at most 107 bytes")]
    TooLong,
}

/// Reads an endpoint; a socket's path is not yet joined to the configuration's folder.
pub(super) fn target(text: &str) -> Result<Target, EndpointError> {
    if text.starts_with("unix:") {
        return Ok(Target::Unix(unix_path(text)?));
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(without_scheme(text));
    };
    if rest.contains('@') {
        return Err(EndpointError::User);
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let scheme = scheme.to_ascii_lowercase();
    let (host, port) = host_and_port(authority)?;
    let without_path = |scheme: &str| format!("{scheme}://{authority}");
    match scheme.as_str() {
        "ws" => return Err(EndpointError::WebSocket(without_path("http"))),
        "wss" => return Err(EndpointError::WebSocket(without_path("https"))),
        "http" | "https" => {}
        _ => return Err(EndpointError::Scheme),
    }
    if authority.len() != rest.len() {
        return Err(EndpointError::Path(without_path(&scheme)));
    }
    Ok(match scheme.as_str() {
        "https" => Target::Https { host, port: port.unwrap_or(443) },
        _ => Target::Http { host, port: port.unwrap_or(80) },
    })
}

/// The path of `unix:/path` (or `unix:///path`).
pub(super) fn unix_path(text: &str) -> Result<PathBuf, UnixError> {
    let path = text.strip_prefix("unix:").ok_or(UnixError::Path)?;
    let path = match path.strip_prefix("//") {
        Some(rest) if rest.starts_with('/') => rest,
        Some(_) => return Err(UnixError::Slashes),
        None => path,
    };
    match path.len() {
        _ if path.contains('\0') => Err(UnixError::Path),
        0 => Err(UnixError::Path),
        1..=107 => Ok(PathBuf::from(path)),
        _ => Err(UnixError::TooLong),
    }
}

/// A host without brackets, and a port.
pub(super) fn host_and_port(authority: &str) -> Result<(String, Option<u16>), EndpointError> {
    let colons = authority.bytes().filter(|byte| *byte == b':').count();
    if colons > 1 && !authority.starts_with('[') {
        return Err(EndpointError::Brackets);
    }
    let (host, port) = hosts::split_port(authority).ok_or(EndpointError::Port)?;
    if !hosts::is_host(host) {
        return Err(EndpointError::Host);
    }
    Ok((host.trim_matches(['[', ']']).to_ascii_lowercase(), port))
}

fn without_scheme(text: &str) -> EndpointError {
    if text.contains('@') {
        return EndpointError::User;
    }
    if text.starts_with('/') {
        return EndpointError::NoScheme(format!("unix:{text}"));
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return EndpointError::NoScheme(format!("http://[{text}]"));
    }
    let guess = format!("http://{text}");
    if target(&guess).is_ok() { EndpointError::NoScheme(guess) } else { EndpointError::Scheme }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn endpoints_are_http_https_or_unix() {
        let http = |host: &str, port| Target::Http { host: host.to_owned(), port };
        let https = |host: &str, port| Target::Https { host: host.to_owned(), port };
        for (text, expected) in [
            ("http://127.0.0.1:9001", http("127.0.0.1", 9001)),
            ("http://Chat-1.internal", http("chat-1.internal", 80)),
            ("HTTPS://chat", https("chat", 443)),
            ("https://[::1]:9001", https("::1", 9001)),
            ("http://[fe80::1]", http("fe80::1", 80)),
            ("unix:/run/chat.sock", Target::Unix("/run/chat.sock".into())),
            ("unix:///run/chat.sock", Target::Unix("/run/chat.sock".into())),
            ("unix:chat.sock", Target::Unix("chat.sock".into())),
        ] {
            assert_eq!(target(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_endpoint_is_told_apart() {
        let url = str::to_owned;
        for (text, expected) in [
            ("ws://chat:9001/ws", EndpointError::WebSocket(url("http://chat:9001"))),
            ("wss://chat", EndpointError::WebSocket(url("https://chat"))),
            ("127.0.0.1:9001", EndpointError::NoScheme(url("http://127.0.0.1:9001"))),
            ("/run/chat.sock", EndpointError::NoScheme(url("unix:/run/chat.sock"))),
            ("::1", EndpointError::NoScheme(url("http://[::1]"))),
            ("ftp://chat", EndpointError::Scheme),
            ("", EndpointError::Scheme),
            ("http://chat/", EndpointError::Path(url("http://chat"))),
            ("https://chat:1/ws?x=1", EndpointError::Path(url("https://chat:1"))),
            ("http://chat#x", EndpointError::Path(url("http://chat"))),
            ("http://me:secret@chat", EndpointError::User),
            ("me:secret@chat", EndpointError::User),
            ("http://::1:9001", EndpointError::Brackets),
            ("http://chat:0", EndpointError::Port),
            ("http://chat:99999", EndpointError::Port),
            ("http://chat:", EndpointError::Port),
            ("http://", EndpointError::Host),
            ("http://[::x]", EndpointError::Host),
            ("http://a b", EndpointError::Host),
            ("unix:", EndpointError::Unix(UnixError::Path)),
            ("unix://run/chat.sock", EndpointError::Unix(UnixError::Slashes)),
        ] {
            assert_eq!(target(text), Err(expected), "{text}");
        }
        let long = format!("unix:/{}", "x".repeat(107));
        assert_eq!(target(&long), Err(UnixError::TooLong.into()));
    }

    proptest! {
        #[test]
        fn any_text_is_an_endpoint_or_refused(text in "(http://|https://|ws://|unix:)?[a-z:/.@\\[\\]0-9é?#]{0,30}") {
            let _ = target(&text);
        }

        #[test]
        fn a_password_is_never_repeated(secret in "[a-z]{12}", scheme in "(http://|ws://|)") {
            let error = target(&format!("{scheme}me:{secret}@chat/ws")).unwrap_err();
            prop_assert!(!error.to_string().contains(&secret));
        }
    }
}
