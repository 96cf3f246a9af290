//! Faults of the machine around the gateway: endpoints that die under load, descriptors that run out, a
//! clock that is set, a log that cannot be written. Afterwards everything is back: gauges, places, memory.
//!
//! Short forms for every run; `tests/soak.sh` is the long one.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use crate::support::backend::Asked;
use crate::support::client::Client;
use crate::support::hostile::{all_is_back, calm};
use crate::support::tokens::{token, token_with};
use crate::support::wire::{PING, PONG, TEXT};
use crate::support::{Backend, Gateway, Setup, Wire, within};

/// Sessions under load, two of each user.
const SESSIONS: usize = 100;
/// Echoes that each session's client wants to have had in the end.
const ECHOES: usize = 60;

/// Places of the one address: room for connections that are not quite over.
const PLACES: usize = 2 * SESSIONS;

/// An endpoint on a fixed address that can die with all its connections, and come back.
struct Endpoint {
    address: std::net::SocketAddr,
    serving: Option<JoinSet<()>>,
    lives: usize,
}

impl Endpoint {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut endpoint = Self { address, serving: None, lives: 0 };
        endpoint.serve(listener);
        endpoint
    }

    fn serve(&mut self, listener: tokio::net::TcpListener) {
        self.lives += 1;
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            // Dropped with this task, and with them their connections: as a crash ends them.
            let mut sessions = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                crate::support::reset_on_drop(&stream);
                sessions.spawn(echo(Wire::new(stream, None)));
            }
        });
        self.serving = Some(serving);
    }

    async fn die(&mut self) {
        let mut serving = self.serving.take().unwrap();
        serving.shutdown().await;
    }

    async fn come_back(&mut self) {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.address).unwrap();
        self.serve(socket.listen(1024).unwrap());
    }
}

/// Serves one session; one that the other end drops is over.
async fn echo(mut wire: Wire) {
    use tokio::io::AsyncWriteExt;
    let Some(head) = wire.head().await else { return };
    let mut wire = Asked { wire, head }.accept("").await;
    while let Some(frame) = wire.frame().await {
        let first = if frame.opcode() == 9 { PONG } else { frame.first };
        if frame.opcode() != 10 {
            let bytes = crate::support::wire::encode(first, &frame.payload, None);
            if wire.stream.write_all(&bytes).await.is_err() || frame.opcode() == 8 {
                return;
            }
        }
    }
}

/// A client that comes back until it has had all its echoes; each session it loses is told by a Close.
async fn insist(client: Client, tell: Arc<AtomicUsize>) -> usize {
    let (mut echoes, mut lost) = (0, 0);
    while echoes < ECHOES {
        let answered = client.clone().connect().await;
        if answered.status != 101 {
            // A dead endpoint, or the user's lost session is not quite over.
            assert!(matches!(answered.status, 502 | 429), "{}", answered.head);
            tokio::task::yield_now().await;
            continue;
        }
        let mut wire = answered.wire;
        let had = echoes;
        while echoes < ECHOES {
            let text = format!("echo {echoes}");
            wire.send_text(&text).await;
            let frame = wire.frame().await.expect("an echo or a Close, never a bare end");
            if frame.first == TEXT {
                assert_eq!(frame.text(), text);
                echoes += 1;
                tell.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            assert_eq!(&frame.payload[..2], &1011_u16.to_be_bytes(), "{frame:?}");
            lost += 1;
            break;
        }
        assert!(echoes >= had);
        if echoes == ECHOES {
            wire.send_close(1000, "").await;
            // The endpoint may die at this moment: then this is what is told.
            let told = wire.until_close().await.expect("a Close").0;
            assert!(matches!(told, Some(1000 | 1011)), "{told:?}");
        }
    }
    lost
}

#[tokio::test]
async fn endpoints_that_die_and_return_under_load_leave_nothing_behind() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut endpoints = [Endpoint::start().await, Endpoint::start().await, Endpoint::start().await];
    let url = |endpoint: &Endpoint| format!("http://{}", endpoint.address);
    let mut setup = Setup::with_tokens(&url(&endpoints[0]))
        .endpoint(&url(&endpoints[1]))
        .endpoint(&url(&endpoints[2]))
        .timeouts("close = \"300ms\"")
        .limits("connections_per_user = 2\nwhen_user_full = \"refuse\"")
        .limits(&format!(
            "connections_per_address = {PLACES}\nhandshakes_per_address = {{ rate = \"0/s\" }}"
        ))
        .limits("messages = { rate = \"0/s\" }");
    setup.log_level = "info";
    let gateway = Gateway::start(&setup).await;
    let echoes = Arc::new(AtomicUsize::new(0));
    let clients = (0..SESSIONS).map(|n| {
        insist(gateway.client().token(&token(&format!("user {}", n / 2))), Arc::clone(&echoes))
    });
    let mut clients = JoinSet::from_iter(clients);
    // One dies whenever so many more echoes have come, and returns when so many more have.
    let step = SESSIONS * ECHOES / 20;
    let reached = async |count: usize| {
        within("echoes", async {
            while echoes.load(Ordering::Relaxed) < count {
                tokio::task::yield_now().await;
            }
        })
        .await;
    };
    for round in 0..8 {
        let endpoint = &mut endpoints[random.usize(..3)];
        reached(step * (2 * round + 1)).await;
        endpoint.die().await;
        reached(step * (2 * round + 2)).await;
        endpoint.come_back().await;
    }
    let mut lost = 0;
    while let Some(told) = within("every client's last echo", clients.join_next()).await {
        lost += told.unwrap();
    }
    assert_eq!(endpoints.iter().map(|endpoint| endpoint.lives).sum::<usize>(), 3 + 8);
    println!("{lost} sessions were lost and told so");
    assert!(lost >= 8, "{lost}");
    all_is_back(&gateway).await;
    places_are_back(&gateway).await;
}

