//! Tokens for tests, signed with the secret that [`super::Setup`] configures.

use base64::Engine;
use serde_json::{Map, Value, json};

/// The HS256 secret of the verifier `users`.
pub const SECRET: &str = "a test secret of more than 32 bytes length";

pub fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

/// Claims of a good token for `user`.
pub fn claims(user: &str) -> Map<String, Value> {
    let claims = json!({
        "sub": user, "iss": "https://id.example.com", "aud": "chat", "exp": now() + 300, "token_use": "access",
    });
    claims.as_object().unwrap().clone()
}

/// A good token for `user`.
pub fn token(user: &str) -> String {
    sign(&claims(user))
}

/// A good token but for these claims; a null removes one.
pub fn token_with(user: &str, changes: Value) -> String {
    let mut all = claims(user);
    for (name, value) in changes.as_object().unwrap() {
        all.insert(name.clone(), value.clone());
    }
    all.retain(|_, value| !value.is_null());
    sign(&all)
}

pub fn sign(claims: &Map<String, Value>) -> String {
    sign_as(&json!({ "alg": "HS256", "typ": "JWT" }), &Value::Object(claims.clone()).to_string())
}

/// A token with any header and payload, signed with the secret (HMAC-SHA-256) whatever they say.
pub fn sign_as(header: &Value, payload: &str) -> String {
    sign_with(SECRET, &header.to_string(), payload)
}

/// The same with another secret, and a header that need not be JSON.
pub fn sign_with(secret: &str, header: &str, payload: &str) -> String {
    let signed = format!("{}.{}", base64url(header), base64url(payload));
    let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
    let algorithm = jsonwebtoken::Algorithm::HS256;
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, algorithm).unwrap();
    format!("{signed}.{signature}")
}

/// Without padding.
pub fn base64url(text: &str) -> String {
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text)
}

/// The entry of Sec-WebSocket-Protocol that carries a token.
pub fn subprotocol_entry(token: &str) -> String {
    format!("base64url.bearer.authorization.framegate.{}", base64url(token))
}
