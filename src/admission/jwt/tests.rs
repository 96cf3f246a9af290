//! Every rule on a token, row by row, and the attacks that such rules are there for.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::admission::key_file::verification_key;
use crate::admission::keys::VerificationKey;
use jsonwebtoken::EncodingKey;

const NOW: u64 = 1_800_000_000;
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

fn verifier() -> Verifier {
    Verifier {
        name: "users".into(),
        keys: vec![],
        jwks: None,
        issuers: vec![],
        audiences: vec![],
        leeway: Duration::from_secs(30),
        user_claim: "sub".into(),
        audience_claims: vec!["aud".into()],
        required_header: vec![],
        required_claims: vec![],
        token_types: vec![],
        sources: vec![],
    }
}

fn hs256(kid: Option<&str>, secret: &[u8]) -> VerificationKey {
    VerificationKey {
        kid: kid.map(Into::into),
        algorithm: Algorithm::HS256,
        key: DecodingKey::from_secret(secret),
        not_after: None,
    }
}

fn set() -> KeySet {
    KeySet::new(vec![hs256(None, SECRET)])
}

fn claims() -> Value {
    json!({"sub": "alice", "exp": NOW + 300})
}

fn with(claim: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[claim] = value;
    claims
}

/// A token with this header and payload, byte for byte, signed with [`SECRET`].
fn token(header: &str, payload: &str) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    sign(&signed, &EncodingKey::from_secret(SECRET), Algorithm::HS256)
}

fn sign(signed: &str, key: &EncodingKey, algorithm: Algorithm) -> String {
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), key, algorithm).unwrap();
    format!("{signed}.{signature}")
}

fn with_claims(claims: &Value) -> String {
    token(r#"{"alg":"HS256","typ":"JWT"}"#, &claims.to_string())
}

fn with_header(header: &Value) -> String {
    token(&header.to_string(), &claims().to_string())
}

/// What `verify` says of a token, as label: `ok` or the name of the fault.
fn verdict(verifier: &Verifier, keys: &KeySet, token: &str) -> &'static str {
    match verify(verifier, keys, token, NOW) {
        Ok(_) => "ok",
        Err(TokenFault::Missing) => "missing",
        Err(TokenFault::Malformed(_)) => "malformed",
        Err(TokenFault::Expired) => "expired",
        Err(TokenFault::NotYetValid) => "not_yet_valid",
        Err(TokenFault::Signature) => "signature",
        Err(TokenFault::KeyUnknown | TokenFault::NoKey) => "key_unknown",
        Err(TokenFault::Issuer) => "issuer",
        Err(TokenFault::Audience) => "audience",
        Err(TokenFault::Kind(_)) => "kind",
    }
}

#[test]
fn a_good_token_names_the_user() {
    let claims = json!({"sub": "alice", "exp": NOW + 300, "iss": "https://id", "role": ["x"]});
    let identity = verify(&verifier(), &set(), &with_claims(&claims), NOW).unwrap();
    assert_eq!(&*identity.user, "alice");
    assert_eq!(identity.issuer.as_deref(), Some("https://id"));
    assert_eq!(identity.expires_at, NOW + 300);
    assert_eq!(Value::Object(identity.claims), claims);
}

