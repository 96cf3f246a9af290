//! One sentence on how a connection ended: the words of its label, and what is known of it. Pure.

use super::record::{Outcome, SessionRecord};
use crate::outcome::label::Label;
use crate::outcome::words;
use crate::protocol::ws::close::CloseStatus;

/// Who ended a connection, why, and what to do if it was a fault.
pub(crate) fn sentence(record: &SessionRecord) -> String {
    let words = match record.outcome {
        Outcome::Ended(Label::UpstreamClosed) if is_illegal(record) => words::ILLEGALLY_BY_UPSTREAM,
        Outcome::Ended(Label::ClientClosed) if is_illegal(record) => words::ILLEGALLY_BY_CLIENT,
        Outcome::Refused(refused) if refused.label == Label::UpstreamUnreachable => {
            let detail = record.detail.as_deref().unwrap_or_default();
            words::unreachable(detail.split_once("reached: ").map_or("", |(_, why)| why))
        }
        Outcome::Refused(refused) => words::refusal(refused.label),
        Outcome::Ended(label) => words::ending(label),
        Outcome::Abandoned | Outcome::NoRequest(_) => words::ABANDONED,
    };
    let mut sentence = words.explanation.trim_end_matches('.').to_owned();
    if let Outcome::Ended(label) = record.outcome {
        let said = match label {
            // What was exchanged then is the gateway's own answer.
            _ if is_illegal(record) => CloseStatus::None,
            Label::ClientClosed => record.client_close,
            Label::UpstreamClosed => record.upstream_close,
            _ => CloseStatus::None,
        };
        match said {
            CloseStatus::Code(code) => sentence.push_str(&format!(" with code {code}")),
            CloseStatus::Empty => sentence.push_str(" without a code"),
            CloseStatus::None => {}
        }
    }
    if let Some(detail) = &record.detail {
        sentence.push_str(&format!(" ({detail})"));
    }
    if record.cut_frame {
        sentence.push_str(", in the middle of a frame");
    }
    format!("{sentence}. {}", words.remedy)
}

/// Whether a side closed with a code that must not be sent: only then has such an end a detail.
fn is_illegal(record: &SessionRecord) -> bool {
    record.detail.is_some()
        && matches!(record.outcome, Outcome::Ended(Label::ClientClosed | Label::UpstreamClosed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::record::Refused;
    use crate::telemetry::testing::record;

    #[test]
    fn sentences_say_what_is_known() {
        let refused = |label| Outcome::Refused(Refused { label, status: 401 });
        let rows = [
            (
                record(),
                "The client closed the session with code 1000. Nothing is wrong, unless its close code says so.",
            ),
            (
                SessionRecord { client_close: CloseStatus::Empty, ..record() },
                "The client closed the session without a code. Nothing is wrong, unless its close code says so.",
            ),
            (
                SessionRecord {
                    outcome: Outcome::Ended(Label::ClientViolation),
                    detail: Some("client: a reserved bit is set".into()),
                    cut_frame: true,
                    ..record()
                },
                "The client broke the WebSocket protocol or a limit on messages (client: a reserved bit is set), \
                 in the middle of a frame. Mend the client's library or raise the limit it met; the detail says which rule it was.",
            ),
            (
                SessionRecord { outcome: refused(Label::TokenKind), ..record() },
                "The client's token is of another kind, such as a refresh token. Have the client send its access token.",
            ),
            (
                SessionRecord { outcome: Outcome::Abandoned, ..record() },
                "The client left before its handshake was answered. If that took long, look at the steps: the slowest one made it leave.",
            ),
        ];
        for (record, expected) in rows {
            assert_eq!(sentence(&record), expected);
        }
    }

    #[test]
    fn what_to_do_for_an_unreachable_upstream_depends_on_why() {
        use crate::net::connect::ConnectError;
        use crate::net::tls_fault::{CertificateFault, TlsFault};
        let refused = |kind: std::io::ErrorKind| ConnectError::Socket(kind.into()).detail();
        let rows = [
            (refused(std::io::ErrorKind::ConnectionRefused), "runs and listens"),
            (refused(std::io::ErrorKind::TimedOut), "Nothing answers at its address"),
            (ConnectError::Dns(std::io::Error::other("x")).detail(), "name cannot be resolved"),
            (ConnectError::Certificate(CertificateFault::UnknownIssuer).detail(), "Set `ca` of"),
            (ConnectError::Tls(TlsFault::NotTls).detail(), "whether the endpoint speaks TLS"),
            ("it closed without an answer".to_owned(), "runs and listens"),
        ];
        for (why, cure) in rows {
            let rejection = crate::outcome::rejection::Rejection::UpstreamUnreachable(why);
            let said = sentence(&SessionRecord {
                outcome: Outcome::Refused(Refused { label: rejection.label(), status: 502 }),
                detail: Some(rejection.to_string()),
                ..record()
            });
            assert!(said.contains(cure) && said.contains(&rejection.to_string()), "{said}");
        }
    }

    #[test]
    fn whose_close_code_it_was_is_said_of_legal_ones_only() {
        let rows = [
            (
                SessionRecord {
                    outcome: Outcome::Ended(Label::UpstreamClosed),
                    upstream_close: CloseStatus::Code(1002),
                    detail: Some("upstream: close code 1005 must not be sent".into()),
                    ..record()
                },
                "The upstream closed the session with a code that must not be sent \
                 (upstream: close code 1005 must not be sent). Have the backend close with 1000 to 1003, 1007 to 1014 \
                 or 3000 to 4999; 1005 and 1006 are what a page sees, not what is sent.",
            ),
            (
                SessionRecord {
                    client_close: CloseStatus::Code(1002),
                    detail: Some("client: close code 1005 must not be sent".into()),
                    ..record()
                },
                "The client closed the session with a code that must not be sent \
                 (client: close code 1005 must not be sent). Mend the client's library: browsers let a page close \
                 with 1000 or 3000 to 4999 only.",
            ),
            (
                SessionRecord {
                    outcome: Outcome::Ended(Label::UpstreamClosed),
                    upstream_close: CloseStatus::Code(4000),
                    ..record()
                },
                "The upstream closed the session with code 4000. Its close code is the backend's own: if it is no \
                 ordinary end, look at the backend's log.",
            ),
        ];
        for (record, expected) in rows {
            assert_eq!(sentence(&record), expected);
        }
    }
}
