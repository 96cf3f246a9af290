//! The deadlines of a session: silence, stalls, pauses, its lease; one timer for all of them. I/O.

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::keepalive::Due;
use super::leg::Silent;
use super::session::Relay;
use crate::outcome::settle::{Ending, Silence};
use crate::protocol::ws::violation::Side;

impl Relay {
    /// Acts on what is due and sleeps until the next. The timer is only ever moved forward in time
    /// when it fires: a message does not touch it.
    pub(super) fn poll_timers(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Ending> {
        let mut next = match self.next_deadline(now) {
            Ok(next) => next,
            Err(ending) => return Poll::Ready(ending),
        };
        if self.pings_due(now) {
            // The direction writes the Ping when it is polled again; within a frame it must wait.
            cx.waker().wake_by_ref();
            next = next.min(now + RETRY);
        }
        let set_for = self.timer.deadline().into_std();
        if next < set_for || set_for <= now {
            self.timer.as_mut().reset(next.into());
        }
        self.next_look = self.timer.deadline().into_std();
        if self.timer.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Has the task polled when a client that is paused for its rate may go on.
    pub(super) fn wake_after_pause(&mut self, cx: &mut Context<'_>) {
        let Some(until) = self.to_upstream.paused_until() else { return };
        self.timer.as_mut().reset(until.into());
        if self.timer.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }

    fn next_deadline(&mut self, now: Instant) -> Result<Instant, Ending> {
        let environment = Arc::clone(&self.environment);
        let timeouts = &environment.config.timeouts;
        let mut next = now + FAR;
        let stalls = [
            (&mut self.client, Ending::ClientTimeout(Silence::WriteStall)),
            (&mut self.upstream, Ending::UpstreamStalled(Silence::WriteStall)),
        ];
        for (leg, ending) in stalls {
            match leg.stall_deadline(now, timeouts.write_stall) {
                Ok(until) => next = until.map_or(next, |until| next.min(until)),
                Err(Silent) => return Err(ending),
            }
        }
        let mut at = |deadline: Instant, ending: Ending| {
            next = next.min(deadline);
            if now >= deadline { Err(ending) } else { Ok(()) }
        };
        if let Some(until) = self.lease.until {
            at(until, Ending::TokenExpired)?;
        }
        if let Some(idle) = timeouts.idle {
            at(self.last_data + idle, Ending::Idle)?;
        }
        // One that is over is cleared by the direction once it can write again, and wakes nobody.
        if let Some(until) = self.to_upstream.paused_until().filter(|until| *until > now) {
            // It is not read, and what it has sent may hide that it has left.
            if self.client.stream.has_ended() {
                return Err(Ending::ClientLost);
            }
            next = next.min(until).min(now + RETRY);
        }
        for side in [Side::Client, Side::Upstream] {
            match self.due(side, now) {
                Due::Wait(Some(until)) => next = next.min(until),
                Due::Wait(None) => {}
                Due::Ping => next = next.min(now + RETRY),
                Due::Dead => {
                    let leg = match side {
                        Side::Client => &mut self.client,
                        Side::Upstream => &mut self.upstream,
                    };
                    if !leg.is_reading_up_to_ping(now, timeouts.write_stall) {
                        return Err(self.dead(side));
                    }
                    next = next.min(now + RETRY);
                }
            }
        }
        Ok(next)
    }

    fn due(&mut self, side: Side, now: Instant) -> Due {
        let (from, leg, other) = match side {
            Side::Client => (&self.to_upstream, &mut self.client, &self.upstream),
            Side::Upstream => (&self.to_client, &mut self.upstream, &self.client),
        };
        let can_answer = from.is_reading(other) && leg.stalled_since().is_none();
        leg.alive.due(now, can_answer)
    }

    fn dead(&self, side: Side) -> Ending {
        self.environment.telemetry.pong_missed(side, self.handle.id);
        match side {
            Side::Client => Ending::ClientTimeout(Silence::NoPong),
            Side::Upstream => Ending::UpstreamStalled(Silence::NoPong),
        }
    }

    /// Sends the Pings that are due; whether there was one. One that cannot be sent within a frame
    /// is tried again: the bytes of that frame are no silence for long.
    fn pings_due(&mut self, now: Instant) -> bool {
        let mut sent = false;
        for side in [Side::Client, Side::Upstream] {
            if self.due(side, now) == Due::Ping {
                sent |= self.ping(side, now);
            }
        }
        sent
    }
}

/// Further away than any session lives.
pub(super) const FAR: Duration = Duration::from_secs(365 * 24 * 3600);
/// When a Ping that could not be sent within a frame is tried again, and a paused client looked at.
const RETRY: Duration = Duration::from_secs(1);
