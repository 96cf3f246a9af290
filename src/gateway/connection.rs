//! What becomes of one client connection, from accept to session or refusal. I/O.
//!
//! [`serve`] is the first half of the spine: PROXY header and TLS, request head, then the decision of
//! [`Gateway::handle`], then either the session or an honest refusal. Whatever happens, it is
//! recorded once.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::header::{CONNECTION, UPGRADE};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use tokio::io::AsyncWriteExt;
use tokio::time::{timeout, timeout_at};

use super::accept::{Arrival, ConnectionPlaces};
use super::{Accepted, Caller, Gateway, Refusal};
use crate::listener::Listener;
use crate::listener::establish::{GaveUp, establish};
use crate::listener::http::HttpConnection;
use crate::net::linger;
use crate::net::stream::Stream;
use crate::outcome::blame::{By, Phase};
use crate::outcome::refusal::refusal as refusal_response;
use crate::pages;
use crate::protocol::ws::close::CloseStatus;
use crate::protocol::ws::message::{self, Masking};
use crate::relay;
use crate::session::record::{Outcome, Refused, SessionRecord};

/// Serves one connection to its end, or to where its session becomes a task of its own.
pub(crate) async fn serve(gateway: Arc<Gateway>, listener: Arc<Listener>, arrival: Arrival) {
    let Arrival { tcp, peer: direct, at, mut places, refusal, under_way } = arrival;
    let (label, now) = (Arc::clone(&listener.label), SystemTime::now());
    let mut record = SessionRecord::new(gateway.new_id(), label, direct, now);
    let timeouts = &gateway.config().timeouts;

    let established = establish(&listener, tcp, direct, at, timeouts, &mut record).await;
    let (stream, peer) = match established {
        Ok(established) => established,
        Err(why) => return gave_up(&gateway, record, why),
    };

    let began = Instant::now();
    let mut http = HttpConnection::new(stream, timeouts.request_head);
    let head = match http.next().await {
        Ok(head) => head,
        Err(why) => {
            let why = GaveUp::from(why);
            // hyper may just have answered; who let the time pass is waited for no more.
            if why.by == By::Client {
                linger(&gateway, http.into_stream()).await;
            }
            return gave_up(&gateway, record, why);
        }
    };
    if let Some(answer) = own_answer(&gateway, &listener, &head) {
        return answer_and_close(&gateway, http, answer).await;
    }
    record.steps.request = Some(began.elapsed());

    let mut route = None;
    let decision = {
        let places = &mut places;
        let from = Caller { listener: &listener, peer, places, refusal, route: &mut route };
        let mut handled = Box::pin(gateway.handle(head, from, &mut record));
        tokio::select! {
            biased;
            decision = &mut handled => Some(decision),
            () = http.gone() => None,
            () = gateway.environment().abort.cancelled() => None,
        }
    };
    drop(under_way);
    match decision {
        Some(Ok(accepted)) => begin_session(gateway, http, accepted, record, places).await,
        Some(Err(refusal)) => refuse(&gateway, http, refusal, route, record).await,
        None => abandoned(&gateway, record, route),
    }
}

/// What the gateway answers by itself: to a balancer in front that asks whether we are well, and to a
/// browser that wants the page that tries connections out, where the listener has it. Neither is an
/// event to record, and the connection is closed, so that it cannot hold a place.
fn own_answer(
    gateway: &Gateway,
    listener: &Listener,
    head: &Parts,
) -> Option<Response<Full<Bytes>>> {
    // HEAD is what some monitors ask with; the body is left out by hyper then.
    if head.method != Method::GET && head.method != Method::HEAD {
        return None;
    }
    match head.uri.path() {
        HEALTH => Some(health(gateway)),
        TESTER if listener.config.doctor && !head.headers.contains_key(UPGRADE) => {
            Some(pages::tester().map(Full::new))
        }
        _ => None,
    }
}

