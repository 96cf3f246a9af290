//! Tokens that were not believed, and origins that may not. Pure.

use super::super::report::Finding;
use super::super::token::{Fault, span};
use super::Case;
use crate::outcome::label::Label;

/// Somebody who was refused for who they are; `label` is framegate's word for it.
pub(crate) fn refused(case: Case<'_>, label: Option<Label>) -> Finding {
    match label {
        Some(Label::OriginDenied) => return origin_denied(case),
        Some(Label::Forbidden) => return forbidden(),
        _ => {}
    }
    let Some(token) = case.token else { return missing(case) };
    if label == Some(Label::TokenMissing) {
        return elsewhere();
    }
    if let Some(finding) = label.and_then(|label| by_label(case, label)) {
        return finding;
    }
    if let Some(fault) = token.faults.first() {
        return fault.finding();
    }
    if let Some(finding) = by_clocks(case) {
        return finding;
    }
    Finding::new(
        format!(
            "the token was not believed, though nothing is wrong with it to be seen from here: signed by \
             another issuer or key than the server trusts, meant for another audience (it is for {}), or \
             not found where the server looks",
            token.audience
        ),
        "compare issuer and audience above with the server's settings, and try another --token-in; \
         its log says which check failed",
    )
}

/// A 401 that asks for user and password, as its WWW-Authenticate says.
pub(crate) fn basic(case: Case<'_>) -> Finding {
    let is_basic = |value: &http::HeaderValue| {
        let scheme = value.as_bytes().split(|byte| *byte == b' ').next();
        scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"basic"))
    };
    let sent = case.plan.headers.iter().filter(|(name, _)| *name == http::header::AUTHORIZATION);
    if sent.map(|(_, value)| value).any(is_basic) {
        return Finding::new(
            "the server does not know this user, or the password is another",
            "correct what --header 'Authorization: Basic …' holds: the base64 of user:password, without a line break",
        );
    }
    Finding::new(
        "the server wants user and password (WWW-Authenticate: Basic), which a page cannot give to a WebSocket",
        "give user and password: --header 'Authorization: Basic …' with the base64 of user:password; for pages let \
         this path be checked by a cookie or a token",
    )
}

/// The page's origin is not on the list.
pub(crate) fn origin_denied(case: Case<'_>) -> Finding {
    let origin = case.plan.origin.as_deref().unwrap_or("none");
    Finding::new(
        format!("pages of the origin {origin} may not connect here"),
        format!(
            "add {origin} to the route's `origins`, with scheme and port exactly as in the browser's address bar, \
                 or open the page from one that is listed"
        ),
    )
}

fn forbidden() -> Finding {
    Finding::new(
        "the token is good, but a rule of the route (`authorize`) does not let its user in here",
        "use a user who may, or look at which claim the rule wants: the body or the gateway's log names it",
    )
}

fn missing(case: Case<'_>) -> Finding {
    let cookie = case.plan.headers.iter().any(|(name, _)| *name == http::header::COOKIE);
    if cookie {
        return Finding::new(
            "the server wants to know who connects, and the cookie that was sent did not tell it",
            "sign in anew and copy the cookie again; a cookie counts only with an Origin the server trusts (--origin)",
        );
    }
    Finding::new(
        "the server wants to know who connects, and no token was sent",
        "give one: --token-file FILE, and if it does not go into the Authorization header, --token-in",
    )
}

fn elsewhere() -> Finding {
    Finding::new(
        "a token was sent, but not where the server looks for it",
        "put it where its `sources` say: --token-in header, subprotocol, query:NAME or cookie:NAME",
    )
}

