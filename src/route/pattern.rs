//! Path patterns: what an operator writes in `route.path`, read and checked. Pure.
//!
//! Request paths are normalised and decoded before they are matched (see [`super::Router::find`]),
//! so a pattern that no such path can have is refused here instead of never matching.

use std::fmt;

/// A valid path pattern such as `/api/v1/chats/{chat_id}/ws`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    segments: Vec<Segment>,
}

/// What one segment of a path must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Segment {
    /// Exactly this decoded text; empty only at the end: the pattern ends with "/".
    Literal(Box<str>),
    /// `{name}`: any one segment that is not empty.
    One(Box<str>),
    /// `{*name}`: whatever is left, also nothing. Always the last.
    Rest(Box<str>),
}

/// Why a text is no path pattern. The texts go behind the path of the setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PatternError {
    /// `ws`, or nothing at all.
    #[error("must start with \"/\", such as \"/ws\"")]
    Start,
    /// `/a//b`
    #[error("has an empty segment; requests with \"//\" are refused, so write a single \"/\"")]
    EmptySegment,
    /// `/a/../b`
    #[error(
        "has a segment \".\" or \"..\"; requests with one are refused, so write the path without it"
    )]
    DotSegment,
    /// `/a%20b`
    #[error("has a percent sign; write the decoded character, paths are matched decoded")]
    Percent,
    /// `/ws?x=1`
    #[error("has {0:?}; only the path is matched, so leave query and fragment out")]
    QueryOrFragment(char),
    /// A backslash or control character.
    #[error("has {0:?}, which no path that is let through can have; remove it")]
    Character(char),
    /// `/:id`, `/<id>`: a parameter as other routers write it.
    #[error("has {written:?}, which would be matched letter for letter; did you mean {{{name}}}?")]
    OtherParameter {
        written: String,
        /// The name in it, in the form that names have here.
        name: String,
    },
    /// `/*`, `/a/*`
    #[error(
        "has a segment \"*\", which would be matched letter for letter; did you mean {{name}}, or {{*rest}} at the end?"
    )]
    Star,
    /// `/a-{id}`, `/{id`
    #[error("has a brace inside a segment; a parameter takes a whole one, such as \"/{{name}}/\"")]
    PartOfSegment,
    /// `/{Id}`, `/{}`
    #[error("has a parameter called {0:?}; use lower-case letters, \"_\" and, not first, digits")]
    Name(String),
    /// `/{*rest}/b`
    #[error("has segments after {{*{0}}}, which takes the whole rest; put it last or use {{{0}}}")]
    RestNotLast(String),
    /// `/{id}/{id}`
    #[error("has two parameters called {0:?}; rename one")]
    DuplicateName(String),
}

impl Pattern {
    /// Reads a pattern: `/`, then segments that are literal, `{name}` or, at the end, `{*name}`.
    ///
    /// A single trailing "/" counts: `/ws/` and `/ws` are different paths.
    ///
    /// # Errors
    ///
    /// The first rule that is broken, from left to right.
    pub(crate) fn parse(text: &str) -> Result<Self, PatternError> {
        let rest = text.strip_prefix('/').ok_or(PatternError::Start)?;
        let mut segments: Vec<Segment> = Vec::new();
        let mut texts = rest.split('/').peekable();
        while let Some(text) = texts.next() {
            let is_last = texts.peek().is_none();
            if text.is_empty() && !is_last {
                return Err(PatternError::EmptySegment);
            }
            let segment = Segment::parse(text)?;
            if let Segment::Rest(name) = &segment
                && !is_last
            {
                return Err(PatternError::RestNotLast(name.to_string()));
            }
            if let Some(name) = segment.name()
                && segments.iter().any(|other| other.name() == Some(name))
            {
                return Err(PatternError::DuplicateName(name.to_owned()));
            }
            segments.push(segment);
        }
        Ok(Self { segments })
    }

    /// The names of the parameters, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(Segment::name)
    }

    /// What stands in a path, as it is, where this parameter is. The path must be one that is matched.
    pub(crate) fn text_of<'p>(&self, path: &'p str, name: &str) -> Option<&'p str> {
        let mut rest = path.strip_prefix('/')?;
        for segment in &self.segments {
            let (one, behind) = rest.split_once('/').unwrap_or((rest, ""));
            match segment {
                Segment::Rest(own) if **own == *name => return Some(rest),
                Segment::One(own) if **own == *name => return Some(one),
                _ => rest = behind,
            }
        }
        None
    }

    /// The pattern without the names of its parameters: two of one shape match the same paths.
    pub(crate) fn shape(&self) -> String {
        let segments = self.segments.iter().map(|segment| match segment {
            Segment::Literal(text) => text,
            Segment::One(_) => "{}",
            Segment::Rest(_) => "{*}",
        });
        segments.collect::<Vec<_>>().join("/")
    }

    /// All segments, in order; at least one.
    pub(super) fn segments(&self) -> &[Segment] {
        &self.segments
    }
}

/// As it was typed.
impl fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.segments {
            match segment {
                Segment::Literal(text) => write!(formatter, "/{text}")?,
                Segment::One(name) => write!(formatter, "/{{{name}}}")?,
                Segment::Rest(name) => write!(formatter, "/{{*{name}}}")?,
            }
        }
        Ok(())
    }
}

impl Segment {
    fn parse(text: &str) -> Result<Self, PatternError> {
        let inner = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
        let Some(inner) = inner.filter(|inner| !inner.contains(['{', '}'])) else {
            check_literal(text)?;
            return Ok(Self::Literal(text.into()));
        };
        let (name, takes_rest) = match inner.strip_prefix('*') {
            Some(name) => (name, true),
            None => (inner, false),
        };
        if !is_name(name) {
            return Err(PatternError::Name(name.to_owned()));
        }
        Ok(if takes_rest { Self::Rest(name.into()) } else { Self::One(name.into()) })
    }

    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Self::Literal(_) => None,
            Self::One(name) | Self::Rest(name) => Some(name),
        }
    }
}

