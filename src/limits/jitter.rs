//! J: by how much the network's delays differ, as far as round trips show it.
//!
//! A request that was answered about as fast as any other cannot have arrived much later than
//! others do, so its permit may count from when it was sent. Which round trips are "about as
//! fast" is learnt; until enough are known, only receipts count.

use std::collections::VecDeque;

use super::moment::Moment;

const MS: u64 = 1_000_000;

/// The least J: what a quiet network and the machine's own timers need.
pub(super) const LEAST: u64 = 20 * MS;

/// How long after it was given up a request may still reach the server: a time-out or a reset
/// says nothing about bytes that are on their way.
pub(super) const ABANDONED: u64 = 1000 * MS;

/// Round trips that are remembered.
const RECENT: usize = 1000;

/// Round trips before any of them is believed: the extremes of fewer say too little.
const ENOUGH: usize = 100;

/// Round trips between two looks at all of them.
const LOOK: usize = 16;

/// What recent round trips tell.
#[derive(Debug, Default)]
pub(super) struct Jitter {
    recent: VecDeque<u64>,
    since_look: usize,
    shortest: u64,
    spread: u64,
}

impl Jitter {
    /// Hears of one more round trip.
    pub(super) fn learn(&mut self, trip: u64) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(trip);
        self.since_look += 1;
        if trip < self.shortest || self.since_look >= LOOK {
            self.look();
        }
    }

    /// p99.9 minus the shortest, and a quarter more: a sample never holds its extremes.
    fn look(&mut self) {
        self.since_look = 0;
        let (mut shortest, mut longest, mut second) = (u64::MAX, 0, 0);
        for &trip in &self.recent {
            shortest = shortest.min(trip);
            if trip > longest {
                (longest, second) = (trip, longest);
            } else if trip > second {
                second = trip;
            }
        }
        let high = if self.recent.len() == RECENT {
            second
        } else {
            longest
        };
        self.shortest = shortest;
        let spread = high.saturating_sub(shortest);
        self.spread = spread.saturating_add(spread / 4);
    }

    /// J, in nanoseconds.
    pub(super) fn margin(&self) -> u64 {
        self.spread.max(LEAST)
    }

    /// Whether an answer after `trip` shows that the request was not held up by more than J.
    pub(super) fn on_time(&self, trip: u64) -> bool {
        self.is_known() && trip <= self.shortest.saturating_add(self.margin())
    }

    /// Whether enough round trips are known.
    pub(super) fn is_known(&self) -> bool {
        self.recent.len() >= ENOUGH
    }

    /// How long an abandoned request may still be on its way.
    pub(super) fn abandoned(&self) -> u64 {
        self.margin().max(ABANDONED)
    }

    /// Whether a request sent at `sent` and unanswered at `now` may be held up by more than J.
    pub(super) fn overdue(&self, sent: Moment, now: Moment) -> bool {
        !self.on_time(now.since(sent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_round_trips_are_not_believed() {
        let mut jitter = Jitter::default();
        for _ in 0..ENOUGH - 1 {
            jitter.learn(50 * MS);
            assert!(!jitter.on_time(50 * MS));
        }
        jitter.learn(50 * MS);
        assert!(jitter.on_time(70 * MS) && !jitter.on_time(71 * MS));
        assert_eq!(jitter.margin(), LEAST);
    }

    #[test]
    fn one_in_a_thousand_is_left_out() {
        let mut jitter = Jitter::default();
        for i in 0..RECENT as u64 {
            jitter.learn((50 + i % 41) * MS);
        }
        jitter.look();
        assert_eq!(jitter.margin(), 50 * MS);
        jitter.learn(3000 * MS);
        jitter.look();
        assert_eq!(jitter.margin(), 50 * MS);
        jitter.learn(2000 * MS);
        jitter.look();
        assert_eq!(jitter.margin(), (2000 - 50) * MS * 5 / 4);
    }
}
