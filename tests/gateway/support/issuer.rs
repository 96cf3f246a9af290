//! An issuer: keys that sign tokens, and a server that publishes them over HTTP or HTTPS, well or badly.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::tls::Signed;
use super::tokens::{base64url, claims};
use super::{Wire, within};

/// Serves for as long as the test runs.
pub struct Issuer {
    pub address: SocketAddr,
    scheme: &'static str,
    answer: watch::Sender<Answer>,
    heads: Arc<Mutex<Vec<String>>>,
    count: watch::Receiver<usize>,
}

/// What it answers with.
#[derive(Debug, Clone)]
pub enum Answer {
    /// 200 and this.
    Set(Value),
    /// These bytes, then FIN.
    Raw(Vec<u8>),
    /// Nothing, until it is told something else.
    Nothing,
    /// The first bytes at once and then one by one, far apart.
    Dripping(Vec<u8>),
    /// A body without end, with this head.
    Endless(&'static str),
}

/// A key pair that signs tokens (ES256).
pub struct SigningKey {
    pub kid: String,
    pair: rcgen::KeyPair,
}

impl SigningKey {
    pub fn new(kid: &str) -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        Self { kid: kid.to_owned(), pair }
    }

    /// The public half as it is published.
    pub fn jwk(&self) -> Value {
        let raw = self.pair.public_key_raw();
        let (x, y) = raw[1..].split_at(32);
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        json!({ "kty": "EC", "crv": "P-256", "use": "sig", "kid": self.kid, "x": x, "y": y })
    }

    /// A good token for `user`.
    pub fn token(&self, user: &str) -> String {
        self.token_with(user, &json!({ "alg": "ES256", "kid": self.kid }))
    }

    /// The same with another header.
    pub fn token_with(&self, user: &str, header: &Value) -> String {
        let payload = Value::Object(claims(user)).to_string();
        let signed = format!("{}.{}", base64url(&header.to_string()), base64url(&payload));
        let key = jsonwebtoken::EncodingKey::from_ec_der(&self.pair.serialize_der());
        let algorithm = jsonwebtoken::Algorithm::ES256;
        let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, algorithm).unwrap();
        format!("{signed}.{signature}")
    }
}

/// The set of these keys.
pub fn set_of(keys: &[&SigningKey]) -> Value {
    json!({ "keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>() })
}

/// A whole answer with this head line, further header lines and body.
pub fn answer(status: &str, headers: &str, body: &str) -> Answer {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n");
    Answer::Raw(format!("{head}{body}").into_bytes())
}

impl Issuer {
    /// Over HTTP.
    pub async fn start(answer: Answer) -> Self {
        Self::serve(answer, None).await
    }

    /// Over HTTP, publishing these keys.
    pub async fn publishing(keys: &[&SigningKey]) -> Self {
        Self::start(Answer::Set(set_of(keys))).await
    }

    /// Over HTTPS with this certificate.
    pub async fn start_tls(answer: Answer, signed: &Signed) -> Self {
        let key = PrivateKeyDer::try_from(signed.key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![signed.certificate.der().clone()], key)
            .unwrap();
        Self::serve(answer, Some(Arc::new(config).into())).await
    }

    async fn serve(answer: Answer, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let answer = watch::Sender::new(answer);
        let (tell, count) = watch::channel(0);
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (said, noted) = (answer.subscribe(), Arc::clone(&heads));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (tls, said) = (tls.clone(), said.clone());
                let (noted, tell) = (Arc::clone(&noted), tell.clone());
                tokio::spawn(async move {
                    let Some(mut wire) = secured(stream, tls).await else { return };
                    let Some(head) = wire.head().await else { return };
                    noted.lock().unwrap().push(head);
                    tell.send_modify(|count| *count += 1);
                    reply(wire, said).await;
                });
            }
        });
        Self { address, scheme, answer, heads, count }
    }

    /// `http://127.0.0.1:PORT/jwks.json`
    pub fn url(&self) -> String {
        format!("{}://{}/jwks.json", self.scheme, self.address)
    }

    /// From now on answers so.
    pub fn answer(&self, answer: Answer) {
        self.answer.send_replace(answer);
    }

    /// From now on publishes these keys.
    pub fn publish(&self, keys: &[&SigningKey]) {
        self.answer(Answer::Set(set_of(keys)));
    }

    /// How often it was asked.
    pub fn requests(&self) -> usize {
        *self.count.borrow()
    }

    /// Waits until it was asked so often.
    pub async fn asked(&self, times: usize) {
        let mut count = self.count.clone();
        within("requests for keys", count.wait_for(|count| *count >= times)).await.unwrap();
    }

    /// The last request's head.
    pub fn head(&self) -> String {
        self.heads.lock().unwrap().last().unwrap().clone()
    }
}

async fn secured(stream: TcpStream, tls: Option<TlsAcceptor>) -> Option<Wire> {
    match tls {
        None => Some(Wire::new(stream, None)),
        // Who does not trust the certificate goes away.
        Some(tls) => Some(Wire::new(tls.accept(stream).await.ok()?, None)),
    }
}

/// Answers, and waits for the end of the connection.
async fn reply(mut wire: Wire, mut said: watch::Receiver<Answer>) {
    let mut patience = said.clone();
    let is_something = |answer: &Answer| !matches!(answer, Answer::Nothing);
    let is_told = async { drop(patience.wait_for(is_something).await) };
    tokio::select! {
        () = is_told => {}
        // The gateway has given up.
        _ = wire.fill() => return,
    }
    let now = said.borrow_and_update().clone();
    match now {
        Answer::Set(set) => {
            let Answer::Raw(bytes) = answer("200 OK", "", &set.to_string()) else { return };
            send(&mut wire, &bytes).await;
        }
        Answer::Raw(bytes) => send(&mut wire, &bytes).await,
        Answer::Nothing => {}
        Answer::Dripping(bytes) => {
            let _ = wire.stream.write_all(&bytes).await;
            wire.drip_until_end(b"x", Duration::from_millis(50)).await;
        }
        Answer::Endless(head) => {
            let _ = wire.stream.write_all(head.as_bytes()).await;
            let body = vec![b' '; 64 * 1024];
            while wire.stream.write_all(&body).await.is_ok() {}
        }
    }
}

/// Who asked may have gone.
async fn send(wire: &mut Wire, bytes: &[u8]) {
    if wire.stream.write_all(bytes).await.is_ok() {
        let _ = wire.stream.shutdown().await;
    }
}
