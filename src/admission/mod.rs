//! Who may connect: the ordered list of checks, cheap ones first.
//!
//! [`Admission::admit`] is the security order. Rate and number per address have been checked before a
//! request gets here; what is left is origin, token, authorisation and the user's own limit. Each check
//! is a module of its own and knows nothing of the others.

use std::sync::Arc;
use std::time::Duration;

use jwks::{KeySource, SourceTable};
use jwt::{Padding, Token};
use signature::VerifierKeys;
use token::{Presented, Sender};

use crate::config::locations::child;
use crate::config::{Config, Problem, Route, TokenSource, UserScope, Verifier};
use crate::handshake::forwarded;
use crate::handshake::headers::Trust;
use crate::handshake::request::UpgradeRequest;
use crate::outcome::rejection::{Rejection, TokenFault};
use crate::route::{Match, Parameters};
use crate::session::identity::Identity;
use crate::session::limiter::{Limiter, ScopeKey, UserKey, UserPlace};

pub(crate) mod authorize;
mod json;
pub(crate) mod jwks;
pub(crate) mod jwt;
pub(crate) mod key_file;
pub(crate) mod keys;
pub(crate) mod limits;
pub(crate) mod origin;
pub(crate) mod signature;
pub(crate) mod token;
pub(crate) mod users;

/// What admission needs to decide.
pub struct Admission {
    verifiers: Vec<VerifierKeys>,
    users: Arc<dyn Limiter>,
}

/// The right to open a session.
#[derive(Debug)]
pub struct Permit {
    /// Who connects and with which token; `None` on a route without verifier.
    pub(crate) subject: Option<Subject>,
}

/// A verified user.
#[derive(Debug)]
pub(crate) struct Subject {
    /// Who the token says it is.
    pub(crate) identity: Identity,
    /// The token and where it stood.
    pub(crate) presented: Presented,
    /// The user's place, reserved.
    pub(crate) place: UserPlace,
}

impl Admission {
    /// Reads all verification keys; also returns what is not wrong but unwise. `users` are counted
    /// and `sources` of published keys are known whatever the configuration.
    pub fn new(
        config: &Config,
        users: Arc<dyn Limiter>,
        sources: &SourceTable,
    ) -> Result<(Self, Vec<Problem>), Vec<Problem>> {
        let (mut verifiers, mut warnings, mut problems) = (Vec::new(), Vec::new(), Vec::new());
        for verifier in &config.verifiers {
            let path = child("verifiers", &verifier.name);
            problems.extend(jwks::check_authorities(verifier, &path, &config.locations).err());
            match keys::load(verifier, &path, &config.locations) {
                Ok((fixed, unwise)) => {
                    warnings.extend(unwise);
                    let name = Arc::from(verifier.name.as_str());
                    let published =
                        verifier.jwks.as_ref().map(|jwks| sources.source(verifier, jwks));
                    verifiers.push(VerifierKeys { name, fixed, published });
                }
                Err(wrong) => problems.extend(wrong),
            }
        }
        if problems.is_empty() { Ok((Self { verifiers, users }, warnings)) } else { Err(problems) }
    }

    /// The verifiers, each with its keys.
    pub(crate) fn verifiers(&self) -> &[VerifierKeys] {
        &self.verifiers
    }

    /// Decides on a request for a route; `now` in seconds since 1970. `user` is known as soon as the token is
    /// verified, also if it does not allow this.
    pub async fn admit(
        &self,
        config: &Config,
        matched: &Match,
        request: &UpgradeRequest,
        trust: Trust,
        user: &mut Option<Arc<str>>,
        now: u64,
    ) -> Result<Permit, Rejection> {
        let (route, parameters) = (config.route(matched.route), &matched.parameters);
        origin::check(&route.origins, request.origin.as_deref())?;
        let Some(verifier) = route.verifier else { return Ok(Permit { subject: None }) };
        let (rules, keys) = (&config.verifiers[verifier], &self.verifiers[verifier]);
        let presented = find_token(rules, route, request, trust)?;
        // Only a balancer that sets a header of its own writes padding.
        let padding = match presented.source {
            TokenSource::HeaderNamed(_) => Padding::Allowed,
            _ => Padding::Forbidden,
        };
        let token = Token::parse_with(&presented.token, padding)?;
        keys.check(&token, rules, now).await?;
        let identity = token.accept(rules, now)?;
        *user = Some(Arc::clone(&identity.user));
        authorize::check(&route.authorize, &identity.claims, |name| parameters.get(name))
            .map_err(Rejection::Forbidden)?;
        let key = UserKey {
            verifier: Arc::clone(&keys.name),
            issuer: identity.issuer.clone(),
            user: Arc::clone(&identity.user),
            scope: scope(&route.limits.user_scope, &route.label, parameters),
        };
        // A holder that is asked has its pong time, and a moment to be heard.
        let patience = config.keepalive.client_pong + Duration::from_secs(1);
        let limit = (&route.limits).into();
        let place = UserPlace::reserve(&self.users, key, limit, patience).await?;
        Ok(Permit { subject: Some(Subject { identity, presented, place }) })
    }

    /// Where published keys come from.
    pub(crate) fn key_sources(&self) -> impl Iterator<Item = &Arc<KeySource>> {
        self.verifiers.iter().filter_map(|keys| keys.published.as_ref())
    }

    /// Names of the verifiers that routes use and that have no key at `now`.
    pub(crate) fn without_keys(&self, config: &Config, now: u64) -> Vec<String> {
        let is_used = |index| config.routes.iter().any(|route| route.verifier == Some(index));
        let used = self.verifiers.iter().enumerate().filter(|(index, _)| is_used(*index));
        let without = used.filter(|(_, keys)| keys.is_empty(now));
        without.map(|(_, keys)| keys.name.to_string()).collect()
    }
}

/// The token of a request, or why there is none.
fn find_token(
    rules: &Verifier,
    route: &Route,
    request: &UpgradeRequest,
    trust: Trust,
) -> Result<Presented, Rejection> {
    let host = forwarded::host(trust, &request.headers).unwrap_or(&request.host);
    let sender = Sender { trust, host, origins: &route.origins };
    match token::extract(&rules.sources, request, sender) {
        Err(TokenFault::Missing) if sender.leaves_a_cookie_out(&rules.sources, request) => {
            Err(Rejection::CookieLeftOut {
                origin: request.origin.clone().unwrap_or_default(),
                host: host.to_owned(),
            })
        }
        found => Ok(found?),
    }
}

fn scope(scope: &UserScope, route: &str, parameters: &Parameters) -> ScopeKey {
    match scope {
        UserScope::Route => ScopeKey::Route(Arc::from(route)),
        UserScope::All => ScopeKey::All,
        UserScope::Path(name) => {
            ScopeKey::Path(name.clone(), parameters.get(name).unwrap_or_default().to_owned())
        }
    }
}
