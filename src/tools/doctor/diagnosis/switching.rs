//! A 101 that no browser would take, and answers that are none. Pure.

use super::super::head::Head;
use super::super::report::{Finding, StepName};
use super::Case;
use super::status;
use crate::upstream::answer::SwitchingFault;

/// A 101 that breaks a rule: the step it belongs to, cause and cure.
pub(crate) fn broken(fault: SwitchingFault, head: &Head) -> (StepName, Finding) {
    let finding = match fault {
        SwitchingFault::Upgrade => changed(head, "Upgrade", "websocket"),
        SwitchingFault::Connection => changed(head, "Connection", "Upgrade"),
        SwitchingFault::AcceptMissing
        | SwitchingFault::AcceptTwice
        | SwitchingFault::AcceptWrong => unproven(fault, head),
        SwitchingFault::SubprotocolUnoffered | SwitchingFault::SubprotocolTwice => {
            subprotocol(fault, head)
        }
        SwitchingFault::Extension => {
            return (StepName::Extensions, extension_unoffered(&head.extensions().join(", ")));
        }
    };
    (StepName::Upgrade, finding)
}

/// What a 101 has of the headers that make it one, line for line.
pub(crate) fn lines(head: &Head) -> Vec<String> {
    let of = |name: &str| match head.values(name) {
        values if values.is_empty() => vec![format!("no {name}")],
        values => values.into_iter().map(|value| format!("{name}: {value}")).collect(),
    };
    ["Upgrade", "Connection", ACCEPT].into_iter().flat_map(of).collect()
}

/// `Upgrade` or `Connection` is not as it must be.
fn changed(head: &Head, name: &str, wanted: &str) -> Finding {
    let author = head.author();
    match head.values(name).as_slice() {
        [] => Finding::new(
            format!(
                "the 101 lacks `{name}: {wanted}`, so browsers fail it: a proxy removed it, or the server writes \
                     its own handshake ({author})"
            ),
            "make the proxy pass it on; nginx: proxy_http_version 1.1 and the two proxy_set_header lines",
        ),
        [_] => Finding::new(
            format!(
                "the 101 has another value for {name} than `{wanted}`, so browsers fail it: the server writes its \
                     own handshake, or a proxy changed it ({author})"
            ),
            format!("make the server answer exactly `{name}: {wanted}`; a WebSocket library does"),
        ),
        _ if name == "Upgrade" => Finding::new(
            format!(
                "the 101 has {name} twice, so browsers fail it: the server and a proxy both write it ({author})"
            ),
            "let only one of them write it: in the proxy no add_header for what the server sends already",
        ),
        _ => Finding::new(
            format!(
                "the 101 has {name} more than once, and never with `{wanted}`, so browsers fail it ({author})"
            ),
            format!("make the server answer exactly `{name}: {wanted}`; a WebSocket library does"),
        ),
    }
}

/// `Sec-WebSocket-Accept` does not show that our key was read.
fn unproven(fault: SwitchingFault, head: &Head) -> Finding {
    let author = head.author();
    let how = match fault {
        SwitchingFault::AcceptMissing => "it has no",
        SwitchingFault::AcceptTwice => "it has more than one",
        _ => "it has a wrong",
    };
    let cause = match fault {
        SwitchingFault::AcceptTwice => "the server and a proxy both write it",
        SwitchingFault::AcceptMissing => {
            "the server writes its own handshake, or a proxy took the header out"
        }
        _ => {
            "a cache or proxy answered with another connection's handshake, or the server computes it wrongly"
        }
    };
    let cure = match fault {
        SwitchingFault::AcceptTwice => "let only one of them write it",
        SwitchingFault::AcceptMissing => {
            "use a WebSocket library on the server instead of own code, and let the proxy pass its headers on"
        }
        _ => {
            "let nothing cache this path, and use a WebSocket library on the server instead of own code"
        }
    };
    Finding::new(
        format!(
            "the 101 does not prove that our key was read ({how} {ACCEPT}): {cause} ({author})"
        ),
        cure,
    )
}

