//! Tokens: where they may stand, what is wrong with them, what they allow, and that they stay secret.

use serde_json::{Value, json};

use crate::support::client::answered;
use crate::support::tokens::{
    base64url, claims, now, sign_as, sign_with, subprotocol_entry, token, token_with,
};
use crate::support::{Backend, Client, Gateway, Refusal, Setup};

const PAGE: &str = "https://chat.example.com";
const OFFER: &str = "Sec-WebSocket-Protocol";

fn unauthorized<'a>(label: &'a str, route: &'a str) -> Refusal<'a> {
    Refusal::at_admission(label, 401, 4401, route)
}

/// Must be accepted as this user.
async fn accepted(gateway: &mut Gateway, client: Client, user: &str) {
    let answered = client.clone().connect().await;
    assert_eq!(answered.status, 101, "{client:?} {}", answered.head);
    let id = answered.header("x-request-id").unwrap();
    drop(answered);
    assert_eq!(gateway.line_of(&id).await["user"], user);
}

/// A route `/NAME` with a verifier of its own for each row: name, lines of the verifier.
fn with_verifiers(backend: &str, rows: &[(&str, &str)]) -> Setup {
    let mut setup = Setup::open(backend).timeouts("close = \"300ms\"");
    for (name, lines) in rows {
        let lines = format!("user_claim = \"sub\"\n{lines}");
        setup = setup.another_verifier(name, &lines).another_route(
            &format!("/{name}"),
            "chat",
            &format!("verifier = \"{name}\""),
        );
    }
    setup
}

/// A route for each source, named after it.
async fn gateway_with_each_source() -> Gateway {
    let backend = format!("http://{}", Backend::start().await.echo());
    let setup = with_verifiers(
        &backend,
        &[
            ("header", "sources = [\"header\"]"),
            ("cookie", "sources = [\"cookie:session\"]"),
            ("query", "sources = [\"query:token\"]"),
            ("after", "sources = [\"subprotocol:bearer\"]"),
            ("entry", "sources = [\"subprotocol\"]"),
            ("default", ""),
        ],
    );
    Gateway::start(&setup).await
}

#[tokio::test]
async fn a_token_counts_wherever_the_verifier_looks_for_it() {
    let mut gateway = gateway_with_each_source().await;
    let token = token("ann");
    let (entry, bearer) = (subprotocol_entry(&token), format!("Bearer {token}"));
    let at = |gateway: &Gateway, path: &str| gateway.client().path(path);
    let rows = [
        at(&gateway, "/header").header("Authorization", &bearer),
        at(&gateway, "/header").header("authorization", &format!("bEARER   {token} ")),
        at(&gateway, "/cookie").header("Cookie", &format!("session={token}")),
        at(&gateway, "/cookie").header("Cookie", &format!("a=b; session=\"{token}\"; Session=x")),
        at(&gateway, "/cookie")
            .header("Cookie", "a=b")
            .header("Cookie", &format!("session={token}")),
        at(&gateway, &format!("/query?token={token}")),
        at(&gateway, &format!("/query?a&token=Bearer%20{token}&b")),
        at(&gateway, &format!("/query?tok%65n=Bearer+{token}")),
        at(&gateway, "/after").header(OFFER, &format!("chat, bearer, {token}")),
        at(&gateway, "/entry").header(OFFER, &entry),
        at(&gateway, "/entry").header(OFFER, &format!("framegate, {entry}, chat")),
        at(&gateway, "/default").header("Authorization", &bearer),
        at(&gateway, "/default").header(OFFER, &format!("framegate, {entry}")),
        // Another scheme is for the backend.
        at(&gateway, "/default").header("Authorization", "Basic dTpw").header(OFFER, &entry),
    ];
    for client in rows {
        accepted(&mut gateway, client, "ann").await;
    }
}

