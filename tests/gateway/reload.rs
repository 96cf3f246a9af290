//! SIGHUP: another configuration without a dropped connection; a bad one changes nothing.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;

use crate::support::reload::relink;
use crate::support::tokens::token;
use crate::support::wire::{PONG, TEXT};
use crate::support::{Authority, Backend, Client, Gateway, Pair, Setup, within};

const RELOADED: &str = "framegate_config_reloads_total{result=\"success\"}";
const FAILED: &str = "framegate_config_reloads_total{result=\"error\"}";
const IS_GOOD: &str = "framegate_config_last_reload_successful";
const SINCE: &str = "framegate_config_last_reload_success_timestamp_seconds";
const IN_USE: &str = "framegate_configurations";

fn active(route: &str) -> String {
    format!("framegate_sessions_active{{route=\"{route}\"}}")
}

fn healthy(backend: &Backend) -> String {
    let url = backend.url();
    format!("framegate_upstream_healthy{{endpoint=\"{url}\",upstream=\"chat\"}}")
}

#[tokio::test]
async fn new_connections_meet_the_new_configuration_and_open_sessions_keep_theirs() {
    let (old, new) = (Backend::start().await, Backend::start().await);
    let before = Setup::open(&old.url()).limits("message_size = \"1KiB\"");
    let mut gateway = Gateway::start(&before).await;
    let mut session = Pair::open(&gateway, &old).await;
    session.round_trip().await;

    let after = Setup { path: "/new".to_owned(), ..Setup::open(&new.url()) };
    let changes = gateway.reload(&after).await;
    assert_eq!(changes["routes"], "added /new, removed /ws, kept 0");
    assert_eq!(changes["listeners"], "kept 1");
    assert_eq!(changes["upstreams"], "kept 1");
    let endpoints = format!("added chat={}, removed chat={}, kept 0", new.url(), old.url());
    assert_eq!(changes["endpoints"], endpoints);

    let mut other = Pair::of(gateway.client().path("/new"), &new).await;
    other.round_trip().await;
    session.round_trip().await;
    assert_eq!(gateway.client().connect().await.status, 404);
    for (series, value) in [(active("/ws"), 1.0), (active("/new"), 1.0), (IN_USE.into(), 2.0)] {
        assert_eq!(gateway.metric(&series).await, value, "{series}");
    }
    // Each is held to the limits it began with.
    let long = "x".repeat(2000);
    other.client.send(TEXT, long.as_bytes()).await;
    other.upstream.expect_text(&long).await;
    session.client.send(TEXT, long.as_bytes()).await;
    assert_eq!(session.client.expect_close().await.0, Some(1009));
    drop(session);
    gateway.wait_for_metric(&active("/ws"), 0.0).await;
    gateway.wait_for_metric(IN_USE, 1.0).await;
    let messages = |route| {
        format!(
            "framegate_messages_total{{direction=\"to_client\",kind=\"text\",route=\"{route}\"}}"
        )
    };
    assert_eq!(gateway.metric(&messages("/ws")).await, 2.0, "what was counted stays");
    assert_eq!(gateway.metric(&messages("/new")).await, 1.0);
}

