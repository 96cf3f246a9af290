//! Closing some of the sessions while everybody else is served: a share of all, or an endpoint's. I/O.
//!
//! Both are paced and told as the end of all is (see `server::drain`), but the gateway stays ready and
//! refuses nobody. Of each kind one is under way at most: a further one takes its place, and what the
//! one before has not closed by then stays open, or gets a turn in the further one. So asking twice
//! closes no more than asking once.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::Gateway;
use crate::outcome::settle::Ending;
use crate::session::pacing::{self, Turn};
use crate::session::registry::{Order, SessionHandle};
use crate::telemetry::Telemetry;
use crate::upstream::endpoint::{Endpoint, Upstream};

/// What is under way.
#[derive(Debug, Default)]
pub(crate) struct Sheds(Mutex<HashMap<What, UnderWay>>);

#[derive(Debug)]
struct UnderWay {
    progress: Arc<Progress>,
    /// Ends the task.
    _stop: DropGuard,
}

/// How far closing a share has come; of an endpoint nobody asks.
#[derive(Debug, Default)]
struct Progress {
    of: usize,
    /// [`STOPPED`] once nobody is to be told any more.
    told: AtomicUsize,
}

/// What one that was stopped had done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stopped {
    told: usize,
    left: usize,
}

/// What is being closed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum What {
    Share,
    /// Of this upstream, the endpoint with this label.
    Endpoint(String, Arc<str>),
}

impl Sheds {
    fn begin(
        &self,
        what: What,
        tasks: &TaskTracker,
        progress: Arc<Progress>,
        closing: impl Future<Output = ()> + Send + 'static,
    ) -> Option<Stopped> {
        let stop = CancellationToken::new();
        let under_way = UnderWay { progress, _stop: stop.clone().drop_guard() };
        let before = self.under_way().insert(what, under_way);
        tasks.spawn(async move {
            // Stopped or through, it is over.
            let _ = stop.run_until_cancelled(closing).await;
        });
        before.and_then(|before| before.progress.stop())
    }

    /// What it had done, if it was not through.
    fn stop(&self, what: &What) -> Option<Stopped> {
        self.under_way().remove(what).and_then(|before| before.progress.stop())
    }

    /// Whatever is under way ends here: all sessions are going to be closed.
    pub(crate) fn stop_all(&self, telemetry: &Telemetry) {
        if let Some(Stopped { told, left }) = self.stop(&What::Share) {
            telemetry.shed_replaced(told, left);
        }
        self.under_way().clear();
    }

    fn under_way(&self) -> MutexGuard<'_, HashMap<What, UnderWay>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress {
    fn of(count: usize) -> Arc<Self> {
        Arc::new(Self { of: count, told: AtomicUsize::new(0) })
    }

    /// Whether the next may be told; it then counts as told.
    fn go_on(&self) -> bool {
        let next = |told| (told < self.of).then(|| told + 1);
        self.told.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }

    /// Nobody is told from here on; nothing to tell of it where all were told already.
    fn stop(&self) -> Option<Stopped> {
        let told = self.told.swap(STOPPED, Ordering::Relaxed);
        (told < self.of).then(|| Stopped { told, left: self.of - told })
    }
}

/// Closes this share of the open sessions, whichever, over `window`; how many that is. No share stops
/// what is under way.
pub(crate) fn shed(gateway: &Gateway, percent: f64, window: Duration) -> usize {
    let process = gateway.process();
    let telemetry = Arc::clone(gateway.telemetry());
    let before = process.sheds.stop(&What::Share);
    if percent <= 0.0 {
        if let Some(Stopped { told, left }) = before {
            telemetry.shed_stopped(told, left);
        }
        return 0;
    }
    let mut sessions = gateway.registry().snapshot();
    fastrand::shuffle(&mut sessions);
    sessions.truncate(share(sessions.len(), percent));
    let count = sessions.len();
    let replaced = |Stopped { told, left }| gateway.telemetry().shed_replaced(told, left);
    before.into_iter().for_each(replaced);
    telemetry.shed_started(count, window);
    let progress = Progress::of(count);
    let closing = {
        let progress = Arc::clone(&progress);
        async move {
            if close(sessions, window, || progress.go_on()).await {
                telemetry.shed_finished();
            }
        }
    };
    // Another may have been asked for at the same moment.
    process.sheds.begin(What::Share, &process.tasks, progress, closing).map(replaced);
    count
}