#[tokio::test]
async fn a_token_counts_nowhere_else() {
    let mut gateway = gateway_with_each_source().await;
    let token = token("ann");
    let (entry, bearer) = (subprotocol_entry(&token), format!("Bearer {token}"));
    let with = |path: &'static str, name: &str, value: &str| {
        (path, gateway.client().path(path).header(name, value))
    };
    let cookies = format!("session={token}; token={token}");
    let elsewhere = [
        ("/header", gateway.client().path(&format!("/header?token={token}"))),
        ("/query", gateway.client().path("/query?token=")),
        with("/header", "Authorization", "Bearer"),
        with("/cookie", "Authorization", &bearer),
        with("/cookie", "Cookie", "session="),
        with("/query", "Cookie", &cookies),
        with("/after", OFFER, &entry),
        with("/entry", OFFER, &format!("bearer, {token}")),
        with("/default", "X-Auth-User", "ann"),
        with("/default", "Authorization", &format!("Basic {token}")),
    ];
    for (route, client) in elsewhere {
        unauthorized("token_missing", route).by_http(&mut gateway, client).await;
    }
}

#[tokio::test]
async fn the_first_source_that_has_one_counts_and_two_in_one_source_are_refused() {
    let backend = format!("http://{}", Backend::start().await.echo());
    let sources = "sources = [\"query:token\", \"header\", \"cookie:session\", \"subprotocol\"]";
    let mut gateway = Gateway::start(&with_verifiers(&backend, &[("all", sources)])).await;
    let (ann, bob) = (token("ann"), token("bob"));
    let first = gateway.client().path(&format!("/all?token={bob}")).token(&ann);
    accepted(&mut gateway, first, "bob").await;
    let empty = gateway.client().path("/all?token=").token(&ann);
    accepted(&mut gateway, empty, "ann").await;
    // What is wrong in the source that counts is not made good by a later one.
    let wrong = gateway.client().path("/all?token=x").token(&ann);
    unauthorized("token_malformed", "/all").by_http(&mut gateway, wrong).await;
    let at = |gateway: &Gateway| gateway.client().path("/all");
    let entries = format!("{}, {}", subprotocol_entry(&ann), subprotocol_entry(&bob));
    let rows = [
        gateway.client().path(&format!("/all?token={ann}&token={ann}")),
        gateway.client().path(&format!("/all?token={ann}&tok%65n={ann}")),
        at(&gateway).token(&ann).token(&ann),
        at(&gateway).token(&ann).header("Authorization", "Basic dTpw"),
        at(&gateway).header("Cookie", &format!("session={ann}; session={ann}")),
        at(&gateway).header("Cookie", &format!("session={ann}")).header("Cookie", "session=x"),
        at(&gateway).header(OFFER, &entries),
    ];
    for client in rows {
        let told = unauthorized("token_malformed", "/all").by_http(&mut gateway, client).await;
        assert!(told.body.contains("two tokens"), "{}", told.body);
    }
}

#[tokio::test]
async fn a_cookie_counts_only_for_pages_that_may_connect() {
    let backend = format!("http://{}", Backend::start().await.echo());
    let setup = with_verifiers(&backend, &[("open", "sources = [\"cookie:session\"]")]);
    let listed = "verifier = \"open\"\norigins = [\"https://chat.example.com\"]";
    let mut gateway = Gateway::start(&setup.another_route("/listed", "chat", listed)).await;
    let cookie = format!("session={}", token("ann"));
    let client = |gateway: &Gateway, path: &str, origin: Option<&str>| {
        let client = gateway.client().path(path).header("Cookie", &cookie);
        origin.iter().fold(client, |client, origin| client.origin(origin))
    };
    let good = [
        ("/open", None),
        // The page of this very host.
        ("/open", Some("https://chat.example.com")),
        ("/listed", None),
        ("/listed", Some("https://chat.example.com")),
    ];
    for (path, origin) in good {
        let client = client(&gateway, path, origin);
        accepted(&mut gateway, client, "ann").await;
    }
    for origin in ["https://evil.example", "https://chat.example.com:8443", "null"] {
        let client = client(&gateway, "/open", Some(origin));
        unauthorized("token_missing", "/open").by_close(&mut gateway, client).await;
    }
    let foreign = client(&gateway, "/listed", Some("https://evil.example"));
    let row = Refusal::at_admission("origin_denied", 403, 4403, "/listed");
    row.by_close(&mut gateway, foreign).await;
}

