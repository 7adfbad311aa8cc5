//! Types of columns: what a value has to be, and the one way it is then written.
//!
//! Values are JSON text and become JSON text; nothing passes through a float. What fits already is
//! handed back as it is. The forms are those of docs/language.md, `columns`.

use std::borrow::Cow;
use std::fmt;

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::position::{Format, Position};

/// What becomes of a value that does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnBad {
    /// The stream fails.
    #[default]
    Fail,
    /// It is null.
    Null,
    /// The record goes to a file of its own.
    Reject,
}

/// What a value has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Text; numbers and booleans become text as they are spelled.
    Text,
    /// A whole number of any length.
    Integer,
    /// A number, kept as it is spelled.
    Number,
    /// `true` or `false`.
    Boolean,
    /// `2024-05-31`.
    Date,
    /// `2024-05-31T12:00:00Z`: an instant, in UTC.
    Timestamp,
    /// Anything.
    Json,
}

/// The type of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Typed {
    /// What a value has to be.
    pub kind: Kind,
    /// How dates and instants are spelled.
    pub format: Format,
    /// The zone of those that say none, and of the days of instants.
    pub zone: TimeZone,
}

/// Most digits of a whole number that is written out of an exponent.
const MOST_DIGITS: i64 = 400;

impl Typed {
    /// A value, as spelled in JSON, in the form of the type; `""` is null. `None`: it does not fit.
    pub fn fit<'v>(&self, json: &'v str) -> Option<Cow<'v, str>> {
        if matches!(json, "" | "null") {
            return Some(Cow::Borrowed(""));
        }
        match self.kind {
            Kind::Json => Some(json.into()),
            Kind::Text => text(json),
            Kind::Integer if is_whole(json) => Some(json.into()),
            _ => {
                let plain = plain(json)?;
                let is_text = json.starts_with('"');
                let is_number = json.starts_with(|c: char| c == '-' || c.is_ascii_digit());
                // What has no value has no type either: CSV and XML know no other way to say it.
                if plain.trim().is_empty() {
                    return Some("".into());
                }
                let fitting = match self.kind {
                    Kind::Integer => whole(plain.trim())?,
                    Kind::Number if is_number => return Some(json.into()),
                    Kind::Number => number(plain.trim())?,
                    Kind::Boolean => boolean(plain.trim())?.to_owned(),
                    // A number would be read as a date of eight digits, if it has as many.
                    Kind::Date | Kind::Timestamp if self.format == Format::Iso && !is_text => {
                        return None;
                    }
                    Kind::Date => format!("\"{}\"", self.day(&plain)?),
                    _ => format!("\"{}\"", self.format.read_in(&plain, &self.zone)?),
                };
                Some(if fitting == json {
                    json.into()
                } else {
                    fitting.into()
                })
            }
        }
    }

    fn day(&self, text: &str) -> Option<jiff::civil::Date> {
        if self.format == Format::Iso
            && text.len() == 10
            && let Ok(day) = text.parse()
        {
            return Some(day);
        }
        match self.format.read_in(text, &self.zone)? {
            Position::Instant(at) => Some(at.to_zoned(self.zone.clone()).date()),
            _ => None,
        }
    }
}

impl fmt::Display for Typed {
    /// What a value has to be, in words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.kind, &self.format) {
            (Kind::Text, _) => f.write_str("text"),
            (Kind::Integer, _) => f.write_str("a whole number"),
            (Kind::Number, _) => f.write_str("a number"),
            (Kind::Boolean, _) => f.write_str("true or false"),
            (Kind::Json, _) => f.write_str("JSON"),
            (Kind::Date, Format::Iso) => f.write_str("a date"),
            (Kind::Timestamp, Format::Iso) => f.write_str("an RFC 3339 timestamp"),
            (_, Format::Pattern(pattern)) => write!(f, "a time spelled `{pattern}`"),
            (_, format) => f.write_str(format.one()),
        }
    }
}

