//! Keys that an issuer publishes: fetched, kept and swapped. I/O.
//!
//! A [`KeySource`] is what a verifier knows of its issuer's keys. It outlives a reload that leaves its
//! settings alone ([`SourceTable`]). [`refresh`] fetches the set at the start and in the background,
//! and hands it over as a whole; who checks a token takes what is there and waits for no fetch.
//!
//! Only a token whose key is not known waits (`admission::signature`), at most `jwks.timeout`, for the
//! one fetch that such tokens cause every `jwks.cooldown`. A refusal would be wrong just after an issuer
//! has begun to sign with a new key, and waiting longer would let anybody pile up handshakes by
//! inventing keys. Issuers that publish a key for a while before they sign with it make nobody wait.
//!
//! Where keys come from is in the configuration: `jku` and `x5u` of a token are not looked at.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio::time::timeout_at;

use self::fetch::FetchError;
use self::schedule::{Ask, Gate};
use super::keys::KeySet;
use crate::config::{Jwks, Locations, Problem, Verifier};
use crate::net::tls::tls_connector;

pub(crate) mod fetch;
pub(crate) mod refresh;
mod schedule;
pub(crate) mod set;

/// What is known of an issuer's keys.
pub(crate) struct KeySource {
    /// The verifier whose issuer it is.
    pub(crate) verifier: String,
    /// Where its keys are, and when they are fetched.
    pub(crate) settings: Jwks,
    known: watch::Sender<Known>,
    /// Held for a moment by tokens whose key is not known; never during a fetch.
    gate: Mutex<Gate>,
    wake: Notify,
}

/// A key set and its age.
pub(crate) struct Fetched {
    pub(crate) keys: KeySet,
    /// When the fetch that got them began.
    pub(crate) at: Instant,
    /// The same in seconds since 1970.
    pub(crate) unix: u64,
}

#[derive(Default)]
struct Known {
    /// The last good set.
    fetched: Option<Arc<Fetched>>,
    /// Number of the last fetch that has ended.
    ended: u64,
    /// What was wrong with it.
    error: Option<String>,
}

impl KeySource {
    fn new(verifier: &Verifier, settings: &Jwks, fetched: Option<Arc<Fetched>>) -> Self {
        Self {
            verifier: verifier.name.clone(),
            settings: settings.clone(),
            known: watch::Sender::new(Known { fetched, ended: 0, error: None }),
            gate: Mutex::default(),
            wake: Notify::new(),
        }
    }

    /// The keys, unless there are none yet or they are too old.
    pub(crate) fn current(&self, now: Instant) -> Option<Arc<Fetched>> {
        let fetched = self.known.borrow().fetched.clone()?;
        (fetched.age(now) < self.settings.stale).then_some(fetched)
    }

    /// For a token whose key is not among the current ones, after it has waited for fetch number
    /// `waited` (0: none): the number of the fetch to wait for, which is begun if need be.
    pub(super) fn ask(&self, waited: u64, now: Instant) -> Option<u64> {
        let ask = self.gate().ask(waited, now, self.settings.cooldown);
        match ask {
            Ask::Join(number) => Some(number),
            Ask::Begin(number) => {
                self.wake.notify_one();
                Some(number)
            }
            Ask::Refused => None,
        }
    }

    /// The number of the first fetch that has not begun.
    pub(super) fn next_fetch(&self) -> u64 {
        self.gate().next()
    }

    /// Waits until this fetch has ended; false if it has not by then.
    pub(super) async fn ended(&self, number: u64, deadline: Instant) -> bool {
        let mut known = self.known.subscribe();
        let ended = known.wait_for(|known| known.ended >= number);
        timeout_at(deadline.into(), ended).await.is_ok_and(|ended| ended.is_ok())
    }

    /// Has it fetched as soon as possible.
    fn want(&self) {
        self.gate().want();
        self.wake.notify_one();
    }

    /// Waits until somebody wants a fetch that has not begun.
    async fn wanted(&self) {
        while !self.gate().is_wanted() {
            self.wake.notified().await;
        }
    }

    fn begin(&self) {
        self.gate().begin();
    }

    /// A fetch has ended; with a new set, that is swapped in.
    fn end(&self, fetched: Result<Fetched, FetchError>) {
        let number = self.gate().end();
        self.known.send_modify(|known| {
            match fetched {
                Ok(fetched) => {
                    known.fetched = Some(Arc::new(fetched));
                    known.error = None;
                }
                Err(error) => known.error = Some(error.to_string()),
            }
            known.ended = number;
        });
    }

    /// What was wrong with the last fetch, if anything was.
    pub(crate) fn last_error(&self) -> Option<String> {
        self.known.borrow().error.clone()
    }

    /// The last good set, however old.
    pub(crate) fn last(&self) -> Option<Arc<Fetched>> {
        self.known.borrow().fetched.clone()
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the authorities that `jwks.ca` names can be used, in the verifier at `path_prefix` of the
/// configuration. Blocking file I/O.
pub(super) fn check_authorities(
    verifier: &Verifier,
    path_prefix: &str,
    locations: &Locations,
) -> Result<(), Problem> {
    let jwks = verifier.jwks.as_ref().filter(|jwks| jwks.is_https());
    let Some(file) = jwks.and_then(|jwks| jwks.ca.as_deref()) else { return Ok(()) };
    let problem = |error| locations.problem(format!("{path_prefix}.jwks.ca"), error);
    tls_connector(Some(file)).map(drop).map_err(problem)
}

/// The sources of all configurations in use.
#[derive(Default)]
pub struct SourceTable(Mutex<Vec<Weak<KeySource>>>);

impl SourceTable {
    /// The source of a verifier with these settings: the one there is, with all that it knows. Other
    /// times for the same place are another source that begins with the same keys; another place
    /// begins with nothing.
    pub(crate) fn source(&self, verifier: &Verifier, settings: &Jwks) -> Arc<KeySource> {
        let mut sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sources.retain(|source| source.strong_count() > 0);
        let known: Vec<_> = sources.iter().filter_map(Weak::upgrade).collect();
        let mut known: Vec<_> = known.iter().filter(|s| s.verifier == verifier.name).collect();
        if let Some(same) = known.iter().find(|source| source.settings == *settings) {
            return Arc::clone(same);
        }
        known.retain(|source| source.settings.has_same_origin(settings));
        let newest = known.iter().filter_map(|s| s.last()).max_by_key(|fetched| fetched.at);
        let source = Arc::new(KeySource::new(verifier, settings, newest));
        sources.push(Arc::downgrade(&source));
        source
    }
}

impl Fetched {
    /// Time since then.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.at)
    }
}

#[cfg(test)]
mod tests;
