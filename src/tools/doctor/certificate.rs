//! Certificates as a server showed them, for people. Pure.

use std::net::IpAddr;

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::token::span;

/// One certificate of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    /// Whose it is.
    pub(crate) subject: String,
    /// Who signed it.
    pub(crate) issuer: String,
    /// The names and addresses it is for.
    pub(crate) names: Vec<String>,
    /// Begin, in seconds since 1970.
    pub(crate) not_before: i64,
    /// End, in seconds since 1970.
    pub(crate) not_after: i64,
}

impl Shown {
    /// Reads one in DER.
    pub(crate) fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let names = certificate.subject_alternative_name().ok().flatten();
        let names = names.iter().flat_map(|names| &names.value.general_names);
        let validity = certificate.validity();
        Some(Self {
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            names: names.filter_map(name).collect(),
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
        })
    }

    /// Whether it vouches for itself.
    pub(crate) fn is_self_signed(&self) -> bool {
        self.subject == self.issuer
    }

    /// Who it is, in a line.
    pub(crate) fn line(&self, now: i64) -> String {
        let names = match self.names.as_slice() {
            [] => "no names".to_owned(),
            names if names.len() > 6 => {
                let first: Vec<_> = names.iter().take(6).map(String::as_str).collect();
                format!("for {} and {} more", first.join(", "), names.len() - 6)
            }
            names => format!("for {}", names.join(", ")),
        };
        let issuer = if self.is_self_signed() { "itself" } else { &self.issuer };
        let subject = if self.subject.is_empty() { "nobody" } else { &self.subject };
        format!("certificate of {subject}, {names}, signed by {issuer}, {}", self.validity(now))
    }

    /// An authority between, in a line.
    pub(crate) fn link(&self, now: i64) -> String {
        format!("which is {}, signed by {}, {}", self.subject, self.issuer, self.validity(now))
    }

    fn validity(&self, now: i64) -> String {
        if now < self.not_before {
            format!("valid only in {}", span(self.not_before - now))
        } else if now > self.not_after {
            format!("expired {} ago", span(now - self.not_after))
        } else {
            format!("{} days left", (self.not_after - now) / 86_400)
        }
    }
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let four = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let six = || <[u8; 16]>::try_from(*bytes).map(IpAddr::from);
            four.or_else(|_| six()).ok().map(|address| address.to_string())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    #[test]
    fn a_certificate_is_told_in_a_line() {
        let names = vec!["a.example".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2026, 1, 31);
        let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let shown = Shown::read(der.der()).unwrap();
        assert!(shown.is_self_signed());
        let day = |day: i64| 1_767_225_600 + day * 86_400;
        let start = "certificate of CN=rcgen self signed cert, for a.example, 127.0.0.1, ::1, \
                     signed by itself, ";
        for (now, end) in [
            (day(0), "30 days left"),
            (day(29), "1 days left"),
            (day(33), "expired 3 days ago"),
            (day(-5), "valid only in 5 days"),
        ] {
            assert_eq!(shown.line(now), format!("{start}{end}"));
        }
        assert_eq!(Shown::read(b"nonsense"), None);
    }
}