#[tokio::test]
async fn a_file_with_any_problem_changes_nothing_and_all_its_problems_are_told() {
    let backend = Backend::start().await;
    let setup = Setup::with_tokens(&backend.url());
    let mut gateway = Gateway::start(&setup).await;
    let mut session = Pair::of(gateway.client().token(&token("ann")), &backend).await;
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = format!("bind = \"{}\"", taken.local_addr().unwrap());
    let good = setup.text();
    let bad = |from: &str, to: &str| good.replacen(from, to, 1);
    let listener = "bind = \"127.0.0.1:0\"\n\n";
    let rows: &[(String, &[&str])] = &[
        ("this is [[no TOML".to_owned(), &[""]),
        (bad("path = \"/ws\"", "path = \"/ws\"\nupstraem = 1"), &["route[0].upstraem"]),
        (
            bad("path = \"/ws\"", "path = \"ws\"").replace("\"chat\"\nver", "\"chta\"\nver"),
            &["route[0].path", "route[0].upstream"],
        ),
        (bad("file = \"secret\"", "file = \"nowhere\""), &["verifiers.users.keys[0].file"]),
        (
            // Another new listener can be had; it must not stay open either.
            bad(
                listener,
                &format!("{listener}[[listener]]\nbind = \"127.0.0.2:0\"\n[[listener]]\n{taken}\n"),
            ),
            &["listener[2].bind"],
        ),
    ];
    for (count, (text, paths)) in (1_u8..).zip(rows) {
        gateway.write(text);
        let problems = gateway.refuse_reload().await;
        let found: Vec<_> =
            problems.iter().map(|line| line["path"].as_str().unwrap_or_default()).collect();
        assert_eq!(found, *paths, "{problems:#?}");
        assert!(problems.iter().all(|line| line["level"] == "ERROR" && line["line"].is_u64()));
        assert_eq!(gateway.metric(IS_GOOD).await, 0.0);
        assert_eq!(gateway.metric(FAILED).await, f64::from(count));
        session.round_trip().await;
        Pair::of(gateway.client().token(&token("ben")), &backend).await.round_trip().await;
    }
    assert!(gateway.listening("127.0.0.2:0").is_empty());
    std::fs::remove_file(gateway.folder.path().join("framegate.toml")).unwrap();
    assert!(gateway.refuse_reload().await[0]["error"].as_str().unwrap().contains("cannot be read"));
    let since = gateway.metric(SINCE).await;
    gateway.reload(&setup).await;
    let metrics = gateway.metrics().await;
    assert_eq!([metrics[IS_GOOD], metrics[RELOADED], metrics[FAILED]], [1.0, 1.0, 6.0]);
    assert!(metrics[SINCE] >= since);
    assert_eq!(metrics[IN_USE], 2.0, "the session's and the new one");
    session.round_trip().await;
}

