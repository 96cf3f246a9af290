//! What the gateway depends on, and how each of it is. No I/O.
//!
//! Probes ask /readyz; this is for people, their dashboards and `framegate health`. So it is always
//! answered with 200, and what is wrong stands in `status` and `reasons`.

use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{Response, StatusCode};
use serde::Serialize;

use super::Context;
use super::reply::{Failure, json};
use super::resource::{Action, Call, Resource, Takes, Verb};
use super::views::{rfc3339, seconds};
use crate::admission::signature::VerifierKeys;
use crate::gateway::Gateway;
use crate::gateway::guards::Access;
use crate::gateway::readiness::Unready;
use crate::upstream::endpoint::{Endpoint, Upstream};

/// Every dependency.
pub(crate) static DEPENDENCIES: Resource = Resource {
    path: "/health/ws",
    access: Access::Token,
    actions: &[Action { verb: Verb::Get, query: Takes::Only(&[]), handler: show }],
};

#[derive(Serialize)]
struct Health<'a> {
    status: &'static str,
    reasons: Vec<String>,
    now: String,
    listeners: Vec<ListenerHealth<'a>>,
    upstreams: Vec<UpstreamHealth<'a>>,
    verifiers: Vec<VerifierHealth<'a>>,
    certificates: Vec<CertificateHealth>,
    /// Why files that have changed are not served.
    certificate_faults: Vec<String>,
    config: ConfigHealth,
}

#[derive(Serialize)]
struct ListenerHealth<'a> {
    name: &'a str,
    open: bool,
    tls: bool,
    connections: i64,
}

#[derive(Serialize)]
pub(super) struct UpstreamHealth<'a> {
    name: &'a str,
    endpoints: Vec<EndpointHealth<'a>>,
}

#[derive(Serialize)]
struct EndpointHealth<'a> {
    index: usize,
    endpoint: &'a str,
    /// `null`: it was never checked.
    healthy: Option<bool>,
    draining: bool,
    sessions: usize,
    latency_ms: Option<f64>,
    checked_s_ago: Option<f64>,
    last_error: Option<String>,
}

#[derive(Serialize)]
struct VerifierHealth<'a> {
    name: &'a str,
    keys: usize,
    jwks: Option<JwksHealth>,
}

/// Keys that are fetched.
#[derive(Serialize)]
struct JwksHealth {
    url: String,
    last_success_s_ago: Option<f64>,
    last_error: Option<String>,
}

#[derive(Serialize)]
pub(super) struct CertificateHealth {
    name: String,
    not_after: String,
    days_left: i64,
}

#[derive(Serialize)]
struct ConfigHealth {
    last_reload_successful: bool,
    last_reload: String,
}

fn show(Context { gateway, .. }: &Context, _: &Call) -> Result<Response<Bytes>, Failure> {
    let (now, at) = (Instant::now(), SystemTime::now());
    let metrics = &gateway.telemetry().metrics;
    let listeners = gateway.listeners().iter().map(|listener| ListenerHealth {
        name: &listener.label,
        open: gateway.process().is_listening(),
        tls: listener.tls.is_some(),
        connections: metrics.open_connections(&listener.label),
    });
    let verifiers = gateway.admission().verifiers();
    let (last_reload_successful, last_reload) = metrics.last_reload();
    let mut health = Health {
        status: "ok",
        reasons: Vec::new(),
        now: rfc3339(at),
        listeners: listeners.collect(),
        upstreams: upstreams(gateway, now),
        verifiers: verifiers.iter().map(|it| VerifierHealth::of(it, now, at)).collect(),
        certificates: certificates(gateway, at),
        certificate_faults: gateway.process().certificate_faults(),
        config: ConfigHealth {
            last_reload_successful,
            last_reload: rfc3339(from_unix(last_reload)),
        },
    };
    health.judge(&gateway.unready());
    Ok(json(StatusCode::OK, &health))
}

