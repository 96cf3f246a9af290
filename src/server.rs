//! The running process: sockets bound, tasks started, and the end in order. I/O.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::admin::serve::AdminListener;
use crate::config::{Config, Problem};
use crate::drain;
use crate::gateway::Gateway;
use crate::listener::Listener;
use crate::upstream::health;

/// A gateway whose sockets are bound.
pub struct Server {
    gateway: Arc<Gateway>,
    listeners: Vec<(Arc<Listener>, TcpListener)>,
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

/// Everything read that the configuration names, and nothing bound.
pub struct Loaded {
    gateway: Arc<Gateway>,
    listeners: Vec<Arc<Listener>>,
    /// What is not wrong but unwise.
    pub warnings: Vec<Problem>,
}

/// Reads keys and certificates; all problems at once.
pub fn load(config: Config) -> Result<Loaded, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut listeners = Vec::new();
    for index in 0..config.listeners.len() {
        match Listener::new(index, &config) {
            Ok(listener) => listeners.push(Arc::new(listener)),
            Err(more) => problems.extend(more),
        }
    }
    if let Some(admin) = &config.admin
        && let Err(problem) = crate::admin::serve::guards(admin, &config.locations)
    {
        problems.push(problem);
    }
    let mut warnings = config.warnings();
    match Gateway::build(config) {
        Ok((gateway, more)) if problems.is_empty() => {
            warnings.extend(more);
            Ok(Loaded { gateway, listeners, warnings })
        }
        Ok(_) => Err(problems),
        Err(more) => Err(problems.into_iter().chain(more).collect()),
    }
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
        let Loaded { gateway, listeners, warnings } = load(config).map_err(StartError::Config)?;
        let mut bound = Vec::new();
        for listener in listeners {
            let socket = match held.take(listener.config.bind) {
                Some(socket) => Held::into_async(socket),
                None => listener.bind(),
            };
            let socket = socket.map_err(|source| StartError::Listen {
                address: listener.label.to_string(),
                source,
            })?;
            bound.push((listener, socket));
        }
        let admin = match &gateway.config().admin {
            None => None,
            Some(admin) => Some(AdminListener::bind(admin, &gateway, &mut held).await?),
        };
        Ok(Self { gateway, listeners: bound, admin, warnings })
    }

    /// The gateway.
    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    /// What is not wrong with the configuration but unwise.
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// Serves until `shutdown` resolves, then drains. Returns when no session is left, or when the
    /// drain's time is over.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self { gateway, listeners, admin, .. } = self;
        let (stop_listening, stop) = (CancellationToken::new(), CancellationToken::new());
        let certificates = listeners.iter().filter_map(|(listener, _)| listener.tls.as_ref());
        gateway.telemetry().certificates_loaded(
            certificates.flat_map(|tls| &tls.certificates).map(|(name, end)| (name.as_str(), *end)),
        );
        for (listener, socket) in listeners {
            if let Ok(address) = socket.local_addr() {
                gateway.telemetry().listener_opened(&listener.label, &address);
            }
            let running = listener.run(socket, Arc::clone(&gateway), stop_listening.clone());
            gateway.tasks().spawn(running);
        }
        gateway.set_listening(true);
        // Its tasks are not the gateway's: operators look while the gateway drains.
        let admin_tasks = tokio_util::task::TaskTracker::new();
        if let Some(admin) = admin {
            gateway.telemetry().listener_opened("admin", &admin);
            admin_tasks
                .spawn(stop.clone().run_until_cancelled_owned(admin.run(Arc::clone(&gateway))));
        }
        for upstream in gateway.upstreams() {
            health::watch(upstream, gateway.environment(), &admin_tasks, &stop);
        }
        admin_tasks.spawn(stop.clone().run_until_cancelled_owned(sweep(Arc::clone(&gateway))));
        shutdown.await;
        drain::run(&gateway, stop_listening).await;
        stop.cancel();
        admin_tasks.close();
        admin_tasks.wait().await;
    }
}

/// Forgets addresses and users that are gone.
async fn sweep(gateway: Arc<Gateway>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let now = Instant::now();
        gateway.addresses().sweep(now);
        gateway.users().sweep(now);
    }
}

const SWEEP: Duration = Duration::from_secs(20);
