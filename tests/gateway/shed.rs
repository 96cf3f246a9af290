//! Closing some sessions while everybody else is served: a share of all, or those of an endpoint.

use std::time::Instant;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::client::answered;
use crate::support::command::run;
use crate::support::{Backend, Gateway, Setup, Wire, within};

const DRAINING: &str = "framegate_draining";
const EMPTY: &str = "an endpoint is empty: it can be taken away";

fn setup(endpoint: &str) -> Setup {
    Setup::open(endpoint).limits("handshakes_per_address = { rate = \"0/s\" }")
}

/// A client, and the id of its session, which is listed.
async fn session(gateway: &Gateway) -> (Wire, String) {
    let answered = gateway.client().connect().await;
    assert_eq!(answered.status, 101, "{}", answered.head);
    let id = answered.header("x-request-id").unwrap();
    within("a session that is listed", async {
        while gateway.admin(&format!("GET /api/sessions/{id}")).await.1["state"] != "open" {
            tokio::task::yield_now().await;
        }
    })
    .await;
    (answered.wire, id)
}

async fn sessions(gateway: &Gateway, count: usize) -> Vec<Wire> {
    let mut wires = Vec::new();
    for _ in 0..count {
        wires.push(session(gateway).await.0);
    }
    wires
}

async fn is_served(wire: &mut Wire) {
    wire.send_text("still here").await;
    wire.expect_text("still here").await;
}

/// Seconds to stay away, of a client that is told to go in good order.
async fn sent_away(wire: &mut Wire) -> u64 {
    let (code, reason) = wire.expect_close().await;
    assert_eq!(code, Some(1012));
    let seconds = reason.strip_prefix("drained;retry=").and_then(|rest| rest.strip_suffix('s'));
    seconds.unwrap_or_else(|| panic!("{reason}")).parse().unwrap()
}

/// Those that are served on; the others must have been sent away.
async fn left(wires: Vec<Wire>) -> Vec<Wire> {
    let each = wires.into_iter().map(|mut wire| async move {
        wire.send_text("still here").await;
        let frame = wire.frame().await.expect("an answer or a Close");
        (frame.opcode() == 1).then_some(wire)
    });
    JoinSet::from_iter(each).join_all().await.into_iter().flatten().collect()
}

async fn expect_log(gateway: &mut Gateway, message: &str, times: usize) {
    let is_it = |line: &&Value| line["message"] == message;
    gateway.wait_for_log(message, |lines| lines.iter().filter(is_it).count() >= times).await;
}

/// An event about shedding, with its numbers.
fn of_sheds(line: &Value) -> Option<String> {
    let message = line["message"].as_str().filter(|message| message.contains("shed"))?;
    Some(match (&line["sessions"], &line["told"], &line["left"]) {
        (Value::Null, Value::Null, Value::Null) => message.to_owned(),
        (Value::Null, told, left) => format!("{message}: {told} told, {left} left"),
        (sessions, ..) => format!("{message}: {sessions}"),
    })
}

#[tokio::test]
async fn a_share_is_closed_over_the_window_and_newcomers_are_welcome() {
    const SESSIONS: usize = 40;
    let backend = Backend::start().await.echo();
    let mut gateway = Gateway::start(&setup(&format!("http://{backend}"))).await;
    let wires = sessions(&gateway, SESSIONS).await;
    let began = Instant::now();
    let (status, answer) = gateway.admin("POST /api/drain?percent=25&window=1s").await;
    assert_eq!((status, answer), (200, json!({ "sessions": 10, "window_s": 1.0 })));
    // Meanwhile.
    let (mut newcomer, _) = session(&gateway).await;
    assert_eq!(gateway.admin_get("/readyz").await, (200, "ready\n".to_owned()));
    assert_eq!(gateway.metric(DRAINING).await, 0.0);
    expect_log(&mut gateway, "every session to be shed has been told to close", 1).await;
    // The last of ten turns begins there.
    assert!(began.elapsed().as_secs_f64() >= 0.9);
    gateway.access_lines("drained", 10).await;
    let left = left(wires).await;
    assert_eq!(left.len(), SESSIONS - 10);
    is_served(&mut newcomer).await;
    let drained = |line: &&Value| line["type"] == "access" && line["label"] == "drained";
    assert_eq!(gateway.log().iter().filter(drained).count(), 10);
}

