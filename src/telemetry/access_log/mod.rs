//! The access log: one line for each record, as text or as JSON. Pure.
//!
//! Both forms have the same fields, in this order; a field without value is left out.
//!
//! | field | value |
//! |---|---|
//! | `time` | when the record was written (the end of the connection), RFC 3339, UTC, ms |
//! | `level` | `INFO` |
//! | `type` | `access`, in JSON; text has the word `access` in the place of a field |
//! | `id` | request and session id, also sent upstream as X-Request-Id |
//! | `client` | the client's address and port |
//! | `route` | label of the route |
//! | `outcome` | `accepted`, `refused`, `abandoned` (the client left before an answer), `no_request` |
//! | `status` | HTTP status sent; 101 for accepted ones and refusals by Close |
//! | `label` | why it was refused or how it ended, as in the close reason and the metrics |
//! | `by`, `phase` | who ended it, and when |
//! | `client_close`, `upstream_close` | close code exchanged on that side, `empty` or `none` |
//! | `cut_frame` | `true` if a side was left with an unfinished frame; text leaves out `false` |
//! | `messages_to_upstream`, `messages_to_client` | text and binary messages, for accepted ones |
//! | `bytes_to_upstream`, `bytes_to_client` | payload bytes, for accepted ones |
//! | `accept_ms` … `relay_ms` | time of each step reached: accept, tls, request, admission, upstream_connect, upstream_handshake, relay |
//! | `listener`, `via` | the listener, and the proxy in front if there was one |
//! | `host`, `path`, `origin`, `user`, `subprotocol` | of the request; the path without its query |
//! | `endpoint` | endpoint used |
//! | `detail` | one sentence on the cause |
//!
//! Text that a peer chose is cut after 1024 bytes (with `…`), and in the text form escaped.

use std::borrow::Cow;
use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use jiff::Timestamp;

use super::escape;
use crate::config::{Log, LogFormat};
use crate::session::record::{Outcome, SessionRecord, Steps};
use crate::session::traffic::TrafficCounts;

/// Whether lines are written and in which form; a reload may change that.
#[derive(Debug)]
pub(super) struct AccessSwitch(AtomicU8);

impl AccessSwitch {
    pub(super) fn new(log: &Log) -> Self {
        let switch = Self(AtomicU8::new(NO_LINES));
        switch.set(log);
        switch
    }

    pub(super) fn set(&self, log: &Log) {
        let form = match log.format {
            _ if !log.access => NO_LINES,
            LogFormat::Text => TEXT_LINES,
            LogFormat::Json => JSON_LINES,
        };
        self.0.store(form, Ordering::Relaxed);
    }

    /// The form of lines; `None`: there are none.
    pub(super) fn form(&self) -> Option<LogFormat> {
        match self.0.load(Ordering::Relaxed) {
            TEXT_LINES => Some(LogFormat::Text),
            JSON_LINES => Some(LogFormat::Json),
            _ => None,
        }
    }
}

/// The line for `record`, without line end; `now` is its time.
pub(crate) fn line(record: &SessionRecord, format: LogFormat, now: Timestamp) -> String {
    match format {
        LogFormat::Text => text(record, now),
        LogFormat::Json => json(record, now),
    }
}

/// `2026-11-21T07:41:02.123Z INFO  access id=00000000000000ab client=192.0.2.7:4711 …`
fn text(record: &SessionRecord, now: Timestamp) -> String {
    let mut line = format!("{} INFO  access", time(now));
    for (name, value) in fields(record) {
        // Writing to a String cannot fail.
        let _ = match value {
            Value::Text(text) => write!(line, " {name}={}", escape::quote(&text)),
            Value::Number(number) => write!(line, " {name}={number}"),
            Value::Millis(duration) => write!(line, " {name}={:.3}", millis(duration)),
            Value::Flag(true) => write!(line, " {name}=true"),
            Value::Flag(false) => Ok(()),
        };
    }
    line
}

