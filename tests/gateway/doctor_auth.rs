//! doctor and who may: tokens, origins, and where a token goes. Nothing of a token is ever shown.

use serde_json::json;

use crate::support::doctor::{doctor, examine, polite, serving};
use crate::support::tokens::{now, sign_as, sign_with, token, token_with};
use crate::support::{Backend, Gateway, Setup};

const ORIGIN: &str = "https://chat.example.com";

async fn gateway(lines: &str) -> (Gateway, String) {
    let backend = Backend::start().await.echo();
    let setup = Setup::with_tokens(&format!("http://{backend}")).verifier(
        "sources = [\"header\", \"subprotocol\", \"subprotocol:jwt\", \"query:token\", \"cookie:sid\"]",
    );
    let gateway = Gateway::start(&setup.route(lines)).await;
    let url = format!("ws://{}/ws", gateway.addresses[0]);
    (gateway, url)
}

/// What is wrong, the token, and what is said.
fn bad_tokens() -> Vec<(&'static str, Option<String>, &'static str)> {
    let header = json!({ "alg": "HS256", "typ": "JWT" });
    let key_id = json!({ "alg": "RS256", "kid": "other" });
    vec![
        ("none", None, "no token was sent"),
        (
            "expired",
            Some(token_with("u", json!({ "exp": now() - 7260 }))),
            "the token expired 2 hours ago",
        ),
        (
            "refresh token",
            Some(token_with("u", json!({ "token_use": "refresh" }))),
            "this is a refresh token (token_use is refresh)",
        ),
        ("ID token", Some(token_with("u", json!({ "token_use": "id" }))), "this is an ID token"),
        ("no kind", Some(token_with("u", json!({ "token_use": null }))), "of another kind"),
        (
            "wrong audience",
            Some(token_with("u", json!({ "aud": ["mail", "calendar"] }))),
            "another audience: it is for mail, calendar",
        ),
        (
            "wrong issuer",
            Some(token_with("u", json!({ "iss": "https://staging.example" }))),
            "an issuer that is not trusted here: https://staging.example",
        ),
        (
            "not yet valid",
            Some(token_with("u", json!({ "nbf": now() + 9000 }))),
            "valid only in 2 hours",
        ),
        (
            "another key",
            Some(sign_with(
                "another secret of more than 32 bytes",
                &header.to_string(),
                "{\"exp\":9999999999}",
            )),
            "signed with another key",
        ),
        (
            "unknown key",
            Some(sign_as(&key_id, "{\"exp\":9999999999}")),
            "no key for this token's key id",
        ),
        ("no token at all", Some("opaque-session-id".to_owned()), "the token is no JWT"),
    ]
}

/// The same of tokens that are written as they must not be.
fn ill_written_tokens() -> Vec<(&'static str, Option<String>, &'static str)> {
    let header = json!({ "alg": "HS256", "typ": "JWT" });
    vec![
        (
            "alg none",
            Some(sign_as(&json!({ "alg": "none" }), "{\"exp\":9999999999}")),
            "the token is not signed (its alg is none)",
        ),
        (
            "encrypted",
            Some(
                "eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0..aXZpdml2.dGV4dHRleHQ.dGFndGFn".to_owned(),
            ),
            "the token is encrypted (JWE)",
        ),
        ("exp as a text", Some(token_with("u", json!({ "exp": "9999999999" }))), "is no number"),
        ("no exp", Some(sign_as(&header, "{\"sub\":\"u\"}")), "the token has no `exp`"),
        (
            "iat in milliseconds",
            Some(token_with("u", json!({ "iat": now() * 1000 }))),
            "`iat` of the token is in milliseconds",
        ),
    ]
}

#[tokio::test]
async fn each_fault_of_a_token_has_its_diagnosis_by_http_and_by_close() {
    let (_gateway, url) = gateway("").await;
    for (what, token, cause) in bad_tokens().into_iter().chain(ill_written_tokens()) {
        let given = token.as_deref().map_or(vec![], |token| vec!["--token", token]);
        for page in [&[][..], &["--origin", ORIGIN]] {
            let walked = examine(&url, &[&given[..], page].concat()).await;
            walked.expect(&format!("{what} {page:?}"), "auth", cause);
            hides(&walked.json.to_string(), token.as_deref());
        }
    }
}

