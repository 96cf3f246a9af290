//! As a service of systemd: what it is told, and the sockets it passes.
//!
//! `systemd-socket-activate` is the real one (Debian: `apt-get install systemd`); no systemd has to run.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::task::JoinSet;

use crate::support::gateway::command;
use crate::support::systemd::{Notified, listening, with_socket};
use crate::support::tokens::token;
use crate::support::{Backend, Client, Gateway, Pair, Setup, within};

/// What comes now and then.
const REGULAR: &[&str] = &["WATCHDOG", "STATUS"];
/// What comes while it drains.
const DRAINING: &[&str] = &["WATCHDOG", "STATUS", "EXTEND_TIMEOUT_USEC"];

/// The clock of MONOTONIC_USEC.
fn monotonic_usec() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1000
}

async fn notifying(notified: &Notified, setup: &Setup) -> Gateway {
    let folder = tempfile::tempdir().unwrap();
    let command = |file: &Path, setup: &Setup| {
        let mut command = command(file, setup);
        command.env("NOTIFY_SOCKET", &notified.name).env("WATCHDOG_USEC", "200000");
        command
    };
    Gateway::start_by(folder, setup, command).await
}

#[tokio::test]
async fn the_service_manager_is_told_what_happens() {
    let backend = Backend::start().await;
    let folder = tempfile::tempdir().unwrap();
    let notified = Notified::in_folder(folder.path());
    let mut setup = Setup::open(&backend.url());
    setup.drain = "window = \"8760h\"\n".to_owned();
    let mut gateway = notifying(&notified, &setup).await;
    let ready = notified.next().await;
    assert_eq!((&*ready["READY"], &*ready["STATUS"]), ("1", "Serving, sessions: 0"));
    for _ in 0..3 {
        assert_eq!(notified.expect("WATCHDOG", REGULAR).await["WATCHDOG"], "1");
    }
    let mut session = Pair::open(&gateway, &backend).await;
    while notified.expect("STATUS", REGULAR).await["STATUS"] != "Serving, sessions: 1" {}

    let asked = monotonic_usec();
    gateway.reload(&setup).await;
    let reloading = notified.expect("RELOADING", REGULAR).await;
    let told: i64 = reloading["MONOTONIC_USEC"].parse().unwrap();
    assert!((asked..=monotonic_usec()).contains(&told), "{asked} {told}");
    assert!(notified.expect("READY", REGULAR).await["STATUS"].starts_with("Serving"));
    gateway.write("no TOML");
    gateway.refuse_reload().await;
    notified.expect("RELOADING", REGULAR).await;
    let status = notified.expect("READY", REGULAR).await["STATUS"].clone();
    assert!(status.ends_with("; the last reload failed, the log says why"), "{status}");

    gateway.signal("TERM");
    let stopping = notified.expect("STOPPING", REGULAR).await;
    assert_eq!(stopping["STATUS"], "Draining, sessions left: 1");
    for _ in 0..2 {
        let extended = notified.expect("EXTEND_TIMEOUT_USEC", DRAINING).await;
        assert_eq!(extended["STATUS"], "Draining, sessions left: 1");
        // It comes again before this is over.
        assert!(extended["EXTEND_TIMEOUT_USEC"].parse::<u64>().unwrap() > 5_000_000);
    }
    notified.expect("WATCHDOG", DRAINING).await;
    session.round_trip().await;
    drop(session);
    assert_eq!(gateway.ended().await.code(), Some(0));
}

#[tokio::test]
async fn the_notify_socket_may_be_abstract_or_gone() {
    let backend = Backend::start().await;
    let setup = Setup::open(&backend.url());
    let notified = Notified::abstract_socket();
    let gateway = notifying(&notified, &setup).await;
    assert_eq!(notified.next().await["READY"], "1");
    drop(notified);
    Pair::open(&gateway, &backend).await.round_trip().await;
    let gone = Notified::in_folder(tempfile::tempdir().unwrap().path());
    let gateway = notifying(&gone, &setup).await;
    Pair::open(&gateway, &backend).await.round_trip().await;
}

