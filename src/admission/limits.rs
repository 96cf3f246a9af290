//! Places for connections: in the process, and per client address. No I/O.
//!
//! Every place is a guard that is given back on drop. Tables by address are capped and swept, so that
//! nothing a peer does makes them grow without bound.

use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry as Slot;
use dashmap::mapref::one::RefMut;

use crate::config::{ProcessLimits, Rate};
use crate::outcome::rejection::Rejection;
use crate::session::address::network_of;
use crate::session::rate::Bucket;

/// Places, taken and given back. How many there are says who takes one: that may change while they
/// are taken.
#[derive(Debug, Default)]
pub(crate) struct Places {
    taken: AtomicUsize,
}

/// One taken place.
#[derive(Debug)]
pub(crate) struct Place(Arc<Places>);

impl Places {
    /// Takes a place if fewer than `limit` are taken.
    pub(crate) fn take(self: &Arc<Self>, limit: usize) -> Option<Place> {
        let one_more = |taken| (taken < limit).then_some(taken + 1);
        self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).ok()?;
        Some(Place(Arc::clone(self)))
    }

    /// Places taken.
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Acquire)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The places of the whole process, all free at first.
#[derive(Debug, Default)]
pub(crate) struct ConnectionPools {
    regular: Arc<Places>,
    refusing: Arc<Places>,
    refusing_tls: Arc<Places>,
    refusing_closes: Arc<Places>,
}

impl ConnectionPools {
    /// A place for a connection that may become a session.
    pub(crate) fn take_regular(&self, limits: &ProcessLimits) -> Option<Place> {
        self.regular.take(limits.connections)
    }

    /// A place for a further connection that is only told why it is refused: a twentieth on top.
    pub(crate) fn take_refusing(&self, limits: &ProcessLimits) -> Option<Place> {
        self.refusing.take((limits.connections / 20).max(1))
    }

    /// A place to finish a TLS handshake that is over the rate of its address, only to refuse the request.
    pub(crate) fn take_refusing_tls(&self) -> Option<Place> {
        self.refusing_tls.take(REFUSING_TLS)
    }

    /// Connections that may become sessions, or are.
    pub(crate) fn taken(&self) -> usize {
        self.regular.taken()
    }

    /// A socket kept for a moment to tell a refusal by Close: a tenth of the connections.
    pub(crate) fn take_refusing_close(&self, limits: &ProcessLimits) -> Option<Place> {
        self.refusing_closes.take((limits.connections / 10).max(1))
    }
}

/// What is known of each client address.
#[derive(Debug, Default)]
pub struct AddressTable {
    entries: DashMap<IpAddr, Entry>,
    /// How many entries there are: the map would have to visit all its shards.
    known: AtomicUsize,
    /// When idle addresses were last forgotten to make room.
    last_forgotten: Mutex<Option<Instant>>,
    /// Keyed anew by each process.
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Entry {
    open: u32,
    bucket: Option<Bucket>,
    /// TLS handshakes over that rate which are finished all the same.
    excused: Option<Box<Bucket>>,
}

/// The place of one connection of an address.
#[derive(Debug)]
pub struct AddressPlace {
    table: Arc<AddressTable>,
    key: IpAddr,
}

impl AddressTable {
    /// Counts a connection of `address`, if its rate and number are within `limits`.
    pub fn admit(
        self: &Arc<Self>,
        address: IpAddr,
        limits: &ProcessLimits,
        now: Instant,
    ) -> Result<AddressPlace, Rejection> {
        let mut entry = self.entry(network_of(address), now);
        entry.charge(limits, now)?;
        if limits.connections_per_address > 0 && entry.open >= limits.connections_per_address {
            return Err(Rejection::AddressLimit);
        }
        entry.open += 1;
        let key = *entry.key();
        drop(entry);
        Ok(AddressPlace { table: Arc::clone(self), key })
    }

    /// Counts a further request of `address`, on a connection that has its place already.
    ///
    /// # Errors
    ///
    /// [`Rejection::RateLimited`].
    pub(crate) fn charge(
        &self,
        address: IpAddr,
        limits: &ProcessLimits,
        now: Instant,
    ) -> Result<(), Rejection> {
        self.entry(network_of(address), now).charge(limits, now)
    }

    /// Whether a TLS handshake of an address that is over its rate is finished all the same, so that the
    /// client can be told why: [`EXCUSED`] of each address.
    pub(crate) fn excuses_tls(&self, address: IpAddr, now: Instant) -> bool {
        let mut entry = self.entry(network_of(address), now);
        let bucket = entry.excused.get_or_insert_with(|| Box::new(Bucket::new(EXCUSED, now)));
        bucket.take(now).is_ok()
    }

