//! A handshake that is refused: by Close where a page could not see the status, else by HTTP. I/O.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONNECTION, HeaderName, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout_at;

use super::Gateway;
use super::accept::SocketPlace;
use crate::admission::limits::{AddressPlace, Place};
use crate::handshake::request::UpgradeRequest;
use crate::handshake::{response, subprotocol};
use crate::listener::http::HttpConnection;
use crate::net::linger;
use crate::net::stream::Stream;
use crate::outcome::close_codes::RefuseMode;
use crate::outcome::refusal::refusal as refusal_response;
use crate::outcome::rejection::Rejection;
use crate::protocol::ws::close::CloseStatus;
use crate::protocol::ws::message::{self, Masking};
use crate::session::record::{Facts, Outcome, Refused, Unrecorded};
use crate::upstream::open::Denied;
use crate::upstream::refused::RefusedAnswer;

/// A handshake that is refused, and how.
pub(crate) struct Refusal {
    rejection: Rejection,
    /// The backend's own refusal, which is passed on where it goes by HTTP.
    answer: Option<Box<RefusedAnswer>>,
    /// By Close, if a place for that can be had; else by HTTP.
    by_close: Option<RefusingClose>,
    unrecorded: Unrecorded,
    /// Held until the socket is closed.
    _address: Option<AddressPlace>,
}

/// A refusal by Close: accepted, and closed at once.
struct RefusingClose {
    response: Response<()>,
    code: u16,
}

/// How a refusal was sent.
struct Sent {
    status: StatusCode,
    close: CloseStatus,
    /// If all was written in time.
    left: Option<Left>,
    deadline: Instant,
}

/// A refused connection that is still open.
struct Left {
    stream: Stream,
    /// Its place among those that are refused by Close.
    _place: Option<Place>,
}

impl Refusal {
    pub(super) fn by_http(rejection: Rejection, facts: Facts) -> Self {
        let unrecorded = Unrecorded::new(facts);
        Self { rejection, answer: None, by_close: None, unrecorded, _address: None }
    }
}

impl Gateway {
    /// How a rejection is sent to the client of this request.
    pub(super) fn refusal(
        &self,
        denied: Denied,
        request: &UpgradeRequest,
        facts: Facts,
        address: Option<AddressPlace>,
    ) -> Refusal {
        let Denied { rejection, answer } = denied;
        if let (Rejection::UpstreamRefused { status }, Some(route)) = (&rejection, facts.route_id) {
            self.telemetry().upstream_refused(route, *status);
        }
        let by_close = self.refusing_close(&rejection, request, &facts);
        let unrecorded = Unrecorded::new(facts);
        Refusal { rejection, answer, by_close, unrecorded, _address: address }
    }

    fn refusing_close(
        &self,
        rejection: &Rejection,
        request: &UpgradeRequest,
        facts: &Facts,
    ) -> Option<RefusingClose> {
        let config = self.config();
        let mode = facts.route_id.map_or(RefuseMode::Auto, |route| config.route(route).refuse);
        if !rejection.is_told_by_close(mode, request.origin.is_some()) {
            return None;
        }
        let tokens = self.token_entries(facts.route_id, request);
        let chosen = subprotocol::without_upstream(&request.offered, &tokens);
        let code = rejection.close_code(&config.close_codes, chosen.as_deref())?;
        let response = response::switching(request, chosen.as_deref(), &facts.id.to_string());
        Some(RefusingClose { response, code })
    }

