//! Answers that are no 101, by their status. Pure.

use super::super::head::Head;
use super::super::report::{Finding, StepName};
use super::{Case, auth, labels, redirect};

/// The step such an answer belongs to, cause and cure. `body` is the begin of what came with it.
pub(crate) fn refused(head: &Head, body: &str, case: Case<'_>) -> (StepName, Finding) {
    // Only framegate's own answers are taken at their word.
    // A backend's own words stand behind its label.
    let named = head.get("x-framegate-refusal").and_then(|label| labels::of_text(&label));
    let label = named.or_else(|| labels::of_text(body));
    if let Some(label) = label.filter(|_| head.is_from_framegate()) {
        let is_auth = labels::is_of_backend_auth(label, head.status);
        let step = if is_auth { StepName::Auth } else { labels::step(label, StepName::Upgrade) };
        let finding = match body.split_once(':') {
            Some(("bad_request", what)) => bad_request(head, what.trim()),
            _ => labels::finding(label, case),
        };
        return (step, finding);
    }
    if head.get("cf-mitigated").is_some() {
        return (StepName::Auth, challenged());
    }
    match head.status {
        401 if wants_basic(head) => (StepName::Auth, auth::basic(case)),
        401 => (StepName::Auth, auth::refused(case, None)),
        403 => (StepName::Auth, forbidden(case)),
        300..=303 | 305..=399 => (StepName::Upgrade, redirect::finding(head, case)),
        400 | 426 => (StepName::Upgrade, bad(head, body)),
        _ => (StepName::Upgrade, other(head, case)),
    }
}

/// Whether it asks for user and password and for nothing else (RFC 9110 section 11.6.1).
fn wants_basic(head: &Head) -> bool {
    let challenges = head.get("www-authenticate").unwrap_or_default().to_ascii_lowercase();
    let schemes = challenges.split(',').filter_map(|part| part.split_whitespace().next());
    let has = |wanted: &str| schemes.clone().any(|scheme| scheme == wanted);
    has("basic") && !has("bearer")
}

/// framegate names the rule; the request left here as a valid handshake, but the URL is the user's.
fn bad_request(head: &Head, what: &str) -> Finding {
    if what.starts_with("not a WebSocket handshake") {
        return stripped(head);
    }
    Finding::new(
        format!("framegate does not take the request as it is: {what}"),
        "correct the URL or the option it speaks of",
    )
}

fn challenged() -> Finding {
    Finding::new(
        "Cloudflare takes this client for a robot and wants it to pass a check that only a page can show",
        "exempt the path from the bot check (a WAF rule that skips it), or use another host name for programs",
    )
}

fn forbidden(case: Case<'_>) -> Finding {
    if let Some(token) = case.token
        && let Some(fault) = token.faults.first()
    {
        return fault.finding();
    }
    match &case.plan.origin {
        Some(origin) => Finding::new(
            format!(
                "the server knows what is asked for and says no: pages of the origin {origin} may not connect, \
                     or this user may not"
            ),
            "try once without --origin: if that works, add the origin to the server's list; else use a user who may",
        ),
        None => Finding::new(
            "the server knows what is asked for and says no: this user or address may not, or it wants the Origin \
             of a page it trusts",
            "try with --origin https://THE-PAGE and with a token of a user who may",
        ),
    }
}

/// We sent Upgrade, Connection, version and key; who misses one of them did not get what we sent.
fn bad(head: &Head, body: &str) -> Finding {
    let version = head.get("sec-websocket-version");
    if let Some(version) = version.filter(|version| !version.split(',').any(|v| v.trim() == "13")) {
        return Finding::new(
            format!(
                "the server speaks other versions of WebSocket only ({version}); browsers speak 13"
            ),
            "renew the server's WebSocket library",
        );
    }
    if body.contains("Transport unknown") {
        return Finding::new(
            "Socket.IO answers there, which speaks a protocol of its own over WebSocket",
            "add its query to the URL: ?EIO=4&transport=websocket",
        );
    }
    if body.to_ascii_lowercase().contains("plain http request was sent to https port")
        || says_https(body)
    {
        return tls_wanted();
    }
    if head.status == 426 || says_upgrade_lost(body) {
        return stripped(head);
    }
    Finding::new(
        format!(
            "{} calls the handshake a bad request: it is no WebSocket server, wants something more in it, \
                 or a proxy changed it on the way",
            capital(&head.who())
        ),
        "read its answer above; if there is a proxy, look whether it passes Upgrade, Connection and HTTP/1.1 on",
    )
}

/// An answer over ws:// that asks for https.
pub(crate) fn tls_wanted() -> Finding {
    Finding::new(
        "this port speaks TLS: a ws:// URL was used where wss:// is needed",
        "use wss:// in the URL",
    )
}

