//! What a key file holds: PEM, JWK or a raw secret, and whether it fits its algorithm. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value};
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::{PublicKey, RSAPublicKey};
use x509_parser::x509::SubjectPublicKeyInfo;

use super::json;
use super::keys::is_hmac;

/// Why a file is no verification key for an algorithm. Reads on from the file's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub(crate) enum KeyFault {
    #[error("is empty")]
    Empty,
    #[error(
        "holds a private key; checking tokens needs only the public one \
         (openssl pkey -in FILE -pubout), and who signs should keep the private one to himself"
    )]
    PrivateKey,
    #[error(
        "holds a key of a key pair or a certificate, but {0:?} needs a secret: used as one, a \
         public key would let everybody who knows it sign tokens"
    )]
    NotASecret(Algorithm),
    #[error("is neither PEM nor JWK")]
    NeitherPemNorJwk,
    #[error("has a PEM block that cannot be decoded")]
    Pem,
    #[error("has no PUBLIC KEY and no CERTIFICATE block")]
    NoPublicKey,
    #[error("has a public key or certificate that cannot be parsed")]
    Unparsable,
    #[error("holds {found}, but {algorithm:?} needs {}", needed_by(*.algorithm))]
    Mismatch { found: &'static str, algorithm: Algorithm },
    #[error("holds an RSA key of {0} bits; from 2048 to 8192 are accepted")]
    RsaSize(usize),
    #[error(
        "is a JWK set ({0} keys); a key file holds one key: save the member of \"keys\" that is \
         wanted as a file of its own"
    )]
    JwkSet(usize),
    #[error("is a JWK {0}")]
    Jwk(&'static str),
}

/// A key read from a file.
#[derive(Debug)]
pub(crate) struct ParsedKey {
    pub(crate) key: DecodingKey,
    /// The `kid` of a JWK.
    pub(crate) kid: Option<String>,
    /// Length in bytes, when it is a secret.
    pub(crate) secret_length: Option<usize>,
}

/// Reads the key for checking tokens of `algorithm`: for RS, PS, ES and EdDSA a PEM public key or
/// certificate or a JWK; for HS a JWK or the secret itself.
///
/// # Errors
///
/// When it is no such key, or one that does not fit the algorithm.
pub(crate) fn verification_key(bytes: &[u8], algorithm: Algorithm) -> Result<ParsedKey, KeyFault> {
    let (material, kid) = match parse_jwk(bytes)? {
        Some(jwk) => (jwk_material(&jwk, algorithm)?, member(&jwk, "kid").map(str::to_owned)),
        None if is_hmac(algorithm) => (Material::Secret(raw_secret(bytes, algorithm)?), None),
        None => (pem_material(bytes)?, None),
    };
    let secret_length = material.secret_length();
    Ok(ParsedKey { key: material.into_key(algorithm)?, kid, secret_length })
}

/// Reads the secret of an HS algorithm: a JWK, or the bytes of the file without one final newline.
///
/// # Errors
///
/// When it is empty, or is evidently something else than a secret.
pub(crate) fn secret(bytes: &[u8], algorithm: Algorithm) -> Result<Vec<u8>, KeyFault> {
    let material = match parse_jwk(bytes)? {
        Some(jwk) => jwk_material(&jwk, algorithm)?,
        None => return raw_secret(bytes, algorithm),
    };
    match material {
        Material::Secret(secret) if secret.is_empty() => Err(KeyFault::Empty),
        Material::Secret(secret) => Ok(secret),
        other => Err(other.mismatch(algorithm)),
    }
}

/// The public key that a member of a key set holds, for tokens of `algorithm`.
///
/// # Errors
///
/// When it holds none, or one that does not fit the algorithm.
pub(crate) fn public_key(
    jwk: &Map<String, Value>,
    algorithm: Algorithm,
) -> Result<DecodingKey, KeyFault> {
    jwk_material(jwk, algorithm)?.into_key(algorithm)
}

