//! Facts about the router, and its agreement with a naive matcher.

use std::collections::HashMap;

use proptest::prelude::*;
use regex::Regex;

use super::{Entry, Match, ParameterType, Pattern, Router};

/// A route as the router sees it.
#[derive(Debug)]
struct Route {
    path: Pattern,
    parameters: HashMap<String, ParameterType>,
    hosts: Vec<String>,
}

const UUID: &str = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6";

#[test]
fn the_most_specific_route_wins_wherever_it_stands_in_the_file() {
    let router = router(&[
        "/{*all}",
        "/{a}",
        "/{a}/ws",
        "/chats/{*rest}",
        "/chats/{id}",
        "/chats/new",
        "/chats/{id}/ws",
        "/chats",
        "/chats/",
    ]);
    for (path, route, parameters) in [
        ("/", 0, "all="),
        ("/x", 1, "a=x"),
        ("/x/", 0, "all=x/"),
        ("/x/ws", 2, "a=x"),
        ("/x/y", 0, "all=x/y"),
        ("/chats", 7, ""),
        ("/chats/", 8, ""),
        ("/chats/new", 5, ""),
        ("/chats/news", 4, "id=news"),
        ("/chats/new/", 3, "rest=new/"),
        ("/chats/new/ws", 6, "id=new"),
        ("/chats/ws", 4, "id=ws"),
        ("/chats/1/2", 3, "rest=1/2"),
        ("/chats/1/ws/3", 3, "rest=1/ws/3"),
        ("/Chats", 1, "a=Chats"),
    ] {
        assert_eq!(shown(router.find("h", path)), Some((route, parameters.into())), "{path}");
    }
}

#[test]
fn paths_that_no_pattern_fits_have_no_route() {
    let router = router(&["/ws", "/a/{id}", "/b/{id}/c"]);
    for path in
        ["", "ws", "*", "/", "/w", "/wss", "/ws/", "/a", "/a/", "/a/1/", "/a/1/2", "/b/1", "/b//c"]
    {
        assert_eq!(router.find("h", path), None, "{path}");
    }
}

#[test]
fn the_rest_may_be_empty_and_keeps_its_slashes() {
    let router = router(&["/a/{*rest}", "/b/{id}/{*rest}"]);
    for (path, expected) in [
        ("/a", Some("rest=")),
        ("/a/", Some("rest=")),
        ("/a/b/c", Some("rest=b/c")),
        ("/a/b/", Some("rest=b/")),
        ("/ab", None),
        ("/b/1", Some("id=1,rest=")),
        ("/b/1/2%20/3", Some("id=1,rest=2 /3")),
        ("/b", None),
        ("/b/", None),
    ] {
        let found = shown(router.find("h", path)).map(|(_, parameters)| parameters);
        assert_eq!(found.as_deref(), expected, "{path}");
    }
}

#[test]
fn a_typed_parameter_that_does_not_fit_leads_to_the_next_route() {
    let mut routes = routes(&[
        "/c/{id}",
        "/c/{number}",
        "/c/{word}",
        "/{any}/{*rest}",
        "/d/{id}/ws",
        "/u/{*rest}",
    ]);
    type_of(&mut routes, 0, "id", ParameterType::Uuid);
    type_of(&mut routes, 1, "number", ParameterType::Integer);
    type_of(&mut routes, 2, "word", matches("[a-z]+"));
    type_of(&mut routes, 3, "any", matches("c|d"));
    type_of(&mut routes, 4, "id", ParameterType::Integer);
    type_of(&mut routes, 5, "rest", matches("[0-9]+/[0-9]+"));
    let router = of(&routes);
    for (path, expected) in [
        (format!("/c/{UUID}"), Some((0, format!("id={UUID}")))),
        ("/c/12".into(), Some((1, "number=12".into()))),
        ("/c/abc".into(), Some((2, "word=abc".into()))),
        ("/c/ABC".into(), Some((3, "any=c,rest=ABC".into()))),
        ("/c/%61bc".into(), Some((2, "word=abc".into()))),
        ("/d/1/ws".into(), Some((4, "id=1".into()))),
        ("/d/x/ws".into(), Some((3, "any=d,rest=x/ws".into()))),
        ("/e/x".into(), None),
        ("/u/1/2".into(), Some((5, "rest=1/2".into()))),
        ("/u/1".into(), None),
        ("/u".into(), None),
    ] {
        assert_eq!(shown(router.find("h", &path)), expected, "{path}");
    }
}

