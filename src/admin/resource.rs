//! What the admin listener has: paths with parameters, methods, queries. Pure.
//!
//! A resource stands in a file of its own as a [`Resource`] and has a line in [`super::RESOURCES`];
//! nothing else knows of it. Its handlers get a [`Call`], in which everything is decoded and only
//! the query parameters that the action takes can be.

use std::collections::BTreeMap;
use std::str::FromStr;

use bytes::Bytes;
use http::{Method, Response};
use percent_encoding::percent_decode_str;

use super::Context;
use super::reply::Failure;
use crate::gateway::guards::Access;

/// What a path leads to.
#[derive(Debug)]
pub(crate) struct Resource {
    /// Where it is; a segment `{name}` stands for any one segment that is not empty.
    pub(crate) path: &'static str,
    /// Who gets it.
    pub(crate) access: Access,
    /// What can be done with it.
    pub(crate) actions: &'static [Action],
}

/// One thing that can be done with a resource.
#[derive(Debug)]
pub(crate) struct Action {
    /// The method.
    pub(crate) verb: Verb,
    /// The query parameters it takes, each at most once.
    pub(crate) query: Takes,
    /// Does it.
    pub(crate) handler: Handler,
}

/// Does what an action is there for.
pub(crate) type Handler = fn(&Context, &Call) -> Result<Response<Bytes>, Failure>;

/// The methods there are. HEAD is GET without the body, which HTTP leaves out (RFC 9110 section 9.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    /// GET and HEAD.
    Get,
    Post,
    Delete,
}

/// Which query parameters an action takes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Takes {
    /// These and no others: one that is misspelt must not widen what is done.
    Only(&'static [&'static str]),
    /// Whatever stands there is left alone: probes add what they like.
    Anything,
}

/// A request, taken apart.
#[derive(Debug, Default)]
pub(crate) struct Call {
    /// By name, from the path.
    parameters: BTreeMap<&'static str, String>,
    /// By name, from the query.
    query: BTreeMap<String, String>,
}

/// A path that leads somewhere.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) resource: &'static Resource,
    parameters: BTreeMap<&'static str, String>,
}

