//! What framegate's own words for refusals and endings mean to the one who was refused. Pure.

use super::super::report::{Finding, StepName};
use super::{Case, auth};
use crate::outcome::label::Label;

/// The label that an answer's body (`label: explanation`) or a Close reason (`label;hint`) begins with.
pub(crate) fn of_text(text: &str) -> Option<Label> {
    let word = text.split([':', ';', '\n', ' ']).next().unwrap_or_default();
    Label::parse(word)
}

/// The step that such a refusal belongs to, when it came at `shown_at`.
pub(crate) fn step(label: Label, shown_at: StepName) -> StepName {
    match label {
        Label::OriginDenied | Label::Forbidden => StepName::Auth,
        label if is_of_token(label) => StepName::Auth,
        _ => shown_at,
    }
}

/// The backend behind framegate said no to who asks, not framegate.
pub(crate) fn is_of_backend_auth(label: Label, status_or_code: u16) -> bool {
    // A close code of the 44xx ends as the status does that it stands for.
    label == Label::UpstreamRefused && matches!(status_or_code % 4000, 401 | 403)
}

/// Cause and cure.
pub(crate) fn finding(label: Label, case: Case<'_>) -> Finding {
    if step(label, StepName::Upgrade) == StepName::Auth {
        return auth::refused(case, Some(label));
    }
    let path = case.plan.target.shown();
    let (cause, cure) = match label {
        Label::NoRoute => {
            let cause = format!(
                "framegate knows no route for {path}: host or path are not in its configuration, \
                 or a path parameter has another form than `parameters` asks"
            );
            return Finding::new(
                cause,
                "correct the path in the URL, add a [[route]] for it, or widen its `parameters`",
            );
        }
        Label::UpstreamRefused => (
            "framegate let the connection in, but the backend behind it refused the handshake with a status of its own",
            "ask the backend directly with --compare and its address: its own answer shows what it said",
        ),
        other => words(other),
    };
    Finding::new(cause, cure)
}

fn is_of_token(label: Label) -> bool {
    label >= Label::TokenMissing && label <= Label::TokenKind
}

fn words(label: Label) -> (&'static str, &'static str) {
    refusal(label).unwrap_or_else(|| ending(label))
}

fn refusal(label: Label) -> Option<(&'static str, &'static str)> {
    Some(match label {
        Label::BadRequest => (
            "framegate did not get a valid WebSocket handshake, though one was sent: a proxy between changed it",
            "make the proxy pass the handshake on: HTTP/1.1 with the headers Upgrade and Connection",
        ),
        Label::UserLimit => (
            "this user has as many connections open as allowed, and the limit refuses new ones",
            "close other tabs or clients, or raise `connections_per_user`",
        ),
        Label::AddressLimit => (
            "this client address has as many connections open as allowed",
            "close others, raise `connections_per_address`, or, behind a balancer, name it in `trusted_proxies`",
        ),
        Label::RateLimited => (
            "this client address connects too often",
            "wait for a few seconds and make clients back off; behind a balancer, name it in `trusted_proxies`",
        ),
        Label::Overloaded => (
            "the gateway has as many connections as `limits.connections` allows",
            "wait, add a gateway, or raise the limit (and the open-file limit with it)",
        ),
        Label::Draining => (
            "this gateway is being shut down and takes nobody any more",
            "connect again: a balancer should lead elsewhere by now; else see why it still leads here",
        ),
        Label::KeysUnavailable => (
            "the gateway could not load the keys to check tokens with yet",
            "see in its log whether the key set's URL answers",
        ),
        Label::UpstreamTimeout => (
            "the backend behind framegate hangs: it took too long to take the connection or to answer the handshake",
            "look at what the backend waits for when somebody connects (database, Redis), or ask it directly with --compare",
        ),
        Label::UpstreamUnreachable => (
            "the backend behind framegate cannot be reached: it is down, `endpoints` has a wrong address or name, or \
             framegate does not accept its certificate",
            "see what `framegate check` says, which tries all `endpoints` and their TLS; then start the backend, or \
             correct `endpoints` or `ca`",
        ),
        Label::UpstreamProtocol => (
            "the backend behind framegate broke the rules of the handshake",
            "ask the backend directly with --compare: its own answer shows which rule",
        ),
        _ => return None,
    })
}

