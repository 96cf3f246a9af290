//! The configuration as the gateway uses it: typed, complete, every reference resolved. Pure.
//!
//! What an operator typed lives in [`file`]; [`Config::parse`] turns that text into a [`Config`] or
//! into *all* of its [`Problem`]s at once, each with its path and line. Nothing behind this module
//! checks a setting again. Files named here (certificates, keys) are read by their users, not here.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use jsonwebtoken::Algorithm;
use regex::Regex;

use crate::session::label::Label;

pub mod file;

/// Everything the gateway was told, immutable.
#[derive(Debug, Clone)]
pub struct Config {
    /// Public listeners, at least one.
    pub listeners: Vec<Listener>,
    /// The admin listener; `None` when `admin.bind` is empty.
    pub admin: Option<Admin>,
    /// Token verifiers; a route refers to them by index.
    pub verifiers: Vec<Verifier>,
    /// Upstreams; a route refers to them by index.
    pub upstreams: Vec<Upstream>,
    /// Routes in the order of the file.
    pub routes: Vec<Route>,
    /// Limits of the whole process (`limits` without the routes' overrides).
    pub limits: ProcessLimits,
    /// Deadlines.
    pub timeouts: Timeouts,
    /// Pings.
    pub keepalive: Keepalive,
    /// How sessions are ended on SIGTERM.
    pub drain: Drain,
    /// Logging.
    pub log: Log,
    /// Overrides of the close-code tables.
    pub close_codes: CloseCodes,
    /// Where each path of the file stands, for problems found later (unreadable files).
    pub locations: Locations,
}

/// One public listening socket.
#[derive(Debug, Clone)]
pub struct Listener {
    /// Address to bind; also the `listener` label of metrics.
    pub bind: SocketAddr,
    /// A PROXY v1/v2 header is required on every connection, and only from `trusted_proxies`.
    pub proxy_protocol: bool,
    /// Peers whose PROXY header or X-Forwarded-For is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// TLS settings; `None` is plain `ws://`.
    pub tls: Option<ListenerTls>,
}

/// TLS of a listener.
#[derive(Debug, Clone)]
pub struct ListenerTls {
    /// Certificates, chosen by SNI; the first is the default. Never empty.
    pub certificates: Vec<Certificate>,
    /// Lowest protocol version offered.
    pub min_version: TlsVersion,
    /// PEM file of the authorities that sign client certificates; set: they are required.
    pub client_ca: Option<PathBuf>,
}

/// A certificate chain and its key, both PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Chain, leaf first.
    pub chain: PathBuf,
    /// Private key: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

/// TLS protocol versions a listener can start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2 and 1.3.
    V1_2,
    /// TLS 1.3 only.
    V1_3,
}

/// The admin listener.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Where it listens.
    pub bind: AdminBind,
    /// File with the bearer token its callers must present.
    pub token_file: Option<PathBuf>,
    /// Further names it may be called by (Host header).
    pub hosts: Vec<String>,
}

/// Where the admin listener listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminBind {
    /// `127.0.0.1:9901`
    Tcp(SocketAddr),
    /// `unix:/run/framegate/admin.sock`
    Unix(PathBuf),
}

/// Who signs tokens, and what such a token must say (`[verifiers.NAME]`).
#[derive(Debug, Clone)]
pub struct Verifier {
    /// The NAME.
    pub name: String,
    /// Static keys, never empty.
    pub keys: Vec<Key>,
    /// Accepted `iss`; empty: not checked.
    pub issuers: Vec<String>,
    /// Accepted `aud`; empty: not checked.
    pub audiences: Vec<String>,
    /// Clock skew allowed on exp, nbf and iat.
    pub leeway: Duration,
    /// The claim that names the user.
    pub user_claim: String,
    /// Claims that must be there with exactly this value.
    pub required_claims: Vec<(String, serde_json::Value)>,
    /// Accepted `typ` headers, lower case, without `application/`; empty: JWT or absent.
    pub token_types: Vec<String>,
    /// Where a token may stand; the first that is present counts. Never empty.
    pub sources: Vec<TokenSource>,
}

/// One static verification key.
#[derive(Debug, Clone)]
pub struct Key {
    /// Key id; `None` is tried for every token of its algorithm.
    pub kid: Option<String>,
    /// The only algorithm this key verifies.
    pub algorithm: Algorithm,
    /// PEM, JWK or raw secret.
    pub file: PathBuf,
}

/// Where a token may stand in the handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// `Authorization: Bearer …`
    Header,
    /// `Sec-WebSocket-Protocol: base64url.bearer.authorization.framegate.<base64url>`
    Subprotocol,
    /// `Sec-WebSocket-Protocol: NAME, <token>`: the entry after NAME.
    SubprotocolAfter(String),
    /// A cookie.
    Cookie(String),
    /// A query parameter.
    Query(String),
}

