//! One request: its head, and the decision on it.
//!
//! [`Gateway::handle`] is the second half of the spine: from a request head to an open upstream, or to
//! a refusal. [`Gateway::decide`] reads top to bottom in the order of the checks.

use std::borrow::Cow;
use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;

use super::refusal::Refusal;
use super::{Gateway, forward, own, unix_now};
use crate::admission::limits::AddressPlace;
use crate::admission::{Permit, token};
use crate::config::{Route, TokenSource};
use crate::handshake::request::{BadRequest, Forwardable, UpgradeRequest};
use crate::handshake::template::Values;
use crate::handshake::{response, subprotocol};
use crate::listener::{Listener, Peer};
use crate::outcome::blame::{By, Phase};
use crate::outcome::rejection::Rejection;
use crate::relay::{self, Held};
use crate::route::{RouteId, has_encoded_slash};
use crate::session::connecting::Listed;
use crate::session::id::SessionId;
use crate::session::limiter::UserPlace;
use crate::session::record::{Facts, Outcome, SessionRecord, Unrecorded};
use crate::session::registry::{Order, Registered, SessionHandle};
use crate::telemetry::labels::EvictionReason;
use crate::telemetry::metrics::GaugeGuard;
use crate::upstream::open::{self, Denied, Opened};
use crate::upstream::request::{HeaderRules, UpstreamRequest};

/// One request on a client connection.
pub(crate) struct Exchange {
    pub(crate) listener: Arc<Listener>,
    pub(crate) peer: Peer,
    pub(crate) request: Request<Incoming>,
    /// Decided before the request was read: it is refused for this.
    pub(crate) refusal: Option<Rejection>,
    /// What is known so far.
    pub(crate) facts: Facts,
}

/// What is to be done with a request.
pub(crate) enum Handled {
    /// The upstream has agreed: the client is sent the 101, and the relay takes over.
    Session(Box<Session>),
    /// An answer of our own; the connection may carry further requests.
    Respond(Response<Full<Bytes>>),
    /// The handshake is refused; the connection ends.
    Refuse(Box<Refusal>),
    /// The client left before it was answered, or the process ends.
    Gone(SessionRecord),
}

/// A handshake the upstream has agreed to.
pub(crate) struct Session {
    pub(crate) response: Response<()>,
    /// What its 101 has besides.
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) upstream: relay::Opened,
    pub(crate) registered: Registered,
    pub(crate) unrecorded: Unrecorded,
    pub(crate) route: RouteId,
    pub(crate) places: SessionPlaces,
}

/// What a session holds until it has ended.
#[derive(Debug)]
pub(crate) struct SessionPlaces {
    _user: Option<UserPlace>,
    _gauges: [GaugeGuard; 2],
    /// The client's address where only the request named it.
    pub(crate) address: Option<AddressPlace>,
}

/// What was found out on the way to a decision: it counts even if there is none.
struct Findings {
    facts: Facts,
    /// The client's address is held to account, where only the request named it.
    address: Option<AddressPlace>,
}

/// An upstream that has agreed, and for whom.
struct Agreed {
    route: RouteId,
    permit: Permit,
    opened: Opened,
    /// The subprotocol selected.
    chosen: Option<String>,
    /// Further headers of the 101.
    headers: Vec<(String, Vec<u8>)>,
}

impl Gateway {
    /// Decides on a request and opens its upstream; stops when the client is `gone`.
    pub(crate) async fn handle(
        &self,
        exchange: Exchange,
        gone: impl Future<Output = ()>,
    ) -> Handled {
        if let Some(rejection @ Rejection::BadRequest(_)) = exchange.refusal {
            return Handled::refuse(Refusal::by_http(rejection, exchange.facts));
        }
        match own::answer(self, &exchange) {
            None => {}
            Some(Ok(response)) => return Handled::Respond(response),
            Some(Err(over)) => return Handled::refuse(Refusal::by_http(over, exchange.facts)),
        }
        let began = Instant::now();
        let Exchange { listener, peer, request, refusal, facts } = exchange;
        let (mut head, _body) = request.into_parts();
        let mut found = Findings { facts, address: None };
        let parsed = UpgradeRequest::parse(&head.method, &head.uri, head.version, head.headers);
        let request = match parsed {
            Ok(mut request) => {
                request.spelling = head.extensions.remove().unwrap_or_default();
                request
            }
            Err(bad) => return Handled::refuse(Refusal::by_http(bad.into(), found.facts)),
        };
        self.note_request(&request, &mut found.facts);
        let seen = self.process().connecting.begin(&found.facts, began);
        let decided = {
            let from = Arrived { listener: &listener, peer, refusal, seen: &seen };
            let mut deciding = Box::pin(self.decide(&request, from, began, &mut found));
            tokio::select! {
                biased;
                decided = &mut deciding => Some(decided),
                () = gone => None,
                () = self.environment().abort.cancelled() => None,
                never = self.report_slow(&seen) => match never {},
            }
        };
        drop(seen);
        let Findings { facts, address } = found;
        match decided {
            Some(Ok(agreed)) => {
                Handled::Session(Box::new(self.session(agreed, &request, facts, address)))
            }
            Some(Err(denied)) => Handled::refuse(self.refusal(denied, &request, facts, address)),
            None => Handled::Gone(abandoned(Unrecorded::new(facts))),
        }
    }