fn header() -> Value {
    json!({"alg": "HS256", "typ": "JWT"})
}

/// Header and payload as JSON texts, signed.
fn raw(header: &str, payload: &str) -> String {
    sign_with(crate::support::tokens::SECRET, header, payload)
}

fn with_header(header: Value) -> String {
    sign_as(&header, &json!(claims("ann")).to_string())
}

fn with(changes: Value) -> String {
    token_with("ann", changes)
}

/// Tokens that are no JWTs, or break a rule of their form.
fn malformed() -> Vec<String> {
    let good = token("ann");
    let parts: Vec<&str> = good.split('.').collect();
    let payload = json!(claims("ann")).to_string();
    let twice = payload.replacen('{', "{\"sub\":\"bob\",", 1);
    let bits = format!("{}.{}.{}=", parts[0], parts[1], parts[2]);
    vec![
        "x".to_owned(),
        "..".to_owned(),
        format!("{}.{}", parts[0], parts[1]),
        format!("{good}.x"),
        format!("{good}.x.y"),
        bits,
        format!("{}.{}.!!!!", parts[0], parts[1]),
        format!("{}.{}.", base64url("{\"alg\":\"none\"}"), parts[1]),
        format!("{}.{}.", base64url("{\"alg\":\"NoNe\"}"), parts[1]),
        with_header(json!({"alg": "HS256", "crit": ["exp"], "exp": 1})),
        with_header(json!({"alg": "HS256", "zip": "DEF"})),
        with_header(json!({"typ": "JWT"})),
        with_header(json!({"alg": 1})),
        with_header(json!({"alg": "HS256", "kid": 1})),
        raw("{\"alg\":\"HS256\",\"alg\":\"HS256\"}", &payload),
        raw(&header().to_string(), &twice),
        raw(&header().to_string(), "[]"),
        raw(&header().to_string(), "no JSON"),
        raw("no JSON", &payload),
        with(json!({"exp": null})),
        with(json!({"exp": "tomorrow"})),
        with(json!({"nbf": "now"})),
        with(json!({"iat": [1]})),
        with(json!({"iss": 1})),
        with(json!({"aud": [1]})),
        with(json!({"sub": null})),
        with(json!({"sub": 7.5})),
        with(json!({"sub": ""})),
        with(json!({"sub": "a\nb"})),
        with(json!({"sub": "x".repeat(257)})),
    ]
}

/// Every other fault, by label.
fn faulty() -> Vec<(&'static str, String)> {
    let good = token("ann");
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let bob = token("bob");
    let payload = bob.split('.').nth(1).unwrap();
    let swapped = format!("{}.{payload}.{signature}", signed.split('.').next().unwrap());
    let claims = json!(claims("ann")).to_string();
    vec![
        ("token_expired", with(json!({"exp": now() - 31}))),
        ("token_expired", with(json!({"exp": 0}))),
        ("token_expired", with(json!({"exp": -5.5}))),
        ("token_not_yet_valid", with(json!({"nbf": now() + 600}))),
        ("token_not_yet_valid", with(json!({"iat": now() + 600}))),
        ("token_not_yet_valid", with(json!({"iat": 1e300}))),
        ("token_signature", swapped),
        ("token_signature", format!("{signed}.")),
        ("token_signature", format!("{signed}.AAAA")),
        ("token_signature", sign_with(&"x".repeat(40), &header().to_string(), &claims)),
        ("token_key_unknown", with_header(json!({"alg": "HS512"}))),
        ("token_key_unknown", with_header(json!({"alg": "RS256"}))),
        ("token_key_unknown", with_header(json!({"alg": "XS256"}))),
        ("token_issuer", with(json!({"iss": null}))),
        ("token_issuer", with(json!({"iss": "https://ID.example.com"}))),
        ("token_audience", with(json!({"aud": null}))),
        ("token_audience", with(json!({"aud": []}))),
        ("token_audience", with(json!({"aud": ["mail", "Chat"]}))),
        ("token_kind", with(json!({"token_use": null}))),
        ("token_kind", with(json!({"token_use": "refresh"}))),
        ("token_kind", with(json!({"token_use": ["access"]}))),
        ("token_kind", with_header(json!({"alg": "HS256", "typ": "refresh+jwt"}))),
    ]
}

