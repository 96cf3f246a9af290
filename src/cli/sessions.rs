//! `framegate sessions`, `kick` and `health`: the admin API at the command line. I/O.

use serde_json::Value;

use super::Exit;
use super::admin_client::{AdminArgs, AdminClient, AdminError, Answered, encoded, query};
use super::table::{Align, Table, age, bytes};
use crate::telemetry::escape::printable;

/// `framegate sessions`'s arguments.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct SessionsArgs {
    /// Show this one, also a handshake that was refused or a session that has ended
    #[arg(conflicts_with_all = ["user", "route", "client", "search", "limit", "recent"])]
    id: Option<String>,
    /// Those of this user
    #[arg(long)]
    user: Option<String>,
    /// Those of this route
    #[arg(long)]
    route: Option<String>,
    /// Those from this address, with or without port
    #[arg(long)]
    client: Option<String>,
    /// Those with this text in id, user, route, client or path
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// At most so many, the youngest first [default: 100]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    limit: Option<u16>,
    /// Those that have ended in the last ten minutes instead
    #[arg(long)]
    recent: bool,
    /// With --recent: those that ended so
    #[arg(long, requires = "recent")]
    label: Option<String>,
    #[command(flatten)]
    admin: AdminArgs,
}

/// `framegate kick`'s arguments.
#[derive(Debug, Clone, clap::Args)]
#[command(group(clap::ArgGroup::new("whom").required(true).args(["id", "user"])))]
pub(crate) struct KickArgs {
    /// The session
    id: Option<String>,
    /// All sessions of this user
    #[arg(long)]
    user: Option<String>,
    /// Close code to send [default: 4403, or what close_codes says]
    #[arg(long, value_parser = super::arguments::close_code)]
    code: Option<u16>,
    /// Close reason to send [default: kicked]
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    admin: AdminArgs,
}

/// `framegate health`'s arguments.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct HealthArgs {
    #[command(flatten)]
    admin: AdminArgs,
}

pub(super) async fn sessions(args: &SessionsArgs) -> Exit {
    let which = [
        ("user", args.user.clone()),
        ("route", args.route.clone()),
        ("client", args.client.clone()),
        ("q", args.search.clone()),
        ("limit", args.limit.map(|limit| limit.to_string())),
        // Only with --recent.
        ("label", args.label.clone()),
    ];
    let path = match &args.id {
        Some(id) => format!("/api/sessions/{}", encoded(id)),
        None if args.recent => {
            format!("/api/sessions/recent{}", query(&which))
        }
        None => format!("/api/sessions{}", query(&which)),
    };
    let show = match (&args.id, args.recent) {
        (Some(_), _) => one,
        (None, true) => recent,
        (None, false) => open,
    };
    tell(&args.admin, ask(&args.admin, Verb::Get, &path).await, show)
}

pub(super) async fn kick(args: &KickArgs) -> Exit {
    let query =
        query(&[("code", args.code.map(|code| code.to_string())), ("reason", args.reason.clone())]);
    let path = match (&args.id, &args.user) {
        (Some(id), _) => format!("/api/sessions/{}{query}", encoded(id)),
        (None, user) => {
            let user = user.as_deref().unwrap_or_default();
            format!("/api/users/{}/sessions{query}", encoded(user))
        }
    };
    let kicked = |answer: &Value| match number(&answer["kicked"]) {
        // It stands among the errors.
        0 => String::new(),
        1 => "1 session kicked\n".to_owned(),
        count => format!("{count} sessions kicked\n"),
    };
    let answered = ask(&args.admin, Verb::Delete, &path).await;
    let is_nobody = answered.as_ref().is_ok_and(|answered| number(&answered.body["kicked"]) == 0);
    match tell(&args.admin, answered, kicked) {
        Exit::Success if is_nobody => {
            let user = args.user.as_deref().unwrap_or_default();
            eprintln!("framegate: no open session of user {}", printable(user));
            Exit::Failure
        }
        exit => exit,
    }
}

pub(super) async fn health(args: &HealthArgs) -> Exit {
    let answered = ask(&args.admin, Verb::Get, "/health/ws").await;
    let is_down = answered.as_ref().is_ok_and(|answered| answered.body["status"] == "down");
    match tell(&args.admin, answered, dependencies) {
        Exit::Success if is_down => Exit::Failure,
        exit => exit,
    }
}

