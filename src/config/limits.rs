//! `[limits]` and what routes override of it. Pure.

use super::reader::{Node, Table};
use super::suggest::{did_you_mean, nearest};
use super::units;
use crate::protocol::ws::violation::MessageLimits;

/// Limits that belong to the process and cannot be set per route.
#[derive(Debug, Clone)]
pub struct ProcessLimits {
    /// Client connections at most.
    pub(crate) connections: usize,
    /// Connections of one address (IPv6: one /64) at most; 0: unlimited.
    pub(crate) connections_per_address: u32,
    /// New connections of one address; `None`: unlimited (`rate = "0/s"`).
    pub handshakes_per_address: Option<Rate>,
    /// Bytes all sessions together may hold for slow readers.
    pub(crate) pending_bytes: u64,
}

/// Limits that a route can override.
#[derive(Debug, Clone)]
pub(crate) struct RouteLimits {
    /// Sessions of one user at most; 0: unlimited.
    pub(crate) connections_per_user: u32,
    /// What is counted together.
    pub(crate) user_scope: UserScope,
    /// What happens to one session too many.
    pub(crate) when_user_full: WhenUserFull,
    /// Bytes of an assembled message from the client.
    pub(crate) message_size: u64,
    /// Bytes of an assembled message from the upstream.
    pub(crate) upstream_message_size: u64,
    /// Frames per message.
    pub(crate) fragments: u32,
    /// Frames of any kind from the client; `None`: unlimited (`rate = "0/s"`).
    pub(crate) messages: Option<MessageRate>,
    /// Text must be UTF-8.
    pub(crate) text_utf8: bool,
}

impl RouteLimits {
    /// What the words of a violation name.
    pub(crate) fn of_messages(&self) -> MessageLimits {
        MessageLimits {
            message_size: self.message_size,
            upstream_message_size: self.upstream_message_size,
            fragments: self.fragments,
        }
    }
}

/// What the sessions of a user are counted by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum UserScope {
    /// Per user and route.
    Route,
    /// Per user.
    All,
    /// Per user and value of this path parameter (`path.chat_id`).
    Path(String),
}

/// What happens when a user has all sessions allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WhenUserFull {
    /// The user's oldest session ends with `replaced`.
    EvictOldest,
    /// The new one is refused with `user_limit`.
    Refuse,
}

/// A token bucket: `burst` tokens, refilled at `per_second`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Tokens per second, > 0.
    pub per_second: f64,
    /// Capacity, at least 1.
    pub burst: u32,
}

/// Message rate from the client and what follows when it is exceeded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct MessageRate {
    /// Allowed frames.
    pub(crate) rate: Rate,
    /// What follows.
    pub(crate) over: OverRate,
}

/// What follows when a client sends too fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OverRate {
    /// Its socket is not read until it may send again.
    Pause,
    /// The session ends with `message_rate`.
    Close,
}

impl ProcessLimits {
    /// Reads what of `[limits]` belongs to the process.
    pub(super) fn read(table: &mut Table<'_, '_>) -> Self {
        Self {
            connections: table.number("connections", 1..=MOST_CONNECTIONS, 10_000),
            connections_per_address: table.number("connections_per_address", 0..=u32::MAX, 256),
            handshakes_per_address: table.section("handshakes_per_address", |table| {
                let per_second = read_rate(table, 20.0);
                bucket(per_second, table.number("burst", 1..=u32::MAX, 100))
            }),
            pending_bytes: table.size("pending_bytes", 256 * MIB),
        }
    }

    /// Reports those keys of it that stand in a route's limits.
    pub(super) fn reject(table: &mut Table<'_, '_>) {
        table.reject(
            &["connections", "connections_per_address", "handshakes_per_address", "pending_bytes"],
            "belongs to the whole process: it can only be set in [limits]",
        );
    }
}

/// Limits of routes, and the parts of `messages` even where they are unlimited: a route may
/// override the rate alone.
#[derive(Debug, Clone)]
pub(super) struct RouteDefaults {
    pub(super) limits: RouteLimits,
    per_second: f64,
    burst: u32,
    over: OverRate,
}

impl Default for RouteDefaults {
    fn default() -> Self {
        let limits = RouteLimits {
            connections_per_user: 10,
            user_scope: UserScope::Route,
            when_user_full: WhenUserFull::EvictOldest,
            message_size: MIB,
            upstream_message_size: 16 * MIB,
            fragments: 65536,
            messages: None,
            text_utf8: true,
        };
        Self { limits, per_second: 100.0, burst: 200, over: OverRate::Pause }
    }
}

impl RouteDefaults {
    /// Reads the limits a route can have; what is not typed is taken from `self`.
    pub(super) fn read(&self, table: &mut Table<'_, '_>) -> Self {
        let (per_second, burst, over) = table.section("messages", |table| {
            let choices = [("pause", OverRate::Pause), ("close", OverRate::Close)];
            let per_second = read_rate(table, self.per_second);
            let burst = table.number("burst", 1..=u32::MAX, self.burst);
            (per_second, burst, table.choice("over", &choices, self.over))
        });
        let user_full =
            [("evict_oldest", WhenUserFull::EvictOldest), ("refuse", WhenUserFull::Refuse)];
        let base = &self.limits;
        let limits = RouteLimits {
            connections_per_user: table.number(
                "connections_per_user",
                0..=u32::MAX,
                base.connections_per_user,
            ),
            user_scope: table
                .take("user_scope")
                .and_then(|node| user_scope(&node))
                .unwrap_or_else(|| base.user_scope.clone()),
            when_user_full: table.choice("when_user_full", &user_full, base.when_user_full),
            message_size: table.size("message_size", base.message_size),
            upstream_message_size: table.size("upstream_message_size", base.upstream_message_size),
            fragments: table.number("fragments", 1..=u32::MAX, base.fragments),
            messages: bucket(per_second, burst).map(|rate| MessageRate { rate, over }),
            text_utf8: table.boolean("text_utf8", base.text_utf8),
        };
        Self { limits, per_second, burst, over }
    }
}

fn user_scope(node: &Node<'_, '_>) -> Option<UserScope> {
    let text = node.text()?;
    match text.strip_prefix("path.") {
        Some(name) if !name.is_empty() => Some(UserScope::Path(name.to_owned())),
        _ if text == "route" => Some(UserScope::Route),
        _ if text == "all" => Some(UserScope::All),
        _ => {
            let near = did_you_mean(nearest(text, ["route", "all", "path.NAME"]));
            node.problem(format_args!("must be \"route\", \"all\" or \"path.NAME\"{near}"));
            None
        }
    }
}

fn read_rate(table: &mut Table<'_, '_>, default: f64) -> f64 {
    table.take("rate").and_then(|node| node.parse(units::rate)).unwrap_or(default)
}

fn bucket(per_second: f64, burst: u32) -> Option<Rate> {
    (per_second > 0.0).then_some(Rate { per_second, burst })
}

const MIB: u64 = 1 << 20;

/// More than any machine has descriptors for, and far below what semaphores can count.
const MOST_CONNECTIONS: usize = 10_000_000;
