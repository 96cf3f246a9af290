//! Names, labels and zeros against the table of the design; guards; the scrape.

use std::sync::Arc;

use super::*;
use crate::outcome::label::Label;
use crate::session::traffic::{Counts, TrafficCounts};
use crate::telemetry::Telemetry;
use crate::telemetry::testing::{config, endpoint_id, series};

/// Family, type, and one series that is exported from the start.
const FAMILIES: &[(&str, &str, &str)] = &[
    ("connections", "gauge", r#"{listener="127.0.0.1:8080"} 0"#),
    ("accept_errors_total", "counter", r#"{listener="127.0.0.1:8080"} 0"#),
    ("sessions_active", "gauge", r#"{route="/a/{id}"} 0"#),
    ("session_duration_seconds", "histogram", r#"_count{route="/b"} 0"#),
    ("handshakes_total", "counter", r#"{result="accepted",route="/a/{id}"} 0"#),
    ("handshakes_total", "counter", r#"{result="dropped",route="none"} 0"#),
    ("handshake_duration_seconds", "histogram", r#"_count{route="/b",stage="tls"} 0"#),
    ("handshake_duration_seconds", "histogram", r#"_count{route="/b",stage="admission"} 0"#),
    ("handshake_duration_seconds", "histogram", r#"_count{route="/b",stage="upstream_connect"} 0"#),
    (
        "handshake_duration_seconds",
        "histogram",
        r#"_count{route="/b",stage="upstream_handshake"} 0"#,
    ),
    ("handshake_duration_seconds", "histogram", r#"_count{route="none",stage="total"} 0"#),
    ("closes_total", "counter", r#"{by="client",code="1000",route="/b"} 0"#),
    ("endings_total", "counter", r#"{label="client_closed",phase="relay",route="/b"} 0"#),
    ("messages_total", "counter", r#"{direction="to_client",kind="pong",route="/b"} 0"#),
    ("message_bytes_total", "counter", r#"{direction="to_upstream",route="/b"} 0"#),
    ("protocol_errors_total", "counter", r#"{kind="rsv",peer="client"} 0"#),
    ("protocol_errors_total", "counter", r#"{kind="close_code",peer="upstream"} 0"#),
    ("connections_dropped_total", "counter", r#"{reason="no_place"} 0"#),
    ("extensions_stripped_total", "counter", r#"{extension="permessage-deflate"} 0"#),
    ("reconnects_total", "counter", r#"{route="/b"} 0"#),
    ("evictions_total", "counter", r#"{reason="user_limit"} 0"#),
    ("messages_limited_total", "counter", r#"{action="pause"} 0"#),
    ("ping_rtt_seconds", "histogram", r#"_count{leg="upstream"} 0"#),
    ("pong_timeouts_total", "counter", r#"{leg="client"} 0"#),
    ("upstream_healthy", "gauge", r#"{endpoint="http://127.0.0.1:9002",upstream="chat"} 1"#),
    ("upstream_sessions", "gauge", r#"{endpoint="http://127.0.0.1:9001",upstream="chat"} 0"#),
    ("upstream_draining", "gauge", r#"{endpoint="http://127.0.0.1:9001",upstream="chat"} 0"#),
    ("upstream_refusals_total", "counter", r#"{route="/b",status="5xx"} 0"#),
    ("upstream_refusals_total", "counter", r#"{route="none",status="401"} 0"#),
    ("closes_total", "counter", r#"{by="gateway",code="1012",route="/b"} 0"#),
    ("closes_total", "counter", r#"{by="admin",code="4900",route="/b"} 0"#),
    ("closes_total", "counter", r#"{by="gateway",code="4404",route="none"} 0"#),
    ("endings_total", "counter", r#"{label="upstream_closed",phase="closing",route="/b"} 0"#),
    ("endings_total", "counter", r#"{label="client_timeout",phase="tls",route="none"} 0"#),
    ("drain_deadline_timestamp_seconds", "gauge", " 0"),
    ("limit_pending_bytes", "gauge", " 268435456"),
    ("upstream_connect_failures_total", "counter", r#"{reason="dns",upstream="chat"} 0"#),
    ("jwks_last_success_timestamp_seconds", "gauge", r#"{verifier="users"} 0"#),
    ("jwks_refreshes_total", "counter", r#"{result="ok",verifier="users"} 0"#),
    ("jwks_refreshes_total", "counter", r#"{result="too_large",verifier="users"} 0"#),
    ("config_reloads_total", "counter", r#"{result="error"} 0"#),
    ("config_last_reload_successful", "gauge", " 1"),
    ("config_last_reload_success_timestamp_seconds", "gauge", " "),
    ("configurations", "gauge", " 0"),
    ("draining", "gauge", " 0"),
    ("limit_connections", "gauge", " 10000"),
    ("pending_bytes", "gauge", " 0"),
    ("log_lines_dropped_total", "counter", " "),
    ("build_info", "gauge", "{"),
];

fn scrape(metrics: &Metrics) -> String {
    String::from_utf8(metrics.render(|_| {}).body).unwrap()
}

#[test]
fn a_scrape_has_every_family_from_the_start() {
    let body = scrape(&Metrics::new(&config()));
    for (name, kind, series) in FAMILIES {
        let name = format!("framegate_{name}");
        for line in [format!("# HELP {name} "), format!("# TYPE {name} {kind}\n")] {
            assert!(body.contains(&line), "{line}");
        }
        let series = format!("\n{name}{series}");
        assert!(body.contains(&series), "{series}");
    }
}

#[test]
fn a_scrape_has_no_family_beyond_the_table() {
    let telemetry = Telemetry::new(&config());
    telemetry.certificates_loaded([("certs/dev.pem", 4_102_444_800)]);
    for line in scrape(&telemetry.metrics).lines().filter(|line| line.starts_with("# TYPE ")) {
        let name = line.split(' ').nth(2).unwrap();
        let known = name.strip_prefix("framegate_").is_some_and(|name| {
            name == "tls_certificate_not_after_timestamp_seconds"
                || FAMILIES.iter().any(|(known, ..)| *known == name)
        });
        assert!(known || name.starts_with("process_"), "{name}");
    }
}

#[test]
fn every_result_of_a_handshake_starts_at_zero() {
    let series = series(&Metrics::new(&config()));
    let results = Label::refusals().map(Label::as_str).chain(["accepted", "dropped", "internal"]);
    for result in results {
        for route in ["/a/{id}", "/b", "none"] {
            let name =
                format!(r#"framegate_handshakes_total{{result="{result}",route="{route}"}}"#);
            assert_eq!(series.get(&name), Some(&0.0), "{name}");
        }
    }
    for label in Label::endings() {
        let name =
            format!(r#"framegate_endings_total{{label="{label}",phase="relay",route="/b"}}"#);
        assert_eq!(series.get(&name), Some(&0.0), "{name}");
    }
}

#[test]
fn build_and_process_are_described() {
    let body = scrape(&Metrics::new(&config()));
    let version = format!(r#"version="{}"}} 1"#, env!("CARGO_PKG_VERSION"));
    assert!(body.contains(&version), "{version}");
    #[cfg(target_os = "linux")]
    assert!(body.contains("\nprocess_open_fds "), "process metrics carry no prefix");
}

#[test]
fn the_configuration_counts_as_loaded_at_the_start() {
    let loaded =
        series(&Metrics::new(&config()))["framegate_config_last_reload_success_timestamp_seconds"];
    assert!(loaded > 1_700_000_000.0, "{loaded}");
}

#[test]
fn gauges_go_back_to_zero_with_their_guards() {
    let metrics = Metrics::new(&config());
    let before = series(&metrics);
    let guards = [
        metrics.connection("127.0.0.1:8080"),
        metrics.connection("127.0.0.1:8080"),
        metrics.session(RouteId::new(0)),
        metrics.endpoint_session(endpoint_id(0, 1)),
    ];
    let during = series(&metrics);
    let expected = [
        (r#"framegate_connections{listener="127.0.0.1:8080"}"#, 2.0),
        (r#"framegate_sessions_active{route="/a/{id}"}"#, 1.0),
        (r#"framegate_sessions_active{route="/b"}"#, 0.0),
        (r#"framegate_upstream_sessions{endpoint="http://127.0.0.1:9002",upstream="chat"}"#, 1.0),
    ];
    for (name, value) in expected {
        assert_eq!(during[name], value, "{name}");
    }
    drop(guards);
    assert_eq!(series(&metrics), before);
}

#[test]
fn what_is_not_configured_counts_nowhere() {
    let metrics = Metrics::new(&config());
    let before = series(&metrics);
    let _guards = [
        metrics.connection("198.51.100.1:1"),
        metrics.session(RouteId::new(2)),
        metrics.endpoint_session(endpoint_id(0, 2)),
        metrics.endpoint_session(endpoint_id(1, 0)),
    ];
    metrics.add_traffic(RouteId::new(2), &TrafficCounts::default());
    assert_eq!(series(&metrics), before);
}

#[test]
fn live_traffic_is_flushed_into_the_scrape() {
    let metrics = Metrics::new(&config());
    let delta = TrafficCounts {
        to_upstream: Counts { messages: [1, 2, 3, 4], bytes: 50 },
        to_client: Counts { messages: [5, 0, 0, 0], bytes: 6 },
    };
    let scrape = metrics.render(|metrics| {
        metrics.add_traffic(RouteId::new(1), &delta);
        metrics.set_pending_bytes(77);
    });
    assert_eq!(scrape.content_type, "text/plain; version=0.0.4; charset=utf-8");
    let body = String::from_utf8(scrape.body).unwrap();
    for line in [
        r#"framegate_messages_total{direction="to_upstream",kind="text",route="/b"} 1"#,
        r#"framegate_messages_total{direction="to_upstream",kind="binary",route="/b"} 2"#,
        r#"framegate_messages_total{direction="to_upstream",kind="ping",route="/b"} 3"#,
        r#"framegate_messages_total{direction="to_upstream",kind="pong",route="/b"} 4"#,
        r#"framegate_messages_total{direction="to_client",kind="text",route="/b"} 5"#,
        r#"framegate_message_bytes_total{direction="to_upstream",route="/b"} 50"#,
        r#"framegate_message_bytes_total{direction="to_client",route="/b"} 6"#,
        r#"framegate_messages_total{direction="to_client",kind="text",route="/a/{id}"} 0"#,
        "framegate_pending_bytes 77",
    ] {
        assert!(body.lines().any(|have| have == line), "{line}");
    }
}

#[test]
fn two_gateways_in_one_process_share_nothing() {
    let (one, other) = (Metrics::new(&config()), Metrics::new(&config()));
    let _guard = one.session(RouteId::new(0));
    assert_eq!(series(&other)[r#"framegate_sessions_active{route="/a/{id}"}"#], 0.0);
}

#[test]
fn telemetry_can_be_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>(_: &T) {}
    shared(&Arc::new(Telemetry::new(&config())));
    shared(&Metrics::new(&config()).session(RouteId::new(0)));
}

#[test]
fn the_next_configuration_counts_on_and_has_zeros_for_what_is_new() {
    let before = Telemetry::new(&config());
    before.endpoint_health_changed(
        endpoint_id(0, 1),
        crate::telemetry::labels::EndpointHealth::Unhealthy,
        None,
    );
    let open = before.metrics.session(RouteId::new(0));
    let mut next = config();
    next.routes[0].label = "/new".to_owned();
    next.routes.swap(0, 1);
    next.upstreams[0].endpoints.remove(0);
    next.limits.connections = 5;
    next.verifiers.clear();
    let after = before.renewed(&next);
    // A fetch that ends after the change.
    before.keys_fetched("users", 7, None);
    let traffic = TrafficCounts {
        to_client: Counts { messages: [1, 0, 0, 0], bytes: 9 },
        ..TrafficCounts::default()
    };
    after.metrics.add_traffic_by_label([("/a/{id}", traffic), ("/new", traffic)].into_iter());
    // Sessions that began before the change end after it.
    before.metrics.add_traffic(RouteId::new(0), &traffic);
    let found = series(&after.metrics);
    for (name, value) in [
        (r#"sessions_active{route="/a/{id}"}"#, Some(1.0)),
        (r#"sessions_active{route="/new"}"#, Some(0.0)),
        (r#"message_bytes_total{direction="to_client",route="/a/{id}"}"#, Some(18.0)),
        (r#"message_bytes_total{direction="to_client",route="/new"}"#, Some(9.0)),
        // Nobody looks after it any more: as it was would be a lie for ever.
        (r#"upstream_healthy{endpoint="http://127.0.0.1:9001",upstream="chat"}"#, None),
        (r#"upstream_healthy{endpoint="http://127.0.0.1:9002",upstream="chat"}"#, Some(0.0)),
        (r#"jwks_last_success_timestamp_seconds{verifier="users"}"#, None),
        (r#"jwks_refreshes_total{result="ok",verifier="users"}"#, Some(1.0)),
        ("limit_connections", Some(5.0)),
    ] {
        assert_eq!(found.get(&format!("framegate_{name}")).copied(), value, "{name}");
    }
    drop(open);
    assert_eq!(series(&after.metrics)[r#"framegate_sessions_active{route="/a/{id}"}"#], 0.0);
}