#[test]
fn routes_of_one_shape_are_tried_in_file_order() {
    let mut routes = routes(&["/{a}/{b}", "/{c}/{d}", "/{e}/{f}"]);
    type_of(&mut routes, 0, "b", ParameterType::Integer);
    type_of(&mut routes, 1, "c", ParameterType::Integer);
    let router = of(&routes);
    for (path, route, parameters) in [
        ("/1/2", 0, "a=1,b=2"),
        ("/x/2", 0, "a=x,b=2"),
        ("/1/x", 1, "c=1,d=x"),
        ("/x/y", 2, "e=x,f=y"),
    ] {
        assert_eq!(shown(router.find("h", path)), Some((route, parameters.into())), "{path}");
    }
}

#[test]
fn a_dead_end_below_literals_goes_back_to_parameters() {
    let router = router(&["/a/b/c/end", "/a/{x}/c/{y}/z", "/{w}/b/{*rest}", "/a/{x}/c/{y}"]);
    for (path, expected) in [
        ("/a/b/c/end", Some((0, "".to_owned()))),
        ("/a/b/c/end/z", Some((1, "x=b,y=end".to_owned()))),
        ("/a/b/c/other", Some((3, "x=b,y=other".to_owned()))),
        ("/a/b/d", Some((2, "w=a,rest=d".to_owned()))),
        ("/a/x/d", None),
    ] {
        assert_eq!(shown(router.find("h", path)), expected, "{path}");
    }
}

#[test]
fn escapes_are_matched_decoded() {
    let router = router(&["/a@b", "/caf\u{e9}", "/x/{id}", "/y/{*rest}"]);
    for (path, expected) in [
        ("/a@b", Some((0, ""))),
        ("/a%40b", Some((0, ""))),
        ("/caf%C3%A9", Some((1, ""))),
        ("/caf%c3%a9", Some((1, ""))),
        ("/x/a%20b", Some((2, "id=a b"))),
        ("/x/100%25", Some((2, "id=100%"))),
        ("/x/%25%32%30", Some((2, "id=%20"))),
        ("/x/%FF", None),
        ("/y/a/%C3/%A9", None),
        // Inside a segment it separates nothing.
        ("/x/a%2Fb", Some((2, "id=a/b"))),
        ("/y/a%2fb/c%20d", Some((3, "rest=a/b/c d"))),
        ("/x%2Fa", None),
    ] {
        let expected = expected.map(|(route, parameters)| (route, parameters.to_owned()));
        assert_eq!(shown(router.find("h", path)), expected, "{path}");
    }
}

#[test]
fn an_exact_host_comes_before_longer_and_shorter_ends_before_any() {
    let mut routes = routes(&["/ws", "/ws", "/ws", "/ws", "/other"]);
    routes[0].hosts = vec!["*.example.com".into()];
    routes[1].hosts = vec!["*.preview.example.com".into(), "*.test".into()];
    routes[2].hosts = vec!["a.preview.example.com".into()];
    routes[4].hosts = vec!["*.preview.example.com".into()];
    let router = of(&routes);
    for (host, path, expected) in [
        ("a.preview.example.com", "/ws", Some(2)),
        ("b.preview.example.com:8443", "/ws", Some(1)),
        ("a.b.preview.example.com", "/ws", Some(1)),
        ("A.PREVIEW.Example.com", "/other", Some(4)),
        ("preview.example.com", "/ws", Some(0)),
        ("x.example.com.", "/ws", Some(0)),
        ("x.test", "/ws", Some(1)),
        // The bare name, and no name: any host.
        ("example.com", "/ws", Some(3)),
        (".example.com", "/ws", Some(3)),
        ("a..example.com", "/ws", Some(3)),
        ("notexample.com", "/ws", Some(3)),
        ("x.example.com.evil", "/ws", Some(3)),
        ("x.example.com", "/other", None),
    ] {
        let found = router.find(host, path).map(|found| found.route.index());
        assert_eq!(found, expected, "{host}{path}");
    }
}

