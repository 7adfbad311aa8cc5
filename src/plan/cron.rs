//! Times of a schedule: five fields of cron, and what they mean when clocks are set.
//!
//! The fields are read and matched by the `croner` crate, which this file alone imports. A schedule
//! with fixed times (no `*` and no step among minutes and hours, as Debian's cron tells them apart:
//! cron(8), "Daylight Saving Time") is matched on the plain calendar and put onto the zone's time here:
//! a time that the clock leaps over runs at the first moment after the leap, one that comes twice at
//! the first. So each day has as many runs as times, unless the leap takes several at once: those are one.
//! All others, such as every quarter of an hour, run by the clock as it stands.

use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Span, Timestamp};

/// Five fields of cron.
#[derive(Debug, Clone)]
pub struct Cron {
    pattern: croner::Cron,
    /// Whether minutes and hours are lists of numbers.
    is_fixed: bool,
    written: String,
}

/// Feb 29 on a certain day of the week comes every 28 years, and 40 over most turns of a century: what
/// comes never again in these years comes never.
const LONG_AGO: DateTime = DateTime::constant(2000, 1, 1, 0, 0, 0, 0);

/// What the five fields are, and what stands in them.
const FIELDS: [(&str, &str); 5] = [
    ("minute", "0 to 59"),
    ("hour", "0 to 23"),
    ("day of the month", "1 to 31, or `L` for the last"),
    ("month", "1 to 12, or JAN to DEC"),
    ("day of the week", "0 to 7, or SUN to SAT"),
];

/// The crate's own reading; what it has against a text speaks of itself.
fn pattern(fields: &str) -> Option<croner::Cron> {
    let parser = CronParser::builder()
        .seconds(Seconds::Disallowed)
        .year(Year::Disallowed)
        .build();
    parser.parse(fields).ok()
}

/// Which field is wrong, if it is one alone.
fn wrong_field(fields: &str) -> String {
    let written: Vec<&str> = fields.split_whitespace().collect();
    let wrong = written
        .iter()
        .zip(FIELDS)
        .enumerate()
        .find(|(at, (field, _))| {
            let mut alone = ["*"; FIELDS.len()];
            alone[*at] = field;
            pattern(&alone.join(" ")).is_none()
        });
    wrong.map_or_else(String::new, |(_, (field, (name, range)))| {
        format!(": `{field}` is no {name}, which is {range}, `*`, or lists (`1,2`), ranges (`1-5`) and steps (`*/2`) of them")
    })
}

impl Cron {
    /// Reads `30 2 * * *`, `@daily` and their like.
    ///
    /// # Errors
    /// What is wrong, and what to write.
    pub fn parse(written: &str) -> Result<Self, (String, &'static str)> {
        const FORM: &str = "write minute, hour, day of the month, month and day of the week: \
                            `30 2 * * *` is every night at 02:30; `@hourly`, `@daily`, `@weekly`, \
                            `@monthly` and `@yearly` are known too";
        let trimmed = written.trim();
        let fields = match trimmed.to_ascii_lowercase().as_str() {
            "@midnight" => "@daily",
            "@annually" => "@yearly",
            _ => trimmed,
        };
        if let Some(word) = fields.strip_prefix('@') {
            let known = ["hourly", "daily", "weekly", "monthly", "yearly"];
            if !known.contains(&word.to_ascii_lowercase().as_str()) {
                return Err((format!("`{trimmed}` is not a time of cron"), FORM));
            }
        } else {
            let count = fields.split_whitespace().count();
            if count != 5 {
                let message = format!("`{trimmed}` has {count} fields; cron has five");
                return Err((message, FORM));
            }
        }
        let pattern = pattern(fields).ok_or_else(|| {
            let why = wrong_field(fields);
            (format!("`{trimmed}` is not a time of cron{why}"), FORM)
        })?;
        let is_fixed = match fields.to_ascii_lowercase().as_str() {
            "@hourly" => false,
            word if word.starts_with('@') => true,
            _ => {
                let mut of_the_day = fields.split_whitespace().take(2);
                of_the_day.all(|field| !field.contains(['*', '/']))
            }
        };
        let cron = Self {
            pattern,
            is_fixed,
            written: trimmed.to_owned(),
        };
        if cron.on_calendar(LONG_AGO, true).is_none() {
            return Err((
                format!("`{trimmed}` never comes"),
                "no month has such a day",
            ));
        }
        Ok(cron)
    }

    /// As it was written.
    pub fn written(&self) -> &str {
        &self.written
    }

    /// The first time after `after`, on the clock of `zone`; `None` at the calendar's end.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        if !self.is_fixed {
            let after = after.to_zoned(zone.clone());
            let found = self.pattern.find_next_occurrence(&after, false).ok()?;
            return Some(found.timestamp());
        }
        // Earlier times of the calendar have earlier moments, so nothing before what the clock shows can
        // come. Where it was set back, it shows times again that have had theirs.
        let mut civil = zone.to_datetime(after);
        loop {
            civil = self.on_calendar(civil, false)?;
            match moment(civil, zone) {
                Some(found) if found > after => return Some(found),
                _ => {}
            }
        }
    }

    /// The first time on the plain calendar, where every day has all its hours.
    fn on_calendar(&self, from: DateTime, inclusive: bool) -> Option<DateTime> {
        self.pattern.find_next_occurrence(&from, inclusive).ok()
    }
}

/// When a clock of `zone` shows `civil`: first, if it does so twice. If it leaps over it, the first
/// moment after; where that is another day, the last minute before, so that each day keeps its run. A
/// day that the calendar leaps over as a whole has none.
fn moment(civil: DateTime, zone: &TimeZone) -> Option<Timestamp> {
    match zone.to_ambiguous_timestamp(civil).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(civil).ok(),
        AmbiguousOffset::Fold { before, .. } => before.to_timestamp(civil).ok(),
        AmbiguousOffset::Gap { before, after } => {
            // Read with the later offset, what is leapt over lies before the leap; with the earlier, behind.
            let early = after.to_timestamp(civil).ok()?;
            let leap = zone
                .following(early)
                .find(|change| change.offset() == after)?
                .timestamp();
            debug_assert!(before.to_timestamp(civil).is_ok_and(|late| leap <= late));
            let last = leap.checked_sub(Span::new().minutes(1)).ok()?;
            [leap, last]
                .into_iter()
                .find(|at| zone.to_datetime(*at).date() == civil.date())
        }
    }
}
