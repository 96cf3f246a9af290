//! The sockets that are open, each with the loop that accepts on it. I/O.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::idle::{IdleConnections, ParkedPlace};
use super::process::Current;
use super::{Gateway, connection};
use crate::admission::limits::{AddressPlace, Place};
use crate::listener::{Listener, ListenerKey};
use crate::net::stream::tune;
use crate::outcome::rejection::Rejection;
use crate::telemetry::labels::DropReason;
use crate::telemetry::metrics::GaugeGuard;

/// A connection as it was accepted.
pub(crate) struct Arrival {
    /// The configuration in force then.
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) listener: Arc<Listener>,
    pub(crate) tcp: TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) at: Instant,
    pub(crate) place: SocketPlace,
    /// Its request is refused for this.
    pub(crate) refusal: Option<Rejection>,
    /// A drain waits a moment for requests that have begun.
    pub(crate) under_way: TaskTrackerToken,
}

/// What a connection holds until its socket is closed.
#[derive(Debug)]
pub(crate) struct SocketPlace {
    /// `None` while it waits for a further request: another may be given it then.
    pub(crate) process: Option<Place>,
    address: Option<AddressPlace>,
    /// One of the few that finish a TLS handshake only to be refused.
    refusing: Option<Place>,
    _gauge: GaugeGuard,
}

/// All open sockets.
#[derive(Debug, Default)]
pub(crate) struct OpenListeners(Mutex<Vec<Open>>);

#[derive(Debug, Clone)]
struct Open {
    key: ListenerKey,
    address: Option<SocketAddr>,
    stop: CancellationToken,
    pulse: mpsc::Sender<oneshot::Sender<()>>,
}

impl OpenListeners {
    /// Accepts on a socket of `listener` until `stop`, or until it is closed.
    pub(crate) fn open(
        &self,
        listener: &Arc<Listener>,
        socket: TcpListener,
        current: Current,
        stop: CancellationToken,
    ) {
        let gateway = current.gateway();
        let address = socket.local_addr().ok();
        if let Some(address) = &address {
            gateway.telemetry().listener_opened(&listener.label, address);
        }
        let (pulse, asked) = mpsc::channel(1);
        self.all().push(Open { key: listener.key.clone(), address, stop: stop.clone(), pulse });
        let process = gateway.process();
        let under_way = process.handshakes.token();
        let key = listener.key.clone();
        process.tasks.spawn(accept(key, socket, current, stop, asked, under_way));
    }

    /// Whether a listener has a socket.
    pub(crate) fn has(&self, key: &ListenerKey) -> bool {
        self.all().iter().any(|open| open.key == *key)
    }

    /// The address of one that may be why `address` cannot be had: it has the same port.
    pub(crate) fn in_the_way_of(&self, address: SocketAddr) -> Option<SocketAddr> {
        let all = self.all();
        let mut open = all.iter().filter_map(|open| open.address);
        open.find(|open| open.port() == address.port())
    }

    /// Closes the sockets of all listeners but those that stay.
    pub(crate) fn close_unless(&self, stays: impl Fn(&ListenerKey) -> bool) {
        self.all().retain(|open| {
            let stays = stays(&open.key);
            if !stays {
                open.stop.cancel();
            }
            stays
        });
    }

    /// Whether every loop still goes round: each is asked, and must answer. Waits for as long as one
    /// does not.
    pub(crate) async fn are_alive(&self) -> bool {
        let all = self.all().clone();
        for Open { stop, pulse, .. } in all {
            let (answer, answered) = oneshot::channel();
            let is_alive = pulse.send(answer).await.is_ok() && answered.await.is_ok();
            // One that was told to end may do so.
            if !is_alive && !stop.is_cancelled() {
                return false;
            }
        }
        true
    }

