//! What every label and close code means to who connects, and what to do about it. Pure.
//!
//! The browser tester shows it, and takes codes and statuses from the two tables that choose them
//! (`admission::rejection`, `ws::settle`), as they are without `[close_codes]`.

use serde_json::{Value, json};

use crate::admission::rejection::{Forbidden, Rejection, TokenFault};
use crate::config::{CloseCodes, DEFAULT_DRAIN_CODE};
use crate::handshake::request::BadRequest;
use crate::session::label::Label;
use crate::session::record::CloseStatus;
use crate::ws::settle::{CodePolicy, Ending, Say, Silence, settle};
use crate::ws::violation::Violation;

mod sentences;

use sentences::CODES;
pub use sentences::meaning;

/// A meaning, a cure, and whether a client should come back by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meaning {
    /// What happened.
    pub meaning: &'static str,
    /// What to do.
    pub cure: &'static str,
    /// What a client should do by itself.
    pub retry: Retry,
}

/// Whether a client should come back by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The same attempt would end in the same way.
    No,
    /// After a pause that grows and is never the same for two clients.
    Later,
}

/// Both tables, as the page reads them.
pub fn tables() -> Value {
    let labels: Vec<_> = Label::ALL.iter().map(|label| row(*label)).collect();
    let codes: Vec<_> = CODES
        .iter()
        .map(|(code, name, meaning)| {
            json!({
                "code": code, "name": name, "meaning": meaning.meaning, "cure": meaning.cure,
                "retry": meaning.retry.as_str(),
            })
        })
        .collect();
    json!({ "labels": labels, "codes": codes })
}

impl Retry {
    const fn as_str(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Later => "later",
        }
    }
}

fn row(label: Label) -> Value {
    let Meaning { meaning, cure, retry } = meaning(label);
    let of_label = rejections().into_iter().filter(|rejection| rejection.label() == label);
    let (mut statuses, mut codes) = (Vec::new(), Vec::new());
    for rejection in of_label {
        note(&mut statuses, rejection.status().as_u16());
        if let Some(code) = rejection.close_code(&CloseCodes::default(), None) {
            note(&mut codes, code);
        }
    }
    for ending in endings().iter().filter(|ending| ending.label() == label) {
        if let Some(code) = told_to_client(ending) {
            note(&mut codes, code);
        }
    }
    json!({
        "label": label.as_str(), "statuses": statuses, "codes": codes, "meaning": meaning, "cure": cure,
        "retry": retry.as_str(),
    })
}

fn note(numbers: &mut Vec<u16>, number: u16) {
    if !numbers.contains(&number) {
        numbers.push(number);
    }
}

/// The code of the Close that a client gets.
fn told_to_client(ending: &Ending) -> Option<u16> {
    let overrides = CloseCodes::default();
    let policy =
        CodePolicy { overrides: &overrides, subprotocol: None, drain_code: DEFAULT_DRAIN_CODE };
    match settle(ending, policy).client {
        Say::Nothing => None,
        Say::Close { code, .. } => code,
        Say::CloseThenAbort { code, .. } => Some(code),
    }
}

/// Each refusal there is, with each of its codes.
fn rejections() -> Vec<Rejection> {
    let tokens = [
        TokenFault::Missing,
        TokenFault::Malformed(""),
        TokenFault::Expired,
        TokenFault::NotYetValid,
        TokenFault::Signature,
        TokenFault::KeyUnknown,
        TokenFault::Issuer,
        TokenFault::Audience,
        TokenFault::Kind(""),
    ];
    let upstream = [401, 403, 404, 429, 500].map(|status| Rejection::UpstreamRefused { status });
    let others = [
        Rejection::BadRequest(BadRequest::Method),
        Rejection::BadRequest(BadRequest::VersionOther),
        Rejection::NoRoute,
        Rejection::OriginDenied,
        Rejection::Forbidden(Forbidden::Claim(String::new())),
        Rejection::UserLimit,
        Rejection::AddressLimit,
        Rejection::RateLimited { retry_after: 1 },
        Rejection::Overloaded,
        Rejection::Draining,
        Rejection::KeysUnavailable,
        Rejection::UpstreamTimeout(""),
        Rejection::UpstreamUnreachable(String::new()),
        Rejection::UpstreamProtocol(""),
        Rejection::Internal,
    ];
    tokens.map(Rejection::Token).into_iter().chain(upstream).chain(others).collect()
}

/// Each ending whose code the gateway chooses.
fn endings() -> Vec<Ending> {
    let violations = [Violation::Rsv, Violation::Utf8, Violation::Size];
    let others = [
        Ending::ClientClosedIllegally(NEVER_ON_THE_WIRE),
        Ending::UpstreamClosedIllegally(NEVER_ON_THE_WIRE),
        Ending::ClientClosed(CloseStatus::Empty),
        Ending::UpstreamClosed(CloseStatus::Empty),
        Ending::UpstreamViolation(Violation::Rsv),
        Ending::ClientLost,
        Ending::UpstreamLost,
        Ending::ClientTimeout(Silence::NoPong),
        Ending::UpstreamStalled(Silence::NoPong),
        Ending::Idle,
        Ending::MessageRate,
        Ending::Replaced,
        Ending::Kicked { code: None, reason: None },
        Ending::SlowConsumer,
        Ending::Drained { retry: 1 },
        Ending::Internal,
    ];
    violations.map(Ending::ClientViolation).into_iter().chain(others).collect()
}

/// Stands for "no code" in APIs.
const NEVER_ON_THE_WIRE: u16 = 1005;

#[cfg(test)]
mod tests;
