//! Which endpoint is tried next. Pure.

use crate::config::BalancePolicy;

/// What the choice depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Not known to be down.
    pub(crate) healthy: bool,
    /// Being emptied: gets nobody.
    pub(crate) draining: bool,
    /// Sessions open or being opened.
    pub(crate) sessions: usize,
    /// Already tried for this client.
    pub(crate) tried: bool,
}

/// Picks among the candidates that were not tried and are not being emptied: healthy ones if there are
/// any, else all (what looks down from here may be up again). Never one that is being emptied, even if
/// there is no other: whoever empties it wants to end it, and would end those sessions with it. `turn`
/// counts up with each choice.
pub(crate) fn pick(policy: BalancePolicy, candidates: &[Candidate], turn: usize) -> Option<usize> {
    let is_open = |candidate: &Candidate| !candidate.tried && !candidate.draining;
    let any_healthy = candidates.iter().any(|candidate| candidate.healthy && is_open(candidate));
    let eligible =
        |candidate: &Candidate| is_open(candidate) && (candidate.healthy || !any_healthy);
    // Beginning at another one each time spreads ties.
    let start = turn.checked_rem(candidates.len())?;
    let rotated = candidates.iter().enumerate().cycle().skip(start).take(candidates.len());
    let mut eligible = rotated.filter(|(_, candidate)| eligible(candidate));
    let chosen = match policy {
        BalancePolicy::RoundRobin => eligible.next(),
        BalancePolicy::LeastSessions => eligible.min_by_key(|(_, candidate)| candidate.sessions),
    };
    chosen.map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidate(healthy: bool, sessions: usize, tried: bool) -> Candidate {
        Candidate { healthy, draining: false, sessions, tried }
    }

    fn draining(sessions: usize) -> Candidate {
        Candidate { draining: true, ..candidate(true, sessions, false) }
    }

    #[test]
    fn round_robin_takes_turns() {
        let all = [candidate(true, 9, false), candidate(true, 0, false), candidate(true, 5, false)];
        let picked: Vec<_> =
            (0..6).map(|turn| pick(BalancePolicy::RoundRobin, &all, turn)).collect();
        assert_eq!(picked, [0, 1, 2, 0, 1, 2].map(Some));
    }

    #[test]
    fn least_sessions_takes_the_emptiest_and_spreads_ties() {
        let all = [candidate(true, 2, false), candidate(true, 1, false), candidate(true, 1, false)];
        assert_eq!(pick(BalancePolicy::LeastSessions, &all, 0), Some(1));
        assert_eq!(pick(BalancePolicy::LeastSessions, &all, 2), Some(2));
    }

    #[test]
    fn when_all_are_down_all_are_tried() {
        let all = [candidate(false, 0, true), candidate(false, 3, false)];
        assert_eq!(pick(BalancePolicy::LeastSessions, &all, 0), Some(1));
        assert_eq!(pick(BalancePolicy::LeastSessions, &[candidate(true, 0, true)], 0), None);
        assert_eq!(pick(BalancePolicy::RoundRobin, &[], 7), None);
    }

    #[test]
    fn one_that_is_being_emptied_gets_nobody_even_if_there_is_no_other() {
        for policy in [BalancePolicy::LeastSessions, BalancePolicy::RoundRobin] {
            let busy = candidate(true, 9, false);
            assert_eq!(pick(policy, &[draining(0), busy, draining(0)], 0), Some(1));
            let down = candidate(false, 9, false);
            assert_eq!(pick(policy, &[draining(0), down], 0), Some(1));
            assert_eq!(pick(policy, &[draining(0), draining(1)], 0), None);
            assert_eq!(pick(policy, &[candidate(true, 0, true), draining(1)], 0), None);
        }
    }

    proptest! {
        #[test]
        fn never_an_unhealthy_one_while_a_healthy_one_is_left(
            rows in proptest::collection::vec((any::<bool>(), 0usize..5, any::<bool>(), any::<bool>()), 1..8), turn: usize, least: bool,
        ) {
            let all: Vec<_> = rows
                .into_iter()
                .map(|(h, s, t, draining)| Candidate { draining, ..candidate(h, s, t) })
                .collect();
            let is_open = |candidate: &Candidate| !candidate.tried && !candidate.draining;
            let policy = if least { BalancePolicy::LeastSessions } else { BalancePolicy::RoundRobin };
            match pick(policy, &all, turn) {
                None => prop_assert!(!all.iter().any(is_open)),
                Some(index) => {
                    prop_assert!(is_open(&all[index]));
                    let healthy_left = all.iter().any(|candidate| candidate.healthy && is_open(candidate));
                    prop_assert!(all[index].healthy || !healthy_left);
                    if least {
                        prop_assert!(all.iter().all(|other| !is_open(other)
                            || other.healthy != all[index].healthy
                            || other.sessions >= all[index].sessions));
                    }
                }
            }
        }
    }
}
