//! The addresses of names: resolved once, kept fresh in the background, and the last good answer kept
//! while the resolver fails. I/O.
//!
//! No handshake calls `getaddrinfo`: it may take seconds, and it blocks a thread. A name that is asked
//! for the first time is resolved once for all that ask; from then on it is refreshed every
//! [`REFRESH`], until it has not been asked for during [`FORGOTTEN`].

use std::fmt;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// The addresses of a name, in the resolver's order. Never empty.
pub(crate) type Addresses = Arc<[IpAddr]>;

/// An answer of the resolver, and for how long it counts if the resolver says so.
#[derive(Debug, Clone)]
pub(crate) struct Resolved {
    pub(crate) addresses: Vec<IpAddr>,
    /// `None`: [`REFRESH`].
    pub(crate) ttl: Option<Duration>,
}

/// A resolver's work on one name.
pub(crate) type Resolving = Pin<Box<dyn Future<Output = io::Result<Resolved>> + Send>>;

/// Asks for the addresses of a name.
pub(crate) type Resolver = Arc<dyn Fn(String) -> Resolving + Send + Sync>;

/// All names in use.
pub(crate) struct Names {
    resolver: Resolver,
    entries: DashMap<String, Arc<Entry>>,
}

struct Entry {
    name: String,
    known: watch::Sender<Known>,
    /// A resolution is under way.
    is_busy: AtomicBool,
}

#[derive(Debug, Clone)]
struct Known {
    addresses: Option<Addresses>,
    /// When to ask again.
    due: Instant,
    /// Why the last resolution failed.
    failure: Option<(io::ErrorKind, String)>,
    used: Instant,
}

impl Names {
    /// Names as this machine resolves them (`getaddrinfo`).
    pub(crate) fn of_system() -> Arc<Self> {
        Self::new(Arc::new(|name| Box::pin(ask_system(name))))
    }

    /// Names as `resolver` has them.
    pub(crate) fn new(resolver: Resolver) -> Arc<Self> {
        Arc::new(Self { resolver, entries: DashMap::new() })
    }

    /// The addresses of a name; an address is its own.
    ///
    /// # Errors
    ///
    /// The resolver's, if there never was an answer.
    pub(crate) async fn resolve(&self, name: &str) -> io::Result<Addresses> {
        if let Ok(address) = name.parse::<IpAddr>() {
            return Ok(Arc::from([address]));
        }
        let entry = self.entry(name)?;
        let now = Instant::now();
        entry.known.send_if_modified(|known| {
            known.used = now;
            false
        });
        let mut known = entry.known.subscribe();
        loop {
            let (answer, is_due) = {
                let known = known.borrow_and_update();
                (known.answer(), known.due <= Instant::now())
            };
            // An answer that is old is given all the same: it is being replaced meanwhile.
            if is_due {
                entry.begin(&self.resolver);
            }
            match answer {
                Some(answer) if answer.is_ok() || !is_due => return answer,
                _ => {}
            }
            if known.changed().await.is_err() {
                return Err(io::Error::other("the resolver is gone"));
            }
        }
    }

    /// Keeps the names fresh that are in use, and forgets the others. Runs until it is dropped.
    pub(crate) async fn refresh(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK).await;
            let now = Instant::now();
            self.entries.retain(|_, entry| now - entry.known.borrow().used < FORGOTTEN);
            for entry in self.entries.iter() {
                if entry.known.borrow().due <= now {
                    entry.begin(&self.resolver);
                }
            }
        }
    }

    fn entry(&self, name: &str) -> io::Result<Arc<Entry>> {
        if let Some(entry) = self.entries.get(name) {
            return Ok(Arc::clone(&entry));
        }
        if self.entries.len() >= MOST {
            return Err(io::Error::other("too many names are in use"));
        }
        let made = || Arc::new(Entry::new(name));
        Ok(Arc::clone(&self.entries.entry(name.to_owned()).or_insert_with(made)))
    }
}

