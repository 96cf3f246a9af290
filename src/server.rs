//! The running process: sockets bound, tasks started, and the end in order. I/O.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::guards::Guards;
use crate::admin::serve::AdminListener;
use crate::admission::Admission;
use crate::config::{Config, Problem};
use crate::drain;
use crate::gateway::Gateway;
use crate::listener::{self, Listener};
use crate::process::{Current, Process};
use crate::telemetry::Telemetry;
use crate::upstream::endpoint::Upstream;
use crate::upstream::health::Checks;

/// A gateway whose sockets are bound.
pub struct Server {
    current: Current,
    sockets: Vec<(Arc<Listener>, TcpListener)>,
    admin: Option<AdminListener>,
    warnings: Vec<Problem>,
}

/// Why a server could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// What the configuration names cannot be used.
    #[error("the configuration cannot be used")]
    Config(Vec<Problem>),
    /// A socket could not be opened.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address as configured.
        address: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Everything read that a configuration names, and nothing bound.
pub struct Loaded {
    pub(crate) config: Config,
    pub(crate) admission: Admission,
    pub(crate) upstreams: Vec<Upstream>,
    pub(crate) listeners: Vec<Arc<Listener>>,
    pub(crate) guards: Option<Guards>,
    /// What is not wrong but unwise.
    pub warnings: Vec<Problem>,
}

/// Reads keys and certificates; all problems at once. What the process knows of users and endpoints
/// it goes on knowing.
pub fn load(config: Config, process: &Process) -> Result<Loaded, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut listeners = Vec::new();
    for index in 0..config.listeners.len() {
        match Listener::new(index, &config) {
            Ok(listener) => listeners.push(Arc::new(listener)),
            Err(more) => problems.extend(more),
        }
    }
    let admin = config.admin.as_ref();
    let guards = admin.map(|admin| crate::admin::serve::guards(admin, &config.locations));
    let guards = guards.transpose().unwrap_or_else(|problem| {
        problems.push(problem);
        None
    });
    let admission = Admission::new(&config, Arc::clone(&process.users))
        .map_err(|more| problems.extend(more))
        .ok();
    let mut upstreams = Vec::new();
    for (index, upstream) in config.upstreams.iter().enumerate() {
        match Upstream::new(index, upstream, &config.locations, &process.endpoints) {
            Ok(upstream) => upstreams.push(upstream),
            Err(problem) => problems.push(problem),
        }
    }
    let Some((admission, unwise)) = admission.filter(|_| problems.is_empty()) else {
        return Err(problems);
    };
    let warnings = config.warnings().into_iter().chain(unwise).collect();
    Ok(Loaded { config, admission, upstreams, listeners, guards, warnings })
}

/// Sockets that listen already.
#[derive(Debug, Default)]
pub struct Held(pub Vec<std::net::TcpListener>);

impl Held {
    /// The socket bound to `address`, if there is one.
    pub(crate) fn take(&mut self, address: SocketAddr) -> Option<std::net::TcpListener> {
        let is_it = |socket: &std::net::TcpListener| {
            socket.local_addr().is_ok_and(|bound| bound == address)
        };
        let at = self.0.iter().position(is_it)?;
        Some(self.0.swap_remove(at))
    }

    pub(crate) fn into_async(socket: std::net::TcpListener) -> io::Result<TcpListener> {
        socket.set_nonblocking(true)?;
        TcpListener::from_std(socket)
    }
}

impl Server {
    /// Reads what the configuration names and opens the sockets, but for those that are `held`
    /// already: a listener takes the one that is bound to its address.
    pub async fn bind(config: Config, mut held: Held) -> Result<Self, StartError> {
        let process = Process::new(&config.limits);
        let mut loaded = load(config, &process).map_err(StartError::Config)?;
        let mut sockets = Vec::new();
        for listener in &loaded.listeners {
            let socket = match held.take(listener.config.bind) {
                Some(socket) => Held::into_async(socket),
                None => listener.bind(),
            };
            let socket = socket.map_err(|source| StartError::Listen {
                address: listener.label.to_string(),
                source,
            })?;
            sockets.push((Arc::clone(listener), socket));
        }
        let admin = match &loaded.config.admin {
            None => None,
            Some(admin) => Some(AdminListener::bind(admin, &mut held).await?),
        };
        let warnings = std::mem::take(&mut loaded.warnings);
        let telemetry = Telemetry::new(&loaded.config);
        let current = Current::new(Gateway::new(loaded, process, telemetry));
        Ok(Self { current, sockets, admin, warnings })
    }

    /// What is not wrong with the configuration but unwise.
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// Serves until `shutdown` resolves, then drains. Returns when no session is left, or when the
    /// drain's time is over.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self { current, sockets, admin, .. } = self;
        let gateway = current.gateway();
        let (stop_listening, stop) = (CancellationToken::new(), CancellationToken::new());
        gateway.certificates_loaded();
        for (listener, socket) in sockets {
            if let Ok(address) = socket.local_addr() {
                gateway.telemetry().listener_opened(&listener.label, &address);
            }
            let (key, stop) = (listener.key.clone(), stop_listening.clone());
            gateway.tasks().spawn(listener::accept(key, socket, current.clone(), stop));
        }
        gateway.process().set_listening(true);
        // Its tasks are not the gateway's: operators look while the gateway drains.
        let admin_tasks = TaskTracker::new();
        if let Some(admin) = admin {
            gateway.telemetry().listener_opened("admin", &admin);
            admin_tasks.spawn(stop.clone().run_until_cancelled_owned(admin.run(current.clone())));
        }
        let mut checks = Checks::default();
        checks.follow(gateway.upstreams(), gateway.telemetry(), &admin_tasks);
        let process = Arc::clone(gateway.process());
        admin_tasks.spawn(stop.clone().run_until_cancelled_owned(sweep(process)));
        drop(gateway);
        shutdown.await;
        drain::run(&current.gateway(), stop_listening).await;
        stop.cancel();
        drop(checks);
        admin_tasks.close();
        admin_tasks.wait().await;
    }
}

/// Forgets addresses and users that are gone.
async fn sweep(process: Arc<Process>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let now = Instant::now();
        process.addresses.sweep(now);
        process.users.sweep(now);
    }
}

const SWEEP: Duration = Duration::from_secs(20);
