//! The admin listener: its pages, who may ask, and where it listens.

use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::support::backend::header;
use crate::support::wire::Bytes;
use crate::support::{Backend, Gateway, Setup, within};

/// Head and body of the answer to a request with these header lines.
async fn ask(mut stream: impl Bytes, request: &str, headers: &[&str]) -> (String, String) {
    let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let text = format!("{request} HTTP/1.1\r\n{lines}Connection: close\r\n\r\n");
    within("an answer", async {
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    })
    .await
}

async fn ask_tcp(address: SocketAddr, request: &str, headers: &[&str]) -> (u16, String, String) {
    let (head, body) = ask(TcpStream::connect(address).await.unwrap(), request, headers).await;
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head, body)
}

async fn start(admin: &str) -> Gateway {
    let mut setup = Setup::open("http://127.0.0.1:9");
    setup.admin = format!("bind = \"127.0.0.1:0\"\n{admin}\n");
    Gateway::start(&setup).await
}

#[tokio::test]
async fn the_pages_answer_and_others_do_not() {
    let gateway = start("").await;
    let rows = [
        ("GET /healthz", 200, "ok\n"),
        ("GET /readyz", 200, "ready\n"),
        ("HEAD /healthz", 200, ""),
        ("HEAD /metrics", 200, ""),
        ("GET /healthz?probe=1", 200, "ok\n"),
        ("GET /metrics/", 404, "there is no such page\n"),
        ("GET /nothing", 404, "there is no such page\n"),
    ];
    for (request, status, body) in rows {
        let answer = ask_tcp(gateway.admin, request, &["Host: localhost"]).await;
        assert_eq!((answer.0, answer.2.as_str()), (status, body), "{request}");
    }
    let (status, head, body) = ask_tcp(gateway.admin, "GET /metrics", &["Host: localhost"]).await;
    assert_eq!(status, 200);
    assert!(header(&head, "content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    assert_eq!(header(&head, "cache-control").as_deref(), Some("no-store"));
    for line in [
        "# TYPE framegate_build_info gauge",
        "# TYPE framegate_handshakes_total counter",
        "framegate_draining 0",
        "process_open_fds ",
    ] {
        assert!(body.contains(line), "{line} is not in\n{body}");
    }
}

#[tokio::test]
async fn no_web_page_reaches_it() {
    let gateway = start("hosts = [\"gate-1.internal\"]").await;
    let own = format!("Host: {}", gateway.admin);
    let origin = format!("Origin: http://{}", gateway.admin);
    let local = "Host: localhost";
    let marked = "X-Framegate: 1";
    let rows: &[(&str, &[&str], u16)] = &[
        ("GET /healthz", &[&own], 200),
        ("GET /healthz", &["Host: LOCALHOST:1234"], 200),
        ("GET /healthz", &["Host: [::1]:1"], 200),
        ("GET /healthz", &["Host: gate-1.internal:9901"], 200),
        // A name that somebody's DNS points here.
        ("GET /healthz", &["Host: evil.example"], 421),
        ("GET /metrics", &["Host: localhost.evil.example"], 421),
        ("GET /metrics", &["Host: 192.0.2.1"], 421),
        ("GET /metrics", &[], 421),
        ("GET /metrics", &[local, "Host: evil.example"], 421),
        ("GET /metrics", &[local, "Origin: https://evil.example"], 403),
        ("GET /metrics", &[local, "Origin: null"], 403),
        ("GET /metrics", &[&own, &origin], 200),
        ("POST /metrics", &[local], 403),
        ("DELETE /api/sessions/1", &[local], 403),
        ("POST /metrics", &[local, "X-Framegate: 0"], 403),
        ("POST /metrics", &[local, marked], 405),
        ("POST /nothing", &[local, marked], 404),
        ("POST /metrics", &[local, marked, "Origin: https://evil.example"], 403),
    ];
    for (request, headers, expected) in rows {
        let (status, _, body) = ask_tcp(gateway.admin, request, headers).await;
        assert_eq!(status, *expected, "{request} {headers:?}: {body}");
    }
    let (_, head, _) = ask_tcp(gateway.admin, "POST /metrics", &[local, marked]).await;
    assert_eq!(header(&head, "allow").as_deref(), Some("GET, HEAD"));
}

#[tokio::test]
async fn with_a_token_file_only_the_probes_answer_without_it() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("admin-token"), "s3cret-admin-token\n").unwrap();
    let mut setup = Setup::open("http://127.0.0.1:9");
    setup.admin = "bind = \"0.0.0.0:0\"\ntoken_file = \"admin-token\"\n".to_owned();
    let gateway = Gateway::start_in(folder, &setup).await;
    let address = SocketAddr::from(([127, 0, 0, 1], gateway.admin.port()));
    let good = "Authorization: Bearer s3cret-admin-token";
    let rows: &[(&str, &[&str], u16)] = &[
        ("GET /healthz", &[], 200),
        ("GET /readyz", &[], 200),
        ("GET /metrics", &[], 401),
        ("GET /nothing", &[], 401),
        ("GET /metrics", &["Authorization: Bearer s3cret-admin-toke"], 401),
        ("GET /metrics", &["Authorization: Bearer s3cret-admin-token2"], 401),
        ("GET /metrics", &["Authorization: Basic s3cret-admin-token"], 401),
        ("GET /metrics", &[good, good], 401),
        ("GET /metrics", &[good], 200),
        ("GET /nothing", &[good], 404),
    ];
    for (request, headers, expected) in rows {
        let headers = [&["Host: localhost"], *headers].concat();
        let (status, head, _) = ask_tcp(address, request, &headers).await;
        assert_eq!(status, *expected, "{request} {headers:?}");
        let challenge = header(&head, "www-authenticate");
        assert_eq!(challenge.is_some(), status == 401, "{head}");
    }
    // Bound to every address, it answers to each of them, but still to no foreign name.
    let (status, ..) = ask_tcp(address, "GET /healthz", &["Host: 192.0.2.1"]).await;
    assert_eq!(status, 200);
    let (status, ..) = ask_tcp(address, "GET /healthz", &["Host: evil.example", good]).await;
    assert_eq!(status, 421);
    let said = gateway.log().iter().any(|line| line.to_string().contains("s3cret"));
    assert!(!said, "the token is in the log");
}

