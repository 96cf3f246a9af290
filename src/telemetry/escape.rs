//! Makes text that a peer chose safe to print on a terminal or in a line-based log. Pure.
//!
//! Control characters could move a cursor or forge a line; bidirectional characters (Unicode TR 36
//! section 2.7) could show text in another order than it was sent in.

use std::borrow::Cow;
use std::fmt::Write;

/// `text` with backslashes, double quotes, control characters, line separators and bidirectional
/// characters written as escapes (`\n`, `\"`, `\u{202e}`). Without any of them it is `text` itself.
pub(crate) fn escape(text: &str) -> Cow<'_, str> {
    if !text.chars().any(needs_escape) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        push(&mut escaped, character);
    }
    Cow::Owned(escaped)
}

/// `text` with only what could deceive a reader written as escapes: for a sentence of its own, which
/// nothing delimits, so that quotes in it may stay as they are.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_dangerous) {
        return Cow::Borrowed(text);
    }
    let mut printable = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if is_dangerous(character) {
            push(&mut printable, character);
        } else {
            printable.push(character);
        }
    }
    Cow::Owned(printable)
}

/// `text` as a value of a `key=value` line: escaped, and in quotes where a reader could not tell
/// where it ends (blanks, quotes, `=`, empty).
pub(crate) fn quote(text: &str) -> Cow<'_, str> {
    let escaped = escape(text);
    let plain =
        !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || "=\"".contains(c));
    if plain { escaped } else { Cow::Owned(format!("\"{escaped}\"")) }
}

/// Whether a character is written as an escape.
fn needs_escape(character: char) -> bool {
    matches!(character, '\\' | '"') || is_dangerous(character)
}

fn is_dangerous(character: char) -> bool {
    character.is_control()
        || matches!(character,
            // Arabic letter mark; left-to-right and right-to-left marks.
            '\u{061c}' | '\u{200e}' | '\u{200f}'
            // Line and paragraph separator.
            | '\u{2028}' | '\u{2029}'
            // Embeddings and overrides; isolates.
            | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn push(escaped: &mut String, character: char) {
    match character {
        '\\' => escaped.push_str("\\\\"),
        '"' => escaped.push_str("\\\""),
        '\n' => escaped.push_str("\\n"),
        '\r' => escaped.push_str("\\r"),
        '\t' => escaped.push_str("\\t"),
        other if is_dangerous(other) => {
            // Writing to a String cannot fail.
            let _ = write!(escaped, "\\u{{{:x}}}", u32::from(other));
        }
        other => escaped.push(other),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_could_deceive_a_reader_is_escaped() {
        let table = [
            ("", ""),
            ("plain text = fine", "plain text = fine"),
            ("grüße 你好 🦀 שלום", "grüße 你好 🦀 שלום"),
            ("a\nb\r\tc", "a\\nb\\r\\tc"),
            ("\u{1b}[31mred\u{7}", "\\u{1b}[31mred\\u{7}"),
            ("\0\u{7f}\u{9b}", "\\u{0}\\u{7f}\\u{9b}"),
            ("say \"hi\"", "say \\\"hi\\\""),
            ("C:\\n", "C:\\\\n"),
            (
                "\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}",
                r"\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}",
            ),
            ("\u{2066}\u{2067}\u{2068}\u{2069}", r"\u{2066}\u{2067}\u{2068}\u{2069}"),
            ("\u{200e}\u{200f}\u{61c}", r"\u{200e}\u{200f}\u{61c}"),
            ("\u{2028}\u{2029}", r"\u{2028}\u{2029}"),
            ("\u{200d}", "\u{200d}"),
        ];
        for (text, expected) in table {
            assert_eq!(escape(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_sentence_keeps_its_quotes() {
        let table = [
            ("no \"a\\b\" here", "no \"a\\b\" here"),
            ("a \"b\"\n\u{1b}[31m\u{202e}", "a \"b\"\\n\\u{1b}[31m\\u{202e}"),
        ];
        for (text, expected) in table {
            assert_eq!(printable(text), expected, "{text:?}");
        }
    }

    #[test]
    fn harmless_text_is_not_copied() {
        assert!(matches!(escape("/api/chats"), Cow::Borrowed(_)));
        assert!(matches!(quote("/api/chats"), Cow::Borrowed(_)));
    }

    #[test]
    fn values_whose_end_is_unclear_are_quoted() {
        let table = [
            ("", "\"\""),
            ("a b", "\"a b\""),
            ("a=b", "\"a=b\""),
            ("a\"b", "\"a\\\"b\""),
            ("a\nb", "\"a\\nb\""),
            ("a\u{202e}b", "a\\u{202e}b"),
            ("/x?", "/x?"),
        ];
        for (text, expected) in table {
            assert_eq!(quote(text), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_dangerous_is_left(text in any::<String>()) {
            let (escaped, printable) = (escape(&text).into_owned(), printable(&text).into_owned());
            prop_assert!(!escaped.chars().chain(printable.chars()).any(is_dangerous));
        }

        #[test]
        fn different_texts_stay_different(a in "[\\\\\"n\n\u{202e}u{}2e0]{0,6}", b in "[\\\\\"n\n\u{202e}u{}2e0]{0,6}") {
            prop_assert_eq!(a == b, escape(&a) == escape(&b));
        }
    }
}
