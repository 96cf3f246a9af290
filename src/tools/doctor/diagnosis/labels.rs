//! What framegate's own words for refusals and endings mean to the one who was refused. Pure.

use super::super::report::{Finding, StepName};
use super::{Case, auth};
use crate::outcome::label::Label;
use crate::outcome::words::{self, Words};

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
        Label::UpstreamClosed => return of_words(words::ILLEGALLY_BY_UPSTREAM),
        other => {
            let both = Label::endings().any(|label| label == other);
            return of_words(if both { words::ending(other) } else { words::refusal(other) });
        }
    };
    Finding::new(cause, cure)
}

fn is_of_token(label: Label) -> bool {
    label >= Label::TokenMissing && label <= Label::TokenKind
}

/// As findings are written: lower case, without the full stop.
fn of_words(words: Words) -> Finding {
    Finding::new(phrase(words.cause), phrase(words.remedy))
}

fn phrase(sentence: &str) -> String {
    let sentence = sentence.trim_end_matches('.');
    let mut letters = sentence.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
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
