//! Hostile clients before a session exists: requests that carry a second one, and connections that
//! cost without ever asking.
//!
//! Every row stands with its answer: HTTP status, label and what the upstream was told, which is
//! nothing. Single faults of a head are in `handshake`; here they are bait for a smuggled request.

use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt;

use crate::support::hostile::{Witness, all_is_back, calm, resident};
use crate::support::{Authority, Backend, Gateway, Setup, Wire, within};

/// What stands behind each attack: whoever reads two requests answers twice or asks upstream.
const SMUGGLED: &str = "GET /ws?smuggled=1 HTTP/1.1\r\nHost: chat.example.com\r\n\
     Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Request line and header lines, in place of or behind those of a good handshake.
struct Smuggling {
    what: &'static str,
    first: &'static str,
    lines: &'static str,
    /// Between the blank line and the smuggled request.
    body: &'static str,
    status: u16,
    /// `bad_request`, or what the log says of a head that could not be read.
    label: &'static str,
}

const GET: &str = "GET /ws HTTP/1.1";
const UNREADABLE: &str = "no_request";

const fn row(
    what: &'static str,
    first: &'static str,
    lines: &'static str,
    body: &'static str,
    (status, label): (u16, &'static str),
) -> Smuggling {
    Smuggling { what, first, lines, body, status, label }
}

const BAD: (u16, &str) = (400, "bad_request");
const BARE: (u16, &str) = (400, UNREADABLE);

const SMUGGLING: &[Smuggling] = &[
    row("TE", GET, "Transfer-Encoding: chunked\r\n", "0\r\n\r\n", BAD),
    row(
        "TE with an Upgrade of h2c",
        GET,
        "Transfer-Encoding: chunked\r\nUpgrade: h2c\r\n",
        "0\r\n\r\n",
        BAD,
    ),
    row("CL.TE", GET, "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n", BAD),
    row("TE.CL", GET, "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n", BAD),
    row(
        "CL 0 and TE",
        GET,
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
        "0\r\n\r\n",
        BAD,
    ),
    row(
        "TE twice",
        GET,
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "0\r\n\r\n",
        BAD,
    ),
    row("TE identity", GET, "Transfer-Encoding: identity\r\n", "", BARE),
    row("TE of another name", GET, "Transfer-Encoding: xchunked\r\n", "", BARE),
    row("TE in quotes", GET, "Transfer-Encoding: \"chunked\"\r\n", "", BARE),
    row("TE behind a vertical tab", GET, "Transfer-Encoding: \x0bchunked\r\n", "", BARE),
    row("TE behind NUL", GET, "Transfer-Encoding: \0chunked\r\n", "", BARE),
    row(
        "TE by a space before the colon",
        GET,
        "Transfer-Encoding : chunked\r\n",
        "0\r\n\r\n",
        BARE,
    ),
    row("TE by a tab before the colon", GET, "Transfer-Encoding\t: chunked\r\n", "0\r\n\r\n", BARE),
    row("TE in a folded line", GET, "X: y\r\n Transfer-Encoding: chunked\r\n", "0\r\n\r\n", BARE),
    row("TE behind a bare CR", GET, "X: y\rTransfer-Encoding: chunked\r\n", "0\r\n\r\n", BARE),
    row("CL", GET, "Content-Length: 3\r\n", "abc", BAD),
    row("CL of exactly the smuggled request", GET, "Content-Length: 170\r\n", "", BAD),
    row("CL in hexadecimal", GET, "Content-Length: 0x0\r\n", "", BARE),
    row("CL in octal, or not", GET, "Content-Length: 010\r\n", "0123456789", BAD),
    row("CL as a list", GET, "Content-Length: 0, 0\r\n", "", BARE),
    row("CL beyond 64 bits", GET, "Content-Length: 18446744073709551616\r\n", "", BARE),
    row("CL of 2^64-1", GET, "Content-Length: 18446744073709551615\r\n", "", (431, UNREADABLE)),
    row("CL that differ", GET, "Content-Length: 0\r\nContent-Length: 5\r\n", "", BARE),
    row("CL with a space inside", GET, "Content-Length: 0 0\r\n", "", BARE),
    row("another Host", GET, "Host: other.example.com\r\n", "", BAD),
    row("another Host in another case", GET, "hOST: chat.example.com\r\n", "", BAD),
    row("a Host with a space before the colon", GET, "Host : other\r\n", "", BARE),
    row("a Host in a folded line", GET, "X: y\r\n\tHost: other\r\n", "", BARE),
    row("another key", GET, "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n", "", BAD),
    row("another version", GET, "Sec-WebSocket-Version: 8\r\n", "", (426, "bad_request")),
    row("NUL in a value", GET, "X: a\0b\r\n", "", BARE),
    row("NUL in a name", GET, "X\0: b\r\n", "", BARE),
    row("DEL in a value", GET, "X: a\x7fb\r\n", "", BARE),
    row("a line without a colon", GET, "Upgrade\r\n", "", BARE),
    row("a bare CR that ends a line", GET, "X: a\r\rY: b\r\n", "", BARE),
    row("the method in lower case", "get /ws HTTP/1.1", "", "", BAD),
    row("the method with a tail", "GETS /ws HTTP/1.1", "", "", BAD),
    row("POST", "POST /ws HTTP/1.1", "", "", BAD),
    row("POST with a body", "POST /ws HTTP/1.1", "Content-Length: 3\r\n", "abc", BAD),
    row("POST in chunks", "POST /ws HTTP/1.1", "Transfer-Encoding: chunked\r\n", "0\r\n\r\n", BAD),
    row("CONNECT", "CONNECT chat.example.com:443 HTTP/1.1", "", "", BAD),
    row("CONNECT to a path", "CONNECT /ws HTTP/1.1", "", "", BAD),
    row("TRACE", "TRACE /ws HTTP/1.1", "", "", BAD),
    row("the absolute form", "GET http://other.example.com/ws HTTP/1.1", "", "", BAD),
    row(
        "the absolute form with credentials",
        "GET ws://u:p@chat.example.com/ws HTTP/1.1",
        "",
        "",
        BAD,
    ),
    row("the authority form", "GET chat.example.com:443 HTTP/1.1", "", "", BAD),
    row("a path without a slash", "GET ws HTTP/1.1", "", "", BAD),
    row("a tab in the request line", "GET\t/ws HTTP/1.1", "", "", BARE),
    row("a request in the request line", "GET /ws HTTP/1.1 GET /ws HTTP/1.1", "", "", BARE),
    row("HTTP/1.0", "GET /ws HTTP/1.0", "Connection: keep-alive, Upgrade\r\n", "", BAD),
    row("HTTP/0.9", "GET /ws", "", "", BARE),
    row("HTTP/1.2", "GET /ws HTTP/1.2", "", "", BARE),
    row("HTTP in lower case", "GET /ws http/1.1", "", "", BARE),
];

impl Smuggling {
    fn bytes(&self) -> String {
        let Self { first, lines, body, .. } = self;
        let (_, good) = SMUGGLED.split_once("\r\n").unwrap();
        let good = good.strip_suffix("\r\n").unwrap();
        format!("{first}\r\n{good}{lines}\r\n{body}{SMUGGLED}")
    }
}

#[tokio::test]
async fn a_second_request_is_never_found_behind_a_hostile_first_one() {
    let backend = Backend::start().await;
    let setup = Setup::open(&backend.url())
        .timeouts("close = \"300ms\"")
        .limits("handshakes_per_address = { rate = \"0/s\" }");
    let mut gateway = Gateway::start(&setup).await;
    let mut wrong = Vec::new();
    for row in SMUGGLING {
        let before = gateway.log().len();
        let mut wire = gateway.client().raw(row.bytes().as_bytes()).await;
        let answer = wire.rest().await;
        drop(wire);
        let is_line = |line: &Value| line["type"] == "access";
        gateway.wait_for_log("its line", |log| log[before..].iter().any(is_line)).await;
        let line = gateway.log().into_iter().skip(before).find(is_line).unwrap();
        let label = if line["outcome"] == UNREADABLE { &line["outcome"] } else { &line["label"] };
        let status = answer.split(' ').nth(1).unwrap_or("none");
        let answers = answer.matches("HTTP/1.1 ").count();
        let found = format!("{answers} x {status} {}", label.as_str().unwrap());
        let expected = format!("1 x {} {}", row.status, row.label);
        if found != expected || line["upstream_close"] != "none" {
            wrong.push(format!("{}: {found}, not {expected}: {line}", row.what));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // The upstream has heard of none of them: this is its first request.
    let (client, asked) = tokio::join!(gateway.client().path("/ws?first=1").ask(), backend.asked());
    assert!(asked.head.starts_with("GET /ws?first=1 HTTP/1.1\r\n"), "{}", asked.head);
    drop((client, asked));
    all_is_back(&gateway).await;
}

/// An attack by many connections that never become a session.
struct Cheap {
    what: &'static str,
    tls: bool,
    /// Sent at once.
    sent: fn(&Authority) -> Vec<u8>,
    /// Dripped after that, a byte at a time, until the gateway ends it.
    dripped: &'static [u8],
    /// What the gateway says: the beginning.
    answer: &'static [u8],
    /// The beginning of `detail` in the access log.
    detail: &'static str,
}

fn nothing(_: &Authority) -> Vec<u8> {
    Vec::new()
}

/// Noise that begins like a TLS handshake record, so that it is read as one.
fn tls_garbage(_: &Authority) -> Vec<u8> {
    [&[0x16, 3, 1, 0, 200, 1, 0, 0, 196][..], &[0xa5; 400]].concat()
}

const CHEAP: &[Cheap] = &[
    Cheap {
        what: "silence",
        tls: false,
        sent: nothing,
        dripped: b"",
        answer: b"",
        detail: "the request head took too long",
    },
    Cheap {
        what: "a head, a byte at a time",
        tls: false,
        sent: nothing,
        dripped: b"GET /ws HTTP/1.1\r\nHost: chat.example.com\r\nX: slowloris\r\n",
        answer: b"",
        detail: "the request head took too long",
    },
    Cheap {
        what: "a ClientHello, a byte at a time",
        tls: true,
        sent: |_| vec![0x16, 3, 1, 1, 0xff, 1, 0],
        dripped: b"\x01",
        answer: b"",
        detail: "the TLS handshake took too long",
    },
    Cheap {
        what: "silence on the TLS port",
        tls: true,
        sent: nothing,
        dripped: b"",
        answer: b"",
        detail: "the TLS handshake took too long",
    },
    Cheap {
        what: "garbage in a TLS record",
        tls: true,
        sent: tls_garbage,
        dripped: b"",
        answer: b"\x15\x03",
        detail: "",
    },
    Cheap {
        what: "plain HTTP on the TLS port",
        tls: true,
        sent: |_| SMUGGLED.as_bytes().to_vec(),
        dripped: b"",
        answer: b"HTTP/1.1 400 ",
        detail: "plain HTTP (ws:// or http://) on a TLS port",
    },
    Cheap {
        what: "a ClientHello on the plain port",
        tls: false,
        sent: |authority| authority.client().hello("chat.example.com"),
        dripped: b"",
        answer: b"",
        detail: "TLS (wss:// or https://) on a plain port",
    },
];

/// Connections of an attack at once.
const MANY: usize = 100;

/// What all these connections may cost: a TLS handshake under way owns some 20 KiB of buffers in the
/// library and a task; three times that, and as much again for what the allocator keeps (debug build).
const CHEAP_GROWTH: f64 = (MANY * 128 * 1024) as f64;

#[tokio::test]
async fn connections_that_never_ask_end_in_time_and_nobody_else_notices() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let certificate = authority.sign(&["chat.example.com"]).write(folder.path(), "chat");
    let endpoint = format!("http://{}", Backend::start().await.echo());
    let mut setup = calm(&endpoint)
        .limits("connections_per_address = 1000")
        .timeouts("request_head = \"1s\"\ntls_handshake = \"1s\"");
    setup.more_listeners = format!(
        "[[listener]]\nbind = \"127.0.0.1:0\"\n[listener.tls]\ncertificates = [{certificate}]\n"
    );
    let mut gateway = Gateway::start_in(folder, &setup).await;
    for row in CHEAP {
        let witness = Witness::of(&gateway).await;
        let before = (resident(&gateway).await, gateway.log().len());
        let attack = (0..MANY).map(|_| attacked(&gateway, &authority, row));
        let answers = tokio::task::JoinSet::from_iter(attack).join_all().await;
        for answer in answers {
            assert!(answer.starts_with(row.answer), "{}: {answer:?}", row.what);
            assert_eq!(answer.is_empty(), row.answer.is_empty(), "{}: {answer:?}", row.what);
        }
        let is_it = |line: &Value| {
            let detail = line["detail"].as_str().unwrap_or_default();
            line["outcome"] == "no_request" && detail.starts_with(row.detail)
        };
        gateway
            .wait_for_log(row.what, |log| {
                log[before.1..].iter().filter(|line| is_it(line)).count() == MANY
            })
            .await;
        witness.leave(row.what).await;
        let growth = resident(&gateway).await - before.0;
        println!("{}: memory {:+.0} KiB", row.what, growth / 1024.0);
        assert!(growth < CHEAP_GROWTH, "{}: {growth}", row.what);
        all_is_back(&gateway).await;
    }
}

/// One connection of an attack: what the gateway answers before it ends it.
fn attacked(
    gateway: &Gateway,
    authority: &Authority,
    row: &Cheap,
) -> impl Future<Output = Vec<u8>> + Send + 'static {
    let address = gateway.addresses[usize::from(row.tls)];
    let (sent, dripped) = ((row.sent)(authority), row.dripped);
    async move {
        let mut tcp = within("TCP", tokio::net::TcpStream::connect(address)).await.unwrap();
        tcp.write_all(&sent).await.unwrap();
        Wire::new(tcp, None).drip_until_end(dripped, Duration::from_millis(50)).await
    }
}
