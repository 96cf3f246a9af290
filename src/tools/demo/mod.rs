//! `framegate demo`: the whole product in one command, without a file or a network.
//!
//! [`start`] makes keys, certificates and tokens ([`material`]), starts a chat backend
//! ([`backend`]) and a web chat page ([`page`]), and writes a configuration for the gateway
//! ([`text`]); the caller runs the gateway with it. Everything listens on loopback only.

use std::fs::DirBuilder;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) mod backend;
pub(crate) mod material;
mod member;
pub(crate) mod page;
mod room;
pub(crate) mod text;

use backend::Backend;
use material::{DemoMaterial, MaterialError};
use text::Addresses;

use crate::server::sockets::{Held, into_async};

/// `framegate demo`'s arguments.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct DemoArgs {
    /// Port of the TLS listener (0: any) [default: 8443, or any if that is taken]
    #[arg(long, value_name = "PORT")]
    pub(crate) port: Option<u16>,
    /// Port of the plain listener (0: any) [default: 8080, or any if that is taken]
    #[arg(long, value_name = "PORT")]
    pub(crate) plain_port: Option<u16>,
    /// Port of the chat page (0: any) [default: 8000, or any if that is taken]
    #[arg(long, value_name = "PORT")]
    pub(crate) page_port: Option<u16>,
    /// Port of metrics and health (0: any) [default: 9901, or any if that is taken]
    #[arg(long, value_name = "PORT")]
    pub(crate) admin_port: Option<u16>,
    /// Put configuration, keys and tokens here and leave them there [default: a temporary folder]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) dir: Option<PathBuf>,
    /// Print one line of JSON with all URLs and tokens instead of the greeting
    #[arg(long)]
    pub(crate) json: bool,
}

/// A demo whose backend and page run; its gateway is the caller's to start, with [`Demo::config`]
/// and [`Demo::sockets`].
/// Dropping it removes a temporary folder.
#[derive(Debug)]
pub(crate) struct Demo {
    sockets: Vec<TcpListener>,
    addresses: Addresses,
    material: DemoMaterial,
    notes: Vec<String>,
    folder: Folder,
}

/// Why there is no demo.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    /// A port that was asked for, or none at all, can be had.
    #[error("cannot listen on {addr} ({purpose}): {source}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What would have listened there.
        purpose: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The folder could not be made.
    #[error("cannot make the folder {path}: {source}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Keys, certificates, tokens or their files could not be made.
    #[error(transparent)]
    Material(#[from] MaterialError),
}

/// Prepares everything and starts backend and page, until `shutdown`, with all tasks on `tracker`.
///
/// # Errors
/// When a port asked for is taken, or the folder or a file in it cannot be made.
pub(crate) async fn start(
    args: &DemoArgs,
    tracker: &TaskTracker,
    shutdown: CancellationToken,
) -> Result<Demo, DemoError> {
    let mut notes = Vec::new();
    let reserved = Reserved::take(args, &mut notes)?;
    let folder = Folder::make(args.dir.as_deref())?;
    let material = material::prepare(&folder.path, Timestamp::now())?;

    let any = loopback(0);
    let failed = |purpose| move |source| DemoError::Listen { addr: any, purpose, source };
    let backend = Backend::start(any, tracker, shutdown.clone()).await;
    let backend = backend.map_err(failed("chat backend"))?;
    let addresses = reserved.addresses(backend.addr())?;
    material::write(&folder.path, material::CONFIG, &text::config_text(&addresses))?;

    let page = page::Page { facts: text::facts(&addresses, &material), backend };
    let Reserved { tls, plain, page: listener, admin } = reserved;
    let listener = into_async(listener).map_err(failed("chat page"))?;
    tracker.spawn(page::serve(listener, page, tracker.clone(), shutdown));
    Ok(Demo { sockets: vec![tls, plain, admin], addresses, material, notes, folder })
}

impl Demo {
    /// The gateway's sockets, once: they were bound first, so that nobody could take their ports.
    pub(crate) fn sockets(&mut self) -> Held {
        Held::bound(std::mem::take(&mut self.sockets))
    }

    /// The gateway's configuration file.
    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path.join(material::CONFIG)
    }

    /// What to print once the gateway listens too: one line of JSON with `--json`, else the
    /// greeting.
    pub(crate) fn greeting(&self, args: &DemoArgs) -> String {
        if args.json {
            return format!("{}\n", text::facts(&self.addresses, &self.material));
        }
        // So that what is printed can be run as it stands, from wherever the reader is.
        let program = std::env::args_os().next().map_or_else(|| "framegate".into(), PathBuf::from);
        text::banner(&self.addresses, &self.material, &program, &self.notes)
    }
}

/// The demo's folder; a temporary one goes when this is dropped.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    temporary: bool,
}

impl Folder {
    /// `kept`, made if it is not there, or a new temporary one; either only for its owner if new.
    fn make(kept: Option<&Path>) -> Result<Self, DemoError> {
        let mut builder = DirBuilder::new();
        builder.mode(0o700).recursive(kept.is_some());
        let path = kept.map_or_else(temporary_path, Path::to_owned);
        match builder.create(&path) {
            Ok(()) => Ok(Self { path, temporary: kept.is_none() }),
            Err(source) => Err(DemoError::Folder { path, source }),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.temporary {
            material::remove(&self.path);
        }
    }
}

/// Taken by somebody else, it fails rather than being used: the folder is made, never reused.
fn temporary_path() -> PathBuf {
    std::env::temp_dir().join(format!("framegate-demo-{:016x}", fastrand::u64(..)))
}

/// The sockets of the four ports, bound from the start so that none is taken by anybody else.
struct Reserved {
    tls: TcpListener,
    plain: TcpListener,
    page: TcpListener,
    admin: TcpListener,
}

impl Reserved {
    fn take(args: &DemoArgs, notes: &mut Vec<String>) -> Result<Self, DemoError> {
        Ok(Self {
            tls: reserve("TLS listener", args.port, 8443, notes)?,
            plain: reserve("plain listener", args.plain_port, 8080, notes)?,
            page: reserve("chat page", args.page_port, 8000, notes)?,
            admin: reserve("admin listener", args.admin_port, 9901, notes)?,
        })
    }

    fn addresses(&self, backend: SocketAddr) -> Result<Addresses, DemoError> {
        let at = |listener: &TcpListener| {
            listener.local_addr().map_err(|source| DemoError::Listen {
                addr: loopback(0),
                purpose: "reserved port",
                source,
            })
        };
        let (tls, plain) = (at(&self.tls)?, at(&self.plain)?);
        Ok(Addresses { tls, plain, page: at(&self.page)?, admin: at(&self.admin)?, backend })
    }
}

/// Binds the port asked for, or `default`; only instead of the latter is another one taken, and
/// noted.
fn reserve(
    purpose: &'static str,
    asked: Option<u16>,
    default: u16,
    notes: &mut Vec<String>,
) -> Result<TcpListener, DemoError> {
    let bind = |port| {
        let addr = loopback(port);
        TcpListener::bind(addr).map_err(|source| DemoError::Listen { addr, purpose, source })
    };
    if let Some(port) = asked {
        return bind(port);
    }
    bind(default).or_else(|_| {
        let listener = bind(0)?;
        let port = listener.local_addr().map_or(0, |addr| addr.port());
        notes.push(format!("port {default} is taken: the {purpose} is on {port} instead"));
        Ok(listener)
    })
}

/// By number and not as "localhost": unambiguous, and no HSTS left by another project applies to
/// it.
fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

#[cfg(test)]
mod tests;
