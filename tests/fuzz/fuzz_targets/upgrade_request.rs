//! Any request head is a handshake or refused; what is accepted has a normalised path.
#![no_main]

use framegate::handshake::path::normalise;
use framegate::handshake::request::UpgradeRequest;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, Vec<(&str, &[u8])>)| {
    let (target, pairs) = input;
    let Ok(uri) = target.parse::<Uri>() else { return };
    let mut headers = HeaderMap::new();
    for (name, value) in [("upgrade", "websocket"), ("connection", "upgrade"), ("sec-websocket-version", "13")] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    for (name, value) in pairs {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    if let Ok(request) = UpgradeRequest::parse(&Method::GET, &uri, Version::HTTP_11, headers) {
        assert_eq!(normalise(&request.path).as_deref(), Ok(request.path.as_str()));
        let _ = request.stripped_extensions();
    }
});
