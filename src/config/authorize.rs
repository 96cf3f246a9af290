//! `authorize` of a route: what a token must say for it. Pure.

use super::claim;
use super::reader::{Node, Table};
use super::route::parameter;

/// Authorisation rules; all must hold.
#[derive(Debug, Clone, Default)]
pub(crate) struct Authorize {
    /// Claim name and the values of which it must be (or, an array, contain) one.
    pub(crate) claims: Vec<(String, Vec<serde_json::Value>)>,
    /// Claim name (an array) and the path parameter that must be contained in it.
    pub(crate) contains: Vec<(String, String)>,
    /// OAuth scopes, each of which the token must have.
    pub(crate) scopes: Vec<String>,
}

impl Authorize {
    pub(super) fn read(table: &mut Table<'_, '_>, names: Option<&[String]>) -> Self {
        let claims = table.section("claims", |claims| {
            let pairs = claims.named().into_iter();
            pairs
                .filter_map(|(name, node)| Some((claim_name(&name, &node)?, allowed_values(node)?)))
                .collect()
        });
        let contains = table.section("contains", |claims| {
            let pairs = claims.named().into_iter();
            pairs
                .filter_map(|(name, node)| {
                    Some((claim_name(&name, &node)?, parameter(&node, names)?))
                })
                .collect()
        });
        let scopes = table.set("scopes", |node| {
            let scope = node.word()?;
            // RFC 6749 section 3.3.
            let is_one =
                scope.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte));
            if !is_one {
                node.problem(
                    "must be one scope, without blanks: write several as several elements",
                );
            }
            is_one.then_some(scope)
        });
        Self { claims, contains, scopes }
    }
}

fn claim_name(name: &str, node: &Node<'_, '_>) -> Option<String> {
    claim::name(name).map_err(|fault| node.problem(fault)).ok()
}

/// The value or values of which a claim must have one.
fn allowed_values(node: Node<'_, '_>) -> Option<Vec<serde_json::Value>> {
    let value = node.json()?;
    let values = match value {
        serde_json::Value::Array(values) => values,
        scalar => vec![scalar],
    };
    if values.iter().any(|value| value.is_array() || value.is_object()) {
        node.problem("must be a string, a number, true or false, or an array of those");
        return None;
    }
    if values.is_empty() {
        node.problem("must not be empty: no token could ever be allowed");
        return None;
    }
    Some(values)
}
