//! Durations as people write them, here and in limits: one table of units, ms s min h d mo y.

use std::time::Duration;

/// The units, shortest first, in milliseconds.
const UNITS: [(&str, u64); 7] = [
    ("ms", 1),
    ("s", 1_000),
    ("min", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
    ("mo", 30 * 86_400_000),
    ("y", 365 * 86_400_000),
];

/// What other tools call them.
const ALIASES: [(&str, &[&str]); 7] = [
    (
        "ms",
        &["msec", "msecs", "millis", "millisecond", "milliseconds"],
    ),
    ("s", &["sec", "secs", "second", "seconds"]),
    ("min", &["m", "mins", "minute", "minutes"]),
    ("h", &["hr", "hrs", "hour", "hours"]),
    ("d", &["day", "days"]),
    ("mo", &["mon", "month", "months"]),
    ("y", &["yr", "yrs", "year", "years", "a"]),
];

/// Far above every use, and far below what a clock cannot add to its time.
const LONGEST: Duration = Duration::from_hours(1_000 * 365 * 24);

/// Reads `10s`, `1.5h`, `500ms`, `15min`, `1d`, `1h 30min`; `mo` is 30 days and `y` 365 here.
///
/// # Errors
/// A sentence that names the units.
pub fn parse(written: &str) -> Result<Duration, String> {
    let mut rest = written.trim();
    if rest.is_empty() {
        return Err(format!("a duration is missing; {FORM}"));
    }
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let after = after.trim_start();
        let letters = after
            .find(|c: char| !c.is_alphabetic() && c != 'µ')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        if number.is_empty() {
            return Err(format!("`{}` is not a duration; {FORM}", written.trim()));
        }
        let Ok(count) = number.parse::<f64>() else {
            return Err(format!("`{number}` is not a number; {FORM}"));
        };
        if unit.is_empty() {
            if !after.is_empty() {
                return Err(format!("`{}` is not a duration; {FORM}", written.trim()));
            }
            return Err(format!("`{number}` has no unit; {FORM}"));
        }
        let part = Duration::try_from_secs_f64(count * unit_millis(unit)? as f64 / 1_000.0);
        sum = part
            .ok()
            .and_then(|part| sum.checked_add(part))
            .filter(|sum| *sum <= LONGEST)
            .ok_or_else(|| format!("`{}` is too long; 1000y is the most", written.trim()))?;
        rest = after.trim_start();
    }
    Ok(sum)
}

const FORM: &str = "write a number and a unit, as in `30s`, `1.5h` or `7d` (ms s min h d mo y)";

/// The length of a unit in milliseconds.
fn unit_millis(unit: &str) -> Result<u64, String> {
    if let Some((_, millis)) = UNITS.iter().find(|(name, _)| *name == unit) {
        return Ok(*millis);
    }
    let lower = unit.to_lowercase();
    let meant = UNITS
        .iter()
        .map(|(name, _)| *name)
        .find(|name| *name == lower)
        .or_else(|| {
            ALIASES
                .iter()
                .find(|(_, aliases)| aliases.contains(&lower.as_str()))
                .map(|(name, _)| *name)
        })
        .or_else(|| near(&lower));
    Err(match meant {
        Some(name) => {
            format!("unknown unit `{unit}`; did you mean `{name}`? The units are ms s min h d mo y")
        }
        None if lower.starts_with("week") || lower == "w" || lower == "wk" => {
            format!("unknown unit `{unit}`; a week is written `7d`")
        }
        None => format!("unknown unit `{unit}`; the units are ms s min h d mo y"),
    })
}

/// The unit whose long name is spelled almost like this.
fn near(lower: &str) -> Option<&'static str> {
    ALIASES
        .iter()
        .flat_map(|(name, aliases)| aliases.iter().map(move |alias| (*name, *alias)))
        .filter(|(_, alias)| alias.len() > 3)
        .map(|(name, alias)| (name, strsim::damerau_levenshtein(lower, alias)))
        .filter(|(_, distance)| *distance <= 2)
        .min_by_key(|(_, distance)| *distance)
        .map(|(name, _)| name)
}

/// Writes a duration the way people say it: `350ms`, `12s`, `3min 5s`, `2h 10min`, `1d 4h`.
/// Rounds down, and shows at most two units.
pub fn show(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis < 1_000 {
        return format!("{millis}ms");
    }
    let (seconds, tenths) = (millis / 1_000, millis % 1_000 / 100);
    if seconds < 10 && tenths > 0 {
        return format!("{seconds}.{tenths}s");
    }
    let ladder = [("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)];
    let mut parts = ladder
        .iter()
        .enumerate()
        .skip_while(|(_, (_, length))| seconds < *length)
        .take(2)
        .map(|(index, (unit, length))| {
            let longer = if index == 0 {
                u128::MAX
            } else {
                ladder[index - 1].1
            };
            (seconds % longer / length, unit)
        })
        .filter(|(count, _)| *count > 0)
        .map(|(count, unit)| format!("{count}{unit}"));
    let first = parts.next().unwrap_or_default();
    parts
        .next()
        .map_or(first.clone(), |second| format!("{first} {second}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_unit_and_fractions() {
        for (written, millis) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("15min", 900_000),
            ("1.5h", 5_400_000),
            ("1d", 86_400_000),
            ("2mo", 60 * 86_400_000),
            ("1y", 365 * 86_400_000),
            ("0s", 0),
            (" 1h 30min ", 5_400_000),
            ("1h30min", 5_400_000),
            ("1.1h", 3_960_000),
        ] {
            assert_eq!(
                parse(written),
                Ok(Duration::from_millis(millis)),
                "{written}"
            );
        }
    }

    #[test]
    fn says_which_unit_was_meant() {
        for (written, meant) in [
            ("5m", "`min`"),
            ("5sec", "`s`"),
            ("1hour", "`h`"),
            ("2 minutes", "`min`"),
            ("1 dayz", "`d`"),
            ("3S", "`s`"),
            ("1 secnod", "`s`"),
            ("2weeks", "`7d`"),
            ("7", "no unit"),
            ("1001y", "1000y is the most"),
            ("9999999999999y", "1000y is the most"),
            ("h", "not a duration"),
            ("1.2.3s", "not a number"),
            ("", "missing"),
            ("-5s", "not a duration"),
            ("99999999999999999999999y", "too long"),
            ("5parsec", "ms s min h d mo y"),
        ] {
            let problem = parse(written).unwrap_err();
            assert!(problem.contains(meant), "{written}: {problem}");
        }
    }

    #[test]
    fn shows_what_people_say() {
        for (millis, shown) in [
            (0, "0ms"),
            (350, "350ms"),
            (1_500, "1.5s"),
            (12_900, "12s"),
            (60_000, "1min"),
            (185_000, "3min 5s"),
            (7_800_000, "2h 10min"),
            (7_205_000, "2h"),
            (100_800_000, "1d 4h"),
            (40 * 86_400_000, "40d"),
        ] {
            assert_eq!(show(Duration::from_millis(millis)), shown);
        }
    }
}
