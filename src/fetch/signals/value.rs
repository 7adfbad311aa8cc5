//! Numbers and times as headers write them. Every function takes any text and answers `None` to
//! what it cannot read.

use std::time::{Duration, SystemTime};

use http::header::DATE;
use http::{HeaderMap, HeaderValue};
use jiff::Timestamp;

use super::dialects::Time;

/// Longer waits are cut to this, so that adding them to an instant cannot overflow; far beyond
/// any `max_wait`.
pub(super) const LONGEST_WAIT: Duration = Duration::from_hours(100 * 366 * 24);
/// A reset or a window further than this is none: no API counts in more than a month.
const LONGEST_RESET: Duration = Duration::from_hours(32 * 24);
/// A reset further back than this is none either.
const JUST_PASSED: Duration = Duration::from_mins(1);
/// A date or `Retry-After` is never longer.
pub(super) const SHORT: usize = 64;

/// The value as trimmed text, if it is at most `longest` bytes.
pub(super) fn text(value: &HeaderValue, longest: usize) -> Option<&str> {
    if value.len() > longest {
        return None;
    }
    value.to_str().ok().map(str::trim)
}

/// A number without sign or exponent: `30`, `1.5`.
pub(super) fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    let plain = text.starts_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    // Hundreds of digits are infinite.
    let number = plain.then(|| text.parse::<f64>().ok()).flatten()?;
    number.is_finite().then_some(number)
}

/// A count: a whole number, though some write it `100.0`.
pub(super) fn count(text: &str) -> Option<u64> {
    let text = text.trim();
    let whole = match text.split_once('.') {
        Some((whole, rest)) if rest.bytes().all(|b| b == b'0') => whole,
        Some(_) => return None,
        None => text,
    };
    // `parse` would take a sign.
    whole
        .bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| whole.parse().ok())
        .flatten()
}

/// How far ahead of `answered` a reset lies.
///
/// A number is read as its dialect `expects`, if that makes sense; else by its size: past 1e11 it
/// is milliseconds since 1970 (as seconds, the year 5138), past 1e8 seconds since 1970 (as
/// seconds ahead, three years), below that seconds ahead. A moment that has just passed is now;
/// what lies further back, or more than a month ahead, is nonsense.
pub(super) fn ahead(text: &str, expects: Time, answered: SystemTime) -> Option<Duration> {
    let near = |at: SystemTime| match at.duration_since(answered) {
        Ok(wait) => (wait <= LONGEST_RESET).then_some(wait),
        Err(past) => (past.duration() <= JUST_PASSED).then_some(Duration::ZERO),
    };
    match number(text) {
        Some(n) if n >= 1e11 => near(epoch(n / 1e3)?),
        Some(n) if n >= 1e8 => near(epoch(n)?),
        Some(n) if expects == Time::Milliseconds => month(seconds(n / 1e3)),
        Some(n) => month(seconds(n)),
        None => match date(text) {
            Some(at) => near(at),
            None => span(text),
        },
    }
}

/// How long a window is: a number in the unit of its dialect, or `5m`.
pub(super) fn window(text: &str, expects: Time) -> Option<Duration> {
    let window = match number(text) {
        Some(n) if expects == Time::Milliseconds => month(seconds(n / 1e3)),
        Some(n) => month(seconds(n)),
        None => span(text),
    };
    window.filter(|window| !window.is_zero())
}

/// `1m3.5s`, `6m0s`, `20ms`, `1h`, `2d`: the units come from large to small, each once.
pub(super) fn span(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 5] = [
        ("d", 86_400.0),
        ("h", 3600.0),
        ("m", 60.0),
        ("s", 1.0),
        ("ms", 0.001),
    ];
    let mut rest = text.trim();
    let mut total = 0.0;
    let mut units = UNITS.iter();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let n = number(&rest[..digits])?;
        let after = &rest[digits..];
        let end = after
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(after.len());
        let (_, factor) = units.find(|(unit, _)| *unit == &after[..end])?;
        total += n * factor;
        rest = &after[end..];
    }
    (!text.trim().is_empty())
        .then(|| month(seconds(total)))
        .flatten()
}

