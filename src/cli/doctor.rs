//! `framegate doctor`: arguments, output, exit codes. What it does is in [`crate::tools::doctor`].

use std::io::{self, ErrorKind, IsTerminal as _, Write as _};
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::Value;
use tokio::runtime::Builder;

use super::Exit;
use super::admin_client::{AdminArgs, AdminClient, AdminError, encoded};
use crate::config::{TokenSource, units};
use crate::handshake::request::is_token;
use crate::tools::doctor::plan::{Address, Part, Plan, Token};
use crate::tools::doctor::render::Style;
use crate::tools::doctor::report::{Report, StepName};
use crate::tools::doctor::{compare, render, request, tls, walk};

/// `framegate doctor`'s arguments.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct DoctorArgs {
    /// Where to connect: wss://HOST/PATH or ws://HOST:PORT/PATH; any WebSocket server
    #[arg(value_name = "URL", value_parser = Address::parse)]
    pub(crate) url: Address,
    /// Token to show (others on this machine can see it in the process list: prefer --token-file)
    #[arg(long, value_name = "T", value_parser = token, conflicts_with = "token_file")]
    pub(crate) token: Option<Token>,
    /// File that holds the token to show
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Where the token goes: header, subprotocol, subprotocol:NAME, query:NAME or cookie:NAME
    #[arg(long, value_name = "WHERE", default_value = "header")]
    pub(crate) token_in: TokenSource,
    /// Connect as a page of this origin would (scheme, host and port as a browser sends them)
    #[arg(long, value_name = "ORIGIN", value_parser = origin)]
    pub(crate) origin: Option<String>,
    /// A further header; may be given more than once
    #[arg(long = "header", value_name = "K: V", value_parser = header)]
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// A subprotocol to offer; may be given more than once
    #[arg(long = "subprotocol", value_name = "NAME", value_parser = subprotocol)]
    pub(crate) subprotocols: Vec<String>,
    /// A text message to send, to see what comes back
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) send: Option<String>,
    /// Go on although the certificate cannot be verified
    #[arg(long)]
    pub(crate) insecure: bool,
    /// PEM file of the authorities to trust instead of the system's
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// What every step may take
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = limit)]
    pub(crate) timeout: Duration,
    /// Examine this URL too, with the same options, and show both side by side: gateway or backend?
    #[arg(long, value_name = "URL2", value_parser = Address::parse)]
    pub(crate) compare: Option<Address>,
    /// Ask this gateway's admin listener what it saw: http://HOST:PORT or unix:PATH
    #[arg(long, value_name = "URL")]
    pub(crate) admin: Option<String>,
    /// File with the admin token
    #[arg(long, value_name = "FILE", requires = "admin")]
    pub(crate) admin_token_file: Option<PathBuf>,
    /// Print one line of JSON (docs/doctor.md)
    #[arg(long)]
    pub(crate) json: bool,
}

pub(super) fn run(args: &DoctorArgs) -> ExitCode {
    let prepared = prepare(args).and_then(|(plans, roots)| Ok((plans, roots, admin(args)?)));
    let (plans, roots, admin) = match prepared {
        Ok(prepared) => prepared,
        Err(message) => {
            eprintln!("framegate doctor: {message}");
            return ExitCode::from(Exit::Usage as u8);
        }
    };
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("framegate doctor: {error}");
            return ExitCode::from(Exit::Failure as u8);
        }
    };
    let mut reports = Vec::new();
    for plan in &plans {
        let progress = |step: StepName| progress(args, step);
        let mut report = runtime.block_on(walk::walk(plan, &roots, &progress));
        if let Some(admin) = &admin {
            let answer = gateway_view(admin, report.request_id.as_deref(), args.timeout);
            report.set_gateway(runtime.block_on(answer));
        }
        reports.push(report);
    }
    clear_progress(args);
    // A name that is still being looked up must not hold the process.
    runtime.shutdown_background();
    let shown = show(args, &reports);
    let failed = reports.iter().find_map(Report::failed).map(StepName::exit_code);
    let otherwise = match shown {
        // Nobody reads it: the exit code tells all the same.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            eprintln!("framegate doctor: the report cannot be written: {error}");
            Exit::Failure
        }
        _ => Exit::Success,
    };
    ExitCode::from(failed.unwrap_or(otherwise as u8))
}

