//! The filters that templates and expressions have beside minijinja's own:
//! `path`, `date`, `epoch`, `epoch_ms` and `regex`.

use jiff::civil;
use jiff::fmt::temporal::Pieces;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, Value};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{number, pattern};

/// Escaping by percent, for the target of a request.
pub(super) const IN_URL: AutoEscape = AutoEscape::Custom(std::borrow::Cow::Borrowed("url"));

/// What stands in for escaping in the path of a file: refusal.
pub(super) const IN_FILE: AutoEscape = AutoEscape::Custom(std::borrow::Cow::Borrowed("file"));

/// All but the unreserved characters of RFC 3986 section 2.3.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Adds our filters.
pub(super) fn add_to(environment: &mut Environment<'static>) {
    environment.add_filter("path", path);
    environment.add_filter("date", date);
    environment.add_filter("regex", pattern::find);
    environment.add_filter("epoch", |value: &Value| {
        instant(value).map(|at| at.timestamp().as_second())
    });
    environment.add_filter("epoch_ms", |value: &Value| {
        instant(value).map(|at| at.timestamp().as_millisecond())
    });
}

/// Replaces filters that would take a missing field amiss.
pub(super) fn add_lenient_to(environment: &mut Environment<'static>) {
    for name in ["length", "count"] {
        environment.add_filter(name, |value: &Value| {
            if value.is_undefined() || value.is_none() {
                return Ok(0);
            }
            value
                .len()
                .ok_or_else(|| invalid(format!("a value of type {} has no length", value.kind())))
        });
    }
}

/// Percent-encodes a value that is one segment of a path, `/` included.
pub(super) fn encode_segment(text: &str) -> Result<String, Error> {
    if is_dots(text) {
        return Err(invalid(format!(
            "the value `{text}` in a URL would climb to another path"
        )));
    }
    Ok(utf8_percent_encode(text, RESERVED).to_string())
}

/// A value that is several segments of a path.
fn path(state: &State, value: &Value) -> Result<Value, Error> {
    if value.is_none() || value.is_undefined() {
        return Err(invalid("`path` has no value to work on".to_owned()));
    }
    let text = value.to_string();
    if let Some(dots) = text.split('/').find(|segment| is_dots(segment)) {
        return Err(invalid(format!(
            "`path` refuses the segment `{dots}` of `{text}`"
        )));
    }
    if *state.auto_escape() == IN_FILE {
        text.split('/').try_for_each(in_file)?;
        return Ok(Value::from_safe_string(text));
    }
    // Elsewhere there is nothing to encode, but dots are refused all the same.
    if *state.auto_escape() != IN_URL {
        return Ok(Value::from(text));
    }
    let segments: Vec<String> = text
        .split('/')
        .map(|segment| utf8_percent_encode(segment, RESERVED).to_string())
        .collect();
    Ok(Value::from_safe_string(segments.join("/")))
}

/// Whether a value may be a part of a file's name: letters, digits and a few signs that mean
/// nothing to any shell, file system or program that reads files by pattern (CWE-22, CWE-73).
pub(super) fn in_file(text: &str) -> Result<(), Error> {
    if text.starts_with('.') {
        return Err(invalid(format!(
            "the value {text:?} in a file's name begins with a dot"
        )));
    }
    let wrong = |c: &char| !(c.is_alphanumeric() || " ._-+=,@:".contains(*c));
    match text.chars().find(wrong) {
        Some('/') => Err(invalid(format!(
            "the value {text:?} in a file's name holds a slash; if it is meant as folders, put it through `path`"
        ))),
        Some(c) => Err(invalid(format!(
            "the value {text:?} in a file's name holds {c:?}; letters, digits, space and . _ - + = , @ : may stand there"
        ))),
        None => Ok(()),
    }
}

/// `.` and `..` change the path they stand in (RFC 3986 section 5.2.4).
fn is_dots(segment: &str) -> bool {
    matches!(segment, "." | "..")
}

/// The day of an instant (where it is written with an offset, there; else in UTC), or the instant in a `strftime` format.
fn date(value: &Value, format: Option<&str>) -> Result<String, Error> {
    let at = instant(value)?;
    match format {
        None => Ok(at.date().to_string()),
        Some(format) => jiff::fmt::strtime::format(format, &at)
            .map_err(|problem| invalid(format!("the date format `{format}`: {problem}"))),
    }
}

/// Reads RFC 3339, a date, or a date and time without a zone, which is taken as UTC.
fn instant(value: &Value) -> Result<Zoned, Error> {
    let is_number = number::reckoned(value).is_number();
    if value.is_undefined() || value.is_none() || is_number {
        return Err(invalid(format!(
            "a date or an instant is needed (`2024-01-31`, `2024-01-31T12:00:00Z`), not {}",
            if is_number { "a number" } else { "nothing" }
        )));
    }
    let text = value.to_string();
    let text = text.trim();
    if let Ok(at) = text.parse::<Timestamp>() {
        let offset = Pieces::parse(text)
            .ok()
            .and_then(|it| it.to_numeric_offset());
        return Ok(at.to_zoned(offset.map_or(TimeZone::UTC, TimeZone::fixed)));
    }
    text.parse::<civil::DateTime>()
        .and_then(|at| at.to_zoned(TimeZone::UTC))
        .map_err(|_| {
            invalid(format!(
                "`{text}` is not a date or an instant (`2024-01-31`, `2024-01-31T12:00:00Z`)"
            ))
        })
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}
