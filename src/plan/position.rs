//! How far a stream is in its cursor field: values of that field read, ordered and written.
//!
//! Instants of every spelling become one kind, so that a lookback can be taken off and two APIs'
//! spellings compare; whole numbers are exact beyond 2^53; text is ordered by its bytes.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, civil, fmt::strtime};
use minijinja::Value;

use super::json::{Numbers, number_to_value};
use crate::spec::near;

/// Words for formats; a pattern of `strftime` is the other way.
pub const FORMATS: [&str; 5] = ["iso", "epoch", "epoch_ms", "integer", "text"];

/// How the values of a cursor field are spelled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// RFC 3339, with or without an offset (none is UTC), or a date alone.
    Iso,
    /// Seconds since 1970, with or without a fraction.
    Epoch,
    /// Milliseconds since 1970.
    EpochMs,
    /// Whole numbers of up to 38 digits.
    Integer,
    /// Text, ordered by its bytes.
    Text,
    /// Instants in a pattern of `strftime`; without an offset they are UTC.
    Pattern(String),
}

/// A value of a cursor field.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Position {
    /// A moment.
    Instant(Timestamp),
    /// A whole number.
    Integer(i128),
    /// Text.
    Text(String),
}

/// What is taken off a stored position, for rows that come late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookback {
    /// Off an instant.
    Time(Duration),
    /// Off a whole number.
    Count(i128),
}

/// A value as a record has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Readable.
    At(Position),
    /// Missing, null or empty.
    Nothing,
    /// Not of the format.
    Unreadable,
}

impl Format {
    /// Reads a format as written in a pipeline file.
    ///
    /// # Errors
    /// What is wrong with it, and a hint.
    pub fn parse(written: &str) -> Result<Self, (String, String)> {
        Ok(match written.trim() {
            "iso" => Self::Iso,
            "epoch" => Self::Epoch,
            "epoch_ms" => Self::EpochMs,
            "integer" => Self::Integer,
            "text" => Self::Text,
            pattern if pattern.contains('%') => {
                // A sample written and read again shows a pattern that loses the day.
                let sample = civil::date(2023, 11, 28).at(13, 59, 58, 0);
                let sample = sample.to_zoned(TimeZone::UTC).map_err(|e| {
                    (e.to_string(), String::new()) // a constant of this file
                })?;
                let spelled = strtime::format(pattern, &sample)
                    .map_err(|e| (format!("the pattern `{pattern}`: {e}"), String::new()))?;
                match by_pattern(pattern, &spelled, &TimeZone::UTC) {
                    Some(back) if back.to_zoned(TimeZone::UTC).date() == sample.date() => {
                        Self::Pattern(pattern.to_owned())
                    }
                    _ => {
                        return Err((
                            format!("the pattern `{pattern}` does not say which day it is"),
                            "a pattern needs year, month and day, as in `%Y%m%d` or `%d/%m/%Y %H:%M`".to_owned(),
                        ));
                    }
                }
            }
            other => {
                return Err((
                    format!("there is no format `{other}`"),
                    format!(
                        "{}; or a pattern such as `%Y%m%d`",
                        near::hint(other, FORMATS, "formats")
                    ),
                ));
            }
        })
    }

    /// Whether its values are instants.
    pub fn is_time(&self) -> bool {
        !matches!(self, Self::Integer | Self::Text)
    }

