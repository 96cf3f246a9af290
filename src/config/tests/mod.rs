//! What the configuration accepts, what it says about mistakes, and that the files in `config/` tell the truth.

#![allow(clippy::too_many_lines, reason = "tables of rows, and the whole schema in one list")]

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::outcome::close_codes::RefuseMode;
use crate::outcome::label::Label;
use crate::route::ParameterType;

mod broken;
mod reference;

/// A small good file; the lines matter to the tables of mistakes.
const GOOD: &str = r#"[[listener]]
bind = "0.0.0.0:8443"

[verifiers.users]
keys = [{ kid = "a", algorithm = "ES256", file = "jwt.pem" }]

[upstreams.chat]
endpoints = ["http://127.0.0.1:9001"]

[[route]]
path = "/chats/{chat_id}/ws"
upstream = "chat"
verifier = "users"
"#;

fn parse(text: &str) -> Result<Config, Vec<Problem>> {
    Config::parse(text, Path::new("/etc/framegate"))
}

fn good(text: &str) -> Config {
    parse(text).unwrap_or_else(|problems| panic!("{}\n{text}", listed(&problems)))
}

fn listed(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}

#[test]
fn a_small_file_gets_all_defaults() {
    let config = good(GOOD);
    assert!(config.listeners[0].tls.is_none());
    assert_eq!(config.admin.unwrap().bind, AdminBind::Tcp("127.0.0.1:9901".parse().unwrap()));
    let verifier = &config.verifiers[0];
    assert_eq!(verifier.keys[0].file, Path::new("/etc/framegate/jwt.pem"));
    assert_eq!(verifier.leeway, Duration::from_secs(30));
    assert_eq!(verifier.user_claim, "sub");
    assert_eq!(verifier.sources, [TokenSource::Header, TokenSource::Subprotocol]);
    let route = &config.routes[0];
    assert_eq!((route.upstream.index(), route.verifier), (0, Some(0)));
    assert_eq!(route.label, "/chats/{chat_id}/ws");
    assert_eq!(route.limits.message_size, 1 << 20);
    let rate = Rate { per_second: 100.0, burst: 200 };
    assert_eq!(route.limits.messages, Some(MessageRate { rate, over: OverRate::Pause }));
    assert_eq!(config.limits.connections, 10_000);
    assert_eq!(config.timeouts.idle, None);
    assert_eq!(config.drain.code, 1012);
}

#[test]
fn a_key_set_may_be_a_file_and_stand_in_for_keys() {
    let jwks_of = |jwks: &str| {
        let keys = "keys = [{ kid = \"a\", algorithm = \"ES256\", file = \"jwt.pem\" }]";
        let config = good(&GOOD.replacen(keys, &format!("jwks = {jwks}"), 1));
        assert!(config.verifiers[0].keys.is_empty());
        config.verifiers[0].jwks.clone().unwrap()
    };
    for (url, file) in [
        ("jwks.json", "/etc/framegate/jwks.json"),
        ("./jwks.json", "/etc/framegate/./jwks.json"),
        ("/run/jwks.json", "/run/jwks.json"),
        ("file:jwks.json", "/etc/framegate/jwks.json"),
        ("file:/run/jwks.json", "/run/jwks.json"),
        ("FILE:///run/jwks.json", "/run/jwks.json"),
    ] {
        let jwks = jwks_of(&format!("{{ url = '{url}' }}"));
        assert_eq!(jwks.source, JwksSource::File(file.into()), "{url}");
        let times = [jwks.refresh, jwks.timeout, jwks.cooldown, jwks.stale];
        assert_eq!(times.map(|time| time.as_secs()), [600, 3, 30, 86400]);
    }
    let without_effect =
        good(&GOOD.replacen("keys", "jwks = { url = 'x', ca = 'ca.pem' }\nkeys", 1));
    assert!(listed(&without_effect.warnings()).contains("jwks.ca: has no effect"));
    let odd = "jwks = { url = 'x', refresh = '9s', timeout = '10s' }\nkeys";
    let odd = listed(&good(&GOOD.replacen("keys", odd, 1)).warnings());
    for said in ["jwks.timeout: is longer than `refresh`", "jwks.refresh: is very short"] {
        assert!(odd.contains(said), "{odd}");
    }
}

