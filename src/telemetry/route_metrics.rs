//! The metrics of one route, resolved once, and of connections that found none.

use std::collections::HashMap;

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge};

use super::families::Families;
use super::labels::{CloseCodeLabels, RefusalStatus, Stage};
use super::zeros;
use crate::outcome::blame::{By, Phase};
use crate::outcome::label::Label;
use crate::protocol::ws::close::CloseStatus;
use crate::protocol::ws::message::MessageKind;
use crate::session::record::{SessionRecord, Steps};
use crate::session::traffic::{Counts, Direction, TrafficCounts};

/// What is counted of every connection, whether a route was found or not.
#[derive(Debug)]
pub(super) struct HandshakeMetrics {
    label: String,
    pub(super) accepted: IntCounter,
    pub(super) dropped: IntCounter,
    pub(super) refused: HashMap<Label, IntCounter>,
    upstream_refused: Vec<(RefusalStatus, IntCounter)>,
    /// In the order of [`Stage::ALL`].
    pub(super) stages: Vec<(Stage, Histogram)>,
    closes: IntCounterVec,
    endings: IntCounterVec,
}

/// What is counted of a route's sessions, besides.
#[derive(Debug)]
pub(super) struct RouteMetrics {
    pub(super) handshakes: HandshakeMetrics,
    pub(super) sessions_active: IntGauge,
    pub(super) session_duration: Histogram,
    pub(super) reconnects: IntCounter,
    directions: [DirectionMetrics; 2],
}

#[derive(Debug)]
struct DirectionMetrics {
    messages: [IntCounter; 4],
    bytes: IntCounter,
}

impl HandshakeMetrics {
    /// Resolves, and thereby exports as zero, what is known beforehand.
    pub(super) fn new(families: &Families, route: &str) -> Self {
        let result = |result: &str| families.handshakes.with_label_values(&[route, result]);
        let stage = |stage: &Stage| {
            (*stage, families.handshake_duration.with_label_values(&[route, stage.as_str()]))
        };
        let upstream_refused = |status: &RefusalStatus| {
            (*status, families.upstream_refusals.with_label_values(&[route, status.as_str()]))
        };
        // A fault of the gateway also refuses, though no rule does.
        let refusals = Label::refusals().chain([Label::Internal]);
        Self {
            label: route.to_owned(),
            accepted: result("accepted"),
            dropped: result("dropped"),
            refused: refusals.map(|label| (label, result(label.as_str()))).collect(),
            upstream_refused: RefusalStatus::ALL.iter().map(upstream_refused).collect(),
            stages: Stage::ALL.iter().map(stage).collect(),
            closes: families.closes.clone(),
            endings: families.endings.clone(),
        }
    }

    /// A handshake was answered with 101 on the upstream's word.
    pub(super) fn accepted(&self, steps: &Steps) {
        self.accepted.inc();
        self.observe_stages(steps, |_| true);
    }

    /// A handshake was refused. Its total says nothing of how long handshakes take (a refused
    /// token is quick), so only the stages it reached are observed.
    pub(super) fn refused(&self, label: Label, steps: &Steps) {
        if let Some(counter) = self.refused.get(&label) {
            counter.inc();
        }
        self.observe_stages(steps, |stage| stage != Stage::Total);
    }

    /// The upstream answered with this status instead of 101.
    pub(super) fn upstream_refused(&self, status: u16) {
        let status = RefusalStatus::of(status);
        for (_, counter) in self.upstream_refused.iter().filter(|(of, _)| *of == status) {
            counter.inc();
        }
    }

    /// A connection exchanged closes (or should have) with the client.
    pub(super) fn closed(&self, close: CloseStatus, by: By, codes: &CloseCodeLabels) {
        self.closes.with_label_values(&[&self.label, codes.label(close), by.as_str()]).inc();
    }

    /// A connection ended, and no refusal ended it.
    pub(super) fn ended(&self, label: Label, phase: Phase) {
        self.endings.with_label_values(&[&self.label, label.as_str(), phase.as_str()]).inc();
    }

    fn observe_stages(&self, steps: &Steps, wanted: impl Fn(Stage) -> bool) {
        for (stage, histogram) in self.stages.iter().filter(|(stage, _)| wanted(*stage)) {
            if let Some(duration) = stage.duration(steps) {
                histogram.observe(duration.as_secs_f64());
            }
        }
    }
}

impl RouteMetrics {
    /// Resolves, and thereby exports as zero, what is known beforehand.
    pub(super) fn new(families: &Families, route: &str) -> Self {
        for (label, phase) in zeros::endings_of_route() {
            families.endings.with_label_values(&[route, label.as_str(), phase.as_str()]);
        }
        Self {
            handshakes: HandshakeMetrics::new(families, route),
            sessions_active: families.sessions_active.with_label_values(&[route]),
            session_duration: families.session_duration.with_label_values(&[route]),
            reconnects: families.reconnects.with_label_values(&[route]),
            directions: Direction::ALL
                .map(|direction| DirectionMetrics::new(families, route, direction)),
        }
    }

    /// Adds what passed since the last call.
    pub(super) fn add_traffic(&self, delta: &TrafficCounts) {
        for (metrics, counts) in self.directions.iter().zip([&delta.to_upstream, &delta.to_client])
        {
            metrics.add(counts);
        }
    }

    /// What has passed so far, of all sessions.
    pub(super) fn traffic(&self) -> TrafficCounts {
        let [to_upstream, to_client] = &self.directions;
        TrafficCounts { to_upstream: to_upstream.counts(), to_client: to_client.counts() }
    }

    /// A session is over.
    pub(super) fn session_ended(&self, record: &SessionRecord) {
        if let Some(relay) = record.steps.relay {
            self.session_duration.observe(relay.as_secs_f64());
        }
    }
}

impl DirectionMetrics {
    fn new(families: &Families, route: &str, direction: Direction) -> Self {
        let messages = |kind: MessageKind| {
            families.messages.with_label_values(&[route, direction.as_str(), kind.as_str()])
        };
        Self {
            messages: MessageKind::ALL.map(messages),
            bytes: families.message_bytes.with_label_values(&[route, direction.as_str()]),
        }
    }

    fn counts(&self) -> Counts {
        Counts {
            messages: std::array::from_fn(|kind| self.messages[kind].get()),
            bytes: self.bytes.get(),
        }
    }

    fn add(&self, counts: &Counts) {
        for (counter, amount) in self.messages.iter().zip(counts.messages) {
            counter.inc_by(amount);
        }
        self.bytes.inc_by(counts.bytes);
    }
}