#[test]
fn an_exact_host_comes_before_any_host() {
    let mut routes = routes(&["/ws", "/{*rest}", "/ws", "/only", "/six"]);
    routes[1].hosts = vec!["a.example".into(), "b.example".into()];
    routes[2].hosts = vec!["a.example".into()];
    routes[3].hosts = vec!["c.example".into()];
    routes[4].hosts = vec!["[2001:db8::1]".into()];
    type_of(&mut routes, 1, "rest", matches("[a-z]*"));
    let router = of(&routes);
    for (host, path, expected) in [
        ("a.example", "/ws", Some(2)),
        ("A.Example.:8443", "/ws", Some(2)),
        // Even a less specific path of the exact host.
        ("b.example", "/ws", Some(1)),
        ("b.example:1", "/other", Some(1)),
        ("b.example", "/1", None),
        ("x.a.example", "/ws", Some(0)),
        ("c.example", "/ws", Some(0)),
        ("c.example", "/only", Some(3)),
        ("d.example", "/only", None),
        ("[2001:DB8:0::1]:443", "/six", Some(4)),
        ("[2001:db8::2]", "/six", None),
        ("[2001:db8::1", "/six", None),
        ("", "/ws", Some(0)),
    ] {
        let found = router.find(host, path).map(|found| found.route.index());
        assert_eq!(found, expected, "{host}{path}");
    }
}

#[test]
fn parameters_are_found_by_name_and_listed_in_order() {
    let found = router(&["/{b}/{a}/{*c}"]).find("h", "/1/2/3/4").unwrap().parameters;
    assert_eq!(found.get("a"), Some("2"));
    assert_eq!(found.get("b"), Some("1"));
    assert_eq!(found.get("c"), Some("3/4"));
    assert_eq!(found.get("d"), None);
    assert_eq!(found.iter().collect::<Vec<_>>(), [("b", "1"), ("a", "2"), ("c", "3/4")]);
}

#[test]
fn a_thousand_routes_each_find_their_own() {
    let paths: Vec<String> = (0..1000).map(|n| format!("/api/v{}/s{n}/{{id}}", n % 7)).collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let router = router(&paths);
    for n in 0..1000 {
        let path = format!("/api/v{}/s{n}/x", n % 7);
        assert_eq!(shown(router.find("h", &path)), Some((n, "id=x".into())));
        let path = format!("/api/v{}/s{n}/x", n % 7 + 1);
        assert_eq!(router.find("h", &path), None);
    }
}

#[test]
fn a_path_as_long_as_a_head_can_be_is_no_burden() {
    let router = router(&["/{a}/{b}/{c}/end", "/{a}/x/{*rest}"]);
    let long = "/x".repeat(8192);
    assert_eq!(shown(router.find("h", &long)).unwrap().0, 1);
    assert_eq!(router.find("h", &long.replace('x', "y")), None);
}

/// How specific a segment is: the smaller, the more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Literal,
    One,
    Rest,
}

/// A route as the naive matcher sees it: its pattern is one regular expression, so are the forms of
/// its parameters; nothing is shared with the router.
struct Naive {
    hosts: Vec<String>,
    kinds: Vec<Kind>,
    path: Regex,
    forms: Vec<(String, Regex)>,
}

impl Naive {
    fn new(route: &Route) -> Self {
        let (mut path, mut kinds, mut forms) = (String::new(), Vec::new(), Vec::new());
        for segment in route.path.to_string().split('/').skip(1) {
            let (kind, expression) = match segment {
                _ if segment.starts_with("{*") => (Kind::Rest, "(?:/(.*))?".to_owned()),
                _ if segment.starts_with('{') => (Kind::One, "/([^/]+)".to_owned()),
                _ => (Kind::Literal, format!("/{}", regex::escape(segment))),
            };
            if kind != Kind::Literal {
                let name = segment.trim_matches(['{', '*', '}']);
                let form = match route.parameters.get(name) {
                    None => "(?s)^.*$",
                    Some(ParameterType::Integer) => "^[0-9]{1,20}$",
                    Some(ParameterType::Uuid) => "(?i)^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$",
                    Some(ParameterType::Matches(regex)) => regex.as_str(),
                };
                forms.push((name.to_owned(), Regex::new(form).unwrap()));
            }
            kinds.push(kind);
            path += &expression;
        }
        let path = Regex::new(&format!("(?s)^{path}$")).unwrap();
        Self { hosts: route.hosts.clone(), kinds, path, forms }
    }

    fn fit(&self, path: &str) -> Option<String> {
        // Segments are decoded one by one here.
        let decode = |segment| percent_encoding::percent_decode_str(segment).decode_utf8();
        let decoded: Vec<_> = path.split('/').map(decode).collect::<Result<_, _>>().ok()?;
        let decoded = decoded.join("/");
        let captures = self.path.captures(&decoded)?;
        let values = self.forms.iter().enumerate().map(|(index, (name, form))| {
            let value = captures.get(index + 1).map_or("", |value| value.as_str());
            form.is_match(value).then(|| format!("{name}={value}"))
        });
        Some(values.collect::<Option<Vec<_>>>()?.join(","))
    }
}