fn ending(label: Label) -> (&'static str, &'static str) {
    match label {
        // An ordinary Close of the backend is passed on as it is, and without this word.
        Label::UpstreamClosed => (
            "the backend behind framegate closed with a code that must never be sent (such as 1005 or 1006), so \
             framegate told 1011 instead",
            "make the backend close with 1000 to 1003, 1007 to 1014 or 3000 to 4999; the gateway's log names the code",
        ),
        Label::UpstreamViolation => (
            "the backend behind framegate sent frames that break RFC 6455, so framegate ended the session",
            "the gateway's log names the rule; compressed frames (RSV1) that nobody agreed on are the usual one",
        ),
        Label::ClientViolation => (
            "framegate saw frames from this side that break RFC 6455: something between changed them",
            "look at what stands between here and the gateway",
        ),
        Label::UpstreamLost | Label::UpstreamStalled => (
            "the backend behind framegate went away without a Close, or stopped answering",
            "look at the backend's log for the same moment: a crash, a restart, a worker's time limit",
        ),
        Label::ClientTimeout | Label::SlowConsumer => (
            "framegate heard no Pong from this side, or it did not read",
            "look at what stands between here and the gateway",
        ),
        Label::Idle => (
            "no message for as long as `timeouts.idle` allows",
            "raise it, or send something now and then",
        ),
        Label::MessageRate => {
            ("more messages than `messages.rate` allows", "send less, or raise the rate")
        }
        Label::Replaced => (
            "a newer connection of the same user took the place of this one",
            "see whether other tabs or devices of this user connect, or raise `connections_per_user`",
        ),
        Label::Kicked => ("an operator ended this connection", "ask whoever runs the gateway"),
        Label::Drained => (
            "the gateway is being shut down or restarted",
            "connect again after the time that the reason names; clients should do so by themselves",
        ),
        Label::Internal => {
            ("a fault of the gateway itself", "its log has the error for this request id")
        }
        _ => (
            "the other side ended the connection",
            "look at the log of the gateway for this request id",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::plan::tests::plan;
    use super::*;

    #[test]
    fn labels_are_found_at_the_begin_of_bodies_and_reasons() {
        let rows = [
            ("no_route: no route for this host and path\n", Some(Label::NoRoute)),
            ("drained;retry=7s", Some(Label::Drained)),
            ("token_expired", Some(Label::TokenExpired)),
            ("Not Found", None),
            ("", None),
        ];
        for (text, expected) in rows {
            assert_eq!(of_text(text), expected, "{text}");
        }
    }

    #[test]
    fn every_label_has_a_cause_and_a_cure_of_its_own() {
        let plan = plan("ws://a/");
        let case = Case { plan: &plan, token: None, now: 0, ahead: None, framegate: true };
        for label in Label::ALL {
            let Finding { cause, cure } = finding(*label, case);
            assert!(cause.len() > 10 && cure.len() > 10, "{label}");
            assert!(!cause.ends_with('.') && !cause.contains(". "), "one sentence: {cause}");
        }
    }

    #[test]
    fn what_framegate_says_of_routes_and_of_the_backends_close() {
        let plan = plan("ws://a/rooms/x?k=secret");
        let case = Case { plan: &plan, token: None, now: 0, ahead: None, framegate: true };
        let of = |label| finding(label, case).cause;
        let route = of(Label::NoRoute);
        assert!(route.contains("ws://a/rooms/x?k=…") && route.contains("`parameters`"), "{route}");
        assert!(of(Label::UpstreamClosed).contains("a code that must never be sent"));
    }

    #[test]
    fn who_asks_is_a_matter_of_auth_and_the_rest_stays_where_it_showed() {
        for label in Label::ALL {
            let expected = match label.as_str() {
                name if name.starts_with("token_") => StepName::Auth,
                "forbidden" | "origin_denied" => StepName::Auth,
                _ => StepName::Messages,
            };
            assert_eq!(step(*label, StepName::Messages), expected, "{label}");
        }
    }
}