/// Every setting with another value than its default: a key read into the wrong field shows here.
const EVERYTHING: &str = r#"
[[listener]]
bind = "127.0.0.1:1"
proxy_protocol = true
trusted_proxies = ["10.1.2.3/8", "::1", "192.0.2.7"]
[listener.tls]
certificates = [{ chain = "a.pem", key = "/keys/a.key" }, { chain = "b.pem", key = "b.key" }]
min_version = "1.3"
client_ca = "clients.pem"
[admin]
bind = "0.0.0.0:2"
token_file = "admin.token"
hosts = ["Gate.internal"]
[verifiers.users]
keys = [{ algorithm = "HS512", file = "secret", not_after = 2026-12-01T01:00:00+01:00 }, { kid = "k", algorithm = "EdDSA", file = "e" }]
jwks = { url = "https://id.example.com/k?a=b", refresh = "1m", timeout = "2s", cooldown = "4s", stale = "5h", ca = "ca.pem" }
issuers = ["i"]
audiences = ["a"]
leeway = "0"
user_claim = "uid"
required_claims = { use = "access", level = 3, deep = { a = [true, 1.5] } }
token_types = ["application/AT+jwt"]
sources = ["cookie:c", "query:q", "subprotocol:s"]
[upstreams.other]
endpoints = ["https://[::1]:7", "unix:run/x.sock"]
balance = "round_robin"
connect_timeout = "1s"
handshake_timeout = "2s"
retries = 0
health = { interval = "3s", timeout = "4s", fall = 5 }
ca = "ca.pem"
[upstreams.chat]
endpoints = ["http://chat"]
health = { interval = "0" }
[[route]]
path = "/{id}/{n}/{*rest}"
parameters = { id = "uuid", n = "integer", rest = "[a-z]*" }
hosts = ["Chat.example.com", "b"]
upstream = "chat"
verifier = "users"
origins = ["https://Chat.example.com:443", "http://localhost:3000"]
authorize = { claims = { role = ["admin", 7], paid = true }, contains = { ids = "id" } }
refuse = "close"
forward = { token = "authorization", identity = false, claims = ["role"], host = "upstream" }
limits = { user_scope = "path.n", message_size = 99, messages = { rate = "1/s" } }
[[route]]
path = "/{id}/{n}/{*rest}"
upstream = "other"
verifier = "none"
[limits]
connections = 10_000_000
connections_per_address = 0
handshakes_per_address = { rate = "60/m", burst = 2 }
connections_per_user = 3
user_scope = "all"
when_user_full = "refuse"
message_size = "4KiB"
upstream_message_size = "5KiB"
fragments = 6
messages = { rate = "0/s", burst = 7, over = "close" }
pending_bytes = "8MiB"
text_utf8 = false
[timeouts]
tls_handshake = "11s"
request_head = "12s"
idle = "13s"
write_stall = "14s"
close = "15s"
[keepalive]
client_ping = "0"
client_pong = "16s"
upstream_ping = "17s"
upstream_pong = "18s"
[drain]
announce = "19s"
window = "0s"
grace = 0
code = 1001
[log]
format = "json"
level = "trace"
access = false
[close_codes]
token_expired = 4400
[close_codes.subprotocol."a.b"]
token_expired = 4500
"#;

