//! A gateway process: started, watched through its log and metrics, ended.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::{Client, Setup, within};

/// A running `framegate run`.
pub struct Gateway {
    /// Public listeners in the order of the configuration.
    pub addresses: Vec<SocketAddr>,
    /// The admin listener; without meaning if that is a unix socket.
    pub admin: SocketAddr,
    pub folder: TempDir,
    child: Child,
    lines: Arc<Mutex<Vec<Value>>>,
    changed: watch::Receiver<usize>,
}

impl Gateway {
    /// Starts with this configuration and waits until it listens.
    pub async fn start(setup: &Setup) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::start_in(folder, setup).await
    }

    /// The same, in a folder that holds files the configuration names.
    pub async fn start_in(folder: TempDir, setup: &Setup) -> Self {
        Self::start_by(folder, setup, command).await
    }

    /// The same, by another command: it is given the configuration's file.
    pub async fn start_by(
        folder: TempDir,
        setup: &Setup,
        command: impl FnOnce(&Path, &Setup) -> Command,
    ) -> Self {
        std::fs::write(folder.path().join("secret"), setup.secret()).unwrap();
        let file = folder.path().join("framegate.toml");
        std::fs::write(&file, setup.text()).unwrap();
        let mut child = command(&file, setup).stdout(Stdio::piped()).spawn().unwrap();
        let (tell, changed) = watch::channel(0);
        let lines = Arc::new(Mutex::new(Vec::new()));
        let stdout = BufReader::new(child.stdout.take().unwrap());
        tokio::spawn(collect(stdout, Arc::clone(&lines), tell));
        let mut gateway = Self {
            addresses: Vec::new(),
            admin: SocketAddr::from(([0, 0, 0, 0], 0)),
            folder,
            child,
            lines,
            changed,
        };
        let listeners = setup.text().matches("[[listener]]").count();
        gateway
            .wait_for_log("the listeners' addresses", |lines| {
                lines.iter().filter(|line| is_listening(line)).count() > listeners
            })
            .await;
        let address = |line: &Value| line["address"].as_str().unwrap().parse().unwrap();
        let listening: Vec<Value> = gateway
            .lines
            .lock()
            .unwrap()
            .iter()
            .filter(|line| is_listening(line))
            .cloned()
            .collect();
        let (admin, public): (Vec<_>, Vec<_>) =
            listening.iter().partition(|line| line["listener"] == "admin");
        gateway.addresses = public.into_iter().map(address).collect();
        if admin[0]["address"].as_str().is_some_and(|address| !address.starts_with("unix:")) {
            gateway.admin = address(admin[0]);
        }
        gateway
    }

    /// A client of the first listener.
    pub fn client(&self) -> Client {
        Client::new(self.addresses[0])
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Waits until the log is so.
    pub async fn wait_for_log(&mut self, what: &str, is_so: impl Fn(&[Value]) -> bool) {
        let lines = Arc::clone(&self.lines);
        let seen = within(what, self.changed.wait_for(|_| is_so(&lines.lock().unwrap()))).await;
        if seen.is_err() {
            drop(seen);
            let log = self.lines.lock().unwrap();
            panic!("the gateway ended before {what}: {log:#?}");
        }
    }

    /// The first access-log line with this label (or, accepted and ended, `label`).
    pub async fn access_line(&mut self, label: &str) -> Value {
        self.access_lines(label, 1).await.remove(0)
    }

    /// The first `count` access-log lines with this label.
    pub async fn access_lines(&mut self, label: &str, count: usize) -> Vec<Value> {
        let is_it = |line: &Value| line["type"] == "access" && line["label"] == label;
        let what = format!("{count} access lines with label {label}");
        self.wait_for_log(&what, |lines| lines.iter().filter(|line| is_it(line)).count() >= count)
            .await;
        let lines = self.lines.lock().unwrap();
        lines.iter().filter(|line| is_it(line)).take(count).cloned().collect()
    }

    /// The access-log line of the request that was answered with this X-Request-Id.
    pub async fn line_of(&mut self, id: &str) -> Value {
        let is_it = |line: &Value| line["type"] == "access" && line["id"] == id;
        self.wait_for_log(&format!("the access line of {id}"), |lines| lines.iter().any(is_it))
            .await;
        self.log().into_iter().find(is_it).unwrap()
    }

    /// The first access-log line of a connection that never came to a request, for this reason
    /// (the beginning of its `detail`).
    pub async fn no_request_line(&mut self, reason: &str) -> Value {
        let is_it = |line: &Value| {
            line["outcome"] == "no_request" && line["detail"].as_str().unwrap().starts_with(reason)
        };
        self.wait_for_log(reason, |lines| lines.iter().any(is_it)).await;
        self.log().into_iter().find(is_it).unwrap()
    }

    /// Everything logged so far.
    pub fn log(&self) -> Vec<Value> {
        self.lines.lock().unwrap().clone()
    }

    /// GET on the admin listener: status and body.
    pub async fn admin_get(&self, path: &str) -> (u16, String) {
        http_get(self.admin, path, "localhost").await
    }

    /// Status and JSON of the admin API's answer to e.g. `POST /api/drain?percent=1`.
    pub async fn admin(&self, request: &str) -> (u16, Value) {
        let headers = "Host: localhost\r\nX-Framegate: 1\r\nConnection: close";
        let request = format!("{request} HTTP/1.1\r\n{headers}\r\n\r\n");
        let (status, body) = exchange(self.admin, &request).await;
        let json = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"));
        (status, json)
    }

    /// All series of `/metrics`, by name with labels as written.
    pub async fn metrics(&self) -> HashMap<String, f64> {
        let (status, body) = self.admin_get("/metrics").await;
        assert_eq!(status, 200);
        body.lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.rsplit_once(' '))
            .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
            .collect()
    }

    /// One series; 0 if it is not there.
    pub async fn metric(&self, series: &str) -> f64 {
        self.metrics().await.get(series).copied().unwrap_or_default()
    }

    /// What a family's series have grown by since `before`, without those that have not changed.
    pub async fn growth(&self, before: &HashMap<String, f64>, family: &str) -> Vec<(String, f64)> {
        let series = format!("{family}{{");
        let mut grown: Vec<_> = self
            .metrics()
            .await
            .into_iter()
            .filter(|(name, _)| name.starts_with(&series))
            .map(|(name, value)| {
                let growth = value - before.get(&name).copied().unwrap_or_default();
                (name, growth)
            })
            .filter(|(_, growth)| *growth != 0.0)
            .collect();
        grown.sort_by(|one, other| one.0.cmp(&other.0));
        grown
    }

    /// Scrapes until a series has this value.
    pub async fn wait_for_metric(&self, series: &str, value: f64) {
        let what = format!("{series} = {value}");
        within(&what, async {
            while self.metric(series).await != value {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Sends a signal.
    pub fn signal(&self, name: &str) {
        let status = std::process::Command::new("kill")
            .args([format!("-{name}"), self.pid().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Stops all its threads, until SIGCONT: what happens meanwhile it finds all at once.
    pub async fn freeze(&self) {
        self.signal("STOP");
        let tasks = format!("/proc/{}/task", self.pid());
        let is_stopped = |task: std::io::Result<std::fs::DirEntry>| {
            let stat = std::fs::read_to_string(task.unwrap().path().join("stat"));
            stat.is_ok_and(|stat| stat.rsplit_once(") ").unwrap().1.starts_with('T'))
        };
        within("a stopped process", async {
            while !std::fs::read_dir(&tasks).unwrap().all(is_stopped) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Waits for the end of the process.
    pub async fn ended(&mut self) -> ExitStatus {
        within("the end of the process", self.child.wait()).await.unwrap()
    }
}

/// The binary under test with a configuration file.
pub fn command(file: &Path, setup: &Setup) -> Command {
    let binary = env!("CARGO_BIN_EXE_framegate");
    let mut command = match setup.open_files {
        None => Command::new(binary),
        Some(limit) => {
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("ulimit -n {limit}; exec \"$0\" \"$@\""), binary]);
            shell
        }
    };
    if let Some(workers) = setup.workers {
        command.env("TOKIO_WORKER_THREADS", workers.to_string());
    }
    command.envs(setup.environment.iter().map(|(name, value)| (name, value)));
    command.args(["run", "--config"]).arg(file).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// GET over a connection of its own: status and body.
pub async fn http_get(address: SocketAddr, path: &str, host: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    exchange(address, &request).await
}

/// The answer to a whole request that asks for the end of the connection: status and body.
async fn exchange(address: SocketAddr, request: &str) -> (u16, String) {
    within("an HTTP answer", async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split_whitespace().nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    })
    .await
}

fn is_listening(line: &Value) -> bool {
    line["message"] == "listening"
}

async fn collect(
    mut stdout: BufReader<tokio::process::ChildStdout>,
    lines: Arc<Mutex<Vec<Value>>>,
    tell: watch::Sender<usize>,
) {
    let mut line = String::new();
    while stdout.read_line(&mut line).await.is_ok_and(|read| read > 0) {
        let value = serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("a log line is no JSON ({error}): {line}"));
        lines.lock().unwrap().push(value);
        tell.send_modify(|count| *count += 1);
        line.clear();
    }
}
