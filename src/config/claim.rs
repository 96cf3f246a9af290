//! The names of claims: a claim, or a member of one by its path. Pure.

/// The steps of a claim's path, `realm_access.roles`; a member whose name has dots stands in quotes:
/// `resource_access."chat.example.com".roles`. `None`: a quote is not closed, or a step is empty.
pub(crate) fn steps(path: &str) -> Option<Vec<&str>> {
    let mut steps = Vec::new();
    let mut rest = path;
    loop {
        let (step, behind) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => rest.split_at(rest.find('.').unwrap_or(rest.len())),
        };
        if step.is_empty() || rest.starts_with(|c| c != '"') && step.contains('"') {
            return None;
        }
        steps.push(step);
        match behind.strip_prefix('.') {
            Some(next) => rest = next,
            None if behind.is_empty() => return Some(steps),
            None => return None,
        }
    }
}

/// Reads the name of a claim.
///
/// # Errors
///
/// A quote that is not closed. A name that is no path is a claim's own: `https://example.com/roles`.
pub(super) fn name(text: &str) -> Result<String, &'static str> {
    match text {
        "" => Err("must not be empty"),
        text if text.contains('"') && steps(text).is_none() => Err(
            "is no path of a claim: a member whose name has dots stands in quotes, between dots, as in \
             'resource_access.\"chat.example.com\".roles'",
        ),
        text => Ok(text.to_owned()),
    }
}

/// The path that consists of these names, whatever characters they have.
///
/// # Errors
///
/// A name is empty, or has a quote.
pub(super) fn path(names: &[String]) -> Result<String, &'static str> {
    if names.is_empty() || names.iter().any(|name| name.is_empty() || name.contains('"')) {
        return Err(
            "must be the names on the way to the claim, none of them empty or with a quote",
        );
    }
    Ok(names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_steps_and_a_quoted_one_may_have_dots() {
        let rows: &[(&str, Option<&[&str]>)] = &[
            ("sub", Some(&["sub"])),
            ("realm_access.roles", Some(&["realm_access", "roles"])),
            ("a.\"b.c\".d", Some(&["a", "b.c", "d"])),
            ("\"a.b\"", Some(&["a.b"])),
            ("a.\"b.c\"", Some(&["a", "b.c"])),
            ("\"https://a.example/b\".c-d", Some(&["https://a.example/b", "c-d"])),
            ("", None),
            ("a.", None),
            (".a", None),
            ("a..b", None),
            ("a.\"b", None),
            ("a.\"b\"c", None),
            ("a.b\"c\".d", None),
            ("\"\"", None),
        ];
        for (text, expected) in rows {
            assert_eq!(steps(text).as_deref(), *expected, "{text}");
        }
        for text in ["sub", "https://a.example/roles", "a.\"b.c\"", "a..b"] {
            assert_eq!(name(text).as_deref(), Ok(text));
        }
        for text in ["", "a.\"b", "a\"b"] {
            assert!(name(text).is_err(), "{text}");
        }
        let names = ["https://a.example/b".to_owned(), "c".to_owned()];
        let joined = path(&names).unwrap();
        assert_eq!(steps(&joined).unwrap(), names);
        assert!(path(&[]).is_err() && path(&["a\"".to_owned()]).is_err());
    }
}
