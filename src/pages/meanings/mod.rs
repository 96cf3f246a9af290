//! The browser tester's tables: every label and close code with its words (`outcome::words`). Pure.
//!
//! Codes and statuses come from the two tables that choose them (`outcome::rejection`,
//! `outcome::settle`), as they are without `[close_codes]`.

use serde_json::{Value, json};

use crate::outcome::close_codes::{CloseCodes, DEFAULT_DRAIN_CODE};
use crate::outcome::label::Label;
use crate::outcome::rejection::Rejection;
use crate::outcome::settle::{CodePolicy, Ending, Say, settle};
use crate::outcome::words::{self, CODES, Words};
use crate::protocol::ws::close::CloseStatus;

/// Both tables, as the page reads them.
pub(crate) fn tables() -> Value {
    let labels: Vec<_> = Label::ALL.iter().map(|label| row(*label)).collect();
    let codes: Vec<_> = CODES
        .iter()
        .map(|(code, name, words)| {
            json!({
                "code": code, "name": name, "meaning": words.explanation, "cure": words.remedy,
                "retry": words.retry.as_str(),
            })
        })
        .collect();
    json!({ "labels": labels, "codes": codes })
}

fn row(label: Label) -> Value {
    let Words { explanation, cause, remedy, retry } = words::of(label);
    let meaning = format!("{explanation} {cause}");
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
        "label": label.as_str(), "statuses": statuses, "codes": codes, "meaning": meaning, "cure": remedy,
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
