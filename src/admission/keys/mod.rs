//! The keys that tokens are checked with, read from files. Blocking file I/O at start and reload.
//!
//! A key is bound to one algorithm by the configuration (RFC 8725 section 3.1), and its file must
//! hold a key that fits: a public key can never end up as an HMAC secret.

use std::path::PathBuf;

use jiff::Timestamp;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};

use super::key_file::{self, KeyFault};
use crate::config::{Key, Locations, Problem, Verifier};

/// The verification keys of one verifier.
#[derive(Debug, Clone, Default)]
pub struct KeySet {
    keys: Vec<VerificationKey>,
}

/// One key and what it may verify.
#[derive(Debug, Clone)]
pub struct VerificationKey {
    /// Key id; `None` is tried for every token of its algorithm.
    pub kid: Option<String>,
    /// The only algorithm it verifies.
    pub algorithm: Algorithm,
    /// The key itself; its `Debug` shows nothing of it.
    pub key: DecodingKey,
    /// The last second, since 1970, in which it is used.
    pub not_after: Option<u64>,
}

impl KeySet {
    /// A set of these keys.
    pub fn new(keys: Vec<VerificationKey>) -> Self {
        Self { keys }
    }

    /// The keys a token of this algorithm and `kid` may be signed with at `now`: those with its `kid`
    /// and those without one. A token without `kid` may be signed with any key of its algorithm: many
    /// issuers with one key leave it out.
    pub(crate) fn candidates(
        &self,
        algorithm: Algorithm,
        kid: Option<&str>,
        now: u64,
    ) -> impl Iterator<Item = &DecodingKey> {
        self.live(now)
            .filter(move |key| key.algorithm == algorithm)
            .filter(move |key| kid.is_none() || key.kid.is_none() || key.kid.as_deref() == kid)
            .map(|key| &key.key)
    }

    /// Whether it has a key of exactly this `kid` and algorithm.
    pub(crate) fn names(&self, algorithm: Algorithm, kid: &str, now: u64) -> bool {
        self.live(now).any(|key| key.algorithm == algorithm && key.kid.as_deref() == Some(kid))
    }

    /// How many are used at `now`.
    pub(crate) fn count(&self, now: u64) -> usize {
        self.live(now).count()
    }

    /// Whether no key is left at `now`.
    pub(crate) fn is_empty(&self, now: u64) -> bool {
        self.live(now).next().is_none()
    }

    /// Its keys, whether still used or not.
    pub(crate) fn keys(&self) -> &[VerificationKey] {
        &self.keys
    }

    fn live(&self, now: u64) -> impl Iterator<Item = &VerificationKey> {
        self.keys.iter().filter(move |key| key.not_after.is_none_or(|last| now <= last))
    }
}

/// Reads the key files of a verifier that stands at `path_prefix` of the configuration
/// (`verifiers.users`). With the keys come warnings: usable, but not as it should be.
///
/// # Errors
///
/// Everything that is wrong with any of the files.
pub fn load(
    verifier: &Verifier,
    path_prefix: &str,
    locations: &Locations,
) -> Result<(KeySet, Vec<Problem>), Vec<Problem>> {
    let (mut keys, mut warnings, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    for (index, key) in verifier.keys.iter().enumerate() {
        let path = format!("{path_prefix}.keys[{index}].file");
        match load_key(key) {
            Ok((verification_key, notes)) => {
                keys.push(verification_key);
                warnings.extend(
                    notes
                        .into_iter()
                        .map(|note| locations.problem(&path, format!("{:?} {note}", key.file))),
                );
            }
            Err(error) => errors.push(locations.problem(&path, error.to_string())),
        }
    }
    if errors.is_empty() { Ok((KeySet::new(keys), warnings)) } else { Err(errors) }
}

/// Why a key file gives no key.
#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error("cannot read {file:?}: {source}")]
    Read { file: PathBuf, source: std::io::Error },
    #[error("{file:?} {fault}")]
    Content { file: PathBuf, fault: KeyFault },
}

fn load_key(key: &Key) -> Result<(VerificationKey, Vec<String>), LoadError> {
    let bytes = std::fs::read(&key.file)
        .map_err(|source| LoadError::Read { file: key.file.clone(), source })?;
    let parsed = key_file::verification_key(&bytes, key.algorithm)
        .map_err(|fault| LoadError::Content { file: key.file.clone(), fault })?;
    let mut notes = Vec::new();
    if let Some(length) = parsed.secret_length.filter(|length| *length < MIN_SECRET_BYTES) {
        notes.push(format!(
            "holds a secret of {length} bytes; fewer than {MIN_SECRET_BYTES} can be guessed from a \
             single token"
        ));
    }
    match (&key.kid, &parsed.kid) {
        (Some(configured), Some(own)) if configured != own => notes.push(format!(
            "is a JWK with the kid {own:?}, but {configured:?} is configured, which counts"
        )),
        _ => {}
    }
    if let Some(past) = key.not_after.filter(|last| *last < Timestamp::now()) {
        notes.push(format!("is used no more: its not_after, {past}, has passed"));
    }
    let verification_key = VerificationKey {
        kid: key.kid.clone(),
        algorithm: key.algorithm,
        key: parsed.key,
        // Before 1970 is long ago, too.
        not_after: key.not_after.map(|last| u64::try_from(last.as_second()).unwrap_or(0)),
    };
    Ok((verification_key, notes))
}

/// Whether the algorithm signs with a shared secret.
pub(crate) fn is_hmac(algorithm: Algorithm) -> bool {
    AlgorithmFamily::Hmac.algorithms().contains(&algorithm)
}

/// RFC 7518 section 3.2 wants a key as long as the hash; 32 bytes are that for HS256.
const MIN_SECRET_BYTES: usize = 32;

#[cfg(test)]
mod tests;
