//! A token is found or not in any request, and what is stripped cannot be found again.
#![no_main]

use framegate::admission::token::{extract, strip};
use framegate::config::TokenSource;
use framegate::handshake::request::UpgradeRequest;
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], &[u8], Option<&str>, Vec<&str>)| {
    let (authorization, cookie, query, offered) = input;
    let mut headers = HeaderMap::new();
    for (name, value) in [("authorization", authorization), ("cookie", cookie)] {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.insert(name, value);
        }
    }
    let mut request = UpgradeRequest {
        host: "chat.example.com".to_owned(),
        path: "/ws".to_owned(),
        query: query.map(str::to_owned),
        headers,
        key: String::new(),
        origin: None,
        offered: offered.into_iter().map(str::to_owned).collect(),
    };
    let sources = [
        TokenSource::Header,
        TokenSource::Subprotocol,
        TokenSource::SubprotocolAfter("bearer".to_owned()),
        TokenSource::Cookie("session".to_owned()),
        TokenSource::Query("token".to_owned()),
    ];
    let _ = extract(&sources, &request, &[]);
    let stripped = strip(&request, &sources);
    (request.headers, request.query, request.offered) = (stripped.headers, stripped.query, stripped.offered);
    assert!(extract(&sources, &request, &[]).is_err());
});
