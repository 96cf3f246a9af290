//! Key files in every form, with every algorithm, and those that must not be taken.

use std::path::Path;
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::RSAPublicKey;

use super::*;
use crate::admission::jwt;
use crate::cli::token::{sign, signing_key};
use crate::telemetry::testing;

const NOW: u64 = 1_800_000_000;
const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// The pair that signs `algorithm`, made once: RSA takes its time.
fn pair(algorithm: Algorithm) -> &'static rcgen::KeyPair {
    static PAIRS: [OnceLock<rcgen::KeyPair>; 4] = [const { OnceLock::new() }; 4];
    let (slot, kind) = match algorithm {
        Algorithm::ES256 => (0, &rcgen::PKCS_ECDSA_P256_SHA256),
        Algorithm::ES384 => (1, &rcgen::PKCS_ECDSA_P384_SHA384),
        Algorithm::EdDSA => (2, &rcgen::PKCS_ED25519),
        _ => (3, &rcgen::PKCS_RSA_SHA256),
    };
    PAIRS[slot].get_or_init(|| rcgen::KeyPair::generate_for(kind).unwrap())
}

fn certificate(pair: &rcgen::KeyPair) -> String {
    let parameters = rcgen::CertificateParams::new(vec!["id.example".into()]).unwrap();
    parameters.self_signed(pair).unwrap().pem()
}

fn jwk(algorithm: Algorithm) -> Value {
    let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let raw = pair(algorithm).public_key_raw();
    match algorithm {
        Algorithm::ES256 | Algorithm::ES384 => {
            let (x, y) = raw[1..].split_at(raw.len() / 2);
            let crv = if x.len() == 32 { "P-256" } else { "P-384" };
            json!({"kty": "EC", "crv": crv, "x": b64(x), "y": b64(y)})
        }
        Algorithm::EdDSA => json!({"kty": "OKP", "crv": "Ed25519", "x": b64(raw)}),
        algorithm if is_hmac(algorithm) => json!({"kty": "oct", "k": b64(SECRET.as_bytes())}),
        _ => {
            let (_, key) = RSAPublicKey::from_der(raw).unwrap();
            json!({"kty": "RSA", "n": b64(key.modulus), "e": b64(key.exponent)})
        }
    }
}

fn verifier(keys: Vec<Key>) -> Verifier {
    Verifier { keys, jwks: None, ..testing::verifier() }
}

fn key(file: impl AsRef<Path>, algorithm: Algorithm) -> Key {
    Key { kid: None, algorithm, file: file.as_ref().to_owned(), not_after: None }
}

/// Writes `content` to a file and loads it as a key of `algorithm`: the warnings, or the errors.
fn load_text(
    content: &[u8],
    key_of: impl Fn(&Path) -> Key,
) -> Result<(KeySet, Vec<Problem>), String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, content).unwrap();
    load(&verifier(vec![key_of(&file)]), "verifiers.users", &Locations::default()).map_err(
        |mut errors| {
            assert_eq!(errors.len(), 1);
            let error = errors.remove(0);
            assert_eq!(error.path, "verifiers.users.keys[0].file");
            assert!(error.message.contains(file.to_str().unwrap()), "{}", error.message);
            error.message
        },
    )
}

fn error_of(content: &[u8], algorithm: Algorithm) -> String {
    load_text(content, |file| key(file, algorithm)).err().unwrap_or_default()
}

fn every_algorithm() -> impl Iterator<Item = Algorithm> {
    use AlgorithmFamily::{Ec, Ed, Hmac, Rsa};
    [Hmac, Rsa, Ec, Ed].into_iter().flat_map(|family| family.algorithms().to_vec())
}