fn subprotocol(fault: SwitchingFault, head: &Head) -> Finding {
    let chosen = head.get("sec-websocket-protocol").unwrap_or_default();
    if fault == SwitchingFault::SubprotocolTwice {
        return Finding::new(
            format!(
                "the server chose more than one subprotocol ({chosen}), so browsers fail the connection"
            ),
            "make the server choose one of those offered, in one Sec-WebSocket-Protocol header",
        );
    }
    Finding::new(
        format!(
            "the server chose the subprotocol {chosen:?}, which was not offered, so browsers fail the connection"
        ),
        "offer what the server speaks (--subprotocol NAME, in a page the second argument of new WebSocket), or \
         make the server choose only from what is offered",
    )
}

const ACCEPT: &str = "Sec-WebSocket-Accept";

fn unoffered(names: &str) -> String {
    format!(
        "the server switched on an extension that was not offered ({names}), so browsers fail the connection"
    )
}

const UNOFFERED_CURE: &str =
    "make the server accept only extensions that the client offered, or switch them off there";

/// Extensions that a 101 accepts and nobody offered.
pub(crate) fn extension_unoffered(names: &str) -> Finding {
    Finding::new(unoffered(names), UNOFFERED_CURE)
}

/// permessage-deflate, accepted although this time it was not offered.
pub(crate) fn compression_forced() -> Finding {
    Finding::new(
        "the server switches compression on even for clients that do not offer it: they cannot read its frames \
         and fail with `RSV1`",
        "switch permessage-deflate off on the server, or make it accept it only where it was offered",
    )
}

/// Nothing was accepted without the offer.
pub(crate) fn compression_required(status: &str) -> Finding {
    Finding::new(
        format!(
            "the server takes only clients that offer compression: without the offer it answered {status}; \
                 a proxy that strips extensions makes it fail for everybody"
        ),
        "make compression optional on the server",
    )
}

/// The subprotocols offered, none of which was chosen.
pub(crate) fn none_chosen() -> Finding {
    Finding::new(
        "subprotocols were offered and none was chosen: Chrome and Edge fail such a connection, other clients do not",
        "make the server choose one of them, or offer none",
    )
}

/// What answered is no HTTP. `what` is the rule it broke.
pub(crate) fn not_http(first_bytes: &[u8], what: &str, case: Case<'_>) -> Finding {
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
    // A SETTINGS or GOAWAY frame (RFC 9113 section 4.1), the preface, or a version of its own.
    let is_http2 = matches!(first_bytes, [0, 0, _, 4 | 7, 0, ..])
        || ["PRI ", "HTTP/2"].iter().any(|begin| first_bytes.starts_with(begin.as_bytes()));
    if is_http2 {
        return Finding::new(
            format!(
                "what answers on port {} speaks HTTP/2 only; a WebSocket handshake needs HTTP/1.1",
                case.plan.target.port
            ),
            "switch HTTP/1.1 on there beside HTTP/2, or connect to a port that speaks it",
        );
    }
    Finding::new(
        format!("what answers on port {} is no web server ({what})", case.plan.target.port),
        "correct host and port in the URL",
    )
}

/// No answer to the upgrade request.
pub(crate) fn silent() -> Finding {
    Finding::new(
        "the connection stands, but nobody answers the upgrade request: the backend hangs before its handshake \
         (a database, Redis, a full worker pool), or a proxy in front waits for it",
        "look at what the server does when somebody connects, and ask the backend directly with --compare",
    )
}

/// An answer that began and did not come to its end.
pub(crate) fn too_slow() -> Finding {
    Finding::new(
        "an answer began, but its head does not come to an end: the server or a proxy stalls in the middle of \
         writing it, or sends it drop by drop",
        "look at what the server does between its headers, or give it longer with --timeout",
    )
}

/// Nothing but an interim answer of this status.
pub(crate) fn only_interim(status: u16) -> Finding {
    Finding::new(
        format!(
            "only an interim answer came (HTTP {status}), and none behind it: a proxy or server announced an answer \
                 that its backend did not give"
        ),
        "look at what the backend does when somebody connects, and ask it directly with --compare",
    )
}

/// The connection ended in the middle of an answer.
pub(crate) fn cut() -> Finding {
    Finding::new(
        "an answer began, but the connection ended in the middle of its head: the server crashed while it answered, \
         or a proxy cut it",
        "look at the server's log for this moment, and ask the backend directly with --compare",
    )
}

