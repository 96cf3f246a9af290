//! The types of path parameters. Pure.

use regex::Regex;

use super::suggest::{did_you_mean, nearest};
use crate::route::ParameterType;

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

/// The regex crate draws the fault over several lines; its last one says it in words.
fn last_line(text: &str) -> String {
    let line = text.lines().last().unwrap_or_default().trim();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
