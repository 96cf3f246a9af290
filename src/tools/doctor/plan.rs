//! What is to be examined: a URL and what goes with the request. Pure.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::secrets::Secrets;
use crate::config::TokenSource;

/// A walk to be made.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Where to.
    pub(crate) target: Address,
    /// The token to show.
    pub(crate) token: Option<Token>,
    /// Where it is put.
    pub(crate) token_in: TokenSource,
    /// The page that would be connecting.
    pub(crate) origin: Option<String>,
    /// Further headers.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// Subprotocols to offer.
    pub(crate) subprotocols: Vec<String>,
    /// A message to send.
    pub(crate) send: Option<String>,
    /// Go on although the certificate could not be verified.
    pub(crate) insecure: bool,
    /// Authorities to trust instead of the system's.
    pub(crate) ca: Option<PathBuf>,
    /// What every step may take.
    pub(crate) timeout: Duration,
    /// Which of the URLs it is.
    pub(crate) part: Part,
}

/// Which of the URLs of a run one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Part {
    /// There is no other.
    #[default]
    Only,
    /// The other one is that of `--compare`.
    First,
    /// That of `--compare`.
    Second,
}

/// A WebSocket URL, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// `wss`
    pub(crate) secure: bool,
    /// Name or address, IPv6 without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Path, with the query as typed.
    pub(crate) path_and_query: String,
}

/// A token; its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token(pub(crate) String);

/// Why a text is no URL to connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub(crate) enum AddressError {
    #[error("it must begin with wss:// or ws://, such as wss://chat.example.com/ws")]
    Scheme,
    #[error("it names no host")]
    Host,
    #[error("its port must be a number from 1 to 65535")]
    Port,
    #[error("a user name or password in it is never sent by a WebSocket client: use --header")]
    UserInfo,
    #[error(
        "a fragment (#) is never sent to a server: a page is not even allowed to have one here"
    )]
    Fragment,
    #[error("it has characters that must be percent-encoded")]
    Form,
}

impl Address {
    /// Reads `ws://`, `wss://`, and `http://`, `https://` as the same.
    ///
    /// # Errors
    ///
    /// What a WebSocket client could not connect to.
    pub(crate) fn parse(text: &str) -> Result<Self, AddressError> {
        if text.contains('#') {
            return Err(AddressError::Fragment);
        }
        let (scheme, _) = text.split_once("://").ok_or(AddressError::Scheme)?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "wss" | "https" => true,
            "ws" | "http" => false,
            _ => return Err(AddressError::Scheme),
        };
        let uri: Uri = text.parse().map_err(|_| AddressError::Form)?;
        let authority = uri.authority().ok_or(AddressError::Host)?;
        if authority.as_str().contains('@') {
            return Err(AddressError::UserInfo);
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(AddressError::Host);
        }
        let typed = authority.as_str().rsplit_once(':').filter(|(_, port)| !port.ends_with(']'));
        let port = match typed {
            None => {
                if secure {
                    443
                } else {
                    80
                }
            }
            Some((_, port)) => {
                port.parse().ok().filter(|port| *port != 0).ok_or(AddressError::Port)?
            }
        };
        let path_and_query = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { secure, host, port, path_and_query })
    }

    /// `wss` or `ws`.
    pub(crate) const fn scheme(&self) -> &'static str {
        if self.secure { "wss" } else { "ws" }
    }

    /// The Host header: without the port where it is the default.
    pub(crate) fn authority(&self) -> String {
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let default = if self.secure { 443 } else { 80 };
        if self.port == default { host } else { format!("{host}:{}", self.port) }
    }

    /// The address, if the host is one.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// The URL with the values of its query hidden: tokens stand there.
    pub(crate) fn shown(&self) -> String {
        let (path, query) = match self.path_and_query.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (self.path_and_query.as_str(), None),
        };
        let hide = |pair: &str| pair.split_once('=').map(|(name, _)| format!("{name}=…"));
        let query = query.map(|query| {
            let pairs = query.split('&').map(|pair| hide(pair).unwrap_or_else(|| "…".to_owned()));
            format!("?{}", pairs.collect::<Vec<_>>().join("&"))
        });
        format!("{}://{}{path}{}", self.scheme(), self.authority(), query.unwrap_or_default())
    }

    /// The same place with or without TLS.
    pub(crate) fn other_scheme(&self) -> String {
        let scheme = if self.secure { "ws" } else { "wss" };
        let shown = self.shown();
        let rest = shown.split_once("://").map_or("", |(_, rest)| rest);
        format!("{scheme}://{rest}")
    }
}

