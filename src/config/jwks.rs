//! `jwks` of a verifier: keys that its issuer publishes (RFC 7517), from a URL or a file. Pure.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::uri::PathAndQuery;

use super::endpoint::{self, EndpointError};
use super::reader::{Node, Table};
use super::upstream::Target;

/// Where a verifier's published keys come from, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Jwks {
    /// Where they are.
    pub(crate) source: JwksSource,
    /// They are fetched anew within this time.
    pub(crate) refresh: Duration,
    /// Limit for one fetch, from the name's lookup to the last byte.
    pub(crate) timeout: Duration,
    /// Least time between two fetches for the sake of tokens with unknown keys.
    pub(crate) cooldown: Duration,
    /// What was fetched so long ago is used no more.
    pub(crate) stale: Duration,
    /// PEM file of authorities for https; `None`: the system's.
    pub(crate) ca: Option<PathBuf>,
}

/// Where a key set is. Never taken from a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum JwksSource {
    /// `https://id.example.com/jwks.json`, or http on loopback.
    Url {
        /** scheme, host and port */
        target: Target,
        /** value of the Host header */
        authority: String,
        /** path and query */
        path: String,
    },
    /// A file that somebody keeps up to date.
    File(PathBuf),
}

impl std::fmt::Display for JwksSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            // Its query may hold a secret.
            Self::Url { target, authority, path } => {
                let is_https = matches!(target, Target::Https { .. });
                let scheme = if is_https { "https" } else { "http" };
                let path = path.split('?').next().unwrap_or_default();
                write!(f, "{scheme}://{authority}{path}")
            }
            Self::File(file) => write!(f, "file:{}", file.display()),
        }
    }
}

/// Why a text is no URL of a key set. A password in it is never repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum UrlError {
    /// `ftp://id.example.com/jwks.json`
    #[error("must begin with https://, or be a file (a path, or \"file:PATH\")")]
    Scheme,
    /// `https:/jwks.json`, `https://`
    #[error("must name a host, such as \"https://id.example.com/jwks.json\"")]
    Host,
    /// `https://user:password@id.example.com/`
    #[error("must have no user or password in it")]
    User,
    /// A bad port, an IPv6 address without brackets.
    #[error(transparent)]
    Authority(EndpointError),
    /// `https://id.example.com/a b`
    #[error("has characters in its path that must be percent-encoded")]
    Path,
    /// `https://id.example.com/jwks.json#a`
    #[error("must have no fragment (#...)")]
    Fragment,
    /// `http://id.example.com/jwks.json`
    #[error(
        "is plain http, and not on this machine's loopback: whoever is on the way could put keys of \
         his own in it and sign tokens for anybody; use https"
    )]
    Plain,
}

impl Jwks {
    /// Reads `jwks`; faults are reported.
    pub(super) fn read(table: &mut Table<'_, '_>) -> Option<Self> {
        let source =
            table.required("url", "where the keys are published").and_then(|node| source(&node));
        let refresh = table.deadline("refresh", Duration::from_secs(600));
        let stale = table.deadline("stale", Duration::from_secs(24 * 3600));
        if stale < refresh {
            table.problem("stale", "is shorter than `refresh`: there would be times without keys");
        }
        let jwks = Self {
            source: JwksSource::File(PathBuf::new()),
            refresh,
            timeout: table.deadline("timeout", Duration::from_secs(3)),
            cooldown: table.deadline("cooldown", Duration::from_secs(30)),
            stale,
            ca: table.file("ca"),
        };
        Some(Self { source: source?, ..jwks })
    }

    /// Whether a certificate has to be checked.
    pub(crate) fn is_https(&self) -> bool {
        matches!(self.source, JwksSource::Url { target: Target::Https { .. }, .. })
    }

    /// Whether what the other has fetched is as good as what this one would fetch.
    pub(crate) fn has_same_origin(&self, other: &Self) -> bool {
        self.source == other.source && self.ca == other.ca
    }
}

fn source(node: &Node<'_, '_>) -> Option<JwksSource> {
    let text = node.text()?;
    match text.split_once(':') {
        Some((scheme, _)) if scheme.eq_ignore_ascii_case("file") => {
            let path = text.get("file:".len()..)?;
            // file:///etc/jwks.json is /etc/jwks.json.
            let path = path.strip_prefix("//").filter(|rest| rest.starts_with('/')).unwrap_or(path);
            node.file_called(path).map(JwksSource::File)
        }
        Some((scheme, rest)) if is_web(scheme) || rest.starts_with("//") => node.parse(url),
        _ => node.file().map(JwksSource::File),
    }
}

