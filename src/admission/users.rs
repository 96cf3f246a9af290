//! Sessions per user, counted in this process: the [`Limiter`] of a gateway on its own. No I/O.
//!
//! Two tabs that reconnect at once would evict each other for ever; a user who causes more than three
//! times the limit of evictions within a minute is refused instead. Only evictions of sessions whose client
//! answered its Close count: a phone whose network flaps leaves dead ones behind, and may come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry as Slot;
use dashmap::mapref::one::RefMut;

use crate::config::WhenUserFull;
use crate::outcome::rejection::Rejection;
use crate::session::id::SessionId;
use crate::session::limiter::{Confirmed, Limiter, Reserving, UserKey, UserLimit};
use crate::session::registry::{Order, Probe, Registry};

/// All users with sessions, or who had one within the last minute.
#[derive(Debug)]
pub(crate) struct UserTable {
    entries: DashMap<UserKey, Entry>,
    /// How many entries there are: the map would have to visit all its shards.
    known: AtomicUsize,
    /// Where sessions are asked whether their client still answers.
    registry: Arc<Registry>,
}

#[derive(Debug, Default)]
struct Entry {
    /// Oldest first.
    open: Vec<SessionId>,
    reserved: u32,
    evictions: u32,
    evictions_since: Option<Instant>,
    last_left: Option<Instant>,
}

impl UserTable {
    /// Counts the sessions of this registry; none so far.
    pub(crate) fn new(registry: Arc<Registry>) -> Self {
        Self { entries: DashMap::new(), known: AtomicUsize::new(0), registry }
    }

    fn try_evicting(&self, key: &UserKey, limit: u32, now: Instant) -> Result<(), Rejection> {
        let mut entry = self.entry(key)?;
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

    /// Reserves a free place; else the sessions that hold all of them.
    fn try_free(&self, key: &UserKey, limit: u32) -> Result<Free, Rejection> {
        let mut entry = self.entry(key)?;
        if limit > 0 && entry.taken() >= limit {
            return Ok(Free::HeldBy(entry.open.clone()));
        }
        entry.reserved += 1;
        Ok(Free::Reserved)
    }

    async fn free(&self, key: &UserKey, limit: u32, patience: Duration) -> Result<(), Rejection> {
        let Free::HeldBy(holders) = self.try_free(key, limit)? else { return Ok(()) };
        self.probe(&holders, patience).await;
        match self.try_free(key, limit)? {
            Free::Reserved => Ok(()),
            Free::HeldBy(_) => Err(Rejection::UserLimit),
        }
    }

    /// Has the client of each session pinged, and waits until each has answered or ended.
    async fn probe(&self, sessions: &[SessionId], patience: Duration) {
        let holders: Vec<_> = sessions.iter().filter_map(|id| self.registry.get(*id)).collect();
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
        // A session that has not answered by then keeps its place: better one client refused than one cut.
        let _ = tokio::time::timeout(patience, settled).await;
    }

    fn entry(&self, key: &UserKey) -> Result<RefMut<'_, UserKey, Entry>, Rejection> {
        match self.entries.entry(key.clone()) {
            Slot::Occupied(slot) => Ok(slot.into_ref()),
            Slot::Vacant(slot) => {
                if self.known.fetch_add(1, Ordering::Relaxed) >= MOST_USERS {
                    self.known.fetch_sub(1, Ordering::Relaxed);
                    return Err(Rejection::Overloaded);
                }
                Ok(slot.insert(Entry::default()))
            }
        }
    }

    /// Forgets users who have had no session for a while. To be called now and then.
    pub(crate) fn sweep(&self, now: Instant) {
        let is_recent = |at: Option<Instant>| {
            at.is_some_and(|at| now.saturating_duration_since(at) < REMEMBERED)
        };
        self.entries.retain(|_, entry| {
            let stays =
                entry.taken() > 0 || is_recent(entry.last_left) || is_recent(entry.evictions_since);
            if !stays {
                self.known.fetch_sub(1, Ordering::Relaxed);
            }
            stays
        });
    }

    /// Users known.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        assert_eq!(self.known.load(Ordering::Relaxed), self.entries.len());
        self.entries.len()
    }

    /// Places taken or reserved, of all users.
    #[cfg(test)]
    pub(crate) fn taken(&self) -> u64 {
        self.entries.iter().map(|entry| u64::from(entry.taken())).sum()
    }
}

/// What comes of the attempt to reserve a free place.
enum Free {
    Reserved,
    HeldBy(Vec<SessionId>),
}

