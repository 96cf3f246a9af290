//! Sessions per user: the interface of the table that counts them. No I/O.
//!
//! A place is reserved at admission and confirmed only after the upstream's 101, when older sessions of
//! the user are evicted if need be: a dead backend evicts no session. The table knows sessions by their
//! ids only; the caller of [`UserPlace::confirm`] ends those that it returns.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::id::SessionId;
use crate::config::{RouteLimits, WhenUserFull};
use crate::outcome::rejection::Rejection;

/// Whose sessions are counted: users of different issuers are different users.
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

/// By what a user's sessions are counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum ScopeKey {
    /// One route, by its label.
    Route(Arc<str>),
    /// All routes.
    All,
    /// A path parameter's value.
    Path(String, String),
}

/// How many sessions, and what happens to one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UserLimit {
    /// Most sessions; 0: no limit.
    pub(crate) sessions: u32,
    /// What happens to one more.
    pub(crate) when_full: WhenUserFull,
}

/// What confirming a place brought about.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Confirmed {
    /// Sessions to be ended, oldest first.
    pub(crate) evict: Vec<SessionId>,
    /// The user's last session ended less than a minute ago.
    pub(crate) is_reconnect: bool,
}

/// A reservation under way.
pub(crate) type Reserving<'a> = Pin<Box<dyn Future<Output = Result<(), Rejection>> + Send + 'a>>;

/// The count of sessions per user.
pub trait Limiter: Debug + Send + Sync {
    /// Reserves a place. Where a session more is refused and no place is free, the holders are pinged
    /// first, for at most `patience`: a session whose client is gone gives its place up.
    ///
    /// # Errors
    ///
    /// [`Rejection::UserLimit`], or [`Rejection::Overloaded`] when no more users can be counted.
    fn reserve<'a>(
        &'a self,
        key: &'a UserKey,
        limit: UserLimit,
        patience: Duration,
    ) -> Reserving<'a>;

    /// The reserved place becomes a session's.
    fn confirm(
        &self,
        key: &UserKey,
        limit: UserLimit,
        session: SessionId,
        now: Instant,
    ) -> Confirmed;

    /// A session that was evicted has answered its Close: its client was alive. One that was dead cost its
    /// user nothing.
    fn evicted_alive(&self, key: &UserKey, now: Instant);

    /// Gives a place up: a confirmed session's, or a reserved one.
    fn release(&self, key: &UserKey, session: Option<SessionId>, now: Instant);
}

/// A user's place, given up on drop.
#[derive(Debug)]
pub(crate) struct UserPlace {
    limiter: Arc<dyn Limiter>,
    key: UserKey,
    limit: UserLimit,
    /// `None` while only reserved.
    session: Option<SessionId>,
}

impl UserPlace {
    /// Reserves a place.
    ///
    /// # Errors
    ///
    /// Those of [`Limiter::reserve`].
    pub(crate) async fn reserve(
        limiter: &Arc<dyn Limiter>,
        key: UserKey,
        limit: UserLimit,
        patience: Duration,
    ) -> Result<Self, Rejection> {
        limiter.reserve(&key, limit, patience).await?;
        Ok(Self { limiter: Arc::clone(limiter), key, limit, session: None })
    }

    /// The upstream has answered 101. The session must be in the registry already, as another may
    /// evict it from now on.
    pub(crate) fn confirm(&mut self, session: SessionId, now: Instant) -> Confirmed {
        self.session = Some(session);
        self.limiter.confirm(&self.key, self.limit, session, now)
    }

    /// What a session is given that has to make room for this one.
    pub(crate) fn eviction(&self) -> Eviction {
        Eviction { limiter: Arc::clone(&self.limiter), key: self.key.clone() }
    }
}

/// A session is ended for a newer one of its user.
#[derive(Debug, Clone)]
pub(crate) struct Eviction {
    limiter: Arc<dyn Limiter>,
    key: UserKey,
}

impl Eviction {
    /// Its client has answered: it was alive, and the eviction counts.
    pub(crate) fn was_alive(&self, now: Instant) {
        self.limiter.evicted_alive(&self.key, now);
    }
}

impl Drop for UserPlace {
    fn drop(&mut self) {
        self.limiter.release(&self.key, self.session, Instant::now());
    }
}

impl From<&RouteLimits> for UserLimit {
    fn from(limits: &RouteLimits) -> Self {
        Self { sessions: limits.connections_per_user, when_full: limits.when_user_full }
    }
}
