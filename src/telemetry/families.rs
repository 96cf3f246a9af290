//! Every metric family: name, help, labels, buckets. The one place where metrics are named.

use prometheus::core::Collector;
use prometheus::{
    GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

/// The families, registered.
///
/// The rest of telemetry resolves handles from them once per route, upstream or listener; only what
/// happens once at the end of a connection looks labels up. A clone shares all of them.
#[derive(Debug, Clone)]
pub(super) struct Families {
    pub(super) connections: IntGaugeVec,
    pub(super) accept_errors: IntCounterVec,
    pub(super) handshakes: IntCounterVec,
    pub(super) handshake_duration: HistogramVec,
    pub(super) sessions_active: IntGaugeVec,
    pub(super) session_duration: HistogramVec,
    pub(super) closes: IntCounterVec,
    pub(super) endings: IntCounterVec,
    pub(super) messages: IntCounterVec,
    pub(super) message_bytes: IntCounterVec,
    pub(super) protocol_errors: IntCounterVec,
    pub(super) connections_dropped: IntCounterVec,
    pub(super) extensions_stripped: IntCounterVec,
    pub(super) reconnects: IntCounterVec,
    pub(super) evictions: IntCounterVec,
    pub(super) messages_limited: IntCounterVec,
    pub(super) ping_rtt: HistogramVec,
    pub(super) pong_timeouts: IntCounterVec,
    pub(super) upstream_healthy: IntGaugeVec,
    pub(super) upstream_sessions: IntGaugeVec,
    pub(super) upstream_draining: IntGaugeVec,
    pub(super) upstream_refusals: IntCounterVec,
    pub(super) upstream_connect_failures: IntCounterVec,
    pub(super) jwks_last_success: IntGaugeVec,
    pub(super) jwks_refreshes: IntCounterVec,
    pub(super) config_reloads: IntCounterVec,
    pub(super) config_last_reload_successful: IntGauge,
    pub(super) config_last_reload_success: IntGauge,
    pub(super) configurations: IntGauge,
    pub(super) certificate_not_after: IntGaugeVec,
    pub(super) draining: IntGauge,
    pub(super) drain_deadline: IntGauge,
    pub(super) limit_connections: IntGauge,
    pub(super) limit_pending_bytes: IntGauge,
    pub(super) pending_bytes: IntGauge,
    pub(super) log_lines_dropped: IntCounter,
    pub(super) build_info: GaugeVec,
}

impl Families {
    /// Creates and registers all of them, and the process's own (CPU, memory, descriptors).
    // A table in the form of a function: longer than fifty lines, and one statement.
    #[allow(clippy::too_many_lines, reason = "one row per family")]
    pub(super) fn register(registry: &Registry) -> Self {
        let to = Registrar(registry);
        #[cfg(target_os = "linux")]
        to.add(prometheus::process_collector::ProcessCollector::for_self());
        Self {
            connections: to.gauges("connections", "Open client connections.", &["listener"]),
            accept_errors: to.counters(
                "accept_errors_total",
                "Failures to accept a connection, such as a lack of file descriptors.",
                &["listener"],
            ),
            handshakes: to.counters(
                "handshakes_total",
                "Handshakes by result: accepted, dropped (closed unanswered, past all limits) or why refused.",
                &["route", "result"],
            ),
            connections_dropped: to.counters(
                "connections_dropped_total",
                "Connections closed right after accept, unanswered: no_place is left, or rate_limited before TLS.",
                &["reason"],
            ),
            handshake_duration: to.histograms(
                "handshake_duration_seconds",
                "Time taken by the stages of a handshake; total: accepted ones, without waiting for the request.",
                &["route", "stage"],
                HANDSHAKE_BUCKETS,
            ),
            sessions_active: to.gauges("sessions_active", "Relayed sessions.", &["route"]),
            session_duration: to.histograms(
                "session_duration_seconds",
                "Time from the 101 to the end of the session.",
                &["route"],
                SESSION_BUCKETS,
            ),
            closes: to.counters(
                "closes_total",
                "Connections by the close code exchanged with the client (none: it ended without Close) and who ended it.",
                &["route", "code", "by"],
            ),
            endings: to.counters(
                "endings_total",
                "Connections that ended by anything but a refusal, by cause and phase.",
                &["route", "label", "phase"],
            ),
            messages: to.counters(
                "messages_total",
                "Relayed messages and control frames.",
                &["route", "direction", "kind"],
            ),
            message_bytes: to.counters(
                "message_bytes_total",
                "Relayed payload bytes.",
                &["route", "direction"],
            ),
            protocol_errors: to.counters(
                "protocol_errors_total",
                "Breaches of RFC 6455 or of message limits, by who and how.",
                &["peer", "kind"],
            ),
            extensions_stripped: to.counters(
                "extensions_stripped_total",
                "WebSocket extensions clients offered that were not passed on.",
                &["extension"],
            ),
            reconnects: to.counters(
                "reconnects_total",
                "Accepted handshakes of users whose last session ended less than 60 s before.",
                &["route"],
            ),
            evictions: to.counters(
                "evictions_total",
                "Sessions ended in favour of a newer one.",
                &["reason"],
            ),
            messages_limited: to.counters(
                "messages_limited_total",
                "Times a client exceeded its message rate, by what was done.",
                &["action"],
            ),
            ping_rtt: to.histograms(
                "ping_rtt_seconds",
                "Time from the gateway's ping to its pong.",
                &["leg"],
                RTT_BUCKETS,
            ),
            pong_timeouts: to.counters(
                "pong_timeouts_total",
                "Pings of the gateway that were not answered in time.",
                &["leg"],
            ),
            upstream_healthy: to.gauges(
                "upstream_healthy",
                "Whether an endpoint passes its health checks (1 as long as nothing is known).",
                &["upstream", "endpoint"],
            ),
            upstream_sessions: to.gauges(
                "upstream_sessions",
                "Sessions relayed to an endpoint.",
                &["upstream", "endpoint"],
            ),
            upstream_draining: to.gauges(
                "upstream_draining",
                "Whether an endpoint is being emptied by an operator: it gets no new sessions.",
                &["upstream", "endpoint"],
            ),
            upstream_refusals: to.counters(
                "upstream_refusals_total",
                "Handshakes with result upstream_refused by the backend's status; 401, 403, 404 and 429 are its verdict on the client.",
                &["route", "status"],
            ),
            upstream_connect_failures: to.counters(
                "upstream_connect_failures_total",
                "Failed attempts to connect to an endpoint.",
                &["upstream", "reason"],
            ),
            jwks_last_success: to.gauges(
                "jwks_last_success_timestamp_seconds",
                "When the key set of a verifier was last fetched; 0: not yet.",
                &["verifier"],
            ),
            jwks_refreshes: to.counters(
                "jwks_refreshes_total",
                "Fetches of key sets, by how they went.",
                &["verifier", "result"],
            ),
            config_reloads: to.counters(
                "config_reloads_total",
                "Reloads of the configuration.",
                &["result"],
            ),
            config_last_reload_successful: to.gauge(
                "config_last_reload_successful",
                "Whether the last reload of the configuration succeeded.",
            ),
            config_last_reload_success: to.gauge(
                "config_last_reload_success_timestamp_seconds",
                "When the configuration in force was loaded.",
            ),
            configurations: to.gauge(
                "configurations",
                "Configurations in use: the one in force, and older ones that sessions began with.",
            ),
            certificate_not_after: to.gauges(
                "tls_certificate_not_after_timestamp_seconds",
                "When a served certificate expires.",
                &["name"],
            ),
            draining: to.gauge("draining", "Whether the gateway is going down."),
            drain_deadline: to.gauge(
                "drain_deadline_timestamp_seconds",
                "When a gateway that is going down cuts what is left; 0 while it is not.",
            ),
            limit_pending_bytes: to.gauge(
                "limit_pending_bytes",
                "Bytes that may be held for peers that read slowly (limits.pending_bytes).",
            ),
            limit_connections: to.gauge(
                "limit_connections",
                "Client connections allowed (limits.connections).",
            ),
            pending_bytes: to.gauge(
                "pending_bytes",
                "Bytes held for peers that read slowly.",
            ),
            log_lines_dropped: to.counter(
                "log_lines_dropped_total",
                "Log lines lost because the output was too slow or failed.",
            ),
            build_info: to.collect(
                GaugeVec::new(
                    opts("build_info", "The running build; always 1."),
                    &["version", "os", "arch"],
                ),
            ),
        }
    }
}

/// Creates families and registers them.
struct Registrar<'a>(&'a Registry);

