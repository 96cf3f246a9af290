//! A published key set (RFC 7517 section 5): which of its keys can verify tokens. Pure.
//!
//! Keys that are not meant for us are left out silently, those that look meant but cannot be used with
//! a note. One bad key spoils no other.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::cast_possible_truncation))]

use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use crate::admission::json;
use crate::admission::key_file::{self, KeyFault, member};
use crate::admission::keys::{VerificationKey, is_hmac};

/// What a set holds for us.
#[derive(Debug, Default)]
pub(crate) struct ParsedSet {
    /// One for each key and algorithm.
    pub(crate) keys: Vec<VerificationKey>,
    /// What was left out and perhaps should not have been published so.
    pub(crate) notes: Vec<String>,
}

/// Why a text is no key set. Reads on from its name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SetFault {
    /// Not JSON, or not as strict as it has to be.
    #[error("is no JSON object, or has a name twice")]
    NotJson,
    /// No `keys`.
    #[error("is no key set: it has no array \"keys\"")]
    NoKeys,
    /// `{ "KID": "-----BEGIN CERTIFICATE..." }`, as Firebase publishes for its older libraries.
    #[error(
        "is a map of certificates, not a key set: for Firebase use \
         https://www.googleapis.com/service_accounts/v1/jwk/securetoken@system.gserviceaccount.com"
    )]
    Certificates,
    /// More than anybody needs.
    #[error("has {0} keys; at most {MAX_KEYS} are accepted")]
    TooMany(usize),
}

/// Why a member of a set is no key for us.
enum Skip {
    /// It is none of our business.
    Foreign,
    Note(String),
}

/// Reads a key set.
///
/// # Errors
///
/// When it is none. A set without a key that can be used is one.
pub(crate) fn parse(bytes: &[u8]) -> Result<ParsedSet, SetFault> {
    let object = json::parse_object(bytes).ok_or(SetFault::NotJson)?;
    let Some(Value::Array(members)) = object.get("keys") else {
        let is_certificate =
            |it: &Value| it.as_str().is_some_and(|it| it.contains("BEGIN CERTIFICATE"));
        let are_all = !object.is_empty() && object.values().all(is_certificate);
        return Err(if are_all { SetFault::Certificates } else { SetFault::NoKeys });
    };
    // Keys without kid are tried one after the other, by whoever sends a token.
    if members.len() > MAX_KEYS {
        return Err(SetFault::TooMany(members.len()));
    }
    let mut set = ParsedSet::default();
    for (index, member) in members.iter().enumerate() {
        match verification_keys(member) {
            Ok(keys) => set.keys.extend(keys),
            Err(Skip::Foreign) => {}
            Err(Skip::Note(why)) => {
                set.notes.push(format!("keys[{index}]{}: {why}", named(member)));
            }
        }
    }
    Ok(set)
}

/// ` (kid "a")`, shortened: it is the issuer's text.
fn named(key: &Value) -> String {
    let kid = key.get("kid").and_then(Value::as_str);
    kid.map_or_else(String::new, |kid| {
        format!(" (kid {:?})", kid.chars().take(KID_SHOWN).collect::<String>())
    })
}

fn verification_keys(key: &Value) -> Result<Vec<VerificationKey>, Skip> {
    let note = |text: &str| Skip::Note(text.to_owned());
    let Value::Object(jwk) = key else { return Err(note("is no JWK")) };
    if !is_for_signatures(jwk) {
        return Err(Skip::Foreign);
    }
    let has_key = ["n", "x", "k"].iter().any(|part| jwk.contains_key(*part));
    if jwk.contains_key("x5c") && !has_key {
        return Err(note(
            "has a certificate (x5c) and no key beside it, and certificates are not read: have the issuer publish the key \
             itself (n and e, or x and y), or take it out and write it to `keys`",
        ));
    }
    let kid = match jwk.get("kid") {
        None => None,
        Some(Value::String(kid)) => Some(kid.clone()),
        Some(_) => return Err(note("has a kid that is no string")),
    };
    let algorithms = algorithms(jwk)?;
    let key_for = |algorithm: &Algorithm| {
        let key = key_file::public_key(jwk, *algorithm)?;
        Ok(VerificationKey { kid: kid.clone(), algorithm: *algorithm, key, not_after: None })
    };
    let keys: Result<_, KeyFault> = algorithms.iter().map(key_for).collect();
    keys.map_err(|fault| match fault {
        // Everybody who can read the set can sign with it.
        KeyFault::PrivateKey => note("is a private key, which is no secret any more"),
        other => Skip::Note(other.to_string()),
    })
}

/// RFC 7517 sections 4.2 and 4.3.
fn is_for_signatures(jwk: &Map<String, Value>) -> bool {
    let may_verify = |operations: &Vec<Value>| operations.iter().any(|one| one == "verify");
    jwk.get("use").is_none_or(|usage| usage == "sig")
        && jwk.get("key_ops").is_none_or(|value| value.as_array().is_some_and(may_verify))
}

/// What a key may verify: its `alg`, or else whatever its type can.
fn algorithms(jwk: &Map<String, Value>) -> Result<Vec<Algorithm>, Skip> {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    let note = |text: &str| Err(Skip::Note(text.to_owned()));
    let by_type = match (member(jwk, "kty"), member(jwk, "crv")) {
        // Whoever knows a secret can sign, and a published one is known.
        (Some("oct"), _) => {
            return note("is a secret (oct), which does not belong into a published set");
        }
        (Some("RSA"), _) => vec![RS256, RS384, RS512, PS256, PS384, PS512],
        (Some("EC"), Some("P-256")) => vec![ES256],
        (Some("EC"), Some("P-384")) => vec![ES384],
        (Some("OKP"), Some("Ed25519")) => vec![EdDSA],
        (Some("EC" | "OKP"), _) => return note("is on a curve that is not supported"),
        // RFC 7517 section 5: ignored.
        _ => return Err(Skip::Foreign),
    };
    let algorithm = match jwk.get("alg") {
        None => return Ok(by_type),
        Some(Value::String(name)) if name == "Ed25519" => Some(EdDSA),
        Some(Value::String(name)) => name.parse().ok(),
        Some(_) => return note("has an alg that is no string"),
    };
    match algorithm {
        Some(algorithm) if is_hmac(algorithm) => note("is a public key for an HMAC algorithm"),
        Some(algorithm) => Ok(vec![algorithm]),
        None => note("is for an algorithm that is not supported"),
    }
}

const MAX_KEYS: usize = 256;
/// Characters of a kid that are told.
pub(super) const KID_SHOWN: usize = 64;

#[cfg(test)]
mod tests;