fn is_web(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http")
}

fn url(text: &str) -> Result<JwksSource, UrlError> {
    let (scheme, rest) = text.split_once(':').ok_or(UrlError::Scheme)?;
    if !is_web(scheme) {
        return Err(UrlError::Scheme);
    }
    let rest = rest.strip_prefix("//").ok_or(UrlError::Host)?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, behind) = rest.split_at_checked(end).ok_or(UrlError::Host)?;
    if authority.contains('@') {
        return Err(UrlError::User);
    }
    let (host, port) = endpoint::host_and_port(authority).map_err(|error| match error {
        EndpointError::Host => UrlError::Host,
        other => UrlError::Authority(other),
    })?;
    if behind.contains('#') {
        return Err(UrlError::Fragment);
    }
    let path = if behind.starts_with('/') { behind.to_owned() } else { format!("/{behind}") };
    if !path.bytes().all(|byte| byte.is_ascii_graphic()) || path.parse::<PathAndQuery>().is_err() {
        return Err(UrlError::Path);
    }
    let target = if scheme.eq_ignore_ascii_case("https") {
        Target::Https { host, port: port.unwrap_or(443) }
    } else if is_loopback(&host) {
        Target::Http { host, port: port.unwrap_or(80) }
    } else {
        return Err(UrlError::Plain);
    };
    Ok(JwksSource::Url { target, authority: authority.to_owned(), path })
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn https(host: &str, port: u16, authority: &str, path: &str) -> JwksSource {
        let target = Target::Https { host: host.to_owned(), port };
        JwksSource::Url { target, authority: authority.to_owned(), path: path.to_owned() }
    }

    fn http(host: &str, port: u16, authority: &str, path: &str) -> JwksSource {
        let target = Target::Http { host: host.to_owned(), port };
        JwksSource::Url { target, authority: authority.to_owned(), path: path.to_owned() }
    }

    #[test]
    fn urls_are_https_or_http_on_loopback() {
        for (text, expected) in [
            ("https://id.example.com/k", https("id.example.com", 443, "id.example.com", "/k")),
            ("HTTPS://Id:8443/k?v=1", https("id", 8443, "Id:8443", "/k?v=1")),
            ("https://id", https("id", 443, "id", "/")),
            ("https://id?v=1", https("id", 443, "id", "/?v=1")),
            ("https://[2001:db8::1]/k", https("2001:db8::1", 443, "[2001:db8::1]", "/k")),
            ("http://127.0.0.1:80/k", http("127.0.0.1", 80, "127.0.0.1:80", "/k")),
            ("http://127.9.9.9/k", http("127.9.9.9", 80, "127.9.9.9", "/k")),
            ("http://[::1]:9/k", http("::1", 9, "[::1]:9", "/k")),
            ("http://LocalHost/k", http("localhost", 80, "LocalHost", "/k")),
        ] {
            assert_eq!(url(text), Ok(expected), "{text}");
        }
        for (text, expected) in [
            ("ftp://id/k", UrlError::Scheme),
            ("https:/id/k", UrlError::Host),
            ("https:id", UrlError::Host),
            ("https://", UrlError::Host),
            ("https:///k", UrlError::Host),
            ("https://me:secret@id/k", UrlError::User),
            ("https://id:0/k", UrlError::Authority(EndpointError::Port)),
            ("https://::1/k", UrlError::Authority(EndpointError::Brackets)),
            ("https://id/a b", UrlError::Path),
            ("https://id/é", UrlError::Path),
            ("https://id/k#a", UrlError::Fragment),
            ("https://id#a", UrlError::Fragment),
            ("http://id.example.com/k", UrlError::Plain),
            ("http://10.0.0.1/k", UrlError::Plain),
            ("http://localhost.example.com/k", UrlError::Plain),
            ("http://[::ffff:10.0.0.1]/k", UrlError::Plain),
            ("http://0.0.0.0/k", UrlError::Plain),
        ] {
            assert_eq!(url(text), Err(expected), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_url_or_refused(text in "(http://|https://|file:)?[a-zA-Z:/.@\\[\\]0-9é?# ]{0,30}") {
            let _ = url(&text);
        }

        #[test]
        fn a_password_is_never_repeated(secret in "[a-z]{12}") {
            let error = url(&format!("https://me:{secret}@id/k")).unwrap_err();
            prop_assert!(!error.to_string().contains(&secret));
        }
    }
}
