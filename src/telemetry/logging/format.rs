//! How a diagnostic line looks, as text and as JSON. Knows tracing's types, does no I/O.
//!
//! Text: `2026-11-21T07:41:02.123Z WARN  sentence key=value`, before the sentence the target if it is not
//! our own code; every value and sentence is escaped, wherever it came from. On a terminal, fields begin in one
//! column where the sentence leaves room, and time and names step back behind what they name. JSON: one object with `time`, `level`, `type` = `log`, `target`,
//! `message`, the event's fields, and `spans` where there are any.

use std::ffi::OsStr;
use std::fmt::{self, Debug, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use super::ACCESS;
use crate::config::LogFormat;
use crate::telemetry::access_log::time;
use crate::telemetry::escape::{escape, quote};

/// Formats events.
#[derive(Debug)]
pub(super) struct Lines {
    pub(super) format: SharedFormat,
    pub(super) colour: Colour,
}

/// Whether levels are coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colour {
    /// On a terminal.
    Ansi,
    /// Everywhere else.
    None,
}

impl Colour {
    /// What the output and the environment want: <https://no-color.org>, and terminals that know no
    /// colours.
    pub(super) fn of(is_terminal: bool, no_color: &OsStr, term: &OsStr) -> Self {
        let wanted = is_terminal && no_color.is_empty() && term != "dumb";
        if wanted { Self::Ansi } else { Self::None }
    }
}

/// Formats the fields of spans, kept until the events inside need them.
#[derive(Debug)]
pub(super) struct SpanFields(pub(super) SharedFormat);

/// The form of lines, which may change. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct SharedFormat(Arc<AtomicBool>);

impl SharedFormat {
    pub(super) fn new(format: LogFormat) -> Self {
        let shared = Self(Arc::default());
        shared.set(format);
        shared
    }

    pub(super) fn set(&self, format: LogFormat) {
        self.0.store(format == LogFormat::Json, Ordering::Relaxed);
    }

    fn now(&self) -> LogFormat {
        if self.0.load(Ordering::Relaxed) { LogFormat::Json } else { LogFormat::Text }
    }
}

impl<S> FormatEvent<S, SpanFields> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, SpanFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        if event.metadata().target() == ACCESS {
            return self.access(&mut writer, &fields.message);
        }
        let mut spans = Vec::new();
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            let extensions = span.extensions();
            let shown = extensions.get::<FormattedFields<SpanFields>>();
            spans.push((span.name(), shown.map_or_else(String::new, |f| f.fields.clone())));
        }
        match self.format.now() {
            LogFormat::Text => self.text(&mut writer, event, &fields, &spans),
            LogFormat::Json => json(&mut writer, event, fields, &spans),
        }
    }
}