enum Verb {
    Get,
    Delete,
}

async fn ask(args: &AdminArgs, verb: Verb, path: &str) -> Result<Answered, AdminError> {
    let client = AdminClient::new(args)?;
    match verb {
        Verb::Get => client.get(path).await,
        Verb::Delete => client.delete(path).await,
    }
}

/// Prints an answer, as JSON or as `show` has it, or what went wrong.
pub(super) fn tell(
    args: &AdminArgs,
    answered: Result<Answered, AdminError>,
    show: impl Fn(&Value) -> String,
) -> Exit {
    match answered {
        Ok(answered) if args.json => {
            println!("{}", answered.text);
            Exit::Success
        }
        Ok(answered) => {
            print!("{}", show(&answered.body));
            Exit::Success
        }
        Err(error) => {
            for line in error.to_string().lines() {
                eprintln!("framegate: {}", printable(line));
            }
            Exit::Failure
        }
    }
}

fn open(answer: &Value) -> String {
    let mut table = Table::new(&[
        ("ID", Align::Left),
        ("USER", Align::Left),
        ("ROUTE", Align::Left),
        ("CLIENT", Align::Left),
        ("ENDPOINT", Align::Left),
        ("AGE", Align::Right),
        ("IDLE", Align::Right),
        ("MSG IN", Align::Right),
        ("MSG OUT", Align::Right),
        ("PENDING", Align::Right),
    ]);
    let sessions = list(&answer["sessions"]);
    for session in sessions {
        let messages = &session["messages"];
        table.row([
            text(&session["id"]),
            text(&session["user"]),
            text(&session["route"]),
            text(&session["client"]),
            text(&session["endpoint"]),
            age(session["age_s"].as_f64().unwrap_or_default()),
            age(session["idle_s"].as_f64().unwrap_or_default()),
            text(&messages["from_client"]),
            text(&messages["from_upstream"]),
            bytes(number(&session["pending_bytes"])),
        ]);
    }
    let (shown, matching) = (sessions.len(), number(&answer["matching"]));
    let open = number(&answer["open"]);
    let note = format!("{shown} shown, {matching} matching, {open} open\n");
    if sessions.is_empty() { note } else { format!("{table}{note}") }
}

fn recent(answer: &Value) -> String {
    let mut table = Table::new(&[
        ("ENDED", Align::Left),
        ("ID", Align::Left),
        ("STATE", Align::Left),
        ("LABEL", Align::Left),
        ("BY", Align::Left),
        ("STATUS", Align::Right),
        ("CLOSE", Align::Right),
        ("USER", Align::Left),
        ("ROUTE", Align::Left),
        ("CLIENT", Align::Left),
        ("AGE", Align::Right),
    ]);
    let sessions = list(&answer["sessions"]);
    for session in sessions {
        table.row([
            text(&session["ended"]),
            text(&session["id"]),
            text(&session["state"]),
            text(&session["label"]),
            text(&session["by"]),
            text(&session["status"]),
            text(&session["client_close"]),
            text(&session["user"]),
            text(&session["route"]),
            text(&session["client"]),
            age(session["age_s"].as_f64().unwrap_or_default()),
        ]);
    }
    if sessions.is_empty() { "nothing has ended lately\n".to_owned() } else { table.to_string() }
}

/// Everything there is, a line each.
fn one(session: &Value) -> String {
    let mut lines = String::new();
    if let Some(sentence) = session["sentence"].as_str() {
        lines.push_str(&format!("{}\n\n", printable(sentence)));
    }
    for name in SHOWN {
        let value = &session[*name];
        if value.is_null() {
            continue;
        }
        let shown = match *name {
            "steps" => steps(value),
            "messages" | "bytes" => {
                let (up, down) = (text(&value["from_client"]), text(&value["from_upstream"]));
                format!("{up} from the client, {down} from the upstream")
            }
            _ => text(value),
        };
        lines.push_str(&format!("{name:<15} {}\n", printable(&shown)));
    }
    lines
}

fn steps(steps: &Value) -> String {
    let step = |step: &Value| format!("{} {} ms", text(&step["name"]), text(&step["ms"]));
    list(steps).iter().map(step).collect::<Vec<_>>().join(", ")
}

