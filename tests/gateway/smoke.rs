//! A first session: echo both ways, an access-log line, metrics.

use crate::support::{Backend, Gateway, Setup};

#[tokio::test]
async fn text_goes_both_ways_and_is_accounted_for() {
    let backend = Backend::start().await;
    let mut gateway = Gateway::start(&Setup::open(&backend.url())).await;
    let (mut client, mut upstream) = tokio::join!(gateway.client().session(), backend.session());
    client.send_text("hello").await;
    upstream.expect_text("hello").await;
    upstream.send_text("world").await;
    client.expect_text("world").await;
    client.send_close(1000, "bye").await;
    assert_eq!(upstream.expect_close().await, (Some(1000), "bye".to_owned()));
    upstream.send_close(1000, "").await;
    assert_eq!(client.expect_close().await, (Some(1000), String::new()));
    drop(upstream);
    client.expect_end().await;
    let line = gateway.access_line("client_closed").await;
    println!("{line:#}");
    assert_eq!(line["by"], "client");
    assert_eq!(line["client_close"], "1000");
    assert_eq!(line["messages_to_upstream"], 1);
    assert_eq!(gateway.metric("framegate_sessions_active{route=\"/ws\"}").await, 0.0);
    gateway.signal("TERM");
    assert!(gateway.ended().await.success());
}