async fn ask_unix(socket: &Path, request: &str) -> (String, String) {
    let stream = within("the socket", UnixStream::connect(socket)).await.unwrap();
    ask(stream, request, &["Host: whatever"]).await
}

#[tokio::test]
async fn on_a_unix_socket_the_file_s_mode_is_the_guard() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("admin.sock");
    // What a killed process leaves behind.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let backend = Backend::start().await;
    let mut setup = Setup::open(&backend.url());
    setup.admin = "bind = \"unix:admin.sock\"\n".to_owned();
    let mut gateway = Gateway::start_in(folder, &setup).await;
    let metadata = std::fs::metadata(&socket).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o660, "for its owner and group");
    let (head, body) = ask_unix(&socket, "GET /metrics").await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(body.contains("framegate_draining 0"), "{body}");
    let (head, _) = ask_unix(&socket, "POST /metrics").await;
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    gateway.signal("TERM");
    assert!(gateway.ended().await.success());
    assert!(!socket.exists(), "the socket goes with its process");
}

#[tokio::test]
async fn with_an_empty_address_there_is_none() {
    let mut setup = Setup::open("http://127.0.0.1:9");
    setup.admin = "bind = \"\"\n".to_owned();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), setup.secret()).unwrap();
    let file = folder.path().join("framegate.toml");
    std::fs::write(&file, setup.text()).unwrap();
    let mut command = crate::support::gateway::command(&file, &setup);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut log = tokio::io::BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    while !text.contains("\"listening\"") {
        let read = tokio::io::AsyncBufReadExt::read_line(&mut log, &mut text);
        assert!(within("a log line", read).await.unwrap() > 0, "{text}");
    }
    let pid = child.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    within("the rest of the log", log.read_to_string(&mut text)).await.unwrap();
    assert!(within("the end", child.wait()).await.unwrap().success());
    assert_eq!(text.matches("\"listening\"").count(), 1, "{text}");
}
