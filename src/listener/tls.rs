//! TLS of a listener: certificates read, checked, and chosen by SNI. I/O when built.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, version};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::config::{Certificate, ListenerTls, Locations, Problem, TlsVersion};

/// TLS that is ready to accept.
pub struct Tls {
    /// What connections are accepted with.
    pub config: Arc<ServerConfig>,
    /// Name and end (seconds since 1970) of each certificate, for the metrics.
    pub certificates: Vec<(String, i64)>,
}

/// Reads everything `tls` names. `path` is its place in the configuration (`listener[0].tls`).
pub fn load(tls: &ListenerTls, path: &str, locations: &Locations) -> Result<Tls, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut loaded = Vec::new();
    for (index, certificate) in tls.certificates.iter().enumerate() {
        match read_pair(certificate) {
            Ok(pair) => loaded.push(pair),
            Err((field, message)) => problems
                .push(locations.problem(format!("{path}.certificates[{index}].{field}"), message)),
        }
    }
    let config = build(tls, &loaded)
        .map_err(|message| locations.problem(format!("{path}.client_ca"), message));
    match config {
        Ok(config) if problems.is_empty() => Ok(Tls {
            config: Arc::new(config),
            certificates: loaded
                .iter()
                .map(|pair| (pair.names.first().cloned().unwrap_or_default(), pair.not_after))
                .collect(),
        }),
        Ok(_) => Err(problems),
        Err(problem) => {
            problems.push(problem);
            Err(problems)
        }
    }
}

/// The cryptography everything uses.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// All certificates of a PEM file; the error says what is wrong with it.
pub(crate) fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| format!("cannot read certificates from {}: {error}", file.display()))?;
    if certificates.is_empty() {
        return Err(format!("{} contains no PEM certificate", file.display()));
    }
    Ok(certificates)
}

/// A certificate with its key and what it says of itself.
struct Pair {
    key: Arc<CertifiedKey>,
    /// Lower-case DNS names, wildcards as written.
    names: Vec<String>,
    not_after: i64,
}

fn read_pair(certificate: &Certificate) -> Result<Pair, (&'static str, String)> {
    let chain = read_certificates(&certificate.chain).map_err(|message| ("chain", message))?;
    let key = PrivateKeyDer::from_pem_file(&certificate.key).map_err(|error| {
        let file = certificate.key.display();
        ("key", format!("cannot read a PEM private key from {file}: {error}"))
    })?;
    let key = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| {
        let (file, chain) = (certificate.key.display(), certificate.chain.display());
        ("key", format!("{file} is not a usable key for the certificate in {chain}: {error}"))
    })?;
    let (names, not_after) =
        key.end_entity_cert().ok().and_then(|leaf| describe(leaf)).ok_or_else(|| {
            ("chain", format!("{} is not an X.509 certificate", certificate.chain.display()))
        })?;
    Ok(Pair { key: Arc::new(key), names, not_after })
}

/// DNS names and end of a certificate.
fn describe(leaf: &[u8]) -> Option<(Vec<String>, i64)> {
    let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
    let mut names: Vec<String> = Vec::new();
    if let Ok(Some(alternatives)) = certificate.subject_alternative_name() {
        names.extend(alternatives.value.general_names.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        }));
    }
    if names.is_empty() {
        let subject = certificate.subject().iter_common_name().next();
        names.extend(subject.and_then(|name| name.as_str().ok()).map(str::to_ascii_lowercase));
    }
    Some((names, certificate.validity().not_after.timestamp()))
}

fn build(tls: &ListenerTls, pairs: &[Pair]) -> Result<ServerConfig, String> {
    let versions: &[_] = match tls.min_version {
        TlsVersion::V1_2 => &[&version::TLS12, &version::TLS13],
        TlsVersion::V1_3 => &[&version::TLS13],
    };
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .map_err(|error| error.to_string())?;
    let builder = match &tls.client_ca {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let mut roots = RootCertStore::empty();
            for authority in read_certificates(file)? {
                roots.add(authority).map_err(|error| error.to_string())?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
                .build()
                .map_err(|error| error.to_string())?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let resolver = BySni {
        pairs: pairs.iter().map(|pair| (pair.names.clone(), Arc::clone(&pair.key))).collect(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Stateless tickets: a session that can be resumed costs no memory here. One is enough, as a
    // WebSocket client opens one connection.
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(|error| error.to_string())?;
    config.session_storage = Arc::new(tokio_rustls::rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 1;
    Ok(config)
}

/// Chooses a certificate by the name the client asks for; without a match, the first.
struct BySni {
    pairs: Vec<(Vec<String>, Arc<CertifiedKey>)>,
}

impl ResolvesServerCert for BySni {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let by_name = hello.server_name().and_then(|name| {
            self.pairs.iter().find(|(names, _)| names.iter().any(|pattern| covers(pattern, name)))
        });
        by_name.or_else(|| self.pairs.first()).map(|(_, key)| Arc::clone(key))
    }
}

impl fmt::Debug for BySni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.pairs.iter().map(|(names, _)| names)).finish()
    }
}

/// Whether a certificate's name covers `name`: a wildcard stands for exactly one label (RFC 6125
/// section 6.4.3).
fn covers(pattern: &str, name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    match pattern.strip_prefix("*.") {
        Some(parent) => name.split_once('.').is_some_and(|(_, rest)| rest == parent),
        None => pattern == name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_wildcards() {
        let rows = [
            ("chat.example.com", "CHAT.example.com", true),
            ("*.example.com", "chat.example.com", true),
            ("*.example.com", "a.chat.example.com", false),
            ("*.example.com", "example.com", false),
            ("chat.example.com", "example.com", false),
        ];
        for (pattern, name, expected) in rows {
            assert_eq!(covers(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_certificate_says_its_names_and_its_end() {
        let names = vec!["chat.example.com".to_owned(), "*.example.org".to_owned()];
        let made = rcgen::generate_simple_self_signed(names.clone()).unwrap();
        let (found, not_after) = describe(made.cert.der()).unwrap();
        assert_eq!(found, names);
        assert!(not_after > 1_700_000_000);
    }
}
