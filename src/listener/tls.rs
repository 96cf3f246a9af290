//! TLS of a listener: certificates read, checked, and chosen by SNI. I/O when built or renewed.
//!
//! Whoever renews certificates writes new files in the place of the old ones: [`Tls::renewed`] looks
//! whether that has happened. While chain and key do not fit each other the old pair is kept.

use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, version};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate, X509Version};

use crate::config::{Certificate, ListenerTls, Locations, Problem, TlsVersion};
use crate::net::pem::{self, read_certificates, read_key};
use crate::net::server_tls::ClientCertificate;
use crate::net::tls::provider;

/// TLS that is ready to accept.
pub(crate) struct Tls {
    /// What connections are accepted with.
    pub(crate) config: Arc<ServerConfig>,
    pairs: Vec<Arc<Pair>>,
    authorities: Option<Arc<Authorities>>,
}

/// What became of certificates whose files have changed.
#[derive(Default)]
pub(crate) struct Renewal {
    /// `None`: nothing has changed that could be used.
    pub(crate) tls: Option<Tls>,
    /// The names of the certificates that are new.
    pub(crate) names: Vec<String>,
    /// Why what was found could not be used.
    pub(crate) problems: Vec<Problem>,
}

/// Reads everything `tls` names. `path` is its place in the configuration (`listener[0].tls`).
pub(crate) fn load(
    tls: &ListenerTls,
    path: &str,
    locations: &Locations,
) -> Result<Tls, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut pairs = Vec::new();
    for (index, certificate) in tls.certificates.iter().enumerate() {
        match Pair::read(certificate) {
            Ok(pair) => pairs.push(Arc::new(pair)),
            Err(fault) => problems.push(fault.at(path, index, locations)),
        }
    }
    let authorities = tls.client_ca.as_deref().map(Authorities::read).transpose();
    let authorities = authorities.unwrap_or_else(|message| {
        problems.push(locations.problem(format!("{path}.client_ca"), message));
        None
    });
    if !problems.is_empty() {
        return Err(problems);
    }
    Tls::new(tls, pairs, authorities.map(Arc::new))
        .map_err(|message| vec![locations.problem(format!("{path}.client_ca"), message)])
}

impl Tls {
    fn new(
        settings: &ListenerTls,
        pairs: Vec<Arc<Pair>>,
        authorities: Option<Arc<Authorities>>,
    ) -> Result<Self, String> {
        let config = build(settings, &pairs, authorities.as_deref())?;
        Ok(Self { config: Arc::new(config), pairs, authorities })
    }

    /// Whether clients must show a certificate.
    pub(crate) fn client_certificate(&self) -> ClientCertificate {
        match self.authorities {
            Some(_) => ClientCertificate::Asked,
            None => ClientCertificate::NotAsked,
        }
    }

    /// Name and end (seconds since 1970) of each certificate, for the metrics.
    pub(crate) fn certificates(&self) -> impl Iterator<Item = (&str, i64)> {
        self.pairs.iter().map(|pair| (pair.name(), pair.not_after))
    }

    /// The certificates themselves, to tell which are the same.
    pub(crate) fn leaves(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.pairs
            .iter()
            .map(|pair| (pair.name(), pair.key.end_entity_cert().map_or(&[][..], AsRef::as_ref)))
    }

    /// Reads again those files that are not what they were. A pair that cannot be used now stays as
    /// it was read last, and is read again the next time.
    pub(crate) fn renewed(
        &self,
        settings: &ListenerTls,
        path: &str,
        locations: &Locations,
    ) -> Renewal {
        let mut renewal = Renewal::default();
        let mut pairs = Vec::new();
        for (index, (pair, files)) in self.pairs.iter().zip(&settings.certificates).enumerate() {
            let found = (pair.stamps != Pair::stamps(files)).then(|| Pair::read(files));
            pairs.push(match found {
                Some(Ok(new)) => {
                    renewal.names.push(new.name().to_owned());
                    Arc::new(new)
                }
                Some(Err(fault)) => {
                    renewal.problems.push(fault.at(path, index, locations));
                    Arc::clone(pair)
                }
                None => Arc::clone(pair),
            });
        }
        let mut authorities = self.authorities.clone();
        let fault = |message: String| locations.problem(format!("{path}.client_ca"), message);
        if let (Some(known), Some(file)) = (&self.authorities, &settings.client_ca)
            && known.stamp != Stamp::of(file)
        {
            match Authorities::read(file) {
                Ok(new) => {
                    authorities = Some(Arc::new(new));
                    renewal.names.push(format!("{path}.client_ca"));
                }
                Err(message) => renewal.problems.push(fault(message)),
            }
        }
        if !renewal.names.is_empty() {
            match Self::new(settings, pairs, authorities) {
                Ok(tls) => renewal.tls = Some(tls),
                Err(message) => renewal.problems.push(fault(message)),
            }
        }
        renewal
    }
}

