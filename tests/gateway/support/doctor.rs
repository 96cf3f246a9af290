//! `framegate doctor` against servers that are broken in a known way.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::Value;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::backend::Asked;
use super::command::run;
use super::tls::Signed;
use super::wire::{CLOSE, PING, PONG};
use super::{Backend, Wire, within};

/// The steps with the exit code of each.
const STEPS: [(&str, i32); 9] = [
    ("dns", 10),
    ("tcp", 11),
    ("tls", 12),
    ("upgrade", 13),
    ("extensions", 14),
    ("auth", 15),
    ("messages", 16),
    ("ping", 17),
    ("close", 18),
];

/// What doctor said with `--json`, and its exit code.
pub struct Walked {
    pub code: i32,
    pub json: Value,
}

/// Runs `framegate doctor ARGUMENTS`: exit code, standard output and error.
pub async fn doctor(arguments: &[&str]) -> (i32, String, String) {
    let ran = run(&[&["doctor"], arguments].concat()).await;
    (ran.code, ran.stdout, ran.stderr)
}

/// Runs it with `--json`; standard error must stay empty.
pub async fn examine(url: &str, options: &[&str]) -> Walked {
    let (code, stdout, stderr) = doctor(&[&[url, "--json"], options].concat()).await;
    assert_eq!(stderr, "", "{url}");
    assert_eq!(stdout.lines().count(), 1, "one line of JSON: {stdout}");
    Walked { code, json: serde_json::from_str(&stdout).unwrap() }
}

impl Walked {
    /// It failed at this step for this cause (a part of it), and every step before is fine.
    pub fn expect(&self, what: &str, step: &str, cause: &str) {
        let said = format!("{what}: {:#}", self.json);
        let (_, code) = STEPS.into_iter().find(|(name, _)| *name == step).expect(step);
        assert_eq!((self.code, &self.json["failed"]), (code, &step.into()), "{said}");
        assert_eq!(self.json["ok"], false, "{said}");
        let (last, before) = self.steps().split_last().unwrap();
        assert_eq!((&last["name"], &last["ok"]), (&step.into(), &false.into()), "{said}");
        assert!(before.iter().all(|step| step["ok"] == true), "{said}");
        self.in_order(&said);
        assert!(text(&last["cause"]).contains(cause), "{cause:?} is not the cause: {said}");
        assert!(text(&last["cure"]).len() > 10, "{said}");
        assert!(!text(&last["seen"]).is_empty(), "{said}");
    }

    /// All nine steps are fine.
    pub fn expect_ok(&self, what: &str) {
        let said = format!("{what}: {:#}", self.json);
        let found = (self.code, &self.json["ok"], &self.json["failed"], self.steps().len());
        assert_eq!(found, (0, &true.into(), &Value::Null, 9), "{said}");
        self.in_order(&said);
    }

    /// What a step saw.
    pub fn seen(&self, step: &str) -> &str {
        text(&self.step(step)["seen"])
    }

    /// The warning of a step that is fine.
    pub fn warning(&self, step: &str) -> &str {
        self.step(step)["cause"].as_str().unwrap_or_default()
    }

    /// What is to be done about a step.
    pub fn cure(&self, step: &str) -> &str {
        self.step(step)["cure"].as_str().unwrap_or_default()
    }

    fn step(&self, name: &str) -> &Value {
        let found = self.steps().iter().find(|step| step["name"] == name);
        found.unwrap_or_else(|| panic!("no step {name}: {:#}", self.json))
    }

    fn steps(&self) -> &[Value] {
        self.json["steps"].as_array().unwrap()
    }

    fn in_order(&self, said: &str) {
        let at = |step: &Value| STEPS.iter().position(|(name, _)| step["name"] == *name);
        let places: Vec<_> = self.steps().iter().map(|step| at(step).expect(said)).collect();
        assert!(places.is_sorted(), "{said}");
        assert!(self.steps().iter().all(|step| step["ms"].is_f64()), "{said}");
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}"))
}

/// Acts so on every request, for as long as the test runs.
pub async fn serving<F>(act: impl Fn(Asked) -> F + Send + Sync + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let backend = Backend::start().await;
    let address = backend.address();
    let act = Arc::new(act);
    tokio::spawn(async move {
        loop {
            let stream = backend.accept_whenever().await;
            let act = Arc::clone(&act);
            // A connection on the side may say nothing.
            tokio::spawn(async move {
                if let Some(asked) = Asked::try_read(stream).await {
                    act(asked).await;
                }
            });
        }
    });
    address
}

/// Answers Pings, and Close by Close.
pub async fn polite(wire: Wire) {
    let (mut wire, close) = until_close(wire).await;
    if let Some(payload) = close {
        wire.send(CLOSE, &payload).await;
    }
}

/// Answers Pings up to the client's Close, whose payload is returned; `None`: the client is gone.
pub async fn until_close(mut wire: Wire) -> (Wire, Option<Vec<u8>>) {
    while let Some(frame) = wire.frame().await {
        match frame.first {
            CLOSE => return (wire, Some(frame.payload)),
            PING => wire.send(PONG, &frame.payload).await,
            _ => {}
        }
    }
    (wire, None)
}

/// A server with this certificate, which only shakes hands.
pub async fn tls_server(signed: &Signed) -> SocketAddr {
    let key = PrivateKeyDer::try_from(signed.key.serialize_der()).unwrap();
    let chain = vec![signed.certificate.der().clone()];
    let config = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let backend = Backend::start().await;
    let address = backend.address();
    tokio::spawn(async move {
        loop {
            let (stream, acceptor) = (backend.accept_whenever().await, acceptor.clone());
            tokio::spawn(async move {
                // A client that does not trust it goes away.
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let Some(asked) = Asked::try_read(stream).await else { return };
                polite(asked.accept("").await).await;
            });
        }
    });
    address
}
