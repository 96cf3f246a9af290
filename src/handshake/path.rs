//! The request path in the one form that the router matches and the upstream gets. Pure.
//!
//! Two readers of one path are a security hole as soon as they read it differently (`/a%2e%2e/admin`).
//! So what can be read in two ways is refused, and what is merely written in two ways (RFC 3986
//! section 6.2.2.2, unreserved characters) is made one. No case is folded and nothing is removed:
//! a path that passes goes upstream as the client sent it, except for decoded unreserved characters.

use super::request::BadRequest;
use crate::route::has_encoded_slash;

/// Decodes percent-encoded unreserved characters and refuses what could be read differently behind
/// the gateway. Normalising the result again changes nothing.
///
/// # Errors
///
/// One of the `Path…` variants: not absolute, dot segments, empty segments (one `/` at the end is
/// none), encoded or backward slashes, control characters also when encoded, a `%` without two
/// hexadecimal digits, `?` and `#`, spaces and anything that is not ASCII.
pub fn normalise(raw: &str) -> Result<String, BadRequest> {
    let path = normalise_with_slashes(raw)?;
    if has_encoded_slash(&path) { Err(BadRequest::PathEncodedSlash) } else { Ok(path) }
}

/// The same, but `%2F` may stand in a segment and stays as it is: a route can allow it. A segment that has
/// a dot segment between its slashes is refused all the same.
///
/// # Errors
///
/// As [`normalise`].
pub(crate) fn normalise_with_slashes(raw: &str) -> Result<String, BadRequest> {
    if !raw.starts_with('/') {
        return Err(BadRequest::PathNotAbsolute);
    }
    let path = decode_unreserved(raw)?;
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        // Servlet containers cut `;parameters` off a segment before they look at it.
        let name = segment.split_once(';').map_or(segment, |(name, _)| name);
        let is_final_slash = segment.is_empty() && segments.peek().is_none();
        if name.is_empty() && !is_final_slash {
            return Err(BadRequest::PathEmptySegment);
        }
        let plain = segment.replace("%2f", "%2F");
        let mut parts = plain.split("%2F").map(|part| part.split(';').next().unwrap_or_default());
        if parts.any(|part| part == "." || part == "..") {
            return Err(BadRequest::PathDotSegment);
        }
    }
    Ok(path)
}

fn decode_unreserved(raw: &str) -> Result<String, BadRequest> {
    let mut path = String::with_capacity(raw.len());
    let mut rest = raw.chars();
    while let Some(c) = rest.next() {
        match c {
            '%' => {
                let digits = rest.as_str().get(..2).ok_or(BadRequest::PathPercent)?;
                let byte = hex_byte(digits).ok_or(BadRequest::PathPercent)?;
                match byte {
                    b'\\' => return Err(BadRequest::PathEncodedSlash),
                    0..=0x1f | 0x7f => return Err(BadRequest::PathControl),
                    _ if is_unreserved(byte) => path.push(char::from(byte)),
                    _ => {
                        path.push('%');
                        path.push_str(digits);
                    }
                }
                rest = rest.as_str().get(2..).unwrap_or_default().chars();
            }
            '\\' => return Err(BadRequest::PathEncodedSlash),
            '#' => return Err(BadRequest::PathFragment),
            ' ' | '?' => return Err(BadRequest::PathCharacter),
            _ if c.is_ascii_control() => return Err(BadRequest::PathControl),
            _ if !c.is_ascii() => return Err(BadRequest::PathCharacter),
            _ => path.push(c),
        }
    }
    Ok(path)
}

/// `from_str_radix` alone would take `+f`.
fn hex_byte(digits: &str) -> Option<u8> {
    let all_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    all_hex.then(|| u8::from_str_radix(digits, 16).ok())?
}