    /// The order of the checks: cheap before expensive, and the upstream before the client is
    /// accepted.
    async fn decide(
        &self,
        request: &UpgradeRequest,
        from: Arrived<'_>,
        began: Instant,
        found: &mut Findings,
    ) -> Result<Agreed, Denied> {
        let facts = &mut found.facts;
        // The route also says how a refusal is sent, even one decided before it was known.
        let matched = self.router.find(&request.host, &request.path);
        facts.route_id = matched.as_ref().map(|matched| matched.route);
        facts.route = facts.route_id.map(|id| Arc::from(self.config().route(id).label.as_str()));
        let source = forward::source(from.listener, from.peer, &request.headers);
        if source.client != source.direct {
            // The port is not known behind a proxy.
            facts.set_client(SocketAddr::new(source.client, 0));
        }
        self.telemetry().steps_taken(facts);
        facts.request_id = forward::request_id(&source, &request.headers);
        let (listener, seen) = (from.listener, from.seen);
        found.address = self.check_arrival(from, source.client)?;
        let allows_slash = |id: RouteId| self.config().route(id).encoded_slash;
        if has_encoded_slash(&request.path) && !facts.route_id.is_some_and(allows_slash) {
            return Err(BadRequest::PathEncodedSlash.into());
        }
        let matched = matched.ok_or(Rejection::NoRoute)?;
        let route = self.config().route(matched.route);
        seen.update(facts);

        let admitted = self
            .admission
            .admit(self.config(), &matched, request, source.trust, &mut facts.user, unix_now())
            .await;
        facts.steps.admission = Some(began.elapsed());
        let permit = admitted?;
        seen.update(facts);
        self.telemetry().steps_taken(facts);

        let upstream = &self.upstreams[route.upstream.index()];
        let parts = self.forwardable(request, &permit, route);
        let identity = forward::identity(route, &permit);
        let request_id =
            facts.request_id.as_ref().map_or_else(|| facts.id.to_string(), |id| (**id).to_owned());
        let values = Values {
            user: facts.user.clone(),
            request_id,
            client: source.client,
            pattern: &route.path,
            path: &request.path,
        };
        let rules = self.header_rules(listener, matched.route);
        let ask = UpstreamRequest::new(route, request, parts, identity, source, &values, rules)?;
        let mut opened = open::open(upstream, &ask, self.telemetry(), seen, facts).await?;
        let chosen = self.choose_subprotocol(request, route, &ask, &opened);
        let headers = forward::further(route, std::mem::take(&mut opened.headers), &values);
        Ok(Agreed { route: matched.route, permit, opened, chosen, headers })
    }

    /// The session of a handshake that the upstream has agreed to.
    fn session(
        &self,
        agreed: Agreed,
        request: &UpgradeRequest,
        mut facts: Facts,
        address: Option<AddressPlace>,
    ) -> Session {
        let Agreed { route, permit, opened, chosen, headers } = agreed;
        // A token that was the only entry offered is selected, but it is no name to log.
        let tokens = self.token_entries(facts.route_id, request);
        facts.subprotocol =
            chosen.clone().filter(|name| !subprotocol::is_token_entry(name, &tokens));
        self.telemetry().steps_taken(&mut facts);
        facts.opened = SystemTime::now();
        let unrecorded = Unrecorded::new(facts);
        let facts = unrecorded.facts();
        let registered =
            self.registry().insert(SessionHandle::new(Arc::clone(facts), Instant::now()));
        let mut user = permit.subject.map(|subject| subject.place);
        if let Some(place) = &mut user {
            self.confirm(place, facts.id, route);
        }
        let metrics = &self.telemetry().metrics;
        let gauges = [metrics.session(route), metrics.endpoint_session(opened.endpoint.id)];
        Session {
            response: response::switching(request, chosen.as_deref(), &facts.id.to_string()),
            headers,
            upstream: relay::Opened {
                stream: opened.stream,
                arrived: opened.arrived,
                place: Held::new(opened.place),
            },
            places: SessionPlaces { _gauges: gauges, _user: user, address },
            registered,
            unrecorded,
            route,
        }
    }

