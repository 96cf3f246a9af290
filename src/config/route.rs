//! `[[route]]`: what a host and path lead to, and under which rules. Pure.

use std::collections::HashMap;

use super::authorize::Authorize;
use super::header_rules::HeaderRules;
use super::hosts::{self, Host};
use super::limits::{RouteDefaults, RouteLimits, UserScope};
use super::locations::child;
use super::parameter::parameter_type;
use super::reader::{Node, Table};
use super::suggest::{did_you_mean, nearest};
use super::upstream::UpstreamId;
use crate::handshake::path;
use crate::handshake::template::Template;
use crate::outcome::close_codes::RefuseMode;
use crate::route::{Entry, ParameterType, Pattern};

/// What a path and host lead to (`[[route]]`).
#[derive(Debug, Clone)]
pub struct Route {
    /// The pattern as typed, `/api/v1/chats/{chat_id}/ws`: the `route` label of metrics (with the
    /// hosts in front where two routes share a path).
    pub(crate) label: String,
    /// The path pattern.
    pub(crate) path: Pattern,
    /// Types of path parameters; a parameter without entry is any one segment.
    pub(crate) parameters: HashMap<String, ParameterType>,
    /// Lower-case host names this route answers to; empty: any.
    pub(crate) hosts: Vec<String>,
    /// Where its sessions lead.
    pub(crate) upstream: UpstreamId,
    /// Index into [`super::Config::verifiers`]; `None`: no token is asked for (`verifier = "none"`).
    pub(crate) verifier: Option<usize>,
    /// Allowed origins, lower case (`https://chat.example.com`); empty: any.
    pub(crate) origins: Vec<String>,
    /// Rules on the token's claims.
    pub(crate) authorize: Authorize,
    /// How a refusal is told.
    pub(crate) refuse: RefuseMode,
    /// What goes upstream besides the client's own headers.
    pub(crate) forward: Forward,
    /// The path that its backend is asked for; `None`: the client's.
    pub(crate) upstream_path: Option<Template>,
    /// `%2F` may stand in a segment.
    pub(crate) encoded_slash: bool,
    /// Headers set and removed towards the backend.
    pub(crate) request_headers: HeaderRules,
    /// Headers set and removed towards the client.
    pub(crate) response_headers: HeaderRules,
    /// `[limits]` with this route's overrides.
    pub(crate) limits: RouteLimits,
}

impl Route {
    /// What the router has to know of it.
    pub(crate) fn entry(&self) -> Entry<'_> {
        Entry { pattern: &self.path, parameters: &self.parameters, hosts: &self.hosts }
    }
}

/// What goes upstream besides the client's own headers.
#[derive(Debug, Clone)]
pub(crate) struct Forward {
    /// What becomes of the token.
    pub(crate) token: ForwardToken,
    /// Send X-Auth-User and X-Auth-Claims.
    pub(crate) identity: bool,
    /// Claims sent in X-Auth-Claims.
    pub(crate) claims: Vec<String>,
    /// Which Host the upstream sees.
    pub(crate) host: ForwardHost,
}

/// What becomes of the token on its way upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardToken {
    /// It stays where it came.
    Keep,
    /// It is removed.
    Strip,
    /// It is moved into `Authorization: Bearer`.
    Authorization,
}

/// Which Host header the upstream sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ForwardHost {
    /// The client's.
    Client,
    /// The endpoint's.
    Upstream,
}

/// What routes refer to.
pub(super) struct Referents {
    /// Names of upstreams in the order of [`super::Config::upstreams`].
    pub(super) upstreams: Vec<String>,
    /// Names of verifiers in the order of [`super::Config::verifiers`].
    pub(super) verifiers: Vec<String>,
    /// `[limits]`
    pub(super) limits: RouteDefaults,
}

/// A route's `verifier`, as far as it could be read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum VerifierChoice {
    None,
    Index(usize),
    Unreadable,
}