fn health(gateway: &Gateway) -> Response<Full<Bytes>> {
    let (status, text) = if gateway.unready().is_empty() {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response
}

/// Gives an answer that says that it is the connection's last.
async fn answer_and_close(
    gateway: &Gateway,
    http: HttpConnection,
    mut response: Response<Full<Bytes>>,
) {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer_and_end(gateway, http, response).await;
}

/// Answers 101 and starts the session as a task of its own, so that what only the handshake needed
/// is freed.
async fn begin_session(
    gateway: Arc<Gateway>,
    http: HttpConnection,
    accepted: Accepted,
    record: SessionRecord,
    places: ConnectionPlaces,
) {
    let answered = http.finish(without_body(accepted.response));
    let Ok((client, from_client)) = timeout(gateway.config().timeouts.close, answered).await else {
        return abandoned(&gateway, record, Some(accepted.route));
    };
    gateway.telemetry().handshake_accepted(accepted.route, &record.steps);
    let opening = relay::Opening {
        client,
        from_client,
        upstream: accepted.upstream,
        from_upstream: accepted.from_upstream,
        route: accepted.route,
        handle: accepted.handle,
        places: accepted.places,
        connection: places,
    };
    gateway.tasks().spawn(relay::run(Arc::clone(gateway.environment()), opening));
}

/// Tells a refusal, by Close or by HTTP, and records it.
async fn refuse(
    gateway: &Gateway,
    http: HttpConnection,
    refusal: Refusal,
    route: Option<usize>,
    mut record: SessionRecord,
) {
    let rejection = &refusal.rejection;
    let label = rejection.label();
    record.detail = Some(rejection.to_string());
    (record.by, record.phase) = rejection.by_and_phase();
    let by_close = refusal.by_close.and_then(|told| {
        // A socket kept open for a refusal is dear: past a tenth of all, it is told by HTTP.
        let pools = &gateway.process().connections;
        let place = pools.take_refusing_close(&gateway.config().limits)?;
        Some((told, place))
    });
    let (deadline, status, answered) = if let Some((told, place)) = by_close {
        let frame = message::close(Some(told.code), label.as_str(), Masking::None);
        let close = &mut record.client_close;
        let farewell = async {
            let (mut stream, _) = http.finish(without_body(told.response)).await;
            if stream.write_all(&frame).await.is_ok() && stream.flush().await.is_ok() {
                *close = CloseStatus::Code(told.code);
            }
            (stream, Some(place))
        };
        let deadline = Instant::now() + REFUSING_CLOSE;
        let answered = timeout_at(deadline.into(), farewell).await;
        (deadline, StatusCode::SWITCHING_PROTOCOLS, answered)
    } else {
        let response = refusal_response(rejection, &record.id.to_string());
        let status = response.status();
        let farewell = async { (http.finish(response.map(Full::from)).await.0, None) };
        let deadline = Instant::now() + gateway.config().timeouts.close;
        (deadline, status, timeout_at(deadline.into(), farewell).await)
    };
    record.outcome = Outcome::Refused(Refused { label, status: status.as_u16() });
    // Who was refused may ask at once why: that is not to wait for the end of the connection.
    gateway.telemetry().connection_recorded(&record, route);
    if let Ok((mut stream, _place)) = answered {
        let _ = timeout_at(deadline.into(), linger::shut_down(&mut stream)).await;
    }
}

/// Gives the last answer on a connection and ends it so that the answer arrives.
async fn answer_and_end(gateway: &Gateway, http: HttpConnection, response: Response<Full<Bytes>>) {
    let ended = async {
        let (mut stream, _) = http.finish(response).await;
        linger::shut_down(&mut stream).await;
    };
    let _ = timeout(gateway.config().timeouts.close, ended).await;
}

/// Ends a connection so that the client can read what it was answered.
async fn linger(gateway: &Gateway, mut stream: Stream) {
    let _ = timeout(gateway.config().timeouts.close, linger::shut_down(&mut stream)).await;
}

/// Records a connection that never came to a request.
fn gave_up(gateway: &Gateway, mut record: SessionRecord, why: GaveUp) {
    record.outcome = Outcome::NoRequest(why.reason);
    record.by = why.by;
    record.phase = why.phase;
    record.detail = why.detail;
    gateway.telemetry().connection_recorded(&record, None);
}

/// The client left while its request was being decided.
fn abandoned(gateway: &Gateway, mut record: SessionRecord, route: Option<usize>) {
    let is_admitted = record.steps.admission.is_some();
    record.phase = if is_admitted { Phase::Connect } else { Phase::Admission };
    gateway.telemetry().connection_recorded(&record, route);
}

fn without_body(response: Response<()>) -> Response<Full<Bytes>> {
    response.map(|()| Full::default())
}

/// Where balancers in front ask.
const HEALTH: &str = "/.framegate/health";
/// Where the connection tester is, on listeners that have it.
const TESTER: &str = "/.framegate/doctor";
/// How long a socket is kept for a refusal by Close.
const REFUSING_CLOSE: Duration = Duration::from_secs(1);
