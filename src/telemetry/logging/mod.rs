//! Sets up logging for the process: level, form, and an output that never blocks a worker.
//!
//! Everything goes to standard output: diagnostics and, under the target `access`, the lines of
//! [`super::access_log`], which are written exactly as that file makes them. The journal or a
//! container runtime takes both from there.

use std::fs::File;
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::sync::OnceLock;

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, registry};

use self::format::{Colour, Lines, SharedFormat, SpanFields};
use self::queue::LineQueue;
use crate::config::{Log, LogLevel};

mod format;
mod queue;

/// Target of access-log lines.
pub(crate) const ACCESS: &str = "access";

/// Target of the lines of traces, which depend on no level either: somebody has asked for them.
pub(crate) const TRACE: &str = "trace";

/// Writes out what is queued when it is dropped: the last thing `main` lets go of.
#[derive(Debug)]
#[must_use = "dropping the guard at once would flush before anything is logged"]
pub(crate) struct LogGuard(LineQueue);

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoggingError {
    /// Standard output cannot be used.
    #[error("standard output cannot be used for logging: {0}")]
    Output(#[source] std::io::Error),
    /// No thread for the output could be started.
    #[error("the thread that writes log lines cannot be started: {0}")]
    Thread(#[source] std::io::Error),
    /// The process logs already.
    #[error("logging is set up already")]
    Twice,
}

/// Starts logging for the process. Call it once, before anything is worth logging.
///
/// # Errors
///
/// When standard output is unusable, no thread can be had, or it was called before.
pub(crate) fn init(log: &Log) -> Result<LogGuard, LoggingError> {
    let stdout = std::io::stdout();
    let variable = |name| std::env::var_os(name).unwrap_or_default();
    let colour = Colour::of(stdout.is_terminal(), &variable("NO_COLOR"), &variable("TERM"));
    // The descriptor itself: the standard library's buffer would keep what could not be written,
    // and try it again at the end of every later line.
    let output = stdout.as_fd().try_clone_to_owned().map_err(LoggingError::Output)?;
    let queue = LineQueue::start(File::from(output)).map_err(LoggingError::Thread)?;
    let (subscriber, switch) = subscriber(log, colour, queue.clone());
    subscriber.try_init().map_err(|_| LoggingError::Twice)?;
    SWITCH.get_or_init(|| switch);
    // Only now: a second call must not replace the queue in use.
    QUEUE.get_or_init(|| queue.clone());
    Ok(LogGuard(queue))
}

/// From now on logs as `log` says; what concerns access-log lines is not decided here alone. Nothing
/// happens before [`init`].
pub(crate) fn change(log: &Log) {
    if let Some(switch) = SWITCH.get() {
        switch.set(log);
    }
}

/// Lines lost so far because the output was too slow or failed; 0 before [`init`].
pub(crate) fn lines_dropped() -> u64 {
    QUEUE.get().map_or(0, LineQueue::dropped)
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.0.flush();
    }
}

/// Changes level and form of what is logged.
#[derive(Debug)]
struct Switch {
    filter: reload::Handle<Targets, Registry>,
    format: SharedFormat,
}

impl Switch {
    fn set(&self, log: &Log) {
        self.format.set(log.format);
        // Fails only if the subscriber is gone, and then nothing is logged.
        let _ = self.filter.reload(filter(log));
    }
}

/// What [`init`] installs, for any output, and how it is changed.
fn subscriber<W>(
    log: &Log,
    colour: Colour,
    writer: W,
) -> (impl Subscriber + Send + Sync + 'static, Switch)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let format = SharedFormat::new(log.format);
    let (filter, handle) = reload::Layer::new(filter(log));
    let lines = tracing_subscriber::fmt::layer()
        .fmt_fields(SpanFields(format.clone()))
        .event_format(Lines { format: format.clone(), colour })
        .with_writer(writer);
    (registry().with(filter).with(lines), Switch { filter: handle, format })
}

/// The level is meant for the gateway. Libraries are heard from `warn` on only: below that they
/// talk of what they read and write, which may hold tokens and payload. The access log has its own
/// switch and depends on no level.
fn filter(log: &Log) -> Targets {
    let level = match log.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let access = if log.access { LevelFilter::INFO } else { LevelFilter::OFF };
    Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target(env!("CARGO_CRATE_NAME"), level)
        .with_target(ACCESS, access)
        .with_target(TRACE, LevelFilter::INFO)
}

/// The queue of [`init`], for its counter. Logging belongs to the process, as its standard output
/// does; metrics, which belong to a gateway, read it.
static QUEUE: OnceLock<LineQueue> = OnceLock::new();

/// The switch of [`init`].
static SWITCH: OnceLock<Switch> = OnceLock::new();

#[cfg(test)]
mod tests;
