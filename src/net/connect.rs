//! Reaching an endpoint: name, TCP, TLS. I/O.

use std::io;
use std::time::Duration;

use rustix::io::Errno;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::eyeballs;
use super::names::Names;
use super::stream::{Stream, tune};
use super::tls_fault::{CertificateFault, TlsFault};
use crate::config::Target;

/// Why an endpoint could not be reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// The deadline passed.
    #[error("connecting took longer than {0:?}")]
    Timeout(Duration),
    /// The name could not be resolved.
    #[error("the name cannot be resolved: {0}")]
    Dns(io::Error),
    /// TCP (or the Unix socket) failed.
    #[error("{0}")]
    Socket(io::Error),
    /// A certificate was shown and does not convince.
    #[error("its certificate is not accepted: {0}")]
    Certificate(CertificateFault),
    /// TLS failed otherwise.
    #[error("TLS: {0}")]
    Tls(TlsFault),
}

/// Why a connection to an endpoint could not be opened: a closed set, the `reason` label of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectFailure {
    /// The endpoint refused it.
    Refused,
    /// The endpoint reset it.
    Reset,
    /// It took longer than `connect_timeout`.
    Timeout,
    /// The name could not be resolved.
    Dns,
    /// The TLS handshake failed.
    Tls,
    /// Anything else, such as no route to the host.
    Other,
}

impl ConnectFailure {
    /// All, in order.
    pub(crate) const ALL: &'static [Self] =
        &[Self::Refused, Self::Reset, Self::Timeout, Self::Dns, Self::Tls, Self::Other];

    /// The metric label.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Dns => "dns",
            Self::Tls => "tls",
            Self::Other => "other",
        }
    }

    /// The reason behind an I/O error of connecting.
    pub(crate) fn of(error: &io::Error) -> Self {
        use std::io::ErrorKind;
        match error.kind() {
            ErrorKind::ConnectionRefused => Self::Refused,
            ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::UnexpectedEof => Self::Reset,
            ErrorKind::TimedOut => Self::Timeout,
            _ => Self::Other,
        }
    }
}

impl ConnectError {
    /// The metric label.
    pub(crate) fn reason(&self) -> ConnectFailure {
        match self {
            Self::Timeout(_) => ConnectFailure::Timeout,
            Self::Dns(_) => ConnectFailure::Dns,
            Self::Certificate(_) | Self::Tls(_) => ConnectFailure::Tls,
            // A Unix socket that is not there is like a port where nobody listens.
            Self::Socket(error) if error.kind() == io::ErrorKind::NotFound => {
                ConnectFailure::Refused
            }
            Self::Socket(error) => ConnectFailure::of(error),
        }
    }
}

impl ConnectError {
    /// For the record of a connection: the metric's word, or what that does not tell.
    pub(crate) fn detail(&self) -> String {
        match self {
            Self::Certificate(_) | Self::Tls(_) => self.to_string(),
            _ => self.reason().as_str().to_owned(),
        }
    }

    /// Whether the gateway's own lack (of descriptors, of memory) is to blame, which says nothing of the
    /// endpoint.
    pub(crate) fn is_ours(&self) -> bool {
        match self {
            Self::Socket(error) => is_lack(error),
            // A resolver that cannot open a socket says only that it failed.
            Self::Dns(error) => {
                is_lack(error)
                    || std::fs::File::open("/dev/null").is_err_and(|error| is_lack(&error))
            }
            Self::Timeout(_) | Self::Certificate(_) | Self::Tls(_) => false,
        }
    }
}

fn is_lack(error: &io::Error) -> bool {
    let lacks = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    lacks.iter().any(|lack| error.raw_os_error() == Some(lack.raw_os_error()))
}

/// Connects within `limit`: of the addresses that `names` has for a name, to the first that answers.
pub(crate) async fn connect(
    target: &Target,
    tls: Option<&TlsConnector>,
    names: &Names,
    limit: Duration,
) -> Result<Stream, ConnectError> {
    tokio::time::timeout(limit, reach(target, tls, names))
        .await
        .unwrap_or(Err(ConnectError::Timeout(limit)))
}

/// Only the transport, as a health check wants it.
pub(crate) async fn reach_transport(
    target: &Target,
    names: &Names,
) -> Result<Stream, ConnectError> {
    match target {
        Target::Http { host, port } | Target::Https { host, port } => {
            Ok(Stream::Tcp(tcp(host, *port, names).await?))
        }
        Target::Unix(path) => {
            UnixStream::connect(path).await.map(Stream::Unix).map_err(ConnectError::Socket)
        }
    }
}

/// Transport and TLS; the caller sets the limit.
pub(crate) async fn reach(
    target: &Target,
    tls: Option<&TlsConnector>,
    names: &Names,
) -> Result<Stream, ConnectError> {
    let stream = reach_transport(target, names).await?;
    let (Target::Https { host, .. }, Some(tls)) = (target, tls) else { return Ok(stream) };
    let Stream::Tcp(tcp) = stream else { return Ok(stream) };
    let name = ServerName::try_from(host.clone())
        .map_err(|error| ConnectError::Tls(TlsFault::Other(error.to_string())))?;
    let stream =
        Box::pin(tls.connect(name, tcp.into())).await.map_err(|error| {
            match TlsFault::of(&error) {
                TlsFault::Certificate(fault) => ConnectError::Certificate(fault),
                fault => ConnectError::Tls(fault),
            }
        })?;
    Ok(Stream::UpstreamTls(Box::new(stream)))
}

async fn tcp(host: &str, port: u16, names: &Names) -> Result<TcpStream, ConnectError> {
    let addresses = names.resolve(host).await.map_err(ConnectError::Dns)?;
    let stream = eyeballs::connect(&addresses, port).await.map_err(ConnectError::Socket)?;
    tune(&stream);
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_lack_is_told_from_the_endpoints_faults() {
        let socket = |error: Errno| ConnectError::Socket(error.into());
        for error in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM] {
            assert!(socket(error).is_ours(), "{error}");
        }
        for error in [Errno::CONNREFUSED, Errno::TIMEDOUT, Errno::ADDRNOTAVAIL, Errno::NOENT] {
            assert!(!socket(error).is_ours(), "{error}");
        }
        assert!(!ConnectError::Timeout(Duration::ZERO).is_ours());
        assert!(ConnectError::Dns(Errno::MFILE.into()).is_ours());
        // This process has descriptors left.
        assert!(!ConnectError::Dns(io::Error::other("no such name")).is_ours());
    }
}