#[tokio::test]
async fn every_fault_of_a_token_has_its_label_on_the_wire() {
    let setup = Setup::with_tokens("unix:none")
        .timeouts("close = \"300ms\"")
        .limits("handshakes_per_address = { rate = \"0/s\" }");
    let mut gateway = Gateway::start(&setup).await;
    let malformed = malformed().into_iter().map(|token| ("token_malformed", token));
    for (label, token) in faulty().into_iter().chain(malformed) {
        let client = gateway.client().token(&token);
        unauthorized(label, "/ws").by_http(&mut gateway, client.clone()).await;
        let page = gateway.client().origin(PAGE);
        let page = page.header(OFFER, &format!("framegate, {}", subprotocol_entry(&token)));
        unauthorized(label, "/ws").by_close(&mut gateway, page).await;
    }
}

#[tokio::test]
async fn a_token_that_holds_is_accepted_in_every_form() {
    let backend = format!("http://{}", Backend::start().await.echo());
    let strict = with_verifiers(
        &backend,
        &[
            ("typed", "token_types = [\"at+jwt\"]"),
            ("claimed", "required_claims = { \"realm.kind\" = \"access\", level = 2 }"),
        ],
    );
    let mut setup = strict.another_route("/strict", "chat", "verifier = \"users\"");
    // `user_claim` of its own.
    setup = setup.another_verifier("mail", "user_claim = \"contact.email\"");
    setup = setup.another_route("/mail", "chat", "verifier = \"mail\"");
    let mut gateway = Gateway::start(&setup).await;
    let typed = |typ: &str| with_header(json!({"alg": "HS256", "typ": typ}));
    let kind = |kind: &str| with(json!({"realm": {"kind": kind}, "level": 2}));
    let rows = [
        ("/strict", "ann", token("ann")),
        ("/strict", "ann", with(json!({"aud": ["mail", "chat"]}))),
        // Within the leeway.
        ("/strict", "ann", with(json!({"exp": now() - 1, "nbf": now() + 20, "iat": now() + 20}))),
        ("/strict", "ann", with(json!({"exp": now() as f64 + 300.5}))),
        ("/strict", "ann", with_header(json!({"alg": "HS256"}))),
        ("/strict", "ann", with_header(json!({"alg": "HS256", "kid": "any"}))),
        ("/strict", "ann", typed("application/JWT")),
        ("/strict", "J\u{fc}rgen", token("J\u{fc}rgen")),
        ("/typed", "ann", typed("AT+jwt")),
        ("/typed", "ann", typed("application/at+jwt")),
        ("/claimed", "ann", kind("access")),
        ("/mail", "ann@example.com", with(json!({"contact": {"email": "ann@example.com"}}))),
    ];
    for (path, user, token) in rows {
        let client = gateway.client().path(path).token(&token);
        accepted(&mut gateway, client, user).await;
    }
    let refused = [
        ("/typed", "token_kind", typed("JWT")),
        ("/typed", "token_kind", with_header(json!({"alg": "HS256"}))),
        ("/claimed", "token_kind", kind("refresh")),
        ("/claimed", "token_kind", with(json!({"realm": {"kind": "access"}, "level": "2"}))),
        ("/mail", "token_malformed", with(json!({"contact": "ann@example.com"}))),
    ];
    for (path, label, token) in refused {
        let client = gateway.client().path(path).token(&token);
        unauthorized(label, path).by_http(&mut gateway, client).await;
    }
}

