//! TLS as a client that keeps its eyes open: what was shown, and what is wrong with it. I/O.
//!
//! A certificate is always verified. [`Witness`] keeps the chain and the verdict, so that a failure
//! can be explained from the very handshake it happened in; with `--insecure` it lets the handshake go
//! on, and the report says that it did.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::error::Elapsed;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    crypto,
};

use super::certificate::Shown;
use super::diagnosis::tls;
use super::net;
use super::plan::Plan;
use super::report::{Failure, Finding, Passed, StepName};
use crate::net::pem;
use crate::net::stream::{CountedTcp, Stream};
use crate::net::tls::provider;
use crate::net::tls_fault::{CertificateFault, TlsFault};

/// The authorities to verify with: those of `--ca`, else the system's.
///
/// # Errors
///
/// When the file of `--ca` holds none.
pub(crate) fn roots(plan: &Plan) -> Result<RootCertStore, String> {
    // None at all is told when it matters.
    pem::authorities(plan.ca.as_deref())
}

/// TLS over `tcp`, or `tcp` itself where the URL wants none; and how long that took, without what was
/// asked on the side.
///
/// # Errors
///
/// When there is no TLS, or the certificate does not convince.
pub(crate) async fn secure(
    plan: &Plan,
    roots: &RootCertStore,
    tcp: TcpStream,
    now: i64,
) -> (Duration, Result<Passed<Stream>, Failure>) {
    if !plan.target.secure {
        let seen = vec!["not used: a ws:// URL; everybody on the way can read along".to_owned()];
        return (Duration::ZERO, Ok(Passed::new(Stream::Tcp(tcp), seen)));
    }
    let address = tcp.peer_addr().ok();
    let witness = Arc::new(Witness::new(roots, plan.insecure));
    let began = Instant::now();
    let result = timeout(plan.timeout, handshake(plan, &witness, tcp)).await;
    let took = began.elapsed();
    (took, judge(plan, &witness, address, result, now).await)
}

/// What a handshake came to; one that failed may have to be asked about.
async fn judge(
    plan: &Plan,
    witness: &Witness,
    address: Option<SocketAddr>,
    result: Result<io::Result<TlsStream<CountedTcp>>, Elapsed>,
    now: i64,
) -> Result<Passed<Stream>, Failure> {
    let (chain, verdict) = witness.shown();
    let mut seen = describe(&chain, now);
    let fault = match result {
        Ok(Ok(stream)) => {
            seen.insert(0, settings(&stream));
            let warning = match &verdict {
                Some(fault) => {
                    seen.insert(1, "the certificate was NOT verified".to_owned());
                    Some(tls::not_verified(fault, &chain, plan, now))
                }
                None => tls::warning(&chain, now),
            };
            return Ok(Passed::new(Stream::UpstreamTls(Box::new(stream)), seen).warn(warning));
        }
        Ok(Err(error)) => fault_of(&error, verdict),
        Err(_) => TlsFault::Silent,
    };
    seen.insert(0, first_line(&fault));
    if matches!(fault, TlsFault::Certificate(_)) {
        seen.push("the connection was not verified, so it went no further".to_owned());
    }
    let fault = match (fault, address) {
        (TlsFault::NotTls | TlsFault::Ended | TlsFault::Silent, Some(address))
            if speaks_http(address, plan).await =>
        {
            TlsFault::PlainHttp
        }
        (fault, _) => fault,
    };
    Err(tls::fault(&fault, &chain, plan, now).fails(StepName::Tls, seen))
}

/// Whether what listens there speaks TLS; nothing is verified, and nothing is said in it.
pub(crate) async fn speaks_tls(address: SocketAddr, plan: &Plan) -> bool {
    let witness = Arc::new(Witness::new(&RootCertStore::empty(), true));
    let limit = plan.timeout.min(PROBE);
    let ask = async {
        let tcp = net::connect(address, limit).await?;
        handshake(plan, &witness, tcp).await
    };
    match timeout(limit, ask).await {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => {
            matches!(
                fault_of(&error, None),
                TlsFault::Version
                    | TlsFault::Handshake
                    | TlsFault::Name
                    | TlsFault::ClientCertificate
                    | TlsFault::Alpn
            )
        }
        Err(_) => false,
    }
}

/// An error in reading or writing that is TLS's business, such as a client certificate that is missed
/// only after the handshake (RFC 8446 section 4.4.2.4).
pub(crate) fn late_fault(error: &io::Error, plan: &Plan, now: i64) -> Option<Finding> {
    let is_tls = error.get_ref().is_some_and(|inner| inner.is::<Error>());
    is_tls.then(|| tls::fault(&fault_of(error, None), &[], plan, now))
}