impl Health<'_> {
    /// Down is what gets no new connections; degraded, what works and needs somebody to look.
    fn judge(&mut self, unready: &[Unready]) {
        let mut reasons: Vec<String> = unready.iter().map(ToString::to_string).collect();
        let is_down = !reasons.is_empty();
        for upstream in &self.upstreams {
            for endpoint in upstream.endpoints.iter().filter(|it| it.healthy == Some(false)) {
                let error = endpoint.last_error.as_deref().unwrap_or("its checks fail");
                let name = (upstream.name, endpoint.endpoint);
                reasons.push(format!(
                    "endpoint {} of upstream {} is unhealthy: {error}",
                    name.1, name.0
                ));
            }
        }
        for verifier in &self.verifiers {
            if verifier.keys == 0 {
                reasons.push(format!("verifier {} has no keys", verifier.name));
            }
            if let Some(error) = verifier.jwks.as_ref().and_then(|jwks| jwks.last_error.as_ref()) {
                let name = verifier.name;
                reasons.push(format!("the keys of verifier {name} could not be fetched: {error}"));
            }
        }
        for certificate in self.certificates.iter().filter(|it| it.days_left < FEW_DAYS) {
            let CertificateHealth { name, not_after, .. } = certificate;
            let verb = if certificate.days_left < 0 { "expired" } else { "expires" };
            reasons.push(format!("certificate {name} {verb} at {not_after}"));
        }
        let fault = |it: &String| {
            format!("a certificate cannot be renewed, the one before is served: {it}")
        };
        reasons.extend(self.certificate_faults.iter().map(fault));
        if !self.config.last_reload_successful {
            reasons
                .push("the last reload failed, the configuration before it is in force".to_owned());
        }
        self.status = match (is_down, reasons.is_empty()) {
            (true, _) => "down",
            (false, false) => "degraded",
            (false, true) => "ok",
        };
        reasons.dedup();
        self.reasons = reasons;
    }
}

impl<'a> UpstreamHealth<'a> {
    fn of(upstream: &'a Upstream, now: Instant) -> Self {
        let is_checked = upstream.config.health.is_some();
        let endpoints =
            upstream.endpoints.iter().map(|it| EndpointHealth::of(it, is_checked, now)).collect();
        Self { name: &upstream.name, endpoints }
    }
}

impl<'a> EndpointHealth<'a> {
    fn of(endpoint: &'a Endpoint, is_checked: bool, now: Instant) -> Self {
        let check = endpoint.state.last_check().filter(|_| is_checked);
        let ago = |at| seconds(now.saturating_duration_since(at));
        Self {
            index: endpoint.id.index,
            endpoint: &endpoint.label,
            healthy: check.as_ref().map(|_| endpoint.state.is_healthy()),
            draining: endpoint.state.is_draining(),
            sessions: endpoint.state.sessions(),
            latency_ms: check.as_ref().and_then(|check| check.latency).map(millis),
            checked_s_ago: check.as_ref().map(|check| ago(check.at)),
            last_error: check.and_then(|check| check.error),
        }
    }
}

impl<'a> VerifierHealth<'a> {
    fn of(verifier: &'a VerifierKeys, now: Instant, at: SystemTime) -> Self {
        let unix = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let jwks = verifier.published.as_ref().map(|source| JwksHealth {
            url: source.settings.source.to_string(),
            last_success_s_ago: source.last().map(|last| seconds(last.age(now))),
            last_error: source.last_error(),
        });
        Self { name: &verifier.name, keys: verifier.count(unix), jwks }
    }
}

/// All upstreams with their endpoints.
pub(super) fn upstreams(gateway: &Gateway, now: Instant) -> Vec<UpstreamHealth<'_>> {
    gateway.upstreams().iter().map(|upstream| UpstreamHealth::of(upstream, now)).collect()
}

