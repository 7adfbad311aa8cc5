//! How a stream asks only for what is new: the checked form of `cursor`.

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, civil};

use super::duration;
use super::path::Path;
use super::position::{Format, Lookback, Position};

/// Where a stream's records say how new they are, and where its window begins and ends.
#[derive(Debug)]
pub struct CursorPlan {
    /// The place in a record; without one, the end of the last window counts.
    pub field: Option<Path>,
    /// The place as written; empty without one.
    pub written: String,
    /// How its values are spelled.
    pub format: Format,
    /// Where a partition begins that has no position yet.
    pub start: Bound,
    /// Where the window ends; none is the start of the run for instants, and no end for the rest.
    pub end: Option<Bound>,
    /// Taken off the position.
    pub lookback: Option<Lookback>,
    /// Whether pages come newest first, so that a page older than the window is the last.
    pub newest_first: bool,
    /// Whose days `start` and `end` are.
    pub zone: TimeZone,
}

/// One side of a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bound {
    /// As written.
    Fixed(Position),
    /// The start of the run, or so long before.
    Now(Duration),
    /// Midnight before the start of the run, or so long before.
    Today(Duration),
}

impl Bound {
    /// Reads `2024-01-31`, `now`, `today - 5d`, or a value that is no time.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(written: &str, format: &Format) -> Result<Self, String> {
        Self::parse_in(written, format, &TimeZone::UTC)
    }

    /// The same, for whom days begin in a zone.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse_in(written: &str, format: &Format, zone: &TimeZone) -> Result<Self, String> {
        let text = written.trim();
        if !format.is_time() {
            let read = format.read(text).filter(|_| !text.is_empty());
            return read
                .map(Self::Fixed)
                .ok_or_else(|| format!("`{text}` is not {}", format.one()));
        }
        let (word, before) = match text.split_once(" -") {
            Some((word, before)) => (word.trim(), duration::parse(before)?),
            None => (text, Duration::ZERO),
        };
        match (word, before.is_zero()) {
            ("now", _) => Ok(Self::Now(before)),
            ("today", _) => Ok(Self::Today(before)),
            // Written as people write, or as the field is spelled.
            (_, true) => day_in(text, zone)
                .or_else(|| Format::Iso.read(text))
                .or_else(|| format.read(text))
                .map(Self::Fixed)
                .ok_or_else(|| {
                    format!("`{text}` is not a date, an instant, `now`, `today` or `today - 5d`")
                }),
            _ => Err(format!(
                "`{word}` takes no `- …`; only `now` and `today` do"
            )),
        }
    }

    /// Where it is in a run that starts at `started`, if days begin in UTC.
    pub fn at(&self, started: Timestamp) -> Position {
        self.at_in(started, &TimeZone::UTC)
    }

    /// Where it is in a run that starts at `started`.
    pub fn at_in(&self, started: Timestamp, zone: &TimeZone) -> Position {
        let back = |at: Timestamp, by: Duration| Position::Instant(at).back(Lookback::Time(by));
        match self {
            Self::Fixed(position) => position.clone(),
            Self::Now(by) => back(started, *by),
            Self::Today(by) => {
                // Whole days are taken off the calendar: some have 23 hours.
                let days = i64::try_from(by.as_secs() / DAY).unwrap_or(i64::MAX);
                let today = started.to_zoned(zone.clone()).date();
                let day = Span::new()
                    .try_days(days)
                    .and_then(|days| today.checked_sub(days))
                    .and_then(|day| day.to_zoned(zone.clone()));
                match day {
                    Ok(day) => back(day.timestamp(), Duration::from_secs(by.as_secs() % DAY)),
                    Err(_) => Position::Instant(Timestamp::MIN),
                }
            }
        }
    }
}

/// Seconds of most days.
const DAY: u64 = 86_400;

/// A day, or a day and a time, without an offset, in a zone of one's own.
fn day_in(text: &str, zone: &TimeZone) -> Option<Position> {
    if *zone == TimeZone::UTC || text.parse::<Timestamp>().is_ok() {
        return None;
    }
    let at = text.parse::<civil::DateTime>().ok()?;
    let at = at.to_zoned(zone.clone()).ok()?;
    Some(Position::Instant(at.timestamp()))
}

impl CursorPlan {
    /// Where the window begins, given what is kept of the last run.
    pub fn from(&self, kept: Option<&Position>, started: Timestamp) -> Position {
        let start = self.start.at_in(started, &self.zone);
        match (kept, self.lookback) {
            (None, _) => start,
            (Some(kept), None) => kept.clone(),
            (Some(kept), Some(lookback)) => kept.back(lookback),
        }
    }

    /// Where the window ends, if it does.
    pub fn to(&self, started: Timestamp) -> Option<Position> {
        match &self.end {
            Some(end) => Some(end.at_in(started, &self.zone)),
            None if self.format.is_time() => Some(Position::Instant(started)),
            None => None,
        }
    }

    /// Where the next run begins: the greatest value seen, but not beyond the window, since what
    /// is written there may not all have been there; and never before what is kept.
    pub fn moved(
        kept: Option<Position>,
        seen: Option<Position>,
        to: Option<&Position>,
    ) -> Option<Position> {
        let seen = match (seen, to) {
            (Some(seen), Some(to)) => Some(seen.min(to.clone())),
            (seen, _) => seen,
        };
        kept.max(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started() -> Timestamp {
        "2026-03-05T04:05:06Z".parse().unwrap()
    }

    #[test]
    fn bounds_are_what_people_write() {
        for (written, at) in [
            ("2024-01-31", "2024-01-31T00:00:00Z"),
            ("2024-01-31T10:00:00+01:00", "2024-01-31T09:00:00Z"),
            ("now", "2026-03-05T04:05:06Z"),
            ("now - 1h", "2026-03-05T03:05:06Z"),
            ("today", "2026-03-05T00:00:00Z"),
            ("today - 5d", "2026-02-28T00:00:00Z"),
            ("1706740200", "2024-01-31T22:30:00Z"),
        ] {
            let bound = Bound::parse(written, &Format::Epoch).unwrap();
            assert_eq!(bound.at(started()).to_string(), at, "{written}");
        }
        for (written, format, problem) in [
            ("yesterday", Format::Iso, "not a date"),
            ("2024-01-31 - 5d", Format::Iso, "takes no"),
            ("today - 5", Format::Iso, "no unit"),
            ("soon", Format::Integer, "a whole number"),
            ("now", Format::Integer, "a whole number"),
            ("", Format::Text, "not text"),
        ] {
            let message = Bound::parse(written, &format).unwrap_err();
            assert!(message.contains(problem), "{written}: {message}");
        }
        let id = Bound::parse("0017", &Format::Integer).unwrap();
        assert_eq!(id.at(started()), Position::Integer(17));
    }

    #[test]
    fn a_cursor_moves_forward_and_not_beyond_its_window() {
        let at = |n| Some(Position::Integer(n));
        let to = Position::Integer(10);
        assert_eq!(CursorPlan::moved(at(3), at(7), Some(&to)), at(7));
        assert_eq!(CursorPlan::moved(at(3), at(70), Some(&to)), at(10));
        assert_eq!(CursorPlan::moved(at(3), at(70), None), at(70));
        assert_eq!(CursorPlan::moved(at(3), at(2), Some(&to)), at(3));
        assert_eq!(CursorPlan::moved(at(3), None, Some(&to)), at(3));
        assert_eq!(CursorPlan::moved(None, None, Some(&to)), None);
    }
}
