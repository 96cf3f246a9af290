//! The configuration as the gateway uses it: typed, complete, every reference resolved. Pure.
//!
//! [`Config::parse`] turns the text of a file into a [`Config`] or into *all* of its [`Problem`]s at
//! once, each with its path and line. Nothing behind this module checks a setting again. Files named
//! here (certificates, keys) are read by their users, not here.
//!
//! A setting is one field of a section's type and one line of that type's `read` function, in the
//! same file; the tests want it in `config/framegate.toml` too.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::cast_possible_truncation))]

use std::path::Path;

use crate::handshake::headers::normalised;
use crate::outcome::close_codes::CloseCodes;
use crate::route::{RouteId, Router};

mod authorize;
mod changes;
pub(crate) mod claim;
mod endpoint;
mod file;
pub(crate) mod header_rules;
mod hosts;
mod jwks;
mod limits;
pub(crate) mod listener;
pub(crate) mod locations;
mod parameter;
mod process;
mod reader;
pub(crate) mod route;
mod sources;
mod suggest;
pub(crate) mod units;
mod upstream;
mod values;
mod verifier;
mod warnings;

pub(crate) use authorize::Authorize;
pub(crate) use changes::{Change, Changes};
pub(crate) use jwks::{Jwks, JwksSource};
pub(crate) use limits::{
    MessageRate, OverRate, ProcessLimits, RouteLimits, UserScope, WhenUserFull,
};
pub(crate) use listener::{Admin, AdminBind, Bind, Certificate, Listener, ListenerTls, TlsVersion};
pub(crate) use locations::Locations;
pub(crate) use process::{Drain, Keepalive, Log, LogFormat, LogLevel, Timeouts};
pub(crate) use route::{ForwardHost, Route};
pub(crate) use upstream::{
    BalancePolicy, Endpoint, EndpointId, Health, Target, Upstream, UpstreamId,
};
pub(crate) use verifier::Key;

#[cfg(test)]
pub(crate) use header_rules::HeaderRules;
pub use limits::Rate;
pub use route::ForwardToken;
pub use sources::TokenSource;
pub use verifier::Verifier;

/// Everything the gateway was told, immutable.
#[derive(Debug, Clone)]
pub struct Config {
    /// Public listeners, at least one.
    pub(crate) listeners: Vec<Listener>,
    /// The admin listener; `None` when `admin.bind` is empty.
    pub(crate) admin: Option<Admin>,
    /// Token verifiers; a route refers to them by index.
    pub verifiers: Vec<Verifier>,
    /// Upstreams; a route refers to them by index.
    pub(crate) upstreams: Vec<Upstream>,
    /// Routes in the order of the file.
    pub routes: Vec<Route>,
    /// Limits of the whole process (`limits` without the routes' overrides).
    pub limits: ProcessLimits,
    /// Deadlines.
    pub(crate) timeouts: Timeouts,
    /// Pings.
    pub(crate) keepalive: Keepalive,
    /// How sessions are ended on SIGTERM.
    pub(crate) drain: Drain,
    /// Warnings that are known and accepted, by [`Self::name_of`] their paths.
    pub(crate) accepted: Vec<String>,
    /// Logging.
    pub(crate) log: Log,
    /// Overrides of the close-code tables.
    pub(crate) close_codes: CloseCodes,
    /// Where each path of the file stands, for problems found later (unreadable files).
    pub locations: Locations,
}

