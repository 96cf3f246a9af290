//! Why TLS with a server does not come about, in words.

use std::fmt;
use std::io;

use tokio_rustls::rustls::{AlertDescription, CertificateError, Error, OtherError};

/// Why there is no TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TlsFault {
    /// A certificate was shown and does not convince.
    Certificate(CertificateFault),
    /// It speaks HTTP without TLS there.
    PlainHttp,
    /// What came is not TLS.
    NotTls,
    /// It has no version in common with us, who speak 1.2 and 1.3.
    Version,
    /// It found nothing in common with us.
    Handshake,
    /// It knows no certificate for this name.
    Name,
    /// It wants a certificate of ours.
    ClientCertificate,
    /// It does not speak HTTP/1.1.
    Alpn,
    /// It ended the connection.
    Ended,
    /// It said nothing.
    Silent,
    /// Something else.
    Other(String),
}

/// What is wrong with a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words say it")]
pub(crate) enum CertificateFault {
    Expired,
    NotYetValid,
    /// The names it is for, as far as they are known.
    WrongName(Vec<String>),
    UnknownIssuer,
    Signature,
    NoAuthorities,
    Revoked,
    Purpose,
    AuthorityAsServer,
    NoAuthority,
    Other(String),
}

impl TlsFault {
    /// What a handshake that failed with `error` failed by.
    pub(crate) fn of(error: &io::Error) -> Self {
        let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
            return match error.kind() {
                io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::ConnectionAborted => Self::Ended,
                _ => Self::Other(error.to_string()),
            };
        };
        match error {
            Error::InvalidCertificate(fault) => Self::Certificate(CertificateFault::of(fault)),
            Error::InvalidMessage(_) => Self::NotTls,
            Error::PeerIncompatible(_) => Self::Version,
            Error::AlertReceived(alert) => match alert {
                AlertDescription::ProtocolVersion => Self::Version,
                AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity => {
                    Self::Handshake
                }
                AlertDescription::UnrecognisedName => Self::Name,
                AlertDescription::CertificateRequired | AlertDescription::BadCertificate => {
                    Self::ClientCertificate
                }
                AlertDescription::NoApplicationProtocol => Self::Alpn,
                other => Self::Other(format!("the server says {other:?}")),
            },
            other => Self::Other(other.to_string()),
        }
    }
}

impl CertificateFault {
    /// What a verifier found.
    pub(crate) fn of(error: &CertificateError) -> Self {
        match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Self::NotYetValid
            }
            CertificateError::NotValidForName => Self::WrongName(Vec::new()),
            CertificateError::NotValidForNameContext { presented, .. } => {
                Self::WrongName(presented.iter().map(|name| bare(name)).collect())
            }
            CertificateError::UnknownIssuer => Self::UnknownIssuer,
            CertificateError::BadSignature => Self::Signature,
            CertificateError::Revoked => Self::Revoked,
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                Self::Purpose
            }
            CertificateError::Other(OtherError(inner))
                if inner.to_string().contains("CaUsedAsEndEntity") =>
            {
                Self::AuthorityAsServer
            }
            CertificateError::Other(OtherError(inner))
                if inner.to_string().contains("EndEntityUsedAsCa") =>
            {
                Self::NoAuthority
            }
            other => Self::Other(other.to_string()),
        }
    }
}

/// `a.example` of `DnsName("a.example")`, as the verifier writes names.
fn bare(name: &str) -> String {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.map_or(name, |inner| inner.trim_matches('"')).to_owned()
}

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate(fault) => return fault.fmt(f),
            Self::PlainHttp => "what answers speaks HTTP without TLS",
            Self::NotTls => "what answers speaks no TLS",
            Self::Version => "the server speaks only TLS 1.1 or older",
            Self::Handshake => {
                "server and client found no TLS settings in common: TLS 1.1 or older only, old ciphers only, \
                 or a key its certificate does not match"
            }
            Self::Name => "the server has no certificate for this name",
            Self::ClientCertificate => {
                "the server lets in only clients that show a certificate of their own (mutual TLS)"
            }
            Self::Alpn => {
                "the server refuses HTTP/1.1 on this port, which a WebSocket handshake is made of"
            }
            Self::Ended => {
                "the other side ended the connection in the middle of the TLS handshake"
            }
            Self::Silent => {
                "the connection stands, but the server says nothing to the TLS greeting"
            }
            Self::Other(what) => what,
        })
    }
}

impl fmt::Display for CertificateFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "the certificate expired",
            Self::NotYetValid => {
                "the certificate is not valid yet, or this machine's clock is slow"
            }
            Self::WrongName(names) if names.is_empty() => "the certificate is for another name",
            Self::WrongName(names) => {
                let shown = names.iter().take(6).map(String::as_str).collect::<Vec<_>>();
                return write!(f, "the certificate is for {}", shown.join(", "));
            }
            Self::UnknownIssuer => "no authority that is trusted signed the certificate",
            Self::Signature => {
                "the certificate was signed by another authority that only has the same name: usually it was \
                 made anew"
            }
            Self::NoAuthorities => {
                "this machine has no list of trusted authorities, so nothing can be verified"
            }
            Self::Revoked => "the certificate was revoked by its authority",
            Self::Purpose => "the certificate is not meant for servers (extended key usage)",
            Self::AuthorityAsServer => {
                "the server shows the certificate of an authority as its own, as `openssl req -x509` makes it"
            }
            Self::NoAuthority => {
                "the certificate was signed by a certificate that is no authority (CA:FALSE), so nobody trusts it"
            }
            Self::Other(what) => return write!(f, "the certificate cannot be verified: {what}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_told_in_words() {
        let rows = [
            (Error::InvalidCertificate(CertificateError::UnknownIssuer), "no authority that is"),
            (
                Error::InvalidCertificate(CertificateError::NotValidForNameContext {
                    expected: "b.example".try_into().unwrap(),
                    presented: vec!["DnsName(\"a.example\")".into(), "IpAddress(127.0.0.1)".into()],
                }),
                "the certificate is for a.example, 127.0.0.1",
            ),
            (Error::AlertReceived(AlertDescription::CertificateRequired), "mutual TLS"),
            (Error::AlertReceived(AlertDescription::AccessDenied), "the server says AccessDenied"),
            (Error::DecryptError, "cannot decrypt"),
        ];
        for (error, words) in rows {
            let said = TlsFault::of(&io::Error::new(io::ErrorKind::InvalidData, error)).to_string();
            assert!(said.contains(words), "{said}");
        }
        assert_eq!(TlsFault::of(&io::ErrorKind::ConnectionReset.into()), TlsFault::Ended);
    }
}