#[test]
fn every_setting_arrives_in_its_field() {
    let config = good(EVERYTHING);
    let files = |name: &str| PathBuf::from(format!("/etc/framegate/{name}"));
    let seconds = Duration::from_secs;

    let listener = &config.listeners[0];
    assert!(listener.proxy_protocol);
    let networks: Vec<String> = listener.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["10.0.0.0/8", "::1/128", "192.0.2.7/32"]);
    let tls = listener.tls.as_ref().unwrap();
    assert_eq!(tls.certificates[0].chain, files("a.pem"));
    assert_eq!(tls.certificates[0].key, Path::new("/keys/a.key"));
    assert_eq!(tls.certificates[1].key, files("b.key"));
    assert_eq!(tls.min_version, TlsVersion::V1_3);
    assert_eq!(tls.client_ca, Some(files("clients.pem")));

    let admin = config.admin.as_ref().unwrap();
    assert_eq!(admin.bind, AdminBind::Tcp("0.0.0.0:2".parse().unwrap()));
    assert_eq!(admin.token_file, Some(files("admin.token")));
    assert_eq!(admin.hosts, ["gate.internal"]);

    let verifier = &config.verifiers[0];
    assert_eq!(verifier.keys[0].kid, None);
    assert_eq!(verifier.keys[0].algorithm, jsonwebtoken::Algorithm::HS512);
    assert_eq!(verifier.keys[0].not_after, "2026-12-01T00:00:00Z".parse().ok());
    assert_eq!(verifier.keys[1].not_after, None);
    let jwks = Jwks {
        source: JwksSource::Url {
            target: Target::Https { host: "id.example.com".to_owned(), port: 443 },
            authority: "id.example.com".to_owned(),
            path: "/k?a=b".to_owned(),
        },
        refresh: Duration::from_secs(60),
        timeout: Duration::from_secs(2),
        cooldown: Duration::from_secs(4),
        stale: Duration::from_secs(5 * 3600),
        ca: Some("/etc/framegate/ca.pem".into()),
    };
    assert_eq!(verifier.jwks, Some(jwks));
    assert_eq!(verifier.keys[1].kid.as_deref(), Some("k"));
    assert_eq!(verifier.keys[1].algorithm, jsonwebtoken::Algorithm::EdDSA);
    assert_eq!(
        (verifier.issuers.as_slice(), verifier.audiences.as_slice()),
        (&["i".to_owned()][..], &["a".to_owned()][..])
    );
    assert_eq!(verifier.leeway, Duration::ZERO);
    assert_eq!(verifier.user_claim, "uid");
    assert_eq!(
        verifier.required_claims,
        [
            ("use".to_owned(), "access".into()),
            ("level".to_owned(), 3.into()),
            ("deep".to_owned(), serde_json::json!({ "a": [true, 1.5] })),
        ]
    );
    assert_eq!(verifier.token_types, ["at+jwt"]);
    assert_eq!(
        verifier.sources,
        [
            TokenSource::Cookie("c".to_owned()),
            TokenSource::Query("q".to_owned()),
            TokenSource::SubprotocolAfter("s".to_owned()),
        ]
    );

    let [other, chat] = config.upstreams.as_slice() else { panic!("two upstreams") };
    assert_eq!((other.name.as_str(), chat.name.as_str()), ("other", "chat"));
    assert_eq!(other.endpoints[0].label, "https://[::1]:7");
    assert_eq!(other.endpoints[0].target, Target::Https { host: "::1".to_owned(), port: 7 });
    assert_eq!(other.endpoints[1].target, Target::Unix(files("run/x.sock")));
    assert_eq!(other.balance, BalancePolicy::RoundRobin);
    assert_eq!((other.connect_timeout, other.handshake_timeout), (seconds(1), seconds(2)));
    assert_eq!(other.retries, 0);
    assert_eq!(other.health, Some(Health { interval: seconds(3), timeout: seconds(4), fall: 5 }));
    assert_eq!(other.ca, Some(files("ca.pem")));
    assert_eq!((chat.health.as_ref(), chat.ca.as_ref()), (None, None));

    assert_eq!(config.limits.connections, 10_000_000);
    assert_eq!(config.limits.connections_per_address, 0);
    assert_eq!(config.limits.handshakes_per_address, Some(Rate { per_second: 1.0, burst: 2 }));
    assert_eq!(config.limits.pending_bytes, 8 << 20);
    assert_eq!(config.timeouts.tls_handshake, seconds(11));
    assert_eq!(config.timeouts.request_head, seconds(12));
    assert_eq!(config.timeouts.idle, Some(seconds(13)));
    assert_eq!(config.timeouts.write_stall, seconds(14));
    assert_eq!(config.timeouts.close, seconds(15));
    assert_eq!(config.keepalive.client_ping, None);
    assert_eq!(config.keepalive.client_pong, seconds(16));
    assert_eq!(config.keepalive.upstream_ping, Some(seconds(17)));
    assert_eq!(config.keepalive.upstream_pong, seconds(18));
    assert_eq!(config.drain.announce, seconds(19));
    assert_eq!((config.drain.window, config.drain.grace), (Duration::ZERO, Duration::ZERO));
    assert_eq!(config.drain.code, 1001);
    assert_eq!((config.log.format, config.log.level), (LogFormat::Json, LogLevel::Trace));
    assert!(!config.log.access);
    assert_eq!(config.close_codes.get(Label::TokenExpired, None), Some(4400));
    assert_eq!(config.close_codes.get(Label::TokenExpired, Some("a.b")), Some(4500));
}

