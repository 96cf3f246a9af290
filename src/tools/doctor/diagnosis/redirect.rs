//! Answers that send somebody elsewhere, where no WebSocket client goes. Pure.

use super::super::head::Head;
use super::super::plan::Address;
use super::super::report::Finding;
use super::super::secrets::{place, without_user};
use super::Case;

/// Why somebody is sent elsewhere, and what to do.
pub(crate) fn finding(head: &Head, case: Case<'_>) -> Finding {
    let location = head.get("location").unwrap_or_default();
    let target = &case.plan.target;
    let to = absolute(&without_user(&location), target);
    let moved = Address::parse(&to).ok().filter(|_| !location.is_empty());
    if let Some(finding) = moved.as_ref().and_then(|to| near(target, to)) {
        return finding;
    }
    let place = place(&location);
    if moved.as_ref().is_some_and(|to| is_login(target, to)) {
        return Finding::new(
            format!(
                "the server sends whoever is not signed in to a login page ({place}); a WebSocket client \
                     cannot follow that"
            ),
            "sign in first and send what proves it (--header 'Cookie: …' or --token-file), and let the server \
             answer 401 here instead",
        );
    }
    let place = if place.is_empty() { "another place" } else { &place };
    Finding::new(
        format!(
            "the server sends everybody on to {place}, and WebSocket clients do not follow redirects"
        ),
        "connect to that place at once, with ws for http and wss for https",
    )
}

/// Almost what was asked for: the same again, the same with TLS, or with another slash at its end.
fn near(target: &Address, to: &Address) -> Option<Finding> {
    if !is_same_host(target, to) {
        return None;
    }
    let is_same_place = to.path_and_query == target.path_and_query && to.port == target.port;
    if is_same_place && to.secure == target.secure {
        return Some(itself());
    }
    if to.secure && !target.secure && !is_login(target, to) {
        return Some(Finding::new(
            "the server sends everybody to https, and WebSocket clients do not follow redirects",
            format!("connect to {}", to.shown()),
        ));
    }
    let wanted = path_of(to);
    (is_slash_only(target, to) && to.secure == target.secure && to.port == target.port).then(|| {
        Finding::new(
            format!(
                "only a slash at the end is wrong: the server wants {wanted}, and WebSocket clients do not \
                 follow redirects"
            ),
            format!("use the path {wanted}"),
        )
    })
}

fn is_same_host(target: &Address, to: &Address) -> bool {
    to.host.eq_ignore_ascii_case(&target.host)
}

/// Whether the paths differ by a slash at the end, and by nothing else.
fn is_slash_only(target: &Address, to: &Address) -> bool {
    let (path, wanted) = (path_of(target), path_of(to));
    wanted != path && wanted.trim_end_matches('/') == path.trim_end_matches('/')
}

fn itself() -> Finding {
    Finding::new(
        "it redirects to itself: the server believes that the request came without TLS, or it is a loop",
        "make the proxy that ends TLS pass X-Forwarded-Proto on (nginx: proxy_set_header X-Forwarded-Proto $scheme;) \
         and the server trust it",
    )
}

/// A Location as a URL (RFC 3986 section 5.2, as far as servers use it).
fn absolute(location: &str, target: &Address) -> String {
    let location = location.split('#').next().unwrap_or_default();
    // A query may hold a URL of its own.
    if location.split(['/', '?']).next().is_some_and(|first| first.ends_with(':')) {
        return location.to_owned();
    }
    let (scheme, authority, path) = (target.scheme(), target.authority(), path_of(target));
    if let Some(rest) = location.strip_prefix("//") {
        return format!("{scheme}://{rest}");
    }
    let folder = match location.chars().next() {
        Some('/') => "",
        Some('?') => path,
        _ => path
            .rsplit_once('/')
            .map_or("/", |(folder, _)| path.get(..=folder.len()).unwrap_or("/")),
    };
    format!("{scheme}://{authority}{folder}{location}")
}

fn path_of(address: &Address) -> &str {
    address.path_and_query.split('?').next().unwrap_or_default()
}