/// A moment in any of the spellings that are sent: RFC 9110, RFC 3339, and what JavaScript's
/// `Date` prints.
pub(super) fn date(text: &str) -> Option<SystemTime> {
    if let Ok(at) = httpdate::parse_http_date(text) {
        return Some(at);
    }
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at.into());
    }
    let script = text.split(" (").next()?;
    let at = jiff::fmt::strtime::parse("%a %b %d %Y %H:%M:%S GMT%z", script).ok()?;
    at.to_timestamp().ok().map(SystemTime::from)
}

/// A time since 1970.
fn epoch(since: f64) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(seconds(since))
}

/// When the answer was made, by the clock of who made it; `now` where it does not say.
pub(super) fn answered(headers: &HeaderMap, now: Timestamp) -> SystemTime {
    headers
        .get(DATE)
        .and_then(|value| text(value, SHORT))
        .and_then(|text| httpdate::parse_http_date(text).ok())
        .unwrap_or_else(|| now.into())
}

/// From `from` to `at`, nothing if that has passed.
pub(super) fn until(at: SystemTime, from: SystemTime) -> Duration {
    at.duration_since(from)
        .unwrap_or_default()
        .min(LONGEST_WAIT)
}

/// A number of seconds, cut to [`LONGEST_WAIT`].
pub(super) fn seconds(n: f64) -> Duration {
    Duration::try_from_secs_f64(n).map_or(LONGEST_WAIT, |d| d.min(LONGEST_WAIT))
}

fn month(wait: Duration) -> Option<Duration> {
    (wait <= LONGEST_RESET).then_some(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noon() -> SystemTime {
        "2026-11-01T12:00:00Z"
            .parse::<Timestamp>()
            .expect("a time")
            .into()
    }

    #[test]
    fn spans_go_from_large_to_small() {
        for (text, expected) in [
            ("1m3.5s", Some(63.5)),
            ("6m0s", Some(360.0)),
            ("20ms", Some(0.02)),
            ("1s20ms", Some(1.02)),
            ("2h", Some(7200.0)),
            ("5m", Some(300.0)),
            ("1s1m", None),
            ("1s1s", None),
            ("s", None),
            ("1", None),
            ("1w", None),
            ("", None),
            ("99999999d", None),
        ] {
            assert_eq!(span(text).map(|d| d.as_secs_f64()), expected, "{text}");
        }
    }

    #[test]
    fn a_reset_that_makes_no_sense_as_its_dialect_says_is_read_by_size_and_shape() {
        let noon_epoch = 1_793_534_400;
        for (text, expects, expected) in [
            ("41".to_owned(), Time::Epoch, Some(41.0)),
            ("41".to_owned(), Time::Seconds, Some(41.0)),
            ("600000".to_owned(), Time::Milliseconds, Some(600.0)),
            ((noon_epoch + 60).to_string(), Time::Seconds, Some(60.0)),
            (format!("{}000", noon_epoch + 60), Time::Epoch, Some(60.0)),
            ((noon_epoch - 5).to_string(), Time::Epoch, Some(0.0)),
            ("1000000000".to_owned(), Time::Epoch, None),
            ("2026-11-01T12:01Z".to_owned(), Time::Epoch, Some(60.0)),
            (
                "2026-11-01T13:01:00+01:00".to_owned(),
                Time::Date,
                Some(60.0),
            ),
            (
                "Sun Nov 01 2026 13:01:00 GMT+0100 (Central European Standard Time)".to_owned(),
                Time::Date,
                Some(60.0),
            ),
            ("2031-01-01T00:00:00Z".to_owned(), Time::Date, None),
            ("1m3.5s".to_owned(), Time::Seconds, Some(63.5)),
            ("9000000".to_owned(), Time::Seconds, None),
            ("-1".to_owned(), Time::Seconds, None),
            ("soon".to_owned(), Time::Epoch, None),
        ] {
            let read = ahead(&text, expects, noon()).map(|d| d.as_secs_f64());
            assert_eq!(read, expected, "{text} as {expects:?}");
        }
    }

    #[test]
    fn counts_are_whole() {
        assert_eq!(count("100"), Some(100));
        assert_eq!(count(" 100.0 "), Some(100));
        for text in ["1.5", "+1", "-1", "", ".", "1e3", "99999999999999999999"] {
            assert_eq!(count(text), None, "{text}");
        }
    }
}