fn check_literal(text: &str) -> Result<(), PatternError> {
    if matches!(text, "." | "..") {
        return Err(PatternError::DotSegment);
    }
    if text.chars().all(|character| character == '*') && !text.is_empty() {
        return Err(PatternError::Star);
    }
    if let Some(name) = parameter_elsewhere(text) {
        let written = text.to_owned();
        return Err(PatternError::OtherParameter { written, name });
    }
    for character in text.chars() {
        match character {
            '%' => return Err(PatternError::Percent),
            '?' | '#' => return Err(PatternError::QueryOrFragment(character)),
            '{' | '}' => return Err(PatternError::PartOfSegment),
            // The handshake refuses %5C and %00; other control characters are typing errors.
            '\\' => return Err(PatternError::Character(character)),
            _ if character.is_control() => return Err(PatternError::Character(character)),
            _ => {}
        }
    }
    Ok(())
}

/// The name in a parameter as Express (`:id`, `:id(\\d+)`), Flask (`<id>`, `<int:id>`) or a shell (`$id`)
/// would write it.
fn parameter_elsewhere(text: &str) -> Option<String> {
    let inner = match text.strip_prefix([':', '$']) {
        Some(rest) => rest.split(['(', '?', '*', '+']).next()?,
        None => text.strip_prefix('<')?.strip_suffix('>')?.rsplit(':').next()?,
    };
    let name: String = inner.to_lowercase().replace('-', "_");
    is_name(&name).then_some(name)
}

fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_name_their_parameters_in_order() {
        for (text, names) in [
            ("/", vec![]),
            ("/ws", vec![]),
            ("/ws/", vec![]),
            ("/api/v1/chats/{chat_id}/ws", vec!["chat_id"]),
            ("/{a}/{_b2}/{*rest}", vec!["a", "_b2", "rest"]),
            ("/{id}/", vec!["id"]),
            ("/{*rest}", vec!["rest"]),
            ("/{_}", vec!["_"]),
            ("/.well-known/@x:y/~a/...", vec![]),
            ("/caf\u{e9}/a b", vec![]),
        ] {
            let pattern = Pattern::parse(text).unwrap();
            assert_eq!(pattern.names().collect::<Vec<_>>(), names, "{text}");
            assert_eq!(pattern.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_pattern_is_told_by_the_rule_it_breaks() {
        let name = |name: &str| PatternError::Name(name.to_owned());
        let other = |written: &str, name: &str| PatternError::OtherParameter {
            written: written.to_owned(),
            name: name.to_owned(),
        };
        for (text, expected) in [
            ("", PatternError::Start),
            ("ws", PatternError::Start),
            (" /ws", PatternError::Start),
            ("//", PatternError::EmptySegment),
            ("//ws", PatternError::EmptySegment),
            ("/a//b", PatternError::EmptySegment),
            ("/ws//", PatternError::EmptySegment),
            ("/.", PatternError::DotSegment),
            ("/a/../b", PatternError::DotSegment),
            ("/*", PatternError::Star),
            ("/a/**", PatternError::Star),
            ("/chats/:id/ws", other(":id", "id")),
            ("/:chatId", other(":chatId", "chatid")),
            ("/:id(\\d+)", other(":id(\\d+)", "id")),
            ("/<int:chat-id>", other("<int:chat-id>", "chat_id")),
            ("/$room", other("$room", "room")),
            ("/a%20b", PatternError::Percent),
            ("/ws?x=1", PatternError::QueryOrFragment('?')),
            ("/ws#x", PatternError::QueryOrFragment('#')),
            ("/a\\b", PatternError::Character('\\')),
            ("/a\nb", PatternError::Character('\n')),
            ("/a-{id}", PatternError::PartOfSegment),
            ("/{id}.json", PatternError::PartOfSegment),
            ("/{id", PatternError::PartOfSegment),
            ("/id}", PatternError::PartOfSegment),
            ("/{a}-{b}", PatternError::PartOfSegment),
            ("/{{a}}", PatternError::PartOfSegment),
            ("/{}", name("")),
            ("/{*}", name("")),
            ("/{**rest}", name("*rest")),
            ("/{Id}", name("Id")),
            ("/{2d}", name("2d")),
            ("/{a-b}", name("a-b")),
            ("/{\u{e9}}", name("\u{e9}")),
            ("/{*rest}/b", PatternError::RestNotLast("rest".to_owned())),
            ("/{*rest}/", PatternError::RestNotLast("rest".to_owned())),
            ("/{id}/{id}", PatternError::DuplicateName("id".to_owned())),
            ("/{id}/{*id}", PatternError::DuplicateName("id".to_owned())),
        ] {
            assert_eq!(Pattern::parse(text), Err(expected), "{text:?}");
        }
    }

    #[test]
    fn errors_show_braces_as_typed() {
        let told = Pattern::parse("/{*rest}/b").unwrap_err().to_string();
        assert!(told.contains("{*rest}") && told.contains("use {rest}"), "{told}");
    }

    proptest! {
        #[test]
        fn what_parses_prints_as_typed(text in "/?([a-c.%{}*_/A1]|\\{\\*?[a-c]\\}|/){0,12}") {
            if let Ok(pattern) = Pattern::parse(&text) {
                prop_assert_eq!(pattern.to_string(), text);
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC*") {
            let _ = Pattern::parse(&text);
        }
    }
}
