//! `[verifiers.NAME]`: who signs tokens, and where a token may stand. Pure.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use jsonwebtoken::Algorithm;

use super::jwks::Jwks;
use super::reader::{Node, Table};
use super::suggest::{did_you_mean, nearest};

/// Who signs tokens, and what such a token must say (`[verifiers.NAME]`).
#[derive(Debug, Clone)]
pub struct Verifier {
    /// The NAME.
    pub(crate) name: String,
    /// Static keys; empty only where there is `jwks`.
    pub(crate) keys: Vec<Key>,
    /// Keys that the issuer publishes.
    pub(crate) jwks: Option<Jwks>,
    /// Accepted `iss`; empty: not checked.
    pub(crate) issuers: Vec<String>,
    /// Accepted `aud`; empty: not checked.
    pub(crate) audiences: Vec<String>,
    /// Clock skew allowed on exp, nbf and iat.
    pub(crate) leeway: Duration,
    /// The claim that names the user.
    pub(crate) user_claim: String,
    /// Claims that must be there with exactly this value.
    pub(crate) required_claims: Vec<(String, serde_json::Value)>,
    /// Accepted `typ` headers, lower case, without `application/`; empty: JWT or absent.
    pub(crate) token_types: Vec<String>,
    /// Where a token may stand; the first that is present counts. Never empty.
    pub sources: Vec<TokenSource>,
}

/// One static verification key.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    /// Key id; `None` is tried for every token of its algorithm.
    pub(crate) kid: Option<String>,
    /// The only algorithm this key verifies.
    pub(crate) algorithm: Algorithm,
    /// PEM, JWK or raw secret.
    pub(crate) file: PathBuf,
    /// After this it verifies nothing any more.
    pub(crate) not_after: Option<Timestamp>,
}

/// Where a token may stand in the handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// `Authorization: Bearer …`
    Header,
    /// `Sec-WebSocket-Protocol: base64url.bearer.authorization.framegate.<base64url>`
    Subprotocol,
    /// `Sec-WebSocket-Protocol: NAME, <token>`: the entry after NAME.
    SubprotocolAfter(String),
    /// A cookie.
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
    /// Anything else.
    #[error(
        "must be \"header\", \"subprotocol\", \"subprotocol:NAME\", \"cookie:NAME\" or \"query:NAME\"{}",
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

impl Verifier {
    /// Reads `[verifiers.NAME]`; faults are reported and leave gaps.
    pub(super) fn read(table: &mut Table<'_, '_>, name: &str) -> Self {
        // Its faults are told, and then keys are not asked for besides.
        let has_jwks = table.has("jwks");
        let jwks = table.optional_section("jwks", Jwks::read).flatten();
        let keys = read_keys(table, has_jwks);
        Self {
            name: name.to_owned(),
            keys,
            jwks,
            issuers: table.list("issuers", |node| node.word()),
            audiences: table.list("audiences", |node| node.word()),
            leeway: table.duration("leeway", Duration::from_secs(30)),
            user_claim: table
                .take("user_claim")
                .and_then(|node| node.word())
                .unwrap_or_else(|| "sub".to_owned()),
            required_claims: table.section("required_claims", |claims| {
                let pairs = claims.named().into_iter();
                pairs.filter_map(|(claim, node)| Some((claim, node.json()?))).collect()
            }),
            token_types: table.set("token_types", |node| node.word().map(|word| token_type(&word))),
            sources: read_sources(table),
        }
    }
}

