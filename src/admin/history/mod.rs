//! An hour of the dashboard's numbers, in rings of fixed size. Pure.
//!
//! A [`Reading`] is kept every [`STEP`], shrunk to a [`Point`]; what happened in a step or in a longer
//! window is the difference between two readings, so a step that comes late only is a longer one. Latencies by stage are
//! kept once a minute: they are asked for by window only. Time is counted from the start of the process.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::{Value, json};

use crate::outcome::blame::By;
use crate::outcome::label::Label;
use crate::telemetry::reading::{
    Durations, ENDINGS, REFUSALS, Reading, STAGES, endings, refusals, who,
};

/// How often a reading is wanted.
pub(crate) const STEP: Duration = Duration::from_secs(5);

/// The columns of [`History::rows`], in order.
pub(crate) const COLUMNS: [&str; 16] = [
    "at_s",
    "step_s",
    "sessions",
    "connections",
    "accepted",
    "refused",
    "ended_by_client",
    "ended_by_upstream",
    "ended_by_gateway",
    "ended_by_admin",
    "messages_from_client",
    "messages_from_upstream",
    "bytes_from_client",
    "bytes_from_upstream",
    "p50_ms",
    "p99_ms",
];

/// The last hour.
#[derive(Debug)]
pub(crate) struct History {
    points: VecDeque<Point>,
    minutes: VecDeque<Minute>,
    /// Readings there have been.
    count: u64,
}

/// A reading as it is kept: what may wrap within an hour is counted in 64 bits, the rest in 32.
#[derive(Debug, Clone, Copy)]
struct Point {
    at: Duration,
    sessions: u32,
    connections: u32,
    accepted: u32,
    dropped: u32,
    unanswered: u32,
    refused: [u32; REFUSALS],
    ended: [u32; ENDINGS],
    messages: [u64; 2],
    bytes: [u64; 2],
    /// Of whole handshakes.
    total: Durations,
}

#[derive(Debug, Clone, Copy)]
struct Minute {
    at: Duration,
    stages: [Durations; STAGES],
}

/// What happened within a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Window {
    /// How long it really is: a young process has no longer one.
    pub(crate) length: Duration,
    /// The same of [`Self::stages`], which are kept less often.
    pub(crate) stages_length: Duration,
    /// Handshakes accepted.
    pub(crate) accepted: u64,
    /// Connections closed unanswered.
    pub(crate) dropped: u64,
    /// Connections that ended before they were answered.
    pub(crate) unanswered: u64,
    /// Handshakes refused, by [`refusals`].
    pub(crate) refused: [u32; REFUSALS],
    /// Sessions ended, by [`endings`].
    pub(crate) ended: [u32; ENDINGS],
    /// Messages from client and upstream.
    pub(crate) messages: [u64; 2],
    /// Bytes from client and upstream.
    pub(crate) bytes: [u64; 2],
    /// Durations of handshake stages.
    pub(crate) stages: [Durations; STAGES],
}

impl Default for History {
    /// Begins with the process, when nothing has been counted.
    fn default() -> Self {
        let mut history = Self { points: VecDeque::new(), minutes: VecDeque::new(), count: 0 };
        history.record(Duration::ZERO, &Reading::default());
        history
    }
}

impl History {
    /// Keeps what was read at `now`, and forgets what is older than an hour.
    pub(crate) fn record(&mut self, now: Duration, reading: &Reading) {
        push(&mut self.points, POINTS, Point::new(now, reading));
        self.count += 1;
        let is_due = self.minutes.back().is_none_or(|last| now >= last.at + MINUTE);
        if is_due {
            push(&mut self.minutes, MINUTES, Minute { at: now, stages: reading.stages });
        }
    }

    /// What to ask [`Self::rows`] for next time.
    pub(crate) fn next(&self) -> u64 {
        self.count
    }

    /// Steps from number `since` on, oldest first, each with [`COLUMNS`]. A number that is yet to come is one of
    /// another process, and gets all there is.
    pub(crate) fn rows(&self, since: u64) -> Vec<Value> {
        let since = if since > self.count { 0 } else { since };
        let first = self.count - self.points.len() as u64;
        let skipped = usize::try_from(since.saturating_sub(first)).unwrap_or(usize::MAX);
        let steps = self.points.iter().zip(self.points.iter().skip(1));
        // A step takes two readings, and has the number of the second.
        steps.skip(skipped.saturating_sub(1)).map(|(before, after)| after.row(before)).collect()
    }

    /// What happened within the last `length`, up to `reading` which is of `now`.
    pub(crate) fn window(&self, now: Duration, reading: &Reading, length: Duration) -> Window {
        let begin = now.saturating_sub(length);
        let before = latest(&self.points, |point| point.at, begin);
        let minute = latest(&self.minutes, |minute| minute.at, begin);
        let (Some(before), Some(minute)) = (before, minute) else {
            return Window::new(&Point::new(now, reading), &Point::new(now, reading));
        };
        let mut window = Window::new(before, &Point::new(now, reading));
        window.stages_length = now.saturating_sub(minute.at);
        window.stages = std::array::from_fn(|at| reading.stages[at].since(&minute.stages[at]));
        window
    }