    /// How its values are ordered: `instant`, `integer` or `text`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Integer => "integer",
            Self::Text => "text",
            _ => "instant",
        }
    }

    /// What one of its values is, for messages.
    pub fn one(&self) -> &'static str {
        match self {
            Self::Iso => "an RFC 3339 timestamp or a date",
            Self::Epoch => "a number of seconds since 1970",
            Self::EpochMs => "a number of milliseconds since 1970",
            Self::Integer => "a whole number",
            Self::Text => "text",
            Self::Pattern(_) => "of the pattern",
        }
    }

    /// A value as spelled in JSON; `None` is a missing one.
    pub fn see(&self, json: Option<&str>) -> Seen {
        let plain: Cow<'_, str> = match json {
            None | Some("null" | "\"\"") => return Seen::Nothing,
            Some(json) if json.starts_with(['{', '[', 't', 'f']) => return Seen::Unreadable,
            Some(json) => match json.strip_prefix('"').and_then(|s| s.strip_suffix('"')) {
                None => json.into(),
                Some(inner) if !inner.contains('\\') => inner.into(),
                Some(_) => match serde_json::from_str::<String>(json) {
                    Ok(text) => text.into(),
                    Err(_) => return Seen::Unreadable,
                },
            },
        };
        self.read(&plain).map_or(Seen::Unreadable, Seen::At)
    }

    /// A value as plain text.
    pub fn read(&self, text: &str) -> Option<Position> {
        self.read_in(text, &TimeZone::UTC)
    }

    /// The same, where a time that says no zone is one of `zone`; a local time that a change of
    /// clocks passes over or repeats is read as RFC 5545 section 3.3.5 says.
    pub fn read_in(&self, text: &str, zone: &TimeZone) -> Option<Position> {
        let text = if *self == Self::Text {
            text
        } else {
            text.trim()
        };
        match self {
            Self::Iso => iso(text, zone).map(Position::Instant),
            Self::Epoch => decimal(text, 9).and_then(instant),
            Self::EpochMs => decimal(text, 6).and_then(instant),
            Self::Integer => integer(text).map(Position::Integer),
            Self::Text => Some(Position::Text(text.to_owned())),
            Self::Pattern(pattern) => by_pattern(pattern, text, zone).map(Position::Instant),
        }
    }

    /// A position as it was kept: instants in RFC 3339 whatever the format of the field.
    pub fn restore(&self, kept: &str) -> Option<Position> {
        if self.is_time() {
            iso(kept, &TimeZone::UTC).map(Position::Instant)
        } else {
            self.read(kept)
        }
    }
}

impl Position {
    /// The same, earlier by `lookback`; never before the first that there is.
    #[must_use]
    pub fn back(&self, lookback: Lookback) -> Self {
        match (self, lookback) {
            (Self::Instant(at), Lookback::Time(by)) => Self::Instant(
                SignedDuration::try_from(by)
                    .ok()
                    .and_then(|by| at.checked_sub(by).ok())
                    .unwrap_or(Timestamp::MIN),
            ),
            (Self::Integer(at), Lookback::Count(by)) => Self::Integer(at.saturating_sub(by)),
            _ => self.clone(),
        }
    }

    /// What templates see: instants and text as text, whole numbers as numbers.
    pub fn to_value(&self) -> Value {
        match self {
            Self::Integer(_) => number_to_value(&self.to_string(), Numbers::Spelled),
            _ => Value::from(self.to_string()),
        }
    }

    /// Appends bytes that sort as positions of one format do, none of them the beginning of
    /// another's.
    pub fn push_ordered(&self, out: &mut Vec<u8>) {
        match self {
            Self::Instant(at) => push_integer(at.as_nanosecond(), out),
            Self::Integer(number) => push_integer(*number, out),
            Self::Text(text) => push_text(text.as_bytes(), out),
        }
    }
}

/// Instants in RFC 3339 and UTC, with as much of a fraction as they have.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instant(at) => at.fmt(f),
            Self::Integer(number) => number.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// Appends sixteen bytes that sort as whole numbers do.
pub fn push_integer(number: i128, out: &mut Vec<u8>) {
    // The sign's bit turned round puts negative numbers first.
    let ordered = number.cast_unsigned() ^ (1 << 127);
    out.extend(ordered.to_be_bytes());
}

/// Appends bytes that sort as the text's, with an end that no text holds.
pub fn push_text(text: &[u8], out: &mut Vec<u8>) {
    for byte in text {
        out.push(*byte);
        if *byte == 0 {
            out.push(0xff);
        }
    }
    out.extend([0, 0]);
}

fn instant(nanoseconds: i128) -> Option<Position> {
    Timestamp::from_nanosecond(nanoseconds)
        .ok()
        .map(Position::Instant)
}

/// RFC 3339 as APIs spell it: a space for the `T`, no offset or one without a colon, `UTC`, a
/// date alone, more digits than anyone needs.
fn iso(text: &str, zone: &TimeZone) -> Option<Timestamp> {
    let text = shorten_fraction(text);
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at);
    }
    let in_utc = [" UTC", " GMT"].iter();
    let (civil, zone) = match in_utc.into_iter().find_map(|utc| text.strip_suffix(utc)) {
        Some(civil) => (civil, &TimeZone::UTC),
        None => (&*text, zone),
    };
    let at = civil.parse::<civil::DateTime>().ok()?;
    at.to_zoned(zone.clone()).map(|at| at.timestamp()).ok()
}

/// Nanoseconds are the finest that there is here; what is finer is cut off, never rounded up.
fn shorten_fraction(text: &str) -> Cow<'_, str> {
    let Some(dot) = text.find(['.', ',']) else {
        return text.into();
    };
    let digits = text[dot + 1..]
        .bytes()
        .take_while(u8::is_ascii_digit)
        .count();
    if digits <= 9 {
        return text.into();
    }
    format!("{}{}", &text[..dot + 10], &text[dot + 1 + digits..]).into()
}

