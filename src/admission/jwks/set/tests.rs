//! Key sets as issuers publish them, and what is no set.

use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use serde_json::json;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::RSAPublicKey;

use super::*;

fn b64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn ec(kind: &'static rcgen::SignatureAlgorithm, crv: &str) -> Value {
    let pair = rcgen::KeyPair::generate_for(kind).unwrap();
    let (x, y) = pair.public_key_raw()[1..].split_at(pair.public_key_raw().len() / 2);
    json!({"kty": "EC", "crv": crv, "x": b64(x), "y": b64(y)})
}

fn p256() -> Value {
    ec(&rcgen::PKCS_ECDSA_P256_SHA256, "P-256")
}

fn rsa() -> Value {
    static KEY: OnceLock<(String, String)> = OnceLock::new();
    let (n, e) = KEY.get_or_init(|| {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        let (_, key) = RSAPublicKey::from_der(pair.public_key_raw()).unwrap();
        (b64(key.modulus), b64(key.exponent))
    });
    json!({"kty": "RSA", "n": n, "e": e})
}

fn ed25519() -> Value {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    json!({"kty": "OKP", "crv": "Ed25519", "x": b64(pair.public_key_raw())})
}

fn with(mut key: Value, members: Value) -> Value {
    for (name, value) in members.as_object().unwrap() {
        key[name] = value.clone();
    }
    key
}

fn read(keys: Value) -> ParsedSet {
    parse(json!({"keys": keys}).to_string().as_bytes()).unwrap()
}

/// What is in a set, as `kid:algorithm`, and its notes.
fn found(set: &ParsedSet) -> (String, &[String]) {
    let name = |key: &VerificationKey| {
        assert_eq!(key.not_after, None);
        format!("{}:{:?}", key.kid.as_deref().unwrap_or("-"), key.algorithm)
    };
    (set.keys.iter().map(name).collect::<Vec<_>>().join(" "), &set.notes)
}

#[test]
fn a_key_counts_for_its_alg_or_else_for_all_that_its_type_can() {
    for (key, expected) in [
        (rsa(), "-:RS256 -:RS384 -:RS512 -:PS256 -:PS384 -:PS512"),
        (with(rsa(), json!({"alg": "RS256", "kid": "a"})), "a:RS256"),
        (with(rsa(), json!({"alg": "PS512", "use": "sig"})), "-:PS512"),
        (p256(), "-:ES256"),
        (with(p256(), json!({"alg": "ES256", "key_ops": ["verify"]})), "-:ES256"),
        (ec(&rcgen::PKCS_ECDSA_P384_SHA384, "P-384"), "-:ES384"),
        (ed25519(), "-:EdDSA"),
        (with(ed25519(), json!({"alg": "EdDSA", "kid": ""})), ":EdDSA"),
        (with(ed25519(), json!({"alg": "Ed25519"})), "-:EdDSA"),
        (
            with(p256(), json!({"x5c": ["?"], "x5u": "https://evil.example/", "other": {}})),
            "-:ES256",
        ),
    ] {
        let set = read(json!([key]));
        assert_eq!(found(&set), (expected.to_owned(), &[][..]), "{key}");
    }
}

