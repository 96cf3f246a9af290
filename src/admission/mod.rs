//! Who may connect: the ordered list of checks, cheap ones first.
//!
//! [`Admission::admit`] is the security order. Rate and number per address have been checked before a
//! request gets here; what is left is origin, token, authorisation and the user's own limit. Each check
//! is a module of its own and knows nothing of the others.

use std::sync::Arc;
use std::time::Duration;

use identity::Identity;
use keys::KeySet;
use rejection::Rejection;
use token::Presented;
use users::{ScopeKey, UserKey, UserPlace, UserTable};

use crate::config::{Config, Problem, UserScope};
use crate::handshake::request::UpgradeRequest;
use crate::route::{Match, Parameters};

pub mod authorize;
pub mod identity;
mod json;
pub mod jwt;
pub mod key_file;
pub mod keys;
pub mod limits;
pub mod origin;
pub mod rate;
pub mod rejection;
pub mod token;
pub mod users;

/// What admission needs to decide.
pub struct Admission {
    verifiers: Vec<(Arc<str>, KeySet)>,
    users: Arc<UserTable>,
}

/// The right to open a session.
#[derive(Debug)]
pub struct Permit {
    /// Who connects and with which token; `None` on a route without verifier.
    pub subject: Option<Subject>,
}

/// A verified user.
#[derive(Debug)]
pub struct Subject {
    /// Who the token says it is.
    pub identity: Identity,
    /// The token and where it stood.
    pub presented: Presented,
    /// The user's place, reserved.
    pub place: UserPlace,
}

impl Admission {
    /// Reads all verification keys; also returns what is not wrong but unwise. `users` are counted
    /// whatever the configuration.
    pub fn new(
        config: &Config,
        users: Arc<UserTable>,
    ) -> Result<(Self, Vec<Problem>), Vec<Problem>> {
        let (mut verifiers, mut warnings, mut problems) = (Vec::new(), Vec::new(), Vec::new());
        for verifier in &config.verifiers {
            let path = format!("verifiers.{}", verifier.name);
            match keys::load(verifier, &path, &config.locations) {
                Ok((set, unwise)) => {
                    verifiers.push((Arc::from(verifier.name.as_str()), set));
                    warnings.extend(unwise);
                }
                Err(wrong) => problems.extend(wrong),
            }
        }
        if problems.is_empty() { Ok((Self { verifiers, users }, warnings)) } else { Err(problems) }
    }

    /// The verifiers, and how many keys each has now.
    pub fn key_counts(&self) -> impl Iterator<Item = (&str, usize)> {
        self.verifiers.iter().map(|(name, keys)| (&**name, keys.len()))
    }

    /// Decides on a request for a route; `now` in seconds since 1970.
    pub async fn admit(
        &self,
        config: &Config,
        matched: &Match,
        request: &UpgradeRequest,
        now: u64,
    ) -> Result<Permit, Rejection> {
        let (route, parameters) = (&config.routes[matched.route], &matched.parameters);
        origin::check(&route.origins, request.origin.as_deref())?;
        let Some(verifier) = route.verifier else { return Ok(Permit { subject: None }) };
        let (rules, (name, keys)) = (&config.verifiers[verifier], &self.verifiers[verifier]);
        let presented = token::extract(&rules.sources, request, &route.origins)?;
        let identity = jwt::verify(rules, keys, &presented.token, now)?;
        authorize::check(&route.authorize, &identity.claims, |name| parameters.get(name))
            .map_err(Rejection::Forbidden)?;
        let key = UserKey {
            verifier: Arc::clone(name),
            issuer: identity.issuer.clone(),
            user: Arc::clone(&identity.user),
            scope: scope(&route.limits.user_scope, &route.label, parameters),
        };
        // A holder that is asked has its pong time, and a moment to be heard.
        let patience = config.keepalive.client_pong + Duration::from_secs(1);
        let place = self.users.reserve(key, &route.limits, patience).await?;
        Ok(Permit { subject: Some(Subject { identity, presented, place }) })
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
