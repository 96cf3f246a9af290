//! What `framegate token` mints, and what it refuses to mint with.

use clap::Parser;

use super::*;
use crate::admission::key_file::verification_key;

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    token: TokenArgs,
}

fn args(line: &str) -> Result<TokenArgs, String> {
    let fixed = ["framegate", "--key", "k", "--algorithm", "ES256", "--user", "alice"];
    Cli::try_parse_from(fixed.into_iter().chain(line.split_whitespace()))
        .map(|cli| cli.token)
        .map_err(|error| error.to_string())
}

fn claims_of(line: &str) -> Value {
    Value::Object(claims(&args(line).unwrap(), 1000).unwrap())
}

fn decode(part: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

#[test]
fn options_become_claims() {
    for (line, expected) in [
        ("", json!({"sub": "alice", "iat": 1000, "exp": 1300})),
        ("--ttl 1h", json!({"sub": "alice", "iat": 1000, "exp": 4600})),
        ("--ttl -1m", json!({"sub": "alice", "iat": 940, "exp": 940})),
        ("--ttl=-1m", json!({"sub": "alice", "iat": 940, "exp": 940})),
        ("--ttl 0", json!({"sub": "alice", "iat": 1000, "exp": 1000})),
        ("--ttl -1d", json!({"sub": "alice", "iat": 0, "exp": 0})),
        (
            "--issuer i --audience a",
            json!({"sub": "alice", "iat": 1000, "exp": 1300, "iss": "i", "aud": "a"}),
        ),
        (
            "--audience a --audience b",
            json!({"sub": "alice", "iat": 1000, "exp": 1300, "aud": ["a", "b"]}),
        ),
        (
            "--claim role=admin --claim n=7 --claim l=[\"x\"] \
             --claim s=\"7\" --claim e= --claim q=a=b",
            json!({
                "sub": "alice", "iat": 1000, "exp": 1300,
                "role": "admin", "n": 7, "l": ["x"], "s": "7", "e": "", "q": "a=b",
            }),
        ),
        // Everything can be written, also what the gateway refuses.
        ("--claim exp=soon --claim sub=7", json!({"sub": 7, "iat": 1000, "exp": "soon"})),
    ] {
        assert_eq!(claims_of(line), expected, "{line}");
    }
    let twice = args("--claim a=1 --claim a=2").unwrap();
    assert!(matches!(claims(&twice, 0), Err(TokenError::ClaimTwice(name)) if name == "a"));
}

#[test]
fn wrong_options_are_refused_with_a_hint() {
    for (line, expected) in [
        ("--ttl soon", "write 90s, 5m"),
        ("--ttl 5", "write 90s, 5m"),
        ("--ttl --5m", "write 90s, 5m"),
        ("--ttl 99999999999999999d", "too long"),
        ("--claim role", "name=value"),
        ("--claim =x", "needs a name"),
    ] {
        let error = args(line).unwrap_err();
        assert!(error.contains(expected), "{line}: {error}");
    }
    assert_eq!(parse_algorithm("es256"), Ok(Algorithm::ES256));
    assert_eq!(parse_algorithm("EdDSA"), Ok(Algorithm::EdDSA));
    assert!(parse_algorithm("none").unwrap_err().contains("HS256"));
}

#[test]
fn the_header_names_algorithm_type_and_key() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("secret");
    std::fs::write(&key, "0123456789abcdef0123456789abcdef\n").unwrap();
    for (line, expected) in [
        ("", json!({"alg": "HS512", "typ": "JWT"})),
        ("--kid 2026-11 --type at+jwt", json!({"alg": "HS512", "typ": "at+jwt", "kid": "2026-11"})),
    ] {
        let args =
            TokenArgs { key: key.clone(), algorithm: Algorithm::HS512, ..args(line).unwrap() };
        let token = run(&args).unwrap();
        let parts: Vec<_> = token.split('.').collect();
        assert_eq!(decode(parts[0]), expected);
        let claims = decode(parts[1]);
        let lifetime = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
        assert_eq!((claims["sub"].as_str(), lifetime), (Some("alice"), 300));
        assert!(claims["iat"].as_u64().unwrap() > 1_700_000_000);
    }
}

