//! Close codes, as the one who is closed should read them. Pure.
//!
//! Which code is sent is decided in `outcome::settle` and `outcome::rejection`; here they are explained,
//! those of others too.

use super::super::report::{Finding, StepName};
use super::{Case, auth, labels};
use crate::protocol::ws::close::CloseStatus;

/// Somebody closed the connection by `status` at `shown_at`, unasked: the step it belongs to, cause
/// and cure.
pub(crate) fn closed(
    status: CloseStatus,
    reason: &str,
    shown_at: StepName,
    case: Case<'_>,
) -> (StepName, Finding) {
    if let Some(label) = labels::of_text(reason).filter(|_| case.framegate) {
        let code = if let CloseStatus::Code(code) = status { code } else { 0 };
        let is_auth = labels::is_of_backend_auth(label, code);
        let step = if is_auth { StepName::Auth } else { labels::step(label, shown_at) };
        return (step, labels::finding(label, case));
    }
    let CloseStatus::Code(code) = status else {
        return (shown_at, without_code());
    };
    match code {
        4401 | 3000 | 4001 => (StepName::Auth, auth::refused(case, None)),
        4403 | 3003 | 4003 => (StepName::Auth, forbidden(case)),
        1008 => (StepName::Auth, policy(case)),
        _ => (shown_at, by_code(code, reason)),
    }
}

/// Whether this answers our Close as a server does with which all is well.
pub(crate) fn is_normal(status: CloseStatus) -> bool {
    match status {
        CloseStatus::Code(code) => matches!(code, NORMAL | 1001),
        CloseStatus::Empty | CloseStatus::None => true,
    }
}

/// A normal end.
pub(crate) const NORMAL: u16 = 1000;

/// What a code means, in a few words.
pub(crate) fn meaning(code: u16) -> &'static str {
    match code {
        1000 => "normal end",
        1001 => "going away",
        1002 => "protocol error",
        1003 => "unsupported kind of data",
        1007 => "text that is not UTF-8",
        1008 => "against the server's policy",
        1009 => "message too big",
        1010 => "an extension is missing",
        1011 => "error in the server",
        1012 => "the server restarts",
        1013 => "try again later",
        1014 => "bad gateway: the server behind failed",
        3000 | 4401 => "not authenticated",
        3003 | 4403 => "forbidden",
        3008 | 4408 => "timeout",
        4404 => "nothing at this path",
        4409 => "replaced by a newer connection",
        4429 => "too many connections or messages",
        3000..=3999 => "a code that a library registered",
        4000..=4999 => "a code of this application",
        _ => "a code that means nothing",
    }
}

fn without_code() -> Finding {
    Finding::new(
        "the server ended the connection by an empty Close, which tells no reason (a page sees 1005)",
        "its log may have one; make it send a code and a reason",
    )
}

fn forbidden(case: Case<'_>) -> Finding {
    if let Some(fault) = case.token.and_then(|token| token.faults.first()) {
        return fault.finding();
    }
    Finding::new(
        "the server knows who connects and does not let this user, or this page's origin, in",
        "use a user who may, and try with and without --origin",
    )
}

fn policy(case: Case<'_>) -> Finding {
    if let Some(fault) = case.token.and_then(|token| token.faults.first()) {
        return fault.finding();
    }
    Finding::new(
        "the server says that its policy forbids this connection: with most servers that is the token, \
         the origin or a limit",
        "try with a fresh token and with --origin, and look at the server's log",
    )
}

