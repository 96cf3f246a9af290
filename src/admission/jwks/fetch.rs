//! One fetch of a key set, from a URL or a file, within its deadline. I/O.
//!
//! What an issuer sends is limited in time and size. Redirects are not followed: they would lead to a
//! place that nobody has configured.

use std::error::Error as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION, CONTENT_ENCODING, HOST, USER_AGENT};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::set::{self, ParsedSet, SetFault};
use crate::config::{Jwks, JwksSource, Target};
use crate::net::connect::{ConnectError, connect};
use crate::net::stream::Stream;
use crate::net::tls::tls_connector;
use crate::telemetry::labels::KeyRefresh;

/// Why a key set could not be fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// Name, TCP, or an answer that breaks off; a file that cannot be read.
    #[error("{0}")]
    Unreachable(String),
    /// The certificate, or anything else about TLS.
    #[error("{0}")]
    Tls(String),
    /// The deadline passed.
    #[error("it took longer than {0:?}")]
    Timeout(Duration),
    /// Another status than 200.
    #[error("the answer is {status}{}", if status.is_redirection() { "; redirects are not followed" } else { "" })]
    Status {
        /// Which.
        status: StatusCode,
    },
    /// Larger than any key set.
    #[error("it is larger than {} KiB", MAX_BYTES / 1024)]
    TooLarge,
    /// No HTTP.
    #[error("the answer is no HTTP: {0}")]
    NotHttp(String),
    /// Packed, though nobody said that it might be.
    #[error("the answer is compressed")]
    Compressed,
    /// No key set.
    #[error("what came {0}")]
    Set(#[from] SetFault),
}

impl FetchError {
    /// The metric label.
    pub(crate) fn result(&self) -> KeyRefresh {
        match self {
            Self::Unreachable(_) => KeyRefresh::Unreachable,
            Self::Tls(_) => KeyRefresh::Tls,
            Self::Timeout(_) => KeyRefresh::Timeout,
            Self::Status { .. } => KeyRefresh::Status,
            Self::TooLarge => KeyRefresh::TooLarge,
            Self::NotHttp(_) | Self::Compressed | Self::Set(_) => KeyRefresh::Invalid,
        }
    }
}

impl From<ConnectError> for FetchError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Timeout(limit) => Self::Timeout(limit),
            ConnectError::Certificate(_) | ConnectError::Tls(_) => Self::Tls(error.to_string()),
            ConnectError::Dns(_) | ConnectError::Socket(_) => Self::Unreachable(error.to_string()),
        }
    }
}

impl From<hyper::Error> for FetchError {
    fn from(error: hyper::Error) -> Self {
        // Its own text is general; what happened is in its source.
        let mut text = error.to_string();
        if let Some(source) = error.source() {
            text.push_str(&format!(": {source}"));
        }
        if error.is_parse() || error.is_parse_too_large() {
            Self::NotHttp(text)
        } else {
            Self::Unreachable(text)
        }
    }
}

/// Fetches and reads a key set, within its `timeout`.
///
/// # Errors
///
/// When there is none, or none in time.
pub(crate) async fn fetch(jwks: &Jwks) -> Result<ParsedSet, FetchError> {
    let bytes = async {
        match &jwks.source {
            JwksSource::Url { target, authority, path } => {
                let ca = jwks.ca.as_deref().filter(|_| jwks.is_https());
                download(target, authority, path, ca, jwks.timeout).await
            }
            JwksSource::File(file) => read_file(file.clone()).await,
        }
    };
    // Boxed: it would make every task that may fetch as large as a TLS handshake.
    let bytes = timeout(jwks.timeout, Box::pin(bytes)).await;
    Ok(set::parse(&bytes.unwrap_or(Err(FetchError::Timeout(jwks.timeout)))?)?)
}

async fn download(
    target: &Target,
    authority: &str,
    path: &str,
    ca: Option<&Path>,
    limit: Duration,
) -> Result<Vec<u8>, FetchError> {
    let tls = match target {
        Target::Https { .. } => {
            // Read each time: it may have been renewed, and is too large to be kept for so little.
            let ca = ca.map(Path::to_owned);
            let made = spawn_blocking(move || tls_connector(ca.as_deref())).await;
            Some(made.unwrap_or_else(|error| Err(error.to_string())).map_err(FetchError::Tls)?)
        }
        Target::Http { .. } | Target::Unix(_) => None,
    };
    let stream = connect(target, tls.as_ref(), limit).await?;
    let request = Request::get(path)
        .header(HOST, authority)
        .header(ACCEPT, "application/jwk-set+json, application/json")
        .header(USER_AGENT, concat!("framegate/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| FetchError::Unreachable(error.to_string()))?;
    exchange(stream, request).await
}

async fn exchange(stream: Stream, request: Request<Empty<Bytes>>) -> Result<Vec<u8>, FetchError> {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_HEAD);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
    let answer = async { body(sender.send_request(request).await?).await };
    let (mut answer, mut connection) = (std::pin::pin!(answer), std::pin::pin!(connection));
    // The connection may have ended when a part of the body is still to be taken from it.
    let mut is_open = true;
    loop {
        tokio::select! {
            answer = &mut answer => return answer,
            _ = &mut connection, if is_open => is_open = false,
        }
    }
}

async fn body(response: Response<Incoming>) -> Result<Vec<u8>, FetchError> {
    if response.status() != StatusCode::OK {
        return Err(FetchError::Status { status: response.status() });
    }
    let coding = response.headers().get(CONTENT_ENCODING);
    if coding.is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(FetchError::Compressed);
    }
    let mut body = response.into_body();
    // Said in advance, or found out.
    if body.size_hint().lower() > MAX_BYTES as u64 {
        return Err(FetchError::TooLarge);
    }
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if bytes.len() + data.len() > MAX_BYTES {
            return Err(FetchError::TooLarge);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

async fn read_file(file: PathBuf) -> Result<Vec<u8>, FetchError> {
    let read = move || {
        // Opening a pipe would wait for who writes to it.
        if !std::fs::metadata(&file)?.is_file() {
            return Err(std::io::Error::other("it is no file"));
        }
        let mut bytes = Vec::new();
        std::fs::File::open(&file)?.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = spawn_blocking(read).await.unwrap_or_else(|error| Err(error.into()));
    let bytes = bytes.map_err(|error| FetchError::Unreachable(format!("the file: {error}")))?;
    if bytes.len() > MAX_BYTES { Err(FetchError::TooLarge) } else { Ok(bytes) }
}

/// The sets of large issuers have some ten keys of half a KiB.
const MAX_BYTES: usize = 1 << 20;
const MAX_HEAD: usize = 64 * 1024;
