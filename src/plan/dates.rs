//! `for: { day: { dates: 1d } }`: time cut into windows on a fixed grid.
//!
//! The grid does not depend on when a run starts: days are counted from a Monday, months and years
//! from 1970, in a time zone. So the same window begins at the same moment in every run.

use std::fmt;

use jiff::civil::{self, Date};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

use super::cursor::Bound;
use super::language::Template;
use super::window::Window;

/// Windows of time that a variable runs over.
#[derive(Debug)]
pub struct DatesPlan {
    /// Where windows begin.
    pub grid: Grid,
    /// Where the first one begins; none is the stream's `cursor.from`.
    pub from: Option<Edge>,
    /// Where the last one ends; none is the stream's `cursor.to`, or the start of the run.
    pub to: Option<Edge>,
}

/// One side of all windows.
#[derive(Debug)]
pub enum Edge {
    /// As written.
    Bound(Bound),
    /// A template of what may be written.
    Template(Template),
}

/// Where windows begin.
#[derive(Debug, Clone)]
pub struct Grid {
    unit: Unit,
    count: i32,
    /// Whose days they are.
    pub zone: TimeZone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// Counted from midnight, so that they divide a day.
    Hours,
    /// Counted from a Monday.
    Days,
    /// Counted from a January.
    Months,
}

/// A Monday: windows of seven days are the weeks of ISO 8601.
const FIRST_DAY: Date = civil::date(1970, 1, 5);

impl Grid {
    /// Reads `1d`, `7d`, `2w`, `1mo`, `1y` or `6h`.
    ///
    /// # Errors
    /// What is wrong with it, and a hint.
    pub fn parse(written: &str, zone: TimeZone) -> Result<Self, (String, &'static str)> {
        let text = written.trim();
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let (unit, each) = match unit.trim() {
            "h" => (Unit::Hours, 1),
            "d" => (Unit::Days, 1),
            "w" => (Unit::Days, 7),
            "mo" => (Unit::Months, 1),
            "y" => (Unit::Months, 12),
            _ => {
                let hint = "write a number and a unit, as in `1d`, `7d`, `1mo` (h d w mo y)";
                return Err((format!("`{text}` is no length of windows"), hint));
            }
        };
        let count = number
            .parse::<i32>()
            .ok()
            .filter(|n| (1..=10_000).contains(n));
        let Some(count) = count.and_then(|count| count.checked_mul(each)) else {
            let hint = "write a number from 1 to 10000";
            return Err((format!("`{text}` is no length of windows"), hint));
        };
        if unit == Unit::Hours && 24 % count != 0 {
            let hint = "write 1h, 2h, 3h, 4h, 6h, 8h, 12h or 1d";
            return Err((format!("`{text}` does not divide a day"), hint));
        }
        Ok(Self { unit, count, zone })
    }

    /// The windows from `from` to `to`: the first begins on the grid, but not before `fixed` (or
    /// `from`, if that is earlier), which is the same in every run; the last ends at `to`.
    pub fn windows(&self, from: Timestamp, fixed: Option<Timestamp>, to: Timestamp) -> Windows {
        let on_grid = self.floor(from);
        Windows {
            grid: self.clone(),
            next: match fixed {
                Some(fixed) => on_grid.max(fixed.min(from)),
                None => on_grid,
            },
            to,
        }
    }

    /// The latest beginning of a window at or before a moment.
    fn floor(&self, at: Timestamp) -> Timestamp {
        let zoned = at.to_zoned(self.zone.clone());
        let day = zoned.date();
        let count = i64::from(self.count);
        let begins = match self.unit {
            Unit::Hours => {
                let midnight = self.midnight(day).unwrap_or(at);
                let hours = at.duration_since(midnight).as_hours();
                let back = SignedDuration::from_hours(hours - hours.rem_euclid(count));
                return midnight.checked_add(back).unwrap_or(at).min(at);
            }
            Unit::Days => {
                let days = (day - FIRST_DAY).get_days();
                day.checked_sub(days.rem_euclid(self.count).days()).ok()
            }
            Unit::Months => {
                let months = i64::from(day.year()) * 12 + i64::from(day.month()) - 1;
                month(months - (months - 1970 * 12).rem_euclid(count))
            }
        };
        begins
            .and_then(|day| self.midnight(day))
            .unwrap_or(at)
            .min(at)
    }

