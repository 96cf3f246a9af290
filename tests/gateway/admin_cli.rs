//! The commands that ask a running gateway: what they print, and what they say when it cannot be asked.

use std::net::SocketAddr;

use serde_json::Value;
use tempfile::TempDir;

use crate::admin_api::{api, until};
use crate::support::command::{Ran, run};
use crate::support::tokens::{token, token_with};
use crate::support::{Backend, Gateway, Setup, Wire, within};

/// A command that is to ask this gateway.
async fn ask(gateway: &Gateway, arguments: &[&str]) -> Ran {
    let admin = format!("http://{}", gateway.admin);
    run(&[arguments, &["--admin", &admin]].concat()).await
}

async fn start() -> Gateway {
    let backend = Backend::start().await.echo();
    Gateway::start(&Setup::with_tokens(&format!("http://{backend}"))).await
}

async fn session(gateway: &Gateway, token: &str) -> (Wire, String) {
    let answered = gateway.client().token(token).connect().await;
    let id = answered.header("x-request-id").unwrap();
    until(gateway, &format!("GET /api/sessions/{id}"), |it| it["state"] == "open").await;
    (answered.wire, id)
}

#[tokio::test]
async fn sessions_are_a_table_that_no_name_can_break() {
    let gateway = start().await;
    assert_eq!(ask(&gateway, &["sessions"]).await.stdout, "0 shown, 0 matching, 0 open\n");
    let (_ann, ann) = session(&gateway, &token("ann")).await;
    let (_bob, bob) = session(&gateway, &token("b\u{202e}ob")).await;
    let ran = ask(&gateway, &["sessions"]).await;
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let lines: Vec<_> = ran.stdout.lines().collect();
    let [head, first, second, note] = lines.as_slice() else { panic!("{ran:?}") };
    assert!(head.starts_with("ID                USER         ROUTE  CLIENT"), "{head}");
    assert!(first.starts_with(&format!("{bob}  b\\u{{202e}}ob  /ws    127.0.0.1:")), "{first}");
    assert!(second.starts_with(&format!("{ann}  ann          /ws    127.0.0.1:")), "{second}");
    assert_eq!(*note, "2 shown, 2 matching, 2 open");

    let filters: [&[&str]; 4] = [
        &["--user", "ann"],
        &["--search", "ANN"],
        &["--search", &ann[..8]],
        &["--route", "/ws", "--user", "ann", "--client", "127.0.0.1"],
    ];
    for filter in filters {
        let ran = ask(&gateway, &[&["sessions"], filter].concat()).await;
        assert!(ran.stdout.contains(&ann) && !ran.stdout.contains(&bob), "{filter:?}: {ran:?}");
    }
    let ran = ask(&gateway, &["sessions", "--json", "--limit", "1"]).await;
    let answer: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&answer["matching"], &answer["sessions"][0]["id"]), (&2.into(), &bob.into()));
    assert!(ran.stdout.starts_with("{\"now\":"), "as it was sent: {}", ran.stdout);
    let ran = ask(&gateway, &["sessions", "--limit", "0"]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (64, ""));
    assert!(ran.stderr.contains("--limit <N>") && ran.stderr.contains("1..=10000"), "{ran:?}");
    let ran = ask(&gateway, &["kick", &ann, "--code", "1006"]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (64, ""));
    assert!(ran.stderr.contains("--code <CODE>") && ran.stderr.contains("3000-4999"), "{ran:?}");
}

