//! The pages for browsers: who gets them, what their policy is, and the public tester only where it is wanted.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::backend::header;
use crate::support::{Backend, Gateway, Setup, within};

/// Head and body of the answer to a GET with these further header lines.
async fn get(address: SocketAddr, path: &str, lines: &str) -> (String, String) {
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{lines}Connection: close\r\n\r\n");
    within("an answer", async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    })
    .await
}

fn is_a_page(head: &str, body: &str, title: &str) {
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(body.contains(title), "{body}");
    assert_eq!(header(head, "content-type").as_deref(), Some("text/html; charset=utf-8"));
    assert_eq!(header(head, "cache-control").as_deref(), Some("no-store"));
    assert_eq!(header(head, "x-content-type-options").as_deref(), Some("nosniff"));
    assert_eq!(header(head, "referrer-policy").as_deref(), Some("no-referrer"));
    let policy = header(head, "content-security-policy").unwrap();
    for part in ["default-src 'none'", "script-src 'sha256-", "frame-ancestors 'none'"] {
        assert!(policy.contains(part), "{policy}");
    }
}

#[tokio::test]
async fn the_shells_need_no_token_and_the_numbers_do() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "s3cret").unwrap();
    let mut setup = Setup::open("http://127.0.0.1:9");
    setup.admin = format!("bind = \"127.0.0.1:0\"\ntoken_file = {:?}\n", file.to_str().unwrap());
    let gateway = Gateway::start(&setup).await;
    let (head, body) = get(gateway.admin, "/", "").await;
    is_a_page(&head, &body, "<title>framegate</title>");
    let (head, body) = get(gateway.admin, "/doctor", "").await;
    is_a_page(&head, &body, "<title>framegate connection tester</title>");
    let (head, body) = get(gateway.admin, "/api/overview", "").await;
    assert!(head.starts_with("HTTP/1.1 401 "), "{head}");
    assert!(!body.contains("totals"), "{body}");
    let (head, body) =
        get(gateway.admin, "/api/overview", "Authorization: Bearer s3cret\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["totals"]["accepted"], 0);
}

#[tokio::test]
async fn the_overview_counts_what_passes_through() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&Setup::open(&backend.url())).await;
    let (mut client, mut upstream) = tokio::join!(gateway.client().session(), backend.session());
    client.send_text("hello").await;
    upstream.expect_text("hello").await;
    let overview = async || {
        let (_, body) = get(gateway.admin, "/api/overview?since=0", "").await;
        serde_json::from_str::<serde_json::Value>(&body).unwrap()
    };
    let body = overview().await;
    assert_eq!((&body["totals"]["sessions"], &body["totals"]["accepted"]), (&1.into(), &1.into()));
    let messages = &body["totals"]["messages"];
    assert_eq!((&messages["from_client"], &messages["from_upstream"]), (&1.into(), &0.into()));
    assert_eq!(body["windows"][0]["accepted"], 1);
    assert_eq!(body["limits"][0]["used"], 1);
    // The first step comes by itself.
    within("a step of history", async {
        while overview().await["history"]["rows"].as_array().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_public_tester_is_there_only_if_wanted_and_changes_nothing_else() {
    let backend = Backend::start().await;
    let without = Gateway::start(&Setup::open(&backend.url())).await;
    let with = Gateway::start(&Setup::open(&backend.url()).listener("doctor = true")).await;
    let (head, body) = get(with.addresses[0], "/.framegate/doctor", "").await;
    is_a_page(&head, &body, "<title>framegate connection tester</title>");
    assert_eq!(header(&head, "connection").as_deref(), Some("close"));
    // Without it, that path is as any other.
    let status = |head: &str| head.split(' ').nth(1).map(str::to_owned);
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (path, lines) in [
        ("/.framegate/doctor", ""),
        ("/.framegate/doctor/", ""),
        ("/.framegate/health", ""),
        ("/", ""),
        ("/doctor", ""),
        ("/nothing", upgrade),
    ] {
        let (expected, body) = get(without.addresses[0], path, lines).await;
        assert!(!body.contains("<html"), "{path}: {body}");
        let here = path == "/.framegate/doctor";
        let (found, _) = get(with.addresses[0], path, lines).await;
        assert_eq!(status(&found) == status(&expected), !here, "{path}: {found}");
    }
}
