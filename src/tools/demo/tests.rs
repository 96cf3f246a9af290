//! The demo's backend and page over real sockets, without the gateway.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tungstenite::Message;
use tungstenite::protocol::{Role, WebSocketContext};

use super::backend::Phase;
use super::*;

const DEADLINE: Duration = Duration::from_secs(10);

struct Running {
    demo: Demo,
    args: DemoArgs,
    tracker: TaskTracker,
    shutdown: CancellationToken,
}

fn any_ports() -> DemoArgs {
    let any = Some(0);
    DemoArgs { port: any, plain_port: any, page_port: any, admin_port: any, dir: None, json: false }
}

impl Running {
    async fn start() -> Self {
        let args = DemoArgs { json: true, ..any_ports() };
        let (tracker, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let demo = start(&args, &tracker, shutdown.clone()).await.unwrap();
        Self { demo, args, tracker, shutdown }
    }

    async fn http(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.demo.addresses.page).await.unwrap();
        let request = format!("{request}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn switch(&self, action: &str) -> String {
        self.http(&format!(
            "POST /backend/{action} HTTP/1.1\r\nHost: localhost\r\nX-Framegate: 1\r\nContent-Length: 0"
        ))
        .await
    }

    async fn client(&self, room: &str, user: &str) -> Client {
        Client::open(self.demo.addresses.backend, room, user).await.unwrap()
    }
}

/// A WebSocket client with the gateway's header.
struct Client {
    stream: TcpStream,
    protocol: WebSocketContext,
    inbound: Vec<u8>,
}

struct Half<'a>(&'a mut Vec<u8>, Vec<u8>);

impl io::Read for Half<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = buffer.len().min(self.0.len());
        buffer[..count].copy_from_slice(&self.0[..count]);
        self.0.drain(..count);
        Ok(count)
    }
}

impl io::Write for Half<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.1.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Client {
    async fn open(addr: SocketAddr, room: &str, user: &str) -> io::Result<Self> {
        let mut stream = TcpStream::connect(addr).await?;
        let head = format!(
            "GET /chat/{room}/ws HTTP/1.1\r\nHost: backend\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: framegate\r\n\
             X-Auth-User: {user}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await?);
        }
        let answer = String::from_utf8_lossy(&answer).to_lowercase();
        assert!(answer.starts_with("http/1.1 101 "), "{answer}");
        assert!(answer.contains("s3pplmbitxaq9kygzzhzrbk+xoo="), "{answer}");
        assert!(!answer.contains("sec-websocket-protocol"), "it selects no subprotocol: {answer}");
        let protocol = WebSocketContext::new(Role::Client, None);
        Ok(Self { stream, protocol, inbound: Vec::new() })
    }

    async fn send(&mut self, message: Message) {
        let mut half = Half(&mut self.inbound, Vec::new());
        self.protocol.write(&mut half, message).unwrap();
        self.protocol.flush(&mut half).unwrap();
        let bytes = half.1;
        self.stream.write_all(&bytes).await.unwrap();
    }

    async fn say(&mut self, text: &str) {
        self.send(Message::text(json!({ "type": "message", "text": text }).to_string())).await;
    }

    /// The next message, or `None` when the connection was cut without a Close.
    async fn next(&mut self) -> Option<Message> {
        tokio::time::timeout(DEADLINE, async {
            loop {
                let mut half = Half(&mut self.inbound, Vec::new());
                match self.protocol.read(&mut half) {
                    Ok(message) => return Some(message),
                    Err(tungstenite::Error::Io(_)) => {}
                    Err(error) => panic!("{error}"),
                }
                match self.stream.read_buf(&mut self.inbound).await {
                    Ok(0) | Err(_) => return None,
                    Ok(_) => {}
                }
            }
        })
        .await
        .expect("a message before the deadline")
    }

    /// The next JSON message of the given type.
    async fn next_of(&mut self, kind: &str) -> Value {
        loop {
            let message = self.next().await.expect("the connection is open");
            if let Message::Text(text) = message {
                let value: Value = serde_json::from_str(&text).unwrap();
                if value["type"] == kind {
                    return value;
                }
            }
        }
    }
}

