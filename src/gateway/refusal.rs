//! A handshake that is refused: by Close where a page could not see the status, else by HTTP. I/O.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Response, StatusCode};
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

/// A handshake that is refused, and how.
pub(crate) struct Refusal {
    rejection: Rejection,
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
        Self { rejection, by_close: None, unrecorded, _address: None }
    }
}

impl Gateway {
    /// How a rejection is sent to the client of this request.
    pub(super) fn refusal(
        &self,
        rejection: Rejection,
        request: &UpgradeRequest,
        facts: Facts,
        address: Option<AddressPlace>,
    ) -> Refusal {
        if let (Rejection::UpstreamRefused { status }, Some(route)) = (&rejection, facts.route_id) {
            self.telemetry().upstream_refused(route, *status);
        }
        let by_close = self.refusing_close(&rejection, request, &facts);
        Refusal { rejection, by_close, unrecorded: Unrecorded::new(facts), _address: address }
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
        let Refusal { rejection, by_close, unrecorded, _address } = refusal;
        let by_close = by_close.and_then(|close| {
            // A socket kept open for a refusal is expensive: past a tenth of all, HTTP it is.
            let pools = &self.process().connections;
            let place = pools.take_refusing_close(&self.config().limits)?;
            Some((close, place))
        });
        let sent = match by_close {
            Some((close, place)) => {
                send_close(http, close, place, rejection.label().as_str()).await
            }
            None => self.send_response(http, &rejection, unrecorded.facts()).await,
        };
        let refused = Refused { label: rejection.label(), status: sent.status.as_u16() };
        let (by, phase) = rejection.by_and_phase();
        let mut record = unrecorded.ended(Outcome::Refused(refused), by, phase);
        record.detail = Some(rejection.to_string());
        record.client_close = sent.close;
        // The client may ask at once why it was refused: that is not to wait for the connection's end.
        self.telemetry().connection_recorded(record);
        if let Some(mut left) = sent.left {
            let _ = timeout_at(sent.deadline.into(), linger::shut_down(&mut left.stream)).await;
        }
    }

    async fn send_response(
        &self,
        http: HttpConnection,
        rejection: &Rejection,
        facts: &Arc<Facts>,
    ) -> Sent {
        let response = refusal_response(rejection, &facts.id.to_string());
        let status = response.status();
        let deadline = Instant::now() + self.config().timeouts.close;
        let finished = timeout_at(deadline.into(), http.finish(response.map(Full::from))).await;
        let left = finished.ok().map(|finished| Left { stream: finished.stream, _place: None });
        Sent { status, close: CloseStatus::None, left, deadline }
    }
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

/// How long a socket is kept for a refusal by Close.
const REFUSING_CLOSE: Duration = Duration::from_secs(1);