/// Neither the token nor its signature is there.
fn hides(text: &str, token: Option<&str>) {
    let Some(token) = token else { return };
    assert!(!text.contains(token), "{text}");
    if let [_, _, signature] = token.split('.').collect::<Vec<_>>()[..] {
        assert!(!text.contains(signature), "{text}");
    }
}

#[tokio::test]
async fn a_good_token_is_taken_wherever_it_goes_and_never_shown() {
    let (_gateway, url) = gateway("").await;
    let good = token("alice");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, format!("{good}\n")).unwrap();
    let file = file.to_str().unwrap();
    let places = ["header", "subprotocol", "subprotocol:jwt", "query:token", "cookie:sid"];
    for place in places {
        let options = ["--token-file", file, "--token-in", place, "--send", "hello"];
        let walked = examine(&url, &options).await;
        walked.expect_ok(place);
        let seen = walked.seen("auth");
        assert!(seen.contains("of alice, issued by https://id.example.com, for chat"), "{seen}");
        assert!(walked.seen("messages").contains("live, after sending 5 bytes: text of 5 bytes"));
        let (_, stdout, stderr) = doctor(&[&[url.as_str()][..], &options].concat()).await;
        hides(&format!("{stdout}{stderr}{}", walked.json), Some(&good));
    }
    let in_url = format!("{url}?token={good}");
    let walked = examine(&in_url, &[]).await;
    walked.expect_ok("in the URL");
    hides(&walked.json.to_string(), Some(&good));
    assert_eq!(walked.json["url"], format!("{url}?token=…"));
}

#[tokio::test]
async fn a_token_in_the_wrong_place_is_told_from_none() {
    let backend = Backend::start().await.echo();
    let setup = Setup::with_tokens(&format!("http://{backend}")).verifier("sources = [\"header\"]");
    let gateway = Gateway::start(&setup).await;
    let url = format!("ws://{}/ws", gateway.addresses[0]);
    let walked = examine(&url, &["--token", &token("u"), "--token-in", "query:token"]).await;
    walked.expect("a token in the query", "auth", "not where the server looks");
}

#[tokio::test]
async fn a_denied_origin_names_itself_and_a_rule_does_too() {
    let backend = Backend::start().await.echo();
    for refuse in ["http", "close"] {
        let lines = format!("origins = [\"{ORIGIN}\"]\nrefuse = \"{refuse}\"");
        let setup = Setup::open(&format!("http://{backend}")).route(&lines);
        let gateway = Gateway::start(&setup).await;
        let url = format!("ws://{}/ws", gateway.addresses[0]);
        let walked = examine(&url, &["--origin", "https://evil.example"]).await;
        walked.expect(refuse, "auth", "pages of the origin https://evil.example may not connect");
        examine(&url, &["--origin", ORIGIN]).await.expect_ok("a listed origin");
        examine(&url, &[]).await.expect_ok("no origin");
    }
    let (_gateway, url) = gateway("authorize = { claims = { role = [\"admin\"] } }").await;
    let walked = examine(&url, &["--token", &token("u")]).await;
    walked.expect("forbidden", "auth", "a rule of the route (`authorize`)");
}

#[tokio::test]
async fn servers_that_are_not_framegate_are_judged_by_the_token_alone() {
    let refusing =
        Backend::start().await.answering("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n");
    let url = format!("ws://{refusing}/ws");
    let rows = [
        (token_with("u", json!({ "exp": now() - 1830 })), "the token expired 30 minutes ago"),
        (token_with("u", json!({ "token_use": "refresh" })), "this is a refresh token"),
        (token("u"), "nothing is wrong with it to be seen from here"),
    ];
    for (token, cause) in rows {
        examine(&url, &["--token", &token]).await.expect(cause, "auth", cause);
    }
}

