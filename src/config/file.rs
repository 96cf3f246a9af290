//! The whole file: its sections in the order of the reference, and what must fit between them. Pure.
//!
//! The schema is the walk itself: every key an operator may type is asked for in the `read` function
//! of the section it belongs to, next to the type it becomes, and keys nobody asks for are unknown.

use std::path::Path;

use toml::de::DeTable;

use super::limits::{ProcessLimits, RouteDefaults};
use super::listener::{Admin, AdminBind, Bind, Listener};
use super::process::{self, Drain, Keepalive, Log, Timeouts};
use super::reader::{Node, Report, Table};
use super::route::{NO_VERIFIER, Referents, Route, label_routes};
use super::upstream::Upstream;
use super::verifier::Verifier;
use super::{Config, Problem};
use crate::outcome::label::Label;

/// Reads a configuration file; see [`Config::parse`].
pub(super) fn parse(
    text: &str,
    folder: &Path,
    credentials: Option<&Path>,
) -> Result<Config, Vec<Problem>> {
    let report = Report::new(text, folder, credentials);
    let document = match DeTable::parse(text) {
        Ok(document) => document.into_inner(),
        Err(error) => return Err(vec![syntax_problem(text, &report, &error)]),
    };
    let mut config = report.root(document).read(|root| read(root));
    let (problems, locations) = report.finish();
    if !problems.is_empty() {
        return Err(problems);
    }
    config.locations = locations;
    Ok(config)
}

/// Reads `[admin]` alone; see [`Config::parse_admin`].
pub(super) fn parse_admin(
    text: &str,
    folder: &Path,
    credentials: Option<&Path>,
) -> Result<Option<Admin>, Vec<Problem>> {
    let report = Report::new(text, folder, credentials);
    let document = match DeTable::parse(text) {
        Ok(document) => document.into_inner(),
        Err(error) => return Err(vec![syntax_problem(text, &report, &error)]),
    };
    // The other sections are not asked for, nor called unknown.
    let admin = report.root(document).section("admin", Admin::read);
    let (problems, _) = report.finish();
    if problems.is_empty() { Ok(admin) } else { Err(problems) }
}

/// Reads all sections. With any problem recorded, the result has gaps and is of no use.
pub(super) fn read(root: &mut Table<'_, '_>) -> Config {
    let listeners = read_listeners(root);
    let admin = root.section("admin", Admin::read);
    reject_shared_addresses(root, &listeners, admin.as_ref());
    let (verifier_names, verifiers) = read_named(root, "verifiers", |node, name| {
        if name == NO_VERIFIER {
            node.problem("\"none\" is what routes without a verifier say; call it something else");
        }
        let name = name.to_owned();
        node.table(|table| Verifier::read(table, &name))
    });
    let (upstream_names, upstreams) = read_named(root, "upstreams", |node, name| {
        let name = name.to_owned();
        node.table(|table| Upstream::read(table, &name))
    });
    let (limits, route_limits) = root.section("limits", |table| {
        (ProcessLimits::read(table), RouteDefaults::default().read(table))
    });
    let referents =
        Referents { upstreams: upstream_names, verifiers: verifier_names, limits: route_limits };
    let routes = read_routes(root, &referents);
    let timeouts = root.section("timeouts", Timeouts::read);
    let keepalive = root.section("keepalive", Keepalive::read);
    let drain = root.section("drain", Drain::read);
    let cors = "does not exist: CORS is not asked for WebSockets; `origins` of a route says whose pages may connect";
    root.reject(&["cors"], cors);
    let accepted = root.section("check", |table| table.set("accept", Node::word));
    let log = root.section("log", Log::read);
    let close_codes = root.section("close_codes", process::read_close_codes);
    if close_codes.by_label.contains_key(&Label::Drained) && root.was_typed("drain.code") {
        let message = "drain.code is set too: one of the two must go";
        root.report("close_codes.drained".to_owned(), message);
    }
    Config {
        listeners: listeners.into_iter().map(|(_, listener)| listener).collect(),
        admin,
        verifiers,
        upstreams,
        routes,
        limits,
        timeouts,
        keepalive,
        drain,
        accepted,
        log,
        close_codes,
        locations: super::Locations::default(),
    }
}

