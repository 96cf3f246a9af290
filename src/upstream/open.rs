//! Opens an upstream connection for one client: pick, connect, handshake, at most `retries` again. I/O.
//!
//! This happens before the client is told yes, so that every failure here still has a status or a
//! close code of its own. Another endpoint is tried only when nothing can have been begun on the first:
//! connecting failed, or the peer closed before any byte of an answer. Never after a timeout: the
//! client has waited long enough, and the next endpoint is likely to hang on the same thing.

use std::sync::Arc;
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::answer::{self, Answer, AnswerError};
use super::endpoint::{Endpoint, EndpointPlace, Upstream};
use super::refused::RefusedAnswer;
use super::request::UpstreamRequest;
use crate::handshake::request::BadRequest;
use crate::net::connect::{ConnectError, connect};
use crate::net::stream::Stream;
use crate::outcome::rejection::Rejection;
use crate::session::connecting::Listed;
use crate::session::record::{Facts, Steps};
use crate::telemetry::Telemetry;

/// An upstream that has answered 101.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The connection.
    pub(crate) stream: Stream,
    /// What came right behind the 101.
    pub(crate) arrived: Vec<u8>,
    /// The subprotocol it chose.
    pub(crate) subprotocol: Option<String>,
    /// Headers of its 101 that are for the client.
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    /// Where it was opened.
    pub(crate) endpoint: Arc<Endpoint>,
    /// The session's place there.
    pub(crate) place: EndpointPlace,
}

/// Opens a connection; where it was tried, and the time spent, is added to `facts`, and where it is tried shown in
/// `seen`.
pub(crate) async fn open(
    upstream: &Upstream,
    ask: &UpstreamRequest<'_>,
    telemetry: &Telemetry,
    seen: &Listed,
    facts: &mut Facts,
) -> Result<Opened, Denied> {
    facts.upstream = Some(Arc::clone(&upstream.name));
    let mut tried = Vec::new();
    let mut last = Denied::from(Rejection::UpstreamUnreachable(upstream.nobody().to_owned()));
    while tried.len() <= upstream.config.retries as usize {
        let Some((endpoint, place)) = upstream.pick(&tried) else { break };
        tried.push(endpoint.id);
        facts.endpoint = Some(Arc::clone(&endpoint.label));
        seen.update(facts);
        match attempt(upstream, &endpoint, ask, telemetry, &mut facts.steps).await {
            Ok(Answered { stream, switched: Switched { arrived, subprotocol, headers } }) => {
                return Ok(Opened { stream, arrived, subprotocol, headers, endpoint, place });
            }
            Err(Failure { denied, may_retry: true }) => last = denied,
            Err(Failure { denied, may_retry: false }) => return Err(denied),
        }
    }
    Err(last)
}

/// A connection that has answered 101.
struct Answered {
    stream: Stream,
    switched: Switched,
}

/// What came with the 101.
struct Switched {
    /// What came right behind it.
    arrived: Vec<u8>,
    subprotocol: Option<String>,
    headers: Vec<(String, Vec<u8>)>,
}

struct Failure {
    denied: Denied,
    may_retry: bool,
}

impl Failure {
    fn last(denied: impl Into<Denied>) -> Self {
        Self { denied: denied.into(), may_retry: false }
    }
}

/// Why there is no session, and what the backend said of it.
#[derive(Debug)]
pub(crate) struct Denied {
    pub(crate) rejection: Rejection,
    /// Where the backend itself has refused.
    pub(crate) answer: Option<Box<RefusedAnswer>>,
}

impl From<Rejection> for Denied {
    fn from(rejection: Rejection) -> Self {
        Self { rejection, answer: None }
    }
}

impl From<BadRequest> for Denied {
    fn from(bad: BadRequest) -> Self {
        Rejection::from(bad).into()
    }
}

async fn attempt(
    upstream: &Upstream,
    endpoint: &Endpoint,
    ask: &UpstreamRequest<'_>,
    telemetry: &Telemetry,
    steps: &mut Steps,
) -> Result<Answered, Failure> {
    let began = Instant::now();
    let connected = connect(
        &endpoint.target,
        upstream.tls.as_ref(),
        &upstream.names,
        upstream.config.connect_timeout,
    )
    .await;
    *steps.upstream_connect.get_or_insert_default() += began.elapsed();
    let mut stream = connected.map_err(|error| {
        telemetry.connect_failed(endpoint.id, error.reason(), &error);
        match error {
            ConnectError::Timeout(_) => Failure::last(Rejection::UpstreamTimeout("connect")),
            error => Failure {
                denied: Rejection::UpstreamUnreachable(error.detail()).into(),
                may_retry: true,
            },
        }
    })?;
    let began = Instant::now();
    let limit = upstream.config.handshake_timeout;
    let answered = timeout(limit, handshake(&mut stream, endpoint, ask)).await;
    *steps.upstream_handshake.get_or_insert_default() += began.elapsed();
    let switched = answered.unwrap_or_else(|_| {
        Err(Failure::last(Rejection::UpstreamTimeout("answer the handshake")))
    })?;
    Ok(Answered { stream, switched })
}

async fn handshake(
    stream: &mut Stream,
    endpoint: &Endpoint,
    ask: &UpstreamRequest<'_>,
) -> Result<Switched, Failure> {
    let lost = |may_retry| Failure { denied: Rejection::UpstreamSilentlyClosed.into(), may_retry };
    let head = ask.head(endpoint).map_err(Failure::last)?;
    let offered = ask.offered();
    // A failed write says nothing yet: the upstream may have refused before reading the whole head.
    let _ = stream.write_all(&head).await;
    let _ = stream.flush().await;
    let mut buffer = Vec::with_capacity(FIRST_READ);
    loop {
        match stream.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return Err(lost(buffer.is_empty())),
            Ok(_) => {}
        }
        match answer::parse(&buffer, &ask.key, &offered) {
            Ok(Answer::Incomplete) => {}
            Ok(Answer::Switched { subprotocol, head_len, headers }) => {
                let arrived = buffer.split_off(head_len.min(buffer.len()));
                return Ok(Switched { arrived, subprotocol, headers });
            }
            Ok(Answer::Refused { status }) => {
                let answer = RefusedAnswer::read(status, stream, buffer).await;
                let rejection = Rejection::UpstreamRefused { status };
                return Err(Failure::last(Denied { rejection, answer: Some(Box::new(answer)) }));
            }
            Err(AnswerError::Protocol(what)) => {
                return Err(Failure::last(Rejection::UpstreamProtocol(what)));
            }
        }
    }
}

/// Room for an ordinary 101 and the first messages behind it.
const FIRST_READ: usize = 2048;
