//! The admin API over real sockets: sessions, how they ended, kicks, health, traces.

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::tokens::token;
use crate::support::{Backend, Gateway, Setup, Wire, within};

/// Status and JSON of the answer.
pub async fn api(gateway: &Gateway, request: &str) -> (u16, Value) {
    let headers = "Host: localhost\r\nX-Framegate: 1";
    let (status, _, body) = ask(gateway, request, headers).await;
    (status, serde_json::from_str(&body).unwrap_or_else(|e| panic!("{request}: {e}: {body}")))
}

/// Status, head and body of the answer.
async fn ask(gateway: &Gateway, request: &str, headers: &str) -> (u16, String, String) {
    within("an answer", async {
        let mut stream = TcpStream::connect(gateway.admin).await.unwrap();
        let text = format!("{request} HTTP/1.1\r\n{headers}\r\nConnection: close\r\n\r\n");
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_owned(), body.to_owned())
    })
    .await
}

/// Waits until the answer to a GET is so.
pub async fn until(gateway: &Gateway, request: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    within(request, async {
        loop {
            let (_, answer) = api(gateway, request).await;
            if is_so(&answer) {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

fn names(steps: &Value) -> Vec<&str> {
    steps.as_array().unwrap().iter().map(|step| step["name"].as_str().unwrap()).collect()
}

/// An upstream that echoes, and a gateway that wants tokens.
async fn start() -> Gateway {
    let backend = Backend::start().await.echo();
    Gateway::start(&Setup::with_tokens(&format!("http://{backend}"))).await
}

async fn session(gateway: &Gateway, user: &str) -> (Wire, String) {
    let answered = gateway.client().token(&token(user)).connect().await;
    assert_eq!(answered.status, 101, "{}", answered.head);
    let id = answered.header("x-request-id").unwrap();
    // The 101 goes out before the session is listed.
    until(gateway, &format!("GET /api/sessions/{id}"), |it| it["state"] == "open").await;
    (answered.wire, id)
}

#[tokio::test]
async fn an_open_session_is_shown_with_all_there_is() {
    let gateway = start().await;
    let (mut ann, id) = session(&gateway, "ann").await;
    ann.send_text("hello").await;
    ann.expect_text("hello").await;
    let shown = until(&gateway, &format!("GET /api/sessions/{id}"), |it| {
        it["messages"]["from_upstream"] == 1
    })
    .await;
    for (name, expected) in [
        ("id", Value::from(id.as_str())),
        ("user", "ann".into()),
        ("route", "/ws".into()),
        ("listener", "127.0.0.1:0".into()),
        ("via", Value::Null),
        ("host", "chat.example.com".into()),
        ("path", "/ws".into()),
        ("origin", Value::Null),
        ("upstream", "chat".into()),
        ("messages", serde_json::json!({ "from_client": 1, "from_upstream": 1 })),
        ("bytes", serde_json::json!({ "from_client": 5, "from_upstream": 5 })),
        ("pending_bytes", 0.into()),
    ] {
        assert_eq!(shown[name], expected, "{name}");
    }
    let handshake = ["accept", "request", "admission", "upstream_connect", "upstream_handshake"];
    assert_eq!(names(&shown["steps"]), handshake);
    assert!(shown["endpoint"].as_str().unwrap().starts_with("http://127.0.0.1:"));
    assert!(shown["age_s"].as_f64().unwrap() < 60.0 && shown["idle_s"].as_f64().unwrap() < 60.0);
    assert!(shown["opened"].as_str().unwrap().ends_with('Z') && shown.get("ended").is_none());
}

#[tokio::test]
async fn open_sessions_are_listed_and_found() {
    let gateway = start().await;
    let (_ann, id) = session(&gateway, "ann").await;
    let (_bob, bob) = session(&gateway, "Böb <b>").await;
    let (_, shown) = api(&gateway, &format!("GET /api/sessions/{id}")).await;
    let client = shown["client"].as_str().unwrap();
    let rows = [
        ("", vec![&bob, &id]),
        ("?limit=1", vec![&bob]),
        ("?user=ann", vec![&id]),
        ("?user=an", vec![]),
        ("?user=B%C3%B6b+%3Cb%3E", vec![&bob]),
        ("?q=B%C3%96B", vec![&bob]),
        ("?q=%2FWS", vec![&bob, &id]),
        ("?route=%2Fws&user=ann", vec![&id]),
        ("?route=%2Fw", vec![]),
        ("?client=127.0.0.1", vec![&bob, &id]),
        (&format!("?client={client}"), vec![&id]),
        (&format!("?q={}", &id[3..11]), vec![&id]),
    ];
    for (query, expected) in rows {
        let (status, list) = api(&gateway, &format!("GET /api/sessions{query}")).await;
        let sessions = list["sessions"].as_array().unwrap();
        let ids: Vec<_> = sessions.iter().map(|it| it["id"].as_str().unwrap()).collect();
        assert_eq!(
            (status, ids),
            (200, expected.iter().map(|id| id.as_str()).collect()),
            "{query}"
        );
        assert_eq!(list["open"], 2, "{query}");
        let matching = if query == "?limit=1" { 2 } else { expected.len() };
        assert_eq!(list["matching"], matching, "{query}");
    }
}

#[tokio::test]
async fn requests_that_are_wrong_are_told_why() {
    let gateway = start().await;
    let rows = [
        ("GET /api/sessions?usr=ann", 400, "there is no query parameter \"usr\" here"),
        ("GET /api/sessions?limit=0", 400, "limit must be a number from 1 to 10000"),
        ("GET /api/sessions?limit=1&limit=2", 400, "given twice"),
        ("GET /api/sessions/xyz", 400, "16 hexadecimal digits"),
        ("GET /api/sessions/0123456789abcdef", 404, "known for 10 minutes after the end"),
        ("GET /api/sessions/recent?label=nothing", 400, "there is no label \"nothing\""),
        ("DELETE /api/sessions/0123456789abcdef", 404, "known for 10 minutes"),
        ("DELETE /api/sessions/0123456789abcdef?code=1006", 400, "may not stand in a Close frame"),
        ("DELETE /api/sessions/0123456789abcdef?kode=4000", 400, "no query parameter \"kode\""),
        ("DELETE /api/users/ann/sessions?code=x", 400, "code must be a number"),
        ("DELETE /api/users//sessions", 404, "there is no such page"),
        ("POST /api/sessions", 405, "does not take that method"),
        ("PUT /api/sessions/0123456789abcdef", 405, "does not take that method"),
        ("GET /api/nothing", 404, "there is no such page"),
    ];
    for (request, status, error) in rows {
        let (got, answer) = api(&gateway, request).await;
        let said = answer["error"].as_str().unwrap();
        assert!(got == status && said.contains(error), "{request}: {got} {said}");
    }
    let long = format!("DELETE /api/users/ann/sessions?reason={}", "r".repeat(124));
    assert_eq!(api(&gateway, &long).await.0, 400);
    let headers = "Host: localhost\r\nX-Framegate: 1";
    let (_, head, _) = ask(&gateway, "POST /api/sessions/0123456789abcdef", headers).await;
    let head = head.to_ascii_lowercase();
    assert!(head.contains("allow: get, head, delete"), "{head}");
    assert!(head.contains("content-type: application/json"), "{head}");
    assert!(head.contains("cache-control: no-store"), "{head}");
}

#[tokio::test]
async fn every_resource_stands_behind_the_guards() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("admin-token"), "s3cret\n").unwrap();
    let mut setup = Setup::open("http://127.0.0.1:9");
    setup.admin = "bind = \"127.0.0.1:0\"\ntoken_file = \"admin-token\"\n".to_owned();
    let gateway = Gateway::start_in(folder, &setup).await;
    let id = "0123456789abcdef";
    let requests = [
        ("GET /api/sessions".to_owned(), 200),
        ("GET /api/sessions/recent".to_owned(), 200),
        (format!("GET /api/sessions/{id}"), 404),
        (format!("DELETE /api/sessions/{id}"), 404),
        ("DELETE /api/users/ann/sessions".to_owned(), 200),
        ("GET /health/ws".to_owned(), 200),
        ("POST /api/drain?percent=0".to_owned(), 200),
        ("DELETE /api/upstreams/chat/endpoints/0/drain".to_owned(), 200),
        ("POST /api/upstreams/chat/endpoints/0/drain".to_owned(), 200),
        ("POST /api/trace?user=ann".to_owned(), 200),
        ("GET /api/trace".to_owned(), 200),
        ("DELETE /api/trace/99".to_owned(), 404),
    ];
    let good = "Host: localhost\r\nAuthorization: Bearer s3cret\r\nX-Framegate: 1";
    let foreign = format!("{good}\r\nOrigin: https://evil.example");
    let wrong = "Host: localhost\r\nAuthorization: Bearer s3cre\r\nX-Framegate: 1";
    let rebound = "Host: evil.example\r\nAuthorization: Bearer s3cret\r\nX-Framegate: 1";
    let unmarked = "Host: localhost\r\nAuthorization: Bearer s3cret";
    for (request, expected) in &requests {
        let rows = [
            (good, *expected),
            (foreign.as_str(), 403),
            (wrong, 401),
            ("Host: localhost\r\nX-Framegate: 1", 401),
            (rebound, 421),
            (unmarked, if request.starts_with("GET") { *expected } else { 403 }),
        ];
        for (headers, status) in rows {
            let (got, _, body) = ask(&gateway, request, headers).await;
            assert_eq!(got, status, "{request} with {headers}: {body}");
            let answer: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(answer.get("error").is_some(), status != 200, "{request}: {body}");
        }
    }
}

#[tokio::test]
async fn the_kicked_are_told_by_close_and_nobody_else() {
    let mut gateway = start().await;
    let (mut ann, id) = session(&gateway, "ann").await;
    let (bob, _) = session(&gateway, "bob/1 ü").await;
    let (bob_again, bobs) = session(&gateway, "bob/1 ü").await;

    let (status, answer) = api(&gateway, &format!("DELETE /api/sessions/{id}")).await;
    assert_eq!((status, &answer["kicked"]), (200, &Value::from(1)));
    assert_eq!(ann.expect_close().await, (Some(4403), "kicked".to_owned()));
    drop(ann);
    let ended =
        until(&gateway, &format!("GET /api/sessions/{id}"), |it| it["state"] == "ended").await;
    assert_eq!((&ended["label"], &ended["by"]), (&"kicked".into(), &"admin".into()));
    assert_eq!((&ended["client_close"], &ended["phase"]), (&4403.into(), &"relay".into()));
    let (status, answer) = api(&gateway, &format!("DELETE /api/sessions/{id}")).await;
    assert!(status == 404 && answer["error"].as_str().unwrap().contains("over already"));

    let kick = "DELETE /api/users/bob%2F1%20%C3%BC/sessions?code=4999&reason=so%20long";
    assert_eq!(api(&gateway, kick).await, (200, serde_json::json!({ "kicked": 2 })));
    for mut wire in [bob, bob_again] {
        assert_eq!(wire.expect_close().await, (Some(4999), "so long".to_owned()));
    }
    until(&gateway, &format!("GET /api/sessions/{bobs}"), |it| it["state"] == "ended").await;
    assert_eq!(api(&gateway, kick).await, (200, serde_json::json!({ "kicked": 0 })));
    gateway.access_lines("kicked", 3).await;
    let series = "framegate_closes_total{by=\"admin\",code=\"4403\",route=\"/ws\"}";
    gateway.wait_for_metric(series, 1.0).await;
    let kicks = gateway.log().into_iter().filter(|line| line["message"] == "session kicked");
    assert_eq!(kicks.count(), 3);
}

#[tokio::test]
async fn how_a_session_ended_is_known_by_its_id() {
    let mut gateway = start().await;
    let (mut ann, id) = session(&gateway, "ann").await;
    ann.send_close(4000, "bye").await;
    ann.expect_close().await;
    // Until the client has hung up, or its time for that is over, the session is not over.
    let show = format!("GET /api/sessions/{id}");
    until(&gateway, &show, |it| it["state"] == "closing").await;
    let (status, answer) = api(&gateway, &format!("DELETE /api/sessions/{id}")).await;
    assert!(status == 404 && answer["error"].as_str().unwrap().contains("over already"));
    drop(ann);
    let shown = until(&gateway, &show, |it| it["state"] == "ended").await;
    for (name, expected) in [
        ("label", Value::from("client_closed")),
        ("by", "client".into()),
        ("user", "ann".into()),
        ("status", Value::Null),
        ("client_close", 4000.into()),
        ("upstream_close", 4000.into()),
        ("cut_frame", false.into()),
    ] {
        assert_eq!(shown[name], expected, "{name} of {shown}");
    }
    assert!(shown["sentence"].as_str().unwrap().contains("closed the session with code 4000"));
    assert!(shown.get("pending_bytes").is_none() && shown.get("idle_s").is_none(), "{shown}");
    assert_eq!(names(&shown["steps"]).last(), Some(&"relay"));
    assert_eq!(gateway.line_of(&id).await["label"], "client_closed");
}

#[tokio::test]
async fn why_a_handshake_was_refused_is_known_by_its_id() {
    let mut gateway = start().await;
    let client = || gateway.client();
    let page = client().origin("https://chat.example.com");
    type Row = (crate::support::Client, &'static str, u16, Value, &'static str);
    let rows: [Row; 4] = [
        (client(), "token_missing", 401, Value::Null, "Have the client send its token"),
        (page.token("x.y.z"), "token_malformed", 101, 4401.into(), "no well-formed JWT"),
        (client().path("/nowhere"), "no_route", 404, Value::Null, "Compare host and path"),
        (
            client().header("Sec-WebSocket-Key", "x"),
            "bad_request",
            400,
            Value::Null,
            "not a valid WebSocket handshake",
        ),
    ];
    let mut ids = Vec::new();
    for (client, label, status, close, sentence) in rows {
        // Its connection stays open: who was refused is told why at once.
        let answered = client.connect().await;
        let id = answered.header("x-request-id").unwrap();
        let show = format!("GET /api/sessions/{id}");
        let shown = until(&gateway, &show, |it| it["state"] == "refused").await;
        assert_eq!((&shown["label"], &shown["status"]), (&label.into(), &status.into()));
        assert_eq!(shown["client_close"], close, "{shown}");
        assert!(shown["sentence"].as_str().unwrap().contains(sentence), "{shown}");
        assert!(!names(&shown["steps"]).contains(&"relay"), "{shown}");
        assert_eq!(gateway.line_of(&id).await["label"], label, "the log says the same");
        ids.push(id);
    }
    let ids_of = |recent: &Value| {
        let sessions = recent["sessions"].as_array().unwrap().iter();
        sessions.map(|it| it["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let (_, recent) = api(&gateway, "GET /api/sessions/recent?limit=2").await;
    assert_eq!(ids_of(&recent), [ids[3].clone(), ids[2].clone()], "the newest first");
    let (_, recent) = api(&gateway, "GET /api/sessions/recent?label=no_route").await;
    assert_eq!(ids_of(&recent), [ids[2].clone()]);
}

#[tokio::test]
async fn a_client_that_leaves_early_is_found_too() {
    let backend = Backend::start().await;
    let mut gateway = Gateway::start(&Setup::open(&backend.url())).await;
    let client = gateway.client().ask().await;
    let asked = backend.asked().await;
    let id = asked.header("x-request-id").unwrap();
    drop(client);
    let shown =
        until(&gateway, &format!("GET /api/sessions/{id}"), |it| it["state"] == "abandoned").await;
    assert_eq!((&shown["by"], &shown["phase"]), (&"client".into(), &"connect".into()), "{shown}");
    assert_eq!((&shown["label"], &shown["status"]), (&"client_lost".into(), &Value::Null));
    assert!(shown["sentence"].as_str().unwrap().starts_with("The client left before"), "{shown}");
    gateway.line_of(&id).await;
}

#[tokio::test]
async fn health_says_of_everything_how_it_is() {
    let backend = Backend::start().await;
    let address = backend.address();
    let checks = "health = { interval = \"20ms\", timeout = \"2s\", probe = \"tcp\", fall = 2 }\n";
    let mut setup = Setup::with_tokens(&format!("http://{address}"));
    setup.upstream = checks.to_owned();
    let setup = setup.another_upstream("other", &["http://127.0.0.1:9"], "").another_route(
        "/other",
        "other",
        "verifier = \"none\"",
    );
    let gateway = Gateway::start(&setup).await;
    let endpoint = |health: &Value| health["upstreams"][0]["endpoints"][0].clone();
    let health = until(&gateway, "GET /health/ws", |it| endpoint(it)["healthy"] == true).await;
    assert_eq!((&health["status"], &health["reasons"]), (&"ok".into(), &serde_json::json!([])));
    assert!(endpoint(&health)["latency_ms"].as_f64().unwrap() > 0.0, "{health}");
    assert!(endpoint(&health)["checked_s_ago"].as_f64().unwrap() < 30.0, "{health}");
    assert_eq!(endpoint(&health)["last_error"], Value::Null);
    let other = &health["upstreams"][1];
    assert_eq!(other["name"], "other");
    assert_eq!(other["endpoints"][0]["healthy"], Value::Null, "nobody checks it");
    let listener = &health["listeners"][0];
    assert_eq!((&listener["open"], &listener["tls"]), (&true.into(), &false.into()));
    assert_eq!(
        health["verifiers"][0],
        serde_json::json!({ "name": "users", "keys": 1, "jwks": null })
    );
    assert_eq!(health["config"]["last_reload_successful"], true);

    drop(backend);
    let health = until(&gateway, "GET /health/ws", |it| endpoint(it)["healthy"] == false).await;
    assert_eq!(health["status"], "degraded", "{health}");
    assert!(endpoint(&health)["last_error"].as_str().unwrap().contains("refused"), "{health}");
    assert!(health["reasons"][0].as_str().unwrap().contains("of upstream chat is unhealthy"));
}

/// Lines of the target `trace` with this message.
fn traced(lines: &[Value], message: &str) -> Vec<Value> {
    let is_it = |line: &&Value| line["target"] == "trace" && line["message"] == message;
    lines.iter().filter(is_it).cloned().collect()
}

/// Frames as direction, sender, opcode, FIN and length.
fn frames(lines: &[Value]) -> Vec<String> {
    let shown = |line: Value| {
        let word = |name: &str| line[name].as_str().unwrap().to_owned();
        let (fin, length) = (&line["fin"], &line["length"]);
        format!("{} {} {} {fin} {length}", word("direction"), word("from"), word("opcode"))
    };
    traced(lines, "frame").into_iter().map(shown).collect()
}

#[tokio::test]
async fn a_session_that_is_open_is_traced_until_the_trace_ends() {
    let mut gateway = start().await;
    let (mut ann, id) = session(&gateway, "ann").await;
    let (mut bob, _) = session(&gateway, "bob").await;
    let (status, trace) = api(&gateway, "POST /api/trace?user=ann&minutes=2").await;
    assert_eq!((status, &trace["user"], &trace["client"]), (200, &"ann".into(), &Value::Null));
    let (_, list) = api(&gateway, "GET /api/trace").await;
    assert_eq!(list["traces"], serde_json::json!([trace]));
    gateway.wait_for_log("its trace", |log| traced(log, "session traced").len() == 1).await;
    for wire in [&mut ann, &mut bob] {
        wire.send_text("s3cret").await;
        wire.expect_text("s3cret").await;
    }
    gateway.wait_for_log("both frames", |log| frames(log).len() >= 2).await;
    let all = gateway.log();
    let theirs = ["to_upstream client text true 6", "to_client upstream text true 6"];
    assert_eq!(frames(&all), theirs);
    assert!(traced(&all, "frame").iter().all(|line| line["id"] == id.as_str()));
    assert_eq!(traced(&all, "step").len(), 5, "those of its handshake");

    let number = &trace["id"];
    let (status, ended) = api(&gateway, &format!("DELETE /api/trace/{number}")).await;
    assert_eq!((status, &ended["ended"]), (200, &true.into()));
    ann.send_text("unseen").await;
    ann.expect_text("unseen").await;
    let (_again, again) = session(&gateway, "ann").await;
    // Lines come in their order: what would be told is told before this one.
    assert_eq!(api(&gateway, "DELETE /api/users/ann/sessions").await.0, 200);
    let is_kick = |line: &Value| line["message"] == "session kicked";
    gateway.wait_for_log("both kicks", |log| log.iter().filter(|l| is_kick(l)).count() == 2).await;
    assert_eq!(frames(&gateway.log()), theirs);
    assert!(gateway.log().iter().all(|l| l["id"] != again.as_str() || l["target"] != "trace"));
    assert_eq!(api(&gateway, &format!("DELETE /api/trace/{number}")).await.0, 404);
}

#[tokio::test]
async fn a_trace_tells_steps_and_frame_headers_and_nothing_that_is_in_them() {
    let mut gateway = start().await;
    assert_eq!(api(&gateway, "POST /api/trace?user=ann").await.0, 200);
    let secret_token = token("ann");
    let answered = gateway.client().path("/ws?ticket=s3cret").token(&secret_token).connect().await;
    let id = answered.header("x-request-id").unwrap();
    let mut wire = answered.wire;
    wire.send(0x01, &vec![b's'; 70_000]).await;
    wire.send(0x80, b"s3cret").await;
    wire.send(0xc1, b"s3cret").await;
    assert_eq!(wire.until_close().await.unwrap().0, Some(1002));
    drop(wire);
    gateway.wait_for_log("its end", |log| traced(log, "connection over").len() == 1).await;

    let all = gateway.log();
    let lines: Vec<_> = all.iter().filter(|line| line["id"] == id.as_str()).cloned().collect();
    let steps: Vec<_> = traced(&lines, "step").iter().map(|l| l["step"].clone()).collect();
    let expected =
        ["accept", "request", "admission", "upstream_connect", "upstream_handshake", "relay"];
    assert_eq!(steps, expected);
    let seen = frames(&lines);
    for frame in [
        "to_upstream client text false 70000",
        "to_upstream client continuation true 6",
        "to_client gateway close true 18",
    ] {
        assert!(seen.iter().filter(|it| **it == frame).count() == 1, "{frame}: {seen:?}");
    }
    let [refused] = traced(&lines, "frame refused").try_into().unwrap();
    assert!(refused["violation"].as_str().unwrap().contains("reserved bit"), "{refused}");
    let [over] = traced(&lines, "connection over").try_into().unwrap();
    assert_eq!((&over["label"], &over["by"]), (&"client_violation".into(), &"client".into()));
    let access = gateway.line_of(&id).await;
    assert_eq!((&over["outcome"], &access["outcome"]), (&"accepted".into(), &"accepted".into()));
    for line in &all {
        let text = line.to_string();
        assert!(!text.contains("s3cret") && !text.contains(&secret_token), "{text}");
    }
}

#[tokio::test]
async fn a_trace_of_an_address_tells_refusals_too() {
    let mut gateway = start().await;
    for (query, status) in [
        ("", 400),
        ("?user=a&client=127.0.0.1", 400),
        ("?user=", 400),
        ("?client=localhost", 400),
        ("?user=a&minutes=61", 400),
        ("?user=a&minute=6", 400),
        ("?client=127.0.0.3", 200),
    ] {
        assert_eq!(api(&gateway, &format!("POST /api/trace{query}")).await.0, status, "{query}");
    }
    gateway.client().connect().await;
    let refused = gateway.client().from("127.0.0.3").connect().await;
    let id = refused.header("x-request-id").unwrap();
    gateway.wait_for_log("its end", |lines| traced(lines, "connection over").len() == 1).await;
    let lines: Vec<_> =
        gateway.log().into_iter().filter(|line| line["target"] == "trace").collect();
    let steps: Vec<_> = traced(&lines, "step").iter().map(|line| line["step"].clone()).collect();
    assert_eq!(steps, ["accept", "request", "admission"]);
    let over = &traced(&lines, "connection over")[0];
    assert_eq!((&over["label"], &over["status"]), (&"token_missing".into(), &401.into()));
    assert!(lines.iter().all(|line| line["id"] == id.as_str() || line["message"] == "trace begun"));
    for _ in 0..15 {
        assert_eq!(api(&gateway, "POST /api/trace?user=x").await.0, 200);
    }
    assert_eq!(api(&gateway, "POST /api/trace?user=x").await.0, 409);
}

#[tokio::test]
async fn a_handshake_that_hangs_is_listed_and_logged_before_it_is_over() {
    let backend = Backend::start().await;
    let mut gateway = Gateway::start(&Setup::open(&backend.url())).await;
    let (client, asked) = tokio::join!(gateway.client().ask(), backend.asked());
    let id = asked.header("x-request-id").unwrap();
    let (status, list) = gateway.admin("GET /api/sessions").await;
    assert_eq!((status, &list["open"], &list["matching"]), (200, &0.into(), &1.into()), "{list}");
    let (_, one) = gateway.admin(&format!("GET /api/sessions/{id}")).await;
    for shown in [&list["sessions"][0], &one] {
        let found = ["id", "state", "step", "route", "endpoint"].map(|name| shown[name].clone());
        let expected = [&*id, "connecting", "connect", "/ws", &*backend.url()];
        assert_eq!(found, expected, "{shown}");
        assert!(shown["age_s"].as_f64().is_some(), "{shown}");
    }
    let is_it = |line: &Value| line["message"] == "a handshake takes long" && line["id"] == *id;
    gateway.wait_for_log("its line", |log| log.iter().any(is_it)).await;
    let line = gateway.log().into_iter().find(is_it).unwrap();
    assert_eq!((&line["step"], &line["endpoint"]), (&"connect".into(), &backend.url().into()));
    let upstream = asked.accept("").await;
    let answered = crate::support::client::answered(client).await;
    assert_eq!(answered.status, 101);
    let (_, list) = gateway.admin("GET /api/sessions").await;
    assert_eq!(
        (&list["open"], &list["sessions"][0]["state"]),
        (&1.into(), &"open".into()),
        "{list}"
    );
    assert!(list["sessions"][0].get("step").is_none());
    drop((answered, upstream));
}
