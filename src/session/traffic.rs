//! Messages and bytes of a session, counted where they pass and read by whoever asks. No I/O.
//!
//! Each counter has one writer, the session's task, so a relaxed load and store is enough and no
//! message pays for a locked instruction. Readers (a scrape, the admin API) see a recent value.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::protocol::ws::message::MessageKind;

/// Which way a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Client to upstream.
    ToUpstream,
    /// Upstream to client.
    ToClient,
}

impl Direction {
    /// Both, in the order of [`TrafficCounts`].
    pub(crate) const ALL: [Self; 2] = [Self::ToUpstream, Self::ToClient];

    /// The metric label.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::ToUpstream => "to_upstream",
            Self::ToClient => "to_client",
        }
    }
}

/// Counts of one direction at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    /// By [`MessageKind`], in the order of [`MessageKind::ALL`].
    pub(crate) messages: [u64; 4],
    /// Payload bytes of all frames.
    pub(crate) bytes: u64,
}

impl Counts {
    /// Text and binary messages.
    pub(crate) fn data_messages(&self) -> u64 {
        self.messages[0] + self.messages[1]
    }
}

/// Counts of both directions at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct TrafficCounts {
    /// Client to upstream.
    pub(crate) to_upstream: Counts,
    /// Upstream to client.
    pub(crate) to_client: Counts,
}

#[derive(Debug, Default)]
struct Counter(AtomicU64);

impl Counter {
    fn add(&self, amount: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }
}

/// The counters of one direction.
#[derive(Debug, Default)]
pub(crate) struct DirectionTraffic {
    messages: [Counter; 4],
    bytes: Counter,
}

impl DirectionTraffic {
    /// A whole message passed.
    pub(crate) fn message(&self, kind: MessageKind) {
        self.messages[kind as usize].add(1);
    }

    /// Payload bytes passed.
    pub(crate) fn bytes(&self, amount: u64) {
        self.bytes.add(amount);
    }

    fn counts(&self) -> Counts {
        Counts {
            messages: std::array::from_fn(|i| self.messages[i].0.load(Ordering::Relaxed)),
            bytes: self.bytes.0.load(Ordering::Relaxed),
        }
    }
}

/// The counters of a session, and how much of them the metrics already hold.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    /// Client to upstream.
    pub(crate) to_upstream: DirectionTraffic,
    /// Upstream to client.
    pub(crate) to_client: DirectionTraffic,
    reported: Mutex<TrafficCounts>,
}

impl Traffic {
    /// What has passed so far.
    pub(crate) fn counts(&self) -> TrafficCounts {
        TrafficCounts { to_upstream: self.to_upstream.counts(), to_client: self.to_client.counts() }
    }

    /// What has passed since the last call: each message is returned once, whoever asks.
    pub(crate) fn take_unreported(&self) -> TrafficCounts {
        let mut reported = self.reported.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let now = self.counts();
        let since = |new: &Counts, old: &Counts| Counts {
            messages: std::array::from_fn(|i| new.messages[i].wrapping_sub(old.messages[i])),
            bytes: new.bytes.wrapping_sub(old.bytes),
        };
        let delta = TrafficCounts {
            to_upstream: since(&now.to_upstream, &reported.to_upstream),
            to_client: since(&now.to_client, &reported.to_client),
        };
        *reported = now;
        delta
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_is_reported_once() {
        let traffic = Traffic::default();
        traffic.to_upstream.message(MessageKind::Text);
        traffic.to_upstream.bytes(5);
        assert_eq!(
            traffic.take_unreported().to_upstream,
            Counts { messages: [1, 0, 0, 0], bytes: 5 }
        );
        traffic.to_client.message(MessageKind::Pong);
        let second = traffic.take_unreported();
        assert_eq!(second.to_upstream, Counts::default());
        assert_eq!(second.to_client.messages, [0, 0, 0, 1]);
        assert_eq!(traffic.counts().to_upstream.data_messages(), 1);
    }
}
