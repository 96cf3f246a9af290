//! Where a token is found, refused and removed, row by row.

use http::header::{HeaderName, SEC_WEBSOCKET_PROTOCOL};
use proptest::prelude::*;

use super::*;
use crate::config::ForwardToken;

fn request(headers: &[(&str, &str)], query: Option<&str>) -> UpgradeRequest {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(
            HeaderName::try_from(*name).unwrap(),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    let text = |name: &str| map.get(name).map(|value| value.to_str().unwrap().to_owned());
    let offered = map
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .flat_map(|value| value.to_str().unwrap().split(','))
        .map(|entry| entry.trim().to_owned())
        .collect();
    UpgradeRequest {
        host: "chat.example.com".into(),
        path: "/ws".into(),
        query: query.map(Into::into),
        origin: text("origin"),
        key: "AAAAAAAAAAAAAAAAAAAAAA==".into(),
        offered,
        spelling: crate::handshake::spelling::Spelling::default(),
        headers: map,
    }
}

/// Nobody's proxy, asked for the host of the request.
fn stranger(origins: &[String]) -> Sender<'_> {
    Sender { trust: Trust::Untrusted, host: "chat.example.com", origins }
}

fn token_of(
    source: TokenSource,
    headers: &[(&str, &str)],
    query: Option<&str>,
) -> Result<String, TokenFault> {
    extract(&[source], &request(headers, query), stranger(&[])).map(|presented| presented.token)
}

fn is_malformed(result: &Result<String, TokenFault>) -> bool {
    matches!(result, Err(TokenFault::Malformed(_)))
}

fn entry(token: &[u8]) -> String {
    format!("{SUBPROTOCOL_PREFIX}{}", URL_SAFE_NO_PAD.encode(token))
}

#[test]
fn a_bearer_header_is_a_token_and_another_scheme_is_none() {
    for (value, expected) in [
        ("Bearer abc", Some("abc")),
        ("bearer abc", Some("abc")),
        ("BEARER   abc  ", Some("abc")),
        ("Bearer a b", Some("a b")),
        ("Bearer", None),
        ("Bearer ", None),
        ("Bearerabc", None),
        ("Basic abc", None),
        ("abc", None),
        ("", None),
    ] {
        let found = token_of(TokenSource::Header, &[("authorization", value)], None);
        assert_eq!(found, expected.map(str::to_owned).ok_or(TokenFault::Missing), "{value:?}");
    }
    assert_eq!(token_of(TokenSource::Header, &[], None), Err(TokenFault::Missing));
}

#[test]
fn two_authorization_headers_are_refused_if_one_is_a_token() {
    for (first, second, malformed) in [
        ("Bearer a", "Bearer b", true),
        ("Bearer a", "Bearer a", true),
        ("Basic a", "Bearer b", true),
        ("Bearer a", "Basic b", true),
        ("Basic a", "Digest b", false),
    ] {
        let headers = [("authorization", first), ("authorization", second)];
        let found = token_of(TokenSource::Header, &headers, None);
        assert_eq!(is_malformed(&found), malformed, "{first} {second}");
    }
}

#[test]
fn a_subprotocol_entry_is_decoded() {
    let good = entry(b"a.b.c");
    let find = |offer: &str| {
        token_of(TokenSource::Subprotocol, &[("sec-websocket-protocol", offer)], None)
    };
    assert_eq!(find(&format!("framegate, {good}, chat")), Ok("a.b.c".into()));
    assert_eq!(find(&format!("{good}, framegate")), Ok("a.b.c".into()));
    assert_eq!(find("framegate, chat"), Err(TokenFault::Missing));
    assert_eq!(find(SUBPROTOCOL_PREFIX), Err(TokenFault::Missing));
    // Kubernetes' own entry is another server's token.
    assert_eq!(find("base64url.bearer.authorization.k8s.io.YQ"), Err(TokenFault::Missing));
    for malformed in [
        format!("{good}, {}", entry(b"other")),
        format!("{good}, {good}"),
        format!("{SUBPROTOCOL_PREFIX}YQ=="),
        format!("{SUBPROTOCOL_PREFIX}YR"),
        format!("{SUBPROTOCOL_PREFIX}Y+8"),
        format!("{SUBPROTOCOL_PREFIX}Y"),
        format!("{SUBPROTOCOL_PREFIX}a.b.c"),
        entry(&[0xff, 0xfe]),
    ] {
        assert!(is_malformed(&find(&malformed)), "{malformed}");
    }
}

