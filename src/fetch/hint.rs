//! What an answer says about waiting: `Retry-After` and the common rate-limit headers.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::{DATE, HeaderName, RETRY_AFTER};
use jiff::Timestamp;

/// A longer header value is not read at all: no hint needs it, and a parser need not meet it.
const LONGEST_HEADER: usize = 64;
/// Longer waits are cut to this, so that adding them to an instant cannot overflow; far beyond
/// any `max_wait`.
const LONGEST_WAIT: Duration = Duration::from_hours(100 * 366 * 24);
/// A reset further ahead than this, said in seconds, is no reset.
const LONGEST_RESET: f64 = 32.0 * 86_400.0;

/// Header pairs that say how many calls are left and when the count starts anew.
static PAIRS: [(HeaderName, HeaderName); 3] = [
    (
        HeaderName::from_static("x-ratelimit-remaining"),
        HeaderName::from_static("x-ratelimit-reset"),
    ),
    (
        HeaderName::from_static("x-rate-limit-remaining"),
        HeaderName::from_static("x-rate-limit-reset"),
    ),
    (
        HeaderName::from_static("ratelimit-remaining"),
        HeaderName::from_static("ratelimit-reset"),
    ),
];

/// How long `Retry-After` asks to wait (RFC 9110 section 10.2.3); nothing if it cannot be read.
///
/// A date is measured against the answer's own `Date`, so that a wrong clock on either side does
/// not matter; `now` stands in where there is none. Of several, the longest counts.
pub fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    headers
        .get_all(RETRY_AFTER)
        .iter()
        .filter_map(|value| {
            let text = short(value)?;
            match number(text) {
                Some(seconds) => Some(wait(seconds)),
                None => date(text).map(|at| until(at, answered(headers, now))),
            }
        })
        .max()
}

/// Whether a common header says that no calls are left.
pub fn remaining_zero(headers: &HeaderMap) -> bool {
    PAIRS
        .iter()
        .any(|(remaining, _)| is_zero(headers, remaining))
}

/// When calls are allowed again, as the reset header says that belongs to the exhausted count
/// (or else the first there is): seconds ahead, epoch in seconds or milliseconds, or a date.
pub fn reset(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let exhausted = PAIRS.iter().filter(|(r, _)| is_zero(headers, r));
    exhausted.chain(PAIRS.iter()).find_map(|(_, reset)| {
        let text = short(headers.get(reset)?)?;
        let from = answered(headers, now);
        match number(text) {
            // Past 1e11 seconds lies the year 5138; past 1e8 seconds ahead lie three years.
            Some(n) if n >= 1e11 => Some(until(epoch(n / 1e3)?, from)),
            Some(n) if n >= 1e8 => Some(until(epoch(n)?, from)),
            Some(n) if n <= LONGEST_RESET => Some(wait(n)),
            Some(_) => None,
            None => Some(until(
                date(text).or_else(|| text.parse::<Timestamp>().ok().map(SystemTime::from))?,
                from,
            )),
        }
    })
}

fn is_zero(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers
        .get(name)
        .and_then(short)
        // Some write a list, `0, 100;window=60`; the binding count comes first.
        .and_then(|text| number(text.split([',', ';']).next().unwrap_or_default()))
        .is_some_and(|n| n == 0.0)
}

/// The value as trimmed text, if it is short enough to be worth reading.
fn short(value: &http::HeaderValue) -> Option<&str> {
    if value.len() > LONGEST_HEADER {
        return None;
    }
    value.to_str().ok().map(str::trim)
}

/// A number without sign or exponent: `30`, `1.5`.
fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    let plain = text.starts_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if plain { text.parse().ok() } else { None }
}

fn date(text: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(text).ok()
}

fn epoch(seconds: f64) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(wait(seconds))
}

/// When the answer was made, by the clock of who made it.
fn answered(headers: &HeaderMap, now: Timestamp) -> SystemTime {
    headers
        .get(DATE)
        .and_then(short)
        .and_then(date)
        .unwrap_or_else(|| now.into())
}

