//! Answers of the admin listener, as text and as JSON, and what is answered when there is none. Pure.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde::Serialize;

use crate::gateway::guards::Denied;

/// A request that passed the guards and cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    status: StatusCode,
    /// What is wrong and what to do: one sentence without its full stop.
    error: String,
    /// Value of Allow, with 405.
    allow: Option<String>,
}

/// How errors are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A line.
    Text,
    /// `{"error":"…"}`
    Json,
}

impl Form {
    /// What is asked for below this path.
    pub(crate) fn of(path: &str) -> Self {
        let is_json = path.starts_with("/api/") || path.starts_with("/health/");
        if is_json { Self::Json } else { Self::Text }
    }

    /// An error's answer.
    pub(crate) fn error(self, status: StatusCode, error: &str) -> Response<Bytes> {
        #[derive(Serialize)]
        struct Error<'a> {
            error: &'a str,
        }
        match self {
            Self::Text => plain(status, format!("{error}\n")),
            Self::Json => json(status, &Error { error }),
        }
    }
}

impl Failure {
    /// 400: the request itself is wrong.
    pub(crate) fn bad(error: String) -> Self {
        Self { status: StatusCode::BAD_REQUEST, error, allow: None }
    }

    /// 404: there is no such thing.
    pub(crate) fn missing(error: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, error: error.into(), allow: None }
    }

    /// 405: not with this method; `allow` are those it takes.
    pub(crate) fn method(allow: String) -> Self {
        let error = "this page does not take that method".to_owned();
        Self { status: StatusCode::METHOD_NOT_ALLOWED, error, allow: Some(allow) }
    }

    /// 409: not in the state the gateway is in.
    pub(crate) fn conflict(error: String) -> Self {
        Self { status: StatusCode::CONFLICT, error, allow: None }
    }

    /// The answer.
    pub(crate) fn into_response(self, form: Form) -> Response<Bytes> {
        let mut response = form.error(self.status, &self.error);
        if let Some(allow) = self.allow.and_then(|allow| HeaderValue::from_str(&allow).ok()) {
            response.headers_mut().insert(ALLOW, allow);
        }
        response
    }
}

/// The answer to a request that the guards do not let pass, with the rule as its text.
pub(crate) fn denied(denied: Denied, form: Form) -> Response<Bytes> {
    let response = form.error(denied.status(), &denied.to_string());
    match denied {
        Denied::Token => with(response, WWW_AUTHENTICATE, "Bearer realm=\"framegate\""),
        Denied::Host | Denied::Origin | Denied::Header => response,
    }
}

/// An answer in JSON.
pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Response<Bytes> {
    let body =
        serde_json::to_vec(body).expect("keys are text, and nothing here fails to serialize");
    let response = plain(status, body);
    with(response, CONTENT_TYPE, "application/json")
}

/// An answer in plain text.
pub(crate) fn plain(status: StatusCode, body: impl Into<Bytes>) -> Response<Bytes> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let response = with(response, CONTENT_TYPE, "text/plain; charset=utf-8");
    // The state of a moment, and nothing a browser should take for a page or script.
    let response = with(response, CACHE_CONTROL, "no-store");
    with(response, X_CONTENT_TYPE_OPTIONS, "nosniff")
}

/// `response` with a header set.
pub(crate) fn with(
    mut response: Response<Bytes>,
    name: HeaderName,
    value: &'static str,
) -> Response<Bytes> {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
    response
}
