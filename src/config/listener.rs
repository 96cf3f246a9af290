//! `[[listener]]` and `[admin]`: the sockets the gateway listens on. Pure.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::hosts::Host;
use super::reader::{Node, Table};
use crate::handshake::forwarded::ClientAddress;
use crate::handshake::headers::{is_set_anew, normalised};

/// One public listening socket.
#[derive(Debug, Clone)]
pub(crate) struct Listener {
    /// Where it listens; also the `listener` label of metrics.
    pub(crate) bind: Bind,
    /// A PROXY v1/v2 header is required on every connection, and only from `trusted_proxies`.
    pub(crate) proxy_protocol: bool,
    /// Peers whose PROXY header or X-Forwarded-For is believed.
    pub(crate) trusted_proxies: Vec<IpNet>,
    /// The header by which they name the client's address.
    pub(crate) client_address: ClientAddress,
    /// Further headers of theirs that are passed on, as [`normalised`] gives their names.
    pub(crate) trusted_headers: Vec<String>,
    /// The connection tester is served at `/.framegate/doctor`.
    pub(crate) doctor: bool,
    /// Largest request head in bytes.
    pub(crate) head_size: u32,
    /// How many requests a connection may carry.
    pub(crate) http: KeptConnections,
    /// TLS settings; `None` is plain `ws://`.
    pub(crate) tls: Option<ListenerTls>,
}

/// Connections that stay open for a further request (RFC 9112 section 9.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeptConnections {
    /// How long one may wait for its next request; zero: each answer is the last.
    pub(crate) keep_alive: Duration,
    /// Requests on one connection.
    pub(crate) requests: u32,
}

/// Where a public listener gets its socket from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Bind {
    /// `0.0.0.0:8443`: it opens it.
    Address(SocketAddr),
    /// `systemd:NAME`: systemd has opened it, and passes it by this name.
    Systemd(String),
}

#[derive(Debug, Clone)]
pub(crate) struct ListenerTls {
    /// Certificates, chosen by SNI; the first is the default. Never empty.
    pub(crate) certificates: Vec<Certificate>,
    /// Lowest protocol version offered.
    pub(crate) min_version: TlsVersion,
    /// PEM file of the authorities that sign client certificates; set: they are required.
    pub(crate) client_ca: Option<PathBuf>,
}

/// A certificate chain and its key, both PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Certificate {
    /// Chain, leaf first.
    pub(crate) chain: PathBuf,
    /// Private key: PKCS#8, PKCS#1 or SEC1.
    pub(crate) key: PathBuf,
}

/// TLS protocol versions a listener can start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TlsVersion {
    /// TLS 1.2 and 1.3.
    V1_2,
    /// TLS 1.3 only.
    V1_3,
}

/// The admin listener.
#[derive(Debug, Clone)]
pub(crate) struct Admin {
    /// Where it listens.
    pub(crate) bind: AdminBind,
    /// File with the bearer token its callers must present.
    pub(crate) token_file: Option<PathBuf>,
    /// Further names it may be called by (Host header).
    pub(crate) hosts: Vec<String>,
}

/// Where the admin listener listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AdminBind {
    /// `127.0.0.1:9901`
    Tcp(SocketAddr),
    /// `unix:/run/framegate/admin.sock`
    Unix(PathBuf),
}

/// Why a text is no address to listen on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BindError {
    /// `systemd:NAME` for the admin listener.
    #[error(
        "only clients' listeners take sockets from systemd: write an address and a port, or a unix socket"
    )]
    Systemd,
    /// `systemd:` or a name that systemd would not take.
    #[error(
        "must name the socket as FileDescriptorName= of its unit does, such as \"systemd:public\""
    )]
    SystemdName,
    /// `unix:/path` where it cannot be.
    #[error("clients connect over TCP: write an address and a port, such as \"0.0.0.0:8443\"")]
    Unix,
    /// `0.0.0.0`
    #[error("has no port; write it behind the address, such as {0:?}")]
    NoPort(String),
    /// `:8443`, `*:8443`, `8443`
    #[error("has no address; did you mean \"0.0.0.0:{0}\" (or \"[::]:{0}\" for IPv6 too)?")]
    NoAddress(u16),
    /// `localhost:8443`
    #[error("names are not looked up here; did you mean \"127.0.0.1:{0}\"?")]
    Localhost(u16),
    /// Anything else.
    #[error("must be an address and a port, such as \"0.0.0.0:8443\" or \"[::1]:8443\"")]
    Form,
}