#[test]
fn every_algorithm_verifies_with_a_key_from_every_kind_of_file() {
    for algorithm in every_algorithm() {
        let (private, files) = if is_hmac(algorithm) {
            (SECRET.to_owned(), vec![SECRET.to_owned(), format!("{SECRET}\n")])
        } else {
            let pair = pair(algorithm);
            let chain = certificate(pair);
            (pair.serialize_pem(), vec![pair.public_key_pem(), format!("a note\n{chain}"), chain])
        };
        let claims = json!({"sub": "alice", "exp": NOW + 60}).as_object().cloned().unwrap();
        let signer = signing_key(algorithm, private.as_bytes()).unwrap();
        let token = sign(algorithm, &signer, None, &claims).unwrap();
        for file in files.into_iter().chain([jwk(algorithm).to_string()]) {
            let (keys, warnings) = load_text(file.as_bytes(), |path| key(path, algorithm)).unwrap();
            assert_eq!(warnings, [], "{algorithm:?}");
            let identity = jwt::verify(&verifier(vec![]), &keys, &token, NOW).unwrap();
            assert_eq!(&*identity.user, "alice");
            // The key is bound to its algorithm, also within a family.
            for other in every_algorithm().filter(|other| *other != algorithm) {
                assert_eq!(keys.candidates(other, None, NOW).count(), 0);
            }
        }
    }
}

#[test]
fn a_jwk_may_say_what_it_is_for() {
    for (algorithm, alg) in [
        (Algorithm::ES256, "ES256"),
        (Algorithm::HS256, "HS256"),
        (Algorithm::PS384, "PS384"),
        (Algorithm::EdDSA, "EdDSA"),
        (Algorithm::EdDSA, "Ed25519"),
    ] {
        let mut jwk = jwk(algorithm);
        jwk["alg"] = json!(alg);
        jwk["use"] = json!("sig");
        jwk["kid"] = json!("1");
        assert_eq!(error_of(jwk.to_string().as_bytes(), algorithm), "", "{alg}");
    }
}

#[test]
fn a_pkcs1_public_key_is_read() {
    let pem = format!(
        "-----BEGIN RSA PUBLIC KEY-----\n{}\n-----END RSA PUBLIC KEY-----\n",
        base64::engine::general_purpose::STANDARD.encode(pair(Algorithm::PS256).public_key_raw())
    );
    assert!(load_text(pem.as_bytes(), |file| key(file, Algorithm::PS256)).is_ok());
}

/// Checks for each row that the file is refused as a key of the algorithm with these words.
fn assert_refused(rows: &[(String, Algorithm, &str)]) {
    for (content, algorithm, expected) in rows {
        let error = error_of(content.as_bytes(), *algorithm);
        assert!(error.contains(expected), "{error:?} should say {expected:?}");
    }
}

#[test]
fn a_pem_key_that_does_not_fit_is_refused_with_a_word_on_what_would() {
    use Algorithm::{ES256, ES384, EdDSA, RS256};
    let public = |algorithm| pair(algorithm).public_key_pem();
    let p521 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
    let block = |label: &str, body: &str| {
        format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
    };
    assert_refused(&[
        (public(RS256), ES256, "holds an RSA key, but ES256 needs an EC key on curve P-256"),
        (public(ES256), RS256, "holds an EC key on curve P-256, but RS256 needs an RSA key"),
        (public(ES256), ES384, "holds an EC key on curve P-256, but ES384 needs"),
        (public(ES384), ES256, "holds an EC key on curve P-384, but ES256 needs"),
        (public(ES256), EdDSA, "but EdDSA needs an Ed25519 key"),
        (public(EdDSA), ES256, "holds an Ed25519 key, but ES256"),
        (certificate(pair(ES384)), ES256, "holds an EC key on curve P-384, but ES256 needs"),
        (p521.public_key_pem(), ES384, "on another curve than P-256 and P-384, but ES384"),
        (pair(ES256).serialize_pem(), ES256, "holds a private key"),
        (public(ES256) + &pair(ES256).serialize_pem(), ES256, "holds a private key"),
        (SECRET.into(), ES256, "is neither PEM nor JWK"),
        (String::new(), ES256, "is empty"),
        (block("PUBLIC KEY", "!!"), ES256, "decoded"),
        ("-----BEGIN PUBLIC KEY-----\n".into(), ES256, "decoded"),
        (block("PUBLIC KEY", "AAAA"), ES256, "parsed"),
        (block("RSA PUBLIC KEY", "AAAA"), RS256, "parsed"),
        (block("CERTIFICATE", "AAAA"), ES256, "parsed"),
        (block("X509 CRL", "AAAA"), ES256, "no PUBLIC KEY"),
    ]);
}