/// Reads `keys`, of which there must be one unless there is `jwks`.
fn read_keys(table: &mut Table<'_, '_>, has_jwks: bool) -> Vec<Key> {
    const HINT: &str =
        "[{ kid = \"NAME\", algorithm = \"ES256\", file = \"FILE\" }], or jwks = { url = \"URL\" }";
    let mut seen: Vec<(String, Algorithm)> = Vec::new();
    let read = |node: Node<'_, '_>| {
        node.table(|table| {
            let key = Key::read(table)?;
            if let Some(kid) = key.kid.clone() {
                let pair = (kid, key.algorithm);
                if seen.contains(&pair) {
                    table.problem("kid", "another key has the same kid and algorithm");
                }
                seen.push(pair);
            }
            Some(key)
        })
        .flatten()
    };
    if has_jwks { table.list("keys", read) } else { table.required_list("keys", HINT, read) }
}

impl Key {
    fn read(table: &mut Table<'_, '_>) -> Option<Self> {
        let kid = table.take("kid").and_then(|node| match node.text()? {
            "" => {
                node.problem("must not be empty: a key without kid has no `kid` at all");
                None
            }
            kid => Some(kid.to_owned()),
        });
        let algorithm = table
            .required("algorithm", "the one algorithm this key is for, such as \"ES256\"")
            .and_then(|node| algorithm(&node));
        let file =
            table.required("file", "a PEM, a JWK or the raw secret").and_then(|node| node.file());
        let not_after = table.take("not_after").and_then(|node| node.moment());
        Some(Self { kid, algorithm: algorithm?, file: file?, not_after })
    }
}

fn algorithm(node: &Node<'_, '_>) -> Option<Algorithm> {
    if node.value().as_str().is_some_and(|text| text.eq_ignore_ascii_case("none")) {
        node.problem("tokens without a signature are never accepted");
        return None;
    }
    node.choice(&ALGORITHMS)
}

/// Reads `sources`.
fn read_sources(table: &mut Table<'_, '_>) -> Vec<TokenSource> {
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

/// `header`, `subprotocol`, `subprotocol:NAME`, `cookie:NAME` or `query:NAME`.
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
        ("subprotocol", None) => Ok(TokenSource::Subprotocol),
        ("subprotocol", _) => named("subprotocol", is_token).map(TokenSource::SubprotocolAfter),
        ("cookie", _) => named("cookie", is_token).map(TokenSource::Cookie),
        ("query", _) => named("query", is_query_name).map(TokenSource::Query),
        _ => {
            let near = nearest(kind, ["header", "subprotocol", "cookie", "query"]);
            Err(SourceError::Unknown(near.map(|kind| match kind {
                "cookie" => "cookie:NAME",
                "query" => "query:NAME",
                other => other,
            })))
        }
    }
}

/// `application/` may be left out of `typ` (RFC 7515 section 4.1.9), and case does not count.
fn token_type(typed: &str) -> String {
    let lower = typed.to_ascii_lowercase();
    lower.strip_prefix("application/").map(str::to_owned).unwrap_or(lower)
}

/// A token of RFC 9110 section 5.6.2: what names of cookies and subprotocols are made of.
pub(super) fn is_token(text: &str) -> bool {
    let in_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(in_token)
}

fn is_query_name(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic() && !b"&=#+%?".contains(&byte))
}

/// What a key can be for.
const ALGORITHMS: [(&str, Algorithm); 12] = [
    ("HS256", Algorithm::HS256),
    ("HS384", Algorithm::HS384),
    ("HS512", Algorithm::HS512),
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_sources_have_five_forms() {
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
            ("header:X-Token", Err(SourceError::Unknown(Some("header")))),
            ("cookies:t", Err(SourceError::Unknown(Some("cookie:NAME")))),
            ("body", Err(SourceError::Unknown(None))),
            ("", Err(SourceError::Unknown(None))),
        ] {
            assert_eq!(source(text), expected, "{text}");
        }
    }

    #[test]
    fn token_types_are_compared_without_case_and_application() {
        for (typed, expected) in [
            ("at+JWT", "at+jwt"),
            ("application/at+jwt", "at+jwt"),
            ("Application/X", "x"),
            ("JWT", "jwt"),
        ] {
            assert_eq!(token_type(typed), expected);
        }
    }
}