impl Listener {
    /// Reads one `[[listener]]`; `None` without a usable address.
    pub(super) fn read(table: &mut Table<'_, '_>) -> Option<Self> {
        let bind = table
            .required("bind", "the address and port to listen on, such as \"0.0.0.0:8443\"")
            .and_then(|node| node.parse(Bind::parse));
        let proxy_protocol = table.boolean("proxy_protocol", false);
        let trusted_proxies_typed = table.list("trusted_proxies", |node| Some(network(&node)));
        if proxy_protocol && trusted_proxies_typed.is_empty() {
            table.problem(
                "proxy_protocol",
                "true without trusted_proxies would refuse everybody: name the balancers' addresses there",
            );
        }
        let client_address = read_client_address(table);
        let trusted_headers = table.set("trusted_headers", trusted_header);
        let doctor = table.boolean("doctor", false);
        let head_size = read_head_size(table);
        let http = table.section("http", KeptConnections::read);
        let tls = table.optional_section("tls", ListenerTls::read);
        let trusted_proxies = trusted_proxies_typed.into_iter().flatten().collect();
        Some(Self {
            bind: bind?,
            proxy_protocol,
            trusted_proxies,
            client_address,
            trusted_headers,
            doctor,
            head_size,
            http,
            tls,
        })
    }
}

fn read_head_size(table: &mut Table<'_, '_>) -> u32 {
    let size = table.size("head_size", u64::from(HEAD_SIZE));
    let size = u32::try_from(size).unwrap_or(u32::MAX);
    if !(8 * 1024..=256 * 1024).contains(&size) {
        table.problem("head_size", "must be from 8KiB to 256KiB");
    }
    size
}

/// Reads `client_address`: X-Forwarded-For unless another header is named.
fn read_client_address(table: &mut Table<'_, '_>) -> ClientAddress {
    let read = |node: Node<'_, '_>| {
        node.parse(|text| match text.to_ascii_lowercase().as_str() {
            "" | "x-forwarded-for" => Ok(ClientAddress::XForwardedFor),
            "forwarded" => Ok(ClientAddress::Forwarded),
            name => http::HeaderName::try_from(name)
                .map(ClientAddress::Header)
                .map_err(|_| "must be the name of a header, such as \"CF-Connecting-IP\""),
        })
    };
    table.take("client_address").and_then(read).unwrap_or_default()
}

/// The name of a header that a trusted proxy sets and that is none of the gateway's own.
fn trusted_header(node: &Node<'_, '_>) -> Option<String> {
    let name = node.word()?;
    if http::HeaderName::try_from(name.as_str()).is_err() {
        node.problem("must be the name of a header, such as \"X-Forwarded-User\"");
        return None;
    }
    let key = normalised(&name);
    if is_set_anew(&key) {
        node.problem("is set by the gateway itself, from what trusted_proxies say: leave it out");
        return None;
    }
    Some(key)
}

impl KeptConnections {
    fn read(table: &mut Table<'_, '_>) -> Self {
        Self {
            keep_alive: table.duration("keep_alive", Duration::from_secs(15)),
            requests: table.number("requests", 1..=u32::MAX, 1000),
        }
    }
}

impl Bind {
    fn parse(text: &str) -> Result<Self, BindError> {
        let Some(name) = text.strip_prefix("systemd:") else {
            return tcp_address(text).map(Self::Address);
        };
        // systemd.socket(5), FileDescriptorName=.
        let is_allowed = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b':';
        if name.is_empty() || name.len() > 255 || !name.bytes().all(is_allowed) {
            return Err(BindError::SystemdName);
        }
        Ok(Self::Systemd(name.to_owned()))
    }

    /// Whether only this machine can reach it; `None`: that is systemd's to know.
    pub(super) fn is_loopback(&self) -> Option<bool> {
        match self {
            Self::Address(address) => Some(address.ip().to_canonical().is_loopback()),
            Self::Systemd(_) => None,
        }
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Systemd(name) => write!(f, "systemd:{name}"),
        }
    }
}

impl ListenerTls {
    fn read(table: &mut Table<'_, '_>) -> Self {
        let hint = "[{ chain = \"FILE\", key = \"FILE\" }]";
        let certificates = table
            .required_list("certificates", hint, |node| node.table(Certificate::read).flatten());
        let versions = [("1.2", TlsVersion::V1_2), ("1.3", TlsVersion::V1_3)];
        let min_version = table.choice("min_version", &versions, TlsVersion::V1_2);
        Self { certificates, min_version, client_ca: table.file("client_ca") }
    }
}