/// By whole segments of the path or the first label of another host: `/lessons` is none, and what
/// stands in the path that was asked for says nothing.
fn is_login(target: &Address, to: &Address) -> bool {
    let is_word = |word: &str| {
        let word = word.split('.').next().unwrap_or_default().to_ascii_lowercase();
        LOGIN.contains(&word.as_str())
    };
    let is_there = is_same_host(target, to)
        && path_of(to).trim_end_matches('/') == path_of(target).trim_end_matches('/');
    !is_there
        && (path_of(to).split('/').any(is_word) || !is_same_host(target, to) && is_word(&to.host))
}

/// What pages to sign in are called.
const LOGIN: [&str; 12] = [
    "login",
    "log-in",
    "signin",
    "sign-in",
    "sign_in",
    "auth",
    "oauth",
    "oauth2",
    "sso",
    "session",
    "authorize",
    "accounts",
];

#[cfg(test)]
mod tests {
    use super::super::super::head::tests::head;
    use super::super::super::plan::tests::plan;
    use super::super::super::report::StepName;
    use super::super::status::refused;
    use super::*;

    #[test]
    fn redirects_are_told_apart_by_where_they_lead() {
        let rows = [
            ("ws://h:23039/ws", "https://h/ws", "everybody to https", "connect to wss://h/ws"),
            ("ws://h/ws?k=1", "https://h/a?k=1", "everybody to https", "connect to wss://h/a?k=…"),
            ("ws://h/ws", "https://H:8443/ws", "everybody to https", "connect to wss://H:8443/ws"),
            ("ws://h/ws", "https://h.example/ws", "on to https://h.example/ws", "that place"),
            ("ws://h/lessons/ws", "/lessons/x", "on to /lessons/x", "that place"),
            ("ws://h/api/sessions/ws", "/api/sessions/ws/", "only a slash", "/api/sessions/ws/"),
            ("ws://h/session", "/session/", "only a slash", "use the path /session/"),
            ("ws://h/ws", "/users/sign_in?x=/ws", "login page (/users/sign_in)", "sign in"),
            ("ws://h/ws", "https://sso.example/x", "login page (https://sso", "sign in"),
            ("ws://h/ws", "//u:p@sso.example/x#t=F", "login page (//sso.example/x)", "sign in"),
            ("ws://h/ws", "ftp://u:p@h/x#t=F", "on to ftp://h/x,", "that place"),
            ("ws://h/ws", "https://u:p@h/ws#t=F", "everybody to https", "connect to wss://h/ws"),
            ("ws://h/ws", "/login.php", "login page", "sign in"),
            ("ws://h/a/ws", "login", "login page (login)", "sign in"),
            ("ws://h/ws", "/ws", "redirects to itself", "X-Forwarded-Proto"),
            ("wss://h/ws?a=b", "https://h:443/ws?a=b", "redirects to itself", "X-Forwarded-Proto"),
            ("wss://h/login", "https://h/login", "redirects to itself", "X-Forwarded-Proto"),
            ("ws://h/ws", "/login?next=https://h/ws", "login page (/login)", "sign in"),
            ("ws://h/ws", "https://h/login?next=/ws", "login page (https://h/login)", "sign in"),
            (
                "ws://auth.h/a",
                "https://auth.h/b",
                "everybody to https",
                "connect to wss://auth.h/b",
            ),
            ("ws://auth.h/a", "http://auth.h/b", "on to http://auth.h/b", "that place"),
            ("ws://h/", "", "on to another place", "that place"),
            ("ws://h/ws?a", "?b", "on to another place", "that place"),
            ("ws://h/ws?a", "?a", "redirects to itself", "X-Forwarded-Proto"),
            ("ws://h/ws", "http://h:81/ws/", "on to http://h:81/ws/", "that place"),
            ("wss://h/ws", "http://h/ws", "on to http://h/ws", "that place"),
        ];
        for (url, location, cause, cure) in rows {
            let plan = plan(url);
            let head = head(&format!("HTTP/1.1 308 X\r\nLocation: {location}\r\n\r\n"));
            let case = Case { plan: &plan, token: None, now: 0, ahead: None, framegate: true };
            let (step, finding) = refused(&head, "", case);
            assert_eq!(step, StepName::Upgrade, "{location}");
            assert!(finding.cause.contains(cause), "{url} {location}: {finding:?}");
            assert!(finding.cure.contains(cure), "{url} {location}: {finding:?}");
            let said = format!("{finding:?}");
            assert!(!said.contains("u:p") && !said.contains("t=F"), "{location}: {said}");
        }
    }
}
