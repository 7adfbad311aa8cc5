//! `expect`: what must hold before a stream is published. All checks are judged, and told together.
//!
//! Those that count are judged here: the fewest records, and the usual number, which is what earlier
//! runs of the same weekday had, since many sources rest at weekends. `inspect` looks at the records
//! themselves. A check that does not hold keeps the old file; a person may release the data all the
//! same (`release`), and then it is only told.

pub(super) mod inspect;
pub(super) mod widening;

use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::ground::standing::{self, SharedState};
use super::stream::Stream;
use crate::event::Fact;
use crate::failure::{Exit, Failure};
use crate::store::history::RunRecord;
use crate::store::state::StateError;

/// So many earlier runs are compared with.
pub(super) const COMPARED: usize = 7;
/// With fewer of the same weekday all days are compared with.
const ENOUGH: usize = 3;

/// The checks of a stream that do not hold.
#[derive(Debug, Default)]
pub(super) struct Checks(Mutex<Vec<(&'static str, String)>>);

impl Stream {
    /// A check does not hold: told now, and held for once all are judged.
    pub(super) fn breaks(
        &self,
        check: &'static str,
        expected: impl Into<String>,
        seen: impl Into<String>,
        message: &str,
    ) {
        let scrub = |text: &str| self.run.secrets.scrub(text);
        let message = scrub(message);
        self.emit(Fact::CheckFailed {
            stream: self.name.clone(),
            check: check.into(),
            expected: scrub(&expected.into()),
            seen: scrub(&seen.into()),
            message: message.clone(),
            released: self.run.options.releases(),
        });
        let mut broken = self.checks.0.lock().unwrap_or_else(PoisonError::into_inner);
        broken.push((check, message));
    }

    /// Holds the stream if a check does not hold and nobody has released it.
    pub(super) fn settle_checks(&self) -> Result<(), Box<Failure>> {
        let broken = self.checks.0.lock().unwrap_or_else(PoisonError::into_inner);
        if broken.is_empty() || self.run.options.releases() {
            return Ok(());
        }
        let (message, causes) = match &broken[..] {
            [(_, only)] => (format!("{}: {only}", self.name), Vec::new()),
            several => {
                let mut names: Vec<&str> = several.iter().map(|(check, _)| *check).collect();
                names.dedup();
                let message = format!(
                    "{}: {} checks do not hold: {}",
                    self.name,
                    several.len(),
                    names.join(", ")
                );
                let causes = several.iter().map(|(_, message)| message.clone());
                (message, causes.collect())
            }
        };
        let hint = if self.run.options.reextracts() {
            "what the run published stays; look at `expect` and `columns`".to_owned()
        } else if self.run.options.leaves_trace() {
            format!(
                "the old file stays; look at the API and at `expect`; if the data are right, `gleaner runs publish {}` publishes them",
                self.run.id
            )
        } else {
            "the old file stays; look at the API, then correct `expect` or `pages`".to_owned()
        };
        Err(Box::new(Failure {
            exit: Exit::Held,
            message,
            causes,
            hint: Some(hint),
        }))
    }

    /// Judges the number of records, repeats under the key left out.
    pub(super) fn judge_number(
        &self,
        records: u64,
        state: Option<&SharedState>,
    ) -> Result<(), Box<Failure>> {
        let expect = &self.plan().expect;
        if self.run.options.limit_records.is_some() {
            return Ok(());
        }
        if let Some(least) = expect.min_records
            && records < least
        {
            self.breaks(
                "min_records",
                format!("at least {least}"),
                records.to_string(),
                &format!("{records} records, but `expect.min_records` wants {least}"),
            );
        }
        let Some(allowed) = expect.max_drop else {
            return Ok(());
        };
        let zone = (self.run.plan.schedule.as_ref()).map_or(TimeZone::UTC, |s| s.zone.clone());
        let weekday = |at: Timestamp| at.to_zoned(zone.clone()).weekday();
        let today = weekday(self.run.started);
        let mut counts: Vec<(Weekday, u64)> = Vec::new();
        let mut alike = 0;
        self.earlier(state, |started, told| {
            if let Some(records) = told["records"].as_u64() {
                let repeats = told["repeats"].as_u64().unwrap_or(0);
                let day = weekday(started);
                counts.push((day, records.saturating_sub(repeats)));
                alike += usize::from(day == today);
            }
            alike < COMPARED
        })?;
        let Some(usual) = Usual::of(&counts, today) else {
            return Ok(());
        };
        let least = usual.median * (1.0 - allowed / 100.0);
        if (records as f64) < least {
            let drop = 100.0 * (1.0 - records as f64 / usual.median);
            let of = usual.of_what();
            self.breaks(
                "max_drop",
                format!("at least {} ({} less {allowed}%)", least.ceil(), usual.median),
                records.to_string(),
                &format!(
                    "{records} records are {drop:.0}% fewer than the usual {}, {of}; `expect.max_drop` allows {allowed}%",
                    usual.median
                ),
            );
        }
        Ok(())
    }

    /// Shows what this stream came to in earlier runs that published it: when each began and what its
    /// row says of the stream, from the latest back, while `wants_more` says so. Windows that were asked
    /// for by hand are no measure.
    pub(super) fn earlier(
        &self,
        state: Option<&SharedState>,
        mut wants_more: impl FnMut(Timestamp, &Value) -> bool,
    ) -> Result<(), Box<Failure>> {
        let Some(state) = standing::lock(state) else {
            return Ok(());
        };
        let look = |run: RunRecord| {
            let asked = |name: &str| run.options.get(name).is_some();
            let is_usual = run.id != self.run.id && !["full", "from", "to"].into_iter().any(asked);
            let mut streams = run.streams.as_array().into_iter().flatten();
            let told = streams.find(|told| {
                told["stream"].as_str() == Some(&*self.name) && told["status"] == "complete"
            });
            match told {
                Some(told) if is_usual && !wants_more(run.started, told) => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        };
        let looked = state.look_back(&self.run.plan.name, look);
        looked.map_err(StateError::into_failure)
    }

    /// What earlier runs that published this stream noted of it under a name; the latest of them, the
    /// latest first.
    pub(super) fn noted<T: DeserializeOwned>(
        &self,
        state: Option<&SharedState>,
        name: &str,
        counts: impl Fn(&T) -> bool,
    ) -> Result<Vec<T>, Box<Failure>> {
        let mut found = Vec::new();
        self.earlier(state, |_, told| {
            let noted = serde_json::from_value(told[name].clone()).ok();
            found.extend(noted.filter(&counts));
            found.len() < COMPARED
        })?;
        Ok(found)
    }
}

/// What is usual.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Usual {
    median: f64,
    runs: usize,
    /// The day that all of them were, if they were chosen by it.
    day: Option<Weekday>,
}

impl Usual {
    /// By what came before, the latest first.
    fn of(counts: &[(Weekday, u64)], today: Weekday) -> Option<Self> {
        let newest = |day: Option<Weekday>| -> Vec<u64> {
            let all = counts.iter();
            let like = all.filter(|(other, _)| day.is_none_or(|day| *other == day));
            like.map(|(_, count)| *count).take(COMPARED).collect()
        };
        let mut day = Some(today);
        let mut chosen = newest(day);
        if chosen.len() < ENOUGH {
            day = None;
            chosen = newest(None);
        }
        chosen.sort_unstable();
        let middle = chosen.len() / 2;
        let upper = *chosen.get(middle)?;
        let median = if chosen.len().is_multiple_of(2) {
            let lower = *chosen.get(middle.checked_sub(1)?)?;
            f64::midpoint(lower as f64, upper as f64)
        } else {
            upper as f64
        };
        Some(Self {
            median,
            runs: chosen.len(),
            day,
        })
    }

    /// `the median of the last 7 Sundays`
    fn of_what(self) -> String {
        match self.day {
            Some(day) => format!("the median of the last {} runs of a {day:?}", self.runs),
            None if self.runs == 1 => "as the run before had".to_owned(),
            None => format!("the median of the last {} runs", self.runs),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Weekday::{Monday, Sunday, Tuesday};

    #[test]
    fn the_usual_is_the_median_of_the_same_day_where_there_are_enough() {
        let counts = |of: &[(Weekday, u64)]| Usual::of(of, Sunday).map(|usual| usual.median);
        assert_eq!(counts(&[]), None);
        assert_eq!(counts(&[(Monday, 7)]), Some(7.0));
        assert_eq!(counts(&[(Monday, 7), (Sunday, 2)]), Some(4.5));
        // Three Sundays are enough, and what is busier on Mondays does not matter.
        let week = [
            (Sunday, 5),
            (Monday, 100),
            (Tuesday, 90),
            (Sunday, 4),
            (Monday, 100),
            (Sunday, 6),
        ];
        assert_eq!(counts(&week), Some(5.0));
        assert_eq!(counts(&week[..5]), Some(90.0));
        // Only the latest count.
        let long: Vec<_> = (0..20)
            .map(|n| (Sunday, if n < 7 { 1 } else { 1000 }))
            .collect();
        assert_eq!(counts(&long), Some(1.0));
        let told = Usual::of(&long, Sunday).map(Usual::of_what);
        assert_eq!(
            told.as_deref(),
            Some("the median of the last 7 runs of a Sunday")
        );
    }
}
