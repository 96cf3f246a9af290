//! The gateway's own HTTP requests: one client for key sets and everything else it asks for. I/O.
//!
//! Each request has a deadline for all of it and a limit for the answer. Redirects are not followed: they
//! would lead to a place that is not configured. Connections are kept for further requests to the same
//! place; one that turns out to be closed is replaced without the caller noticing.

use std::error::Error as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dashmap::DashMap;
use http::header::{CONTENT_ENCODING, HOST, USER_AGENT};
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::timeout;

use crate::config::Target;
use crate::net::connect::ConnectError;
use crate::net::names::Names;
use connector::{Connector, Failed};

mod connector;
#[cfg(test)]
mod tests;

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Destination {
    /// How it is reached.
    pub(crate) target: Target,
    /// The Host header: host and port as the URL has them.
    pub(crate) authority: String,
    /// PEM file of authorities for https; `None`: the system's.
    pub(crate) ca: Option<PathBuf>,
}

/// How much a request may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// For all of it: name, connection, answer.
    pub(crate) time: Duration,
    /// Bytes of the answer's body.
    pub(crate) body: usize,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// Name, TCP, or an answer that breaks off.
    #[error("{0}")]
    Unreachable(String),
    /// The certificate, or anything else about TLS.
    #[error("{0}")]
    Tls(String),
    /// The deadline passed.
    #[error("it took longer than {0:?}")]
    Timeout(Duration),
    /// Larger than allowed.
    #[error("it is larger than {} KiB", .0 / 1024)]
    TooLarge(usize),
    /// What came is not HTTP.
    #[error("the answer is no HTTP: {0}")]
    NotHttp(String),
    /// Compressed, which was not asked for.
    #[error("the answer is compressed")]
    Compressed,
}

/// The client. Clones share its connections.
#[derive(Clone)]
pub(crate) struct Client {
    names: Arc<Names>,
    pools: Arc<DashMap<Destination, Pool>>,
}

type Pool = legacy::Client<Connector, Full<Bytes>>;

impl Client {
    /// A client without connections.
    pub(crate) fn new(names: Arc<Names>) -> Self {
        Self { names, pools: Arc::default() }
    }

    /// Sends a request and reads the answer. The request's URI is the path with query; Host and
    /// User-Agent are set here.
    ///
    /// # Errors
    ///
    /// [`FetchError`]; any status is an answer.
    pub(crate) async fn send(
        &self,
        to: &Destination,
        request: Request<Bytes>,
        bounds: Bounds,
    ) -> Result<Response<Bytes>, FetchError> {
        let request = prepared(to, request)?;
        let pool = self.pool(to);
        let answered = async {
            let answer = pool.request(request).await.map_err(|error| of_client(&error))?;
            read(answer, bounds.body).await
        };
        // Boxed: it would make every task that may fetch as large as a TLS handshake.
        let answered = timeout(bounds.time, Box::pin(answered)).await;
        answered.unwrap_or(Err(FetchError::Timeout(bounds.time)))
    }

    fn pool(&self, to: &Destination) -> Pool {
        if let Some(pool) = self.pools.get(to) {
            return pool.clone();
        }
        // Destinations come from the configuration; those of earlier ones are forgotten here.
        if self.pools.len() >= MOST_DESTINATIONS {
            self.pools.clear();
        }
        let made = || {
            legacy::Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE)
                .pool_max_idle_per_host(MOST_IDLE)
                .http1_max_buf_size(MOST_HEAD)
                .set_host(false)
                .build(Connector::new(to, Arc::clone(&self.names)))
        };
        self.pools.entry(to.clone()).or_insert_with(made).clone()
    }
}

/// The request as hyper's pool wants it: with an absolute URI, and the Host of the destination.
fn prepared(to: &Destination, request: Request<Bytes>) -> Result<Request<Full<Bytes>>, FetchError> {
    let wrong = |error: &dyn std::fmt::Display| FetchError::Unreachable(error.to_string());
    let (mut head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    // The connector knows its target: this only names the pool.
    head.uri = Uri::builder()
        .scheme("http")
        .authority("destination")
        .path_and_query(path)
        .build()
        .map_err(|error| wrong(&error))?;
    let host = HeaderValue::from_str(&to.authority).map_err(|error| wrong(&error))?;
    head.headers.insert(HOST, host);
    let agent = HeaderValue::from_static(concat!("framegate/", env!("CARGO_PKG_VERSION")));
    head.headers.insert(USER_AGENT, agent);
    Ok(Request::from_parts(head, Full::new(body)))
}

async fn read(answer: Response<Incoming>, most: usize) -> Result<Response<Bytes>, FetchError> {
    let coding = answer.headers().get(CONTENT_ENCODING);
    if answer.status() == StatusCode::OK
        && coding.is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
    {
        return Err(FetchError::Compressed);
    }
    let (head, mut body) = answer.into_parts();
    // Said in advance, or found out.
    if body.size_hint().lower() > most as u64 {
        return Err(FetchError::TooLarge(most));
    }
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|error| of_hyper(&error))?.into_data() else { continue };
        if bytes.len() + data.len() > most {
            return Err(FetchError::TooLarge(most));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Response::from_parts(head, bytes.into()))
}

/// What happened is among an error's sources; its own text is general.
fn of_client(error: &legacy::Error) -> FetchError {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(Failed(connect)) = cause.downcast_ref::<Failed>() {
            return of_connect(connect);
        }
        if let Some(hyper) = cause.downcast_ref::<hyper::Error>() {
            return of_hyper(hyper);
        }
        source = cause.source();
    }
    FetchError::Unreachable(error.to_string())
}

fn of_connect(error: &ConnectError) -> FetchError {
    match error {
        ConnectError::Timeout(limit) => FetchError::Timeout(*limit),
        ConnectError::Certificate(_) | ConnectError::Tls(_) => FetchError::Tls(error.to_string()),
        ConnectError::Dns(_) | ConnectError::Socket(_) => {
            FetchError::Unreachable(error.to_string())
        }
    }
}

fn of_hyper(error: &hyper::Error) -> FetchError {
    let mut text = error.to_string();
    if let Some(source) = error.source() {
        text.push_str(&format!(": {source}"));
    }
    if error.is_parse() || error.is_parse_too_large() {
        FetchError::NotHttp(text)
    } else {
        FetchError::Unreachable(text)
    }
}

/// How long a connection is kept for a further request.
const IDLE: Duration = Duration::from_secs(20);
/// Idle connections kept to one place.
const MOST_IDLE: usize = 16;
/// Largest head of an answer.
const MOST_HEAD: usize = 64 * 1024;
/// Places whose connections are kept.
const MOST_DESTINATIONS: usize = 1000;