#[tokio::test]
async fn a_server_that_wants_user_and_password_says_so() {
    let refusing = Backend::start().await.answering(
        "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"chat\"\r\nContent-Length: 0\r\n\r\n",
    );
    let url = format!("ws://{refusing}/ws");
    let basic = ["--header", "Authorization: Basic dTpzM2NyM3QtOTE="];
    for (options, cause) in [(&[][..], "wants user and password"), (&basic, "the password is")] {
        let walked = examine(&url, options).await;
        walked.expect(cause, "auth", cause);
        assert!(walked.seen("upgrade").contains("WWW-Authenticate: Basic realm=\"chat\""));
    }
}

#[tokio::test]
async fn a_wrong_clock_is_found_by_the_date_of_the_answer() {
    let soon = token_with("u", json!({ "exp": now() + 300 }));
    let date = "Date: Fri, 01 Jan 2100 00:00:00 GMT\r\n";
    let answer = format!("HTTP/1.1 401 Unauthorized\r\n{date}Content-Length: 0\r\n\r\n");
    let ahead = Backend::start().await.answering(answer);
    let walked = examine(&format!("ws://{ahead}/ws"), &["--token", &soon]).await;
    walked.expect("clock skew", "auth", "ahead of this machine's: by it the token has expired");
    let open = serving(async |asked| {
        polite(asked.accept("Date: Fri, 01 Jan 2100 00:00:00 GMT\r\n").await).await;
    });
    let walked = examine(&format!("ws://{}/ws", open.await), &["--token", &soon]).await;
    walked.expect_ok("a wrong clock and an open door");
    assert!(walked.warning("auth").contains("the server's clock is"), "{}", walked.json);
}

#[tokio::test]
async fn whatever_a_server_repeats_of_the_token_is_hidden() {
    let secret = token("u");
    let echoing = serving(async |asked| {
        let token = asked.header("authorization").unwrap().replace("Bearer ", "");
        let location = format!("Location: /login/{token}?token={token}\r\n");
        asked.answer(&format!("HTTP/1.1 302 {token}\r\n{location}Content-Length: 0\r\n\r\n")).await;
    });
    let url = format!("ws://{}/ws", echoing.await);
    let (_, stdout, stderr) = doctor(&[&url, "--token", &secret]).await;
    hides(&format!("{stdout}{stderr}"), Some(&secret));
    assert!(stdout.contains("Location: /login/[token]"), "{stdout}");
    let closing = serving(async |asked| {
        let token = asked.header("authorization").unwrap().replace("Bearer ", "");
        let signature = token.rsplit('.').next().unwrap().to_owned();
        let mut wire = asked.accept("").await;
        wire.send_text(&format!("\u{1b}[31m \u{202e} you are {token}")).await;
        wire.send_close(4400, &signature).await;
        while wire.fill().await {}
    });
    let url = format!("ws://{}/ws", closing.await);
    let (code, stdout, _) = doctor(&[&url, "--token", &secret]).await;
    assert_eq!(code, 16, "{stdout}");
    hides(&stdout, Some(&secret));
    assert!(stdout.contains("\\u{1b}[31m \\u{202e} you are [token]"), "{stdout}");
    assert!(!stdout.contains('\u{1b}'), "{stdout}");
}

#[tokio::test]
async fn whatever_a_server_repeats_of_query_credentials_and_cookies_is_hidden() {
    let echoing = serving(async |asked| {
        let (who, cookie) = (asked.header("authorization"), asked.header("cookie"));
        let body = format!("no: QUERYSECRET77 {} {}", who.unwrap(), cookie.unwrap());
        let head = format!("HTTP/1.1 400 Bad\r\nContent-Length: {}\r\n\r\n", body.len());
        asked.answer(&format!("{head}{body}")).await;
    });
    let url = format!("ws://{}/ws?key=QUERYSECRET77", echoing.await);
    let sent = ["Authorization: Basic dTpwYXNzd29yZA==", "Cookie: sid=s3cr3tsid"];
    let (code, stdout, _) = doctor(&[&url, "--header", sent[0], "--header", sent[1]]).await;
    assert_eq!(code, 13, "{stdout}");
    assert!(stdout.contains("no: [token] Basic [token] sid=[token]"), "{stdout}");
}