impl Lines {
    fn text(
        &self,
        writer: &mut Writer<'_>,
        event: &Event<'_>,
        fields: &Fields,
        spans: &[(&'static str, String)],
    ) -> fmt::Result {
        let level = event.metadata().level();
        let mut line = format!("{} {level:<5} ", time(Timestamp::now()));
        // Where in our own code an event stands says nothing to an operator; a library's name does.
        let target = event.metadata().target();
        if !target.starts_with(env!("CARGO_CRATE_NAME")) {
            write!(line, "{target}: ")?;
        }
        write!(line, "{}", escape(&fields.message))?;
        let sentence = line.len();
        write!(line, "{}", AsText(&fields.values))?;
        for (_, fields) in spans {
            write!(line, "{fields}")?;
        }
        match self.colour {
            Colour::Ansi => writeln!(writer, "{}", Coloured { line: &line, sentence }),
            Colour::None => writeln!(writer, "{line}"),
        }
    }

    /// An access-log line is as its own file makes it; on a terminal it gets colours.
    fn access(&self, writer: &mut Writer<'_>, line: &str) -> fmt::Result {
        match (self.colour, self.format.now(), line.find(" id=")) {
            (Colour::Ansi, LogFormat::Text, Some(sentence)) => {
                writeln!(writer, "{}", Coloured { line, sentence })
            }
            _ => writeln!(writer, "{line}"),
        }
    }
}

fn json(
    writer: &mut Writer<'_>,
    event: &Event<'_>,
    fields: Fields,
    spans: &[(&'static str, String)],
) -> fmt::Result {
    let text = |text: &str| Value::from(text);
    let mut members = vec![
        ("time".to_owned(), text(&time(Timestamp::now()))),
        ("level".to_owned(), text(event.metadata().level().as_str())),
        ("type".to_owned(), text("log")),
        ("target".to_owned(), text(event.metadata().target())),
        ("message".to_owned(), Value::from(fields.message)),
    ];
    let own = members.len();
    for (name, value) in fields.values {
        // A library's field may be called as one of ours; an object has each name once.
        let taken = members.iter().take(own).any(|(of, _)| of == name) || name == "spans";
        let name = if taken { format!("field_{name}") } else { name.to_owned() };
        members.push((name, value));
    }
    if !spans.is_empty() {
        members.push(("spans".to_owned(), spans.iter().map(span_object).collect()));
    }
    // Written member by member: a map would sort them, and `time` would not come first.
    for (index, (name, value)) in members.iter().enumerate() {
        let before = if index == 0 { '{' } else { ',' };
        write!(writer, "{before}{}:{value}", text(name))?;
    }
    writeln!(writer, "}}")
}

/// A span's name and its fields, which are kept as objects one after the other.
fn span_object((name, fields): &(&'static str, String)) -> Value {
    let mut object = Map::from_iter([("name".to_owned(), Value::from(*name))]);
    let parts = serde_json::Deserializer::from_str(fields).into_iter::<Map<String, Value>>();
    object.extend(parts.flatten().flatten());
    Value::Object(object)
}

impl<'w> FormatFields<'w> for SpanFields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut collected = Fields::default();
        fields.record(&mut collected);
        match self.0.now() {
            LogFormat::Text => write!(writer, "{}", AsText(&collected.values)),
            LogFormat::Json => {
                let values = collected.values.into_iter();
                let object: Map<_, _> = values.map(|(name, v)| (name.to_owned(), v)).collect();
                write!(writer, "{}", Value::Object(object))
            }
        }
    }
}

/// Values in the order they were recorded.
#[derive(Debug, Default)]
struct Fields {
    message: String,
    values: Vec<(&'static str, Value)>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            let _ = write!(self.message, "{value:?}");
        } else {
            self.values.push((field.name(), Value::from(format!("{value:?}"))));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
        } else {
            self.values.push((field.name(), Value::from(value)));
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.values.push((field.name(), Value::from(value)));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.values.push((field.name(), Value::from(value)));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.values.push((field.name(), Value::from(value)));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.values.push((field.name(), Value::from(value)));
    }
}

/// ` key=value` for each.
struct AsText<'a>(&'a [(&'static str, Value)]);

impl fmt::Display for AsText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in self.0 {
            match value {
                Value::String(text) => write!(f, " {name}={}", quote(text))?,
                other => write!(f, " {name}={other}")?,
            }
        }
        Ok(())
    }
}

/// A text line for a terminal: `line[..sentence]` is time, level and sentence, the rest is fields.
struct Coloured<'a> {
    line: &'a str,
    sentence: usize,
}

impl fmt::Display for Coloured<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (head, fields) = self.line.split_at(self.sentence);
        let (time, rest) = head.split_once(' ').unwrap_or(("", head));
        let (level, sentence) = rest.split_at_checked(LEVEL).unwrap_or((rest, ""));
        write!(f, "{DIM}{time}{OFF} {}{level}{OFF}", colour(level.trim_end()))?;
        if fields.is_empty() {
            return write!(f, "{sentence}");
        }
        write!(f, "{sentence:<COLUMN$}")?;
        // A blank outside quotes ends a value, and what follows up to `=` is the next name.
        let (mut is_quoted, mut is_escaped, mut is_name) = (false, false, false);
        for character in fields.chars() {
            match character {
                ' ' if !is_quoted => {
                    is_name = true;
                    write!(f, " {DIM}")?;
                    continue;
                }
                '=' if is_name => {
                    is_name = false;
                    write!(f, "={OFF}")?;
                    continue;
                }
                '"' if !is_escaped => is_quoted = !is_quoted,
                _ => {}
            }
            is_escaped = character == '\\' && !is_escaped;
            write!(f, "{character}")?;
        }
        Ok(())
    }
}

fn colour(level: &str) -> &'static str {
    match level {
        "ERROR" => "\x1b[31m",
        "WARN" => "\x1b[33m",
        "INFO" => "\x1b[32m",
        "DEBUG" => "\x1b[34m",
        _ => "\x1b[35m",
    }
}

/// Width of a level.
const LEVEL: usize = 5;
/// Where fields begin behind the level, if the sentence is not longer.
const COLUMN: usize = 34;
const DIM: &str = "\x1b[2m";
const OFF: &str = "\x1b[0m";
