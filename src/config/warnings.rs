//! What is legal but probably not meant: shown by `framegate check`, never an error. Pure.

use std::net::SocketAddr;
use std::time::Duration;

use super::locations::child;
use super::{Bind, Config, Problem, Target, TokenSource};
use crate::handshake::forwarded::ClientAddress;

/// All warnings about a configuration, section by section.
pub(super) fn warnings(config: &Config) -> Vec<Problem> {
    let mut warnings = Vec::new();
    let mut warn = |path: String, message: &str| {
        warnings.push(config.locations.problem(path, message));
    };
    listeners(config, &mut warn);
    proxies(config, &mut warn);
    verifiers(config, &mut warn);
    upstreams(config, &mut warn);
    routes(config, &mut warn);
    times(config, &mut warn);
    warnings
}

fn listeners(config: &Config, warn: &mut impl FnMut(String, &str)) {
    let asks_for_tokens = config.routes.iter().any(|route| route.verifier.is_some());
    for (index, listener) in config.listeners.iter().enumerate() {
        let path = format!("listener[{index}]");
        // Where systemd's sockets are bound is not known here.
        let loopback = listener.bind.is_loopback().unwrap_or(true);
        // With trusted proxies, TLS ends at one of them.
        let plain = listener.tls.is_none() && listener.trusted_proxies.is_empty();
        if asks_for_tokens && plain && !loopback {
            warn(
                path.clone(),
                "has no tls and names no trusted_proxies: tokens cross the network readable by anybody",
            );
        }
        if config.listeners.iter().any(|other| takes_all_of(&other.bind, &listener.bind)) {
            warn(
                child(&path, "bind"),
                "the listener on [::] with this port takes IPv4 too on most systems: starting fails with \"address in use\"; leave this one out, or bind the other to one IPv6 address",
            );
        }
        if listener.trusted_proxies.iter().any(|network| network.prefix_len() == 0) {
            warn(
                child(&path, "trusted_proxies"),
                "trusts everybody: a client can claim any address, and so escape all limits per address",
            );
        }
    }
}

/// Whether a socket on every IPv6 address has the port of one on every IPv4 address (ipv6(7), IPV6_V6ONLY).
fn takes_all_of(six: &Bind, four: &Bind) -> bool {
    match (six, four) {
        (Bind::Address(SocketAddr::V6(six)), Bind::Address(SocketAddr::V4(four))) => {
            six.ip().is_unspecified()
                && four.ip().is_unspecified()
                && six.port() == four.port()
                && four.port() != 0
        }
        _ => false,
    }
}

fn proxies(config: &Config, warn: &mut impl FnMut(String, &str)) {
    for (index, listener) in config.listeners.iter().enumerate() {
        if !listener.trusted_proxies.is_empty() {
            continue;
        }
        let message =
            "has no effect without trusted_proxies: the headers of others are not believed";
        if listener.client_address != ClientAddress::XForwardedFor {
            warn(format!("listener[{index}].client_address"), message);
        }
        if !listener.trusted_headers.is_empty() {
            warn(format!("listener[{index}].trusted_headers"), message);
        }
    }
}

fn verifiers(config: &Config, warn: &mut impl FnMut(String, &str)) {
    for (index, verifier) in config.verifiers.iter().enumerate() {
        let path = child("verifiers", &verifier.name);
        if !config.routes.iter().any(|route| route.verifier == Some(index)) {
            warn(path, "no route uses it");
            continue;
        }
        let jwks = verifier.jwks.as_ref();
        if jwks.is_some_and(|jwks| jwks.ca.is_some() && !jwks.is_https()) {
            warn(format!("{path}.jwks.ca"), "has no effect: `url` is not https");
        }
        if jwks.is_some_and(|jwks| jwks.timeout > jwks.refresh) {
            let message =
                "is longer than `refresh`: while a fetch hangs, the next ones are not made";
            warn(format!("{path}.jwks.timeout"), message);
        }
        if jwks.is_some_and(|jwks| jwks.refresh < OFTEN) {
            let message = "is very short: the issuer is asked that often, and may refuse it";
            warn(format!("{path}.jwks.refresh"), message);
        }
        if verifier.issuers.is_empty() {
            warn(child(&path, "issuers"), "empty: who issued a token is not checked");
        }
        if verifier.audiences.is_empty() {
            let message = "empty: tokens these keys signed for other services are accepted too";
            warn(child(&path, "audiences"), message);
        }
        let is_named = |source: &TokenSource| matches!(source, TokenSource::HeaderNamed(_));
        let has_proxies = config.listeners.iter().any(|it| !it.trusted_proxies.is_empty());
        if verifier.sources.iter().any(is_named) && !has_proxies {
            let message =
                "has a balancer's header, and no listener has trusted_proxies: it is never read";
            warn(child(&path, "sources"), message);
        }
        if verifier.sources.iter().any(|source| matches!(source, TokenSource::Query(_))) {
            warn(
                child(&path, "sources"),
                "tokens in a query end up in histories and in the logs of others; keep their life short",
            );
        }
    }
}

fn upstreams(config: &Config, warn: &mut impl FnMut(String, &str)) {
    for (index, upstream) in config.upstreams.iter().enumerate() {
        let path = child("upstreams", &upstream.name);
        if !config.routes.iter().any(|route| route.upstream.index() == index) {
            warn(path, "no route uses it");
            continue;
        }
        for (index, endpoint) in upstream.endpoints.iter().enumerate() {
            let message = match &endpoint.target {
                Target::Http { port: 443, .. } => "plain http on the port of https",
                Target::Https { port: 80, .. } => "https on the port of plain http",
                _ => continue,
            };
            warn(format!("{path}.endpoints[{index}]"), message);
        }
        let tls = |target: &Target| matches!(target, Target::Https { .. });
        if upstream.ca.is_some() && !upstream.endpoints.iter().any(|end| tls(&end.target)) {
            warn(child(&path, "ca"), "has no effect: no endpoint is https");
        }
    }
}

fn times(config: &Config, warn: &mut impl FnMut(String, &str)) {
    if config.drain.grace < config.timeouts.close {
        warn(
            "drain.grace".to_owned(),
            "is shorter than `timeouts.close`: the last sessions of a drain are cut before their close handshake is due",
        );
    }
}

/// Keys rotate in days.
const OFTEN: Duration = Duration::from_secs(10);

fn routes(config: &Config, warn: &mut impl FnMut(String, &str)) {
    for (index, route) in config.routes.iter().enumerate() {
        let verifier = route.verifier.and_then(|at| config.verifiers.get(at));
        let is_cookie = |source: &TokenSource| matches!(source, TokenSource::Cookie(_));
        let has_cookie = verifier.is_some_and(|verifier| verifier.sources.iter().any(is_cookie));
        if has_cookie && route.origins.iter().any(|origin| origin.contains('*')) {
            warn(
                format!("route[{index}].origins"),
                "has a wildcard beside a cookie source: every page under that name acts for the user whose browser opens it",
            );
        }
    }
    let message = "a client may send as fast as it can: messages are not limited";
    let mut inherited = false;
    for (index, route) in config.routes.iter().enumerate() {
        if route.limits.messages.is_some() {
            continue;
        }
        let own = format!("route[{index}].limits.messages");
        if config.locations.contains(&own) {
            warn(own, message);
        } else if !std::mem::replace(&mut inherited, true) {
            warn("limits.messages".to_owned(), message);
        }
    }
}
