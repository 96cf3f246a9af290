//! What the gateway has and how it is: readiness, endpoints, limits, certificates.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::time;
use crate::admin::health;
use crate::gateway::Gateway;
use crate::net::descriptors;
use crate::telemetry::reading::Reading;

/// How many files the process has open; counting them is not free, so it is not done for every answer.
#[derive(Debug, Default)]
pub(super) struct OpenFiles(Mutex<Option<(Instant, Option<u64>)>>);

/// Everything but counters and history.
pub(super) fn gather(
    gateway: &Gateway,
    reading: &Reading,
    open_files: &OpenFiles,
) -> Map<String, Value> {
    let unready: Vec<_> = gateway.unready().iter().map(ToString::to_string).collect();
    let facts = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "ready": unready.is_empty(),
        "unready": unready,
        "draining": gateway.process().is_draining(),
        "config": {
            "last_reload_successful": reading.last_reload_successful,
            "last_reload": Timestamp::from_second(reading.last_reload).map_or(Value::Null, time),
            "in_use": reading.configurations,
        },
        "listeners": listeners(gateway),
        "upstreams": health::upstreams(gateway, Instant::now()),
        "limits": limits(gateway, open_files),
        "certificates": health::certificates(gateway, SystemTime::now()),
    });
    match facts {
        Value::Object(facts) => facts,
        _ => Map::new(),
    }
}

fn listeners(gateway: &Gateway) -> Value {
    let listener = |listener: &std::sync::Arc<crate::listener::Listener>| json!({ "name": &*listener.label, "tls": listener.tls.is_some() });
    gateway.listeners().iter().map(listener).collect()
}

/// How much of each limit is used; a limit of `null` is none.
fn limits(gateway: &Gateway, open_files: &OpenFiles) -> Value {
    let (process, limits) = (gateway.process(), &gateway.config().limits);
    let limit = |name: &str, used: Option<u64>, limit: Option<u64>| json!({ "name": name, "used": used, "limit": limit });
    let per_address = u64::from(limits.connections_per_address);
    json!([
        limit(
            "connections",
            Some(process.connections.taken() as u64),
            Some(limits.connections as u64)
        ),
        limit(
            "connections_per_address",
            Some(u64::from(process.addresses.most_open())),
            (per_address > 0).then_some(per_address)
        ),
        limit("pending_bytes", Some(process.registry.pending.total()), Some(limits.pending_bytes)),
        limit("open_files", open_files.count(Instant::now()), descriptors::open_file_limit()),
    ])
}

impl OpenFiles {
    /// The number a moment ago; `None` where the system does not tell.
    fn count(&self, now: Instant) -> Option<u64> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, count)) = *last
            && now.saturating_duration_since(at) < COUNTED_ANEW
        {
            return count;
        }
        let count = descriptors::count_open_files();
        *last = Some((now, count));
        count
    }
}

/// Between two counts of open files.
const COUNTED_ANEW: Duration = Duration::from_secs(10);