/// A key before it is bound to its algorithm.
enum Material {
    Secret(Vec<u8>),
    /// Modulus and exponent, big-endian, without leading zeros.
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// Uncompressed points (SEC 1 section 2.3.3).
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
    /// Of a kind no algorithm here uses.
    Other(&'static str),
}

impl Material {
    fn secret_length(&self) -> Option<usize> {
        match self {
            Self::Secret(secret) => Some(secret.len()),
            _ => None,
        }
    }

    fn into_key(self, algorithm: Algorithm) -> Result<DecodingKey, KeyFault> {
        use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
        match (&self, algorithm) {
            (Self::Secret(secret), algorithm) if is_hmac(algorithm) => {
                if secret.is_empty() {
                    return Err(KeyFault::Empty);
                }
                Ok(DecodingKey::from_secret(secret))
            }
            (Self::Rsa { n, e }, RS256 | RS384 | RS512 | PS256 | PS384 | PS512) => {
                let bits = bit_length(n);
                if !(2048..=8192).contains(&bits) {
                    return Err(KeyFault::RsaSize(bits));
                }
                // An exponent of 1 would make every message its own signature.
                if bit_length(e) < 2 || e.last().is_none_or(|byte| byte % 2 == 0) {
                    return Err(KeyFault::Unparsable);
                }
                Ok(DecodingKey::from_rsa_raw_components(n, e))
            }
            (Self::P256(point), ES256) | (Self::P384(point), ES384) => {
                Ok(DecodingKey::from_ec_der(point))
            }
            (Self::Ed25519(key), EdDSA) => Ok(DecodingKey::from_ed_der(key)),
            _ => Err(self.mismatch(algorithm)),
        }
    }

    fn mismatch(&self, algorithm: Algorithm) -> KeyFault {
        let found = match self {
            Self::Secret(_) => "a secret",
            Self::Rsa { .. } => "an RSA key",
            Self::P256(_) => "an EC key on curve P-256",
            Self::P384(_) => "an EC key on curve P-384",
            Self::Ed25519(_) => "an Ed25519 key",
            Self::Other(found) => found,
        };
        KeyFault::Mismatch { found, algorithm }
    }

    fn rsa(n: &[u8], e: &[u8]) -> Self {
        let trimmed = |bytes: &[u8]| bytes.iter().copied().skip_while(|byte| *byte == 0).collect();
        Self::Rsa { n: trimmed(n), e: trimmed(e) }
    }
}

/// What an algorithm needs, in words.
pub(crate) fn needed_by(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::ES256 => "an EC key on curve P-256",
        Algorithm::ES384 => "an EC key on curve P-384",
        Algorithm::EdDSA => "an Ed25519 key",
        algorithm if is_hmac(algorithm) => "a secret",
        _ => "an RSA key",
    }
}

/// All PEM blocks of a file; none when it is no PEM at all.
pub(crate) fn pem_blocks(bytes: &[u8]) -> Result<Vec<Pem>, KeyFault> {
    Pem::iter_from_buffer(bytes).collect::<Result<_, _>>().map_err(|_| KeyFault::Pem)
}

fn raw_secret(bytes: &[u8], algorithm: Algorithm) -> Result<Vec<u8>, KeyFault> {
    let secret = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let secret = if secret.len() < bytes.len() {
        secret.strip_suffix(b"\r").unwrap_or(secret)
    } else {
        secret
    };
    if secret.trim_ascii().is_empty() {
        return Err(KeyFault::Empty);
    }
    if is_public_material(bytes) {
        return Err(KeyFault::NotASecret(algorithm));
    }
    Ok(secret.to_vec())
}

/// PEM, DER or OpenSSH: the forms in which public keys lie about.
fn is_public_material(bytes: &[u8]) -> bool {
    let is_whole = |rest: &[u8]| rest.trim_ascii().is_empty();
    let text = bytes.trim_ascii_start();
    bytes.windows(PEM_START.len()).any(|window| window == PEM_START)
        || [&b"ssh-"[..], b"ecdsa-sha2-"].iter().any(|start| text.starts_with(start))
        || SubjectPublicKeyInfo::from_der(bytes).is_ok_and(|(rest, _)| is_whole(rest))
        || x509_parser::parse_x509_certificate(bytes).is_ok_and(|(rest, _)| is_whole(rest))
}

