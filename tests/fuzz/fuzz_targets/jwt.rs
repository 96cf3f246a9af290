//! Nothing but the tokens that were really issued is accepted, and of those that are signed only what
//! the rules on claims allow.
//!
//! Input: a token as sent; or, when it begins with `{`, a header and claims in JSON with a line end
//! between, which are signed here as they are.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use framegate::internals::admission::jwt::verify;
use framegate::internals::admission::keys::{KeySet, VerificationKey};
use framegate::internals::config::{Config, Verifier};
use framegate::internals::outcome::rejection::TokenFault;
use framegate::internals::session::identity::Identity;
use jsonwebtoken::crypto::aws_lc;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// 2027-01-15; the issued tokens are valid then.
const NOW: u64 = 1_800_000_000;
const LEEWAY: u64 = 30;
const SECRET: &[u8] = b"a secret of the fuzz target's own";

const CONFIG: &str = r#"
    [[listener]]
    bind = "127.0.0.1:0"
    [verifiers.users]
    keys = [{ algorithm = "HS256", file = "not read" }]
    issuers = ["https://id.example.com"]
    audiences = ["chat"]
    required_claims = { token_use = "access" }
    [upstreams.chat]
    endpoints = ["http://127.0.0.1:9"]
    [[route]]
    path = "/"
    upstream = "chat"
    verifier = "users"
"#;

struct Rules {
    verifier: Verifier,
    keys: KeySet,
    /// Header and payload of what was issued.
    issued: Vec<&'static str>,
}

static RULES: LazyLock<Rules> = LazyLock::new(|| {
    let config = Config::parse(CONFIG, Path::new("/")).expect("a configuration");
    let pem = |text: &'static str, read: fn(&[u8]) -> jsonwebtoken::errors::Result<DecodingKey>| {
        read(text.as_bytes()).expect("a public key")
    };
    let es = pem(include_str!("../keys/es256.pub.pem"), DecodingKey::from_ec_pem);
    let rs = pem(include_str!("../keys/rs256.pub.pem"), DecodingKey::from_rsa_pem);
    let ed = pem(include_str!("../keys/eddsa.pub.pem"), DecodingKey::from_ed_pem);
    let keys = [
        (Algorithm::HS256, DecodingKey::from_secret(SECRET), Some("mine")),
        (Algorithm::ES256, es, None),
        (Algorithm::RS256, rs.clone(), None),
        (Algorithm::PS256, rs, None),
        (Algorithm::EdDSA, ed, Some("ed-1")),
    ];
    let key = |(algorithm, key, kid): (_, _, Option<&str>)| VerificationKey {
        algorithm,
        key,
        kid: kid.map(str::to_owned),
        not_after: None,
    };
    let issued = [
        include_str!("../seeds/jwt/es256"),
        include_str!("../seeds/jwt/rs256"),
        include_str!("../seeds/jwt/ps256"),
        include_str!("../seeds/jwt/eddsa"),
        include_str!("../seeds/jwt/hs256"),
    ];
    let signed = issued.map(|token| token.rsplit_once('.').expect("three parts").0);
    let verifier = config.verifiers.into_iter().next().expect("one verifier");
    Rules { verifier, keys: KeySet::new(keys.map(key).into()), issued: signed.to_vec() }
});

fn sign(header: &str, claims: &str) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let key = EncodingKey::from_secret(SECRET);
    let signer = (aws_lc::DEFAULT_PROVIDER.signer_factory)(&Algorithm::HS256, &key);
    let signature = signer.expect("HMAC").try_sign(signed.as_bytes()).expect("HMAC");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// A number of seconds, cut to whole ones.
fn whole(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_f64().map(|seconds| seconds as u64))
}

/// Whether these claims hold (RFC 7519 section 4.1, and what CONFIG asks for).
fn is_acceptable(header: &Value, claims: &Value) -> bool {
    let within = |name: &str| {
        claims.get(name).is_none_or(|at| whole(at).is_some_and(|at| at <= NOW + LEEWAY))
    };
    let lasts = claims["exp"].is_number()
        && whole(&claims["exp"]).is_some_and(|end| NOW < end.saturating_add(LEEWAY));
    let meant = match &claims["aud"] {
        Value::Array(names) => names.iter().all(Value::is_string) && names.contains(&"chat".into()),
        name => name == "chat",
    };
    let typ = header.get("typ").is_none_or(|typ| {
        typ.as_str()
            .is_some_and(|typ| ["jwt", "application/jwt"].contains(&&*typ.to_ascii_lowercase()))
    });
    let named = claims["sub"].is_i64()
        || claims["sub"].is_u64()
        || claims["sub"].as_str().is_some_and(|user| {
            (1..=256).contains(&user.len()) && !user.contains(char::is_control)
        });
    let kid = header.get("kid").is_none_or(|kid| kid == "mine");
    let plain = header.get("crit").is_none() && header.get("zip").is_none();
    header["alg"] == "HS256"
        && kid
        && plain
        && typ
        && lasts
        && within("nbf")
        && within("iat")
        && claims["iss"] == "https://id.example.com"
        && meant
        && named
        && claims["token_use"] == "access"
}

fn check_signed(header: &str, claims: &str, result: Result<Identity, TokenFault>) {
    let values = (serde_json::from_str::<Value>(header), serde_json::from_str::<Value>(claims));
    let (Ok(head), Ok(body)) = &values else {
        assert!(matches!(result, Err(TokenFault::Malformed(_))));
        return;
    };
    // Written again it is as it was: no name twice, and no number that reads in two ways.
    let is_plain = head.to_string() == header && body.to_string() == claims;
    match result {
        Ok(identity) => {
            assert!(is_acceptable(head, body), "{header} {claims}");
            assert_eq!(body["sub"], *identity.user);
            assert_eq!(Value::Object(identity.claims), *body);
            assert!(identity.expires_at <= whole(&body["exp"]).expect("a number"));
        }
        Err(fault) => {
            let size = header.len() + claims.len();
            let known = size < 8000 && is_plain && head.is_object() && body.is_object();
            assert!(!known || !is_acceptable(head, body), "{fault}: {header} {claims}");
        }
    }
}

fuzz_target!(|text: &str| {
    let Rules { verifier, keys, issued } = &*RULES;
    let check = |token: &str| verify(verifier, keys, token, NOW);
    if text.starts_with('{') {
        let (header, claims) = text.split_once('\n').unwrap_or((text, ""));
        return check_signed(header, claims, check(&sign(header, claims)));
    }
    match check(text) {
        Ok(_) => {
            let signed = text.rsplit_once('.').expect("three parts").0;
            assert!(issued.contains(&signed), "accepted, but never issued");
        }
        Err(fault) => assert!(!fault.to_string().contains(char::is_control)),
    }
});
