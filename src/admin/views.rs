//! How sessions look in JSON. Pure.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::protocol::ws::close::CloseStatus;
use crate::session::explain;
use crate::session::recent::Ended;
use crate::session::record::{Facts, Outcome, Steps};
use crate::session::registry::SessionHandle;
use crate::session::traffic::TrafficCounts;
use crate::telemetry::access_log::time;
use crate::telemetry::events::{label_before_an_answer, waits_for};

/// A session or a connection that is over.
#[derive(Debug, Serialize)]
pub(crate) struct SessionView<'a> {
    id: String,
    state: &'static str,
    user: Option<&'a str>,
    route: Option<&'a str>,
    listener: &'a str,
    client: SocketAddr,
    via: Option<SocketAddr>,
    host: Option<&'a str>,
    path: Option<&'a str>,
    origin: Option<&'a str>,
    subprotocol: Option<&'a str>,
    upstream: Option<&'a str>,
    endpoint: Option<&'a str>,
    opened: String,
    age_s: f64,
    /// Of a handshake that is being decided: what it waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<&'static str>,
    messages: Both,
    bytes: Both,
    #[serde(flatten)]
    open: Option<OpenView>,
    steps: Vec<StepView>,
    #[serde(flatten)]
    end: Option<EndView>,
}

/// A number each way.
#[derive(Debug, Serialize)]
struct Both {
    from_client: u64,
    from_upstream: u64,
}

#[derive(Debug, Serialize)]
struct OpenView {
    pending_bytes: u64,
    idle_s: f64,
}

#[derive(Debug, Serialize)]
struct StepView {
    name: &'static str,
    ms: f64,
}

#[derive(Debug, Serialize)]
struct EndView {
    ended: String,
    label: &'static str,
    by: &'static str,
    phase: &'static str,
    status: Option<u16>,
    #[serde(serialize_with = "close")]
    client_close: CloseStatus,
    #[serde(serialize_with = "close")]
    upstream_close: CloseStatus,
    cut_frame: bool,
    detail: Option<String>,
    sentence: String,
}

impl<'a> SessionView<'a> {
    /// A session that is open.
    pub(crate) fn open(session: &'a SessionHandle, now: Instant) -> Self {
        let open =
            OpenView { pending_bytes: session.pending(), idle_s: seconds(session.idle(now)) };
        let age = now.saturating_duration_since(session.opened);
        let known = &session.known;
        let view = Self::of(known, &known.steps, "open", age, &session.traffic.counts());
        Self { open: Some(open), ..view }
    }

    /// A handshake that is being decided.
    pub(crate) fn connecting(facts: &'a Facts, age: Duration) -> Self {
        let step = Some(waits_for(facts).as_str());
        let none = TrafficCounts::default();
        Self { step, ..Self::of(facts, &facts.steps, "connecting", age, &none) }
    }

    /// A session that relays no more; how it ended is known once both peers have been told.
    pub(crate) fn closing(session: &'a SessionHandle, now: Instant) -> Self {
        Self { state: "closing", ..Self::open(session, now) }
    }

    /// A connection that is over.
    pub(crate) fn ended(ended: &'a Ended) -> Self {
        let record = &ended.record;
        let (state, label, status) = match record.outcome {
            Outcome::Ended(label) => ("ended", label, None),
            Outcome::Refused(refused) => ("refused", refused.label, Some(refused.status)),
            Outcome::Abandoned | Outcome::NoRequest(_) => {
                ("abandoned", label_before_an_answer(record.by), None)
            }
        };
        let end = EndView {
            ended: rfc3339(ended.at),
            label: label.as_str(),
            by: record.by.as_str(),
            phase: record.phase.as_str(),
            status,
            client_close: record.client_close,
            upstream_close: record.upstream_close,
            cut_frame: record.cut_frame,
            detail: record.detail.clone(),
            sentence: explain::sentence(record),
        };
        let age = ended.at.duration_since(record.opened).unwrap_or_default();
        Self { end: Some(end), ..Self::of(record, &record.steps, state, age, &record.traffic) }
    }

    fn of(
        facts: &'a Facts,
        taken: &Steps,
        state: &'static str,
        age: Duration,
        traffic: &TrafficCounts,
    ) -> Self {
        let (up, down) = (&traffic.to_upstream, &traffic.to_client);
        let both = |from_client, from_upstream| Both { from_client, from_upstream };
        Self {
            id: facts.id.to_string(),
            state,
            user: facts.user.as_deref(),
            route: facts.route.as_deref(),
            listener: &facts.listener,
            client: facts.client,
            via: facts.via,
            host: facts.host.as_deref(),
            path: facts.path.as_deref(),
            origin: facts.origin.as_deref(),
            subprotocol: facts.subprotocol.as_deref(),
            upstream: facts.upstream.as_deref(),
            endpoint: facts.endpoint.as_deref(),
            opened: rfc3339(facts.opened),
            age_s: seconds(age),
            step: None,
            messages: both(up.data_messages(), down.data_messages()),
            bytes: both(up.bytes, down.bytes),
            open: None,
            steps: steps(taken),
            end: None,
        }
    }
}

/// The steps that took place, in their order.
fn steps(steps: &Steps) -> Vec<StepView> {
    // To the microsecond.
    let view = |(name, time): (_, Duration)| StepView {
        name,
        ms: (time.as_secs_f64() * 1e6).round() / 1e3,
    };
    steps.taken().map(view).collect()
}

/// A moment as the API writes it.
pub(crate) fn rfc3339(at: SystemTime) -> String {
    time(Timestamp::try_from(at).unwrap_or_default())
}

/// Seconds, to the millisecond.
pub(crate) fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e3).round() / 1e3
}

fn close<S: Serializer>(status: &CloseStatus, to: S) -> Result<S::Ok, S::Error> {
    match status {
        CloseStatus::None => to.serialize_none(),
        CloseStatus::Empty => to.serialize_str("empty"),
        CloseStatus::Code(code) => to.serialize_u16(*code),
    }
}
