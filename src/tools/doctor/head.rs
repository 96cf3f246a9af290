//! The head of an HTTP answer, as it came, and who seems to have written it. Pure.

use httparse::{EMPTY_HEADER, Header, Status};
use jiff::fmt::rfc2822::DateTimeParser;

use crate::upstream::answer::{MAX_HEAD, MAX_HEADERS};

/// A head that is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    /// What stands behind the status.
    pub(crate) reason: String,
    headers: Vec<(String, Vec<u8>)>,
}

/// What a buffer begins with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// More bytes are needed.
    Partial,
    /// A final answer, and the bytes up to its end, interim answers included.
    Whole(Head, usize),
    /// No HTTP, or no HTTP that a client would take.
    Broken(&'static str),
}

impl Head {
    /// Reads the answer that `buffer` begins with, behind interim answers.
    pub(crate) fn read(buffer: &[u8]) -> Read {
        let mut at = 0;
        // Each turn takes an interim answer off, so this ends.
        loop {
            let rest = buffer.get(at..).unwrap_or_default();
            let mut headers = [EMPTY_HEADER; MAX_HEADERS];
            let mut response = httparse::Response::new(&mut headers);
            let length = match response.parse(rest) {
                Ok(Status::Complete(length)) => length,
                Ok(Status::Partial) if buffer.len() >= MAX_HEAD => {
                    return Read::Broken("its head is larger than 16 KiB");
                }
                Ok(Status::Partial) => return Read::Partial,
                Err(httparse::Error::TooManyHeaders) => {
                    return Read::Broken("it has more than 100 headers");
                }
                Err(_) if rest.starts_with(b"HTTP/1.") => {
                    return Read::Broken("its status line or a header of it is malformed");
                }
                Err(_) => return Read::Broken("it is not HTTP/1.1"),
            };
            at += length;
            let status = response.code.unwrap_or_default();
            // RFC 9110 section 7.8: HTTP/1.0 has no Upgrade, and browsers take none there.
            if status == 101 && response.version == Some(0) {
                return Read::Broken("its 101 is HTTP/1.0, which knows no upgrade");
            }
            if !(100..200).contains(&status) || status == 101 {
                return Read::Whole(Self::of(&response, status), at);
            }
        }
    }

    /// The status of the last interim answer, if `buffer` holds nothing but whole ones.
    pub(crate) fn only_interim(buffer: &[u8]) -> Option<u16> {
        let (mut rest, mut last) = (buffer, None);
        // Each turn takes one off, so this ends.
        while !rest.is_empty() {
            let mut headers = [EMPTY_HEADER; MAX_HEADERS];
            let mut response = httparse::Response::new(&mut headers);
            let Ok(Status::Complete(length)) = response.parse(rest) else { return None };
            last = Some(response.code.filter(|code| (100..200).contains(code) && *code != 101)?);
            rest = rest.get(length..)?;
        }
        last
    }

    fn of(response: &httparse::Response<'_, '_>, status: u16) -> Self {
        let headers = response.headers.iter();
        Self {
            status,
            reason: response.reason.unwrap_or_default().trim().to_owned(),
            headers: headers.map(|line| (line.name.to_owned(), line.value.to_vec())).collect(),
        }
    }