impl Plan {
    /// The token that goes out: the one given, or one that stands in the query or in a header.
    pub(crate) fn sent_token(&self) -> Option<&str> {
        if let Some(Token(token)) = &self.token {
            return Some(token);
        }
        let bearer = self.headers.iter().filter(|(name, _)| *name == AUTHORIZATION);
        let bearer = bearer.filter_map(|(_, value)| value.to_str().ok()?.strip_prefix("Bearer "));
        let query = self.target.path_and_query.split_once('?').map_or("", |(_, query)| query);
        let values = query.split('&').filter_map(|pair| Some(pair.split_once('=')?.1));
        bearer.map(str::trim).chain(values).find(|text| looks_like_token(text))
    }

    /// All that must not be shown.
    pub(crate) fn secrets(&self) -> Secrets {
        let query = self.target.path_and_query.split_once('?').map_or("", |(_, query)| query);
        Secrets::new(self.sent_token()).of_query(query).of_headers(&self.headers)
    }

    /// The request target, with the token if it goes into the query.
    pub(crate) fn request_target(&self) -> String {
        let typed = &self.target.path_and_query;
        match (&self.token_in, &self.token) {
            (TokenSource::Query(name), Some(Token(token))) => {
                let sign = if typed.contains('?') { '&' } else { '?' };
                format!("{typed}{sign}{name}={}", utf8_percent_encode(token, QUERY_VALUE))
            }
            _ => typed.clone(),
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Three parts, the first of them JSON in base64url.
fn looks_like_token(text: &str) -> bool {
    text.split('.').count() == 3 && text.starts_with("eyJ")
}

/// RFC 3986 section 2.3: what needs no encoding.
pub(super) const QUERY_VALUE: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A plan with nothing but a URL.
    pub(in crate::tools::doctor) fn plan(url: &str) -> Plan {
        Plan {
            target: Address::parse(url).unwrap(),
            token: None,
            token_in: TokenSource::Header,
            origin: None,
            headers: Vec::new(),
            subprotocols: Vec::new(),
            send: None,
            insecure: false,
            ca: None,
            timeout: Duration::from_secs(5),
            part: Part::Only,
        }
    }

    #[test]
    fn urls_are_taken_apart() {
        let rows = [
            ("ws://a", ("ws://a/", "a", 80, "/")),
            (
                "wss://a.example:8443/x?y=z",
                ("wss://a.example:8443/x?y=…", "a.example", 8443, "/x?y=z"),
            ),
            ("WSS://A:443/", ("wss://A/", "A", 443, "/")),
            ("https://[::1]:9/q?a&b=c", ("wss://[::1]:9/q?…&b=…", "::1", 9, "/q?a&b=c")),
            ("http://[::1]", ("ws://[::1]/", "::1", 80, "/")),
        ];
        for (text, (shown, host, port, path)) in rows {
            let address = Address::parse(text).unwrap();
            let found = (address.host.as_str(), address.port, address.path_and_query.as_str());
            assert_eq!(found, (host, port, path), "{text}");
            assert_eq!(address.shown(), shown, "{text}");
        }
    }

    #[test]
    fn what_no_client_can_connect_to_is_said() {
        let rows = [
            ("", AddressError::Scheme),
            ("chat.example.com/ws", AddressError::Scheme),
            ("ftp://a/", AddressError::Scheme),
            ("ws://", AddressError::Form),
            ("ws://a:0/", AddressError::Port),
            ("ws://a:70000/", AddressError::Port),
            ("ws://a:/", AddressError::Port),
            ("ws://user:secret@a/", AddressError::UserInfo),
            ("ws://a/#b", AddressError::Fragment),
            ("ws://a/ b", AddressError::Form),
        ];
        for (text, expected) in rows {
            assert_eq!(Address::parse(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn the_token_is_found_where_it_stands() {
        let mut plan = plan("ws://a/?x=1&t=eyJh.b.c");
        assert_eq!(plan.sent_token(), Some("eyJh.b.c"));
        let value = HeaderValue::from_static("Bearer eyJx.y.z");
        plan.headers.push((AUTHORIZATION, value));
        assert_eq!(plan.sent_token(), Some("eyJx.y.z"));
        plan.token = Some(Token("opaque".to_owned()));
        assert_eq!(plan.sent_token(), Some("opaque"));
        plan.token_in = TokenSource::Query("k".to_owned());
        plan.token = Some(Token("a.b+c".to_owned()));
        assert_eq!(plan.request_target(), "/?x=1&t=eyJh.b.c&k=a.b%2Bc");
    }
}
