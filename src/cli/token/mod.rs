//! `framegate token`: mints tokens for trying things out, and signs those of the demo.
//!
//! It writes what it is told, expired or without meaning, so that every refusal can be provoked.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;
use jsonwebtoken::crypto::aws_lc;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Map, Value, json};
use x509_parser::asn1_rs::{FromDer as _, Integer, OctetString, Sequence};
use x509_parser::x509::AlgorithmIdentifier;

use crate::admission::key_file::{self, KeyFault, needed_by, pem_blocks};
use crate::admission::keys::is_hmac;

/// Arguments of `framegate token`.
#[derive(Debug, Clone, Args)]
pub(crate) struct TokenArgs {
    /// Private key (PEM) for RS, PS, ES and EdDSA; the secret (raw or JWK) for HS
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 or EdDSA
    #[arg(long, value_name = "A", value_parser = parse_algorithm)]
    pub(crate) algorithm: Algorithm,
    /// The user: claim `sub`
    #[arg(long, value_name = "U")]
    pub(crate) user: String,
    /// How long it is valid from now; negative (-1m) makes an expired one
    #[arg(long, default_value = "5m", allow_hyphen_values = true)]
    pub(crate) ttl: Ttl,
    /// A further claim, which wins over the other options; JSON if it parses as such, else a string
    #[arg(long = "claim", value_name = "K=V", value_parser = parse_claim)]
    pub(crate) claims: Vec<(String, Value)>,
    /// Key id (header `kid`)
    #[arg(long)]
    pub(crate) kid: Option<String>,
    /// Header `typ`, such as at+jwt; JWT if left out
    #[arg(long = "type", value_name = "TYP")]
    pub(crate) typ: Option<String>,
    /// Claim `iss`
    #[arg(long)]
    pub(crate) issuer: Option<String>,
    /// Claim `aud`; may be given more than once
    #[arg(long = "audience", value_name = "AUDIENCE")]
    pub(crate) audiences: Vec<String>,
}

/// Time from now to `exp`, in whole seconds; negative: in the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ttl(pub(crate) i64);

impl std::str::FromStr for Ttl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (sign, magnitude) = match text.strip_prefix('-') {
            Some(magnitude) => (-1, magnitude),
            None => (1, text),
        };
        let seconds = parse_duration(magnitude)?.as_secs();
        let seconds = i64::try_from(seconds).map_err(|_| "too long".to_owned())?;
        Ok(Self(sign * seconds))
    }
}

impl fmt::Display for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}s", self.0)
    }
}

/// Why no token could be minted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    /// The key file cannot be read.
    #[error("cannot read {file:?}: {source}")]
    Read {
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The key file holds no key to sign with.
    #[error("{file:?} {fault}")]
    Key {
        file: PathBuf,
        /// What is wrong with it.
        fault: SigningKeyFault,
    },
    /// A claim was given twice.
    #[error("--claim {0} was given twice; for an array write --claim '{0}=[\"a\",\"b\"]'")]
    ClaimTwice(String),
    /// The key cannot sign.
    #[error(transparent)]
    Sign(#[from] SignError),
}

/// Why a file holds no key to sign with. Reads on from the file's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum SigningKeyFault {
    #[error(transparent)]
    Secret(#[from] KeyFault),
    #[error("holds a public key; signing needs the private one")]
    PublicKey,
    #[error("is encrypted; openssl pkey -in FILE -out PLAIN removes that")]
    Encrypted,
    #[error(
        "has no PRIVATE KEY block in PEM; {0:?} needs the private half of {need}",
        need = needed_by(*.0)
    )]
    NoPrivateKey(Algorithm),
    #[error("holds no key that {0:?} can sign with: it needs {need}", need = needed_by(*.0))]
    Mismatch(Algorithm),
}

/// The key does not fit the algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key cannot sign {0:?} tokens")]
pub struct SignError(pub(crate) Algorithm);

