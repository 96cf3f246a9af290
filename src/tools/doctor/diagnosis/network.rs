//! Names and connections that lead nowhere. Pure.

use std::io::{Error, ErrorKind};

use super::super::plan::Address;
use super::super::report::Finding;

/// The name has no address.
pub(crate) fn dns(error: &Error, host: &str) -> Finding {
    // getaddrinfo's verdicts reach us only as text.
    let text = error.to_string().to_ascii_lowercase();
    if text.contains("temporary failure") || text.contains("try again") {
        return Finding::new(
            "no name server answered: this machine has no network, or its resolver is down",
            "look at /etc/resolv.conf and the network; `getent hosts example.com` must answer first",
        );
    }
    let dot =
        if host.contains('.') { "" } else { "; it has no dot, so only this network could know it" };
    Finding::new(
        format!("no such name: {host} is misspelt, or its DNS record does not exist (yet){dot}"),
        "correct the host in the URL, or create its A or AAAA record and wait for the old answer to expire",
    )
}

/// No name server answered in time.
pub(crate) fn dns_slow() -> Finding {
    Finding::new(
        "the name servers of this machine do not answer",
        "look at /etc/resolv.conf and the firewall's port 53; `getent hosts example.com` must answer first",
    )
}

/// No connection to any address.
pub(crate) fn tcp(error: &Error, address: &Address) -> Finding {
    let Address { port, .. } = address;
    match error.kind() {
        ErrorKind::ConnectionRefused => Finding::new(
            format!(
                "the machine is there, but nothing listens on port {port}: the server is not running, \
                     listens on another port, or only on another of its addresses"
            ),
            format!(
                "start the server, or correct the port; `ss -ltn` on that machine lists what listens{}",
                usual_port(*port)
            ),
        ),
        ErrorKind::ConnectionReset => Finding::new(
            "something cut the connection as it was made: a firewall or a balancer without a server behind it",
            "look at what stands between here and there, and at the balancer's list of servers",
        ),
        ErrorKind::NetworkUnreachable
        | ErrorKind::HostUnreachable
        | ErrorKind::AddrNotAvailable => Finding::new(
            "there is no way from here to that address: no route, another network, or IPv6 without IPv6",
            "connect the VPN or network it needs, or use a name that has an address of the other kind",
        ),
        ErrorKind::PermissionDenied => Finding::new(
            "a firewall on this machine forbids the connection",
            "allow it in the local firewall, or try from elsewhere",
        ),
        _ => Finding::new(
            format!("the system says: {error}"),
            "try from another machine to see which side it is",
        ),
    }
}

/// No answer at all.
pub(crate) fn tcp_silent(address: &Address) -> Finding {
    let Address { port, .. } = address;
    Finding::new(
        format!(
            "nobody answers on port {port}: a firewall drops the packets (a filtered port), the machine is \
                 off, or it is too busy to accept"
        ),
        format!(
            "open port {port} in the firewall or security group for this machine{}",
            usual_port(*port)
        ),
    )
}

fn usual_port(port: u16) -> &'static str {
    match port {
        80 | 443 => "",
        _ => "; without a number in the URL it would be 443 (wss) or 80 (ws)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_not_to_arrive_has_its_own_cause() {
        let address = Address::parse("ws://a:8080/").unwrap();
        let rows = [
            (ErrorKind::ConnectionRefused, "nothing listens on port 8080"),
            (ErrorKind::ConnectionReset, "cut the connection"),
            (ErrorKind::NetworkUnreachable, "no way from here"),
            (ErrorKind::HostUnreachable, "no way from here"),
            (ErrorKind::PermissionDenied, "on this machine"),
            (ErrorKind::Other, "the system says"),
        ];
        for (kind, cause) in rows {
            let finding = tcp(&Error::from(kind), &address);
            assert!(finding.cause.contains(cause), "{finding:?}");
        }
        assert!(tcp_silent(&address).cause.contains("filtered"));
    }

    #[test]
    fn an_unknown_name_is_not_a_silent_resolver() {
        let unknown = "failed to lookup address information: Name or service not known";
        let silent = "failed to lookup address information: Temporary failure in name resolution";
        let of = |text: &str, host| dns(&Error::other(text), host).cause;
        assert!(of(unknown, "a.example").contains("no such name: a.example"));
        assert!(!of(unknown, "a.example").contains("no dot"));
        assert!(of(unknown, "chat").contains("no dot"));
        assert!(of(silent, "a.example").contains("no name server"));
    }
}
