//! Tokens for tests, signed with the secret that [`super::Setup`] configures.

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
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), claims, &key).unwrap()
}