#[tokio::test]
async fn a_shed_takes_the_place_of_the_one_before_and_none_stops_it() {
    let backend = Backend::start().await.echo();
    let mut gateway = Gateway::start(&setup(&format!("http://{backend}"))).await;
    let wires = sessions(&gateway, 10).await;
    let (_, all) = gateway.admin("POST /api/drain?percent=100&window=8760h").await;
    assert_eq!(all["sessions"], 10);
    let (_, some) = gateway.admin("POST /api/drain?percent=30&window=0").await;
    assert_eq!(some, json!({ "sessions": 3, "window_s": 0.0 }));
    gateway.access_lines("drained", 3).await;
    let mut left = left(wires).await;
    assert_eq!(left.len(), 7);
    gateway.admin("POST /api/drain?percent=100&window=8760h").await;
    let (_, none) = gateway.admin("POST /api/drain?percent=0").await;
    assert_eq!(none["sessions"], 0);
    // Nothing is under way any more.
    gateway.admin("POST /api/drain?percent=0").await;
    expect_log(&mut gateway, "shedding was stopped", 1).await;
    let told: Vec<_> = gateway.log().iter().filter_map(of_sheds).collect();
    assert_eq!(
        told,
        [
            "sessions are being shed: 10",
            "shedding was replaced by another: 0 told, 10 left",
            "sessions are being shed: 3",
            "every session to be shed has been told to close",
            "sessions are being shed: 7",
            "shedding was stopped: 0 told, 7 left",
        ]
    );
    for wire in &mut left {
        is_served(wire).await;
    }
}