/// The certificates that are served.
pub(super) fn certificates(gateway: &Gateway, now: SystemTime) -> Vec<CertificateHealth> {
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let served = gateway.listeners().iter().filter_map(|listener| listener.tls.as_ref());
    let view = |(name, not_after): (&str, i64)| CertificateHealth {
        name: name.to_owned(),
        not_after: rfc3339(from_unix(not_after)),
        days_left: not_after.saturating_sub(now).div_euclid(86_400),
    };
    served.flat_map(|tls| tls.certificates()).map(view).collect()
}

fn from_unix(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}

fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// A certificate with less is about to be a fault.
const FEW_DAYS: i64 = 7;

#[cfg(test)]
mod tests {
    use super::*;

    fn health() -> Health<'static> {
        let endpoint = |healthy| EndpointHealth {
            index: 0,
            endpoint: "http://a",
            healthy,
            draining: false,
            sessions: 0,
            latency_ms: None,
            checked_s_ago: None,
            last_error: Some("refused".to_owned()),
        };
        Health {
            status: "",
            reasons: Vec::new(),
            now: String::new(),
            listeners: Vec::new(),
            upstreams: vec![UpstreamHealth {
                name: "chat",
                endpoints: vec![endpoint(Some(true)), endpoint(None)],
            }],
            verifiers: vec![VerifierHealth { name: "users", keys: 1, jwks: None }],
            certificates: vec![CertificateHealth {
                name: "a".to_owned(),
                not_after: "T".to_owned(),
                days_left: 7,
            }],
            certificate_faults: Vec::new(),
            config: ConfigHealth { last_reload_successful: true, last_reload: String::new() },
        }
    }

    fn unfetched() -> JwksHealth {
        JwksHealth {
            url: "https://id".to_owned(),
            last_success_s_ago: Some(1.0),
            last_error: Some("refused".to_owned()),
        }
    }

    #[test]
    fn what_is_wrong_is_said_and_how_bad_it_is() {
        let rows: [(Change, &[Unready], &str, &[&str]); 7] = [
            (
                |it| it.verifiers[0].jwks = Some(unfetched()),
                &[],
                "degraded",
                &["the keys of verifier users could not be fetched: refused"],
            ),
            (|_| {}, &[], "ok", &[]),
            (|_| {}, &[Unready::Draining], "down", &["draining"]),
            (
                |it| it.upstreams[0].endpoints[0].healthy = Some(false),
                &[],
                "degraded",
                &["endpoint http://a of upstream chat is unhealthy: refused"],
            ),
            (
                |it| it.upstreams[0].endpoints[0].healthy = Some(false),
                &[Unready::NoHealthyEndpoint],
                "down",
                &[
                    "no upstream has a healthy endpoint",
                    "endpoint http://a of upstream chat is unhealthy: refused",
                ],
            ),
            (|it| it.verifiers[0].keys = 0, &[], "degraded", &["verifier users has no keys"]),
            (
                |it| it.config.last_reload_successful = false,
                &[],
                "degraded",
                &["the last reload failed, the configuration before it is in force"],
            ),
        ];
        for (change, unready, status, reasons) in rows {
            assert_eq!(judged(change, unready), (status, reasons.join("; ")));
        }
    }

    #[test]
    fn a_certificate_that_needs_somebody_degrades() {
        for (change, reason) in [
            ((|it| it.certificates[0].days_left = 6) as Change, "certificate a expires at T"),
            (|it| it.certificates[0].days_left = -1, "certificate a expired at T"),
            (
                |it| it.certificate_faults.push("a.pem is gone".to_owned()),
                "a certificate cannot be renewed, the one before is served: a.pem is gone",
            ),
        ] {
            assert_eq!(judged(change, &[]), ("degraded", reason.to_owned()));
        }
    }

    type Change = fn(&mut Health<'_>);

    fn judged(change: Change, unready: &[Unready]) -> (&'static str, String) {
        let mut health = health();
        change(&mut health);
        health.judge(unready);
        (health.status, health.reasons.join("; "))
    }
}