fn dependencies(answer: &Value) -> String {
    let mut table = Table::new(&[
        ("KIND", Align::Left),
        ("NAME", Align::Left),
        ("STATE", Align::Left),
        ("LATENCY", Align::Right),
        ("CHECKED", Align::Right),
        ("SESSIONS", Align::Right),
        ("NOTE", Align::Left),
    ]);
    for row in listeners(answer).chain(endpoints(answer)).chain(the_rest(answer)) {
        table.row(row);
    }
    let mut lines = format!("{}\n", text(&answer["status"]));
    for reason in list(&answer["reasons"]) {
        lines.push_str(&format!("- {}\n", printable(&text(reason))));
    }
    format!("{lines}\n{table}")
}

type Row = [String; 7];

fn listeners(answer: &Value) -> impl Iterator<Item = Row> {
    list(&answer["listeners"]).iter().map(|it| {
        let state = if it["open"] == true { "open" } else { "closed" };
        let note = if it["tls"] == true { "TLS" } else { "plain" };
        let sessions = text(&it["connections"]);
        let [latency, checked] = [String::new(), String::new()];
        let name = text(&it["name"]);
        ["listener".to_owned(), name, state.to_owned(), latency, checked, sessions, note.to_owned()]
    })
}

fn endpoints(answer: &Value) -> impl Iterator<Item = Row> {
    let of = |upstream: &'_ Value| {
        let name = text(&upstream["name"]);
        let row = move |it: &Value| {
            let latency = it["latency_ms"].as_f64().map(|ms| format!("{ms:.1} ms"));
            let checked = it["checked_s_ago"].as_f64().map(|s| format!("{} ago", age(s)));
            [
                "endpoint".to_owned(),
                format!("{name} {}", text(&it["endpoint"])),
                endpoint_state(it).to_owned(),
                latency.unwrap_or_default(),
                checked.unwrap_or_default(),
                text(&it["sessions"]),
                it["last_error"].as_str().unwrap_or_default().to_owned(),
            ]
        };
        list(&upstream["endpoints"]).iter().map(row).collect::<Vec<_>>()
    };
    list(&answer["upstreams"]).iter().flat_map(of)
}

/// Verifiers and certificates: what has a state and a note.
fn the_rest(answer: &Value) -> impl Iterator<Item = Row> {
    let verifier = |it: &Value| {
        let keys = number(&it["keys"]);
        let state = if keys == 0 { "no keys" } else { "ready" };
        let error = it["jwks"]["last_error"].as_str().map(str::to_owned);
        let counted = if keys == 1 { "1 key".to_owned() } else { format!("{keys} keys") };
        ("verifier", text(&it["name"]), state, error.unwrap_or(counted))
    };
    let certificate = |it: &Value| {
        let days = it["days_left"].as_i64().unwrap_or_default();
        let state = if days < 0 { "expired" } else { "valid" };
        ("certificate", text(&it["name"]), state, format!("{days} days left"))
    };
    let verifiers = list(&answer["verifiers"]).iter().map(verifier);
    let certificates = list(&answer["certificates"]).iter().map(certificate);
    verifiers.chain(certificates).map(|(kind, name, state, note)| {
        let [latency, checked, sessions] = [String::new(), String::new(), String::new()];
        [kind.to_owned(), name, state.to_owned(), latency, checked, sessions, note]
    })
}

fn endpoint_state(endpoint: &Value) -> &'static str {
    match (&endpoint["healthy"], &endpoint["draining"]) {
        (_, Value::Bool(true)) => "draining",
        (Value::Bool(true), _) => "healthy",
        (Value::Bool(false), _) => "unhealthy",
        _ => "unknown",
    }
}

/// What is shown of one session, in this order.
const SHOWN: &[&str] = &[
    "id",
    "state",
    "label",
    "by",
    "phase",
    "status",
    "client_close",
    "upstream_close",
    "cut_frame",
    "detail",
    "user",
    "route",
    "listener",
    "client",
    "via",
    "host",
    "path",
    "origin",
    "subprotocol",
    "upstream",
    "endpoint",
    "opened",
    "ended",
    "age_s",
    "idle_s",
    "messages",
    "bytes",
    "pending_bytes",
    "steps",
];

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

/// A value as a cell: nothing is `-`.
fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
