//! What systemd does for a service: listens to its notifications, passes it sockets.

use std::collections::HashMap;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram as StdDatagram};
use std::path::Path;
use std::process::Stdio;

use tokio::net::UnixDatagram;
use tokio::process::Command;

use super::gateway::command;
use super::{Setup, within};

/// The socket of `NOTIFY_SOCKET`.
pub struct Notified {
    socket: UnixDatagram,
    /// Value of the variable.
    pub name: String,
}

impl Notified {
    /// A socket in a folder.
    pub fn in_folder(folder: &Path) -> Self {
        let path = folder.join("notify");
        let name = path.to_str().unwrap().to_owned();
        Self::at(&SocketAddr::from_pathname(path).unwrap(), name)
    }

    /// An abstract socket.
    pub fn abstract_socket() -> Self {
        let name = format!("framegate-test-{:x}", fastrand::u64(..));
        Self::at(&SocketAddr::from_abstract_name(&name).unwrap(), format!("@{name}"))
    }

    fn at(address: &SocketAddr, name: String) -> Self {
        let socket = StdDatagram::bind_addr(address).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket: UnixDatagram::from_std(socket).unwrap(), name }
    }

    /// The next message, variable by variable.
    pub async fn next(&self) -> HashMap<String, String> {
        let mut message = [0; 4096];
        let len = within("a notification", self.socket.recv(&mut message)).await.unwrap();
        let lines = std::str::from_utf8(&message[..len]).unwrap().lines();
        lines
            .map(|line| line.split_once('=').expect("VARIABLE=value"))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    /// The next message that sets this variable, passing over those of `between`.
    pub async fn expect(&self, variable: &str, between: &[&str]) -> HashMap<String, String> {
        loop {
            let message = self.next().await;
            if message.contains_key(variable) {
                return message;
            }
            let is_expected = message.keys().all(|name| between.contains(&name.as_str()));
            assert!(is_expected, "waited for {variable}, got {message:?}");
        }
    }
}

/// Starts the gateway with sockets, the first descriptor behind the standard ones, and their names.
pub fn with_socket(
    socket: impl Into<OwnedFd>,
    name: &str,
) -> impl FnOnce(&Path, &Setup) -> Command {
    let (socket, name) = (socket.into(), name.to_owned());
    move |file, setup| {
        let gateway = command(file, setup);
        let mut shell = Command::new("sh");
        // The process id stays the same: it is what systemd would have said.
        let script = "exec 3<&0 </dev/null; export LISTEN_PID=$$; exec \"$0\" \"$@\"";
        shell.args(["-c", script]).arg(gateway.as_std().get_program());
        shell.args(gateway.as_std().get_args());
        shell.envs([("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", &name)]);
        shell.stdin(Stdio::from(socket)).kill_on_drop(true);
        shell
    }
}

/// A listening socket, as systemd holds one.
pub fn listening() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}