fn says_https(body: &str) -> bool {
    let lower = body.to_ascii_lowercase();
    lower.contains("wss://")
        || lower.contains("this is an https")
        || lower.contains("http request to an https server")
}

fn says_upgrade_lost(body: &str) -> bool {
    let lower = body.to_ascii_lowercase();
    lower.contains("upgrade") || lower.contains("invalid connection header")
}

fn stripped(head: &Head) -> Finding {
    Finding::new(
        format!(
            "the headers Upgrade and Connection were sent, but did not arrive at the WebSocket server: a proxy \
                 on the way removed them (the answer came from {})",
            head.author()
        ),
        "make the proxy pass them on; nginx: proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; \
         proxy_set_header Connection \"upgrade\";",
    )
}

fn other(head: &Head, case: Case<'_>) -> Finding {
    let author = capital(&head.who());
    let path = case.plan.target.path_and_query.split('?').next().unwrap_or_default();
    let retry =
        head.get("retry-after").map_or(String::new(), |time| format!(" (Retry-After: {time})"));
    let (cause, cure) = match head.status {
        200..=299 => (
            format!("{author} answered with an ordinary page: there is HTTP at {path} but no WebSocket, or a proxy \
                     removed the Upgrade header on the way"),
            "correct the path, or make the proxy pass Upgrade and Connection on (nginx: proxy_http_version 1.1 and \
             two proxy_set_header lines)".to_owned(),
        ),
        404 | 410 => (
            format!("{author} has nothing at {path}: the path is wrong, or a proxy that removes Upgrade makes it look so"),
            "correct the path in the URL; ask the backend directly with --compare to see whether it knows it".to_owned(),
        ),
        304 => (
            format!("{author} says that a copy kept here is still good, though none was asked about: a cache answers at {path}"),
            "let nothing cache this path".to_owned(),
        ),
        405 => (
            format!("{path} exists, but not for a GET with Upgrade: it is an ordinary HTTP endpoint"),
            "use the path of the WebSocket endpoint".to_owned(),
        ),
        407 | 511 => (
            "a proxy of the network in between wants a login of its own".to_owned(),
            "sign in at that proxy, or use wss://, which it cannot look into".to_owned(),
        ),
        408 => (
            format!("{author} waited in vain for the request"),
            "try again; if it stays so, look at what stands between".to_owned(),
        ),
        421 => (
            format!("{author} does not serve the host {}", case.plan.target.authority()),
            "correct the host in the URL, or give the one it expects with --header 'Host: …'".to_owned(),
        ),
        429 => (
            format!("{author} had too many connections or attempts from this user or address{retry}"),
            "wait, then connect less often; behind a balancer see that the server counts the client's address, \
             not the balancer's".to_owned(),
        ),
        431 | 414 | 413 => (
            format!("the request is too large for {}: usually cookies or a long token", head.who()),
            "send less, or raise its header limit".to_owned(),
        ),
        _ => return server_fault(head, &author, &retry),
    };
    Finding::new(cause, cure)
}

fn server_fault(head: &Head, author: &str, retry: &str) -> Finding {
    let (cause, cure) = match head.status {
        500 => (
            format!("{author} failed while it handled the handshake"),
            "its log has the error for this moment",
        ),
        501 | 505 => (
            format!("{author} cannot do what was asked: no WebSocket support"),
            "ask another server, or renew it",
        ),
        502 => (
            format!(
                "{author} is a proxy whose backend gave no usable answer: it is down, or the proxy has a wrong address for it"
            ),
            "start the backend or correct the address; ask it directly with --compare",
        ),
        503 => (
            format!(
                "{author} takes nobody right now: no healthy backend, overloaded, or being restarted{retry}"
            ),
            "wait and try again; see at the proxy which backends it holds for healthy",
        ),
        504 => (
            format!(
                "{author} is a proxy whose backend hangs: it did not answer the handshake in time"
            ),
            "look at what the backend waits for when somebody connects (database, Redis); ask it directly with --compare",
        ),
        520..=530 => (
            format!(
                "{author} (by its status Cloudflare or the like) could not reach the server behind it properly"
            ),
            "connect to that server directly with --compare, and look at its certificate and firewall",
        ),
        _ => (
            format!("{author} did not accept the handshake"),
            "read its answer above, and its log for this moment",
        ),
    };
    Finding::new(cause, cure)
}

fn capital(text: &str) -> String {
    let mut characters = text.chars();
    characters
        .next()
        .map_or(String::new(), |first| first.to_uppercase().chain(characters).collect())
}