#[test]
fn a_jwk_that_does_not_fit_is_refused_with_a_word_on_what_would() {
    use Algorithm::{ES256, HS256, RS256};
    let with = |name: &str, value: &str| {
        let mut jwk = jwk(ES256);
        jwk[name] = json!(value);
        jwk.to_string()
    };
    let rsa = |length: usize, e: &str| {
        let n = URL_SAFE_NO_PAD.encode(vec![0xc1; length]);
        json!({"kty": "RSA", "n": n, "e": e}).to_string()
    };
    let set = json!({"keys": [jwk(ES256)]}).to_string();
    assert_refused(&[
        (jwk(HS256).to_string(), RS256, "holds a secret, but RS256 needs an RSA key"),
        (set.clone(), ES256, "is a JWK set (1 keys)"),
        (set, HS256, "is a JWK set (1 keys)"),
        (with("d", "AAAA"), ES256, "holds a private key"),
        (with("use", "enc"), ES256, "is a JWK for encryption"),
        (with("alg", "ES384"), ES256, "is a JWK for another algorithm"),
        (with("x", "AAAA"), ES256, "cannot be parsed"),
        (with("x", "!"), ES256, "not base64url"),
        (with("crv", "secp256k1"), ES256, "on another curve"),
        (with("kty", "XY"), ES256, "of an unsupported kind"),
        (json!({"kty": "EC", "crv": "P-256"}).to_string(), ES256, "lacks a part"),
        (rsa(128, "AQAB"), RS256, "an RSA key of 1024 bits; from 2048"),
        (rsa(1025, "AQAB"), RS256, "an RSA key of 8200 bits; from 2048"),
        (rsa(256, "AQ"), RS256, "cannot be parsed"),
        (rsa(256, "AQAA"), RS256, "cannot be parsed"),
    ]);
}

#[test]
fn nothing_but_a_secret_is_taken_for_one() {
    use Algorithm::{HS256, RS256};
    let public = pair(RS256).public_key_pem();
    assert_refused(&[
        (public.clone(), HS256, "but HS256 needs a secret"),
        (format!("\n# note\n{public}"), HS256, "but HS256 needs a secret"),
        (certificate(pair(RS256)), HS256, "but HS256 needs a secret"),
        (pair(RS256).serialize_pem(), HS256, "but HS256 needs a secret"),
        (jwk(RS256).to_string(), HS256, "but HS256 needs a secret"),
        ("ssh-ed25519 AAAAC3Nz alice\n".into(), HS256, "but HS256 needs a secret"),
        (String::new(), HS256, "is empty"),
        ("\n".into(), HS256, "is empty"),
    ]);
    let der = rcgen::PublicKeyData::subject_public_key_info(pair(RS256));
    assert!(error_of(&der, HS256).contains("needs a secret"));
}

#[test]
fn errors_do_not_show_the_key() {
    for (content, algorithm) in [
        (pair(Algorithm::ES256).serialize_pem(), Algorithm::ES256),
        (SECRET.to_owned(), Algorithm::ES256),
        (json!({"kty": "oct", "k": SECRET}).to_string(), Algorithm::RS256),
    ] {
        let error = error_of(content.as_bytes(), algorithm);
        assert!(!error.is_empty());
        for line in content.lines().filter(|line| !line.starts_with("--") && !line.is_empty()) {
            assert!(!error.contains(line), "{error}");
        }
        assert!(!error.contains(SECRET));
    }
    let key = key_file::verification_key(SECRET.as_bytes(), Algorithm::HS256).unwrap();
    assert!(!format!("{key:?}").contains("012345"));
}

#[test]
fn a_short_secret_is_taken_with_a_warning() {
    let load = |length: usize| {
        let content = "x".repeat(length) + "\n";
        load_text(content.as_bytes(), |file| key(file, Algorithm::HS256)).unwrap().1
    };
    let warnings = load(31);
    assert_eq!(warnings.len(), 1);
    assert_eq!(warnings[0].path, "verifiers.users.keys[0].file");
    assert!(warnings[0].message.contains("a secret of 31 bytes"), "{}", warnings[0].message);
    assert_eq!(load(32), []);
}

