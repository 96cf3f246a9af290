//! `framegate check`: everything that can be known to be wrong before the gateway runs. I/O.
//!
//! Errors (exit 78): the file's own, and those of the files it names. Warnings (exit 0, or 78 with
//! `--strict`): what is unwise, and facts of this machine that may change until the gateway runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;

use super::Exit;
use crate::admission::jwks::fetch::fetch as fetch_keys;
use crate::config::locations::child;
use crate::config::{Config, Endpoint, Jwks, Problem, Target};
use crate::fetch;
use crate::gateway::process::Process;
use crate::net::connect::connect;
use crate::net::names::Names;
use crate::net::tls::tls_connector;
use crate::server::load;
use crate::server::sockets::Held;
use crate::telemetry::escape::printable;

/// `framegate check`'s arguments.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct CheckArgs {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Treat warnings as errors
    #[arg(long)]
    pub(crate) strict: bool,
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
    let Warned { warnings, names } = warnings;
    print(kind, &args.config, &warnings);
    if !names.is_empty() {
        let names: Vec<_> = names.iter().map(|name| format!("{name:?}")).collect();
        eprintln!(
            "framegate: to accept what is known and meant: [check] accept = [{}]",
            printable(&names.join(", "))
        );
    }
    if args.strict && !warnings.is_empty() {
        return Exit::Config;
    }
    println!("{}: ok", args.config.display());
    Exit::Success
}

/// Warnings, and what they are called in `[check] accept`.
struct Warned {
    warnings: Vec<Problem>,
    names: Vec<String>,
}

/// All problems, or all warnings that are not accepted.
fn examine(file: &Path) -> Result<Warned, Vec<Problem>> {
    let config = load::read(file)?;
    // Without sockets of systemd's, this is not the service: which it will get is not known.
    let held = Held::passed();
    let missing = if held.has_passed() { held.missing(&config) } else { Vec::new() };
    let mut reachability = reachability(&config);
    reachability.retain(|warning| !config.accepts(warning));
    let known = config.clone();
    let process = Process::new(&config.limits);
    let loaded = load::load(config, &process);
    let mut warnings = match loaded {
        Ok(loaded) if missing.is_empty() => loaded.warnings,
        Ok(_) => return Err(missing),
        Err(problems) => return Err(missing.into_iter().chain(problems).collect()),
    };
    warnings.extend(reachability);
    let mut names: Vec<_> = warnings.iter().map(|warning| known.name_of(&warning.path)).collect();
    names.dedup();
    Ok(Warned { warnings, names })
}

/// Which endpoints take no connection right now, and which keys cannot be fetched.
fn reachability(config: &Config) -> Vec<Problem> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { return Vec::new() };
    let names = Names::of_system();
    let client = fetch::Client::new(Arc::clone(&names));
    let mut problems = published_keys(config, &client, &runtime);
    for upstream in &config.upstreams {
        let wants_tls = |it: &Endpoint| matches!(it.target, Target::Https { .. });
        // Authorities that cannot be used are an error of their own.
        let trusted =
            upstream.endpoints.iter().any(wants_tls).then(|| tls_connector(upstream.ca.as_deref()));
        let tls = trusted.and_then(Result::ok);
        for (index, endpoint) in upstream.endpoints.iter().enumerate() {
            let limit = upstream.connect_timeout.min(LONGEST_TRY);
            let reached = runtime.block_on(connect(&endpoint.target, tls.as_ref(), &names, limit));
            if let Err(error) = reached {
                let path = format!("upstreams.{}.endpoints[{index}]", upstream.name);
                let message = format!("{} cannot be reached now: {error}", endpoint.label);
                problems.push(config.locations.problem(path, message));
            }
        }
    }
    problems
}

fn published_keys(config: &Config, client: &fetch::Client, runtime: &Runtime) -> Vec<Problem> {
    let mut problems = Vec::new();
    for verifier in &config.verifiers {
        let Some(jwks) = &verifier.jwks else { continue };
        let path = child(&child("verifiers", &verifier.name), "jwks");
        let mut warn = |message| problems.push(config.locations.problem(path.as_str(), message));
        let once = Jwks { timeout: jwks.timeout.min(LONGEST_TRY), ..jwks.clone() };
        match runtime.block_on(fetch_keys(client, &once)) {
            Err(error) => warn(format!("the keys cannot be fetched now: {error}")),
            Ok(set) => {
                if set.keys.is_empty() {
                    warn("the key set has no key that can be used".to_owned());
                }
                set.notes.into_iter().for_each(warn);
            }
        }
    }
    problems
}

const LONGEST_TRY: Duration = Duration::from_secs(3);
