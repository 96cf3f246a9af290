//! What each event counts, that it counts nothing else, and that peers cannot make series.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use tracing_subscriber::layer::SubscriberExt;

use super::*;
use crate::config::LogFormat;
use crate::outcome::blame::Phase;
use crate::protocol::ws::close::CloseStatus;
use crate::session::record::Refused;
use crate::telemetry::labels::DropReason;
use crate::telemetry::testing::{changes, config, endpoint_id, record, record_with, series};

/// Changes that `act` makes, by series without prefix.
fn counted(act: impl FnOnce(&Telemetry)) -> BTreeMap<String, f64> {
    let telemetry = Telemetry::new(&config());
    let before = series(&telemetry.metrics);
    act(&telemetry);
    changes(&before, &series(&telemetry.metrics))
        .into_iter()
        .map(|(name, change)| (name.trim_start_matches("framegate_").to_owned(), change))
        .collect()
}

fn expect(name: &str, counted: &BTreeMap<String, f64>, expected: &[&str]) {
    let ones: BTreeMap<String, f64> = expected.iter().map(|s| ((*s).to_owned(), 1.0)).collect();
    assert_eq!(*counted, ones, "{name}");
}

fn refused(label: Label, status: u16, client_close: CloseStatus) -> SessionRecord {
    SessionRecord {
        outcome: Outcome::Refused(Refused { label, status }),
        by: By::Gateway,
        phase: Phase::Admission,
        client_close,
        upstream_close: CloseStatus::None,
        steps: Steps {
            upstream_connect: None,
            upstream_handshake: None,
            relay: None,
            ..record().steps
        },
        ..record()
    }
}

/// The same, decided on another route.
fn on(route: Option<usize>, record: SessionRecord) -> SessionRecord {
    let mut facts = (*record.facts).clone();
    facts.route_id = route.map(RouteId::new);
    SessionRecord { facts: Arc::new(facts), ..record }
}

