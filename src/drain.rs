//! The orderly end: not ready, no new sessions, then every session closed, spread over a window. I/O.
//!
//! Clients that are all closed at once come back all at once. So the closes are spread evenly over
//! `drain.window`, and each tells its client how long to wait before it returns.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::gateway::Gateway;
use crate::session::registry::Order;
use crate::ws::settle::Ending;

/// Drains `gateway`; returns when nothing is left, or when window and grace are over.
pub async fn run(gateway: &Arc<Gateway>, stop_listening: CancellationToken) {
    let drain = gateway.config().drain.clone();
    let process = gateway.process();
    process.begin_drain();
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

    let began = Instant::now();
    let deadline = began + drain.window + drain.grace;
    gateway.tasks().close();
    let closed = async {
        // Whichever comes first: all were told, or all have left by themselves.
        tokio::select! {
            () = close_all(gateway, began, drain.window) => gateway.tasks().wait().await,
            () = gateway.tasks().wait() => {}
        }
    };
    let finished = timeout_at(deadline, closed).await.is_ok();
    let aborted = if finished { 0 } else { gateway.tasks().len() };
    process.abort.cancel();
    // What is aborted is still recorded.
    let _ = timeout(LAST_WORDS, gateway.tasks().wait()).await;
    gateway.telemetry().drain_finished(aborted);
}

/// Orders every session to close, at a random moment within its even share of the window.
async fn close_all(gateway: &Gateway, began: Instant, window: Duration) {
    let mut sessions = gateway.registry().snapshot();
    fastrand::shuffle(&mut sessions);
    let count = u32::try_from(sessions.len()).unwrap_or(u32::MAX).max(1);
    let share = window / count;
    let mut start = began;
    for session in sessions {
        sleep_until(start + share.mul_f64(fastrand::f64())).await;
        start += share;
        session.order(Order::End(drained(window)));
    }
    // A handshake that was under way when the drain began may have become a session since, or still
    // become one.
    gateway.registry().close();
    for session in gateway.registry().snapshot() {
        session.order(Order::End(drained(window)));
    }
}

/// The clients' return is spread as their closes are: within the window, at least a second away.
fn drained(window: Duration) -> Ending {
    Ending::Drained { retry: 1 + fastrand::u64(..window.as_secs().max(1)) }
}

/// Time for handshakes that have begun.
const UNDER_WAY: Duration = Duration::from_secs(1);
/// Time for what is aborted to end.
const LAST_WORDS: Duration = Duration::from_secs(1);