#[tokio::test]
async fn of_a_redirect_only_the_place_is_shown() {
    let location =
        "https://u:hunter2@login.example.com/cb?code=QUERYSECRET#access_token=FRAGSECRET";
    let body = format!("Found. Redirecting to {location}");
    let answer = format!(
        "HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let server = Backend::start().await.answering(answer);
    let walked = examine(&format!("ws://{server}/ws"), &[]).await;
    walked.expect("a redirect", "upgrade", "login page (https://login.example.com/cb)");
    let seen = walked.seen("upgrade");
    assert!(seen.contains("Location: https://login.example.com/cb;"), "{seen}");
    assert!(seen.contains("it says: Found. Redirecting to https://login.example.com/cb"), "{seen}");
    let said = walked.json.to_string();
    assert!(!said.contains("SECRET") && !said.contains("hunter2"), "{said}");
}

#[tokio::test]
async fn the_gateways_view_stands_beside_ones_own() {
    let (gateway, url) = gateway("").await;
    let admin = format!("http://{}", gateway.admin);
    let expired = token_with("alice", json!({ "exp": now() - 7260 }));
    for page in [&[][..], &["--origin", ORIGIN]] {
        let walked =
            examine(&url, &[&["--token", &expired, "--admin", &admin][..], page].concat()).await;
        walked.expect("expired", "auth", "the token expired 2 hours ago");
        let view = &walked.json["gateway"];
        assert_eq!(view["id"], walked.json["request_id"], "{view:#}");
        assert_eq!((&view["state"], &view["label"]), (&"refused".into(), &"token_expired".into()));
    }
    let good = token("alice");
    let options = ["--token", &good, "--admin", &admin, "--send", "hello"];
    let walked = examine(&url, &options).await;
    walked.expect_ok("a session");
    let view = &walked.json["gateway"];
    assert_eq!((&view["state"], &view["user"]), (&"ended".into(), &"alice".into()), "{view:#}");
    let (_, stdout, _) = doctor(&[&[url.as_str()][..], &options].concat()).await;
    let (_, shown) = stdout.split_once("The gateway's own view:\n").expect(&stdout);
    let host = url.split('/').nth(2).unwrap();
    let place = format!(", host {host}, path /ws, listener 127.0.0.1:0, client ");
    assert!(shown.contains("user alice, route /ws, upstream chat"), "{shown}");
    assert!(shown.contains(&place), "{shown}");
    assert!(shown.contains("its steps: accept "), "{shown}");
    hides(&stdout, Some(&good));

    let dead = ["--token", &good, "--admin", "http://127.0.0.1:1"];
    let walked = examine(&url, &dead).await;
    walked.expect_ok("no admin listener there");
    assert!(walked.json["gateway"]["error"].as_str().unwrap().contains("no admin listener"));
    let (code, _, stderr) = doctor(&[&url, "--admin", "ftp://x"]).await;
    assert_eq!(code, 64, "{stderr}");
}

#[tokio::test]
async fn the_admin_token_is_asked_for_by_an_option_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("admin-token");
    std::fs::write(&file, "s3cret\n").unwrap();
    let file = file.to_str().unwrap().to_owned();
    let backend = Backend::start().await.echo();
    let mut setup = Setup::open(&format!("http://{backend}"));
    setup.admin = "bind = \"127.0.0.1:0\"\ntoken_file = \"admin-token\"".to_owned();
    let gateway = Gateway::start_in(folder, &setup).await;
    let (url, admin) =
        (format!("ws://{}/ws", gateway.addresses[0]), format!("http://{}", gateway.admin));
    let walked = examine(&url, &["--admin", &admin]).await;
    let error = walked.json["gateway"]["error"].as_str().unwrap();
    // The other token file is shown to the server that is examined.
    assert!(error.contains("give --admin-token-file FILE"), "{error}");
    let walked = examine(&url, &["--admin", &admin, "--admin-token-file", &file]).await;
    assert_eq!(walked.json["gateway"]["state"], "ended", "{}", walked.json);
}
