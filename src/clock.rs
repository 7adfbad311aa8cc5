//! The one door through which time comes.
//!
//! Monotonic time is always tokio's, so a paused runtime stops it; calendar time is the
//! system's, or an epoch plus the monotonic time that has passed. clippy bans every other
//! clock and sleep (`clippy.toml`), so a test that pauses the runtime has paused the program.
#![expect(
    clippy::disallowed_methods,
    reason = "this file is the door that the ban points to"
)]

use std::future::Future;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
pub use tokio::time::Instant;

/// Tells the time and waits for it.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// Calendar time at `started` where it is simulated; `None` asks the system.
    epoch: Option<Timestamp>,
    started: Instant,
    /// Milliseconds by which the calendar was set since, where somebody may set it.
    set: Option<&'static AtomicI64>,
}

/// A wait that ended because its time was up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("time ran out")]
pub struct Elapsed;

impl Clock {
    /// The machine's own clock.
    pub fn system() -> Self {
        Self {
            epoch: None,
            started: Instant::now(),
            set: None,
        }
    }

    /// A clock whose calendar starts at `epoch` and moves with (possibly paused) tokio time.
    pub fn simulated(epoch: Timestamp) -> Self {
        Self {
            epoch: Some(epoch),
            started: Instant::now(),
            set: None,
        }
    }

    /// A simulated clock whose calendar can be [`set`](Self::set), as machines' are by people and
    /// by the network. It takes a few bytes for ever, since clocks are copied freely.
    pub fn adjustable(epoch: Timestamp) -> Self {
        Self {
            set: Some(Box::leak(Box::default())),
            ..Self::simulated(epoch)
        }
    }

    /// Sets the calendar of an adjustable clock on, or back; monotonic time goes on as before.
    pub fn set(&self, by: SignedDuration) {
        if let Some(set) = self.set {
            let by = i64::try_from(by.as_millis()).unwrap_or_default();
            set.fetch_add(by, Ordering::Relaxed);
        }
    }

    /// Monotonic time, for measuring and waiting.
    pub fn now(&self) -> Instant {
        Instant::now()
    }

    /// Calendar time, for people and for what APIs ask.
    pub fn calendar(&self) -> Timestamp {
        match self.epoch {
            None => Timestamp::now(),
            Some(epoch) => {
                let set = self.set.map_or(0, |set| set.load(Ordering::Relaxed));
                let passed = SignedDuration::try_from(self.started.elapsed()).unwrap_or_default();
                epoch
                    .checked_add(passed + SignedDuration::from_millis(set))
                    .unwrap_or(Timestamp::MAX)
            }
        }
    }

    /// The calendar time at which the monotonic clock shows `at`.
    pub fn calendar_at(&self, at: Instant) -> Timestamp {
        let now = self.now();
        let ahead = SignedDuration::try_from(at.saturating_duration_since(now)).unwrap_or_default();
        let behind =
            SignedDuration::try_from(now.saturating_duration_since(at)).unwrap_or_default();
        self.calendar()
            .checked_add(ahead - behind)
            .unwrap_or(Timestamp::MAX)
    }

    /// Time since the machine was started, sleep included: the same for all processes, and not
    /// moved when the clock is set. Simulated, it goes on from a day.
    pub fn since_boot(&self) -> Duration {
        if self.epoch.is_some() {
            return Duration::from_hours(24) + self.started.elapsed();
        }
        duration(rustix::time::clock_gettime(rustix::time::ClockId::Boottime))
    }

    /// Time since the machine was started that it was awake: `CLOCK_MONOTONIC`, which other processes
    /// compare with theirs.
    pub fn awake(&self) -> Duration {
        if self.epoch.is_some() {
            return self.since_boot();
        }
        duration(rustix::time::clock_gettime(
            rustix::time::ClockId::Monotonic,
        ))
    }

    /// Waits until `at`; an instant in the past returns at once.
    pub async fn sleep_until(&self, at: Instant) {
        tokio::time::sleep_until(at).await;
    }

    /// Runs `work`, but not past `at`.
    pub async fn timeout_at<F: Future>(&self, at: Instant, work: F) -> Result<F::Output, Elapsed> {
        tokio::time::timeout_at(at, work).await.map_err(|_| Elapsed)
    }

    /// Runs `work` for at most `limit`.
    pub async fn timeout<F: Future>(&self, limit: Duration, work: F) -> Result<F::Output, Elapsed> {
        tokio::time::timeout(limit, work).await.map_err(|_| Elapsed)
    }
}

fn duration(time: rustix::time::Timespec) -> Duration {
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}
