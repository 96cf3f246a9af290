//! The names of a request's headers as the client wrote them, in its order. Pure.
//!
//! HTTP names have no case, and small backends compare them letter for letter all the same.

use http::{HeaderMap, HeaderValue};

/// Names in the order of the request, one a line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spelling(String);

impl Spelling {
    /// The names in a request head; empty if it is none.
    pub(crate) fn of(head: &[u8]) -> Self {
        let mut names = String::new();
        let lines = head.split(|byte| *byte == b'\n').skip(1);
        for line in lines.take_while(|line| !line.trim_ascii().is_empty()) {
            let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
            let Ok(name) = std::str::from_utf8(name) else { return Self::default() };
            names.push_str(name);
            names.push('\n');
        }
        Self(names)
    }

    /// The lines of `headers` with the client's names in the client's order; what it did not send comes
    /// last, with names in the usual spelling.
    pub(crate) fn apply<'a>(&'a self, headers: &'a HeaderMap) -> Vec<(String, &'a HeaderValue)> {
        let mut lines = Vec::with_capacity(headers.len());
        let mut used: Vec<(&str, usize)> = Vec::new();
        for name in self.0.lines() {
            let known = used.iter_mut().find(|(other, _)| other.eq_ignore_ascii_case(name));
            let nth = match known {
                Some((_, count)) => {
                    *count += 1;
                    *count
                }
                None => {
                    used.push((name, 0));
                    0
                }
            };
            if let Some(value) = headers.get_all(name).iter().nth(nth) {
                lines.push((name.to_owned(), value));
            }
        }
        for name in headers.keys() {
            let known = used.iter().find(|(other, _)| other.eq_ignore_ascii_case(name.as_str()));
            let count = known.map_or(0, |(_, last)| last + 1);
            let rest = headers.get_all(name).iter().skip(count);
            lines.extend(rest.map(|value| (usual(name.as_str()), value)));
        }
        lines
    }
}

/// A name as it is mostly written: `X-Request-Id`, and RFC 6455's `Sec-WebSocket-Key`.
pub(crate) fn usual(name: &str) -> String {
    let part = |part: &str| match part {
        "websocket" => "WebSocket".to_owned(),
        part => {
            let (first, rest) = part.split_at_checked(1).unwrap_or((part, ""));
            first.to_ascii_uppercase() + rest
        }
    };
    name.split('-').map(part).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn names_come_back_as_they_were_written_in_their_order() {
        let head = b"GET / HTTP/1.1\r\nX-B: 1\r\nhost: x\r\nx-a: 2\r\nX-b: 3\r\nGone: 4\r\n\r\nbehind: 5\r\n";
        let spelling = Spelling::of(head);
        let headers = map(&[
            ("host", "x"),
            ("authorization", "added"),
            ("x-a", "2"),
            ("x-b", "1"),
            ("x-b", "3"),
            ("x-b", "6"),
        ]);
        let lines = spelling.apply(&headers);
        let lines: Vec<_> = lines
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        let expected = ["X-B: 1", "host: x", "x-a: 2", "X-b: 3", "Authorization: added", "X-B: 6"];
        let sorted = |lines: &[String]| {
            let mut lines = lines.to_vec();
            lines[4..].sort_unstable();
            lines
        };
        assert_eq!(sorted(&lines), expected);
        let without = Spelling::default();
        assert_eq!(without.apply(&headers).len(), headers.len());
    }
}