fn by_code(code: u16, reason: &str) -> Finding {
    let (cause, cure) = match code {
        1000 => (
            "the server ended the connection itself, as if all were said: some do so to whoever is not signed in \
             or joins a room that is not there",
            "look at its log; if it is meant to stay open, it must not close with 1000",
        ),
        1001 | 1012 => (
            "the server is being shut down or restarted",
            "connect again in a few seconds; if it stays so, see whether it restarts again and again",
        ),
        1002 => (
            "the server believes that frames from here break the protocol: something between changes them",
            "look at what stands between; ask the server directly with --compare",
        ),
        1003 | 1007 => (
            "the server does not take this kind of message",
            "look at what --send sends, and at whether the server wants text or binary",
        ),
        1009 => {
            ("a message was larger than the server takes", "send less at once, or raise its limit")
        }
        1010 => (
            "the server misses an extension, which it must not demand: only clients may",
            "make compression optional on the server",
        ),
        1011 => (
            "the server failed on this connection: an exception, or the backend behind a gateway went away",
            "its log has the error for this moment",
        ),
        1013 => (
            "the server has no room now, or what it depends on does not answer",
            "wait and try again; look at its load and at what it waits for",
        ),
        1014 => (
            "a gateway answered, but the backend behind it cannot be reached or gave no proper answer",
            "start the backend, or correct its address; ask it directly with --compare",
        ),
        _ => return by_private_code(code, reason),
    };
    Finding::new(cause, cure)
}

fn by_private_code(code: u16, reason: &str) -> Finding {
    let (cause, cure) = match code {
        4404 => ("nothing is served at this path", "correct the path in the URL"),
        4408 | 3008 => (
            "the server waited too long for something: a first message that signs in, a Pong, or any message",
            "send what it expects first (--send), or raise its timeout",
        ),
        4409 => (
            "a newer connection of the same user took the place of this one",
            "see whether other tabs or devices of this user connect, or raise the limit per user",
        ),
        4429 => (
            "too many connections or messages from this user or address",
            "close other connections, wait, or raise the limit",
        ),
        4400 => (
            "the server did not understand the request or the first message",
            "look at what it expects first (--send)",
        ),
        _ => {
            let told = if reason.is_empty() {
                "no reason".to_owned()
            } else {
                format!("the reason {reason:?}")
            };
            return Finding::new(
                format!(
                    "the server ended the connection with {code} ({}) and {told}",
                    meaning(code)
                ),
                "look that code up in the server's documentation, and this moment in its log",
            );
        }
    };
    Finding::new(cause, cure)
}

#[cfg(test)]
mod tests {
    use super::super::super::plan::tests::plan;
    use super::*;

    #[test]
    fn each_code_has_its_step_and_cause() {
        use StepName::{Auth, Messages};
        let rows: &[(CloseStatus, &str, StepName, &str)] = &[
            (CloseStatus::Code(4401), "", Auth, "no token was sent"),
            (CloseStatus::Code(4401), "token_expired", Auth, "no token was sent"),
            (CloseStatus::Code(4403), "", Auth, "does not let this user"),
            (CloseStatus::Code(4403), "origin_denied", Auth, "pages of the origin none"),
            (CloseStatus::Code(1008), "", Auth, "its policy"),
            (CloseStatus::Code(4404), "no_route", Messages, "knows no route"),
            (CloseStatus::Code(4408), "", Messages, "waited too long"),
            (CloseStatus::Code(4409), "", Messages, "a newer connection"),
            (CloseStatus::Code(4409), "replaced", Messages, "a newer connection"),
            (CloseStatus::Code(4429), "", Messages, "too many connections"),
            (CloseStatus::Code(1000), "", Messages, "as if all were said"),
            (CloseStatus::Code(1011), "", Messages, "failed on this connection"),
            (CloseStatus::Code(1012), "drained;retry=7s", Messages, "shut down"),
            (CloseStatus::Code(1013), "upstream_timeout", Messages, "hangs"),
            (CloseStatus::Code(1014), "", Messages, "a gateway answered"),
            (
                CloseStatus::Code(4123),
                "x",
                Messages,
                "with 4123 (a code of this application) and the reason \"x\"",
            ),
            (CloseStatus::Empty, "", Messages, "empty Close"),
        ];
        let plan = plan("ws://a/");
        for (status, reason, step, cause) in rows {
            let case = Case { plan: &plan, token: None, now: 0, ahead: None, framegate: true };
            let (found, finding) = closed(*status, reason, Messages, case);
            assert_eq!(found, *step, "{status} {reason}");
            assert!(finding.cause.contains(cause), "{status} {reason}: {finding:?}");
        }
    }
}
