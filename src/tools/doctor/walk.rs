//! The nine steps, one after the other, each with its deadline. I/O.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::time::timeout;
use tokio_rustls::rustls::RootCertStore;

use super::conversation::{Conversation, End, Heard, Patience, Series, gather};
use super::diagnosis::closing::NORMAL;
use super::diagnosis::{Case, auth, closing, frames, status, switching};
use super::head::Head;
use super::plan::Plan;
use super::report::{Failure, Finding, Passed, Report, StepName, Stopped};
use super::request::Offer;
use super::token::{self, Reading};
use super::upgrade::{self, Opened, Unjudged};
use super::{net, secrets, tls};
use crate::net::stream::Stream;
use crate::protocol::ws::close::CloseStatus;

/// Walks through all steps until one fails. `progress` is told of each before it begins.
pub(crate) async fn walk(
    plan: &Plan,
    roots: &RootCertStore,
    progress: &(dyn Fn(StepName) + Sync),
) -> Report {
    let now = Timestamp::now().as_second();
    let mut walk = Walk {
        plan,
        roots,
        progress,
        report: Report::new(plan.target.shown(), plan.secrets()).of_part(plan.part),
        token: plan.sent_token().map(|text| token::read(text, now)),
        now,
        ahead: None,
        framegate: false,
        addresses: Vec::new(),
    };
    // Where it stopped is in the report.
    let _ = Box::pin(walk.all()).await;
    walk.report
}

struct Walk<'a> {
    plan: &'a Plan,
    roots: &'a RootCertStore,
    progress: &'a (dyn Fn(StepName) + Sync),
    report: Report,
    token: Option<Reading>,
    now: i64,
    ahead: Option<i64>,
    framegate: bool,
    addresses: Vec<SocketAddr>,
}