async fn handshake(
    plan: &Plan,
    witness: &Arc<Witness>,
    tcp: TcpStream,
) -> io::Result<TlsStream<CountedTcp>> {
    let invalid = |error: &dyn std::fmt::Display| io::Error::other(error.to_string());
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| invalid(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(witness) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let name = ServerName::try_from(plan.target.host.clone()).map_err(|error| invalid(&error))?;
    Box::pin(TlsConnector::from(Arc::new(config)).connect(name, tcp.into())).await
}

/// Whether it answers an HTTP request without TLS.
async fn speaks_http(address: SocketAddr, plan: &Plan) -> bool {
    let ask = async {
        let mut tcp = net::connect(address, plan.timeout).await.ok()?;
        let host = plan.target.authority();
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        tcp.write_all(request.as_bytes()).await.ok()?;
        let mut first = [0; 5];
        tcp.read_exact(&mut first).await.ok()?;
        Some(first == *b"HTTP/")
    };
    timeout(plan.timeout.min(PROBE), ask).await.ok().flatten().unwrap_or(false)
}

fn settings(stream: &TlsStream<CountedTcp>) -> String {
    let (_, session) = stream.get_ref();
    let version = match session.protocol_version() {
        Some(version) => version.as_str().unwrap_or("TLS").replace("TLSv1_", "TLS 1."),
        None => "TLS".to_owned(),
    };
    let cipher = session.negotiated_cipher_suite();
    let cipher = cipher.and_then(|suite| suite.suite().as_str()).unwrap_or("an unknown cipher");
    format!("{version}, {cipher}")
}

fn describe(chain: &[Shown], now: i64) -> Vec<String> {
    let lines = chain.iter().enumerate();
    lines.map(|(at, shown)| if at == 0 { shown.line(now) } else { shown.link(now) }).collect()
}

fn first_line(fault: &TlsFault) -> String {
    match fault {
        TlsFault::Certificate(_) => "the certificate does not convince".to_owned(),
        TlsFault::Silent => "no answer to the TLS greeting".to_owned(),
        TlsFault::Ended => "the connection ended within the TLS handshake".to_owned(),
        TlsFault::NotTls | TlsFault::PlainHttp => "the answer is not TLS".to_owned(),
        TlsFault::Version => "the server refuses TLS 1.2 and 1.3".to_owned(),
        TlsFault::Other(what) => what.clone(),
        TlsFault::Handshake | TlsFault::Name | TlsFault::ClientCertificate | TlsFault::Alpn => {
            "the server refused the TLS handshake".to_owned()
        }
    }
}

fn fault_of(error: &io::Error, verdict: Option<CertificateFault>) -> TlsFault {
    verdict.map_or_else(|| TlsFault::of(error), TlsFault::Certificate)
}

/// Verifies as browsers do, and keeps what it saw.
#[derive(Debug)]
struct Witness {
    /// `None`: no authorities to verify with.
    verifier: Option<Arc<WebPkiServerVerifier>>,
    /// Lets the handshake go on whatever the verdict.
    lenient: bool,
    seen: Mutex<(Vec<Shown>, Option<CertificateFault>)>,
}

impl Witness {
    fn new(roots: &RootCertStore, lenient: bool) -> Self {
        let roots = Arc::new(roots.clone());
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider()).build().ok();
        Self { verifier, lenient, seen: Mutex::default() }
    }

    fn shown(&self) -> (Vec<Shown>, Option<CertificateFault>) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = std::iter::once(leaf).chain(between);
        let chain: Vec<_> = chain.filter_map(|certificate| Shown::read(certificate)).collect();
        let result = match &self.verifier {
            Some(verifier) => verifier.verify_server_cert(leaf, between, name, ocsp, now),
            None => Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)),
        };
        let verdict = match &result {
            Ok(_) => None,
            Err(_) if self.verifier.is_none() => Some(CertificateFault::NoAuthorities),
            Err(Error::InvalidCertificate(error)) => Some(CertificateFault::of(error)),
            Err(error) => Some(CertificateFault::Other(error.to_string())),
        };
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = (chain, verdict);
        if self.lenient { Ok(ServerCertVerified::assertion()) } else { result }
    }

    // That the server holds the key of what it shows is verified in any case.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        crypto::verify_tls12_signature(message, certificate, signature, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        crypto::verify_tls13_signature(message, certificate, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// What a question on the side may take.
const PROBE: Duration = Duration::from_secs(2);
