//! `framegate check`: everything that can be known to be wrong before the gateway runs. I/O.
//!
//! Errors (exit 78): the file's own, and those of the files it names. Warnings (exit 0, or 78 with
//! `--strict`): what is unwise, and facts of this machine that may change until the gateway runs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Exit;
use crate::config::{Config, Problem};
use crate::process::Process;
use crate::server;
use crate::telemetry::escape::printable;
use crate::upstream::connect::connect;

/// `framegate check`'s arguments.
#[derive(Debug, Clone, clap::Args)]
pub struct CheckArgs {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Treat warnings as errors
    #[arg(long)]
    pub strict: bool,
}

/// Reads a configuration file. The error is one line for a person.
pub(super) fn read(file: &Path) -> Result<Config, Vec<Problem>> {
    let whole_file = |message| vec![Problem { path: String::new(), line: None, message }];
    let text = std::fs::read_to_string(file)
        .map_err(|error| whole_file(format!("cannot be read: {error}")))?;
    // Relative paths are the file's, wherever the gateway is started from.
    let folder = file.parent().unwrap_or_else(|| Path::new("")).to_owned();
    Config::parse(&text, &folder)
}

/// Prints problems to standard error, one a line, the file in front.
pub(super) fn print(kind: &str, file: &Path, problems: &[Problem]) {
    for problem in problems {
        let text = problem.to_string();
        eprintln!("{kind}: {}: {}", printable(&file.display().to_string()), printable(&text));
    }
}

pub(super) fn run(args: &CheckArgs) -> Exit {
    let warnings = match examine(&args.config) {
        Ok(warnings) => warnings,
        Err(problems) => {
            print("error", &args.config, &problems);
            let count = problems.len();
            let noun = if count == 1 { "problem" } else { "problems" };
            eprintln!("framegate: {count} {noun} in {}", args.config.display());
            return Exit::Config;
        }
    };
    let kind = if args.strict { "error" } else { "warning" };
    print(kind, &args.config, &warnings);
    if args.strict && !warnings.is_empty() {
        return Exit::Config;
    }
    println!("{}: ok", args.config.display());
    Exit::Success
}

/// All problems, or all warnings.
fn examine(file: &Path) -> Result<Vec<Problem>, Vec<Problem>> {
    let config = read(file)?;
    let mut facts: Vec<_> = descriptors(&config).into_iter().collect();
    facts.extend(reachability(&config));
    let process = Process::new(&config.limits);
    let mut warnings = server::load(config, &process)?.warnings;
    warnings.extend(facts);
    Ok(warnings)
}

/// Whether the process may open as many files as `limits.connections` needs.
pub(super) fn descriptors(config: &Config) -> Option<Problem> {
    let allowed = open_file_limit()?;
    // A session has two sockets; the rest is listeners, logs, health checks, refusals.
    let wanted = config.limits.connections as u64 * 2 + 100;
    (allowed < wanted).then(|| {
        config.locations.problem(
            "limits.connections",
            format!(
                "{} connections need {wanted} open files, this process may have {allowed}: \
                 raise LimitNOFILE (ulimit -n) or lower limits.connections",
                config.limits.connections
            ),
        )
    })
}

fn open_file_limit() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Which endpoints take no connection right now.
fn reachability(config: &Config) -> Vec<Problem> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { return Vec::new() };
    let mut problems = Vec::new();
    for upstream in &config.upstreams {
        for (index, endpoint) in upstream.endpoints.iter().enumerate() {
            let limit = upstream.connect_timeout.min(LONGEST_TRY);
            let reached = runtime.block_on(connect(&endpoint.target, None, limit));
            if let Err(error) = reached {
                let path = format!("upstreams.{}.endpoints[{index}]", upstream.name);
                let message = format!("{} cannot be reached now: {error}", endpoint.label);
                problems.push(config.locations.problem(path, message));
            }
        }
    }
    problems
}

const LONGEST_TRY: Duration = Duration::from_secs(3);