/// Every place of the address is given, two to each user, and not one more.
async fn places_are_back(gateway: &Gateway) {
    let mut held = Vec::new();
    for n in 0..PLACES {
        held.push(gateway.client().token(&token(&format!("user {}", n / 2))).session().await);
    }
    assert_eq!(gateway.client().token(&token("one more")).connect().await.status, 429);
    drop(held);
    all_is_back(gateway).await;
}

/// The gateway's limit, small enough to be reached soon.
const OPEN_FILES: usize = 48;

/// Those below the limit: one inherited from whoever started the tests may have a higher number.
fn open_descriptors(gateway: &Gateway) -> usize {
    let entries = std::fs::read_dir(format!("/proc/{}/fd", gateway.pid())).unwrap();
    let number = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.unwrap().file_name().to_str().unwrap().parse::<usize>().unwrap()
    };
    entries.map(number).filter(|number| *number < OPEN_FILES).count()
}

#[tokio::test]
async fn a_session_without_a_descriptor_for_its_upstream_is_refused_and_said_so() {
    let endpoint = format!("http://{}", Backend::start().await.echo());
    let mut outcomes = Vec::new();
    // A session takes two: with one more held, one of both times the last gets only its first.
    for silent in 0..2 {
        let mut setup = calm(&endpoint).timeouts("request_head = \"1h\"").upstream("retries = 0");
        setup.open_files = Some(OPEN_FILES as u64);
        let gateway = Gateway::start(&setup).await;
        let mut alone = Vec::new();
        for _ in 0..silent {
            alone.push(gateway.client().tcp().await);
        }
        let mut sessions = Vec::new();
        // Nothing is under way between two sessions, so what is open now stays so.
        let status = loop {
            let free = OPEN_FILES - open_descriptors(&gateway);
            if free == 0 {
                break None;
            }
            let answered = gateway.client().connect().await;
            if free == 1 {
                break Some(answered.status);
            }
            assert_eq!(answered.status, 101, "{free} are free: {}", answered.head);
            sessions.push(answered.wire);
        };
        println!("{} sessions, then {status:?}", sessions.len());
        // The others do not notice.
        for session in &mut sessions {
            session.send_text("still here").await;
            session.expect_text("still here").await;
        }
        drop((sessions, alone));
        all_is_back(&gateway).await;
        gateway.client().session().await;
        outcomes.push(status);
    }
    outcomes.sort_unstable();
    assert_eq!(outcomes, [None, Some(502)]);
}

