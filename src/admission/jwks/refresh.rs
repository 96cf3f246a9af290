//! The tasks that fetch: one for each key source of the configuration in force. I/O.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use tokio::time::sleep_until;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::fetch::{FetchError, fetch};
use super::schedule::Schedule;
use super::set::{KID_SHOWN, ParsedSet};
use super::{Fetched, KeySource};
use crate::admission::Admission;
use crate::admission::keys::{KeySet, VerificationKey};
use crate::config::locations::child;
use crate::config::{JwksSource, Locations, Problem};
use crate::fetch;
use crate::telemetry::Telemetry;
use crate::telemetry::labels::KeyRefresh;

/// The fetches that go on. Dropping it ends them.
#[derive(Default)]
pub(crate) struct Refreshes(Vec<Running>);

struct Running {
    source: Arc<KeySource>,
    _stop: DropGuard,
}

impl Refreshes {
    /// From now on keeps these sources fresh. One that is kept fresh already goes on undisturbed, but
    /// for files: whoever asks for a reload may have changed one.
    pub(crate) fn follow<'a>(
        &mut self,
        sources: impl Iterator<Item = &'a Arc<KeySource>>,
        client: &fetch::Client,
        telemetry: &Arc<Telemetry>,
        tasks: &TaskTracker,
    ) {
        let mut before = std::mem::take(&mut self.0);
        for source in sources {
            let known = before.iter().position(|running| Arc::ptr_eq(&running.source, source));
            if let Some(at) = known {
                if matches!(source.settings.source, JwksSource::File(_)) {
                    source.want();
                }
                self.0.push(before.swap_remove(at));
                continue;
            }
            let stop = CancellationToken::new();
            let refresher =
                Refresher::new(Arc::clone(source), client.clone(), Arc::clone(telemetry));
            tasks.spawn(stop.clone().run_until_cancelled_owned(refresher.run()));
            self.0.push(Running { source: Arc::clone(source), _stop: stop.drop_guard() });
        }
    }
}

/// Before a reload: a verifier that would be left with no key at all, as its keys are at another place
/// now, gets them from there. Where that fails, the configuration before had better stay.
pub(crate) async fn fetch_first(
    client: &fetch::Client,
    admission: &Admission,
    locations: &Locations,
    before: &Admission,
) -> Result<(), Vec<Problem>> {
    let mut problems = Vec::new();
    for verifier in admission.verifiers() {
        let Some(source) = verifier.published.as_ref() else { continue };
        let is_known = before.key_sources().any(|known| Arc::ptr_eq(known, source));
        if is_known || !verifier.is_empty(unix_now()) {
            continue;
        }
        source.begin();
        let (at, unix) = (Instant::now(), unix_now());
        let fetched = fetch(client, &source.settings).await;
        if let Err(error) = &fetched {
            let path = child(&child("verifiers", &source.verifier), "jwks");
            let message = format!("the keys cannot be fetched from there: {error}");
            problems.push(locations.problem(path, message));
        }
        source.end(fetched.map(|set| Fetched { keys: KeySet::new(set.keys), at, unix }));
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// Keeps one source fresh, and tells of it when something changes.
struct Refresher {
    source: Arc<KeySource>,
    client: fetch::Client,
    telemetry: Arc<Telemetry>,
    schedule: Schedule,
    /// How the last fetch went.
    last: Option<KeyRefresh>,
    /// The keys and notes that were told.
    told: (String, Vec<String>),
    is_outdated: bool,
}

impl Refresher {
    fn new(source: Arc<KeySource>, client: fetch::Client, telemetry: Arc<Telemetry>) -> Self {
        let known = source.last();
        let at = known.as_ref().map(|fetched| fetched.at);
        let schedule = Schedule::new(&source.settings, at, Instant::now(), fastrand::f64());
        let last_success = known.as_ref().map_or(0, |fetched| fetched.unix);
        telemetry.key_source_opened(&source.verifier, last_success);
        let names = known.map_or_else(String::new, |fetched| names(fetched.keys.keys()));
        Self {
            source,
            client,
            telemetry,
            schedule,
            last: None,
            told: (names, vec![]),
            is_outdated: false,
        }
    }

    async fn run(mut self) {
        loop {
            tokio::select! {
                () = self.source.wanted() => {}
                () = sleep_until(self.schedule.due().into()) => {}
                () = self.outdated() => {
                    self.is_outdated = true;
                    self.telemetry.keys_outdated(&self.source.verifier);
                    continue;
                }
            }
            self.refresh().await;
        }
    }

    /// Waits until the keys are too old to be used, unless that has been told.
    async fn outdated(&self) {
        match self.source.last().filter(|_| !self.is_outdated) {
            Some(last) => sleep_until((last.at + self.source.settings.stale).into()).await,
            None => std::future::pending().await,
        }
    }

    async fn refresh(&mut self) {
        self.source.begin();
        let (at, unix) = (Instant::now(), unix_now());
        let fetched = match fetch(&self.client, &self.source.settings).await {
            Ok(set) => Ok(self.succeeded(set, at, unix)),
            Err(error) => {
                self.failed(&error);
                Err(error)
            }
        };
        self.source.end(fetched);
    }

    fn succeeded(&mut self, set: ParsedSet, at: Instant, unix: u64) -> Fetched {
        let verifier = self.source.verifier.as_str();
        self.schedule.succeeded(at, !set.keys.is_empty(), fastrand::f64());
        let is_back = self.last.replace(KeyRefresh::Ok) != Some(KeyRefresh::Ok);
        self.is_outdated = false;
        let told = (names(&set.keys), set.notes);
        let is_news = is_back || told != self.told;
        self.telemetry.keys_fetched(verifier, unix, is_news.then_some((&told.0, &told.1)));
        self.told = told;
        Fetched { keys: KeySet::new(set.keys), at, unix }
    }

    fn failed(&mut self, error: &FetchError) {
        let now = Instant::now();
        let has_keys = self.source.current(now).is_some();
        self.schedule.failed(now, has_keys, fastrand::f64());
        let result = error.result();
        let is_news = self.last.replace(result) != Some(result);
        self.telemetry.keys_not_fetched(&self.source.verifier, result, error, has_keys, is_news);
    }
}

/// The keys of a set for the log: `a (ES256), b (RS256)`, those without kid as `-`. Their number and their
/// length are the issuer's choice: a line has room for some.
fn names(keys: &[VerificationKey]) -> String {
    let name = |key: &VerificationKey| {
        let kid: String = key.kid.as_deref().unwrap_or("-").chars().take(KID_SHOWN).collect();
        format!("{kid} ({:?})", key.algorithm)
    };
    let mut names: Vec<_> = keys.iter().take(SHOWN).map(name).collect();
    if keys.len() > SHOWN {
        names.push(format!("and {} more", keys.len() - SHOWN));
    }
    names.join(", ")
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

const SHOWN: usize = 24;

#[cfg(test)]
mod tests {
    use jsonwebtoken::{Algorithm, DecodingKey};

    use super::*;

    #[test]
    fn a_line_has_room_for_some_names() {
        let key = |kid: Option<&str>| VerificationKey {
            kid: kid.map(str::to_owned),
            algorithm: Algorithm::ES256,
            key: DecodingKey::from_secret(b"x"),
            not_after: None,
        };
        assert_eq!(names(&[]), "");
        assert_eq!(names(&[key(Some("a")), key(None)]), "a (ES256), - (ES256)");
        let long = "k".repeat(10_000);
        let many = names(&vec![key(Some(&long)); 100]);
        assert!(many.ends_with(" (ES256), and 76 more") && many.len() < 2000, "{many}");
    }
}