/// A listener on the socket that is called `public`.
fn on_passed(backend: &str) -> Setup {
    let limits = "handshakes_per_address = { rate = \"0/s\" }\nconnections_per_address = 0";
    Setup { listener: "bind = \"systemd:public\"\n".to_owned(), ..Setup::open(backend) }
        .limits(limits)
}

#[tokio::test]
async fn a_passed_socket_is_served_and_kept_for_a_listener_that_comes_back() {
    let backend = Backend::start().await;
    let (setup, folder) = (on_passed(&backend.url()), tempfile::tempdir().unwrap());
    let socket = listening();
    let address = socket.local_addr().unwrap();
    let mut gateway = Gateway::start_by(folder, &setup, with_socket(socket, "public")).await;
    assert_eq!(gateway.addresses, [address]);
    let mut session = Pair::open(&gateway, &backend).await;
    gateway.metric("framegate_connections{listener=\"systemd:public\"}").await;

    let elsewhere = Setup { listener: "bind = \"127.0.0.1:0\"\n".to_owned(), ..setup.clone() };
    gateway.reload(&elsewhere).await;
    gateway.reload(&setup).await;
    session.round_trip().await;
    Pair::of(Client::new(address), &backend).await.round_trip().await;
    gateway.write(&setup.text().replace("systemd:public", "systemd:other"));
    let problems = gateway.refuse_reload().await;
    assert_eq!(problems[0]["path"], "listener[0].bind");
    assert!(problems[0]["error"].as_str().unwrap().contains("there is \"public\""), "{problems:?}");
}

/// What a start that must fail says, and its exit code.
async fn failing(start: impl FnOnce(&Path, &Setup) -> Command, setup: &Setup) -> (String, i32) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("framegate.toml");
    std::fs::write(folder.path().join("secret"), setup.secret()).unwrap();
    std::fs::write(&file, setup.text()).unwrap();
    let output = within("the end", start(&file, setup).output()).await.unwrap();
    (String::from_utf8(output.stderr).unwrap(), output.status.code().unwrap())
}

#[tokio::test]
async fn a_socket_that_was_not_passed_or_is_of_another_kind_is_a_clear_error() {
    let setup = on_passed("http://127.0.0.1:1");
    let folder = tempfile::tempdir().unwrap();
    let unix = UnixListener::bind(folder.path().join("socket")).unwrap();
    let accepted = {
        let socket = listening();
        let _client = std::net::TcpStream::connect(socket.local_addr().unwrap()).unwrap();
        socket.accept().unwrap().0
    };
    let rows = [
        (failing(command, &setup).await, "no socket called \"public\"; it has passed none"),
        (failing(with_socket(listening(), "other"), &setup).await, "there is \"other\""),
        (failing(with_socket(listening(), ""), &setup).await, "there is \"unknown\""),
        (failing(with_socket(unix, "public"), &setup).await, "is a unix socket"),
        (failing(with_socket(accepted, "public"), &setup).await, "Accept=no"),
    ];
    for ((said, code), expected) in rows {
        assert!(said.contains("listener[0].bind") && said.contains(expected), "{said}");
        assert_eq!(code, 78, "{said}");
    }
}

#[tokio::test]
async fn secrets_come_from_the_folder_of_credentials() {
    let backend = Backend::start().await;
    let credentials = tempfile::tempdir().unwrap();
    let mut setup = Setup::with_tokens(&backend.url());
    std::fs::write(credentials.path().join("jwt"), setup.secret()).unwrap();
    setup.keys = "[{ algorithm = \"HS256\", file = \"credential:jwt\" }]".to_owned();
    let (said, code) = failing(command, &setup).await;
    assert!(
        said.contains("verifiers.users.keys[0].file") && said.contains("LoadCredential="),
        "{said}"
    );
    assert_eq!(code, 78);
    let start = |file: &Path, setup: &Setup| {
        let mut command = command(file, setup);
        command.env("CREDENTIALS_DIRECTORY", credentials.path());
        command
    };
    let gateway = Gateway::start_by(tempfile::tempdir().unwrap(), &setup, start).await;
    let client = gateway.client().token(&token("ann"));
    Pair::of(client, &backend).await.round_trip().await;
}

