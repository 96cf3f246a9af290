//! The demo's keys, certificates and tokens, made on the spot.
//!
//! An ES256 key pair signs the tokens; a certificate authority signs one certificate for this
//! machine's loopback names, and its key is forgotten at once, so that trusting it endangers nobody
//! later.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::{Timestamp, ToSpan};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use serde_json::{Value, json};

/// What [`prepare`] made.
#[derive(Debug, Clone)]
pub(crate) struct DemoMaterial {
    /// The folder its files are in.
    pub(crate) dir: PathBuf,
    pub(crate) tokens: Tokens,
}

/// Tokens to try the gateway with; the first two are good.
#[derive(Clone)]
pub(crate) struct Tokens {
    /// Of the user alice, good for 12 hours.
    pub(crate) alice: String,
    /// Of the user bob, good for 12 hours.
    pub(crate) bob: String,
    /// Alice's, expired an hour ago.
    pub(crate) expired: String,
    /// Alice's refresh token: rightly signed, but no access token.
    pub(crate) refresh: String,
}

/// Why there are no keys, certificates or tokens.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MaterialError {
    /// A file could not be written; an existing one is never overwritten.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A key or certificate could not be made.
    #[error("cannot make keys and certificates: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A token could not be signed.
    #[error("cannot sign tokens: {0}")]
    Token(#[from] jsonwebtoken::errors::Error),
}

/// Makes everything and writes it to `dir`, which exists. Nothing there is overwritten.
///
/// # Errors
/// When a file cannot be written, or exists; or the cryptography library refuses.
pub(crate) fn prepare(dir: &Path, now: Timestamp) -> Result<DemoMaterial, MaterialError> {
    let signing = KeyPair::generate()?;
    write(dir, SIGNING_KEY, &signing.serialize_pem())?;
    write(dir, VERIFYING_KEY, &signing.public_key_pem())?;
    let (authority, certificate, key) = certificates(now)?;
    write(dir, AUTHORITY, &authority)?;
    write(dir, CERTIFICATE, &certificate)?;
    write(dir, CERTIFICATE_KEY, &key)?;
    let tokens = tokens(&signing, now)?;
    write(dir, ALICE_TOKEN, &tokens.alice)?;
    write(dir, BOB_TOKEN, &tokens.bob)?;
    Ok(DemoMaterial { dir: dir.to_owned(), tokens })
}

/// Writes a new file that only its owner may read.
pub(super) fn write(dir: &Path, name: &str, text: &str) -> Result<(), MaterialError> {
    let path = dir.join(name);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let written = options.open(&path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|source| MaterialError::Write { path, source })
}

/// Removes what [`prepare`] and the configuration put into `dir`, then `dir` if nothing else is in
/// it.
pub(super) fn remove(dir: &Path) {
    for name in FILES {
        let _ = fs::remove_file(dir.join(name));
    }
    let _ = fs::remove_dir(dir);
}

/// The authority's certificate, the server's certificate and its key, all PEM.
fn certificates(now: Timestamp) -> Result<(String, String, String), rcgen::Error> {
    let mut authority = params(&[], "framegate demo authority (its key is gone)", now)?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority_key = KeyPair::generate()?;
    let authority_certificate = authority.self_signed(&authority_key)?;

    let mut server = params(&NAMES, "framegate demo", now)?;
    server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    server.use_authority_key_identifier_extension = true;
    let server_key = KeyPair::generate()?;
    let server_certificate =
        server.signed_by(&server_key, &Issuer::new(authority, authority_key))?;
    Ok((authority_certificate.pem(), server_certificate.pem(), server_key.serialize_pem()))
}

fn params(names: &[&str], title: &str, now: Timestamp) -> Result<CertificateParams, rcgen::Error> {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, title);
    // A day on either side allows for clocks and time zones.
    let (year, month, day) = date(now, -1);
    params.not_before = date_time_ymd(year, month, day);
    let (year, month, day) = date(now, 30);
    params.not_after = date_time_ymd(year, month, day);
    Ok(params)
}

/// Year, month and day in UTC, `days` after `now`.
fn date(now: Timestamp, days: i64) -> (i32, u8, u8) {
    let date = now.to_zoned_datetime(jiff::tz::TimeZone::UTC).date().saturating_add(days.days());
    (date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
}

fn tokens(signing: &KeyPair, now: Timestamp) -> Result<Tokens, MaterialError> {
    let key = EncodingKey::from_ec_pem(signing.serialize_pem().as_bytes())?;
    let now = now.as_second();
    let sign = |user: &str, token_use: &str, issued: i64, lifetime: i64| {
        let claims = claims(user, token_use, issued, lifetime);
        jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &key)
    };
    Ok(Tokens {
        alice: sign("alice", "access", now, LIFETIME)?,
        bob: sign("bob", "access", now, LIFETIME)?,
        expired: sign("alice", "access", now - 2 * HOUR, HOUR)?,
        refresh: sign("alice", "refresh", now, LIFETIME)?,
    })
}

