//! A first session: echo both ways, an access-log line, metrics; and Closes that cross.

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

#[tokio::test]
async fn closes_that_cross_are_each_others_answer() {
    let backend = Backend::start().await;
    let setup = Setup::open(&backend.url()).timeouts("close = \"1h\"");
    let mut gateway = Gateway::start(&setup).await;
    let (mut client, mut upstream) = tokio::join!(gateway.client().session(), backend.session());
    // Both are there when the gateway looks.
    gateway.signal("STOP");
    client.send_close(1000, "bye").await;
    upstream.send_close(4000, "enough").await;
    gateway.signal("CONT");
    assert_eq!(upstream.expect_close().await, (Some(1000), "bye".to_owned()));
    assert_eq!(client.expect_close().await, (Some(4000), "enough".to_owned()));
    // Neither is sent another, and nobody waits for one.
    client.expect_end().await;
    drop(client);
    drop(upstream);
    gateway.wait_for_log("an access line", |log| log.iter().any(|l| l["type"] == "access")).await;
    let line = gateway.log().into_iter().find(|line| line["type"] == "access").unwrap();
    assert_eq!((&line["client_close"], &line["upstream_close"]), (&"4000".into(), &"1000".into()));
    assert_eq!(line["phase"], "relay");
}
