//! The gateway as a whole: built from a configuration, run until it is told to stop.
//!
//! [`Gateway::handle`] is the second half of the spine: from a request head to an open upstream, or
//! to a refusal. It reads top to bottom in the order of the checks.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime};

use http::Response;
use http::request::Parts;
use tokio_util::task::TaskTracker;

use crate::admin::Unready;
use crate::admission::limits::{AddressTable, ConnectionLimits};
use crate::admission::rejection::Rejection;
use crate::admission::users::{UserPlace, UserTable};
use crate::admission::{Admission, Permit};
use crate::config::{Config, Problem, RefuseMode, TokenSource};
use crate::handshake::headers::{Scheme, Trust};
use crate::handshake::request::UpgradeRequest;
use crate::handshake::{forwarded, response, subprotocol};
use crate::listener::connection::Peer;
use crate::listener::{ConnectionPlaces, Listener};
use crate::relay::Environment;
use crate::route::Router;
use crate::session::id::SessionId;
use crate::session::record::SessionRecord;
use crate::session::registry::{Registry, SessionHandle};
use crate::stream::Stream;
use crate::telemetry::Telemetry;
use crate::telemetry::labels::EvictionReason;
use crate::telemetry::metrics::GaugeGuard;
use crate::upstream::endpoint::{EndpointPlace, Upstream};
use crate::upstream::open;
use crate::upstream::request::{Origin, UpstreamRequest};

/// Everything the connections of this process share.
pub struct Gateway {
    environment: Arc<Environment>,
    router: Router,
    admission: Admission,
    upstreams: Vec<Upstream>,
    connections: ConnectionLimits,
    addresses: Arc<AddressTable>,
    tasks: TaskTracker,
    is_draining: AtomicBool,
    refuses_requests: AtomicBool,
    is_listening: AtomicBool,
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
    pub(crate) route: Option<usize>,
    /// Told by Close, if a place for that can be had; else by HTTP.
    pub(crate) by_close: Option<ToldByClose>,
}

/// A refusal told by Close.
pub(crate) struct ToldByClose {
    pub(crate) response: Response<()>,
    pub(crate) code: u16,
}

impl Gateway {
    /// Reads keys and certificates authorities; binds nothing. Also returns what is unwise.
    pub fn build(config: Config) -> Result<(Arc<Self>, Vec<Problem>), Vec<Problem>> {
        let mut problems = Vec::new();
        let admission = Admission::new(&config);
        let upstreams = config.upstreams.iter().enumerate();
        let upstreams: Vec<_> = upstreams
            .map(|(index, upstream)| Upstream::new(index, upstream, &config.locations))
            .filter_map(|built| built.map_err(|problem| problems.push(problem)).ok())
            .collect();
        let (admission, warnings) = match admission {
            Ok(admission) if problems.is_empty() => admission,
            Ok(_) => return Err(problems),
            Err(more) => return Err(more.into_iter().chain(problems).collect()),
        };
        let gateway = Self {
            router: Router::new(&config.routes),
            admission,
            upstreams,
            connections: ConnectionLimits::new(&config.limits),
            addresses: AddressTable::new(&config.limits),
            tasks: TaskTracker::new(),
            is_draining: AtomicBool::new(false),
            refuses_requests: AtomicBool::new(false),
            is_listening: AtomicBool::new(false),
            environment: Arc::new(Environment {
                telemetry: Arc::new(Telemetry::new(&config)),
                registry: Arc::new(Registry::new(config.limits.pending_bytes, Instant::now())),
                config: Arc::new(config),
            }),
        };
        Ok((Arc::new(gateway), warnings))
    }