#[test]
fn the_entry_after_a_name_is_the_token() {
    for (offer, expected) in [
        ("access_token, a.b.c", Ok("a.b.c")),
        ("chat, access_token, a.b.c, other", Ok("a.b.c")),
        ("access_token", Err(false)),
        ("chat, access_token", Err(false)),
        ("Access_Token, a.b.c", Err(false)),
        ("chat", Err(false)),
        ("access_token, a, access_token, b", Err(true)),
    ] {
        let source = TokenSource::SubprotocolAfter("access_token".into());
        let found = token_of(source, &[("sec-websocket-protocol", offer)], None);
        match expected {
            Ok(token) => assert_eq!(found.as_deref(), Ok(token), "{offer}"),
            Err(malformed) => assert_eq!(is_malformed(&found), malformed, "{offer}"),
        }
    }
}

#[test]
fn a_cookie_is_found_among_others_and_never_twice() {
    let find = |cookies: &[&str]| {
        let headers: Vec<_> = cookies.iter().map(|value| ("cookie", *value)).collect();
        token_of(TokenSource::Cookie("session".into()), &headers, None)
    };
    for (cookies, expected) in [
        (&["session=abc"][..], Some("abc")),
        (&["a=1; session=abc; b=2"], Some("abc")),
        (&["a=1;session=abc;b=2"], Some("abc")),
        (&["a=1", "session=abc"], Some("abc")),
        (&["session=\"abc\""], Some("abc")),
        (&["session=a=b="], Some("a=b=")),
        (&["bad=\u{fc}; session=abc"], Some("abc")),
        (&["session="], None),
        (&["session"], None),
        (&["Session=abc"], None),
        (&["xsession=abc"], None),
        (&["a=session=abc"], None),
        (&[], None),
    ] {
        let expected = expected.map(str::to_owned).ok_or(TokenFault::Missing);
        assert_eq!(find(cookies), expected, "{cookies:?}");
    }
    for cookies in [
        &["session=a; session=b"][..],
        &["session=a; session=a"],
        &["session=a", "session=b"],
        &["session=; session=b"],
    ] {
        assert!(is_malformed(&find(cookies)), "{cookies:?}");
    }
}

#[test]
fn a_cookie_counts_only_where_no_foreign_page_can_have_sent_it() {
    let listed = ["https://app.example.com".to_owned()];
    let null = ["null".to_owned()];
    for (origins, origin, counts) in [
        (&[][..], None, true),
        (&[], Some("https://chat.example.com"), true),
        (&[], Some("https://CHAT.example.com:443"), true),
        (&[], Some("https://app.example.com"), false),
        (&[], Some("https://chat.example.com:8443"), false),
        (&[], Some("null"), false),
        (&listed, None, true),
        (&listed, Some("https://app.example.com"), true),
        // A list replaces the rule on Host.
        (&listed, Some("https://chat.example.com"), false),
        (&listed, Some("https://evil.example"), false),
        (&listed, Some("null"), false),
        (&null, Some("null"), true),
    ] {
        let mut headers = vec![("cookie", "session=abc")];
        headers.extend(origin.map(|origin| ("origin", origin)));
        let source = TokenSource::Cookie("session".into());
        let found = extract(&[source], &request(&headers, None), stranger(origins));
        let expected = if counts { Ok("abc".to_owned()) } else { Err(TokenFault::Missing) };
        assert_eq!(found.map(|presented| presented.token), expected, "{origins:?} {origin:?}");
    }
}

