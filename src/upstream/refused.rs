//! A backend's answer that is no 101, as it is passed on to the client. I/O.

use std::sync::LazyLock;
use std::time::Duration;

use httparse::{EMPTY_HEADER, Status};
use regex::Regex;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

use super::answer::{self, MAX_HEAD, MAX_HEADERS};

/// What a backend has answered instead of 101.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RefusedAnswer {
    /// 200 to 599.
    pub(crate) status: u16,
    /// Its headers that are for the client, as they came.
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    /// Its body; empty where it is too large, or did not come in time.
    pub(crate) body: Vec<u8>,
}

/// How long its body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    Known(usize),
    Chunked,
    /// To the end of the connection.
    Open,
}

impl RefusedAnswer {
    /// Reads the rest of an answer whose first line has come; `buffer` is what was read so far. What does
    /// not come soon is left out: the client waits for its refusal.
    pub(super) async fn read(
        status: u16,
        stream: &mut (impl AsyncRead + Unpin),
        mut buffer: Vec<u8>,
    ) -> Self {
        let begin = answer::begin_of_final(&buffer);
        let reading = async {
            while parse(buffer.get(begin..).unwrap_or_default()).is_none()
                && buffer.len() < MAX_HEAD
            {
                if !more(stream, &mut buffer).await {
                    return;
                }
            }
            let Some((_, head_len, length)) = parse(buffer.get(begin..).unwrap_or_default()) else {
                return;
            };
            let at = begin + head_len;
            while body(buffer.get(at..).unwrap_or_default(), length, false).is_none()
                && buffer.len() - at <= MOST_RAW
            {
                if !more(stream, &mut buffer).await {
                    return;
                }
            }
        };
        let is_whole = timeout(PATIENCE, reading).await.is_ok();
        let parsed = parse(buffer.get(begin..).unwrap_or_default());
        let (headers, head_len, length) = parsed.unwrap_or((Vec::new(), 0, Length::Known(0)));
        let raw = buffer.get(begin + head_len..).unwrap_or_default();
        let body = body(raw, length, is_whole).filter(|body| body.len() <= MOST_BODY);
        Self { status, headers, body: body.unwrap_or_default() }
    }

    /// Seconds after which the backend has the client come back (RFC 9110 section 10.2.3).
    pub(crate) fn retry_after(&self) -> Option<u64> {
        let value = self.header("retry-after")?;
        let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| value.parse().ok())?
    }

    /// The begin of its body where that is text, in one line and without anything that may be a token.
    pub(crate) fn excerpt(&self) -> Option<String> {
        let kind = self.header("content-type").unwrap_or_default().to_ascii_lowercase();
        if self.body.is_empty() || !(kind.starts_with("text/") || kind.contains("json")) {
            return None;
        }
        let text = String::from_utf8_lossy(&self.body);
        let text = TOKENS.replace_all(&text, "[hidden]");
        let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let end = line.floor_char_boundary(EXCERPT);
        let cut = if end < line.len() { "…" } else { "" };
        Some(format!("{}{cut}", line.get(..end).unwrap_or_default().trim()))
    }

    fn header(&self, name: &str) -> Option<&str> {
        let line = self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
        line.and_then(|(_, value)| std::str::from_utf8(value).ok())
    }
}