/// The resource at `path` (without query); one whose path says more of it wins.
pub(crate) fn find(resources: &[&'static Resource], path: &str) -> Option<Found> {
    let matching = resources.iter().filter_map(|resource| {
        let parameters = parameters(resource.path, path)?;
        Some(Found { resource, parameters })
    });
    matching.min_by_key(|found| found.parameters.len())
}

impl Found {
    /// The action for `method`, and the request as it gets it.
    ///
    /// # Errors
    ///
    /// A method it has not, or a query that the action does not take.
    pub(crate) fn call(
        self,
        method: &Method,
        query: &str,
    ) -> Result<(&'static Action, Call), Failure> {
        let Self { resource, parameters } = self;
        let verb = Verb::of(method);
        let Some(action) = resource.actions.iter().find(|action| Some(action.verb) == verb) else {
            return Err(Failure::method(resource.allow()));
        };
        let query = match action.query {
            Takes::Anything => BTreeMap::new(),
            Takes::Only(known) => read_query(query, known)?,
        };
        Ok((action, Call { parameters, query }))
    }
}

impl Resource {
    /// Value of Allow.
    fn allow(&self) -> String {
        let verbs = self.actions.iter().map(|action| match action.verb {
            Verb::Get => "GET, HEAD",
            Verb::Post => "POST",
            Verb::Delete => "DELETE",
        });
        verbs.collect::<Vec<_>>().join(", ")
    }
}

impl Verb {
    fn of(method: &Method) -> Option<Self> {
        match *method {
            Method::GET | Method::HEAD => Some(Self::Get),
            Method::POST => Some(Self::Post),
            Method::DELETE => Some(Self::Delete),
            _ => None,
        }
    }
}

impl Call {
    /// A path parameter; empty if the path has none of this name.
    pub(crate) fn parameter(&self, name: &str) -> &str {
        self.parameters.get(name).map_or("", String::as_str)
    }

    /// A query parameter, where it was given.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    /// A query parameter that is a number, where it was given.
    ///
    /// # Errors
    ///
    /// It is none, or not one of `range`.
    pub(crate) fn number<T>(
        &self,
        name: &str,
        range: std::ops::RangeInclusive<T>,
    ) -> Result<Option<T>, Failure>
    where
        T: FromStr + PartialOrd + std::fmt::Display,
    {
        let Some(text) = self.text(name) else { return Ok(None) };
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.map(Some).ok_or_else(|| {
            let (least, most) = (range.start(), range.end());
            Failure::bad(format!("{name} must be a number from {least} to {most}, not {text:?}"))
        })
    }
}

/// The parameters of `path`, decoded, if it has the form of `pattern`.
fn parameters(pattern: &'static str, path: &str) -> Option<BTreeMap<&'static str, String>> {
    let mut parameters = BTreeMap::new();
    let mut given = path.split('/');
    for expected in pattern.split('/') {
        let segment = given.next()?;
        match expected.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            None if segment == expected => {}
            Some(name) if !segment.is_empty() => {
                parameters.insert(name, decode(segment)?);
            }
            _ => return None,
        }
    }
    given.next().is_none().then_some(parameters)
}

/// `a=1&b=two%20words`; a `+` is a blank, as browsers write it.
fn read_query(query: &str, known: &[&str]) -> Result<BTreeMap<String, String>, Failure> {
    let mut read = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let both = decode(&name.replace('+', " ")).zip(decode(&value.replace('+', " ")));
        let Some((name, value)) = both else {
            return Err(Failure::bad("the query is not percent-encoded UTF-8".to_owned()));
        };
        if !known.contains(&name.as_str()) {
            let taken = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let error = format!("there is no query parameter {name:?} here; this takes: {taken}");
            return Err(Failure::bad(error));
        }
        if read.contains_key(&name) {
            return Err(Failure::bad(format!("the query parameter {name} is given twice")));
        }
        read.insert(name, value);
    }
    Ok(read)
}

