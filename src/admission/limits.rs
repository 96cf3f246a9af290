//! Places for connections: in the process, and per client address. No I/O.
//!
//! Every place is a guard that is given back on drop. Tables by address are capped and swept, so that
//! nothing a peer does makes them grow without bound.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use dashmap::DashMap;

use super::rate::Bucket;
use super::rejection::Rejection;
use crate::config::{ProcessLimits, Rate};

/// A number of places, taken and given back.
#[derive(Debug)]
pub struct Places {
    taken: AtomicUsize,
    limit: usize,
}

/// One taken place.
#[derive(Debug)]
pub struct Place(Arc<Places>);

impl Places {
    /// This many places, all free.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { taken: AtomicUsize::new(0), limit })
    }

    /// Takes a place if there is one.
    pub fn take(self: &Arc<Self>) -> Option<Place> {
        let one_more = |taken| (taken < self.limit).then_some(taken + 1);
        self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).ok()?;
        Some(Place(Arc::clone(self)))
    }

    /// Places taken.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Acquire)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The places of the whole process.
#[derive(Debug)]
pub struct ConnectionLimits {
    /// Connections that may become sessions.
    pub regular: Arc<Places>,
    /// Further connections that are only told why they are refused: a twentieth on top.
    pub refusing: Arc<Places>,
    /// Sockets kept for a moment to tell a refusal by Close: a tenth of the connections.
    pub refusing_closes: Arc<Places>,
}

impl ConnectionLimits {
    /// All free.
    pub fn new(limits: &ProcessLimits) -> Self {
        Self {
            regular: Places::new(limits.connections),
            refusing: Places::new((limits.connections / 20).max(1)),
            refusing_closes: Places::new((limits.connections / 10).max(1)),
        }
    }
}

/// What is known of each client address.
#[derive(Debug)]
pub struct AddressTable {
    entries: DashMap<IpAddr, Entry>,
    connections: u32,
    rate: Option<Rate>,
}

#[derive(Debug)]
struct Entry {
    open: u32,
    bucket: Option<Bucket>,
}

/// The place of one connection of an address.
#[derive(Debug)]
pub struct AddressPlace {
    table: Arc<AddressTable>,
    key: IpAddr,
}

impl AddressTable {
    /// An empty table.
    pub fn new(limits: &ProcessLimits) -> Arc<Self> {
        Arc::new(Self {
            entries: DashMap::new(),
            connections: limits.connections_per_address,
            rate: limits.handshakes_per_address,
        })
    }

    /// Counts a connection of `address`, if its rate and number allow it.
    pub fn admit(
        self: &Arc<Self>,
        address: IpAddr,
        now: Instant,
    ) -> Result<AddressPlace, Rejection> {
        let mut key = key_of(address);
        if self.entries.len() >= MOST_ADDRESSES && !self.entries.contains_key(&key) {
            // Strangers beyond the cap share an entry: memory stays bounded, and who is known is
            // not disturbed.
            key = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        }
        let mut entry = self.entries.entry(key).or_insert_with(|| Entry {
            open: 0,
            bucket: self.rate.map(|rate| Bucket::new(rate, now)),
        });
        if let Some(Err(wait)) = entry.bucket.as_mut().map(|bucket| bucket.take(now)) {
            let retry_after = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            return Err(Rejection::RateLimited { retry_after });
        }
        if self.connections > 0 && entry.open >= self.connections {
            return Err(Rejection::AddressLimit);
        }
        entry.open += 1;
        drop(entry);
        Ok(AddressPlace { table: Arc::clone(self), key })
    }

    /// Forgets addresses that have no connection and a full bucket. To be called now and then.
    pub fn sweep(&self, now: Instant) {
        self.entries.retain(|_, entry| {
            entry.open > 0 || entry.bucket.as_mut().is_some_and(|bucket| !bucket.is_full(now))
        });
    }

    /// Addresses known.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no address is known.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl Drop for AddressPlace {
    fn drop(&mut self) {
        if let Some(mut entry) = self.table.entries.get_mut(&self.key) {
            entry.open = entry.open.saturating_sub(1);
        }
    }
}

/// What is counted as one address: an IPv6 host owns its whole /64.
fn key_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let prefix = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(prefix))
        }
    }
}

const MOST_ADDRESSES: usize = 100_000;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn limits(connections_per_address: u32, rate: Option<Rate>) -> ProcessLimits {
        ProcessLimits {
            connections: 40,
            connections_per_address,
            handshakes_per_address: rate,
            pending_bytes: 0,
        }
    }

    #[test]
    fn places_are_given_back_on_drop() {
        let places = Places::new(2);
        let first = places.take().unwrap();
        let second = places.take().unwrap();
        assert!(places.take().is_none());
        drop(first);
        assert!(places.take().is_some());
        drop(second);
        assert_eq!(places.taken(), 0);
        let all = ConnectionLimits::new(&limits(1, None));
        assert_eq!((all.regular.limit, all.refusing.limit, all.refusing_closes.limit), (40, 2, 4));
    }

    #[test]
    fn an_address_has_so_many_connections_and_a_v6_network_counts_as_one() {
        let table = AddressTable::new(&limits(1, None));
        let now = Instant::now();
        let rows = [
            ("10.0.0.1", true),
            ("10.0.0.1", false),
            ("::ffff:10.0.0.1", false),
            ("10.0.0.2", true),
            ("2001:db8::1", true),
            ("2001:db8::ffff", false),
            ("2001:db8:0:1::1", true),
        ];
        let mut places = Vec::new();
        for (address, admitted) in rows {
            let place = table.admit(address.parse().unwrap(), now);
            assert_eq!(place.is_ok(), admitted, "{address}");
            places.extend(place);
        }
        drop(places);
        table.sweep(now);
        assert!(table.is_empty());
        assert!(table.admit("10.0.0.1".parse().unwrap(), now).is_ok());
    }

    #[test]
    fn an_address_that_connects_too_often_is_told_when_to_come_back() {
        let table = AddressTable::new(&limits(0, Some(Rate { per_second: 0.5, burst: 2 })));
        let (now, address) = (Instant::now(), "10.0.0.1".parse().unwrap());
        assert!(table.admit(address, now).is_ok());
        assert!(table.admit(address, now).is_ok());
        let refused = table.admit(address, now).unwrap_err();
        assert_eq!(refused, Rejection::RateLimited { retry_after: 2 });
        table.sweep(now);
        assert_eq!(table.len(), 1, "a used bucket is kept");
        assert!(table.admit(address, now + Duration::from_secs(3)).is_ok());
        table.sweep(now + Duration::from_secs(60));
        assert!(table.is_empty());
    }
}