/// Mints the token that `args` ask for, from the key file and the time of day.
///
/// # Errors
///
/// When the key file cannot be read or does not fit the algorithm, or a claim was given twice.
pub(crate) fn run(args: &TokenArgs) -> Result<String, TokenError> {
    let bytes = std::fs::read(&args.key)
        .map_err(|source| TokenError::Read { file: args.key.clone(), source })?;
    let key = signing_key(args.algorithm, &bytes)
        .map_err(|fault| TokenError::Key { file: args.key.clone(), fault })?;
    // A clock before 1970 is as good as one at 1970.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let header = header(args.algorithm, args.kid.as_deref(), args.typ.as_deref());
    Ok(sign_with(args.algorithm, &key, &header, &claims(args, now)?)?)
}

/// Signs claims as they are: nothing is added to them.
///
/// # Errors
///
/// When the key does not fit the algorithm.
pub fn sign(
    algorithm: Algorithm,
    key: &EncodingKey,
    kid: Option<&str>,
    claims: &Map<String, Value>,
) -> Result<String, SignError> {
    sign_with(algorithm, key, &header(algorithm, kid, None), claims)
}

/// Reads the key that signs `algorithm`: PEM (PKCS#8, PKCS#1 or SEC1), or for HS the secret as
/// [`key_file::secret`] reads it.
///
/// # Errors
///
/// When it is no such key, found out by a trial signature.
pub fn signing_key(algorithm: Algorithm, bytes: &[u8]) -> Result<EncodingKey, SigningKeyFault> {
    if is_hmac(algorithm) {
        return Ok(EncodingKey::from_secret(&key_file::secret(bytes, algorithm)?));
    }
    let blocks = pem_blocks(bytes)?;
    let find = |label: &str| blocks.iter().find(|block| block.label == label);
    let key = if let Some(block) = find("PRIVATE KEY") {
        private_key(algorithm, &block.contents)
    } else if let Some(block) = find("EC PRIVATE KEY") {
        sec1_to_pkcs8(algorithm, &block.contents).map(|der| EncodingKey::from_ec_der(&der))
    } else if let Some(block) = find("RSA PRIVATE KEY") {
        Some(EncodingKey::from_rsa_der(&block.contents))
    } else if find("ENCRYPTED PRIVATE KEY").is_some() {
        return Err(SigningKeyFault::Encrypted);
    } else if ["PUBLIC KEY", "RSA PUBLIC KEY", "CERTIFICATE"].into_iter().any(|l| find(l).is_some())
    {
        return Err(SigningKeyFault::PublicKey);
    } else {
        return Err(SigningKeyFault::NoPrivateKey(algorithm));
    };
    key.filter(|key| signature(algorithm, key, b"").is_ok())
        .ok_or(SigningKeyFault::Mismatch(algorithm))
}

fn header(algorithm: Algorithm, kid: Option<&str>, typ: Option<&str>) -> Map<String, Value> {
    let mut header = Map::new();
    header.insert("alg".into(), json!(algorithm));
    header.insert("typ".into(), json!(typ.unwrap_or("JWT")));
    header.extend(kid.map(|kid| ("kid".into(), json!(kid))));
    header
}