fn pem_material(bytes: &[u8]) -> Result<Material, KeyFault> {
    if bytes.trim_ascii().is_empty() {
        return Err(KeyFault::Empty);
    }
    let blocks = pem_blocks(bytes)?;
    if blocks.is_empty() {
        return Err(KeyFault::NeitherPemNorJwk);
    }
    if blocks.iter().any(|block| block.label.ends_with("PRIVATE KEY")) {
        return Err(KeyFault::PrivateKey);
    }
    // Of a chain the first certificate is the signer's.
    for block in &blocks {
        let der = block.contents.as_slice();
        return match block.label.as_str() {
            "PUBLIC KEY" => {
                let (_, key) =
                    SubjectPublicKeyInfo::from_der(der).map_err(|_| KeyFault::Unparsable)?;
                spki_material(&key)
            }
            "RSA PUBLIC KEY" => {
                let (_, key) = RSAPublicKey::from_der(der).map_err(|_| KeyFault::Unparsable)?;
                Ok(Material::rsa(key.modulus, key.exponent))
            }
            "CERTIFICATE" => {
                let certificate = block.parse_x509().map_err(|_| KeyFault::Unparsable)?;
                spki_material(certificate.public_key())
            }
            _ => continue,
        };
    }
    Err(KeyFault::NoPublicKey)
}

fn spki_material(key: &SubjectPublicKeyInfo<'_>) -> Result<Material, KeyFault> {
    let curve = key.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok());
    let curve = curve.map(|oid| oid.to_id_string());
    match key.parsed().map_err(|_| KeyFault::Unparsable)? {
        PublicKey::RSA(key) => Ok(Material::rsa(key.modulus, key.exponent)),
        PublicKey::EC(point) => match curve.as_deref() {
            Some("1.2.840.10045.3.1.7") => ec_point(point.data(), 32).map(Material::P256),
            Some("1.3.132.0.34") => ec_point(point.data(), 48).map(Material::P384),
            _ => Ok(Material::Other("an EC key on another curve than P-256 and P-384")),
        },
        PublicKey::Unknown(bytes) => match key.algorithm.algorithm.to_id_string().as_str() {
            "1.3.101.112" if bytes.len() == ED25519_BYTES => Ok(Material::Ed25519(bytes.to_vec())),
            "1.3.101.113" => Ok(Material::Other("an Ed448 key")),
            "1.2.840.113549.1.1.10" => Ok(Material::Other("a key restricted to RSASSA-PSS")),
            _ => Ok(Material::Other("a key of an unsupported kind")),
        },
        _ => Ok(Material::Other("a key of an unsupported kind")),
    }
}

/// An uncompressed point with coordinates of this length.
fn ec_point(point: &[u8], coordinate: usize) -> Result<Vec<u8>, KeyFault> {
    match point {
        [4, coordinates @ ..] if coordinates.len() == 2 * coordinate => Ok(point.to_vec()),
        _ => Err(KeyFault::Unparsable),
    }
}

/// The JWK in the file, if it is one (RFC 7517 section 4).
fn parse_jwk(bytes: &[u8]) -> Result<Option<Map<String, Value>>, KeyFault> {
    let Some(object) = json::parse_object(bytes) else { return Ok(None) };
    match object.get("keys") {
        Some(Value::Array(keys)) => Err(KeyFault::JwkSet(keys.len())),
        _ if object.contains_key("kty") => Ok(Some(object)),
        _ => Ok(None),
    }
}