    /// Where the window ends that begins at or before a moment and holds it; none at the end of the
    /// calendar.
    fn after(&self, at: Timestamp) -> Option<Timestamp> {
        let begins = self.floor(at);
        let day = begins.to_zoned(self.zone.clone()).date();
        match self.unit {
            Unit::Hours => {
                // The last window of a day of 23 or 25 hours is shorter.
                let midnight = self.midnight(day.tomorrow().ok()?)?;
                let hours = SignedDuration::from_hours(i64::from(self.count));
                Some(begins.checked_add(hours).ok()?.min(midnight))
            }
            Unit::Days => self.midnight(day.checked_add(self.count.days()).ok()?),
            Unit::Months => self.midnight(day.checked_add(self.count.months()).ok()?),
        }
    }

    /// The first moment of a day.
    fn midnight(&self, day: Date) -> Option<Timestamp> {
        day.to_zoned(self.zone.clone())
            .ok()
            .map(|at| at.timestamp())
    }
}

/// For what must stay the same while a run is unfinished.
impl fmt::Display for Grid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let zone = self.zone.iana_name().unwrap_or("UTC");
        write!(f, "{} {:?} {zone}", self.count, self.unit)
    }
}

/// The first day of a month, counted from year 0.
fn month(months: i64) -> Option<Date> {
    let year = i16::try_from(months.div_euclid(12)).ok()?;
    let month = i8::try_from(months.rem_euclid(12) + 1).ok()?;
    Date::new(year, month, 1).ok()
}

/// Windows, one after the other.
#[derive(Debug)]
pub struct Windows {
    grid: Grid,
    next: Timestamp,
    to: Timestamp,
}

impl Iterator for Windows {
    type Item = Window;