impl Certificate {
    fn read(table: &mut Table<'_, '_>) -> Option<Self> {
        let chain = table.required("chain", "the PEM file with the certificates, leaf first");
        let key = table.required("key", "the PEM file with the private key");
        let (chain, key) = (chain.and_then(|node| node.file()), key.and_then(|node| node.file()));
        Some(Self { chain: chain?, key: key? })
    }
}

impl Admin {
    /// Reads `[admin]`; `None` if it is off or its address is unusable.
    pub(super) fn read(table: &mut Table<'_, '_>) -> Option<Self> {
        let bind = match table.take("bind") {
            Some(node) => node.text().and_then(|text| match text.strip_prefix("unix:") {
                _ if text.is_empty() => None,
                Some(_) => node
                    .parse(super::endpoint::unix_path)
                    .map(|path| AdminBind::Unix(node.in_folder(path))),
                None => node.parse(tcp_address).map(AdminBind::Tcp),
            }),
            None => Some(AdminBind::Tcp(DEFAULT_ADMIN)),
        };
        let token_file = table.file("token_file");
        let hosts = table.set("hosts", |node| node.parse(Host::parse).map(Host::into_string));
        if token_file.is_none() && bind.as_ref().is_some_and(AdminBind::reaches_beyond_the_machine)
        {
            table.problem(
                "token_file",
                "is required where the admin address is neither loopback nor a unix socket: \
                 whoever reaches it can end sessions",
            );
        }
        Some(Self { bind: bind?, token_file, hosts })
    }
}

impl AdminBind {
    fn reaches_beyond_the_machine(&self) -> bool {
        match self {
            Self::Tcp(address) => !address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => false,
        }
    }
}

/// An address and a port.
pub(super) fn tcp_address(text: &str) -> Result<SocketAddr, BindError> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if text.starts_with("systemd:") {
        return Err(BindError::Systemd);
    }
    if text.starts_with("unix:") {
        return Err(BindError::Unix);
    }
    if let Ok(address) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Err(BindError::NoPort(SocketAddr::new(address, 8443).to_string()));
    }
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    match (host, port.parse()) {
        ("" | "*", Ok(port)) => Err(BindError::NoAddress(port)),
        ("localhost", Ok(port)) => Err(BindError::Localhost(port)),
        _ => Err(BindError::Form),
    }
}

/// A network, or one address as the network of itself; host bits are cleared.
fn network(node: &Node<'_, '_>) -> Option<IpNet> {
    let parse = |text: &str| {
        text.parse::<IpNet>()
            .map(|network| network.trunc())
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
            .map_err(|_| "must be a network or an address, such as \"10.0.0.0/8\" or \"::1\"")
    };
    node.parse(parse)
}

/// Room for the cookies and tokens of most.
const HEAD_SIZE: u32 = 16 * 1024;
/// Where the admin listener is unless it is put elsewhere.
const DEFAULT_ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9901);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_of_systemd_has_a_name() {
        let longest = "x".repeat(255);
        for name in ["public", "framegate.socket", &longest] {
            let text = format!("systemd:{name}");
            assert_eq!(Bind::parse(&text).unwrap().to_string(), text);
        }
        for text in ["systemd:", "systemd:a:b", "systemd:ä", &format!("systemd:{longest}x")] {
            assert_eq!(Bind::parse(text), Err(BindError::SystemdName), "{text}");
        }
    }

    #[test]
    fn addresses_need_a_port_and_names_are_not_looked_up() {
        for text in ["0.0.0.0:8443", "[::]:8443", "[::1]:0", "127.0.0.1:1"] {
            assert_eq!(tcp_address(text), Ok(text.parse().unwrap()), "{text}");
        }
        for (text, expected) in [
            ("systemd:wss", BindError::Systemd),
            ("unix:/run/x.sock", BindError::Unix),
            ("0.0.0.0", BindError::NoPort("0.0.0.0:8443".to_owned())),
            ("[::]", BindError::NoPort("[::]:8443".to_owned())),
            (":8443", BindError::NoAddress(8443)),
            ("*:8443", BindError::NoAddress(8443)),
            ("8443", BindError::NoAddress(8443)),
            ("localhost:8443", BindError::Localhost(8443)),
            ("chat.example.com:8443", BindError::Form),
            ("0.0.0.0:99999", BindError::Form),
            ("", BindError::Form),
        ] {
            assert_eq!(tcp_address(text), Err(expected), "{text}");
        }
    }
}