#[tokio::test]
async fn one_session_is_shown_open_and_ended() {
    let gateway = start().await;
    let (mut ann, id) = session(&gateway, &token("ann")).await;
    let ran = ask(&gateway, &["sessions", &id]).await;
    for line in ["state           open\n", "user            ann\n", "upstream        chat\n"] {
        assert!(ran.stdout.contains(line), "{line}: {}", ran.stdout);
    }
    assert!(ran.stdout.contains("upstream_handshake "), "{}", ran.stdout);

    let ran = ask(&gateway, &["kick", &id, "--code", "4000", "--reason", "bye bye"]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "1 session kicked\n"));
    assert_eq!(ann.expect_close().await, (Some(4000), "bye bye".to_owned()));
    drop(ann);
    until(&gateway, &format!("GET /api/sessions/{id}"), |it| it["state"] == "ended").await;
    let ran = ask(&gateway, &["sessions", &id]).await;
    let sentence = "An operator ended the session over the admin API. Nothing is wrong";
    assert!(ran.stdout.starts_with(sentence), "{}", ran.stdout);
    assert!(ran.stdout.contains("client_close    4000\n"), "{}", ran.stdout);
    let ran = ask(&gateway, &["sessions", "--recent", "--label", "kicked"]).await;
    assert!(ran.stdout.starts_with("ENDED"), "{}", ran.stdout);
    assert_eq!(ran.stdout.lines().count(), 2, "{}", ran.stdout);
    assert!(ran.stdout.contains(&format!("{id}  ended  kicked  admin")), "{}", ran.stdout);
    let rows: [(&[&str], bool); 6] = [
        (&["--user", "ann"], true),
        (&["--user", "an"], false),
        (&["--route", "/ws", "--client", "127.0.0.1", "--label", "kicked"], true),
        (&["--client", "127.0.0.2"], false),
        (&["--search", "ANN"], true),
        (&["--search", "ANN", "--label", "drained"], false),
    ];
    for (filter, is_shown) in rows {
        let ran = ask(&gateway, &[&["sessions", "--recent"], filter].concat()).await;
        assert_eq!(ran.code, 0, "{filter:?}: {ran:?}");
        assert_eq!(ran.stdout.contains(&id), is_shown, "{filter:?}: {ran:?}");
    }
    let ran = ask(&gateway, &["kick", &id]).await;
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("this session is over already"), "{ran:?}");
}

#[tokio::test]
async fn a_user_is_kicked_whatever_the_name() {
    let gateway = start().await;
    let name = "a/b?c=d&e#f %20ü";
    let with_id = token_with(name, serde_json::json!({ "jti": "another" }));
    let (mut one, _) = session(&gateway, &token(name)).await;
    let (mut two, _) = session(&gateway, &with_id).await;
    let (_other, other) = session(&gateway, &token("a")).await;
    let ran = ask(&gateway, &["kick", "--user", name, "--json"]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "{\"kicked\":2}\n"));
    for wire in [&mut one, &mut two] {
        assert_eq!(wire.expect_close().await, (Some(4403), "kicked".to_owned()));
    }
    assert_eq!(api(&gateway, &format!("GET /api/sessions/{other}")).await.1["state"], "open");
    for (arguments, stdout) in [(&["--json"][..], "{\"kicked\":0}\n"), (&[], "")] {
        let ran = ask(&gateway, &[&["kick", "--user", "zed\u{202e}"], arguments].concat()).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (1, stdout));
        assert_eq!(ran.stderr, "framegate: no open session of user zed\\u{202e}\n");
    }
    for wrong in [&["kick"][..], &["kick", "0123456789abcdef", "--user", "a"]] {
        assert_eq!(run(wrong).await.code, 64, "{wrong:?}");
    }
}

