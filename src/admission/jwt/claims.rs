//! The rules for what a token says, one function each. Pure.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::Header;
use crate::admission::authorize::find_claim;
use crate::config::Verifier;
use crate::outcome::rejection::TokenFault;

/// Returns `exp`, at most the end of the year 9999 so that date arithmetic on it cannot overflow.
pub(super) fn check_times(
    claims: &Map<String, Value>,
    now: u64,
    leeway: u64,
) -> Result<u64, TokenFault> {
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
pub(super) fn seconds(
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

pub(super) fn check_issuer<'a>(
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
pub(super) fn check_audience(
    claims: &Map<String, Value>,
    verifier: &Verifier,
) -> Result<(), TokenFault> {
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
pub(super) fn check_kind(
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
pub(super) fn user<'a>(
    claims: &'a Map<String, Value>,
    claim: &str,
) -> Result<Cow<'a, str>, TokenFault> {
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
        Some(Value::Bool(_)) => "its user claim is a boolean, not a string or an integer",
        // Written with a point or an exponent, or larger than can be read exactly.
        Some(Value::Number(_)) => "its user claim is a number, but not an exact integer of 64 bits",
        Some(Value::Array(_)) => "its user claim is an array, not a string or an integer",
        Some(Value::Object(_)) => "its user claim is an object, not a string or an integer",
        Some(Value::String(_)) => "its user claim is not a name",
    }
}

pub(super) fn text<'a>(
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

/// 9999-12-31T23:59:59Z, the last second that RFC 3339 can write.
pub(super) const END_OF_9999: u64 = 253_402_300_799;
