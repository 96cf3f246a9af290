//! Sessions: which are open, which have ended, and ending them. No I/O.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use http::{Response, StatusCode};
use serde::Serialize;

use super::Context;
use super::reply::{Failure, json};
use super::resource::{Action, Call, Resource, Takes, Verb};
use super::views::{SessionView, rfc3339};
use crate::gateway::Gateway;
use crate::gateway::guards::Access;
use crate::outcome::label::Label;
use crate::outcome::settle::Ending;
use crate::protocol::ws::close;
use crate::session::id::SessionId;
use crate::session::recent;
use crate::session::record::{Facts, Outcome, SessionRecord};
use crate::session::registry::{Order, SessionHandle};
use crate::telemetry::events::label_before_an_answer;

/// The open ones.
pub(crate) static LIST: Resource = Resource {
    path: "/api/sessions",
    access: Access::Token,
    actions: &[Action {
        verb: Verb::Get,
        query: Takes::Only(&["user", "route", "client", "q", "limit"]),
        handler: list,
    }],
};

/// The ended ones.
pub(crate) static RECENT: Resource = Resource {
    path: "/api/sessions/recent",
    access: Access::Token,
    actions: &[Action {
        verb: Verb::Get,
        query: Takes::Only(&["user", "route", "client", "q", "limit", "label"]),
        handler: list_recent,
    }],
};

/// One of either.
pub(crate) static ONE: Resource = Resource {
    path: "/api/sessions/{id}",
    access: Access::Token,
    actions: &[
        Action { verb: Verb::Get, query: Takes::Only(&[]), handler: show },
        Action { verb: Verb::Delete, query: KICK, handler: kick },
    ],
};

/// Those of a user.
pub(crate) static OF_USER: Resource = Resource {
    path: "/api/users/{user}/sessions",
    access: Access::Token,
    actions: &[Action { verb: Verb::Delete, query: KICK, handler: kick_user }],
};

const KICK: Takes = Takes::Only(&["code", "reason"]);

/// Which sessions are asked for.
struct Filter<'a> {
    user: Option<&'a str>,
    route: Option<&'a str>,
    client: Option<&'a str>,
    /// In lower case.
    text: Option<String>,
}

#[derive(Serialize)]
struct List<'a> {
    now: String,
    open: usize,
    matching: usize,
    sessions: Vec<SessionView<'a>>,
}

#[derive(Serialize)]
struct RecentList<'a> {
    now: String,
    sessions: Vec<SessionView<'a>>,
}

#[derive(Serialize)]
struct Kicked {
    kicked: usize,
}

fn list(Context { gateway, .. }: &Context, call: &Call) -> Result<Response<Bytes>, Failure> {
    let limit = limit(call)?;
    let filter = Filter::of(call);
    let mut sessions = gateway.registry().snapshot();
    let open = sessions.len();
    sessions.retain(|session| filter.takes(&session.known));
    sessions.sort_unstable_by_key(|session| std::cmp::Reverse(session.opened));
    let now = Instant::now();
    let connecting = connecting(gateway, &filter);
    let matching = connecting.len() + sessions.len();
    let waiting = connecting.iter().map(|(facts, since)| {
        SessionView::connecting(facts, now.saturating_duration_since(*since))
    });
    let open_ones = sessions.iter().map(|session| SessionView::open(session, now));
    // The youngest first, and none is younger than one that is not open yet.
    let views = waiting.chain(open_ones).take(limit).collect();
    let list = List { now: rfc3339(SystemTime::now()), open, matching, sessions: views };
    Ok(json(StatusCode::OK, &list))
}

/// Handshakes that are being decided, the youngest first.
fn connecting(gateway: &Gateway, filter: &Filter<'_>) -> Vec<(Arc<Facts>, Instant)> {
    let all = gateway.process().connecting.snapshot();
    let mut all: Vec<_> = all.iter().map(|it| (it.known(), it.since)).collect();
    all.retain(|(facts, _)| filter.takes(facts));
    all.sort_unstable_by_key(|(_, since)| std::cmp::Reverse(*since));
    all
}

fn list_recent(Context { gateway, .. }: &Context, call: &Call) -> Result<Response<Bytes>, Failure> {
    let limit = limit(call)?;
    let label = match call.text("label") {
        None => None,
        Some(text) => Some(Label::parse(text).ok_or_else(|| {
            Failure::bad(format!("there is no label {text:?}; the README lists them"))
        })?),
    };
    let filter = Filter::of(call);
    let ended = gateway.telemetry().recent.all(Instant::now());
    let wanted = ended.iter().map(|ended| &**ended).filter(|ended| {
        label.is_none_or(|it| label_of(&ended.record) == it) && filter.takes(&ended.record)
    });
    let sessions = wanted.take(limit).map(SessionView::ended).collect();
    Ok(json(StatusCode::OK, &RecentList { now: rfc3339(SystemTime::now()), sessions }))
}