#[test]
fn routes_override_limits_key_by_key() {
    let config = good(EVERYTHING);
    let [first, second] = config.routes.as_slice() else { panic!("two routes") };

    assert!(matches!(first.parameters["id"], ParameterType::Uuid));
    assert!(matches!(first.parameters["n"], ParameterType::Integer));
    assert!(
        matches!(&first.parameters["rest"], ParameterType::Matches(regex) if regex.as_str() == "^(?:[a-z]*)$")
    );
    assert_eq!(first.hosts, ["chat.example.com", "b"]);
    assert_eq!((first.upstream.index(), first.verifier), (1, Some(0)));
    assert_eq!(first.origins, ["https://chat.example.com", "http://localhost:3000"]);
    assert_eq!(
        first.authorize.claims,
        [
            ("role".to_owned(), vec!["admin".into(), 7.into()]),
            ("paid".to_owned(), vec![true.into()])
        ]
    );
    assert_eq!(first.authorize.contains, [("ids".to_owned(), "id".to_owned())]);
    assert_eq!(first.refuse, RefuseMode::Close);
    assert_eq!(first.forward.token, ForwardToken::Authorization);
    assert!(!first.forward.identity);
    assert_eq!(first.forward.claims, ["role"]);
    assert_eq!(first.forward.host, ForwardHost::Upstream);
    assert_eq!(first.limits.user_scope, UserScope::Path("n".to_owned()));
    assert_eq!(first.limits.message_size, 99);
    let rate = Rate { per_second: 1.0, burst: 7 };
    assert_eq!(first.limits.messages, Some(MessageRate { rate, over: OverRate::Close }));
    assert_eq!(first.limits.fragments, 6);

    assert_eq!((second.upstream.index(), second.verifier), (0, None));
    let limits = &second.limits;
    assert_eq!(limits.connections_per_user, 3);
    assert_eq!(limits.user_scope, UserScope::All);
    assert_eq!(limits.when_user_full, WhenUserFull::Refuse);
    assert_eq!((limits.message_size, limits.upstream_message_size), (4096, 5120));
    assert_eq!(limits.messages, None);
    assert!(!limits.text_utf8);
}

#[test]
fn routes_that_share_a_path_are_labelled_with_their_hosts() {
    let config = good(EVERYTHING);
    assert_eq!(config.routes[0].label, "chat.example.com,b/{id}/{n}/{*rest}");
    assert_eq!(config.routes[1].label, "/{id}/{n}/{*rest}");
}

#[test]
fn the_admin_listener_can_be_elsewhere_or_nowhere() {
    let with = |admin: &str| good(&format!("{GOOD}\n[admin]\n{admin}\n")).admin;
    assert!(with("bind = ''").is_none());
    let unix = with("bind = 'unix:run/admin.sock'").unwrap();
    assert_eq!(unix.bind, AdminBind::Unix("/etc/framegate/run/admin.sock".into()));
    assert!(with("bind = '[::1]:9901'").unwrap().token_file.is_none());
}

#[test]
fn a_drain_code_by_close_codes_alone_is_fine() {
    let config = good(&format!("{GOOD}\n[close_codes]\ndrained = 4000\n"));
    assert_eq!(config.close_codes.get(Label::Drained, None), Some(4000));
}

#[test]
fn locations_know_the_line_of_settings_typed_and_not_typed() {
    let config = good(GOOD);
    let problem = config.locations.problem("verifiers.users.keys[0].file", "cannot be read");
    assert_eq!(problem.to_string(), "line 5: verifiers.users.keys[0].file: cannot be read");
    assert_eq!(config.locations.line("route[0].limits.messages"), Some(10));
}