    fn entry(&self, key: IpAddr, now: Instant) -> RefMut<'_, IpAddr, Entry> {
        if let Slot::Occupied(slot) = self.entries.entry(key) {
            return slot.into_ref();
        }
        let is_counted = self.count_one() || self.forget_idle(now) && self.count_one();
        // Strangers beyond the cap share entries, which are not counted: memory stays bounded, and the
        // addresses that are known are not disturbed.
        let key = if is_counted { key } else { self.shared(key) };
        match self.entries.entry(key) {
            Slot::Occupied(slot) => {
                if is_counted {
                    // Another connection of the address was quicker.
                    self.known.fetch_sub(1, Ordering::Relaxed);
                }
                slot.into_ref()
            }
            Slot::Vacant(slot) => slot.insert(Entry::default()),
        }
    }

    fn count_one(&self) -> bool {
        let is_within = |known| (known < MOST_ADDRESSES).then_some(known + 1);
        self.known.fetch_update(Ordering::Relaxed, Ordering::Relaxed, is_within).is_ok()
    }

    /// The table is full: addresses without a connection go, whatever is left of their rate. At most once
    /// in [`REST`], as all entries are visited; whether it was done.
    fn forget_idle(&self, now: Instant) -> bool {
        let Ok(mut last) = self.last_forgotten.try_lock() else { return false };
        if last.is_some_and(|last| now.saturating_duration_since(last) < REST) {
            return false;
        }
        *last = Some(now);
        self.retain(|entry| entry.open > 0);
        true
    }

    /// The entry that a stranger shares with a few thousandths of all strangers; which one, only this
    /// process can know.
    fn shared(&self, key: IpAddr) -> IpAddr {
        // An address has its own entry by its network: the low half of a key is only ever set here.
        let one_of = 1 + self.hasher.hash_one(key) % SHARED;
        IpAddr::V6(Ipv6Addr::from(u128::from(one_of)))
    }

    fn retain(&self, mut stays: impl FnMut(&mut Entry) -> bool) {
        self.entries.retain(|key, entry| {
            let stays = stays(entry);
            if !stays && !is_shared(*key) {
                self.known.fetch_sub(1, Ordering::Relaxed);
            }
            stays
        });
    }

    /// Forgets addresses that have no connection and a full bucket. To be called now and then.
    pub(crate) fn sweep(&self, now: Instant) {
        self.retain(|entry| {
            entry.open > 0 || entry.bucket.as_mut().is_some_and(|bucket| !bucket.is_full(now))
        });
    }

    /// How many connections the address with the most of them has.
    pub(crate) fn most_open(&self) -> u32 {
        self.entries.iter().map(|entry| entry.open).max().unwrap_or(0)
    }

    /// Addresses known.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        let own = self.entries.iter().filter(|entry| !is_shared(*entry.key())).count();
        assert_eq!(self.known.load(Ordering::Relaxed), own);
        own
    }
}

impl Entry {
    /// Takes one from its rate.
    fn charge(&mut self, limits: &ProcessLimits, now: Instant) -> Result<(), Rejection> {
        self.set_rate(limits.handshakes_per_address, now);
        let Some(Err(wait)) = self.bucket.as_mut().map(|bucket| bucket.take(now)) else {
            return Ok(());
        };
        let retry_after = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        Err(Rejection::RateLimited { retry_after })
    }

    /// Another rate than so far begins anew.
    fn set_rate(&mut self, rate: Option<Rate>, now: Instant) {
        if self.bucket.as_ref().map(Bucket::rate) != rate {
            self.bucket = rate.map(|rate| Bucket::new(rate, now));
        }
    }
}

impl Drop for AddressPlace {
    fn drop(&mut self) {
        if let Some(mut entry) = self.table.entries.get_mut(&self.key) {
            entry.open = entry.open.saturating_sub(1);
        }
    }
}

/// TLS handshakes of one address that are finished although they are over its rate.
const EXCUSED: Rate = Rate { per_second: 8.0, burst: 8 };
/// The same of all addresses, at a time.
const REFUSING_TLS: usize = 256;
const MOST_ADDRESSES: usize = 100_000;
/// The entries that all addresses beyond that share.
const SHARED: u64 = 4096;
/// How long a full table is left alone before it is looked through again.
const REST: Duration = Duration::from_secs(1);

/// Whether strangers share the entry of this key.
fn is_shared(key: IpAddr) -> bool {
    matches!(key, IpAddr::V6(address) if u128::from(address) & u128::from(u64::MAX) != 0)
}

