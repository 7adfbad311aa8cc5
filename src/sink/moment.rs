//! Dates and instants as programs write them, read by hand: types are inferred cell by cell, and a
//! calendar library for each would cost more than the rest of the row.
//!
//! A date is ISO 8601's `2024-05-31`. An instant is RFC 3339's (section 5.6), with `T` or a space, or
//! ISO 8601's with an offset without a colon (`+0200`); it always says its zone. Years are 0001 to
//! 9999, as Python, pandas and DuckDB know them; there is no 24:00, and no leap second, which they
//! do not know either.

/// Seconds of a day.
const DAY: i64 = 86_400;

/// An instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub seconds: i64,
    /// And so many billionths.
    pub nanos: u32,
    /// Digits of the fraction as written, without zeros at its end.
    pub digits: u8,
}

impl Moment {
    /// Microseconds since 1970; finer digits are left off.
    pub fn micros(self) -> i64 {
        self.seconds * 1_000_000 + i64::from(self.nanos / 1_000)
    }

    /// Nanoseconds since 1970, where 64 bits hold them.
    pub fn billionths(self) -> Option<i64> {
        let whole = self.seconds.checked_mul(1_000_000_000)?;
        whole.checked_add(i64::from(self.nanos))
    }
}

/// Days since 1970-01-01 of a date.
pub fn date(text: &str) -> Option<i32> {
    match text.as_bytes() {
        all @ [_, _, _, _, b'-', _, _, b'-', _, _] => day(all),
        _ => None,
    }
}

/// The instant of a time that says its zone.
pub fn moment(text: &str) -> Option<Moment> {
    let bytes = text.as_bytes();
    // `2024-05-31T12:00:00Z` is the shortest.
    let (head, rest) = bytes.split_at_checked(19)?;
    let [
        date @ ..,
        b'T' | b't' | b' ',
        h1,
        h2,
        b':',
        m1,
        m2,
        b':',
        s1,
        s2,
    ] = head
    else {
        return None;
    };
    let days = day(date)?;
    let (hour, minute, second) = (two(*h1, *h2)?, two(*m1, *m2)?, two(*s1, *s2)?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (nanos, digits, zone) = fraction(rest)?;
    let offset = offset(zone)?;
    let seconds =
        i64::from(days) * DAY + i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second)
            - offset;
    Some(Moment {
        seconds,
        nanos,
        digits,
    })
}

fn day(text: &[u8]) -> Option<i32> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = text else {
        return None;
    };
    let year = two(*y1, *y2)? * 100 + two(*y3, *y4)?;
    let (month, day) = (two(*m1, *m2)?, two(*d1, *d2)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if year == 0 || day == 0 || day > last {
        return None;
    }
    // Days before the year, then before the month in a year that begins in March, so that the leap
    // day is its last.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let before = 365 * year + year / 4 - year / 100 + year / 400;
    Some(before + (153 * month + 2) / 5 + day - 1 - 719_468)
}

fn two(tens: u8, ones: u8) -> Option<i32> {
    (tens.is_ascii_digit() && ones.is_ascii_digit())
        .then(|| i32::from(tens - b'0') * 10 + i32::from(ones - b'0'))
}

/// Billionths of a second, how many digits count, and what follows.
fn fraction(rest: &[u8]) -> Option<(u32, u8, &[u8])> {
    let [b'.', after @ ..] = rest else {
        return Some((0, 0, rest));
    };
    let end = after.iter().take_while(|b| b.is_ascii_digit()).count();
    let (digits, zone) = after.split_at_checked(end)?;
    if digits.is_empty() || digits.len() > 9 {
        return None;
    }
    let padded = digits.iter().chain(std::iter::repeat(&b'0')).take(9);
    let nanos = padded.fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    let zeros = digits.iter().rev().take_while(|d| **d == b'0').count();
    let count = u8::try_from(digits.len() - zeros).ok()?;
    Some((nanos, count, zone))
}

/// Seconds east of Greenwich.
fn offset(zone: &[u8]) -> Option<i64> {
    let (sign, hour, minute) = match zone {
        [b'Z' | b'z'] => return Some(0),
        [sign, h1, h2, b':', m1, m2] | [sign, h1, h2, m1, m2] => {
            (*sign, two(*h1, *h2)?, two(*m1, *m2)?)
        }
        _ => return None,
    };
    if hour > 23 || minute > 59 {
        return None;
    }
    let seconds = i64::from(hour) * 3600 + i64::from(minute) * 60;
    match sign {
        b'+' => Some(seconds),
        b'-' => Some(-seconds),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        for (text, days) in [
            ("1970-01-01", Some(0)),
            ("2000-02-29", Some(11_016)),
            ("0001-01-01", Some(-719_162)),
            ("9999-12-31", Some(2_932_896)),
            ("1900-02-29", None),
            ("2024-04-31", None),
            ("2024-13-01", None),
            ("2024-00-01", None),
            ("0000-01-01", None),
            ("2024-1-01", None),
            ("20240101", None),
            ("2024-01-01 ", None),
            ("２024-1-0", None),
        ] {
            assert_eq!(date(text), days, "{text}");
        }
    }

    #[test]
    fn an_instant_says_its_zone() {
        let at = |seconds, nanos, digits| {
            Some(Moment {
                seconds,
                nanos,
                digits,
            })
        };
        for (text, moment_) in [
            ("1970-01-01T00:00:00Z", at(0, 0, 0)),
            ("1970-01-01t01:00:00.250+01:00", at(0, 250_000_000, 2)),
            ("1970-01-01 00:00:00-0130", at(5_400, 0, 0)),
            ("1970-01-01T00:00:00.123456789z", at(0, 123_456_789, 9)),
            ("1970-01-01T00:00:00.000Z", at(0, 0, 0)),
            ("1970-01-01T00:00:00", None),
            ("1970-01-01T00:00Z", None),
            ("1970-01-01T24:00:00Z", None),
            ("2016-12-31T23:59:60Z", None),
            ("1970-01-01T00:00:00.Z", None),
            ("1970-01-01T00:00:00.1234567890Z", None),
            ("1970-01-01T00:00:00+1", None),
            ("1970-01-01T00:00:00+24:00", None),
            ("1970-01-01T00:00:00Z ", None),
            ("1970-01-01T00:00:0ä", None),
        ] {
            assert_eq!(moment(text), moment_, "{text}");
        }
    }

    proptest! {
        /// The house's calendar library is asked the same.
        #[test]
        fn the_calendar_library_agrees(seconds in -60_000_000_000_i64..250_000_000_000, offset in -1_439_i64..1_440) {
            let at = jiff::Timestamp::from_second(seconds).unwrap();
            let zone = jiff::tz::Offset::from_seconds(i32::try_from(offset * 60).unwrap()).unwrap();
            let zoned = at.to_zoned(jiff::tz::TimeZone::fixed(zone));
            let text = zoned.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
            prop_assert_eq!(moment(&text).map(|m| m.seconds), Some(seconds), "{}", text);
            let days = zoned.date().since(jiff::civil::date(1970, 1, 1)).unwrap().get_days();
            prop_assert_eq!(date(text.get(..10).unwrap()), Some(days));
        }
    }
}
