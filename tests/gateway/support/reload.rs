//! Another configuration for a running gateway.

use std::path::Path;

use serde_json::Value;

use super::{Gateway, Setup};

/// What the log says of a reload that succeeded, and of one that did not.
const RELOADED: &str = "configuration reloaded";
const FAILED: &str = "configuration not reloaded, nothing changed";

impl Gateway {
    /// Writes this configuration in the place of the one it was started with.
    pub fn write(&self, text: &str) {
        std::fs::write(self.folder.path().join("framegate.toml"), text).unwrap();
    }

    /// Has it read another configuration, which must be taken; returns what the log says has changed.
    pub async fn reload(&mut self, setup: &Setup) -> Value {
        self.reload_text(&setup.text()).await
    }

    pub async fn reload_text(&mut self, text: &str) -> Value {
        self.write(text);
        self.hang_up(RELOADED, FAILED).await.0
    }

    /// Has it read its file again, which must be refused; returns what the log says is wrong, problem
    /// by problem.
    pub async fn refuse_reload(&mut self) -> Vec<Value> {
        let (_, lines) = self.hang_up(FAILED, RELOADED).await;
        let is_problem = |line: &Value| line["message"] == "problem in the configuration";
        lines.into_iter().filter(is_problem).collect()
    }

    /// SIGHUP, and waits for this outcome; returns its line, and all lines since the signal.
    async fn hang_up(&mut self, outcome: &str, other: &str) -> (Value, Vec<Value>) {
        let before = self.log().len();
        let at = |lines: &[Value], message: &str| {
            lines.iter().skip(before).position(|line| line["message"] == message)
        };
        self.signal("HUP");
        self.wait_for_log("a reload", |lines| {
            at(lines, outcome).is_some() || at(lines, other).is_some()
        })
        .await;
        let log = self.log();
        let Some(end) = at(&log, outcome) else { panic!("{:#?}", &log[before..]) };
        let lines = log[before..=before + end].to_vec();
        (lines[end].clone(), lines)
    }

    /// The addresses of all sockets opened so far whose listener is called so, in order.
    pub fn listening(&self, listener: &str) -> Vec<std::net::SocketAddr> {
        let is_it = |line: &Value| line["message"] == "listening" && line["listener"] == listener;
        let address = |line: Value| line["address"].as_str().unwrap().parse().unwrap();
        self.log().into_iter().filter(is_it).map(address).collect()
    }

    /// Memory it occupies, in bytes.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }
}

/// Lets `link` lead to `target`, at once, as those do who renew certificates.
pub fn relink(target: &Path, link: &Path) {
    let new = link.with_extension("new");
    std::os::unix::fs::symlink(target, &new).unwrap();
    std::fs::rename(new, link).unwrap();
}
