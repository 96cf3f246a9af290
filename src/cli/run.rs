//! `framegate run` and `framegate demo`: the gateway as a process, with its signals. I/O.

use std::future::Future;
use std::io::Write;
use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::demo::{self, DemoArgs};
use super::{Exit, check};
use crate::config::{Config, LogLevel};
use crate::load;
use crate::reload::Reloads;
use crate::server::{Server, StartError};
use crate::sockets::Held;
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

/// Runs the demo until SIGTERM or SIGINT.
pub(super) fn demo(args: &DemoArgs) -> Exit {
    block_on(serve_demo(args))
}

async fn serve_demo(args: &DemoArgs) -> Exit {
    let at_once = CancellationToken::new();
    let shutdown = match Signals::new() {
        Ok(signals) => signals.received(None, at_once.clone()),
        Err(error) => return failed(&error),
    };
    // Backend and page outlive the gateway's drain: clients are to see 1012, not a lost backend.
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let mut demo = match demo::start(args, &tasks, stop.clone()).await {
        Ok(demo) => demo,
        Err(error) => return failed(&error),
    };
    let file = demo.config();
    let mut config = match load::read(&file) {
        Ok(config) => config,
        Err(problems) => {
            check::print("error", &file, &problems);
            return Exit::Config;
        }
    };
    // What scripts read must not stand among log lines.
    if args.json {
        config.log.level = LogLevel::Error;
        config.log.access = false;
    }
    let _log = match logging::init(&config.log) {
        Ok(guard) => guard,
        Err(error) => return failed(&error),
    };
    let server = match Server::bind(config, demo.sockets()).await {
        Ok(server) => server,
        Err(error) => return not_started(&file, &error),
    };
    print!("{}", demo.greeting(args));
    // Nobody reads it: the demo runs all the same.
    let _ = std::io::stdout().flush();
    server.run(shutdown, &at_once, None).await;
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    drained(&at_once)
}

/// Who was cut short did not succeed.
fn drained(at_once: &CancellationToken) -> Exit {
    if at_once.is_cancelled() { Exit::Failure } else { Exit::Success }
}

/// The signals that matter, caught from the moment this exists.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Resolves at the first that ends the process; at the second `at_once` is cancelled, and if the
    /// process has not ended soon after, or at a third, it is ended. SIGHUP asks for a reload.
    async fn received(mut self, reload: Option<Arc<Notify>>, at_once: CancellationToken) {
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

fn not_started(file: &Path, error: &StartError) -> Exit {
    match error {
        StartError::Config(problems) => {
            check::print("error", file, problems);
            Exit::Config
        }
        StartError::Listen(_) | StartError::Admin { .. } => failed(error),
    }
}

fn failed(error: &dyn std::fmt::Display) -> Exit {
    eprintln!("framegate: {error}");
    Exit::Failure
}
