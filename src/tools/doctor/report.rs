//! What a walk found: steps, and for the one that failed the likely cause and the cure. Pure.
//!
//! Everything that is said passes through [`Report`], which makes peer text safe to print and hides
//! the token wherever a server may have repeated it.

use std::borrow::Cow;
use std::time::Duration;

use serde_json::{Value, json};

use super::gateway_view;
use super::plan::Part;
use super::secrets::Secrets;
use crate::telemetry::escape::printable;

/// The steps, in order. Their names and exit codes are promised to scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "`doing` says it")]
pub(crate) enum StepName {
    Dns,
    Tcp,
    Tls,
    Upgrade,
    Extensions,
    Auth,
    Messages,
    Ping,
    Close,
}

/// Why something is as it is, and what to do: a sentence each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// The likely cause.
    pub(crate) cause: String,
    /// What to do.
    pub(crate) cure: String,
}

/// A step that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    /// Which.
    pub(crate) name: StepName,
    /// Whether the connection got past it.
    pub(crate) ok: bool,
    /// How long it took.
    pub(crate) took: Duration,
    /// What was seen.
    pub(crate) seen: Vec<String>,
    /// Always there when it failed; else a warning.
    pub(crate) finding: Option<Finding>,
}

/// A step that could not be passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Which: not always the one in which it showed.
    pub(crate) step: StepName,
    /// What was seen.
    pub(crate) seen: Vec<String>,
    /// Why.
    pub(crate) finding: Finding,
}

/// A step that was passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Passed<T> {
    /// What the next step needs.
    pub(crate) value: T,
    /// What was seen.
    pub(crate) seen: Vec<String>,
    /// What is not right all the same.
    pub(crate) warning: Option<Finding>,
}

/// There is no next step: the failure is in the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stopped;

/// A walk.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    /// The URL, what could be secret in it hidden.
    pub(crate) url: String,
    /// The steps taken; one that failed is the last.
    pub(crate) steps: Vec<Step>,
    /// X-Request-Id of the answer.
    pub(crate) request_id: Option<String>,
    /// What the gateway says of this connection, line by line.
    pub(crate) gateway: Vec<String>,
    /// The same as it was answered.
    gateway_json: Option<Value>,
    secrets: Secrets,
    part: Part,
}

impl StepName {
    /// All, in order.
    pub(crate) const ALL: [Self; 9] = [
        Self::Dns,
        Self::Tcp,
        Self::Tls,
        Self::Upgrade,
        Self::Extensions,
        Self::Auth,
        Self::Messages,
        Self::Ping,
        Self::Close,
    ];

    /// The name in `--json`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Upgrade => "upgrade",
            Self::Extensions => "extensions",
            Self::Auth => "auth",
            Self::Messages => "messages",
            Self::Ping => "ping",
            Self::Close => "close",
        }
    }

    /// The exit code when this step fails.
    pub(crate) const fn exit_code(self) -> u8 {
        10 + self as u8
    }

    /// What is done, for somebody who never saw a handshake.
    pub(crate) const fn doing(self) -> &'static str {
        match self {
            Self::Dns => "look up the address of the name",
            Self::Tcp => "open a connection to that address",
            Self::Tls => "encrypt it, and check who answers",
            Self::Upgrade => "ask by HTTP to go on as a WebSocket; the only good answer is 101",
            Self::Extensions => "offer compression, and see who accepts it",
            Self::Auth => "look at the token, and whether it was believed",
            Self::Messages => "listen for messages, and send one if asked to",
            Self::Ping => "send a Ping; it must come back as a Pong",
            Self::Close => "send Close; it must be answered by Close",
        }
    }
}

impl Finding {
    /// A cause and a cure.
    pub(crate) fn new(cause: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { cause: cause.into(), cure: cure.into() }
    }

    /// The failure of a step for this reason.
    pub(crate) fn fails(self, step: StepName, seen: Vec<String>) -> Failure {
        Failure { step, seen, finding: self }
    }
}

impl<T> Passed<T> {
    /// Passed, and this was seen.
    pub(crate) fn new(value: T, seen: Vec<String>) -> Self {
        Self { value, seen, warning: None }
    }