#[tokio::test]
async fn two_users_talk_and_a_third_is_told_the_history() {
    let running = Running::start().await;
    let mut alice = running.client("tea", "alice").await;
    assert_eq!(alice.next_of("history").await["messages"], json!([]));
    let mut bob = running.client("tea", "b%C3%B6b").await;
    assert_eq!(bob.next_of("history").await["you"], "b\u{f6}b");
    alice.say("<b>hello</b>").await;
    for member in [&mut alice, &mut bob] {
        let message = member.next_of("message").await;
        assert_eq!((&message["from"], &message["text"]), (&json!("alice"), &json!("<b>hello</b>")));
        assert!(message["at"].as_str().unwrap().parse::<Timestamp>().is_ok());
    }
    let mut carol = running.client("tea", "carol").await;
    assert_eq!(carol.next_of("history").await["messages"][0]["text"], "<b>hello</b>");
    assert_eq!(carol.next_of("presence").await["users"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn pings_are_answered_and_a_close_is_replied_to() {
    let running = Running::start().await;
    let mut alice = running.client("tea", "alice").await;
    alice.next_of("presence").await;
    alice.send(Message::Ping("are you there".into())).await;
    assert_eq!(alice.next().await, Some(Message::Pong("are you there".into())));
    alice.send(Message::Close(None)).await;
    assert!(matches!(alice.next().await, Some(Message::Close(_))));
}

#[tokio::test]
async fn what_is_no_chat_message_is_complained_about_and_what_is_too_big_ends_with_1009() {
    let running = Running::start().await;
    let mut alice = running.client("tea", "alice").await;
    for text in ["no json", "{}", r#"{"type":"message","text":" "}"#] {
        alice.send(Message::text(text)).await;
        assert!(alice.next_of("error").await["text"].is_string());
    }
    alice.say(&"x".repeat(4097)).await;
    assert_eq!(alice.next_of("error").await["text"], "the message is longer than 4 KiB");
    alice.say(&"x".repeat(4096)).await;
    assert_eq!(alice.next_of("message").await["text"].as_str().unwrap().len(), 4096);
    alice.say(&"x".repeat(40_000)).await;
    let Some(Message::Close(Some(close))) = alice.next().await else { panic!("no Close") };
    assert_eq!(u16::from(close.code), 1009);
}

#[tokio::test]
async fn a_stopped_backend_cuts_its_connections_and_refuses_new_ones_until_started() {
    let running = Running::start().await;
    let mut alice = running.client("tea", "alice").await;
    alice.say("before").await;
    alice.next_of("message").await;
    for _ in 0..3 {
        assert!(running.switch("stop").await.ends_with(r#"{"running":false}"#));
        while let Some(message) = alice.next().await {
            assert!(message.is_text(), "cut without a Close, not {message:?}");
        }
        let refused = TcpStream::connect(running.demo.addresses.backend).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        assert!(running.switch("start").await.ends_with(r#"{"running":true}"#));
        alice = running.client("tea", "alice").await;
        assert_eq!(alice.next_of("history").await["messages"][0]["text"], "before");
    }
    assert!(running.switch("start").await.ends_with(r#"{"running":true}"#), "once more is no harm");
}

#[tokio::test]
async fn the_page_has_its_own_policy_and_the_facts() {
    let running = Running::start().await;
    let page = running.http("GET /?user=bob HTTP/1.1\r\nHost: localhost").await;
    let nonce = page.split("'nonce-").nth(1).unwrap().split('\'').next().unwrap();
    assert_eq!(page.matches(&format!("nonce=\"{nonce}\"")).count(), 2);
    assert!(
        page.contains(&format!(
            "connect-src 'self' ws://{} wss://{};",
            running.demo.addresses.plain, running.demo.addresses.tls
        )),
        "{page}"
    );
    assert!(!running.http("GET / HTTP/1.1\r\nHost: localhost").await.contains(nonce));
    let facts = running.http("GET /demo.json HTTP/1.1\r\nHost: localhost").await;
    assert!(facts.contains(&running.demo.material.tokens.bob));
    let rebound = running.http("GET /demo.json HTTP/1.1\r\nHost: evil.example").await;
    assert!(rebound.starts_with("HTTP/1.1 421 "), "{rebound}");
    let forged =
        running.http("POST /backend/stop HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0").await;
    assert!(forged.starts_with("HTTP/1.1 403 "), "{forged}");
    assert!(running.http("GET /backend HTTP/1.1\r\nHost: localhost").await.contains("true"));
}

#[tokio::test]
async fn shutdown_ends_every_task_and_the_folder_goes_with_the_demo() {
    let running = Running::start().await;
    let mut alice = running.client("tea", "alice").await;
    alice.next_of("presence").await;
    let line = running.demo.greeting(&running.args);
    let facts: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(facts["config"].as_str(), running.demo.config().to_str());
    assert!(running.demo.config().exists());
    running.shutdown.cancel();
    running.tracker.close();
    tokio::time::timeout(DEADLINE, running.tracker.wait()).await.unwrap();
    let folder = running.demo.folder.path.clone();
    drop(running);
    assert!(!folder.exists());
}

#[tokio::test]
async fn a_taken_default_port_is_replaced_and_noted_a_taken_port_asked_for_is_an_error() {
    let taken = TcpListener::bind(loopback(0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut notes = Vec::new();
    let other = reserve("plain listener", None, port, &mut notes).unwrap();
    let other = other.local_addr().unwrap().port();
    assert_ne!(other, port);
    assert_eq!(notes, [format!("port {port} is taken: the plain listener is on {other} instead")]);
    let error = reserve("plain listener", Some(port), 1, &mut notes).unwrap_err();
    assert!(matches!(error, DemoError::Listen { .. }), "{error}");
    assert_eq!(notes.len(), 1);
}

#[tokio::test]
async fn a_folder_that_was_asked_for_stays_and_is_not_written_over() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("new/folder");
    let args = DemoArgs { dir: Some(dir.clone()), ..any_ports() };
    let (tracker, shutdown) = (TaskTracker::new(), CancellationToken::new());
    let demo = start(&args, &tracker, shutdown.clone()).await.unwrap();
    assert!(demo.greeting(&args).contains("framegate demo"));
    drop(demo);
    assert!(dir.join("framegate.toml").exists());
    let error = start(&args, &tracker, shutdown).await.unwrap_err();
    assert!(matches!(error, DemoError::Material(MaterialError::Write { .. })), "{error}");
}

#[tokio::test]
async fn switching_reports_the_phase_reached() {
    let tracker = TaskTracker::new();
    let shutdown = CancellationToken::new();
    let backend = Backend::start(loopback(0), &tracker, shutdown).await.unwrap();
    assert_eq!(backend.phase(), Phase::Up);
    assert_eq!(backend.switch(Phase::Down).await, Phase::Down);
    assert_eq!(backend.phase(), Phase::Down);
    assert_eq!(backend.switch(Phase::Up).await, Phase::Up);
}
