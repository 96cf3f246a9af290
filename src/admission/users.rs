//! Places per user: who has how many sessions, and who gives way. No I/O.
//!
//! A place is reserved at admission and confirmed only after the upstream's 101, when the user's
//! oldest session gives way if need be: a dead backend evicts nobody. Two tabs that reconnect at once
//! would evict each other for ever; who causes more than three times the limit of evictions within a
//! minute is refused instead.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dashmap::DashMap;

use crate::config::{RouteLimits, WhenUserFull};
use crate::outcome::rejection::Rejection;
use crate::outcome::settle::Ending;
use crate::session::id::SessionId;
use crate::session::registry::{Order, Probe, SessionHandle};

/// Who is counted: users of different issuers are different people.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct UserKey {
    /// Name of the verifier.
    pub(crate) verifier: Arc<str>,
    /// The token's issuer.
    pub(crate) issuer: Option<Arc<str>>,
    /// The token's user.
    pub(crate) user: Arc<str>,
    /// What is counted together.
    pub(crate) scope: ScopeKey,
}

/// What a user's sessions are counted by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum ScopeKey {
    /// One route, by its label.
    Route(Arc<str>),
    /// All routes.
    All,
    /// A path parameter's value.
    Path(String, String),
}

/// All users with sessions, or who had one within the last minute.
#[derive(Debug, Default)]
pub struct UserTable {
    entries: DashMap<UserKey, Entry>,
    sequence: AtomicU64,
}

#[derive(Debug, Default)]
struct Entry {
    /// Oldest first.
    open: Vec<(u64, Arc<SessionHandle>)>,
    reserved: u32,
    evictions: u32,
    evictions_since: Option<Instant>,
    last_left: Option<Instant>,
}

/// A user's place.
#[derive(Debug)]
pub(crate) struct UserPlace {
    table: Arc<UserTable>,
    key: UserKey,
    limit: u32,
    /// `None` while only reserved.
    confirmed: Option<u64>,
}

/// What confirming a place brought about.
#[derive(Debug, Default)]
pub(crate) struct Confirmed {
    /// Sessions that were told to give way.
    pub(crate) evicted: Vec<SessionId>,
    /// The user's last session ended less than a minute ago.
    pub(crate) is_reconnect: bool,
}

impl UserTable {
    /// Reserves a place. With `when_user_full = "refuse"` and no place free, the holders are pinged
    /// first, for at most `patience`: a dead one gives its place up.
    pub(crate) async fn reserve(
        self: &Arc<Self>,
        key: UserKey,
        limits: &RouteLimits,
        patience: Duration,
    ) -> Result<UserPlace, Rejection> {
        let limit = limits.connections_per_user;
        if self.entries.len() >= MOST_USERS && !self.entries.contains_key(&key) {
            return Err(Rejection::Overloaded);
        }
        if limits.when_user_full == WhenUserFull::EvictOldest {
            self.try_evicting(&key, limit, Instant::now())?;
        } else if let Err(holders) = self.try_free(&key, limit) {
            probe(&holders, patience).await;
            self.try_free(&key, limit).map_err(|_| Rejection::UserLimit)?;
        }
        Ok(UserPlace { table: Arc::clone(self), key, limit, confirmed: None })
    }

    fn try_evicting(&self, key: &UserKey, limit: u32, now: Instant) -> Result<(), Rejection> {
        let mut entry = self.entries.entry(key.clone()).or_default();
        let taken = entry.taken();
        if limit > 0 && taken >= limit {
            let will_evict = entry.recent_evictions(now).saturating_add(taken - limit);
            if will_evict >= limit.saturating_mul(EVICTIONS_PER_PLACE) {
                return Err(Rejection::UserLimit);
            }
        }
        entry.reserved += 1;
        Ok(())
    }

    fn try_free(&self, key: &UserKey, limit: u32) -> Result<(), Vec<Arc<SessionHandle>>> {
        let mut entry = self.entries.entry(key.clone()).or_default();
        if limit > 0 && entry.taken() >= limit {
            return Err(entry.open.iter().map(|(_, handle)| Arc::clone(handle)).collect());
        }
        entry.reserved += 1;
        Ok(())
    }

    /// Forgets users who have had no session for a while. To be called now and then.
    pub(crate) fn sweep(&self, now: Instant) {
        let is_recent = |at: Option<Instant>| {
            at.is_some_and(|at| now.saturating_duration_since(at) < REMEMBERED)
        };
        self.entries.retain(|_, entry| {
            entry.taken() > 0 || is_recent(entry.last_left) || is_recent(entry.evictions_since)
        });
    }