/// RFC 3986 section 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn unreserved_characters_are_decoded_and_nothing_else() {
        for (raw, expected) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/", "/a/"),
            ("/%61%2Db%2d%7Ec%5F%39", "/a-b-~c_9"),
            ("/a%2eb", "/a.b"),
            ("/...", "/..."),
            ("/.a/..b/a..", "/.a/..b/a.."),
            ("/%c3%A9", "/%c3%A9"),
            ("/a%20b%3Fc%23", "/a%20b%3Fc%23"),
            ("/a%3b%25", "/a%3b%25"),
            // Encoded twice is decoded not at all: "%25" is no unreserved character.
            ("/%252e%252e/%252F", "/%252e%252e/%252F"),
            ("/a;b=c/d,e:f@g!$&'()*+=", "/a;b=c/d,e:f@g!$&'()*+="),
            ("/UPPER/lower", "/UPPER/lower"),
        ] {
            assert_eq!(normalise(raw).as_deref(), Ok(expected), "{raw}");
        }
    }

    #[test]
    fn what_could_be_read_differently_behind_the_gateway_is_refused() {
        use BadRequest as B;
        for (raw, expected) in [
            ("", B::PathNotAbsolute),
            ("*", B::PathNotAbsolute),
            ("a/b", B::PathNotAbsolute),
            ("//", B::PathEmptySegment),
            ("//a", B::PathEmptySegment),
            ("/a//b", B::PathEmptySegment),
            ("/a//", B::PathEmptySegment),
            ("/a/;x=1/b", B::PathEmptySegment),
            ("/;", B::PathEmptySegment),
            ("/.", B::PathDotSegment),
            ("/..", B::PathDotSegment),
            ("/a/./b", B::PathDotSegment),
            ("/a/../b", B::PathDotSegment),
            ("/a/..", B::PathDotSegment),
            ("/a/%2e%2E/b", B::PathDotSegment),
            ("/a/.%2e", B::PathDotSegment),
            ("/a/%2e/b", B::PathDotSegment),
            ("/a/..;x=1/b", B::PathDotSegment),
            ("/a/%2e%2e;/b", B::PathDotSegment),
            ("/a%2Fb", B::PathEncodedSlash),
            ("/a%2fb", B::PathEncodedSlash),
            ("/a%5Cb", B::PathEncodedSlash),
            ("/a%5cb", B::PathEncodedSlash),
            ("/a\\b", B::PathEncodedSlash),
            ("/a%00", B::PathControl),
            ("/a%0d%0aX:y", B::PathControl),
            ("/a%7F", B::PathControl),
            ("/a\0", B::PathControl),
            ("/a\r\nX: y", B::PathControl),
            ("/a\u{7f}", B::PathControl),
            ("/%", B::PathPercent),
            ("/%4", B::PathPercent),
            ("/%4g", B::PathPercent),
            ("/%+f", B::PathPercent),
            ("/%%34%31", B::PathPercent),
            ("/%é", B::PathPercent),
            ("/%4é", B::PathPercent),
            ("/%u0041", B::PathPercent),
            ("/a#b", B::PathFragment),
            ("/a?b", B::PathCharacter),
            ("/a b", B::PathCharacter),
            ("/é", B::PathCharacter),
        ] {
            assert_eq!(normalise(raw), Err(expected), "{raw:?}");
        }
    }

    #[test]
    fn an_encoded_slash_may_be_let_through_as_it_came() {
        use BadRequest as B;
        for (raw, expected) in [
            ("/a%2Fb", Ok("/a%2Fb")),
            ("/a%2fb/%2F", Ok("/a%2fb/%2F")),
            ("/https%3A%2F%2Fx%2Fy/ws", Ok("/https%3A%2F%2Fx%2Fy/ws")),
            ("/a%2F..%2Fb", Err(B::PathDotSegment)),
            ("/a%2f%2e%2e", Err(B::PathDotSegment)),
            ("/..%2Fa", Err(B::PathDotSegment)),
            ("/a%2F.;x", Err(B::PathDotSegment)),
            ("/a%5Cb", Err(B::PathEncodedSlash)),
            ("/a%2F%00", Err(B::PathControl)),
        ] {
            assert_eq!(normalise_with_slashes(raw).as_deref(), expected.as_deref(), "{raw}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(raw in ".*") {
            let _ = normalise(&raw);
        }

        #[test]
        fn normalising_is_idempotent(raw in "(/([a-c.~%;]|%2[0-9a-fA-F]|%[4-7][0-9a-fA-F]){0,6}){1,4}") {
            if let Ok(once) = normalise(&raw) {
                prop_assert_eq!(normalise(&once), Ok(once.clone()));
                prop_assert!(once.starts_with('/') && !once.contains("//"));
                prop_assert!(once.bytes().all(|byte| byte.is_ascii_graphic()));
                prop_assert!(!once.split('/').any(|segment| segment == "." || segment == ".."));
            }
        }
    }
}