    /// The same with a warning, if there is one.
    pub(crate) fn warn(self, warning: Option<Finding>) -> Self {
        Self { warning, ..self }
    }
}

impl Report {
    /// Nothing was done yet.
    pub(crate) fn new(url: String, secrets: Secrets) -> Self {
        Self {
            url,
            steps: Vec::new(),
            request_id: None,
            gateway: Vec::new(),
            gateway_json: None,
            secrets,
            part: Part::Only,
        }
    }

    /// The same of one of two URLs.
    #[must_use]
    pub(crate) fn of_part(self, part: Part) -> Self {
        Self { part, ..self }
    }

    /// The step that failed.
    pub(crate) fn failed(&self) -> Option<StepName> {
        self.steps.iter().find(|step| !step.ok).map(|step| step.name)
    }

    /// Notes how a step went.
    ///
    /// # Errors
    ///
    /// When it failed: there is no next step.
    pub(crate) fn take<T>(
        &mut self,
        name: StepName,
        took: Duration,
        result: Result<Passed<T>, Failure>,
    ) -> Result<T, Stopped> {
        match result {
            Ok(Passed { value, seen, warning }) => {
                let seen = self.clean(seen);
                let finding = warning.map(|warning| self.clean_finding(&warning));
                self.steps.push(Step { name, ok: true, took, seen, finding });
                Ok(value)
            }
            Err(failure) => {
                self.fail(took, failure);
                Err(Stopped)
            }
        }
    }

    /// Notes a failure. Where it belongs to a step that was thought passed, that one failed, and those
    /// behind it never counted.
    pub(crate) fn fail(&mut self, took: Duration, failure: Failure) {
        let Failure { step: name, seen, finding } = failure;
        let mut step = Step { name, ok: false, took, seen: self.clean(seen), finding: None };
        step.finding = Some(self.clean_finding(&finding));
        if let Some(earlier) = self.steps.iter().find(|earlier| earlier.name == name) {
            step.seen.splice(0..0, earlier.seen.iter().cloned());
            step.took = earlier.took;
        }
        self.steps.retain(|earlier| earlier.name < name);
        self.steps.push(step);
    }

    /// Keeps what the gateway says, or why it says nothing.
    pub(crate) fn set_gateway(&mut self, answer: Result<Value, String>) {
        let (lines, json) = match answer {
            Ok(session) => (gateway_view::lines(&session), session),
            Err(error) => (error.lines().map(str::to_owned).collect(), json!({ "error": error })),
        };
        self.gateway = self.clean(lines);
        self.gateway_json = Some(json);
    }

    /// Keeps the id by which the other side knows this connection.
    pub(crate) fn set_request_id(&mut self, id: Option<&str>) {
        self.request_id = id.map(|id| self.clean_line(id));
    }

    /// The shape promised in docs/doctor.md.
    pub(crate) fn json(&self) -> Value {
        let steps = self.steps.iter().map(|step| {
            json!({
                "name": step.name.as_str(),
                "ok": step.ok,
                "ms": milliseconds(step.took),
                "seen": step.seen.join("; "),
                "cause": step.finding.as_ref().map(|finding| &finding.cause),
                "cure": step.finding.as_ref().map(|finding| &finding.cure),
            })
        });
        let failed = self.failed().map(StepName::as_str);
        let mut report = json!({
            "ok": failed.is_none(),
            "failed": failed,
            "steps": steps.collect::<Vec<_>>(),
            "url": self.url,
            "request_id": self.request_id,
        });
        if let (Some(gateway), Some(map)) = (&self.gateway_json, report.as_object_mut()) {
            map.insert("gateway".to_owned(), gateway.clone());
        }
        report
    }

    fn clean(&self, lines: Vec<String>) -> Vec<String> {
        lines.iter().map(|line| self.clean_line(line)).collect()
    }