fn until(at: SystemTime, from: SystemTime) -> Duration {
    at.duration_since(from)
        .unwrap_or_default()
        .min(LONGEST_WAIT)
}

fn wait(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).map_or(LONGEST_WAIT, |d| d.min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const NOW: &str = "2026-11-01T12:00:00Z";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(n, v)| {
                (
                    HeaderName::from_static(n),
                    HeaderValue::from_str(v).unwrap(),
                )
            })
            .collect()
    }

    fn seconds(pairs: &[(&'static str, &str)]) -> Option<f64> {
        retry_after(&headers(pairs), NOW.parse().unwrap()).map(|d| d.as_secs_f64())
    }

    fn reset_in(pairs: &[(&'static str, &str)]) -> Option<f64> {
        reset(&headers(pairs), NOW.parse().unwrap()).map(|d| d.as_secs_f64())
    }

    #[test]
    fn retry_after_in_seconds() {
        let told = |value: &str| seconds(&[("retry-after", value)]);
        assert_eq!(told("30"), Some(30.0));
        assert_eq!(told("1.5"), Some(1.5));
        assert_eq!(told("0"), Some(0.0));
        assert_eq!(told("1000000000000"), Some(LONGEST_WAIT.as_secs_f64()));
        for garbage in ["-1", "soon", "", "1e9", "inf", "NaN", "+5", "1.2.3"] {
            assert_eq!(told(garbage), None, "{garbage}");
        }
        assert_eq!(told(&"9".repeat(65)), None);
        assert_eq!(told(&"9".repeat(64)), Some(LONGEST_WAIT.as_secs_f64()));
        assert_eq!(seconds(&[]), None);
    }

    #[test]
    fn retry_after_as_a_date_is_measured_by_the_servers_clock() {
        let date = ("retry-after", "Sun, 01 Nov 2026 12:00:20 GMT");
        assert_eq!(seconds(&[date]), Some(20.0));
        // The server's clock is an hour behind ours, and the wait is the same.
        let told = ("retry-after", "Sun, 01 Nov 2026 11:00:20 GMT");
        assert_eq!(
            seconds(&[told, ("date", "Sun, 01 Nov 2026 11:00:00 GMT")]),
            Some(20.0)
        );
        assert_eq!(
            seconds(&[("retry-after", "Sun, 01 Nov 2020 12:00:20 GMT")]),
            Some(0.0)
        );
    }

    #[test]
    fn nothing_left() {
        for (name, value, zero) in [
            ("x-ratelimit-remaining", "0", true),
            ("x-rate-limit-remaining", "0.0", true),
            ("ratelimit-remaining", "0, 100;window=60", true),
            ("x-ratelimit-remaining", "10", false),
            ("x-ratelimit-remaining", "none", false),
            ("x-remaining", "0", false),
        ] {
            assert_eq!(
                remaining_zero(&headers(&[(name, value)])),
                zero,
                "{name}: {value}"
            );
        }
    }

    #[test]
    fn resets_in_every_spelling() {
        let epoch = NOW.parse::<Timestamp>().unwrap().as_second();
        for (value, expected) in [
            ("41".to_owned(), Some(41.0)),
            ((epoch + 60).to_string(), Some(60.0)),
            (format!("{}.5", epoch + 60), Some(60.5)),
            (((epoch + 60) * 1000).to_string(), Some(60.0)),
            ((epoch - 60).to_string(), Some(0.0)),
            ("Sun, 01 Nov 2026 12:01:00 GMT".to_owned(), Some(60.0)),
            ("2026-11-01T12:01Z".to_owned(), Some(60.0)),
            ("9000000".to_owned(), None),
            ("later".to_owned(), None),
        ] {
            assert_eq!(
                reset_in(&[("ratelimit-reset", &value)]),
                expected,
                "{value}"
            );
        }
    }

    #[test]
    fn the_reset_of_the_exhausted_count_wins() {
        let both = [
            ("x-ratelimit-remaining", "7"),
            ("x-ratelimit-reset", "3600"),
            ("ratelimit-remaining", "0"),
            ("ratelimit-reset", "5"),
        ];
        assert_eq!(reset_in(&both), Some(5.0));
    }
}