fn admin(args: &DoctorArgs) -> Result<Option<AdminClient>, String> {
    let Some(url) = &args.admin else { return Ok(None) };
    let admin = AdminArgs {
        admin: Some(url.clone()),
        config: None,
        token_file: args.admin_token_file.clone(),
        json: false,
    };
    // `--token-file` is shown to the server that is examined: never the place for this one.
    let client = AdminClient::new(&admin).map_err(|error| error.to_string())?;
    Ok(Some(client.with_token_option("--admin-token-file")))
}

/// What the gateway knows of the connection, once it is over there too.
async fn gateway_view(
    admin: &AdminClient,
    id: Option<&str>,
    limit: Duration,
) -> Result<Value, String> {
    let id =
        id.ok_or("no answer had an X-Request-Id, so there is nothing to ask the gateway for")?;
    let path = format!("/api/sessions/{}", encoded(id));
    let began = Instant::now();
    loop {
        let asked = tokio::time::timeout(limit, admin.get(&path)).await;
        let asked = asked.map_err(|_| format!("{admin} does not answer within {limit:?}"))?;
        let is_late = began.elapsed() >= limit.min(LATE);
        match asked {
            // Its end is seen here a moment before the gateway has written it down.
            Ok(answered) if is_over(&answered.body) => return Ok(answered.body),
            Ok(_) | Err(AdminError::Refused { status: StatusCode::NOT_FOUND, .. }) if !is_late => {}
            Ok(answered) => return Ok(answered.body),
            Err(error) => return Err(error.to_string()),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

fn is_over(session: &Value) -> bool {
    session.get("state").is_none_or(|state| state != "open" && state != "closing")
}

/// How long the gateway may take to know of the end of a session.
const LATE: Duration = Duration::from_secs(2);

/// How soon a session that still ends is asked for again.
const AGAIN: Duration = Duration::from_millis(50);

type Prepared = (Vec<Plan>, tokio_rustls::rustls::RootCertStore);

fn prepare(args: &DoctorArgs) -> Result<Prepared, String> {
    let given = match &args.token_file {
        None => args.token.clone(),
        Some(file) => {
            let text = std::fs::read_to_string(file)
                .map_err(|error| format!("cannot read --token-file {}: {error}", file.display()))?;
            let fault = |fault| format!("--token-file {}: {fault}", file.display());
            Some(token(&text).map_err(fault)?)
        }
    };
    let plan = Plan {
        target: args.url.clone(),
        token: given,
        token_in: args.token_in.clone(),
        origin: args.origin.clone(),
        headers: args.headers.clone(),
        subprotocols: args.subprotocols.clone(),
        send: args.send.clone(),
        insecure: args.insecure,
        ca: args.ca.clone(),
        timeout: args.timeout,
        part: if args.compare.is_some() { Part::First } else { Part::Only },
    };
    if let Some(message) = request::contradiction(&plan) {
        return Err(message);
    }
    let roots = tls::roots(&plan).map_err(|message| format!("--ca: {message}"))?;
    let other =
        args.compare.clone().map(|target| Plan { target, part: Part::Second, ..plan.clone() });
    Ok((std::iter::once(plan).chain(other).collect(), roots))
}

fn show(args: &DoctorArgs, reports: &[Report]) -> io::Result<()> {
    let text = if args.json {
        format!("{}\n", json(reports))
    } else {
        let style = style();
        match reports {
            [first, second, ..] => compare::text(first, second, style),
            [only] => render::text(only, style),
            [] => String::new(),
        }
    };
    let mut stdout = io::stdout();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

fn json(reports: &[Report]) -> Value {
    let mut all = reports.iter().map(Report::json);
    let mut value = all.next().unwrap_or_default();
    if let (Some(first), Some(second), Some(map)) =
        (reports.first(), reports.get(1), value.as_object_mut())
    {
        map.insert("verdict".to_owned(), compare::verdict(first, second).into());
        map.insert("compare".to_owned(), second.json());
    }
    value
}

/// Colours and broken lines are for terminals (<https://no-color.org>).
fn style() -> Style {
    let is_terminal = io::stdout().is_terminal();
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    Style {
        color: is_terminal && !is_set("NO_COLOR") && !is_dumb,
        width: is_terminal.then_some(TERMINAL_WIDTH),
    }
}

/// A line that is overwritten, for somebody who waits.
fn progress(args: &DoctorArgs, step: StepName) {
    if !args.json && io::stderr().is_terminal() {
        eprint!("\r\u{1b}[K{}: {} …", step.as_str(), step.doing());
    }
}

fn clear_progress(args: &DoctorArgs) {
    if !args.json && io::stderr().is_terminal() {
        eprint!("\r\u{1b}[K");
    }
}

fn token(text: &str) -> Result<Token, String> {
    let text = text.trim();
    // As it stands in a header that was copied.
    let text = text.strip_prefix("Bearer ").unwrap_or(text).trim();
    if text.is_empty() {
        return Err("the token is empty".to_owned());
    }
    let legal = text.bytes().all(|byte| byte.is_ascii_graphic());
    legal.then(|| Token(text.to_owned())).ok_or_else(|| {
        "a token has no blanks, line breaks or other than ASCII characters".to_owned()
    })
}

fn origin(text: &str) -> Result<String, String> {
    let is_legal = text == "null" || text.split_once("://").is_some_and(is_origin);
    is_legal.then(|| text.to_owned()).ok_or_else(|| {
        "must be scheme://host or scheme://host:port without a path, as a browser sends it, such as \
         https://chat.example.com, or null"
            .to_owned()
    })
}

/// RFC 6454 section 6.2. An extension's has its id for a host.
fn is_origin((scheme, authority): (&str, &str)) -> bool {
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let is_port = port.is_none_or(|port| {
        port.bytes().all(|byte| byte.is_ascii_digit())
            && port.parse().is_ok_and(|port: u16| port > 0)
    });
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let is_host = match address {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
        }
    };
    is_scheme && is_host && is_port
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("a header is written 'Name: value'")?;
    let name = name.trim().parse().map_err(|_| format!("{:?} is no header name", name.trim()))?;
    let value = value.trim().parse().map_err(|_| "the value has characters no header may have")?;
    Ok((name, value))
}

fn subprotocol(text: &str) -> Result<String, String> {
    if is_token(text) { Ok(text.to_owned()) } else { Err("no name of a subprotocol".to_owned()) }
}

fn limit(text: &str) -> Result<Duration, String> {
    let limit = units::duration(text).map_err(|error| error.to_string())?;
    if limit.is_zero() { Err("must be longer than nothing".to_owned()) } else { Ok(limit) }
}

const TERMINAL_WIDTH: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_taken_only_as_browsers_send_them() {
        for text in [
            "https://chat.example.com",
            "http://localhost:3000",
            "https://[::1]:8443",
            "https://[::1]",
            "chrome-extension://abcdefghijklmnop",
            "null",
        ] {
            assert_eq!(origin(text), Ok(text.to_owned()));
        }
        for text in [
            "",
            "chat.example.com",
            "https://a.b/",
            "https://a.b/x",
            "https://a.b?x",
            "https://a.b#x",
            "https://u@a.b",
            "https://",
            "https://:443",
            "https://a.b:",
            "https://a.b:0",
            "https://a.b:+1",
            "https://a.b:70000",
            "https://[::1",
            "https://[x]",
            "://a.b",
            "https://a b",
            "Null",
        ] {
            assert!(origin(text).is_err(), "{text}");
        }
    }
}