/// What tells a file from the one that was there before, symbolic links followed; `None`: it is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp(Option<[i128; 5]>);

impl Stamp {
    fn of(file: &Path) -> Self {
        let nanos =
            |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
        let of = |found: Metadata| {
            [
                i128::from(found.dev()),
                i128::from(found.ino()),
                i128::from(found.size()),
                nanos(found.mtime(), found.mtime_nsec()),
                nanos(found.ctime(), found.ctime_nsec()),
            ]
        };
        Self(std::fs::metadata(file).ok().map(of))
    }
}

/// A certificate with its key and what it says of itself.
struct Pair {
    key: Arc<CertifiedKey>,
    /// What it is called in metrics and logs.
    name: String,
    /// Lower-case DNS names, wildcards as written.
    names: Vec<String>,
    not_after: i64,
    stamps: [Stamp; 2],
}

/// What is wrong with a pair, and with which file of it.
struct PairFault {
    field: &'static str,
    message: String,
}

impl PairFault {
    fn at(self, path: &str, index: usize, locations: &Locations) -> Problem {
        locations.problem(format!("{path}.certificates[{index}].{}", self.field), self.message)
    }
}

impl Pair {
    fn stamps(files: &Certificate) -> [Stamp; 2] {
        [&files.chain, &files.key].map(|file| Stamp::of(file))
    }

    fn read(files: &Certificate) -> Result<Self, PairFault> {
        // Before they are read: what changes meanwhile is then seen as changed.
        let stamps = Self::stamps(files);
        let fault = |field, message| PairFault { field, message };
        let chain = read_certificates(&files.chain).map_err(|message| fault("chain", message))?;
        let key = read_key(&files.key).map_err(|message| fault("key", message))?;
        let (names, not_after) = chain
            .first()
            .ok_or(NOT_X509)
            .and_then(|leaf| describe(leaf))
            .map_err(|what| fault("chain", format!("{} {what}", files.chain.display())))?;
        let key = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| {
            let (file, chain) = (files.key.display(), files.chain.display());
            let message = "is not a usable key for the certificate in";
            fault("key", format!("{file} {message} {chain}: {error}"))
        })?;
        // One for an address alone is known by its file.
        let name = names.first().cloned().unwrap_or_else(|| files.chain.display().to_string());
        Ok(Self { key: Arc::new(key), name, names, not_after, stamps })
    }

    fn name(&self) -> &str {
        &self.name
    }
}

/// Who signs client certificates.
struct Authorities {
    roots: Arc<RootCertStore>,
    stamp: Stamp,
}

impl Authorities {
    fn read(file: &Path) -> Result<Self, String> {
        let stamp = Stamp::of(file);
        Ok(Self { roots: Arc::new(pem::authorities(Some(file))?), stamp })
    }
}

/// DNS names and end of a certificate, or what is wrong with it.
fn describe(leaf: &[u8]) -> Result<(Vec<String>, i64), &'static str> {
    let (_, certificate) = X509Certificate::from_der(leaf).map_err(|_| NOT_X509)?;
    if certificate.version() != X509Version::V3 {
        return Err(OLD_X509);
    }
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
    Ok((names, certificate.validity().not_after.timestamp()))
}

const NOT_X509: &str = "holds no X.509 certificate that can be read";
/// `openssl x509 -req` makes one where it is told of no extensions.
const OLD_X509: &str = "holds a certificate of an old version of X.509, which cannot name the hosts it is for and which \
     clients refuse: issue it anew as version 3, with subjectAltName";

