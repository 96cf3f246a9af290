//! Whether a page of this origin may connect (RFC 6454, RFC 6455 section 10.2). Pure.
//!
//! A browser sends `Origin` with every WebSocket handshake and scripts cannot change it; other
//! clients mostly send none. The check therefore protects users against foreign pages and is no
//! protection against a client that lies: that is the token's business.

use crate::outcome::rejection::Rejection;

/// Lets an origin pass that is in `allowed`, as is any when `allowed` is empty. A missing `Origin`
/// is no browser and passes.
///
/// Scheme and host are compared without regard to case, ports by number with the scheme's default
/// for a missing one. `null` (a sandboxed frame, a file) passes only where it is listed itself.
///
/// # Errors
///
/// [`Rejection::OriginDenied`].
pub(crate) fn check(allowed: &[String], origin: Option<&str>) -> Result<(), Rejection> {
    match origin {
        Some(origin) if !allowed.is_empty() && !is_listed(allowed, origin) => {
            Err(Rejection::OriginDenied)
        }
        _ => Ok(()),
    }
}

/// Whether `origin` is one of `allowed`; nothing is in an empty list.
pub(crate) fn is_listed(allowed: &[String], origin: &str) -> bool {
    allowed.iter().any(|allowed| same_origin(allowed, origin))
}

/// Whether the page of `origin` was loaded from the host the request is addressed to: `host` is a
/// Host header. Where that names no port, the default of the origin's scheme is meant.
pub(crate) fn is_same_host(origin: &str, host: &str) -> bool {
    let Some(page) = Origin::parse(origin) else { return false };
    let Some((name, port)) = split_port(host) else { return false };
    !name.is_empty()
        && page.host.eq_ignore_ascii_case(name)
        && page.port.is_some()
        && page.port == port.or_else(|| default_port(page.scheme))
}

/// An origin in parts; the port is the default where none was named and the scheme has one.
struct Origin<'a> {
    scheme: &'a str,
    host: &'a str,
    port: Option<u16>,
}

impl<'a> Origin<'a> {
    /// Takes `scheme://host[:port]` apart, and nothing else (no user, no path).
    fn parse(text: &'a str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let (host, port) = split_port(authority)?;
        if scheme.is_empty() || host.contains(['/', '?', '#', '@', ' ', ',']) {
            return None;
        }
        Some(Self { scheme, host, port: port.or_else(|| default_port(scheme)) })
    }
}

fn same_origin(allowed: &str, origin: &str) -> bool {
    match (Origin::parse(allowed), Origin::parse(origin)) {
        (Some(allowed), Some(origin)) => {
            allowed.scheme.eq_ignore_ascii_case(origin.scheme)
                && same_host(allowed.host, origin.host)
                && allowed.port == origin.port
        }
        // `null`, which has no parts.
        (None, None) => allowed.eq_ignore_ascii_case(origin),
        _ => false,
    }
}

/// `*.` at the front of an allowed host stands for one or more whole labels.
fn same_host(allowed: &str, host: &str) -> bool {
    let Some(end) = allowed.strip_prefix('*') else { return allowed.eq_ignore_ascii_case(host) };
    let at = host.len().checked_sub(end.len());
    let split = at.and_then(|at| host.split_at_checked(at));
    split.is_some_and(|(labels, found)| {
        found.eq_ignore_ascii_case(end) && labels.split('.').all(|label| !label.is_empty())
    })
}

