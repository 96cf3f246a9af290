//! What the counters say at one moment, summed over all routes: what the dashboard is made from.
//!
//! It is read from the metrics themselves, so that the page and a scrape never disagree.

use prometheus::core::{Collector, Metric};
use prometheus::proto;

use super::labels::Stage;
use super::metrics::Metrics;
use super::route_metrics::{HandshakeMetrics, RouteMetrics};
use crate::outcome::blame::{By, Phase};
use crate::outcome::label::Label;
use crate::session::traffic::{Direction, TrafficCounts};

/// How many labels a handshake can be refused with: those of the table, and `internal`.
pub(crate) const REFUSALS: usize = Label::UpstreamProtocol as usize + 2;
/// How many labels a session can end with: those of the table, and `token_expired`.
pub(crate) const ENDINGS: usize = Label::ALL.len() - Label::ClientClosed as usize + 1;
/// Buckets of a stage's histogram, the last one without upper bound.
pub(crate) const BUCKETS: usize = super::families::HANDSHAKE_BUCKETS.len() + 1;
/// How many stages are timed.
pub(crate) const STAGES: usize = Stage::ALL.len();

/// The counters and gauges at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Reading {
    /// Relayed sessions.
    pub(crate) sessions: u64,
    /// Client connections.
    pub(crate) connections: u64,
    /// Bytes held for slow readers.
    pub(crate) pending_bytes: u64,
    /// Configurations in use.
    pub(crate) configurations: u64,
    /// Whether the last reload succeeded.
    pub(crate) last_reload_successful: bool,
    /// When the configuration in force was loaded, in seconds since 1970.
    pub(crate) last_reload: i64,
    /// Handshakes answered with 101 on the upstream's word.
    pub(crate) accepted: u64,
    /// Connections closed unanswered.
    pub(crate) dropped: u64,
    /// Handshakes refused, by [`refusals`].
    pub(crate) refused: [u64; REFUSALS],
    /// Sessions ended, by [`endings`].
    pub(crate) ended: [u64; ENDINGS],
    /// Connections without a readable request (a bare 400 answers it), and those gone before an answer.
    pub(crate) unanswered: u64,
    /// Text and binary messages, by [`Direction::ALL`].
    pub(crate) messages: [u64; 2],
    /// Payload bytes, by [`Direction::ALL`].
    pub(crate) bytes: [u64; 2],
    /// Durations by [`Stage::ALL`].
    pub(crate) stages: [Durations; STAGES],
}

/// How many durations lay in each bucket (not in it and those below).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Durations(pub [u32; BUCKETS]);

/// The labels of [`Reading::refused`], in order.
pub(crate) fn refusals() -> impl Iterator<Item = Label> {
    Label::refusals().chain([Label::Internal])
}

/// The labels of [`Reading::ended`], in order.
pub(crate) fn endings() -> impl Iterator<Item = Label> {
    Label::endings()
}

/// Who ends a session that ends so.
pub(crate) fn who(label: Label) -> By {
    match label {
        Label::ClientClosed | Label::ClientViolation | Label::ClientLost => By::Client,
        Label::UpstreamClosed | Label::UpstreamViolation | Label::UpstreamLost => By::Upstream,
        Label::Kicked => By::Admin,
        _ => By::Gateway,
    }
}

impl Durations {
    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.0.iter().map(|&count| u64::from(count)).sum()
    }

    /// What came since `before` was read.
    pub(crate) fn since(&self, before: &Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at].wrapping_sub(before.0[at])))
    }

    /// The duration in seconds that this share of them does not exceed, as Prometheus estimates it: evenly
    /// spread within a bucket, and the highest bound for what lies above it. `None`: there are none.
    pub(crate) fn quantile(&self, share: f64) -> Option<f64> {
        let wanted = share * self.count() as f64;
        let (mut below, mut bound_below) = (0.0, 0.0);
        for (&count, &bound) in self.0.iter().zip(super::families::HANDSHAKE_BUCKETS) {
            let count = f64::from(count);
            if count > 0.0 && below + count >= wanted {
                return Some(bound_below + (bound - bound_below) * (wanted - below) / count);
            }
            (below, bound_below) = (below + count, bound);
        }
        (self.count() > 0).then_some(bound_below)
    }
}

impl Metrics {
    /// Reads the counters. Live traffic is in it as far as it was reported.
    pub(crate) fn read(&self) -> Reading {
        let mut reading = Reading {
            connections: gauges(&self.families.connections.collect()),
            pending_bytes: unsigned(self.families.pending_bytes.get()),
            configurations: unsigned(self.families.configurations.get()),
            last_reload_successful: self.families.config_last_reload_successful.get() == 1,
            last_reload: self.families.config_last_reload_success.get(),
            ..Reading::default()
        };
        self.each_handshakes(|handshakes| reading.add_handshakes(handshakes));
        self.each_route(|route| reading.add_route(route));
        reading.add_endings(&self.families.endings.collect());
        reading
    }
}

