//! Where each setting stands in the file. Pure.

use std::collections::HashMap;

use super::Problem;

/// Lines of the file by configuration path (`listener[0].tls.certificates[0].key`).
#[derive(Debug, Clone, Default)]
pub struct Locations(HashMap<String, usize>);

impl Locations {
    /// A problem at `path`, with the line where that path (or its nearest parent) stands.
    pub(crate) fn problem(&self, path: impl Into<String>, message: impl Into<String>) -> Problem {
        let path = path.into();
        Problem { line: self.line(&path), path, message: message.into() }
    }

    /// The 1-based line where `path` or its nearest parent stands.
    pub(crate) fn line(&self, path: &str) -> Option<usize> {
        let mut rest = path;
        loop {
            if let Some(line) = self.0.get(rest) {
                return Some(*line);
            }
            rest = rest.get(..rest.rfind(['.', '['])?)?;
        }
    }

    /// Whether `path` itself was typed.
    pub(crate) fn contains(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }

    pub(super) fn insert(&mut self, path: String, line: usize) {
        self.0.insert(path, line);
    }
}

/// The path of `key` in the table at `parent`, quoted as TOML would want it.
pub(crate) fn child(parent: &str, key: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    let key =
        if !key.is_empty() && key.bytes().all(bare) { key.to_owned() } else { format!("{key:?}") };
    if parent.is_empty() { key } else { format!("{parent}.{key}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_was_not_typed_has_the_line_of_its_nearest_parent() {
        let mut locations = Locations::default();
        locations.insert("route".to_owned(), 3);
        locations.insert("route[1]".to_owned(), 9);
        locations.insert("route[1].path".to_owned(), 10);
        for (path, line) in [
            ("route[1].path", Some(10)),
            ("route[1].limits.messages", Some(9)),
            ("route[7].path", Some(3)),
            ("routes", None),
            ("", None),
        ] {
            assert_eq!(locations.line(path), line, "{path}");
        }
    }

    #[test]
    fn keys_that_are_no_bare_words_are_quoted() {
        assert_eq!(child("", "limits"), "limits");
        assert_eq!(child("upstreams", "chat-1"), "upstreams.chat-1");
        assert_eq!(child("upstreams", "a.b"), "upstreams.\"a.b\"");
        assert_eq!(child("upstreams", ""), "upstreams.\"\"");
    }
}
