//! The upstream's answer to the upgrade request, read from a growing buffer (RFC 6455 section 4.1). Pure.
//!
//! Strict in what the client could be misled by: a 101 that breaks a rule here would be failed by a
//! browser too, and the client must not be told yes before that is known.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::cast_possible_truncation))]

use httparse::{EMPTY_HEADER, Header, Status};
use tungstenite::handshake::derive_accept_key;

/// What is known of the answer so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// All well, but not all there: read more and ask again with the longer buffer.
    Incomplete,
    /// A valid 101.
    Switched {
        /// The subprotocol selected, one of those offered.
        subprotocol: Option<String>,
        /// Bytes of the buffer up to the first frame, interim answers included.
        head_len: usize,
        /// Its headers that are for the client, as they came.
        headers: Vec<(String, Vec<u8>)>,
    },
    /// A final answer that is no 101. Known as soon as its first line is: what follows is not read.
    Refused {
        /// 200 to 599.
        status: u16,
    },
}

/// Why the answer cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// It breaks this rule.
    #[error("{0}")]
    Protocol(&'static str),
}

/// What a 101 breaks of RFC 6455 section 4.1: a browser would fail the connection for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the sentences say it")]
pub(crate) enum SwitchingFault {
    Upgrade,
    Connection,
    AcceptMissing,
    AcceptTwice,
    AcceptWrong,
    Extension,
    SubprotocolTwice,
    SubprotocolUnoffered,
}

impl SwitchingFault {
    /// The rule, as a sentence of which the answer is the subject.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Upgrade => "its 101 has not exactly one Upgrade: websocket",
            Self::Connection => "its 101 lacks Connection: Upgrade",
            Self::AcceptMissing => "its 101 lacks Sec-WebSocket-Accept",
            Self::AcceptTwice => "its 101 has two Sec-WebSocket-Accept headers",
            Self::AcceptWrong => "its 101 has a wrong Sec-WebSocket-Accept",
            Self::Extension => "its 101 has an extension that was not offered",
            Self::SubprotocolTwice => "its 101 selects more than one subprotocol",
            Self::SubprotocolUnoffered => "its 101 selects a subprotocol that was not offered",
        }
    }
}

/// Bytes of an answer's head at most, interim answers included.
pub const MAX_HEAD: usize = 16 * 1024;

/// Headers of an answer at most.
pub(crate) const MAX_HEADERS: usize = 100;

/// Reads the answer to a request that had this Sec-WebSocket-Key and offered these subprotocols. Call it
/// with all that was received so far, each time there is more.
///
/// # Errors
///
/// The broken rule, as soon as the bytes show it. No longer buffer makes an error good again.
pub fn parse(buffer: &[u8], key: &str, offered: &[&str]) -> Result<Answer, AnswerError> {
    let mut rest = buffer.get(..MAX_HEAD).unwrap_or(buffer);
    // Each turn takes an interim answer off, so this ends.
    loop {
        match read_head(rest)? {
            Head::Partial if buffer.len() >= MAX_HEAD => {
                return Err(AnswerError::Protocol("the head is larger than 16 KiB"));
            }
            Head::Partial => return Ok(Answer::Incomplete),
            Head::Interim { after } => rest = after,
            Head::Final { status } => return Ok(Answer::Refused { status }),
            Head::Switching { headers, after } => {
                let subprotocol = check(&headers, key, offered)?;
                let head_len = buffer.len().min(MAX_HEAD).saturating_sub(after.len());
                return Ok(Answer::Switched {
                    subprotocol,
                    head_len,
                    headers: for_client(&headers),
                });
            }
        }
    }
}

/// Where the final answer begins: behind interim ones.
pub(super) fn begin_of_final(buffer: &[u8]) -> usize {
    let mut rest = buffer.get(..MAX_HEAD).unwrap_or(buffer);
    let all = rest.len();
    while let Ok(Head::Interim { after }) = read_head(rest) {
        rest = after;
    }
    all.saturating_sub(rest.len())
}

/// The answer that a buffer begins with.
enum Head<'a> {
    Partial,
    Interim { after: &'a [u8] },
    Switching { headers: Vec<Header<'a>>, after: &'a [u8] },
    Final { status: u16 },
}

fn read_head(buffer: &[u8]) -> Result<Head<'_>, AnswerError> {
    // httparse skips empty lines in front; a server that sends them speaks something else.
    if matches!(buffer.first(), Some(b'\r' | b'\n')) {
        return Err(AnswerError::Protocol("the answer is not HTTP"));
    }
    let mut headers = [EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(buffer);
    // The first line counts when it is whole (then there is a reason, if only an empty one). It is
    // looked at before `parsed`: a refusal is one even if its headers are broken or too many.
    let (Some(version), Some(status), Some(_)) = (response.version, response.code, response.reason)
    else {
        return parsed.map(|_| Head::Partial).map_err(first_line_error);
    };
    match status {
        200..=599 => return Ok(Head::Final { status }),
        100..=199 => {}
        _ => return Err(AnswerError::Protocol("the status is out of range")),
    }
    // RFC 9110 section 7.8: there is no Upgrade in HTTP/1.0; section 15.2: and no 1xx either.
    if version == 0 {
        return Err(AnswerError::Protocol("the answer is HTTP/1.0"));
    }
    let Status::Complete(length) = parsed.map_err(header_error)? else {
        return Ok(Head::Partial);
    };
    let after = buffer.get(length..).unwrap_or_default();
    if status == 101 {
        Ok(Head::Switching { headers: response.headers.to_vec(), after })
    } else {
        Ok(Head::Interim { after })
    }
}

