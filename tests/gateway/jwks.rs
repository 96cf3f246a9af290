//! Keys that an issuer publishes: the first set, rotation, withdrawal, files, reloads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;

use crate::support::issuer::{answer, set_of};
use crate::support::tokens::{self, sign_with};
use crate::support::{
    Answer, Backend, Client, Gateway, Issuer, Refusal, Setup, SigningKey, within,
};

const REFRESHES: &str = "framegate_jwks_refreshes_total";
const LAST: &str = "framegate_jwks_last_success_timestamp_seconds{verifier=\"users\"}";

fn refreshes(result: &str) -> String {
    format!("{REFRESHES}{{result=\"{result}\",verifier=\"users\"}}")
}

/// A verifier that has published keys only, before an echoing backend.
async fn setup(jwks: &str) -> Setup {
    let backend = Backend::start().await.echo();
    let mut setup = without_limits(Setup::with_tokens(&format!("http://{backend}")))
        .verifier(&format!("jwks = {{ {jwks} }}"));
    setup.keys = "[]".to_owned();
    setup
}

fn without_limits(setup: Setup) -> Setup {
    setup
        .limits("handshakes_per_address = { rate = \"0/s\" }\nconnections_per_address = 0")
        .limits("connections_per_user = 0")
}

async fn gateway(issuer: &Issuer, more: &str) -> Gateway {
    Gateway::start(&setup(&format!("url = \"{}\"{more}", issuer.url())).await).await
}

fn unavailable() -> Refusal<'static> {
    Refusal::at_admission("keys_unavailable", 503, 1013, "/ws")
}

fn unknown() -> Refusal<'static> {
    Refusal::at_admission("token_key_unknown", 401, 4401, "/ws")
}

async fn is_refused(gateway: &mut Gateway, refusal: Refusal<'_>, token: &str) {
    let client = gateway.client().token(token);
    refusal.by_http(gateway, client).await;
}

/// What a refusal calls itself; for where others of its kind may still be counted.
async fn label(client: Client, token: &str) -> String {
    let body = client.token(token).connect().await.body().await;
    body.split_once(':').map_or_else(String::new, |(label, _)| label.to_owned())
}

async fn status(client: Client, token: &str) -> u16 {
    client.token(token).connect().await.status
}

#[tokio::test]
async fn without_a_set_tokens_are_refused_as_our_fault_until_the_first_one_is_there() {
    let key = SigningKey::new("a");
    let issuer = Issuer::start(answer("503 Service Unavailable", "", "")).await;
    let mut gateway = gateway(&issuer, "").await;
    let zeros = gateway.metrics().await;
    for result in ["ok", "unreachable", "tls", "timeout", "status", "too_large", "invalid"] {
        assert!(zeros.contains_key(&refreshes(result)), "{result}");
    }
    assert_eq!(zeros[LAST], 0.0);
    let token = key.token("ann");
    is_refused(&mut gateway, unavailable(), &token).await;
    let page = gateway.client().token(&token).origin("https://chat.example.com");
    unavailable().by_close(&mut gateway, page).await;
    // Whatever the token is: nothing could check it.
    is_refused(&mut gateway, unavailable(), &tokens::token("ann")).await;
    let ready = gateway.admin_get("/readyz").await;
    assert_eq!(ready, (503, "not ready\nverifier users has no keys\n".to_owned()));
    assert!(gateway.metric(&refreshes("status")).await >= 1.0);

    issuer.publish(&[&key]);
    gateway.wait_for_metric(&refreshes("ok"), 1.0).await;
    assert_eq!(status(gateway.client(), &token).await, 101);
    assert_eq!(gateway.admin_get("/readyz").await.0, 200);
    assert!((gateway.metric(LAST).await - tokens::now() as f64).abs() < 30.0);
    let is_fetched = |line: &serde_json::Value| line["message"] == "published keys fetched";
    gateway.wait_for_log("the news", |lines| lines.iter().any(is_fetched)).await;
    let told = |message: &str| {
        gateway.log().into_iter().filter(|line| line["message"] == message).collect::<Vec<_>>()
    };
    // Once for each change, however often it was tried.
    let failed = told("published keys could not be fetched; trying on");
    assert_eq!(failed.len(), 1, "{failed:#?}");
    assert_eq!((&failed[0]["level"], &failed[0]["result"]), (&json!("WARN"), &json!("status")));
    assert_eq!(told("published keys fetched")[0]["keys"], "a (ES256)");
    let head = issuer.head();
    assert!(head.starts_with("GET /jwks.json HTTP/1.1\r\n"), "{head}");
    assert!(head.to_ascii_lowercase().contains(&format!("host: {}\r\n", issuer.address)), "{head}");
}

