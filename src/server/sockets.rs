//! Sockets that listen already when the gateway starts: its demo's, and those systemd passes. I/O.
//!
//! systemd's are kept for as long as the process lives (a reload may come back to one), and closing
//! ours closes nobody else's: while this process drains, its successor accepts on the same socket.

use std::io;
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;
use socket2::SockRef;

use crate::config::{AdminBind, Bind, Config, Problem};
use crate::listener::Listener;

/// The sockets that are there.
#[derive(Debug, Default)]
pub(crate) struct Held {
    bound: Vec<TcpListener>,
    passed: Vec<Passed>,
}

/// A descriptor that was passed.
#[derive(Debug)]
struct Passed {
    name: String,
    /// Or why it is none that clients can connect to.
    socket: Result<TcpListener, &'static str>,
}

/// Why a listener has no socket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoSocket {
    /// It could not be opened.
    #[error("cannot listen on {bind}: {source}")]
    Listen {
        /// The address.
        bind: Bind,
        /// What the system said.
        source: io::Error,
    },
    /// Nothing of this name was passed.
    #[error("systemd has passed no socket called {name:?}; {passed}")]
    Unknown {
        name: String,
        /// What there is instead.
        passed: String,
    },
    /// It is of another kind.
    #[error("the socket {name:?} that systemd has passed {why}")]
    Unfit {
        name: String,
        /// What it is.
        why: &'static str,
    },
}

impl Held {
    /// These, which are bound to the addresses of listeners.
    pub(crate) fn bound(sockets: Vec<TcpListener>) -> Self {
        Self { bound: sockets, passed: Vec::new() }
    }

    /// Those that systemd passes (sd_listen_fds(3)). To be called before the process has threads, as
    /// it takes the variables that tell of them out of the environment.
    pub(crate) fn passed() -> Self {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut descriptors = ListenFd::from_env();
        let passed = (0..descriptors.len()).map(|index| {
            // What sd_listen_fds_with_names(3) calls those without a name.
            let name = names.next().filter(|name| !name.is_empty()).unwrap_or("unknown");
            Passed { name: name.to_owned(), socket: take(&mut descriptors, index) }
        });
        Self { bound: Vec::new(), passed: passed.collect() }
    }

    /// The sockets of a listener: one of its own, or all that systemd has passed by its name.
    pub(crate) fn sockets(
        &mut self,
        listener: &Listener,
    ) -> Result<Vec<tokio::net::TcpListener>, NoSocket> {
        let failed = |source| NoSocket::Listen { bind: listener.config.bind.clone(), source };
        match &listener.config.bind {
            Bind::Address(address) => match self.take(*address) {
                Some(socket) => Ok(vec![into_async(socket).map_err(failed)?]),
                None => Ok(vec![crate::listener::bind(*address).map_err(failed)?]),
            },
            Bind::Systemd(name) => {
                let copies = self
                    .passed_as(name)?
                    .into_iter()
                    .map(|socket| socket.try_clone().and_then(into_async).map_err(failed));
                copies.collect()
            }
        }
    }

    /// What listeners want of systemd and do not get.
    pub(crate) fn missing(&self, config: &Config) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (index, listener) in config.listeners.iter().enumerate() {
            if let Bind::Systemd(name) = &listener.bind
                && let Err(error) = self.passed_as(name)
            {
                let path = format!("listener[{index}].bind");
                problems.push(config.locations.problem(path, error.to_string()));
            }
        }
        problems
    }

    /// Whether systemd has passed any.
    pub(crate) fn has_passed(&self) -> bool {
        !self.passed.is_empty()
    }

    /// The socket bound to `address`, if there is one.
    fn take(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let is_it = |socket: &TcpListener| socket.local_addr().is_ok_and(|bound| bound == address);
        let at = self.bound.iter().position(is_it)?;
        Some(self.bound.swap_remove(at))
    }

    /// The socket of the admin listener, if it is there.
    pub(crate) fn admin(
        &mut self,
        bind: &AdminBind,
    ) -> Option<io::Result<tokio::net::TcpListener>> {
        let AdminBind::Tcp(address) = bind else { return None };
        self.take(*address).map(into_async)
    }

    fn passed_as(&self, name: &str) -> Result<Vec<&TcpListener>, NoSocket> {
        let by_name = self.passed.iter().filter(|passed| passed.name == name);
        let sockets = by_name.map(|passed| {
            let unfit = |why: &&'static str| NoSocket::Unfit { name: name.to_owned(), why };
            passed.socket.as_ref().map_err(unfit)
        });
        let sockets = sockets.collect::<Result<Vec<_>, _>>()?;
        if sockets.is_empty() {
            let names: Vec<_> =
                self.passed.iter().map(|passed| format!("{:?}", passed.name)).collect();
            let passed = match names.len() {
                0 => "it has passed none: is the service started by its socket unit?".to_owned(),
                _ => format!("there is {}", names.join(", ")),
            };
            return Err(NoSocket::Unknown { name: name.to_owned(), passed });
        }
        Ok(sockets)
    }
}

/// A socket of the standard library for the runtime.
pub(crate) fn into_async(socket: TcpListener) -> io::Result<tokio::net::TcpListener> {
    socket.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(socket)
}

/// Takes a descriptor, which is not handed on to children then.
fn take(descriptors: &mut ListenFd, index: usize) -> Result<TcpListener, &'static str> {
    match descriptors.take_tcp_listener(index) {
        Ok(Some(socket)) if SockRef::from(&socket).is_listener().unwrap_or(false) => Ok(socket),
        Ok(Some(_)) => Err("does not listen: its unit must have Accept=no"),
        _ => match descriptors.take_unix_listener(index) {
            Ok(Some(_)) => Err("is a unix socket, and clients connect over TCP"),
            _ => Err("is no TCP socket"),
        },
    }
}
