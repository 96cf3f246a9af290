//! Reloads under load: between two configurations again and again, while sessions are busy.
//!
//! In passing 50 reloads under 100 sessions. More of both are had by
//! `FRAMEGATE_RELOADS=500 FRAMEGATE_BUSY_SESSIONS=1000`, best with `--release`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::task::JoinSet;

use crate::support::wire::TEXT;
use crate::support::{Backend, Client, Gateway, Setup, Wire};

fn size(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

/// Sends numbered messages and reads them back, until told to stop; how many there were.
async fn be_busy(client: Client, stop: Arc<AtomicBool>, all: Arc<AtomicU64>) -> u64 {
    let mut wire = client.session().await;
    let mut count = 0_u64;
    while !stop.load(Ordering::Acquire) {
        // Several under way at once: one that is lost or overtaken shows.
        for ahead in 0..WINDOW {
            wire.send(TEXT, format!("message {}", count + ahead).as_bytes()).await;
        }
        for ahead in 0..WINDOW {
            wire.expect_text(&format!("message {}", count + ahead)).await;
        }
        count += WINDOW;
        all.fetch_add(WINDOW, Ordering::AcqRel);
    }
    end(wire).await;
    count
}

async fn end(mut wire: Wire) {
    wire.send_close(1000, "").await;
    assert_eq!(wire.expect_close().await.0, Some(1000));
}

/// Two configurations that differ in everything but what the busy sessions need.
fn configurations(backend: &str) -> [Setup; 2] {
    let common = Setup::open(backend).limits(
        "handshakes_per_address = { rate = \"0/s\" }\nconnections_per_address = 0\n\
         messages = { rate = \"0/s\" }",
    );
    let common = Setup { log_level: "info", ..common };
    let health = "health = { interval = \"1s\" }\n";
    let mut even = common.clone().another_route("/even", "chat", "verifier = \"none\"");
    even.upstream = health.to_owned();
    let mut odd = common
        .another_upstream("more", &[backend, "http://127.0.0.1:1"], "balance = \"round_robin\"")
        .another_route("/odd", "chat", "verifier = \"none\"")
        .another_route("/more/{id}", "more", "verifier = \"users\"")
        .timeouts("close = \"4s\"")
        .limits("message_size = \"3MiB\"\npending_bytes = \"64MiB\"");
    odd.more = odd.more.replacen("health = { interval = \"0\" }", health.trim_end(), 1);
    odd.more_listeners = "[[listener]]\nbind = \"127.0.0.2:0\"\n".to_owned();
    [even, odd]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_under_busy_sessions_lose_nothing_and_leave_nothing_behind() {
    let (reloads, sessions) = (size("FRAMEGATE_RELOADS", 50), size("FRAMEGATE_BUSY_SESSIONS", 100));
    let backend = format!("http://{}", Backend::start().await.echo());
    let configurations = configurations(&backend);
    let mut gateway = Gateway::start(&configurations[0]).await;
    let (stop, all) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let busy = |_| be_busy(gateway.client(), Arc::clone(&stop), Arc::clone(&all));
    let mut busy = (0..sessions).map(busy).collect::<JoinSet<_>>();
    gateway.wait_for_metric("framegate_sessions_active{route=\"/ws\"}", sessions as f64).await;

    let mut memory = Vec::new();
    for reload in 1..=reloads {
        let (newest, before) = if reload % 2 == 0 { ("/even", "/odd") } else { ("/odd", "/even") };
        let said = all.load(Ordering::Acquire);
        gateway.reload(&configurations[reload % 2]).await;
        let path = |path: &str| gateway.client().path(path);
        end(path(newest).session().await).await;
        assert_eq!(path(before).connect().await.status, 404, "reload {reload}");
        // Not one of the reloads may have found the sessions at rest.
        while all.load(Ordering::Acquire) == said {
            assert!(busy.try_join_next().is_none(), "a session ended");
            tokio::task::yield_now().await;
        }
        memory.push(gateway.resident());
    }
    assert!(busy.try_join_next().is_none(), "a session ended");
    stop.store(true, Ordering::Release);
    let counts = busy.join_all().await;
    assert!(counts.len() == sessions && counts.iter().all(|count| *count >= WINDOW));

    // Only the configuration in force is left of all of them.
    gateway.wait_for_metric("framegate_configurations", 1.0).await;
    gateway.wait_for_metric("framegate_sessions_active{route=\"/ws\"}", 0.0).await;
    let metrics = gateway.metrics().await;
    let total = |name: &str| metrics[name];
    assert_eq!(total("framegate_config_reloads_total{result=\"success\"}"), reloads as f64);
    let messages = "framegate_messages_total{direction=\"to_client\",kind=\"text\",route=\"/ws\"}";
    assert_eq!(total(messages), counts.iter().sum::<u64>() as f64, "all were counted");
    // What the first fifth settles to is what it stays at.
    let fifth = reloads.div_ceil(5);
    let mean = |part: &[u64]| part.iter().sum::<u64>() / part.len() as u64;
    let (early, late) = (mean(&memory[fifth..2 * fifth]), mean(&memory[reloads - fifth..]));
    println!(
        "{reloads} reloads, {sessions} sessions, {} messages; resident {} KiB in the second fifth, \
         {} KiB in the last",
        counts.iter().sum::<u64>(),
        early / 1024,
        late / 1024,
    );
    assert!(late < early + SLACK, "{early} to {late} bytes: {memory:?}");
}

/// Messages under way in each session.
const WINDOW: u64 = 8;
/// What an allocator may do by itself.
const SLACK: u64 = 8 * 1024 * 1024;