impl Route {
    /// Reads one `[[route]]`; `None` if it has no usable path. Other faults leave gaps.
    pub(super) fn read(table: &mut Table<'_, '_>, referents: &Referents) -> Option<Self> {
        let path = read_path(table);
        let names = path.as_ref().map(|(_, names)| names.as_slice());
        let parameters = table.section("parameters", |types| read_types(types, names));
        let hosts =
            table.set("hosts", |node| node.parse(Host::parse_pattern).map(Host::into_string));
        let upstream = table
            .required("upstream", "the name of one of [upstreams]")
            .and_then(|node| reference(&node, "upstream", &referents.upstreams))
            .map(UpstreamId::new);
        let verifier = read_verifier(table, &referents.verifiers);
        let origins = table.set("origins", |node| node.parse(hosts::origin));
        let authorize = table.section("authorize", |rules| Authorize::read(rules, names));
        let refuse =
            [("auto", RefuseMode::Auto), ("http", RefuseMode::Http), ("close", RefuseMode::Close)];
        let refuse = table.choice("refuse", &refuse, RefuseMode::Auto);
        let forward = table.section("forward", Forward::read);
        let parameters_of_path = names.unwrap_or_default();
        let upstream_path = read_upstream_path(table, parameters_of_path);
        let encoded_slash = table.boolean("encoded_slash", false);
        let request_headers = HeaderRules::read(table, "request_headers", parameters_of_path);
        let response_headers = HeaderRules::read(table, "response_headers", parameters_of_path);
        let limits = read_limits(table, &referents.limits, names, verifier);
        reject_expected(table);
        if verifier == VerifierChoice::None {
            reject_rules_on_tokens(table, &authorize, &forward);
        }
        let (path, _) = path?;
        Some(Self {
            label: path.to_string(),
            path,
            parameters,
            hosts,
            upstream: upstream.unwrap_or_default(),
            verifier: match verifier {
                VerifierChoice::Index(index) => Some(index),
                VerifierChoice::None | VerifierChoice::Unreadable => None,
            },
            origins,
            authorize,
            refuse,
            forward,
            upstream_path,
            encoded_slash,
            request_headers,
            response_headers,
            limits,
        })
    }

    /// Whether some request could be meant by both routes.
    pub(super) fn collides_with(&self, other: &Self) -> bool {
        let hosts_meet = if self.hosts.is_empty() || other.hosts.is_empty() {
            self.hosts.is_empty() && other.hosts.is_empty()
        } else {
            self.hosts.iter().any(|host| other.hosts.contains(host))
        };
        hosts_meet && self.path.shape() == other.path.shape()
    }
}

impl Forward {
    fn read(table: &mut Table<'_, '_>) -> Self {
        let token = [
            ("keep", ForwardToken::Keep),
            ("strip", ForwardToken::Strip),
            ("authorization", ForwardToken::Authorization),
        ];
        let host = [("client", ForwardHost::Client), ("upstream", ForwardHost::Upstream)];
        Self {
            token: table.choice("token", &token, ForwardToken::Keep),
            identity: table.boolean("identity", true),
            claims: table.set("claims", Node::word),
            host: table.choice("host", &host, ForwardHost::Client),
        }
    }
}

/// Makes the labels of routes with the same path differ: the hosts go in front.
pub(super) fn label_routes(routes: &mut [Route]) {
    let mut uses: HashMap<String, usize> = HashMap::new();
    for route in routes.iter() {
        let uses = uses.entry(route.path.to_string()).or_default();
        *uses = uses.saturating_add(1);
    }
    for route in routes {
        if uses.get(&route.path.to_string()).is_some_and(|uses| *uses > 1) {
            route.label = format!("{}{}", route.hosts.join(","), route.path);
        }
    }
}

/// The path and the names of its parameters.
fn read_path(table: &mut Table<'_, '_>) -> Option<(Pattern, Vec<String>)> {
    let node = table.required("path", "such as \"/ws\" or \"/chats/{chat_id}/ws\"")?;
    let pattern = node.parse(Pattern::parse)?;
    let names = pattern.names().map(str::to_owned).collect();
    Some((pattern, names))
}

/// Reads `upstream_path`: a path with places for the parameters of the route's own.
fn read_upstream_path(table: &mut Table<'_, '_>, names: &[String]) -> Option<Template> {
    let node = table.take("upstream_path")?;
    let text = node.text()?;
    if text.is_empty() {
        return None;
    }
    let template = Template::parse(text, names, false).map_err(|error| node.problem(error)).ok()?;
    // As a request's path would be, with something in each place.
    let filled =
        names.iter().fold(text.to_owned(), |text, name| text.replace(&format!("{{{name}}}"), "x"));
    match path::normalise(&filled) {
        Ok(same) if same == filled => Some(template),
        Ok(_) => {
            node.problem("has percent-encoded characters that need not be: write them as they are");
            None
        }
        Err(fault) => {
            node.problem(fault);
            None
        }
    }
}

