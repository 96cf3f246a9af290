//! An answer of an upstream is a valid 101, a refusal or an error: as httparse and RFC 6455 section 4.1
//! say, at the same byte however it arrives, and for good.
//!
//! Input: an answer as it comes from a socket, to the key of RFC 6455's own example.
#![no_main]

use framegate::internals::upstream::answer::{Answer, AnswerError, MAX_HEAD, parse};
use libfuzzer_sys::fuzz_target;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &[u8] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const OFFERED: [&str; 2] = ["chat", "v2"];

fn judge(bytes: &[u8]) -> Result<Answer, AnswerError> {
    parse(bytes, KEY, &OFFERED)
}

/// What a plain reading of a whole answer says: `None` when it is no valid 101.
fn reference(bytes: &[u8]) -> Option<(Option<String>, usize)> {
    let mut from = 0;
    loop {
        let rest = bytes.get(from..MAX_HEAD.min(bytes.len()))?;
        let mut headers = [httparse::EMPTY_HEADER; 100];
        let mut response = httparse::Response::new(&mut headers);
        if rest.starts_with(b"\r") || rest.starts_with(b"\n") {
            return None;
        }
        let httparse::Status::Complete(len) = response.parse(rest).ok()? else { return None };
        if response.version != Some(1) {
            return None;
        }
        from += len;
        match response.code? {
            101 => return Some((selected(response.headers)?, from)),
            100..200 => {}
            _ => return None,
        }
    }
}

/// `None`: not valid. Else the subprotocol, if one is selected.
fn selected(headers: &[httparse::Header<'_>]) -> Option<Option<String>> {
    let lines = |name: &str| -> Vec<&[u8]> {
        let lines = headers.iter().filter(|line| line.name.to_ascii_lowercase() == name);
        lines.map(|line| line.value.trim_ascii()).collect()
    };
    let connection = lines("connection").join(&b',').to_ascii_lowercase();
    let is_valid = matches!(lines("upgrade")[..], [one] if one.eq_ignore_ascii_case(b"websocket"))
        && connection.split(|byte| *byte == b',').any(|option| option.trim_ascii() == b"upgrade")
        && lines("sec-websocket-accept") == [ACCEPT]
        && lines("sec-websocket-extensions").concat().is_empty();
    if !is_valid {
        return None;
    }
    match lines("sec-websocket-protocol")[..] {
        [] => Some(None),
        [one] => {
            let found = OFFERED.into_iter().find(|name| name.as_bytes() == one)?;
            Some(Some(found.to_owned()))
        }
        _ => None,
    }
}

/// Prefixes worth judging: all of a short answer, else some and those around line ends.
fn cuts(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let near_end = |at: usize| bytes[at.saturating_sub(2)..at].contains(&b'\n');
    (0..=bytes.len()).filter(move |at| bytes.len() <= 300 || at % 61 == 0 || near_end(*at))
}

fuzz_target!(|bytes: &[u8]| {
    let whole = judge(bytes);
    let expected = reference(bytes);
    match &whole {
        Ok(Answer::Switched { subprotocol, head_len, .. }) => {
            assert_eq!(expected, Some((subprotocol.clone(), *head_len)));
        }
        _ => assert_eq!(expected, None, "{whole:?}"),
    }
    if let Ok(Answer::Refused { status }) = &whole {
        assert!((200..600).contains(status));
        let digits = status.to_string();
        let lines = bytes.split(|byte| *byte == b'\n');
        let says = |line: &[u8]| {
            line.starts_with(b"HTTP/1.") && line.get(9..12) == Some(digits.as_bytes())
        };
        assert!(lines.into_iter().any(says));
    }
    let mut decided = false;
    for end in cuts(bytes) {
        let verdict = judge(&bytes[..end]);
        if decided || verdict != Ok(Answer::Incomplete) {
            decided = true;
            // An error may be told more exactly later, but it stays one.
            assert_eq!(verdict.is_err(), whole.is_err(), "at {end}");
            assert!(verdict.is_err() || verdict == whole, "at {end}: {verdict:?}");
        }
        if let Ok(Answer::Switched { head_len, .. }) = verdict {
            assert!(head_len <= end);
        }
    }
});