#[test]
#[allow(clippy::too_many_lines, reason = "one row per kind of record")]
fn a_record_counts_what_its_outcome_says() {
    let early = |outcome, by, phase| SessionRecord {
        outcome,
        by,
        phase,
        client_close: CloseStatus::None,
        steps: Steps::default(),
        ..record()
    };
    let table = [
        (
            "a session",
            record(),
            Some(0),
            vec![
                r#"closes_total{by="client",code="1000",route="/a/{id}"}"#,
                r#"endings_total{label="client_closed",phase="relay",route="/a/{id}"}"#,
                r#"session_duration_seconds_count{route="/a/{id}"}"#,
            ],
        ),
        (
            "a session without Close",
            SessionRecord {
                outcome: Outcome::Ended(Label::ClientLost),
                phase: Phase::Closing,
                client_close: CloseStatus::None,
                ..record()
            },
            Some(1),
            vec![
                r#"closes_total{by="client",code="none",route="/b"}"#,
                r#"endings_total{label="client_lost",phase="closing",route="/b"}"#,
                r#"session_duration_seconds_count{route="/b"}"#,
            ],
        ),
        (
            "a refusal by Close",
            refused(Label::TokenExpired, 101, CloseStatus::Code(4401)),
            Some(1),
            vec![
                r#"closes_total{by="gateway",code="4401",route="/b"}"#,
                r#"handshake_duration_seconds_count{route="/b",stage="admission"}"#,
                r#"handshake_duration_seconds_count{route="/b",stage="tls"}"#,
                r#"handshakes_total{result="token_expired",route="/b"}"#,
            ],
        ),
        (
            "a refusal by HTTP without route",
            refused(Label::NoRoute, 404, CloseStatus::None),
            None,
            vec![
                r#"handshake_duration_seconds_count{route="none",stage="admission"}"#,
                r#"handshake_duration_seconds_count{route="none",stage="tls"}"#,
                r#"handshakes_total{result="no_route",route="none"}"#,
            ],
        ),
        (
            "a fault of the gateway",
            SessionRecord {
                steps: Steps::default(),
                ..refused(Label::Internal, 500, CloseStatus::None)
            },
            Some(0),
            vec![r#"handshakes_total{result="internal",route="/a/{id}"}"#],
        ),
        (
            "a client that left",
            early(Outcome::Abandoned, By::Client, Phase::Connect),
            Some(0),
            vec![r#"endings_total{label="client_lost",phase="connect",route="/a/{id}"}"#],
        ),
        (
            "a client that said nothing",
            early(Outcome::NoRequest("timeout"), By::Gateway, Phase::Tls),
            None,
            vec![r#"endings_total{label="client_timeout",phase="tls",route="none"}"#],
        ),
    ];
    for (name, record, route, expected) in table {
        expect(
            name,
            &counted(|telemetry| telemetry.connection_recorded(on(route, record))),
            &expected,
        );
    }
}

#[test]
#[allow(clippy::too_many_lines, reason = "one row per event")]
fn each_event_counts_in_its_family() {
    let id = SessionId::new(1);
    type Act = fn(&Telemetry, SessionId);
    let table: [(Act, &[&str]); 14] = [
        (
            |t, _| {
                let client = [192, 0, 2, 1].into();
                t.connection_dropped("127.0.0.1:8080", client, DropReason::NoPlace);
            },
            &[
                r#"connections_dropped_total{reason="no_place"}"#,
                r#"handshakes_total{result="dropped",route="none"}"#,
            ],
        ),
        (
            |t, _| t.accept_failed("127.0.0.1:8080", &"too many open files"),
            &[r#"accept_errors_total{listener="127.0.0.1:8080"}"#],
        ),
        (
            |t, _| t.extension_stripped("Permessage-Deflate"),
            &[r#"extensions_stripped_total{extension="permessage-deflate"}"#],
        ),
        (
            |t, _| t.extension_stripped("x-webkit-deflate-frame"),
            &[r#"extensions_stripped_total{extension="other"}"#],
        ),
        (
            |t, _| t.connect_failed(endpoint_id(0, 1), ConnectFailure::Timeout, &"took too long"),
            &[r#"upstream_connect_failures_total{reason="timeout",upstream="chat"}"#],
        ),
        (
            |t, _| t.handshake_accepted(RouteId::new(1), &record().steps),
            &[
                r#"handshake_duration_seconds_count{route="/b",stage="admission"}"#,
                r#"handshake_duration_seconds_count{route="/b",stage="tls"}"#,
                r#"handshake_duration_seconds_count{route="/b",stage="total"}"#,
                r#"handshake_duration_seconds_count{route="/b",stage="upstream_connect"}"#,
                r#"handshake_duration_seconds_count{route="/b",stage="upstream_handshake"}"#,
                r#"handshakes_total{result="accepted",route="/b"}"#,
            ],
        ),
        (|t, _| t.user_reconnected(RouteId::new(1)), &[r#"reconnects_total{route="/b"}"#]),
        (
            |t, id| t.user_evicted(EvictionReason::UserLimit, id, id),
            &[r#"evictions_total{reason="user_limit"}"#],
        ),
        (
            |t, id| t.violation_seen(Side::Upstream, Violation::Mask, id),
            &[r#"protocol_errors_total{kind="mask",peer="upstream"}"#],
        ),
        (
            |t, id| t.messages_limited(LimitAction::Close, id),
            &[r#"messages_limited_total{action="close"}"#],
        ),
        (
            |t, _| t.pong_received(Side::Client, Duration::from_millis(30)),
            &[r#"ping_rtt_seconds_count{leg="client"}"#],
        ),
        (|t, id| t.pong_missed(Side::Client, id), &[r#"pong_timeouts_total{leg="client"}"#]),
        (
            |t, _| t.keys_fetched("users", 1, None),
            &[
                r#"jwks_last_success_timestamp_seconds{verifier="users"}"#,
                r#"jwks_refreshes_total{result="ok",verifier="users"}"#,
            ],
        ),
        (
            |t, _| t.keys_not_fetched("users", KeyRefresh::Tls, &"no", true, false),
            &[r#"jwks_refreshes_total{result="tls",verifier="users"}"#],
        ),
    ];
    for (act, expected) in table {
        expect("event", &counted(|telemetry| act(telemetry, id)), expected);
    }
    assert!(counted(|t| t.fault_seen("a permit was missing", &"none")).is_empty());
}

#[test]
fn the_total_of_a_handshake_leaves_out_waiting_for_the_request() {
    let telemetry = Telemetry::new(&config());
    let steps = Steps { request: Some(Duration::from_secs(100)), ..record().steps };
    telemetry.handshake_accepted(RouteId::new(0), &steps);
    let total = series(&telemetry.metrics)[r#"framegate_handshake_duration_seconds_sum{route="/a/{id}",stage="total"}"#];
    // tls 1.5 ms, admission 0.25 ms, connect 0.4 ms, handshake 2 ms.
    assert!((total - 0.004_15).abs() < 1e-9, "{total}");
}

#[test]
fn states_of_the_gateway_are_gauges() {
    let telemetry = Telemetry::new(&config());
    let value = |name: &str| series(&telemetry.metrics).get(&format!("framegate_{name}")).copied();
    let health = r#"upstream_healthy{endpoint="http://127.0.0.1:9001",upstream="chat"}"#;
    let first = endpoint_id(0, 0);
    telemetry.endpoint_health_changed(first, EndpointHealth::Unhealthy, Some(&"refused"));
    assert_eq!(value(health), Some(0.0));
    telemetry.endpoint_health_changed(first, EndpointHealth::Healthy, None);
    assert_eq!(value(health), Some(1.0));

    telemetry.config_reload_failed(&[]);
    assert_eq!(value("config_last_reload_successful"), Some(0.0));
    assert_eq!(value(r#"config_reloads_total{result="error"}"#), Some(1.0));
    telemetry.config_reloaded(&Changes::default());
    assert_eq!(value("config_last_reload_successful"), Some(1.0));
    assert_eq!(value(r#"config_reloads_total{result="success"}"#), Some(1.0));

    let draining = r#"upstream_draining{endpoint="http://127.0.0.1:9001",upstream="chat"}"#;
    telemetry.endpoint_drain_started(first, 3, Duration::from_secs(30));
    assert_eq!(value(draining), Some(1.0));
    telemetry.endpoint_drain_ended(first);
    assert_eq!(value(draining), Some(0.0));

    for (status, label) in
        [(401, "401"), (429, "429"), (400, "4xx"), (500, "5xx"), (599, "5xx"), (302, "other")]
    {
        let refusals = format!(r#"upstream_refusals_total{{route="/b",status="{label}"}}"#);
        let before = value(&refusals).unwrap();
        telemetry.upstream_refused(RouteId::new(1), status);
        assert_eq!(value(&refusals), Some(before + 1.0), "{status}");
    }

    assert_eq!(
        (value("draining"), value("drain_deadline_timestamp_seconds")),
        (Some(0.0), Some(0.0))
    );
    let from = unix_now() as f64 + 41.0;
    telemetry.drain_announced(Duration::ZERO, Duration::from_secs(40));
    let to = unix_now() as f64 + 41.0;
    assert_eq!(value("draining"), Some(1.0));
    assert!((from..=to).contains(&value("drain_deadline_timestamp_seconds").unwrap()));

    let certificate =
        |name: &str| format!(r#"tls_certificate_not_after_timestamp_seconds{{name="{name}"}}"#);
    telemetry.certificates_loaded([("a.pem", 4_102_444_800), ("b.pem", 1)]);
    assert_eq!(value(&certificate("a.pem")), Some(4_102_444_800.0));
    telemetry.certificates_loaded([("b.pem", 4_102_444_801)]);
    assert_eq!(value(&certificate("a.pem")), None, "no longer served");
    assert_eq!(value(&certificate("b.pem")), Some(4_102_444_801.0));
    let [late, soon] = [("b.pem", 4_102_444_802), ("b.pem", 4_102_444_801)];
    for both in [[late, soon], [soon, late]] {
        telemetry.certificates_loaded(both);
        assert_eq!(value(&certificate("b.pem")), Some(4_102_444_801.0), "the one that ends first");
    }
}

#[test]
fn close_codes_outside_the_set_share_a_label() {
    let table = [
        (CloseStatus::None, "none"),
        (CloseStatus::Empty, "empty"),
        (CloseStatus::Code(1000), "1000"),
        (CloseStatus::Code(1014), "1014"),
        (CloseStatus::Code(1005), "other"),
        (CloseStatus::Code(1006), "other"),
        (CloseStatus::Code(1015), "other"),
        (CloseStatus::Code(4408), "4408"),
        (CloseStatus::Code(4900), "4900"),
        (CloseStatus::Code(4499), "4499"),
        (CloseStatus::Code(4123), "other"),
    ];
    let telemetry = Telemetry::new(&config());
    for (close, label) in table {
        assert_eq!(telemetry.metrics.close_codes.label(close), label, "{close:?}");
    }
}

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What is logged while a record is taken in.
fn logged(access: Option<LogFormat>) -> String {
    let captured = Captured::default();
    let writer = captured.clone();
    let subscriber = tracing_subscriber::registry().with(
        tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || writer.clone()),
    );
    let mut config = config();
    config.log.access = access.is_some();
    config.log.format = access.unwrap_or(LogFormat::Text);
    let telemetry = Telemetry::new(&config);
    tracing::subscriber::with_default(subscriber, || {
        telemetry.connection_recorded(record());
    });
    let bytes = captured.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_record_is_one_access_line_in_the_configured_form() {
    let text = logged(Some(LogFormat::Text));
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("INFO access: 2") && text.contains(" outcome=accepted "), "{text}");
    let json = logged(Some(LogFormat::Json));
    assert_eq!(json.lines().count(), 1, "{json}");
    assert!(json.contains(r#"access: {"time":"#), "{json}");
    assert_eq!(logged(None), "");
}

prop_compose! {
    fn any_close()(kind in 0..3, code in any::<u16>()) -> CloseStatus {
        match kind { 0 => CloseStatus::None, 1 => CloseStatus::Empty, _ => CloseStatus::Code(code) }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn peer_text_makes_no_series(text in any::<String>(), accepted in any::<bool>()) {
        let telemetry = Telemetry::new(&config());
        let plain = || {
            if accepted { record() } else { refused(Label::NoRoute, 404, CloseStatus::None) }
        };
        telemetry.connection_recorded(plain());
        let before: Vec<String> = series(&telemetry.metrics).into_keys().collect();
        let strange = record_with(|facts| {
            facts.listener = text.as_str().into();
            facts.route = Some(text.as_str().into());
            facts.host = Some(text.clone());
            facts.path = Some(text.clone());
            facts.origin = Some(text.clone());
            facts.user = Some(text.as_str().into());
            facts.subprotocol = Some(text.clone());
            facts.endpoint = Some(text.as_str().into());
        });
        let facts = strange.facts;
        let strange = SessionRecord { facts, detail: Some(text.clone()), ..plain() };
        telemetry.connection_recorded(strange);
        telemetry.extension_stripped(&text);
        telemetry.connection_dropped(&text, [192, 0, 2, 1].into(), DropReason::RateLimited);
        telemetry.accept_failed(&text, &text);
        telemetry.connect_failed(endpoint_id(0, 0), ConnectFailure::Other, &text);
        let after: Vec<String> = series(&telemetry.metrics).into_keys().collect();
        prop_assert_eq!(before, after);
    }

    #[test]
    fn close_codes_make_few_series(closes in prop::collection::vec(any_close(), 300)) {
        let telemetry = Telemetry::new(&config());
        for client_close in closes {
            telemetry.connection_recorded(SessionRecord { client_close, ..record() });
        }
        let of_clients = series(&telemetry.metrics)
            .into_keys()
            .filter(|name| name.starts_with(r#"framegate_closes_total{by="client""#))
            .filter(|name| name.contains(r#"route="/a/{id}""#))
            .count();
        prop_assert!(of_clients <= telemetry.metrics.close_codes.count());
        prop_assert!(telemetry.metrics.close_codes.count() < 30);
    }
}
