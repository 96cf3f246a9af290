//! Issuers that are down, slow or broken: what is known counts on, nobody hangs, and each fault has its name.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::command::run;
use crate::support::issuer::{answer, set_of};
use crate::support::{Answer, Authority, Backend, Gateway, Issuer, Setup, SigningKey, within};

fn refreshes(result: &str) -> String {
    format!("framegate_jwks_refreshes_total{{result=\"{result}\",verifier=\"users\"}}")
}

async fn setup(jwks: &str) -> Setup {
    let backend = Backend::start().await.echo();
    let mut setup =
        Setup::with_tokens(&format!("http://{backend}")).verifier(&format!("jwks = {{ {jwks} }}"));
    setup.keys = "[]".to_owned();
    setup
}

async fn status(gateway: &Gateway, token: &str) -> u16 {
    gateway.client().token(token).connect().await.status
}

/// With a good set known, an issuer that answers so: the fetch that an unknown key causes ends with
/// `result` and this text in the log, and changes nothing.
async fn keeps_its_keys(bad: Answer, result: &str, error: &str) {
    let key = SigningKey::new("a");
    let issuer = Issuer::publishing(&[&key]).await;
    let jwks = format!("url = \"{}\", timeout = \"2s\"", issuer.url());
    let mut gateway = Gateway::start(&setup(&jwks).await).await;
    gateway.wait_for_metric(&refreshes("ok"), 1.0).await;
    let before = gateway.metrics().await;
    let what = format!("{result}, {error}");
    issuer.answer(bad);
    let memory = gateway.resident();
    let began = Instant::now();
    assert_eq!(status(&gateway, &SigningKey::new("?").token("eve")).await, 401, "{what}");
    println!("{:?}: {what}", began.elapsed());
    gateway.wait_for_metric(&refreshes(result), 1.0).await;
    let grown = gateway.growth(&before, "framegate_jwks_refreshes_total").await;
    assert_eq!(grown, [(refreshes(result), 1.0)], "{what}");
    let is_told = |line: &Value| {
        line["message"] == "published keys could not be fetched; trying on"
            && line["result"] == result
            && line["has_keys"] == true
            && line["error"].as_str().is_some_and(|text| text.contains(error))
    };
    gateway.wait_for_log(error, |lines| lines.iter().any(is_told)).await;
    assert_eq!(status(&gateway, &key.token("ann")).await, 101, "{what}");
    assert!(gateway.resident() < memory + 8 * 1024 * 1024, "{what}");
}

#[tokio::test]
async fn bad_answers_are_told_apart_and_the_last_good_set_stays() {
    let ok = "HTTP/1.1 200 OK\r\n";
    let raw = |text: String| Answer::Raw(text.into_bytes());
    let huge = Answer::Endless("HTTP/1.1 200 OK\r\n\r\n");
    let announced = Answer::Endless("HTTP/1.1 200 OK\r\nContent-Length: 10485760\r\n\r\n");
    let head = "x".repeat(1 << 20);
    for (bad, result, error) in [
        (answer("500 Oops", "", ""), "status", "the answer is 500"),
        (answer("404 Not Found", "", "{\"keys\": []}"), "status", "404"),
        (answer("204 No Content", "", ""), "status", "204"),
        (answer("200 OK", "", "<html>"), "invalid", "is no JSON object"),
        (answer("200 OK", "", "{\"error\": 1}"), "invalid", "has no array \"keys\""),
        (answer("200 OK", "", ""), "invalid", "is no JSON object"),
        (answer("200 OK", "Content-Encoding: gzip\r\n", "x"), "invalid", "compressed"),
        (raw("SSH-2.0-OpenSSH\r\n".to_owned()), "invalid", "no HTTP"),
        (raw(format!("{ok}X: {head}\r\n\r\n")), "invalid", "no HTTP"),
        (raw(format!("{ok}Content-Length: 50\r\n\r\n{{\"keys\"")), "unreachable", ""),
        (raw(format!("{ok}Transfer-Encoding: chunked\r\n\r\nzz\r\n")), "unreachable", ""),
        (raw(String::new()), "unreachable", ""),
        (huge, "too_large", "1024 KiB"),
        (announced, "too_large", "1024 KiB"),
    ] {
        keeps_its_keys(bad, result, error).await;
    }
}

