//! Public sockets: accepting, and everything before HTTP. I/O.
//!
//! [`Listener`] holds the socket and its counters; [`establish`] reads what comes before HTTP, [`http`]
//! the request's head. The accept loop is in `gateway::accept`.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use crate::config::{self, Config, Problem};
use crate::handshake::forwarded;

use tls::Renewal;

pub(crate) mod establish;
mod handover;
pub(crate) mod http;
pub(crate) mod tls;

/// A public listener with what its connections need, as one configuration has it.
pub(crate) struct Listener {
    /// Which socket is meant.
    pub(crate) key: ListenerKey,
    /// The address as configured: the `listener` label.
    pub(crate) label: Arc<str>,
    /// What the operator said.
    pub(crate) config: config::Listener,
    /// TLS, where configured.
    pub(crate) tls: Option<tls::Tls>,
}

/// What makes a listener the same one in another configuration, whatever else is said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListenerKey {
    /// As configured.
    pub(crate) bind: config::Bind,
    /// Several may want any free port of the same address: which of them.
    pub(crate) nth: usize,
}

/// Who is at the other end, as far as the connection itself says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    /// The client, or the nearest proxy: from the PROXY header where there is one.
    pub(crate) address: SocketAddr,
    /// The TCP peer.
    pub(crate) direct: SocketAddr,
    /// The connection came over TLS.
    pub(crate) is_secure: bool,
}

impl Listener {
    /// Reads certificates and keys; binds nothing.
    pub(crate) fn new(index: usize, config: &Config) -> Result<Self, Vec<Problem>> {
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
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        forwarded::is_trusted(address, &self.config.trusted_proxies)
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

const BACKLOG: i32 = 4096;
