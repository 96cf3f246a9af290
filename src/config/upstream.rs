//! `[upstreams.NAME]`: groups of equivalent endpoints. Pure.

use std::path::PathBuf;
use std::time::Duration;

use super::endpoint;
use super::reader::{Node, Table};

/// A group of equivalent endpoints (`[upstreams.NAME]`).
#[derive(Debug, Clone)]
pub(crate) struct Upstream {
    pub(crate) name: String,
    /// Never empty.
    pub(crate) endpoints: Vec<Endpoint>,
    /// How an endpoint is picked.
    pub(crate) balance: BalancePolicy,
    /// Limit for name resolution and TCP (and TLS) connection.
    pub(crate) connect_timeout: Duration,
    /// Limit for the answer to the upgrade request.
    pub(crate) handshake_timeout: Duration,
    /// Further endpoints tried when connecting failed.
    pub(crate) retries: u32,
    /// Health checks; `None` when `health.interval` is 0.
    pub(crate) health: Option<Health>,
    /// PEM file of authorities for `https` endpoints; `None`: the system's.
    pub(crate) ca: Option<PathBuf>,
}

/// An upstream of one configuration: its place among the `[upstreams]`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct UpstreamId(usize);

/// An endpoint of one configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct EndpointId {
    /// Whose it is.
    pub(crate) upstream: UpstreamId,
    /// Its place among the upstream's endpoints, counted from 0.
    pub(crate) index: usize,
}

impl UpstreamId {
    /// The upstream at this place, counted from 0.
    pub(crate) fn new(index: usize) -> Self {
        Self(index)
    }

    /// Its place, counted from 0.
    pub(crate) fn index(self) -> usize {
        self.0
    }

    /// The endpoint at this place, counted from 0.
    pub(crate) fn endpoint(self, index: usize) -> EndpointId {
        EndpointId { upstream: self, index }
    }
}

/// One address of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// As typed: the `endpoint` label of metrics.
    pub(crate) label: String,
    /// How it is reached.
    pub(crate) target: Target,
}

/// How an endpoint is reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    /// `http://host:port` (port 80 if left out); `host` without brackets for IPv6.
    Http {
        /** name or address */
        host: String,
        /** TCP port */
        port: u16,
    },
    /// `https://host:port` (port 443 if left out).
    Https {
        /** name or address */
        host: String,
        /** TCP port */
        port: u16,
    },
    /// `unix:/path`
    Unix(PathBuf),
}

/// How an endpoint is picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BalancePolicy {
    /// In turn.
    RoundRobin,
    /// The one with the fewest open sessions.
    LeastSessions,
}

/// Active health checks: a TCP connection is opened and closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Health {
    /// Time between checks.
    pub(crate) interval: Duration,
    /// Limit for one check.
    pub(crate) timeout: Duration,
    /// Failures in a row that make an endpoint unhealthy; one success makes it healthy.
    pub(crate) fall: u32,
}

impl Upstream {
    /// Reads `[upstreams.NAME]`; faults are reported and leave gaps.
    pub(super) fn read(table: &mut Table<'_, '_>, name: &str) -> Self {
        let seconds = Duration::from_secs;
        let mut endpoints: Vec<Endpoint> = Vec::new();
        table.required_list("endpoints", "such as [\"http://127.0.0.1:9001\"]", |node| {
            let endpoint = Endpoint::read(&node)?;
            if endpoints.iter().any(|other| other.target == endpoint.target) {
                node.problem("is there twice");
            }
            endpoints.push(endpoint);
            Some(())
        });
        Self {
            name: name.to_owned(),
            endpoints,
            balance: read_balance(table),
            connect_timeout: table.deadline("connect_timeout", seconds(3)),
            handshake_timeout: table.deadline("handshake_timeout", seconds(10)),
            retries: table.number("retries", 0..=100, 1),
            health: table.section("health", Health::read),
            ca: table.file("ca"),
        }
    }
}

impl Endpoint {
    fn read(node: &Node<'_, '_>) -> Option<Self> {
        let target = match node.parse(endpoint::target)? {
            Target::Unix(path) => Target::Unix(node.in_folder(path)),
            other => other,
        };
        Some(Self { label: node.text()?.to_owned(), target })
    }
}

impl Health {
    fn read(table: &mut Table<'_, '_>) -> Option<Self> {
        let interval = table.interval("interval", Duration::from_secs(5));
        let timeout = table.deadline("timeout", Duration::from_secs(2));
        table.choice("probe", &[("tcp", ())], ());
        let fall = table.number("fall", 1..=1000, 3);
        Some(Self { interval: interval?, timeout, fall })
    }
}

fn read_balance(table: &mut Table<'_, '_>) -> BalancePolicy {
    let Some(node) = table.take("balance") else { return BalancePolicy::LeastSessions };
    if node.value().as_str() == Some("hash") {
        node.problem("\"hash\" is not supported yet");
        return BalancePolicy::LeastSessions;
    }
    let choices = [
        ("least_sessions", BalancePolicy::LeastSessions),
        ("round_robin", BalancePolicy::RoundRobin),
    ];
    node.choice(&choices).unwrap_or(BalancePolicy::LeastSessions)
}
