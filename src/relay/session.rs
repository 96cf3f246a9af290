//! A session while it relays: both directions, the timers and the orders, in one poll. I/O.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use super::around::{Around, Noted};
use super::direction::{Direction, End};
use super::ending::ending_of;
use super::keepalive::Keepalive;
use super::leg::{Leg, Opened};
use super::probes::Probes;
use super::timers;
use super::trace::Watched;
use super::{Environment, random_bytes};
use crate::outcome::settle::Ending;
use crate::protocol::ws::inspector::FrameLimits;
use crate::protocol::ws::message::{self, Masking};
use crate::protocol::ws::violation::Side;
use crate::route::RouteId;
use crate::session::limiter::Eviction;
use crate::session::pending::{Cause, Held};
use crate::session::registry::{Lease, Order, Probe, SessionHandle};
use crate::session::trace::Trace;
use crate::telemetry::labels::LimitAction;

/// The state of a session while it relays.
pub(super) struct Relay {
    pub(super) environment: Arc<Environment>,
    pub(super) client: Leg,
    pub(super) upstream: Leg,
    pub(super) to_upstream: Direction,
    pub(super) to_client: Direction,
    pub(super) last_data: Instant,
    pub(super) timer: Pin<Box<Sleep>>,
    /// When the timers are looked at next, unless something holds a side up before.
    pub(super) next_look: Instant,
    pub(super) handle: Arc<SessionHandle>,
    /// Until when its identity counts.
    pub(super) lease: Lease,
    pub(super) probes: Probes,
    /// Who is to know whether the client that had to make room was alive.
    pub(super) evicted: Option<Box<Eviction>>,
    /// Whose frames are told, as long as somebody watches.
    pub(super) trace: Option<Arc<Trace>>,
    /// Payload of our own Pings, so that their Pongs are known.
    marker: [u8; 8],
    /// Whose direction is moved first in the next poll.
    next_first: Side,
    accounted: Accounted,
    /// The handle knows our waker.
    listens: bool,
}

impl Relay {
    pub(super) fn new(
        environment: Arc<Environment>,
        route: RouteId,
        handle: &Arc<SessionHandle>,
        client: Opened,
        upstream: Opened,
    ) -> Self {
        let now = Instant::now();
        let config = &environment.config;
        let limits = &config.route(route).limits;
        let frames = |message_size| FrameLimits {
            message_size,
            fragments: limits.fragments,
            text_utf8: limits.text_utf8,
        };
        let (client_frames, upstream_frames) =
            (frames(limits.message_size), frames(limits.upstream_message_size));
        let pings = &config.keepalive;
        let alive = |ping, pong| Keepalive::new(ping, pong, fastrand::f64(), now);
        Self {
            to_upstream: Direction::new(
                Side::Client,
                client_frames,
                limits.messages,
                &client.arrived,
                now,
            ),
            to_client: Direction::new(
                Side::Upstream,
                upstream_frames,
                None,
                &upstream.arrived,
                now,
            ),
            client: Leg::new(client, alive(pings.client_ping, pings.client_pong)),
            upstream: Leg::new(upstream, alive(pings.upstream_ping, pings.upstream_pong)),
            last_data: now,
            timer: Box::pin(tokio::time::sleep_until((now + timers::FAR).into())),
            next_look: now,
            trace: watcher(&environment, handle, now),
            handle: Arc::clone(handle),
            lease: Lease::default(),
            probes: Probes::default(),
            evicted: None,
            marker: random_bytes(),
            next_first: Side::Client,
            accounted: Accounted::default(),
            listens: false,
            environment,
        }
    }

    /// Relays until there is an ending.
    pub(super) fn poll_relay(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        if !self.listens {
            // The session is a task of its own: its waker stays the same.
            self.handle.wake_on_order(cx.waker());
            self.listens = true;
        }
        let now = Instant::now();
        let mut ordered = None;
        for order in self.handle.take_orders() {
            match order {
                Order::End(ending) => ordered = ordered.or(Some(ending)),
                Order::Evict(eviction) if ordered.is_none() => {
                    self.evicted = Some(eviction);
                    ordered = Some(Ending::Replaced);
                }
                Order::Evict(_) => {}
                Order::Probe(probe) => self.ask_client(probe, now),
                Order::Trace(trace) => self.watch(trace, now),
                Order::Lease(lease) => {
                    self.lease = lease;
                    self.next_look = now;
                }
            }
        }
        if let Some(ending) = ordered {
            return Poll::Ready(ending);
        }
        if let Poll::Ready(ending) = self.poll_directions(cx, now) {
            return Poll::Ready(ending);
        }
        self.account(now);
        self.handle.data_passed(self.last_data);
        // A message that passes puts deadlines off, never forward: they need not be looked at for it.
        if now < self.next_look && !self.is_held_up() {
            return Poll::Pending;
        }
        self.poll_timers(cx, now)
    }