/// The connection ended instead of an answer. `no_tls`: it was tried, and there is none.
pub(crate) fn ended(case: Case<'_>, no_tls: bool) -> Finding {
    let target = &case.plan.target;
    let (who, cure) = if target.secure || no_tls {
        let who = "a balancer without a server behind it, or a server that wants a PROXY header or speaks another \
                   protocol";
        let cure = "look at the server's log for this moment; behind a balancer see whether PROXY protocol is on at \
                    one end only";
        (who, cure.to_owned())
    } else {
        let who = "a TLS server behind a ws:// URL, a balancer without a server behind it, or a server that wants a \
                   PROXY header";
        (
            who,
            format!("try {}, and look at the server's log for this moment", target.other_scheme()),
        )
    };
    Finding::new(format!("the other side ended the connection without an answer: {who}"), cure)
}

#[cfg(test)]
mod tests {
    use super::super::super::head::tests::head;
    use super::super::super::plan::tests::plan;
    use super::*;

    #[test]
    fn each_broken_rule_has_its_step_and_cause() {
        let head = head(
            "HTTP/1.1 101 S\r\nSec-WebSocket-Protocol: other\r\nSec-WebSocket-Extensions: x-y\r\n\r\n",
        );
        let rows = [
            (SwitchingFault::Upgrade, StepName::Upgrade, "lacks `Upgrade: websocket`"),
            (SwitchingFault::Connection, StepName::Upgrade, "lacks `Connection: Upgrade`"),
            (SwitchingFault::AcceptMissing, StepName::Upgrade, "(it has no Sec-WebSocket-Accept)"),
            (SwitchingFault::AcceptTwice, StepName::Upgrade, "(it has more than one Sec-"),
            (SwitchingFault::AcceptWrong, StepName::Upgrade, "our key was read (it has a wrong"),
            (SwitchingFault::SubprotocolTwice, StepName::Upgrade, "more than one subprotocol"),
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
    }

    #[test]
    fn headers_that_are_twice_or_other_are_told_from_missing_ones() {
        let rows = [
            (SwitchingFault::Upgrade, "Upgrade: a\r\nUpgrade: a\r\n", "has Upgrade twice"),
            (SwitchingFault::Upgrade, "Upgrade: h2c\r\n", "another value for Upgrade than"),
            (SwitchingFault::Connection, "Connection: close\r\n", "another value for Connection"),
            (
                SwitchingFault::Connection,
                "Connection: close\r\nConnection: x\r\n",
                "Connection more than once, and never",
            ),
        ];
        for (fault, headers, cause) in rows {
            let (_, finding) = broken(fault, &head(&format!("HTTP/1.1 101 S\r\n{headers}\r\n")));
            assert!(finding.cause.contains(cause), "{finding:?}");
        }
        let twice = head("HTTP/1.1 101 S\r\nupgrade: a\r\nUPGRADE: b\r\nConnection: c\r\n\r\n");
        let expected = ["Upgrade: a", "Upgrade: b", "Connection: c", "no Sec-WebSocket-Accept"];
        assert_eq!(lines(&twice), expected);
    }

    #[test]
    fn answers_of_another_protocol_are_named() {
        let (ws, wss) = (plan("ws://a:1/ws"), plan("wss://a:1/ws"));
        let case = |plan| Case { plan, token: None, now: 0, ahead: None, framegate: true };
        let rows: [(&[u8], _, &str); 9] = [
            (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", &ws, "HTTP/2 only"),
            (b"PRI * HTTP/2.0\r\n", &wss, "HTTP/2 only"),
            (b"HTTP/2 200\r\n", &ws, "HTTP/2 only"),
            (b"\x00\x00\x12", &ws, "no web server"),
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
        assert!(ended(case(&ws), false).cure.contains("try wss://a:1/ws"));
        for (plan, no_tls) in [(&ws, true), (&wss, false)] {
            let Finding { cause, cure } = ended(case(plan), no_tls);
            assert!(!cause.contains("TLS") && !cure.contains("ws://") && !cure.contains("wss://"));
        }
    }
}
