//! Asks a running gateway's admin listener, for the commands that need it. I/O.
//!
//! One connection for each request: that is what a command makes. What goes wrong is told so that the
//! person in front of the terminal knows what to do next.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::header::{AUTHORIZATION, HOST};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::config::{Admin, AdminBind, Problem};
use crate::server::load;
use crate::telemetry::escape::printable;

/// Where the admin listener is, and what it wants to see.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct AdminArgs {
    /// Admin listener: http://HOST:PORT or unix:PATH [default: http://127.0.0.1:9901]
    #[arg(long, value_name = "URL", conflicts_with = "config")]
    pub(crate) admin: Option<String>,
    /// Take the address and the token file from the gateway's configuration
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// File with the admin token
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Print the answer as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// A way to an admin listener.
#[derive(Debug)]
pub(crate) struct AdminClient {
    target: Target,
    token: Option<HeaderValue>,
    /// The option that gives it, as the command calls it.
    token_option: &'static str,
}

/// What was answered.
#[derive(Debug, Clone)]
pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    pub(crate) body: Value,
    /// The same as it was sent, in its order.
    pub(crate) text: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    /// `host:port`
    Tcp(String),
    Unix(PathBuf),
}

/// Why there is no answer, or not the one asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminError {
    /// `--admin` is wrong.
    #[error("--admin {0}: give http://HOST:PORT or unix:PATH")]
    Address(String),
    /// `--admin` names TLS.
    #[error(
        "--admin {0}: the admin listener speaks plain HTTP; give http://HOST:PORT or unix:PATH"
    )]
    Tls(String),
    /// The configuration has problems.
    #[error(
        "{} cannot be used: {first}; `framegate check` tells all problems\nWithout the file: \
         --admin http://HOST:PORT (or unix:PATH) and, if the gateway has admin.token_file, --token-file FILE",
        file.display()
    )]
    Config {
        file: PathBuf,
        /// The first problem.
        first: String,
    },
    /// The configuration has no admin listener.
    #[error("{} switches the admin listener off (admin.bind = \"\")", .0.display())]
    Off(PathBuf),
    /// The token file is unreadable or holds no token.
    #[error("cannot take a token from {}: {error}", file.display())]
    Token {
        file: PathBuf,
        /// What is wrong.
        error: String,
    },
    /// Nobody is there.
    #[error(
        "no admin listener at {at}: {error}\nIs the gateway running, and with [admin] bind = that \
         address? --admin URL or --config FILE say where to ask."
    )]
    Unreachable {
        /// Where.
        at: String,
        /// What the system said.
        error: io::Error,
    },
    /// Somebody is there who does not speak as expected.
    #[error("{at} does not answer as an admin listener does: {error}")]
    Strange {
        /// Where.
        at: String,
        /// What was wrong.
        error: String,
    },
    /// A token is needed: the option that gives it.
    #[error(
        "the admin listener wants its token: give {0} FILE (the file that admin.token_file names)"
    )]
    NoToken(&'static str),
    /// The token is not the right one.
    #[error(
        "the admin listener does not take this token: compare the file with the one that admin.token_file names"
    )]
    WrongToken,
    /// The admin listener refused, and said why.
    #[error("{error} (HTTP {})", status.as_u16())]
    Refused {
        status: StatusCode,
        /// Its sentence.
        error: String,
    },
}

impl AdminClient {
    /// Reads where to ask and the token; asks nothing yet.
    pub(crate) fn new(args: &AdminArgs) -> Result<Self, AdminError> {
        let (target, mut token_file) = match (&args.config, &args.admin) {
            (Some(file), _) => from_config(file)?,
            (None, Some(admin)) => (parse(admin)?, None),
            (None, None) => (Target::Tcp(DEFAULT.to_owned()), None),
        };
        if args.token_file.is_some() {
            token_file.clone_from(&args.token_file);
        }
        let token = token_file.as_deref().map(read_token).transpose()?;
        Ok(Self { target, token, token_option: "--token-file" })
    }