impl Config {
    /// Reads the text of a configuration file; relative paths in it are taken from `folder`.
    ///
    /// # Errors
    /// All problems in the order of the file. Text that is not TOML is one problem.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, Vec<Problem>> {
        Self::parse_with_credentials(text, folder, None)
    }

    /// The same; files called `credential:NAME` are in the folder `credentials`.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub(crate) fn parse_with_credentials(
        text: &str,
        folder: &Path,
        credentials: Option<&Path>,
    ) -> Result<Self, Vec<Problem>> {
        file::parse(text, folder, credentials)
    }

    /// Reads `[admin]` alone, whatever is wrong elsewhere: for whoever asks a gateway that runs on.
    ///
    /// # Errors
    /// What is wrong with that table, or that the text is not TOML.
    pub(crate) fn parse_admin(
        text: &str,
        folder: &Path,
        credentials: Option<&Path>,
    ) -> Result<Option<Admin>, Vec<Problem>> {
        file::parse_admin(text, folder, credentials)
    }

    /// A route by its place.
    #[expect(clippy::indexing_slicing, reason = "an id counts this configuration's own routes")]
    pub(crate) fn route(&self, id: RouteId) -> &Route {
        &self.routes[id.index()]
    }

    /// Names that clients' headers must not have, as [`normalised`] gives them: some route sets them, or some
    /// listener believes a trusted proxy by them.
    pub(crate) fn reserved_headers(&self) -> Vec<String> {
        let set = self.routes.iter().flat_map(|route| &route.request_headers.set);
        let set = set.map(|(name, _)| normalised(name));
        let trusted = self.listeners.iter().flat_map(|listener| &listener.trusted_headers);
        let sources = self.verifiers.iter().flat_map(|verifier| &verifier.sources);
        let tokens = sources.filter_map(|source| match source {
            TokenSource::HeaderNamed(name) => Some(normalised(name)),
            _ => None,
        });
        let mut names: Vec<_> = set.chain(trusted.cloned()).chain(tokens).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The headers by which this route's tokens come from a proxy and go on to its backend: those that are
    /// kept because `forward.token = "keep"` is written.
    pub(crate) fn kept_token_headers(&self, id: RouteId) -> Vec<String> {
        let route = self.route(id);
        let Some(verifier) = route.verifier.and_then(|at| self.verifiers.get(at)) else {
            return Vec::new();
        };
        let names = verifier.sources.iter().filter_map(|source| match source {
            TokenSource::HeaderNamed(name) => Some(normalised(name)),
            _ => None,
        });
        let mut names: Vec<_> = names.collect();
        let is_written =
            || self.locations.contains(&format!("route[{}].forward.token", id.index()));
        if !names.is_empty() && (route.forward.token != ForwardToken::Keep || !is_written()) {
            names.clear();
        }
        names
    }

    /// The routes, ready to be searched.
    pub fn router(&self) -> Router {
        Router::new(self.routes.iter().map(Route::entry))
    }

    /// What a path is called in `[check] accept`: routes and listeners by what tells them apart, as their places
    /// change.
    pub(crate) fn name_of(&self, path: &str) -> String {
        let named = |list: &str, name: &dyn Fn(usize) -> Option<String>| {
            let (index, rest) = path.strip_prefix(list)?.strip_prefix('[')?.split_once(']')?;
            Some(format!("{list}.{:?}{rest}", name(index.parse().ok()?)?))
        };
        named("route", &|at| Some(self.routes.get(at)?.label.clone()))
            .or_else(|| named("listener", &|at| Some(self.listeners.get(at)?.bind.to_string())))
            .unwrap_or_else(|| path.to_owned())
    }

    /// Whether a warning is known and accepted.
    pub(crate) fn accepts(&self, warning: &Problem) -> bool {
        !self.accepted.is_empty() && self.accepted.contains(&self.name_of(&warning.path))
    }

    /// What is legal but probably not meant, or worth a second look.
    pub fn warnings(&self) -> Vec<Problem> {
        warnings::warnings(self)
    }
}

/// One thing that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// `route[2].upstream`; empty for the file as a whole (syntax).
    pub path: String,
    /// 1-based line of the file, where known.
    pub line: Option<usize>,
    /// What is wrong, where and what to do.
    pub message: String,
}

impl std::fmt::Display for Problem {
    /// `line 12: route[2].upstream: no upstream is called "chta"; did you mean "chat"?`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

#[cfg(test)]
mod tests;