fn read_types(
    types: &mut Table<'_, '_>,
    names: Option<&[String]>,
) -> HashMap<String, ParameterType> {
    let mut parameters = HashMap::new();
    for (name, node) in types.named() {
        if let Some(names) = names.filter(|names| !names.contains(&name)) {
            node.problem(no_parameter(&name, names));
        }
        if let Some(kind) = node.parse(parameter_type) {
            parameters.insert(name, kind);
        }
    }
    parameters
}

fn read_verifier(table: &mut Table<'_, '_>, verifiers: &[String]) -> VerifierChoice {
    let hint = "the name of one of [verifiers], or \"none\" to let everybody in without a token";
    let Some(node) = table.required("verifier", hint) else {
        return VerifierChoice::Unreadable;
    };
    if node.value().as_str() == Some(NO_VERIFIER) {
        return VerifierChoice::None;
    }
    match reference(&node, "verifier", verifiers) {
        Some(index) => VerifierChoice::Index(index),
        None => VerifierChoice::Unreadable,
    }
}

fn read_limits(
    table: &mut Table<'_, '_>,
    defaults: &RouteDefaults,
    names: Option<&[String]>,
    verifier: VerifierChoice,
) -> RouteLimits {
    let limits = table.section("limits", |table| {
        let limits = defaults.read(table).limits;
        super::limits::ProcessLimits::reject(table);
        limits
    });
    // A route without users counts none.
    if verifier == VerifierChoice::None {
        return limits;
    }
    let (UserScope::Path(name), Some(names)) = (&limits.user_scope, names) else { return limits };
    if !names.contains(name) {
        let key = child(&table.at("limits"), "user_scope");
        let message = no_parameter(name, names);
        if table.was_typed(&key) {
            table.report(key, message);
        } else {
            table.problem(
                "path",
                format_args!(
                    "{message}, which limits.user_scope counts by; give the route its own limits.user_scope"
                ),
            );
        }
    }
    limits
}

/// Keys that people look for, with what there is instead.
fn reject_expected(table: &mut Table<'_, '_>) {
    let per_route = "belongs into `limits` of the route: limits = { connections_per_user = 3 }";
    table.reject(
        &["connections_per_user", "message_size", "messages", "when_user_full", "user_scope"],
        per_route,
    );
    let rewrite = "does not exist: upstream_path is the path that the backend is asked for, such as \"/{rest}\"";
    table.reject(&["rewrite", "strip_prefix", "prefix", "strip_path"], rewrite);
    let cors =
        "does not exist: CORS is not asked for WebSockets; `origins` says whose pages may connect";
    table.reject(&["cors", "allowed_origins", "allow_origins"], cors);
    let headers = "does not exist: request_headers = { set = {}, remove = [] } is towards the backend, response_headers towards the client";
    table.reject(&["headers", "add_headers", "set_headers"], headers);
    let whole = "is a setting of the whole gateway: write it as a table of its own, [timeouts] or [keepalive]";
    table.reject(&["timeouts", "keepalive"], whole);
}

/// The index of the name a value refers to.
fn reference(node: &Node<'_, '_>, kind: &str, names: &[String]) -> Option<usize> {
    let text = node.text()?;
    let found = names.iter().position(|name| name == text);
    if found.is_none() {
        let near = did_you_mean(nearest(text, names.iter().map(String::as_str)));
        node.problem(format_args!("no {kind} is called {text:?}{near}"));
    }
    found
}

/// The name of one of the path's parameters.
pub(super) fn parameter(node: &Node<'_, '_>, names: Option<&[String]>) -> Option<String> {
    let name = node.text()?;
    if let Some(names) = names.filter(|names| !names.iter().any(|other| other == name)) {
        node.problem(no_parameter(name, names));
        return None;
    }
    Some(name.to_owned())
}

fn no_parameter(name: &str, names: &[String]) -> String {
    let near = did_you_mean(nearest(name, names.iter().map(String::as_str)));
    format!("the path has no parameter {name:?}{near}")
}

/// Rules on a token are no rules where none is asked for: whoever wrote them relies on them.
fn reject_rules_on_tokens(table: &Table<'_, '_>, authorize: &Authorize, forward: &Forward) {
    let message = "needs a token, and verifier = \"none\" asks for none";
    let rules = [authorize.claims.len(), authorize.contains.len(), authorize.scopes.len()];
    if rules != [0; 3] {
        table.problem("authorize", message);
    }
    if forward.token != ForwardToken::Keep {
        table.report(child(&table.at("forward"), "token"), message);
    }
    if !forward.claims.is_empty() {
        table.report(child(&table.at("forward"), "claims"), message);
    }
}

/// What is written where no token is asked for.
pub(super) const NO_VERIFIER: &str = "none";