/// RFC 6455 section 4.1, what a client must check; the subprotocol selected.
fn check(
    headers: &[Header<'_>],
    key: &str,
    offered: &[&str],
) -> Result<Option<String>, AnswerError> {
    let protocol = |fault: SwitchingFault| AnswerError::Protocol(fault.as_str());
    check_upgrade(headers, key).map_err(protocol)?;
    if values(headers, "sec-websocket-extensions").any(|value| !value.is_empty()) {
        return Err(protocol(SwitchingFault::Extension));
    }
    selected(headers, offered).map_err(protocol)
}

/// That a 101 is meant for the request with this key.
///
/// # Errors
///
/// The first rule that does not hold.
pub(crate) fn check_upgrade(headers: &[Header<'_>], key: &str) -> Result<(), SwitchingFault> {
    let mut upgrades = values(headers, "upgrade");
    let is_websocket = |value: &[u8]| value.eq_ignore_ascii_case(b"websocket");
    if !upgrades.next().is_some_and(is_websocket) || upgrades.next().is_some() {
        return Err(SwitchingFault::Upgrade);
    }
    let mut options =
        values(headers, "connection").flat_map(|value| value.split(|byte| *byte == b','));
    if !options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"upgrade")) {
        return Err(SwitchingFault::Connection);
    }
    let mut accepts = values(headers, "sec-websocket-accept");
    let right = derive_accept_key(key.as_bytes());
    match (accepts.next(), accepts.next()) {
        (None, _) => Err(SwitchingFault::AcceptMissing),
        (Some(_), Some(_)) => Err(SwitchingFault::AcceptTwice),
        (Some(accept), None) if accept != right.as_bytes() => Err(SwitchingFault::AcceptWrong),
        (Some(_), None) => Ok(()),
    }
}

/// The subprotocol that a 101 selects of those offered.
///
/// # Errors
///
/// When it selects two, or another one.
pub(crate) fn selected(
    headers: &[Header<'_>],
    offered: &[&str],
) -> Result<Option<String>, SwitchingFault> {
    let mut selected = values(headers, "sec-websocket-protocol");
    match (selected.next(), selected.next()) {
        (None, _) => Ok(None),
        (Some(_), Some(_)) => Err(SwitchingFault::SubprotocolTwice),
        (Some(name), None) => offered
            .iter()
            .find(|offer| offer.as_bytes() == name)
            .map(|offer| Some((*offer).to_owned()))
            .ok_or(SwitchingFault::SubprotocolUnoffered),
    }
}

/// The headers of an answer that are passed on: neither the hop's (RFC 9110 section 7.6.1) nor the
/// handshake's, nor what the gateway says itself.
pub(super) fn for_client(headers: &[Header<'_>]) -> Vec<(String, Vec<u8>)> {
    let listed: Vec<&[u8]> = values(headers, "connection")
        .flat_map(|value| value.split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .collect();
    let is_passed = |line: &&Header<'_>| {
        let name = line.name.to_ascii_lowercase();
        !OF_THE_HOP.contains(&name.as_str())
            && !["sec-websocket-", "x-framegate-"].iter().any(|family| name.starts_with(family))
            && !listed.iter().any(|listed| listed.eq_ignore_ascii_case(name.as_bytes()))
            // What cannot stand in a header is not repeated.
            && line.value.iter().all(|byte| *byte == b'\t' || *byte >= b' ' && *byte != 0x7f)
    };
    let passed = headers.iter().filter(is_passed);
    passed.map(|line| (line.name.to_owned(), line.value.trim_ascii().to_vec())).collect()
}

const OF_THE_HOP: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-length",
    "x-request-id",
    "alt-svc",
    "server",
];

/// The values of a header, line by line, without blanks around.
fn values<'a>(headers: &'a [Header<'_>], name: &'static str) -> impl Iterator<Item = &'a [u8]> {
    let lines = headers.iter().filter(move |line| line.name.eq_ignore_ascii_case(name));
    lines.map(|line| line.value.trim_ascii())
}

fn first_line_error(error: httparse::Error) -> AnswerError {
    AnswerError::Protocol(match error {
        httparse::Error::Version => "the answer is not HTTP/1.1",
        httparse::Error::Status => "the status line is malformed",
        _ => "the answer is not HTTP",
    })
}

fn header_error(error: httparse::Error) -> AnswerError {
    AnswerError::Protocol(match error {
        httparse::Error::TooManyHeaders => "the answer has more than 100 headers",
        _ => "a header of the answer is malformed",
    })
}

#[cfg(test)]
mod tests;