impl Walk<'_> {
    async fn all(&mut self) -> Result<(), Stopped> {
        let began = self.begin(StepName::Dns);
        let found = net::dns(self.plan).await;
        self.addresses = self.report.take(StepName::Dns, began.elapsed(), found)?;

        let began = self.begin(StepName::Tcp);
        let connected = net::tcp(self.plan, &self.addresses).await;
        let tcp = self.report.take(StepName::Tcp, began.elapsed(), connected)?;
        // The same one again, should there be a second connection.
        self.addresses = tcp.peer_addr().into_iter().collect();

        self.begin(StepName::Tls);
        let (took, secured) = tls::secure(self.plan, self.roots, tcp, self.now).await;
        let stream = self.report.take(StepName::Tls, took, secured)?;

        let opened = self.upgrade(stream).await?;

        let began = self.begin(StepName::Extensions);
        let agreed = Box::pin(self.extensions(opened)).await;
        let opened = self.report.take(StepName::Extensions, began.elapsed(), agreed)?;

        let began = self.begin(StepName::Auth);
        let believed = Ok(Passed::new((), self.token_lines()).warn(auth::warning(self.case())));
        self.report.take(StepName::Auth, began.elapsed(), believed)?;

        let mut conversation = Conversation::new(opened.stream, opened.arrived);
        let began = self.begin(StepName::Messages);
        let heard = self.messages(&mut conversation).await;
        self.report.take(StepName::Messages, began.elapsed(), heard)?;

        let began = self.begin(StepName::Ping);
        let heard = self.ping(&mut conversation).await;
        self.report.take(StepName::Ping, began.elapsed(), heard)?;

        let began = self.begin(StepName::Close);
        let closed = self.close(&mut conversation).await;
        self.report.take(StepName::Close, began.elapsed(), closed)
    }

    fn begin(&self, step: StepName) -> Instant {
        (self.progress)(step);
        Instant::now()
    }

    fn case(&self) -> Case<'_> {
        Case {
            plan: self.plan,
            token: self.token.as_ref(),
            now: self.now,
            ahead: self.ahead,
            framegate: self.framegate,
        }
    }

    async fn upgrade(&mut self, stream: Stream) -> Result<Opened, Stopped> {
        self.begin(StepName::Upgrade);
        let answered = upgrade::ask(self.plan, stream, Offer::Deflate, self.case()).await;
        let took = answered.took;
        if let Some(head) = &answered.head {
            self.report.set_request_id(head.get("x-request-id").as_deref());
            self.ahead = head.date().map(|date| date - Timestamp::now().as_second());
            self.framegate = head.is_from_framegate();
        }
        let failure = match (answered.result, &answered.head) {
            (Ok(passed), _) => return self.report.take(StepName::Upgrade, took, Ok(passed)),
            (Err(Unjudged::Failure(failure)), _) => failure,
            (Err(Unjudged::Refused(body)), Some(head)) => self.refused(head, &body),
            (Err(Unjudged::Refused(_)), None) => return Err(Stopped),
        };
        if failure.step == StepName::Auth {
            let mut seen = failure.seen;
            seen.push(
                "the question was understood, but not granted to whoever asks: see auth".to_owned(),
            );
            let understood = Passed::new((), seen);
            self.report.take(StepName::Upgrade, took, Ok(understood))?;
            let seen = self.token_lines();
            self.report.fail(Duration::ZERO, Failure { seen, ..failure });
        } else {
            self.report.fail(took, failure);
        }
        Err(Stopped)
    }

    fn refused(&self, head: &Head, body: &str) -> Failure {
        let mut seen = vec![format!("{} instead of 101", head.status_line())];
        seen.push(format!("answered by {}", head.author()));
        let location = head.get("location").unwrap_or_default();
        if !location.is_empty() {
            seen.push(format!("Location: {}", secrets::place(&location)));
        }
        if let Some(wanted) = head.get("www-authenticate") {
            seen.push(format!(
                "WWW-Authenticate: {}",
                wanted.chars().take(160).collect::<String>()
            ));
        }
        let first = body.lines().map(str::trim).find(|line| !line.is_empty());
        if let Some(line) = first.filter(|line| !line.starts_with('<')) {
            // Many say there too where they lead.
            let line = line.replace(&location, &secrets::place(&location));
            seen.push(format!("it says: {}", line.chars().take(160).collect::<String>()));
        }
        let (step, finding) = status::refused(head, body, self.case());
        finding.fails(step, seen)
    }

    /// Who accepts compression; from here on the connection is one without it.
    async fn extensions(&mut self, opened: Opened) -> Result<Passed<Opened>, Failure> {
        let accepted = opened.head.extensions();
        let others: Vec<_> =
            accepted.iter().filter(|name| *name != DEFLATE).map(String::as_str).collect();
        if !others.is_empty() {
            let seen = vec![format!("accepted: {}", accepted.join(", "))];
            let finding = switching::extension_unoffered(&others.join(", "));
            return Err(finding.fails(StepName::Extensions, seen));
        }
        let mut seen = vec!["offered permessage-deflate".to_owned()];
        if accepted.is_empty() {
            let why = if self.framegate { ", as framegate always does" } else { "" };
            seen.push(format!(
                "{} declined it{why}: frames travel as they are written",
                opened.head.who()
            ));
            return Ok(Passed::new(opened, seen));
        }
        seen.push(format!("accepted by {}", opened.head.author()));
        // An end like any other; whether it is answered is not the question here.
        let mut first = Conversation::new(opened.stream, opened.arrived);
        let _ = timeout(QUIET, first.close(NORMAL)).await;
        drop(first);
        self.without_compression(seen).await
    }

    /// A second connection, to see whether it works without compression too.
    async fn without_compression(
        &mut self,
        mut seen: Vec<String>,
    ) -> Result<Passed<Opened>, Failure> {
        let tcp = net::tcp(self.plan, &self.addresses).await?.value;
        let stream = tls::secure(self.plan, self.roots, tcp, self.now).await.1?.value;
        let answered = upgrade::ask(self.plan, stream, Offer::Nothing, self.case()).await;
        let id = answered.head.as_ref().and_then(|head| head.get("x-request-id"));
        self.report.set_request_id(id.as_deref());
        let again = match (answered.result, answered.head) {
            (Ok(again), _) => again.value,
            (Err(Unjudged::Refused(_)), Some(head)) => {
                let status = head.status_line();
                seen.push(format!("a second time without the offer: {status}"));
                let finding = switching::compression_required(&status);
                return Err(finding.fails(StepName::Extensions, seen));
            }
            (Err(Unjudged::Failure(failure)), _) => return Err(failure),
            (Err(Unjudged::Refused(_)), None) => {
                return Err(switching::silent().fails(StepName::Extensions, seen));
            }
        };
        if again.head.extensions().is_empty() {
            seen.push(
                "a second connection without the offer works too: the rest is over that one"
                    .to_owned(),
            );
            return Ok(Passed::new(again, seen));
        }
        seen.push("a second time it was not offered, and accepted all the same".to_owned());
        Err(switching::compression_forced().fails(StepName::Extensions, seen))
    }

    fn token_lines(&self) -> Vec<String> {
        match &self.token {
            Some(token) => token.seen.clone(),
            None => vec!["no token was sent".to_owned()],
        }
    }

    async fn messages(&self, conversation: &mut Conversation) -> Result<Passed<()>, Failure> {
        let limit = self.plan.timeout;
        let patience =
            Patience { first: limit.min(JOIN), quiet: QUIET, total: limit.min(BUSY), whole: limit };
        let (joining, end) = gather(conversation, patience).await;
        let mut seen = listed("on joining", &joining);
        if let Some(end) = end {
            return Err(self.ended(end, StepName::Messages, seen));
        }
        let Some(text) = &self.plan.send else {
            return Ok(Passed::new((), seen).warn(conversation.unfinished()));
        };
        if let Err(error) = conversation.send(text).await {
            seen.push(format!("sending failed: {error}"));
            return Err(frames::lost(true).fails(StepName::Messages, seen));
        }
        let patience = Patience { first: limit, quiet: QUIET, total: limit, whole: limit };
        let (live, end) = gather(conversation, patience).await;
        seen.extend(listed(&format!("live, after sending {} bytes", text.len()), &live));
        if let Some(end) = end {
            return Err(self.ended(end, StepName::Messages, seen));
        }
        let nothing = (live.count == 0).then(|| {
            Finding::new(
                format!("nothing came back within {limit:?}: the server does not answer what was sent, or not \
                         to the one who sent it"),
                "see whether it is the text this server expects; with two clients, whether the other one gets it",
            )
        });
        Ok(Passed::new((), seen).warn(conversation.unfinished().or(nothing)))
    }

    async fn ping(&self, conversation: &mut Conversation) -> Result<Passed<()>, Failure> {
        let payload = fastrand::u64(..).to_be_bytes();
        let began = Instant::now();
        let (come, pings) = (conversation.come(), conversation.pings);
        let (mut pongs, mut messages) = (0_u64, 0_u64);
        let exchange = async {
            // Where it fails, the next read tells why.
            let _ = conversation.ping(&payload).await;
            loop {
                match conversation.next().await {
                    Heard::Pong(found) if found == payload => return Ok(()),
                    Heard::Pong(_) => pongs += 1,
                    Heard::Message(_) => messages += 1,
                    Heard::End(end) => return Err(end),
                }
            }
        };
        let answered = timeout(self.plan.timeout, exchange).await;
        match answered {
            Ok(Ok(())) => {
                let mut seen =
                    vec![format!("Pong after {:.1} ms", began.elapsed().as_secs_f64() * 1e3)];
                if conversation.pings > 0 {
                    seen.push(format!("the server pings too: {} answered", conversation.pings));
                }
                Ok(Passed::new((), seen).warn(frames::many_pings(conversation.pings)))
            }
            Ok(Err(end)) => Err(self.ended(end, StepName::Ping, Vec::new())),
            Err(_) => {
                let mut seen = vec![format!("no Pong within {:?}", self.plan.timeout)];
                seen.extend((messages > 0).then(|| format!("meanwhile {messages} messages")));
                let pings = conversation.pings.saturating_sub(pings);
                seen.extend((pings > 0).then(|| format!("meanwhile {pings} Pings of the server")));
                let finding = match pongs {
                    0 if pings >= frames::MANY => frames::flooded(pings),
                    0 if conversation.is_within_frame() && messages == 0 => {
                        conversation.in_the_way(come)
                    }
                    0 => frames::no_pong(),
                    _ => frames::foreign_pong(),
                };
                Err(finding.fails(StepName::Ping, seen))
            }
        }
    }

    async fn close(&self, conversation: &mut Conversation) -> Result<Passed<()>, Failure> {
        let exchange = async {
            // Where it fails, the next read tells why.
            let _ = conversation.close(NORMAL).await;
            loop {
                if let Heard::End(end) = conversation.next().await {
                    return end;
                }
            }
        };
        let end = timeout(self.plan.timeout, exchange).await.map_err(|_| {
            let seen = vec![format!("sent Close 1000; no Close within {:?}", self.plan.timeout)];
            frames::no_close().fails(StepName::Close, seen)
        })?;
        let (status, reason) = match end {
            End::Closed(status, _) if !closing::is_normal(status) => {
                return Err(self.ended(end, StepName::Close, Vec::new()));
            }
            End::Closed(status, reason) => (status, reason),
            End::Lost { was_reset } => {
                let seen = vec!["sent Close 1000; the connection ended without a Close".to_owned()];
                return Err(frames::lost_instead_of_close(was_reset).fails(StepName::Close, seen));
            }
            end @ End::Violation(..) => return Err(self.ended(end, StepName::Close, Vec::new())),
        };
        let mut seen = vec![
            "sent Close 1000".to_owned(),
            format!("answered by {}", close_text(status, &reason)),
        ];
        let ended = timeout(self.plan.timeout.min(LINGER), conversation.end_of_stream()).await;
        seen.extend(
            ended.is_ok().then(|| "then the server ended the connection, as it should".to_owned()),
        );
        Ok(Passed::new((), seen).warn(ended.is_err().then(frames::stays_open)))
    }

    /// An end that came unasked, while `step` was going on.
    fn ended(&self, end: End, step: StepName, mut seen: Vec<String>) -> Failure {
        let (step, finding) = match end {
            End::Closed(status, reason) => {
                seen.push(format!("the server sent {}", close_text(status, &reason)));
                closing::closed(status, &reason, step, self.case())
            }
            End::Violation(violation, begin) => {
                seen.push(format!("a frame that begins with 0x{:02x}: {violation}", begin[0]));
                frames::violation(violation, begin, step)
            }
            End::Lost { was_reset } => {
                seen.push("the connection ended without a Close".to_owned());
                (step, frames::lost(was_reset))
            }
        };
        finding.fails(step, seen)
    }
}