fn build(
    tls: &ListenerTls,
    pairs: &[Arc<Pair>],
    authorities: Option<&Authorities>,
) -> Result<ServerConfig, String> {
    let versions: &[_] = match tls.min_version {
        TlsVersion::V1_2 => &[&version::TLS12, &version::TLS13],
        TlsVersion::V1_3 => &[&version::TLS13],
    };
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .map_err(|error| error.to_string())?;
    let builder = match authorities {
        None => builder.with_no_client_auth(),
        Some(Authorities { roots, .. }) => {
            let roots = Arc::clone(roots);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
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
    config.session_storage = Arc::new(tokio_rustls::rustls::server::NoServerSessionStorage {});
    // A resumed session is not asked for its certificate, which may have expired since: such clients are
    // checked each time.
    if authorities.is_none() {
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(|error| error.to_string())?;
        config.send_tls13_tickets = 1;
    } else {
        config.send_tls13_tickets = 0;
    }
    Ok(config)
}

/// Chooses a certificate by the name the client asks for; without a match, the first.
struct BySni {
    pairs: Vec<(Vec<String>, Arc<CertifiedKey>)>,
}

impl ResolvesServerCert for BySni {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let names = self.pairs.iter().map(|(names, _)| names.as_slice());
        let chosen = hello.server_name().and_then(|name| most_specific(names, name));
        self.pairs.get(chosen.unwrap_or_default()).map(|(_, key)| Arc::clone(key))
    }
}

/// Which of several certificates has this name: one that has it as it is before one with a wildcard. A name
/// with the trailing dot of the DNS root is the same name (RFC 6066 section 3 has it without).
fn most_specific<'a>(
    certificates: impl Iterator<Item = &'a [String]> + Clone,
    name: &str,
) -> Option<usize> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let exact = |names: &[String]| names.iter().any(|own| own.eq_ignore_ascii_case(name));
    let wild = |names: &[String]| names.iter().any(|pattern| covers(pattern, name));
    certificates.clone().position(exact).or_else(|| certificates.clone().position(wild))
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
    fn the_most_specific_certificate_wins_whatever_the_order() {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let certificates: [Vec<String>; 3] = [
            owned(&["*.example.com", "example.com"]),
            owned(&["chat.example.com"]),
            owned(&["*.chat.example.com", "other.example.org"]),
        ];
        for (name, expected) in [
            ("chat.example.com", Some(1)),
            ("CHAT.example.com.", Some(1)),
            ("a.example.com", Some(0)),
            ("example.com.", Some(0)),
            ("a.chat.example.com", Some(2)),
            ("other.example.org", Some(2)),
            ("nothing.example.org", None),
            ("", None),
        ] {
            let names = certificates.iter().map(Vec::as_slice);
            assert_eq!(most_specific(names, name), expected, "{name}");
        }
    }

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

    /// Writes a fresh pair for `name`, or only one file of it; what to configure.
    fn write(folder: &Path, name: &str, which: &[&str]) -> Certificate {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        let files = [("chain", made.cert.pem()), ("key", made.signing_key.serialize_pem())];
        for (file, text) in files.iter().filter(|(file, _)| which.contains(file)) {
            std::fs::write(folder.join(file), text).unwrap();
        }
        Certificate { chain: folder.join("chain"), key: folder.join("key") }
    }

    #[test]
    fn a_pair_is_renewed_when_both_its_files_fit_and_kept_until_then() {
        let folder = tempfile::tempdir().unwrap();
        let both = ["chain", "key"];
        let certificates = vec![write(folder.path(), "a.example.com", &both)];
        let settings = ListenerTls { certificates, min_version: TlsVersion::V1_2, client_ca: None };
        let (path, locations) = ("listener[0].tls", Locations::default());
        let tls = load(&settings, path, &locations).ok().unwrap();
        let renewed = || tls.renewed(&settings, path, &locations);
        let is_kept = |field: &str| {
            let Renewal { tls, names, problems } = renewed();
            assert!(tls.is_none() && names.is_empty());
            let found: Vec<_> = problems.into_iter().map(|problem| problem.path).collect();
            let expected = (!field.is_empty()).then(|| format!("{path}.certificates[0].{field}"));
            assert_eq!(found, Vec::from_iter(expected));
        };
        is_kept("");
        write(folder.path(), "b.example.com", &["key"]);
        is_kept("key");
        let chain = std::fs::read(folder.path().join("chain")).unwrap();
        std::fs::write(folder.path().join("chain"), &chain[..chain.len() / 2]).unwrap();
        is_kept("chain");
        std::fs::remove_file(folder.path().join("key")).unwrap();
        is_kept("chain");
        write(folder.path(), "b.example.com", &both);
        let Renewal { tls: new, names, problems } = renewed();
        assert_eq!((names, problems), (vec!["b.example.com".to_owned()], vec![]));
        let new = new.unwrap();
        assert_eq!(new.certificates().next().unwrap().0, "b.example.com");
        assert!(new.renewed(&settings, path, &locations).tls.is_none(), "once");
    }
}
