//! What the tests of telemetry share: a configuration, records, a scrape taken apart.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::metrics::Metrics;
use crate::config::*;
use crate::outcome::blame::{By, Phase};
use crate::outcome::close_codes::{CloseCodes, RefuseMode};
use crate::outcome::label::Label;
use crate::protocol::ws::close::CloseStatus;
use crate::route::RouteId;
use crate::session::id::SessionId;
use crate::session::record::{Facts, Outcome, SessionRecord, Steps, Unrecorded};
use crate::session::traffic::{Counts, TrafficCounts};

/// Two routes to one upstream with two endpoints, one plain listener, a verifier whose keys are fetched.
pub(crate) fn config() -> Config {
    Config {
        listeners: vec![listener()],
        admin: None,
        verifiers: vec![verifier()],
        upstreams: vec![upstream()],
        routes: vec![route("/a/{id}"), route("/b")],
        limits: ProcessLimits {
            connections: 10_000,
            connections_per_address: 256,
            handshakes_per_address: None,
            pending_bytes: 1 << 28,
        },
        timeouts: Timeouts {
            tls_handshake: Duration::from_secs(5),
            request_head: Duration::from_secs(5),
            idle: None,
            write_stall: Duration::from_secs(30),
            close: Duration::from_secs(5),
        },
        keepalive: Keepalive {
            client_ping: None,
            client_pong: Duration::from_secs(10),
            upstream_ping: None,
            upstream_pong: Duration::from_secs(10),
        },
        drain: Drain {
            announce: Duration::ZERO,
            window: Duration::from_secs(30),
            grace: Duration::from_secs(10),
            code: 1012,
        },
        accepted: vec![],
        log: Log { format: LogFormat::Text, level: LogLevel::Info, access: true },
        close_codes: CloseCodes {
            by_label: HashMap::from([(Label::Kicked, 4900)]),
            by_subprotocol: HashMap::from([(
                "graphql-transport-ws".into(),
                HashMap::from([(Label::TokenExpired, 4499)]),
            )]),
        },
        locations: Locations::default(),
    }
}

fn listener() -> Listener {
    Listener {
        bind: Bind::Address("127.0.0.1:8080".parse().unwrap()),
        proxy_protocol: false,
        trusted_proxies: vec![],
        client_address: crate::handshake::forwarded::ClientAddress::default(),
        trusted_headers: vec![],
        head_size: 16 * 1024,
        doctor: false,
        http: listener::KeptConnections { keep_alive: Duration::from_secs(15), requests: 1000 },
        tls: None,
    }
}

/// A verifier with nothing but published keys.
pub(crate) fn verifier() -> Verifier {
    Verifier {
        name: "users".into(),
        keys: vec![],
        jwks: Some(Jwks {
            source: JwksSource::File("jwks.json".into()),
            refresh: Duration::from_secs(600),
            timeout: Duration::from_secs(3),
            cooldown: Duration::from_secs(30),
            stale: Duration::from_secs(86400),
            ca: None,
        }),
        issuers: vec![],
        audiences: vec![],
        leeway: Duration::ZERO,
        user_claim: "sub".into(),
        audience_claims: vec!["aud".into()],
        required_claims: vec![],
        required_header: vec![],
        token_types: vec![],
        sources: vec![],
    }
}

fn upstream() -> Upstream {
    Upstream {
        name: "chat".into(),
        endpoints: ["http://127.0.0.1:9001", "http://127.0.0.1:9002"].map(endpoint).into(),
        balance: BalancePolicy::RoundRobin,
        connect_timeout: Duration::from_secs(3),
        handshake_timeout: Duration::from_secs(10),
        retries: 1,
        health: None,
        ca: None,
    }
}

fn endpoint(label: &str) -> Endpoint {
    Endpoint { label: label.into(), target: Target::Http { host: "127.0.0.1".into(), port: 9001 } }
}

