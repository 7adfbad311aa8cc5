//! Instants as plain numbers, so that a budget is plain data.
//!
//! All arithmetic saturates: a window of a century must not overflow.

use std::time::Duration;

use jiff::Timestamp;

/// In nanoseconds.
pub(super) const SECOND: u64 = 1_000_000_000;

/// Nanoseconds since the limits' own beginning of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Moment(pub(super) u64);

/// The instant that a decision is made at: all limits judge the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Now {
    pub(super) at: Moment,
    /// What the calendar shows, for quotas that follow it.
    pub(super) calendar: Timestamp,
}

impl Moment {
    pub(super) fn plus(self, by: u64) -> Self {
        Self(self.0.saturating_add(by))
    }

    /// Nanoseconds since `earlier`, or none if it is not earlier.
    pub(super) fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A duration as nanoseconds, cut to a century.
pub(super) fn nanos(duration: Duration) -> u64 {
    const LONGEST: u64 = 100 * 365 * 24 * 3600 * SECOND;
    u64::try_from(duration.as_nanos())
        .unwrap_or(LONGEST)
        .min(LONGEST)
}