#[tokio::test]
async fn the_route_says_which_claims_allow_it() {
    const CHAT: &str = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
    let backend = format!("http://{}", Backend::start().await.echo());
    let rules = "verifier = \"users\"\nparameters = { chat = \"uuid\" }\n\
                 authorize = { claims = { role = [\"admin\", \"agent\"] }, contains = { chats = \"chat\" } }";
    let path = "/chats/{chat}";
    let setup = Setup::open(&backend).timeouts("close = \"300ms\"");
    let setup = setup.another_route(path, "chat", rules).another_route(
        "/nested",
        "chat",
        "verifier = \"users\"\nauthorize = { claims = { \"realm.roles\" = \"chat\", level = 3 } }",
    );
    let mut gateway = Gateway::start(&setup).await;
    let upper = CHAT.to_ascii_uppercase();
    let here = format!("/chats/{CHAT}");
    let allowed = [
        (&*here, json!({"role": "agent", "chats": [CHAT]})),
        (&*here, json!({"role": ["guest", "admin"], "chats": CHAT})),
        (&*here, json!({"role": "agent", "chats": ["x", upper]})),
        ("/nested", json!({"realm": {"roles": ["chat"]}, "level": 3})),
    ];
    for (path, claims) in allowed {
        let client = gateway.client().path(path).token(&with(claims));
        accepted(&mut gateway, client, "ann").await;
    }
    let denied = [
        (&*here, path, json!({"chats": [CHAT]})),
        (&*here, path, json!({"role": "Agent", "chats": [CHAT]})),
        (&*here, path, json!({"role": "agent"})),
        (&*here, path, json!({"role": "agent", "chats": []})),
        (&*here, path, json!({"role": "agent", "chats": [CHAT.replace('6', "7")]})),
        (&*here, path, json!({"role": "agent", "chats": {CHAT: true}})),
        ("/nested", "/nested", json!({"realm": {"roles": ["chat"]}, "level": "3"})),
        ("/nested", "/nested", json!({"realm": "chat", "level": 3})),
    ];
    for (path, route, claims) in denied {
        let client = gateway.client().path(path).token(&with(claims));
        let row = Refusal::at_admission("forbidden", 403, 4403, route);
        row.by_http(&mut gateway, client.clone()).await;
        row.by_close(&mut gateway, client.origin(PAGE)).await;
    }
    // The form of the path comes before the token.
    let client = gateway.client().path("/chats/7").token(&with(json!({"role": "admin"})));
    Refusal::at_admission("no_route", 404, 4404, "none").by_http(&mut gateway, client).await;
}

/// Parts of a token that would give it away, or what was said in it.
fn traces(token: &str) -> Vec<String> {
    let mut traces = vec![token.to_owned(), base64url(token)];
    traces.extend(token.split('.').filter(|part| part.len() > 8).map(str::to_owned));
    traces
}

/// Presents a token in every place, by HTTP and by Close; what the client is told.
async fn present(gateway: &Gateway, backend: &Backend, token: &str, status: u16) -> String {
    let mut told = String::new();
    for client in everywhere(gateway, token) {
        let served = async {
            if status == 101 {
                drop(backend.asked().await.accept("").await);
            }
        };
        let (mut answer, ()) = tokio::join!(client.connect(), served);
        assert_eq!(answer.status, status, "{}", answer.head);
        if status != 101 {
            told.push_str(&answer.head);
            told.push_str(&answer.wire.rest().await);
        }
    }
    if status != 101 {
        let page = gateway.client().path(&format!("/all?token={token}"));
        let mut answer = page.origin("https://a.example").connect().await;
        let (code, reason) = answer.wire.expect_close().await;
        assert_eq!(code, Some(4401));
        told.push_str(&reason);
    }
    told
}

