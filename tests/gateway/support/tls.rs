//! TLS for tests: an authority that signs certificates, and a client that says what it met.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, SupportedProtocolVersion,
    crypto::aws_lc_rs, version,
};

use super::within;

/// Signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

/// A certificate with its key.
pub struct Signed {
    pub certificate: rcgen::Certificate,
    pub key: KeyPair,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// A certificate for these names.
    pub fn sign(&self, names: &[&str]) -> Signed {
        self.sign_changed(names, |_| {})
    }

    /// The same with something else in it.
    pub fn sign_changed(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Signed {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        Signed { certificate: params.signed_by(&key, &self.issuer).unwrap(), key }
    }

    /// Writes the authority's own certificate.
    pub fn write(&self, folder: &Path, file: &str) {
        std::fs::write(folder.join(file), self.certificate.pem()).unwrap();
    }

    /// A client that trusts this authority.
    pub fn client(&self) -> TlsClient {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        TlsClient { roots, versions: vec![&version::TLS12, &version::TLS13], own: None, alpn: &[] }
    }
}

impl Signed {
    /// Writes `NAME.pem` and `NAME-key.pem`; returns the entry for `certificates`.
    pub fn write(&self, folder: &Path, name: &str) -> String {
        std::fs::write(folder.join(format!("{name}.pem")), self.certificate.pem()).unwrap();
        let key = self.key.serialize_pem();
        std::fs::write(folder.join(format!("{name}-key.pem")), key).unwrap();
        format!("{{ chain = \"{name}.pem\", key = \"{name}-key.pem\" }}")
    }
}

/// Builds a client; `connector` makes what connects with it, and what it resumes sessions with.
#[derive(Clone)]
pub struct TlsClient {
    roots: RootCertStore,
    versions: Vec<&'static SupportedProtocolVersion>,
    own: Option<(CertificateDer<'static>, Vec<u8>)>,
    alpn: &'static [&'static str],
}

impl TlsClient {
    /// Speaks this version only.
    pub fn version(mut self, version: ProtocolVersion) -> Self {
        self.versions.retain(|known| known.version == version);
        self
    }

    /// Offers these protocols.
    pub fn alpn(mut self, protocols: &'static [&'static str]) -> Self {
        self.alpn = protocols;
        self
    }

    /// Has this certificate to show.
    pub fn showing(mut self, own: &Signed) -> Self {
        self.own = Some((own.certificate.der().clone(), own.key.serialize_der()));
        self
    }

    pub fn connector(self) -> Connector {
        let builder = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_protocol_versions(&self.versions)
            .unwrap()
            .with_root_certificates(self.roots);
        let mut config = match self.own {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let key = PrivateKeyDer::try_from(key).unwrap();
                builder.with_client_auth_cert(vec![certificate], key).unwrap()
            }
        };
        config.alpn_protocols = self.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Connector(Arc::new(config).into())
    }

    /// The first bytes it would send, for [`Connector::connect`]'s name.
    pub fn hello(self, name: &str) -> Vec<u8> {
        let config = Arc::clone(self.connector().0.config());
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut connection = ClientConnection::new(config, name).unwrap();
        let mut bytes = Vec::new();
        connection.write_tls(&mut bytes).unwrap();
        bytes
    }

    /// Connects once; see [`Connector::connect`].
    pub async fn connect(
        self,
        address: SocketAddr,
        name: &str,
    ) -> io::Result<TlsStream<TcpStream>> {
        self.connector().connect(address, name).await
    }
}

/// Connects, more than once if it is to resume.
#[derive(Clone)]
pub struct Connector(TlsConnector);

impl Connector {
    /// The handshake with the certificate checked for `name` (which is the SNI unless it is an IP
    /// address).
    pub async fn connect(
        &self,
        address: SocketAddr,
        name: &str,
    ) -> io::Result<TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(address).await.unwrap();
        self.over(tcp, name).await
    }

    /// The same over a connection that is there already.
    pub async fn over(&self, tcp: TcpStream, name: &str) -> io::Result<TlsStream<TcpStream>> {
        tcp.set_nodelay(true).unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        within("a TLS handshake", self.0.connect(name, tcp)).await
    }
}
