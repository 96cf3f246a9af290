//! One client connection, from accept to its end or to its session. I/O.
//!
//! [`serve`] is the first half of the spine: PROXY header and TLS once, then one request after another.
//! Each is decided by [`Gateway::handle`] with the configuration in force when its head arrives. What
//! comes of it is a session, an answer of our own, or a refusal, and it is recorded once.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::Gateway;
use super::accept::{Arrival, SocketPlace};
use super::exchange::{Exchange, Handled, Session, abandoned};
use super::process::Current;
use crate::handshake::request::BadRequest;
use crate::handshake::response;
use crate::listener::establish::{GaveUp, read_proxy_header, secure};
use crate::listener::http::{Finished, HeadLength, HttpConnection, NoRequest};
use crate::listener::{Listener, Peer};
use crate::net::linger;
use crate::net::stream::Stream;
use crate::outcome::label::Label;
use crate::outcome::rejection::Rejection;
use crate::relay::{self, Held, Opened};
use crate::session::record::{Facts, Outcome, Unrecorded};

/// Serves one connection to its end, or to where its session becomes a task of its own.
pub(crate) async fn serve(current: Current, arrival: Arrival) {
    let Some(mut connection) = Connection::establish(current, arrival).await else { return };
    while let Some(exchange) = connection.next_exchange().await {
        let gateway = Arc::clone(&connection.gateway);
        match gateway.handle(exchange, connection.http.gone()).await {
            Handled::Respond(response) => connection.respond(response),
            Handled::Session(session) => return connection.begin_session(*session).await,
            Handled::Refuse(refusal) => {
                drop(connection.under_way.take());
                return gateway.refuse(connection.http, *refusal, connection.place).await;
            }
            Handled::Gone(record) => {
                linger::leave(&mut connection.http.into_stream()).await;
                return gateway.telemetry().connection_recorded(record);
            }
        }
    }
    connection.close().await;
}

/// A client connection: accepted once, carrying one request after another.
struct Connection {
    current: Current,
    /// In force when the last request's head arrived; at first, at accept.
    gateway: Arc<Gateway>,
    listener: Arc<Listener>,
    peer: Peer,
    http: HttpConnection,
    place: SocketPlace,
    /// The first request, which accept has paid for.
    first: Option<First>,
    /// Requests answered.
    answered: u32,
    /// The last answer says that it is the last.
    is_last: bool,
    /// The client is not waited for at the end.
    is_over: bool,
    /// Why its last head cannot be read, as an answer.
    last_words: Option<Vec<u8>>,
    /// A drain waits a moment for requests that have begun.
    under_way: Option<TaskTrackerToken>,
}

/// What is known before the first request.
struct First {
    facts: Facts,
    /// Decided at accept: the request is refused for this.
    refusal: Option<Rejection>,
}

impl Connection {
    /// PROXY header and TLS; `None`: it never came to a request, which is recorded.
    async fn establish(current: Current, arrival: Arrival) -> Option<Self> {
        let Arrival { gateway, listener, mut tcp, peer: direct, at, .. } = arrival;
        let (mut place, mut refusal) = (arrival.place, arrival.refusal);
        let (label, now) = (Arc::clone(&listener.label), SystemTime::now());
        let mut facts = Facts::new(gateway.new_id(), label, direct, now);
        let timeouts = &gateway.config().timeouts;
        let header = read_proxy_header(&listener, &mut tcp, direct, at, timeouts).await;
        let address = match header {
            Ok(header) => header.unwrap_or(direct),
            Err(why) => return gateway.gave_up(Unrecorded::new(facts), why),
        };
        facts.set_client(address);
        facts.steps.accept = Some(at.elapsed());
        let is_named = address != direct && !listener.trusts(address.ip());
        if is_named && refusal.is_none() {
            // Now that it is known, and not with the request: a client may never send one.
            match place.count(&gateway, &listener, address.ip(), Instant::now()) {
                Ok(counted) => refusal = counted,
                Err(reason) => {
                    gateway.telemetry().connection_dropped(&listener.label, address.ip(), reason);
                    return None;
                }
            }
        }
        let began = Instant::now();
        let stream = match secure(&listener, tcp, timeouts).await {
            Ok(stream) => stream,
            Err(why) => return gateway.gave_up(Unrecorded::new(facts), why),
        };
        let is_secure = listener.tls.is_some();
        facts.steps.tls = is_secure.then(|| began.elapsed());
        Some(Self {
            http: HttpConnection::new(stream, listener.config.head_size),
            current,
            gateway,
            listener,
            peer: Peer { address, direct, is_secure },
            place,
            first: Some(First { facts, refusal }),
            answered: 0,
            is_last: false,
            is_over: false,
            last_words: None,
            under_way: Some(arrival.under_way),
        })
    }

    /// The next request; `None`: there is none, and the connection ends.
    async fn next_exchange(&mut self) -> Option<Exchange> {
        let first = self.first.take();
        if first.is_none() && !self.has_further().await {
            return None;
        }
        let (began, now) = (Instant::now(), SystemTime::now());
        let read = self.http.next(self.gateway.config().timeouts.request_head).await;
        self.use_configuration_in_force();
        let (mut facts, refusal) = match first {
            Some(First { facts, refusal }) => (facts, refusal),
            None => (self.further_facts(now), None),
        };
        match read {
            Ok(request) => {
                facts.steps.request = Some(began.elapsed());
                let refusal =
                    refusal.or_else(|| self.charge()).or_else(|| self.check_head(&request));
                let (listener, peer) = (Arc::clone(&self.listener), self.peer);
                Some(Exchange { listener, peer, request, refusal, facts })
            }
            Err(why) => {
                // A client that let the time pass is not waited for.
                self.is_over = matches!(why, NoRequest::Timeout);
                let mut gave_up = GaveUp::from(&why);
                if let NoRequest::Broken(error) = &why
                    && error.is_parse()
                    && let Some((status, text)) =
                        self.http.explain(error, self.listener.config.head_size)
                {
                    self.last_words = Some(unreadable(status, &text, &facts.id.to_string()));
                    gave_up.detail = Some(text);
                }
                self.gateway.gave_up(Unrecorded::new(facts), gave_up)
            }
        }
    }