/// One flat object.
fn json(record: &SessionRecord, now: Timestamp) -> String {
    let mut line = format!(r#"{{"time":"{}","level":"INFO","type":"access""#, time(now));
    for (name, value) in fields(record) {
        let value = match value {
            Value::Text(text) => serde_json::Value::from(text).to_string(),
            Value::Number(number) => number.to_string(),
            Value::Millis(duration) => format!("{:.3}", millis(duration)),
            Value::Flag(flag) => flag.to_string(),
        };
        let _ = write!(line, r#","{name}":{value}"#);
    }
    line.push('}');
    line
}

enum Value<'a> {
    Text(Cow<'a, str>),
    Number(u64),
    Millis(Duration),
    Flag(bool),
}

/// Name and value of everything there is to say, in the order of the table above.
fn fields(record: &SessionRecord) -> Vec<(&'static str, Value<'_>)> {
    let verdict = Verdict::of(record);
    let mut fields = Fields(Vec::with_capacity(32));
    fields.shown("id", record.id);
    fields.shown("client", record.client);
    fields.peer("route", record.route.as_deref());
    fields.text("outcome", verdict.outcome);
    fields.number("status", verdict.status);
    fields.peer("label", verdict.label);
    fields.text("by", record.by.as_str());
    fields.text("phase", record.phase.as_str());
    fields.shown("client_close", record.client_close);
    fields.shown("upstream_close", record.upstream_close);
    fields.0.push(("cut_frame", Value::Flag(record.cut_frame)));
    if let Outcome::Ended(_) = record.outcome {
        fields.traffic(&record.traffic);
    }
    fields.steps(&record.steps);
    fields.peer("listener", Some(&*record.listener));
    if let Some(via) = record.via {
        fields.shown("via", via);
    }
    fields.peer("request_id", record.request_id.as_deref());
    fields.peer("host", record.host.as_deref());
    fields.peer("path", record.path.as_deref().map(without_query));
    fields.peer("origin", record.origin.as_deref());
    fields.peer("user", record.user.as_deref());
    fields.peer("subprotocol", record.subprotocol.as_deref());
    fields.peer("endpoint", record.endpoint.as_deref());
    if let Some(detail) = verdict.detail {
        fields.0.push(("detail", Value::Text(cut(detail))));
    }
    fields.0
}

/// What the outcome says in words.
struct Verdict<'a> {
    outcome: &'static str,
    status: Option<u64>,
    label: Option<&'static str>,
    detail: Option<Cow<'a, str>>,
}

impl<'a> Verdict<'a> {
    fn of(record: &'a SessionRecord) -> Self {
        let detail = record.detail.as_deref().map(Cow::Borrowed);
        match record.outcome {
            Outcome::Ended(label) => {
                Self { outcome: "accepted", status: Some(101), label: Some(label.as_str()), detail }
            }
            Outcome::Refused(refused) => Self {
                outcome: "refused",
                status: Some(u64::from(refused.status)),
                label: Some(refused.label.as_str()),
                detail,
            },
            Outcome::Abandoned => Self { outcome: "abandoned", status: None, label: None, detail },
            Outcome::NoRequest(reason) => Self {
                outcome: "no_request",
                status: None,
                label: None,
                detail: Some(match detail {
                    Some(more) => Cow::Owned(format!("{reason}: {more}")),
                    None => Cow::Borrowed(reason),
                }),
            },
        }
    }
}

struct Fields<'a>(Vec<(&'static str, Value<'a>)>);

impl<'a> Fields<'a> {
    fn text(&mut self, name: &'static str, text: &'static str) {
        self.0.push((name, Value::Text(Cow::Borrowed(text))));
    }

    fn shown(&mut self, name: &'static str, value: impl Display) {
        self.0.push((name, Value::Text(Cow::Owned(value.to_string()))));
    }

    fn number(&mut self, name: &'static str, number: Option<u64>) {
        if let Some(number) = number {
            self.0.push((name, Value::Number(number)));
        }
    }

    /// Text of any length and content.
    fn peer(&mut self, name: &'static str, text: Option<&'a str>) {
        if let Some(text) = text {
            self.0.push((name, Value::Text(cut(Cow::Borrowed(text)))));
        }
    }

    fn traffic(&mut self, traffic: &TrafficCounts) {
        self.number("messages_to_upstream", Some(traffic.to_upstream.data_messages()));
        self.number("messages_to_client", Some(traffic.to_client.data_messages()));
        self.number("bytes_to_upstream", Some(traffic.to_upstream.bytes));
        self.number("bytes_to_client", Some(traffic.to_client.bytes));
    }

    fn steps(&mut self, steps: &Steps) {
        let steps = [
            ("accept_ms", steps.accept),
            ("tls_ms", steps.tls),
            ("request_ms", steps.request),
            ("admission_ms", steps.admission),
            ("upstream_connect_ms", steps.upstream_connect),
            ("upstream_handshake_ms", steps.upstream_handshake),
            ("relay_ms", steps.relay),
        ];
        for (name, duration) in steps {
            if let Some(duration) = duration {
                self.0.push((name, Value::Millis(duration)));
            }
        }
    }
}

/// RFC 3339 with milliseconds, UTC.
pub(crate) fn time(now: Timestamp) -> String {
    format!("{now:.3}")
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// A path has no query when it gets here; a query may hold a token, so this does not rely on it.
fn without_query(path: &str) -> &str {
    path.split_once('?').map_or(path, |(path, _)| path)
}

/// A request head may be 16 KiB, and all of it one path: that is no reason for such lines.
fn cut(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.len() <= LONGEST {
        return text;
    }
    let end = text.floor_char_boundary(LONGEST);
    Cow::Owned(format!("{}…", text.get(..end).unwrap_or_default()))
}

const LONGEST: usize = 1024;
const NO_LINES: u8 = 0;
const TEXT_LINES: u8 = 1;
const JSON_LINES: u8 = 2;

#[cfg(test)]
mod tests;