fn show(Context { gateway, .. }: &Context, call: &Call) -> Result<Response<Bytes>, Failure> {
    let id = id(call)?;
    let now = Instant::now();
    if let Some(session) = gateway.registry().get(id) {
        return Ok(json(StatusCode::OK, &SessionView::open(&session, now)));
    }
    if let Some(handshake) = gateway.process().connecting.get(id) {
        let age = now.saturating_duration_since(handshake.since);
        return Ok(json(StatusCode::OK, &SessionView::connecting(&handshake.known(), age)));
    }
    // Before the records: one that is not there any more is among those.
    if let Some(session) = gateway.registry().get_closing(id) {
        return Ok(json(StatusCode::OK, &SessionView::closing(&session, now)));
    }
    let ended = gateway.telemetry().recent.get(id, now).ok_or_else(unknown)?;
    Ok(json(StatusCode::OK, &SessionView::ended(&ended)))
}

fn kick(Context { gateway, .. }: &Context, call: &Call) -> Result<Response<Bytes>, Failure> {
    let (id, ending) = (id(call)?, kicked(call)?);
    let Some(session) = gateway.registry().get(id) else {
        let has_ended = gateway.registry().get_closing(id).is_some()
            || gateway.telemetry().recent.get(id, Instant::now()).is_some();
        return Err(if has_ended {
            Failure::missing(
                "this session is over already; GET of the same path, or `framegate sessions ID`, shows how it ended",
            )
        } else {
            unknown()
        });
    };
    gateway.telemetry().session_kicked(&ending, session.id, session.known.user.as_deref());
    session.order(Order::End(ending));
    Ok(json(StatusCode::OK, &Kicked { kicked: 1 }))
}

fn kick_user(Context { gateway, .. }: &Context, call: &Call) -> Result<Response<Bytes>, Failure> {
    let (user, ending) = (call.parameter("user"), kicked(call)?);
    let is_theirs = |s: &Arc<SessionHandle>| s.known.user.as_deref() == Some(user);
    let sessions = gateway.registry().snapshot().into_iter().filter(is_theirs);
    let mut kicked = 0;
    for session in sessions {
        gateway.telemetry().session_kicked(&ending, session.id, Some(user));
        session.order(Order::End(ending.clone()));
        kicked += 1;
    }
    Ok(json(StatusCode::OK, &Kicked { kicked }))
}

impl<'a> Filter<'a> {
    fn of(call: &'a Call) -> Self {
        Self {
            user: call.text("user"),
            route: call.text("route"),
            client: call.text("client"),
            text: call.text("q").map(str::to_lowercase),
        }
    }

    fn takes(&self, session: &Facts) -> bool {
        let is = |wanted: Option<&str>, text: Option<&str>| wanted.is_none_or(|w| text == Some(w));
        is(self.user, session.user.as_deref())
            && is(self.route, session.route.as_deref())
            && self.client.is_none_or(|wanted| is_client(wanted, session))
            && self.text.as_ref().is_none_or(|wanted| contains(wanted, session))
    }
}

/// A client by its address, with or without its port.
fn is_client(wanted: &str, session: &Facts) -> bool {
    match wanted.parse::<IpAddr>() {
        Ok(address) => session.client.ip().to_canonical() == address.to_canonical(),
        Err(_) => session.client.to_string() == wanted,
    }
}

/// Whether `wanted`, in lower case, stands in something an operator may search for.
fn contains(wanted: &str, session: &Facts) -> bool {
    let shown = [session.id.to_string(), session.client.to_string()];
    let texts = [&session.user, &session.route];
    shown.iter().any(|text| text.contains(wanted))
        || texts.into_iter().flatten().any(|text| text.to_lowercase().contains(wanted))
        || session.path.as_ref().is_some_and(|path| path.to_lowercase().contains(wanted))
}

fn label_of(record: &SessionRecord) -> Label {
    match record.outcome {
        Outcome::Ended(label) => label,
        Outcome::Refused(refused) => refused.label,
        Outcome::Abandoned | Outcome::NoRequest(_) => label_before_an_answer(record.by),
    }
}

fn limit(call: &Call) -> Result<usize, Failure> {
    Ok(call.number("limit", 1..=10_000)?.unwrap_or(100))
}

fn id(call: &Call) -> Result<SessionId, Failure> {
    let text = call.parameter("id");
    SessionId::parse(text).ok_or_else(|| {
        Failure::bad(format!("{text:?} is no session id: those are 16 hexadecimal digits"))
    })
}

fn unknown() -> Failure {
    let (minutes, most) = (recent::KEPT.as_secs() / 60, recent::MOST);
    Failure::missing(format!(
        "no session or handshake of this id is known: ids are known for {minutes} minutes after the \
         end, and of at most the last {most} connections"
    ))
}

/// How the kicked are told. Without `code` it is that of the table of endings.
fn kicked(call: &Call) -> Result<Ending, Failure> {
    let code = call.number("code", 0..=u16::MAX)?;
    if let Some(code) = code.filter(|code| !close::is_legal(*code)) {
        return Err(Failure::bad(format!(
            "{code} may not stand in a Close frame; use 1000-1003, 1007-1014 or 3000-4999"
        )));
    }
    let reason = call.text("reason").map(str::to_owned);
    if reason.as_ref().is_some_and(|reason| reason.len() > close::MAX_REASON) {
        let most = close::MAX_REASON;
        return Err(Failure::bad(format!("reason may have at most {most} bytes")));
    }
    Ok(Ending::Kicked { code, reason })
}