fn jwk_material(jwk: &Map<String, Value>, algorithm: Algorithm) -> Result<Material, KeyFault> {
    let kty = member(jwk, "kty");
    if is_hmac(algorithm) && kty != Some("oct") {
        return Err(KeyFault::NotASecret(algorithm));
    }
    if kty != Some("oct") && jwk.contains_key("d") {
        return Err(KeyFault::PrivateKey);
    }
    if member(jwk, "use").is_some_and(|usage| usage != "sig") {
        return Err(KeyFault::Jwk("for encryption, not for signatures (\"use\")"));
    }
    let is_other = |name: &str| {
        name.parse() != Ok(algorithm) && !(name == "Ed25519" && algorithm == Algorithm::EdDSA)
    };
    if member(jwk, "alg").is_some_and(is_other) {
        return Err(KeyFault::Jwk("for another algorithm (\"alg\") than is configured for it"));
    }
    let bytes = |name: &str| {
        member(jwk, name)
            .and_then(|text| URL_SAFE_NO_PAD.decode(text).ok())
            .ok_or(KeyFault::Jwk("that lacks a part of its key, or has one that is not base64url"))
    };
    let point = |coordinate| {
        let point = [&[4], bytes("x")?.as_slice(), bytes("y")?.as_slice()].concat();
        ec_point(&point, coordinate)
    };
    match (kty, member(jwk, "crv")) {
        (Some("oct"), _) => bytes("k").map(Material::Secret),
        (Some("RSA"), _) => Ok(Material::rsa(&bytes("n")?, &bytes("e")?)),
        (Some("EC"), Some("P-256")) => point(32).map(Material::P256),
        (Some("EC"), Some("P-384")) => point(48).map(Material::P384),
        (Some("EC"), _) => Ok(Material::Other("an EC key on another curve than P-256 and P-384")),
        (Some("OKP"), Some("Ed25519")) => match bytes("x")? {
            x if x.len() == ED25519_BYTES => Ok(Material::Ed25519(x)),
            _ => Err(KeyFault::Unparsable),
        },
        _ => Ok(Material::Other("a key of an unsupported kind")),
    }
}

pub(super) fn member<'a>(jwk: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    jwk.get(name)?.as_str()
}

/// Length of a big-endian number without leading zero bytes.
fn bit_length(number: &[u8]) -> usize {
    number.first().map_or(0, |first| {
        let spare = usize::try_from(first.leading_zeros()).unwrap_or(0);
        (number.len() * 8).saturating_sub(spare)
    })
}

const PEM_START: &[u8] = b"-----BEGIN ";
const ED25519_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_final_newline_of_a_secret_is_dropped_and_nothing_else() {
        for (bytes, expected) in [
            (&b"secret"[..], &b"secret"[..]),
            (b"secret\n", b"secret"),
            (b"secret\r\n", b"secret"),
            (b"secret\n\n", b"secret\n"),
            (b"secret\r", b"secret\r"),
            (b" secret ", b" secret "),
            (b"\x00\xff\n", b"\x00\xff"),
            (b"{\"not\": \"a jwk\"}", b"{\"not\": \"a jwk\"}"),
        ] {
            assert_eq!(secret(bytes, Algorithm::HS256).as_deref(), Ok(expected), "{bytes:?}");
        }
        for bytes in [&b""[..], b"\n", b" \r\n"] {
            assert_eq!(secret(bytes, Algorithm::HS256), Err(KeyFault::Empty), "{bytes:?}");
        }
    }

    #[test]
    fn the_length_of_a_number_ignores_leading_zero_bits() {
        for (number, bits) in
            [(&[][..], 0), (&[0], 0), (&[1], 1), (&[3], 2), (&[0x80, 0], 16), (&[1, 0, 1], 17)]
        {
            assert_eq!(bit_length(number), bits, "{number:?}");
        }
    }

    proptest! {
        #[test]
        fn no_file_panics(
            bytes in proptest::collection::vec(any::<u8>(), 0..64),
            label in "PUBLIC KEY|RSA PUBLIC KEY|CERTIFICATE|X",
        ) {
            let encoded = base64::engine::general_purpose::STANDARD.encode(&bytes);
            let pem = format!("-----BEGIN {label}-----\n{encoded}\n-----END {label}-----\n");
            for algorithm in [Algorithm::HS256, Algorithm::RS256, Algorithm::ES256] {
                let _ = verification_key(&bytes, algorithm);
                prop_assert!(verification_key(pem.as_bytes(), algorithm).is_err());
            }
        }
    }
}