#[test]
fn a_query_parameter_is_form_decoded() {
    for (query, expected) in [
        ("token=a.b.c", Ok("a.b.c")),
        ("x=1&token=a.b.c&y=2", Ok("a.b.c")),
        ("tok%65n=a%2Eb%2ec", Ok("a.b.c")),
        ("token=Bearer%20a.b.c", Ok("a.b.c")),
        ("token=bearer+a.b.c", Ok("a.b.c")),
        ("token=a%zzb", Ok("a%zzb")),
        ("token=a=b", Ok("a=b")),
        ("token=", Err(false)),
        ("token=Bearer+", Err(false)),
        ("token", Err(false)),
        ("Token=a", Err(false)),
        ("xtoken=a", Err(false)),
        ("", Err(false)),
        ("token=a&token=b", Err(true)),
        ("token=a&token=a", Err(true)),
        ("token=a&%74oken=b", Err(true)),
        ("token=&token=b", Err(true)),
        ("token=%ff%fe", Err(true)),
    ] {
        let found = token_of(TokenSource::Query("token".into()), &[], Some(query));
        match expected {
            Ok(token) => assert_eq!(found.as_deref(), Ok(token), "{query}"),
            Err(malformed) => assert_eq!(is_malformed(&found), malformed, "{query} {found:?}"),
        }
    }
}

#[test]
fn the_first_source_that_is_present_counts() {
    let both = request(&[("authorization", "Bearer header"), ("cookie", "s=cookie")], None);
    let (header, cookie) = (TokenSource::Header, TokenSource::Cookie("s".into()));
    let query = TokenSource::Query("token".into());
    for (order, expected) in [
        (vec![header.clone(), cookie.clone()], ("header", header.clone())),
        (vec![cookie.clone(), header.clone()], ("cookie", cookie.clone())),
        (vec![query, cookie.clone(), header.clone()], ("cookie", cookie.clone())),
    ] {
        let found = extract(&order, &both, stranger(&[])).unwrap();
        assert_eq!((found.token.as_str(), found.source), expected);
    }
    // Empty is not present.
    let empty = request(&[("authorization", "Bearer header"), ("cookie", "s=")], None);
    assert_eq!(
        extract(&[cookie.clone(), header.clone()], &empty, stranger(&[])).unwrap().token,
        "header"
    );
    // A refused source hides no later one.
    let twice = request(&[("authorization", "Bearer header"), ("cookie", "s=a; s=b")], None);
    assert!(extract(&[cookie, header], &twice, stranger(&[])).is_err());
    assert_eq!(extract(&[], &both, stranger(&[])), Err(TokenFault::Missing));
}

#[test]
fn a_token_of_16_kib_is_taken_and_a_longer_one_is_not() {
    let fits = "a".repeat(MAX_TOKEN_BYTES);
    let longer = "a".repeat(MAX_TOKEN_BYTES + 1);
    let find = |token: &str| {
        token_of(TokenSource::Header, &[("authorization", &format!("Bearer {token}"))], None)
    };
    assert_eq!(find(&fits), Ok(fits.clone()));
    assert!(is_malformed(&find(&longer)));
    assert!(is_malformed(&find(&"a".repeat(64 * 1024))));
}

#[test]
fn debug_output_does_not_show_the_token() {
    let presented = Presented { token: "secret-token".into(), source: TokenSource::Header };
    let shown = format!("{presented:?} {presented:#?}");
    assert!(!shown.contains("secret"), "{shown}");
    assert!(shown.contains("Header"));
}

#[test]
fn stripping_a_header_takes_only_authorization() {
    let request = request(&[("authorization", "Bearer a"), ("cookie", "a=1")], Some("token=a"));
    let stripped = strip(&request, &[TokenSource::Header]);
    assert!(!stripped.headers.contains_key(AUTHORIZATION));
    assert_eq!(stripped.headers.get(COOKIE), request.headers.get(COOKIE));
    assert_eq!(stripped.query, request.query);
}

