//! Whether the claims of a verified token allow this route and these path parameters. Pure.
//!
//! The names of claims come from the configuration. One without a claim of exactly that name is
//! taken as a path into nested objects: `realm_access.roles` is the member `roles` of the claim
//! `realm_access` (Keycloak), `resource_access."chat.example.com".roles` has a member whose name has dots,
//! while `https://example.com/roles` finds the claim of that name (Auth0).

use serde_json::{Map, Value};

use crate::config::{Authorize, claim};
use crate::outcome::rejection::Forbidden;

/// Checks every rule; all must hold.
///
/// - `claims`: the claim equals one of the values, or is an array that contains one. Equality is
///   JSON's: `1` is neither `1.0` nor `"1"`.
/// - `contains`: the text of the path parameter is an element of the claim, an array of strings or
///   integers, or is the claim itself. `7` is the parameter `7`, not `07`. Two UUIDs are compared
///   without regard to case, as RFC 9562 section 4 wants it; everything else exactly.
/// - `scopes`: each is in `scope` or `scp`, a string with blanks between (RFC 8693 section 4.2) or an
///   array of strings, as a whole.
///
/// `parameter` looks a path parameter up by name; one that the path lacks is contained in nothing.
///
/// # Errors
///
/// The first rule that does not hold, in the order of the configuration.
pub(crate) fn check<'a>(
    rules: &Authorize,
    claims: &Map<String, Value>,
    parameter: impl Fn(&str) -> Option<&'a str>,
) -> Result<(), Forbidden> {
    for (name, allowed) in &rules.claims {
        let holds = find_claim(claims, name)
            .is_some_and(|claim| any_element(claim, |element| allowed.contains(element)));
        if !holds {
            return Err(Forbidden::Claim(name.clone()));
        }
    }
    for (name, parameter_name) in &rules.contains {
        let holds = find_claim(claims, name)
            .zip(parameter(parameter_name))
            .is_some_and(|(claim, text)| any_element(claim, |element| is_text(element, text)));
        if !holds {
            return Err(Forbidden::NotContained {
                claim: name.clone(),
                parameter: parameter_name.clone(),
            });
        }
    }
    match rules.scopes.iter().find(|scope| !has_scope(claims, scope)) {
        Some(scope) => Err(Forbidden::Scope(scope.clone())),
        None => Ok(()),
    }
}

fn has_scope(claims: &Map<String, Value>, wanted: &str) -> bool {
    let has = |claim: &Value| match claim {
        Value::String(scopes) => scopes.split(' ').any(|scope| scope == wanted),
        Value::Array(scopes) => scopes.iter().any(|scope| scope.as_str() == Some(wanted)),
        _ => false,
    };
    ["scope", "scp"].iter().filter_map(|name| claims.get(*name)).any(has)
}

/// The claim called `name`; where there is none, the member that `name` leads to as a dotted path.
pub(crate) fn find_claim<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    if let Some(claim) = claims.get(name) {
        return Some(claim);
    }
    let mut steps = claim::steps(name)?.into_iter();
    let first = claims.get(steps.next()?)?;
    steps.try_fold(first, |value, step| value.as_object()?.get(step))
}

/// Whether `test` holds for the claim itself or, an array, for one of its elements.
fn any_element(claim: &Value, test: impl Fn(&Value) -> bool) -> bool {
    test(claim) || claim.as_array().is_some_and(|elements| elements.iter().any(test))
}

fn is_text(value: &Value, text: &str) -> bool {
    match value {
        Value::String(string) => {
            string == text
                || (is_uuid(string) && is_uuid(text) && string.eq_ignore_ascii_case(text))
        }
        Value::Number(number) if !number.is_f64() => number.to_string() == text,
        _ => false,
    }
}