#[tokio::test]
async fn handshakes_at_the_start_wait_for_the_first_set() {
    let key = SigningKey::new("a");
    let issuer = Issuer::start(Answer::Nothing).await;
    let gateway = gateway(&issuer, ", timeout = \"20s\"").await;
    issuer.asked(1).await;
    let mut early = JoinSet::new();
    for _ in 0..20 {
        let (client, token) = (gateway.client(), key.token("ann"));
        early.spawn(async move { status(client, &token).await });
    }
    // All have sent their request; one that is refused would not wait.
    gateway.wait_for_metric("framegate_connections{listener=\"127.0.0.1:0\"}", 20.0).await;
    assert!(early.try_join_next().is_none());
    issuer.publish(&[&key]);
    assert_eq!(early.join_all().await, [101; 20]);
    assert_eq!(issuer.requests(), 1);
}

#[tokio::test]
async fn a_key_that_signs_as_soon_as_it_is_published_is_fetched_once_by_who_needs_it() {
    let (old, new) = (SigningKey::new("old"), SigningKey::new("new"));
    let issuer = Issuer::publishing(&[&old]).await;
    let gateway = gateway(&issuer, ", timeout = \"20s\"").await;
    gateway.wait_for_metric(&refreshes("ok"), 1.0).await;
    issuer.answer(Answer::Nothing);
    let mut waiting = JoinSet::new();
    for _ in 0..20 {
        let (client, token) = (gateway.client(), new.token("ann"));
        waiting.spawn(async move { status(client, &token).await });
    }
    issuer.asked(2).await;
    gateway.wait_for_metric("framegate_connections{listener=\"127.0.0.1:0\"}", 20.0).await;
    // Known keys wait for no fetch.
    assert_eq!(status(gateway.client(), &old.token("ben")).await, 101);
    assert!(waiting.try_join_next().is_none());
    issuer.publish(&[&old, &new]);
    assert_eq!(waiting.join_all().await, [101; 20]);
    assert_eq!(issuer.requests(), 2);
}

#[tokio::test]
async fn a_key_without_kid_is_followed_when_it_changes() {
    let nameless = |key: &SigningKey| {
        let mut jwk = key.jwk();
        jwk.as_object_mut().unwrap().remove("kid");
        Answer::Set(json!({ "keys": [jwk] }))
    };
    let (old, new) = (SigningKey::new("old"), SigningKey::new("new"));
    let issuer = Issuer::start(nameless(&old)).await;
    let gateway = gateway(&issuer, "").await;
    let header = json!({ "alg": "ES256" });
    assert_eq!(status(gateway.client(), &old.token_with("ann", &header)).await, 101);
    assert_eq!(status(gateway.client(), &old.token("ann")).await, 101, "with a kid, too");
    issuer.answer(nameless(&new));
    assert_eq!(status(gateway.client(), &new.token_with("ann", &header)).await, 101);
    assert_eq!(status(gateway.client(), &old.token_with("ann", &header)).await, 401);
}

/// Connects with the newest token again and again; how often.
async fn come_again(
    client: Client,
    token: Arc<std::sync::Mutex<String>>,
    stop: Arc<AtomicBool>,
) -> usize {
    let mut count = 0;
    while !stop.load(Ordering::Acquire) {
        let token = token.lock().unwrap().clone();
        let answered = client.clone().token(&token).connect().await;
        assert_eq!(answered.status, 101, "{}", answered.head);
        count += 1;
    }
    count
}