#[test]
fn stripping_a_cookie_leaves_the_others_byte_for_byte() {
    for (cookies, expected) in [
        (&["session=abc"][..], &[][..]),
        (&["a=1; session=abc; b=2"], &["a=1; b=2"]),
        (&["session=abc; b=2"], &["b=2"]),
        (&["a=1; session=abc"], &["a=1"]),
        (&["a=1;session=abc;b=2"], &["a=1;b=2"]),
        (&["a=1", "session=abc", "b=2"], &["a=1", "b=2"]),
        (&["a=\"x y\"; =weird;; session=abc; b"], &["a=\"x y\"; =weird;; b"]),
        (&["a=\u{fc}; session=abc"], &["a=\u{fc}"]),
        (&["a=session=abc; xsession=1; Session=2"], &["a=session=abc; xsession=1; Session=2"]),
    ] {
        let headers: Vec<_> = cookies.iter().map(|value| ("cookie", *value)).collect();
        let stripped = strip(&request(&headers, None), &[TokenSource::Cookie("session".into())]);
        let left: Vec<_> =
            stripped.headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
        let expected: Vec<_> = expected.iter().map(|value| value.as_bytes()).collect();
        assert_eq!(left, expected, "{cookies:?}");
    }
}

#[test]
fn stripping_a_query_parameter_leaves_the_others_byte_for_byte() {
    for (query, expected) in [
        (Some("token=a"), None),
        (Some("x=1&token=a&y=2"), Some("x=1&y=2")),
        (Some("token=a&y=%2F+%zz"), Some("y=%2F+%zz")),
        (Some("x&&token=a&&y="), Some("x&&&y=")),
        (Some("tok%65n=a&b"), Some("b")),
        (Some("token"), None),
        (Some("xtoken=a&y=token=b"), Some("xtoken=a&y=token=b")),
        (Some(""), Some("")),
        (None, None),
    ] {
        let stripped = strip(&request(&[], query), &[TokenSource::Query("token".into())]);
        assert_eq!(stripped.query.as_deref(), expected, "{query:?}");
    }
}

#[test]
fn stripping_subprotocols_takes_name_and_token_and_rewrites_the_header() {
    let token = entry(b"a.b.c");
    let after = TokenSource::SubprotocolAfter("access_token".into());
    for (source, offer, expected) in [
        (after.clone(), "access_token, a.b.c".to_owned(), &[][..]),
        (after.clone(), "x, access_token, a.b.c, y".to_owned(), &["x", "y"]),
        (after.clone(), "x, access_token".to_owned(), &["x"]),
        (after, "x, y".to_owned(), &["x", "y"]),
        (TokenSource::Subprotocol, format!("framegate, {token}, chat"), &["framegate", "chat"]),
        (TokenSource::Subprotocol, token, &[]),
    ] {
        let stripped = strip(&request(&[("sec-websocket-protocol", &offer)], None), &[source]);
        assert_eq!(stripped.offered, expected, "{offer}");
        let header = stripped.headers.get(SEC_WEBSOCKET_PROTOCOL);
        let joined = expected.join(", ");
        assert_eq!(
            header.map(HeaderValue::as_bytes),
            (!expected.is_empty()).then_some(joined.as_bytes()),
            "{offer}"
        );
    }
}

/// Forwardable one after the other, one source would take away the name another one goes by, and its token
/// would stay; or bring together what was not. The fuzz target `token` looks for it.
#[test]
fn stripping_two_subprotocol_sources_looks_at_what_was_sent() {
    let token = entry(b"a.b.c");
    let after = |name: &str| TokenSource::SubprotocolAfter(name.into());
    let rows = [
        (TokenSource::Subprotocol, after("n"), format!("n, {token}, chat"), &["chat"][..]),
        (after("m"), after("n"), "m, n, a.b.c, chat".to_owned(), &["chat"]),
        (after("n"), after("m"), "m, n, a.b.c, chat".to_owned(), &["chat"]),
    ];
    for (first, second, offer, expected) in rows {
        let request = request(&[("sec-websocket-protocol", &offer)], None);
        assert_eq!(strip(&request, &[first, second]).offered, expected, "{offer}");
    }
}

