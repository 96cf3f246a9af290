//! What a reload changes, in words for one log line. Pure.

use std::fmt;

use super::{Config, Upstream};

/// What one configuration has and the one before had not, by kind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Changes {
    /// By `bind`.
    pub(crate) listeners: Change,
    /// By label.
    pub(crate) routes: Change,
    /// By name.
    pub(crate) upstreams: Change,
    /// By upstream and endpoint.
    pub(crate) endpoints: Change,
    /// By content; shown by name.
    pub(crate) certificates: Change,
}

/// What is new, gone and the same among things of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Change {
    added: Vec<String>,
    removed: Vec<String>,
    kept: usize,
}

impl Changes {
    /// What the settings tell; certificates are no settings.
    pub(crate) fn between(before: &Config, after: &Config, certificates: Change) -> Self {
        let change =
            |names: fn(&Config) -> Vec<String>| Change::of_names(names(before), names(after));
        Self {
            listeners: change(|config| {
                config.listeners.iter().map(|l| l.bind.to_string()).collect()
            }),
            routes: change(|config| config.routes.iter().map(|r| r.label.clone()).collect()),
            upstreams: change(|config| config.upstreams.iter().map(|u| u.name.clone()).collect()),
            endpoints: change(endpoints),
            certificates,
        }
    }
}

impl Change {
    /// From what there was and is, each with its name and what makes it the same.
    pub(crate) fn between<K: PartialEq>(before: Vec<(String, K)>, after: Vec<(String, K)>) -> Self {
        let (mut removed, mut change) = (before, Self::default());
        for (name, key) in after {
            match removed.iter().position(|(_, other)| *other == key) {
                Some(at) => {
                    removed.remove(at);
                    change.kept = change.kept.saturating_add(1);
                }
                None => change.added.push(name),
            }
        }
        change.removed = removed.into_iter().map(|(name, _)| name).collect();
        change
    }

    fn of_names(before: Vec<String>, after: Vec<String>) -> Self {
        let twice =
            |names: Vec<String>| names.into_iter().map(|name| (name.clone(), name)).collect();
        Self::between(twice(before), twice(after))
    }
}

impl fmt::Display for Change {
    /// `added /a /b, removed /c, kept 7`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.added.is_empty() {
            write!(f, "added {}, ", self.added.join(" "))?;
        }
        if !self.removed.is_empty() {
            write!(f, "removed {}, ", self.removed.join(" "))?;
        }
        write!(f, "kept {}", self.kept)
    }
}

fn endpoints(config: &Config) -> Vec<String> {
    let of = |upstream: &Upstream| -> Vec<String> {
        let labels = upstream.endpoints.iter().map(|endpoint| &endpoint.label);
        labels.map(|label| format!("{}={label}", upstream.name)).collect()
    };
    config.upstreams.iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_says_what_is_new_and_gone_and_counts_the_rest() {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        for (before, after, said) in [
            (&["a", "b"][..], &["b", "a"][..], "kept 2"),
            (&["a"], &["a", "c", "d"], "added c d, kept 1"),
            (&["a", "b"], &[], "removed a b, kept 0"),
            (&["a", "a", "b"], &["a", "c"], "added c, removed a b, kept 1"),
        ] {
            assert_eq!(Change::of_names(names(before), names(after)).to_string(), said);
        }
    }

    #[test]
    fn what_has_the_same_name_may_be_another_thing() {
        let one = |content: u8| vec![("example.com".to_owned(), content)];
        let said = Change::between(one(1), one(2)).to_string();
        assert_eq!(said, "added example.com, removed example.com, kept 0");
    }
}