/// Puts an offset of seconds on the wall clock of a process, and leaves its monotonic one alone.
const CLOCK: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static volatile long *offset;
__attribute__((constructor)) static void begin(void) {
    int file = open(getenv("CLOCK_OFFSET"), O_RDONLY);
    if (file < 0) abort();
    offset = mmap(0, sizeof *offset, PROT_READ, MAP_SHARED, file, 0);
    if (offset == MAP_FAILED) abort();
    close(file);
}
int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = syscall(SYS_clock_gettime, clock, now);
    if (!result && offset && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += *offset;
    return result;
}
int gettimeofday(struct timeval *now, void *zone) {
    struct timespec exact;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *now) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (now) *now = exact.tv_sec;
    return exact.tv_sec;
}
"#;

/// A wall clock for one process.
struct Clock {
    folder: tempfile::TempDir,
}

impl Clock {
    /// Compiles the library; a C compiler is what the build needs too.
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("clock.c"), CLOCK).unwrap();
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-o", "clock.so", "clock.c"]).current_dir(&folder);
        let status = within("the compiler", compiler.status()).await.unwrap();
        assert!(status.success());
        let clock = Self { folder };
        clock.set(0);
        clock
    }

    /// So many seconds before or after the real time, at once.
    fn set(&self, offset: i64) {
        use std::os::unix::fs::FileExt;
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(false);
        let file = file.open(self.folder.path().join("offset")).unwrap();
        file.write_all_at(&offset.to_ne_bytes(), 0).unwrap();
    }

    fn environment(&self) -> Vec<(String, String)> {
        let path = |name| self.folder.path().join(name).to_str().unwrap().to_owned();
        vec![
            ("LD_PRELOAD".to_owned(), path("clock.so")),
            ("CLOCK_OFFSET".to_owned(), path("offset")),
        ]
    }
}

const DAY: i64 = 24 * 3600;

#[tokio::test]
async fn a_clock_that_is_set_changes_which_tokens_hold_and_no_session() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let clock = Clock::new().await;
    let endpoint = format!("http://{}", Backend::start().await.echo());
    let mut setup = Setup::with_tokens(&endpoint)
        .timeouts("close = \"300ms\"\nrequest_head = \"500ms\"\nidle = \"1h\"")
        .keepalive("client_ping = \"200ms\"\nclient_pong = \"20s\"\nupstream_ping = \"200ms\"");
    setup.environment = clock.environment();
    let mut gateway = Gateway::start(&setup).await;
    let began = std::time::Instant::now();
    let now = crate::support::tokens::now();
    let fresh = token_with("ann", serde_json::json!({ "iat": now }));
    let answered = gateway.client().token(&fresh).connect().await;
    let id = answered.header("x-request-id").unwrap();
    let mut session = answered.wire;
    let steps = [0, DAY, -DAY, 20_000 * DAY, -now, 0];
    let more = std::iter::repeat_with(|| random.i64(-DAY..DAY)).take(6);
    for offset in steps.into_iter().chain(more) {
        clock.set(offset);
        let answered = gateway.client().token(&fresh).connect().await;
        // The token is good for 300 s, with a leeway of 30 s at both ends.
        let expected = if (-30..300).contains(&offset) { 101 } else { 401 };
        assert_eq!(answered.status, expected, "{offset}: {}", answered.head);
        drop(answered);
        // Pings come as before, and a connection that says nothing ends in its time.
        let ping = session.frame().await.unwrap();
        assert_eq!(ping.first, PING, "{offset}: {ping:?}");
        session.send(PONG, &ping.payload).await;
        let mut silent = Wire::new(gateway.client().tcp().await, None);
        silent.expect_end().await;
    }
    clock.set(DAY);
    let mut told = session;
    told.send_close(1000, "").await;
    assert_eq!(told.until_close().await.unwrap().0, Some(1000));
    drop(told);
    let line = gateway.line_of(&id).await;
    let relayed = line["relay_ms"].as_f64().unwrap();
    assert!(relayed > 0.0 && relayed <= began.elapsed().as_secs_f64() * 1000.0, "{line:#}");
    all_is_back(&gateway).await;
}

/// A gateway whose standard output is not read by the harness.
struct Unheard {
    child: Child,
    address: std::net::SocketAddr,
    admin: std::net::SocketAddr,
    _folder: tempfile::TempDir,
}