    /// For a command whose `--token-file` is another token's.
    pub(crate) fn with_token_option(self, token_option: &'static str) -> Self {
        Self { token_option, ..self }
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Answered, AdminError> {
        self.ask(Method::GET, path).await
    }

    /// POST, without body: what is to be done stands in path and query.
    pub(crate) async fn post(&self, path: &str) -> Result<Answered, AdminError> {
        self.ask(Method::POST, path).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Result<Answered, AdminError> {
        self.ask(Method::DELETE, path).await
    }

    /// Asks, and takes everything but success as an error. `path` has its query, both encoded.
    pub(crate) async fn ask(&self, method: Method, path: &str) -> Result<Answered, AdminError> {
        let answered = self.answer(method, path).await?;
        if answered.status.is_success() {
            return Ok(answered);
        }
        if answered.status == StatusCode::UNAUTHORIZED {
            let missing = AdminError::NoToken(self.token_option);
            return Err(if self.token.is_some() { AdminError::WrongToken } else { missing });
        }
        let error = match answered.body.get("error").and_then(Value::as_str) {
            Some(error) => error.to_owned(),
            None => "it gives no reason".to_owned(),
        };
        Err(AdminError::Refused { status: answered.status, error })
    }

    /// Asks; any answer in JSON will do.
    pub(crate) async fn answer(&self, method: Method, path: &str) -> Result<Answered, AdminError> {
        let unreachable = |error| AdminError::Unreachable { at: self.to_string(), error };
        let late = || io::Error::new(io::ErrorKind::TimedOut, "it takes too long");
        let answer = async {
            match &self.target {
                Target::Tcp(address) => {
                    let stream = TcpStream::connect(address).await.map_err(unreachable)?;
                    self.exchange(stream, method, path).await
                }
                Target::Unix(socket) => {
                    let stream = UnixStream::connect(socket).await.map_err(unreachable)?;
                    self.exchange(stream, method, path).await
                }
            }
        };
        timeout(PATIENCE, answer).await.unwrap_or_else(|_| Err(unreachable(late())))
    }

    async fn exchange<S>(
        &self,
        stream: S,
        method: Method,
        path: &str,
    ) -> Result<Answered, AdminError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let strange = |error: String| AdminError::Strange { at: self.to_string(), error };
        let request = self.request(method, path).map_err(|error| strange(error.to_string()))?;
        let (mut sender, connection) = http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
            .await
            .map_err(|error| strange(error.to_string()))?;
        let answered = async {
            let (head, body) = sender.send_request(request).await?.into_parts();
            Ok::<_, hyper::Error>((head, body.collect().await?.to_bytes()))
        };
        // The connection ends only with us: what comes of it is in the answer.
        let (head, body) = tokio::select! {
            biased;
            answered = answered => answered,
            Err(error) = connection => Err(error),
        }
        .map_err(|error| strange(error.to_string()))?;
        let text = String::from_utf8_lossy(&body).into_owned();
        let body = serde_json::from_str(&text)
            .map_err(|_| strange(format!("HTTP {} without JSON", head.status.as_u16())))?;
        Ok(Answered { status: head.status, body, text })
    }

    fn request(&self, method: Method, path: &str) -> http::Result<Request<Empty<Bytes>>> {
        let host = match &self.target {
            Target::Tcp(address) => address.as_str(),
            Target::Unix(_) => "localhost",
        };
        let request = Request::builder().method(method).uri(path).header(HOST, host);
        let mut request = request.header("x-framegate", "1").body(Empty::new())?;
        if let Some(token) = &self.token {
            request.headers_mut().insert(AUTHORIZATION, token.clone());
        }
        Ok(request)
    }
}

impl std::fmt::Display for AdminClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.target {
            Target::Tcp(address) => write!(f, "http://{address}"),
            Target::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// `text` as a path segment, or as a value in a query.
pub(crate) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

/// A query of those parameters that are there, with its `?`.
pub(crate) fn query(parameters: &[(&str, Option<String>)]) -> String {
    let given = parameters.iter().filter_map(|(name, value)| {
        value.as_ref().map(|value| format!("{name}={}", encoded(value)))
    });
    let query = given.collect::<Vec<_>>().join("&");
    if query.is_empty() { query } else { format!("?{query}") }
}

fn parse(admin: &str) -> Result<Target, AdminError> {
    let wrong = || AdminError::Address(admin.to_owned());
    if let Some(path) = admin.strip_prefix("unix:") {
        return if path.is_empty() { Err(wrong()) } else { Ok(Target::Unix(PathBuf::from(path))) };
    }
    if admin.starts_with("https://") {
        return Err(AdminError::Tls(admin.to_owned()));
    }
    let authority = admin.strip_prefix("http://").unwrap_or(admin);
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    let parsed = authority.parse::<http::uri::Authority>().map_err(|_| wrong())?;
    let is_plain = !authority.contains(['/', '@', '?']) && !parsed.host().is_empty();
    match parsed.port_u16() {
        Some(_) if is_plain => Ok(Target::Tcp(authority.to_owned())),
        None if is_plain && parsed.host() == authority => {
            Ok(Target::Tcp(format!("{authority}:80")))
        }
        _ => Err(wrong()),
    }
}

fn from_config(file: &Path) -> Result<(Target, Option<PathBuf>), AdminError> {
    let first =
        |problems: Vec<Problem>| problems.first().map(ToString::to_string).unwrap_or_default();
    let admin = load::read_admin(file)
        .map_err(|problems| AdminError::Config { file: file.to_owned(), first: first(problems) })?;
    // What is asked may run on with what it took before the mistakes came in.
    if let Err(problems) = load::read(file) {
        let warning = format!(
            "{} has mistakes, only its [admin] is used: {}; `framegate check` tells all problems",
            file.display(),
            first(problems)
        );
        eprintln!("framegate: warning: {}", printable(&warning));
    }
    let Some(Admin { bind, token_file, .. }) = admin else {
        return Err(AdminError::Off(file.to_owned()));
    };
    let target = match bind {
        AdminBind::Unix(path) => Target::Unix(path),
        AdminBind::Tcp(address) => Target::Tcp(reachable(address).to_string()),
    };
    Ok((target, token_file))
}

/// What is bound to every address is reached over loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn read_token(file: &Path) -> Result<HeaderValue, AdminError> {
    let failed = |error: String| AdminError::Token { file: file.to_owned(), error };
    let text = std::fs::read_to_string(file).map_err(|error| failed(error.to_string()))?;
    let token = text.trim();
    if token.is_empty() {
        return Err(failed("it is empty".to_owned()));
    }
    let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| failed("it holds something else than a token".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Where it is if nothing else is said.
const DEFAULT: &str = "127.0.0.1:9901";
/// For everything: connecting, asking and the answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// All but RFC 3986's unreserved characters.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let tcp = |address: &str| Some(Target::Tcp(address.to_owned()));
        let rows = [
            ("http://127.0.0.1:9901", tcp("127.0.0.1:9901")),
            ("http://127.0.0.1:9901/", tcp("127.0.0.1:9901")),
            ("localhost:1", tcp("localhost:1")),
            ("http://[::1]:9901", tcp("[::1]:9901")),
            ("http://gate.internal", tcp("gate.internal:80")),
            ("unix:/run/a.sock", Some(Target::Unix("/run/a.sock".into()))),
            ("unix:", None),
            ("https://127.0.0.1:9901", None),
            ("http://127.0.0.1:9901/metrics", None),
            ("http://user@127.0.0.1:9901", None),
            ("http://127.0.0.1:99999", None),
            ("http://", None),
            ("", None),
        ];
        for (text, expected) in rows {
            assert_eq!(parse(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_bound_everywhere_is_asked_over_loopback() {
        for (bound, asked) in
            [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:2", "[::1]:2"), ("192.0.2.1:3", "192.0.2.1:3")]
        {
            assert_eq!(reachable(bound.parse().unwrap()).to_string(), asked);
        }
    }

    #[test]
    fn queries_hold_what_is_given_and_encoded() {
        let given = |text: &str| Some(text.to_owned());
        let rows = [
            (vec![("a", None)], ""),
            (
                vec![("a", given("x y+&=%")), ("b", None), ("c", given("ü"))],
                "?a=x%20y%2B%26%3D%25&c=%C3%BC",
            ),
        ];
        for (parameters, expected) in rows {
            assert_eq!(query(&parameters), expected);
        }
        assert_eq!(encoded("a/b:c~"), "a%2Fb%3Ac~");
    }
}
