//! Whether a token is what it claims to be: form, signature, claims (RFC 7515, RFC 7519, with the
//! rules of RFC 8725). Pure.
//!
//! Only the arithmetic of signatures is left to a library. Which key may be tried comes from the
//! configuration, never from the token: `jwk`, `jku`, `x5u` and `x5c` headers are not looked at,
//! and `kid` is only ever compared.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::cast_possible_truncation))]

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::aws_lc;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value};

use super::json;
use super::keys::{KeySet, is_hmac};
use super::token::MAX_TOKEN_BYTES;
use crate::config::Verifier;
use crate::outcome::rejection::TokenFault;
use crate::session::identity::Identity;

use claims::{check_audience, check_issuer, check_kind, check_times, seconds, text, user};

mod claims;

/// Verifies a token at `now`, in seconds since 1970. Checked are, in this order: form, key,
/// signature, time, issuer, audience, kind, user.
///
/// Fractions of `exp`, `nbf` and `iat` are cut off; so is the fraction of a second of the leeway.
///
/// # Errors
///
/// The first rule that does not hold. Faults name the rule and contain nothing of the token.
pub fn verify(
    verifier: &Verifier,
    keys: &KeySet,
    token: &str,
    now: u64,
) -> Result<Identity, TokenFault> {
    let token = Token::parse(token)?;
    token.check_signature(&[keys], now)?;
    token.accept(verifier, now)
}

/// What a token says of itself. Nothing of it is verified: it is for showing, never for deciding.
pub(crate) struct Unverified {
    /// `None`: one the gateway does not know.
    pub(crate) algorithm: Option<Algorithm>,
    pub(crate) kid: Option<String>,
    /// Lower case, without `application/`.
    pub(crate) typ: Option<String>,
    pub(crate) claims: Map<String, Value>,
}

impl Unverified {
    /// Takes a token apart.
    ///
    /// # Errors
    ///
    /// When its form is wrong.
    pub(crate) fn read(token: &str) -> Result<Self, TokenFault> {
        let Token { header: Header { algorithm, kid, typ, .. }, claims, .. } = Token::parse(token)?;
        Ok(Self { algorithm, kid, typ, claims })
    }

    /// A claim that is a time, in seconds since 1970; `None` also when it is no number.
    pub(crate) fn time(&self, claim: &str) -> Option<u64> {
        seconds(&self.claims, claim, "").ok().flatten()
    }
}

/// A token taken apart, its form checked and nothing else.
pub(crate) struct Token<'a> {
    header: Header,
    claims: Map<String, Value>,
    /// Header and payload as sent, with the dot between.
    signed: &'a str,
    signature: Vec<u8>,
}

/// What good claims say.
struct Checked<'a> {
    user: Cow<'a, str>,
    issuer: Option<&'a str>,
    expires_at: u64,
}

/// What a token's header says, as far as it matters.
struct Header {
    /// `None`: one the gateway does not know.
    algorithm: Option<Algorithm>,
    kid: Option<String>,
    /// Lower case, without `application/` (RFC 7515 section 4.1.9).
    typ: Option<String>,
    /// All of it.
    members: Map<String, Value>,
}

/// Whether `=` may stand at the end of a token's parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Padding {
    /// RFC 7515 section 2: it may not.
    Forbidden,
    /// AWS' balancers write it.
    Allowed,
}

