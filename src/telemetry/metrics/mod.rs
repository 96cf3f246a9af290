//! The gateway's metrics: handles by route, upstream and listener, gauges as guards, the scrape.
//!
//! Every gateway has its own registry. A `Metrics` holds the handles of one [`Config`], and indices
//! are those of that configuration; an index out of range counts nowhere, it never panics.
//! [`Metrics::renewed`] makes those of the next one: equal labels are the same series.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use prometheus::{Encoder, Histogram, IntCounter, IntGauge, Registry, TextEncoder};

use super::families::Families;
use super::key_metrics::KeyMetrics;
use super::labels::{
    CloseCodeLabels, DropReason, EvictionReason, LimitAction, ReloadResult, StrippedExtension,
};
use super::logging;
use super::route_metrics::{HandshakeMetrics, RouteMetrics};
use super::upstream_metrics::{EndpointMetrics, UpstreamMetrics};
use super::zeros;
use crate::config::{Config, EndpointId, UpstreamId};
use crate::protocol::ws::violation::{Side, Violation};
use crate::route::RouteId;
use crate::session::traffic::TrafficCounts;

/// All metrics of one gateway, as one of its configurations counts them.
#[derive(Debug)]
pub(crate) struct Metrics {
    shared: Arc<Shared>,
    pub(super) families: Families,
    routes: Vec<Arc<RouteMetrics>>,
    upstreams: Vec<UpstreamMetrics>,
    listeners: HashMap<String, ListenerMetrics>,
    /// By verifiers whose keys are fetched.
    keys: HashMap<String, KeyMetrics>,
    ping_rtt: [(Side, Histogram); 2],
    pub(super) close_codes: CloseCodeLabels,
}

/// What all configurations of a gateway count in.
#[derive(Debug)]
struct Shared {
    registry: Registry,
    /// `route="none"`.
    no_route: HandshakeMetrics,
    /// Every route there has been, by its label: sessions outlive their route's configuration.
    routes: Mutex<BTreeMap<String, Arc<RouteMetrics>>>,
    /// How many dropped log lines are already counted; held while a scrape is made.
    lines_reported: Mutex<u64>,
}

/// What a scrape answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scrape {
    pub(crate) content_type: &'static str,
    /// Text exposition format 0.0.4.
    pub(crate) body: Vec<u8>,
}

/// One more in a gauge for as long as it lives.
#[derive(Debug)]
#[must_use = "the gauge goes down again when the guard is dropped"]
pub(crate) struct GaugeGuard(Option<IntGauge>);

#[derive(Debug)]
struct ListenerMetrics {
    connections: IntGauge,
    accept_errors: IntCounter,
}

impl Metrics {
    /// Registers all families and exports zeros for label sets known from `config`.
    pub(crate) fn new(config: &Config) -> Self {
        let registry = Registry::new();
        let families = Families::register(&registry);
        export_zeros(&families);
        set_constants(&families);
        let shared = Shared {
            registry,
            no_route: HandshakeMetrics::new(&families, "none"),
            routes: Mutex::default(),
            lines_reported: Mutex::new(0),
        };
        Self::resolve(Arc::new(shared), families, config, &HashSet::new())
    }

    /// The handles for the next configuration: zeros for what is new in it; what it no longer has
    /// stays as it is, but for what is said of endpoints that nobody looks after any more.
    pub(crate) fn renewed(&self, config: &Config) -> Self {
        let known: HashSet<_> = self.upstreams.iter().flat_map(UpstreamMetrics::labels).collect();
        let shared = Arc::clone(&self.shared);
        let renewed = Self::resolve(shared, self.families.clone(), config, &known);
        let kept: HashSet<_> = renewed.upstreams.iter().flat_map(UpstreamMetrics::labels).collect();
        for (upstream, endpoint) in known.difference(&kept) {
            for family in [&self.families.upstream_healthy, &self.families.upstream_draining] {
                // Fails only if it is gone already.
                let _ = family.remove_label_values(&[upstream, endpoint]);
            }
        }
        for verifier in self.keys.keys().filter(|name| !renewed.keys.contains_key(*name)) {
            // Nobody fetches them any more: they must not be taken for old.
            let _ = self.families.jwks_last_success.remove_label_values(&[verifier]);
        }
        renewed
    }