impl Registrar<'_> {
    fn add(&self, collector: impl Collector + 'static) {
        self.0.register(Box::new(collector)).expect("family names are constants and distinct");
    }

    fn collect<C: Collector + Clone + 'static>(&self, created: prometheus::Result<C>) -> C {
        let family = created.expect("names and labels are constants and valid");
        self.add(family.clone());
        family
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.collect(IntCounter::with_opts(opts(name, help)))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.collect(IntCounterVec::new(opts(name, help), labels))
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.collect(IntGauge::with_opts(opts(name, help)))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.collect(IntGaugeVec::new(opts(name, help), labels))
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> HistogramVec {
        let options = HistogramOpts::from(opts(name, help)).buckets(buckets.to_vec());
        self.collect(HistogramVec::new(options, labels))
    }
}

/// The prefix stands here and not at the registry, whose prefix would also hit `process_*`.
fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("framegate")
}

/// Half a millisecond is a handshake within one machine without TLS, 30 s is beyond every default
/// timeout. 3, 5 and 10 s are the default timeouts of connecting, TLS and the upstream's handshake:
/// what ran into one lies in the bucket above it.
pub(super) const HANDSHAKE_BUCKETS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0, 5.0, 10.0, 30.0];

/// Chats last from a page view to a working day. 60 s is where idle timeouts of proxies in front
/// strike; 1 h is the usual life of a token and of a load balancer's connection.
const SESSION_BUCKETS: &[f64] =
    &[1.0, 5.0, 30.0, 55.0, 65.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0, 28800.0, 86400.0];

/// From a neighbour in the rack to a phone in a tunnel; `client_pong` is 10 s by default.
const RTT_BUCKETS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
