//! Requests and their answers, row by row.

use std::path::PathBuf;

use http::header::HeaderValue;
use http::{HeaderMap, Method, Request};
use proptest::prelude::*;

use super::*;
use crate::config::{Admin, AdminBind};
use crate::gateway::guards::{Access, Denied, EmptyToken};
use crate::gateway::process::Process;
use crate::gateway::readiness::Unready;
use crate::outcome::settle::Ending;
use crate::session::id::SessionId;
use crate::session::record::Facts;
use crate::session::registry::{Order, Registered, SessionHandle};
use crate::telemetry::{Telemetry, testing};

/// A gateway without sockets.
pub(crate) fn gateway() -> Arc<Gateway> {
    let config = testing::config();
    let process = Process::new(&config.limits);
    let telemetry = Telemetry::new(&config);
    process.set_listening(true);
    let loaded = crate::server::load::load(config, &process).map_err(|p| format!("{p:?}")).unwrap();
    Gateway::new(loaded, process, telemetry)
}

/// The same with a dashboard that begins now.
pub(crate) fn context() -> Context {
    let dashboard = Dashboard::new(std::time::Instant::now(), jiff::Timestamp::now());
    Context { gateway: gateway(), dashboard: Arc::new(dashboard) }
}

/// The answer to a request with these headers.
fn ask(
    guards: &Guards,
    gateway: &Arc<Gateway>,
    (method, target): (&str, &str),
    headers: &HeaderMap,
) -> Response<Bytes> {
    let mut request = Request::builder().method(method).uri(target).body(()).unwrap();
    *request.headers_mut() = headers.clone();
    let context = Context { gateway: Arc::clone(gateway), ..context() };
    answer(guards, &context, &request.into_parts().0)
}

fn admin(bind: &str, hosts: &[&str]) -> Admin {
    let bind = match bind.strip_prefix("unix:") {
        Some(path) => AdminBind::Unix(PathBuf::from(path)),
        None => AdminBind::Tcp(bind.parse().unwrap()),
    };
    Admin { bind, token_file: None, hosts: hosts.iter().map(|h| (*h).to_owned()).collect() }
}

fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
    let header = |(name, value): &(&'static str, &str)| {
        (http::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
    };
    let mut map = HeaderMap::new();
    for (name, value) in list.iter().map(header) {
        map.append(name, value);
    }
    map
}

fn guards(token: Option<&str>) -> Guards {
    Guards::new(&admin("127.0.0.1:9901", &["ops.example.com"]), token).unwrap()
}

#[test]
fn pages_answer() {
    let table: [(&str, &str, u16, &str); 7] = [
        ("GET", "/healthz", 200, "ok\n"),
        ("GET", "/healthz?probe=1", 200, "ok\n"),
        ("GET", "/readyz", 200, "ready\n"),
        ("HEAD", "/healthz", 200, "ok\n"),
        ("GET", "/nothing", 404, "there is no such page\n"),
        ("GET", "/metrics/", 404, "there is no such page\n"),
        ("POST", "/metrics", 405, "this page does not take that method\n"),
    ];
    let headers = headers(&[("host", "127.0.0.1:9901"), ("x-framegate", "1")]);
    let gateway = gateway();
    for (method, path, status, body) in table {
        let response = ask(&guards(None), &gateway, (method, path), &headers);
        assert_eq!(response.status(), status, "{method} {path}");
        assert_eq!(response.body(), body, "{method} {path}");
        assert_eq!(response.headers()["cache-control"], "no-store");
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    }
    gateway.process().begin_drain();
    let response = ask(&guards(None), &gateway, ("GET", "/readyz"), &headers);
    assert_eq!(
        (response.status().as_u16(), &**response.body()),
        (503, &b"not ready\ndraining\n"[..])
    );
}