/// A group of equivalent endpoints (`[upstreams.NAME]`).
#[derive(Debug, Clone)]
pub struct Upstream {
    /// The NAME.
    pub name: String,
    /// Never empty.
    pub endpoints: Vec<Endpoint>,
    /// How an endpoint is picked.
    pub balance: BalancePolicy,
    /// Limit for name resolution and TCP (and TLS) connection.
    pub connect_timeout: Duration,
    /// Limit for the answer to the upgrade request.
    pub handshake_timeout: Duration,
    /// Further endpoints tried when connecting failed.
    pub retries: u32,
    /// Health checks; `None` when `health.interval` is 0.
    pub health: Option<Health>,
    /// PEM file of authorities for `https` endpoints; `None`: the system's.
    pub ca: Option<PathBuf>,
}

/// One address of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// As typed: the `endpoint` label of metrics.
    pub label: String,
    /// How it is reached.
    pub target: Target,
}

/// How an endpoint is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `http://host:port` (port 80 if left out); `host` without brackets for IPv6.
    Http { /** name or address */ host: String, /** TCP port */ port: u16 },
    /// `https://host:port` (port 443 if left out).
    Https { /** name or address */ host: String, /** TCP port */ port: u16 },
    /// `unix:/path`
    Unix(PathBuf),
}

/// How an endpoint is picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BalancePolicy {
    /// In turn.
    RoundRobin,
    /// The one with the fewest open sessions.
    LeastSessions,
}

/// Active health checks: a TCP connection is opened and closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Time between checks.
    pub interval: Duration,
    /// Limit for one check.
    pub timeout: Duration,
    /// Failures in a row that make an endpoint unhealthy; one success makes it healthy.
    pub fall: u32,
}

/// What a path and host lead to (`[[route]]`).
#[derive(Debug, Clone)]
pub struct Route {
    /// The pattern as typed, `/api/v1/chats/{chat_id}/ws`: the `route` label of metrics (with the hosts in front
    /// where two routes share a path).
    pub label: String,
    /// The path pattern as typed; valid by [`crate::route::Pattern::parse`].
    pub path: String,
    /// Types of path parameters; a parameter without entry is any one segment.
    pub parameters: HashMap<String, ParameterType>,
    /// Lower-case host names this route answers to; empty: any.
    pub hosts: Vec<String>,
    /// Index into [`Config::upstreams`].
    pub upstream: usize,
    /// Index into [`Config::verifiers`]; `None`: no token is asked for (`verifier = "none"`).
    pub verifier: Option<usize>,
    /// Allowed origins, lower case (`https://chat.example.com`); empty: any.
    pub origins: Vec<String>,
    /// Rules on the token's claims.
    pub authorize: Authorize,
    /// How a refusal is told.
    pub refuse: RefuseMode,
    /// What goes upstream besides the client's own headers.
    pub forward: Forward,
    /// `[limits]` with this route's overrides.
    pub limits: RouteLimits,
}

/// The form a path parameter must have, else `no_route`.
#[derive(Debug, Clone)]
pub enum ParameterType {
    /// RFC 9562 text form, either case.
    Uuid,
    /// Decimal digits, at most 20.
    Integer,
    /// The whole segment must match (anchored by the parser).
    Matches(Regex),
}

/// Authorisation rules; all must hold.
#[derive(Debug, Clone, Default)]
pub struct Authorize {
    /// Claim name and the values of which it must be (or, an array, contain) one.
    pub claims: Vec<(String, Vec<serde_json::Value>)>,
    /// Claim name (an array) and the path parameter that must be contained in it.
    pub contains: Vec<(String, String)>,
}

/// How a refusal is told to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefuseMode {
    /// `Close` for browsers (an Origin header is there), `Http` for others.
    Auto,
    /// By HTTP status.
    Http,
    /// By completing the handshake and sending Close.
    Close,
}

/// What goes upstream besides the client's own headers.
#[derive(Debug, Clone)]
pub struct Forward {
    /// What becomes of the token.
    pub token: ForwardToken,
    /// Send X-Auth-User and X-Auth-Claims.
    pub identity: bool,
    /// Claims sent in X-Auth-Claims.
    pub claims: Vec<String>,
    /// Which Host the upstream sees.
    pub host: ForwardHost,
}

/// What becomes of the token on its way upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardToken {
    /// It stays where it came.
    Keep,
    /// It is removed.
    Strip,
    /// It is moved into `Authorization: Bearer`.
    Authorization,
}

/// Which Host header the upstream sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardHost {
    /// The client's.
    Client,
    /// The endpoint's.
    Upstream,
}

/// Limits that belong to the process and cannot be set per route.
#[derive(Debug, Clone)]
pub struct ProcessLimits {
    /// Client connections at most.
    pub connections: usize,
    /// Connections of one address (IPv6: one /64) at most; 0: unlimited.
    pub connections_per_address: u32,
    /// New connections of one address; `None`: unlimited (`rate = "0/s"`).
    pub handshakes_per_address: Option<Rate>,
    /// Bytes all sessions together may hold for slow readers.
    pub pending_bytes: u64,
}