#[tokio::test]
async fn rotation_under_load_refuses_no_valid_token_and_forgets_withdrawn_keys_in_time() {
    const REFRESH: Duration = Duration::from_secs(4);
    let mut current = SigningKey::new("0");
    let issuer = Issuer::publishing(&[&current]).await;
    let gateway = gateway(&issuer, ", refresh = \"4s\", cooldown = \"1h\"").await;
    assert_eq!(status(gateway.client(), &current.token("ann")).await, 101);
    let token = Arc::new(std::sync::Mutex::new(current.token("ann")));
    let stop = Arc::new(AtomicBool::new(false));
    let load = |_| come_again(gateway.client(), Arc::clone(&token), Arc::clone(&stop));
    let load: JoinSet<_> = (0..4).map(load).collect();
    for round in 1..=3 {
        let next = SigningKey::new(&round.to_string());
        issuer.publish(&[&current, &next]);
        // Asked once more, and the answer is in: whoever publishes ahead makes nobody wait.
        let fetched = gateway.metric(&refreshes("ok")).await;
        within("the next set", async {
            while gateway.metric(&refreshes("ok")).await <= fetched {
                tokio::task::yield_now().await;
            }
        })
        .await;
        *token.lock().unwrap() = next.token("ann");
        issuer.publish(&[&next]);
        let withdrawn = Instant::now();
        let old = current.token("ben");
        within("the end of a key", async {
            let mut asked = Instant::now();
            while status(gateway.client(), &old).await == 101 {
                assert!(asked - withdrawn <= REFRESH, "round {round}");
                asked = Instant::now();
            }
        })
        .await;
        assert_eq!(label(gateway.client(), &old).await, "token_key_unknown");
        current = next;
    }
    stop.store(true, Ordering::Release);
    let counts = load.join_all().await;
    assert!(counts.iter().all(|count| *count > 10), "{counts:?}");
    println!("{counts:?} handshakes, {} fetches", issuer.requests());
}

#[tokio::test]
async fn any_number_of_unknown_keys_cause_one_fetch_and_nobody_waits_longer_than_the_timeout() {
    let key = SigningKey::new("a");
    let issuer = Issuer::publishing(&[&key]).await;
    let gateway = gateway(&issuer, ", timeout = \"2s\", cooldown = \"1h\"").await;
    gateway.wait_for_metric(&refreshes("ok"), 1.0).await;
    issuer.answer(Answer::Nothing);
    let stranger = Arc::new(SigningKey::new("?"));
    let longest = Arc::new(AtomicUsize::new(0));
    let mut flood = JoinSet::new();
    for number in 0..200 {
        let (client, stranger) = (gateway.client(), Arc::clone(&stranger));
        let longest = Arc::clone(&longest);
        flood.spawn(async move {
            let header = json!({ "alg": "ES256", "kid": number.to_string() });
            let began = Instant::now();
            let status = status(client, &stranger.token_with("eve", &header)).await;
            let took = usize::try_from(began.elapsed().as_millis()).unwrap();
            longest.fetch_max(took, Ordering::AcqRel);
            status
        });
    }
    issuer.asked(2).await;
    assert_eq!(status(gateway.client(), &key.token("ann")).await, 101);
    assert_eq!(flood.join_all().await, [401; 200]);
    let longest = longest.load(Ordering::Acquire);
    println!("the longest wait: {longest} ms");
    assert!((2000..10_000).contains(&longest), "{longest} ms");
    gateway.wait_for_metric(&refreshes("timeout"), 1.0).await;
    // Now the next ones do not wait at all: the issuer is not asked.
    issuer.publish(&[&key, &stranger]);
    for number in 0..50 {
        let header = json!({ "alg": "ES256", "kid": number.to_string() });
        assert_eq!(status(gateway.client(), &stranger.token_with("eve", &header)).await, 401);
    }
    assert_eq!(issuer.requests(), 2);
}