    /// Whether a side makes us wait, which has deadlines of its own.
    fn is_held_up(&self) -> bool {
        self.upstream.stalled_since().is_some()
            || self.client.stalled_since().is_some()
            || self.is_paused()
    }

    /// Moves both directions, each first in its turn. When a sink is found gone, what it may still have said is read first:
    /// its Close can be waiting behind our failed write.
    fn poll_directions(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Ending> {
        let first = self.next_first;
        self.next_first = first.other();
        let one = self.poll_direction(first, cx, now);
        let other = self.poll_direction(first.other(), cx, now);
        let (mut from_client, from_upstream) = match first {
            Side::Client => (one, other),
            Side::Upstream => (other, one),
        };
        if from_upstream == Poll::Ready(End::SinkLost) && from_client.is_pending() {
            from_client = self.poll_direction(Side::Client, cx, now);
        }
        match (from_client, from_upstream) {
            (Poll::Pending, Poll::Pending) => Poll::Pending,
            (Poll::Ready(end), Poll::Pending) => Poll::Ready(ending_of(Side::Client, end)),
            (Poll::Pending, Poll::Ready(end)) => Poll::Ready(ending_of(Side::Upstream, end)),
            (Poll::Ready(client), Poll::Ready(upstream)) => {
                // What a peer said counts for more than that a connection is gone.
                let is_lost = |end| matches!(end, End::SourceLost | End::SinkLost);
                Poll::Ready(if is_lost(client) && !is_lost(upstream) {
                    ending_of(Side::Upstream, upstream)
                } else if client == End::SinkLost {
                    // Both ends of the same event: the upstream is gone, reading and writing.
                    ending_of(Side::Upstream, upstream)
                } else {
                    ending_of(Side::Client, client)
                })
            }
        }
    }

    /// One side.
    pub(super) fn leg(&self, side: Side) -> &Leg {
        match side {
            Side::Client => &self.client,
            Side::Upstream => &self.upstream,
        }
    }

    /// The direction of what comes from one side.
    pub(super) fn direction(&mut self, from: Side) -> &mut Direction {
        match from {
            Side::Client => &mut self.to_upstream,
            Side::Upstream => &mut self.to_client,
        }
    }

    /// Moves what comes from one side.
    pub(super) fn poll_direction(
        &mut self,
        from: Side,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Poll<End> {
        let mut noted = Noted::default();
        if self.trace.is_some() {
            self.look_on(now);
        }
        let (client, upstream) = (&mut self.client, &mut self.upstream);
        let traffic = &self.handle.traffic;
        let (direction, source, sink, traffic) = match from {
            Side::Client => (&mut self.to_upstream, client, upstream, &traffic.to_upstream),
            Side::Upstream => (&mut self.to_client, upstream, client, &traffic.to_client),
        };
        let mut around = Around {
            now,
            traffic,
            marker: &self.marker,
            last_data: &mut self.last_data,
            noted: &mut noted,
            watched: Watched::by(self.trace.as_deref(), &self.environment, self.handle.id),
        };
        let end = direction.poll(cx, source, sink, &mut around);
        self.note(&noted);
        end
    }

    fn note(&mut self, noted: &Noted) {
        if let Some((side, rtt)) = noted.pong {
            self.environment.telemetry.pong_received(side, rtt);
        }
        if noted.paused {
            self.environment.telemetry.messages_limited(LimitAction::Pause, self.handle.id);
        }
        if self.client.alive.is_alive() {
            self.probes.answer();
        }
    }

    /// Another connection of the user wants this one's place if its client is dead.
    fn ask_client(&mut self, probe: Arc<Probe>, now: Instant) {
        self.probes.0.push(probe);
        self.next_look = now;
        // A Ping that is out already answers for this question too. Within a frame none can go out,
        // but a client that is just being written to is alive enough.
        if !self.client.alive.is_asked() && !self.ping(Side::Client, now) {
            self.probes.answer();
        }
    }

    /// Sends a Ping between two frames; false: one is under way.
    pub(super) fn ping(&mut self, side: Side, now: Instant) -> bool {
        let (direction, leg, masking) = match side {
            Side::Client => (&self.to_client, &mut self.client, Masking::None),
            Side::Upstream => (&self.to_upstream, &mut self.upstream, Masking::Key(random_bytes())),
        };
        if direction.is_within_frame() {
            return false;
        }
        let frame = message::ping(&self.marker, masking);
        leg.pinged(now);
        leg.outlet.put(&frame);
        if let Some(watched) = self.watched() {
            watched.own_frame(side, &frame);
        }
        true
    }

    /// Somebody wants to see this session's frames.
    fn watch(&mut self, trace: Arc<Trace>, now: Instant) {
        if self.trace.as_ref().is_none_or(|before| before.is_over(now)) {
            self.environment.telemetry.session_traced(&trace, &self.handle.known);
            self.trace = Some(trace);
        }
    }

    /// A trace that is over may leave another one that watches the same session.
    fn look_on(&mut self, now: Instant) {
        if self.trace.as_ref().is_some_and(|trace| trace.is_over(now)) {
            self.trace = self.environment.telemetry.traces.of(&self.handle.known, now);
        }
    }

    /// How frames are told to those who watch.
    pub(super) fn watched(&self) -> Option<Watched<'_>> {
        Watched::by(self.trace.as_deref(), &self.environment, self.handle.id)
    }

    /// Accounts what this session holds, when that has changed.
    fn account(&mut self, now: Instant) {
        let legs = self.client.outlet.held() + self.upstream.outlet.held();
        let held = legs + self.to_upstream.held() + self.to_client.held();
        // What TLS keeps while the client is not read; else it is the begin of a record, at most two of
        // 16 KiB, which is held for neither side.
        let is_kept = self.upstream.stalled_since().is_some() || self.is_paused();
        let bytes = (held + if is_kept { self.client.stream.unread() } else { 0 }) as u64;
        if bytes == self.accounted.held.bytes {
            return;
        }
        let is_old = |at| now.saturating_duration_since(at) >= LOOK_AT_QUEUES;
        if bytes > 0 && self.accounted.looked_at.is_none_or(is_old) {
            self.accounted.looked_at = Some(now);
            let queued = |leg: &Leg| leg.stream.queued().unwrap_or_default();
            self.accounted.held.queued = queued(&self.client) + queued(&self.upstream);
        }
        self.accounted.held.bytes = bytes;
        self.accounted.held.cause = self.cause();
        self.environment.registry.pending.account(&self.handle, self.accounted.held, now);
    }

    /// For whom bytes are held: who has made us wait longest.
    fn cause(&self) -> Cause {
        match (self.client.stalled_since(), self.upstream.stalled_since()) {
            (Some(client), Some(upstream)) if upstream < client => Cause::SlowUpstream,
            (Some(_), _) => Cause::SlowClient,
            (None, Some(_)) => Cause::SlowUpstream,
            (None, None) if self.to_upstream.held() > 0 => Cause::PausedClient,
            (None, None) => Cause::SlowClient,
        }
    }

    fn is_paused(&self) -> bool {
        self.to_upstream.paused_until().is_some()
    }
}

/// What a session has accounted last.
#[derive(Debug, Default)]
struct Accounted {
    held: Held,
    /// When the kernel's part was looked at.
    looked_at: Option<Instant>,
}

/// How old the length of the kernel's queues may be for a session that holds bytes.
const LOOK_AT_QUEUES: Duration = Duration::from_secs(1);

/// The trace that watches a session which begins, told of it.
fn watcher(environment: &Environment, handle: &SessionHandle, now: Instant) -> Option<Arc<Trace>> {
    let trace = environment.telemetry.traces.of(&handle.known, now)?;
    environment.telemetry.session_traced(&trace, &handle.known);
    Some(trace)
}