impl Reading {
    fn add_handshakes(&mut self, handshakes: &HandshakeMetrics) {
        self.accepted += handshakes.accepted.get();
        self.dropped += handshakes.dropped.get();
        for (sum, label) in self.refused.iter_mut().zip(refusals()) {
            *sum += handshakes.refused.get(&label).map_or(0, prometheus::IntCounter::get);
        }
        for (durations, (_, histogram)) in self.stages.iter_mut().zip(&handshakes.stages) {
            let metric = histogram.metric();
            durations.add(metric.get_histogram());
        }
    }

    fn add_route(&mut self, route: &RouteMetrics) {
        self.sessions += unsigned(route.sessions_active.get());
        let TrafficCounts { to_upstream, to_client } = route.traffic();
        for (at, counts) in [to_upstream, to_client].iter().enumerate() {
            self.messages[at] += counts.data_messages();
            self.bytes[at] += counts.bytes;
        }
    }

    fn add_endings(&mut self, families: &[proto::MetricFamily]) {
        let of_sessions = [Phase::Relay.as_str(), Phase::Closing.as_str()];
        for metric in families.iter().flat_map(proto::MetricFamily::get_metric) {
            let value_of = |name: &str| {
                let mut labels = metric.get_label().iter();
                labels.find(|label| label.name() == name).map_or("", |label| label.value())
            };
            let count = metric.get_counter().get_value() as u64;
            let at = endings().position(|label| label.as_str() == value_of("label"));
            match at {
                Some(at) if of_sessions.contains(&value_of("phase")) => self.ended[at] += count,
                _ => self.unanswered += count,
            }
        }
    }
}

impl Durations {
    fn add(&mut self, histogram: &proto::Histogram) {
        let mut below = 0;
        let cumulative = histogram.get_bucket().iter().map(|bucket| bucket.cumulative_count());
        let all = cumulative.chain([histogram.get_sample_count()]);
        for (sum, up_to) in self.0.iter_mut().zip(all) {
            *sum = sum.wrapping_add(up_to.wrapping_sub(below) as u32);
            below = up_to;
        }
    }
}

fn gauges(families: &[proto::MetricFamily]) -> u64 {
    let metrics = families.iter().flat_map(proto::MetricFamily::get_metric);
    metrics.map(|metric| metric.get_gauge().get_value() as u64).sum()
}

