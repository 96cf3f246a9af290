//! The demo's web chat page and the switch of its backend: a small HTTP server on loopback.
//!
//! Any web site a person visits can send requests to loopback, so: Host must be a loopback name (a
//! rebound DNS name is 421), the tokens are readable by the page's own origin only, and what
//! changes something needs a header that no foreign page can send without a preflight, which is
//! never granted.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::backend::{Backend, Phase};

/// What the page server serves and switches.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    /// URLs and tokens, see [`super::text::facts`].
    pub(crate) facts: Value,
    /// The backend behind the gateway.
    pub(crate) backend: Backend,
}

/// Serves `page` on `listener` until `shutdown`; connections are spawned on `tracker`.
pub(crate) async fn serve(
    listener: TcpListener,
    page: Page,
    tracker: TaskTracker,
    shutdown: CancellationToken,
) {
    let page = Arc::new(page);
    let accept = async {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    tracker.spawn(connection(stream, page.clone(), shutdown.clone()));
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    };
    tokio::select! {
        () = accept => {}
        () = shutdown.cancelled() => {}
    }
}

async fn connection(stream: TcpStream, page: Arc<Page>, shutdown: CancellationToken) {
    let service = service_fn(move |request| {
        let page = page.clone();
        async move { Ok::<_, Infallible>(page.answer(&request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        _ = connection => {}
        () = shutdown.cancelled() => {}
    }
}

impl Page {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if let Err(refused) = permitted(request.method(), request.headers()) {
            return plain(refused.status(), refused.to_string());
        }
        match (request.method(), request.uri().path()) {
            (&Method::GET | &Method::HEAD, "/") => self.html(),
            (&Method::GET | &Method::HEAD, "/demo.json") => json(&self.facts),
            (&Method::GET | &Method::HEAD, "/backend") => phase(self.backend.phase()),
            (&Method::POST, "/backend/stop") => phase(self.backend.switch(Phase::Down).await),
            (&Method::POST, "/backend/start") => phase(self.backend.switch(Phase::Up).await),
            _ => plain(StatusCode::NOT_FOUND, "not here; the chat page is at /".to_owned()),
        }
    }

    fn html(&self) -> Response<Full<Bytes>> {
        let mut bits = [0; 16];
        if aws_lc_rs::default_provider().secure_random.fill(&mut bits).is_err() {
            return plain(StatusCode::INTERNAL_SERVER_ERROR, "no randomness".to_owned());
        }
        let nonce = BASE64_STANDARD.encode(bits);
        let html = HTML.replace("{{nonce}}", &nonce);
        let policy = HeaderValue::try_from(self.policy(&nonce));
        let mut response = answer(StatusCode::OK, "text/html; charset=utf-8", html);
        if let Ok(policy) = policy {
            response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
        }
        response
    }

    /// The page may run its own script and style and connect to the gateway, nothing else.
    fn policy(&self, nonce: &str) -> String {
        let origin = |name: &str| {
            let url = self.facts.get(name).and_then(Value::as_str).unwrap_or_default();
            url.split('/').take(3).collect::<Vec<_>>().join("/")
        };
        format!(
            "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; \
             connect-src 'self' {} {}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            origin("ws"),
            origin("wss"),
        )
    }
}

/// Why a request is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Refused {
    #[error("this server answers to loopback names only")]
    Host,
    #[error("another origin")]
    Origin,
    #[error("send the header X-Framegate: 1")]
    Header,
}

impl Refused {
    fn status(self) -> StatusCode {
        match self {
            Self::Host => StatusCode::MISDIRECTED_REQUEST,
            Self::Origin | Self::Header => StatusCode::FORBIDDEN,
        }
    }
}

fn permitted(method: &Method, headers: &HeaderMap) -> Result<(), Refused> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let host = text(header::HOST).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, port)| {
        if port.bytes().all(|byte| byte.is_ascii_digit()) { name } else { host }
    });
    if !["127.0.0.1", "localhost", "[::1]"].contains(&name.to_ascii_lowercase().as_str()) {
        return Err(Refused::Host);
    }
    if headers.contains_key(header::ORIGIN)
        && text(header::ORIGIN).and_then(|origin| origin.strip_prefix("http://")) != Some(host)
    {
        return Err(Refused::Origin);
    }
    let safe = matches!(*method, Method::GET | Method::HEAD);
    if !safe && headers.get("x-framegate").is_none_or(|value| value != "1") {
        return Err(Refused::Header);
    }
    Ok(())
}

fn phase(phase: Phase) -> Response<Full<Bytes>> {
    json(&json!({ "running": phase == Phase::Up }))
}

fn json(value: &Value) -> Response<Full<Bytes>> {
    answer(StatusCode::OK, "application/json", value.to_string())
}

fn plain(status: StatusCode, mut text: String) -> Response<Full<Bytes>> {
    text.push('\n');
    answer(status, "text/plain; charset=utf-8", text)
}

fn answer(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

const HTML: &str = include_str!("page.html");
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(rows: &[(&'static str, &'static str)]) -> HeaderMap {
        let row = |&(name, value)| {
            (header::HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        rows.iter().map(row).collect()
    }

    #[test]
    fn only_loopback_names_are_answered() {
        for (host, expected) in [
            ("127.0.0.1:8000", Ok(())),
            ("localhost:8000", Ok(())),
            ("LocalHost", Ok(())),
            ("[::1]:8000", Ok(())),
            ("evil.example", Err(Refused::Host)),
            ("127.0.0.1.evil.example:8000", Err(Refused::Host)),
            ("localhost:evil.example", Err(Refused::Host)),
            ("", Err(Refused::Host)),
        ] {
            assert_eq!(permitted(&Method::GET, &headers(&[("host", host)])), expected, "{host}");
        }
        assert_eq!(permitted(&Method::GET, &headers(&[])), Err(Refused::Host));
    }

    #[test]
    fn another_origin_is_refused_whatever_it_asks() {
        for (origin, expected) in [
            ("http://localhost:8000", Ok(())),
            ("https://localhost:8000", Err(Refused::Origin)),
            ("http://localhost:9000", Err(Refused::Origin)),
            ("http://evil.example", Err(Refused::Origin)),
            ("null", Err(Refused::Origin)),
        ] {
            let headers =
                headers(&[("host", "localhost:8000"), ("origin", origin), ("x-framegate", "1")]);
            assert_eq!(permitted(&Method::GET, &headers), expected, "{origin}");
            assert_eq!(permitted(&Method::POST, &headers), expected, "{origin}");
        }
    }

    #[test]
    fn what_changes_something_needs_the_header() {
        let without = headers(&[("host", "localhost")]);
        let with = headers(&[("host", "localhost"), ("x-framegate", "1")]);
        assert_eq!(permitted(&Method::POST, &without), Err(Refused::Header));
        assert_eq!(permitted(&Method::DELETE, &without), Err(Refused::Header));
        assert_eq!(permitted(&Method::POST, &with), Ok(()));
    }

    #[test]
    fn the_page_loads_nothing_from_elsewhere_and_inserts_no_markup() {
        assert_eq!(HTML.matches("nonce=\"{{nonce}}\"").count(), 2, "one script, one style");
        for never in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            " src=",
            " style=",
            "://",
        ] {
            assert!(!HTML.contains(never), "{never}");
        }
    }
}