fn sign_with(
    algorithm: Algorithm,
    key: &EncodingKey,
    header: &Map<String, Value>,
    claims: &Map<String, Value>,
) -> Result<String, SignError> {
    let encode = |object: &Map<String, Value>| {
        URL_SAFE_NO_PAD.encode(Value::Object(object.clone()).to_string())
    };
    let signed = format!("{}.{}", encode(header), encode(claims));
    let signature = signature(algorithm, key, signed.as_bytes())?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

fn signature(
    algorithm: Algorithm,
    key: &EncodingKey,
    message: &[u8],
) -> Result<Vec<u8>, SignError> {
    (aws_lc::DEFAULT_PROVIDER.signer_factory)(&algorithm, key)
        .ok()
        .and_then(|signer| signer.try_sign(message).ok())
        .ok_or(SignError(algorithm))
}

fn claims(args: &TokenArgs, now: u64) -> Result<Map<String, Value>, TokenError> {
    let expires = now.saturating_add_signed(args.ttl.0);
    let mut claims = Map::new();
    claims.insert("sub".into(), json!(args.user));
    claims.insert("iat".into(), json!(now.min(expires)));
    claims.insert("exp".into(), json!(expires));
    claims.extend(args.issuer.iter().map(|issuer| ("iss".into(), json!(issuer))));
    match args.audiences.as_slice() {
        [] => {}
        [audience] => drop(claims.insert("aud".into(), json!(audience))),
        audiences => drop(claims.insert("aud".into(), json!(audiences))),
    }
    for (index, (name, value)) in args.claims.iter().enumerate() {
        if args.claims.iter().take(index).any(|(earlier, _)| earlier == name) {
            return Err(TokenError::ClaimTwice(name.clone()));
        }
        claims.insert(name.clone(), value.clone());
    }
    Ok(claims)
}

/// The key in a PKCS#8 container (RFC 5958 section 2), if it is of the family that is needed.
fn private_key(algorithm: Algorithm, der: &[u8]) -> Option<EncodingKey> {
    let (_, container) = Sequence::from_der(der).ok()?;
    let (rest, _version) = Integer::from_der(&container.content).ok()?;
    let (rest, identifier) = AlgorithmIdentifier::from_der(rest).ok()?;
    let (_, inner) = OctetString::from_der(rest).ok()?;
    match (identifier.algorithm.to_id_string().as_str(), algorithm) {
        ("1.2.840.10045.2.1", Algorithm::ES256 | Algorithm::ES384) => {
            Some(EncodingKey::from_ec_der(der))
        }
        ("1.3.101.112", Algorithm::EdDSA) => Some(EncodingKey::from_ed_der(der)),
        // The library wants RSA keys without the container, in PKCS#1.
        ("1.2.840.113549.1.1.1", _) => Some(EncodingKey::from_rsa_der(inner.as_ref())),
        _ => None,
    }
}

/// Puts an `EC PRIVATE KEY` (RFC 5915), as `openssl ecparam -genkey` writes it, into the PKCS#8
/// container that the library wants. The curve is that of the algorithm; a key on another one is
/// found out by the trial signature.
fn sec1_to_pkcs8(algorithm: Algorithm, sec1: &[u8]) -> Option<Vec<u8>> {
    let curve: &[u8] = match algorithm {
        Algorithm::ES256 => &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07],
        Algorithm::ES384 => &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22],
        _ => return None,
    };
    let ec_public_key = [0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
    let version = [0x02, 0x01, 0x00];
    let identifier = der(0x30, &[&ec_public_key, curve].concat())?;
    let key = der(0x04, sec1)?;
    der(0x30, &[&version, identifier.as_slice(), &key].concat())
}

/// A DER element; `None` from 64 KiB on, which no EC key reaches.
fn der(tag: u8, content: &[u8]) -> Option<Vec<u8>> {
    let [high, low] = u16::try_from(content.len()).ok()?.to_be_bytes();
    let head: &[u8] = match (high, low) {
        (0, ..=0x7f) => &[tag, low],
        (0, _) => &[tag, 0x81, low],
        _ => &[tag, 0x82, high, low],
    };
    Some([head, content].concat())
}

fn parse_algorithm(text: &str) -> Result<Algorithm, String> {
    ALGORITHMS
        .into_iter()
        .find(|algorithm| format!("{algorithm:?}").eq_ignore_ascii_case(text))
        .ok_or_else(|| format!("known are {ALGORITHMS:?}"))
}

fn parse_claim(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("a claim is written name=value")?;
    if name.is_empty() {
        return Err("a claim needs a name".into());
    }
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
    Ok((name.to_owned(), value))
}

/// `90s`, `5m`, `2h`, `1d`; a bare number only if it is 0.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let usage = || "write 90s, 5m, 2h or 1d".to_owned();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| usage())?;
    let factor = match unit {
        "" if number == 0 => 1,
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(usage()),
    };
    number.checked_mul(factor).map(Duration::from_secs).ok_or_else(|| "too long".to_owned())
}

const ALGORITHMS: [Algorithm; 12] = [
    Algorithm::HS256,
    Algorithm::HS384,
    Algorithm::HS512,
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

#[cfg(test)]
mod tests;
