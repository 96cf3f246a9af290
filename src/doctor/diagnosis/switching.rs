//! A 101 that no browser would take, and answers that are none. Pure.

use super::super::head::Head;
use super::super::report::{Finding, StepName};
use super::Case;
use super::status;
use crate::upstream::answer::SwitchingFault;

/// A 101 that breaks a rule: the step it belongs to, cause and cure.
pub fn broken(fault: SwitchingFault, head: &Head) -> (StepName, Finding) {
    let author = head.author();
    let chosen = head.get("sec-websocket-protocol").unwrap_or_default();
    let (step, cause, cure) = match fault {
        SwitchingFault::Upgrade | SwitchingFault::Connection => (
            StepName::Upgrade,
            format!(
                "the 101 lacks `Upgrade: websocket` or `Connection: Upgrade`, so browsers fail it: a proxy \
                     removed them, or the server writes its own handshake ({author})"
            ),
            "make the proxy pass them on; nginx: proxy_http_version 1.1 and the two proxy_set_header lines",
        ),
        SwitchingFault::AcceptMissing
        | SwitchingFault::AcceptTwice
        | SwitchingFault::AcceptWrong => (
            StepName::Upgrade,
            format!(
                "the 101 does not prove that our key was read (Sec-WebSocket-Accept): a cache or proxy answered \
                     with another connection's handshake, or the server computes it wrongly ({author})"
            ),
            "let nothing cache this path, and use a WebSocket library on the server instead of own code",
        ),
        SwitchingFault::SubprotocolUnoffered | SwitchingFault::SubprotocolTwice => (
            StepName::Upgrade,
            format!(
                "the server chose the subprotocol {chosen:?}, which was not offered, so browsers fail the connection"
            ),
            "offer what the server speaks (--subprotocol NAME, in a page the second argument of new WebSocket), or \
             make the server choose only from what is offered",
        ),
        SwitchingFault::Extension => {
            (StepName::Extensions, unoffered(&head.extensions().join(", ")), UNOFFERED_CURE)
        }
    };
    (step, Finding::new(cause, cure))
}

fn unoffered(names: &str) -> String {
    format!(
        "the server switched on an extension that was not offered ({names}), so browsers fail the connection"
    )
}

const UNOFFERED_CURE: &str =
    "make the server accept only extensions that the client offered, or switch them off there";

/// Extensions that a 101 accepts and nobody offered.
pub fn extension_unoffered(names: &str) -> Finding {
    Finding::new(unoffered(names), UNOFFERED_CURE)
}

/// permessage-deflate, accepted although this time it was not offered.
pub fn compression_forced() -> Finding {
    Finding::new(
        "the server switches compression on even for clients that do not offer it: they cannot read its frames \
         and fail with `RSV1`",
        "switch permessage-deflate off on the server, or make it accept it only where it was offered",
    )
}

/// Nothing was accepted without the offer.
pub fn compression_required(status: &str) -> Finding {
    Finding::new(
        format!(
            "the server takes only clients that offer compression: without the offer it answered {status}; \
                 a proxy that strips extensions makes it fail for everybody"
        ),
        "make compression optional on the server",
    )
}

/// The subprotocols offered, none of which was chosen.
pub fn none_chosen() -> Finding {
    Finding::new(
        "subprotocols were offered and none was chosen: Chrome and Edge fail such a connection, other clients do not",
        "make the server choose one of them, or offer none",
    )
}

/// What answered is no HTTP. `what` is the rule it broke.
pub fn not_http(first_bytes: &[u8], what: &str, case: Case<'_>) -> Finding {
    // A TLS record: an alert or a ServerHello, of any version.
    if !case.plan.target.secure && matches!(first_bytes, [0x15 | 0x16, 0x03, ..]) {
        return status::tls_wanted();
    }
    if first_bytes.starts_with(b"HTTP/1.") {
        return Finding::new(
            format!("the answer is broken HTTP: {what}"),
            "look at who wrote it: a proxy or a server that builds its headers by hand",
        );
    }
    Finding::new(
        format!("what answers on port {} is no web server ({what})", case.plan.target.port),
        "correct host and port in the URL",
    )
}

/// No answer to the upgrade request.
pub fn silent() -> Finding {
    Finding::new(
        "the connection stands, but nobody answers the upgrade request: the backend hangs before its handshake \
         (a database, Redis, a full worker pool), or a proxy in front waits for it",
        "look at what the server does when somebody connects, and ask the backend directly with --compare",
    )
}

/// An answer that began and did not come to its end.
pub fn too_slow() -> Finding {
    Finding::new(
        "an answer began, but its head does not come to an end: the server or a proxy stalls in the middle of \
         writing it, or sends it drop by drop",
        "look at what the server does between its headers, or give it longer with --timeout",
    )
}

/// The connection ended instead of an answer.
pub fn ended(case: Case<'_>) -> Finding {
    let scheme = if case.plan.target.secure {
        "a balancer without a server behind it, or a server that speaks another protocol"
    } else {
        "a TLS server behind a ws:// URL, a balancer without a server behind it, or a server that wants a PROXY header"
    };
    Finding::new(
        format!("the other side ended the connection without an answer: {scheme}"),
        format!(
            "try {}, and look at the server's log for this moment",
            case.plan.target.other_scheme()
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::super::super::head::tests::head;
    use super::super::super::plan::tests::plan;
    use super::*;

    #[test]
    fn each_broken_rule_has_its_step_and_cause() {
        let (ws, wss) = (plan("ws://a:1/ws"), plan("wss://a:1/ws"));
        let case = |plan| Case { plan, token: None, now: 0, ahead: None, framegate: true };
        let head = head(
            "HTTP/1.1 101 S\r\nSec-WebSocket-Protocol: other\r\nSec-WebSocket-Extensions: x-y\r\n\r\n",
        );
        let rows = [
            (SwitchingFault::Upgrade, StepName::Upgrade, "lacks `Upgrade"),
            (SwitchingFault::AcceptWrong, StepName::Upgrade, "our key"),
            (
                SwitchingFault::SubprotocolUnoffered,
                StepName::Upgrade,
                "\"other\", which was not offered",
            ),
            (SwitchingFault::Extension, StepName::Extensions, "not offered (x-y)"),
        ];
        for (fault, step, cause) in rows {
            let (found, finding) = broken(fault, &head);
            assert_eq!(found, step);
            assert!(finding.cause.contains(cause), "{finding:?}");
        }
        let rows: [(&[u8], _, &str); 5] = [
            (b"\x15\x03\x01", &ws, "wss:// is needed"),
            (b"\x15\x03\x01", &wss, "no web server"),
            (b"SSH-2.0", &ws, "no web server (x)"),
            (b"HTTP/1.1 x", &ws, "broken HTTP: x"),
            (b"", &ws, "no web server"),
        ];
        for (bytes, plan, cause) in rows {
            let finding = not_http(bytes, "x", case(plan));
            assert!(finding.cause.contains(cause), "{finding:?}");
        }
        assert!(ended(case(&ws)).cure.contains("try wss://a:1/ws"));
        assert!(ended(case(&wss)).cure.contains("try ws://a:1/ws"));
    }
}