#[tokio::test]
async fn the_end_of_the_process_comes_before_a_shed() {
    let backend = Backend::start().await.echo();
    let mut gateway = Gateway::start(&setup(&format!("http://{backend}"))).await;
    let mut wires = sessions(&gateway, 5).await;
    gateway.admin("POST /api/drain?percent=40&window=8760h").await;
    gateway.admin("POST /api/upstreams/chat/endpoints/0/drain?window=8760h").await;
    // `window = "0s"`
    gateway.signal("TERM");
    for wire in &mut wires {
        assert_eq!(sent_away(wire).await, 1);
    }
    drop(wires);
    assert_eq!(gateway.ended().await.code(), Some(0));
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_with_a_reason() {
    let backend = Backend::start().await.echo();
    let setup = setup(&format!("http://{backend}")).drain("announce = \"8760h\"");
    let mut gateway = Gateway::start(&setup).await;
    let (mut wire, _) = session(&gateway).await;
    let endpoint = "/api/upstreams/chat/endpoints/0/drain";
    for (request, status, error) in [
        ("POST /api/drain", 400, "percent=20"),
        ("POST /api/drain?percent=101", 400, "from 0 to 100"),
        ("POST /api/drain?percent=-1", 400, "from 0 to 100"),
        ("POST /api/drain?percent=NaN", 400, "from 0 to 100"),
        ("POST /api/drain?percent=1&window=10", 400, "window "),
        ("POST /api/drain?percent=1&windw=1s", 400, "windw"),
        ("GET /api/drain?percent=1", 405, ""),
        (&format!("GET {endpoint}"), 405, ""),
        (&format!("POST {endpoint}?percent=1"), 400, "percent"),
        ("POST /api/upstreams/chta/endpoints/0/drain", 404, "there are: chat"),
        ("POST /api/upstreams/chat/endpoints/1/drain", 404, "it has 1, counted from 0"),
        ("DELETE /api/upstreams/chat/endpoints/a/drain", 404, "it has 1, counted from 0"),
    ] {
        let (found, answer) = gateway.admin(request).await;
        let sentence = answer["error"].as_str().unwrap();
        assert!(found == status && sentence.contains(error), "{request}: {found} {sentence}");
    }
    is_served(&mut wire).await;
    gateway.signal("TERM");
    gateway.wait_for_metric(DRAINING, 1.0).await;
    for request in ["POST /api/drain?percent=100".to_owned(), format!("POST {endpoint}")] {
        let (status, answer) = gateway.admin(&request).await;
        assert_eq!(status, 409, "{answer}");
    }
    is_served(&mut wire).await;
    gateway.signal("TERM");
    gateway.ended().await;
}

/// Two endpoints that echo, each with two sessions.
struct Two {
    gateway: Gateway,
    setup: Setup,
    endpoints: [String; 2],
    /// By endpoint.
    wires: [Vec<Wire>; 2],
}

impl Two {
    async fn start() -> Self {
        let endpoints = [Backend::start().await.echo(), Backend::start().await.echo()];
        let endpoints = endpoints.map(|address| format!("http://{address}"));
        let setup = setup(&endpoints[0]).endpoint(&endpoints[1]);
        let gateway = Gateway::start(&setup).await;
        let mut two = Self { gateway, setup, endpoints, wires: [vec![], vec![]] };
        for _ in 0..4 {
            two.another().await;
        }
        // It takes the emptier one each time.
        assert_eq!(two.wires.each_ref().map(Vec::len), [2, 2]);
        two
    }

    /// One more session, wherever it comes to.
    async fn another(&mut self) -> usize {
        let (wire, id) = session(&self.gateway).await;
        let (_, shown) = self.gateway.admin(&format!("GET /api/sessions/{id}")).await;
        let at = self.endpoints.iter().position(|endpoint| shown["endpoint"] == **endpoint);
        self.wires[at.unwrap()].push(wire);
        at.unwrap()
    }

    async fn drain(&self, method: &str, n: usize) -> Value {
        let path = format!("{method} /api/upstreams/chat/endpoints/{n}/drain");
        let window = if method == "POST" { "?window=200ms" } else { "" };
        let (status, answer) = self.gateway.admin(&format!("{path}{window}")).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(
            (&answer["upstream"], &answer["endpoint"]),
            (&json!("chat"), &json!(self.endpoints[n]))
        );
        let mut draining = 0;
        for endpoint in 0..self.endpoints.len() {
            draining += usize::from(self.gauge(endpoint).await > 0.0);
        }
        assert_eq!(answer["left"], self.endpoints.len() - draining);
        answer
    }

    async fn gauge(&self, n: usize) -> f64 {
        let endpoint = &self.endpoints[n];
        let labels = format!("{{endpoint=\"{endpoint}\",upstream=\"chat\"}}");
        self.gateway.metrics().await[&format!("framegate_upstream_draining{labels}")]
    }
}

#[tokio::test]
async fn an_endpoint_is_emptied_while_the_others_stay_and_taken_back() {
    let mut two = Two::start().await;
    let answer = two.drain("POST", 0).await;
    assert_eq!((&answer["draining"], &answer["sessions"]), (&json!(true), &json!(2)));
    for mut wire in std::mem::take(&mut two.wires[0]) {
        assert!((1..=2).contains(&sent_away(&mut wire).await));
    }
    expect_log(&mut two.gateway, EMPTY, 1).await;
    assert_eq!([two.gauge(0).await, two.gauge(1).await], [1.0, 0.0]);
    assert_eq!(two.gateway.admin_get("/readyz").await.0, 200);
    // The emptier one, but nobody comes to it; not after a reload either.
    assert_eq!(two.another().await, 1);
    let changed = two.setup.clone().limits("connections = 500");
    two.gateway.reload(&changed).await;
    assert_eq!([two.gauge(0).await, two.gauge(1).await], [1.0, 0.0]);
    assert_eq!(two.another().await, 1);
    let mut stayed = std::mem::take(&mut two.wires[1]);
    assert_eq!(stayed.len(), 4);
    for wire in &mut stayed {
        is_served(wire).await;
    }
    let answer = two.drain("DELETE", 0).await;
    assert_eq!((&answer["draining"], &answer["sessions"]), (&json!(false), &json!(0)));
    assert_eq!([two.gauge(0).await, two.gauge(1).await], [0.0, 0.0]);
    assert_eq!(two.another().await, 0);
}

#[tokio::test]
async fn taking_an_endpoint_back_stops_its_closes() {
    let mut two = Two::start().await;
    let path = "POST /api/upstreams/chat/endpoints/1/drain?window=8760h";
    assert_eq!(two.gateway.admin(path).await.0, 200);
    assert_eq!(two.another().await, 0);
    two.drain("DELETE", 1).await;
    for wire in two.wires.iter_mut().flatten() {
        is_served(wire).await;
    }
    assert_eq!(two.another().await, 1);
}

#[tokio::test]
async fn when_all_endpoints_are_emptied_nobody_is_taken() {
    let mut two = Two::start().await;
    for n in [0, 1] {
        two.drain("POST", n).await;
    }
    expect_log(&mut two.gateway, EMPTY, 2).await;
    let refused = two.gateway.client().connect().await;
    assert_eq!(refused.status, 502);
    let line = two.gateway.access_line("upstream_unreachable").await;
    let detail = line["detail"].as_str().unwrap();
    assert!(detail.contains("being emptied by an operator"), "{detail}");
    let (status, reasons) = two.gateway.admin_get("/readyz").await;
    assert!(status == 503 && reasons.contains("healthy endpoint"), "{reasons}");
    two.drain("DELETE", 1).await;
    assert_eq!(two.gateway.admin_get("/readyz").await.0, 200);
    assert_eq!(two.another().await, 1);
}

#[tokio::test]
async fn an_endpoint_that_leaves_the_configuration_comes_back_open() {
    let mut two = Two::start().await;
    let path = "POST /api/upstreams/chat/endpoints/0/drain?window=8760h";
    assert_eq!(two.gateway.admin(path).await.0, 200);
    let without = Setup { endpoints: vec![two.endpoints[1].clone()], ..two.setup.clone() };
    two.gateway.reload(&without).await;
    two.gateway.reload(&two.setup.clone()).await;
    assert_eq!(two.gauge(0).await, 0.0);
    let mut taken = [two.another().await, two.another().await];
    taken.sort_unstable();
    assert_eq!(taken, [0, 1]);
}

#[tokio::test]
async fn a_handshake_under_way_to_an_endpoint_that_is_emptied_becomes_a_session_that_is_closed() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&setup(&backend.url())).await;
    let client = gateway.client().ask().await;
    let asked = backend.asked().await;
    let (_, answer) = gateway.admin("POST /api/upstreams/chat/endpoints/0/drain?window=0").await;
    assert_eq!(answer["sessions"], 1);
    let mut upstream = asked.accept("").await;
    let mut accepted = answered(client).await;
    assert_eq!(accepted.status, 101);
    assert_eq!(sent_away(&mut accepted.wire).await, 1);
    assert_eq!(upstream.expect_close().await, (Some(1001), "drained".to_owned()));
}