    /// Decides on a handshake and opens its upstream. Everything found out goes into `record`.
    pub(crate) async fn handle(
        &self,
        head: Parts,
        listener: &Listener,
        peer: Peer,
        places: &mut ConnectionPlaces,
        refusal: Option<Rejection>,
        record: &mut SessionRecord,
    ) -> Result<Accepted, Refusal> {
        let began = Instant::now();
        let request = UpgradeRequest::parse(&head.method, &head.uri, head.version, head.headers)
            .map_err(|bad| Refusal::by_http(bad.into()))?;
        self.note_request(&request, record);
        let id = record.id;
        let mut refuse = RefusalTeller { gateway: self, request: &request, route: None, id };

        let client = self.find_client(listener, peer, &request, record);
        self.check_arrival(listener, peer, client, places, refusal).map_err(|r| refuse.with(r))?;
        let matched = self.router.find(&request.host, &request.path);
        let matched = matched.ok_or(Rejection::NoRoute).map_err(|r| refuse.with(r))?;
        let (index, route) = (matched.route, &self.config().routes[matched.route]);
        refuse.route = Some(index);
        record.route = Some(Arc::from(route.label.as_str()));

        let parameters = &matched.parameters;
        let permit = self
            .admission
            .admit(self.config(), (index, route), &request, parameters, unix_now())
            .await;
        record.steps.admission = Some(began.elapsed());
        let mut permit = permit.map_err(|r| refuse.with(r))?;
        record.user = permit.subject.as_ref().map(|subject| Arc::clone(&subject.identity.user));

        let upstream = &self.upstreams[route.upstream];
        let origin = origin_of(listener, peer, client);
        let ask = UpstreamRequest::new(route, &request, &permit, origin, record.id);
        let opened = open::open(upstream, &ask, self.telemetry(), &mut record.steps).await;
        let opened = opened.map_err(|r| refuse.with(r))?;
        record.endpoint = Some(Arc::clone(&opened.endpoint.label));

        let handle = SessionHandle::new(
            record.id,
            index,
            record.user.clone(),
            record.client,
            Instant::now(),
        );
        self.take_user_place(&mut permit, &handle);
        let tokens = self.token_entries(index, &request);
        let chosen = subprotocol::select(&request.offered, opened.subprotocol.as_deref(), &tokens);
        record.subprotocol =
            chosen.as_ref().filter(|name| !tokens.contains(&name.as_str())).cloned();
        let metrics = &self.telemetry().metrics;
        Ok(Accepted {
            response: response::switching(&request, chosen.as_deref(), record.id),
            upstream: opened.stream,
            from_upstream: opened.arrived,
            route: index,
            handle,
            places: SessionPlaces {
                _gauges: [
                    metrics.session(index),
                    metrics.endpoint_session(route.upstream, opened.endpoint.index),
                ],
                _user: permit.subject.map(|subject| subject.place),
                _endpoint: opened.place,
            },
        })
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

    /// The client's address, as far as trusted proxies tell it.
    fn find_client(
        &self,
        listener: &Listener,
        peer: Peer,
        request: &UpgradeRequest,
        record: &mut SessionRecord,
    ) -> IpAddr {
        let trusted = &listener.config.trusted_proxies;
        let direct = peer.address.ip();
        let client = forwarded::client_address(direct, trusted, &request.headers);
        if client != direct.to_canonical() && client != direct {
            // The port is not known behind a proxy.
            record.set_client(SocketAddr::new(client, 0));
        }
        client
    }

    /// What was decided before the request could be read, and the address's account where only the
    /// request told the address.
    fn check_arrival(
        &self,
        listener: &Listener,
        peer: Peer,
        client: IpAddr,
        places: &mut ConnectionPlaces,
        refusal: Option<Rejection>,
    ) -> Result<(), Rejection> {
        if let Some(rejection) = refusal {
            return Err(rejection);
        }
        if self.refuses_requests.load(Ordering::Acquire) {
            return Err(Rejection::Draining);
        }
        if listener.trusts(peer.direct.ip()) {
            places.set_address(self.addresses.admit(client, Instant::now())?);
        }
        Ok(())
    }

    /// The upstream has said yes: the user's place becomes a session, and older ones may give way.
    fn take_user_place(&self, permit: &mut Permit, handle: &Arc<SessionHandle>) {
        let Some(subject) = &mut permit.subject else { return };
        let confirmed = subject.place.confirm(handle, Instant::now());
        for evicted in confirmed.evicted {
            self.telemetry().user_evicted(EvictionReason::UserLimit, evicted, handle.id);
        }
        if confirmed.is_reconnect {
            self.telemetry().user_reconnected(handle.route);
        }
    }

    /// Offered entries that are tokens because they follow a configured name.
    fn token_entries<'a>(&self, route: usize, request: &'a UpgradeRequest) -> Vec<&'a str> {
        let Some(verifier) = self.config().routes[route].verifier else { return Vec::new() };
        let names = self.config().verifiers[verifier].sources.iter();
        names
            .filter_map(|source| match source {
                TokenSource::SubprotocolAfter(name) => {
                    let at = request.offered.iter().position(|entry| entry == name)?;
                    request.offered.get(at + 1).map(String::as_str)
                }
                _ => None,
            })
            .collect()
    }

    /// The configuration in force.
    pub fn config(&self) -> &Config {
        &self.environment.config
    }

    /// Metrics and logs.
    pub fn telemetry(&self) -> &Telemetry {
        &self.environment.telemetry
    }

    /// What sessions share.
    pub(crate) fn environment(&self) -> &Arc<Environment> {
        &self.environment
    }

    /// Open sessions.
    pub fn registry(&self) -> &Registry {
        &self.environment.registry
    }

    /// The state of the upstreams.
    pub fn upstreams(&self) -> &[Upstream] {
        &self.upstreams
    }

    /// Places of the process.
    pub fn connections(&self) -> &ConnectionLimits {
        &self.connections
    }

    /// Places per address.
    pub fn addresses(&self) -> &Arc<AddressTable> {
        &self.addresses
    }

    /// Places per user.
    pub fn users(&self) -> &UserTable {
        &self.admission.users
    }

    /// Every task of the gateway, so that its end can be waited for.
    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// A fresh id.
    pub(crate) fn new_id(&self) -> SessionId {
        SessionId::new(fastrand::u64(..))
    }

    /// From now on not ready (the first step of a drain).
    pub(crate) fn begin_drain(&self) {
        self.is_draining.store(true, Ordering::Release);
    }

    /// From now on every handshake is refused with `draining`.
    pub(crate) fn refuse_requests(&self) {
        self.refuses_requests.store(true, Ordering::Release);
    }

    /// Whether public listeners take connections.
    pub(crate) fn set_listening(&self, listening: bool) {
        self.is_listening.store(listening, Ordering::Release);
    }

    /// Why a balancer should send nobody here; empty: it may.
    pub fn unready(&self) -> Vec<Unready> {
        let mut reasons = Vec::new();
        if self.is_draining.load(Ordering::Acquire) {
            reasons.push(Unready::Draining);
        }
        if !self.is_listening.load(Ordering::Acquire) {
            reasons.push(Unready::NoListener);
        }
        if !self.upstreams.iter().any(Upstream::has_healthy_endpoint) {
            reasons.push(Unready::NoHealthyEndpoint);
        }
        reasons
    }
}

