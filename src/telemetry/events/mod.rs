//! What happens in the gateway, one call per event: metrics and log together.
//!
//! Levels: a peer's fault is `debug`, an operator's problem `warn`, a fault of the gateway `error`,
//! a change of the gateway's own state `info`. The outcome of each connection is its access-log
//! line, not an event beside it. Errors are shown with `Display`; the output escapes them.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;

use super::labels::{
    EndpointHealth, EvictionReason, KeyRefresh, LimitAction, ReloadResult, StrippedExtension,
};
use super::metrics::unix_now;
use super::throttle::Throttle;
use super::{Telemetry, access_log, logging};
use crate::config::{Changes, EndpointId, Problem};
use crate::net::connect::ConnectFailure;
use crate::outcome::blame::By;
use crate::outcome::label::Label;
use crate::outcome::settle::Ending;
use crate::protocol::ws::violation::{Side, Violation};
use crate::route::RouteId;
use crate::session::id::SessionId;
use crate::session::record::{Outcome, SessionRecord, Steps};

pub(crate) use arrivals::waits_for;

mod arrivals;
mod drains;

/// For faults that come as often as clients do while they last.
#[derive(Debug)]
pub(super) struct Throttles {
    accept: Throttle,
    /// By upstream: one that is down must not hide another.
    connect: Vec<Throttle>,
}

impl Throttles {
    pub(super) fn new(upstreams: usize) -> Self {
        let connect = std::iter::repeat_with(Throttle::default).take(upstreams).collect();
        Self { accept: Throttle::default(), connect }
    }
}

/// From accept to the 101.
impl Telemetry {
    /// A client offered an extension, and it was removed from the request upstream.
    pub(crate) fn extension_stripped(&self, name: &str) {
        let extension = StrippedExtension::of(name).as_str();
        self.metrics.families.extensions_stripped.with_label_values(&[extension]).inc();
    }

    /// An attempt to connect to an endpoint failed.
    pub(crate) fn connect_failed(
        &self,
        id: EndpointId,
        reason: ConnectFailure,
        error: &dyn Display,
    ) {
        let Some(metrics) = self.metrics.upstream(id.upstream) else { return };
        metrics.connect_failed(reason);
        let throttle = self.throttles.connect.get(id.upstream.index());
        if let Some(suppressed) = throttle.and_then(|throttle| throttle.pass(Instant::now())) {
            let endpoint = metrics.endpoints.get(id.index).map(|e| e.label.as_str());
            tracing::warn!(
                upstream = metrics.name, endpoint, reason = reason.as_str(), %error, suppressed,
                "an endpoint could not be connected to"
            );
        }
    }

    /// A handshake was accepted: the upstream answered 101, the client is told so.
    pub(crate) fn handshake_accepted(&self, route: RouteId, steps: &Steps) {
        self.metrics.handshakes(Some(route)).accepted(steps);
    }

    /// An upstream has answered a handshake of this route with a status instead of 101.
    pub(crate) fn upstream_refused(&self, route: RouteId, status: u16) {
        self.metrics.handshakes(Some(route)).upstream_refused(status);
    }

    /// The accepted handshake was that of a user whose last session ended less than 60 s ago.
    pub(crate) fn user_reconnected(&self, route: RouteId) {
        if let Some(metrics) = self.metrics.route(Some(route)) {
            metrics.reconnects.inc();
        }
    }

    /// Session `evicted` ends so that session `by` can have its place.
    pub(crate) fn user_evicted(&self, reason: EvictionReason, evicted: SessionId, by: SessionId) {
        self.metrics.families.evictions.with_label_values(&[reason.as_str()]).inc();
        tracing::debug!(reason = reason.as_str(), id = %evicted, %by, "session evicted");
    }
}

/// During a session.
impl Telemetry {
    /// A peer broke RFC 6455 or a limit on messages.
    pub(crate) fn violation_seen(&self, peer: Side, violation: Violation, id: SessionId) {
        let labels = [peer.as_str(), violation.kind()];
        self.metrics.families.protocol_errors.with_label_values(&labels).inc();
        let (peer, violation) = (peer.as_str(), violation.told(peer));
        tracing::debug!(peer, violation, %id, "protocol violated");
    }

    /// A client exceeded its message rate. Once per pause, not per frame.
    pub(crate) fn messages_limited(&self, action: LimitAction, id: SessionId) {
        self.metrics.families.messages_limited.with_label_values(&[action.as_str()]).inc();
        tracing::debug!(action = action.as_str(), %id, "message rate exceeded");
    }

    /// An operator ends a session.
    pub(crate) fn session_kicked(&self, ending: &Ending, id: SessionId, user: Option<&str>) {
        let Ending::Kicked { code, reason } = ending else { return };
        tracing::info!(%id, user, code, reason, "session kicked");
    }

