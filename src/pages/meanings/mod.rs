//! What every label and close code means to who connects, and what to do about it. Pure.
//!
//! The browser tester shows it, and takes codes and statuses from the two tables that choose them
//! (`outcome::rejection`, `outcome::settle`), as they are without `[close_codes]`.

use serde_json::{Value, json};

use crate::outcome::close_codes::{CloseCodes, DEFAULT_DRAIN_CODE};
use crate::outcome::label::Label;
use crate::outcome::rejection::Rejection;
use crate::outcome::settle::{CodePolicy, Ending, Say, settle};
use crate::protocol::ws::close::CloseStatus;

mod sentences;

use sentences::CODES;
pub(crate) use sentences::meaning;

/// A meaning, a cure, and whether a client should come back by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meaning {
    /// What happened.
    pub(crate) meaning: &'static str,
    /// What to do.
    pub(crate) cure: &'static str,
    /// What a client should do by itself.
    pub(crate) retry: Retry,
}

/// Whether a client should come back by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retry {
    /// The same attempt would end in the same way.
    No,
    /// After a pause that grows and is never the same for two clients.
    Later,
}

/// Both tables, as the page reads them.
pub(crate) fn tables() -> Value {
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
    let of_label = Rejection::each().into_iter().filter(|rejection| rejection.label() == label);
    let (mut statuses, mut codes) = (Vec::new(), Vec::new());
    for rejection in of_label {
        note(&mut statuses, rejection.status().as_u16());
        if let Some(code) = rejection.close_code(&CloseCodes::default(), None) {
            note(&mut codes, code);
        }
    }
    let closed = [CloseStatus::Empty];
    let closed =
        closed.map(Ending::ClientClosed).into_iter().chain(closed.map(Ending::UpstreamClosed));
    let endings = Ending::decided().into_iter().chain(closed);
    for ending in &endings.filter(|ending| ending.label() == label).collect::<Vec<_>>() {
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

#[cfg(test)]
mod tests;
