//! Public sockets: accepting, and everything before HTTP. I/O.
//!
//! [`open`] accepts, [`Listener`] counts; [`connection::serve`] is what becomes of each connection.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::admission::limits::{AddressPlace, Place};
use crate::admission::rejection::Rejection;
use crate::config::{self, Config, Problem};
use crate::gateway::Gateway;
use crate::handshake::forwarded;
use crate::telemetry::metrics::GaugeGuard;

use tls::Renewal;

pub mod connection;
mod establish;
mod http;
pub(crate) mod open;
pub(crate) mod pem;
pub mod proxy_protocol;
pub mod tls;

/// A public listener with what its connections need, as one configuration has it.
pub struct Listener {
    /// Which socket is meant.
    pub key: ListenerKey,
    /// The address as configured: the `listener` label.
    pub label: Arc<str>,
    /// What the operator said.
    pub config: config::Listener,
    /// TLS, where configured.
    pub tls: Option<tls::Tls>,
}

/// What makes a listener the same one in another configuration, whatever else is said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerKey {
    /// As configured.
    bind: config::Bind,
    /// Several may want any free port of the same address: which of them.
    nth: usize,
}

/// A connection as it was accepted.
pub struct Arrival {
    pub(crate) tcp: TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) at: Instant,
    pub(crate) places: ConnectionPlaces,
    /// It is only told this.
    pub(crate) refusal: Option<Rejection>,
    /// A drain waits a moment for handshakes that have begun.
    pub(crate) under_way: TaskTrackerToken,
}

/// What a connection holds until its socket is closed.
#[derive(Debug)]
pub struct ConnectionPlaces {
    _process: Place,
    address: Option<AddressPlace>,
    _gauge: GaugeGuard,
}

impl Listener {
    /// Reads certificates and keys; binds nothing.
    pub fn new(index: usize, config: &Config) -> Result<Self, Vec<Problem>> {
        let listener = config.listeners[index].clone();
        let path = format!("listener[{index}].tls");
        let tls = listener
            .tls
            .as_ref()
            .map(|settings| tls::load(settings, &path, &config.locations))
            .transpose()?;
        let label = Arc::from(listener.bind.to_string());
        let others = config.listeners.iter().take(index);
        let nth = others.filter(|other| other.bind == listener.bind).count();
        let key = ListenerKey { bind: listener.bind.clone(), nth };
        Ok(Self { key, label, config: listener, tls })
    }

    /// The same with the certificates that lie in the place of its own now, and their names, where
    /// that is another; and why it is not, where it should be.
    pub(crate) fn renewed(&self, index: usize, config: &Config) -> (Option<Self>, Renewal) {
        let (Some(tls), Some(settings)) = (&self.tls, &self.config.tls) else {
            return (None, Renewal::default());
        };
        let path = format!("listener[{index}].tls");
        let mut renewal = tls.renewed(settings, &path, &config.locations);
        let renewed = renewal.tls.take().map(|tls| Self {
            key: self.key.clone(),
            label: Arc::clone(&self.label),
            config: self.config.clone(),
            tls: Some(tls),
        });
        (renewed, renewal)
    }

    /// Whether what `address` says of others is believed.
    pub fn trusts(&self, address: IpAddr) -> bool {
        forwarded::is_trusted(address, &self.config.trusted_proxies)
    }

    fn arrive(self: &Arc<Self>, gateway: &Arc<Gateway>, tcp: TcpStream, peer: SocketAddr) {
        let at = Instant::now();
        // An address is held to account here only if it is the client's own.
        let client = (!self.trusts(peer.ip())).then(|| peer.ip());
        let Some((places, refusal)) = self.take_places(gateway, client, at) else {
            gateway.telemetry().connection_dropped(&self.label, peer.ip());
            return;
        };
        // A relay must not wait for more bytes; where it fails, the socket is gone anyway.
        let _ = tcp.set_nodelay(true);
        let under_way = gateway.process().handshakes.token();
        let arrival = Arrival { tcp, peer, at, places, refusal, under_way };
        gateway.tasks().spawn(connection::serve(Arc::clone(gateway), Arc::clone(self), arrival));
    }

    /// A place for a connection, or one where it is only told why there is none; `None`: not even that.
    fn take_places(
        &self,
        gateway: &Gateway,
        client: Option<IpAddr>,
        now: Instant,
    ) -> Option<(ConnectionPlaces, Option<Rejection>)> {
        let (pools, limits) = (&gateway.process().connections, &gateway.config().limits);
        let (process, address, refusal) = match pools.take_regular(limits) {
            None => (pools.take_refusing(limits)?, None, Some(Rejection::Overloaded)),
            Some(place) => {
                let addresses = &gateway.process().addresses;
                let admitted = client.map(|client| addresses.admit(client, limits, now));
                match admitted.transpose() {
                    Ok(address) => (place, address, None),
                    Err(rejection) => (pools.take_refusing(limits)?, None, Some(rejection)),
                }
            }
        };
        let gauge = gateway.telemetry().metrics.connection(&self.label);
        Some((ConnectionPlaces { _process: process, address, _gauge: gauge }, refusal))
    }
}

/// Opens a socket.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

impl ConnectionPlaces {
    /// Counts the connection for its client's address, which became known only later.
    pub(crate) fn set_address(&mut self, place: AddressPlace) {
        self.address = Some(place);
    }
}

const BACKLOG: i32 = 4096;
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