/// An address nobody else has: systemd wants to be told the port.
fn free_address() -> SocketAddr {
    let port = TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
    SocketAddr::from(([127, fastrand::u8(1..), fastrand::u8(..), fastrand::u8(1..255)], port))
}

#[tokio::test]
async fn systemd_socket_activate_starts_it_with_the_first_connection() {
    const ACTIVATE: &str = "systemd-socket-activate";
    let backend = Backend::start().await;
    let folder = tempfile::tempdir().unwrap();
    let setup = on_passed(&backend.url());
    let file = folder.path().join("framegate.toml");
    std::fs::write(folder.path().join("secret"), setup.secret()).unwrap();
    std::fs::write(&file, setup.text()).unwrap();
    let mut activate = Command::new(ACTIVATE);
    let address = free_address();
    activate.arg(format!("--listen={address}"));
    activate.args(["--fdname=public", env!("CARGO_BIN_EXE_framegate")]);
    activate.args(["run", "--config"]).arg(&file).kill_on_drop(true);
    activate.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let activate = activate.spawn();
    let mut process =
        activate.unwrap_or_else(|error| panic!("{ACTIVATE}: {error}; apt-get install systemd"));
    let first = within("a listening socket", async {
        loop {
            match TcpStream::connect(address).await {
                Ok(first) => return first,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    })
    .await;
    // The connection that starts it waits in the socket, and is its first.
    let mut first = Pair::of(Client::new(address).over(first), &backend).await;
    first.round_trip().await;
    Pair::of(Client::new(address), &backend).await.round_trip().await;
    process.kill().await.unwrap();
}

/// Connects every few milliseconds until told to stop; the longest wait for a 101, and how many there
/// were. Anything but a 101 is a failure.
async fn steady_stream(address: SocketAddr, stop: Arc<AtomicBool>) -> (Duration, usize) {
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    let mut waits = JoinSet::new();
    while !stop.load(Ordering::Acquire) {
        ticks.tick().await;
        waits.spawn(async move {
            let began = Instant::now();
            let wire = Client::new(address).session().await;
            let wait = began.elapsed();
            drop(wire);
            wait
        });
    }
    let waits = waits.join_all().await;
    (waits.iter().copied().max().unwrap_or_default(), waits.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_on_the_same_socket_takes_over_and_nobody_is_refused_or_waits() {
    let backend = format!("http://{}", Backend::start().await.echo());
    let mut setup = on_passed(&backend);
    setup.drain = "window = \"1s\"\n".to_owned();
    let socket: TcpListener = listening();
    let address = socket.local_addr().unwrap();
    let start = || {
        let socket = socket.try_clone().unwrap();
        Gateway::start_by(tempfile::tempdir().unwrap(), &setup, with_socket(socket, "public"))
    };
    let mut running = start().await;
    let stop = Arc::new(AtomicBool::new(false));
    let stream = tokio::spawn(steady_stream(address, Arc::clone(&stop)));
    for _ in 0..TAKEOVERS {
        let mut session = Client::new(address).session().await;
        let is_its = "framegate_sessions_active{route=\"/ws\"}";
        assert!(running.metric(is_its).await >= 1.0, "the only one that accepts has it");
        let successor = start().await;
        running.signal("TERM");
        // Whom it has already is told to come back, to its successor.
        let (code, reason) = session.until_close().await.unwrap();
        assert!(code == Some(1012) && reason.starts_with("drained;retry="), "{code:?} {reason}");
        drop(session);
        assert_eq!(running.ended().await.code(), Some(0));
        running = successor;
    }
    stop.store(true, Ordering::Release);
    let (longest, count) = within("the last of the stream", stream).await.unwrap();
    println!("{TAKEOVERS} takeovers, {count} new connections, longest wait for a 101: {longest:?}");
    assert!(count > 100, "{count}");
    assert!(longest < Duration::from_secs(2), "{longest:?}");
}

const TAKEOVERS: usize = 3;
