//! What events become, and which ones are let through.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use super::*;
use crate::config::LogFormat;

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What `say` logs, line by line, each without its time.
fn logged(log: &Log, colour: Colour, say: impl FnOnce()) -> Vec<String> {
    let captured = Captured::default();
    let writer = captured.clone();
    let (subscriber, _) = subscriber(log, colour, move || writer.clone());
    tracing::subscriber::with_default(subscriber, say);
    let bytes = captured.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap().lines().map(without_time).collect()
}

fn without_time(line: &str) -> String {
    line.split_whitespace()
        .next()
        .filter(|first| first.parse::<jiff::Timestamp>().is_ok())
        .and_then(|time| line.strip_prefix(time))
        .unwrap_or(line)
        .trim_start()
        .to_owned()
}

fn text(level: LogLevel) -> Log {
    Log { format: LogFormat::Text, level, access: true }
}

fn json() -> Log {
    Log { format: LogFormat::Json, ..text(LogLevel::Info) }
}

#[test]
fn text_lines_are_escaped_whoever_wrote_the_value() {
    let lines = logged(&text(LogLevel::Info), Colour::None, || {
        tracing::warn!(path = "/a\nb", error = %"no\u{202e}pe", count = 3, "it went \u{1b}[31mwrong");
    });
    assert_eq!(lines, [r#"WARN  it went \u{1b}[31mwrong path="/a\nb" error=no\u{202e}pe count=3"#]);
}

#[test]
fn only_a_terminal_gets_colours() {
    let say = || tracing::error!("x");
    let lines = logged(&text(LogLevel::Info), Colour::Ansi, say);
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    assert!(line.starts_with("\u{1b}[2m20"), "{line}");
    assert!(line.ends_with("Z\u{1b}[0m \u{1b}[31mERROR\u{1b}[0m x"), "{line}");
    let is = |terminal, no_color: &str, term: &str| {
        Colour::of(terminal, no_color.as_ref(), term.as_ref())
    };
    assert_eq!(is(true, "", "xterm"), Colour::Ansi);
    for (terminal, no_color, term) in
        [(false, "", "xterm"), (true, "1", "xterm"), (true, "", "dumb"), (false, "1", "")]
    {
        assert_eq!(is(terminal, no_color, term), Colour::None, "{terminal} {no_color} {term}");
    }
}

/// What a terminal shows, which knows these codes.
fn shown(line: &str) -> String {
    let mut parts = line.split('\u{1b}');
    let first = parts.next().unwrap().to_owned();
    parts.fold(first, |shown, part| shown + part.split_once('m').unwrap().1)
}

#[test]
fn on_a_terminal_fields_stand_in_a_column_and_lose_nothing() {
    let quoted = r#"x y=z "q" \"#;
    let say = || {
        tracing::warn!(path = quoted, n = 1, "short");
        tracing::warn!(n = 2, "a sentence that is longer than the column");
        tracing::info!(target: ACCESS, "2026-11-21T07:41:02.123Z INFO  access id=ab path=\"a b=c\"");
    };
    let plain = logged(&text(LogLevel::Info), Colour::None, say);
    let lines = logged(&text(LogLevel::Info), Colour::Ansi, say);
    let squeezed = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    for (line, plain) in lines.iter().zip(&plain) {
        assert!(squeezed(&shown(line)).ends_with(&squeezed(plain)), "{line}");
    }
    let column = |line: &str| shown(line).find("=").unwrap() - "n".len();
    assert_eq!(shown(&lines[0]).find(" path="), shown(&lines[2]).find(" id="));
    assert!(column(&lines[1]) > column(&lines[0]));
    assert!(lines[0].contains("\u{1b}[2mpath=\u{1b}[0m\"x y=z"), "{}", lines[0]);
    assert_eq!(lines[0].matches("\u{1b}[2m").count(), 3, "time and two names: {}", lines[0]);
}

#[test]
fn json_lines_are_objects_with_fixed_and_own_members() {
    let lines = logged(&json(), Colour::None, || {
        let span = tracing::info_span!("session", id = "ab", route = tracing::field::Empty);
        span.record("route", "/a");
        let _inside = span.enter();
        tracing::info!(path = "/a\n\"", level = 7, ok = true, "it is {}", "so");
    });
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    assert!(line.starts_with(r#"{"time":""#), "{line}");
    let mut object: serde_json::Value = serde_json::from_str(line).unwrap();
    let time = object.as_object_mut().unwrap().remove("time").unwrap();
    assert!(time.as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    assert_eq!(
        object,
        serde_json::json!({
            "level": "INFO", "type": "log", "target": "framegate::telemetry::logging::tests",
            "message": "it is so", "path": "/a\n\"", "field_level": 7, "ok": true,
            "spans": [{ "name": "session", "id": "ab", "route": "/a" }],
        })
    );
}

#[test]
fn access_lines_pass_as_they_are_in_both_forms_and_at_any_level() {
    let line = r#"{"type":"access","path":"/\\u202e"}"#;
    for log in [text(LogLevel::Error), json()] {
        assert_eq!(logged(&log, Colour::None, || tracing::info!(target: ACCESS, "{line}")), [line]);
        let off = Log { access: false, ..log };
        assert!(logged(&off, Colour::None, || tracing::info!(target: ACCESS, "{line}")).is_empty());
    }
}

#[test]
fn the_level_is_the_gateways_and_libraries_only_warn() {
    let say = || {
        tracing::trace!(target: "framegate::relay", "own");
        tracing::info!(target: "hyper::proto", "library");
        tracing::warn!(target: "rustls", "library");
    };
    assert_eq!(
        logged(&text(LogLevel::Trace), Colour::None, say),
        ["TRACE own", "WARN  rustls: library"]
    );
    assert!(logged(&text(LogLevel::Error), Colour::None, say).is_empty());
}

#[test]
fn level_and_form_can_be_changed_while_it_logs() {
    let captured = Captured::default();
    let writer = captured.clone();
    let (subscriber, switch) =
        subscriber(&text(LogLevel::Info), Colour::None, move || writer.clone());
    tracing::subscriber::with_default(subscriber, || {
        let say = || tracing::debug!("it happened");
        say();
        switch.set(&text(LogLevel::Debug));
        say();
        switch.set(&Log { level: LogLevel::Debug, ..json() });
        say();
        switch.set(&json());
        say();
    });
    let bytes = captured.0.lock().unwrap().clone();
    let lines: Vec<String> = String::from_utf8(bytes).unwrap().lines().map(without_time).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(lines[0], "DEBUG it happened");
    assert!(lines[1].starts_with('{') && lines[1].contains("it happened"), "{lines:?}");
}
