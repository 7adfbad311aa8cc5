//! When to look again at what other processes use too: they tell nobody when they are done.
//!
//! A look costs a lock and a read, so it must not come often; and what comes back early or with an
//! answer is lost until somebody looks. Naps are random, so that no process always comes first.

use std::time::Duration;

use crate::clock::Instant;

/// Most time between two looks where it is known how long it takes: some may come back early.
const KNOWN: Duration = Duration::from_millis(250);

/// Most time where only an answer of others makes room: who has not said lately that he waits
/// loses his place ([`super::queue`]).
const UNKNOWN: Duration = Duration::from_millis(50);

/// Least time: timers tick in milliseconds.
const SHORTEST: Duration = Duration::from_millis(2);

/// A nap is this share of the time that the awaited answer has taken so far. It ends half of that
/// too late on average, which is less than a hundredth.
const SHARE: u64 = 64;

/// When to look again for what is free at `until`; or, where that is not known, for the answer to
/// a request that has been out for `age` nanoseconds.
pub(super) fn look_again(now: Instant, until: Option<Instant>, age: u64) -> Instant {
    match until {
        Some(until) => (until + drawn(SHORTEST)).min(now + KNOWN),
        None => now + drawn(nap(age)),
    }
}

fn nap(age: u64) -> Duration {
    Duration::from_nanos(age / SHARE).clamp(SHORTEST, UNKNOWN)
}

/// Between a half and the whole of it.
fn drawn(nap: Duration) -> Duration {
    nap.mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks until an answer that takes so long, and by how much the last is late.
    fn looks(took: Duration) -> (u32, Duration) {
        let (mut at, mut looks) = (Duration::ZERO, 0);
        while at < took {
            at += drawn(nap(u64::try_from(at.as_nanos()).expect("short")));
            looks += 1;
        }
        (looks, at.saturating_sub(took))
    }

    #[test]
    fn an_answer_is_seen_soon_with_few_looks() {
        for (took, most) in [(300, 350), (1000, 450), (10_000, 750), (60_000, 2200)] {
            let took = Duration::from_millis(took);
            let all: Vec<_> = (0..200).map(|_| looks(took)).collect();
            let late: Duration = all.iter().map(|(_, late)| *late).sum();
            assert!(late / 200 < took / 100, "{took:?}: {:?}", late / 200);
            let worst = all.iter().map(|(looks, _)| *looks).max();
            assert!(worst < Some(most), "{took:?}: {worst:?}");
        }
    }
}