fn by_label(case: Case<'_>, label: Label) -> Option<Finding> {
    let token = case.token?;
    let of_kind = |wanted: fn(&Fault) -> bool| token.faults.iter().find(|fault| wanted(fault));
    let finding = match label {
        Label::TokenExpired | Label::TokenNotYetValid => of_times(case, label),
        Label::TokenKind => {
            let fault = of_kind(|fault| matches!(fault, Fault::Refresh(_) | Fault::Id(_)));
            fault.map_or_else(wrong_kind, Fault::finding)
        }
        Label::TokenAudience => Finding::new(
            format!("the token is meant for another audience: it is for {}", token.audience),
            "ask the identity provider for a token with this service as its audience, or add that one to `audiences`",
        ),
        Label::TokenIssuer => Finding::new(
            format!("the token comes from an issuer that is not trusted here: {}", token.issuer),
            "use a token of this environment's identity provider, or add that one to `issuers`",
        ),
        Label::TokenSignature => Finding::new(
            "the token's signature does not fit: it was signed with another key, or changed on the way",
            "use a token of this environment (not of staging or a test), or renew the server's key file",
        ),
        Label::TokenKeyUnknown => Finding::new(
            "the server has no key for this token's key id and algorithm",
            "give the server the issuer's present keys, or use a token of this environment",
        ),
        Label::TokenMalformed => match of_kind(is_of_form) {
            Some(fault) => fault.finding(),
            None => Finding::new(
                "the server could not read the token, or found two",
                "send one token in one place, whole",
            ),
        },
        _ => return None,
    };
    Some(finding)
}

/// What framegate calls malformed.
fn is_of_form(fault: &Fault) -> bool {
    match fault {
        Fault::Malformed(_)
        | Fault::Unsigned
        | Fault::Encrypted
        | Fault::NoNumber(_)
        | Fault::NoExpiry => true,
        Fault::Milliseconds(_)
        | Fault::Expired(_)
        | Fault::NotYetValid(_)
        | Fault::Refresh(_)
        | Fault::Id(_) => false,
    }
}

fn of_times(case: Case<'_>, label: Label) -> Finding {
    let is_expired = label == Label::TokenExpired;
    let is_it = |fault: &&Fault| match fault {
        Fault::Expired(_) => is_expired,
        Fault::NotYetValid(_) => !is_expired,
        Fault::Milliseconds(claim) => !is_expired && *claim != "exp",
        _ => false,
    };
    if let Some(fault) = case.token.and_then(|token| token.faults.iter().find(is_it)) {
        return fault.finding();
    }
    let by_its_clock = if is_expired {
        Finding::new(
            "the server holds the token for expired, by its own clock",
            "get a new token, and compare the clocks of both machines",
        )
    } else {
        Finding::new(
            "by the server's clock the token is not valid yet",
            "set the clock of the server, or of the machine that issues tokens (NTP)",
        )
    };
    by_clocks(case).unwrap_or(by_its_clock)
}

fn wrong_kind() -> Finding {
    Finding::new(
        "the token is of another kind than is accepted here: its type, or a claim that is required, does not fit",
        "use the access token for this service; `required_claims` and `token_types` say what it must have",
    )
}

/// What only the server's clock finds wrong.
fn by_clocks(case: Case<'_>) -> Option<Finding> {
    let ahead = case.ahead?;
    let fault = case.token?.fault_by_clock(case.now, ahead)?;
    let how = if ahead < 0 { "behind" } else { "ahead of" };
    let of_token = match fault {
        Fault::Expired(_) => "has expired",
        _ => "is not valid yet",
    };
    Some(Finding::new(
        format!(
            "the server's clock is {} {how} this machine's: by it the token {of_token}",
            span(ahead.abs())
        ),
        "set the clock that is wrong (NTP); compare `date -u` on both machines",
    ))
}

/// A token that was let through although something is wrong with it.
pub(crate) fn warning(case: Case<'_>) -> Option<Finding> {
    if let Some(fault) = case.token.and_then(|token| token.faults.first()) {
        let Finding { cause, .. } = fault.finding();
        return Some(Finding::new(
            format!("{cause}; yet the server let the connection in"),
            "see whether this place checks tokens at all, or only with the first message",
        ));
    }
    let ahead = case.ahead.filter(|ahead| ahead.abs() >= TOLERABLE)?;
    let how = if ahead < 0 { "behind" } else { "ahead of" };
    Some(Finding::new(
        format!("the server's clock is {} {how} this machine's", span(ahead.abs())),
        "set the clock that is wrong (NTP), before tokens fail by it",
    ))
}

