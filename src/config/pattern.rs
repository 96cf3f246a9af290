//! The form of a route's path and the types of its parameters. Pure.
//!
//! Paths of requests are normalised before they are matched (unreserved characters decoded, dot and
//! empty segments refused), so a pattern that could never match is a mistake worth telling.

use regex::Regex;

use super::route::ParameterType;
use super::suggest::{did_you_mean, nearest};

/// Why a text is no path pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum PatternError {
    /// `ws`
    #[error("must begin with \"/\"")]
    Start,
    /// `/a//b`, `/a/`
    #[error("has an empty segment (\"//\" or \"/\" at the end); requests with one are refused")]
    Empty,
    /// `/a/../b`
    #[error("has a segment \".\" or \"..\"; requests with one are refused")]
    Dot,
    /// `/a%20b`
    #[error("must have no percent signs")]
    Percent,
    /// `/ws?x`
    #[error("must have no query or fragment: only the path is matched")]
    Query,
    /// `/a b`
    #[error("has {0:?} in it, which no path of a request can have")]
    Character(char),
    /// `/a-{id}`
    #[error("a parameter is a whole segment: \"/{{name}}/\"")]
    PartOfSegment,
    /// `/{Id}`
    #[error("{0:?} is no parameter name: lower-case letters, digits and \"_\", no digit first")]
    Name(String),
    /// `/{*rest}/b`
    #[error("{{*{0}}} takes the rest of the path, so it can only be the last segment")]
    NotLast(String),
    /// `/{id}/{id}`
    #[error("has two parameters called {0:?}")]
    Twice(String),
}

/// The names of a pattern's parameters, in order.
pub(super) fn parameter_names(pattern: &str) -> Result<Vec<String>, PatternError> {
    let rest = pattern.strip_prefix('/').ok_or(PatternError::Start)?;
    let mut names: Vec<String> = Vec::new();
    if rest.is_empty() {
        return Ok(names);
    }
    let mut segments = rest.split('/').peekable();
    while let Some(segment) = segments.next() {
        let Some(name) = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
            literal(segment)?;
            continue;
        };
        let (name, takes_rest) = match name.strip_prefix('*') {
            Some(name) => (name, true),
            None => (name, false),
        };
        if !is_name(name) {
            return Err(PatternError::Name(name.to_owned()));
        }
        if takes_rest && segments.peek().is_some() {
            return Err(PatternError::NotLast(name.to_owned()));
        }
        if names.iter().any(|other| other == name) {
            return Err(PatternError::Twice(name.to_owned()));
        }
        names.push(name.to_owned());
    }
    Ok(names)
}

/// The pattern without the names of its parameters: two of one shape match the same paths.
pub(super) fn shape(pattern: &str) -> String {
    let segments = pattern.split('/').map(|segment| match segment.as_bytes() {
        [b'{', b'*', ..] => "{*}",
        [b'{', ..] => "{}",
        _ => segment,
    });
    segments.collect::<Vec<_>>().join("/")
}

/// Why a text is no type of a parameter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum TypeError {
    /// `uid`
    #[error("must be \"uuid\", \"integer\" or a regular expression{}", did_you_mean(Some(.0)))]
    Misspelt(&'static str),
    /// `[0-9`
    #[error("is no regular expression: {0}")]
    Regex(String),
}

/// `uuid`, `integer` or a regular expression for the whole segment.
pub(super) fn parameter_type(text: &str) -> Result<ParameterType, TypeError> {
    match text {
        "uuid" => return Ok(ParameterType::Uuid),
        "integer" => return Ok(ParameterType::Integer),
        _ => {}
    }
    // A word of letters is also a regular expression, but one that matches nothing but itself.
    let is_word = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphabetic());
    if let Some(near) = nearest(text, ["uuid", "integer"]).filter(|_| is_word) {
        return Err(TypeError::Misspelt(near));
    }
    // First alone, so that `a)|(b` is not made good by the group around it.
    Regex::new(text)
        .and_then(|_| Regex::new(&format!("^(?:{text})$")))
        .map(ParameterType::Matches)
        .map_err(|error| TypeError::Regex(last_line(&error.to_string())))
}

