//! A session with both its ends in the test's hands, and what must be recorded of its end.

use std::collections::HashMap;

use super::{Backend, Client, Gateway, Wire};

/// Which end of a session; tests that hold for both ends go through [`Side::BOTH`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Client,
    Upstream,
}

impl Side {
    pub const BOTH: [Self; 2] = [Self::Client, Self::Upstream];

    /// The word in logs and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
        }
    }

    /// This side's wire and the other one's.
    pub fn ends(self, pair: &mut Pair) -> (&mut Wire, &mut Wire) {
        match self {
            Self::Client => (&mut pair.client, &mut pair.upstream),
            Self::Upstream => (&mut pair.upstream, &mut pair.client),
        }
    }
}

/// The two ends of a session, and its id.
pub struct Pair {
    pub client: Wire,
    pub upstream: Wire,
    pub id: String,
}

impl Pair {
    /// A session of the gateway's ordinary client.
    pub async fn open(gateway: &Gateway, backend: &Backend) -> Self {
        Self::of(gateway.client(), backend).await
    }

    /// A session of this client; the backend takes it as its next.
    pub async fn of(client: Client, backend: &Backend) -> Self {
        let accept = async {
            let asked = backend.asked().await;
            let id = asked.header("x-request-id").unwrap();
            (asked.accept("").await, id)
        };
        let (client, (upstream, id)) = tokio::join!(client.session(), accept);
        Self { client, upstream, id }
    }

    /// A message to the client and one to the upstream pass: all that was sent before is through.
    pub async fn round_trip(&mut self) {
        self.upstream.send_text("to the client").await;
        self.client.expect_text("to the client").await;
        self.client.send_text("to the upstream").await;
        self.upstream.expect_text("to the upstream").await;
    }

    /// Both ends have said and heard all: each connection must end with FIN, the client's by the
    /// gateway and the upstream's by the backend.
    pub async fn expect_fins(&mut self) {
        self.client.expect_fin().await;
        self.client.finish().await;
        self.upstream.finish().await;
        self.upstream.expect_fin().await;
    }
}

/// What the access log and the metrics must say of an ended session.
#[derive(Debug, Clone, Copy)]
pub struct Ended<'a> {
    pub label: &'a str,
    pub by: &'a str,
    pub phase: &'a str,
    pub client_close: &'a str,
    pub upstream_close: &'a str,
    pub cut_frame: bool,
    /// Peer and kind, if somebody broke the protocol.
    pub violation: Option<(&'a str, &'a str)>,
}

impl<'a> Ended<'a> {
    /// Ended while relaying, nobody broke the protocol and no frame was cut.
    pub fn new(
        label: &'a str,
        by: &'a str,
        client_close: &'a str,
        upstream_close: &'a str,
    ) -> Self {
        let (phase, cut_frame, violation) = ("relay", false, None);
        Self { label, by, phase, client_close, upstream_close, cut_frame, violation }
    }

    pub fn phase(self, phase: &'a str) -> Self {
        Self { phase, ..self }
    }

    pub fn cut(self) -> Self {
        Self { cut_frame: true, ..self }
    }

    pub fn violation(self, peer: &'a str, kind: &'a str) -> Self {
        Self { violation: Some((peer, kind)), ..self }
    }
}

impl Gateway {
    /// Session `id`, the only one that has ended since `before`, must be recorded so.
    pub async fn expect_record(
        &mut self,
        id: &str,
        before: &HashMap<String, f64>,
        ended: &Ended<'_>,
    ) {
        let line = self.line_of(id).await;
        let fields = ["label", "by", "phase", "client_close", "upstream_close"];
        let found = fields.map(|name| line[name].as_str().unwrap_or_default().to_owned());
        let Ended { label, by, phase, client_close, upstream_close, .. } = *ended;
        let expected = [label, by, phase, client_close, upstream_close].map(str::to_owned);
        assert_eq!(found, expected, "{line:#}");
        assert_eq!(line["cut_frame"], ended.cut_frame, "{line:#}");
        let code = if client_close.parse::<u16>().is_ok_and(|code| !is_labelled(code)) {
            "other"
        } else {
            client_close
        };
        let once = |series: String| vec![(series, 1.0)];
        let closes = "framegate_closes_total";
        let series = format!("{closes}{{by=\"{by}\",code=\"{code}\",route=\"/ws\"}}");
        assert_eq!(self.growth(before, closes).await, once(series));
        let endings = "framegate_endings_total";
        let series = format!("{endings}{{label=\"{label}\",phase=\"{phase}\",route=\"/ws\"}}");
        assert_eq!(self.growth(before, endings).await, once(series));
        let errors = "framegate_protocol_errors_total";
        let series = ended
            .violation
            .map(|(peer, kind)| (format!("{errors}{{kind=\"{kind}\",peer=\"{peer}\"}}"), 1.0));
        assert_eq!(self.growth(before, errors).await, Vec::from_iter(series));
    }
}

/// Whether a close code has a metric label of its own.
fn is_labelled(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 4401 | 4403 | 4404 | 4408 | 4409 | 4429)
}
