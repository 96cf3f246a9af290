//! `sources` of a verifier: where a token may stand in a handshake. Pure.

use super::reader::Table;
use super::suggest::{did_you_mean, nearest};

/// Where a token may stand in the handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// `Authorization: Bearer …`
    Header,
    /// A header that a trusted proxy sets, its name in lower case: `x-amzn-oidc-data`.
    HeaderNamed(String),
    /// `Sec-WebSocket-Protocol: base64url.bearer.authorization.framegate.<base64url>`
    Subprotocol,
    /// `Sec-WebSocket-Protocol: NAME, <token>`: the entry after NAME.
    SubprotocolAfter(String),
    /// `Sec-WebSocket-Protocol: PREFIX<token>`, or PREFIX and base64url of the token: one entry.
    SubprotocolPrefix(String),
    /// A cookie, whole or in parts that are called NAME.0, NAME.1, ...
    Cookie(String),
    /// A query parameter.
    Query(String),
}

/// Why a text is no token source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// `cookie`, `query`
    #[error("must name the {kind}; did you mean \"{kind}:NAME\"?", kind = .0)]
    NoName(&'static str),
    /// `cookie:a b`
    #[error("is not a possible name of a {0}")]
    Name(&'static str),
    /// `header:Cookie`
    #[error("cannot be a token's header: {0}")]
    HeaderName(&'static str),
    /// Anything else.
    #[error(
        "must be \"header\", \"header:NAME\", \"subprotocol\", \"subprotocol:NAME\", \
         \"subprotocol-prefix:PREFIX\", \"cookie:NAME\" or \"query:NAME\"{}",
        did_you_mean(*.0)
    )]
    Unknown(Option<&'static str>),
}

impl std::str::FromStr for TokenSource {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        source(text)
    }
}

/// Reads `sources`.
pub(super) fn read(table: &mut Table<'_, '_>) -> Vec<TokenSource> {
    let Some(node) = table.take("sources") else {
        return vec![TokenSource::Header, TokenSource::Subprotocol];
    };
    let mut sources = Vec::new();
    let items = node.items("an array");
    if items.as_ref().is_some_and(Vec::is_empty) {
        table.problem("sources", "must not be empty: no token could ever be found");
    }
    for node in items.unwrap_or_default() {
        let Some(source) = node.parse(source) else { continue };
        if sources.contains(&source) {
            node.problem("is there twice");
        }
        sources.push(source);
    }
    sources
}

/// One of the forms of [`TokenSource`].
fn source(text: &str) -> Result<TokenSource, SourceError> {
    let (kind, name) = match text.split_once(':') {
        Some((kind, name)) => (kind, Some(name)),
        None => (text, None),
    };
    let named = |kind, fits: fn(&str) -> bool| match name {
        None | Some("") => Err(SourceError::NoName(kind)),
        Some(name) if fits(name) => Ok(name.to_owned()),
        Some(_) => Err(SourceError::Name(kind)),
    };
    match (kind, name) {
        ("header", None) => Ok(TokenSource::Header),
        ("header", _) => header_name(&named("header", is_token)?).map(TokenSource::HeaderNamed),
        ("subprotocol-prefix", _) => {
            named("subprotocol-prefix", is_token).map(TokenSource::SubprotocolPrefix)
        }
        ("subprotocol", None) => Ok(TokenSource::Subprotocol),
        ("subprotocol", _) => named("subprotocol", is_token).map(TokenSource::SubprotocolAfter),
        ("cookie", _) => named("cookie", is_token).map(TokenSource::Cookie),
        ("query", _) => named("query", is_query_name).map(TokenSource::Query),
        _ => {
            let near =
                nearest(kind, ["header", "subprotocol", "subprotocol-prefix", "cookie", "query"]);
            Err(SourceError::Unknown(near.map(|kind| match kind {
                "cookie" => "cookie:NAME",
                "subprotocol-prefix" => "subprotocol-prefix:PREFIX",
                "query" => "query:NAME",
                other => other,
            })))
        }
    }
}

/// A header that can carry a token besides Authorization: one that is not the gateway's or the hop's own.
fn header_name(name: &str) -> Result<String, SourceError> {
    let name = name.to_ascii_lowercase();
    let others =
        ["cookie", "host", "origin", "connection", "upgrade", "forwarded", "via", "expect"];
    let families =
        ["sec-websocket-", "x-forwarded-", "x-auth-user", "x-auth-claims", "x-framegate-"];
    match name.as_str() {
        "authorization" => Err(SourceError::HeaderName("\"header\" reads Authorization")),
        it if others.contains(&it) || families.iter().any(|family| it.starts_with(family)) => {
            Err(SourceError::HeaderName("it has another meaning"))
        }
        _ => Ok(name),
    }
}

/// A token of RFC 9110 section 5.6.2: what names of cookies and subprotocols are made of.
pub(super) fn is_token(text: &str) -> bool {
    let in_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(in_token)
}

fn is_query_name(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic() && !b"&=#+%?".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_sources_have_seven_forms() {
        let name = || "t".to_owned();
        for (text, expected) in [
            ("header", Ok(TokenSource::Header)),
            ("subprotocol", Ok(TokenSource::Subprotocol)),
            ("subprotocol:t", Ok(TokenSource::SubprotocolAfter(name()))),
            ("cookie:t", Ok(TokenSource::Cookie(name()))),
            ("query:t", Ok(TokenSource::Query(name()))),
            ("cookie", Err(SourceError::NoName("cookie"))),
            ("query:", Err(SourceError::NoName("query"))),
            ("subprotocol:", Err(SourceError::NoName("subprotocol"))),
            ("cookie:a b", Err(SourceError::Name("cookie"))),
            ("query:a=b", Err(SourceError::Name("query"))),
            ("headers", Err(SourceError::Unknown(Some("header")))),
            ("header:X-Token", Ok(TokenSource::HeaderNamed("x-token".to_owned()))),
            ("header:", Err(SourceError::NoName("header"))),
            ("header:a b", Err(SourceError::Name("header"))),
            ("header:Cookie", Err(SourceError::HeaderName("it has another meaning"))),
            ("header:X-Forwarded-User", Err(SourceError::HeaderName("it has another meaning"))),
            (
                "header:Authorization",
                Err(SourceError::HeaderName("\"header\" reads Authorization")),
            ),
            (
                "subprotocol-prefix:bearer-",
                Ok(TokenSource::SubprotocolPrefix("bearer-".to_owned())),
            ),
            ("subprotocol-prefix", Err(SourceError::NoName("subprotocol-prefix"))),
            ("subprotocol-prefix:a,b", Err(SourceError::Name("subprotocol-prefix"))),
            ("cookies:t", Err(SourceError::Unknown(Some("cookie:NAME")))),
            ("body", Err(SourceError::Unknown(None))),
            ("", Err(SourceError::Unknown(None))),
        ] {
            assert_eq!(source(text), expected, "{text}");
        }
    }
}