impl Entry {
    fn new(name: &str) -> Self {
        let now = Instant::now();
        let known = Known { addresses: None, due: now, failure: None, used: now };
        Self {
            name: name.to_owned(),
            known: watch::Sender::new(known),
            is_busy: AtomicBool::new(false),
        }
    }

    /// Begins to resolve, unless that is under way: however many ask, one does.
    #[expect(
        clippy::disallowed_methods,
        reason = "a resolver that hangs must not hold up the end of the process"
    )]
    fn begin(self: &Arc<Self>, resolver: &Resolver) {
        if self.is_busy.swap(true, Ordering::AcqRel) {
            return;
        }
        let (entry, resolving) = (Arc::clone(self), resolver(self.name.clone()));
        tokio::spawn(async move {
            let resolved = timeout(PATIENCE, resolving).await;
            let late = || Err(io::Error::new(io::ErrorKind::TimedOut, "the resolver is silent"));
            let resolved = resolved.unwrap_or_else(|_| late());
            // Before the news, so that whoever hears of a failure can begin again.
            entry.is_busy.store(false, Ordering::Release);
            entry.known.send_modify(|known| known.note(resolved, Instant::now()));
        });
    }
}

impl Known {
    fn answer(&self) -> Option<io::Result<Addresses>> {
        let failure =
            |(kind, text): &(io::ErrorKind, String)| Err(io::Error::new(*kind, text.clone()));
        self.addresses.clone().map(Ok).or_else(|| self.failure.as_ref().map(failure))
    }

    fn note(&mut self, resolved: io::Result<Resolved>, now: Instant) {
        match resolved {
            Ok(Resolved { addresses, ttl }) if !addresses.is_empty() => {
                self.addresses = Some(addresses.into());
                self.failure = None;
                self.due = now + ttl.unwrap_or(REFRESH).max(SHORTEST);
            }
            Ok(_) => self.fail(io::ErrorKind::NotFound, "the name has no address".to_owned(), now),
            Err(error) => self.fail(error.kind(), error.to_string(), now),
        }
    }

    /// What was known stays.
    fn fail(&mut self, kind: io::ErrorKind, text: String, now: Instant) {
        self.failure = Some((kind, text));
        self.due = now + SHORTEST;
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names").field("known", &self.entries.len()).finish_non_exhaustive()
    }
}

async fn ask_system(name: String) -> io::Result<Resolved> {
    let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in found.map(|address| address.ip()) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    // getaddrinfo does not say for how long an answer counts.
    Ok(Resolved { addresses, ttl: None })
}

