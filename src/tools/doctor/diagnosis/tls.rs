//! TLS that does not come about, and certificates that do not convince. Pure.

use super::super::certificate::Shown;
use super::super::plan::Plan;
use super::super::report::Finding;
use super::super::token::span;
use crate::net::tls_fault::{CertificateFault, TlsFault};

/// Cause and cure; `chain` is what the server showed.
pub(crate) fn fault(fault: &TlsFault, chain: &[Shown], plan: &Plan, now: i64) -> Finding {
    let target = &plan.target;
    match fault {
        TlsFault::Certificate(fault) => certificate(fault, chain, plan, now),
        TlsFault::PlainHttp => Finding::new(
            format!(
                "port {} speaks HTTP without TLS: a plain server behind a wss:// URL",
                target.port
            ),
            format!("connect to {}, or switch TLS on there", target.other_scheme()),
        ),
        TlsFault::NotTls => Finding::new(
            format!("what answers on port {} speaks no TLS", target.port),
            format!("correct the port, or try {}", target.other_scheme()),
        ),
        TlsFault::Version => Finding::new(
            format!("{fault}, which browsers and doctor no longer do"),
            "allow TLS 1.2 and 1.3 there (nginx: ssl_protocols TLSv1.2 TLSv1.3;) or put a gateway in front",
        ),
        TlsFault::Handshake => Finding::new(
            fault.to_string(),
            "allow TLS 1.2 and 1.3 with today's ciphers there; its log names what it missed",
        ),
        TlsFault::Name => Finding::new(
            format!("the server has no certificate for the name {}", target.host),
            "correct the host in the URL, or add that name and its certificate to the server",
        ),
        TlsFault::ClientCertificate => Finding::new(
            fault.to_string(),
            "use the listener that is meant for browsers, or switch client certificates off there",
        ),
        TlsFault::Alpn => {
            Finding::new(fault.to_string(), "allow http/1.1 beside h2 in its ALPN list")
        }
        TlsFault::Ended | TlsFault::Silent | TlsFault::Other(_) => unclear(fault, plan),
    }
}

/// What may have many causes.
fn unclear(fault: &TlsFault, plan: &Plan) -> Finding {
    let target = &plan.target;
    match fault {
        TlsFault::Ended => Finding::new(
            format!(
                "{fault}: no TLS server, a balancer without a server behind it, or TLS 1.1 or older only"
            ),
            format!("try {}, and look at the server's log", target.other_scheme()),
        ),
        TlsFault::Silent => Finding::new(
            format!("{fault}: it waits for plain text, for a PROXY header, or hangs"),
            format!(
                "try {}; behind a balancer see whether PROXY protocol is on at one end only",
                target.other_scheme()
            ),
        ),
        TlsFault::Other(what) => Finding::new(
            format!("TLS failed: {what}"),
            "look at the server's log for the same moment",
        ),
        _ => Finding::new("TLS failed", "look at the server's log for the same moment"),
    }
}

fn certificate(fault: &CertificateFault, chain: &[Shown], plan: &Plan, now: i64) -> Finding {
    let host = &plan.target.host;
    let leaf = chain.first();
    match fault {
        CertificateFault::Expired => expired(chain, now),
        CertificateFault::NotYetValid => Finding::new(
            fault.to_string(),
            "compare `date -u` here with the time; else wait, or have it issued with an earlier begin",
        ),
        CertificateFault::WrongName(_) => wrong_name(leaf, host),
        CertificateFault::UnknownIssuer => unknown_issuer(chain, plan),
        CertificateFault::Signature if leaf.is_some_and(Shown::is_self_signed) => {
            unknown_issuer(chain.get(..1).unwrap_or_default(), plan)
        }
        CertificateFault::Signature => Finding::new(
            fault.to_string(),
            "have the certificate signed again by the present authority, or trust the one that signed it with --ca",
        ),
        CertificateFault::NoAuthorities => Finding::new(
            fault.to_string(),
            "install ca-certificates, or name the authority with --ca FILE",
        ),
        CertificateFault::Revoked => {
            Finding::new(fault.to_string(), "get a new one, with a new key")
        }
        CertificateFault::Purpose => {
            Finding::new(fault.to_string(), "get one for TLS server authentication")
        }
        CertificateFault::AuthorityAsServer => Finding::new(
            fault.to_string(),
            "have that authority sign a certificate for the server, and give the authority to clients with --ca",
        ),
        CertificateFault::NoAuthority => Finding::new(
            fault.to_string(),
            "have an authority sign it, or make the one that signed it an authority (basicConstraints CA:TRUE)",
        ),
        CertificateFault::Other(_) => Finding::new(
            fault.to_string(),
            "look at it with `openssl s_client -showcerts`; --insecure goes on without",
        ),
    }
}