/// The word for it in a pipeline file.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Date => "date",
            Self::Timestamp => "timestamp",
            Self::Json => "json",
        })
    }
}

fn text(json: &str) -> Option<Cow<'_, str>> {
    match json.as_bytes().first()? {
        b'"' => Some(json.into()),
        b'{' | b'[' => None,
        _ => Some(format!("\"{json}\"").into()),
    }
}

/// What a scalar says; text without its quotes.
fn plain(json: &str) -> Option<Cow<'_, str>> {
    match json.as_bytes().first()? {
        b'{' | b'[' => None,
        b'"' => {
            let inner = json.get(1..json.len().checked_sub(1)?)?;
            if inner.contains('\\') {
                serde_json::from_str::<String>(json).ok().map(Cow::Owned)
            } else {
                Some(inner.into())
            }
        }
        _ => Some(json.into()),
    }
}

/// Whether it is a whole number already, spelled as whole numbers are.
fn is_whole(json: &str) -> bool {
    let digits = json.strip_prefix('-').unwrap_or(json);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) && json != "-0"
}

/// The parts of a decimal number: whether it is negative, the digits before and after the point,
/// and the exponent as spelled.
fn parts(text: &str) -> Option<(bool, &str, &str, Option<&str>)> {
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (rest, None),
    };
    let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let signed = |text: &str| {
        let bare = text.strip_prefix(['+', '-']).unwrap_or(text);
        !bare.is_empty() && digits(bare)
    };
    let is_number = !(before.is_empty() && after.is_empty())
        && digits(before)
        && digits(after)
        && exponent.is_none_or(signed);
    is_number.then_some((negative, before, after, exponent))
}

/// A number without a fraction, in plain digits.
fn whole(text: &str) -> Option<String> {
    let (negative, before, after, exponent) = parts(text)?;
    let exponent: i64 = match exponent {
        Some(exponent) => exponent.parse().ok()?,
        None => 0,
    };
    let digits = format!("{before}{after}");
    let point = i64::try_from(before.len()).ok()?.checked_add(exponent)?;
    let zero = digits.bytes().all(|b| b == b'0');
    if zero {
        return Some("0".to_owned());
    }
    let point = usize::try_from(point).ok()?;
    let mut digits = match digits.split_at_checked(point) {
        Some((whole, fraction)) => {
            if fraction.bytes().any(|b| b != b'0') {
                return None;
            }
            whole.to_owned()
        }
        None if exponent > MOST_DIGITS => return None,
        None => format!("{digits:0<point$}"),
    };
    let leading = digits.bytes().take_while(|b| *b == b'0').count();
    digits.drain(..leading);
    Some(if negative {
        format!("-{digits}")
    } else {
        digits
    })
}

/// A number out of a text, spelled as JSON wants it and otherwise as it was.
fn number(text: &str) -> Option<String> {
    let (negative, before, after, exponent) = parts(text)?;
    let sign = if negative { "-" } else { "" };
    let before = match before.trim_start_matches('0') {
        "" => "0",
        digits => digits,
    };
    let point = if after.is_empty() { "" } else { "." };
    let (e, exponent) = match exponent {
        Some(exponent) => ("e", exponent),
        None => ("", ""),
    };
    Some(format!("{sign}{before}{point}{after}{e}{exponent}"))
}

