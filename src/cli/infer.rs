//! What kind of values a column holds, judged by the values of one page.

use std::fmt;

/// A kind of value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing but null or absent.
    Null,
    /// `true`, `false`.
    Boolean,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// `2024-05-01`
    Date,
    /// RFC 3339, with a zone.
    Timestamp,
    /// Any other text.
    Text,
    /// An array, or an object that has no fields.
    Json,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "null",
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Date => "date",
            Self::Timestamp => "timestamp",
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

impl Kind {
    /// The kind of one value, given as JSON text.
    pub(super) fn of(json: &str) -> Self {
        match json.as_bytes().first() {
            None | Some(b'n') => Self::Null,
            Some(b't' | b'f') => Self::Boolean,
            Some(b'"') => of_text(&json[1..json.len().saturating_sub(1).max(1)]),
            Some(b'[' | b'{') => Self::Json,
            Some(_) if json.contains(['.', 'e', 'E']) => Self::Number,
            Some(_) => Self::Integer,
        }
    }

    /// The narrowest kind that holds the values of both.
    pub(super) fn join(self, other: Self) -> Self {
        match (self, other) {
            (a, b) if a == b => a,
            (Self::Null, kind) | (kind, Self::Null) => kind,
            (Self::Integer | Self::Number, Self::Integer | Self::Number) => Self::Number,
            (Self::Json, _) | (_, Self::Json) => Self::Json,
            _ => Self::Text,
        }
    }
}

/// Dates and instants have no escapes, so the raw text is enough.
fn of_text(text: &str) -> Kind {
    let digits_at = |range: std::ops::Range<usize>| {
        text.as_bytes()
            .get(range)
            .is_some_and(|part| part.iter().all(u8::is_ascii_digit))
    };
    if !(digits_at(0..4) && digits_at(5..7) && digits_at(8..10)) {
        Kind::Text
    } else if text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok() {
        Kind::Date
    } else if text.len() > 10 && text.parse::<jiff::Timestamp>().is_ok() {
        Kind::Timestamp
    } else {
        Kind::Text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_kinds() {
        for (json, kind) in [
            ("null", Kind::Null),
            ("true", Kind::Boolean),
            ("12345678901234567890123", Kind::Integer),
            ("-1.10", Kind::Number),
            ("1e3", Kind::Number),
            ("\"2024-05-01\"", Kind::Date),
            ("\"2024-13-01\"", Kind::Text),
            ("\"2024-05-01T10:00:00Z\"", Kind::Timestamp),
            ("\"2024-05-01T10:00:00\"", Kind::Text),
            ("\"00123\"", Kind::Text),
            ("\"\"", Kind::Text),
            ("[1]", Kind::Json),
        ] {
            assert_eq!(Kind::of(json), kind, "{json}");
        }
    }

    #[test]
    fn kinds_widen() {
        let joined = |kinds: &[Kind]| kinds.iter().fold(Kind::Null, |a, b| a.join(*b));
        assert_eq!(
            joined(&[Kind::Null, Kind::Integer, Kind::Null]),
            Kind::Integer
        );
        assert_eq!(joined(&[Kind::Integer, Kind::Number]), Kind::Number);
        assert_eq!(joined(&[Kind::Date, Kind::Timestamp]), Kind::Text);
        assert_eq!(joined(&[Kind::Boolean, Kind::Integer]), Kind::Text);
        assert_eq!(joined(&[]), Kind::Null);
    }
}