#[tokio::test]
async fn health_is_a_table_and_its_exit_code() {
    let gateway = start().await;
    let ran = ask(&gateway, &["health"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.starts_with("ok\n\nKIND"), "{}", ran.stdout);
    for row in ["listener  127.0.0.1:0", "endpoint  chat http://", "verifier  users"] {
        assert!(ran.stdout.contains(row), "{row}: {}", ran.stdout);
    }
    let ran = ask(&gateway, &["health", "--json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&ran.stdout).unwrap()["status"], "ok");

    let mut setup = Setup::open("http://127.0.0.1:9");
    setup.upstream = "health = { interval = \"20ms\", fall = 1 }\n".to_owned();
    let down = Gateway::start(&setup).await;
    until(&down, "GET /health/ws", |it| it["status"] == "down").await;
    let ran = ask(&down, &["health"]).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    let said = "down\n- no upstream has a healthy endpoint\n- endpoint http://127.0.0.1:9 of";
    assert!(ran.stdout.starts_with(said), "{}", ran.stdout);
}

#[tokio::test]
async fn address_and_token_come_from_arguments_or_from_the_configuration() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("admin-token"), "s3cret\n").unwrap();
    std::fs::write(folder.path().join("wrong"), "another\n").unwrap();
    std::fs::write(folder.path().join("empty"), "\n").unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (config, good, wrong) = (file("framegate.toml"), file("admin-token"), file("wrong"));
    let (empty, missing, socket) = (file("empty"), file("missing"), file("admin.sock"));
    let mut setup = Setup::open("http://127.0.0.1:9");
    setup.admin = "bind = \"unix:admin.sock\"\ntoken_file = \"admin-token\"\n".to_owned();
    let unix = format!("unix:{socket}");
    let at = folder.path().to_owned();
    let _gateway = Gateway::start_in(folder, &setup).await;
    // As after a reload that was rejected: the gateway runs on.
    let text = std::fs::read_to_string(&config).unwrap();
    let [elsewhere, in_admin, no_toml] = [
        ("elsewhere.toml", text.replace("upstream = \"chat\"", "upstream = \"chta\"")),
        ("in-admin.toml", text.replace("token_file =", "token_fil =")),
        ("no-toml.toml", format!("{text}\n[[route")),
    ]
    .map(|(name, changed)| {
        assert_ne!(changed, text, "{name}");
        std::fs::write(at.join(name), changed).unwrap();
        at.join(name).to_str().unwrap().to_owned()
    });
    let rows: [(&[&str], i32, &str); 12] = [
        (&["--config", &config], 0, ""),
        (&["--config", &elsewhere], 0, "has mistakes, only its [admin] is used: line "),
        (&["--config", &elsewhere], 0, "no upstream is called \"chta\""),
        (&["--config", &in_admin], 1, "--admin http://HOST:PORT"),
        (&["--config", &no_toml], 1, "this is not TOML"),
        (&["--admin", &unix, "--token-file", &good], 0, ""),
        (&["--admin", &unix], 1, "give --token-file FILE"),
        (&["--admin", &unix, "--token-file", &wrong], 1, "does not take this token"),
        (&["--admin", &unix, "--token-file", &empty], 1, "it is empty"),
        (&["--admin", &unix, "--token-file", &missing], 1, "No such file"),
        (&["--config", &missing], 1, "cannot be used"),
        (&["--config", &config, "--admin", &unix], 64, "cannot be used with"),
    ];
    for (arguments, code, said) in rows {
        let ran = run(&[&["sessions"], arguments].concat()).await;
        assert!(ran.code == code && ran.stderr.contains(said), "{arguments:?}: {ran:?}");
        assert!(!format!("{ran:?}").contains("s3cret"), "{ran:?}");
    }
}

#[tokio::test]
async fn who_cannot_be_asked_is_told_of_with_what_to_do() {
    // Nobody listens where somebody has just listened.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let backend = Backend::start().await;
    let strange: SocketAddr = backend.answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
    let rows = [
        (format!("http://{free}"), "Is the gateway running, and with [admin] bind"),
        ("unix:/nowhere/admin.sock".to_owned(), "no admin listener at unix:/nowhere/admin.sock"),
        ("https://127.0.0.1:1".to_owned(), "speaks plain HTTP"),
        ("http://127.0.0.1:1/metrics".to_owned(), "give http://HOST:PORT or unix:PATH"),
        (format!("http://{strange}"), "HTTP 200 without JSON"),
    ];
    for (admin, said) in rows {
        let ran = run(&["sessions", "--admin", &admin]).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{admin}");
        assert!(ran.stderr.contains(said), "{admin}: {}", ran.stderr);
    }
}
