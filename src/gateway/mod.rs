//! The gateway: one configuration at work. Immutable; what changes is in its [`Process`].
//!
//! [`Gateway::handle`] is the second half of the spine: from a request head to an open upstream, or
//! to a refusal. It reads top to bottom in the order of the checks.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::Response;
use http::request::Parts;
use tokio_util::task::TaskTracker;

use crate::admission::jwks::KeySource;
use crate::admission::users::UserPlace;
use crate::admission::{Admission, Permit, token};
use crate::config::{Config, TokenSource};
use crate::handshake::request::{Forwardable, UpgradeRequest};
use crate::handshake::{response, subprotocol};
use crate::listener::{Listener, ListenerKey, Peer};
use crate::net::stream::Stream;
use crate::outcome::close_codes::RefuseMode;
use crate::outcome::rejection::Rejection;
use crate::relay::Environment;
use crate::route::Router;
use crate::session::id::SessionId;
use crate::session::record::SessionRecord;
use crate::session::registry::{Registry, SessionHandle};
use crate::telemetry::Telemetry;
use crate::telemetry::labels::EvictionReason;
use crate::telemetry::metrics::GaugeGuard;
use crate::upstream::endpoint::{EndpointPlace, Upstream};
use crate::upstream::open::{self, Opened};
use crate::upstream::request::UpstreamRequest;

use accept::ConnectionPlaces;
use guards::Guards;
pub(crate) use loaded::Loaded;
use process::Process;

pub(crate) mod accept;
pub(crate) mod connection;
mod forward;
pub(crate) mod guards;
mod loaded;
pub(crate) mod process;
pub(crate) mod readiness;
pub(crate) mod sheds;

/// Everything a connection needs from accept to session. A connection takes the one in force when it
/// is accepted and keeps it.
#[derive(Clone)]
pub(crate) struct Gateway {
    process: Arc<Process>,
    environment: Arc<Environment>,
    router: Arc<Router>,
    admission: Arc<Admission>,
    upstreams: Arc<Vec<Upstream>>,
    listeners: Vec<Arc<Listener>>,
    guards: Option<Arc<Guards>>,
}

/// The connection a request came on.
pub(crate) struct Caller<'a> {
    pub(crate) listener: &'a Listener,
    pub(crate) peer: Peer,
    /// Where the client's address is held to account, once it is known.
    pub(crate) places: &'a mut ConnectionPlaces,
    /// Decided at accept: it is only told this.
    pub(crate) refusal: Option<Rejection>,
    /// Where the request leads, as soon as that is known.
    pub(crate) route: &'a mut Option<usize>,
}

/// A handshake the upstream has agreed to.
pub(crate) struct Accepted {
    pub(crate) response: Response<()>,
    pub(crate) upstream: Stream,
    pub(crate) from_upstream: Vec<u8>,
    pub(crate) route: usize,
    pub(crate) handle: Arc<SessionHandle>,
    pub(crate) places: SessionPlaces,
}

/// What a session holds until it has ended.
#[derive(Debug)]
pub(crate) struct SessionPlaces {
    _user: Option<UserPlace>,
    _endpoint: EndpointPlace,
    _gauges: [GaugeGuard; 2],
}

/// A handshake that is refused, and how that is told.
pub(crate) struct Refusal {
    pub(crate) rejection: Rejection,
    /// Told by Close, if a place for that can be had; else by HTTP.
    pub(crate) by_close: Option<ToldByClose>,
}

/// A refusal told by Close.
pub(crate) struct ToldByClose {
    pub(crate) response: Response<()>,
    pub(crate) code: u16,
}

impl Gateway {
    /// Puts what was read to work.
    pub(crate) fn new(loaded: Loaded, process: Arc<Process>, telemetry: Telemetry) -> Arc<Self> {
        let Loaded { config, admission, upstreams, listeners, guards, .. } = loaded;
        Arc::new(Self {
            router: Arc::new(config.router()),
            admission: Arc::new(admission),
            upstreams: Arc::new(upstreams),
            listeners,
            guards: guards.map(Arc::new),
            environment: Arc::new(Environment {
                _in_use: telemetry.metrics.configuration(),
                telemetry: Arc::new(telemetry),
                registry: Arc::clone(&process.registry),
                abort: process.abort.clone(),
                config: Arc::new(config),
            }),
            process,
        })
    }

    /// The same with other certificates.
    pub(crate) fn with_listeners(&self, listeners: Vec<Arc<Listener>>) -> Arc<Self> {
        Arc::new(Self { listeners, ..self.clone() })
    }

