//! Another configuration, other certificates, without a dropped connection. I/O.
//!
//! On request the configuration's file is read as `framegate check` reads it; if anything is wrong,
//! nothing changes. Else a new [`Gateway`] takes the place of the one in force, all at once: new
//! connections are its own, those that are open keep the gateway they began with. Listeners that stay
//! keep their sockets, whatever else is said of them; new ones are bound before anything changes.
//!
//! Certificates are looked at now and then: whoever renews them need not tell.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::load::{self, load};
use crate::admission::jwks::refresh::{self, Refreshes};
use crate::config::{Bind, Change, Changes, Config, Problem};
use crate::gateway::Gateway;
use crate::gateway::Loaded;
use crate::gateway::accept::OpenListeners;
use crate::gateway::process::Current;
use crate::listener::Listener;
use crate::server::sockets::Held;
use crate::server::systemd::{Manager, serving};
use crate::telemetry::logging;
use crate::upstream::health::Checks;

/// Where another configuration comes from.
pub(crate) struct Reloads {
    /// The file it is read from.
    pub(crate) file: PathBuf,
    /// Told when it is to be read. What is told while it is being read has it read once more.
    pub(crate) requested: Arc<Notify>,
}

/// What is open and running on behalf of the gateway in force.
pub(crate) struct Reloader {
    current: Current,
    manager: Arc<Manager>,
    held: Held,
    open: Arc<OpenListeners>,
    stop_listening: CancellationToken,
    checks: Checks,
    refreshes: Refreshes,
    /// Tasks that are nobody's session.
    background: TaskTracker,
    /// What is wrong with certificates has been said, and is not said again.
    told: HashSet<String>,
}

/// A configuration that can be put in force at any moment.
struct Ready {
    loaded: Loaded,
    sockets: Vec<Bound>,
}

/// A listener with a socket of its own.
pub(crate) type Bound = (Arc<Listener>, TcpListener);

impl Reloader {
    /// Nothing open yet; `stop_listening` closes what will be. New listeners may have what is `held`.
    pub(crate) fn new(
        current: Current,
        manager: Arc<Manager>,
        held: Held,
        stop_listening: CancellationToken,
        background: TaskTracker,
    ) -> Self {
        Self {
            current,
            manager,
            held,
            open: Arc::default(),
            stop_listening,
            checks: Checks::default(),
            refreshes: Refreshes::default(),
            background,
            told: HashSet::new(),
        }
    }

    /// The sockets that are open.
    pub(crate) fn open(&self) -> &Arc<OpenListeners> {
        &self.open
    }

    /// Accepts on these sockets, checks the upstreams and fetches the keys of the gateway in force.
    pub(crate) fn begin(&mut self, sockets: Vec<Bound>) {
        let gateway = self.current.gateway();
        for (listener, socket) in sockets {
            let stop = self.stop_listening.child_token();
            self.open.open(&listener, socket, self.current.clone(), stop);
        }
        self.checks.follow(gateway.upstreams(), gateway.telemetry(), &self.background);
        let client = &gateway.process().fetch;
        let sources = gateway.key_sources();
        self.refreshes.follow(sources, client, gateway.telemetry(), &self.background);
        gateway.certificates_loaded();
    }

    /// Reloads whenever asked, and looks at the certificates at this interval. Can be dropped at any
    /// moment: whatever is in force then is complete.
    pub(crate) async fn run(&mut self, reloads: Option<Reloads>, look: Duration) {
        let mut ticks = tokio::time::interval_at(Instant::now() + look, look);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let requested = async {
                match &reloads {
                    Some(reloads) => reloads.requested.notified().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = requested => {}
                _ = ticks.tick() => {
                    self.renew_certificates().await;
                    continue;
                }
            }
            if let Some(reloads) = &reloads {
                self.reload(&reloads.file).await;
            }
        }
    }

    async fn reload(&mut self, file: &Path) {
        self.manager.reloading().await;
        let before = self.current.gateway();
        match self.prepare(file, &before).await {
            Ok(ready) => self.put_in_force(ready, &before),
            Err(problems) => before.telemetry().config_reload_failed(&problems),
        }
        self.manager.ready(&serving(&self.current.gateway())).await;
    }

    /// Everything that can fail.
    async fn prepare(&mut self, file: &Path, before: &Arc<Gateway>) -> Result<Ready, Vec<Problem>> {
        let (file, running) = (file.to_owned(), Arc::clone(before));
        let read = move || {
            // A pipe would be waited for as long as nobody writes into it, and no reload would follow.
            if std::fs::metadata(&file).is_ok_and(|found| !found.is_file()) {
                return Err(vec![whole_file(format!("{} is not a file", file.display()))]);
            }
            let mut config = load::read(&file).map_err(|problems| named(problems, &file))?;
            let unchangeable = pin(&mut config, running.config());
            let mut loaded = load(config, running.process())?;
            loaded.warnings.extend(unchangeable);
            Ok(loaded)
        };
        // Files may be slow to read: no worker waits for them.
        let read = tokio::task::spawn_blocking(read).await;
        let loaded = read.unwrap_or_else(|error| Err(vec![whole_file(error.to_string())]))?;
        let client = &before.process().fetch;
        let locations = &loaded.config.locations;
        refresh::fetch_first(client, &loaded.admission, locations, before.admission()).await?;
        let sockets = bind(&loaded, &mut self.held, &self.open)?;
        Ok(Ready { loaded, sockets })
    }