/// Tries every route alone, then takes the most specific one that fits.
fn naive(routes: &[Naive], host: &str, path: &str) -> Option<(usize, String)> {
    let fits = routes.iter().enumerate().filter_map(|(index, route)| {
        let any_host = route.hosts.is_empty();
        if !any_host && !route.hosts.iter().any(|name| name == host) {
            return None;
        }
        Some(((any_host, &route.kinds, index), route.fit(path)?))
    });
    fits.min().map(|((_, _, index), values)| (index, values))
}

/// Few different segments, so that patterns overlap and searches run into dead ends.
fn any_route() -> impl Strategy<Value = Route> {
    let segment = prop_oneof![
        3 => prop::sample::select(&["a", "b", "1", "\u{e9} "][..]).prop_map(str::to_owned),
        2 => Just("{}".to_owned()),
    ];
    let last = prop_oneof![Just(None), Just(Some(String::new())), Just(Some("{*}".to_owned())),];
    let form = prop_oneof![
        3 => Just(None),
        1 => Just(Some(ParameterType::Integer)),
        1 => Just(Some(ParameterType::Uuid)),
        1 => Just(Some(matches("[a-z]+"))),
    ];
    let hosts = prop_oneof![
        Just(vec![]),
        Just(vec!["x".to_owned()]),
        Just(vec!["x".to_owned(), "y".to_owned()]),
    ];
    let segments = prop::collection::vec(segment, 0..5);
    let forms = prop::collection::vec(form, 6);
    // Names differ between routes and run against their order, so that neither is relied upon.
    (segments, last, forms, hosts, 0..3_u8).prop_map(|(mut segments, last, forms, hosts, salt)| {
        segments.extend(last);
        let mut parameters = HashMap::new();
        for (index, (segment, form)) in segments.iter_mut().zip(forms).enumerate() {
            if segment.starts_with('{') {
                let name = format!("p{}_{salt}", 9 - index);
                *segment = segment.replace('}', &format!("{name}}}"));
                parameters.extend(form.map(|form| (name, form)));
            }
        }
        Route { parameters, hosts, ..route(&format!("/{}", segments.join("/"))) }
    })
}

fn any_path() -> impl Strategy<Value = String> {
    const TEXTS: &[&str] = &["a", "b", "1", "ab", "%C3%A9%20", "%FF", "%31", UUID];
    let segment = prop_oneof![8 => prop::sample::select(TEXTS), 1 => Just("")];
    prop::collection::vec(segment, 1..7).prop_map(|segments| format!("/{}", segments.join("/")))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_router_agrees_with_a_naive_matcher(
        routes in prop::collection::vec(any_route(), 0..12),
        paths in prop::collection::vec(any_path(), 1..8),
    ) {
        let router = of(&routes);
        let routes: Vec<Naive> = routes.iter().map(Naive::new).collect();
        for path in &paths {
            for host in ["x", "y", "z"] {
                prop_assert_eq!(
                    shown(router.find(host, path)), naive(&routes, host, path), "{}{}", host, path
                );
            }
        }
    }

    #[test]
    fn no_host_or_path_makes_it_panic(
        host in "\\PC*",
        path in "/?(\\PC|%[0-9A-F]{2}|/|\\.){0,40}",
    ) {
        let router = router(&["/", "/{a}", "/{a}/{*rest}", "/a/{b}/c"]);
        let _ = router.find(&host, &path);
    }
}

fn shown(found: Option<Match>) -> Option<(usize, String)> {
    let found = found?;
    let pairs = found.parameters.iter().map(|(name, value)| format!("{name}={value}"));
    Some((found.route.index(), pairs.collect::<Vec<_>>().join(",")))
}

fn router(paths: &[&str]) -> Router {
    of(&routes(paths))
}

fn routes(paths: &[&str]) -> Vec<Route> {
    paths.iter().map(|path| route(path)).collect()
}

fn type_of(routes: &mut [Route], route: usize, name: &str, form: ParameterType) {
    routes[route].parameters.insert(name.to_owned(), form);
}

/// As the configuration anchors it.
fn matches(expression: &str) -> ParameterType {
    ParameterType::Matches(Regex::new(&format!("^(?:{expression})$")).unwrap())
}

fn route(path: &str) -> Route {
    let path = Pattern::parse(path).unwrap();
    Route { path, parameters: HashMap::new(), hosts: Vec::new() }
}

fn of(routes: &[Route]) -> Router {
    Router::new(routes.iter().map(|route| Entry {
        pattern: &route.path,
        parameters: &route.parameters,
        hosts: &route.hosts,
    }))
}
