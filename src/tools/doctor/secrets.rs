//! What must not be shown although a server repeats it. Pure.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION};
use http::{HeaderName, HeaderValue};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::plan::QUERY_VALUE;

/// Texts that must not be shown, wherever they come up.
#[derive(Clone, Default)]
pub(crate) struct Secrets(Vec<String>);

impl Secrets {
    /// A token, its signature, and both as they may come back in other encodings.
    pub(crate) fn new(token: Option<&str>) -> Self {
        let Some(token) = token.filter(|token| !token.is_empty()) else { return Self::default() };
        let mut texts = vec![
            token.to_owned(),
            URL_SAFE_NO_PAD.encode(token),
            utf8_percent_encode(token, NON_ALPHANUMERIC).to_string(),
        ];
        // Parts that are long enough to be no word: header and claims are shown decoded anyway.
        texts.extend(token.rsplit('.').next().filter(|part| part.len() >= 8).map(str::to_owned));
        Self::default().and_all(texts)
    }

    /// Those and the values of a query.
    #[must_use]
    pub(crate) fn of_query(self, query: &str) -> Self {
        let values = query.split('&').map(|pair| pair.split_once('=').map_or(pair, |(_, v)| v));
        self.and(values.flat_map(spellings).collect())
    }

    /// Those and what proves in these headers who asks.
    #[must_use]
    pub(crate) fn of_headers(self, headers: &[(HeaderName, HeaderValue)]) -> Self {
        let mut texts = Vec::new();
        for (name, value) in headers {
            let Ok(value) = value.to_str() else { continue };
            match *name {
                AUTHORIZATION | PROXY_AUTHORIZATION => texts.extend(credentials(value)),
                COOKIE => texts.extend(cookies(value)),
                _ => {}
            }
        }
        self.and(texts)
    }

    /// These too, as far as they are long enough to be no word of anybody's.
    fn and(self, texts: Vec<String>) -> Self {
        let is_long = |text: &String| text.len() >= SHORTEST && text != SOCKET_IO;
        self.and_all(texts.into_iter().filter(is_long).collect())
    }

    fn and_all(mut self, texts: Vec<String>) -> Self {
        self.0.extend(texts);
        // The longest first: one may be a part of another.
        self.0.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        self.0.dedup();
        self
    }

    /// `text` without them.
    pub(crate) fn hide(&self, text: &str) -> String {
        let whole =
            self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret, "[token]"));
        // One that was cut off shows by its begin.
        let begins = self.0.iter().filter_map(|secret| secret.get(..BEGIN));
        let whole = begins.fold(whole, |text, begin| hide_runs(&text, begin));
        self.hide_cut(whole)
    }

    /// `text` without a short begin of one at its end, where long lines are cut.
    fn hide_cut(&self, text: String) -> String {
        let (kept, dots) = text.strip_suffix('…').map_or((text.as_str(), ""), |kept| (kept, "…"));
        let begins = |secret: &String| {
            let mut lengths = (CUT..secret.len()).rev();
            lengths.find_map(|len| kept.strip_suffix(secret.get(..len)?).map(str::len))
        };
        match self.0.iter().filter_map(begins).min().and_then(|len| kept.get(..len)) {
            Some(before) => format!("{before}[token]{dots}"),
            None => text,
        }
    }
}

/// `text` without the words of a token's characters that start with `begin`.
fn hide_runs(text: &str, begin: &str) -> String {
    let mut hidden = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once(begin) {
        hidden.push_str(before);
        hidden.push_str("[token]");
        let is_part = |c: char| c.is_ascii_alphanumeric() || "-_.%=".contains(c);
        rest = behind.trim_start_matches(is_part);
    }
    hidden.push_str(rest);
    hidden
}

/// A value of a query as it was typed, and as a server may repeat it.
fn spellings(value: &str) -> Vec<String> {
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let decoded = decode(value);
    let encoded = utf8_percent_encode(&decoded, QUERY_VALUE).to_string();
    vec![value.to_owned(), decode(&value.replace('+', " ")), encoded, decoded]
}

/// Where a Location leads, without what may prove who asks: user and password, query, fragment.
pub(crate) fn place(location: &str) -> String {
    without_user(location.split(['?', '#']).next().unwrap_or_default())
}

/// A Location without user and password. Read as browsers do, who take any slashes for two.
pub(crate) fn without_user(location: &str) -> String {
    let (path, behind) = location.split_at(location.find(['?', '#']).unwrap_or(location.len()));
    let scheme = match path.split_once(':') {
        Some((scheme, _)) if !scheme.contains(['/', '\\']) => scheme.len() + 1,
        _ => 0,
    };
    let (scheme, rest) = path.split_at(scheme);
    let (slashes, rest) = rest.split_at(rest.find(|c| c != '/' && c != '\\').unwrap_or(rest.len()));
    if scheme.is_empty() && slashes.len() < 2 {
        return location.to_owned();
    }
    let (authority, rest) = rest.split_at(rest.find(['/', '\\']).unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}{slashes}{host}{rest}{behind}")
}