    /// Sends a refusal and records it; then the connection ends so that the client can read it.
    pub(super) async fn refuse(&self, http: HttpConnection, refusal: Refusal, _place: SocketPlace) {
        let Refusal { rejection, answer, by_close, unrecorded, _address } = refusal;
        let by_close = by_close.and_then(|close| {
            // A socket kept open for a refusal is expensive: past a tenth of all, HTTP it is.
            let pools = &self.process().connections;
            let place = pools.take_refusing_close(&self.config().limits)?;
            Some((close, place))
        });
        let sent = match by_close {
            Some((close, place)) => {
                let label = rejection.label();
                let retry = answer.as_ref().and_then(|answer| answer.retry_after());
                let reason = match retry {
                    Some(seconds) => format!("{label};retry={seconds}s"),
                    None => label.to_string(),
                };
                send_close(http, close, place, &reason).await
            }
            None => {
                let id = unrecorded.facts().id.to_string();
                let response = match &answer {
                    Some(answer) => passed_on(answer, &rejection, &id),
                    None => refusal_response(&rejection, &id).map(Bytes::from),
                };
                self.send_response(http, response).await
            }
        };
        if matches!(rejection, Rejection::AddressLimit | Rejection::RateLimited { .. }) {
            self.suspect_a_proxy(unrecorded.facts());
        }
        let refused = Refused { label: rejection.label(), status: sent.status.as_u16() };
        let (by, phase) = rejection.by_and_phase();
        let mut record = unrecorded.ended(Outcome::Refused(refused), by, phase);
        let excerpt = answer.and_then(|answer| answer.excerpt());
        let said = excerpt.map_or_else(String::new, |text| format!("; it says: {text}"));
        record.detail = Some(format!("{rejection}{said}"));
        record.client_close = sent.close;
        // The client may ask at once why it was refused: that is not to wait for the connection's end.
        self.telemetry().connection_recorded(record);
        if let Some(mut left) = sent.left {
            let _ = timeout_at(sent.deadline.into(), linger::shut_down(&mut left.stream)).await;
        }
    }

    /// Behind a balancer that is not known as one, all clients have its address and share its limits. Said once
    /// for each listener.
    fn suspect_a_proxy(&self, facts: &Facts) {
        let client = facts.client.ip().to_canonical();
        let is_private = match client {
            IpAddr::V4(address) => address.is_private() || address.is_loopback(),
            IpAddr::V6(address) => address.is_unique_local() || address.is_loopback(),
        };
        if is_private && self.process().suspected.insert(Arc::clone(&facts.listener)) {
            self.telemetry().proxy_suspected(&facts.listener, client);
        }
    }

    async fn send_response(&self, http: HttpConnection, response: Response<Bytes>) -> Sent {
        let status = response.status();
        let deadline = Instant::now() + self.config().timeouts.close;
        let finished = timeout_at(deadline.into(), http.finish(response.map(Full::from))).await;
        let left = finished.ok().map(|finished| Left { stream: finished.stream, _place: None });
        Sent { status, close: CloseStatus::None, left, deadline }
    }
}

/// A backend's refusal for the client: all of it but what is the hop's. A success is none, and its body would
/// mislead.
fn passed_on(answer: &RefusedAnswer, rejection: &Rejection, id: &str) -> Response<Bytes> {
    let own = refusal_response(rejection, id);
    let mut response = match StatusCode::from_u16(answer.status) {
        Ok(status) if !status.is_success() => {
            let mut response = Response::new(Bytes::from(answer.body.clone()));
            *response.status_mut() = status;
            for (name, value) in &answer.headers {
                let name = HeaderName::try_from(name.as_str());
                if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
                    response.headers_mut().append(name, value);
                }
            }
            response
        }
        _ => own.clone().map(Bytes::from),
    };
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    if !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    headers.insert(X_FRAMEGATE_REFUSAL, HeaderValue::from_static(rejection.label().as_str()));
    for name in [X_REQUEST_ID, WWW_AUTHENTICATE] {
        if let (Some(value), false) = (own.headers().get(&name), headers.contains_key(&name)) {
            headers.insert(name, value.clone());
        }
    }
    response
}

async fn send_close(
    http: HttpConnection,
    close: RefusingClose,
    place: Place,
    reason: &str,
) -> Sent {
    let frame = message::close(Some(close.code), reason, Masking::None);
    let deadline = Instant::now() + REFUSING_CLOSE;
    let mut sent = CloseStatus::None;
    let sending = async {
        let head = response::to_bytes(&close.response, &[]);
        let mut stream = http.switch(&head).await.stream;
        if stream.write_all(&frame).await.is_ok() && stream.flush().await.is_ok() {
            sent = CloseStatus::Code(close.code);
        }
        Left { stream, _place: Some(place) }
    };
    let left = timeout_at(deadline.into(), sending).await.ok();
    Sent { status: StatusCode::SWITCHING_PROTOCOLS, close: sent, left, deadline }
}

const X_FRAMEGATE_REFUSAL: HeaderName = HeaderName::from_static("x-framegate-refusal");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// How long a socket is kept for a refusal by Close.
const REFUSING_CLOSE: Duration = Duration::from_secs(1);
