//! `GET /api/overview`: what the dashboard shows, and its history. No I/O but the process's own files.
//!
//! Everything is small whatever the number of sessions: the history since the last answer (`?since=`), two windows,
//! and what the gateway has (endpoints, limits, certificates). [`facts`] finds it out, [`Dashboard`] remembers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Response, StatusCode};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tokio::time::MissedTickBehavior;

use super::Context;
use super::history::{COLUMNS, History, STEP, Window, milliseconds, tenths};
use super::pages;
use super::reply::{self, Failure};
use super::resource::{Action, Call, Resource, Takes, Verb};
use crate::gateway::Gateway;
use crate::gateway::guards::Access;
use crate::gateway::process::Current;
use crate::outcome::label::Label;
use crate::telemetry::labels::Stage;
use crate::telemetry::reading::{Durations, Reading, endings, refusals, who};

mod facts;

/// The numbers of the page.
pub(crate) static OVERVIEW: Resource = Resource {
    path: "/api/overview",
    access: Access::Token,
    actions: &[Action { verb: Verb::Get, query: Takes::Only(&["since"]), handler: overview }],
};

/// What is remembered for the page; as old as the process.
#[derive(Debug)]
pub(crate) struct Dashboard {
    started: Instant,
    /// By the clock on the wall.
    started_at: Timestamp,
    history: Mutex<History>,
    open_files: facts::OpenFiles,
}

impl Dashboard {
    /// Begins with the process.
    pub(crate) fn new(now: Instant, at: Timestamp) -> Self {
        Self {
            started: now,
            started_at: at,
            history: Mutex::default(),
            open_files: facts::OpenFiles::default(),
        }
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, now: Instant, reading: &Reading) {
        self.history().record(now.saturating_duration_since(self.started), reading);
    }
}

/// Notes the numbers of the gateway in force, again and again.
pub(crate) async fn remember(current: Current, dashboard: Arc<Dashboard>) {
    let mut steps = tokio::time::interval_at(tokio::time::Instant::now() + STEP, STEP);
    // What was missed is in the next reading.
    steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        steps.tick().await;
        let gateway = current.gateway();
        // It looks at every session: not on a thread that relays them.
        let reading = tokio::task::spawn_blocking(move || read(&gateway)).await;
        let Ok(reading) = reading else { continue };
        dashboard.note(Instant::now(), &reading);
    }
}

/// The counters, live traffic included.
fn read(gateway: &Gateway) -> Reading {
    let metrics = &gateway.telemetry().metrics;
    pages::report_traffic(gateway, metrics);
    metrics.read()
}

fn overview(
    Context { gateway, dashboard }: &Context,
    call: &Call,
) -> Result<Response<Bytes>, Failure> {
    let since = call.number("since", 0..=u64::MAX)?.unwrap_or(0);
    let reading = read(gateway);
    let up = Instant::now().saturating_duration_since(dashboard.started);
    let mut body = facts::gather(gateway, &reading, &dashboard.open_files);
    body.insert("now".into(), time(Timestamp::now()));
    body.insert("started".into(), time(dashboard.started_at));
    body.insert("up_s".into(), json!(tenths(up)));
    body.insert("totals".into(), totals(&reading));
    body.insert("who".into(), endings().map(|l| (l.to_string(), json!(who(l).as_str()))).collect());
    let history = dashboard.history();
    let windows = WINDOWS.map(|length| window(&history.window(up, &reading, length), length));
    body.insert("windows".into(), json!(windows));
    body.insert(
        "history".into(),
        json!({ "columns": COLUMNS, "next": history.next(), "rows": history.rows(since) }),
    );
    drop(history);
    Ok(reply::json(StatusCode::OK, &body))
}

/// Since the start: what a scrape says, over all routes.
fn totals(reading: &Reading) -> Value {
    let all = |labels: &mut dyn Iterator<Item = Label>, counts: &[u64]| {
        labels.zip(counts).map(|(l, n)| (l.to_string(), json!(n))).collect::<Map<_, _>>()
    };
    let stages = reading.stages.iter().zip(Stage::ALL);
    json!({
        "sessions": reading.sessions,
        "connections": reading.connections,
        "accepted": reading.accepted,
        "dropped": reading.dropped,
        "unanswered": reading.unanswered,
        "refused": all(&mut refusals(), &reading.refused),
        "ended": all(&mut endings(), &reading.ended),
        "messages": both_ways(reading.messages),
        "bytes": both_ways(reading.bytes),
        "stages": stages.map(|(d, s)| (s.as_str().to_owned(), latency(d))).collect::<Map<_, _>>(),
    })
}

fn window(window: &Window, asked: Duration) -> Value {
    let stages = window.stages.iter().zip(Stage::ALL);
    json!({
        "asked_s": asked.as_secs(),
        "length_s": tenths(window.length),
        "accepted": window.accepted,
        "dropped": window.dropped,
        "unanswered": window.unanswered,
        "refused": window.refused().map(|(l, n)| (l.to_string(), json!(n))).collect::<Map<_, _>>(),
        "ended": window.ended().map(|(l, n)| (l.to_string(), json!(n))).collect::<Map<_, _>>(),
        "messages": both_ways(window.messages),
        "bytes": both_ways(window.bytes),
        "stages_length_s": tenths(window.stages_length),
        "stages": stages.map(|(d, s)| (s.as_str().to_owned(), latency(d))).collect::<Map<_, _>>(),
    })
}

fn latency(durations: &Durations) -> Value {
    let ms = |share| durations.quantile(share).map(milliseconds);
    json!({ "count": durations.count(), "p50_ms": ms(0.5), "p99_ms": ms(0.99) })
}

fn both_ways([from_client, from_upstream]: [u64; 2]) -> Value {
    json!({ "from_client": from_client, "from_upstream": from_upstream })
}

fn time(at: Timestamp) -> Value {
    json!(format!("{at:.3}"))
}

const WINDOWS: [Duration; 2] = [Duration::from_secs(300), Duration::from_secs(3600)];

#[cfg(test)]
mod tests;