    /// The gateway's ping was answered after `rtt`.
    pub(crate) fn pong_received(&self, leg: Side, rtt: Duration) {
        if let Some(histogram) = self.metrics.ping_rtt(leg) {
            histogram.observe(rtt.as_secs_f64());
        }
    }

    /// The gateway's ping was not answered in time.
    pub(crate) fn pong_missed(&self, leg: Side, id: SessionId) {
        self.metrics.families.pong_timeouts.with_label_values(&[leg.as_str()]).inc();
        tracing::debug!(leg = leg.as_str(), %id, "ping not answered in time");
    }
}

/// At the end.
impl Telemetry {
    /// A connection is over: all that is counted of its end, and its access-log line. Call it
    /// exactly once for each record, with the index of its route; traffic goes through
    /// [`super::metrics::Metrics::add_traffic`], which live sessions use too.
    pub(crate) fn connection_recorded(&self, record: SessionRecord) {
        let route = record.route_id;
        let handshakes = self.metrics.handshakes(route);
        let codes = &self.metrics.close_codes;
        match record.outcome {
            Outcome::Ended(label) => {
                handshakes.ended(label, record.phase);
                handshakes.closed(record.client_close, record.by, codes);
                if let Some(route) = self.metrics.route(route) {
                    route.session_ended(&record);
                }
            }
            Outcome::Refused(refused) => {
                handshakes.refused(refused.label, &record.steps);
                if refused.status == SWITCHING_PROTOCOLS {
                    handshakes.closed(record.client_close, record.by, codes);
                }
            }
            // No row of the tables of refusals and endings: the phase tells them from sessions.
            Outcome::Abandoned | Outcome::NoRequest(_) => {
                handshakes.ended(label_before_an_answer(record.by), record.phase);
            }
        }
        self.end_traced(&record);
        if let Some(format) = self.access.form() {
            let line = access_log::line(&record, format, Timestamp::now());
            tracing::info!(target: logging::ACCESS, "{line}");
        }
        self.recent.keep(record, Instant::now(), SystemTime::now());
    }

    /// Something happened that the code rules out; `what` is a constant sentence.
    pub(crate) fn fault_seen(&self, what: &'static str, error: &dyn Display) {
        tracing::error!(fault = what, %error, "internal error");
    }
}

/// Of the gateway itself.
impl Telemetry {
    /// A listener takes connections.
    pub(crate) fn listener_opened(&self, listener: &str, address: &dyn Display) {
        tracing::info!(listener, %address, "listening");
    }

    /// An endpoint could not be checked for want of something in the gateway itself.
    pub(crate) fn check_failed_here(&self, id: EndpointId, error: &dyn Display) {
        let Some(group) = self.metrics.upstream(id.upstream) else { return };
        let throttle = self.throttles.connect.get(id.upstream.index());
        if let Some(suppressed) = throttle.and_then(|throttle| throttle.pass(Instant::now())) {
            let endpoint = group.endpoints.get(id.index).map(|e| e.label.as_str());
            tracing::warn!(
                upstream = group.name, endpoint, %error, suppressed,
                "an endpoint could not be checked, through no fault of its own"
            );
        }
    }

    /// A health check changed its mind on an endpoint.
    pub(crate) fn endpoint_health_changed(
        &self,
        id: EndpointId,
        health: EndpointHealth,
        error: Option<&dyn Display>,
    ) {
        let Some(group) = self.metrics.upstream(id.upstream) else { return };
        let Some(metrics) = group.endpoints.get(id.index) else { return };
        let (upstream, endpoint) = (group.name.as_str(), metrics.label.as_str());
        match health {
            EndpointHealth::Healthy => {
                metrics.healthy.set(1);
                tracing::info!(upstream, endpoint, "endpoint is healthy again");
            }
            EndpointHealth::Unhealthy => {
                metrics.healthy.set(0);
                let error = error.map(tracing::field::display);
                tracing::warn!(upstream, endpoint, error, "endpoint is unhealthy");
            }
        }
    }

    /// These certificates are served from now on: name and end of validity in seconds since 1970.
    pub(crate) fn certificates_loaded<'a>(
        &self,
        certificates: impl IntoIterator<Item = (&'a str, i64)>,
    ) {
        let family = &self.metrics.families.certificate_not_after;
        // A certificate that is no longer served must not go on warning of its end.
        family.reset();
        let mut soonest: BTreeMap<&str, i64> = BTreeMap::new();
        for (name, not_after) in certificates {
            // Several may have the same name: the one that ends first is to be heard.
            let end = soonest.entry(name).or_insert(not_after);
            *end = not_after.min(*end);
            family.with_label_values(&[name]).set(*end);
            if not_after <= unix_now() {
                tracing::warn!(name, "a served certificate has expired");
            }
        }
    }

