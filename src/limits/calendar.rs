//! Quotas that follow the calendar: N in a zone's own minute, hour, day or month.
//!
//! A request counts in every window in which it could arrive: one that is under way while the
//! window changes counts in both. The server's clock may differ from ours, so the change is taken
//! to last from a margin before the boundary to a margin after it.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

use super::log::Answer;
use super::moment::{Moment, Now, SECOND};
use crate::plan::limit::CalendarUnit;

/// The current window.
#[derive(Debug, Clone, Copy)]
pub(super) struct Period {
    /// The boundary, by the calendar.
    pub(super) ends: Timestamp,
    /// The boundary, by the clock that cannot be set: both must have passed it.
    pub(super) end: Moment,
    /// Used in this window, unanswered requests included.
    pub(super) used: u64,
    /// What of it may have arrived in the next window already.
    pub(super) both: u64,
}

impl Period {
    /// The window at `now`, of which a new one begins with `out` unanswered and what may have
    /// arrived in either.
    pub(super) fn at<'a>(
        current: &'a mut Option<Self>,
        unit: CalendarUnit,
        zone: &TimeZone,
        now: Now,
        guard: u64,
        out: u64,
    ) -> &'a mut Self {
        let begin = |used: u64, from: Timestamp| {
            let ends = boundary(unit, zone, from);
            Self {
                ends,
                end: now.at.plus(until(now.calendar, ends)),
                used,
                both: 0,
            }
        };
        let period = current.get_or_insert_with(|| begin(out, now.calendar));
        if now.at >= period.end.plus(guard) {
            let behind = until(now.calendar, period.ends);
            if behind > 0 {
                // The clock was set back: the server's window is not over yet.
                period.end = now.at.plus(behind);
            } else {
                *period = begin(out.saturating_add(period.both), now.calendar);
            }
        }
        period
    }

    pub(super) fn ask(&self, capacity: u64, amount: u64, guard: u64) -> Answer {
        if self.used.saturating_add(amount) <= capacity {
            Answer::Now
        } else {
            Answer::NotBefore(self.end.plus(guard))
        }
    }

    pub(super) fn take(&mut self, amount: u64) {
        self.used = self.used.saturating_add(amount);
    }

    /// An answer told the cost.
    pub(super) fn settle(&mut self, (reserved, actual): (u64, u64)) {
        self.used = self.used.saturating_sub(reserved).saturating_add(actual);
    }

    /// A request arrived at `by` at the latest.
    pub(super) fn arrived(&mut self, by: Moment, amount: u64, guard: u64) {
        if by.plus(guard) >= self.end {
            self.both = self.both.saturating_add(amount);
        }
    }

    pub(super) fn is_over(&self, now: Moment) -> bool {
        // A day more, in which the calendar may be set back.
        now.since(self.end) > 24 * 3600 * SECOND
    }
}

fn until(now: Timestamp, then: Timestamp) -> u64 {
    u64::try_from(then.duration_since(now).as_nanos()).unwrap_or(0)
}

/// The first boundary after `now`.
pub(super) fn boundary(unit: CalendarUnit, zone: &TimeZone, now: Timestamp) -> Timestamp {
    let local = now.to_zoned(zone.clone());
    let next = match unit {
        CalendarUnit::Minute | CalendarUnit::Hour => {
            let length = if unit == CalendarUnit::Minute {
                60
            } else {
                3600
            };
            let shown = now.as_second() + i64::from(local.offset().seconds());
            let begun = now.as_second() - shown.rem_euclid(length);
            Timestamp::from_second(begun + length)
        }
        CalendarUnit::Day => local
            .tomorrow()
            .and_then(|day| day.start_of_day())
            .map(|day| day.timestamp()),
        CalendarUnit::Month => local
            .first_of_month()
            .and_then(|day| day.checked_add(1.month()))
            .and_then(|day| day.start_of_day())
            .map(|day| day.timestamp()),
    };
    // Only beyond the year 9999.
    next.unwrap_or_else(|_| {
        let length = SignedDuration::try_from(unit.length()).unwrap_or_default();
        now.checked_add(length).unwrap_or(Timestamp::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    #[test]
    fn boundaries_are_the_zones_own() {
        for (unit, zone, now, expected) in [
            (
                CalendarUnit::Minute,
                "UTC",
                "2025-01-31T23:59:30Z",
                "2025-02-01T00:00:00Z",
            ),
            (
                CalendarUnit::Hour,
                "Asia/Kolkata",
                "2025-01-01T10:10:00Z",
                "2025-01-01T10:30:00Z",
            ),
            (
                CalendarUnit::Day,
                "UTC",
                "2025-01-01T00:00:00Z",
                "2025-01-02T00:00:00Z",
            ),
            // The clocks go forward: this day has 23 hours; and back: 25.
            (
                CalendarUnit::Day,
                "America/New_York",
                "2025-03-09T05:00:00Z",
                "2025-03-10T04:00:00Z",
            ),
            (
                CalendarUnit::Day,
                "America/New_York",
                "2025-11-02T04:00:00Z",
                "2025-11-03T05:00:00Z",
            ),
            (
                CalendarUnit::Month,
                "Europe/Berlin",
                "2025-03-15T12:00:00Z",
                "2025-03-31T22:00:00Z",
            ),
        ] {
            let (now, expected): (Timestamp, Timestamp) =
                (now.parse().unwrap(), expected.parse().unwrap());
            let zone = TimeZone::get(zone).unwrap();
            assert_eq!(boundary(unit, &zone, now), expected, "{unit:?} {now}");
        }
    }

    fn now(seconds: u64, calendar: &str) -> Now {
        Now {
            at: Moment(seconds * S),
            calendar: calendar.parse().unwrap(),
        }
    }

    #[test]
    fn a_request_across_the_boundary_counts_in_both() {
        let zone = TimeZone::UTC;
        let mut current = None;
        let at = |current: &mut Option<Period>, now, out| {
            *Period::at(current, CalendarUnit::Minute, &zone, now, S, out)
        };
        at(&mut current, now(0, "2025-01-01T00:00:50Z"), 0);
        let period = current.as_mut().unwrap();
        period.take(5);
        period.arrived(Moment(5 * S), 2, S);
        period.arrived(Moment(9 * S), 1, S);
        assert_eq!(period.ask(5, 1, S), Answer::NotBefore(Moment(11 * S)));
        assert_eq!(at(&mut current, now(10, "2025-01-01T00:01:00Z"), 2).used, 5);
        // Two are unanswered, one arrived about when the window changed.
        assert_eq!(at(&mut current, now(11, "2025-01-01T00:01:01Z"), 2).used, 3);
    }

    #[test]
    fn a_clock_that_is_set_back_or_forward_gives_nothing_away() {
        let zone = TimeZone::UTC;
        let mut current = None;
        let at = |current: &mut Option<Period>, now| {
            *Period::at(current, CalendarUnit::Minute, &zone, now, S, 0)
        };
        at(&mut current, now(0, "2025-01-01T00:00:50Z"));
        current.as_mut().unwrap().take(5);
        assert_eq!(at(&mut current, now(5, "2025-01-01T01:00:55Z")).used, 5);
        let back = at(&mut current, now(11, "2025-01-01T00:00:01Z"));
        assert_eq!((back.used, back.end), (5, Moment(70 * S)));
        assert_eq!(at(&mut current, now(71, "2025-01-01T00:01:01Z")).used, 0);
    }
}
