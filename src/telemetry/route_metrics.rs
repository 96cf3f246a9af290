//! The metrics of one route, resolved once, and of connections that found none.

use std::collections::HashMap;

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge};

use super::families::Families;
use super::labels::{CloseCodeLabels, Stage};
use crate::session::label::Label;
use crate::session::record::{CloseStatus, SessionRecord, Steps};
use crate::session::termination::{By, Phase};
use crate::session::traffic::{Counts, Direction, MessageKind, TrafficCounts};

/// What is counted of every connection, whether a route was found or not.
#[derive(Debug)]
pub(super) struct HandshakeMetrics {
    label: String,
    pub(super) accepted: IntCounter,
    pub(super) dropped: IntCounter,
    pub(super) refused: HashMap<Label, IntCounter>,
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
        // A fault of the gateway also refuses, though no rule does.
        let refusals = Label::refusals().chain([Label::Internal]);
        Self {
            label: route.to_owned(),
            accepted: result("accepted"),
            dropped: result("dropped"),
            refused: refusals.map(|label| (label, result(label.as_str()))).collect(),
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
    ///
    /// `endings_total` has zeros for phase `relay` only and `closes_total` for [`COMMON_CLOSES`]:
    /// all combinations would be some 250 and 100 series a route, nearly all of them for ever 0.
    pub(super) fn new(families: &Families, route: &str) -> Self {
        for label in Label::endings() {
            families.endings.with_label_values(&[route, label.as_str(), Phase::Relay.as_str()]);
        }
        for (code, by) in COMMON_CLOSES {
            families.closes.with_label_values(&[route, code, by.as_str()]);
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

/// Closes that every route can expect: what alerts and dashboards ask for must be there as zero,
/// or its first occurrence is no increase.
const COMMON_CLOSES: [(&str, By); 21] = [
    ("1000", By::Client),
    ("1001", By::Client),
    ("empty", By::Client),
    ("none", By::Client),
    ("1002", By::Client),
    ("1007", By::Client),
    ("1009", By::Client),
    ("4408", By::Client),
    ("1000", By::Upstream),
    ("1001", By::Upstream),
    ("empty", By::Upstream),
    ("1011", By::Upstream),
    ("1013", By::Upstream),
    ("1014", By::Upstream),
    ("1011", By::Gateway),
    ("4401", By::Gateway),
    ("4403", By::Gateway),
    ("4408", By::Gateway),
    ("4409", By::Gateway),
    ("4429", By::Gateway),
    ("1012", By::Gateway),
];
