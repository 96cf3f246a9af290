//! `framegate demo`: the demo's gateway as a process. I/O.

use std::io::Write;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::run::{Signals, block_on, drained, failed, not_started};
use super::{Exit, check};
use crate::config::LogLevel;
use crate::server::{Server, load};
use crate::telemetry::logging;
use crate::tools::demo::{self, DemoArgs};

/// Runs the demo until SIGTERM or SIGINT.
pub(super) fn run(args: &DemoArgs) -> Exit {
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