#[test]
fn forwarding_keeps_strips_or_moves_the_token() {
    let request = request(&[("authorization", "Basic x"), ("cookie", "s=tok; a=1")], None);
    let presented = extract(&[TokenSource::Cookie("s".into())], &request, stranger(&[])).unwrap();

    let kept =
        forward(&request, &presented, std::slice::from_ref(&presented.source), ForwardToken::Keep);
    assert_eq!(kept.headers, request.headers);

    let stripped =
        forward(&request, &presented, std::slice::from_ref(&presented.source), ForwardToken::Strip);
    assert_eq!(stripped.headers.get(COOKIE).unwrap(), "a=1");
    assert_eq!(stripped.headers.get(AUTHORIZATION).unwrap(), "Basic x");

    let moved = forward(
        &request,
        &presented,
        std::slice::from_ref(&presented.source),
        ForwardToken::Authorization,
    );
    assert_eq!(moved.headers.get(COOKIE).unwrap(), "a=1");
    let values: Vec<_> = moved.headers.get_all(AUTHORIZATION).iter().collect();
    assert_eq!(values, ["Bearer tok"]);
    assert!(values[0].is_sensitive());

    // What the client had there is gone even if the token is no header value.
    let illegal = Presented { token: "a\nb".into(), ..presented };
    let moved = forward(
        &request,
        &illegal,
        std::slice::from_ref(&illegal.source),
        ForwardToken::Authorization,
    );
    assert!(!moved.headers.contains_key(AUTHORIZATION));
}

fn all_sources() -> [TokenSource; 5] {
    [
        TokenSource::Header,
        TokenSource::Subprotocol,
        TokenSource::SubprotocolAfter("n".into()),
        TokenSource::Cookie("n".into()),
        TokenSource::Query("n".into()),
    ]
}

proptest! {
    #[test]
    fn no_request_panics_and_what_is_stripped_is_not_found_again(
        values in proptest::collection::vec(
            ("authorization|cookie|origin", "(bearer|n=|;| |=|\"|[ -~]){0,12}"), 0..6),
        query in proptest::option::of("(n=|&|%|\\+|[!-~]|\u{fc}){0,20}"),
        offered in proptest::collection::vec(
            concat!(
                r"n|base64url\.bearer\.authorization\.framegate\.[A-Za-z0-9_=-]{0,8}",
                "|[a-z.]{1,5}",
            ),
            0..5),
    ) {
        let headers: Vec<_> =
            values.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut request = request(&headers, query.as_deref());
        request.offered = offered;
        for source in all_sources() {
            if let Ok(presented) = extract(std::slice::from_ref(&source), &request, stranger(&[])) {
                prop_assert!(!presented.token.is_empty());
                let stripped = strip(&request, std::slice::from_ref(&source));
                let rest = UpgradeRequest {
                    headers: stripped.headers,
                    query: stripped.query,
                    offered: stripped.offered,
                    ..request.clone()
                };
                prop_assert_eq!(extract(&[source], &rest, stranger(&[])), Err(TokenFault::Missing));
            }
        }
    }
}

#[test]
fn stripping_takes_the_tokens_of_all_sources_and_leaves_other_credentials() {
    let headers = [("authorization", "Basic YTpi"), ("cookie", "a=1; session=t2")];
    let request = request(&headers, Some("x=1&token=t1"));
    let sources = [
        TokenSource::Query("token".into()),
        TokenSource::Header,
        TokenSource::Cookie("session".into()),
    ];
    let stripped = strip(&request, &sources);
    assert_eq!(stripped.query.as_deref(), Some("x=1"));
    assert_eq!(stripped.headers["authorization"], "Basic YTpi");
    assert_eq!(stripped.headers["cookie"], "a=1");
}

#[test]
fn a_header_of_its_own_counts_only_from_a_trusted_proxy() {
    let source = [TokenSource::HeaderNamed("x-amzn-oidc-data".into())];
    let trusted = Sender { trust: Trust::Trusted, ..stranger(&[]) };
    let found = |headers: &[(&str, &str)], sender| {
        extract(&source, &request(headers, None), sender).map(|presented| presented.token)
    };
    let one = [("x-amzn-oidc-data", "a.b.c==")];
    assert_eq!(found(&one, trusted), Ok("a.b.c==".to_owned()));
    assert_eq!(found(&one, stranger(&[])), Err(TokenFault::Missing));
    assert_eq!(found(&[("authorization", "Bearer x")], trusted), Err(TokenFault::Missing));
    assert!(is_malformed(&found(&[one[0], one[0]], trusted)));
    let stripped = strip(&request(&[one[0], ("x-other", "1")], None), &source);
    assert_eq!(stripped.headers.len(), 1);
}