#[tokio::test]
async fn slow_answers_end_at_the_timeout() {
    let head = b"HTTP/1.1 200 OK\r\n".to_vec();
    let body = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n{\"keys\": [".to_vec();
    for bad in [Answer::Nothing, Answer::Dripping(head), Answer::Dripping(body)] {
        keeps_its_keys(bad, "timeout", "longer than 2s").await;
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let key = SigningKey::new("b");
    let elsewhere = Issuer::publishing(&[&key]).await;
    let location = format!("Location: {}\r\n", elsewhere.url());
    for status in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect"] {
        let bad = answer(status, &location, &set_of(&[&key]).to_string());
        keeps_its_keys(bad, "status", "redirects are not followed").await;
    }
    assert_eq!(elsewhere.requests(), 0);
}

#[tokio::test]
async fn what_an_issuer_that_is_down_has_said_counts_until_it_is_stale() {
    let key = SigningKey::new("a");
    let issuer = Issuer::publishing(&[&key]).await;
    let jwks = format!(
        "url = \"{}\", refresh = \"1s\", stale = \"6s\", cooldown = \"100ms\"",
        issuer.url()
    );
    let mut gateway = Gateway::start(&setup(&jwks).await).await;
    assert_eq!(status(&gateway, &key.token("ann")).await, 101);
    // It accepts, and breaks off.
    issuer.answer(Answer::Raw(Vec::new()));
    let is_down = |line: &Value| line["result"] == "unreachable" && line["level"] == "WARN";
    gateway.wait_for_log("a failure", |lines| lines.iter().any(is_down)).await;
    assert_eq!(status(&gateway, &key.token("ann")).await, 101);
    assert_eq!(gateway.admin_get("/readyz").await.0, 200);
    let last = gateway.metric("framegate_jwks_last_success_timestamp_seconds{verifier=\"users\"}");
    let last = last.await;
    let is_stale = |line: &Value| {
        line["level"] == "ERROR"
            && line["message"] == "the published keys are too old and used no more"
    };
    gateway.wait_for_log("the end of the keys", |lines| lines.iter().any(is_stale)).await;
    assert!(crate::support::tokens::now() as f64 >= last + 5.0);
    assert_eq!(status(&gateway, &key.token("ann")).await, 503);
    let (ready, reasons) = gateway.admin_get("/readyz").await;
    assert_eq!((ready, reasons.contains("verifier users has no keys")), (503, true));
    assert_eq!(gateway.log().iter().filter(|line| is_down(line)).count(), 1, "told once");

    issuer.publish(&[&key]);
    within("the keys again", async {
        while status(&gateway, &key.token("ann")).await != 101 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(gateway.log().iter().filter(|line| is_stale(line)).count(), 1);
}

#[tokio::test]
async fn https_wants_a_certificate_of_an_authority_that_is_trusted_for_its_name() {
    let key = SigningKey::new("a");
    let (authority, stranger) = (Authority::new(), Authority::new());
    let set = || Answer::Set(set_of(&[&key]));
    let here = Issuer::start_tls(set(), &authority.sign(&["127.0.0.1"])).await;
    let elsewhere = Issuer::start_tls(set(), &authority.sign(&["127.0.0.2"])).await;
    let strange = Issuer::start_tls(set(), &stranger.sign(&["127.0.0.1"])).await;
    let at = |issuer: &Issuer| format!("url = \"{}\"", issuer.url());
    for (jwks, result) in [
        (at(&here) + ", ca = \"ca.pem\"", "ok"),
        (at(&elsewhere) + ", ca = \"ca.pem\"", "tls"),
        (at(&strange) + ", ca = \"ca.pem\"", "tls"),
        // Without `ca` the system's count, and this authority is none of them.
        (at(&here), "tls"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        authority.write(folder.path(), "ca.pem");
        let gateway = Gateway::start_in(folder, &setup(&jwks).await).await;
        let expected = if result == "ok" { 101 } else { 503 };
        assert_eq!(status(&gateway, &key.token("ann")).await, expected, "{jwks}");
        assert!(gateway.metric(&refreshes(result)).await >= 1.0, "{jwks}");
    }
    // An authority of the system's is trusted without `ca`.
    let folder = tempfile::tempdir().unwrap();
    authority.write(folder.path(), "system.pem");
    let mut with_system = setup(&at(&here)).await;
    let file = folder.path().join("system.pem").to_str().unwrap().to_owned();
    with_system.environment = vec![("SSL_CERT_FILE".to_owned(), file)];
    let gateway = Gateway::start_in(folder, &with_system).await;
    assert_eq!(status(&gateway, &key.token("ann")).await, 101);
    assert_eq!([&elsewhere, &strange].map(Issuer::requests), [0; 2]);
}

#[tokio::test]
async fn authorities_that_cannot_be_read_are_a_problem_of_the_configuration() {
    let key = SigningKey::new("a");
    let issuer = Issuer::publishing(&[&key]).await;
    let good = setup(&format!("url = \"{}\"", issuer.url())).await;
    let mut gateway = Gateway::start(&good).await;
    gateway.write(&setup("url = \"https://127.0.0.1:9/\", ca = \"nowhere.pem\"").await.text());
    let problems = gateway.refuse_reload().await;
    let paths: Vec<_> = problems.iter().map(|line| line["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["verifiers.users.jwks.ca"], "{problems:#?}");
    assert_eq!(status(&gateway, &key.token("ann")).await, 101);
}

#[tokio::test]
async fn an_issuer_without_anybody_listening_is_tried_again_until_it_is_there() {
    let key = SigningKey::new("a");
    // A port that is free, and stays free until it is used below.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let url = format!("http://{}/jwks.json", socket.local_addr().unwrap());
    let gateway = Gateway::start(&setup(&format!("url = \"{url}\"")).await).await;
    assert_eq!(status(&gateway, &key.token("ann")).await, 503);
    assert!(gateway.metric(&refreshes("unreachable")).await >= 1.0);
    let listener = socket.listen(16).unwrap();
    let body = set_of(&[&key]).to_string();
    let serve = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut wire = crate::support::Wire::new(stream, None);
        wire.head().await.unwrap();
        let length = body.len();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
        wire.send_raw(answer.as_bytes()).await;
        wire.expect_end().await;
    };
    within("another try", serve).await;
    gateway.wait_for_metric(&refreshes("ok"), 1.0).await;
    assert_eq!(status(&gateway, &key.token("ann")).await, 101);
}

#[tokio::test]
async fn check_says_what_the_issuer_would_have_given() {
    let key = SigningKey::new("a");
    let secret = json!({ "kty": "oct", "k": "c2VjcmV0" });
    let issuer = Issuer::start(Answer::Set(json!({ "keys": [secret, key.jwk()] }))).await;
    for (url, expected) in [
        (issuer.url(), "verifiers.users.jwks: keys[0]: is a secret (oct)"),
        (
            "nowhere.json".to_owned(),
            "verifiers.users.jwks: the keys cannot be fetched now: the file:",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("framegate.toml");
        std::fs::write(&file, setup(&format!("url = \"{url}\"")).await.text()).unwrap();
        let ran = run(&["check", "--config", file.to_str().unwrap()]).await;
        let warnings = ran.stderr;
        assert_eq!(ran.code, 0, "{warnings}");
        assert!(warnings.contains(expected), "{warnings}");
    }
}