fn close_text(status: CloseStatus, reason: &str) -> String {
    let reason = if reason.is_empty() { String::new() } else { format!(", reason {reason:?}") };
    match status {
        CloseStatus::Code(code) => format!("Close {code} ({}){reason}", closing::meaning(code)),
        CloseStatus::Empty | CloseStatus::None => "an empty Close".to_owned(),
    }
}

fn listed(when: &str, series: &Series) -> Vec<String> {
    if series.count == 0 {
        return vec![format!("{when}: nothing")];
    }
    let shown = series.first.iter();
    let mut lines: Vec<_> =
        shown.map(|(message, after)| format!("{when}: {}", message.line(*after))).collect();
    let more = series.count.saturating_sub(lines.len() as u64);
    lines.extend((more > 0).then(|| format!("{when}: and {more} more")));
    lines
}

const DEFLATE: &str = "permessage-deflate";

/// How long the first message on joining is waited for.
const JOIN: Duration = Duration::from_secs(1);
/// A pause that ends a series of messages.
const QUIET: Duration = Duration::from_millis(300);
/// How long the server may take to end the connection after Close.
const LINGER: Duration = Duration::from_secs(2);
/// How long a place where it is never quiet is listened to on joining.
const BUSY: Duration = Duration::from_secs(2);
