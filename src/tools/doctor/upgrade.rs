//! The upgrade request and its answer. I/O.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::diagnosis::{Case, status, switching};
use super::head::{Head, Read};
use super::plan::Plan;
use super::report::{Failure, Finding, Passed, StepName};
use super::request::{self, Offer};
use super::tls;
use crate::net::stream::Stream;
use crate::upstream::answer::{check_upgrade, selected};

/// A connection that has answered 101.
pub(crate) struct Opened {
    /// The connection.
    pub(crate) stream: Stream,
    /// What came right behind the 101.
    pub(crate) arrived: Vec<u8>,
    /// The 101.
    pub(crate) head: Head,
}

/// What was answered: good or not, a head tells more than its step needs.
pub(crate) struct Answered {
    /// The answer, if there was one.
    pub(crate) head: Option<Head>,
    /// How long it took, without what was asked on the side.
    pub(crate) took: Duration,
    /// What follows from it.
    pub(crate) result: Result<Passed<Opened>, Unjudged>,
}

/// An upgrade that failed.
pub(crate) enum Unjudged {
    /// Why is known.
    Failure(Failure),
    /// A whole answer that is no 101, with the begin of its body: what it means depends on the token.
    Refused(String),
}

/// Asks, within the deadline.
pub(crate) async fn ask(plan: &Plan, stream: Stream, offer: Offer, case: Case<'_>) -> Answered {
    let peer = match &stream {
        Stream::Tcp(tcp) => tcp.peer_addr().ok(),
        _ => None,
    };
    let mut buffer = Vec::with_capacity(2048);
    let began = Instant::now();
    let asked = timeout(plan.timeout, Box::pin(exchange(plan, stream, offer, &mut buffer))).await;
    let took = began.elapsed();
    let (head, result) = match asked {
        Ok(Ok((stream, head, length, key))) => {
            let behind = buffer.split_off(length.min(buffer.len()));
            let result = judge(plan, stream, &head, behind, &key).await;
            (Some(head), result)
        }
        Ok(Err(lost)) => (None, Err(unanswered(lost, &buffer, peer, plan, case).await)),
        Err(_) => (None, Err(too_late(&buffer, plan))),
    };
    Answered { head, took, result }
}

fn too_late(buffer: &[u8], plan: &Plan) -> Unjudged {
    let limit = plan.timeout;
    if buffer.is_empty() {
        return without(switching::silent(), format!("no answer within {limit:?}"));
    }
    match Head::only_interim(buffer) {
        Some(status) => without(
            switching::only_interim(status),
            format!("HTTP {status}, and nothing more within {limit:?}"),
        ),
        None => without(
            switching::too_slow(),
            format!("{} bytes of an answer within {limit:?}", buffer.len()),
        ),
    }
}

/// Why there is no head.
enum Lost {
    Ended,
    Failed(std::io::Error),
    Broken(&'static str),
}

async fn exchange(
    plan: &Plan,
    mut stream: Stream,
    offer: Offer,
    buffer: &mut Vec<u8>,
) -> Result<(Stream, Head, usize, String), Lost> {
    let mut key = [0; 16];
    getrandom::fill(&mut key).expect("the operating system gives random bytes");
    let key = STANDARD.encode(key);
    // A failed write says nothing yet: the server may have answered before reading all of it.
    let _ = stream.write_all(&request::head(plan, &key, offer)).await;
    let _ = stream.flush().await;
    loop {
        match stream.read_buf(buffer).await {
            Ok(0) => return Err(Lost::Ended),
            Ok(_) => {}
            Err(error) => return Err(Lost::Failed(error)),
        }
        match Head::read(buffer) {
            Read::Partial => {}
            Read::Whole(head, length) => return Ok((stream, head, length, key)),
            Read::Broken(what) => return Err(Lost::Broken(what)),
        }
    }
}

async fn judge(
    plan: &Plan,
    mut stream: Stream,
    head: &Head,
    behind: Vec<u8>,
    key: &str,
) -> Result<Passed<Opened>, Unjudged> {
    if head.status != 101 {
        return Err(Unjudged::Refused(body(&mut stream, head, behind).await));
    }
    let mut seen = vec![head.status_line(), format!("answered by {}", head.author())];
    let offered = request::offered(plan);
    let names: Vec<&str> = offered.iter().map(String::as_str).collect();
    let lines = head.lines();
    let checked = check_upgrade(&lines, key).and_then(|()| selected(&lines, &names));
    match checked {
        Err(fault) => {
            let (step, finding) = switching::broken(fault, head);
            seen.extend(switching::lines(head));
            Err(Unjudged::Failure(finding.fails(step, seen)))
        }
        Ok(chosen) => {
            if let Some(name) = &chosen {
                seen.push(format!("subprotocol {name:?}"));
            }
            let none_chosen = chosen.is_none() && !offered.is_empty();
            let warning = none_chosen.then(switching::none_chosen);
            let opened = Opened { stream, arrived: behind, head: head.clone() };
            Ok(Passed::new(opened, seen).warn(warning))
        }
    }
}

async fn unanswered(
    lost: Lost,
    buffer: &[u8],
    peer: Option<SocketAddr>,
    plan: &Plan,
    case: Case<'_>,
) -> Unjudged {
    let (seen, late) = match &lost {
        Lost::Broken(what) => {
            let finding = switching::not_http(buffer, what, case);
            return without(finding, format!("the answer makes no sense: {what}"));
        }
        Lost::Failed(error) => {
            (format!("the connection broke: {error}"), tls::late_fault(error, plan, case.now))
        }
        Lost::Ended => ("the connection was ended".to_owned(), None),
    };
    if let Some(finding) = late {
        return Unjudged::Failure(finding.fails(StepName::Tls, vec![seen]));
    }
    if let Some(status) = Head::only_interim(buffer) {
        return without(switching::only_interim(status), format!("HTTP {status}, then {seen}"));
    }
    if !buffer.is_empty() {
        return without(
            switching::cut(),
            format!("{} bytes of an answer, then {seen}", buffer.len()),
        );
    }
    let finding = match peer {
        Some(address) if tls::speaks_tls(address, plan).await => status::tls_wanted(),
        probed => switching::ended(case, probed.is_some()),
    };
    without(finding, format!("{seen} without an answer"))
}

fn without(finding: Finding, seen: String) -> Unjudged {
    Unjudged::Failure(finding.fails(StepName::Upgrade, vec![seen]))
}

/// The begin of a refusal's body: all of it if it is short and comes at once.
async fn body(stream: &mut Stream, head: &Head, mut body: Vec<u8>) -> String {
    let length = head.get("content-length").and_then(|length| length.parse().ok());
    let wanted: usize = length.unwrap_or(LONGEST_BODY).min(LONGEST_BODY);
    let read = async {
        while body.len() < wanted {
            match stream.read_buf(&mut body).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => break,
            }
        }
    };
    // What has come by then is enough to go by.
    let _ = timeout(BODY_WAIT, read).await;
    body.truncate(wanted);
    let text = String::from_utf8_lossy(&body).into_owned();
    let is_chunked = head.get("transfer-encoding").is_some_and(|coding| coding.contains("chunked"));
    // The size of the first chunk is a line of its own (RFC 9112 section 7.1); more is not needed.
    match text.split_once("\r\n") {
        Some((_, behind)) if is_chunked => behind.to_owned(),
        _ => text,
    }
}

const LONGEST_BODY: usize = 4096;
const BODY_WAIT: Duration = Duration::from_secs(1);
