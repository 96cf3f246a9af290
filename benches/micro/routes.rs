//! Routing among a thousand routes.

use std::fmt::Write as _;
use std::path::Path;

use divan::{Bencher, black_box};
use framegate::internals::config::Config;
use framegate::internals::route::Router;

/// 900 paths of text, 90 with a typed parameter, 9 with two, and one for all the rest.
fn router() -> Router {
    let mut text = String::from(
        "[[listener]]\nbind = \"127.0.0.1:0\"\n[upstreams.a]\nendpoints = [\"http://127.0.0.1:9\"]\n",
    );
    let mut route = |path: String, parameters: &str| {
        writeln!(
            text,
            "[[route]]\npath = \"{path}\"\nparameters = {{ {parameters} }}\nupstream = \"a\"\nverifier = \"none\""
        )
        .expect("a String takes everything");
    };
    for service in 0..900 {
        route(format!("/api/v1/service-{service}/events/ws"), "");
    }
    for service in 0..90 {
        route(format!("/api/v1/service-{service}/chats/{{chat_id}}/ws"), "chat_id = \"uuid\"");
    }
    for tenant in 0..9 {
        let path = format!("/tenants/{{tenant}}/rooms-{tenant}/{{room}}");
        route(path, "tenant = \"[a-z]+\", room = \"integer\"");
    }
    route("/files/{*rest}".to_owned(), "");
    let config = Config::parse(&text, Path::new("/")).expect("a configuration");
    assert_eq!(config.routes.len(), 1000);
    config.router()
}

fn find(bencher: Bencher<'_, '_>, path: &str, is_there: bool) {
    let router = router();
    assert_eq!(router.find("chat.example.com", path).is_some(), is_there);
    bencher.bench(|| router.find(black_box("chat.example.com"), black_box(path)));
}

#[divan::bench]
fn hit(bencher: Bencher<'_, '_>) {
    find(bencher, "/api/v1/service-777/events/ws", true);
}

#[divan::bench]
fn hit_uuid(bencher: Bencher<'_, '_>) {
    find(bencher, "/api/v1/service-42/chats/0b9a4f0e-3c5d-4c1e-9f57-0a4d1f0e7c11/ws", true);
}

#[divan::bench]
fn hit_two_parameters(bencher: Bencher<'_, '_>) {
    find(bencher, "/tenants/acme/rooms-5/4711", true);
}

#[divan::bench]
fn hit_rest(bencher: Bencher<'_, '_>) {
    find(bencher, "/files/2026/11/21/a%20name", true);
}

#[divan::bench]
fn miss(bencher: Bencher<'_, '_>) {
    find(bencher, "/api/v1/service-42/nothing/ws", false);
}

#[divan::bench]
fn miss_form(bencher: Bencher<'_, '_>) {
    find(bencher, "/api/v1/service-42/chats/no-uuid/ws", false);
}
