//! The admin listener's socket. I/O.

use std::convert::Infallible;
use std::fmt;
use std::fs::{File, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, SockAddr, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::task::TaskTracker;

use super::overview::Dashboard;
use super::{Context, answer};
use crate::config::AdminBind;
use crate::gateway::process::Current;

/// The admin listener, bound.
pub(crate) struct AdminListener(Socket);

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

/// The socket could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub(crate) struct BindError {
    /// The address as configured.
    address: String,
    /// What the system said.
    source: io::Error,
}

impl fmt::Display for AdminListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.0, self.address()) {
            (Socket::Unix(_, file), _) => write!(f, "unix:{}", file.0.display()),
            (Socket::Tcp(_), Some(address)) => address.fmt(f),
            (Socket::Tcp(_), None) => f.write_str("closed"),
        }
    }
}

/// A Unix socket's file, removed when the listener goes.
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Fails only if somebody else has removed it.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl AdminListener {
    /// Opens the socket, unless it is `held` already.
    ///
    /// # Errors
    ///
    /// The address, and what the system said.
    pub(crate) async fn bind(
        bind: &AdminBind,
        held: Option<io::Result<TcpListener>>,
    ) -> Result<Self, BindError> {
        let failed = |address: String| move |source| BindError { address, source };
        let socket = match bind {
            AdminBind::Tcp(address) => {
                let socket = match held {
                    Some(socket) => socket,
                    None => TcpListener::bind(address).await,
                };
                Socket::Tcp(socket.map_err(failed(format!("{address} (admin)")))?)
            }
            AdminBind::Unix(path) => {
                let address = format!("unix:{} (admin)", path.display());
                bind_unix(path.clone()).await.map_err(failed(address))?
            }
        };
        Ok(Self(socket))
    }

    /// The actual address, where it is TCP.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match &self.0 {
            Socket::Tcp(socket) => socket.local_addr().ok(),
            Socket::Unix(..) => None,
        }
    }

    /// Serves until dropped.
    pub(crate) async fn run(self, current: Current, dashboard: Arc<Dashboard>) {
        let tasks = TaskTracker::new();
        loop {
            let accepted = match &self.0 {
                Socket::Tcp(socket) => socket.accept().await.map(|(stream, _)| {
                    tasks.spawn(serve(stream, current.clone(), Arc::clone(&dashboard)));
                }),
                Socket::Unix(socket, _) => socket.accept().await.map(|(stream, _)| {
                    tasks.spawn(serve(stream, current.clone(), Arc::clone(&dashboard)));
                }),
            };
            if let Err(error) = accepted {
                current.gateway().telemetry().accept_failed("admin", &error);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Binds a Unix socket, taking the place of one that a killed process has left behind.
async fn bind_unix(path: PathBuf) -> io::Result<Socket> {
    let listener = match listen_unix(&path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if !std::fs::symlink_metadata(&path)?.file_type().is_socket() {
                return Err(io::Error::new(error.kind(), "there is a file that is no socket"));
            }
            // Whoever listens, but cannot take us now, is somebody all the same.
            let nobody = tokio::net::UnixStream::connect(&path).await.err();
            if nobody.is_none_or(|why| why.kind() != io::ErrorKind::ConnectionRefused) {
                return Err(error);
            }
            std::fs::remove_file(&path)?;
            listen_unix(&path)?
        }
        bound => bound?,
    };
    // Not left to whatever umask the process began with.
    std::fs::set_permissions(&path, Permissions::from_mode(OWNER_AND_GROUP))?;
    Ok(Socket::Unix(listener, SocketFile(path)))
}

/// Whoever may write to the socket may ask anything. Linux gives its file the mode of the socket, less the
/// umask: no other user may write at any moment, also before it has its final mode.
fn listen_unix(path: &Path) -> io::Result<UnixListener> {
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    let file = File::from(OwnedFd::from(socket.try_clone()?));
    file.set_permissions(Permissions::from_mode(OWNER_AND_GROUP))?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    UnixListener::from_std(std::os::unix::net::UnixListener::from(OwnedFd::from(socket)))
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    current: Current,
    dashboard: Arc<Dashboard>,
) {
    let service = service_fn(|request: Request<Incoming>| {
        // Each request is answered by the gateway in force.
        let context = Context { gateway: current.gateway(), dashboard: Arc::clone(&dashboard) };
        async move {
            let (head, _) = request.into_parts();
            // Many requests look at every session: not on a thread that relays them.
            let answered = tokio::task::spawn_blocking(move || {
                let guards = context.gateway.guards();
                guards.map_or_else(Response::default, |guards| answer(guards, &context, &head))
            });
            let response = answered.await.unwrap_or_else(|_| failed());
            Ok::<Response<Full<Bytes>>, Infallible>(response.map(Full::new))
        }
    });
    // An admin client that breaks off is no event.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// What a handler that panicked leaves to be said.
fn failed() -> Response<Bytes> {
    let mut response = Response::new(Bytes::from_static(b"internal error\n"));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}

const OWNER_AND_GROUP: u32 = 0o660;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;
const PAUSE: Duration = Duration::from_millis(100);
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_socket_that_nobody_has_makes_room() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        std::fs::write(&path, "precious").unwrap();
        let error = bind_unix(path.clone()).await.err().unwrap();
        assert_eq!(error.to_string(), "there is a file that is no socket");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");

        std::fs::remove_file(&path).unwrap();
        let taken = UnixListener::bind(&path).unwrap();
        assert!(bind_unix(path.clone()).await.is_err());
        // What a killed process leaves behind.
        drop(taken);
        assert!(bind_unix(path.clone()).await.is_ok());
    }

    #[tokio::test]
    async fn no_other_user_may_ever_write_to_the_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let _listener = listen_unix(&path).unwrap();
        // Before its final mode is set, and whatever the umask: with the usual 022 bind() alone gives 755.
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777 & !OWNER_AND_GROUP, 0, "{mode:o}");
    }
}