#[test]
fn a_key_must_be_private_and_fit_the_algorithm() {
    use Algorithm::{ES256, ES384, EdDSA, HS256, PS512, RS256};
    let p256 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let ed = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let rsa = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    for (pem, algorithm, expected) in [
        (p256.serialize_pem(), ES256, None),
        (p384.serialize_pem(), ES384, None),
        (ed.serialize_pem(), EdDSA, None),
        (rsa.serialize_pem(), RS256, None),
        (rsa.serialize_pem(), PS512, None),
        (p256.serialize_pem(), ES384, Some(SigningKeyFault::Mismatch(ES384))),
        (p384.serialize_pem(), ES256, Some(SigningKeyFault::Mismatch(ES256))),
        (p256.serialize_pem(), RS256, Some(SigningKeyFault::Mismatch(RS256))),
        (rsa.serialize_pem(), ES256, Some(SigningKeyFault::Mismatch(ES256))),
        (rsa.serialize_pem(), EdDSA, Some(SigningKeyFault::Mismatch(EdDSA))),
        (ed.serialize_pem(), ES256, Some(SigningKeyFault::Mismatch(ES256))),
        (p256.public_key_pem(), ES256, Some(SigningKeyFault::PublicKey)),
        (
            p256.serialize_pem().replace("PRIVATE", "ENCRYPTED PRIVATE"),
            ES256,
            Some(SigningKeyFault::Encrypted),
        ),
        ("secret".into(), ES256, Some(SigningKeyFault::NoPrivateKey(ES256))),
        (rsa.public_key_pem(), HS256, Some(KeyFault::NotASecret(HS256).into())),
        (rsa.serialize_pem(), HS256, Some(KeyFault::NotASecret(HS256).into())),
        (String::new(), HS256, Some(KeyFault::Empty.into())),
    ] {
        assert_eq!(signing_key(algorithm, pem.as_bytes()).err(), expected, "{algorithm:?}");
    }
    assert_eq!(
        SigningKeyFault::Mismatch(ES256).to_string(),
        "holds no key that ES256 can sign with: it needs an EC key on curve P-256"
    );
}

#[test]
fn keys_without_a_pkcs8_container_sign_too() {
    for (curve, algorithm) in [
        (&rcgen::PKCS_ECDSA_P256_SHA256, Algorithm::ES256),
        (&rcgen::PKCS_ECDSA_P384_SHA384, Algorithm::ES384),
        (&rcgen::PKCS_RSA_SHA256, Algorithm::RS256),
    ] {
        let pair = rcgen::KeyPair::generate_for(curve).unwrap();
        let der = pair.serialize_der();
        let (_, container) = Sequence::from_der(&der).unwrap();
        let (rest, _) = Integer::from_der(&container.content).unwrap();
        let (rest, _) = AlgorithmIdentifier::from_der(rest).unwrap();
        let (_, inner) = OctetString::from_der(rest).unwrap();
        let label = if algorithm == Algorithm::RS256 { "RSA" } else { "EC" };
        // openssl ecparam -genkey writes a block of parameters in front.
        let pem = format!(
            "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n\
             -----BEGIN {label} PRIVATE KEY-----\n{}\n-----END {label} PRIVATE KEY-----\n",
            base64::engine::general_purpose::STANDARD.encode(inner.as_ref())
        );
        let key = signing_key(algorithm, pem.as_bytes()).unwrap();
        let token = sign(algorithm, &key, None, &Map::new()).unwrap();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let public = verification_key(pair.public_key_pem().as_bytes(), algorithm).unwrap().key;
        assert_eq!(
            jsonwebtoken::crypto::verify(signature, signed.as_bytes(), &public, algorithm),
            Ok(true)
        );
        let other = if algorithm == Algorithm::ES256 { Algorithm::ES384 } else { Algorithm::ES256 };
        assert!(signing_key(other, pem.as_bytes()).is_err());
    }
}

#[test]
fn an_unreadable_key_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let args = TokenArgs { key: folder.path().join("missing"), ..args("").unwrap() };
    let error = run(&args).unwrap_err().to_string();
    assert!(error.starts_with("cannot read ") && error.contains("missing"), "{error}");
}
