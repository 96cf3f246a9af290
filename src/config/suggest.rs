//! "Did you mean": the known word that is nearest to what was typed. Pure.

/// The candidate most like `typed`, if one is near enough to be meant.
pub(super) fn nearest<'a>(
    typed: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // Comparing is quadratic in the length; nothing this long is a slip of the finger.
    if typed.len() > 64 {
        return None;
    }
    let typed = typed.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (similarity(&typed, &candidate.to_lowercase()), candidate))
        .filter(|(similarity, _)| *similarity >= NEAR)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

/// `; did you mean "chat"?`, or nothing.
pub(super) fn did_you_mean(suggestion: Option<impl AsRef<str>>) -> String {
    suggestion.map(|word| format!("; did you mean {:?}?", word.as_ref())).unwrap_or_default()
}

/// `"auto", "http" or "close"`
pub(super) fn one_of<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let words: Vec<String> = words.map(|word| format!("{word:?}")).collect();
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => words.concat(),
    }
}

/// Slips of the finger (transpositions count once), or words of which one begins the other.
fn similarity(typed: &str, candidate: &str) -> f64 {
    let begins = typed.len().min(candidate.len()) >= 3
        && (candidate.starts_with(typed) || typed.starts_with(candidate));
    let slips = strsim::normalized_damerau_levenshtein(typed, candidate);
    if begins { slips.max(NEAR) } else { slips }
}

/// Of two words of four letters one may differ, of eight three.
const NEAR: f64 = 0.6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_find_the_word_meant_and_other_words_do_not() {
        for (typed, candidates, expected) in [
            ("chta", vec!["chat", "calls"], Some("chat")),
            ("routes", vec!["route", "verifiers"], Some("route")),
            ("Limit", vec!["limits", "listener"], Some("limits")),
            ("retry", vec!["retries", "health"], None),
            ("int", vec!["uuid", "integer"], Some("integer")),
            ("zebra", vec!["chat", "calls"], None),
            ("", vec!["chat"], None),
            ("chat", vec![], None),
        ] {
            assert_eq!(nearest(typed, candidates), expected, "{typed}");
        }
        assert_eq!(nearest(&"chat".repeat(20_000), ["chat"]), None);
    }

    #[test]
    fn words_are_listed_as_people_list_them() {
        assert_eq!(one_of(["a"].into_iter()), r#""a""#);
        assert_eq!(one_of(["a", "b", "c"].into_iter()), r#""a", "b" or "c""#);
    }
}
