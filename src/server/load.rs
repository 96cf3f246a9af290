//! From a configuration file to everything a gateway needs but its sockets. Blocking file I/O.
//!
//! The start, `framegate check` and a reload read the same way, so that what one takes the others take.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::admission::Admission;
use crate::config::{Admin, Config, Locations, Problem, UpstreamId};
use crate::gateway::Loaded;
use crate::gateway::guards::Guards;
use crate::gateway::process::Process;
use crate::listener::Listener;
use crate::net::descriptors::open_file_limit;
use crate::telemetry::metrics::unix_now;
use crate::upstream::endpoint::Upstream;

/// Reads a configuration file; all problems at once.
pub(crate) fn read(file: &Path) -> Result<Config, Vec<Problem>> {
    parse(file, Config::parse_with_credentials)
}

/// The same of its `[admin]` alone, whatever is wrong elsewhere.
pub(crate) fn read_admin(file: &Path) -> Result<Option<Admin>, Vec<Problem>> {
    parse(file, Config::parse_admin)
}

fn parse<T>(
    file: &Path,
    parse: impl FnOnce(&str, &Path, Option<&Path>) -> Result<T, Vec<Problem>>,
) -> Result<T, Vec<Problem>> {
    let whole_file = |message| vec![Problem { path: String::new(), line: None, message }];
    let text = std::fs::read_to_string(file)
        .map_err(|error| whole_file(format!("cannot be read: {error}")))?;
    // Relative paths are the file's, wherever the gateway is started from.
    let folder = file.parent().unwrap_or_else(|| Path::new("")).to_owned();
    // Secrets that systemd keeps for the service (LoadCredential=).
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    parse(&text, &folder, credentials.as_deref())
}

/// Reads keys and certificates; all problems at once. What the process knows of users and endpoints
/// it goes on knowing.
pub(crate) fn load(config: Config, process: &Process) -> Result<Loaded, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut listeners = Vec::new();
    for index in 0..config.listeners.len() {
        match Listener::new(index, &config) {
            Ok(listener) => listeners.push(Arc::new(listener)),
            Err(more) => problems.extend(more),
        }
    }
    let admin = config.admin.as_ref();
    let guards = admin.map(|admin| load_guards(admin, &config.locations));
    let guards = guards.transpose().unwrap_or_else(|problem| {
        problems.push(problem);
        None
    });
    let admission = Admission::new(&config, process.users.clone(), &process.key_sources)
        .map_err(|more| problems.extend(more))
        .ok();
    let mut upstreams = Vec::new();
    for (index, upstream) in config.upstreams.iter().enumerate() {
        match Upstream::new(
            UpstreamId::new(index),
            upstream,
            &config.locations,
            &process.endpoints,
            &process.names,
        ) {
            Ok(upstream) => upstreams.push(upstream),
            Err(problem) => problems.push(problem),
        }
    }
    let Some((admission, unwise)) = admission.filter(|_| problems.is_empty()) else {
        return Err(problems);
    };
    let warnings = config.warnings().into_iter().chain(unwise).chain(descriptors(&config));
    let warnings = warnings.filter(|warning| !config.accepts(warning));
    let warnings = warnings.chain(ending_certificates(&config, &listeners, unix_now())).collect();
    Ok(Loaded { config, admission, upstreams, listeners, guards, warnings })
}

/// Reads the token file and builds the rules for callers. Blocking file I/O.
fn load_guards(admin: &Admin, locations: &Locations) -> Result<Guards, Problem> {
    let token = match &admin.token_file {
        None => None,
        Some(file) => Some(std::fs::read_to_string(file).map_err(|error| {
            let message = format!("cannot read {}: {error}", file.display());
            locations.problem("admin.token_file", message)
        })?),
    };
    Guards::new(admin, token.as_deref())
        .map_err(|error| locations.problem("admin.token_file", error.to_string()))
}

/// Certificates that are over or about to be; `now` in seconds since 1970.
fn ending_certificates(config: &Config, listeners: &[Arc<Listener>], now: i64) -> Vec<Problem> {
    let warning = |index: usize, at: usize, (name, not_after): (&str, i64)| {
        let days = not_after.saturating_sub(now).div_euclid(SECONDS_A_DAY);
        let path = format!("listener[{index}].tls.certificates[{at}]");
        if days >= FEW_DAYS {
            return None;
        }
        let message = if days < 0 {
            format!("the certificate of {name} has expired, and clients refuse it: renew it")
        } else {
            format!("the certificate of {name} expires within {} days", days + 1)
        };
        Some(config.locations.problem(path, message))
    };
    let of_listener = |(index, listener): (usize, &Arc<Listener>)| {
        let certificates = listener.tls.iter().flat_map(|tls| tls.certificates()).enumerate();
        certificates.filter_map(|(at, it)| warning(index, at, it)).collect::<Vec<_>>()
    };
    listeners.iter().enumerate().flat_map(of_listener).collect()
}

/// Whether the process may open as many files as `limits.connections` needs.
fn descriptors(config: &Config) -> Option<Problem> {
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

const SECONDS_A_DAY: i64 = 86_400;
/// A certificate with less is worth a word.
const FEW_DAYS: i64 = 7;