/// Whether there was more to read.
async fn more(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> bool {
    stream.read_buf(buffer).await.is_ok_and(|count| count > 0)
}

/// What an answer's head says, once it is whole.
type HeadParts = (Vec<(String, Vec<u8>)>, usize, Length);

fn parse(bytes: &[u8]) -> Option<HeadParts> {
    let mut headers = [EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let Ok(Status::Complete(head_len)) = response.parse(bytes) else { return None };
    let value = |name: &str| {
        let line = response.headers.iter().find(|line| line.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(line.value).ok().map(str::trim)
    };
    let length = match (response.code, value("transfer-encoding"), value("content-length")) {
        (Some(204 | 304), _, _) => Length::Known(0),
        (_, Some(_), _) => Length::Chunked,
        (_, None, Some(digits)) => Length::Known(digits.parse().unwrap_or(usize::MAX)),
        (_, None, None) => Length::Open,
    };
    Some((answer::for_client(response.headers), head_len, length))
}

/// The body, once it is whole; `is_end`: no more comes.
fn body(raw: &[u8], length: Length, is_end: bool) -> Option<Vec<u8>> {
    match length {
        // It is not waited for.
        Length::Known(len) if len > MOST_BODY => Some(Vec::new()),
        Length::Known(len) => raw.get(..len).map(<[u8]>::to_vec),
        Length::Open => is_end.then(|| raw.to_vec()),
        Length::Chunked => dechunk(raw),
    }
}

/// RFC 9112 section 7.1.
fn dechunk(mut raw: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let Ok(Status::Complete((at, len))) = httparse::parse_chunk_size(raw) else { return None };
        let len = usize::try_from(len).ok()?;
        if len == 0 {
            return Some(body);
        }
        let chunk = raw.get(at..)?.get(..len)?;
        body.extend_from_slice(chunk);
        raw = raw.get(at + len + 2..)?;
    }
}

/// What may be a token: nothing else in a sentence is so long.
static TOKENS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"[A-Za-z0-9_.=-]{40,}").expect("a literal that is tested"));

/// How long the rest of a refusal is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// Bytes of a body that are passed on at most.
const MOST_BODY: usize = 64 * 1024;
/// The same as they come, with what chunks add.
const MOST_RAW: usize = 2 * MOST_BODY;
/// Bytes of a body in the log.
const EXCERPT: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    /// The answer whose first line, which told that it is none, has been read.
    async fn read(begin: &str, rest: &str) -> RefusedAnswer {
        RefusedAnswer::read(403, &mut rest.as_bytes(), begin.into()).await
    }

    fn refused(kind: &str, body: &str) -> RefusedAnswer {
        let headers = vec![("Content-Type".to_owned(), kind.as_bytes().to_vec())];
        RefusedAnswer { status: 403, headers, body: body.into() }
    }

    #[tokio::test]
    async fn a_body_is_read_however_its_end_is_told() {
        let begin = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 Forbidden\r\nX-A: 1\r\n";
        let large = "x".repeat(MOST_BODY + 1);
        for (rest, expected) in [
            ("Content-Length: 5\r\n\r\nhello, and more", "hello"),
            ("Content-Length: 0\r\n\r\n", ""),
            ("\r\nto the end", "to the end"),
            ("Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n", "hello"),
            ("Transfer-Encoding: chunked\r\n\r\n3\r\nhel", ""),
            ("Content-Length: 9\r\n\r\nshort", ""),
            (&*format!("Content-Length: {}\r\n\r\n{large}", large.len()), ""),
            (&*format!("\r\n{large}"), ""),
        ] {
            let answer = read(begin, rest).await;
            assert_eq!(answer.body, expected.as_bytes(), "{rest:.60}");
            assert_eq!(answer.headers[0], ("X-A".to_owned(), b"1".to_vec()));
        }
        let half = read("HTTP/1.1 403 Forb", "").await;
        assert_eq!((half.headers.len(), half.body.len()), (0, 0));
    }

    #[test]
    fn an_excerpt_is_one_line_of_text_without_tokens() {
        let token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl";
        for (kind, body, expected) in [
            (
                "application/json",
                "{\"code\":\r\n\"BANNED\"}",
                Some("{\"code\":  \"BANNED\"}".to_owned()),
            ),
            (
                "text/plain; charset=utf-8",
                &format!("bad {token}!"),
                Some("bad [hidden]!".to_owned()),
            ),
            ("text/html", &"ü ".repeat(100), Some(format!("{}…", "ü ".repeat(67).trim()))),
            ("image/png", "x", None),
            ("text/plain", "", None),
        ] {
            assert_eq!(refused(kind, body).excerpt(), expected, "{body}");
        }
    }

    #[test]
    fn retry_after_is_a_number_of_seconds() {
        for (value, expected) in
            [("120", Some(120)), ("0", Some(0)), ("", None), ("Fri, 1 Jan", None), ("-1", None)]
        {
            let headers = vec![("Retry-After".to_owned(), value.as_bytes().to_vec())];
            let answer = RefusedAnswer { status: 429, headers, body: Vec::new() };
            assert_eq!(answer.retry_after(), expected, "{value}");
        }
    }
}