/// From now on sends nobody to an endpoint and closes the sessions on it over `window`; how many there
/// are, those that are just being opened included.
pub(crate) fn empty(
    gateway: &Gateway,
    upstream: &Upstream,
    endpoint: &Arc<Endpoint>,
    window: Duration,
) -> usize {
    endpoint.state.set_draining(true);
    let process = gateway.process();
    let (name, telemetry) = (Arc::clone(&upstream.name), Arc::clone(gateway.telemetry()));
    let (id, count) = (endpoint.id, endpoint.state.sessions());
    telemetry.endpoint_drain_started(id, count, window);
    let what = What::of(upstream, endpoint);
    let (registry, endpoint) = (Arc::clone(&process.registry), Arc::clone(endpoint));
    process.sheds.begin(what, &process.tasks, Arc::default(), async move {
        let mut window = window;
        loop {
            let (name, label) = (Arc::clone(&name), Arc::clone(&endpoint.label));
            let sessions = registry.find(move |session| session.is_on(&name, &label)).await;
            close(sessions, std::mem::take(&mut window), || true).await;
            if endpoint.state.sessions() == 0 {
                return telemetry.endpoint_emptied(id);
            }
            // A handshake that was under way when this began may still become a session.
            tokio::time::sleep(LOOK).await;
            if !endpoint.state.is_draining() {
                return;
            }
        }
    });
    count
}

/// Sends new sessions to an endpoint again; those on it stay.
pub(crate) fn fill(gateway: &Gateway, upstream: &Upstream, endpoint: &Endpoint) {
    gateway.process().sheds.stop(&What::of(upstream, endpoint));
    if endpoint.state.set_draining(false) {
        gateway.telemetry().endpoint_drain_ended(endpoint.id);
    }
}

/// Whether all were told.
async fn close(
    sessions: Vec<Arc<SessionHandle>>,
    window: Duration,
    may_go_on: impl Fn() -> bool,
) -> bool {
    // Others are there to take their clients at once.
    let turns = pacing::plan(sessions.len(), window, Duration::ZERO, fastrand::u64(..));
    pace(sessions, turns, may_go_on).await
}

/// Orders these sessions to close, in an order that follows from nothing; whether all of them, or
/// `may_go_on` kept the rest from it.
pub(crate) async fn pace(
    mut sessions: Vec<Arc<SessionHandle>>,
    turns: Vec<Turn>,
    may_go_on: impl Fn() -> bool,
) -> bool {
    fastrand::shuffle(&mut sessions);
    let began = tokio::time::Instant::now();
    for (session, Turn { after, retry }) in sessions.into_iter().zip(turns) {
        tokio::time::sleep_until(began + after).await;
        if !may_go_on() {
            return false;
        }
        session.order(Order::End(Ending::Drained { retry }));
    }
    true
}

/// So many of `count`, to the nearest; at least one where anything was asked for.
fn share(count: usize, percent: f64) -> usize {
    let share = (count as f64 * percent / 100.0).round() as usize;
    share.max(usize::from(percent > 0.0)).min(count)
}

impl What {
    fn of(upstream: &Upstream, endpoint: &Endpoint) -> Self {
        Self::Endpoint(upstream.config.name.clone(), Arc::clone(&endpoint.label))
    }
}

/// More than there can be sessions.
const STOPPED: usize = usize::MAX;
/// How often is looked for sessions that were still being opened.
const LOOK: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_to_the_nearest_session_and_never_nobody() {
        for (count, percent, expected) in [
            (1000, 20.0, 200),
            (1000, 0.0, 0),
            (1000, 100.0, 1000),
            (1000, 0.04, 1),
            (3, 50.0, 2),
            (3, 40.0, 1),
            (0, 100.0, 0),
        ] {
            assert_eq!(share(count, percent), expected, "{percent} % of {count}");
        }
    }

    #[test]
    fn what_is_stopped_tells_how_far_it_came_and_goes_no_further() {
        for (count, told, expected) in [
            (3, 0, Some(Stopped { told: 0, left: 3 })),
            (3, 2, Some(Stopped { told: 2, left: 1 })),
            (3, 3, None),
            (0, 0, None),
        ] {
            let progress = Progress::of(count);
            assert!((0..told).all(|_| progress.go_on()));
            assert_eq!(progress.stop(), expected, "{told} of {count}");
            assert!(!progress.go_on(), "stopped");
            assert_eq!(progress.stop(), None, "only once");
        }
    }
}