#[test]
fn certificates_in_the_place_of_keys_are_said_to_be_that() {
    let set = read(json!([{"kty": "RSA", "kid": "a", "x5c": ["MIIB"]}, {"x5c": ["MIIB"]}]));
    assert!(set.keys.is_empty() && set.notes.len() == 2, "{:?}", set.notes);
    assert!(set.notes.iter().all(|note| note.contains("certificate (x5c)")), "{:?}", set.notes);
    // Beside a key it is no matter.
    let both = read(json!([with(rsa(), json!({"x5c": ["MIIB"]}))]));
    assert!(!both.keys.is_empty() && both.notes.is_empty());
    let firebase =
        json!({"ab12": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"});
    let fault = parse(firebase.to_string().as_bytes()).err().unwrap();
    assert_eq!(fault, SetFault::Certificates);
    assert!(fault.to_string().contains("service_accounts/v1/jwk/"));
    assert_eq!(parse(b"{}").err(), Some(SetFault::NoKeys));
}

#[test]
fn keys_that_are_not_for_us_are_left_out_silently() {
    for members in [
        json!({"use": "enc"}),
        json!({"use": "other"}),
        json!({"use": 1}),
        json!({"key_ops": ["encrypt", "wrapKey"]}),
        json!({"key_ops": []}),
        json!({"key_ops": "verify"}),
        json!({"kty": "AKP"}),
        json!({"kty": "rsa"}),
        json!({"kty": 1}),
        json!({"kty": null}),
    ] {
        let set = read(json!([with(p256(), members.clone())]));
        assert_eq!(found(&set), (String::new(), &[][..]), "{members}");
    }
    assert_eq!(found(&read(json!([{}]))), (String::new(), &[][..]));
}

#[test]
fn keys_that_cannot_be_used_are_left_out_with_a_note_and_spoil_no_other() {
    let secret = json!({"kty": "oct", "k": b64(b"0123456789abcdef0123456789abcdef")});
    let short = json!({"kty": "RSA", "n": b64(&[0xff; 128]), "e": "AQAB"});
    for (key, note) in [
        (secret.clone(), "is a secret (oct)"),
        (with(secret, json!({"alg": "HS256", "kid": "s"})), "is a secret (oct)"),
        (with(p256(), json!({"alg": "HS256"})), "is a public key for an HMAC algorithm"),
        (with(rsa(), json!({"alg": "HS512"})), "is a public key for an HMAC algorithm"),
        (with(p256(), json!({"d": "AA"})), "is a private key"),
        (with(p256(), json!({"alg": "ES384"})), "holds an EC key on curve P-256, but ES384 needs"),
        (with(p256(), json!({"alg": "RS256"})), "holds an EC key on curve P-256, but RS256 needs"),
        (with(p256(), json!({"alg": "ES512"})), "an algorithm that is not supported"),
        (with(rsa(), json!({"alg": "RSA-OAEP"})), "an algorithm that is not supported"),
        (with(rsa(), json!({"alg": "none"})), "an algorithm that is not supported"),
        (with(p256(), json!({"alg": 1})), "has an alg that is no string"),
        (with(p256(), json!({"crv": "P-521"})), "is on a curve that is not supported"),
        (with(ed25519(), json!({"crv": "Ed448"})), "is on a curve that is not supported"),
        (with(p256(), json!({"kid": 1})), "has a kid that is no string"),
        (with(p256(), json!({"x": "AA"})), "cannot be parsed"),
        (with(p256(), json!({"x": "?"})), "that lacks a part of its key"),
        (json!({"kty": "RSA", "e": "AQAB"}), "that lacks a part of its key"),
        (with(ed25519(), json!({"x": "AA"})), "cannot be parsed"),
        (short, "holds an RSA key of 1024 bits"),
        (with(rsa(), json!({"e": "AQ"})), "cannot be parsed"),
        (json!("a key"), "is no JWK"),
        (json!(null), "is no JWK"),
    ] {
        let good = with(p256(), json!({"kid": "good"}));
        let set = read(json!([key, good]));
        let (keys, notes) = found(&set);
        assert_eq!(keys, "good:ES256", "{key}");
        assert_eq!(notes.len(), 1, "{key}: {notes:?}");
        assert!(notes[0].starts_with("keys[0]") && notes[0].contains(note), "{key}: {notes:?}");
    }
    let long = "\u{202e}\n".repeat(1000);
    let set = read(json!([with(p256(), json!({"d": "AA", "kid": long}))]));
    assert!(set.notes[0].len() < 1000 && !set.notes[0].contains(char::is_control));
}

#[test]
fn equal_kids_stand_side_by_side() {
    let named = |key, kid: &str| with(key, json!({"kid": kid}));
    let set = read(json!([named(p256(), "a"), named(p256(), "a"), named(ed25519(), "a"), p256()]));
    assert_eq!(found(&set).0, "a:ES256 a:ES256 a:EdDSA -:ES256");
    let keys = crate::admission::keys::KeySet::new(set.keys);
    assert_eq!(keys.candidates(Algorithm::ES256, Some("a"), 0).count(), 3);
    assert_eq!(keys.candidates(Algorithm::ES256, Some("b"), 0).count(), 1);
    // A token that names none may be signed with any of them.
    assert_eq!(keys.candidates(Algorithm::ES256, None, 0).count(), 3);
}

#[test]
fn what_is_no_set_is_told_apart_from_an_empty_one() {
    let many = |count| json!({"keys": vec![json!({}); count]}).to_string();
    for (text, expected) in [
        ("{\"keys\": []}", Ok(0)),
        ("  {\"keys\": [], \"more\": 1}\n", Ok(0)),
        (&many(256), Ok(0)),
        (&many(257), Err(SetFault::TooMany(257))),
        ("", Err(SetFault::NotJson)),
        ("<html>", Err(SetFault::NotJson)),
        ("[]", Err(SetFault::NotJson)),
        ("{\"keys\": []", Err(SetFault::NotJson)),
        ("{\"keys\": []} x", Err(SetFault::NotJson)),
        ("{\"keys\": [], \"keys\": []}", Err(SetFault::NotJson)),
        ("{}", Err(SetFault::NoKeys)),
        ("{\"keys\": {}}", Err(SetFault::NoKeys)),
        ("{\"error\": \"no\"}", Err(SetFault::NoKeys)),
        ("{\"kty\": \"EC\"}", Err(SetFault::NoKeys)),
    ] {
        assert_eq!(parse(text.as_bytes()).map(|set| set.keys.len()), expected, "{text}");
    }
    assert!(parse("[".repeat(1 << 20).as_bytes()).is_err());
}

proptest! {
    #[test]
    fn no_set_panics(
        kty in "RSA|EC|OKP|oct|[A-Z]{2}",
        crv in "P-256|P-384|Ed25519|[A-Z]{2}",
        alg in "RS256|ES256|EdDSA|HS256|none",
        part in "[A-Za-z0-9_-]{0,90}",
    ) {
        let key = json!({"kty": kty, "crv": crv, "x": part, "y": part, "n": part, "e": part, "k": part});
        let set = read(json!([key, with(key.clone(), json!({"alg": alg}))]));
        prop_assert!(set.keys.iter().all(|key| !is_hmac(key.algorithm)));
    }

    #[test]
    fn any_text_is_a_set_or_refused(text in "[{}\\[\\]\":,a-z0-9 ]{0,60}") {
        let _ = parse(text.as_bytes());
    }
}
