//! What the benchmarks share: keys, tokens, a configuration, a handshake.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use framegate::internals::cli::token::{sign, signing_key};
use framegate::internals::config::Config;
use framegate::internals::handshake::request::UpgradeRequest;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};
use jsonwebtoken::Algorithm;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// When all tokens are valid, in seconds since 1970.
pub(crate) const NOW: u64 = 1_800_000_000;

/// The path of the only route that asks for tokens.
pub(crate) const PATH: &str = "/api/v1/chats/0b9a4f0e-3c5d-4c1e-9f57-0a4d1f0e7c11/ws";

const CHAT: &str = "0b9a4f0e-3c5d-4c1e-9f57-0a4d1f0e7c11";

/// A key in a file, and a token signed with its other half.
pub(crate) struct Signed {
    /// The folder with the key that verifies, called `key`.
    pub(crate) folder: TempDir,
    /// The token.
    pub(crate) token: String,
}

/// A token as an identity provider issues it.
pub(crate) fn signed(algorithm: Algorithm) -> Signed {
    let folder = tempfile::tempdir().expect("a folder");
    let (private, public) = match algorithm {
        Algorithm::HS256 => {
            let secret = "a secret of at least thirty-two bytes".to_owned();
            (secret.clone(), secret)
        }
        algorithm => {
            let kind = match algorithm {
                Algorithm::ES256 => &PKCS_ECDSA_P256_SHA256,
                _ => &PKCS_RSA_SHA256,
            };
            let pair = KeyPair::generate_for(kind).expect("a key pair");
            (pair.serialize_pem(), pair.public_key_pem())
        }
    };
    std::fs::write(folder.path().join("key"), public).expect("a file");
    let key = signing_key(algorithm, private.as_bytes()).expect("a key to sign with");
    let token = sign(algorithm, &key, Some("2026-11"), &claims()).expect("a token");
    Signed { folder, token }
}

fn claims() -> Map<String, Value> {
    let claims = json!({
        "sub": "0199f6a2-5d3b-7c41-8e0f-2b7c9d1e4f55",
        "iss": "https://id.example.com",
        "aud": ["chat", "account"],
        "iat": NOW - 60,
        "exp": NOW + 3600,
        "jti": "b5c1f1c2-7c9d-4e2f-a0a7-1d7e2c9c2f10",
        "scope": "openid profile chat",
        "role": "agent",
        "chats": [CHAT, "7e4f2d1c-0a9b-4c8d-8e7f-6a5b4c3d2e1f"],
    });
    claims.as_object().cloned().expect("an object")
}

/// A configuration with one route that checks everything that can be checked.
pub(crate) fn config(signed: &Signed, algorithm: &str) -> Config {
    let text = format!(
        r#"
        [[listener]]
        bind = "127.0.0.1:0"
        [verifiers.users]
        keys = [{{ kid = "2026-11", algorithm = "{algorithm}", file = "key" }}]
        issuers = ["https://id.example.com"]
        audiences = ["chat"]
        [upstreams.chat]
        endpoints = ["http://127.0.0.1:9"]
        [[route]]
        path = "/api/v1/chats/{{chat_id}}/ws"
        parameters = {{ chat_id = "uuid" }}
        upstream = "chat"
        verifier = "users"
        origins = ["https://chat.example.com"]
        authorize = {{ claims = {{ role = ["admin", "agent"] }}, contains = {{ chats = "chat_id" }} }}
        "#
    );
    Config::parse(&text, signed.folder.path()).expect("a configuration")
}

/// The head Chromium sends, with the token as a subprotocol.
pub(crate) fn head(token: &str) -> (Method, Uri, Version, HeaderMap) {
    let entry = URL_SAFE_NO_PAD.encode(token);
    let protocols = format!("framegate, base64url.bearer.authorization.framegate.{entry}, chat");
    let lines = [
        ("host", "chat.example.com"),
        ("connection", "Upgrade"),
        ("pragma", "no-cache"),
        ("cache-control", "no-cache"),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/156.0.0.0"),
        ("upgrade", "websocket"),
        ("origin", "https://chat.example.com"),
        ("sec-websocket-version", "13"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("accept-language", "en-US,en;q=0.9"),
        ("cookie", "session=0123456789abcdef; theme=dark"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-extensions", "permessage-deflate; client_max_window_bits"),
        ("sec-websocket-protocol", &protocols),
    ];
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        let value = HeaderValue::from_str(value).expect("a value");
        headers.insert(HeaderName::from_static(name), value);
    }
    let target = format!("{PATH}?lang=de").parse().expect("a target");
    (Method::GET, target, Version::HTTP_11, headers)
}

/// The same, parsed.
pub(crate) fn request(token: &str) -> UpgradeRequest {
    let (method, uri, version, headers) = head(token);
    UpgradeRequest::parse(&method, &uri, version, headers).expect("a handshake")
}