    /// Users known.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Places taken or reserved, of all users.
    #[cfg(test)]
    pub(crate) fn taken(&self) -> u64 {
        self.entries.iter().map(|entry| u64::from(entry.taken())).sum()
    }
}

impl Entry {
    fn taken(&self) -> u32 {
        u32::try_from(self.open.len()).unwrap_or(u32::MAX).saturating_add(self.reserved)
    }

    fn recent_evictions(&mut self, now: Instant) -> u32 {
        let is_over = |since| now.saturating_duration_since(since) >= REMEMBERED;
        if self.evictions_since.is_none_or(is_over) {
            self.evictions = 0;
            self.evictions_since = None;
        }
        self.evictions
    }
}

impl UserPlace {
    /// The upstream has answered 101: the session is open, and the oldest ones too many give way.
    pub(crate) fn confirm(&mut self, handle: &Arc<SessionHandle>, now: Instant) -> Confirmed {
        let mut entry = self.table.entries.entry(self.key.clone()).or_default();
        let sequence = self.table.sequence.fetch_add(1, Ordering::Relaxed);
        entry.reserved = entry.reserved.saturating_sub(1);
        entry.open.push((sequence, Arc::clone(handle)));
        self.confirmed = Some(sequence);
        let left = entry.last_left.take();
        let is_reconnect =
            left.is_some_and(|left| now.saturating_duration_since(left) < REMEMBERED);
        let excess =
            if self.limit == 0 { 0 } else { entry.open.len().saturating_sub(self.limit as usize) };
        entry.recent_evictions(now);
        let give_way = entry.open.drain(..excess).map(|(_, oldest)| {
            oldest.order(Order::End(Ending::Replaced));
            oldest.id
        });
        let evicted = give_way.collect();
        if excess > 0 {
            entry.evictions_since.get_or_insert(now);
            entry.evictions =
                entry.evictions.saturating_add(u32::try_from(excess).unwrap_or(u32::MAX));
        }
        Confirmed { evicted, is_reconnect }
    }
}

impl Drop for UserPlace {
    fn drop(&mut self) {
        let Some(mut entry) = self.table.entries.get_mut(&self.key) else { return };
        match self.confirmed {
            None => entry.reserved = entry.reserved.saturating_sub(1),
            Some(sequence) => {
                let before = entry.open.len();
                entry.open.retain(|(other, _)| *other != sequence);
                // One that was evicted has been taken off already, and did not leave by itself.
                if entry.open.len() < before {
                    entry.last_left = Some(Instant::now());
                }
            }
        }
    }
}

/// Asks all holders whether their client lives, and waits until each has answered or ended.
async fn probe(holders: &[Arc<SessionHandle>], patience: Duration) {
    let probe = Probe::new(holders.len());
    for holder in holders {
        holder.order(Order::Probe(Arc::clone(&probe)));
    }
    let settled = async {
        loop {
            let mut answered = std::pin::pin!(probe.answered.notified());
            answered.as_mut().enable();
            if probe.is_settled() {
                return;
            }
            answered.await;
        }
    };
    // Whoever has not answered by then keeps its place: better one client refused than one cut.
    let _ = tokio::time::timeout(patience, settled).await;
}