impl<'a> Token<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    ///
    /// When its form is wrong.
    pub(crate) fn parse(token: &'a str) -> Result<Self, TokenFault> {
        Self::parse_with(token, Padding::Forbidden)
    }

    /// The same, where the token's sender may have padded its parts.
    ///
    /// # Errors
    ///
    /// When its form is wrong.
    pub(crate) fn parse_with(token: &'a str, padding: Padding) -> Result<Self, TokenFault> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenFault::Malformed("it is longer than 16 KiB"));
        }
        if token.split('.').count() == 5 {
            return Err(TokenFault::Malformed("it is encrypted (JWE), which is not supported"));
        }
        let not_three = TokenFault::Malformed("it has not three parts");
        let (signed, signature) = token.rsplit_once('.').ok_or(not_three)?;
        let (header, payload) = signed.split_once('.').ok_or(not_three)?;
        if payload.contains('.') {
            return Err(not_three);
        }
        // A canonical encoding (no padding, no loose bits), or one token had many spellings.
        let decode = |part: &str| {
            let part = match padding {
                Padding::Forbidden => part,
                Padding::Allowed => part.trim_end_matches('='),
            };
            URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenFault::Malformed("it is not base64url"))
        };
        let header = json::parse_object(&decode(header)?)
            .ok_or(TokenFault::Malformed("its header is no JSON object, or has a name twice"))?;
        let header = Header::parse(header)?;
        let claims = json::parse_object(&decode(payload)?)
            .ok_or(TokenFault::Malformed("its payload is no JSON object, or has a name twice"))?;
        Ok(Self { header, claims, signed, signature: decode(signature)? })
    }

    /// Tries the keys with the token's `kid` and those without, all of its algorithm; for a token without
    /// `kid` the first [`MOST_TRIED`] of its algorithm.
    ///
    /// # Errors
    ///
    /// When there is no such key, or none of them has signed it.
    pub(crate) fn check_signature(&self, sets: &[&KeySet], now: u64) -> Result<(), TokenFault> {
        let kid = self.header.kid.as_deref();
        let unknown = || if kid.is_some() { TokenFault::KeyUnknown } else { TokenFault::NoKey };
        let algorithm = self.header.algorithm.ok_or_else(unknown)?;
        let candidates = sets.iter().flat_map(|keys| keys.candidates(algorithm, kid, now));
        let mut candidates = candidates.take(MOST_TRIED).peekable();
        if candidates.peek().is_none() {
            return Err(unknown());
        }
        if candidates.any(|key| self.is_signed_by(algorithm, key)) {
            Ok(())
        } else {
            Err(TokenFault::Signature)
        }
    }

    /// Whether a public key that is in none of these sets could make it a good one. Not if its key is
    /// among them by name, nor if its claims keep it out whoever signed it: the tokens of yesterday
    /// that old tabs come back with are not worth asking anybody for their keys.
    pub(crate) fn could_have_another_key(
        &self,
        verifier: &Verifier,
        sets: &[&KeySet],
        now: u64,
    ) -> bool {
        let Some(algorithm) = self.header.algorithm.filter(|one| !is_hmac(*one)) else {
            return false;
        };
        let kid = self.header.kid.as_deref();
        let is_named = kid.is_some_and(|kid| sets.iter().any(|set| set.names(algorithm, kid, now)));
        !is_named && self.check_claims(verifier, now).is_ok()
    }

    /// Checks the claims of a token whose signature has been checked.
    ///
    /// # Errors
    ///
    /// The first rule that does not hold.
    pub(crate) fn accept(self, verifier: &Verifier, now: u64) -> Result<Identity, TokenFault> {
        let checked = self.check_claims(verifier, now)?;
        let (user, issuer) = (Arc::from(&*checked.user), checked.issuer.map(Into::into));
        let expires_at = checked.expires_at;
        Ok(Identity { user, issuer, claims: self.claims, expires_at })
    }

    fn check_claims(&self, verifier: &Verifier, now: u64) -> Result<Checked<'_>, TokenFault> {
        let claims = &self.claims;
        let expires_at = check_times(claims, now, verifier.leeway.as_secs())?;
        let issuer = check_issuer(claims, &verifier.issuers)?;
        check_audience(claims, verifier)?;
        check_kind(verifier, &self.header, claims)?;
        Ok(Checked { user: user(claims, &verifier.user_claim)?, issuer, expires_at })
    }

    fn is_signed_by(&self, algorithm: Algorithm, key: &DecodingKey) -> bool {
        // The provider is named, not looked up: the lookup panics when some crate of the build
        // turns on a second provider. It refuses a key of another family than the algorithm's.
        (aws_lc::DEFAULT_PROVIDER.verifier_factory)(&algorithm, key)
            .is_ok_and(|verifier| verifier.verify(self.signed.as_bytes(), &self.signature).is_ok())
    }
}

impl Header {
    fn parse(members: Map<String, Value>) -> Result<Self, TokenFault> {
        let header = &members;
        // RFC 7515 section 4.1.11: extensions listed in `crit` must be understood; we know none.
        if header.contains_key("crit") {
            return Err(TokenFault::Malformed("its header has crit: extensions are not supported"));
        }
        if header.contains_key("zip") {
            return Err(TokenFault::Malformed("its header has zip: compression is not supported"));
        }
        let alg = text(header, "alg", "its alg is no string")?
            .ok_or(TokenFault::Malformed("its header has no alg"))?;
        // RFC 8725 section 3.2, in whatever spelling.
        if alg.eq_ignore_ascii_case("none") {
            return Err(TokenFault::Malformed("it is not signed"));
        }
        let algorithm = match alg {
            // RFC 9864 gives what everyone means by EdDSA its own name.
            "Ed25519" => Some(Algorithm::EdDSA),
            alg => alg.parse().ok(),
        };
        let kid = text(header, "kid", "its kid is no string")?.map(str::to_owned);
        let typ = text(header, "typ", "its typ is no string")?.map(normal_type);
        Ok(Self { algorithm, kid, typ, members })
    }
}

/// A media type as `token_types` has it: lower case, without `application/`.
fn normal_type(typ: &str) -> String {
    let lower = typ.to_ascii_lowercase();
    match lower.strip_prefix("application/") {
        Some(short) => short.to_owned(),
        None => lower,
    }
}

/// Keys tried for one token: what a signature that does not verify costs is bounded.
const MOST_TRIED: usize = 8;

#[cfg(test)]
mod tests;