/// A gauge that is counted up and down may be read between the two.
fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// That traffic is summed in this order.
const _: () = assert!(matches!(Direction::ALL, [Direction::ToUpstream, Direction::ToClient]));

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::outcome::settle::Ending;
    use crate::route::RouteId;
    use crate::session::record::{Outcome, Refused};
    use crate::telemetry::Telemetry;
    use crate::telemetry::labels::DropReason;
    use crate::telemetry::testing::{config, record, record_with, series};

    fn durations(counts: &[(usize, u32)]) -> Durations {
        let mut durations = Durations::default();
        for (bucket, count) in counts {
            durations.0[*bucket] = *count;
        }
        durations
    }

    #[test]
    fn every_label_has_its_place() {
        assert_eq!(refusals().count(), REFUSALS);
        assert_eq!(endings().count(), ENDINGS);
    }

    #[test]
    fn quantiles_are_those_of_prometheus() {
        let table = [
            (durations(&[]), 0.5, None),
            // Ten within 0.5 ms: the fifth lies in the middle.
            (durations(&[(0, 10)]), 0.5, Some(0.000_25)),
            (durations(&[(0, 10)]), 0.99, Some(0.000_495)),
            // 5 to 10 ms, behind empty buckets.
            (durations(&[(4, 2)]), 0.5, Some(0.0075)),
            (durations(&[(0, 90), (7, 10)]), 0.5, Some(0.000_5 * 50.0 / 90.0)),
            (durations(&[(0, 90), (7, 10)]), 0.95, Some(0.075)),
            // Beyond 30 s nothing is known.
            (durations(&[(BUCKETS - 1, 1)]), 0.5, Some(30.0)),
        ];
        for (durations, share, expected) in table {
            let found = durations.quantile(share);
            let is_same = match (found, expected) {
                (Some(found), Some(expected)) => f64::abs(found - expected) < 1e-9,
                (found, expected) => found == expected,
            };
            assert!(is_same, "{durations:?} at {share}: {found:?}, not {expected:?}");
        }
    }

    /// Some of everything that is read, on routes and without.
    fn after_some_events() -> Telemetry {
        let telemetry = Telemetry::new(&config());
        for route in [0, 0, 1].map(RouteId::new) {
            telemetry.handshake_accepted(route, &record().steps);
            telemetry.metrics.add_traffic(route, &record().traffic);
        }
        let refused = |label| Outcome::Refused(Refused { label, status: 403 });
        for (outcome, phase, route) in [
            (Outcome::Ended(Label::ClientClosed), Phase::Relay, Some(0)),
            (Outcome::Ended(Label::ClientClosed), Phase::Closing, Some(1)),
            (Outcome::Ended(Label::Kicked), Phase::Relay, Some(1)),
            (refused(Label::NoRoute), Phase::Admission, None),
            (refused(Label::Forbidden), Phase::Admission, Some(1)),
            (refused(Label::Internal), Phase::Admission, Some(1)),
            (Outcome::Abandoned, Phase::Connect, Some(1)),
            (Outcome::NoRequest("tls"), Phase::Tls, None),
        ] {
            let mut record = record_with(|facts| facts.route_id = route.map(RouteId::new));
            (record.outcome, record.phase) = (outcome, phase);
            record.steps.tls = Some(Duration::from_secs(40));
            telemetry.connection_recorded(record);
        }
        telemetry.connection_dropped("127.0.0.1:8080", [192, 0, 2, 1].into(), DropReason::NoPlace);
        telemetry.metrics.set_pending_bytes(7);
        telemetry
    }

    #[test]
    fn what_is_read_is_what_a_scrape_says() {
        let telemetry = after_some_events();
        let metrics = &telemetry.metrics;
        let _guards = [
            metrics.session(RouteId::new(0)),
            metrics.session(RouteId::new(1)),
            metrics.connection("127.0.0.1:8080"),
        ];
        let (reading, series) = (metrics.read(), series(metrics));
        let sum = |name: &str, labels: &[&str]| {
            let is_meant = |series: &str| {
                series.starts_with(&format!("framegate_{name}{{"))
                    && labels.iter().all(|label| series.contains(label))
            };
            series.iter().filter(|(name, _)| is_meant(name)).map(|(_, value)| value).sum::<f64>()
        };
        assert_eq!((reading.sessions, reading.connections, reading.pending_bytes), (2, 1, 7));
        for (at, label) in refusals().enumerate() {
            let expected = sum("handshakes_total", &[&format!("result=\"{label}\"")]);
            assert_eq!(reading.refused[at] as f64, expected, "{label}");
        }
        assert_eq!(reading.refused.iter().sum::<u64>(), 3);
        let of_sessions = ["relay", "closing"].map(|phase| format!("phase=\"{phase}\""));
        for (at, label) in endings().enumerate() {
            let label = format!("label=\"{label}\"");
            let by_phase =
                of_sessions.each_ref().map(|phase| sum("endings_total", &[&label, phase]));
            assert_eq!(reading.ended[at] as f64, by_phase.iter().sum::<f64>(), "{label}");
        }
        assert_eq!((reading.ended.iter().sum::<u64>(), reading.unanswered), (3, 2));
        assert_eq!((reading.accepted, reading.dropped), (3, 1));
        for (at, direction) in ["to_upstream", "to_client"].iter().enumerate() {
            let direction = format!("direction=\"{direction}\"");
            let texts = sum("messages_total", &[&direction, "kind=\"text\""]);
            assert_eq!(reading.messages[at] as f64, texts);
            assert_eq!(reading.bytes[at] as f64, sum("message_bytes_total", &[&direction]));
        }
        for (durations, stage) in reading.stages.iter().zip(Stage::ALL) {
            let stage = format!("stage=\"{}\"", stage.as_str());
            let count = sum("handshake_duration_seconds_count", &[&stage]);
            assert_eq!(durations.count() as f64, count, "{stage}");
            for (at, bound) in crate::telemetry::families::HANDSHAKE_BUCKETS.iter().enumerate() {
                let up_to = durations.0.iter().take(at + 1).sum::<u32>();
                let bound = format!("le=\"{bound}\"");
                let expected = sum("handshake_duration_seconds_bucket", &[&stage, &bound]);
                assert_eq!(f64::from(up_to), expected, "{stage} {bound}");
            }
        }
    }

    #[test]
    fn counts_that_wrap_are_told_apart() {
        let (before, after) = (durations(&[(1, u32::MAX)]), durations(&[(1, 2)]));
        assert_eq!(after.since(&before), durations(&[(1, 3)]));
    }

    #[test]
    fn who_ends_a_session_is_what_its_ending_says() {
        let mut labels = std::collections::BTreeSet::new();
        for ending in Ending::decided() {
            assert_eq!(who(ending.label()), ending.by(), "{ending:?}");
            labels.insert(ending.label().as_str());
        }
        assert_eq!(labels.len(), ENDINGS);
    }
}