    /// The headers, for those who check them.
    pub(crate) fn lines(&self) -> Vec<Header<'_>> {
        self.headers.iter().map(|(name, value)| Header { name, value }).collect()
    }

    /// The values of a header, one for each line.
    pub(crate) fn values(&self, name: &str) -> Vec<String> {
        let lines = self.headers.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name));
        lines.map(|(_, value)| String::from_utf8_lossy(value).trim().to_owned()).collect()
    }

    /// The same, joined by commas.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        let values = self.values(name);
        (!values.is_empty()).then(|| values.join(", "))
    }

    /// The names of the extensions it accepts.
    pub(crate) fn extensions(&self) -> Vec<String> {
        let all = self.get("sec-websocket-extensions").unwrap_or_default();
        let names = all.split(',').map(|entry| entry.split(';').next().unwrap_or_default().trim());
        names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
    }

    /// `HTTP 101 Switching Protocols`
    pub(crate) fn status_line(&self) -> String {
        format!("HTTP {} {}", self.status, self.reason).trim_end().to_owned()
    }

    /// Its Date, in seconds since 1970.
    pub(crate) fn date(&self) -> Option<i64> {
        let parser = DateTimeParser::new();
        parser.parse_timestamp(self.get("date")?).ok().map(|date| date.as_second())
    }

    /// Whether it looks like an answer of framegate: its id has 16 hex digits, and it is the only one
    /// to name itself nowhere.
    #[cfg(test)]
    fn is_framegates(&self) -> bool {
        self.is_from_framegate() && self.get("server").is_none()
    }

    /// Whether framegate took part, perhaps behind another proxy.
    pub(crate) fn is_from_framegate(&self) -> bool {
        let is_id =
            |id: &str| id.len() == 16 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        self.get("x-request-id").is_some_and(|id| is_id(&id))
    }

    /// The same for a sentence that tells what it did.
    pub(crate) fn who(&self) -> String {
        let is_nameless = ["server", "via"].iter().all(|name| self.get(name).is_none());
        match self.is_from_framegate() {
            true if is_nameless => "framegate".to_owned(),
            false if is_nameless => "the server".to_owned(),
            _ => self.author(),
        }
    }

    /// Who seems to have answered.
    pub(crate) fn author(&self) -> String {
        let server =
            self.get("server").map(|server| format!("a server that calls itself {server:?}"));
        let hint = self.is_from_framegate().then_some("framegate (by its X-Request-Id)");
        let author = match (server, hint) {
            (Some(server), Some(hint)) => format!("{server}, behind it {hint}"),
            (Some(server), None) => server,
            (None, Some(hint)) => hint.to_owned(),
            (None, None) => "a server that does not name itself".to_owned(),
        };
        match self.get("via") {
            Some(via) => format!("{author}, through a proxy (Via: {via})"),
            None => author,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The head that this text is.
    pub(in crate::tools::doctor) fn head(text: &str) -> Head {
        match Head::read(text.as_bytes()) {
            Read::Whole(head, _) => head,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn interim_answers_are_skipped() {
        let text =
            b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nA: b\r\n\r\nbody";
        let Read::Whole(head, length) = Head::read(text) else { panic!("whole") };
        assert_eq!((head.status, head.reason.as_str()), (200, "OK"));
        assert_eq!(&text[length..], b"body");
        let interim = text.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        for end in 0..length {
            assert_eq!(Head::read(&text[..end]), Read::Partial, "{end}");
            let only = (end == interim).then_some(103);
            assert_eq!(Head::only_interim(&text[..end]), only, "{end}");
        }
        assert_eq!(Head::only_interim(b"HTTP/1.1 101 S\r\n\r\n"), None);
    }

    #[test]
    fn what_is_no_answer_is_named() {
        let large = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(MAX_HEAD));
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(101));
        let rows: [(&[u8], &str); 7] = [
            (b"HTTP/1.0 101 S\r\n\r\n", "its 101 is HTTP/1.0, which knows no upgrade"),
            (b"\x15\x03\x01\x00\x02\x02\x46", "it is not HTTP/1.1"),
            (b"SSH-2.0-OpenSSH_9.2\r\n", "it is not HTTP/1.1"),
            (b"HTTP/1.1 abc\r\n\r\n", "its status line or a header of it is malformed"),
            (
                b"HTTP/1.1 200 OK\r\nno header\r\n\r\n",
                "its status line or a header of it is malformed",
            ),
            (large.as_bytes(), "its head is larger than 16 KiB"),
            (many.as_bytes(), "it has more than 100 headers"),
        ];
        for (bytes, expected) in rows {
            assert_eq!(Head::read(bytes), Read::Broken(expected));
        }
    }

    #[test]
    fn who_answered_is_read_off_the_headers() {
        let id = "X-Request-Id: 00112233aabbccdd\r\n";
        let rows = [
            ("", false, "a server that does not name itself"),
            (id, true, "framegate (by its X-Request-Id)"),
            ("X-Request-Id: 00112233AABBCCDD\r\n", false, "a server that does not name itself"),
            ("Server: nginx\r\n", false, "a server that calls itself \"nginx\""),
            (
                "Server: nginx\r\nVia: 1.1 x\r\n",
                false,
                "a server that calls itself \"nginx\", through a proxy (Via: 1.1 x)",
            ),
        ];
        for (headers, is_framegate, author) in rows {
            let head = head(&format!("HTTP/1.1 101 S\r\n{headers}\r\n"));
            assert_eq!((head.is_framegates(), head.author().as_str()), (is_framegate, author));
        }
        let both = head(&format!("HTTP/1.1 101 S\r\nServer: x\r\n{id}\r\n"));
        assert!(!both.is_framegates() && both.is_from_framegate());
        assert!(both.author().ends_with("behind it framegate (by its X-Request-Id)"));
    }

    #[test]
    fn dates_and_extensions_are_read() {
        let head = head(
            "HTTP/1.1 101 S\r\nDate: Sat, 21 Nov 2026 14:35:54 GMT\r\n\
             Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover, x-y\r\n\r\n",
        );
        assert_eq!(head.date(), Some(1_795_271_754));
        assert_eq!(head.extensions(), ["permessage-deflate", "x-y"]);
    }

    proptest! {
        #[test]
        fn no_answer_panics(start in "(HTTP/1.1 [0-9]{3}[ a-z]{0,5}\r\n)?", bytes: Vec<u8>) {
            if let Read::Whole(head, _) = Head::read(&[start.as_bytes(), &bytes].concat()) {
                let _ = (head.date(), head.extensions(), head.author(), head.who());
            }
        }
    }
}
