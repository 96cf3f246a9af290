//! The cryptography of all TLS, and TLS towards servers. Blocking file I/O when it is set up.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls;
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};

use super::pem;

/// The cryptography everything uses.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Makes TLS to servers whose certificates one of these authorities has signed (the system's, if no
/// file is named). Blocking file I/O.
pub(crate) fn tls_connector(ca: Option<&Path>) -> Result<TlsConnector, String> {
    let roots = pem::authorities(ca)?;
    if roots.is_empty() {
        return Err("no certificate authorities to check https servers with; install the \
                    system's or set `ca`"
            .to_owned());
    }
    let mut client = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(client)))
}