    fn all(&self) -> MutexGuard<'_, Vec<Open>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Accepts on a listener's socket until `stop`, or until the gateway in force does not know the
/// listener. Each connection is the gateway's that is in force when it comes. Nothing a peer or the
/// operating system does ends the loop.
async fn accept(
    key: ListenerKey,
    socket: TcpListener,
    current: Current,
    stop: CancellationToken,
    mut asked: mpsc::Receiver<oneshot::Sender<()>>,
    _under_way: TaskTrackerToken,
) {
    let mut pause = FIRST_PAUSE;
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = socket.accept() => accepted,
            Some(answer) = asked.recv() => {
                // Who has asked may have stopped waiting.
                let _ = answer.send(());
                continue;
            }
        };
        let gateway = current.gateway();
        let Some(listener) = gateway.listener(&key) else { return };
        match accepted {
            Ok((tcp, peer)) => {
                pause = FIRST_PAUSE;
                arrive(&current, &gateway, listener, tcp, peer);
            }
            // The peer was quicker to leave than we to accept.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                // Out of descriptors or memory: accepting again at once would spin.
                gateway.telemetry().accept_failed(&listener.label, &error);
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

fn arrive(
    current: &Current,
    gateway: &Arc<Gateway>,
    listener: &Arc<Listener>,
    tcp: TcpStream,
    peer: SocketAddr,
) {
    let at = Instant::now();
    // An address is held to account here only if it is the client's own.
    let client = (!listener.trusts(peer.ip())).then(|| peer.ip());
    let (place, refusal) = match take_place(gateway, listener, client, at) {
        Ok(taken) => taken,
        Err(reason) => {
            return gateway.telemetry().connection_dropped(&listener.label, peer.ip(), reason);
        }
    };
    tune(&tcp);
    let under_way = gateway.process().handshakes.token();
    let (of, listener) = (Arc::clone(gateway), Arc::clone(listener));
    let arrival = Arrival { gateway: of, listener, tcp, peer, at, place, refusal, under_way };
    gateway.tasks().spawn(connection::serve(current.clone(), arrival));
}

/// A place for a connection, or one where its request is refused for lack of one.
///
/// # Errors
///
/// Why there is not even that.
fn take_place(
    gateway: &Gateway,
    listener: &Listener,
    client: Option<IpAddr>,
    now: Instant,
) -> Result<(SocketPlace, Option<Rejection>), DropReason> {
    let (process, limits) = (gateway.process(), &gateway.config().limits);
    let pools = &process.connections;
    let regular = pools.take_regular(limits).or_else(|| process.idle.revoke());
    let gauge = gateway.telemetry().metrics.connection(&listener.label);
    let mut taken = SocketPlace { process: regular, address: None, refusing: None, _gauge: gauge };
    let refusal = match (&taken.process, client) {
        (None, _) => {
            taken.process = Some(pools.take_refusing(limits).ok_or(DropReason::NoPlace)?);
            Some(Rejection::Overloaded)
        }
        (Some(_), None) => None,
        (Some(_), Some(client)) => taken.count(gateway, listener, client, now)?,
    };
    Ok((taken, refusal))
}

impl SocketPlace {
    /// Counts the connection for its client's address, once that is known: the refusal if it has too
    /// many, and then a place where it is only refused.
    ///
    /// # Errors
    ///
    /// Why there is not even that.
    pub(crate) fn count(
        &mut self,
        gateway: &Gateway,
        listener: &Listener,
        client: IpAddr,
        now: Instant,
    ) -> Result<Option<Rejection>, DropReason> {
        let (process, limits) = (gateway.process(), &gateway.config().limits);
        let rejection = match process.addresses.admit(client, limits, now) {
            Ok(place) => {
                self.address = Some(place);
                return Ok(None);
            }
            Err(rejection) => rejection,
        };
        // A TLS handshake costs more than all that follows: few are finished only for a refusal.
        let is_over_rate = matches!(rejection, Rejection::RateLimited { .. });
        if listener.tls.is_some() && is_over_rate {
            let is_excused = process.addresses.excuses_tls(client, now);
            let place = is_excused.then(|| process.connections.take_refusing_tls()).flatten();
            self.refusing = Some(place.ok_or(DropReason::RateLimited)?);
        }
        let place = process.connections.take_refusing(limits);
        self.process = Some(place.ok_or(DropReason::NoPlace)?);
        Ok(Some(rejection))
    }

    /// The connection waits for a further request.
    pub(crate) fn park(&mut self, idle: &Arc<IdleConnections>) -> Option<ParkedPlace> {
        self.process.take().map(|place| idle.park(place))
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::config::Bind;

    /// What a loop is asked with.
    pub(crate) type Asked = mpsc::Receiver<oneshot::Sender<()>>;

    /// One listener, whose loop is the test's.
    pub(crate) fn one(stop: CancellationToken) -> (Arc<OpenListeners>, Asked) {
        let (pulse, asked) = mpsc::channel(1);
        let key = ListenerKey { bind: Bind::Systemd("public".to_owned()), nth: 0 };
        (Arc::new(OpenListeners(Mutex::new(vec![Open { key, address: None, stop, pulse }]))), asked)
    }

    #[tokio::test]
    async fn a_loop_that_has_ended_is_found_unless_it_was_told_to() {
        let stop = CancellationToken::new();
        let (open, mut asked) = one(stop.clone());
        let answer = async { asked.recv().await.unwrap().send(()).unwrap() };
        assert!(tokio::join!(open.are_alive(), answer).0);
        let forget = async { drop(asked.recv().await) };
        assert!(!tokio::join!(open.are_alive(), forget).0, "asked, and gone");
        drop(asked);
        assert!(!open.are_alive().await);
        stop.cancel();
        assert!(open.are_alive().await);
    }

    #[test]
    fn who_does_not_stay_is_told_to_end() {
        let stop = CancellationToken::new();
        let (open, _asked) = one(stop.clone());
        let key = open.all()[0].key.clone();
        open.close_unless(|_| true);
        assert!(open.has(&key) && !stop.is_cancelled());
        open.close_unless(|_| false);
        assert!(!open.has(&key) && stop.is_cancelled());
    }
}