/// Limits that a route can override.
#[derive(Debug, Clone)]
pub struct RouteLimits {
    /// Sessions of one user at most; 0: unlimited.
    pub connections_per_user: u32,
    /// What is counted together.
    pub user_scope: UserScope,
    /// What happens to one session too many.
    pub when_user_full: WhenUserFull,
    /// Bytes of an assembled message from the client.
    pub message_size: u64,
    /// Bytes of an assembled message from the upstream.
    pub upstream_message_size: u64,
    /// Frames per message.
    pub fragments: u32,
    /// Frames of any kind from the client; `None`: unlimited (`rate = "0/s"`).
    pub messages: Option<MessageRate>,
    /// Text must be UTF-8.
    pub text_utf8: bool,
}

/// What the sessions of a user are counted by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserScope {
    /// Per user and route.
    Route,
    /// Per user.
    All,
    /// Per user and value of this path parameter (`path.chat_id`).
    Path(String),
}

/// What happens when a user has all sessions allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenUserFull {
    /// The user's oldest session ends with `replaced`.
    EvictOldest,
    /// The new one is refused with `user_limit`.
    Refuse,
}

/// A token bucket: `burst` tokens, refilled at `per_second`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Tokens per second, > 0.
    pub per_second: f64,
    /// Capacity, at least 1.
    pub burst: u32,
}

/// Message rate from the client and what follows when it is exceeded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MessageRate {
    /// Allowed frames.
    pub rate: Rate,
    /// What follows.
    pub over: OverRate,
}

/// What follows when a client sends too fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverRate {
    /// Its socket is not read until it may send again.
    Pause,
    /// The session ends with `message_rate`.
    Close,
}

/// Deadlines. `None` is "0": never.
#[derive(Debug, Clone)]
pub struct Timeouts {
    /// TLS handshake (and PROXY header).
    pub tls_handshake: Duration,
    /// Request head.
    pub request_head: Duration,
    /// No data message either way.
    pub idle: Option<Duration>,
    /// A peer that stops reading.
    pub write_stall: Duration,
    /// Waiting for a peer's Close or FIN.
    pub close: Duration,
}

/// The gateway's own pings. `None` is "0": off.
#[derive(Debug, Clone)]
pub struct Keepalive {
    /// Silence of the client after which it is pinged.
    pub client_ping: Option<Duration>,
    /// Time for its pong.
    pub client_pong: Duration,
    /// Silence of the upstream after which it is pinged.
    pub upstream_ping: Option<Duration>,
    /// Time for its pong.
    pub upstream_pong: Duration,
}

/// How sessions are ended on SIGTERM.
#[derive(Debug, Clone)]
pub struct Drain {
    /// Not ready, but still serving, for this long first.
    pub announce: Duration,
    /// Closes are spread evenly over this.
    pub window: Duration,
    /// Then this long until what is left is aborted.
    pub grace: Duration,
    /// Close code sent.
    pub code: u16,
}

/// Logging.
#[derive(Debug, Clone)]
pub struct Log {
    /// Text or JSON lines.
    pub format: LogFormat,
    /// Lowest level written.
    pub level: LogLevel,
    /// One access-log line per connection.
    pub access: bool,
}

/// Form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// Log levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// Overrides of the close-code tables (`[close_codes]`).
#[derive(Debug, Clone, Default)]
pub struct CloseCodes {
    /// By label.
    pub by_label: HashMap<Label, u16>,
    /// By negotiated subprotocol, then label.
    pub by_subprotocol: HashMap<String, HashMap<Label, u16>>,
}

impl CloseCodes {
    /// The operator's code for `label`, if one was set; the subprotocol's own entry wins.
    pub fn get(&self, label: Label, subprotocol: Option<&str>) -> Option<u16> {
        subprotocol
            .and_then(|name| self.by_subprotocol.get(name)?.get(&label))
            .or_else(|| self.by_label.get(&label))
            .copied()
    }
}

/// One thing that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// `route[2].upstream`; empty for the file as a whole (syntax).
    pub path: String,
    /// 1-based line of the file, where known.
    pub line: Option<usize>,
    /// What is wrong, where and what to do.
    pub message: String,
}

/// Lines of the file by configuration path (`listener[0].tls.certificates[0].key`).
#[derive(Debug, Clone, Default)]
pub struct Locations(HashMap<String, usize>);

impl Locations {
    /// A problem at `path`, with the line where that path (or its nearest parent) stands.
    pub fn problem(&self, path: impl Into<String>, message: impl Into<String>) -> Problem {
        let path = path.into();
        Problem { line: self.line(&path), path, message: message.into() }
    }
}