#[cfg(test)]
mod tests {
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
        let places = Arc::new(Places::default());
        let first = places.take(2).unwrap();
        let second = places.take(2).unwrap();
        assert!(places.take(2).is_none());
        assert!(places.take(3).is_some(), "the limit has been raised");
        drop(first);
        assert!(places.take(1).is_none(), "the limit has been lowered");
        assert!(places.take(2).is_some());
        drop(second);
        assert_eq!(places.taken(), 0);
    }

    #[test]
    fn refusals_have_places_of_their_own() {
        let (pools, limits) = (ConnectionPools::default(), limits(1, None));
        let count = |take: &dyn Fn() -> Option<Place>| std::iter::from_fn(take).collect::<Vec<_>>();
        let regular = count(&|| pools.take_regular(&limits));
        let refusing = count(&|| pools.take_refusing(&limits));
        let closes = count(&|| pools.take_refusing_close(&limits));
        assert_eq!([regular, refusing, closes].map(|places| places.len()), [40, 2, 4]);
    }

    #[test]
    fn an_address_has_so_many_connections_and_a_v6_network_counts_as_one() {
        let (table, limits) = (Arc::new(AddressTable::default()), limits(1, None));
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
            let place = table.admit(address.parse().unwrap(), &limits, now);
            assert_eq!(place.is_ok(), admitted, "{address}");
            places.extend(place);
        }
        drop(places);
        table.sweep(now);
        assert_eq!(table.len(), 0);
        assert!(table.admit("10.0.0.1".parse().unwrap(), &limits, now).is_ok());
    }

    fn nth(number: usize) -> IpAddr {
        let number = u128::try_from(number).unwrap();
        IpAddr::V6(Ipv6Addr::from((0x2001_0db8 << 96) + (number << 64)))
    }

    #[test]
    fn a_full_table_forgets_the_idle_first() {
        let table = Arc::new(AddressTable::default());
        let limits = limits(0, Some(Rate { per_second: 0.001, burst: 1 }));
        let now = Instant::now();
        let held: Vec<_> =
            (0..10).map(|number| table.admit(nth(number), &limits, now).unwrap()).collect();
        for number in 10..MOST_ADDRESSES {
            drop(table.admit(nth(number), &limits, now).unwrap());
        }
        assert_eq!(table.len(), MOST_ADDRESSES);
        let new = table.admit(nth(MOST_ADDRESSES), &limits, now).unwrap();
        assert_eq!(table.len(), held.len() + 1);
        // Those with a connection were not forgotten, nor was what they had used up.
        assert!(table.admit(nth(0), &limits, now).is_err());
        drop((held, new));
    }

    #[test]
    fn strangers_to_a_full_table_do_not_share_one_rate() {
        let table = Arc::new(AddressTable::default());
        let limits = limits(0, Some(Rate { per_second: 0.001, burst: 1 }));
        let now = Instant::now();
        let known = (0..MOST_ADDRESSES).map(|number| table.admit(nth(number), &limits, now));
        let known: Vec<_> = known.collect::<Result<_, _>>().unwrap();
        let strangers = (0..1000).map(|number| nth(MOST_ADDRESSES + number));
        let admitted = strangers.filter(|it| table.admit(*it, &limits, now).is_ok()).count();
        assert!(admitted > 700, "{admitted} of 1000");
        assert_eq!(table.len(), MOST_ADDRESSES);
        drop(known);
        table.sweep(now + Duration::from_secs(3600));
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn an_address_that_connects_too_often_is_told_when_to_come_back() {
        let table = Arc::new(AddressTable::default());
        let limits = limits(0, Some(Rate { per_second: 0.5, burst: 2 }));
        let (now, address) = (Instant::now(), "10.0.0.1".parse().unwrap());
        assert!(table.admit(address, &limits, now).is_ok());
        assert!(table.admit(address, &limits, now).is_ok());
        let refused = table.admit(address, &limits, now).unwrap_err();
        assert_eq!(refused, Rejection::RateLimited { retry_after: 2 });
        table.sweep(now);
        assert_eq!(table.len(), 1, "a used bucket is kept");
        assert!(table.admit(address, &limits, now + Duration::from_secs(3)).is_ok());
        table.sweep(now + Duration::from_secs(60));
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn changed_limits_count_from_the_next_connection_and_what_is_open_still_counts() {
        let table = Arc::new(AddressTable::default());
        let (now, address) = (Instant::now(), "10.0.0.1".parse().unwrap());
        let rate = |burst| Some(Rate { per_second: 0.5, burst });
        let open = [table.admit(address, &limits(2, rate(1)), now).unwrap()];
        assert!(table.admit(address, &limits(2, rate(1)), now).is_err());
        let place = table.admit(address, &limits(2, rate(2)), now).unwrap();
        assert_eq!(
            table.admit(address, &limits(2, None), now).unwrap_err(),
            Rejection::AddressLimit
        );
        drop(place);
        assert_eq!(
            table.admit(address, &limits(1, None), now).unwrap_err(),
            Rejection::AddressLimit
        );
        drop(open);
        assert!(table.admit(address, &limits(1, None), now).is_ok());
    }
}