    /// Waits for a further request; meanwhile the connection's place may be given to another.
    async fn has_further(&mut self) -> bool {
        let process = Arc::clone(self.gateway.process());
        drop(self.under_way.take());
        if self.is_last {
            // Only what is left of the answer is written.
            let _ = timeout(self.gateway.config().timeouts.close, self.http.gone()).await;
            return false;
        }
        let Some(parked) = self.place.park(&process.idle) else { return false };
        let limit = self.listener.config.http.keep_alive;
        let heard = tokio::select! {
            biased;
            heard = self.http.wait(limit) => heard.is_ok(),
            () = parked.revoked() => false,
            () = process.no_more_requests.cancelled() => false,
        };
        let Some(place) = parked.reclaim() else {
            // It is another's already: nothing is left to wait for.
            self.is_over = true;
            return false;
        };
        self.place.process = Some(place);
        self.under_way = Some(process.handshakes.token());
        heard
    }

    /// A reload may have changed everything since the last request.
    fn use_configuration_in_force(&mut self) {
        let gateway = self.current.gateway();
        // A listener that is configured no more keeps what it had.
        if let Some(listener) = gateway.listener(&self.listener.key) {
            self.listener = Arc::clone(listener);
            self.gateway = gateway;
        }
    }

    fn further_facts(&self, now: SystemTime) -> Facts {
        let (id, label) = (self.gateway.new_id(), Arc::clone(&self.listener.label));
        let mut facts = Facts::new(id, label, self.peer.direct, now);
        facts.set_client(self.peer.address);
        facts
    }

    /// Accept has paid for the first request. Every further one counts too, for the client's own
    /// address; behind a trusted proxy that is known from the head only, and counted then.
    fn charge(&self) -> Option<Rejection> {
        let address: IpAddr = self.peer.address.ip();
        if self.answered == 0 || self.listener.trusts(address) {
            return None;
        }
        let limits = &self.gateway.config().limits;
        self.gateway.process().addresses.charge(address, limits, Instant::now()).err()
    }

    /// hyper reads somewhat more than the listener takes.
    fn check_head(&self, request: &Request<Incoming>) -> Option<Rejection> {
        let limit = self.listener.config.head_size;
        let length = request.extensions().get::<HeadLength>()?.0;
        (length > limit as usize).then(|| BadRequest::HeadTooLarge(limit).into())
    }

    /// Answers a request; it is written while the next one is waited for.
    fn respond(&mut self, mut response: Response<Full<Bytes>>) {
        self.answered += 1;
        let kept = self.listener.config.http;
        self.is_last = kept.keep_alive.is_zero()
            || self.answered >= kept.requests
            || self.gateway.process().is_draining();
        if self.is_last {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        self.http.respond(response);
    }

    /// Sends the 101 and starts the session as a task of its own, so that what only the handshake
    /// needed is freed.
    async fn begin_session(self, session: Session) {
        let Self { gateway, http, place, under_way, .. } = self;
        drop(under_way);
        let Session { response, headers, upstream, registered, unrecorded, route, mut places } =
            session;
        let head = response::to_bytes(&response, &headers);
        let answered = http.switch(&head);
        let Ok(Finished { stream, arrived }) =
            timeout(gateway.config().timeouts.close, answered).await
        else {
            return gateway.telemetry().connection_recorded(abandoned(unrecorded));
        };
        gateway.telemetry().handshake_accepted(route, &unrecorded.facts().steps);
        let place = Held::new((place, places.address.take()));
        let opening = relay::Opening {
            client: Opened { stream, arrived, place },
            upstream,
            registered,
            unrecorded,
            route,
            places: Held::new(places),
        };
        gateway.tasks().spawn(relay::run(Arc::clone(gateway.environment()), opening));
    }

    /// Ends the connection so that the client can read what it was answered last.
    async fn close(self) {
        if !self.is_over {
            let mut stream: Stream = self.http.into_stream();
            let limit = self.gateway.config().timeouts.close;
            let ending = async {
                if let Some(words) = self.last_words {
                    // If it cannot be sent, the end will show it.
                    let _ = stream.write_all(&words).await;
                }
                linger::shut_down(&mut stream).await;
            };
            let _ = timeout(limit, ending).await;
        }
    }
}

/// The answer to a head that cannot be read.
fn unreadable(status: StatusCode, text: &str, id: &str) -> Vec<u8> {
    let body = format!("{}: {}\n", Label::BadRequest, text.replace(char::is_control, " "));
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\n\
         X-Content-Type-Options: nosniff\r\nX-Request-Id: {id}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

impl Gateway {
    /// Records a connection that never came to a (further) request.
    fn gave_up<T>(&self, unrecorded: Unrecorded, why: GaveUp) -> Option<T> {
        let GaveUp { phase, by, reason, detail } = why;
        let mut record = unrecorded.ended(Outcome::NoRequest(reason), by, phase);
        record.detail = detail;
        self.telemetry().connection_recorded(record);
        None
    }
}
