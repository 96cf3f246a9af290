//! `[verifiers.NAME]`: who signs tokens, and where a token may stand. Pure.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use jsonwebtoken::Algorithm;

use super::claim;
use super::jwks::Jwks;
use super::reader::{Node, Table};
use super::sources::{self, TokenSource};

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
    /// Accepted audiences; empty: not checked.
    pub(crate) audiences: Vec<String>,
    /// The claims any of which may name the audience: `aud`, unless others are given.
    pub(crate) audience_claims: Vec<String>,
    /// Clock skew allowed on exp, nbf and iat.
    pub(crate) leeway: Duration,
    /// The claim that names the user.
    pub(crate) user_claim: String,
    /// Claims that must be there with exactly this value.
    pub(crate) required_claims: Vec<(String, serde_json::Value)>,
    /// Members of the token's header that must be there with exactly this value.
    pub(crate) required_header: Vec<(String, serde_json::Value)>,
    /// Accepted `typ` headers, lower case, without `application/`, "" for an absent one; empty: JWT or
    /// absent.
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

impl Verifier {
    /// Reads `[verifiers.NAME]`; faults are reported and leave gaps.
    pub(super) fn read(table: &mut Table<'_, '_>, name: &str) -> Self {
        // Its faults are told, and then keys are not asked for besides.
        let has_jwks = table.has("jwks");
        let jwks = table.optional_section("jwks", Jwks::read).flatten();
        let keys = read_keys(table, has_jwks);
        let secret = "is no setting: a secret stands in a file of its own, keys = [{ algorithm = \"HS256\", file = \"FILE\" }]";
        table.reject(&["secret", "key", "secret_key", "public_key", "shared_secret"], secret);
        let required_header = table.section("required_header", |members| {
            let pairs = members.named().into_iter();
            pairs.filter_map(|(member, node)| Some((member, node.json()?))).collect::<Vec<_>>()
        });
        Self {
            name: name.to_owned(),
            keys,
            jwks,
            issuers: table.list("issuers", |node| node.word()),
            audiences: table.list("audiences", |node| node.word()),
            leeway: table.duration("leeway", Duration::from_secs(30)),
            audience_claims: read_audience_claims(table),
            user_claim: read_user_claim(table),
            required_claims: table.section("required_claims", |claims| {
                let pairs = claims.named().into_iter().filter_map(|(name, node)| {
                    let name = claim::name(&name).map_err(|fault| node.problem(fault)).ok()?;
                    Some((name, node.json()?))
                });
                pairs.collect()
            }),
            token_types: table.set("token_types", |node| node.text().map(token_type)),
            sources: read_sources(table, !required_header.is_empty()),
            required_header,
        }
    }
}

/// Reads `sources`; a balancer whose key all its owner's customers share is believed only if its tokens say
/// which of them it belongs to.
fn read_sources(table: &mut Table<'_, '_>, has_required_header: bool) -> Vec<TokenSource> {
    let sources = sources::read(table);
    let is_alb = |source: &TokenSource| *source == TokenSource::HeaderNamed(ALB.to_owned());
    if !has_required_header && sources.iter().any(is_alb) {
        table.problem(
            "required_header",
            "is missing: the keys of X-Amzn-Oidc-Data are those of all balancers of a region, so the token must \
             name yours: required_header = { signer = \"arn:aws:elasticloadbalancing:...\" }",
        );
    }
    sources
}

/// Reads `audience_claim`: a name, or several of which any may fit.
fn read_audience_claims(table: &mut Table<'_, '_>) -> Vec<String> {
    let Some(node) = table.take("audience_claim") else { return vec!["aud".to_owned()] };
    if node.value().as_str().is_some() {
        return node.parse(claim::name).into_iter().collect();
    }
    let items = node.items("a claim's name, or an array of names").unwrap_or_default();
    let names: Vec<_> = items.iter().filter_map(|node| node.parse(claim::name)).collect();
    if names.is_empty() {
        table.problem("audience_claim", "must name a claim");
    }
    names
}

/// Reads `user_claim`: a claim's name or path, or the names on the way to it as an array.
fn read_user_claim(table: &mut Table<'_, '_>) -> String {
    let default = || "sub".to_owned();
    let Some(node) = table.take("user_claim") else { return default() };
    if node.value().as_array().is_none() {
        return node.parse(claim::name).unwrap_or_else(default);
    }
    let items = node.items("an array").unwrap_or_default();
    let names: Vec<_> = items.iter().filter_map(Node::word).collect();
    claim::path(&names).unwrap_or_else(|fault| {
        table.problem("user_claim", fault);
        default()
    })
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

/// `application/` may be left out of `typ` (RFC 7515 section 4.1.9), and case does not count.
fn token_type(typed: &str) -> String {
    let lower = typed.to_ascii_lowercase();
    lower.strip_prefix("application/").map(str::to_owned).unwrap_or(lower)
}

/// The header by which AWS' balancers pass a token on.
const ALB: &str = "x-amzn-oidc-data";
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