/// Decides how a refusal is told.
struct RefusalTeller<'a> {
    gateway: &'a Gateway,
    request: &'a UpgradeRequest,
    route: Option<usize>,
    id: SessionId,
}

impl RefusalTeller<'_> {
    fn with(&self, rejection: Rejection) -> Refusal {
        let config = self.gateway.config();
        let mode = self.route.map_or(RefuseMode::Auto, |route| config.routes[route].refuse);
        let by_close = rejection
            .is_told_by_close(mode, self.request.origin.is_some())
            .then(|| self.by_close(&rejection))
            .flatten();
        Refusal { rejection, route: self.route, by_close }
    }

    fn by_close(&self, rejection: &Rejection) -> Option<ToldByClose> {
        let tokens = self
            .route
            .map(|route| self.gateway.token_entries(route, self.request))
            .unwrap_or_default();
        let chosen = subprotocol::for_refusal(&self.request.offered, &tokens);
        let code = rejection.close_code(&self.gateway.config().close_codes, chosen.as_deref())?;
        let response = response::switching(self.request, chosen.as_deref(), self.id);
        Some(ToldByClose { response, code })
    }
}

impl Refusal {
    fn by_http(rejection: Rejection) -> Self {
        Self { rejection, route: None, by_close: None }
    }
}

fn origin_of(listener: &Listener, peer: Peer, client: IpAddr) -> Origin {
    let direct = peer.address.ip();
    Origin {
        client,
        direct,
        trust: if listener.trusts(direct) { Trust::Trusted } else { Trust::Untrusted },
        scheme: if peer.is_secure { Scheme::Https } else { Scheme::Http },
    }
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
