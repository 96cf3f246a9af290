//! `request_headers` and `response_headers` of a route: headers that are set or removed on the way. Pure.

use http::HeaderName;

use super::reader::{Node, Table};
use crate::handshake::headers::normalised;
use crate::handshake::template::{OWN_NAMES, Template};

/// Headers set and removed in one direction.
#[derive(Debug, Clone, Default)]
pub(crate) struct HeaderRules {
    /// Names as they are to be spelled, and what they say.
    pub(crate) set: Vec<(String, Template)>,
    /// Names that are removed, in every spelling.
    pub(crate) remove: Vec<String>,
}

impl HeaderRules {
    /// Reads the table at `key`; `names` are the parameters of the route's path.
    pub(super) fn read(table: &mut Table<'_, '_>, key: &'static str, names: &[String]) -> Self {
        table.section(key, |table| {
            let set = table.section("set", |headers| {
                let pairs = headers.named().into_iter();
                pairs.filter_map(|(name, node)| rule(&name, &node, names)).collect::<Vec<_>>()
            });
            let remove = table.set("remove", |node| {
                let name = node.word()?;
                check(&name, node).then(|| normalised(&name))
            });
            let is_both = |(name, _): &(String, Template)| remove.contains(&normalised(name));
            if let Some((name, _)) = set.iter().find(|rule| is_both(rule)) {
                table.problem("remove", format_args!("{name} is set and removed: which of them?"));
            }
            Self { set, remove }
        })
    }
}

fn rule(name: &str, node: &Node<'_, '_>, names: &[String]) -> Option<(String, Template)> {
    let text = node.text()?;
    if !check(name, node) {
        return None;
    }
    // RFC 9110 section 5.5, without obs-text.
    if text.trim() != text || !text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
        node.problem("must be visible ASCII, with no blank at either end");
        return None;
    }
    if let Some(own) = names.iter().find(|name| OWN_NAMES.contains(&name.as_str())) {
        node.problem(format_args!(
            "the path has a parameter called {own}, which means something else here: give it another name"
        ));
        return None;
    }
    let template = Template::parse(text, names, true);
    let template = template.map_err(|error| node.problem(error)).ok()?;
    Some((name.to_owned(), template))
}

/// Whether a header of this name may be set or removed.
fn check(name: &str, node: &Node<'_, '_>) -> bool {
    if HeaderName::try_from(name).is_err() {
        node.problem(format_args!("{name:?} is no name of a header"));
        return false;
    }
    let key = normalised(name);
    let is_ours = OURS.contains(&key.as_str()) || FAMILIES.iter().any(|it| key.starts_with(it));
    if is_ours {
        node.problem(format_args!("{name} is the gateway's own and cannot be changed here"));
    }
    !is_ours
}

/// What a handshake consists of, and what backends believe the gateway.
const OURS: [&str; 7] = [
    "host",
    "connection",
    "upgrade",
    "content-length",
    "transfer-encoding",
    "x-auth-user",
    "x-auth-claims",
];
const FAMILIES: [&str; 2] = ["sec-websocket-", "x-framegate-"];