#[cfg(test)]
mod tests {
    use super::super::super::head::tests::head;
    use super::super::super::plan::tests::plan;
    use super::*;

    fn case(plan: &super::super::super::plan::Plan) -> Case<'_> {
        Case { plan, token: None, now: 0, ahead: None, framegate: true }
    }

    #[test]
    fn each_status_has_its_step_and_its_cause() {
        use StepName::{Auth, Upgrade};
        let rows: &[(u16, &str, &str, StepName, &str)] = &[
            (200, "", "<html>", Upgrade, "an ordinary page"),
            (301, "Location: https://chat.example/ws\r\n", "", Upgrade, "sends everybody to https"),
            (302, "Location: /login?next=/ws\r\n", "", Upgrade, "login page (/login)"),
            (307, "Location: http://chat.example/ws/\r\n", "", Upgrade, "only a slash"),
            (308, "Location: http://new.example/x\r\n", "", Upgrade, "on to http://new.example/x"),
            (302, "", "", Upgrade, "on to another place"),
            (304, "", "", Upgrade, "a cache answers at /ws"),
            (400, "", "Upgrade header missing", Upgrade, "a proxy on the way removed them"),
            (400, "", "nonsense", Upgrade, "calls the handshake a bad request"),
            (400, "", "The plain HTTP request was sent to HTTPS port", Upgrade, "wss:// is needed"),
            (400, "Sec-WebSocket-Version: 8, 7\r\n", "", Upgrade, "other versions"),
            (400, "", "{\"code\":0,\"message\":\"Transport unknown\"}", Upgrade, "Socket.IO"),
            (401, "", "", Auth, "no token was sent"),
            (401, "WWW-Authenticate: Bearer\r\n", "", Auth, "no token was sent"),
            (401, "WWW-Authenticate: Basic realm=\"a\"\r\n", "", Auth, "wants user and password"),
            (401, "WWW-Authenticate: Bearer a=b, Basic\r\n", "", Auth, "no token was sent"),
            (403, "cf-mitigated: challenge\r\n", "", Auth, "takes this client for a robot"),
            (403, "", "", Auth, "says no"),
            (404, "", "", Upgrade, "has nothing at /ws"),
            (405, "", "", Upgrade, "an ordinary HTTP endpoint"),
            (407, "", "", Upgrade, "a login of its own"),
            (421, "", "", Upgrade, "does not serve the host chat.example"),
            (426, "Server: nginx\r\n", "", Upgrade, "calls itself \"nginx\""),
            (
                426,
                "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
                "",
                Upgrade,
                "removed them",
            ),
            (429, "Retry-After: 7\r\n", "", Upgrade, "(Retry-After: 7)"),
            (431, "", "", Upgrade, "the request is too large for the server: usually"),
            (500, "", "", Upgrade, "failed while"),
            (502, "", "", Upgrade, "no usable answer"),
            (503, "", "", Upgrade, "takes nobody right now"),
            (504, "", "", Upgrade, "hangs"),
            (522, "", "", Upgrade, "Cloudflare"),
            (599, "", "", Upgrade, "did not accept"),
        ];
        let plan = plan("ws://chat.example/ws");
        for (status, headers, body, step, cause) in rows {
            let head = head(&format!("HTTP/1.1 {status} X\r\n{headers}\r\n"));
            let (found, finding) = refused(&head, body, case(&plan));
            assert_eq!(found, *step, "{status} {headers}");
            assert!(finding.cause.contains(cause), "{status} {headers}: {finding:?}");
        }
    }

    #[test]
    fn framegate_is_taken_at_its_word_and_nobody_else() {
        let body = "origin_denied: this origin may not connect to this route\n";
        let mut plan = plan("ws://a/ws");
        plan.origin = Some("https://evil.example".to_owned());
        let own = head("HTTP/1.1 403 F\r\nX-Request-Id: 00112233aabbccdd\r\n\r\n");
        let (step, finding) = refused(&own, body, case(&plan));
        assert_eq!(step, StepName::Auth);
        assert!(
            finding.cause.starts_with("pages of the origin https://evil.example"),
            "{finding:?}"
        );
        let other = head("HTTP/1.1 403 F\r\n\r\n");
        assert!(refused(&other, body, case(&plan)).1.cause.contains("says no"));
        let upgrade = "bad_request: not a WebSocket handshake: the Upgrade header is missing\n";
        let finding = refused(&own, upgrade, case(&plan)).1;
        assert!(finding.cause.contains("removed them"), "{finding:?}");
        let path = "bad_request: the path has an empty segment\n";
        let finding = refused(&own, path, case(&plan)).1;
        assert!(finding.cause.ends_with("as it is: the path has an empty segment"), "{finding:?}");
    }
}
