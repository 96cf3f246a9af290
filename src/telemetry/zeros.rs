//! The closes and endings that can be told beforehand. Pure.
//!
//! What alerts and dashboards ask for must be there as zero, or its first occurrence is no increase. But
//! all combinations would be some 250 and 100 series a route, nearly all of them for ever 0; so these are
//! what the gateway itself decides, asked of those who decide it, and what peers say by custom.

use std::collections::BTreeSet;

use super::labels::CloseCodeLabels;
use crate::config::Config;
use crate::outcome::blame::{By, Phase};
use crate::outcome::label::Label;
use crate::outcome::rejection::Rejection;
use crate::outcome::settle::{CodePolicy, Ending, Say, settle};
use crate::protocol::ws::close::CloseStatus;

/// The `code` and `by` of closes.
pub(super) fn closes(config: &Config, codes: &CloseCodeLabels) -> BTreeSet<(String, &'static str)> {
    let subprotocols = config.close_codes.by_subprotocol.keys().map(|name| Some(name.as_str()));
    let mut closes: Vec<(CloseStatus, By)> = Vec::new();
    for subprotocol in subprotocols.chain([None]) {
        let policy = CodePolicy {
            overrides: &config.close_codes,
            subprotocol,
            drain_code: config.drain.code,
        };
        closes.extend(Ending::decided().iter().map(|ending| {
            let told = match settle(ending, policy).client {
                Say::Nothing => CloseStatus::None,
                Say::Close { code, .. } => code.map_or(CloseStatus::Empty, CloseStatus::Code),
                Say::CloseThenAbort { code, .. } => CloseStatus::Code(code),
            };
            (told, ending.by())
        }));
        closes.extend(Rejection::each().iter().filter_map(|rejection| {
            let code = rejection.close_code(&config.close_codes, subprotocol)?;
            Some((CloseStatus::Code(code), rejection.by_and_phase().0))
        }));
    }
    let decided = closes.into_iter().map(|(code, by)| (codes.label(code), by));
    let all = BY_CUSTOM.into_iter().chain(decided);
    all.map(|(code, by)| (code.to_owned(), by.as_str())).collect()
}

/// The `label` and `phase` of a route's endings.
pub(super) fn endings_of_route() -> impl Iterator<Item = (Label, Phase)> {
    let relayed = Label::endings().map(|label| (label, Phase::Relay));
    // A Close that was not answered; a client that did not wait for the answer to its handshake.
    relayed.chain([
        (Label::ClientClosed, Phase::Closing),
        (Label::UpstreamClosed, Phase::Closing),
        (Label::ClientLost, Phase::Admission),
        (Label::ClientLost, Phase::Connect),
    ])
}

/// The same of connections for which no route was found.
pub(super) fn endings_without_route() -> impl Iterator<Item = (Label, Phase)> {
    let before = [Phase::Accept, Phase::Tls, Phase::Request].into_iter();
    let silent =
        before.flat_map(|phase| [Label::ClientLost, Label::ClientTimeout].map(|l| (l, phase)));
    silent.chain([(Label::ClientLost, Phase::Admission)])
}

/// What clients and backends close with by themselves, and what no rule chooses: labels.
const BY_CUSTOM: [(&str, By); 10] = [
    ("1000", By::Client),
    ("1001", By::Client),
    ("empty", By::Client),
    ("1000", By::Upstream),
    ("1001", By::Upstream),
    ("1008", By::Upstream),
    ("1012", By::Upstream),
    ("empty", By::Upstream),
    // A Close that could not be brought to a client that does not read, or is gone by then.
    ("none", By::Upstream),
    ("none", By::Gateway),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::testing::config;

    #[test]
    fn closes_are_those_of_the_tables_with_the_operators_codes() {
        let mut config = config();
        config.drain.code = 4321;
        config.close_codes.by_label.insert(Label::TokenExpired, 4999);
        let closes = closes(&config, &CloseCodeLabels::new(&config));
        let has = |code: &str, by: By| closes.contains(&(code.to_owned(), by.as_str()));
        for (code, by) in [
            ("1000", By::Client),
            ("empty", By::Client),
            ("none", By::Client),
            ("1002", By::Client),
            ("1007", By::Client),
            ("1009", By::Client),
            ("1011", By::Upstream),
            ("1013", By::Upstream),
            ("1014", By::Upstream),
            ("4401", By::Upstream),
            ("4403", By::Gateway),
            ("4404", By::Gateway),
            ("4408", By::Gateway),
            ("4409", By::Gateway),
            ("4429", By::Gateway),
            // The operator's, one of them for a subprotocol.
            ("4321", By::Gateway),
            ("4999", By::Gateway),
            ("4499", By::Gateway),
            ("4900", By::Admin),
        ] {
            assert!(has(code, by), "{code} by {by:?}: {closes:?}");
        }
        assert!(has("4401", By::Gateway), "the other faults of tokens: {closes:?}");
        assert!(closes.len() < 45, "{}", closes.len());
    }

    #[test]
    fn every_ending_and_every_refusal_that_has_a_code_is_among_those_asked() {
        let endings: Vec<_> = Ending::decided().iter().map(Ending::label).collect();
        for label in Label::endings() {
            assert!(endings.contains(&label), "{label}");
        }
        let refusals: Vec<_> = Rejection::each().iter().map(Rejection::label).collect();
        for label in Label::refusals().filter(|label| label.has_chosen_code()) {
            assert!(refusals.contains(&label), "{label}");
        }
    }
}