    fn put_in_force(&mut self, ready: Ready, before: &Gateway) {
        let Ready { mut loaded, sockets } = ready;
        let warnings = std::mem::take(&mut loaded.warnings);
        let process = Arc::clone(before.process());
        process.registry.pending.set_limit(loaded.config.limits.pending_bytes);
        logging::change(&loaded.config.log);
        let telemetry = before.telemetry().renewed(&loaded.config);
        let gateway = Gateway::new(loaded, process, telemetry);
        forget_drains(before, &gateway);
        let certificates = Change::between(before.certificates(), gateway.certificates());
        let changes = Changes::between(before.config(), gateway.config(), certificates);

        // First, so that no loop finds itself unknown before it is told to end.
        self.open.close_unless(|key| gateway.listener(key).is_some());
        self.current.replace(Arc::clone(&gateway));
        self.begin(sockets);
        self.told.clear();
        gateway.process().set_certificate_faults(Vec::new());
        gateway.telemetry().config_unwise(&warnings);
        gateway.telemetry().config_reloaded(&changes);
    }

    /// Puts certificates in force whose files have changed.
    async fn renew_certificates(&mut self) {
        let gateway = self.current.gateway();
        let looked_at = Arc::clone(&gateway);
        let found = match tokio::task::spawn_blocking(move || look(&looked_at)).await {
            Ok(found) => found,
            Err(error) => {
                return gateway
                    .telemetry()
                    .fault_seen("certificates could not be looked at", &error);
            }
        };
        if !found.names.is_empty() {
            let renewed = gateway.with_listeners(found.listeners);
            self.current.replace(Arc::clone(&renewed));
            renewed.certificates_loaded();
            renewed.telemetry().certificates_renewed(&found.names);
        }
        if found.problems.is_empty() {
            self.told.clear();
        }
        let faults = found.problems.iter().map(ToString::to_string).collect();
        gateway.process().set_certificate_faults(faults);
        for problem in found.problems {
            if self.told.insert(problem.to_string()) {
                gateway.telemetry().certificate_renewal_failed(&problem);
            }
        }
    }
}

/// An endpoint that goes is not being emptied any more, should it come again; the sessions on it get
/// their turns all the same.
fn forget_drains(before: &Gateway, now: &Gateway) {
    let endpoints = |gateway: &Gateway| {
        let endpoints = gateway.upstreams().iter().flat_map(|upstream| &upstream.endpoints);
        endpoints.map(|endpoint| Arc::clone(&endpoint.state)).collect::<Vec<_>>()
    };
    let kept = endpoints(now);
    for state in endpoints(before) {
        if !kept.iter().any(|kept| Arc::ptr_eq(kept, &state)) {
            state.set_draining(false);
        }
    }
}

/// Opens the sockets of those listeners that have none yet.
pub(crate) fn bind(
    loaded: &Loaded,
    held: &mut Held,
    open: &OpenListeners,
) -> Result<Vec<Bound>, Vec<Problem>> {
    let (mut bound, mut problems) = (Vec::new(), Vec::new());
    for (index, listener) in loaded.listeners.iter().enumerate() {
        if open.has(&listener.key) {
            continue;
        }
        match held.sockets(listener) {
            Ok(sockets) => {
                bound.extend(sockets.into_iter().map(|socket| (Arc::clone(listener), socket)));
            }
            Err(error) => {
                let path = format!("listener[{index}].bind");
                let message = format!("{error}{}", in_the_way(open, listener));
                problems.push(loaded.config.locations.problem(path, message));
            }
        }
    }
    if problems.is_empty() { Ok(bound) } else { Err(problems) }
}

/// Two addresses of a listener that moves may not be had at once, and the new one is opened first.
fn in_the_way(open: &OpenListeners, listener: &Listener) -> String {
    let Bind::Address(address) = listener.config.bind else { return String::new() };
    open.in_the_way_of(address).map_or_else(String::new, |own| {
        format!(
            "; the gateway itself listens on {own}, and closes that only once the new one is open: \
             take that listener out in one reload and put this one in in the next, or restart"
        )
    })
}

/// What a look at the certificates has found.
struct Found {
    listeners: Vec<Arc<Listener>>,
    /// Of the certificates that are new.
    names: Vec<String>,
    problems: Vec<Problem>,
}

fn look(gateway: &Gateway) -> Found {
    let mut found = Found { listeners: Vec::new(), names: Vec::new(), problems: Vec::new() };
    for (index, listener) in gateway.listeners().iter().enumerate() {
        let (renewed, renewal) = listener.renewed(index, gateway.config());
        if let Some(renewed) = renewed {
            found.names.extend(renewal.names);
            found.listeners.push(Arc::new(renewed));
        } else {
            found.listeners.push(Arc::clone(listener));
        }
        found.problems.extend(renewal.problems);
    }
    found
}

/// Leaves what only a restart can change as it is, and says so.
fn pin(config: &mut Config, running: &Config) -> Option<Problem> {
    let bind = |config: &Config| config.admin.as_ref().map(|admin| admin.bind.clone());
    if bind(config) == bind(running) {
        return None;
    }
    // With its token: a new address may need none that the old one must not be without.
    config.admin.clone_from(&running.admin);
    let message = "another address for the admin listener needs a restart; [admin] stays as it is";
    Some(config.locations.problem("admin.bind", message))
}

/// Problems of the whole file say which it is: the log has no other place for that.
fn named(mut problems: Vec<Problem>, file: &Path) -> Vec<Problem> {
    for problem in problems.iter_mut().filter(|problem| problem.path.is_empty()) {
        problem.message = format!("{}: {}", file.display(), problem.message);
    }
    problems
}

fn whole_file(message: String) -> Problem {
    Problem { path: String::new(), line: None, message }
}

/// How often certificates are looked at.
pub(crate) const LOOK: Duration = Duration::from_secs(10);
