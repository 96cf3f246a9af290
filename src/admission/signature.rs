//! Whether one of a verifier's keys has signed a token; waits for the issuer where that can help. I/O.

use std::sync::Arc;
use std::time::Instant;

use super::jwks::KeySource;
use super::jwt::Token;
use super::keys::KeySet;
use crate::config::Verifier;
use crate::outcome::rejection::Rejection;

/// All keys of a verifier.
pub(crate) struct VerifierKeys {
    /// The verifier's name.
    pub(crate) name: Arc<str>,
    /// Those in the configuration.
    pub(crate) fixed: KeySet,
    /// Those that the issuer publishes.
    pub(crate) published: Option<Arc<KeySource>>,
}

impl VerifierKeys {
    /// Whether there is no key at all to check tokens with; `now` in seconds since 1970.
    pub(crate) fn is_empty(&self, now: u64) -> bool {
        let published = self.published.as_ref().and_then(|source| source.current(Instant::now()));
        self.fixed.is_empty(now) && published.is_none_or(|fetched| fetched.keys.is_empty(now))
    }

    /// How many keys there are to check tokens with; `now` in seconds since 1970.
    pub(crate) fn count(&self, now: u64) -> usize {
        let published = self.published.as_ref().and_then(|source| source.current(Instant::now()));
        self.fixed.count(now) + published.map_or(0, |fetched| fetched.keys.count(now))
    }

    /// Checks a token's signature at `now`. One whose key is not known may be told so only after the
    /// issuer was asked, see [`super::jwks`].
    pub(crate) async fn check(
        &self,
        token: &Token<'_>,
        rules: &Verifier,
        now: u64,
    ) -> Result<(), Rejection> {
        let (mut patience, mut waited) = (None, 0);
        loop {
            let fetched = self.published.as_ref().and_then(|source| source.current(Instant::now()));
            let published = fetched.as_ref().map(|fetched| &fetched.keys);
            let sets: Vec<_> = [Some(&self.fixed), published].into_iter().flatten().collect();
            let Err(fault) = token.check_signature(&sets, now) else { return Ok(()) };
            let may_be_published = token.could_have_another_key(rules, &sets, now);
            let has_none = sets.iter().all(|set| set.is_empty(now));
            let Some(source) = &self.published else {
                return Err(if has_none { Rejection::KeysUnavailable } else { fault.into() });
            };
            // Nobody can know what a token is worth whose key may be among those that are not here.
            let is_unknown = has_none || published.is_none() && may_be_published;
            let refusal = if is_unknown { Rejection::KeysUnavailable } else { fault.into() };
            if !may_be_published {
                return Err(refusal);
            }
            let asked = Instant::now();
            let (deadline, enough) = *patience
                .get_or_insert_with(|| (asked + source.settings.timeout, source.next_fetch()));
            // What was fetched since it came has not got its key: nor will the next.
            if waited >= enough {
                return Err(refusal);
            }
            let Some(number) = source.ask(waited, asked) else { return Err(refusal) };
            drop(fetched);
            if !source.ended(number, deadline).await {
                return Err(refusal);
            }
            waited = number;
        }
    }
}