impl Unheard {
    async fn start(setup: &Setup, stdout: Stdio) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("framegate.toml");
        std::fs::write(folder.path().join("secret"), setup.secret()).unwrap();
        std::fs::write(&file, setup.text()).unwrap();
        let mut command = crate::support::gateway::command(&file, setup);
        let child = command.stdout(stdout).spawn().unwrap();
        let pid = child.id().unwrap();
        // What it logs is what cannot be read: the kernel knows where it listens.
        let (address, admin) = within("two listeners", async {
            loop {
                match listening(pid)[..] {
                    [one, other] if is_admin(one).await => return (other, one),
                    [one, other] => return (one, other),
                    _ => tokio::task::yield_now().await,
                }
            }
        })
        .await;
        Self { child, address, admin, _folder: folder }
    }

    async fn metric(&self, name: &str) -> f64 {
        let (_, body) =
            crate::support::gateway::http_get(self.admin, "/metrics", "localhost").await;
        let lines = body.lines().filter_map(|line| line.rsplit_once(' '));
        let found = lines.filter(|(series, _)| series.split('{').next() == Some(name));
        found.map(|(_, value)| value.parse::<f64>().unwrap()).sum()
    }
}

async fn is_admin(address: std::net::SocketAddr) -> bool {
    crate::support::gateway::http_get(address, "/metrics", "localhost").await.0 == 200
}

/// Where a process listens with TCP over IPv4.
fn listening(pid: u32) -> Vec<std::net::SocketAddr> {
    let Ok(descriptors) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let links = descriptors.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    let own: Vec<String> = links.filter_map(|link| Some(link.to_str()?.to_owned())).collect();
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let address = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (&[_, local, _, state], inode) = (fields.first_chunk()?, fields.get(9)?);
        let is_ours = state == "0A" && own.contains(&format!("socket:[{inode}]"));
        let port = u16::from_str_radix(local.split_once(':')?.1, 16).ok()?;
        is_ours.then(|| std::net::SocketAddr::from(([127, 0, 0, 1], port)))
    };
    table.lines().skip(1).filter_map(address).collect()
}

/// Connections whose lines must have found every buffer full: each line has more than 2 KiB, and the
/// gateway keeps at most 8 MiB that wait and what one write takes.
const LOGGED: usize = 6000;

/// What a log that goes nowhere may cost: two buffers of 8 MiB (they take turns), and the 4 MiB of the
/// floods' test; beside them stands what is remembered of connections that are over, at most 8 MiB.
const LOG_GROWTH: f64 = (28 << 20) as f64;

#[tokio::test]
async fn a_log_that_cannot_be_written_costs_lines_and_nothing_else() {
    let endpoint = format!("http://{}", Backend::start().await.echo());
    let (reader, broken) = std::io::pipe().unwrap();
    drop(reader);
    let (_unread, stuck) = std::io::pipe().unwrap();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    for (what, stdout) in [
        ("a full disk", Stdio::from(full)),
        ("a pipe nobody reads", Stdio::from(stuck)),
        ("a pipe whose reader is gone", Stdio::from(broken)),
    ] {
        let setup = calm(&endpoint).another_route("/long/{*rest}", "chat", "verifier = \"none\"");
        let mut gateway = Unheard::start(&setup, stdout).await;
        let before = gateway.metric("process_resident_memory_bytes").await;
        let mut session = Client::new(gateway.address).session().await;
        let long = "x".repeat(1000);
        let path = format!("/long/{long}");
        let (mut count, mut dropped) = (0, 0.0);
        while dropped == 0.0 {
            assert!(count < LOGGED, "{what}: no line was dropped");
            for _ in 0..200 {
                let client = Client::new(gateway.address).path(&path);
                let answered = client.origin(&format!("https://{long}")).connect().await;
                assert_eq!(answered.status, 101, "{what}: {}", answered.head);
                let text = format!("{count}");
                session.send_text(&text).await;
                session.expect_text(&text).await;
                count += 1;
            }
            dropped = gateway.metric("framegate_log_lines_dropped_total").await;
        }
        let growth = gateway.metric("process_resident_memory_bytes").await - before;
        println!("{what}: {dropped} lines of {count} dropped, memory {:+.0} KiB", growth / 1024.0);
        assert!(growth < LOG_GROWTH, "{what}: {growth}");
        session.send_close(1000, "").await;
        assert_eq!(session.until_close().await.unwrap().0, Some(1000));
        drop(session);
        within("gauges at zero", async {
            while gateway.metric("framegate_connections").await != 0.0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let pid = gateway.child.id().unwrap().to_string();
        let status = std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        assert!(status.success());
        let code = within("the end of the process", gateway.child.wait()).await.unwrap().code();
        assert_eq!(code, Some(0), "{what}");
    }
}