    /// The keys of a verifier are fetched from now on; what is known of them was fetched then, in seconds
    /// since 1970 (0: nothing is).
    pub(crate) fn key_source_opened(&self, verifier: &str, last_success: u64) {
        if let Some(metrics) = self.metrics.keys(verifier) {
            metrics.set_last_success(last_success);
        }
    }

    /// The key set of a verifier was fetched, at `unix` seconds since 1970. `news`, if there are any: the
    /// keys it has, and why others were left out.
    pub(crate) fn keys_fetched(
        &self,
        verifier: &str,
        unix: u64,
        news: Option<(&String, &Vec<String>)>,
    ) {
        if let Some(metrics) = self.metrics.keys(verifier) {
            metrics.refreshed(KeyRefresh::Ok);
            metrics.set_last_success(unix);
        }
        let Some((keys, notes)) = news else { return };
        if keys.is_empty() {
            tracing::warn!(verifier, "the published key set has no key that can be used");
        } else {
            tracing::info!(verifier, keys, "published keys fetched");
        }
        for note in notes.iter().take(MOST_NOTES) {
            tracing::warn!(verifier, note, "a published key is not used");
        }
        if let Some(more) = notes.len().checked_sub(MOST_NOTES).filter(|more| *more > 0) {
            tracing::warn!(verifier, more, "more published keys are not used");
        }
    }

    /// The key set of a verifier could not be fetched; `has_keys`: an older one is used on.
    pub(crate) fn keys_not_fetched(
        &self,
        verifier: &str,
        result: KeyRefresh,
        error: &dyn Display,
        has_keys: bool,
        is_news: bool,
    ) {
        if let Some(metrics) = self.metrics.keys(verifier) {
            metrics.refreshed(result);
        }
        let result = result.as_str();
        if is_news {
            tracing::warn!(
                verifier, result, %error, has_keys,
                "published keys could not be fetched; trying on"
            );
        } else {
            tracing::debug!(verifier, result, %error, has_keys, "published keys not fetched again");
        }
    }

    /// The last good key set of a verifier is older than `jwks.stale` and used no more.
    pub(crate) fn keys_outdated(&self, verifier: &str) {
        tracing::error!(verifier, "the published keys are too old and used no more");
    }

    /// A new configuration is in force.
    pub(crate) fn config_reloaded(&self, changes: &Changes) {
        let families = &self.metrics.families;
        families.config_reloads.with_label_values(&[ReloadResult::Success.as_str()]).inc();
        families.config_last_reload_successful.set(1);
        families.config_last_reload_success.set(unix_now());
        let Changes { listeners, routes, upstreams, endpoints, certificates } = changes;
        tracing::info!(
            %listeners, %routes, %upstreams, %endpoints, %certificates,
            "configuration reloaded"
        );
    }

    /// A new configuration is unusable; the old one stays in force.
    pub(crate) fn config_reload_failed(&self, problems: &[Problem]) {
        let families = &self.metrics.families;
        families.config_reloads.with_label_values(&[ReloadResult::Error.as_str()]).inc();
        families.config_last_reload_successful.set(0);
        for problem in problems {
            let path = Some(problem.path.as_str()).filter(|path| !path.is_empty());
            let line = problem.line;
            tracing::error!(path, line, error = problem.message, "problem in the configuration");
        }
        tracing::error!(problems = problems.len(), "configuration not reloaded, nothing changed");
    }

    /// What is not wrong with a configuration that is in force, but unwise.
    pub(crate) fn config_unwise(&self, warnings: &[Problem]) {
        for warning in warnings {
            let (path, line) = (warning.path.as_str(), warning.line);
            tracing::warn!(path, line, warning = warning.message, "unwise configuration");
        }
    }

    /// New certificates were found in the place of the old ones and are served from now on.
    pub(crate) fn certificates_renewed(&self, names: &[String]) {
        tracing::info!(certificates = names.join(", "), "certificates renewed");
    }

    /// Certificates have changed and cannot be used; the old ones are served on.
    pub(crate) fn certificate_renewal_failed(&self, problem: &Problem) {
        let (path, line) = (problem.path.as_str(), problem.line);
        let error = problem.message.as_str();
        tracing::warn!(
            path,
            line,
            error,
            "a changed certificate cannot be used, the old one stays"
        );
    }
}

/// The word in `endings_total` for a connection that ended before its handshake was answered.
pub(crate) fn label_before_an_answer(by: By) -> Label {
    match by {
        By::Client => Label::ClientLost,
        // The gateway only gives up on a client that says nothing.
        By::Gateway => Label::ClientTimeout,
        By::Upstream => Label::UpstreamLost,
        By::Admin => Label::Kicked,
    }
}

/// Lines about keys of one set.
const MOST_NOTES: usize = 10;

/// Status of a refusal that was told by Close.
const SWITCHING_PROTOCOLS: u16 = 101;

#[cfg(test)]
mod tests;
