//! The running process: sockets bound, tasks started, and the end in order. I/O.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::overview::{self, Dashboard};
use crate::admin::serve::{AdminListener, BindError};
use crate::config::{Config, Problem};
use crate::gateway::Gateway;
use crate::gateway::accept::OpenListeners;
use crate::gateway::process::{Current, Process};
use crate::session::recent::Recent;
use crate::telemetry::Telemetry;

use load::load;
use reload::{Bound, Reloader, Reloads};
use sockets::Held;
use systemd::Manager;

pub(crate) mod drain;
pub(crate) mod load;
pub(crate) mod reload;
pub(crate) mod sockets;
pub(crate) mod systemd;

/// A gateway whose sockets are bound.
pub(crate) struct Server {
    current: Current,
    sockets: Vec<Bound>,
    held: Held,
    admin: Option<AdminListener>,
}

/// Why a server could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// What the configuration names cannot be used.
    #[error("the configuration cannot be used")]
    Config(Vec<Problem>),
    /// Sockets could not be opened.
    #[error("{}", one_by_one(.0))]
    Listen(Vec<Problem>),
    /// The admin socket could not be opened.
    #[error(transparent)]
    Admin(#[from] BindError),
}

impl Server {
    /// Reads what the configuration names and opens the sockets, but for those that are `held`
    /// already.
    pub(crate) async fn bind(config: Config, mut held: Held) -> Result<Self, StartError> {
        let process = Process::new(&config.limits);
        let mut loaded = load(config, &process).map_err(StartError::Config)?;
        let missing = held.missing(&loaded.config);
        if !missing.is_empty() {
            return Err(StartError::Config(missing));
        }
        let sockets = reload::bind(&loaded, &mut held, &OpenListeners::default())
            .map_err(StartError::Listen)?;
        let admin = match &loaded.config.admin {
            None => None,
            Some(admin) => Some(AdminListener::bind(&admin.bind, held.admin(&admin.bind)).await?),
        };
        let warnings = std::mem::take(&mut loaded.warnings);
        let telemetry = Telemetry::new(&loaded.config);
        let current = Current::new(Gateway::new(loaded, process, telemetry));
        current.gateway().telemetry().config_unwise(&warnings);
        Ok(Self { current, sockets, held, admin })
    }

    /// Serves until `shutdown` resolves, and takes other configurations up to then; then drains.
    /// Returns when no session is left, when the drain's time is over, or soon after `at_once` is
    /// cancelled.
    pub(crate) async fn run(
        self,
        shutdown: impl Future<Output = ()>,
        at_once: &CancellationToken,
        reloads: Option<Reloads>,
    ) {
        let Self { current, sockets, held, admin } = self;
        let manager = Arc::new(Manager::from_environment());
        let (stop_listening, stop) = (CancellationToken::new(), CancellationToken::new());
        // Not the gateway's tasks: operators look while the gateway drains.
        let background = TaskTracker::new();
        let mut reloader = Reloader::new(
            current.clone(),
            Arc::clone(&manager),
            held,
            stop_listening.clone(),
            background.clone(),
        );
        let gateway = current.gateway();
        // First: a probe that comes with the first connection is told the truth.
        gateway.process().set_listening(true);
        reloader.begin(sockets);
        if let Some(admin) = admin {
            let dashboard = Arc::new(Dashboard::new(Instant::now(), Timestamp::now()));
            gateway.telemetry().listener_opened("admin", &admin);
            background.spawn(
                stop.clone()
                    .run_until_cancelled_owned(admin.run(current.clone(), Arc::clone(&dashboard))),
            );
            let remembered = overview::remember(current.clone(), dashboard);
            background.spawn(stop.clone().run_until_cancelled_owned(remembered));
        }
        let process = Arc::clone(gateway.process());
        manager.ready(&systemd::serving(&gateway)).await;
        let (open, telemetry) = (Arc::clone(reloader.open()), Arc::clone(gateway.telemetry()));
        let feed = Arc::clone(&manager).feed(open, telemetry);
        background.spawn(stop.clone().run_until_cancelled_owned(feed));
        let report = Arc::clone(&manager).report(current.clone());
        background.spawn(stop.clone().run_until_cancelled_owned(report));
        let sweeping = sweep(Arc::clone(&process), Arc::clone(&gateway.telemetry().recent));
        background.spawn(stop.clone().run_until_cancelled_owned(sweeping));
        drop(gateway);
        tokio::select! {
            () = shutdown => {}
            () = reloader.run(reloads, reload::LOOK) => {}
        }
        manager.stopping(&process).await;
        drain::run(&current.gateway(), stop_listening, at_once).await;
        stop.cancel();
        drop(reloader);
        background.close();
        background.wait().await;
    }
}

fn one_by_one(problems: &[Problem]) -> String {
    problems.iter().map(|problem| problem.message.as_str()).collect::<Vec<_>>().join("; ")
}

/// Keeps the addresses of names fresh; forgets client addresses and users that are gone, and old ends.
async fn sweep(process: Arc<Process>, recent: Arc<Recent>) {
    tokio::join!(Arc::clone(&process.names).refresh(), forget(process, recent));
}

async fn forget(process: Arc<Process>, recent: Arc<Recent>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let (process, recent) = (Arc::clone(&process), Arc::clone(&recent));
        // A walk over large tables: not on a thread that relays. Cut short, the next one goes on.
        let _ = tokio::task::spawn_blocking(move || {
            let now = Instant::now();
            process.addresses.sweep(now);
            process.users.sweep(now);
            recent.sweep(now);
        })
        .await;
    }
}

const SWEEP: Duration = Duration::from_secs(20);