#[tokio::test]
async fn listeners_that_stay_keep_their_socket_and_those_that_go_keep_their_sessions() {
    let backend = Backend::start().await;
    let mut setup = Setup::open(&backend.url());
    setup.more_listeners = "[[listener]]\nbind = \"127.0.0.2:0\"\n".to_owned();
    let mut gateway = Gateway::start(&setup).await;
    let (stays, goes) = (gateway.addresses[0], gateway.addresses[1]);
    let mut on_stays = Pair::open(&gateway, &backend).await;
    let mut on_goes = Pair::of(Client::new(goes), &backend).await;

    let authority = Authority::new();
    let entry = authority.sign(&["chat.example.com"]).write(gateway.folder.path(), "one");
    setup.more_listeners = "[[listener]]\nbind = \"127.0.0.3:0\"\n".to_owned();
    let setup = setup.listener(&format!("[listener.tls]\ncertificates = [{entry}]"));
    let changes = gateway.reload(&setup).await;
    assert_eq!(changes["listeners"], "added 127.0.0.3:0, removed 127.0.0.2:0, kept 1");
    assert_eq!(changes["certificates"], "added chat.example.com, kept 0");
    assert_eq!(gateway.listening("127.0.0.1:0"), [stays], "bound once");

    // The listener that stays speaks TLS from now on; its session is as it was.
    let stream = authority.client().connect(stays, "chat.example.com").await.unwrap();
    let accept = backend.session();
    let (mut wire, mut upstream) = tokio::join!(gateway.client().ask_over(stream), accept);
    wire.head().await.unwrap();
    wire.send_text("over TLS").await;
    upstream.expect_text("over TLS").await;
    on_stays.round_trip().await;
    // The one that goes takes nobody any more; its session is as it was.
    within("a refusing port", async {
        while TcpStream::connect(goes).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    on_goes.round_trip().await;
    let added = gateway.listening("127.0.0.3:0")[0];
    Pair::of(Client::new(added), &backend).await.round_trip().await;
}

#[tokio::test]
async fn health_is_remembered_for_what_stays_and_unknown_for_what_is_new() {
    let (kept, gone, new) =
        (Backend::start().await, Backend::start().await, Backend::start().await);
    let down = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let down_url = format!("http://{down}");
    let is_up = format!("framegate_upstream_healthy{{endpoint=\"{down_url}\",upstream=\"chat\"}}");
    let mut setup = Setup::open(&kept.url()).endpoint(&gone.url()).endpoint(&down_url);
    setup.upstream = "health = { interval = \"50ms\", fall = 2 }\n".to_owned();
    let mut gateway = Gateway::start(&setup).await;
    gateway.wait_for_metric(&is_up, 0.0).await;
    let is_news = |line: &Value| line["message"].as_str().unwrap().starts_with("endpoint is");
    gateway.wait_for_log("the news of it", |lines| lines.iter().any(is_news)).await;
    let log = gateway.log().len();

    let mut next = Setup::open(&new.url()).endpoint(&down_url).endpoint(&kept.url());
    next.upstream = setup.upstream.clone();
    gateway.reload(&next.timeouts("close = \"1s\"")).await;
    let metrics = gateway.metrics().await;
    assert_eq!((metrics[&is_up], metrics[&healthy(&new)]), (0.0, 1.0));
    assert!(!metrics.contains_key(&healthy(&gone)), "nobody looks after it any more");
    assert!(!gateway.log()[log..].iter().any(is_news), "{:#?}", &gateway.log()[log..]);

    // What was under way when it went may still be seen by it; then nothing more, while others are
    // checked.
    for backend in [&kept, &new, &gone] {
        within("a moment without checks", async { while backend.is_asked().await {} }).await;
    }
    for _ in 0..10 {
        kept.accept().await;
        new.accept().await;
    }
    assert!(!gone.is_asked().await, "a removed endpoint is still checked");

    // Unchecked, it counts as healthy: nobody would ever find out that it is up again.
    setup.upstream = "health = { interval = \"0\" }\n".to_owned();
    gateway.reload(&setup).await;
    assert_eq!(gateway.metric(&is_up).await, 1.0);
}

impl Backend {
    /// Whether a connection is there, which is taken.
    async fn is_asked(&self) -> bool {
        tokio::time::timeout(Duration::from_millis(5), self.accept()).await.is_ok()
    }
}

/// The same, and its verifier, upstream and route are the second ones of the file.
fn with_other_indices(setup: &Setup) -> String {
    let first = |text: String, section: &str, other: &str| {
        text.replacen(section, &format!("{other}\n\n{section}"), 1)
    };
    let keys = "keys = [{ algorithm = \"HS256\", file = \"secret\" }]";
    let text = first(setup.text(), "[verifiers.users]", &format!("[verifiers.first]\n{keys}"));
    let upstream = "[upstreams.first]\nendpoints = [\"unix:/nowhere\"]";
    let text = first(text, "[upstreams.chat]", upstream);
    let route = "[[route]]\npath = \"/first\"\nupstream = \"first\"\nverifier = \"first\"";
    first(text, "[[route]]\npath = \"/ws\"", route)
}

#[tokio::test]
async fn what_is_counted_per_user_address_and_endpoint_is_counted_on() {
    let (busy, idle) = (Backend::start().await, Backend::start().await);
    let limits = "connections_per_user = 1\nwhen_user_full = \"refuse\"";
    let setup = Setup::with_tokens(&busy.url()).limits(limits).keepalive("client_pong = \"100ms\"");
    let mut gateway = Gateway::start(&setup).await;
    let client = |user: &str| gateway.client().token(&token(user));
    let (ann, ben) = (client("ann"), client("ben"));
    let mut of_ann = Pair::of(ann.clone(), &busy).await;
    let _of_ben = Pair::of(ben, &busy).await;

    let next = setup.clone().endpoint(&idle.url()).limits("connections_per_address = 4");
    gateway.reload_text(&with_other_indices(&next)).await;
    let asked = async {
        let ping = of_ann.client.frame().await.unwrap();
        assert_eq!(ping.opcode(), 9);
        of_ann.client.send(PONG, &ping.payload).await;
    };
    let (answered, ()) = tokio::join!(ann.connect(), asked);
    assert_eq!(answered.status, 429, "the user has a session already, and its holder lives");
    drop(answered);
    gateway.wait_for_metric("framegate_connections{listener=\"127.0.0.1:0\"}", 2.0).await;
    // The busy endpoint has two sessions, so the next two go to the idle one.
    let sessions =
        format!("framegate_upstream_sessions{{endpoint=\"{}\",upstream=\"chat\"}}", busy.url());
    assert_eq!(gateway.metric(&sessions).await, 2.0);
    let from = |user: &str| gateway.client().token(&token(user));
    let _third = Pair::of(from("cat"), &idle).await;
    let _fourth = Pair::of(from("dan"), &idle).await;
    // That makes four of this address.
    assert_eq!(from("eve").connect().await.status, 429);
    let elsewhere = from("eve").from("127.0.0.9").connect();
    let (_answered, _upstream) = tokio::join!(elsewhere, async {
        tokio::select! { wire = busy.session() => wire, wire = idle.session() => wire }
    });
}

#[tokio::test]
async fn limits_change_for_the_next_connection() {
    let backend = Backend::start().await;
    let setup = |limit: u32| Setup::open(&backend.url()).limits(&format!("connections = {limit}"));
    let mut gateway = Gateway::start(&setup(1)).await;
    let mut first = Pair::open(&gateway, &backend).await;
    assert_eq!(gateway.client().connect().await.status, 503);
    gateway.reload(&setup(2)).await;
    assert_eq!(gateway.metric("framegate_limit_connections").await, 2.0);
    let mut second = Pair::open(&gateway, &backend).await;
    gateway.reload(&setup(1)).await;
    assert_eq!(gateway.client().connect().await.status, 503);
    // Nobody is ended to fit.
    first.round_trip().await;
    second.round_trip().await;
}

#[tokio::test]
async fn admin_and_log_settings_change_but_for_the_admin_address() {
    let backend = Backend::start().await;
    let setup = Setup::open(&backend.url());
    let mut gateway = Gateway::start(&setup).await;
    let admin = gateway.admin;
    let text = setup.text();
    let named = text.replace("[admin]\n", "[admin]\nhosts = [\"gate.internal\"]\n");
    let get = |host: &'static str| crate::support::gateway::http_get(admin, "/healthz", host);
    assert_eq!(get("gate.internal").await.0, 421);
    gateway.reload_text(&named).await;
    assert_eq!(get("gate.internal").await.0, 200);

    let moved = text.replace("[admin]\nbind = \"127.0.0.1:0\"", "[admin]\nbind = \"127.0.0.2:0\"");
    gateway.reload_text(&moved).await;
    let warns = |line: &Value| line["path"] == "admin.bind" && line["level"] == "WARN";
    assert!(gateway.log().iter().any(warns));
    assert_eq!(get("gate.internal").await.0, 200, "all of [admin] stays");

    // A breach is told at level debug, and the session's end in the access log.
    let silent = text.replace("level = \"debug\"", "level = \"info\"\naccess = false");
    for (text, is_told) in [(&silent, false), (&text, true)] {
        gateway.reload_text(text).await;
        let before = gateway.log().len();
        let mut session = Pair::open(&gateway, &backend).await;
        session.client.send(0xf1, b"reserved bits").await;
        session.client.expect_close().await;
        drop(session);
        gateway.wait_for_metric("framegate_connections{listener=\"127.0.0.1:0\"}", 0.0).await;
        // Whatever was to be said has been said before this.
        gateway.reload_text(text).await;
        let log = gateway.log().split_off(before);
        let told = |name: &str, value: &str| log.iter().any(|line| line[name] == value);
        let found = [told("message", "protocol violated"), told("type", "access")];
        assert_eq!(found, [is_told; 2], "{log:#?}");
    }
}

#[tokio::test]
async fn a_listener_that_moves_to_all_addresses_of_its_port_is_told_how() {
    let backend = Backend::start().await;
    let setup = Setup::open(&backend.url());
    let mut gateway = Gateway::start(&setup).await;
    let own = gateway.addresses[0];
    let everywhere = format!("bind = \"0.0.0.0:{}\"", own.port());
    let moved = setup.text().replacen("bind = \"127.0.0.1:0\"", &everywhere, 1);
    gateway.write(&moved);
    let problems = gateway.refuse_reload().await;
    assert_eq!(problems[0]["path"], "listener[0].bind", "{problems:#?}");
    let said = problems[0]["error"].as_str().unwrap();
    assert!(said.contains(&format!("the gateway itself listens on {own}")), "{said}");
}

/// `status` and `certificate_faults` of /health/ws.
async fn certificate_health(gateway: &Gateway) -> (String, Vec<String>) {
    let (_, health) = gateway.admin("GET /health/ws").await;
    let faults = serde_json::from_value(health["certificate_faults"].clone()).unwrap();
    (health["status"].as_str().unwrap().to_owned(), faults)
}

#[tokio::test]
async fn certificates_renewed_in_place_are_served_without_a_signal() {
    let backend = Backend::start().await;
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    // As certbot has it: what is configured is a link to the newest.
    let [first, second] = ["first", "second"].map(|name| folder.path().join(name));
    let sign = |folder: &std::path::Path, names: &[&str]| {
        std::fs::create_dir_all(folder).unwrap();
        authority.sign(names).write(folder, "cert")
    };
    sign(&first, &["linked.example.com"]);
    relink(&first, &folder.path().join("live"));
    let placed = authority.sign(&["placed.example.com"]).write(folder.path(), "placed");
    let linked = "{ chain = \"live/cert.pem\", key = \"live/cert-key.pem\" }";
    let setup = Setup::open(&backend.url())
        .listener(&format!("[listener.tls]\ncertificates = [{placed}, {linked}]"));
    let mut gateway = Gateway::start_in(folder, &setup).await;
    let (address, folder) = (gateway.addresses[0], gateway.folder.path().to_owned());
    let serial = async |name: &str| {
        let stream = authority.client().connect(address, name).await.unwrap();
        leaf(&stream)
    };
    let old = serial("placed.example.com").await;

    // A new key whose certificate has not been written yet.
    let renewed = authority.sign(&["placed.example.com", "more.example.com"]);
    std::fs::write(folder.join("placed-key.pem"), renewed.key.serialize_pem()).unwrap();
    let is_warning =
        |line: &Value| line["message"] == "a changed certificate cannot be used, the old one stays";
    gateway.wait_for_log("a warning", |lines| lines.iter().any(is_warning)).await;
    assert_eq!(serial("placed.example.com").await, old);
    let (status, faults) = certificate_health(&gateway).await;
    assert_eq!(status, "degraded");
    assert!(faults[0].contains("listener[0].tls.certificates[0].key"), "{faults:?}");

    // Another one is renewed meanwhile: the next look finds both.
    let before = serial("linked.example.com").await;
    sign(&second, &["linked.example.com", "new.example.com"]);
    relink(&second, &folder.join("live"));
    let is_renewed = |name: &'static str| {
        move |line: &Value| {
            line["message"] == "certificates renewed" && line["certificates"] == name
        }
    };
    gateway.wait_for_log("renewal", |l| l.iter().any(is_renewed("linked.example.com"))).await;
    assert_ne!(serial("new.example.com").await, before);
    assert_eq!(serial("placed.example.com").await, old);

    std::fs::write(folder.join("placed.pem"), renewed.certificate.pem()).unwrap();
    gateway.wait_for_log("renewal", |l| l.iter().any(is_renewed("placed.example.com"))).await;
    assert_ne!(serial("more.example.com").await, old);
    let warnings: Vec<_> = gateway.log().into_iter().filter(is_warning).collect();
    assert_eq!(warnings.len(), 1, "said once: {warnings:#?}");
    assert_eq!(certificate_health(&gateway).await, ("ok".to_owned(), Vec::new()));
    assert_eq!(warnings[0]["path"], "listener[0].tls.certificates[0].key");
}

fn leaf(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test]
async fn the_end_of_a_certificate_is_told_of_the_one_that_is_served() {
    let backend = Backend::start().await;
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let entry = authority.sign(&["old.example.com"]).write(folder.path(), "cert");
    let setup =
        Setup::open(&backend.url()).listener(&format!("[listener.tls]\ncertificates = [{entry}]"));
    let mut gateway = Gateway::start_in(folder, &setup).await;
    let family = "framegate_tls_certificate_not_after_timestamp_seconds";
    let names = |metrics: HashMap<String, f64>| -> Vec<String> {
        metrics.into_keys().filter(|name| name.starts_with(family)).collect()
    };
    let series = |name: &str| vec![format!("{family}{{name=\"{name}.example.com\"}}")];
    assert_eq!(names(gateway.metrics().await), series("old"));
    authority.sign(&["new.example.com"]).write(gateway.folder.path(), "cert");
    let changes = gateway.reload(&setup).await;
    assert_eq!(changes["certificates"], "added new.example.com, removed old.example.com, kept 0");
    assert_eq!(names(gateway.metrics().await), series("new"));
}

#[tokio::test]
async fn a_gateway_that_goes_down_takes_no_other_configuration() {
    let backend = Backend::start().await;
    let mut setup = Setup::open(&backend.url());
    setup.drain = "window = \"8760h\"\n".to_owned();
    let mut gateway = Gateway::start(&setup).await;
    let mut session = Pair::open(&gateway, &backend).await;
    gateway.signal("TERM");
    let says =
        |text: &'static str| move |lines: &[Value]| lines.iter().any(|l| l["message"] == text);
    gateway.wait_for_log("the drain", says("drain started")).await;
    gateway.signal("HUP");
    gateway.wait_for_log("a warning", says("SIGHUP ignored: the gateway is going down")).await;
    session.round_trip().await;
    drop(session);
    assert_eq!(gateway.ended().await.code(), Some(0));
}