#[test]
fn line_ends_and_byte_order_marks_of_other_systems_do_not_shift_lines() {
    let text = format!("\u{feff}{GOOD}\ncolour = 1\n").replace('\n', "\r\n");
    let problems = parse(&text).unwrap_err();
    assert_eq!(listed(&problems), "line 15: route[0].colour: unknown key\n");
}

#[test]
fn problems_are_shown_with_what_is_known_of_their_place() {
    let mut problem = Problem { path: "a.b".to_owned(), line: None, message: "is bad".to_owned() };
    assert_eq!(problem.to_string(), "a.b: is bad");
    problem.path.clear();
    problem.line = Some(3);
    assert_eq!(problem.to_string(), "line 3: is bad");
}

#[test]
fn warnings_name_what_is_legal_but_probably_not_meant() {
    let text = r#"
[[listener]]
bind = "0.0.0.0:80"
[[listener]]
bind = "127.0.0.1:80"
[[listener]]
bind = "0.0.0.0:81"
trusted_proxies = ["0.0.0.0/0"]
[verifiers.users]
keys = [{ algorithm = "HS256", file = "secret" }]
sources = ["query:token"]
[verifiers.unused]
keys = [{ algorithm = "HS256", file = "secret" }]
[upstreams.chat]
endpoints = ["http://a:443", "http://a:80", "https://a:80"]
[upstreams.plain]
endpoints = ["http://a"]
ca = "ca.pem"
[upstreams.unused]
endpoints = ["http://a"]
[[route]]
path = "/a"
upstream = "chat"
verifier = "users"
limits = { messages = { rate = "0/s" } }
[[route]]
path = "/b"
upstream = "plain"
verifier = "none"
[[route]]
path = "/c"
upstream = "plain"
verifier = "none"
[limits]
messages = { rate = "0/s" }
[drain]
grace = "4s"
"#;
    let warnings = good(text).warnings();
    let found: Vec<_> =
        warnings.iter().map(|problem| (problem.path.as_str(), problem.line.unwrap())).collect();
    assert_eq!(
        found,
        [
            ("listener[0]", 2),
            ("listener[2].trusted_proxies", 8),
            ("verifiers.users.issuers", 9),
            ("verifiers.users.audiences", 9),
            ("verifiers.users.sources", 11),
            ("verifiers.unused", 12),
            ("upstreams.chat.endpoints[0]", 15),
            ("upstreams.chat.endpoints[2]", 15),
            ("upstreams.plain.ca", 18),
            ("upstreams.unused", 19),
            ("route[0].limits.messages", 25),
            ("limits.messages", 35),
            ("drain.grace", 37),
        ]
    );
}

#[test]
fn a_socket_on_all_ipv6_addresses_takes_ipv4_too() {
    for (six, four, warned) in [
        ("[::]:8080", "0.0.0.0:8080", true),
        ("[::]:8080", "0.0.0.0:8081", false),
        ("[::1]:8080", "0.0.0.0:8080", false),
        ("[::]:8080", "127.0.0.1:8080", false),
        ("[::]:0", "0.0.0.0:0", false),
    ] {
        for (at, binds) in [(1, [six, four]), (0, [four, six])] {
            let [one, other] = binds;
            let text = format!(
                "[[listener]]\nbind = {one:?}\n[[listener]]\nbind = {other:?}\n\
                 [upstreams.chat]\nendpoints = [\"http://a\"]\n\
                 [[route]]\npath = \"/a\"\nupstream = \"chat\"\nverifier = \"none\"\n"
            );
            let warnings = good(&text).warnings();
            let paths: Vec<_> = warnings.iter().map(|problem| problem.path.clone()).collect();
            let expected = warned.then(|| format!("listener[{at}].bind"));
            assert_eq!(paths, Vec::from_iter(expected), "{binds:?}");
        }
    }
}

