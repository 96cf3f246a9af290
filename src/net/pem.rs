//! PEM files of certificates and private keys (RFC 7468), and what is wrong with them in words. I/O.

use std::path::Path;

use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::pem::{Error, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The authorities of a PEM file, or the system's; the error says what is wrong with the file. The
/// system's list always has some that cannot be read, and may be empty.
pub(crate) fn authorities(file: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let Some(file) = file else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Ok(roots);
    };
    for authority in read_certificates(file)? {
        roots
            .add(authority)
            .map_err(|error| format!("{} is not a usable authority: {error}", file.display()))?;
    }
    Ok(roots)
}

/// All certificates of a PEM file; the error says what is wrong with it.
pub(crate) fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| {
            format!("cannot read certificates from {}: {}", file.display(), in_words(&error))
        })?;
    if certificates.is_empty() {
        return Err(format!("{} contains no PEM certificate", file.display()));
    }
    Ok(certificates)
}

/// The first private key of a PEM file; the error says what is wrong with it, and nothing of it.
pub(crate) fn read_key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_file(file).map_err(|error| match error {
        Error::NoItemsFound => format!("{} contains no PEM private key", file.display()),
        error => format!("cannot read a private key from {}: {}", file.display(), in_words(&error)),
    })
}

/// Lines of the file are not repeated: a private key may stand in them.
fn in_words(error: &Error) -> String {
    match error {
        Error::MissingSectionEnd { end_marker } => {
            let what = String::from_utf8_lossy(end_marker);
            format!("the line -----END {what}----- is missing: the file was cut off, or not copied to its end")
        }
        Error::IllegalSectionStart { .. } => "a line with -----BEGIN is not complete".to_owned(),
        Error::Base64Decode(_) => {
            "between -----BEGIN and -----END there is something that is no base64: the file was damaged".to_owned()
        }
        Error::Io(error) => error.to_string(),
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_of_pem_files_are_told_in_words_and_without_a_key() {
        let whole = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n";
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key.pem");
        for (text, key, certificates) in [
            ("hello", "contains no PEM private key", "contains no PEM certificate"),
            (
                &whole[..36],
                "the line -----END PRIVATE KEY----- is missing",
                "-----END PRIVATE KEY-----",
            ),
            (&whole.replace("c2", "!!"), "no base64", "no base64"),
            (&whole.replace("KEY-----\nc2", "KEY--\nc2"), "is not complete", "is not complete"),
        ] {
            std::fs::write(&file, text).unwrap();
            let faults = [read_key(&file).unwrap_err(), read_certificates(&file).unwrap_err()];
            for (fault, expected) in faults.iter().zip([key, certificates]) {
                assert!(fault.contains(expected) && fault.contains("key.pem"), "{text}: {fault}");
                assert!(!fault.contains("c2VjcmV0") && !fault.contains("VjcmV0"), "{fault}");
            }
        }
        let gone = read_key(&dir.path().join("gone")).unwrap_err();
        assert!(gone.ends_with("gone: No such file or directory (os error 2)"), "{gone}");
    }
}
