//! What a refusal looks like: to the client, in the access log and in the metrics.

use serde_json::Value;

use super::{Client, Gateway};

/// A row of the table of refusals.
#[derive(Debug, Clone, Copy)]
pub struct Refusal<'a> {
    pub label: &'a str,
    /// HTTP status.
    pub status: u16,
    /// Close code.
    pub code: u16,
    pub by: &'a str,
    pub phase: &'a str,
    /// Label of the route; `none` before one was found.
    pub route: &'a str,
}

/// A refusal by HTTP as the client saw it.
pub struct ToldByHttp {
    pub head: String,
    pub body: String,
    pub line: Value,
}

impl<'a> Refusal<'a> {
    /// One that the gateway decided on at admission.
    pub fn at_admission(label: &'a str, status: u16, code: u16, route: &'a str) -> Self {
        Self { label, status, code, by: "gateway", phase: "admission", route }
    }

    /// One that the upstream caused.
    pub fn by_upstream(label: &'a str, status: u16, code: u16, route: &'a str) -> Self {
        Self { label, status, code, by: "upstream", phase: "connect", route }
    }

    /// This client must be refused by HTTP.
    pub async fn by_http(&self, gateway: &mut Gateway, client: Client) -> ToldByHttp {
        let before = self.handshakes(gateway).await;
        let mut answered = client.connect().await;
        let head = answered.head.clone();
        assert_eq!(answered.status, self.status, "{self:?} {head}");
        assert!(answered.header("connection").unwrap().starts_with("close"), "{self:?} {head}");
        assert_eq!(answered.header("cache-control").unwrap(), "no-store", "{self:?}");
        let id = answered.header("x-request-id").unwrap();
        let body = answered.wire.rest().await;
        assert_eq!(answered.header("content-length").unwrap(), body.len().to_string(), "{self:?}");
        if self.label == "upstream_refused" {
            // The backend's own words, under this label.
            assert_eq!(answered.header("x-framegate-refusal").unwrap(), self.label, "{head}");
        } else {
            let text = body.strip_prefix(&format!("{}: ", self.label)).unwrap_or_else(|| {
                panic!("{self:?}: {body}");
            });
            assert!(text.ends_with('\n') && text.lines().count() == 1, "one line: {body:?}");
        }
        drop(answered);
        let line = self.check_line(gateway, &id, self.status).await;
        assert_eq!(line["client_close"], "none", "{self:?}");
        assert_eq!(self.handshakes(gateway).await, before + 1.0, "{self:?}");
        ToldByHttp { head, body, line }
    }

    /// This client must be refused by Close; the head of the 101 is returned.
    pub async fn by_close(&self, gateway: &mut Gateway, client: Client) -> String {
        let before = (self.handshakes(gateway).await, self.closes(gateway).await);
        let mut answered = client.connect().await;
        let head = answered.head.clone();
        assert_eq!(answered.status, 101, "{self:?} {head}");
        let id = answered.header("x-request-id").unwrap();
        let told = answered.wire.expect_close().await;
        assert_eq!(told, (Some(self.code), self.label.to_owned()), "{self:?}");
        answered.wire.expect_fin().await;
        drop(answered);
        let line = self.check_line(gateway, &id, 101).await;
        assert_eq!(line["client_close"], self.code.to_string(), "{self:?}");
        let after = (self.handshakes(gateway).await, self.closes(gateway).await);
        assert_eq!(after, (before.0 + 1.0, before.1 + 1.0), "{self:?}");
        head
    }

    async fn check_line(&self, gateway: &mut Gateway, id: &str, status: u16) -> Value {
        let line = gateway.line_of(id).await;
        let route = (self.route != "none").then_some(self.route);
        assert_eq!(line["outcome"], "refused", "{self:?}");
        assert_eq!(line["label"], self.label, "{self:?}");
        assert_eq!(line["status"], status, "{self:?}");
        assert_eq!(line["by"], self.by, "{self:?}");
        assert_eq!(line["phase"], self.phase, "{self:?}");
        assert_eq!(line["route"].as_str(), route, "{self:?}");
        assert_eq!(line["upstream_close"], "none", "{self:?}");
        line
    }

    async fn handshakes(&self, gateway: &Gateway) -> f64 {
        let Self { label, route, .. } = self;
        let labels = format!("result=\"{label}\",route=\"{route}\"");
        exported(gateway, &format!("framegate_handshakes_total{{{labels}}}")).await
    }

    async fn closes(&self, gateway: &Gateway) -> f64 {
        let Self { code, by, route, .. } = self;
        let labels = format!("by=\"{by}\",code=\"{code}\",route=\"{route}\"");
        exported(gateway, &format!("framegate_closes_total{{{labels}}}")).await
    }
}

/// A series that must be there: known label sets are exported as zero.
async fn exported(gateway: &Gateway, series: &str) -> f64 {
    let metrics = gateway.metrics().await;
    *metrics.get(series).unwrap_or_else(|| panic!("{series} is not exported"))
}