/// The usable listeners, each with its path.
fn read_listeners(root: &mut Table<'_, '_>) -> Vec<(String, Listener)> {
    let read = |node: Node<'_, '_>| {
        let path = node.path().to_owned();
        Some((path, node.table(Listener::read).flatten()?))
    };
    tables(root, "listener", "the gateway listens nowhere").into_iter().filter_map(read).collect()
}

/// A socket has one listener. Port 0 is a free port each time, so it is shared with nobody.
fn reject_shared_addresses(
    root: &Table<'_, '_>,
    listeners: &[(String, Listener)],
    admin: Option<&Admin>,
) {
    let mut taken: Vec<(&str, Bind)> = Vec::new();
    let admin = admin.and_then(|admin| match &admin.bind {
        AdminBind::Tcp(address) => Some(("admin", Bind::Address(*address))),
        AdminBind::Unix(_) => None,
    });
    let listeners = listeners.iter().map(|(path, listener)| (path.as_str(), listener.bind.clone()));
    let is_any_port = |bind: &Bind| matches!(bind, Bind::Address(address) if address.port() == 0);
    for (path, bind) in listeners.chain(admin).filter(|(_, bind)| !is_any_port(bind)) {
        match taken.iter().find(|(_, other)| *other == bind) {
            Some((other, _)) => root.report(
                super::locations::child(path, "bind"),
                format_args!("{other} listens on {bind} already"),
            ),
            None => taken.push((path, bind)),
        }
    }
}

fn read_routes(root: &mut Table<'_, '_>, referents: &Referents) -> Vec<Route> {
    let mut routes: Vec<(String, Route)> = Vec::new();
    for node in tables(root, "route", "nothing is served") {
        let path = node.path().to_owned();
        let Some(route) = node.table(|table| Route::read(table, referents)).flatten() else {
            continue;
        };
        if let Some((other, _)) = routes.iter().find(|(_, other)| other.collides_with(&route)) {
            root.report(
                super::locations::child(&path, "path"),
                format_args!("{other} answers to the same host and path"),
            );
        }
        routes.push((path, route));
    }
    let mut routes: Vec<Route> = routes.into_iter().map(|(_, route)| route).collect();
    label_routes(&mut routes);
    routes
}

/// The tables of `[[key]]`, of which there must be one.
fn tables<'r, 'i>(
    root: &mut Table<'r, 'i>,
    key: &'static str,
    consequence: &str,
) -> Vec<Node<'r, 'i>> {
    let nodes = match root.take(key) {
        Some(node) if node.value().is_table() => {
            node.problem(format_args!("must be written with two brackets: [[{key}]]"));
            return Vec::new();
        }
        Some(node) => node.items("an array of tables"),
        None => Some(Vec::new()),
    };
    if nodes.as_ref().is_some_and(Vec::is_empty) {
        root.problem(key, format_args!("there is no [[{key}]]: {consequence}"));
    }
    nodes.unwrap_or_default()
}

/// The tables `[key.NAME]`: all their names, even of unreadable ones, so that references to those are
/// not reported too, and what could be read.
fn read_named<'r, 'i, T>(
    root: &mut Table<'r, 'i>,
    key: &'static str,
    mut read: impl FnMut(Node<'r, 'i>, &str) -> Option<T>,
) -> (Vec<String>, Vec<T>) {
    root.section(key, |table| {
        let (mut names, mut values) = (Vec::new(), Vec::new());
        for (name, node) in table.named() {
            if name.is_empty() || name.chars().any(char::is_control) {
                node.problem("must have a name that can be shown");
            }
            values.extend(read(node, &name));
            names.push(name);
        }
        (names, values)
    })
}

/// What keeps the file from being TOML.
fn syntax_problem(text: &str, report: &Report, error: &toml::de::Error) -> Problem {
    let span = error.span();
    let named = match (error.message(), span.clone().and_then(|span| text.get(span))) {
        ("duplicate key", Some(key)) => format!("duplicate key {key:?}"),
        (message, _) => message.replace('\n', "; "),
    };
    Problem {
        path: String::new(),
        line: span.map(|span| report.line(span.start)),
        message: format!("this is not TOML: {named}"),
    }
}
