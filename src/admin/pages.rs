//! The pages of the admin listener and their answers. Pure.
//!
//! A further page is a variant of [`Page`]: the compiler asks for its path, its methods, whether it
//! is open to callers without token, and its answer.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};

use super::AdminState;

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// `/metrics`: the scrape.
    Metrics,
    /// `/healthz`: the process is alive.
    Health,
    /// `/readyz`: it should get connections.
    Ready,
}

impl Page {
    /// All pages.
    pub const ALL: &'static [Self] = &[Self::Metrics, Self::Health, Self::Ready];

    /// Where it is.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Metrics => "/metrics",
            Self::Health => "/healthz",
            Self::Ready => "/readyz",
        }
    }

    /// Whether it answers without token: probes have none, and these say nothing of users.
    pub const fn is_open(self) -> bool {
        match self {
            Self::Health | Self::Ready => true,
            Self::Metrics => false,
        }
    }

    /// Value of Allow.
    const fn methods(self) -> &'static str {
        match self {
            Self::Metrics | Self::Health | Self::Ready => "GET, HEAD",
        }
    }
}

/// The page at `path` (without query).
pub fn route(path: &str) -> Option<Page> {
    Page::ALL.iter().copied().find(|page| page.path() == path)
}

/// The answer to a request that passed the guards; without page 404, with a wrong method 405.
pub fn answer(page: Option<Page>, method: &Method, state: &dyn AdminState) -> Response<Bytes> {
    let Some(page) = page else {
        return plain(StatusCode::NOT_FOUND, "there is no such page\n");
    };
    if !page.methods().split(", ").any(|allowed| allowed == method.as_str()) {
        let answer = plain(StatusCode::METHOD_NOT_ALLOWED, "this page does not take that method\n");
        return with(answer, ALLOW, page.methods());
    }
    match page {
        Page::Metrics => {
            let scrape = state.scrape();
            with(plain(StatusCode::OK, scrape.body), CONTENT_TYPE, scrape.content_type)
        }
        Page::Health => plain(StatusCode::OK, "ok\n"),
        Page::Ready => ready(state),
    }
}

/// 200, or 503 with a line for each reason.
fn ready(state: &dyn AdminState) -> Response<Bytes> {
    let reasons = state.unready();
    if reasons.is_empty() {
        return plain(StatusCode::OK, "ready\n");
    }
    let mut body = "not ready\n".to_owned();
    for reason in reasons {
        body.push_str(&format!("{reason}\n"));
    }
    plain(StatusCode::SERVICE_UNAVAILABLE, body)
}

/// An answer in plain text.
pub(super) fn plain(status: StatusCode, body: impl Into<Bytes>) -> Response<Bytes> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let response = with(response, CONTENT_TYPE, "text/plain; charset=utf-8");
    // The state of a moment, and nothing a browser should take for a page or script.
    let response = with(response, CACHE_CONTROL, "no-store");
    with(response, X_CONTENT_TYPE_OPTIONS, "nosniff")
}

/// `response` with a header set.
pub(super) fn with(
    mut response: Response<Bytes>,
    name: HeaderName,
    value: &'static str,
) -> Response<Bytes> {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
    response
}