/// What stands behind the scheme of an Authorization header, and the password in it.
fn credentials(value: &str) -> Vec<String> {
    let Some((scheme, credential)) = value.trim().split_once(' ') else {
        return vec![value.trim().to_owned()];
    };
    let credential = credential.trim();
    let mut texts = vec![credential.to_owned()];
    if scheme.eq_ignore_ascii_case("basic")
        && let Some(pair) = STANDARD.decode(credential).ok().and_then(|b| String::from_utf8(b).ok())
    {
        texts.extend(pair.split_once(':').map(|(_, password)| password.to_owned()));
        texts.push(pair);
    }
    // Digest and the like carry a list; each value of it counts.
    let values = credential.split(',').filter_map(|pair| Some(pair.split_once("=\"")?.1));
    texts.extend(values.map(|value| value.trim().trim_end_matches('"').to_owned()));
    texts
}

fn cookies(value: &str) -> Vec<String> {
    let pairs = value.split(';').map(|pair| pair.split_once('=').map_or(pair, |(_, value)| value));
    pairs.flat_map(|value| spellings(value.trim().trim_matches('"'))).collect()
}

/// Bytes of a token by which a part of it is known.
const BEGIN: usize = 16;

/// Bytes of a secret at a line's end that are no chance.
const CUT: usize = 4;

/// Bytes from which a value that may be anything is hidden: shorter ones stand in every sentence.
const SHORTEST: usize = 6;

/// The value of Socket.IO's `transport`: everybody knows it, and findings speak of it.
const SOCKET_IO: &str = "websocket";

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::tests::plan;
    use super::*;

    #[test]
    fn secrets_are_hidden_in_every_spelling() {
        let secrets = Secrets::new(Some("head.claims.signature"));
        for text in [
            "head.claims.signature",
            "signature",
            "head%2Eclaims%2Esignature",
            &URL_SAFE_NO_PAD.encode("head.claims.signature"),
        ] {
            assert_eq!(secrets.hide(&format!("<{text}>")), "<[token]>");
        }
        assert_eq!(secrets.hide("<head.claims.signat…>"), "<[token]…>");
        let short = Secrets::default().of_query("k=QUERYSECRET");
        let cut = [
            ("no: QUERYSEC", "no: [token]"),
            ("no: QUERYSEC…", "no: [token]…"),
            ("no: QUE…", "no: QUE…"),
            ("QUERYSEC is cut in the middle", "QUERYSEC is cut in the middle"),
        ];
        for (text, expected) in cut {
            assert_eq!(short.hide(text), expected);
        }
        assert_eq!(Secrets::new(None).hide("head"), "head");
    }

    #[test]
    fn of_a_location_only_the_place_is_shown() {
        let rows = [
            ("https://u:hunter2@login.example/cb#access_token=F", "https://login.example/cb"),
            ("HTTPS://hunter2@[::1]:8443/a?k=v#f", "HTTPS://[::1]:8443/a"),
            ("//u:p@ss@login.example", "//login.example"),
            ("https:\\\\u:p@login.example\\a", "https:\\\\login.example\\a"),
            ("https:u:p@login.example/a", "https:login.example/a"),
            ("https://login.example/@ann/room", "https://login.example/@ann/room"),
            ("/@ann?next=https://u:p@a/", "/@ann"),
            ("login?x#y", "login"),
            ("/a:b@c", "/a:b@c"),
            ("#access_token=F", ""),
            ("//", "//"),
            ("", ""),
        ];
        for (location, expected) in rows {
            assert_eq!(place(location), expected, "{location}");
        }
        assert_eq!(without_user("http://u:p@a/b?c@d#e@f"), "http://a/b?c@d#e@f");
    }

    #[test]
    fn all_that_was_sent_to_prove_who_asks_is_hidden() {
        let rows = [
            ("?key=QUERYSECRET77", "", "", "QUERYSECRET77"),
            ("?key=a%2Fsecret+77", "", "", "a%2Fsecret+77 a/secret+77 a%2Fsecret%2B77"),
            ("?key=a%2Fsecret+77", "", "", "{a/secret 77}"),
            ("?a=1&barevalue", "", "", "barevalue"),
            ("", "authorization", "Bearer opaque-one", "Bearer opaque-one"),
            ("", "authorization", "Basic YWxpY2U6cGFzc3dvcmQ=", "YWxpY2U6cGFzc3dvcmQ="),
            ("", "authorization", "Basic YWxpY2U6cGFzc3dvcmQ=", "alice:password"),
            ("", "authorization", "basic YWxpY2U6cGFzc3dvcmQ=", "password"),
            ("", "authorization", "Digest username=\"u\", response=\"6629fae4\"", "6629fae4"),
            ("", "authorization", "opaque-one", "opaque-one"),
            ("", "proxy-authorization", "Bearer opaque-one", "opaque-one"),
            ("", "cookie", "theme=dark; sid=\"s3cr3t-sid\"", "dark s3cr3t-sid"),
        ];
        for (query, name, value, said) in rows {
            let mut plan = plan(&format!("ws://a/ws{query}"));
            if !name.is_empty() {
                plan.headers.push((name.parse().unwrap(), HeaderValue::from_static(value)));
            }
            let hidden = plan.secrets().hide(said);
            let left = hidden.replace("[token]", "");
            assert!(hidden.contains("[token]"), "{said}: {hidden}");
            assert!(!left.contains("secret") && !left.contains("s3cr3t"), "{said}: {hidden}");
            assert!(["", " ", "  ", "{}", "Bearer ", "dark "].contains(&left.as_str()), "{hidden}");
        }
        let harmless = plan("ws://a/ws?EIO=4&transport=websocket").secrets();
        assert_eq!(harmless.hide("Upgrade: websocket, 4"), "Upgrade: websocket, 4");
    }
}