    /// Bytes of memory it takes at most.
    #[cfg(test)]
    pub(crate) const fn most_bytes() -> usize {
        // A ring doubles while it grows: never past the next power of two.
        POINTS.next_power_of_two() * size_of::<Point>()
            + MINUTES.next_power_of_two() * size_of::<Minute>()
    }
}

impl Point {
    fn new(at: Duration, reading: &Reading) -> Self {
        Self {
            at,
            sessions: low(reading.sessions),
            connections: low(reading.connections),
            accepted: low(reading.accepted),
            dropped: low(reading.dropped),
            unanswered: low(reading.unanswered),
            refused: reading.refused.map(low),
            ended: reading.ended.map(low),
            messages: reading.messages,
            bytes: reading.bytes,
            total: reading.stages[STAGES - 1],
        }
    }

    fn row(&self, before: &Self) -> Value {
        let step = Window::new(before, self);
        let by = |who: By| json!(step.ended_by(who));
        let total = self.total.since(&before.total);
        let ms = |share| json!(total.quantile(share).map(milliseconds));
        Value::from(vec![
            json!(tenths(self.at)),
            json!(tenths(step.length)),
            json!(self.sessions),
            json!(self.connections),
            json!(step.accepted),
            json!(step.refused_in_all() + step.dropped),
            by(By::Client),
            by(By::Upstream),
            by(By::Gateway),
            by(By::Admin),
            json!(step.messages[0]),
            json!(step.messages[1]),
            json!(step.bytes[0]),
            json!(step.bytes[1]),
            ms(0.5),
            ms(0.99),
        ])
    }
}

impl Window {
    fn new(before: &Point, after: &Point) -> Self {
        let since = |after: u32, before: u32| u64::from(after.wrapping_sub(before));
        let both = |after: [u64; 2], before: [u64; 2]| {
            std::array::from_fn(|at| after[at].wrapping_sub(before[at]))
        };
        Self {
            length: after.at.saturating_sub(before.at),
            stages_length: Duration::ZERO,
            accepted: since(after.accepted, before.accepted),
            dropped: since(after.dropped, before.dropped),
            unanswered: since(after.unanswered, before.unanswered),
            refused: std::array::from_fn(|at| after.refused[at].wrapping_sub(before.refused[at])),
            ended: std::array::from_fn(|at| after.ended[at].wrapping_sub(before.ended[at])),
            messages: both(after.messages, before.messages),
            bytes: both(after.bytes, before.bytes),
            stages: [Durations::default(); STAGES],
        }
    }

    /// Handshakes refused for whatever reason.
    pub(crate) fn refused_in_all(&self) -> u64 {
        self.refused.iter().map(|&count| u64::from(count)).sum()
    }

    /// Sessions ended by one of the four.
    pub(crate) fn ended_by(&self, by: By) -> u64 {
        let of = endings().zip(self.ended).filter(|(label, _)| who(*label) == by);
        of.map(|(_, count)| u64::from(count)).sum()
    }

    /// The refusals that happened, by label.
    pub(crate) fn refused(&self) -> impl Iterator<Item = (Label, u32)> {
        refusals().zip(self.refused).filter(|(_, count)| *count > 0)
    }

    /// The endings that happened, by label.
    pub(crate) fn ended(&self) -> impl Iterator<Item = (Label, u32)> {
        endings().zip(self.ended).filter(|(_, count)| *count > 0)
    }
}

/// Milliseconds with three digits behind the point: what a page needs.
pub(crate) fn milliseconds(seconds: f64) -> f64 {
    (seconds * 1e6).round() / 1e3
}

/// Seconds with one digit behind the point.
pub(crate) fn tenths(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10.0).round() / 10.0
}

fn push<T>(ring: &mut VecDeque<T>, most: usize, item: T) {
    if ring.len() == most {
        ring.pop_front();
    }
    ring.push_back(item);
}

/// The last one that is not after `begin`; if all are, the first.
fn latest<T>(ring: &VecDeque<T>, at: impl Fn(&T) -> Duration, begin: Duration) -> Option<&T> {
    let after = ring.partition_point(|item| at(item) <= begin);
    ring.get(after.saturating_sub(1))
}

/// Counts are compared by wrapping subtraction: their low half is enough.
fn low(count: u64) -> u32 {
    (count & u64::from(u32::MAX)) as u32
}

/// Readings kept: an hour of steps takes one more.
const POINTS: usize = 721;
const MINUTES: usize = 61;
const MINUTE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