/// Users known at most, so that memory stays bounded whoever signs tokens.
const MOST_USERS: usize = 1_000_000;
/// Evictions allowed per place and minute.
const EVICTIONS_PER_PLACE: u32 = 3;
/// How long an ended session counts for reconnects, and an eviction against its user.
const REMEMBERED: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::config::UserScope;
    use crate::session::record::SessionRecord;

    fn key(user: &str) -> UserKey {
        UserKey { verifier: "users".into(), issuer: None, user: user.into(), scope: ScopeKey::All }
    }

    fn limits(connections_per_user: u32, when_user_full: WhenUserFull) -> RouteLimits {
        RouteLimits {
            connections_per_user,
            user_scope: UserScope::All,
            when_user_full,
            message_size: 1,
            upstream_message_size: 1,
            fragments: 1,
            messages: None,
            text_utf8: true,
        }
    }

    fn handle(id: u64) -> Arc<SessionHandle> {
        let client = SocketAddr::from(([127, 0, 0, 1], 1));
        let now = std::time::SystemTime::UNIX_EPOCH;
        let known = SessionRecord::new(SessionId::new(id), "l".into(), client, now);
        SessionHandle::new(known, Instant::now())
    }

    async fn reserve(table: &Arc<UserTable>, limits: &RouteLimits) -> Result<UserPlace, Rejection> {
        table.reserve(key("ann"), limits, Duration::from_millis(50)).await
    }

    #[tokio::test]
    async fn the_oldest_gives_way_only_when_the_new_one_is_confirmed() {
        let table = Arc::new(UserTable::default());
        let limits = limits(2, WhenUserFull::EvictOldest);
        let handles = [handle(1), handle(2), handle(3)];
        let mut places = Vec::new();
        for session in &handles {
            let mut place = reserve(&table, &limits).await.unwrap();
            assert!(handles[0].take_orders().is_empty());
            place.confirm(session, Instant::now());
            places.push(place);
        }
        assert!(matches!(handles[0].take_orders()[..], [Order::End(Ending::Replaced)]));
        assert!(handles[1].take_orders().is_empty());
        assert_eq!(table.taken(), 2);
        drop(places);
        assert_eq!(table.taken(), 0);
        table.sweep(Instant::now() + Duration::from_secs(61));
        assert_eq!(table.len(), 0);
    }

    #[tokio::test]
    async fn a_reservation_that_comes_to_nothing_evicts_nobody() {
        let table = Arc::new(UserTable::default());
        let limits = limits(1, WhenUserFull::EvictOldest);
        let first = handle(1);
        let mut place = reserve(&table, &limits).await.unwrap();
        place.confirm(&first, Instant::now());
        drop(reserve(&table, &limits).await.unwrap());
        assert!(first.take_orders().is_empty());
        assert_eq!(table.taken(), 1);
    }

    #[tokio::test]
    async fn who_evicts_without_end_is_refused() {
        let table = Arc::new(UserTable::default());
        let limits = limits(1, WhenUserFull::EvictOldest);
        let mut places = Vec::new();
        let mut refused_at = None;
        for id in 0..10 {
            match reserve(&table, &limits).await {
                Ok(mut place) => {
                    place.confirm(&handle(id), Instant::now());
                    places.push(place);
                }
                Err(rejection) => {
                    assert_eq!(rejection, Rejection::UserLimit);
                    refused_at.get_or_insert(id);
                }
            }
        }
        // One session, then three evictions.
        assert_eq!(refused_at, Some(4));
        let later = Instant::now() + Duration::from_secs(61);
        assert!(table.try_evicting(&key("ann"), 1, later).is_ok());
    }

    #[tokio::test]
    async fn refusing_asks_the_holders_first_and_a_dead_one_makes_room() {
        let table = Arc::new(UserTable::default());
        let limits = limits(1, WhenUserFull::Refuse);
        let holder = handle(1);
        let mut place = reserve(&table, &limits).await.unwrap();
        place.confirm(&holder, Instant::now());
        // Nobody answers within the patience: the holder keeps its place.
        assert_eq!(reserve(&table, &limits).await.unwrap_err(), Rejection::UserLimit);
        let [Order::Probe(unanswered)] = &holder.take_orders()[..] else { panic!("no probe") };
        assert!(!unanswered.is_settled());
        // Its session ends when it is asked: the place is free.
        let waiting = tokio::time::timeout(
            Duration::from_secs(10),
            table.reserve(key("ann"), &limits, Duration::from_secs(60)),
        );
        let dying = async {
            loop {
                if let [Order::Probe(probe)] = &holder.take_orders()[..] {
                    drop(place);
                    probe.answer();
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        let (reserved, ()) = tokio::join!(waiting, dying);
        assert!(reserved.unwrap().is_ok());
    }

    #[tokio::test]
    async fn a_user_back_within_a_minute_has_reconnected() {
        let table = Arc::new(UserTable::default());
        let limits = limits(0, WhenUserFull::EvictOldest);
        let now = Instant::now();
        let mut place = reserve(&table, &limits).await.unwrap();
        assert!(!place.confirm(&handle(1), now).is_reconnect);
        drop(place);
        let mut place = reserve(&table, &limits).await.unwrap();
        assert!(place.confirm(&handle(2), Instant::now()).is_reconnect);
        drop(place);
        let mut place = reserve(&table, &limits).await.unwrap();
        let later = Instant::now() + Duration::from_secs(61);
        assert!(!place.confirm(&handle(3), later).is_reconnect);
    }
}