/// `framegate drain` asked of this gateway: exit code, output and errors.
async fn command(gateway: &Gateway, arguments: &[&str]) -> (i32, String, String) {
    let admin = format!("http://{}", gateway.admin);
    let ran = run(&[&["drain"], arguments, &["--admin", &admin]].concat()).await;
    (ran.code, ran.stdout, ran.stderr)
}

#[tokio::test]
async fn the_command_sheds_empties_and_takes_back() {
    let mut two = Two::start().await;
    let [zero, _] = two.endpoints.clone();
    let shed = ["--percent", "25", "--window", "100ms"];
    let (code, said, _) = command(&two.gateway, &shed).await;
    assert_eq!((code, said.as_str()), (0, "1 session is closed within 0.1 s\n"));
    two.gateway.access_lines("drained", 1).await;
    let left = left(std::mem::take(&mut two.wires).into_iter().flatten().collect()).await;
    assert_eq!(left.len(), 3);

    let endpoint = ["--upstream", "chat", "--endpoint", "0"];
    let later = [&endpoint[..], &["--window", "8760h", "--json"]].concat();
    let (code, said, _) = command(&two.gateway, &later).await;
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &said["endpoint"], &said["draining"]), (0, &json!(zero), &json!(true)));
    let (_, health) = two.gateway.admin("GET /health/ws").await;
    assert_eq!(health["upstreams"][0]["endpoints"][0]["draining"], true);
    assert_eq!(health["upstreams"][0]["endpoints"][1]["draining"], false);
    assert_eq!(two.another().await, 1);
    let (code, said, _) = command(&two.gateway, &[&endpoint[..], &["--undo"]].concat()).await;
    assert!(
        code == 0
            && said.starts_with(&format!(
                "endpoint {zero} of upstream chat gets new sessions again; "
            )),
        "{said}"
    );
    assert_eq!(two.gauge(0).await, 0.0);
}

#[tokio::test]
async fn a_command_that_says_too_little_or_too_much_is_told_so() {
    let gateway = Gateway::start(&setup("unix:none")).await;
    for (arguments, code, error) in [
        (&[][..], 64, "--percent"),
        (&["--upstream", "chat"], 64, "--endpoint"),
        (&["--percent", "1", "--upstream", "chat", "--endpoint", "0"], 64, "--upstream"),
        (&["--percent", "1", "--undo"], 64, "--upstream"),
        (&["--percent", "much"], 64, "'much' for '--percent <P>': must be a number from 0 to 100"),
        (&["--percent", "101"], 64, "from 0 to 100"),
        (&["--percent", "1", "--window", "soon"], 64, "'soon' for '--window <W>': "),
        (&["--upstream", "chat", "--endpoint", "x"], 64, "'x' for '--endpoint <N>'"),
        (&["--upstream", "chat", "--endpoint", "7"], 1, "it has 1, counted from 0"),
        (&["--upstream", "a b/c", "--endpoint", "0"], 1, "no upstream is called \"a b/c\""),
    ] {
        let (found, said, errors) = command(&gateway, arguments).await;
        assert_eq!((found, said.as_str()), (code, ""), "{arguments:?}: {errors}");
        assert!(errors.contains(error), "{arguments:?}: {errors}");
    }
}