/// A decimal number times ten to the power of `scale`, rounded down.
fn decimal(text: &str, scale: i32) -> Option<i128> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        None => (text, 0),
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let (sign, whole) = match whole.strip_prefix('-') {
        Some(whole) => (-1, whole),
        None => (1, whole),
    };
    let is_number = |digits: &str| digits.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !is_number(whole) || !is_number(fraction) {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let power = exponent
        .checked_add(scale)?
        .checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let digits = digits.checked_mul(sign)?;
    let ten = |power: i32| 10_i128.checked_pow(power.unsigned_abs());
    if power >= 0 {
        digits.checked_mul(ten(power)?)
    } else {
        ten(power).map(|by| digits.div_euclid(by))
    }
}

fn integer(text: &str) -> Option<i128> {
    // `parse` alone would take a plus sign.
    let digits = text.strip_prefix('-').unwrap_or(text);
    digits
        .bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| text.parse().ok())?
}

fn by_pattern(pattern: &str, text: &str, zone: &TimeZone) -> Option<Timestamp> {
    let parts = strtime::parse(pattern, text).ok()?;
    if let Ok(at) = parts.to_timestamp() {
        return Some(at);
    }
    let at = parts
        .to_datetime()
        .or_else(|_| parts.to_date().map(civil::DateTime::from))
        .ok()?;
    at.to_zoned(zone.clone()).map(|at| at.timestamp()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(format: &Format, json: &str) -> String {
        match format.see(Some(json)) {
            Seen::At(position) => position.to_string(),
            Seen::Nothing => "nothing".to_owned(),
            Seen::Unreadable => "unreadable".to_owned(),
        }
    }

    #[test]
    fn timestamps_of_every_spelling_are_one_instant() {
        for spelled in [
            "2024-01-31T22:30:00Z",
            "2024-01-31T23:30:00+01:00",
            "2024-01-31T23:30:00+0100",
            "2024-01-31 22:30:00",
            "2024-01-31 22:30:00Z",
            "2024-01-31 22:30:00 UTC",
            "2024-01-31T22:30:00",
            "2024-01-31t22:30:00z",
            "2024-01-31T22:30Z",
            "2024-01-31T22:30:00.000000000000Z",
            " 2024-01-31T22:30:00.0+00:00 ",
        ] {
            let json = format!("\"{spelled}\"");
            assert_eq!(
                shown(&Format::Iso, &json),
                "2024-01-31T22:30:00Z",
                "{spelled}"
            );
        }
        let iso = |json| shown(&Format::Iso, json);
        assert_eq!(iso(r#""2024-01-31""#), "2024-01-31T00:00:00Z");
        assert_eq!(
            iso(r#""2024-01-31T22:30:00.120Z""#),
            "2024-01-31T22:30:00.12Z"
        );
        assert_eq!(
            iso(r#""2024-01-31T22:30:00.1234567899999+00:00""#),
            "2024-01-31T22:30:00.123456789Z"
        );
        for nothing in ["null", r#""""#] {
            assert_eq!(iso(nothing), "nothing");
        }
        for bad in [
            r#""0000-00-00 00:00:00""#,
            r#""soon""#,
            "{}",
            "true",
            "1704067200",
        ] {
            assert_eq!(iso(bad), "unreadable", "{bad}");
        }
    }

    #[test]
    fn epochs_numbers_text_and_patterns() {
        assert_eq!(shown(&Format::Epoch, "1706740200"), "2024-01-31T22:30:00Z");
        assert_eq!(
            shown(&Format::Epoch, r#""1706740200.000100""#),
            "2024-01-31T22:30:00.0001Z"
        );
        assert_eq!(shown(&Format::Epoch, "-1.5"), "1969-12-31T23:59:58.5Z");
        assert_eq!(
            shown(&Format::EpochMs, "1706740200123"),
            "2024-01-31T22:30:00.123Z"
        );
        assert_eq!(
            shown(&Format::EpochMs, "1.706740200123E12"),
            "2024-01-31T22:30:00.123Z"
        );
        assert_eq!(
            shown(&Format::Epoch, "1706740200123"),
            "unreadable",
            "milliseconds"
        );
        assert_eq!(shown(&Format::Epoch, r#""2024-01-31""#), "unreadable");
        assert_eq!(
            shown(&Format::Integer, "9007199254740993"),
            "9007199254740993"
        );
        assert_eq!(
            shown(&Format::Integer, r#""-12345678901234567890123456789""#),
            "-12345678901234567890123456789"
        );
        for bad in ["1.0", "1e3", r#""+1""#, r#""-""#] {
            assert_eq!(shown(&Format::Integer, bad), "unreadable", "{bad}");
        }
        assert_eq!(
            shown(&Format::Text, r#""1704067200.000000""#),
            "1704067200.000000"
        );
        let pattern = Format::parse("%Y%m%d").unwrap();
        assert_eq!(shown(&pattern, "20240131"), "2024-01-31T00:00:00Z");
        let pattern = Format::parse("%d/%m/%Y %H:%M %z").unwrap();
        assert_eq!(
            shown(&pattern, r#""31/01/2024 23:30 +0100""#),
            "2024-01-31T22:30:00Z"
        );
    }

    #[test]
    fn formats_that_are_none_are_refused() {
        let hint = |written| Format::parse(written).unwrap_err();
        assert!(
            hint("epoch_sm").1.contains("`epoch_ms`"),
            "{:?}",
            hint("epoch_sm")
        );
        assert!(hint("%H:%M").0.contains("which day"));
        assert!(Format::parse("%Q%").is_err());
    }

    #[test]
    fn lookback_never_falls_off_the_calendar() {
        let at = Format::Iso.read("2024-01-31").unwrap();
        let by = |seconds| Lookback::Time(Duration::from_secs(seconds));
        assert_eq!(at.back(by(3600)).to_string(), "2024-01-30T23:00:00Z");
        assert_eq!(at.back(by(u64::MAX)), Position::Instant(Timestamp::MIN));
        let id = Position::Integer(i128::MIN + 1);
        assert_eq!(id.back(Lookback::Count(5)), Position::Integer(i128::MIN));
        let text = Position::Text("b".to_owned());
        assert_eq!(text.back(Lookback::Count(5)), text);
    }

    fn ordered(position: &Position) -> Vec<u8> {
        let mut out = Vec::new();
        position.push_ordered(&mut out);
        out
    }

    fn any_instant() -> impl Strategy<Value = Position> {
        (
            -377_705_023_201_i128 + 86_400..253_402_207_200 - 86_400,
            0_i128..1_000_000_000,
        )
            .prop_map(|(s, n)| instant(s * 1_000_000_000 + n).expect("in range"))
    }

    fn any_of_a_kind() -> impl Strategy<Value = (Format, Position, Position)> {
        let two = |format: Format, one: BoxedStrategy<Position>| {
            (one.clone(), one).prop_map(move |(a, b)| (format.clone(), a, b))
        };
        prop_oneof![
            two(Format::Iso, any_instant().boxed()),
            two(Format::Epoch, any_instant().boxed()),
            two(
                Format::Integer,
                any::<i128>().prop_map(Position::Integer).boxed()
            ),
            two(
                Format::Text,
                "[\u{0}\u{1}ab\u{ff}é]{0,5}"
                    .prop_map(Position::Text)
                    .boxed()
            ),
        ]
    }

    proptest! {
        #[test]
        fn bytes_sort_as_positions_do((_, a, b) in any_of_a_kind(), tail in any::<[u8; 3]>()) {
            let (mut left, mut right) = (ordered(&a), ordered(&b));
            prop_assert_eq!(left.cmp(&right), a.cmp(&b));
            // What follows must not count where the positions differ.
            if a != b {
                left.extend(tail);
                right.extend([tail[2], tail[1], tail[0]]);
                prop_assert_eq!(left.cmp(&right), a.cmp(&b));
            }
        }

        #[test]
        fn what_is_kept_comes_back((format, a, _) in any_of_a_kind()) {
            prop_assert_eq!(format.restore(&a.to_string()), Some(a));
        }

        #[test]
        fn an_epoch_is_what_it_says(seconds in -10_000_000_000_i64..100_000_000_000, millis in 0_i64..1000) {
            let spelled = format!("{}", i128::from(seconds) * 1000 + i128::from(millis));
            let by_millis = Format::EpochMs.read(&spelled).unwrap();
            let point = by_millis.to_string();
            prop_assert_eq!(Format::Iso.read(&point), Some(by_millis));
        }

        #[test]
        fn nothing_panics(text in "[-+0-9.eETZ: %,\"é]{0,30}", raw in any::<String>()) {
            for format in [Format::Iso, Format::Epoch, Format::EpochMs, Format::Integer,
                           Format::Pattern("%Y-%m-%d %H".to_owned())] {
                for one in [&text, &raw] {
                    let _ = (format.read(one), format.see(Some(one)), Format::parse(one));
                }
            }
        }
    }
}