#[test]
fn a_token_may_stand_behind_a_prefix_plain_or_encoded() {
    let prefix = "base64url.bearer.authorization.k8s.io.";
    let encoded = format!("{prefix}{}", URL_SAFE_NO_PAD.encode("a.b.c"));
    for (prefix, offer, expected) in [
        ("bearer-", "chat, bearer-a.b.c", Ok("a.b.c")),
        (prefix, &*format!("chat, {encoded}"), Ok("a.b.c")),
        ("bearer-", "chat, Bearer-a.b.c", Err(TokenFault::Missing)),
        ("bearer-", "chat, bearer-", Err(TokenFault::Missing)),
        ("bearer-", "chat", Err(TokenFault::Missing)),
    ] {
        let source = TokenSource::SubprotocolPrefix(prefix.into());
        let headers = [("sec-websocket-protocol", offer)];
        let found = token_of(source.clone(), &headers, None);
        assert_eq!(found.as_deref(), expected.as_deref(), "{offer}");
        let request = request(&headers, None);
        let tokens = named_entries(std::slice::from_ref(&source), &request.offered);
        assert_eq!(tokens.len(), usize::from(offer.contains(prefix)), "{offer}");
        let left = strip(&request, &[source]).offered;
        assert!(left.iter().all(|entry| !entry.starts_with(prefix)), "{left:?}");
        assert_eq!(left[0], "chat");
    }
    let source = || TokenSource::SubprotocolPrefix("bearer-".into());
    for offer in ["bearer-a.b, bearer-c.d", "bearer-!"] {
        assert!(is_malformed(&token_of(source(), &[("sec-websocket-protocol", offer)], None)));
    }
}

#[test]
fn a_cookie_in_parts_is_put_together_in_the_order_of_their_numbers() {
    for (line, expected) in [
        ("s.0=ab; s.1=cd", Some("abcd")),
        ("s.1=cd; x=1; s.0=ab", Some("abcd")),
        ("s.0=ab", Some("ab")),
        ("s=whole; s.0=ab", Some("whole")),
        ("s=; s.0=ab", Some("ab")),
        ("s.0=ab; s.2=cd", None),
        ("s.1=cd", None),
        ("s.00=ab", None),
        ("s.0x=ab; s.=cd; t.0=ef", None),
    ] {
        let found = token_of(TokenSource::Cookie("s".into()), &[("cookie", line)], None);
        assert_eq!(found.ok().as_deref(), expected, "{line}");
    }
    let twice = token_of(TokenSource::Cookie("s".into()), &[("cookie", "s.0=a; s.0=b")], None);
    assert!(is_malformed(&twice));
    let eleven: Vec<_> = (0..11).rev().map(|part| format!("s.{part}={part},")).collect();
    let found = token_of(TokenSource::Cookie("s".into()), &[("cookie", &eleven.join("; "))], None);
    assert_eq!(found.unwrap(), "0,1,2,3,4,5,6,7,8,9,10,");
    let request = request(&[("cookie", "s.0=ab; a=1; s.1=cd; s.x=2")], None);
    let stripped = strip(&request, &[TokenSource::Cookie("s".into())]);
    assert_eq!(stripped.headers["cookie"], "a=1; s.x=2");
}

#[test]
fn a_cookie_that_is_left_out_is_noticed() {
    let sources = [TokenSource::Cookie("s".into())];
    for (origin, cookie, expected) in [
        ("https://evil.example", "s=1", true),
        ("https://chat.example.com", "s=1", false),
        ("https://evil.example", "s=", false),
        ("https://evil.example", "t=1", false),
    ] {
        let request = request(&[("origin", origin), ("cookie", cookie)], None);
        let sender = stranger(&[]);
        assert_eq!(sender.leaves_a_cookie_out(&sources, &request), expected, "{origin} {cookie}");
    }
    // A page knows the host by which its proxy is called.
    let request = request(&[("origin", "https://front.example"), ("cookie", "s=1")], None);
    let sender = Sender { host: "front.example", ..stranger(&[]) };
    assert_eq!(extract(&sources, &request, sender).unwrap().token, "1");
}