fn expired(chain: &[Shown], now: i64) -> Finding {
    let found = chain.iter().enumerate().find(|(_, one)| one.not_after < now);
    if let Some((1.., one)) = found {
        let ago = span(now.saturating_sub(one.not_after));
        return Finding::new(
            format!(
                "not the server's own certificate expired, but one of an authority that it sends along: {}, {ago} ago",
                one.subject
            ),
            "send the issuer's present one (fullchain.pem)",
        );
    }
    Finding::new(
        match found {
            Some((_, leaf)) => {
                format!("the certificate expired {} ago", span(now.saturating_sub(leaf.not_after)))
            }
            None => "the certificate expired".to_owned(),
        },
        "renew it, and make the server load the new one; if it was renewed, something in front still has the old one",
    )
}

fn unknown_issuer(chain: &[Shown], plan: &Plan) -> Finding {
    let own = if plan.ca.is_some() {
        "the authority of --ca"
    } else {
        "no authority that this machine trusts"
    };
    match chain {
        [only] if only.is_self_signed() => Finding::new(
            "the certificate is self-signed: nobody but the server itself vouches for it",
            "fine on a test machine: give it with --ca FILE; else get one from an authority",
        ),
        [only] => Finding::new(
            format!("{} signed it, which is {own}; the server sends its own certificate alone, so perhaps \
                     only the intermediate one is missing", only.issuer)
                .replace("which is the authority of --ca", "which is not the authority of --ca"),
            "make the server send the full chain (fullchain.pem), or name a private authority with --ca FILE",
        ),
        _ => Finding::new(
            format!("the chain ends at {}, which is {own}", chain.last().map_or("nobody", |last| &last.issuer))
                .replace("which is the authority of --ca", "which is not the authority of --ca"),
            "name a private authority with --ca FILE, or get a certificate from a public one",
        ),
    }
}

fn wrong_name(leaf: Option<&Shown>, host: &str) -> Finding {
    let names = leaf.map(|leaf| leaf.names.as_slice()).unwrap_or_default();
    if names.is_empty() {
        return Finding::new(
            "the certificate is for no name at all: a common name alone does not count",
            format!("get one that has {host} as a subject alternative name"),
        );
    }
    let names = names.iter().take(6).cloned().collect::<Vec<_>>().join(", ");
    Finding::new(
        format!("the certificate is for {names}, not for {host}"),
        "use one of those names in the URL, or get a certificate that has this one",
    )
}

/// What is wrong soon, or is sent along for nothing.
pub(crate) fn warning(chain: &[Shown], now: i64) -> Option<Finding> {
    // It was verified, so nobody needs those.
    if let Some(one) = chain.iter().find(|one| one.not_after < now) {
        return Some(Finding::new(
            format!(
                "the chain carries an expired certificate ({}, {} ago) that is not needed: older clients may fail by it",
                one.subject,
                span(now.saturating_sub(one.not_after))
            ),
            "take it out of the file that the server sends (fullchain.pem), or put the issuer's present one there",
        ));
    }
    let (at, soonest) = chain.iter().enumerate().min_by_key(|(_, one)| one.not_after)?;
    let days = (soonest.not_after - now) / 86_400;
    (days < 14).then(|| {
        let whose = match at {
            0 => "the certificate".to_owned(),
            _ => format!("the certificate of an authority sent along ({})", soonest.subject),
        };
        Finding::new(
            format!("{whose} has {days} days left: its renewal seems to be late"),
            "look why it was not renewed, before it expires",
        )
    })
}

/// What `--insecure` passed over.
pub(crate) fn not_verified(
    fault: &CertificateFault,
    chain: &[Shown],
    plan: &Plan,
    now: i64,
) -> Finding {
    let Finding { cause, cure } = certificate(fault, chain, plan, now);
    Finding::new(format!("NOT VERIFIED, only gone on with because of --insecure: {cause}"), cure)
}

