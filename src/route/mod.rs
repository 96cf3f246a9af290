//! From host and path to the route that serves them. Pure.
//!
//! The most specific route wins, not the first: a route for this host before one for hosts that end alike,
//! the longer end first, before one for any host, then segment by segment literal text before `{name}` before `{*name}`. Among routes that are equally
//! specific the order of the file counts. A route whose typed parameter does not have its form is
//! passed over for the next one.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::cast_possible_truncation))]

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use percent_encoding::percent_decode_str;

mod host;
mod parameter;
mod pattern;
#[cfg(test)]
mod tests;
mod trie;

pub(crate) use parameter::{ParameterType, Parameters};
pub(crate) use pattern::Pattern;

use parameter::Parameter;
use trie::{Candidate, Trie};

/// All routes of a configuration, ready to be searched.
#[derive(Debug)]
pub struct Router {
    by_host: HashMap<String, Trie>,
    /// By the end of the host's name, with the dot in front: `*.example.com`.
    by_end: HashMap<String, Trie>,
    any_host: Trie,
}

/// A route of one configuration: its place among the `[[route]]` entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RouteId(usize);

impl RouteId {
    /// The route at this place, counted from 0.
    pub fn new(index: usize) -> Self {
        Self(index)
    }

    /// Its place, counted from 0.
    pub fn index(self) -> usize {
        self.0
    }
}

/// What the router has to know of a route.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry<'a> {
    /// Its path.
    pub(crate) pattern: &'a Pattern,
    /// The form of its parameters; one without entry is any one segment.
    pub(crate) parameters: &'a HashMap<String, ParameterType>,
    /// The hosts it answers to, in lower case; empty: any.
    pub(crate) hosts: &'a [String],
}

/// The route that serves a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// Which of the routes the router was built from.
    pub route: RouteId,
    /// The decoded path parameters.
    pub(crate) parameters: Parameters,
}

impl Router {
    /// Builds the router; [`Match::route`] counts `routes` from 0.
    pub(crate) fn new<'a>(routes: impl IntoIterator<Item = Entry<'a>>) -> Self {
        let mut router =
            Self { by_host: HashMap::new(), by_end: HashMap::new(), any_host: Trie::default() };
        for (index, route) in routes.into_iter().enumerate() {
            router.insert(RouteId::new(index), route);
        }
        router
    }

    /// The route for a Host header (with or without port) and a path normalised by the handshake.
    ///
    /// The path may hold escapes (`%20`): it is matched decoded, literal segments too, because that
    /// is how a backend reads it; `/a%40b` must not slip past a route for `/a@b`. A path that
    /// is not UTF-8 when decoded matches nothing.
    pub fn find(&self, host: &str, path: &str) -> Option<Match> {
        let path = decode(path)?;
        let host = host::key(host);
        let exact = host.as_ref().and_then(|host| self.by_host.get(host.as_ref()));
        exact
            .and_then(|trie| trie.find(&path))
            .or_else(|| self.find_by_end(host.as_deref()?, &path))
            .or_else(|| self.any_host.find(&path))
    }

    /// From the longest end of a name to the shortest, at least one whole label before it.
    fn find_by_end(&self, host: &str, path: &str) -> Option<Match> {
        if self.by_end.is_empty() || host.starts_with('.') || host.contains("..") {
            return None;
        }
        let ends = host.match_indices('.').filter_map(|(at, _)| host.get(at..));
        ends.filter_map(|end| self.by_end.get(end)).find_map(|trie| trie.find(path))
    }

    fn insert(&mut self, id: RouteId, route: Entry<'_>) {
        let pattern = route.pattern;
        let parameters = pattern
            .names()
            .map(|name| Parameter { name: name.into(), form: route.parameters.get(name).cloned() });
        let candidate = Arc::new(Candidate { route: id, parameters: parameters.collect() });
        if route.hosts.is_empty() {
            self.any_host.insert(pattern, candidate);
            return;
        }
        // What is no host can be no request's: such a route answers to its other hosts only.
        for host in route.hosts.iter().filter_map(|host| host::key(host)) {
            let trie = match host.strip_prefix('*') {
                Some(end) => self.by_end.entry(end.to_owned()).or_default(),
                None => self.by_host.entry(host.into_owned()).or_default(),
            };
            trie.insert(pattern, Arc::clone(&candidate));
        }
    }
}

/// The path in plain text, in which an encoded slash is [`ENCODED_SLASH`]: it separates nothing.
fn decode(path: &str) -> Option<Cow<'_, str>> {
    if !has_encoded_slash(path) {
        return percent_decode_str(path).decode_utf8().ok();
    }
    let plain = |part: &str| Some(percent_decode_str(part).decode_utf8().ok()?.into_owned());
    let halves = path.replace("%2f", "%2F");
    // UTF-8 never spans a slash, so parts decode as they would one by one.
    let parts: Option<Vec<_>> = halves.split("%2F").map(plain).collect();
    Some(Cow::Owned(parts?.join(ENCODED_SLASH)))
}

/// Whether a normalised path has a slash that stands inside a segment.
pub(crate) fn has_encoded_slash(path: &str) -> bool {
    path.contains("%2F") || path.contains("%2f")
}

/// What an encoded slash is while a path is matched: no path that is let through has this character.
const ENCODED_SLASH: &str = "\0";
