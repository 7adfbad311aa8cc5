//! When a pipeline runs by itself: checked.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::cron::Cron;

/// When `gleaner schedule` runs the pipeline.
#[derive(Debug, Clone)]
pub struct SchedulePlan {
    /// The times, on the clock of `zone`.
    pub cron: Cron,
    /// The time zone.
    pub zone: TimeZone,
    /// What becomes of times that passed while nobody was there.
    pub missed: Missed,
    /// What becomes of a time that comes while the run of an earlier one goes on.
    pub overlap: Overlap,
    /// A run starts up to so much after its time; below a day.
    pub jitter: Duration,
    /// How long a run may take before it is ended resumably.
    pub deadline: Option<Duration>,
}

/// What becomes of times that passed while nobody was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missed {
    /// One run for all of them.
    Once,
    /// One run for each, in order.
    All,
    /// None.
    Skip,
}

/// What becomes of a time that comes while the run of an earlier one goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// It is left out.
    Skip,
    /// It runs when the other one is done; one at most waits.
    Queue,
}

impl SchedulePlan {
    /// The first time after `after`; `None` where there is none before the calendar's end.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        self.cron.next(after, &self.zone)
    }

    /// The name of the zone, `Europe/Berlin`.
    pub fn zone_name(&self) -> &str {
        self.zone.iana_name().unwrap_or("UTC")
    }
}