    fn resolve(
        shared: Arc<Shared>,
        families: Families,
        config: &Config,
        known: &HashSet<(&str, &str)>,
    ) -> Self {
        let limits = &config.limits;
        families.limit_connections.set(i64::try_from(limits.connections).unwrap_or(i64::MAX));
        families.limit_pending_bytes.set(i64::try_from(limits.pending_bytes).unwrap_or(i64::MAX));
        let close_codes = CloseCodeLabels::new(config);
        for (code, by) in zeros::closes(config, &close_codes) {
            for route in config.routes.iter().map(|route| route.label.as_str()).chain(["none"]) {
                families.closes.with_label_values(&[route, &code, by]);
            }
        }
        let listener = |listener: &crate::config::Listener| {
            let name = listener.bind.to_string();
            let metrics = ListenerMetrics {
                connections: families.connections.with_label_values(&[&name]),
                accept_errors: families.accept_errors.with_label_values(&[&name]),
            };
            (name, metrics)
        };
        let fetching = config.verifiers.iter().filter(|verifier| verifier.jwks.is_some());
        Self {
            listeners: config.listeners.iter().map(listener).collect(),
            routes: config.routes.iter().map(|r| shared.route(&families, &r.label)).collect(),
            upstreams: config
                .upstreams
                .iter()
                .map(|u| UpstreamMetrics::new(&families, u, known))
                .collect(),
            keys: fetching
                .map(|verifier| (verifier.name.clone(), KeyMetrics::new(&families, &verifier.name)))
                .collect(),
            ping_rtt: [Side::Client, Side::Upstream]
                .map(|leg| (leg, families.ping_rtt.with_label_values(&[leg.as_str()]))),
            close_codes,
            shared,
            families,
        }
    }

    /// Counts a configuration as in use.
    pub(crate) fn configuration(&self) -> GaugeGuard {
        GaugeGuard::new(Some(&self.families.configurations))
    }

    /// Counts a client connection of the listener with this `bind` as open.
    pub(crate) fn connection(&self, listener: &str) -> GaugeGuard {
        GaugeGuard::new(self.listeners.get(listener).map(|metrics| &metrics.connections))
    }

    /// Connections of the listener with this `bind` that are open.
    pub(crate) fn open_connections(&self, listener: &str) -> i64 {
        self.listeners.get(listener).map_or(0, |metrics| metrics.connections.get())
    }

    /// Whether the last reload succeeded, and when the configuration in force was loaded, in seconds
    /// since 1970.
    pub(crate) fn last_reload(&self) -> (bool, i64) {
        let families = &self.families;
        let successful = families.config_last_reload_successful.get() == 1;
        (successful, families.config_last_reload_success.get())
    }

    /// Counts a session of a route as active.
    pub(crate) fn session(&self, route: RouteId) -> GaugeGuard {
        GaugeGuard::new(self.route(Some(route)).map(|metrics| &metrics.sessions_active))
    }

    /// Counts a session as relayed to an endpoint.
    pub(crate) fn endpoint_session(&self, id: EndpointId) -> GaugeGuard {
        GaugeGuard::new(self.endpoint(id).map(|metrics| &metrics.sessions))
    }

    /// Adds messages and bytes that were not reported yet.
    pub(crate) fn add_traffic(&self, route: RouteId, delta: &TrafficCounts) {
        if let Some(metrics) = self.route(Some(route)) {
            metrics.add_traffic(delta);
        }
    }

    /// The same for any routes this gateway ever had, by their labels.
    pub(crate) fn add_traffic_by_label<'a>(
        &self,
        deltas: impl Iterator<Item = (&'a str, TrafficCounts)>,
    ) {
        let routes = self.shared.routes();
        for (route, delta) in deltas {
            if let Some(metrics) = routes.get(route) {
                metrics.add_traffic(&delta);
            }
        }
    }

    /// Sets the bytes that all sessions together hold for slow readers.
    pub(crate) fn set_pending_bytes(&self, bytes: u64) {
        self.families.pending_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// The text exposition. `flush` is called first, to add what live sessions have not reported.
    pub(crate) fn render(&self, flush: impl FnOnce(&Self)) -> Scrape {
        flush(self);
        // Held to the end: of two scrapes at once only one may count the dropped lines.
        let mut reported =
            self.shared.lines_reported.lock().unwrap_or_else(PoisonError::into_inner);
        let dropped = logging::lines_dropped();
        self.families.log_lines_dropped.inc_by(dropped.saturating_sub(*reported));
        *reported = dropped;
        let mut body = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.shared.registry.gather(), &mut body) {
            tracing::error!(%error, "the metrics could not be written in full");
        }
        Scrape { content_type: "text/plain; version=0.0.4; charset=utf-8", body }
    }