fn claims(user: &str, token_use: &str, issued: i64, lifetime: i64) -> Value {
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": user, "token_use": token_use,
        "iat": issued, "exp": issued + lifetime,
    })
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens(..)")
    }
}

/// `iss` of the tokens.
pub(super) const ISSUER: &str = "framegate-demo";
/// `aud` of the tokens.
pub(super) const AUDIENCE: &str = "chat";
/// The configuration, written by [`super::start`].
pub(super) const CONFIG: &str = "framegate.toml";
/// Private key of the tokens, PKCS#8 PEM.
pub(super) const SIGNING_KEY: &str = "jwt-key.pem";
/// Public key of the tokens, PEM.
pub(super) const VERIFYING_KEY: &str = "jwt-key.pub.pem";
/// Certificate of the authority, PEM.
pub(super) const AUTHORITY: &str = "ca.pem";
/// Certificate of the TLS listener, PEM.
pub(super) const CERTIFICATE: &str = "tls.pem";
/// Key of the TLS listener, PKCS#8 PEM.
pub(super) const CERTIFICATE_KEY: &str = "tls-key.pem";
/// Alice's token.
pub(super) const ALICE_TOKEN: &str = "alice.jwt";
/// Bob's token.
pub(super) const BOB_TOKEN: &str = "bob.jwt";

const FILES: [&str; 8] = [
    CONFIG,
    SIGNING_KEY,
    VERIFYING_KEY,
    AUTHORITY,
    CERTIFICATE,
    CERTIFICATE_KEY,
    ALICE_TOKEN,
    BOB_TOKEN,
];
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
const HOUR: i64 = 3600;
const LIFETIME: i64 = 12 * HOUR;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use jsonwebtoken::{DecodingKey, Validation};

    use super::*;

    fn made() -> (tempfile::TempDir, DemoMaterial) {
        let dir = tempfile::tempdir().unwrap();
        let material = prepare(dir.path(), Timestamp::now()).unwrap();
        (dir, material)
    }

    fn read(dir: &Path, name: &str) -> String {
        fs::read_to_string(dir.join(name)).unwrap()
    }

    #[test]
    fn tokens_verify_with_the_public_key_and_say_what_they_should() {
        let (dir, material) = made();
        let key = DecodingKey::from_ec_pem(read(dir.path(), VERIFYING_KEY).as_bytes()).unwrap();
        let mut rules = Validation::new(Algorithm::ES256);
        rules.set_audience(&[AUDIENCE]);
        rules.set_issuer(&[ISSUER]);
        let open = |token: &str| jsonwebtoken::decode::<Value>(token, &key, &rules);
        let tokens = &material.tokens;
        for (token, user, token_use) in [
            (&tokens.alice, "alice", "access"),
            (&tokens.bob, "bob", "access"),
            (&tokens.refresh, "alice", "refresh"),
        ] {
            let claims = open(token).unwrap().claims;
            assert_eq!((&claims["sub"], &claims["token_use"]), (&json!(user), &json!(token_use)));
            assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), LIFETIME);
        }
        let kind = open(&tokens.expired).unwrap_err().into_kind();
        assert_eq!(kind, jsonwebtoken::errors::ErrorKind::ExpiredSignature);
        assert_eq!(read(dir.path(), ALICE_TOKEN), tokens.alice);
        assert_eq!(format!("{tokens:?}"), "Tokens(..)");
    }

    #[test]
    fn the_certificate_is_signed_by_the_authority_for_the_loopback_names() {
        let (dir, _) = made();
        let (_, pem) =
            x509_parser::pem::parse_x509_pem(read(dir.path(), CERTIFICATE).as_bytes()).unwrap();
        let (_, ca) =
            x509_parser::pem::parse_x509_pem(read(dir.path(), AUTHORITY).as_bytes()).unwrap();
        let (leaf, ca) = (pem.parse_x509().unwrap(), ca.parse_x509().unwrap());
        assert_eq!(leaf.issuer(), ca.subject());
        assert!(ca.is_ca() && !leaf.is_ca());
        assert!(leaf.validity().is_valid() && ca.validity().is_valid());
        let names = leaf.subject_alternative_name().unwrap().unwrap().value.general_names.clone();
        assert_eq!(names.len(), NAMES.len());
    }

    #[test]
    fn files_are_for_their_owner_only_and_never_overwritten() {
        let (dir, material) = made();
        for name in FILES.iter().filter(|name| **name != CONFIG) {
            let mode = fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        let error = prepare(&material.dir, Timestamp::now()).unwrap_err();
        assert!(matches!(error, MaterialError::Write { .. }), "{error}");
        assert_eq!(read(dir.path(), ALICE_TOKEN), material.tokens.alice);
    }

    #[test]
    fn removing_takes_what_was_made_and_leaves_the_rest() {
        let (dir, material) = made();
        write(dir.path(), "mine", "").unwrap();
        remove(&material.dir);
        let left: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["mine"]);
        fs::remove_file(dir.path().join("mine")).unwrap();
        remove(&material.dir);
        assert!(!dir.path().exists());
    }
}
