//! Which subprotocol an answer selects, and which of those offered the upstream sees. Pure.
//!
//! Chromium fails a connection whose 101 selects none of the subprotocols it offered, so the gateway
//! selects one where it can, even if the upstream did not. A page may carry its token as a subprotocol
//! (a browser lets it set no other header); such entries are never selected while there is a choice.

/// The gateway's own subprotocol: offered by a page so that something can be selected.
pub(crate) const GATEWAY: &str = "framegate";

/// What stands before the base64url of a token that is sent as a subprotocol.
pub(crate) const TOKEN_PREFIX: &str = "base64url.bearer.authorization.framegate.";

/// Whether `entry` carries a token: by its prefix, or because it is one of `tokens`, the entries that a
/// source `subprotocol:NAME` took as the token. Subprotocols are compared by exact case.
pub(crate) fn is_token_entry(entry: &str, tokens: &[&str]) -> bool {
    entry.starts_with(TOKEN_PREFIX) || tokens.contains(&entry)
}

/// What the 101 selects: the upstream's choice, else `framegate` if offered, else the token entry if
/// nothing else was offered, else nothing.
pub(crate) fn select(
    offered: &[String],
    upstream_choice: Option<&str>,
    tokens: &[&str],
) -> Option<String> {
    let fallback = || match offered {
        _ if offered.iter().any(|entry| entry == GATEWAY) => Some(GATEWAY),
        [only] if is_token_entry(only, tokens) => Some(only.as_str()),
        _ => None,
    };
    upstream_choice.or_else(fallback).map(str::to_owned)
}

/// What the 101 selects when no upstream was asked: before a refusal by Close, or when nothing of what
/// the client offered was left for the upstream (a token source `subprotocol:NAME` that is stripped).
/// The first that is no token entry, else the token entry itself, else nothing.
pub(crate) fn without_upstream(offered: &[String], tokens: &[&str]) -> Option<String> {
    let first_real = offered.iter().find(|entry| !is_token_entry(entry, tokens));
    first_real.or_else(|| offered.first()).cloned()
}

/// What is offered to the upstream: all but `framegate` and entries with [`TOKEN_PREFIX`], in order.
pub(crate) fn upstream_offer(offered: &[String]) -> Vec<&str> {
    let for_gateway = |entry: &str| entry == GATEWAY || entry.starts_with(TOKEN_PREFIX);
    offered.iter().map(String::as_str).filter(|entry| !for_gateway(entry)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "base64url.bearer.authorization.framegate.ZXlK";

    fn list(entries: &[&str]) -> Vec<String> {
        entries.iter().map(|entry| (*entry).to_owned()).collect()
    }

    #[test]
    fn the_101_selects_the_upstreams_choice_then_the_gateways_then_a_lone_token() {
        let rows: &[(&[&str], Option<&str>, &[&str], Option<&str>)] = &[
            (&[], None, &[], None),
            (&["chat"], Some("chat"), &[], Some("chat")),
            (&["chat"], None, &[], None),
            (&["framegate", TOKEN, "chat"], Some("chat"), &[], Some("chat")),
            (&["framegate", TOKEN, "chat"], None, &[], Some("framegate")),
            (&["chat", "framegate"], None, &[], Some("framegate")),
            (&["Framegate"], None, &[], None),
            (&[TOKEN], None, &[], Some(TOKEN)),
            (&[TOKEN, "chat"], None, &[], None),
            (&["raw.jwt.here"], None, &["raw.jwt.here"], Some("raw.jwt.here")),
            (&["raw.jwt.here"], None, &[], None),
            (&["bearer", "raw.jwt.here"], None, &["raw.jwt.here"], None),
        ];
        for (offered, choice, tokens, expected) in rows {
            let selected = select(&list(offered), *choice, tokens);
            assert_eq!(selected.as_deref(), *expected, "{offered:?} {choice:?}");
        }
    }

    #[test]
    fn without_upstream_a_token_entry_is_selected_only_if_there_is_nothing_else() {
        let rows: &[(&[&str], &[&str], Option<&str>)] = &[
            (&[], &[], None),
            (&["chat"], &[], Some("chat")),
            (&[TOKEN], &[], Some(TOKEN)),
            (&[TOKEN, "framegate"], &[], Some("framegate")),
            (&[TOKEN, "chat", "framegate"], &[], Some("chat")),
            (&["a.b.c", "bearer"], &["a.b.c"], Some("bearer")),
            (&["a.b.c"], &["a.b.c"], Some("a.b.c")),
        ];
        for (offered, tokens, expected) in rows {
            assert_eq!(
                without_upstream(&list(offered), tokens).as_deref(),
                *expected,
                "{offered:?}"
            );
        }
    }

    #[test]
    fn the_upstream_is_offered_what_is_not_the_gateways() {
        let offered = list(&["b", "framegate", TOKEN, "a", "framegate2"]);
        assert_eq!(upstream_offer(&offered), ["b", "a", "framegate2"]);
        assert!(upstream_offer(&list(&["framegate", TOKEN])).is_empty());
    }
}