/// RFC 9562 section 4: 8-4-4-4-12 hexadecimal digits.
fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const UUID: &str = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap()
    }

    fn claims_rule(name: &str, values: &[Value]) -> Authorize {
        Authorize { claims: vec![(name.into(), values.to_vec())], ..Authorize::default() }
    }

    fn contains_rule(name: &str) -> Authorize {
        Authorize { contains: vec![(name.into(), "id".into())], ..Authorize::default() }
    }

    #[test]
    fn a_claim_must_be_or_contain_one_of_the_values() {
        let roles = [json!("admin"), json!("agent"), json!(7), json!(true)];
        for (claims, expected) in [
            (json!({"role": "admin"}), true),
            (json!({"role": ["guest", "agent"]}), true),
            (json!({"role": 7}), true),
            (json!({"role": true}), true),
            (json!({"role": "Admin"}), false),
            (json!({"role": "admin "}), false),
            (json!({"role": "7"}), false),
            (json!({"role": 7.0}), false),
            (json!({"role": [["admin"]]}), false),
            (json!({"role": {"admin": true}}), false),
            (json!({"role": []}), false),
            (json!({"role": null}), false),
            (json!({"roles": "admin"}), false),
            (json!({}), false),
        ] {
            let result = check(&claims_rule("role", &roles), &object(claims.clone()), |_| None);
            assert_eq!(result.is_ok(), expected, "{claims}");
        }
    }

    #[test]
    fn a_path_parameter_must_be_contained_in_the_claim() {
        let upper = UUID.to_ascii_uppercase();
        for (claim, parameter, expected) in [
            (json!(["a", "b"]), "b", true),
            (json!("b"), "b", true),
            (json!([7, 8]), "8", true),
            (json!(8), "8", true),
            (json!([UUID]), upper.as_str(), true),
            (json!([upper]), UUID, true),
            (json!(["a", "b"]), "c", false),
            (json!(["ab"]), "a", false),
            (json!(["A"]), "a", false),
            (json!([8]), "08", false),
            (json!([8.0]), "8", false),
            (json!([8.0]), "8.0", false),
            (json!([true]), "true", false),
            (json!([null]), "null", false),
            (json!([["b"]]), "b", false),
            (json!({"b": 1}), "b", false),
            (json!([]), "", false),
            (json!([format!("{}G", &UUID[..35])]), "6ba7b810-9dad-11d1-80b4-00c04fd430cg", false),
        ] {
            let claims = object(json!({"chats": claim}));
            let result = check(&contains_rule("chats"), &claims, |_| Some(parameter));
            assert_eq!(result.is_ok(), expected, "{claim} {parameter}");
        }
    }

    #[test]
    fn a_dotted_name_reaches_into_objects_unless_a_claim_has_that_name() {
        let rule = claims_rule("realm_access.roles", &[json!("chat")]);
        for (claims, expected) in [
            (json!({"realm_access": {"roles": ["chat"]}}), true),
            (json!({"realm_access.roles": ["chat"]}), true),
            // The literal claim counts, and only it.
            (json!({"realm_access.roles": [], "realm_access": {"roles": ["chat"]}}), false),
            (json!({"realm_access": ["roles"]}), false),
            (json!({"realm_access": "chat"}), false),
            (json!({"roles": ["chat"]}), false),
        ] {
            let result = check(&rule, &object(claims.clone()), |_| None);
            assert_eq!(result.is_ok(), expected, "{claims}");
        }
        let url = claims_rule("https://example.com/roles", &[json!("chat")]);
        let claims = object(json!({"https://example.com/roles": "chat"}));
        assert_eq!(check(&url, &claims, |_| None), Ok(()));
    }

    #[test]
    fn a_member_whose_name_has_dots_stands_in_quotes() {
        let rule = claims_rule("resource_access.\"chat.example.com\".roles", &[json!("user")]);
        for (claims, expected) in [
            (json!({"resource_access": {"chat.example.com": {"roles": ["user"]}}}), true),
            (json!({"resource_access": {"chat.example.com": {"roles": ["guest"]}}}), false),
            (
                json!({"resource_access": {"chat": {"example": {"com": {"roles": ["user"]}}}}}),
                false,
            ),
        ] {
            assert_eq!(
                check(&rule, &object(claims.clone()), |_| None).is_ok(),
                expected,
                "{claims}"
            );
        }
    }

    #[test]
    fn every_scope_must_be_there_as_a_whole() {
        let rules = Authorize {
            scopes: vec!["chat:read".into(), "chat:write".into()],
            ..Authorize::default()
        };
        let lacks = |scope: &str| Err(Forbidden::Scope(scope.into()));
        for (claims, expected) in [
            (json!({"scope": "openid chat:read chat:write"}), Ok(())),
            (json!({"scp": "chat:write chat:read"}), Ok(())),
            (json!({"scp": ["chat:write", "chat:read"]}), Ok(())),
            (json!({"scope": "chat:read", "scp": ["chat:write"]}), Ok(())),
            (json!({"scope": "chat:read"}), lacks("chat:write")),
            (json!({"scope": "chat:readonly chat:write"}), lacks("chat:read")),
            (json!({"scope": "Chat:Read chat:write"}), lacks("chat:read")),
            (json!({"scp": ["chat:read chat:write"]}), lacks("chat:read")),
            (json!({"scope": 7}), lacks("chat:read")),
            (json!({}), lacks("chat:read")),
        ] {
            assert_eq!(check(&rules, &object(claims.clone()), |_| None), expected, "{claims}");
        }
    }

    #[test]
    fn all_rules_must_hold_and_the_first_that_does_not_is_named() {
        let rules = Authorize {
            claims: vec![("role".into(), vec![json!("agent")]), ("org".into(), vec![json!(1)])],
            contains: vec![("chats".into(), "id".into())],
            scopes: vec![],
        };
        let lookup = |name: &str| (name == "id").then_some("5");
        for (claims, expected) in [
            (json!({"role": "agent", "org": 1, "chats": [5]}), Ok(())),
            (json!({"org": 1, "chats": [5]}), Err(Forbidden::Claim("role".into()))),
            (json!({"role": "agent", "chats": [5]}), Err(Forbidden::Claim("org".into()))),
            (
                json!({"role": "agent", "org": 1, "chats": [6]}),
                Err(Forbidden::NotContained { claim: "chats".into(), parameter: "id".into() }),
            ),
        ] {
            assert_eq!(check(&rules, &object(claims), lookup), expected);
        }
    }

    #[test]
    fn no_rules_allow_everything_and_a_parameter_the_path_lacks_nothing() {
        assert_eq!(check(&Authorize::default(), &Map::new(), |_| None), Ok(()));
        let claims = object(json!({"chats": [""]}));
        assert!(check(&contains_rule("chats"), &claims, |_| None).is_err());
    }
}
