//! `[timeouts]`, `[keepalive]`, `[drain]`, `[log]` and `[close_codes]`. Pure.

use std::collections::HashMap;
use std::time::Duration;

use super::reader::{Node, Table};
use super::suggest::{did_you_mean, nearest};
use crate::outcome::close_codes::{CloseCodes, DEFAULT_DRAIN_CODE};
use crate::outcome::label::Label;
use crate::protocol::ws::close;

/// Deadlines. `None` is "0": never.
#[derive(Debug, Clone)]
pub(crate) struct Timeouts {
    /// TLS handshake (and PROXY header).
    pub(crate) tls_handshake: Duration,
    pub(crate) request_head: Duration,
    /// No data message either way.
    pub(crate) idle: Option<Duration>,
    /// A peer that stops reading.
    pub(crate) write_stall: Duration,
    /// Waiting for a peer's Close or FIN.
    pub(crate) close: Duration,
}

/// The gateway's own pings. `None` is "0": off.
#[derive(Debug, Clone)]
pub(crate) struct Keepalive {
    /// Silence of the client after which it is pinged.
    pub(crate) client_ping: Option<Duration>,
    /// Time for its pong.
    pub(crate) client_pong: Duration,
    /// Silence of the upstream after which it is pinged.
    pub(crate) upstream_ping: Option<Duration>,
    /// Time for its pong.
    pub(crate) upstream_pong: Duration,
}

/// How sessions are ended on SIGTERM.
#[derive(Debug, Clone)]
pub(crate) struct Drain {
    /// Not ready, but still serving, for this long first.
    pub(crate) announce: Duration,
    /// Closes are spread evenly over this.
    pub(crate) window: Duration,
    /// Then this long until what is left is aborted.
    pub(crate) grace: Duration,
    /// Close code sent.
    pub(crate) code: u16,
}

/// Logging.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    /// Text or JSON lines.
    pub(crate) format: LogFormat,
    /// Lowest level written.
    pub(crate) level: LogLevel,
    /// One access-log line per connection.
    pub(crate) access: bool,
}

/// Form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub(crate) enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Timeouts {
    /// Reads `[timeouts]`.
    pub(super) fn read(table: &mut Table<'_, '_>) -> Self {
        Self {
            tls_handshake: table.deadline("tls_handshake", seconds(15)),
            request_head: table.deadline("request_head", seconds(5)),
            idle: table.interval("idle", Duration::ZERO),
            write_stall: table.deadline("write_stall", seconds(30)),
            close: table.deadline("close", seconds(5)),
        }
    }
}

impl Keepalive {
    /// Reads `[keepalive]`.
    pub(super) fn read(table: &mut Table<'_, '_>) -> Self {
        Self {
            client_ping: table.interval("client_ping", seconds(30)),
            client_pong: table.deadline("client_pong", seconds(10)),
            upstream_ping: table.interval("upstream_ping", seconds(30)),
            upstream_pong: table.deadline("upstream_pong", seconds(10)),
        }
    }
}

impl Drain {
    /// Reads `[drain]`.
    pub(super) fn read(table: &mut Table<'_, '_>) -> Self {
        Self {
            announce: table.duration("announce", Duration::ZERO),
            window: table.duration("window", seconds(30)),
            grace: table.duration("grace", seconds(10)),
            code: table
                .take("code")
                .and_then(|node| close_code(&node))
                .unwrap_or(DEFAULT_DRAIN_CODE),
        }
    }
}

impl Log {
    /// Reads `[log]`.
    pub(super) fn read(table: &mut Table<'_, '_>) -> Self {
        let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
        let levels = [
            ("error", LogLevel::Error),
            ("warn", LogLevel::Warn),
            ("info", LogLevel::Info),
            ("debug", LogLevel::Debug),
            ("trace", LogLevel::Trace),
        ];
        Self {
            format: table.choice("format", &formats, LogFormat::Text),
            level: table.choice("level", &levels, LogLevel::Info),
            access: table.boolean("access", true),
        }
    }
}

/// Reads `[close_codes]`.
pub(super) fn read_close_codes(table: &mut Table<'_, '_>) -> CloseCodes {
    let by_subprotocol = table.section("subprotocol", |table| {
        let named = table.named().into_iter();
        named.filter_map(|(name, node)| Some((name, node.table(read_codes)?))).collect()
    });
    CloseCodes { by_label: read_codes(table), by_subprotocol }
}

fn read_codes(table: &mut Table<'_, '_>) -> HashMap<Label, u16> {
    let named = table.named().into_iter();
    named.filter_map(|(name, node)| Some((label(&name, &node)?, close_code(&node)?))).collect()
}

/// The label of this name, if its code is the gateway's to choose.
fn label(name: &str, node: &Node<'_, '_>) -> Option<Label> {
    let Some(label) = Label::parse(name) else {
        let choosable = Label::ALL.iter().filter(|label| label.has_chosen_code());
        let near = did_you_mean(nearest(name, choosable.map(|label| label.as_str())));
        node.problem(format_args!("no ending or refusal is called {name:?}{near}"));
        return None;
    };
    if !label.has_chosen_code() {
        node.problem("has no code of its own: it is always told by HTTP, by the peer's own code, or not at all");
        return None;
    }
    Some(label)
}

/// A code that may stand in a Close frame (RFC 6455 section 7.4 and the registry behind it).
fn close_code(node: &Node<'_, '_>) -> Option<u16> {
    let code = node.number(0..=u16::MAX)?;
    if close::is_legal(code) {
        return Some(code);
    }
    node.problem(format_args!(
        "{code} may not stand in a Close frame; use 1000-1003, 1007-1014 or 3000-4999"
    ));
    None
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