impl Limiter for UserTable {
    fn reserve<'a>(
        &'a self,
        key: &'a UserKey,
        limit: UserLimit,
        patience: Duration,
    ) -> Reserving<'a> {
        match limit.when_full {
            WhenUserFull::EvictOldest => {
                let reserved = self.try_evicting(key, limit.sessions, Instant::now());
                Box::pin(std::future::ready(reserved))
            }
            WhenUserFull::Refuse => Box::pin(self.free(key, limit.sessions, patience)),
        }
    }

    fn confirm(
        &self,
        key: &UserKey,
        limit: UserLimit,
        session: SessionId,
        now: Instant,
    ) -> Confirmed {
        // The reservation keeps the entry in the table.
        let Some(mut entry) = self.entries.get_mut(key) else { return Confirmed::default() };
        entry.reserved = entry.reserved.saturating_sub(1);
        entry.open.push(session);
        let left = entry.last_left.take();
        let is_reconnect =
            left.is_some_and(|left| now.saturating_duration_since(left) < REMEMBERED);
        let most = if limit.sessions == 0 { usize::MAX } else { limit.sessions as usize };
        let excess = entry.open.len().saturating_sub(most);
        let evict: Vec<_> = entry.open.drain(..excess).collect();
        if !evict.is_empty() {
            // Whoever was replaced and comes back has reconnected too.
            entry.last_left = Some(now);
        }
        Confirmed { evict, is_reconnect }
    }

    fn evicted_alive(&self, key: &UserKey, now: Instant) {
        let Some(mut entry) = self.entries.get_mut(key) else { return };
        entry.evictions = entry.recent_evictions(now).saturating_add(1);
        entry.evictions_since.get_or_insert(now);
    }

    fn release(&self, key: &UserKey, session: Option<SessionId>, now: Instant) {
        let Some(mut entry) = self.entries.get_mut(key) else { return };
        match session {
            None => entry.reserved = entry.reserved.saturating_sub(1),
            Some(session) => {
                let before = entry.open.len();
                entry.open.retain(|other| *other != session);
                // One that was evicted has been taken off already, and did not leave by itself.
                if entry.open.len() < before {
                    entry.last_left = Some(now);
                }
            }
        }
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

/// Users known at most, so that memory stays bounded whatever tokens are signed.
const MOST_USERS: usize = 1_000_000;
/// Evictions allowed per place and minute.
const EVICTIONS_PER_PLACE: u32 = 3;
/// How long an ended session counts for reconnects, and an eviction against its user.
const REMEMBERED: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::session::limiter::{ScopeKey, UserPlace};
    use crate::session::record::Facts;
    use crate::session::registry::{Registered, SessionHandle};

    fn key(user: &str) -> UserKey {
        UserKey { verifier: "users".into(), issuer: None, user: user.into(), scope: ScopeKey::All }
    }

    /// A table, and the registry of its sessions.
    struct Users {
        registry: Arc<Registry>,
        table: Arc<UserTable>,
    }

    impl Users {
        fn new() -> Self {
            let registry = Arc::new(Registry::new(0, Instant::now()));
            Self { table: Arc::new(UserTable::new(Arc::clone(&registry))), registry }
        }

        async fn reserve(&self, limit: UserLimit) -> Result<UserPlace, Rejection> {
            self.reserve_within(limit, Duration::from_millis(50)).await
        }

        async fn reserve_within(
            &self,
            limit: UserLimit,
            patience: Duration,
        ) -> Result<UserPlace, Rejection> {
            let limiter: Arc<dyn Limiter> = self.table.clone();
            UserPlace::reserve(&limiter, key("ann"), limit, patience).await
        }

        fn session(&self, id: u64) -> Registered {
            let client = SocketAddr::from(([127, 0, 0, 1], 1));
            let now = std::time::SystemTime::UNIX_EPOCH;
            let known = Facts::new(SessionId::new(id), "l".into(), client, now);
            self.registry.insert(SessionHandle::new(Arc::new(known), Instant::now()))
        }
    }

    fn limit(sessions: u32, when_full: WhenUserFull) -> UserLimit {
        UserLimit { sessions, when_full }
    }

    #[tokio::test]
    async fn the_oldest_gives_way_only_when_the_new_one_is_confirmed() {
        let users = Users::new();
        let limit = limit(2, WhenUserFull::EvictOldest);
        let mut places = Vec::new();
        for (id, evicted) in [(1, vec![]), (2, vec![]), (3, vec![SessionId::new(1)])] {
            let mut place = users.reserve(limit).await.unwrap();
            assert_eq!(place.confirm(SessionId::new(id), Instant::now()).evict, evicted);
            places.push(place);
        }
        assert_eq!(users.table.taken(), 2);
        drop(places);
        assert_eq!(users.table.taken(), 0);
        users.table.sweep(Instant::now() + Duration::from_secs(61));
        assert_eq!(users.table.len(), 0);
    }

    #[tokio::test]
    async fn a_reservation_that_comes_to_nothing_evicts_no_session() {
        let users = Users::new();
        let limit = limit(1, WhenUserFull::EvictOldest);
        let mut place = users.reserve(limit).await.unwrap();
        place.confirm(SessionId::new(1), Instant::now());
        drop(users.reserve(limit).await.unwrap());
        assert_eq!(users.table.taken(), 1);
        let mut next = users.reserve(limit).await.unwrap();
        assert_eq!(next.confirm(SessionId::new(2), Instant::now()).evict, [SessionId::new(1)]);
    }

    #[tokio::test]
    async fn a_user_who_evicts_without_end_is_refused() {
        let users = Users::new();
        let limit = limit(1, WhenUserFull::EvictOldest);
        let mut places = Vec::new();
        let mut refused_at = None;
        for id in 0..10 {
            match users.reserve(limit).await {
                Ok(mut place) => {
                    let now = Instant::now();
                    for _ in place.confirm(SessionId::new(id), now).evict {
                        place.eviction().was_alive(now);
                    }
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
        assert!(users.table.try_evicting(&key("ann"), 1, later).is_ok());
    }

    #[tokio::test]
    async fn evicting_the_dead_counts_against_no_user() {
        let users = Users::new();
        let limit = limit(1, WhenUserFull::EvictOldest);
        let mut places = Vec::new();
        for id in 0..100 {
            let mut place = users.reserve(limit).await.unwrap();
            let evicted = place.confirm(SessionId::new(id), Instant::now()).evict;
            assert_eq!(evicted.len(), usize::from(id > 0));
            places.push(place);
        }
    }

    #[tokio::test]
    async fn refusing_asks_the_holders_first_and_a_dead_one_makes_room() {
        let users = Users::new();
        let limit = limit(1, WhenUserFull::Refuse);
        let holder = users.session(1);
        let mut place = users.reserve(limit).await.unwrap();
        place.confirm(holder.handle().id, Instant::now());
        // No answer within the patience: the holder keeps its place.
        assert_eq!(users.reserve(limit).await.unwrap_err(), Rejection::UserLimit);
        let [Order::Probe(unanswered)] = &holder.handle().take_orders()[..] else {
            panic!("no probe")
        };
        assert!(!unanswered.is_settled());
        // Its session ends when it is asked: the place is free.
        let waiting = tokio::time::timeout(
            Duration::from_secs(10),
            users.reserve_within(limit, Duration::from_secs(60)),
        );
        let dying = async {
            loop {
                if let [Order::Probe(probe)] = &holder.handle().take_orders()[..] {
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
    async fn who_was_replaced_and_comes_back_has_reconnected() {
        let users = Users::new();
        let limit = limit(1, WhenUserFull::EvictOldest);
        let mut places = Vec::new();
        for (id, is_reconnect) in [(1, false), (2, false), (3, true), (4, true)] {
            let mut place = users.reserve(limit).await.unwrap();
            let confirmed = place.confirm(SessionId::new(id), Instant::now());
            assert_eq!(
                (confirmed.is_reconnect, confirmed.evict.len()),
                (is_reconnect, usize::from(id > 1))
            );
            places.push(place);
        }
    }

    #[tokio::test]
    async fn a_user_back_within_a_minute_has_reconnected() {
        let users = Users::new();
        let limit = limit(0, WhenUserFull::EvictOldest);
        let now = Instant::now();
        let mut place = users.reserve(limit).await.unwrap();
        assert!(!place.confirm(SessionId::new(1), now).is_reconnect);
        drop(place);
        let mut place = users.reserve(limit).await.unwrap();
        assert!(place.confirm(SessionId::new(2), Instant::now()).is_reconnect);
        drop(place);
        let mut place = users.reserve(limit).await.unwrap();
        let later = Instant::now() + Duration::from_secs(61);
        assert!(!place.confirm(SessionId::new(3), later).is_reconnect);
    }
}