fn literal(segment: &str) -> Result<(), PatternError> {
    match segment {
        "" => return Err(PatternError::Empty),
        "." | ".." => return Err(PatternError::Dot),
        _ => {}
    }
    for character in segment.chars() {
        match character {
            '%' => return Err(PatternError::Percent),
            '?' | '#' => return Err(PatternError::Query),
            '{' | '}' => return Err(PatternError::PartOfSegment),
            // RFC 3986 section 3.3: pchar.
            _ if character.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@".contains(character) => {}
            _ => return Err(PatternError::Character(character)),
        }
    }
    Ok(())
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// The regex crate draws the fault over several lines; its last one says it in words.
fn last_line(text: &str) -> String {
    let line = text.lines().last().unwrap_or_default().trim();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_name_their_parameters() {
        for (pattern, names) in [
            ("/", vec![]),
            ("/ws", vec![]),
            ("/api/v1/chats/{chat_id}/ws", vec!["chat_id"]),
            ("/{a}/{_b2}/{*rest}", vec!["a", "_b2", "rest"]),
            ("/{*rest}", vec!["rest"]),
            ("/.well-known/@x:y/~a", vec![]),
        ] {
            assert_eq!(parameter_names(pattern).unwrap(), names, "{pattern}");
        }
        let name = str::to_owned;
        for (pattern, expected) in [
            ("ws", PatternError::Start),
            ("", PatternError::Start),
            ("//", PatternError::Empty),
            ("/ws/", PatternError::Empty),
            ("/a//b", PatternError::Empty),
            ("/a/../b", PatternError::Dot),
            ("/./b", PatternError::Dot),
            ("/a%20b", PatternError::Percent),
            ("/ws?x=1", PatternError::Query),
            ("/ws#x", PatternError::Query),
            ("/a b", PatternError::Character(' ')),
            ("/a\\b", PatternError::Character('\\')),
            ("/é", PatternError::Character('é')),
            ("/a-{id}", PatternError::PartOfSegment),
            ("/{id", PatternError::PartOfSegment),
            ("/{}", PatternError::Name(name(""))),
            ("/{Id}", PatternError::Name(name("Id"))),
            ("/{2d}", PatternError::Name(name("2d"))),
            ("/{*}", PatternError::Name(name(""))),
            ("/{a}-{b}", PatternError::Name(name("a}-{b"))),
            ("/{*rest}/b", PatternError::NotLast(name("rest"))),
            ("/{id}/{id}", PatternError::Twice(name("id"))),
        ] {
            assert_eq!(parameter_names(pattern), Err(expected), "{pattern}");
        }
    }

    #[test]
    fn patterns_of_one_shape_match_the_same_paths() {
        assert_eq!(shape("/a/{x}/{*y}"), shape("/a/{z}/{*w}"));
        for (one, other) in [("/a/{x}", "/a/{*x}"), ("/a/{x}", "/a/x"), ("/a", "/b")] {
            assert_ne!(shape(one), shape(other));
        }
    }

    #[test]
    fn regular_expressions_must_match_the_whole_segment() {
        let regex = |text: &str| match parameter_type(text) {
            Ok(ParameterType::Matches(regex)) => regex,
            other => panic!("{text}: {other:?}"),
        };
        for (text, value, matches) in [
            ("[a-z]+", "abc", true),
            ("[a-z]+", "abc1", false),
            ("[a-z]+", "abc\n", false),
            ("a|b", "a", true),
            ("a|b", "ab", false),
            ("a|b", "bx", false),
            ("(?m)a", "a\nb", false),
            ("chat", "chat", true),
        ] {
            assert_eq!(regex(text).is_match(value), matches, "{text} {value:?}");
        }
        for (text, expected) in [
            ("UUID", TypeError::Misspelt("uuid")),
            ("uid", TypeError::Misspelt("uuid")),
            ("int", TypeError::Misspelt("integer")),
        ] {
            assert_eq!(parameter_type(text).unwrap_err(), expected, "{text}");
        }
        for text in ["[a-z", "a)|(?:b", "(?x) a # all the rest", "x{99999999}", "*"] {
            assert!(matches!(parameter_type(text), Err(TypeError::Regex(_))), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_pattern_or_refused(text in "/?([a-z/{}*.%é]|\\{[a-z]\\}){0,20}") {
            if let Ok(names) = parameter_names(&text) {
                prop_assert_eq!(names.len(), text.matches('{').count());
            }
            let _ = shape(&text);
        }
    }
}