    /// Shows every route there has been.
    pub(super) fn each_route(&self, mut show: impl FnMut(&RouteMetrics)) {
        self.shared.routes().values().for_each(|route| show(route));
    }

    /// The same for their handshakes, and for those that found no route.
    pub(super) fn each_handshakes(&self, mut show: impl FnMut(&HandshakeMetrics)) {
        show(&self.shared.no_route);
        self.each_route(|route| show(&route.handshakes));
    }

    /// Metrics of a route's handshakes; without route (or an unknown one) those of `none`.
    pub(super) fn handshakes(&self, route: Option<RouteId>) -> &HandshakeMetrics {
        self.route(route).map_or(&self.shared.no_route, |metrics| &metrics.handshakes)
    }

    pub(super) fn route(&self, route: Option<RouteId>) -> Option<&RouteMetrics> {
        self.routes.get(route?.index()).map(AsRef::as_ref)
    }

    pub(super) fn upstream(&self, upstream: UpstreamId) -> Option<&UpstreamMetrics> {
        self.upstreams.get(upstream.index())
    }

    pub(super) fn endpoint(&self, id: EndpointId) -> Option<&EndpointMetrics> {
        self.upstream(id.upstream)?.endpoints.get(id.index)
    }

    pub(super) fn keys(&self, verifier: &str) -> Option<&KeyMetrics> {
        self.keys.get(verifier)
    }

    pub(super) fn accept_failed(&self, listener: &str) {
        if let Some(metrics) = self.listeners.get(listener) {
            metrics.accept_errors.inc();
        }
    }

    pub(super) fn ping_rtt(&self, leg: Side) -> Option<&Histogram> {
        self.ping_rtt.iter().find_map(|(of, histogram)| (*of == leg).then_some(histogram))
    }
}

impl Shared {
    fn routes(&self) -> MutexGuard<'_, BTreeMap<String, Arc<RouteMetrics>>> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The handles of the route with this label, made if it is new.
    fn route(&self, families: &Families, label: &str) -> Arc<RouteMetrics> {
        let mut routes = self.routes();
        let made = || Arc::new(RouteMetrics::new(families, label));
        Arc::clone(routes.entry(label.to_owned()).or_insert_with(made))
    }
}

impl GaugeGuard {
    fn new(gauge: Option<&IntGauge>) -> Self {
        if let Some(gauge) = gauge {
            gauge.inc();
        }
        Self(gauge.cloned())
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        if let Some(gauge) = &self.0 {
            gauge.dec();
        }
    }
}

/// Seconds since 1970, for `_timestamp_seconds` gauges.
pub(crate) fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Families without route (of the configuration) or upstream: resolving a handle exports its zero.
fn export_zeros(families: &Families) {
    for leg in &Side::ALL {
        for kind in Violation::KINDS {
            families.protocol_errors.with_label_values(&[leg.as_str(), kind]);
        }
        families.pong_timeouts.with_label_values(&[leg.as_str()]);
    }
    for (label, phase) in zeros::endings_without_route() {
        families.endings.with_label_values(&["none", label.as_str(), phase.as_str()]);
    }
    for extension in StrippedExtension::ALL {
        families.extensions_stripped.with_label_values(&[extension.as_str()]);
    }
    for reason in DropReason::ALL {
        families.connections_dropped.with_label_values(&[reason.as_str()]);
    }
    for reason in EvictionReason::ALL {
        families.evictions.with_label_values(&[reason.as_str()]);
    }
    for action in LimitAction::ALL {
        families.messages_limited.with_label_values(&[action.as_str()]);
    }
    for result in ReloadResult::ALL {
        families.config_reloads.with_label_values(&[result.as_str()]);
    }
}

fn set_constants(families: &Families) {
    use std::env::consts::{ARCH, OS};

    families.build_info.with_label_values(&[env!("CARGO_PKG_VERSION"), OS, ARCH]).set(1.0);
    // The configuration the process started with counts as loaded.
    families.config_last_reload_successful.set(1);
    families.config_last_reload_success.set(unix_now());
}

#[cfg(test)]
mod tests;
