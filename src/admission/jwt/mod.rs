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

use super::authorize::find_claim;
use super::json;
use super::keys::{KeySet, is_hmac};
use super::token::MAX_TOKEN_BYTES;
use crate::config::Verifier;
use crate::outcome::rejection::TokenFault;
use crate::session::identity::Identity;

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

/// Returns `exp`, at most the end of the year 9999 so that date arithmetic on it cannot overflow.
fn check_times(claims: &Map<String, Value>, now: u64, leeway: u64) -> Result<u64, TokenFault> {
    let expires = seconds(claims, "exp", "its exp is no number")?
        .ok_or(TokenFault::Malformed("it has no exp"))?;
    let not_before = seconds(claims, "nbf", "its nbf is no number")?;
    let issued = seconds(claims, "iat", "its iat is no number")?;
    // RFC 7519 section 4.1.4: "on or after" exp it must not be accepted.
    if now >= expires.saturating_add(leeway) {
        return Err(TokenFault::Expired);
    }
    let latest_start = now.saturating_add(leeway);
    if [not_before, issued].into_iter().flatten().any(|start| start > latest_start) {
        return Err(TokenFault::NotYetValid);
    }
    Ok(expires.min(END_OF_9999))
}

/// A NumericDate (RFC 7519 section 2): seconds since 1970, fractions allowed. Before 1970 is 0.
fn seconds(
    claims: &Map<String, Value>,
    name: &str,
    no_number: &'static str,
) -> Result<Option<u64>, TokenFault> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    if let Some(seconds) = value.as_u64() {
        return Ok(Some(seconds));
    }
    let float = value.as_f64().ok_or(TokenFault::Malformed(no_number))?;
    #[expect(clippy::cast_possible_truncation, reason = "saturates at both ends, as is wanted")]
    let whole = float as u64;
    Ok(Some(whole))
}

fn check_issuer<'a>(
    claims: &'a Map<String, Value>,
    accepted: &[String],
) -> Result<Option<&'a str>, TokenFault> {
    let issuer = text(claims, "iss", "its iss is no string")?;
    if accepted.is_empty() || issuer.is_some_and(|name| accepted.iter().any(|one| one == name)) {
        Ok(issuer)
    } else {
        Err(TokenFault::Issuer)
    }
}

/// RFC 7519 section 4.1.3: `aud` is a string or an array of strings, one of which must be ours. Issuers
/// that name the audience in another claim (Cognito's `client_id`) have it looked for there.
fn check_audience(claims: &Map<String, Value>, verifier: &Verifier) -> Result<(), TokenFault> {
    let accepted = &verifier.audiences;
    if accepted.is_empty() {
        return Ok(());
    }
    for claim in &verifier.audience_claims {
        let names = match find_claim(claims, claim) {
            None => continue,
            Some(Value::Array(names)) => names.as_slice(),
            Some(name) => std::slice::from_ref(name),
        };
        if !names.iter().all(Value::is_string) {
            return Err(TokenFault::Malformed(
                "its aud is neither a string nor an array of strings",
            ));
        }
        let mut names = names.iter().filter_map(Value::as_str);
        if names.any(|name| accepted.iter().any(|one| one == name)) {
            return Ok(());
        }
    }
    Err(TokenFault::Audience)
}

/// RFC 8725 section 3.11 and 3.12: a token of another kind from the same issuer, such as a refresh
/// or ID token, is told apart by its type or by its claims.
fn check_kind(
    verifier: &Verifier,
    header: &Header,
    claims: &Map<String, Value>,
) -> Result<(), TokenFault> {
    let typ = header.typ.as_deref();
    let accepted = match typ {
        // An absent one is "" in the list.
        _ if !verifier.token_types.is_empty() => {
            verifier.token_types.iter().any(|one| one == typ.unwrap_or_default())
        }
        Some(typ) => typ == "jwt",
        None => true,
    };
    if !accepted {
        return Err(TokenFault::Kind("its typ header is not accepted here"));
    }
    let members = &verifier.required_header;
    if members.iter().any(|(name, value)| header.members.get(name) != Some(value)) {
        return Err(TokenFault::Kind(
            "a required member of its header is missing or has another value",
        ));
    }
    let required = &verifier.required_claims;
    if required.iter().any(|(name, value)| find_claim(claims, name) != Some(value)) {
        return Err(TokenFault::Kind("a required claim is missing or has another value"));
    }
    Ok(())
}

/// The user's name goes into headers, logs and tables: it has to be a name.
///
/// An integer is its decimal digits: many systems number their users.
fn user<'a>(claims: &'a Map<String, Value>, claim: &str) -> Result<Cow<'a, str>, TokenFault> {
    let user = match find_claim(claims, claim) {
        Some(Value::String(text)) => Cow::Borrowed(text.as_str()),
        Some(Value::Number(number)) if number.is_i64() || number.is_u64() => {
            Cow::Owned(number.to_string())
        }
        other => return Err(TokenFault::Malformed(not_a_user(other))),
    };
    if user.is_empty() || user.len() > MAX_USER_BYTES || user.contains(char::is_control) {
        return Err(TokenFault::Malformed(
            "its user claim is empty, longer than 256 bytes or has control characters",
        ));
    }
    Ok(user)
}

/// Why a claim's value names no user.
fn not_a_user(value: Option<&Value>) -> &'static str {
    match value {
        None => "its user claim is missing",
        Some(Value::Null) => "its user claim is null, not a string or an integer",
        Some(Value::Bool(_)) => "its user claim is true or false, not a string or an integer",
        // Written with a point or an exponent, or larger than can be read exactly.
        Some(Value::Number(_)) => "its user claim is a number, but not an exact integer of 64 bits",
        Some(Value::Array(_)) => "its user claim is an array, not a string or an integer",
        Some(Value::Object(_)) => "its user claim is an object, not a string or an integer",
        Some(Value::String(_)) => "its user claim is not a name",
    }
}

fn text<'a>(
    object: &'a Map<String, Value>,
    name: &str,
    no_string: &'static str,
) -> Result<Option<&'a str>, TokenFault> {
    match object.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(TokenFault::Malformed(no_string)),
    }
}

const MAX_USER_BYTES: usize = 256;

/// Keys tried for one token: what a signature that does not verify costs is bounded.
const MOST_TRIED: usize = 8;

/// 9999-12-31T23:59:59Z, the last second that RFC 3339 can write.
const END_OF_9999: u64 = 253_402_300_799;

#[cfg(test)]
mod tests;
