//! What a token says of itself: read here and now, not verified. Pure.
//!
//! Doctor has no keys, so it cannot say that a token is good. But most tokens that are refused show
//! why to anybody who reads them: expired, not yet valid, of the wrong kind, for another audience.

use serde_json::Value;

use super::report::Finding;
use crate::admission::jwt::Unverified;
use crate::outcome::rejection::TokenFault;

/// A token that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reading {
    /// What to show: never the token itself.
    pub(crate) seen: Vec<String>,
    /// What is wrong with it by this machine's clock, the worst first.
    pub(crate) faults: Vec<Fault>,
    /// Its audiences, as text.
    pub(crate) audience: String,
    /// Its issuer, as text.
    pub(crate) issuer: String,
    times: Times,
}

/// What can be wrong with a token for everybody to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is no JWT.
    Malformed(String),
    /// Its `alg` is `none`.
    Unsigned,
    /// It is a JWE.
    Encrypted,
    /// This claim is a time and no number.
    NoNumber(&'static str),
    /// This claim is a time in milliseconds.
    Milliseconds(&'static str),
    /// It has no `exp`.
    NoExpiry,
    /// `exp` has passed, so many seconds ago.
    Expired(i64),
    /// `nbf` or `iat` lies so many seconds ahead.
    NotYetValid(i64),
    /// It is a refresh token, by this sign.
    Refresh(String),
    /// It is an ID token, by this sign.
    Id(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Times {
    expires: Option<i64>,
    starts: Option<i64>,
}

/// Reads a token at `now`, in seconds since 1970.
pub(crate) fn read(token: &str, now: i64) -> Reading {
    let nothing = Reading {
        seen: Vec::new(),
        faults: Vec::new(),
        audience: "nobody".to_owned(),
        issuer: "nobody".to_owned(),
        times: Times::default(),
    };
    let token = match Unverified::read(token) {
        Ok(token) => token,
        Err(fault) => {
            let what = match fault {
                TokenFault::Malformed(what) => what.to_owned(),
                other => other.to_string(),
            };
            let (seen, fault) = unreadable(token, what);
            return Reading { seen: vec![seen], faults: vec![fault], ..nothing };
        }
    };
    let time = |claim| token.time(claim).filter(|time| *time < MILLISECONDS);
    let seconds = |claim| time(claim).and_then(|time| i64::try_from(time).ok());
    let times = Times {
        expires: seconds("exp"),
        starts: ["nbf", "iat"].into_iter().filter_map(seconds).max(),
    };
    let claim = |name: &str| token.claims.get(name).map_or_else(|| "nobody".to_owned(), plain);
    let mut reading = Reading { audience: claim("aud"), issuer: claim("iss"), times, ..nothing };
    reading.seen = describe(&token, &reading, now);
    reading.faults.extend(TIMES.into_iter().filter_map(|claim| written(&token, claim)));
    reading.faults.extend(times.fault(now));
    reading.faults.extend(kind(&token));
    // Many servers take such a token, so anything else is more likely what they refuse it for.
    let is_endless = !token.claims.contains_key("exp");
    reading.faults.extend(is_endless.then_some(Fault::NoExpiry));
    reading
}

/// A token that cannot be taken apart: what was seen, and the fault.
fn unreadable(token: &str, what: String) -> (String, Fault) {
    // Both begin with a header in JSON.
    match what.as_str() {
        UNSIGNED => ("a JWT without a signature (its alg is none)".to_owned(), Fault::Unsigned),
        _ if token.starts_with("eyJ") && token.split('.').count() == 5 => {
            ("an encrypted token (JWE), which shows nothing".to_owned(), Fault::Encrypted)
        }
        _ => (format!("the token is no JWT ({what})"), Fault::Malformed(what)),
    }
}

/// What is wrong with how a time is written.
fn written(token: &Unverified, claim: &'static str) -> Option<Fault> {
    if !token.claims.get(claim)?.is_number() {
        return Some(Fault::NoNumber(claim));
    }
    token.time(claim).filter(|time| *time >= MILLISECONDS).map(|_| Fault::Milliseconds(claim))
}

impl Reading {
    /// What another clock, so many seconds ahead of this one, would find wrong with its times.
    pub(crate) fn fault_by_clock(&self, now: i64, ahead: i64) -> Option<Fault> {
        self.times.fault(now.saturating_add(ahead))
    }
}

impl Times {
    fn fault(&self, now: i64) -> Option<Fault> {
        if let Some(expires) = self.expires.filter(|expires| now >= *expires) {
            return Some(Fault::Expired(now.saturating_sub(expires)));
        }
        self.starts
            .filter(|starts| *starts > now)
            .map(|starts| Fault::NotYetValid(starts.saturating_sub(now)))
    }
}

impl Fault {
    /// Why such a token is refused.
    pub(crate) fn finding(&self) -> Finding {
        match self {
            Self::Malformed(what) => Finding::new(
                format!(
                    "the token is no JWT ({what}): where one is expected it cannot be accepted"
                ),
                "copy the token anew and whole: three parts with two dots, no quotes, no line break",
            ),
            Self::Unsigned => Finding::new(
                "the token is not signed (its alg is none): anybody could have written it, so servers refuse it",
                "use one that the identity provider signed; who issues tokens must give the library a key and an \
                 algorithm",
            ),
            Self::Encrypted => Finding::new(
                "the token is encrypted (JWE), so only who has the key can read it; framegate and most servers take \
                 signed ones only",
                "ask the identity provider for a signed access token: some give one only if the request names an \
                 audience",
            ),
            Self::NoNumber(claim) => no_number(claim),
            Self::Milliseconds(claim) => milliseconds(claim),
            Self::NoExpiry => no_expiry(),
            Self::Expired(ago) => Finding::new(
                format!("the token expired {} ago", span(*ago)),
                "get a new token (sign in again, or use the refresh token at the identity provider), \
                 then connect with that",
            ),
            Self::NotYetValid(ahead) => Finding::new(
                format!("the token is valid only in {}: by its `nbf` or `iat`", span(*ahead)),
                "set the clock of the machine that issues tokens, or of this one (NTP)",
            ),
            Self::Refresh(sign) => Finding::new(
                format!("this is a refresh token ({sign}), not an access token"),
                "exchange it at the identity provider for an access token, and connect with that",
            ),
            Self::Id(sign) => Finding::new(
                format!(
                    "this is an ID token ({sign}), which tells who somebody is but opens nothing"
                ),
                "connect with the access token that came with it",
            ),
        }
    }
}

fn no_number(claim: &str) -> Finding {
    Finding::new(
        format!("`{claim}` of the token is no number, as times in a token must be"),
        format!("make whoever issues it write `{claim}` as seconds since 1970, without quotes"),
    )
}

fn milliseconds(claim: &str) -> Finding {
    Finding::new(
        format!(
            "`{claim}` of the token is in milliseconds, where seconds belong: servers read a year far ahead"
        ),
        "make whoever issues it write seconds since 1970 (JavaScript: Math.floor(Date.now() / 1000))",
    )
}

fn no_expiry() -> Finding {
    Finding::new(
        "the token has no `exp`, so it would be good for ever: framegate and others refuse such a token",
        "make whoever issues it give it an end (`exp`, in seconds since 1970)",
    )
}

/// One that is refused where it is said, in words.
pub(crate) fn span(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (count, unit) = match seconds {
        0..120 => (seconds, "second"),
        120..7200 => (seconds / 60, "minute"),
        7200..172_800 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

fn describe(token: &Unverified, reading: &Reading, now: i64) -> Vec<String> {
    let algorithm = token.algorithm.map_or_else(|| "unknown".to_owned(), |a| format!("{a:?}"));
    let mut head = format!("a JWT, signed with {algorithm}");
    if let Some(kid) = &token.kid {
        head.push_str(&format!(", key {kid:?}"));
    }
    if let Some(typ) = &token.typ {
        head.push_str(&format!(", type {typ:?}"));
    }
    let subject = token.claims.get("sub").map_or_else(|| "nobody".to_owned(), plain);
    let whose = format!("of {subject}, issued by {}, for {}", reading.issuer, reading.audience);
    let times = match reading.times.expires {
        None if token.claims.contains_key("exp") => "its exp cannot be read as a time".to_owned(),
        None => "it never expires (no exp)".to_owned(),
        Some(expires) if expires > now => {
            format!("it expires in {}", span(expires.saturating_sub(now)))
        }
        Some(expires) => format!("it expired {} ago", span(now.saturating_sub(expires))),
    };
    vec![head, whose, times]
}

/// RFC 8725 section 3.11: how issuers tell kinds of tokens apart, as far as one can see.
fn kind(token: &Unverified) -> Option<Fault> {
    let of_type = token.typ.as_deref().map(|typ| ("its type header", typ.to_owned()));
    let claims = ["token_use", "token_type", "typ", "tokenType"].into_iter();
    let of_claims = claims.filter_map(|name| Some((name, plain(token.claims.get(name)?))));
    for (name, value) in of_type.into_iter().chain(of_claims) {
        let lower = value.to_ascii_lowercase();
        let sign = format!("{name} is {value}");
        match lower.as_str() {
            "refresh" | "refresh_token" | "refresh+jwt" | "rt+jwt" | "offline" => {
                return Some(Fault::Refresh(sign));
            }
            "id" | "id_token" | "id+jwt" => return Some(Fault::Id(sign)),
            _ => {}
        }
    }
    let scope = token.claims.get("scope").or_else(|| token.claims.get("scp")).map(plain);
    let scopes = scope.as_deref().unwrap_or_default();
    if scopes.split([' ', ',']).any(|word| matches!(word, "refresh" | "refresh_token")) {
        return Some(Fault::Refresh(format!("its scope is {scopes}")));
    }
    // OpenID Connect Core section 3.1.3.6: only an ID token vouches for another one.
    let is_id = token.claims.contains_key("at_hash") || token.claims.contains_key("nonce");
    is_id.then(|| Fault::Id("it has at_hash or nonce".to_owned()))
}

/// A claim as a person writes it.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// The claims that are times.
const TIMES: [&str; 3] = ["exp", "nbf", "iat"];

/// The year 5138 in seconds, and 1973 in milliseconds.
const MILLISECONDS: u64 = 100_000_000_000;

/// What is said of `alg: none` where tokens are read.
const UNSIGNED: &str = "it is not signed";

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn token(header: Value, claims: Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.c2lnbmF0dXJl", part(&header), part(&claims))
    }

    fn faults(header: Value, claims: Value) -> Vec<Fault> {
        read(&token(header, claims), NOW).faults
    }

    #[test]
    fn a_good_token_has_no_fault_and_is_described() {
        let header = json!({ "alg": "ES256", "kid": "k1", "typ": "JWT" });
        let claims = json!({ "sub": "alice", "iss": "https://id", "aud": ["a", "b"],
            "exp": NOW + 300, "iat": NOW, "token_use": "access" });
        let reading = read(&token(header, claims), NOW);
        assert_eq!(reading.faults, []);
        let expected = [
            "a JWT, signed with ES256, key \"k1\", type \"jwt\"",
            "of alice, issued by https://id, for a, b",
            "it expires in 5 minutes",
        ];
        assert_eq!(reading.seen, expected);
        assert_eq!(reading.fault_by_clock(NOW, 600), Some(Fault::Expired(300)));
        assert_eq!(reading.fault_by_clock(NOW, -60), Some(Fault::NotYetValid(60)));
        assert_eq!(reading.fault_by_clock(NOW, 10), None);
    }

    #[test]
    fn what_is_wrong_is_seen_without_a_key() {
        let jwt = || json!({ "alg": "HS256" });
        let rows = [
            (jwt(), json!({ "exp": NOW - 7200 }), Fault::Expired(7200)),
            (jwt(), json!({ "exp": NOW }), Fault::Expired(0)),
            (jwt(), json!({ "exp": NOW + 9, "nbf": NOW + 90 }), Fault::NotYetValid(90)),
            (jwt(), json!({ "exp": NOW + 9, "iat": NOW + 5 }), Fault::NotYetValid(5)),
            (
                jwt(),
                json!({ "exp": NOW + 9, "token_use": "refresh" }),
                Fault::Refresh("token_use is refresh".to_owned()),
            ),
            (
                jwt(),
                json!({ "exp": NOW + 9, "typ": "Refresh" }),
                Fault::Refresh("typ is Refresh".to_owned()),
            ),
            (
                jwt(),
                json!({ "exp": NOW + 9, "scope": "chat refresh_token" }),
                Fault::Refresh("its scope is chat refresh_token".to_owned()),
            ),
            (
                json!({ "alg": "HS256", "typ": "rt+jwt" }),
                json!({ "exp": NOW + 9 }),
                Fault::Refresh("its type header is rt+jwt".to_owned()),
            ),
            (
                jwt(),
                json!({ "exp": NOW + 9, "token_use": "id" }),
                Fault::Id("token_use is id".to_owned()),
            ),
            (
                jwt(),
                json!({ "exp": NOW + 9, "nonce": "x" }),
                Fault::Id("it has at_hash or nonce".to_owned()),
            ),
        ];
        for (header, claims, expected) in rows {
            assert_eq!(faults(header, claims.clone()), [expected], "{claims}");
        }
    }

    #[test]
    fn times_that_are_written_otherwise_are_no_times() {
        let jwt = || json!({ "alg": "HS256" });
        let rows = [
            (json!({ "exp": (NOW + 9).to_string() }), vec![Fault::NoNumber("exp")]),
            (json!({ "exp": null }), vec![Fault::NoNumber("exp")]),
            (json!({ "exp": NOW + 9, "nbf": "now" }), vec![Fault::NoNumber("nbf")]),
            (json!({ "exp": (NOW + 9) * 1000 }), vec![Fault::Milliseconds("exp")]),
            (json!({ "exp": NOW + 9, "iat": NOW * 1000 }), vec![Fault::Milliseconds("iat")]),
            (json!({ "exp": (NOW + 9) as f64 + 0.5 }), vec![]),
            (json!({ "exp": 99_999_999_999_u64 }), vec![]),
            (json!({}), vec![Fault::NoExpiry]),
            (
                json!({ "token_use": "refresh" }),
                vec![Fault::Refresh("token_use is refresh".to_owned()), Fault::NoExpiry],
            ),
        ];
        for (claims, expected) in rows {
            assert_eq!(faults(jwt(), claims.clone()), expected, "{claims}");
        }
    }

    #[test]
    fn what_is_not_signed_or_encrypted_is_told_from_what_is_no_token() {
        for alg in ["none", "None"] {
            let reading = read(&token(json!({ "alg": alg }), json!({})), NOW);
            assert_eq!(reading.faults, [Fault::Unsigned]);
        }
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"dir","enc":"A256GCM"}"#);
        let reading = read(&format!("{header}..aXY.dGV4dA.dGFn"), NOW);
        assert_eq!(reading.faults, [Fault::Encrypted]);
        assert_eq!(reading.seen, ["an encrypted token (JWE), which shows nothing"]);
    }

    #[test]
    fn what_is_no_token_is_said_to_be_none() {
        for text in ["opaque", "a.b", "a.b.c", "a.b.c.d.e", &token(json!({}), json!({}))] {
            let reading = read(text, NOW);
            assert!(matches!(reading.faults.as_slice(), [Fault::Malformed(_)]), "{text}");
            assert!(reading.seen[0].starts_with("the token is no JWT ("), "{text}");
        }
    }

    #[test]
    fn nothing_of_the_signature_is_ever_shown() {
        let text = token(json!({ "alg": "HS256" }), json!({ "exp": NOW + 9, "sub": "u" }));
        let reading = read(&text, NOW);
        assert!(!format!("{reading:?}").contains("c2lnbmF0dXJl"));
    }

    #[test]
    fn spans_are_written_as_people_say_them() {
        let rows = [
            (0, "0 seconds"),
            (1, "1 second"),
            (119, "119 seconds"),
            (300, "5 minutes"),
            (7200, "2 hours"),
            (172_800, "2 days"),
        ];
        for (seconds, expected) in rows {
            assert_eq!(span(seconds), expected);
        }
    }

    proptest! {
        #[test]
        fn no_token_panics(text in ".{0,60}", claims: Vec<u8>, now: i64) {
            let _ = read(&text, now);
            let encoded = URL_SAFE_NO_PAD.encode(claims);
            let _ = read(&format!("eyJhbGciOiJIUzI1NiJ9.{encoded}.c2ln"), now);
        }

        #[test]
        fn no_times_panic(expires: i64, starts: i64, now: i64, ahead: i64) {
            let claims = json!({ "exp": expires, "nbf": starts });
            let reading = read(&token(json!({ "alg": "HS256" }), claims), now);
            let _ = (reading.fault_by_clock(now, ahead), reading.seen);
        }
    }
}