#[tokio::test]
async fn no_token_appears_in_logs_metrics_or_refusals() {
    let backend = Backend::start().await;
    let sources = "sources = [\"header\", \"cookie:session\", \"query:token\", \
                   \"subprotocol:bearer\", \"subprotocol\"]";
    let limits = "required_claims = { token_use = \"access\" }";
    let mut setup = with_verifiers(&backend.url(), &[("all", &format!("{sources}\n{limits}"))]);
    setup.log_level = "trace";
    let mut gateway = Gateway::start(&setup).await;
    let tokens = [
        (with(json!({"note": "secret-note"})), 101),
        (with(json!({"note": "secret-note", "token_use": "refresh"})), 401),
        (sign_with(&"y".repeat(40), "{\"alg\":\"HS256\"}", "{\"note\":\"secret-note\"}"), 401),
        ("opaque-secret-of-another-kind".to_owned(), 401),
    ];
    let mut seen = Vec::new();
    for (token, status) in &tokens {
        seen.push(("a refusal", present(&gateway, &backend, token, *status).await));
    }
    let all = |lines: &[Value]| {
        let count = |outcome| lines.iter().filter(|line| line["outcome"] == outcome).count();
        (count("accepted"), count("refused")) == (6, 3 * (6 + 1))
    };
    gateway.wait_for_log("a line for each connection", all).await;
    seen.push(("the log", gateway.log().iter().map(|line| format!("{line}\n")).collect()));
    for path in ["/metrics", "/health/ws", "/api/sessions"] {
        seen.push((path, gateway.admin_get(path).await.1));
    }
    // The header of every token is the same and no secret.
    let headers = [base64url(&header().to_string()), base64url("{\"alg\":\"HS256\"}")];
    for (place, text) in seen {
        assert!(!text.contains("secret-note"), "{place} tells a claim");
        for trace in tokens.iter().flat_map(|(token, _)| traces(token)) {
            let is_told = !headers.contains(&trace) && text.contains(&trace);
            assert!(!is_told, "{place} tells {trace}");
        }
    }
}

/// A client for each place a token can stand in.
fn everywhere(gateway: &Gateway, token: &str) -> Vec<Client> {
    let all = || gateway.client().path("/all");
    vec![
        all().token(token),
        all().header("Cookie", &format!("session={token}")),
        gateway.client().path(&format!("/all?token={token}")),
        all().header(OFFER, &format!("bearer, {token}")),
        // The only one offered, so that it is selected.
        all().header(OFFER, &subprotocol_entry(token)),
        all().header(OFFER, &format!("chat, {}", subprotocol_entry(token))),
    ]
}

#[tokio::test]
async fn an_upstream_that_echoes_the_token_back_makes_no_difference() {
    let backend = Backend::start().await;
    let setup = with_verifiers(&backend.url(), &[("after", "sources = [\"subprotocol:bearer\"]")]);
    let mut gateway = Gateway::start(&setup).await;
    let token = token("ann");
    let client = gateway.client().path("/after").header(OFFER, &format!("bearer, {token}"));
    let (client, asked) = tokio::join!(client.ask(), backend.asked());
    // It selects the token itself, as some do who take the last one offered.
    let upstream = asked.accept(&format!("{OFFER}: {token}\r\n")).await;
    let answered = answered(client).await;
    assert_eq!(answered.header("sec-websocket-protocol").unwrap(), token);
    let id = answered.header("x-request-id").unwrap();
    drop((answered, upstream));
    let line = gateway.line_of(&id).await;
    assert_eq!(line["subprotocol"], Value::Null);
    assert!(!gateway.log().iter().any(|line| line.to_string().contains(&token)));
}