#[test]
fn the_configured_kid_counts_before_that_of_the_jwk() {
    let mut jwk = jwk(Algorithm::ES256);
    jwk["kid"] = json!("own");
    let load = |kid: Option<&str>| {
        load_text(jwk.to_string().as_bytes(), |file| Key {
            kid: kid.map(Into::into),
            ..key(file, Algorithm::ES256)
        })
        .unwrap()
    };
    let count = |keys: &KeySet, kid| keys.candidates(Algorithm::ES256, kid, NOW).count();

    let (keys, warnings) = load(Some("configured"));
    assert_eq!(warnings.len(), 1);
    assert_eq!((count(&keys, Some("configured")), count(&keys, Some("own"))), (1, 0));
    let (keys, warnings) = load(Some("own"));
    assert_eq!((warnings, count(&keys, Some("own")), count(&keys, None)), (vec![], 1, 1));
    // Without a configured kid the key is tried for every token of its algorithm.
    let (keys, warnings) = load(None);
    assert_eq!((warnings, count(&keys, Some("any")), count(&keys, None)), (vec![], 1, 1));
}

#[test]
fn all_bad_files_are_reported_at_once_each_with_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("good");
    std::fs::write(&good, SECRET).unwrap();
    let missing = folder.path().join("missing");
    let keys = vec![
        key(&missing, Algorithm::ES256),
        key(&good, Algorithm::HS256),
        key(&good, Algorithm::RS256),
        key(folder.path(), Algorithm::HS256),
    ];
    let errors = load(&verifier(keys), "verifiers.users", &Locations::default()).unwrap_err();
    let paths: Vec<_> = errors.iter().map(|error| error.path.as_str()).collect();
    assert_eq!(paths, [0, 2, 3].map(|index| format!("verifiers.users.keys[{index}].file")));
    let start = format!("cannot read {missing:?}: ");
    assert!(errors[0].message.starts_with(&start), "{}", errors[0].message);
}

#[test]
fn a_key_is_used_up_to_its_not_after_and_no_longer() {
    let secret = |kid: &str, not_after| VerificationKey {
        kid: Some(kid.to_owned()),
        algorithm: Algorithm::HS256,
        key: DecodingKey::from_secret(SECRET.as_bytes()),
        not_after,
    };
    let set = KeySet::new(vec![secret("old", Some(NOW)), secret("new", None)]);
    for (now, kid, counts) in [
        (NOW - 1, "old", true),
        (NOW, "old", true),
        (NOW + 1, "old", false),
        (NOW + 1, "new", true),
        (u64::MAX, "new", true),
    ] {
        let candidates = set.candidates(Algorithm::HS256, Some(kid), now).count();
        assert_eq!(candidates, usize::from(counts), "{kid} {now}");
        assert_eq!(set.names(Algorithm::HS256, kid, now), counts, "{kid} {now}");
    }
    let only_old = KeySet::new(vec![secret("old", Some(NOW))]);
    assert!(!only_old.is_empty(NOW) && only_old.is_empty(NOW + 1));
}

#[test]
fn a_not_after_that_has_passed_is_a_warning_and_no_error() {
    for (not_after, warnings, since_1970) in [
        ("2001-09-09T01:46:40.5Z", 1, 1_000_000_000),
        ("1969-12-31T00:00:00Z", 1, 0),
        ("2286-11-20T17:46:40Z", 0, 10_000_000_000),
    ] {
        let with = |file: &Path| Key {
            not_after: Some(not_after.parse().unwrap()),
            ..key(file, Algorithm::HS256)
        };
        let (set, found) = load_text(SECRET.as_bytes(), with).unwrap();
        assert_eq!(set.keys()[0].not_after, Some(since_1970));
        assert_eq!(found.len(), warnings, "{not_after}");
        let all = found.iter().all(|one| {
            one.message.contains("its not_after, ") && one.message.contains("has passed")
        });
        assert!(all, "{found:?}");
    }
}