fn boolean(text: &str) -> Option<&'static str> {
    if text == "1" || text.eq_ignore_ascii_case("true") {
        Some("true")
    } else if text == "0" || text.eq_ignore_ascii_case("false") {
        Some("false")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn typed(kind: Kind, format: &str, zone: &str) -> Typed {
        Typed {
            kind,
            format: Format::parse(format).unwrap(),
            zone: TimeZone::get(zone).unwrap(),
        }
    }

    #[track_caller]
    fn fits(typed: &Typed, cases: &[(&str, Option<&str>)]) {
        for (json, expected) in cases {
            let fitted = typed.fit(json);
            assert_eq!(fitted.as_deref(), *expected, "{json} as {typed:?}");
            // What fits is in its form: done again, nothing changes.
            if typed.format == Format::Iso
                && let Some(once) = fitted
            {
                assert_eq!(typed.fit(&once).as_deref(), Some(&*once), "{json} again");
            }
        }
    }

    #[test]
    fn null_is_null_whatever_the_type() {
        for kind in [
            Kind::Text,
            Kind::Integer,
            Kind::Number,
            Kind::Boolean,
            Kind::Date,
            Kind::Timestamp,
            Kind::Json,
        ] {
            fits(
                &typed(kind, "iso", "UTC"),
                &[("null", Some("")), ("", Some(""))],
            );
            let empty = typed(kind, "iso", "UTC").fit("\"\"").map(Cow::into_owned);
            let is_kept = matches!(kind, Kind::Text | Kind::Json);
            assert_eq!(empty.as_deref(), Some(if is_kept { "\"\"" } else { "" }));
        }
    }

    #[test]
    fn text_and_json() {
        fits(
            &typed(Kind::Text, "iso", "UTC"),
            &[
                (r#""a\n""#, Some(r#""a\n""#)),
                ("1.10", Some("\"1.10\"")),
                ("true", Some("\"true\"")),
                ("[1]", None),
                ("{}", None),
            ],
        );
        fits(
            &typed(Kind::Json, "iso", "UTC"),
            &[("[1, 2]", Some("[1, 2]")), ("\"a\"", Some("\"a\""))],
        );
    }

    #[test]
    fn whole_numbers_are_exact() {
        let long = "1234567890123456789012345678901234567890";
        fits(
            &typed(Kind::Integer, "iso", "UTC"),
            &[
                ("5", Some("5")),
                (long, Some(long)),
                ("\"2023\"", Some("2023")),
                ("\" -007 \"", Some("-7")),
                ("\"+5\"", Some("5")),
                ("1.0", Some("1")),
                ("1.50e1", Some("15")),
                ("12e2", Some("1200")),
                ("120e-1", Some("12")),
                ("-0", Some("0")),
                ("-0.0e99", Some("0")),
                ("1.5", None),
                ("1e-1", None),
                ("1e999", None),
                ("1e99999999999999999999", None),
                ("\"1,234\"", None),
                ("\"1_000\"", None),
                ("\"0x10\"", None),
                ("\"five\"", None),
                ("\"-\"", None),
                ("true", None),
                ("[1]", None),
            ],
        );
    }

    #[test]
    fn numbers_keep_their_spelling() {
        fits(
            &typed(Kind::Number, "iso", "UTC"),
            &[
                ("1.10", Some("1.10")),
                ("1E400", Some("1E400")),
                ("\"1.10\"", Some("1.10")),
                ("\"+007.50\"", Some("7.50")),
                ("\".5\"", Some("0.5")),
                ("\"5.\"", Some("5")),
                ("\"1e+3\"", Some("1e+3")),
                ("\"12,5\"", None),
                ("\"NaN\"", None),
                ("\"1e\"", None),
                ("\".\"", None),
                ("\"\\u0031\"", Some("1")),
            ],
        );
        assert_eq!(typed(Kind::Number, "iso", "UTC").fit("true"), None);
    }

    #[test]
    fn booleans_are_strict() {
        fits(
            &typed(Kind::Boolean, "iso", "UTC"),
            &[
                ("true", Some("true")),
                ("\"False\"", Some("false")),
                ("1", Some("true")),
                ("\"0\"", Some("false")),
                ("2", None),
                ("\"yes\"", None),
                ("\"t\"", None),
            ],
        );
    }

    #[test]
    fn instants_are_in_utc() {
        fits(
            &typed(Kind::Timestamp, "iso", "UTC"),
            &[
                ("\"2024-05-01T12:00:00Z\"", Some("\"2024-05-01T12:00:00Z\"")),
                (
                    "\"2024-05-01T12:00:00+02:00\"",
                    Some("\"2024-05-01T10:00:00Z\""),
                ),
                (
                    "\"2024-05-01 12:00:00.500\"",
                    Some("\"2024-05-01T12:00:00.5Z\""),
                ),
                ("\"2024-05-01\"", Some("\"2024-05-01T00:00:00Z\"")),
                ("\"01.05.2024\"", None),
                ("1714557600", None),
                ("true", None),
            ],
        );
        fits(
            &typed(Kind::Timestamp, "epoch_ms", "UTC"),
            &[
                ("1714557600123", Some("\"2024-05-01T10:00:00.123Z\"")),
                ("\"1714557600000\"", Some("\"2024-05-01T10:00:00Z\"")),
                ("\"2024-05-01\"", None),
            ],
        );
        fits(
            &typed(Kind::Timestamp, "%d.%m.%Y %H:%M", "Europe/Berlin"),
            &[
                ("\"01.05.2024 12:00\"", Some("\"2024-05-01T10:00:00Z\"")),
                ("\"01.12.2024 12:00\"", Some("\"2024-12-01T11:00:00Z\"")),
                ("\"2024-05-01\"", None),
            ],
        );
        let berlin = typed(Kind::Timestamp, "iso", "Europe/Berlin");
        assert_eq!(
            berlin.fit("\"2024-05-01T12:00:00\"").as_deref(),
            Some("\"2024-05-01T10:00:00Z\"")
        );
        assert_eq!(
            berlin.fit("\"2024-05-01T12:00:00Z\"").as_deref(),
            Some("\"2024-05-01T12:00:00Z\"")
        );
    }

    #[test]
    fn days_are_those_of_the_zone() {
        fits(
            &typed(Kind::Date, "iso", "UTC"),
            &[
                ("\"2024-05-01\"", Some("\"2024-05-01\"")),
                ("\"2024-05-01T23:30:00-05:00\"", Some("\"2024-05-02\"")),
                ("\"2024-13-01\"", None),
                ("\"20240501\"", Some("\"2024-05-01\"")),
                ("20240501", None),
            ],
        );
        fits(
            &typed(Kind::Date, "%Y%m%d", "UTC"),
            &[
                ("\"20240501\"", Some("\"2024-05-01\"")),
                ("20240501", Some("\"2024-05-01\"")),
                ("\"2024\"", None),
            ],
        );
        let tokyo = typed(Kind::Date, "epoch", "Asia/Tokyo");
        assert_eq!(tokyo.fit("1714575600").as_deref(), Some("\"2024-05-02\""));
        let plain = typed(Kind::Date, "iso", "America/New_York");
        assert_eq!(
            plain.fit("\"2024-05-01 23:30:00\"").as_deref(),
            Some("\"2024-05-01\"")
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn integers_of_every_spelling_are_one(digits in "[1-9][0-9]{0,40}", zeros in 0..6_usize, point in 0..6_usize) {
            let integer = typed(Kind::Integer, "iso", "UTC");
            let mut spelled = format!("{digits}{}", "0".repeat(zeros));
            let expected = spelled.clone();
            let at = spelled.len().saturating_sub(point).max(1);
            let moved = spelled.len() - at;
            spelled.insert(at, '.');
            if moved == 0 {
                spelled.push('0');
            }
            let spelled = format!("{spelled}e{moved}");
            let fitted = integer.fit(&spelled).map(Cow::into_owned);
            prop_assert_eq!(fitted, Some(expected));
        }

        #[test]
        fn nothing_panics(text in "[-+.eE0-9tfT:Z \\\\\"\\[{äa]{0,14}") {
            let json = serde_json::to_string(&text).unwrap();
            for kind in [Kind::Integer, Kind::Number, Kind::Boolean, Kind::Date, Kind::Timestamp] {
                if let Some(fitted) = typed(kind, "iso", "UTC").fit(&json) {
                    let valid = fitted.is_empty() || serde_json::from_str::<Box<serde_json::value::RawValue>>(&fitted).is_ok();
                    prop_assert!(valid, "{} as {:?}: {}", json, kind, fitted);
                }
            }
        }
    }
}
