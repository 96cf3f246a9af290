//! A proxy as a process: pinned, and asked what it has used.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::Args;
use crate::proxies::{HAPROXY, NGINX};

/// A child and all its descendants, ended with it.
pub struct Proxy {
    child: Child,
}

/// What a process tree has used.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// Seconds of CPU, user and system.
    pub cpu: f64,
    /// KiB of private and shared memory that is its own (Pss).
    pub memory: f64,
}

/// Pins this process, and threads begun later, to a core.
pub fn pin_self(core: usize) {
    let pid = std::process::id().to_string();
    let _ = Command::new("taskset")
        .args(["-acp", &core.to_string(), &pid])
        .stdout(Stdio::null())
        .status();
}

impl Proxy {
    /// Starts `program` pinned to `core`; an error if there is no such program.
    pub fn start(core: usize, program: &Path, args: &[&str], log: &Path) -> std::io::Result<Self> {
        // taskset would start all the same, and end at once.
        version(program, "--version")?;
        let out = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
        let child = Command::new("taskset")
            .args(["-c", &core.to_string()])
            .arg(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()?;
        Ok(Self { child })
    }

    pub fn usage(&self) -> Usage {
        tree(self.child.id()).into_iter().map(usage_of).fold(Usage::default(), |sum, one| Usage {
            cpu: sum.cpu + one.cpu,
            memory: sum.memory + one.memory,
        })
    }

    pub fn stop(mut self) {
        // Looked up first: the children of one that is gone are nobody's.
        for pid in tree(self.child.id()) {
            let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
        }
        let _ = self.child.wait();
    }
}

fn tree(root: u32) -> Vec<u32> {
    let mut pids = vec![root];
    let mut next = 0;
    while let Some(pid) = pids.get(next).copied() {
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        pids.extend(
            children
                .unwrap_or_default()
                .split_whitespace()
                .filter_map(|pid| pid.parse::<u32>().ok()),
        );
        next += 1;
    }
    pids
}

fn usage_of(pid: u32) -> Usage {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let fields: Vec<&str> = after.split(' ').collect();
    let ticks = |index: usize| fields.get(index).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    // schedstat counts nanoseconds on the CPU, stat only ticks of 10 ms.
    let mut cpu = 0.0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        cpu += text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(0.0) / 1e9;
    }
    if cpu == 0.0 {
        cpu = (ticks(11) + ticks(12)) / 100.0;
    }
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let memory = rollup
        .lines()
        .find_map(|line| line.strip_prefix("Pss:"))
        .and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0.0);
    Usage { cpu, memory }
}

/// The first line with a digit of what `program` says of its version.
fn version(program: &Path, flag: &str) -> std::io::Result<String> {
    let said = Command::new(program).arg(flag).stdin(Stdio::null()).output().map_err(|error| {
        std::io::Error::new(error.kind(), format!("cannot start {}: {error}", program.display()))
    })?;
    let text = String::from_utf8_lossy(&said.stdout) + String::from_utf8_lossy(&said.stderr);
    Ok(text
        .lines()
        .find(|line| line.contains(|c: char| c.is_ascii_digit()))
        .unwrap_or("?")
        .trim()
        .to_owned())
}

/// A line that says when, where and with which versions was measured.
pub fn machine(args: &Args) -> String {
    let first = |file: &str, key: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(key)).unwrap_or("?").to_owned();
        line.rsplit(": ").next().unwrap_or("?").to_owned()
    };
    let date = Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]).output();
    let date =
        date.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned()).unwrap_or_default();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    // This process is pinned to one.
    let cores = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cores = cores.lines().filter(|line| line.starts_with("processor")).count();
    let mut versions = Vec::new();
    for (name, program, flag) in [
        ("framegate", args.framegate.as_path(), "--version"),
        ("nginx", Path::new(NGINX), "-v"),
        ("haproxy", Path::new(HAPROXY), "-v"),
        ("envoy", args.envoy.as_path(), "--version"),
    ] {
        if args.proxies.iter().any(|wanted| wanted == name) {
            versions.push(version(program, flag).unwrap_or_else(|_| format!("no {name}")));
        }
    }
    format!(
        "{date}; {} cores of {}, Linux {}; {}",
        cores,
        first("/proc/cpuinfo", "model name"),
        kernel.trim(),
        versions.join("; ")
    )
}