#[tokio::test]
async fn tokens_that_no_key_would_help_cause_no_fetch() {
    let (key, other) = (SigningKey::new("a"), SigningKey::new("a"));
    let (issuer, evil) = (Issuer::publishing(&[&key]).await, Issuer::publishing(&[&other]).await);
    let gateway = gateway(&issuer, ", cooldown = \"10ms\"").await;
    gateway.wait_for_metric(&refreshes("ok"), 1.0).await;
    let unknown = |claims: &str| sign_with("x", r#"{"alg":"ES256","kid":"?"}"#, claims);
    let expired = json!({ "sub": "ann", "exp": tokens::now() - 3600 }).to_string();
    let elsewhere =
        json!({ "sub": "ann", "exp": tokens::now() + 60, "iss": "https://x" }).to_string();
    for (token, label) in [
        // Its key is known, and has not signed it.
        (other.token("ann"), "token_signature"),
        (unknown(&expired), "token_key_unknown"),
        (unknown(&elsewhere), "token_key_unknown"),
        // A secret is never published.
        (tokens::token("ann"), "token_key_unknown"),
    ] {
        let answered = gateway.client().token(&token).connect().await;
        assert_eq!(answered.status, 401, "{label}");
        let body = answered.body().await;
        assert!(body.starts_with(label), "{body}");
    }
    assert_eq!(issuer.requests(), 1);
    // Nowhere does a token lead to another place.
    let jku = json!({ "alg": "ES256", "kid": "?", "jku": evil.url(), "x5u": evil.url(), "jwk": other.jwk() });
    assert_eq!(status(gateway.client(), &other.token_with("eve", &jku)).await, 401);
    assert_eq!((issuer.requests(), evil.requests()), (2, 0));
}

#[tokio::test]
async fn a_set_in_which_all_is_withdrawn_leaves_nothing() {
    let key = SigningKey::new("a");
    let issuer = Issuer::publishing(&[&key]).await;
    let mut gateway = gateway(&issuer, ", cooldown = \"100ms\"").await;
    assert_eq!(status(gateway.client(), &key.token("ann")).await, 101);
    issuer.answer(Answer::Set(json!({ "keys": [{ "kty": "oct", "k": "c2VjcmV0", "kid": "s" }] })));
    // Anybody's unknown key has it fetched.
    assert_eq!(status(gateway.client(), &SigningKey::new("?").token("eve")).await, 503);
    assert_eq!(label(gateway.client(), &key.token("ann")).await, "keys_unavailable");
    assert_eq!(gateway.admin_get("/readyz").await.0, 503);
    let is_note = |line: &serde_json::Value| {
        line["note"]
            .as_str()
            .is_some_and(|note| note.starts_with("keys[0] (kid \"s\"): is a secret"))
    };
    gateway.wait_for_log("a note", |lines| lines.iter().any(is_note)).await;
    issuer.publish(&[&key]);
    within("the key again", async {
        while status(gateway.client(), &key.token("ann")).await != 101 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_file_is_read_again_for_a_new_key_and_on_reload() {
    let [one, two] = ["1", "2"].map(SigningKey::new);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwks.json");
    let setup = setup("url = \"jwks.json\", cooldown = \"1h\"").await;
    let mut gateway = Gateway::start_in(folder, &setup).await;
    // Not there yet.
    is_refused(&mut gateway, unavailable(), &one.token("ann")).await;
    std::fs::write(&file, set_of(&[&one]).to_string()).unwrap();
    gateway.wait_for_metric(&refreshes("ok"), 1.0).await;
    assert_eq!(status(gateway.client(), &one.token("ann")).await, 101);
    std::fs::write(&file, set_of(&[&two]).to_string()).unwrap();
    gateway.reload(&setup).await;
    gateway.wait_for_metric(&refreshes("ok"), 2.0).await;
    let is_fetched = |line: &&serde_json::Value| line["message"] == "published keys fetched";
    let twice = |lines: &[serde_json::Value]| lines.iter().filter(is_fetched).count() == 2;
    gateway.wait_for_log("the news, twice", twice).await;
    assert_eq!(status(gateway.client(), &two.token("ann")).await, 101);
    assert_eq!(status(gateway.client(), &one.token("ann")).await, 401);
    // Half written: what was read stays.
    std::fs::write(&file, "{\"keys\": [").unwrap();
    gateway.reload(&setup).await;
    gateway.wait_for_metric(&refreshes("invalid"), 1.0).await;
    assert_eq!(status(gateway.client(), &two.token("ann")).await, 101);
}

#[tokio::test]
async fn a_reload_keeps_the_keys_of_a_place_and_begins_anew_with_another() {
    let (key, other) = (SigningKey::new("a"), SigningKey::new("b"));
    let (issuer, elsewhere) =
        (Issuer::publishing(&[&key]).await, Issuer::publishing(&[&other]).await);
    let settings = |issuer: &Issuer, more: &str| format!("url = \"{}\"{more}", issuer.url());
    let first = setup(&settings(&issuer, "")).await;
    let mut gateway = Gateway::start(&first).await;
    assert_eq!(status(gateway.client(), &key.token("ann")).await, 101);
    let since = gateway.metric(LAST).await;
    issuer.answer(Answer::Nothing);
    for _ in 0..5 {
        gateway.reload(&first).await;
        assert_eq!(status(gateway.client(), &key.token("ann")).await, 101);
    }
    // Other times: the keys stay, and are not due yet.
    let slower = setup(&settings(&issuer, ", refresh = \"20m\"")).await;
    gateway.reload(&slower).await;
    assert_eq!(status(gateway.client(), &key.token("ann")).await, 101);
    assert_eq!((issuer.requests(), gateway.metric(LAST).await), (1, since));

    elsewhere.answer(answer("500 Internal Server Error", "", ""));
    // A place that does not answer would leave nobody a key: the one before stays.
    let moved = setup(&settings(&elsewhere, "")).await;
    gateway.write(&moved.text());
    let problems = gateway.refuse_reload().await;
    let [problem] = &problems[..] else { panic!("{problems:#?}") };
    assert_eq!(problem["path"], "verifiers.users.jwks");
    assert_eq!(status(gateway.client(), &key.token("ann")).await, 101);
    elsewhere.publish(&[&other]);
    gateway.reload(&moved).await;
    assert_eq!(status(gateway.client(), &other.token("ann")).await, 101);
    assert_eq!(status(gateway.client(), &key.token("ann")).await, 401);

    // No verifier with published keys is left: nothing of theirs can get old.
    let mut fixed = setup("url = \"x\"").await;
    fixed.keys = Setup::open("http://127.0.0.1:1").keys;
    fixed.verifier = Setup::open("http://127.0.0.1:1").verifier;
    gateway.reload(&fixed).await;
    assert!(!gateway.metrics().await.contains_key(LAST));
    assert_eq!(status(gateway.client(), &tokens::token("ann")).await, 101);
}

#[tokio::test]
async fn keys_of_both_kinds_stand_side_by_side() {
    let key = SigningKey::new("a");
    let issuer = Issuer::start(answer("503 Service Unavailable", "", "")).await;
    let mut both = setup(&format!("url = \"{}\"", issuer.url())).await;
    both.keys = "[{ kid = \"fixed\", algorithm = \"HS256\", file = \"secret\" }]".to_owned();
    let mut gateway = Gateway::start(&both).await;
    let claims = serde_json::Value::Object(tokens::claims("ann"));
    let fixed = tokens::sign_as(&json!({ "alg": "HS256", "kid": "fixed" }), &claims.to_string());
    assert_eq!(status(gateway.client(), &fixed).await, 101);
    assert_eq!(gateway.admin_get("/readyz").await.0, 200, "it has a key");
    // This one's may be among those that are not here; that one's cannot be.
    is_refused(&mut gateway, unavailable(), &key.token("ann")).await;
    let other = tokens::sign_as(&json!({ "alg": "HS256", "kid": "other" }), &claims.to_string());
    is_refused(&mut gateway, unknown(), &other).await;
    // One that names no key may be signed with any.
    assert_eq!(status(gateway.client(), &tokens::token("ann")).await, 101);
    issuer.publish(&[&key]);
    gateway.wait_for_metric(&refreshes("ok"), 1.0).await;
    for token in [&fixed, &key.token("ann")] {
        assert_eq!(status(gateway.client(), token).await, 101);
    }
}

#[tokio::test]
async fn a_secret_is_good_until_its_not_after_beside_its_successor() {
    let backend = Backend::start().await.echo();
    let mut setup = without_limits(Setup::with_tokens(&format!("http://{backend}")));
    let end = tokens::now() + 4;
    let until = jiff::Timestamp::from_second(end).unwrap();
    setup.keys = format!(
        "[{{ algorithm = \"HS256\", file = \"old\", not_after = {until} }}, \
         {{ algorithm = \"HS256\", file = \"secret\" }}]"
    );
    let folder = tempfile::tempdir().unwrap();
    let secret = "the secret that was used up to now";
    std::fs::write(folder.path().join("old"), secret).unwrap();
    let mut gateway = Gateway::start_in(folder, &setup).await;
    let header = r#"{"alg":"HS256"}"#;
    let claims = serde_json::Value::Object(tokens::claims("ann")).to_string();
    let old = sign_with(secret, header, &claims);
    let mut before = 0;
    within("the end of a secret", async {
        while status(gateway.client(), &old).await == 101 {
            before += 1;
            assert!(tokens::now() <= end + 2);
        }
    })
    .await;
    assert!(before > 0 && tokens::now() > end);
    assert_eq!(status(gateway.client(), &tokens::token("ann")).await, 101);
    // The last one gone: nothing can be checked, and that is told as our fault.
    setup.keys = format!("[{{ algorithm = \"HS256\", file = \"old\", not_after = \"{until}\" }}]");
    gateway.reload(&setup).await;
    is_refused(&mut gateway, unavailable(), &old).await;
    let is_warning = |line: &serde_json::Value| {
        line["path"] == "verifiers.users.keys[0].file"
            && line["warning"].as_str().is_some_and(|text| text.contains("has passed"))
    };
    gateway.wait_for_log("a warning", |lines| lines.iter().any(is_warning)).await;
    assert_eq!(gateway.admin_get("/readyz").await.0, 503);
}