/// Splits `host[:port]`; `None` when the port is not one. An IPv6 address keeps its brackets.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            // `parse` alone would take "+443" too.
            let digits = port.bytes().all(|byte| byte.is_ascii_digit());
            let port = digits.then(|| port.parse().ok()).flatten()?;
            // More colons outside of brackets are an address without them.
            let whole = !host.contains(':') || (host.starts_with('[') && host.ends_with(']'));
            whole.then_some((host, Some(port)))
        }
        _ => Some((authority, None)),
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        _ if scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("wss") => {
            Some(443)
        }
        _ if scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("ws") => Some(80),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn passes(allowed: &[&str], origin: Option<&str>) -> bool {
        let allowed: Vec<String> = allowed.iter().map(ToString::to_string).collect();
        check(&allowed, origin).is_ok()
    }

    #[test]
    fn a_listed_origin_passes_in_every_spelling_and_no_other_does() {
        for (allowed, origin, expected) in [
            ("https://a.example", "https://a.example", true),
            ("https://a.example", "HTTPS://A.Example", true),
            ("https://a.example", "https://a.example:443", true),
            ("https://a.example:443", "https://a.example", true),
            ("http://a.example:80", "http://a.example", true),
            ("https://a.example:8443", "https://a.example:8443", true),
            ("https://[2001:db8::1]", "https://[2001:DB8::1]:443", true),
            ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443", true),
            ("null", "null", true),
            ("capacitor://localhost", "capacitor://localhost", true),
            ("chrome-extension://abcdef", "chrome-extension://abcdef", true),
            ("file://", "file://", true),
            ("https://*.a.example", "https://x.a.example", true),
            ("https://*.a.example", "https://X.Y.A.example:443", true),
            ("https://*.a.example:3000", "https://x.a.example:3000", true),
            ("https://*.a.example", "https://a.example", false),
            ("https://*.a.example", "https://.a.example", false),
            ("https://*.a.example", "https://x..a.example", false),
            ("https://*.a.example", "https://xa.example", false),
            ("https://*.a.example", "https://x.a.example.", false),
            ("https://*.a.example", "https://x.a.example.evil.example", false),
            ("https://*.a.example", "http://x.a.example", false),
            ("https://*.a.example", "https://x.a.example:3000", false),
            ("https://*.a.example", "https://evil.example/.a.example", false),
            ("https://*.a.example", "https://u@x.a.example", false),
            ("https://*.a.example", "https://*.a.example.evil", false),
            ("file://", "file:///etc", false),
            ("https://a.example", "http://a.example", false),
            ("https://a.example", "https://a.example:8443", false),
            ("https://a.example", "https://b.example", false),
            ("https://a.example", "https://a.example.evil.example", false),
            ("https://a.example", "https://evil-a.example", false),
            ("https://a.example", "https://x@a.example", false),
            ("https://a.example", "https://a.example/", false),
            ("https://a.example", "https://a.example https://evil.example", false),
            ("https://a.example", "https://a.example:+443", false),
            ("https://a.example", "https://a.example:", false),
            ("https://a.example", "https://a.example:99999", false),
            ("https://a.example", "a.example", false),
            ("https://a.example", "null", false),
            ("https://a.example", "", false),
            ("capacitor://localhost", "capacitor://localhost:1", false),
        ] {
            assert_eq!(passes(&[allowed], Some(origin)), expected, "{allowed} <- {origin}");
        }
    }

    #[test]
    fn a_missing_origin_and_an_empty_list_pass() {
        assert!(passes(&["https://a.example"], None));
        assert!(passes(&[], None));
        assert!(passes(&[], Some("https://evil.example")));
        assert!(passes(&[], Some("null")));
        assert!(passes(&["https://a.example", "https://b.example"], Some("https://b.example")));
        assert_eq!(
            check(&["https://a.example".to_owned()], Some("null")),
            Err(Rejection::OriginDenied)
        );
    }

    #[test]
    fn the_host_of_a_page_is_compared_with_its_port() {
        for (origin, host, expected) in [
            ("https://a.example", "a.example", true),
            ("https://a.example", "A.EXAMPLE:443", true),
            ("https://a.example:8443", "a.example:8443", true),
            ("http://localhost:3000", "localhost:3000", true),
            ("https://[::1]:8443", "[::1]:8443", true),
            ("https://a.example", "a.example:8443", false),
            ("https://a.example:8443", "a.example", false),
            ("http://a.example", "a.example:443", false),
            ("https://evil.example", "a.example", false),
            ("null", "null", false),
            ("file://", "", false),
            ("custom://a.example", "a.example", false),
        ] {
            assert_eq!(is_same_host(origin, host), expected, "{origin} <- {host}");
        }
    }

    proptest! {
        #[test]
        fn no_origin_panics(allowed in ".{0,40}", origin in ".{0,40}", host in ".{0,40}") {
            let _ = passes(&[&allowed], Some(&origin));
            let _ = is_same_host(&origin, &host);
        }

        #[test]
        fn an_origin_matches_itself(origin in "(https?|wss?)://[a-z.]{1,20}(:[1-9][0-9]{0,3})?") {
            prop_assert!(passes(&[&origin], Some(&origin.to_ascii_uppercase())));
        }
    }
}