fn route(path: &str) -> Route {
    Route {
        label: path.into(),
        path: crate::route::Pattern::parse(path).unwrap(),
        parameters: HashMap::new(),
        hosts: vec![],
        upstream: UpstreamId::new(0),
        verifier: None,
        origins: vec![],
        authorize: Authorize::default(),
        refuse: RefuseMode::Auto,
        forward: route::Forward {
            token: ForwardToken::Keep,
            identity: true,
            claims: vec![],
            host: ForwardHost::Client,
        },
        upstream_path: None,
        encoded_slash: false,
        request_headers: HeaderRules::default(),
        response_headers: HeaderRules::default(),
        limits: RouteLimits {
            connections_per_user: 10,
            user_scope: UserScope::Route,
            when_user_full: WhenUserFull::EvictOldest,
            message_size: 1 << 20,
            upstream_message_size: 1 << 24,
            fragments: 65_536,
            messages: None,
            text_utf8: true,
        },
    }
}

/// An endpoint by the places of its upstream and of itself.
pub(crate) fn endpoint_id(upstream: usize, index: usize) -> EndpointId {
    UpstreamId::new(upstream).endpoint(index)
}

/// A session on route 0 that its client closed with 1000.
pub(crate) fn record() -> SessionRecord {
    record_with(|_| {})
}

/// The same with other facts.
pub(crate) fn record_with(change: impl FnOnce(&mut Facts)) -> SessionRecord {
    let counts = |text, bytes| Counts { messages: [text, 0, 1, 1], bytes };
    let mut facts = facts();
    change(&mut facts);
    SessionRecord {
        client_close: CloseStatus::Code(1000),
        upstream_close: CloseStatus::Code(1000),
        traffic: TrafficCounts { to_upstream: counts(3, 42), to_client: counts(7, 900) },
        steps: Steps { relay: Some(Duration::from_secs(61)), ..facts.steps },
        ..Unrecorded::new(facts).ended(
            Outcome::Ended(Label::ClientClosed),
            By::Client,
            Phase::Relay,
        )
    }
}

/// What was known of that session at its 101.
pub(crate) fn facts() -> Facts {
    Facts {
        route_id: Some(RouteId::new(0)),
        route: Some("/a/{id}".into()),
        host: Some("chat.example.com".into()),
        path: Some("/a/1".into()),
        origin: Some("https://chat.example.com".into()),
        user: Some("u-17".into()),
        subprotocol: Some("chat.v1".into()),
        upstream: Some("chat".into()),
        endpoint: Some(Arc::from("http://127.0.0.1:9001")),
        steps: Steps {
            accept: Some(Duration::from_micros(12)),
            tls: Some(Duration::from_micros(1500)),
            request: Some(Duration::from_micros(800)),
            admission: Some(Duration::from_micros(250)),
            upstream_connect: Some(Duration::from_micros(400)),
            upstream_handshake: Some(Duration::from_millis(2)),
            relay: None,
        },
        ..Facts::new(
            SessionId::new(0xab),
            "127.0.0.1:8080".into(),
            "192.0.2.7:4711".parse().unwrap(),
            SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_246_862),
        )
    }
}

/// Series (`name{labels}`) and values of a scrape, without the process's own.
pub(super) fn series(metrics: &Metrics) -> BTreeMap<String, f64> {
    let body = String::from_utf8(metrics.render(|_| {}).body).unwrap();
    body.lines()
        .filter(|line| line.starts_with("framegate_"))
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            (series.to_owned(), value.parse().unwrap())
        })
        .collect()
}

/// What differs between two scrapes, without histogram buckets and sums.
pub(super) fn changes(
    before: &BTreeMap<String, f64>,
    after: &BTreeMap<String, f64>,
) -> BTreeMap<String, f64> {
    after
        .iter()
        .filter(|(name, _)| !name.contains("_bucket{") && !name.contains("_sum{"))
        .map(|(name, value)| (name.clone(), value - before.get(name).unwrap_or(&0.0)))
        .filter(|(_, change)| *change != 0.0)
        .collect()
}
