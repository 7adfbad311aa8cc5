//! `schedule`: its times, its zone, and what becomes of those that cannot be kept.

use std::time::Duration;

use jiff::tz::TimeZone;

use super::dates;
use super::names::Judge;
use crate::plan::cron::Cron;
use crate::plan::schedule::{Missed, Overlap, SchedulePlan};
use crate::spec::schedule::{MissedSpec, OverlapSpec, ScheduleSpec};

/// A longer one would reach into the next night.
const MOST_JITTER: Duration = Duration::from_hours(24);

/// The schedule, or nothing where a mistake was noted.
pub(super) fn schedule(judge: &mut Judge<'_>, spec: &ScheduleSpec) -> Option<SchedulePlan> {
    let cron = match Cron::parse(&spec.cron) {
        Ok(cron) => Some(cron),
        Err((message, hint)) => {
            judge.wrong("bad-cron", &spec.cron.span, message, hint);
            None
        }
    };
    let zone = match &spec.zone {
        None => Some(TimeZone::UTC),
        Some(at) => dates::zone(judge, at),
    };
    let jitter = judge.duration(spec.jitter.as_ref(), Duration::ZERO);
    if let Some(at) = &spec.jitter
        && jitter >= MOST_JITTER
    {
        let message = "`jitter` of a day or more puts a run into the next night";
        let hint = "minutes are usual: `jitter: 10min`";
        judge.wrong("bad-jitter", &at.span, message, hint);
    }
    let deadline = judge.duration(spec.deadline.as_ref(), Duration::ZERO);
    Some(SchedulePlan {
        cron: cron?,
        zone: zone?,
        missed: match spec.missed {
            None | Some(MissedSpec::Once) => Missed::Once,
            Some(MissedSpec::All) => Missed::All,
            Some(MissedSpec::Skip) => Missed::Skip,
        },
        overlap: match spec.overlap {
            None | Some(OverlapSpec::Skip) => Overlap::Skip,
            Some(OverlapSpec::Queue) => Overlap::Queue,
        },
        jitter,
        deadline: (!deadline.is_zero()).then_some(deadline),
    })
}
