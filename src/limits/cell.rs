//! Spacing inside a window: the cell-rate algorithm (GCRA) of the `governor` crate.
//!
//! It is added to the log of permits, never instead of it: a cell of burst B lets B + rate x W
//! calls into a window. Only the algorithm is used; its waiting is not (random order, ignores a
//! paused clock). A check runs on a staged value, which is kept only if every limit agrees.

use std::cell::Cell;
use std::num::NonZeroU32;
use std::ops::Add;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use governor::clock::{self, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{NotKeyed, StateStore};
use governor::{Quota, RateLimiter};

use crate::clock::Instant;
use crate::plan::limit::{LimitPlan, Spacing};

use super::log::{Answer, LONGEST};

/// Timers tick in milliseconds and wake late; with this much time's worth of calls at once, what
/// a late wake-up lost is made up for and the declared rate is reached.
const LATENESS: Duration = Duration::from_millis(20);

/// The longest window that is spaced unless the file says otherwise: at most a minute is then
/// lost by a short job, while a bigger one would have used the window up anyway.
const SHORT: Duration = Duration::from_mins(1);

/// Spaces the calls of one limit.
#[derive(Debug)]
pub(super) struct Spacer {
    limiter: RateLimiter<NotKeyed, Staged, Reading, NoOpMiddleware<Moment>>,
    staged: Staged,
    start: Instant,
    /// How far the cell may run ahead of the even pace.
    tolerance: Duration,
}

impl Spacer {
    /// The spacing of a limit; `None` where the whole window may be used at once, because a log
    /// of N permits never lets through what a cell of burst N would hold back.
    pub(super) fn new(plan: &LimitPlan, now: Instant) -> Option<Self> {
        let burst = burst(plan);
        if burst >= plan.calls {
            return None;
        }
        let period = period(plan);
        let quota = Quota::with_period(period)?.allow_burst(burst);
        let staged = Staged::default();
        Some(Self {
            limiter: RateLimiter::new(quota, staged.clone(), Reading(Cell::new(Moment(now)))),
            staged,
            start: now,
            tolerance: period * (burst.get() - 1),
        })
    }

    /// Whether the pace allows a call at `now`. Changes nothing until [`Spacer::keep`].
    pub(super) fn ask(&self, now: Instant) -> Answer {
        self.limiter.clock().0.set(Moment(now));
        match self.limiter.check() {
            Ok(()) => Answer::Now,
            Err(refused) => Answer::NotBefore(refused.earliest_possible().0),
        }
    }

    /// Keeps what the last successful [`Spacer::ask`] staged.
    pub(super) fn keep(&self) {
        self.staged.keep();
    }

    /// Uses the burst up until `until`, where one call may go and the next a period later.
    pub(super) fn drain(&self, now: Instant, until: Instant) {
        let until = until.min(now + LONGEST);
        let tat = nanos(until.saturating_duration_since(self.start) + self.tolerance);
        self.staged.0.kept.fetch_max(tat, Relaxed);
    }
}

/// How many calls may go at once.
fn burst(plan: &LimitPlan) -> NonZeroU32 {
    let calls = plan.calls;
    let late = (u128::from(calls.get()) * LATENESS.as_nanos())
        .div_ceil(plan.window.as_nanos().max(1))
        .max(1);
    let late = u32::try_from(late).unwrap_or(u32::MAX);
    let burst = match plan.spacing {
        // Short windows: a tenth of the window at once makes small jobs quick, and the rest
        // comes evenly, so that a server which counts in smaller steps is not hit by it all.
        // At least two: a page and the next should not wait for each other.
        Spacing::Usual if plan.window <= SHORT => late.max(2).max(calls.get() / 10),
        // Long windows: a job of 30 calls under 5000/h should take seconds, not 20 minutes.
        Spacing::Usual | Spacing::Burst => calls.get(),
        Spacing::Even => late,
    };
    NonZeroU32::new(burst).map_or(calls, |burst| burst.min(calls))
}

/// Time between two calls at the even pace, rounded up: governor's own constructors round down,
/// and three cells of 333,333,333 ns are less than a second.
fn period(plan: &LimitPlan) -> Duration {
    let window = u128::from(nanos(plan.window.min(LONGEST)));
    let period = window.div_ceil(u128::from(plan.calls.get())).max(1);
    Duration::from_nanos(u64::try_from(period).unwrap_or(u64::MAX))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The theoretical arrival time of the next call, in nanoseconds since the start: as kept, and
/// as it would be after the call that is being considered. Atomic only because governor owns
/// its store and gives no way back to it; the lock around all limits orders the accesses.
#[derive(Debug, Default)]
struct Values {
    kept: AtomicU64,
    staged: AtomicU64,
}

#[derive(Debug, Clone, Default)]
struct Staged(Arc<Values>);

impl Staged {
    fn keep(&self) {
        let value = self.0.staged.load(Relaxed);
        self.0.kept.store(value, Relaxed);
    }
}

impl StateStore for Staged {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _: &NotKeyed, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let (outcome, next) = decide(Some(self.0.kept.load(Relaxed).into()))?;
        self.0.staged.store(next.into(), Relaxed);
        Ok(outcome)
    }
}

/// governor's clock: the one reading of [`crate::clock::Clock`] that a decision is made at, so
/// that all limits judge the same instant.
#[derive(Debug)]
struct Reading(Cell<Moment>);

impl clock::Clock for Reading {
    type Instant = Moment;

    fn now(&self) -> Moment {
        self.0.get()
    }
}

/// Our monotonic instant, as governor reckons with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Moment(Instant);

impl Add<Nanos> for Moment {
    type Output = Self;

    fn add(self, by: Nanos) -> Self {
        Self(self.0.checked_add(by.into()).unwrap_or(self.0))
    }
}

impl Reference for Moment {
    fn duration_since(&self, earlier: Self) -> Nanos {
        nanos(self.0.saturating_duration_since(earlier.0)).into()
    }

    fn saturating_sub(&self, by: Nanos) -> Self {
        Self(self.0.checked_sub(by.into()).unwrap_or(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::limits::tests::plan;

    const SEC: Duration = Duration::from_secs(1);

    #[test]
    fn bursts() {
        let cases = [
            // calls, window in seconds, spacing, burst
            (1, 3, Spacing::Usual, 1),
            (2, 1, Spacing::Usual, 2),
            (10, 1, Spacing::Usual, 2),
            (80, 60, Spacing::Usual, 8),
            (60, 61, Spacing::Usual, 60),
            (5000, 3600, Spacing::Usual, 5000),
            (10, 1, Spacing::Even, 1),
            (1000, 1, Spacing::Even, 20),
            (1020, 1, Spacing::Even, 21),
            (10, 1, Spacing::Burst, 10),
        ];
        for (calls, secs, spacing, expected) in cases {
            let plan = plan(calls, SEC * secs, spacing);
            assert_eq!(burst(&plan).get(), expected, "{plan} {spacing:?}");
        }
    }

    #[test]
    fn periods_round_up() {
        for (calls, window) in [(3, SEC), (7, SEC), (80, SEC * 60), (4_000_000_000, SEC)] {
            let plan = plan(calls, window, Spacing::Even);
            assert!(period(&plan) * calls >= window, "{plan}");
        }
    }

    #[test]
    fn only_kept_values_count() {
        let now = Clock::system().now();
        let spacer = Spacer::new(&plan(10, SEC, Spacing::Usual), now).unwrap();
        for _ in 0..5 {
            assert_eq!(spacer.ask(now), Answer::Now);
        }
        spacer.keep();
        assert_eq!(spacer.ask(now), Answer::Now);
        spacer.keep();
        let next = now + SEC / 10;
        assert_eq!(spacer.ask(now), Answer::NotBefore(next));
        assert_eq!(spacer.ask(next), Answer::Now);
    }

    #[test]
    fn drained_cells_restart_evenly() {
        let now = Clock::system().now();
        let spacer = Spacer::new(&plan(100, SEC, Spacing::Usual), now).unwrap();
        let until = now + SEC * 30;
        spacer.drain(now, until);
        assert_eq!(spacer.ask(now + SEC), Answer::NotBefore(until));
        assert_eq!(spacer.ask(until), Answer::Now);
        spacer.keep();
        assert_eq!(spacer.ask(until), Answer::NotBefore(until + SEC / 100));
    }

    #[test]
    fn windows_used_at_once_need_no_cell() {
        let now = Clock::system().now();
        assert!(Spacer::new(&plan(5000, SEC * 3600, Spacing::Usual), now).is_none());
        assert!(Spacer::new(&plan(1, SEC * 3, Spacing::Even), now).is_none());
    }

    #[test]
    fn extremes_do_not_overflow() {
        let now = Clock::system().now();
        let spacer = Spacer::new(&plan(u32::MAX, Duration::MAX, Spacing::Even), now).unwrap();
        assert_eq!(spacer.ask(now), Answer::Now);
        spacer.keep();
        assert!(matches!(spacer.ask(now), Answer::NotBefore(_)));
        spacer.drain(now, now + LONGEST);
        assert!(matches!(spacer.ask(now), Answer::NotBefore(_)));
        assert!(Spacer::new(&plan(7, Duration::ZERO, Spacing::Usual), now).is_none());
    }
}