#[test]
fn exp_is_required_and_any_number() {
    for (exp, expected) in [
        (json!(NOW + 1), "ok"),
        (json!(NOW), "ok"),
        // Leeway is 30 s: the last second is 29 s past.
        (json!(NOW - 29), "ok"),
        (json!(NOW - 30), "expired"),
        (json!(NOW - 31), "expired"),
        (json!(0), "expired"),
        (json!(-1), "expired"),
        (json!(i64::MIN), "expired"),
        (json!(-1e300), "expired"),
        (json!(NOW as f64 + 0.5), "ok"),
        (json!(NOW as f64 - 29.5), "expired"),
        (json!(1.8e10), "ok"),
        (json!(1e300), "ok"),
        (json!(i64::MAX), "ok"),
        (json!(u64::MAX), "ok"),
        (json!(u64::MAX - 10), "ok"),
        (json!((NOW + 300).to_string()), "malformed"),
        (json!(null), "malformed"),
        (json!(true), "malformed"),
        (json!([NOW + 300]), "malformed"),
        (json!({}), "malformed"),
    ] {
        let token = with_claims(&with("exp", exp.clone()));
        assert_eq!(verdict(&verifier(), &set(), &token), expected, "{exp}");
    }
    assert_eq!(verdict(&verifier(), &set(), &with_claims(&json!({"sub": "a"}))), "malformed");
    let beyond_double = r#"{"sub":"a","exp":1e999}"#;
    assert_eq!(
        verdict(&verifier(), &set(), &token(r#"{"alg":"HS256"}"#, beyond_double)),
        "malformed"
    );
}

#[test]
fn an_exp_far_ahead_is_clamped_to_a_date_that_can_be_written() {
    for exp in [json!(u64::MAX), json!(u64::MAX - 1), json!(1e300), json!(claims::END_OF_9999 + 1)]
    {
        let identity = verify(&verifier(), &set(), &with_claims(&with("exp", exp)), NOW).unwrap();
        assert_eq!(identity.expires_at, claims::END_OF_9999);
    }
}

#[test]
fn extremes_of_clock_and_leeway_do_not_overflow() {
    let mut verifier = verifier();
    verifier.leeway = Duration::MAX;
    for exp in [json!(0), json!(u64::MAX)] {
        let token = with_claims(&json!({"sub": "a", "exp": exp, "nbf": u64::MAX}));
        for now in [0, NOW, u64::MAX - 1] {
            assert!(verify(&verifier, &set(), &token, now).is_ok(), "{exp} {now}");
        }
        assert_eq!(
            verify(&verifier, &set(), &token, u64::MAX).unwrap_err(),
            TokenFault::Expired,
            "{exp}"
        );
    }
}

#[test]
fn nbf_and_iat_may_lie_ahead_by_the_leeway() {
    for claim in ["nbf", "iat"] {
        for (value, expected) in [
            (json!(NOW), "ok"),
            (json!(NOW + 30), "ok"),
            (json!(NOW + 31), "not_yet_valid"),
            (json!(NOW as f64 + 30.9), "ok"),
            (json!(NOW as f64 + 31.0), "not_yet_valid"),
            (json!(0), "ok"),
            (json!(-5), "ok"),
            (json!(u64::MAX), "not_yet_valid"),
            (json!("0"), "malformed"),
            (json!(null), "malformed"),
        ] {
            let token = with_claims(&with(claim, value.clone()));
            assert_eq!(verdict(&verifier(), &set(), &token), expected, "{claim} {value}");
        }
    }
}

#[test]
fn a_configured_issuer_is_required() {
    let mut strict = verifier();
    strict.issuers = vec!["https://a".into(), "https://b".into()];
    for (issuer, strictly, otherwise) in [
        (json!("https://a"), "ok", "ok"),
        (json!("https://b"), "ok", "ok"),
        (json!("https://a/"), "issuer", "ok"),
        (json!("HTTPS://A"), "issuer", "ok"),
        (json!(""), "issuer", "ok"),
        (json!(["https://a"]), "malformed", "malformed"),
        (json!(null), "malformed", "malformed"),
    ] {
        let token = with_claims(&with("iss", issuer.clone()));
        assert_eq!(verdict(&strict, &set(), &token), strictly, "{issuer}");
        assert_eq!(verdict(&verifier(), &set(), &token), otherwise, "{issuer}");
    }
    assert_eq!(verdict(&strict, &set(), &with_claims(&claims())), "issuer");
}

#[test]
fn a_configured_audience_is_required() {
    let mut strict = verifier();
    strict.audiences = vec!["chat".into(), "voice".into()];
    for (audience, expected) in [
        (json!("chat"), "ok"),
        (json!(["other", "voice"]), "ok"),
        (json!("chats"), "audience"),
        (json!("other"), "audience"),
        (json!([]), "audience"),
        (json!(["other"]), "audience"),
        (json!(7), "malformed"),
        (json!(["chat", 7]), "malformed"),
        (json!({"chat": 1}), "malformed"),
        (json!(null), "malformed"),
    ] {
        let token = with_claims(&with("aud", audience.clone()));
        assert_eq!(verdict(&strict, &set(), &token), expected, "{audience}");
        assert_eq!(verdict(&verifier(), &set(), &token), "ok", "{audience}");
    }
    assert_eq!(verdict(&strict, &set(), &with_claims(&claims())), "audience");
}

#[test]
fn the_typ_header_tells_kinds_of_token_apart() {
    let mut access = verifier();
    access.token_types = vec!["at+jwt".into()];
    for (typ, by_default, listed) in [
        (Some("JWT"), "ok", "kind"),
        (Some("jwt"), "ok", "kind"),
        (Some("application/jwt"), "ok", "kind"),
        (None, "ok", "kind"),
        (Some("at+jwt"), "kind", "ok"),
        (Some("AT+JWT"), "kind", "ok"),
        (Some("application/at+jwt"), "kind", "ok"),
        (Some("Application/AT+jwt"), "kind", "ok"),
        (Some("application/application/at+jwt"), "kind", "kind"),
        (Some("logout+jwt"), "kind", "kind"),
        (Some("refresh"), "kind", "kind"),
        (Some(""), "kind", "kind"),
    ] {
        let mut header = json!({"alg": "HS256"});
        if let Some(typ) = typ {
            header["typ"] = json!(typ);
        }
        let token = with_header(&header);
        assert_eq!(verdict(&verifier(), &set(), &token), by_default, "{typ:?}");
        assert_eq!(verdict(&access, &set(), &token), listed, "{typ:?}");
    }
}

#[test]
fn a_required_claim_must_have_exactly_its_value() {
    let mut strict = verifier();
    strict.required_claims =
        vec![("token_use".into(), json!("access")), ("ext.level".into(), json!(2))];
    for (claims, expected) in [
        (json!({"token_use": "access", "ext": {"level": 2}}), "ok"),
        (json!({"token_use": "access", "ext.level": 2}), "ok"),
        (json!({"token_use": "refresh", "ext": {"level": 2}}), "kind"),
        (json!({"token_use": ["access"], "ext": {"level": 2}}), "kind"),
        (json!({"token_use": "access", "ext": {"level": "2"}}), "kind"),
        (json!({"token_use": "access"}), "kind"),
        (json!({"ext": {"level": 2}}), "kind"),
    ] {
        let mut all = claims.clone();
        all["sub"] = json!("alice");
        all["exp"] = json!(NOW + 300);
        assert_eq!(verdict(&strict, &set(), &with_claims(&all)), expected, "{claims}");
    }
}

#[test]
fn the_user_claim_must_be_a_name() {
    for (user, expected) in [
        (json!("a"), "ok"),
        (json!("Zoë 🦀"), "ok"),
        (json!("a".repeat(256)), "ok"),
        (json!("é".repeat(128)), "ok"),
        (json!("a".repeat(257)), "malformed"),
        (json!("é".repeat(129)), "malformed"),
        (json!(""), "malformed"),
        (json!("a\nb"), "malformed"),
        (json!("a\u{0}"), "malformed"),
        (json!("a\u{7f}"), "malformed"),
        (json!("a\u{85}"), "malformed"),
        (json!(7), "ok"),
        (json!(7.0), "malformed"),
        (json!(1e300), "malformed"),
        (json!(true), "malformed"),
        (json!(null), "malformed"),
        (json!(["a"]), "malformed"),
    ] {
        let token = with_claims(&with("sub", user.clone()));
        assert_eq!(verdict(&verifier(), &set(), &token), expected, "{user}");
    }
    assert_eq!(verdict(&verifier(), &set(), &with_claims(&json!({"exp": NOW + 1}))), "malformed");
}

#[test]
fn an_integer_as_user_is_its_decimal_digits() {
    for (text, expected) in [
        ("42", Ok("42")),
        ("0", Ok("0")),
        ("-7", Ok("-7")),
        ("9007199254740993", Ok("9007199254740993")),
        ("18446744073709551615", Ok("18446744073709551615")),
        ("18446744073709551616", Err("not an exact integer")),
        ("42.0", Err("not an exact integer")),
        ("4e1", Err("not an exact integer")),
        ("true", Err("boolean")),
        ("[42]", Err("an array")),
        ("{}", Err("an object")),
        ("null", Err("null")),
    ] {
        let claims = json::parse_object(format!("{{\"sub\":{text}}}").as_bytes()).unwrap();
        match (user(&claims, "sub"), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected),
            (Err(fault), Err(part)) => {
                let found = fault.to_string();
                assert!(found.contains(part), "{text}: {found}");
            }
            (found, _) => panic!("{text}: {found:?}"),
        }
    }
}

#[test]
fn a_token_that_names_no_key_is_not_refused_for_one() {
    let said = |fault: TokenFault| fault.to_string();
    assert!(said(TokenFault::NoKey).contains("names no key"));
    assert!(said(TokenFault::KeyUnknown).contains("the token's kid"));
    let token = with_header(&json!({"alg": "HS256"}));
    let token = Token::parse(&token).unwrap();
    assert_eq!(token.check_signature(&[&KeySet::new(vec![])], NOW), Err(TokenFault::NoKey));
}

#[test]
fn the_user_claim_can_be_another_or_nested() {
    let mut other = verifier();
    for (claim, claims) in [
        ("email", json!({"email": "alice", "exp": NOW + 1})),
        ("user.id", json!({"user": {"id": "alice"}, "exp": NOW + 1})),
        ("user.id", json!({"user.id": "alice", "user": {"id": "bob"}, "exp": NOW + 1})),
    ] {
        other.user_claim = claim.into();
        let identity = verify(&other, &set(), &with_claims(&claims), NOW).unwrap();
        assert_eq!(&*identity.user, "alice");
    }
}

#[test]
fn header_members_that_change_the_meaning_are_refused() {
    for (header, expected) in [
        (json!({"alg": "HS256"}), "ok"),
        (json!({"alg": "HS256", "cty": "x", "x": {"y": []}}), "ok"),
        (json!({"alg": "HS256", "crit": ["exp"]}), "malformed"),
        (json!({"alg": "HS256", "crit": ["b64"], "b64": false}), "malformed"),
        (json!({"alg": "HS256", "crit": []}), "malformed"),
        (json!({"alg": "HS256", "crit": null}), "malformed"),
        (json!({"alg": "HS256", "zip": "DEF"}), "malformed"),
        (json!({"alg": "HS256", "kid": 7}), "malformed"),
        (json!({"alg": "HS256", "kid": null}), "malformed"),
        (json!({"alg": "HS256", "typ": 7}), "malformed"),
        (json!({"alg": 7}), "malformed"),
        (json!({"alg": ["HS256"]}), "malformed"),
        (json!({"typ": "JWT"}), "malformed"),
        (json!({"alg": "none"}), "malformed"),
        (json!({"alg": "nOnE"}), "malformed"),
        (json!({"alg": "hs256"}), "key_unknown"),
        (json!({"alg": "HS512"}), "key_unknown"),
        (json!({"alg": "RS256"}), "key_unknown"),
        (json!({"alg": "ES512"}), "key_unknown"),
        (json!({"alg": ""}), "key_unknown"),
        (json!({"alg": "RSA-OAEP", "enc": "A128GCM"}), "key_unknown"),
    ] {
        let token = with_header(&header);
        assert_eq!(verdict(&verifier(), &set(), &token), expected, "{header}");
    }
}

#[test]
fn a_name_twice_is_refused_in_header_and_payload() {
    let header = r#"{"alg":"HS256"}"#;
    let payload = claims().to_string();
    for (header, payload) in [
        (r#"{"alg":"none","alg":"HS256"}"#, payload.as_str()),
        (r#"{"alg":"HS256","alg":"HS256"}"#, &payload),
        (header, &format!(r#"{{"sub":"mallory","sub":"alice","exp":{}}}"#, NOW + 1)),
        (header, &format!(r#"{{"sub":"alice","exp":1,"\u0065xp":{}}}"#, NOW + 1)),
        (header, &format!(r#"{{"sub":"alice","exp":{},"o":{{"a":1,"a":2}}}}"#, NOW + 1)),
    ] {
        assert_eq!(verdict(&verifier(), &set(), &token(header, payload)), "malformed", "{payload}");
    }
}

#[test]
fn a_token_has_one_spelling() {
    let good = with_claims(&claims());
    let [header, payload, signature]: [&str; 3] =
        good.split('.').collect::<Vec<_>>().try_into().unwrap();
    // 32 bytes of signature leave two loose bits in the last of 43 characters.
    let last = signature.chars().last().unwrap();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let loose = alphabet.chars().nth(alphabet.find(last).unwrap() + 1).unwrap();
    let loosened = format!("{}{loose}", &signature[..42]);
    for changed in [
        String::new(),
        ".".into(),
        "..".into(),
        "a".into(),
        "a.b".into(),
        format!("{good}="),
        format!("{good}."),
        format!(".{good}"),
        format!(" {good}"),
        format!("{good}\n"),
        format!("{header}=.{payload}.{signature}"),
        format!("{header}.{payload}.{loosened}"),
        format!("{header}.{payload}.{signature}.{signature}"),
        format!("{header}..{payload}.{signature}"),
        format!("{header}.{payload}.{signature}.a.b"),
        format!("{header}.{payload}.+/{}", &signature[2..]),
        good.replace('.', "%2E"),
        token(r#"["HS256"]"#, &claims().to_string()),
        token(r#"{"alg":"HS256"}"#, "alice"),
        token(r#"{"alg":"HS256"}"#, r#"["alice"]"#),
        token(r#"{"alg":"HS256"}"#, ""),
        token(r#"{"alg":"HS256"} {}"#, &claims().to_string()),
    ] {
        assert_eq!(verdict(&verifier(), &set(), &changed), "malformed", "{changed}");
    }
    assert_eq!(verdict(&verifier(), &set(), &good), "ok");
}

#[test]
fn a_changed_token_is_not_signed() {
    let good = with_claims(&claims());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let other = with_claims(&with("sub", json!("mallory")));
    let (other_signed, _) = other.rsplit_once('.').unwrap();
    for changed in [
        format!("{other_signed}.{signature}"),
        format!("{signed}."),
        format!("{signed}.AAAA"),
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode([0; 32])),
        sign(signed, &EncodingKey::from_secret(b"guessed"), Algorithm::HS256),
        sign(signed, &EncodingKey::from_secret(SECRET), Algorithm::HS512),
        sign(signed, &EncodingKey::from_secret(b""), Algorithm::HS256),
    ] {
        assert_eq!(verdict(&verifier(), &set(), &changed), "signature", "{changed}");
    }
}

#[test]
fn a_token_longer_than_16_kib_is_refused_unread() {
    let padded = |length: usize| {
        let mut low = 0;
        let mut high = length;
        // The payload length that gives a token of at most `length` bytes.
        while low + 1 < high {
            let middle = usize::midpoint(low, high);
            let fits = with_claims(&with("pad", json!("x".repeat(middle)))).len() <= length;
            (low, high) = if fits { (middle, high) } else { (low, middle) };
        }
        with_claims(&with("pad", json!("x".repeat(low))))
    };
    let fits = padded(MAX_TOKEN_BYTES);
    assert!(fits.len() > MAX_TOKEN_BYTES - 4);
    assert_eq!(verdict(&verifier(), &set(), &fits), "ok");
    assert_eq!(verdict(&verifier(), &set(), &padded(MAX_TOKEN_BYTES + 4)), "malformed");
    assert_eq!(verdict(&verifier(), &set(), &padded(64 * 1024)), "malformed");
}

#[test]
fn keys_are_chosen_by_kid_and_algorithm() {
    const OTHER: &[u8] = b"another secret of thirty-two byte";
    let with_kid = |kid: Option<&str>| {
        let mut header = json!({"alg": "HS256"});
        if let Some(kid) = kid {
            header["kid"] = json!(kid);
        }
        with_header(&header)
    };
    for (keys, kid, expected) in [
        (vec![hs256(Some("a"), SECRET)], Some("a"), "ok"),
        (vec![hs256(Some("a"), SECRET)], Some("b"), "key_unknown"),
        (vec![hs256(Some("a"), SECRET)], Some("A"), "key_unknown"),
        (vec![hs256(Some("a"), SECRET)], Some(""), "key_unknown"),
        // A token that names no key is tried against all of its algorithm.
        (vec![hs256(Some("a"), SECRET)], None, "ok"),
        (vec![hs256(Some("a"), OTHER), hs256(Some("b"), SECRET)], None, "ok"),
        (vec![hs256(Some("a"), OTHER)], None, "signature"),
        (
            vec![hs256(Some("a"), OTHER); 8].into_iter().chain([hs256(None, SECRET)]).collect(),
            None,
            "signature",
        ),
        (vec![hs256(None, SECRET)], Some("b"), "ok"),
        (vec![hs256(None, SECRET)], None, "ok"),
        (vec![hs256(Some("a"), OTHER)], Some("a"), "signature"),
        // The key without kid is tried too, for a token with one and for a token without.
        (vec![hs256(Some("a"), OTHER), hs256(None, SECRET)], Some("a"), "ok"),
        (vec![hs256(Some("a"), SECRET), hs256(None, OTHER)], None, "ok"),
        // Overlap while a secret is changed.
        (vec![hs256(Some("a"), OTHER), hs256(Some("a"), SECRET)], Some("a"), "ok"),
        (vec![], Some("a"), "key_unknown"),
        (vec![], None, "key_unknown"),
    ] {
        let keys = KeySet::new(keys);
        assert_eq!(verdict(&verifier(), &keys, &with_kid(kid)), expected, "{keys:?} {kid:?}");
    }
}

#[test]
fn a_kid_is_compared_and_never_used() {
    for kid in ["../../../../dev/null", "/etc/passwd", "' OR 1=1 --", "a\u{0}", "https://evil/k"] {
        let token = with_header(&json!({"alg": "HS256", "kid": kid}));
        let keyed = KeySet::new(vec![hs256(Some("a"), SECRET)]);
        assert_eq!(verdict(&verifier(), &keyed, &token), "key_unknown", "{kid}");
        assert_eq!(verdict(&verifier(), &set(), &token), "ok", "{kid}");
        // The trick with /dev/null: a token signed with what that file holds.
        let (signed, _) = token.rsplit_once('.').unwrap();
        let empty = sign(signed, &EncodingKey::from_secret(b""), Algorithm::HS256);
        assert_eq!(verdict(&verifier(), &set(), &empty), "signature", "{kid}");
    }
}

#[test]
fn an_unsigned_token_is_refused_in_every_spelling() {
    for alg in ["none", "None", "NONE", "nOnE"] {
        let header = URL_SAFE_NO_PAD.encode(json!({"alg": alg}).to_string());
        let payload = URL_SAFE_NO_PAD.encode(claims().to_string());
        for token in [format!("{header}.{payload}."), format!("{header}.{payload}.AAAA")] {
            assert_eq!(verdict(&verifier(), &set(), &token), "malformed", "{alg}");
            assert_eq!(verdict(&verifier(), &KeySet::default(), &token), "malformed", "{alg}");
        }
    }
}

#[test]
fn a_public_key_is_no_hmac_secret() {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let pem = pair.public_key_pem();
    let public = verification_key(pem.as_bytes(), Algorithm::RS256).unwrap().key;
    let rsa = VerificationKey {
        kid: Some("k".into()),
        algorithm: Algorithm::RS256,
        key: public,
        not_after: None,
    };
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","kid":"k"}"#);
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims().to_string()));
    let der = rcgen::PublicKeyData::subject_public_key_info(&pair);
    for secret in [pem.as_bytes(), pem.trim_end().as_bytes(), &der, pair.public_key_raw()] {
        let forged = sign(&signed, &EncodingKey::from_secret(secret), Algorithm::HS256);
        let only_rsa = KeySet::new(vec![rsa.clone()]);
        assert_eq!(verdict(&verifier(), &only_rsa, &forged), "key_unknown");
        let both = KeySet::new(vec![rsa.clone(), hs256(Some("k"), SECRET)]);
        assert_eq!(verdict(&verifier(), &both, &forged), "signature");
    }
}

#[test]
fn a_key_that_the_token_brings_along_is_not_believed() {
    let owner = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let forger = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let public = verification_key(owner.public_key_pem().as_bytes(), Algorithm::ES256).unwrap().key;
    let keys = KeySet::new(vec![VerificationKey {
        kid: None,
        algorithm: Algorithm::ES256,
        key: public,
        not_after: None,
    }]);
    let point = forger.public_key_raw();
    let jwk = json!({
        "kty": "EC", "crv": "P-256",
        "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..]),
    });
    for header in [
        json!({"alg": "ES256", "jwk": jwk}),
        json!({"alg": "ES256", "jku": "https://evil.example/jwks.json"}),
        json!({"alg": "ES256", "x5u": "https://evil.example/chain.pem"}),
        json!({"alg": "ES256", "x5c": ["MIIB"]}),
    ] {
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(claims().to_string())
        );
        let by = |pair: &rcgen::KeyPair| {
            sign(&signed, &EncodingKey::from_ec_der(&pair.serialize_der()), Algorithm::ES256)
        };
        assert_eq!(verdict(&verifier(), &keys, &by(&forger)), "signature", "{header}");
        // The same headers do no harm to a token that is properly signed.
        assert_eq!(verdict(&verifier(), &keys, &by(&owner)), "ok", "{header}");
        // CVE-2022-21449: r = s = 0.
        let zeros = format!("{signed}.{}", URL_SAFE_NO_PAD.encode([0; 64]));
        assert_eq!(verdict(&verifier(), &keys, &zeros), "signature");
    }
}

#[test]
fn eddsa_goes_by_both_of_its_names() {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let parsed = verification_key(pair.public_key_pem().as_bytes(), Algorithm::EdDSA).unwrap();
    let keys = KeySet::new(vec![VerificationKey {
        kid: None,
        algorithm: Algorithm::EdDSA,
        key: parsed.key,
        not_after: None,
    }]);
    for (alg, expected) in
        [("EdDSA", "ok"), ("Ed25519", "ok"), ("Ed448", "key_unknown"), ("ed25519", "key_unknown")]
    {
        let header = URL_SAFE_NO_PAD.encode(json!({"alg": alg}).to_string());
        let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims().to_string()));
        let key = EncodingKey::from_ed_der(&pair.serialize_der());
        let token = sign(&signed, &key, Algorithm::EdDSA);
        assert_eq!(verdict(&verifier(), &keys, &token), expected, "{alg}");
    }
}

#[test]
fn rules_are_checked_in_order() {
    let mut strict = verifier();
    strict.issuers = vec!["i".into()];
    strict.audiences = vec!["a".into()];
    strict.required_claims = vec![("use".into(), json!("access"))];
    // Everything is wrong; what comes first is mended one after the other.
    let mut claims = json!({"sub": "", "exp": 1});
    let header = r#"{"alg":"HS256"}"#;
    let forged = format!("{}AA", with_claims(&claims));
    assert_eq!(verdict(&strict, &KeySet::default(), "x"), "malformed");
    assert_eq!(verdict(&strict, &KeySet::default(), &forged), "malformed");
    let (signed, _) = forged.rsplit_once('.').unwrap();
    let forged = format!("{signed}.AAAA");
    assert_eq!(verdict(&strict, &KeySet::default(), &forged), "key_unknown");
    assert_eq!(verdict(&strict, &set(), &forged), "signature");
    for (claim, value, expected) in [
        ("x", json!(1), "expired"),
        ("exp", json!(NOW + 1), "issuer"),
        ("iss", json!("i"), "audience"),
        ("aud", json!("a"), "kind"),
        ("use", json!("access"), "malformed"),
        ("sub", json!("alice"), "ok"),
    ] {
        claims[claim] = value;
        let token = token(header, &claims.to_string());
        assert_eq!(verdict(&strict, &set(), &token), expected, "{claims}");
    }
}

#[test]
fn a_fault_says_nothing_of_the_token() {
    let mut strict = verifier();
    strict.issuers = vec!["i".into()];
    for token in [
        with_claims(&json!({"sub": "classified", "exp": 1})),
        with_claims(&json!({"sub": "classified", "exp": "classified"})),
        with_claims(&json!({"sub": "classified", "exp": NOW + 1, "iss": "classified"})),
        with_header(&json!({"alg": "classified"})),
        "classified".into(),
    ] {
        let fault = verify(&strict, &set(), &token, NOW).unwrap_err();
        assert!(!format!("{fault} {fault:?}").contains("classified"), "{fault:?}");
    }
}

proptest! {
    #[test]
    fn no_text_panics_or_verifies(token in "\\PC{0,200}") {
        prop_assert!(verify(&verifier(), &set(), &token, NOW).is_err());
    }

    #[test]
    fn no_parts_panic(
        header in any::<Vec<u8>>(), payload in any::<Vec<u8>>(), now in any::<u64>(),
    ) {
        let signed =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let token = sign(&signed, &EncodingKey::from_secret(SECRET), Algorithm::HS256);
        prop_assert!(verify(&verifier(), &set(), &token, now).is_err());
    }

    #[test]
    fn no_claims_panic(
        exp in any::<f64>(), nbf in any::<i64>(), iat in any::<u64>(),
        leeway in any::<u64>(), now in any::<u64>(), sub in "\\PC{0,8}",
    ) {
        let mut verifier = verifier();
        verifier.leeway = Duration::from_secs(leeway);
        let claims = json!({"sub": sub, "exp": exp, "nbf": nbf, "iat": iat});
        if let Ok(identity) = verify(&verifier, &set(), &with_claims(&claims), now) {
            prop_assert!(now < identity.expires_at.saturating_add(leeway) || exp > 1e11);
            prop_assert!(iat <= now.saturating_add(leeway));
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_is_noticed(
        position in any::<proptest::sample::Index>(), bit in 0u32..7,
    ) {
        let mut bytes = with_claims(&claims()).into_bytes();
        let position = position.index(bytes.len());
        bytes[position] ^= 1 << bit;
        if let Ok(token) = String::from_utf8(bytes) {
            prop_assert!(verify(&verifier(), &set(), &token, NOW).is_err());
        }
    }
}
