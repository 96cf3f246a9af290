//! The running process: sockets bound, tasks started, and the end in order. I/O.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::serve::AdminListener;
use crate::config::{Config, Problem};
use crate::drain;
use crate::gateway::Gateway;
use crate::listener::Listener;
use crate::load::load;
use crate::process::{Current, Process};
use crate::reload::{self, Reloader, Reloads};
use crate::telemetry::Telemetry;

/// A gateway whose sockets are bound.
pub struct Server {
    current: Current,
    sockets: Vec<(Arc<Listener>, TcpListener)>,
    admin: Option<AdminListener>,
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
        current.gateway().telemetry().config_unwise(&warnings);
        Ok(Self { current, sockets, admin })
    }

    /// Serves until `shutdown` resolves, and takes other configurations up to then; then drains.
    /// Returns when no session is left, or when the drain's time is over.
    pub async fn run(self, shutdown: impl Future<Output = ()>, reloads: Option<Reloads>) {
        let Self { current, sockets, admin } = self;
        let (stop_listening, stop) = (CancellationToken::new(), CancellationToken::new());
        // Not the gateway's tasks: operators look while the gateway drains.
        let background = TaskTracker::new();
        let mut reloader =
            Reloader::new(current.clone(), stop_listening.clone(), background.clone());
        reloader.begin(sockets);
        let gateway = current.gateway();
        gateway.process().set_listening(true);
        if let Some(admin) = admin {
            gateway.telemetry().listener_opened("admin", &admin);
            background.spawn(stop.clone().run_until_cancelled_owned(admin.run(current.clone())));
        }
        let process = Arc::clone(gateway.process());
        background.spawn(stop.clone().run_until_cancelled_owned(sweep(process)));
        drop(gateway);
        tokio::select! {
            () = shutdown => {}
            () = reloader.run(reloads, reload::LOOK) => {}
        }
        drain::run(&current.gateway(), stop_listening).await;
        stop.cancel();
        drop(reloader);
        background.close();
        background.wait().await;
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