    /// Decides on a handshake and opens its upstream. Everything found out goes into `record`.
    pub(crate) async fn handle(
        &self,
        head: Parts,
        mut from: Caller<'_>,
        record: &mut SessionRecord,
    ) -> Result<Accepted, Refusal> {
        let began = Instant::now();
        let request = UpgradeRequest::parse(&head.method, &head.uri, head.version, head.headers)
            .map_err(|bad| Refusal::by_http(bad.into()))?;
        self.note_request(&request, record);
        let decided = self.decide(&request, began, &mut from, record).await;
        decided.map_err(|rejection| {
            if let (Rejection::UpstreamRefused { status }, Some(route)) = (&rejection, *from.route)
            {
                self.telemetry().upstream_refused(route, *status);
            }
            let by_close = self.tell_by_close(&rejection, &request, *from.route, record.id);
            Refusal { rejection, by_close }
        })
    }

    /// The order of the checks: cheap before dear, and the upstream before the client is told yes.
    async fn decide(
        &self,
        request: &UpgradeRequest,
        began: Instant,
        from: &mut Caller<'_>,
        record: &mut SessionRecord,
    ) -> Result<Accepted, Rejection> {
        // The route also says how a refusal is told, even one decided before it was known.
        let matched = self.router.find(&request.host, &request.path);
        *from.route = matched.as_ref().map(|matched| matched.route);
        record.route = from.route.map(|at| Arc::from(self.config().routes[at].label.as_str()));
        let source = forward::source(from.listener, from.peer, &request.headers);
        if source.client != source.direct {
            // The port is not known behind a proxy.
            record.set_client(SocketAddr::new(source.client, 0));
        }
        self.telemetry().steps_taken(record);
        self.check_arrival(from, source.client)?;
        let matched = matched.ok_or(Rejection::NoRoute)?;
        let route = &self.config().routes[matched.route];

        let admitted = self.admission.admit(self.config(), &matched, request, unix_now()).await;
        record.steps.admission = Some(began.elapsed());
        let mut permit = admitted?;
        record.user = permit.subject.as_ref().map(|subject| Arc::clone(&subject.identity.user));
        self.telemetry().steps_taken(record);

        let upstream = &self.upstreams[route.upstream];
        let parts = self.forwardable(request, &permit, matched.route);
        let identity = forward::identity(route, &permit);
        let ask = UpstreamRequest::new(route, request, parts, identity, source, record.id);
        let opened = open::open(upstream, &ask, self.telemetry(), record).await?;

        let chosen = self.choose_subprotocol(request, matched.route, &ask, &opened);
        // A token that was the only entry offered is selected, but it is no name to log.
        record.subprotocol = chosen.clone().filter(|name| {
            !subprotocol::is_token_entry(name, &self.token_entries(Some(matched.route), request))
        });
        self.telemetry().steps_taken(record);
        record.opened = SystemTime::now();
        let handle = SessionHandle::new(record.clone(), Instant::now());
        self.take_user_place(&mut permit, &handle, matched.route);
        let metrics = &self.telemetry().metrics;
        Ok(Accepted {
            response: response::switching(request, chosen.as_deref(), &record.id.to_string()),
            upstream: opened.stream,
            from_upstream: opened.arrived,
            route: matched.route,
            handle,
            places: SessionPlaces {
                _gauges: [
                    metrics.session(matched.route),
                    metrics.endpoint_session(route.upstream, opened.endpoint.index),
                ],
                _user: permit.subject.map(|subject| subject.place),
                _endpoint: opened.place,
            },
        })
    }

    /// What the 101 selects, which must please Chromium even where the upstream selects nothing.
    fn choose_subprotocol(
        &self,
        request: &UpgradeRequest,
        route: usize,
        ask: &UpstreamRequest<'_>,
        opened: &Opened,
    ) -> Option<String> {
        let tokens = self.token_entries(Some(route), request);
        if ask.offered().is_empty() {
            subprotocol::without_upstream(&request.offered, &tokens)
        } else {
            subprotocol::select(&request.offered, opened.subprotocol.as_deref(), &tokens)
        }
    }

    fn note_request(&self, request: &UpgradeRequest, record: &mut SessionRecord) {
        record.host = Some(request.host.clone());
        record.path = Some(request.path.clone());
        record.origin.clone_from(&request.origin);
        let (deflate, other) = request.stripped_extensions();
        for (offered, name) in [(deflate, "permessage-deflate"), (other, "other")] {
            if offered {
                self.telemetry().extension_stripped(name);
            }
        }
    }

    /// What was decided before the request could be read, and the address's account where only the
    /// request told the address.
    fn check_arrival(&self, from: &mut Caller<'_>, client: IpAddr) -> Result<(), Rejection> {
        if let Some(rejection) = from.refusal.take() {
            return Err(rejection);
        }
        if self.process.refuses_requests() {
            return Err(Rejection::Draining);
        }
        if from.listener.trusts(from.peer.direct.ip()) {
            let limits = &self.config().limits;
            let place = self.process.addresses.admit(client, limits, Instant::now())?;
            from.places.set_address(place);
        }
        Ok(())
    }

