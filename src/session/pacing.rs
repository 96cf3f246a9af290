//! Which session is closed when, and when its client is asked to come back. Pure.
//!
//! What must be even is not the closes but the arrivals they lead to: `close + retry`. So every client
//! is given a turn to leave and a turn to return, both even over the window. A client that leaves early
//! returns early, which makes all wait about equally long; within a few seconds the order is shuffled,
//! so that closes that fell together (a machine that stood still, long messages that had to end first)
//! are apart again when their clients return.

use std::time::Duration;

use fastrand::Rng;

/// What one session is told, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Turn {
    /// When it is closed, from the begin.
    pub(crate) after: Duration,
    /// The seconds its client is asked to stay away.
    pub(crate) retry: u64,
}

/// The turns of so many sessions, in order of time. Nobody is asked to come back before `absence` is
/// over, counted from the begin: until then nobody might be there to answer.
pub(crate) fn plan(sessions: usize, window: Duration, absence: Duration, seed: u64) -> Vec<Turn> {
    let mut rng = Rng::with_seed(seed);
    let shuffled_within = (window / 4).min(SHUFFLED_WITHIN);
    let leave = even(sessions, window, &mut rng);
    let mut come_back = even(sessions, window, &mut rng);
    let neighbours = sessions as f64 * shuffled_within.div_duration_f64(window.max(SOON));
    for block in come_back.chunks_mut((neighbours as usize).max(1)) {
        rng.shuffle(block);
    }
    let earliest = SOON + absence.max(shuffled_within);
    let turns = leave.into_iter().zip(come_back);
    turns
        .map(|(after, turn)| {
            let away = (earliest + turn).saturating_sub(after);
            Turn { after, retry: away.as_secs() + u64::from(away.subsec_nanos() > 0) }
        })
        .collect()
}

/// Seconds to stay away for a client that is closed when the turns are over: its return falls among
/// those of the others.
pub(crate) fn late(window: Duration, seed: u64) -> u64 {
    1 + Rng::with_seed(seed).u64(..=window.as_secs().min(LONGEST_ABSENCE.as_secs()))
}

/// One moment in each of `count` equal parts of `window`.
fn even(count: usize, window: Duration, rng: &mut Rng) -> Vec<Duration> {
    let moment = |turn| window.mul_f64((turn as f64 + rng.f64()) / count as f64);
    (0..count).map(moment).collect()
}

/// How long a stop keeps clients away at most. Whoever takes longer over it has others to serve them.
pub(crate) const LONGEST_ABSENCE: Duration = Duration::from_secs(60);
/// What a successor needs to begin; also the least that any client is asked for.
const SOON: Duration = Duration::from_secs(1);
/// The order of returns is that of closes but for this.
const SHUFFLED_WITHIN: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(30);
    const SESSIONS: usize = 30_000;

    /// How many clients return in each second, where each is closed at its turn or, if the machine
    /// stands still then, when it goes on.
    fn arrivals(turns: &[Turn], stands_still: std::ops::Range<f64>) -> Vec<usize> {
        let mut seconds = vec![0; 100];
        for turn in turns {
            let mut closed = turn.after.as_secs_f64();
            if stands_still.contains(&closed) {
                closed = stands_still.end;
            }
            seconds[(closed + turn.retry as f64) as usize] += 1;
        }
        seconds
    }

    #[test]
    fn closes_and_arrivals_of_a_stop_are_even_and_nobody_returns_before_its_end() {
        let turns = plan(SESSIONS, WINDOW, WINDOW, 7);
        assert_eq!(turns.len(), SESSIONS);
        assert!(turns.is_sorted_by_key(|turn| turn.after));
        for (second, closes) in
            turns.chunk_by(|a, b| a.after.as_secs() == b.after.as_secs()).enumerate()
        {
            assert_eq!(closes.len(), SESSIONS / 30, "second {second}");
        }
        let arrivals = arrivals(&turns, 0.0..0.0);
        // From a second after the end, for as long as the closes took; whole seconds blur the edges.
        assert_eq!(arrivals[..31].iter().sum::<usize>(), 0, "{arrivals:?}");
        assert_eq!(arrivals[62..].iter().sum::<usize>(), 0, "{arrivals:?}");
        for (second, count) in arrivals.iter().enumerate().take(61).skip(32) {
            assert!((900..=1100).contains(count), "second {second}: {count} of 1000");
        }
        // All wait about as long as the window.
        let (least, most) =
            (turns.iter().map(|t| t.retry).min(), turns.iter().map(|t| t.retry).max());
        assert_eq!((least, most), (Some(24), Some(39)));
    }

    #[test]
    fn while_others_are_there_clients_return_soon_and_evenly() {
        let turns = plan(SESSIONS, WINDOW, Duration::ZERO, 7);
        let arrivals = arrivals(&turns, 0.0..0.0);
        assert_eq!(arrivals[..8].iter().sum::<usize>(), 0, "{arrivals:?}");
        for (second, count) in arrivals.iter().enumerate().take(38).skip(10) {
            assert!((900..=1100).contains(count), "second {second}: {count} of 1000");
        }
        assert!(turns.iter().all(|turn| (1..=17).contains(&turn.retry)));
    }

    #[test]
    fn closes_that_fell_together_are_apart_when_their_clients_return() {
        let turns = plan(SESSIONS, WINDOW, WINDOW, 7);
        let arrivals = arrivals(&turns, 8.0..13.0);
        // 5000 are closed at once.
        let most = arrivals.iter().max().unwrap();
        assert!(*most < 1700, "{arrivals:?}");
    }

    #[test]
    fn the_few_the_hurried_and_the_patient() {
        assert_eq!(plan(0, WINDOW, WINDOW, 7), []);
        for seed in 0..100 {
            let [only] = plan(1, WINDOW, WINDOW, seed)[..] else { panic!("one session") };
            assert!(only.after < WINDOW);
            let back = only.after.as_secs_f64() + only.retry as f64;
            assert!((31.0..=62.0).contains(&back), "{only:?}");
        }
        // Who does not want to wait has nothing spread.
        let at_once = Turn { after: Duration::ZERO, retry: 1 };
        assert_eq!(plan(3, Duration::ZERO, Duration::ZERO, 7), [at_once; 3]);
        // An hour is no time to send anybody away for.
        let hour = Duration::from_secs(3600);
        let turns = plan(SESSIONS, hour, hour.min(LONGEST_ABSENCE), 7);
        assert!(turns.iter().all(|turn| (51..=72).contains(&turn.retry)));
        assert!(turns.iter().all(|turn| turn.after < hour));
    }

    #[test]
    fn who_is_late_returns_among_the_others() {
        let retries: Vec<_> = (0..1000).map(|seed| late(WINDOW, seed)).collect();
        assert_eq!((retries.iter().min(), retries.iter().max()), (Some(&1), Some(&31)));
        assert_eq!(late(Duration::ZERO, 7), 1);
    }

    #[test]
    fn every_plan_is_another_but_the_same_seed_makes_the_same() {
        assert_eq!(plan(50, WINDOW, WINDOW, 7), plan(50, WINDOW, WINDOW, 7));
        assert_ne!(plan(50, WINDOW, WINDOW, 7), plan(50, WINDOW, WINDOW, 8));
    }
}