    fn next(&mut self) -> Option<Window> {
        if self.next >= self.to {
            return None;
        }
        let from = self.next;
        let to = self.grid.after(from).unwrap_or(self.to).min(self.to);
        self.next = to;
        Some(Window::new(from, to, self.grid.zone.clone()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("an instant")
    }

    fn grid(step: &str, zone: &str) -> Grid {
        Grid::parse(step, TimeZone::get(zone).expect("a zone")).expect("a grid")
    }

    fn shown(step: &str, zone: &str, from: &str, to: &str) -> Vec<String> {
        let windows = grid(step, zone).windows(at(from), None, at(to));
        windows.map(|window| window.to_string()).collect()
    }

    #[test]
    fn the_grid_is_the_calendars() {
        for (step, from, to, expected) in [
            (
                "1d",
                "2024-02-28T12:00:00Z",
                "2024-03-01T06:00:00Z",
                vec![
                    "2024-02-28",
                    "2024-02-29",
                    "2024-03-01T00:00:00Z to 2024-03-01T06:00:00Z",
                ],
            ),
            // Weeks begin on a Monday.
            (
                "7d",
                "2024-01-03T00:00:00Z",
                "2024-01-15T00:00:00Z",
                vec!["2024-01-01 to 2024-01-07", "2024-01-08 to 2024-01-14"],
            ),
            (
                "1mo",
                "2024-01-31T00:00:00Z",
                "2024-04-01T00:00:00Z",
                vec![
                    "2024-01-01 to 2024-01-31",
                    "2024-02-01 to 2024-02-29",
                    "2024-03-01 to 2024-03-31",
                ],
            ),
            (
                "3mo",
                "2023-11-30T00:00:00Z",
                "2024-01-02T00:00:00Z",
                vec!["2023-10-01 to 2023-12-31", "2024-01-01"],
            ),
            (
                "1y",
                "2023-07-01T00:00:00Z",
                "2025-01-01T00:00:00Z",
                vec!["2023-01-01 to 2023-12-31", "2024-01-01 to 2024-12-31"],
            ),
            (
                "12h",
                "2024-01-01T13:00:00Z",
                "2024-01-02T00:00:00Z",
                vec!["2024-01-01T12:00:00Z to 2024-01-02T00:00:00Z"],
            ),
        ] {
            assert_eq!(shown(step, "UTC", from, to), expected, "{step}");
            // Just so in each of its multiples that is the same.
            if step == "7d" {
                assert_eq!(shown("1w", "UTC", from, to), expected);
            }
        }
        assert!(shown("1d", "UTC", "2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z").is_empty());
    }

    #[test]
    fn days_of_a_zone_are_its_own() {
        // Berlin springs forward on 2024-03-31 and falls back on 2024-10-27.
        let hours = |from: &str, to: &str, step: &str| -> Vec<i64> {
            let windows = grid(step, "Europe/Berlin").windows(at(from), None, at(to));
            windows
                .map(|w| w.to.duration_since(w.from).as_hours())
                .collect()
        };
        assert_eq!(
            hours("2024-03-30T12:00:00Z", "2024-04-01T22:00:00Z", "1d"),
            [24, 23, 24]
        );
        assert_eq!(
            hours("2024-10-26T12:00:00Z", "2024-10-28T23:00:00Z", "1d"),
            [24, 25, 24]
        );
        assert_eq!(
            hours("2024-03-30T23:00:00Z", "2024-03-31T22:00:00Z", "6h"),
            [6, 6, 6, 5]
        );
        assert_eq!(
            hours("2024-10-26T22:00:00Z", "2024-10-27T23:00:00Z", "12h"),
            [12, 12, 1]
        );
        assert_eq!(
            shown(
                "1d",
                "Europe/Berlin",
                "2024-03-31T12:00:00Z",
                "2024-03-31T22:00:00Z"
            ),
            ["2024-03-31"]
        );
    }

    #[test]
    fn a_fixed_beginning_is_kept_and_a_moving_one_is_put_on_the_grid() {
        let first = |from: &str, fixed: Option<&str>| {
            let mut windows =
                grid("1mo", "UTC").windows(at(from), fixed.map(at), at("2024-12-01T00:00:00Z"));
            windows.next().expect("a window").from.to_string()
        };
        let start = Some("2024-01-15T00:00:00Z");
        assert_eq!(first("2024-01-15T00:00:00Z", start), "2024-01-15T00:00:00Z");
        assert_eq!(first("2024-01-20T00:00:00Z", start), "2024-01-15T00:00:00Z");
        assert_eq!(first("2024-05-20T10:00:00Z", start), "2024-05-01T00:00:00Z");
        assert_eq!(first("2023-05-20T10:00:00Z", start), "2023-05-20T10:00:00Z");
        assert_eq!(first("2024-05-20T10:00:00Z", None), "2024-05-01T00:00:00Z");
    }

    #[test]
    fn lengths_that_are_none_are_refused() {
        for written in [
            "", "d", "0d", "1m", "1.5d", "5h", "25h", "99999d", "-1d", "1 week",
        ] {
            assert!(Grid::parse(written, TimeZone::UTC).is_err(), "{written}");
        }
    }

    proptest! {
        #[test]
        fn windows_cover_time_without_gap_and_begin_alike_in_every_run(
            from in -2_000_000_000_i64..4_000_000_000,
            later in 0_i64..100_000_000,
            length in 1_i64..30_000_000,
            step in prop::sample::select(vec!["6h", "1d", "3d", "7d", "2w", "1mo", "5mo", "1y", "3y"]),
            zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/Sao_Paulo", "Australia/Lord_Howe", "Pacific/Apia"]),
        ) {
            let grid = grid(step, zone);
            let second = |n| Timestamp::from_second(n).expect("an instant");
            let (begin, end) = (second(from), second(from + later + length));
            let all: Vec<Window> = grid.windows(begin, None, end).collect();
            prop_assert!(all[0].from <= begin && all[0].to > begin);
            prop_assert_eq!(all[all.len() - 1].to, end);
            for pair in all.windows(2) {
                prop_assert_eq!(pair[0].to, pair[1].from);
            }
            // A run that begins later finds the same beginnings.
            let again: Vec<Timestamp> = grid
                .windows(second(from + later), None, end)
                .map(|window| window.from)
                .collect();
            let known: Vec<Timestamp> = all.iter().map(|window| window.from).collect();
            prop_assert!(known.ends_with(&again), "{:?} {:?}", known, again);
        }
    }
}
