//! One fetch of a key set, from a URL or a file, within its deadline. I/O.
//!
//! What an issuer sends is limited in time and size. Redirects are not followed: they would lead to a
//! place that nobody has configured.

use std::io::Read as _;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::header::ACCEPT;
use http::{Request, StatusCode};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::set::{self, ParsedSet, SetFault};
use crate::config::{Jwks, JwksSource};
use crate::fetch::{self, Bounds, Destination};
use crate::telemetry::labels::KeyRefresh;

/// Why a key set could not be fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// There is no answer, or the file cannot be read.
    #[error(transparent)]
    Fetch(#[from] fetch::FetchError),
    /// Another status than 200.
    #[error("the answer is {status}{}", if status.is_redirection() { "; redirects are not followed" } else { "" })]
    Status {
        /// Which.
        status: StatusCode,
    },
    /// What came is not a key set.
    #[error("what came {0}")]
    Set(#[from] SetFault),
}

impl FetchError {
    /// The metric label.
    pub(crate) fn result(&self) -> KeyRefresh {
        use fetch::FetchError::{Compressed, NotHttp, Timeout, Tls, TooLarge, Unreachable};
        match self {
            Self::Fetch(Unreachable(_)) => KeyRefresh::Unreachable,
            Self::Fetch(Tls(_)) => KeyRefresh::Tls,
            Self::Fetch(Timeout(_)) => KeyRefresh::Timeout,
            Self::Fetch(TooLarge(_)) => KeyRefresh::TooLarge,
            Self::Status { .. } => KeyRefresh::Status,
            Self::Fetch(NotHttp(_) | Compressed) | Self::Set(_) => KeyRefresh::Invalid,
        }
    }
}

/// Fetches and reads a key set, within its `timeout`.
///
/// # Errors
///
/// When there is none, or none in time.
pub(crate) async fn fetch(client: &fetch::Client, jwks: &Jwks) -> Result<ParsedSet, FetchError> {
    let bytes = match &jwks.source {
        JwksSource::Url { target, authority, path } => {
            let ca = jwks.ca.clone().filter(|_| jwks.is_https());
            let to = Destination { target: target.clone(), authority: authority.clone(), ca };
            download(client, &to, path, jwks.timeout).await?
        }
        JwksSource::File(file) => {
            let read = timeout(jwks.timeout, read_file(file.clone())).await;
            read.unwrap_or(Err(fetch::FetchError::Timeout(jwks.timeout)))?.into()
        }
    };
    Ok(set::parse(&bytes)?)
}

async fn download(
    client: &fetch::Client,
    to: &Destination,
    path: &str,
    time: Duration,
) -> Result<Bytes, FetchError> {
    let request = Request::get(path)
        .header(ACCEPT, "application/jwk-set+json, application/json")
        .body(Bytes::new())
        .map_err(|error| fetch::FetchError::Unreachable(error.to_string()))?;
    let answer = client.send(to, request, Bounds { time, body: MAX_BYTES }).await?;
    match answer.status() {
        StatusCode::OK => Ok(answer.into_body()),
        status => Err(FetchError::Status { status }),
    }
}

async fn read_file(file: PathBuf) -> Result<Vec<u8>, fetch::FetchError> {
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
    let bytes =
        bytes.map_err(|error| fetch::FetchError::Unreachable(format!("the file: {error}")))?;
    if bytes.len() > MAX_BYTES { Err(fetch::FetchError::TooLarge(MAX_BYTES)) } else { Ok(bytes) }
}

/// The sets of large issuers have some ten keys of half a KiB.
const MAX_BYTES: usize = 1 << 20;