fn decode(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(String::from)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn never(_: &Context, _: &Call) -> Result<Response<Bytes>, Failure> {
        Err(Failure::missing("never"))
    }

    const fn action(verb: Verb, query: Takes) -> Action {
        Action { verb, query, handler: never }
    }

    static LIST: Resource = Resource {
        path: "/things",
        access: Access::Token,
        actions: &[action(Verb::Get, Takes::Only(&["user", "limit"]))],
    };
    static LATEST: Resource = Resource {
        path: "/things/latest",
        access: Access::Token,
        actions: &[action(Verb::Get, Takes::Anything)],
    };
    static ONE: Resource = Resource {
        path: "/things/{id}",
        access: Access::Token,
        actions: &[
            action(Verb::Get, Takes::Only(&[])),
            action(Verb::Delete, Takes::Only(&["code"])),
        ],
    };
    static PART: Resource = Resource {
        path: "/things/{id}/parts/{n}",
        access: Access::Token,
        actions: &[action(Verb::Post, Takes::Only(&[]))],
    };
    static ALL: &[&Resource] = &[&LIST, &ONE, &LATEST, &PART];

    #[test]
    fn paths_lead_to_resources() {
        let rows: [(&str, Option<(&str, &str, &str)>); 14] = [
            ("/things", Some(("/things", "", ""))),
            ("/things/", None),
            ("/things/7", Some(("/things/{id}", "7", ""))),
            ("/things/latest", Some(("/things/latest", "", ""))),
            ("/things/7/parts/2", Some(("/things/{id}/parts/{n}", "7", "2"))),
            ("/things/7/parts/", None),
            ("/things//parts/2", None),
            ("/things/7/parts/2/3", None),
            ("/things/a%2Fb%20c", Some(("/things/{id}", "a/b c", ""))),
            ("/things/%C3%BC", Some(("/things/{id}", "ü", ""))),
            ("/things/%FF", None),
            ("/things/+", Some(("/things/{id}", "+", ""))),
            ("//things", None),
            ("", None),
        ];
        for (path, expected) in rows {
            let found = find(ALL, path).map(|found| {
                let call = Call { parameters: found.parameters, query: BTreeMap::new() };
                let (id, n) = (call.parameter("id").to_owned(), call.parameter("n").to_owned());
                (found.resource.path, id, n)
            });
            let found = found.as_ref().map(|(path, id, n)| (*path, id.as_str(), n.as_str()));
            assert_eq!(found, expected, "{path}");
        }
    }

    #[test]
    fn methods_are_those_of_the_resource() {
        let rows = [
            ("GET", "/things/1", None),
            ("HEAD", "/things/1", None),
            ("DELETE", "/things/1", None),
            ("POST", "/things/1", Some("GET, HEAD, DELETE")),
            ("PUT", "/things/1", Some("GET, HEAD, DELETE")),
            ("OPTIONS", "/things", Some("GET, HEAD")),
            ("GET", "/things/1/parts/1", Some("POST")),
        ];
        for (method, path, allow) in rows {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let called = find(ALL, path).unwrap().call(&method, "");
            let expected = allow.map(|allow| Failure::method(allow.to_owned()));
            assert_eq!(called.err(), expected, "{method} {path}");
        }
    }

    #[test]
    fn queries_hold_what_the_action_takes_and_nothing_else() {
        let rows = [
            ("", Ok((None, None))),
            ("&&", Ok((None, None))),
            ("user=a", Ok((Some("a"), None))),
            ("user=a%26b+c%2Bd&limit=7", Ok((Some("a&b c+d"), Some(7)))),
            ("user=", Ok((Some(""), None))),
            ("user", Ok((Some(""), None))),
            ("us%65r=x", Ok((Some("x"), None))),
            ("usr=a", Err(r#"there is no query parameter "usr" here; this takes: user, limit"#)),
            ("User=a", Err(r#"there is no query parameter "User" here; this takes: user, limit"#)),
            ("user=a&user=b", Err("the query parameter user is given twice")),
            ("user=%ff", Err("the query is not percent-encoded UTF-8")),
            ("limit=0", Err(r#"limit must be a number from 1 to 9, not "0""#)),
            ("limit=10", Err(r#"limit must be a number from 1 to 9, not "10""#)),
            ("limit=", Err(r#"limit must be a number from 1 to 9, not """#)),
            ("limit=1e0", Err(r#"limit must be a number from 1 to 9, not "1e0""#)),
        ];
        for (query, expected) in rows {
            let called = find(ALL, "/things").unwrap().call(&Method::GET, query);
            let read = called.and_then(|(_, call)| {
                Ok((call.text("user").map(str::to_owned), call.number("limit", 1..=9)?))
            });
            let expected = expected
                .map(|(user, limit): (Option<&str>, _)| (user.map(str::to_owned), limit))
                .map_err(|error| Failure::bad(error.to_owned()));
            assert_eq!(read, expected, "{query}");
        }
        let (_, call) = find(ALL, "/things/latest").unwrap().call(&Method::GET, "x=%ff").unwrap();
        assert_eq!(call.text("x"), None);
    }

    #[test]
    fn every_resource_has_a_path_of_its_own_form() {
        let form = |path: &str| {
            let segments = path.split('/').map(|s| if s.starts_with('{') { "{}" } else { s });
            segments.collect::<Vec<_>>().join("/")
        };
        let mut forms: Vec<_> = super::super::RESOURCES.iter().map(|r| form(r.path)).collect();
        forms.sort();
        forms.dedup();
        assert_eq!(forms.len(), super::super::RESOURCES.len());
    }

    proptest! {
        #[test]
        fn no_path_and_no_query_panics(path in "[/a-z%0-9+]{0,30}", query in "[a-z=&%0-9+]{0,30}") {
            let path = format!("/things/{path}");
            if let Some(found) = find(ALL, &path) {
                let _ = found.call(&Method::DELETE, &query);
            }
        }
    }
}
