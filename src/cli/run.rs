//! `framegate run`: the gateway as a process, with its signals. I/O.

use std::future::Future;
use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{Exit, check};
use crate::config::Config;
use crate::server::load;
use crate::server::reload::Reloads;
use crate::server::sockets::Held;
use crate::server::{Server, StartError};
use crate::telemetry::logging;

/// Runs the gateway until SIGTERM or SIGINT and through its drain.
pub(super) fn run(file: &Path) -> Exit {
    // First of all: this process has one thread yet.
    let held = Held::passed();
    let config = match load::read(file) {
        Ok(config) => config,
        Err(problems) => {
            check::print("error", file, &problems);
            return Exit::Config;
        }
    };
    let _log = match logging::init(&config.log) {
        Ok(guard) => guard,
        Err(error) => return failed(&error),
    };
    block_on(serve(file, config, held))
}

async fn serve(file: &Path, config: Config, held: Held) -> Exit {
    let (requested, at_once) = (Arc::new(Notify::new()), CancellationToken::new());
    let shutdown = match Signals::new() {
        Ok(signals) => signals.received(Some(Arc::clone(&requested)), at_once.clone()),
        Err(error) => return failed(&error),
    };
    let server = match Server::bind(config, held).await {
        Ok(server) => server,
        Err(error) => return not_started(file, &error),
    };
    let reloads = Reloads { file: file.to_owned(), requested };
    server.run(shutdown, &at_once, Some(reloads)).await;
    drained(&at_once)
}

/// Who was cut short did not succeed.
pub(super) fn drained(at_once: &CancellationToken) -> Exit {
    if at_once.is_cancelled() { Exit::Failure } else { Exit::Success }
}

/// The signals that matter, caught from the moment this exists.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Resolves at the first that ends the process; at the second `at_once` is cancelled, and if the
    /// process has not ended soon after, or at a third, it is ended. SIGHUP asks for a reload.
    pub(super) async fn received(
        mut self,
        reload: Option<Arc<Notify>>,
        at_once: CancellationToken,
    ) {
        let hangup = || match &reload {
            Some(reload) => reload.notify_one(),
            None => tracing::warn!("SIGHUP ignored: there is nothing to reload"),
        };
        self.next(hangup).await;
        #[expect(clippy::disallowed_methods, reason = "must outlive the drain it cuts short")]
        tokio::spawn(async move {
            let hangup = || tracing::warn!("SIGHUP ignored: the gateway is going down");
            self.next(hangup).await;
            eprintln!("framegate: second signal: ending without waiting for sessions");
            at_once.cancel();
            // What is left is recorded first, and the log written.
            let _ = timeout(LAST_RECORDS, self.next(hangup)).await;
            std::process::exit(Exit::Failure as i32);
        });
    }

    async fn next(&mut self, hangup: impl Fn()) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                // Its default would end the process and every session with it.
                _ = self.hangup.recv() => hangup(),
            }
        }
    }
}

/// Runs a command's work.
pub(super) fn block_on(work: impl Future<Output = Exit>) -> Exit {
    // On a single core, handing tasks between threads is only a cost.
    let mut builder = match std::thread::available_parallelism().map(NonZero::get) {
        Ok(1) => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    let runtime = match builder.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let exit = runtime.block_on(work);
    // A name that is just being looked up must not hold the process.
    runtime.shutdown_background();
    exit
}

/// More than the gateway takes to end at once.
const LAST_RECORDS: Duration = Duration::from_secs(3);

pub(super) fn not_started(file: &Path, error: &StartError) -> Exit {
    match error {
        StartError::Config(problems) => {
            check::print("error", file, problems);
            Exit::Config
        }
        StartError::Listen(_) | StartError::Admin { .. } => failed(error),
    }
}

pub(super) fn failed(error: &dyn std::fmt::Display) -> Exit {
    eprintln!("framegate: {error}");
    Exit::Failure
}