    /// Says of a handshake that takes long what it waits for, once.
    async fn report_slow(&self, seen: &Listed) -> Infallible {
        tokio::time::sleep(SLOW).await;
        self.telemetry().handshake_slow(&seen.known());
        std::future::pending().await
    }

    /// What the 101 selects, which must please Chromium even where the upstream selects nothing.
    fn choose_subprotocol(
        &self,
        request: &UpgradeRequest,
        route: &Route,
        ask: &UpstreamRequest<'_>,
        opened: &Opened,
    ) -> Option<String> {
        let tokens = token::named_entries(self.sources(route), &request.offered);
        if ask.offered().is_empty() {
            subprotocol::without_upstream(&request.offered, &tokens)
        } else {
            subprotocol::select(&request.offered, opened.subprotocol.as_deref(), &tokens)
        }
    }

    fn note_request(&self, request: &UpgradeRequest, facts: &mut Facts) {
        facts.host = Some(request.host.clone());
        facts.path = Some(request.path.clone());
        facts.origin.clone_from(&request.origin);
        let (deflate, other) = request.stripped_extensions();
        for (offered, name) in [(deflate, "permessage-deflate"), (other, "other")] {
            if offered {
                self.telemetry().extension_stripped(name);
            }
        }
    }

    /// What was decided before the request could be read, and the address's account where only the
    /// request named the address.
    fn check_arrival(
        &self,
        from: Arrived<'_>,
        client: IpAddr,
    ) -> Result<Option<AddressPlace>, Rejection> {
        if let Some(rejection) = from.refusal {
            return Err(rejection);
        }
        if self.process().refuses_requests() {
            return Err(Rejection::Draining);
        }
        // Else the connection is counted for it: at accept, or when its PROXY header had been read.
        if !from.listener.trusts(from.peer.address.ip()) {
            return Ok(None);
        }
        let limits = &self.config().limits;
        self.process().addresses.admit(client, limits, Instant::now()).map(Some)
    }

    /// The user's place becomes the session's, and older sessions may be evicted.
    fn confirm(&self, place: &mut UserPlace, id: SessionId, route: RouteId) {
        let confirmed = place.confirm(id, Instant::now());
        for evicted in confirmed.evict {
            if let Some(session) = self.registry().get(evicted) {
                session.order(Order::Evict(Box::new(place.eviction())));
            }
            self.telemetry().user_evicted(EvictionReason::UserLimit, evicted, id);
        }
        if confirmed.is_reconnect {
            self.telemetry().user_reconnected(route);
        }
    }

    /// Which headers of a client of this listener are copied on this route.
    fn header_rules<'a>(&'a self, listener: &'a Listener, route: RouteId) -> HeaderRules<'a> {
        let kept = self.config().kept_token_headers(route);
        let trusted = &listener.config.trusted_headers;
        let trusted = if kept.is_empty() {
            Cow::Borrowed(trusted.as_slice())
        } else {
            Cow::Owned([trusted.as_slice(), &kept].concat())
        };
        HeaderRules { reserved: &self.reserved_headers, trusted }
    }

    /// What is left of a request without its token.
    fn forwardable(&self, request: &UpgradeRequest, permit: &Permit, route: &Route) -> Forwardable {
        let Some(subject) = &permit.subject else { return token::untouched(request) };
        token::forward(request, &subject.presented, self.sources(route), route.forward.token)
    }

    /// Offered entries that are tokens because they follow a configured name.
    pub(super) fn token_entries<'a>(
        &self,
        route: Option<RouteId>,
        request: &'a UpgradeRequest,
    ) -> Vec<&'a str> {
        let sources = route.map_or(&[][..], |id| self.sources(self.config().route(id)));
        token::named_entries(sources, &request.offered)
    }

    /// Where a route's tokens may stand.
    fn sources(&self, route: &Route) -> &[TokenSource] {
        route.verifier.map_or(&[], |verifier| &self.config().verifiers[verifier].sources)
    }
}

/// How a request came.
struct Arrived<'a> {
    listener: &'a Listener,
    peer: Peer,
    refusal: Option<Rejection>,
    /// Where it is shown while it is being decided.
    seen: &'a Listed,
}

/// How long a handshake may take before it is worth a line in the log.
const SLOW: Duration = Duration::from_secs(2);

impl Handled {
    pub(super) fn refuse(refusal: Refusal) -> Self {
        Self::Refuse(Box::new(refusal))
    }
}

/// The client left while its request was being decided, or before its 101 was written.
pub(super) fn abandoned(unrecorded: Unrecorded) -> SessionRecord {
    let is_admitted = unrecorded.facts().steps.admission.is_some();
    let phase = if is_admitted { Phase::Connect } else { Phase::Admission };
    unrecorded.ended(Outcome::Abandoned, By::Client, phase)
}