#[test]
fn each_reason_for_not_being_ready_has_a_line() {
    let response = pages::tell_ready(&[Unready::Draining, Unready::NoKeys("users".into())]);
    assert_eq!(response.status(), 503);
    assert_eq!(response.body(), "not ready\ndraining\nverifier users has no keys\n");
}

#[test]
fn answers_say_what_they_are() {
    let headers = headers(&[("host", "localhost"), ("x-framegate", "1")]);
    let gateway = gateway();
    let get = |method, path| ask(&guards(None), &gateway, (method, path), &headers);
    let metrics = get("GET", "/metrics");
    assert_eq!(metrics.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    assert!(metrics.body().starts_with(b"# HELP "));
    assert_eq!(get("GET", "/healthz").headers()["content-type"], "text/plain; charset=utf-8");
    assert_eq!(get("DELETE", "/healthz").headers()["allow"], "GET, HEAD");
    let missing = get("GET", "/api/nothing");
    assert_eq!(missing.headers()["content-type"], "application/json");
    assert_eq!(missing.body(), r#"{"error":"there is no such page"}"#);
}

#[test]
fn only_own_names_are_answered() {
    let loopback = "127.0.0.1:9901";
    let table = [
        (loopback, "127.0.0.1:9901", true),
        (loopback, "127.0.0.1", true),
        (loopback, "127.8.8.8:1", true),
        (loopback, "localhost:9901", true),
        (loopback, "LOCALHOST.", true),
        (loopback, "framegate.localhost:9901", true),
        (loopback, "[::1]:9901", true),
        (loopback, "[::ffff:127.0.0.1]:9901", true),
        (loopback, "ops.example.com", true),
        (loopback, "OPS.example.com:443", true),
        (loopback, "evil.example.com", false),
        (loopback, "ops.example.com.evil.com", false),
        (loopback, "localhost.evil.com", false),
        (loopback, "127.0.0.1.evil.com", false),
        (loopback, "192.0.2.1:9901", false),
        (loopback, "", false),
        (loopback, ":9901", false),
        (loopback, "[::1", false),
        ("192.0.2.1:9901", "192.0.2.1:9901", true),
        ("192.0.2.1:9901", "192.0.2.2:9901", false),
        ("[2001:db8::1]:9901", "[2001:db8::1]:9901", true),
        ("[2001:db8::1]:9901", "[2001:db8:0::1]", true),
        ("[2001:db8::1]:9901", "[2001:db8::2]:9901", false),
        ("0.0.0.0:9901", "10.1.2.3:9901", true),
        ("[::]:9901", "[2001:db8::7]:9901", true),
        ("0.0.0.0:9901", "evil.example.com", false),
        ("unix:/run/framegate/admin.sock", "whatever", true),
        ("unix:/run/framegate/admin.sock", "", true),
    ];
    for (bind, host, expected) in table {
        let guards = Guards::new(&admin(bind, &["Ops.example.com:9901"]), None).unwrap();
        let verdict = guards.check(&Method::GET, Access::Token, &headers(&[("host", host)]));
        let expected = if expected { Ok(()) } else { Err(Denied::Host) };
        assert_eq!(verdict, expected, "{host:?} at {bind}");
    }
}

#[test]
fn a_host_must_be_there_once() {
    let twice = headers(&[("host", "localhost"), ("host", "localhost")]);
    for headers in [HeaderMap::new(), twice] {
        assert_eq!(guards(None).check(&Method::GET, Access::Token, &headers), Err(Denied::Host));
    }
}

#[test]
fn pages_of_other_origins_are_refused() {
    let table: [(&[&str], bool); 11] = [
        (&[], true),
        (&["http://localhost:9901"], true),
        (&["https://LOCALHOST:9901"], true),
        (&["http://localhost"], false),
        (&["http://127.0.0.1:9901"], false),
        (&["http://evil.example.com"], false),
        (&["http://evil.example.com@localhost:9901"], false),
        (&["null"], false),
        (&[""], false),
        (&["localhost:9901"], false),
        (&["http://localhost:9901", "http://localhost:9901"], false),
    ];
    for (origins, expected) in table {
        let mut list = vec![("host", "localhost:9901")];
        list.extend(origins.iter().map(|origin| ("origin", *origin)));
        let verdict = guards(None).check(&Method::GET, Access::Token, &headers(&list));
        assert_eq!(verdict.is_ok(), expected, "{origins:?}");
        assert!(expected || verdict == Err(Denied::Origin), "{origins:?}");
    }
}

#[test]
fn an_empty_origin_authority_is_not_own_even_without_host() {
    let guards = Guards::new(&admin("unix:/a", &[]), None).unwrap();
    let verdict = guards.check(&Method::GET, Access::Token, &headers(&[("origin", "http://")]));
    assert_eq!(verdict, Err(Denied::Origin));
}

#[test]
fn what_a_form_could_send_changes_nothing() {
    let table = [
        (Method::GET, None, true),
        (Method::HEAD, None, true),
        (Method::POST, None, false),
        (Method::DELETE, None, false),
        (Method::OPTIONS, None, false),
        (Method::POST, Some("0"), false),
        (Method::POST, Some("1"), true),
        (Method::DELETE, Some("1"), true),
    ];
    for (method, value, expected) in table {
        let mut list = vec![("host", "localhost")];
        list.extend(value.map(|value| ("x-framegate", value)));
        let verdict = guards(None).check(&method, Access::Token, &headers(&list));
        let expected = if expected { Ok(()) } else { Err(Denied::Header) };
        assert_eq!(verdict, expected, "{method} {value:?}");
    }
}

#[test]
fn with_a_token_only_probes_pass_without_it() {
    let guards = guards(Some("s3cret\n"));
    let table = [
        (Access::Open, None, true),
        (Access::Open, Some("Bearer wrong"), true),
        (Access::Token, None, false),
        (Access::Token, Some("Bearer s3cret"), true),
        (Access::Token, Some("bearer  s3cret"), true),
        (Access::Token, Some("Bearer"), false),
        (Access::Token, Some("Bearer "), false),
        (Access::Token, Some("Basic s3cret"), false),
        (Access::Token, Some("s3cret"), false),
        (Access::Token, Some("Bearer s3cre"), false),
        (Access::Token, Some("Bearer s3crets3cret"), false),
        (Access::Token, Some("Bearer S3cret"), false),
    ];
    for (page, value, expected) in table {
        let mut list = vec![("host", "localhost")];
        list.extend(value.map(|value| ("authorization", value)));
        let verdict = guards.check(&Method::GET, page, &headers(&list));
        let expected = if expected { Ok(()) } else { Err(Denied::Token) };
        assert_eq!(verdict, expected, "{page:?} {value:?}");
    }
}

#[test]
fn a_token_of_no_length_is_an_error() {
    for token in ["", "\n", "  "] {
        let guards = Guards::new(&admin("127.0.0.1:9901", &[]), Some(token));
        assert_eq!(guards.unwrap_err(), EmptyToken);
    }
}

#[test]
fn a_token_is_never_shown() {
    assert!(!format!("{:?}", guards(Some("s3cret"))).contains("s3cret"));
}

#[test]
fn refusals_have_their_status_and_say_why() {
    let table =
        [(Denied::Host, 421), (Denied::Origin, 403), (Denied::Header, 403), (Denied::Token, 401)];
    for (denied, status) in table {
        let response = reply::denied(denied, Form::Text);
        assert_eq!(response.status(), status);
        assert_eq!(response.body(), &format!("{denied}\n"));
        assert_eq!(response.headers().contains_key("www-authenticate"), denied == Denied::Token);
    }
}

#[test]
fn the_guards_stand_before_the_pages() {
    let table = [
        ("/metrics", "evil.example.com", "Bearer t", 421),
        ("/nothing", "localhost", "Bearer wrong", 401),
        ("/nothing", "localhost", "Bearer t", 404),
    ];
    let gateway = gateway();
    for (path, host, token, status) in table {
        let headers = headers(&[("host", host), ("authorization", token)]);
        let response = ask(&guards(Some("t")), &gateway, ("GET", path), &headers);
        assert_eq!(response.status(), status, "{path} {host} {token}");
    }
}

proptest! {
    #[test]
    fn no_header_panics_and_no_other_token_fits(
        host in prop::collection::vec(any::<u8>(), 0..20),
        token in "[ -~]{0,20}",
    ) {
        let guards = guards(Some("0123456789abcdef0123456789"));
        let mut headers = HeaderMap::new();
        if let Ok(host) = HeaderValue::from_bytes(&host) {
            headers.insert("host", host);
        }
        let _ = guards.check(&Method::GET, Access::Token, &headers);
        headers.insert("host", HeaderValue::from_static("localhost"));
        headers.insert("authorization", HeaderValue::from_str(&format!("Bearer {token}")).unwrap());
        prop_assert_eq!(guards.check(&Method::GET, Access::Token, &headers), Err(Denied::Token));
    }
}

/// A session that is open, as far as the admin API can tell.
fn open(gateway: &Gateway, id: u64, change: impl FnOnce(&mut Facts)) -> Registered {
    let mut known = Facts { id: SessionId::new(id), ..testing::facts() };
    change(&mut known);
    let handle = SessionHandle::new(Arc::new(known), std::time::Instant::now());
    gateway.registry().insert(handle)
}

fn own() -> HeaderMap {
    headers(&[("host", "localhost"), ("x-framegate", "1")])
}

#[test]
fn a_session_has_the_documented_shape() {
    let gateway = gateway();
    let _open = open(&gateway, 0xab, |_| {});
    let response = ask(&guards(None), &gateway, ("GET", "/api/sessions/00000000000000ab"), &own());
    let text = String::from_utf8(response.body().to_vec()).unwrap();
    let start = r#"{"id":"00000000000000ab","state":"open","user":"u-17","route":"/a/{id}","listener":"127.0.0.1:8080","client":"192.0.2.7:4711","via":null,"host":"chat.example.com","path":"/a/1","origin":"https://chat.example.com","subprotocol":"chat.v1","upstream":"chat","endpoint":"http://127.0.0.1:9001","opened":"2026-11-21T07:41:02.000Z","age_s":"#;
    assert!(text.starts_with(start), "{text}");
    let end = r#""messages":{"from_client":0,"from_upstream":0},"bytes":{"from_client":0,"from_upstream":0},"pending_bytes":0,"idle_s":0.0,"steps":[{"name":"accept","ms":0.012},{"name":"tls","ms":1.5},{"name":"request","ms":0.8},{"name":"admission","ms":0.25},{"name":"upstream_connect","ms":0.4},{"name":"upstream_handshake","ms":2.0}]}"#;
    assert!(text.contains(r#""bytes":"#) && without_idle(&text).ends_with(end), "{text}");
}

/// It may take a millisecond to ask.
fn without_idle(text: &str) -> String {
    let (before, rest) = text.split_once(r#""idle_s":"#).unwrap();
    format!(r#"{before}"idle_s":0.0{}"#, &rest[rest.find(',').unwrap()..])
}

#[test]
fn an_ended_one_has_its_end_behind_the_same() {
    let gateway = gateway();
    let at = testing::record().opened + std::time::Duration::from_secs(61);
    gateway.telemetry().recent.keep(testing::record(), std::time::Instant::now(), at);
    let response = ask(&guards(None), &gateway, ("GET", "/api/sessions/00000000000000ab"), &own());
    let text = String::from_utf8(response.body().to_vec()).unwrap();
    let end = r#""age_s":61.0,"messages":{"from_client":3,"from_upstream":7},"bytes":{"from_client":42,"from_upstream":900},"steps":[{"name":"accept","ms":0.012},{"name":"tls","ms":1.5},{"name":"request","ms":0.8},{"name":"admission","ms":0.25},{"name":"upstream_connect","ms":0.4},{"name":"upstream_handshake","ms":2.0},{"name":"relay","ms":61000.0}],"ended":"2026-11-21T07:42:03.000Z","label":"client_closed","by":"client","phase":"relay","status":null,"client_close":1000,"upstream_close":1000,"cut_frame":false,"detail":null,"sentence":"The client closed the session with code 1000. Nothing is wrong, unless its close code says so."}"#;
    assert!(text.contains(r#""state":"ended""#) && text.ends_with(end), "{text}");
}

#[test]
fn filters_narrow_and_never_widen() {
    let gateway = gateway();
    let _open = [
        open(&gateway, 1, |it| it.user = None),
        open(&gateway, 2, |it| it.user = Some("Ann".into())),
        open(&gateway, 3, |it| it.client = "[2001:db8::1]:7".parse().unwrap()),
        open(&gateway, 4, |it| it.path = Some("/a/ÜBER".into())),
    ];
    let rows: [(&str, &[u64]); 12] = [
        ("", &[4, 3, 2, 1]),
        ("?user=Ann", &[2]),
        ("?user=ann", &[]),
        ("?user=", &[]),
        ("?client=192.0.2.7", &[4, 2, 1]),
        ("?client=::ffff:192.0.2.7", &[4, 2, 1]),
        ("?client=192.0.2.7:4712", &[]),
        ("?client=[2001:db8::1]:7", &[3]),
        ("?client=2001:db8:0::1", &[3]),
        ("?q=%C3%BCber", &[4]),
        ("?q=ann&user=u-17", &[]),
        ("?q=2001:DB8", &[3]),
    ];
    for (query, expected) in rows {
        let target = format!("/api/sessions{query}");
        let response = ask(&guards(None), &gateway, ("GET", &target), &own());
        let list: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        let ids = list["sessions"].as_array().unwrap().iter();
        let ids: Vec<_> =
            ids.map(|it| u64::from_str_radix(it["id"].as_str().unwrap(), 16)).collect();
        assert_eq!(ids, expected.iter().copied().map(Ok).collect::<Vec<_>>(), "{query}");
    }
}

#[test]
fn a_kick_orders_what_was_asked_for_of_whom_it_was_asked() {
    let reason = |text: &str| Some(text.to_owned());
    let rows = [
        ("/api/sessions/0000000000000001", Some((None, None)), 1),
        ("/api/sessions/0000000000000001?code=4000", Some((Some(4000), None)), 1),
        (
            "/api/sessions/0000000000000001?code=1000&reason=a+b",
            Some((Some(1000), reason("a b"))),
            1,
        ),
        ("/api/users/ann/sessions?reason=", Some((None, reason(""))), 2),
        ("/api/sessions/0000000000000001?code=1005", None, 0),
        ("/api/sessions/0000000000000001?code=999", None, 0),
        ("/api/sessions/0000000000000001?code=70000", None, 0),
        ("/api/users/ann/sessions?code=&reason=x", None, 0),
        ("/api/users/an/sessions", None, 0),
    ];
    for (target, expected, count) in rows {
        let gateway = gateway();
        let sessions = ["ann", "ann", "bob"]
            .into_iter()
            .zip(1..)
            .map(|(user, id)| open(&gateway, id, |it| it.user = Some(user.into())));
        let sessions: Vec<_> = sessions.collect();
        ask(&guards(None), &gateway, ("DELETE", target), &own());
        let orders: Vec<_> =
            sessions.iter().flat_map(|session| session.handle().take_orders()).collect();
        assert_eq!(orders.len(), count, "{target}");
        for order in orders {
            let Order::End(ending) = order else { panic!("{target}: {order:?}") };
            let (code, reason) = expected.clone().unwrap();
            assert_eq!(ending, Ending::Kicked { code, reason }, "{target}");
        }
    }
}
