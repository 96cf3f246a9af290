//! The client against scripted servers.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};

use super::*;

const BOUNDS: Bounds = Bounds { time: Duration::from_secs(30), body: 100 };

/// Reads one request up to its blank line (and a body of 2 bytes if it has one).
async fn request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut text = Vec::new();
    loop {
        let whole = String::from_utf8_lossy(&text).into_owned();
        let has_body = whole.to_lowercase().contains("content-length: 2");
        if whole.split_once("\r\n\r\n").is_some_and(|(_, body)| !has_body || body.len() == 2) {
            return Some(whole);
        }
        if stream.read_buf(&mut text).await.ok()? == 0 {
            return None;
        }
    }
}

/// Answers each connection's requests with these answers in turn, then closes it; what it was asked.
#[expect(clippy::disallowed_methods, reason = "it ends with its runtime")]
async fn server(answers: Vec<&'static str>) -> (Destination, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            let answers = answers.clone();
            tokio::spawn(async move {
                for answer in answers {
                    if request(&mut stream).await.is_none() {
                        return;
                    }
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    let target = Target::Http { host: "localhost".to_owned(), port };
    (Destination { target, authority: "issuer.example".to_owned(), ca: None }, connections)
}

fn client() -> Client {
    Client::new(Names::of_system())
}

fn get(path: &str) -> Request<Bytes> {
    Request::get(path).body(Bytes::new()).unwrap()
}

async fn text(client: &Client, to: &Destination) -> String {
    match client.send(to, get("/keys?a=b"), BOUNDS).await {
        Ok(answer) => {
            format!("{} {}", answer.status().as_u16(), String::from_utf8_lossy(answer.body()))
        }
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn a_connection_is_used_again_and_replaced_when_it_is_gone() {
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
    let (to, connections) = server(vec![ok, ok]).await;
    let client = client();
    for _ in 0..4 {
        assert_eq!(text(&client, &to).await, "200 hi");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 2, "two requests on each");
}

#[tokio::test]
async fn the_request_has_the_host_of_its_destination_and_any_status_is_an_answer() {
    let socket = tempfile::tempdir().unwrap();
    let path = socket.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let authority = "backend.example:8080".to_owned();
    let to = Destination { target: Target::Unix(path), authority, ca: None };
    let asked = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let text = request(&mut stream).await.unwrap();
        stream
            .write_all(b"HTTP/1.1 403 Forbidden\r\nX-Why: no\r\nContent-Length: 0\r\n\r\n")
            .await
            .unwrap();
        (text, stream)
    };
    let post = Request::post("/authorize?x=1").header("x-secret", "s").body("{}".into()).unwrap();
    let client = client();
    let (answer, (asked, _stream)) = tokio::join!(client.send(&to, post, BOUNDS), asked);
    assert!(asked.starts_with("POST /authorize?x=1 HTTP/1.1\r\n"), "{asked}");
    let lower = asked.to_lowercase();
    for part in ["host: backend.example:8080\r\n", "user-agent: framegate/", "x-secret: s\r\n"] {
        assert!(lower.contains(part), "{asked}");
    }
    assert!(asked.ends_with("\r\n\r\n{}"), "{asked}");
    let answer = answer.unwrap();
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    assert_eq!(answer.headers()["x-why"], "no");
}

#[tokio::test]
async fn what_is_wrong_with_an_answer_is_said() {
    let rows = [
        ("HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n", "it is larger than 0 KiB"),
        (
            "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx",
            "the answer is compressed",
        ),
        ("SSH-2.0-OpenSSH\r\n\r\n", "the answer is no HTTP: "),
        ("", "connection closed before message completed"),
        ("HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n", "302 "),
    ];
    for (answer, expected) in rows {
        let (to, _) = server(vec![answer]).await;
        let found = text(&client(), &to).await;
        assert!(found.starts_with(expected), "{answer:?}: {found}");
    }
    let long: &'static str = Box::leak(
        format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}", "x".repeat(1000))
            .into_boxed_str(),
    );
    let (to, _) = server(vec![long]).await;
    assert_eq!(text(&client(), &to).await, "it is larger than 0 KiB");
}

#[tokio::test]
async fn an_answer_that_does_not_come_costs_its_time_and_no_more() {
    let (silent, _listener) = hanging().await;
    let bounds = Bounds { time: Duration::from_millis(50), body: 1 };
    let error = client().send(&silent, get("/"), bounds).await.unwrap_err();
    assert!(matches!(error, FetchError::Timeout(limit) if limit == bounds.time), "{error}");
    let gone = Destination {
        target: Target::Unix("/nonexistent/socket".into()),
        authority: "a".to_owned(),
        ca: None,
    };
    let error = client().send(&gone, get("/"), BOUNDS).await.unwrap_err();
    assert!(matches!(error, FetchError::Unreachable(_)), "{error}");
}

async fn hanging() -> (Destination, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let target = Target::Http { host: "127.0.0.1".to_owned(), port };
    (Destination { target, authority: "a".to_owned(), ca: None }, listener)
}