    fn clean_finding(&self, finding: &Finding) -> Finding {
        // Nobody is advised to do what is being done.
        let cure = match self.part {
            Part::Only => finding.cure.clone(),
            Part::First => finding.cure.replace(" with --compare", " (the other URL of this run)"),
            Part::Second => finding.cure.replace(" with --compare", ""),
        };
        Finding::new(self.clean_line(&finding.cause), self.clean_line(&cure))
    }

    fn clean_line(&self, line: &str) -> String {
        let hidden = self.secrets.hide(line);
        match printable(&hidden) {
            Cow::Borrowed(_) => hidden,
            Cow::Owned(escaped) => escaped,
        }
    }
}

/// With microseconds.
pub(crate) fn milliseconds(took: Duration) -> f64 {
    (took.as_secs_f64() * 1_000_000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report::new("ws://a/".to_owned(), Secrets::new(Some("aaaa.bbbb.cccccccc")))
    }

    fn passed(seen: &str) -> Result<Passed<()>, Failure> {
        Ok(Passed::new((), vec![seen.to_owned()]))
    }

    #[test]
    fn names_and_exit_codes_are_as_promised() {
        let promised = [
            ("dns", 10),
            ("tcp", 11),
            ("tls", 12),
            ("upgrade", 13),
            ("extensions", 14),
            ("auth", 15),
            ("messages", 16),
            ("ping", 17),
            ("close", 18),
        ];
        assert_eq!(StepName::ALL.map(|step| (step.as_str(), step.exit_code())), promised);
    }

    #[test]
    fn json_has_the_shape_that_is_documented() {
        let mut report = report();
        report.take(StepName::Dns, Duration::from_micros(1234), passed("a; b")).unwrap();
        let failure = Finding::new("why", "do").fails(StepName::Tcp, vec!["x".into(), "y".into()]);
        let stopped = report.take::<()>(StepName::Tcp, Duration::from_millis(5), Err(failure));
        assert_eq!(stopped, Err(Stopped));
        let expected = json!({
            "ok": false,
            "failed": "tcp",
            "steps": [
                {"name": "dns", "ok": true, "ms": 1.234, "seen": "a; b", "cause": null, "cure": null},
                {"name": "tcp", "ok": false, "ms": 5.0, "seen": "x; y", "cause": "why", "cure": "do"},
            ],
            "url": "ws://a/",
            "request_id": null,
        });
        assert_eq!(report.json(), expected);
    }

    #[test]
    fn a_failure_that_shows_late_belongs_to_its_step() {
        let mut report = report();
        for step in [StepName::Upgrade, StepName::Extensions, StepName::Auth, StepName::Messages] {
            report.take(step, Duration::from_millis(1), passed(step.as_str())).unwrap();
        }
        let failure = Finding::new("a", "b").fails(StepName::Extensions, vec!["RSV1".to_owned()]);
        report.fail(Duration::from_millis(9), failure);
        let names: Vec<_> = report.steps.iter().map(|step| step.name).collect();
        assert_eq!(names, [StepName::Upgrade, StepName::Extensions]);
        assert_eq!(report.steps[1].seen, ["extensions", "RSV1"]);
        assert_eq!(report.failed(), Some(StepName::Extensions));
    }

    #[test]
    fn nobody_is_advised_to_compare_who_does() {
        let rows = [
            (Part::Only, "ask the backend directly with --compare: so"),
            (Part::First, "ask the backend directly (the other URL of this run): so"),
            (Part::Second, "ask the backend directly: so"),
        ];
        for (part, expected) in rows {
            let mut report = report().of_part(part);
            let finding = Finding::new("why", rows[0].1);
            report.fail(Duration::ZERO, finding.fails(StepName::Upgrade, Vec::new()));
            assert_eq!(report.json()["steps"][0]["cure"], expected);
        }
    }

    #[test]
    fn nothing_of_a_peer_moves_the_cursor_and_no_token_is_shown() {
        let mut report = report();
        let seen = "said \u{1b}[31m\u{202e}x aaaa.bbbb.cccccccc and cccccccc";
        report.take(StepName::Dns, Duration::ZERO, passed(seen)).unwrap();
        assert_eq!(report.steps[0].seen, ["said \\u{1b}[31m\\u{202e}x [token] and [token]"]);
    }
}
