//! The answer as a whole: its parts, its numbers, and that it stays small.

use super::*;
use crate::admin::resource;
use crate::admin::tests::context;

fn ask(context: &Context, query: &str) -> Value {
    let found = resource::find(&[&OVERVIEW], "/api/overview").unwrap();
    let (action, call) = found.call(&http::Method::GET, query).unwrap();
    let response = (action.handler)(context, &call).unwrap();
    assert_eq!(response.headers()["content-type"], "application/json");
    serde_json::from_slice(response.body()).unwrap()
}

#[test]
fn a_gateway_that_has_done_nothing_says_so() {
    let body = ask(&context(), "");
    assert_eq!(body["ready"], json!(true));
    assert_eq!(body["unready"], json!([]));
    assert_eq!(body["totals"]["sessions"], json!(0));
    assert_eq!(body["totals"]["refused"]["token_expired"], json!(0));
    assert_eq!(body["who"]["kicked"], json!("admin"));
    assert_eq!(
        body["windows"][0]["stages"]["total"],
        json!({ "count": 0, "p50_ms": null, "p99_ms": null })
    );
    assert_eq!(body["config"]["last_reload_successful"], json!(true));
    assert_eq!(body["upstreams"][0]["endpoints"][1]["endpoint"], json!("http://127.0.0.1:9002"));
    // Nobody checks it: that it is well is not known.
    assert_eq!(body["upstreams"][0]["endpoints"][1]["healthy"], Value::Null);
    assert_eq!(body["limits"][0], json!({ "name": "connections", "used": 0, "limit": 10_000 }));
    assert!(body["limits"][3]["used"].as_u64().unwrap() > 2, "{}", body["limits"]);
    assert_eq!(body["history"]["rows"], json!([]));
}

#[test]
fn counts_are_those_of_the_metrics_and_history_comes_once() {
    let context = context();
    let (gateway, dashboard) = (&context.gateway, &context.dashboard);
    let steps = crate::session::record::Steps::default();
    gateway.telemetry().handshake_accepted(crate::route::RouteId::new(0), &steps);
    let start = dashboard.started;
    dashboard.note(start + STEP, &read(gateway));
    gateway.telemetry().handshake_accepted(crate::route::RouteId::new(1), &steps);
    let body = ask(&context, "since=0");
    assert_eq!(body["totals"]["accepted"], json!(2));
    assert_eq!(body["windows"][1]["accepted"], json!(2));
    let rows = body["history"]["rows"].as_array().unwrap();
    assert_eq!((rows.len(), &rows[0][4]), (1, &json!(1)));
    let next = &body["history"]["next"];
    assert_eq!(ask(&context, &format!("since={next}"))["history"]["rows"], json!([]));
}

#[test]
fn an_answer_without_history_is_small() {
    let context = context();
    let (gateway, dashboard) = (&context.gateway, &context.dashboard);
    let step = |number: u32| dashboard.started + STEP * number;
    for number in 1..=2000 {
        dashboard.note(step(number), &read(gateway));
    }
    let (all, new) = (ask(&context, ""), ask(&context, "since=2000"));
    assert_eq!(all["history"]["rows"].as_array().unwrap().len(), 720);
    assert_eq!(new["history"]["rows"].as_array().unwrap().len(), 1);
    assert!(new.to_string().len() < 6000, "{} bytes", new.to_string().len());
}

#[test]
fn a_number_that_is_none_is_refused() {
    let found = resource::find(&[&OVERVIEW], "/api/overview").unwrap();
    let (action, call) = found.call(&http::Method::GET, "since=yesterday").unwrap();
    assert!((action.handler)(&context(), &call).is_err());
}
