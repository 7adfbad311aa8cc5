//! Spacing and buckets: the cell-rate algorithm (GCRA) of the `governor` crate.
//!
//! Only the algorithm is used; its waiting is not (random order, ignores a paused clock). Its
//! state is one number, the theoretical arrival time of the next call, and lives with the rest of
//! a budget: a check gives the number as it would be after the call, and the caller keeps it only
//! if every limit agrees.

use std::cell::Cell;
use std::num::NonZeroU32;
use std::ops::Add;
use std::time::Duration;

use governor::clock::{self, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{NotKeyed, StateStore};
use governor::{Quota, RateLimiter};

use super::log::Answer;
use super::moment::Moment;

const CENTURIES: u64 = u64::MAX / 4;

/// A pace: so many cells at once, then one per period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    /// Nanoseconds from one cell to the next, rounded up: governor's own constructors round down,
    /// and three cells of 333,333,333 ns are less than a second.
    pub(super) period: u64,
    /// Cells that may go at once.
    pub(super) burst: u64,
}

impl Pace {
    /// A pace of `cells` per `window`.
    pub(super) fn new(cells: u64, window: u64, burst: u64) -> Self {
        let period = window.div_ceil(cells.max(1)).max(1);
        // A burst that takes centuries to fill may as well be smaller, and must not overflow.
        let most = (CENTURIES / period).min(u64::from(u32::MAX)).max(1);
        Self {
            period,
            burst: burst.clamp(1, most),
        }
    }

    fn span(self, cells: u64) -> u64 {
        self.period.saturating_mul(cells)
    }

    /// Whether `cells` may go at `now`; the new state if so. More than the burst may go only from
    /// a pace that was idle for so much longer.
    pub(super) fn check(self, tat: Moment, now: Moment, cells: u64) -> Result<Moment, Answer> {
        let at_once = cells.min(self.burst);
        let above = self.span(cells - at_once);
        let Some(count) = u32::try_from(at_once).ok().and_then(NonZeroU32::new) else {
            return Ok(tat);
        };
        let burst = u32::try_from(self.burst).unwrap_or(u32::MAX);
        let quota = Quota::with_period(Duration::from_nanos(self.period))
            .zip(NonZeroU32::new(burst))
            .map(|(quota, burst)| quota.allow_burst(burst));
        let Some(quota) = quota else {
            return Ok(tat);
        };
        let state = State(Cell::new(tat.plus(above).0));
        let limiter: RateLimiter<NotKeyed, State, Reading, NoOpMiddleware<Moment>> =
            RateLimiter::new(quota, state, Reading(Cell::new(Moment(0))));
        limiter.clock().0.set(now);
        match limiter.check_n(count) {
            Ok(Ok(())) => Ok(Moment(limiter.into_state_store().0.get()).plus(above)),
            Ok(Err(refused)) => Err(Answer::NotBefore(refused.earliest_possible())),
            // Not reached: `count` is at most the burst.
            Err(_) => Ok(tat),
        }
    }

    /// Charges `cells` at `now` without asking.
    pub(super) fn charge(self, tat: Moment, now: Moment, cells: u64) -> Moment {
        tat.max(now).plus(self.span(cells))
    }

    /// Gives back `cells` that were charged and not needed.
    pub(super) fn refund(self, tat: Moment, cells: u64) -> Moment {
        Moment(tat.0.saturating_sub(self.span(cells)))
    }

    /// The state that allows one cell at `until` and the next a period later.
    pub(super) fn drained(self, tat: Moment, until: Moment) -> Moment {
        tat.max(until.plus(self.span(self.burst - 1)))
    }
}

/// The one number, for the length of one check.
#[derive(Debug)]
struct State(Cell<u64>);

impl StateStore for State {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _: &NotKeyed, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let (outcome, next) = decide(Some(self.0.get().into()))?;
        self.0.set(next.into());
        Ok(outcome)
    }
}

/// governor's clock: the one moment that a decision is made at.
#[derive(Debug)]
struct Reading(Cell<Moment>);

impl clock::Clock for Reading {
    type Instant = Moment;

    fn now(&self) -> Moment {
        self.0.get()
    }
}

impl Add<Nanos> for Moment {
    type Output = Self;

    fn add(self, by: Nanos) -> Self {
        self.plus(by.into())
    }
}

impl Reference for Moment {
    fn duration_since(&self, earlier: Self) -> Nanos {
        self.since(earlier).into()
    }

    fn saturating_sub(&self, by: Nanos) -> Self {
        Self(self.0.saturating_sub(by.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    #[test]
    fn periods_round_up() {
        for (cells, window) in [(3, S), (7, S), (80, 60 * S), (4_000_000_000, S)] {
            assert!(Pace::new(cells, window, 1).period * cells >= window);
        }
    }

    #[test]
    fn a_burst_then_the_pace() {
        let pace = Pace::new(10, S, 2);
        let now = Moment(7 * S);
        let once = pace.check(Moment(0), now, 1).unwrap();
        let twice = pace.check(once, now, 1).unwrap();
        let next = now.plus(S / 10);
        assert_eq!(pace.check(twice, now, 1), Err(Answer::NotBefore(next)));
        assert!(pace.check(twice, next, 1).is_ok());
        assert_eq!(pace.check(Moment(0), now, 2), Ok(twice));
        assert_eq!(pace.refund(twice, 1), once);
    }

    #[test]
    fn more_than_the_burst_waits_for_a_longer_rest() {
        let pace = Pace::new(10, S, 2);
        let now = Moment(7 * S);
        // Five of a burst of two: idle for three periods first.
        let busy = now;
        let from = now.plus(3 * S / 10);
        assert_eq!(pace.check(busy, now, 5), Err(Answer::NotBefore(from)));
        let after = pace.check(busy, from, 5).unwrap();
        assert_eq!(after, from.plus(5 * S / 10));
    }

    #[test]
    fn drained_cells_restart_evenly() {
        let pace = Pace::new(100, S, 10);
        let (now, until) = (Moment(S), Moment(30 * S));
        let tat = pace.drained(Moment(0), until);
        assert_eq!(pace.check(tat, now, 1), Err(Answer::NotBefore(until)));
        let tat = pace.check(tat, until, 1).unwrap();
        let next = until.plus(S / 100);
        assert_eq!(pace.check(tat, until, 1), Err(Answer::NotBefore(next)));
    }

    #[test]
    fn extremes_do_not_overflow() {
        const CENTURY: u64 = 100 * 365 * 24 * 3600 * S;
        for pace in [
            Pace::new(1, CENTURY, u64::MAX),
            Pace::new(u64::MAX, 1, u64::MAX),
        ] {
            let tat = pace.drained(Moment(0), Moment(CENTURY));
            assert!(pace.check(tat, Moment(5), 1).is_err());
            assert!(pace.check(Moment(0), Moment(5), pace.burst).is_ok());
        }
        let pace = Pace::new(1, CENTURY, 1);
        assert_eq!(
            pace.charge(Moment(1), Moment(1), u64::MAX),
            Moment(u64::MAX)
        );
    }
}