/// A configuration as text that is equal for equal configurations; where things stand left out.
fn fingerprint(mut config: Config) -> String {
    config.locations = Locations::default();
    let codes = std::mem::take(&mut config.close_codes);
    let sorted = |codes: HashMap<Label, u16>| codes.into_iter().collect::<BTreeMap<_, _>>();
    let by_subprotocol: BTreeMap<_, _> =
        codes.by_subprotocol.into_iter().map(|(name, codes)| (name, sorted(codes))).collect();
    let parameters: Vec<BTreeMap<String, ParameterType>> = config
        .routes
        .iter_mut()
        .map(|route| std::mem::take(&mut route.parameters).into_iter().collect())
        .collect();
    format!("{config:#?}\n{:#?}\n{by_subprotocol:#?}\n{parameters:#?}", sorted(codes.by_label))
}

fn repository(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in ".{0,200}") {
        if let Err(problems) = parse(&text) {
            prop_assert!(!problems.is_empty());
        }
    }

    /// Text that is nearly a configuration reaches further than noise.
    #[test]
    fn mangled_files_are_read_or_refused(
        reference in any::<bool>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..12, edit()), 1..5),
    ) {
        let mut text = if reference { repository("config/framegate.toml") } else { EVERYTHING.to_owned() };
        for (at, length, insert) in edits {
            let boundaries: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
            let start = at.index(boundaries.len());
            let end = (start + length).min(boundaries.len() - 1);
            text.replace_range(boundaries[start]..boundaries[end], &insert);
        }
        if let Err(problems) = parse(&text) {
            let lines = text.lines().count().max(1) + 1;
            prop_assert!(!problems.is_empty());
            prop_assert!(problems.iter().all(|problem| problem.line.is_none_or(|line| line <= lines)));
        }
    }

    /// The right keys with values of any type.
    #[test]
    fn values_of_any_type_are_read_or_refused(
        line in any::<prop::sample::Index>(),
        value in prop::sample::select(vec![
            "5", "-1", "9223372036854775807", "99999999999999999999", "0x10", "1.5", "nan", "-inf", "true",
            "''", "'x'", "'é\\'", "[]", "[[]]", "[1]", "['']", "{}", "{ a = {} }", "{ '' = 1 }", "1979-05-27",
            "[{}]", "'18446744073709551616h'", "'9999999999999999GiB'", "'1/s'",
        ]),
    ) {
        let mut lines: Vec<String> = EVERYTHING.lines().map(str::to_owned).collect();
        let keys: Vec<usize> = (0..lines.len()).filter(|at| lines[*at].contains(" = ")).collect();
        let at = keys[line.index(keys.len())];
        let (key, _) = lines[at].split_once(" = ").unwrap();
        lines[at] = format!("{key} = {value}");
        let _ = parse(&lines.join("\n"));
    }
}

fn edit() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        "[\\[\\]{}=\"'.,#\n a-z0-9é-]{1,6}",
        prop::sample::select(vec![
            "[[route]]\n",
            "[admin]\n",
            " = ",
            "\"",
            "'''",
            "unix:",
            "\r\n",
            "\u{0}",
            "\u{feff}"
        ])
        .prop_map(str::to_owned),
    ]
}

#[test]
fn a_warning_is_accepted_by_a_name_that_does_not_depend_on_its_place() {
    let text = GOOD.to_owned();
    let config = good(&text);
    let warnings = config.warnings();
    let names: Vec<_> = warnings.iter().map(|warning| config.name_of(&warning.path)).collect();
    assert!(!names.is_empty());
    for (path, expected) in [
        ("route[0].origins", format!("route.{:?}.origins", config.routes[0].label)),
        ("listener[0]", format!("listener.{:?}", config.listeners[0].bind.to_string())),
        ("verifiers.users.issuers", "verifiers.users.issuers".to_owned()),
        ("route[99].origins", "route[99].origins".to_owned()),
    ] {
        assert_eq!(config.name_of(path), expected);
    }
    let accepting = format!("{text}\n[check]\naccept = {names:?}\n");
    let config = good(&accepting);
    assert!(config.warnings().iter().all(|warning| config.accepts(warning)));
    let other = good(&format!("{text}\n[check]\naccept = [\"verifiers.other\"]\n"));
    assert!(!other.warnings().iter().any(|warning| other.accepts(warning)));
}
