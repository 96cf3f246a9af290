//! Whole lines in both forms.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::outcome::blame::{By, Phase};
use crate::outcome::label::Label;
use crate::protocol::ws::close::CloseStatus;
use crate::session::record::{Facts, Refused};
use crate::telemetry::testing::{record, record_with};

fn now() -> Timestamp {
    "2026-11-21T07:41:02.123456Z".parse().unwrap()
}

/// A browser's bad token, told by Close, through a proxy.
fn refused() -> SessionRecord {
    SessionRecord {
        outcome: Outcome::Refused(Refused { label: Label::TokenExpired, status: 101 }),
        by: By::Gateway,
        phase: Phase::Admission,
        client_close: CloseStatus::Code(4401),
        upstream_close: CloseStatus::None,
        detail: Some("the token has expired".into()),
        steps: Steps { accept: None, tls: None, request: None, ..record().steps }.until_admission(),
        ..record_with(|facts| {
            facts.via = Some("10.0.0.1:999".parse().unwrap());
            (facts.user, facts.subprotocol, facts.endpoint) = (None, None, None);
        })
    }
}

/// Nobody said anything after TLS.
fn silent() -> SessionRecord {
    SessionRecord {
        facts: Arc::new(Facts {
            route: None,
            host: None,
            path: None,
            origin: None,
            ..(*refused().facts).clone()
        }),
        phase: Phase::Request,
        outcome: Outcome::NoRequest("timeout"),
        client_close: CloseStatus::None,
        cut_frame: true,
        steps: Steps::default(),
        ..refused()
    }
}

trait UntilAdmission {
    fn until_admission(self) -> Self;
}

impl UntilAdmission for Steps {
    fn until_admission(self) -> Self {
        Self { upstream_connect: None, upstream_handshake: None, relay: None, ..self }
    }
}

#[test]
fn text_lines_say_the_most_important_first() {
    let table = [
        (
            record(),
            "2026-11-21T07:41:02.123Z INFO  access id=00000000000000ab client=192.0.2.7:4711 \
             route=/a/{id} outcome=accepted status=101 label=client_closed by=client phase=relay \
             client_close=1000 upstream_close=1000 messages_to_upstream=3 messages_to_client=7 \
             bytes_to_upstream=42 bytes_to_client=900 accept_ms=0.012 tls_ms=1.500 \
             request_ms=0.800 admission_ms=0.250 upstream_connect_ms=0.400 \
             upstream_handshake_ms=2.000 relay_ms=61000.000 listener=127.0.0.1:8080 \
             host=chat.example.com path=/a/1 origin=https://chat.example.com user=u-17 \
             subprotocol=chat.v1 endpoint=http://127.0.0.1:9001",
        ),
        (
            refused(),
            "2026-11-21T07:41:02.123Z INFO  access id=00000000000000ab client=192.0.2.7:4711 \
             route=/a/{id} outcome=refused status=101 label=token_expired by=gateway \
             phase=admission client_close=4401 upstream_close=none admission_ms=0.250 \
             listener=127.0.0.1:8080 via=10.0.0.1:999 host=chat.example.com path=/a/1 \
             origin=https://chat.example.com detail=\"the token has expired\"",
        ),
        (
            silent(),
            "2026-11-21T07:41:02.123Z INFO  access id=00000000000000ab client=192.0.2.7:4711 \
             outcome=no_request by=gateway phase=request client_close=none upstream_close=none \
             cut_frame=true listener=127.0.0.1:8080 via=10.0.0.1:999 \
             detail=\"timeout: the token has expired\"",
        ),
    ];
    for (record, expected) in table {
        assert_eq!(line(&record, LogFormat::Text, now()), expected);
    }
}

#[test]
fn json_lines_are_flat_objects_of_the_same_fields() {
    let table = [
        (
            record(),
            concat!(
                r#"{"time":"2026-11-21T07:41:02.123Z","level":"INFO","type":"access","#,
                r#""id":"00000000000000ab","client":"192.0.2.7:4711","route":"/a/{id}","#,
                r#""outcome":"accepted","status":101,"label":"client_closed","by":"client","#,
                r#""phase":"relay","client_close":"1000","upstream_close":"1000","#,
                r#""cut_frame":false,"messages_to_upstream":3,"messages_to_client":7,"#,
                r#""bytes_to_upstream":42,"bytes_to_client":900,"accept_ms":0.012,"#,
                r#""tls_ms":1.500,"request_ms":0.800,"admission_ms":0.250,"#,
                r#""upstream_connect_ms":0.400,"upstream_handshake_ms":2.000,"#,
                r#""relay_ms":61000.000,"listener":"127.0.0.1:8080","#,
                r#""host":"chat.example.com","path":"/a/1","#,
                r#""origin":"https://chat.example.com","user":"u-17","#,
                r#""subprotocol":"chat.v1","endpoint":"http://127.0.0.1:9001"}"#,
            ),
        ),
        (
            refused(),
            concat!(
                r#"{"time":"2026-11-21T07:41:02.123Z","level":"INFO","type":"access","#,
                r#""id":"00000000000000ab","client":"192.0.2.7:4711","route":"/a/{id}","#,
                r#""outcome":"refused","status":101,"label":"token_expired","by":"gateway","#,
                r#""phase":"admission","client_close":"4401","upstream_close":"none","#,
                r#""cut_frame":false,"admission_ms":0.250,"listener":"127.0.0.1:8080","#,
                r#""via":"10.0.0.1:999","host":"chat.example.com","path":"/a/1","#,
                r#""origin":"https://chat.example.com","detail":"the token has expired"}"#,
            ),
        ),
    ];
    for (record, expected) in table {
        assert_eq!(line(&record, LogFormat::Json, now()), expected);
    }
}

#[test]
fn an_abandoned_handshake_has_no_status_and_no_label() {
    let record = SessionRecord { outcome: Outcome::Abandoned, ..record() };
    let line = line(&record, LogFormat::Text, now());
    assert!(line.contains(" outcome=abandoned by=client "), "{line}");
}

#[test]
fn a_query_never_reaches_a_line() {
    let record = record_with(|facts| facts.path = Some("/a?access_token=hunter2".into()));
    for format in [LogFormat::Text, LogFormat::Json] {
        let line = line(&record, format, now());
        assert!(!line.contains("hunter2"), "{line}");
    }
}

#[test]
fn long_peer_text_is_cut_between_characters() {
    let record = record_with(|facts| facts.path = Some(format!("/{}", "ä".repeat(9000))));
    let line = line(&record, LogFormat::Text, now());
    assert!(line.contains(&format!(" path=/{}… ", "ä".repeat(511))), "{line}");
}

proptest! {
    #[test]
    fn no_peer_text_breaks_a_line(text in any::<String>(), detail in any::<Option<String>>()) {
        let strange = record_with(|facts| {
            facts.host = Some(text.clone());
            facts.path = Some(text.clone());
            facts.origin = Some(text.clone());
            facts.user = Some(text.as_str().into());
            facts.subprotocol = Some(text.clone());
        });
        let record = SessionRecord { detail, ..strange };
        let shown = line(&record, LogFormat::Text, now());
        prop_assert!(!shown.contains(|c: char| c.is_control()));

        let json = line(&record, LogFormat::Json, now());
        prop_assert!(!json.contains('\n'));
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(read["host"].as_str(), Some(text.as_str()));
        prop_assert_eq!(read["user"].as_str(), Some(text.as_str()));
        prop_assert!(read.as_object().unwrap().values().all(|v| !v.is_object() && !v.is_array()));
    }
}