/// How long an answer counts whose resolver does not say.
const REFRESH: Duration = Duration::from_secs(30);
/// A failed name is asked for again after this, and none more often.
const SHORTEST: Duration = Duration::from_secs(1);
/// A name nobody has asked for during this time is not refreshed any more.
const FORGOTTEN: Duration = Duration::from_secs(600);
/// How often names are looked through.
const LOOK: Duration = Duration::from_secs(1);
/// How long a resolver may take; a new attempt begins then.
const PATIENCE: Duration = Duration::from_secs(30);
/// Names come from the configuration; this bounds what a mistake can cost.
const MOST: usize = 10_000;

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// A resolver that gives these answers one after the other, the last for ever, and counts.
    struct Script {
        answers: Mutex<VecDeque<Result<&'static str, &'static str>>>,
        asked: AtomicUsize,
    }

    fn script(answers: &[Result<&'static str, &'static str>]) -> (Arc<Script>, Arc<Names>) {
        let answers = Mutex::new(answers.iter().copied().collect());
        let script = Arc::new(Script { answers, asked: AtomicUsize::new(0) });
        let of = Arc::clone(&script);
        let names = Names::new(Arc::new(move |_| {
            of.asked.fetch_add(1, Ordering::SeqCst);
            let mut answers = of.answers.lock().unwrap();
            let answer = if answers.len() > 1 { answers.pop_front().unwrap() } else { answers[0] };
            Box::pin(async move {
                tokio::task::yield_now().await;
                let addresses = answer.map_err(io::Error::other)?;
                let addresses = addresses.split_whitespace().map(|it| it.parse().unwrap());
                Ok(Resolved { addresses: addresses.collect(), ttl: None })
            })
        }));
        (script, names)
    }

    fn shown(addresses: io::Result<Addresses>) -> String {
        match addresses {
            Ok(addresses) => {
                addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
            }
            Err(error) => error.to_string(),
        }
    }

    async fn after(duration: Duration) {
        tokio::time::sleep(duration).await;
        // The refresh that was due then has its turns.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_is_resolved_once_for_all_and_kept_fresh_while_it_is_used() {
        let (script, names) = script(&[Ok("192.0.2.1 2001:db8::1"), Ok("192.0.2.2")]);
        tokio::select! {
            biased;
            () = Arc::clone(&names).refresh() => unreachable!(),
            () = async {
                let all = tokio::join!(names.resolve("a"), names.resolve("a"), names.resolve("a"));
                assert_eq!(shown(all.0), "192.0.2.1 2001:db8::1");
                assert_eq!((shown(all.1), shown(all.2)).0, "192.0.2.1 2001:db8::1");
                assert_eq!(script.asked.load(Ordering::SeqCst), 1);
                after(Duration::from_secs(20)).await;
                assert_eq!(shown(names.resolve("a").await), "192.0.2.1 2001:db8::1");
                after(Duration::from_secs(12)).await;
                assert_eq!(script.asked.load(Ordering::SeqCst), 2, "in the background");
                assert_eq!(shown(names.resolve("a").await), "192.0.2.2");
                after(FORGOTTEN + Duration::from_secs(2)).await;
                assert!(names.entries.is_empty());
            } => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_good_answer_counts_while_the_resolver_fails() {
        let (_, names) = script(&[Ok("192.0.2.1"), Err("down"), Err("down"), Ok("192.0.2.2")]);
        tokio::select! {
            biased;
            () = Arc::clone(&names).refresh() => unreachable!(),
            () = async {
                assert_eq!(shown(names.resolve("a").await), "192.0.2.1");
                after(Duration::from_secs(31)).await;
                assert_eq!(shown(names.resolve("a").await), "192.0.2.1");
                after(Duration::from_secs(5)).await;
                assert_eq!(shown(names.resolve("a").await), "192.0.2.2");
            } => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_fails_is_not_asked_for_by_every_handshake() {
        let (script, names) = script(&[Err("no such name")]);
        for _ in 0..50 {
            assert_eq!(shown(names.resolve("a").await), "no such name");
        }
        assert_eq!(script.asked.load(Ordering::SeqCst), 1);
        tokio::time::sleep(SHORTEST).await;
        assert_eq!(shown(names.resolve("a").await), "no such name");
        assert_eq!(script.asked.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_resolver_that_hangs_hangs_once() {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let names = Names::new(Arc::new(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            Box::pin(std::future::pending())
        }));
        for _ in 0..20 {
            let waited = timeout(Duration::from_millis(100), names.resolve("a")).await;
            assert!(waited.is_err());
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        assert_eq!(shown(names.resolve("a").await), "the resolver is silent");
    }

    #[tokio::test]
    async fn addresses_are_their_own() {
        let (script, names) = script(&[Err("never asked")]);
        assert_eq!(shown(names.resolve("192.0.2.9").await), "192.0.2.9");
        assert_eq!(shown(names.resolve("2001:db8::9").await), "2001:db8::9");
        assert_eq!(script.asked.load(Ordering::SeqCst), 0);
        assert!(shown(Names::of_system().resolve("localhost").await).contains("127.0.0.1"));
    }
}