    /// The upstream has said yes: the user's place becomes a session, and older ones may give way.
    fn take_user_place(&self, permit: &mut Permit, handle: &Arc<SessionHandle>, route: usize) {
        let Some(subject) = &mut permit.subject else { return };
        let confirmed = subject.place.confirm(handle, Instant::now());
        for evicted in confirmed.evicted {
            self.telemetry().user_evicted(EvictionReason::UserLimit, evicted, handle.id);
        }
        if confirmed.is_reconnect {
            self.telemetry().user_reconnected(route);
        }
    }

    /// What is left of a request without its token.
    fn forwardable(&self, request: &UpgradeRequest, permit: &Permit, route: usize) -> Forwardable {
        let Some(subject) = &permit.subject else { return token::untouched(request) };
        let mode = self.config().routes[route].forward.token;
        token::forward(request, &subject.presented, self.sources(Some(route)), mode)
    }

    /// Offered entries that are tokens because they follow a configured name.
    fn token_entries<'a>(&self, route: Option<usize>, request: &'a UpgradeRequest) -> Vec<&'a str> {
        token::named_entries(self.sources(route), &request.offered)
    }

    /// Where a route's tokens may stand.
    fn sources(&self, route: Option<usize>) -> &[TokenSource] {
        let verifier = route.and_then(|route| self.config().routes[route].verifier);
        verifier.map_or(&[], |verifier| &self.config().verifiers[verifier].sources)
    }

    /// How a refusal is told by Close, if it is told so.
    fn tell_by_close(
        &self,
        rejection: &Rejection,
        request: &UpgradeRequest,
        route: Option<usize>,
        id: SessionId,
    ) -> Option<ToldByClose> {
        let config = self.config();
        let mode = route.map_or(RefuseMode::Auto, |route| config.routes[route].refuse);
        if !rejection.is_told_by_close(mode, request.origin.is_some()) {
            return None;
        }
        let tokens = self.token_entries(route, request);
        let chosen = subprotocol::without_upstream(&request.offered, &tokens);
        let code = rejection.close_code(&config.close_codes, chosen.as_deref())?;
        Some(ToldByClose {
            response: response::switching(request, chosen.as_deref(), &id.to_string()),
            code,
        })
    }

    /// The configuration.
    pub(crate) fn config(&self) -> &Config {
        &self.environment.config
    }

    /// Metrics and logs.
    pub(crate) fn telemetry(&self) -> &Arc<Telemetry> {
        &self.environment.telemetry
    }

    /// What sessions share.
    pub(crate) fn environment(&self) -> &Arc<Environment> {
        &self.environment
    }

    /// What outlives this configuration.
    pub(crate) fn process(&self) -> &Arc<Process> {
        &self.process
    }

    /// Open sessions, of other configurations too.
    pub(crate) fn registry(&self) -> &Registry {
        &self.process.registry
    }

    /// The upstreams, with the state of their endpoints.
    pub(crate) fn upstreams(&self) -> &[Upstream] {
        &self.upstreams
    }

    /// Who may connect.
    pub(crate) fn admission(&self) -> &Admission {
        &self.admission
    }

    /// Where published keys come from.
    pub(crate) fn key_sources(&self) -> impl Iterator<Item = &Arc<KeySource>> {
        self.admission.key_sources()
    }

    /// The public listeners.
    pub(crate) fn listeners(&self) -> &[Arc<Listener>] {
        &self.listeners
    }

    /// Tells the metrics how long the certificates served are valid.
    pub(crate) fn certificates_loaded(&self) {
        let served = self.listeners.iter().filter_map(|listener| listener.tls.as_ref());
        self.telemetry().certificates_loaded(served.flat_map(|tls| tls.certificates()));
    }

    /// The certificates served: their names, and what they are.
    pub(crate) fn certificates(&self) -> Vec<(String, Vec<u8>)> {
        let served = self.listeners.iter().filter_map(|listener| listener.tls.as_ref());
        let leaves = served.flat_map(|tls| tls.leaves());
        leaves.map(|(name, leaf)| (name.to_owned(), leaf.to_owned())).collect()
    }

    /// What this configuration says of a socket.
    pub(crate) fn listener(&self, key: &ListenerKey) -> Option<&Arc<Listener>> {
        self.listeners.iter().find(|listener| listener.key == *key)
    }

    /// The rules for callers of the admin listener, where there is one.
    pub(crate) fn guards(&self) -> Option<&Guards> {
        self.guards.as_deref()
    }

    /// Every task of the process, so that its end can be waited for.
    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.process.tasks
    }

    /// A fresh id.
    pub(crate) fn new_id(&self) -> SessionId {
        SessionId::new(fastrand::u64(..))
    }
}

impl Refusal {
    fn by_http(rejection: Rejection) -> Self {
        Self { rejection, by_close: None }
    }
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