#[cfg(test)]
mod tests {
    use super::super::super::plan::tests::plan;
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn shown(subject: &str, issuer: &str) -> Shown {
        Shown {
            subject: subject.to_owned(),
            issuer: issuer.to_owned(),
            names: vec!["other.example".to_owned()],
            not_before: NOW - 86_400,
            not_after: NOW - 3 * 86_400,
        }
    }

    #[test]
    fn each_fault_of_a_certificate_has_its_own_cause() {
        use CertificateFault::{
            AuthorityAsServer, Expired, NoAuthorities, NoAuthority, UnknownIssuer, WrongName,
        };
        let lone = [shown("CN=a", "CN=ca")];
        let own = [shown("CN=a", "CN=a")];
        let two = [shown("CN=a", "CN=b"), shown("CN=b", "CN=root")];
        let rows: [(CertificateFault, &[Shown], &str); 8] = [
            (NoAuthority, &two, "signed by a certificate that is no authority"),
            (Expired, &lone, "the certificate expired 3 days ago"),
            (WrongName(Vec::new()), &lone, "is for other.example, not for chat.example"),
            (WrongName(Vec::new()), &[], "no name at all"),
            (UnknownIssuer, &lone, "perhaps only the intermediate one is missing"),
            (UnknownIssuer, &own, "self-signed"),
            (
                UnknownIssuer,
                &two,
                "the chain ends at CN=root, which is no authority that this machine",
            ),
            (NoAuthorities, &lone, "no list of trusted authorities"),
        ];
        let mut plan = plan("wss://chat.example/");
        for (kind, chain, cause) in rows {
            let finding = fault(&TlsFault::Certificate(kind), chain, &plan, NOW);
            assert!(finding.cause.contains(cause), "{finding:?}");
        }
        let finding = fault(&TlsFault::Certificate(WrongName(Vec::new())), &[], &plan, NOW);
        assert_eq!(finding.cure, "get one that has chat.example as a subject alternative name");
        let finding = not_verified(&AuthorityAsServer, &own, &plan, NOW);
        assert!(finding.cause.starts_with("NOT VERIFIED"));
        plan.ca = Some("ca.pem".into());
        let finding = fault(&TlsFault::Certificate(UnknownIssuer), &two, &plan, NOW);
        assert!(
            finding.cause.contains("CN=root, which is not the authority of --ca"),
            "{finding:?}"
        );
    }

    #[test]
    fn a_plain_server_is_named_with_the_url_to_use() {
        let finding = fault(&TlsFault::PlainHttp, &[], &plan("wss://a:8080/ws?token=x"), NOW);
        assert!(finding.cure.contains("connect to ws://a:8080/ws?token=…"), "{finding:?}");
    }

    #[test]
    fn a_certificate_that_ends_soon_is_a_warning() {
        let mut leaf = shown("a", "b");
        leaf.not_after = NOW + 14 * 86_400;
        assert_eq!(warning(std::slice::from_ref(&leaf), NOW), None);
        leaf.not_after -= 1;
        let cause = |chain: &[Shown]| warning(chain, NOW).unwrap().cause;
        assert!(cause(std::slice::from_ref(&leaf)).contains("the certificate has 13 days left"));
        leaf.not_after += 86_400;
        let mut between = Shown { not_after: NOW + 3600, ..shown("CN=b", "CN=c") };
        let found = cause(&[leaf.clone(), between.clone()]);
        assert!(found.contains("sent along (CN=b) has 0 days left"), "{found}");
        between.not_after = NOW - 2 * 86_400;
        let found = cause(&[leaf, between]);
        assert!(found.contains("an expired certificate (CN=b, 2 days ago) that is not needed"));
    }

    #[test]
    fn an_expired_authority_is_told_from_an_expired_server() {
        let leaf = Shown { not_after: NOW + 86_400, ..shown("CN=a", "CN=b") };
        let chain = [leaf, shown("CN=b", "CN=root")];
        let of = TlsFault::Certificate(CertificateFault::Expired);
        let finding = fault(&of, &chain, &plan("wss://a/"), NOW);
        assert!(finding.cause.ends_with("sends along: CN=b, 3 days ago"), "{finding:?}");
        assert_eq!(finding.cure, "send the issuer's present one (fullchain.pem)");
    }
}
