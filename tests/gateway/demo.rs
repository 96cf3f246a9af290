//! `framegate demo`: what it prints works, and it leaves nothing behind.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};

use crate::support::command::{outcome, run};
use crate::support::gateway::http_get;
use crate::support::{Client, within};

/// A demo on free ports, with its folder in this one: the process, what it printed, and the rest of
/// its output.
async fn demo(temporary: &TempDir) -> (Child, String, BufReader<ChildStdout>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_framegate"));
    command.args(["demo", "--port=0", "--plain-port=0", "--page-port=0", "--admin-port=0"]);
    command.env("TMPDIR", temporary.path());
    let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    // Its last listener is the admin's.
    while !text.contains("listener=admin") {
        let read = within("the greeting", output.read_line(&mut text)).await.unwrap();
        assert!(read > 0, "{text}");
    }
    (child, text, output)
}

/// What stands behind this in the line of the greeting that begins with it.
fn told<'a>(greeting: &'a str, name: &str) -> Vec<&'a str> {
    let lines = greeting.lines().map(str::trim);
    lines.filter_map(|line| line.strip_prefix(name)?.strip_prefix("  ")).map(str::trim).collect()
}

/// Address and path of a URL.
fn parts(url: &str) -> (SocketAddr, String) {
    let (_, rest) = url.split_once("://").unwrap();
    let (address, path) = rest.split_once('/').unwrap();
    (address.parse().unwrap(), format!("/{path}"))
}

#[tokio::test]
async fn what_the_demo_prints_is_true() {
    let temporary = tempfile::tempdir().unwrap();
    let (mut child, greeting, _output) = demo(&temporary).await;
    let [alice_page, alice] = told(&greeting, "alice")[..] else { panic!("{greeting}") };
    let [bob_page, bob] = told(&greeting, "bob")[..] else { panic!("{greeting}") };
    for url in [alice_page, bob_page, told(&greeting, "metrics")[0]] {
        let (address, path) = parts(url);
        assert_eq!(http_get(address, &path, "127.0.0.1").await.0, 200, "{url}");
    }
    let folder = Path::new(told(&greeting, "files")[0]);
    let checked =
        run(&["check", "--config", folder.join("framegate.toml").to_str().unwrap()]).await;
    assert_eq!(checked.code, 0, "{}", checked.stderr);

    // Doctor's command, as it stands there; the gateway tells its own view of the connection.
    let doctor = greeting.split_once(" doctor ").unwrap().1.split_once("6. Be somebody").unwrap().0;
    let program = env!("CARGO_BIN_EXE_framegate");
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{program} doctor {doctor}")]);
    let ran = outcome(shell).await;
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("All is well with this connection."), "{}", ran.stdout);
    assert!(ran.stdout.contains("user alice, route /chat/{room}/ws"), "{}", ran.stdout);

    // The command for another user's token, as it stands there.
    let token = greeting.split_once("Be somebody else.").unwrap().1.lines().skip(1);
    let command: Vec<_> = token.take_while(|line| !line.is_empty()).collect();
    let mut shell = Command::new("sh");
    shell.args(["-c", &command.join("\n")]);
    let minted = outcome(shell).await;
    assert_eq!((minted.code, minted.stderr.as_str()), (0, ""), "{command:?}");
    let (plain, path) = parts(told(&greeting, "plain")[0]);
    for token in [alice, bob, minted.stdout.trim()] {
        let client = Client::new(plain).path(&path).token(token);
        assert_eq!(client.connect().await.status, 101, "{token}");
    }
    assert_eq!(Client::new(plain).path(&path).token("wrong").connect().await.status, 401);

    let pid = child.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert!(within("the end of the demo", child.wait()).await.unwrap().success());
    let left = std::fs::read_dir(temporary.path()).unwrap().count();
    assert_eq!(left, 0, "its folder is removed");
}

#[tokio::test]
async fn without_arguments_the_demo_is_offered() {
    let ran = run(&[]).await;
    assert_eq!(ran.code, 64);
    assert!(ran.stderr.contains("or try `framegate demo`"), "{}", ran.stderr);
    assert!(run(&["--help"]).await.stdout.contains("demo"));
}
