//! What the service manager is told (sd_notify(3)), and that it may count on us (WatchdogSec=). I/O.
//!
//! Without systemd nothing happens: everything here does nothing where `NOTIFY_SOCKET` is not set.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram as StdDatagram};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::net::UnixDatagram;
use tokio::time::{interval, timeout};

use crate::gateway::Gateway;
use crate::gateway::accept::OpenListeners;
use crate::gateway::process::{Current, Process};
use crate::telemetry::Telemetry;

/// The service manager, where there is one.
pub(crate) struct Manager {
    socket: Option<UnixDatagram>,
    /// How long it waits for a sign of life.
    watchdog: Option<Duration>,
}

impl Manager {
    /// The one the environment tells of. To be called within the runtime.
    pub(crate) fn from_environment() -> Self {
        let socket = std::env::var_os("NOTIFY_SOCKET").and_then(|name| match connect(&name) {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::warn!(%error, "NOTIFY_SOCKET cannot be used: the service manager is told nothing");
                None
            }
        });
        let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|usec| is_ours && *usec > 0);
        Self { socket, watchdog: watchdog.map(Duration::from_micros) }
    }

    /// Up, or up again after a reload.
    pub(crate) async fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}")).await;
    }

    /// A reload begins. The clock tells which request it answers (sd_notify(3), Type=notify-reload).
    pub(crate) async fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let usec = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={usec}\nSTATUS=Reloading")).await;
    }

    /// Going down.
    pub(crate) async fn stopping(&self, process: &Process) {
        self.tell(&format!("STOPPING=1\n{}", going_down(process))).await;
    }

    /// Tells of sessions now and then, of a drain's progress more often, and asks for its time.
    pub(crate) async fn report(self: Arc<Self>, current: Current) {
        if self.socket.is_none() {
            return;
        }
        let process = Arc::clone(current.gateway().process());
        let mut told = String::new();
        loop {
            let is_draining = process.is_draining();
            tokio::time::sleep(if is_draining { OFTEN } else { SELDOM }).await;
            let news = if is_draining {
                going_down(&process)
            } else {
                format!("STATUS={}", serving(&current.gateway()))
            };
            // A drain's time has to be asked for again and again.
            if is_draining || news != told {
                self.tell(&news).await;
                told = news;
            }
        }
    }

    /// Gives a sign of life at half the time that is allowed, as long as every listener's loop goes
    /// round. Ends at once where nobody waits for one.
    pub(crate) async fn feed(self: Arc<Self>, open: Arc<OpenListeners>, telemetry: Arc<Telemetry>) {
        let Some(limit) = self.watchdog.filter(|_| self.socket.is_some()) else { return };
        let mut ticks = interval(limit / 2);
        loop {
            ticks.tick().await;
            match timeout(limit / 4, open.are_alive()).await {
                Ok(true) => self.tell("WATCHDOG=1").await,
                Ok(false) | Err(_) => {
                    let what = "a listener accepts no more; the service manager will restart us";
                    telemetry.fault_seen(what, &"no answer from its loop");
                }
            }
        }
    }

    async fn tell(&self, what: &str) {
        let Some(socket) = &self.socket else { return };
        // A manager that does not read must not hold anything up.
        match timeout(PATIENCE, socket.send(what.as_bytes())).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the service manager could not be told"),
            Err(_) => tracing::debug!("the service manager does not listen"),
        }
    }
}

/// One line on a gateway that serves.
pub(crate) fn serving(gateway: &Gateway) -> String {
    let sessions = gateway.registry().len();
    let (is_current, _) = gateway.telemetry().metrics.last_reload();
    let failed = if is_current { "" } else { "; the last reload failed, the log says why" };
    format!("Serving, sessions: {sessions}{failed}")
}

fn going_down(process: &Process) -> String {
    let sessions = process.registry.len();
    format!(
        "STATUS=Draining, sessions left: {sessions}\nEXTEND_TIMEOUT_USEC={}",
        EXTENSION.as_micros()
    )
}

/// `@name` is an abstract socket.
fn connect(name: &OsString) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(Path::new(name))?,
    };
    let socket = StdDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    UnixDatagram::from_std(socket)
}

/// Between reports while serving, and while draining.
const SELDOM: Duration = Duration::from_secs(5);
const OFTEN: Duration = Duration::from_secs(1);
/// What a drain asks for each time: several reports may be late.
const EXTENSION: Duration = Duration::from_secs(15);
const PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::gateway::accept::tests::one;
    use crate::telemetry::testing;

    #[tokio::test(start_paused = true)]
    async fn signs_of_life_end_with_the_loop_that_hangs_and_come_again_with_it() {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        let watchdog = Some(Duration::from_secs(30));
        let manager = Arc::new(Manager { socket: Some(ours), watchdog });
        let (open, mut asked) = one(CancellationToken::new());
        let telemetry = Arc::new(Telemetry::new(&testing::config()));
        let mut feed = std::pin::pin!(manager.feed(open, telemetry));
        let answer = |asked: Option<tokio::sync::oneshot::Sender<()>>| asked.unwrap().send(());
        // Whether there is a sign within the time allowed.
        let mut message = [0; 64];
        for is_alive in [true, true, false, true] {
            let answers = async {
                if !is_alive {
                    std::future::pending::<()>().await;
                }
                loop {
                    // Whoever asked while it hung has stopped waiting.
                    let _ = answer(asked.recv().await);
                }
            };
            let sign = tokio::select! {
                () = &mut feed => unreachable!("it goes on"),
                () = answers => unreachable!("it goes on"),
                sign = timeout(Duration::from_secs(30), theirs.recv(&mut message)) => sign,
            };
            assert_eq!(sign.is_ok(), is_alive);
            if let Ok(len) = sign {
                assert_eq!(&message[..len.unwrap()], b"WATCHDOG=1");
            }
        }
    }
}
