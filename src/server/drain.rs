//! The orderly end: not ready, no new sessions, then every session closed, spread over a window. I/O.
//!
//! Clients that are all closed at once come back all at once. So the closes are spread evenly over
//! `drain.window`, and each tells its client how long to wait before it returns ([`crate::session::pacing`]). Operators can
//! also have some sessions closed so ([`crate::gateway::sheds`]).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::config::Drain;
use crate::gateway::Gateway;

use crate::gateway::sheds::pace;
use crate::session::pacing;

/// Drains `gateway`; returns when nothing is left, or when window and grace are over. Cancelling
/// `at_once` leaves it [`HASTE`] and [`LAST_WORDS`].
pub(crate) async fn run(
    gateway: &Arc<Gateway>,
    stop_listening: CancellationToken,
    at_once: &CancellationToken,
) {
    let drain = gateway.config().drain.clone();
    let process = gateway.process();
    process.begin_drain();
    process.sheds.stop_all(gateway.telemetry());
    let limit = drain.announce + UNDER_WAY + drain.window + drain.grace;
    gateway.telemetry().drain_announced(drain.announce, limit);
    let in_order = in_order(gateway, &drain, &stop_listening);
    let finished = match at_once.run_until_cancelled(in_order).await {
        Some(finished) => finished,
        None => in_haste(gateway, &drain, &stop_listening).await,
    };
    let aborted = if finished { 0 } else { gateway.tasks().len() };
    process.abort.cancel();
    // What is aborted is still recorded.
    let _ = timeout(LAST_WORDS, gateway.tasks().wait()).await;
    gateway.telemetry().drain_finished(aborted);
}

/// Takes all the time it is given; whether nothing is left.
async fn in_order(
    gateway: &Arc<Gateway>,
    drain: &Drain,
    stop_listening: &CancellationToken,
) -> bool {
    let process = gateway.process();
    if !drain.announce.is_zero() {
        tokio::time::sleep(drain.announce).await;
    }
    process.set_listening(false);
    stop_listening.cancel();
    // Who was accepted and is about to ask has found us open. With a socket of systemd's the
    // successor takes everybody else: nobody is refused.
    process.handshakes.close();
    let _ = timeout(UNDER_WAY, process.handshakes.wait()).await;
    process.refuse_requests();
    gateway.telemetry().drain_started(gateway.registry().len(), drain.window);

    let deadline = Instant::now() + drain.window + drain.grace;
    gateway.tasks().close();
    let closed = async {
        // Whichever comes first: all were told, or all have left by themselves.
        tokio::select! {
            () = close_all(gateway, drain.window) => gateway.tasks().wait().await,
            () = gateway.tasks().wait() => {}
        }
    };
    timeout_at(deadline, closed).await.is_ok()
}

/// Tells every session to close, and waits for those that do so at once; whether nothing is left.
async fn in_haste(
    gateway: &Arc<Gateway>,
    drain: &Drain,
    stop_listening: &CancellationToken,
) -> bool {
    let process = gateway.process();
    process.set_listening(false);
    stop_listening.cancel();
    process.handshakes.close();
    process.refuse_requests();
    gateway.tasks().close();
    gateway.registry().close(drain.window);
    timeout(HASTE, gateway.tasks().wait()).await.is_ok()
}

/// Orders every session to close, each at its turn.
async fn close_all(gateway: &Gateway, window: Duration) {
    let sessions = gateway.registry().find(|_| true).await;
    // The successor may be there only when we are gone.
    let absence = window.min(pacing::LONGEST_ABSENCE);
    let turns = pacing::plan(sessions.len(), window, absence, fastrand::u64(..));
    pace(sessions, turns, || true).await;
    // A handshake that was under way when the drain began may have become a session since, or still
    // become one.
    gateway.registry().close(window);
}

/// Time for handshakes that have begun.
const UNDER_WAY: Duration = Duration::from_secs(1);
/// Time for orderly ends when there is no more time.
const HASTE: Duration = Duration::from_millis(500);
/// Time for what is aborted to end.
const LAST_WORDS: Duration = Duration::from_secs(1);
