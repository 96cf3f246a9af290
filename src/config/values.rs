//! Typed values of a table: each with its key, its default and its range in one line. Pure.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use toml::de::DeValue;

use super::reader::{Node, Table};
use super::units;

impl<'r, 'i> Table<'r, 'i> {
    /// True or false.
    pub(super) fn boolean(&mut self, key: &'static str, default: bool) -> bool {
        let node = self.take(key);
        node.and_then(|node| {
            let value = node.value().as_bool();
            if value.is_none() {
                node.wrong_type("true or false");
            }
            value
        })
        .unwrap_or(default)
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&str, T)],
        default: T,
    ) -> T {
        self.take(key).and_then(|node| node.choice(choices)).unwrap_or(default)
    }

    /// A whole number within a range.
    pub(super) fn number<T>(&mut self, key: &'static str, range: RangeInclusive<T>, default: T) -> T
    where
        T: Copy + PartialOrd + Display + TryFrom<i64>,
    {
        self.take(key).and_then(|node| node.number(range)).unwrap_or(default)
    }

    /// A size in bytes, at least one.
    pub(super) fn size(&mut self, key: &'static str, default: u64) -> u64 {
        self.take(key).and_then(|node| node.size()).unwrap_or(default)
    }

    /// A duration that may be zero.
    pub(super) fn duration(&mut self, key: &'static str, default: Duration) -> Duration {
        self.take(key).and_then(|node| node.duration()).unwrap_or(default)
    }

    /// A deadline: a duration that must not be zero.
    pub(super) fn deadline(&mut self, key: &'static str, default: Duration) -> Duration {
        let Some(node) = self.take(key) else { return default };
        let duration = node.duration().unwrap_or(default);
        if duration.is_zero() {
            node.problem("must be longer than 0");
        }
        duration
    }

    /// A duration of which zero says "never".
    pub(super) fn interval(&mut self, key: &'static str, default: Duration) -> Option<Duration> {
        Some(self.duration(key, default)).filter(|duration| !duration.is_zero())
    }

    /// A file that need not be named; the empty name is none.
    pub(super) fn file(&mut self, key: &'static str) -> Option<PathBuf> {
        let node = self.take(key)?;
        if node.text()?.is_empty() { None } else { node.file() }
    }

    /// An array; absent: empty.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        read: impl FnMut(Node<'r, 'i>) -> Option<T>,
    ) -> Vec<T> {
        let items = self.take(key).and_then(|node| node.items("an array"));
        items.unwrap_or_default().into_iter().filter_map(read).collect()
    }

    /// An array that must be there and not be empty.
    pub(super) fn required_list<T>(
        &mut self,
        key: &'static str,
        hint: &str,
        read: impl FnMut(Node<'r, 'i>) -> Option<T>,
    ) -> Vec<T> {
        let items = self.required(key, hint).and_then(|node| node.items("an array"));
        if items.as_ref().is_some_and(Vec::is_empty) {
            self.problem(key, format_args!("must not be empty: {hint}"));
        }
        items.unwrap_or_default().into_iter().filter_map(read).collect()
    }

    /// An array of which no two elements may be the same.
    pub(super) fn set<T: PartialEq>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&Node<'r, 'i>) -> Option<T>,
    ) -> Vec<T> {
        let mut seen = Vec::new();
        let items = self.take(key).and_then(|node| node.items("an array"));
        for node in items.unwrap_or_default() {
            let Some(value) = read(&node) else { continue };
            if seen.contains(&value) {
                node.problem("is there twice");
            } else {
                seen.push(value);
            }
        }
        seen
    }
}

impl Node<'_, '_> {
    /// A whole number within a range.
    pub(super) fn number<T>(&self, range: RangeInclusive<T>) -> Option<T>
    where
        T: Copy + PartialOrd + Display + TryFrom<i64>,
    {
        let number = T::try_from(self.integer()?).ok().filter(|number| range.contains(number));
        if number.is_none() {
            let (least, most) = range.into_inner();
            self.problem(format_args!("must be a whole number from {least} to {most}"));
        }
        number
    }

    /// A duration; a bare 0 is one.
    fn duration(&self) -> Option<Duration> {
        match self.value() {
            DeValue::Integer(number) => self.parse_as(number.as_str(), units::duration),
            _ => self.parse(units::duration),
        }
    }

    /// A moment: RFC 3339 in a string, or TOML's own date with time.
    pub(super) fn moment(&self) -> Option<Timestamp> {
        let text = match self.value() {
            DeValue::Datetime(datetime) => datetime.to_string(),
            DeValue::String(text) => text.to_string(),
            _ => {
                self.wrong_type("a time such as \"2026-12-01T00:00:00Z\"");
                return None;
            }
        };
        let moment = text.parse().ok();
        if moment.is_none() {
            self.problem(
                "must be a date and a time with its offset from UTC, such as \
                 \"2026-12-01T00:00:00Z\"",
            );
        }
        moment
    }

    /// A size, at least one byte.
    fn size(&self) -> Option<u64> {
        let size = match self.value() {
            DeValue::Integer(number) if number.radix() == 10 => {
                self.parse_as(number.as_str(), units::size)
            }
            _ => self.parse(units::size),
        };
        if size == Some(0) {
            self.problem("must be at least 1 byte");
        }
        size
    }

    fn parse_as<T, E: Display>(
        &self,
        text: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        parse(text).map_err(|error| self.problem(error)).ok()
    }

    /// Any value JSON has too: what a claim can be compared with.
    pub(super) fn json(&self) -> Option<Value> {
        let value = json(self.value());
        if value.is_none() {
            self.problem("cannot stand in a token: JSON has neither dates, infinities nor numbers over 64 bits");
        }
        value
    }
}

fn json(value: &DeValue<'_>) -> Option<Value> {
    Some(match value {
        DeValue::String(text) => Value::from(text.as_ref()),
        DeValue::Integer(number) => {
            Value::from(i64::from_str_radix(number.as_str(), number.radix()).ok()?)
        }
        DeValue::Float(number) => {
            Value::from(number.as_str().parse::<f64>().ok().filter(|number| number.is_finite())?)
        }
        DeValue::Boolean(value) => Value::from(*value),
        DeValue::Datetime(_) => return None,
        DeValue::Array(items) => {
            items.iter().map(|item| json(item.get_ref())).collect::<Option<Vec<_>>>()?.into()
        }
        DeValue::Table(table) => Value::Object(
            table
                .iter()
                .map(|(key, value)| Some((key.get_ref().to_string(), json(value.get_ref())?)))
                .collect::<Option<_>>()?,
        ),
    })
}