/// Seconds of difference that leeways usually cover.
const TOLERABLE: i64 = 30;

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::{Value, json};

    use super::super::super::plan::tests::plan;
    use super::super::super::token::{Reading, read};
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn token(claims: &Value) -> Reading {
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#);
        read(&format!("{header}.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string())), NOW)
    }

    #[test]
    fn the_worst_that_is_known_is_said() {
        let good = json!({ "exp": NOW + 300, "aud": "mail", "iss": "https://other" });
        let old = json!({ "exp": NOW - 7200 });
        let refresh = json!({ "exp": NOW + 300, "token_use": "refresh" });
        let rows: &[Row<'_>] = &[
            (None, None, None, "no token was sent"),
            (None, Some(Label::TokenMissing), None, "no token was sent"),
            (Some(&good), Some(Label::TokenMissing), None, "not where the server looks"),
            (Some(&old), None, None, "expired 2 hours ago"),
            (Some(&old), Some(Label::TokenExpired), None, "expired 2 hours ago"),
            (Some(&old), Some(Label::TokenSignature), None, "signed with another key"),
            (
                Some(&good),
                Some(Label::TokenExpired),
                Some(900),
                "15 minutes ahead of this machine's: by it the token has",
            ),
            (Some(&good), Some(Label::TokenExpired), Some(0), "by its own clock"),
            (Some(&good), Some(Label::TokenNotYetValid), None, "not valid yet"),
            (Some(&refresh), None, None, "refresh token (token_use is refresh)"),
            (Some(&refresh), Some(Label::TokenKind), None, "refresh token"),
            (Some(&good), Some(Label::TokenKind), None, "of another kind"),
            (Some(&good), Some(Label::TokenAudience), None, "it is for mail"),
            (Some(&good), Some(Label::TokenIssuer), None, "https://other"),
            (Some(&good), Some(Label::TokenKeyUnknown), None, "no key for"),
            (Some(&good), Some(Label::Forbidden), None, "does not let its user in"),
            (Some(&good), None, None, "nothing is wrong with it to be seen"),
            (Some(&good), None, Some(900), "the server's clock is 15 minutes ahead"),
        ];
        assert_told(rows);
    }

    /// Claims of the token that was shown, what framegate said, seconds the server's clock is ahead, and
    /// a part of the cause.
    type Row<'a> = (Option<&'a Value>, Option<Label>, Option<i64>, &'a str);

    fn assert_told(rows: &[Row<'_>]) {
        let plan = plan("ws://a/");
        for &(claims, label, ahead, cause) in rows {
            let token = claims.map(token);
            let token = token.as_ref();
            let finding =
                refused(Case { plan: &plan, token, now: NOW, ahead, framegate: true }, label);
            assert!(finding.cause.contains(cause), "{claims:?} {label:?}: {finding:?}");
        }
    }

    #[test]
    fn how_a_token_is_written_counts_as_its_form() {
        let good = json!({ "exp": NOW + 300 });
        let text = json!({ "exp": (NOW + 300).to_string() });
        let late = json!({ "exp": NOW + 300, "iat": NOW * 1000 });
        let endless = json!({ "sub": "u" });
        let rows: &[Row<'_>] = &[
            (Some(&text), Some(Label::TokenMalformed), None, "`exp` of the token is no number"),
            (Some(&text), None, None, "`exp` of the token is no number"),
            (Some(&late), Some(Label::TokenNotYetValid), None, "`iat` of the token is in milli"),
            (Some(&endless), Some(Label::TokenMalformed), None, "the token has no `exp`"),
            (Some(&good), Some(Label::TokenMalformed), None, "could not read the token"),
        ];
        assert_told(rows);
    }

    #[test]
    fn a_bad_token_that_was_let_in_is_a_warning_and_so_is_a_wrong_clock() {
        let plan = plan("ws://a/");
        let (good, old) =
            (token(&json!({ "exp": NOW + 300 })), token(&json!({ "exp": NOW - 7200 })));
        let of =
            |token, ahead| warning(Case { plan: &plan, token, now: NOW, ahead, framegate: true });
        assert!(
            of(Some(&old), None).unwrap().cause.contains("yet the server let the connection in")
        );
        assert!(of(Some(&good), Some(-3600)).unwrap().cause.contains("60 minutes behind"));
        assert_eq!(of(Some(&good), Some(29)), None);
        assert_eq!(of(None, None), None);
    }
}
