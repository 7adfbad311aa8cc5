//! A window of time as templates see it: `.from`, `.to`, `.last`, `.days`.

use std::fmt;
use std::sync::Arc;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use minijinja::Value;
use minijinja::value::{Enumerator, Object, ObjectRepr};

/// A window of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Its first moment.
    pub from: Timestamp,
    /// The first moment after it.
    pub to: Timestamp,
    zone: TimeZone,
}

/// Nothing shorter is halved: APIs that take finer times are rare, and those that need it more so.
const SHORTEST: SignedDuration = SignedDuration::from_secs(1);

impl Window {
    /// From one moment to another, which is later.
    pub fn new(from: Timestamp, to: Timestamp, zone: TimeZone) -> Self {
        Self { from, to, zone }
    }

    /// The window that a template's value is.
    pub fn of(value: &Value) -> Option<&Self> {
        value.downcast_object_ref()
    }

    /// The name of its zone; none for the machine's own.
    pub fn zone(&self) -> Option<&str> {
        self.zone.iana_name()
    }

    /// A window as it was: both ends in RFC 3339, and the name of its zone.
    pub fn restore(from: &str, to: &str, zone: &str) -> Option<Self> {
        let zone = TimeZone::get(zone).ok()?;
        Some(Self::new(from.parse().ok()?, to.parse().ok()?, zone))
    }

    /// The first day inside.
    fn first_day(&self) -> Date {
        self.from.to_zoned(self.zone.clone()).date()
    }

    /// The last day inside.
    fn last_day(&self) -> Date {
        let last = self.to.checked_sub(SignedDuration::from_nanos(1));
        let last = last.unwrap_or(self.from).max(self.from);
        last.to_zoned(self.zone.clone()).date()
    }

    /// Days that it holds, those that it holds a part of among them.
    fn days(&self) -> i32 {
        (self.last_day() - self.first_day()).get_days() + 1
    }

    fn midnight(&self, day: Date) -> Option<Timestamp> {
        day.to_zoned(self.zone.clone())
            .ok()
            .map(|at| at.timestamp())
    }

    /// Its two halves, cut between days if it holds several, else at a whole second; none if it is
    /// too short.
    pub fn halves(&self) -> Option<(Self, Self)> {
        let days = self.days();
        let middle = if days > 1 {
            self.midnight(self.first_day().checked_add((days / 2).days()).ok()?)?
        } else {
            let half = self.to.duration_since(self.from) / 2;
            let middle = self.from.checked_add(half).ok()?;
            Timestamp::from_second(middle.as_second()).ok()?
        };
        let first = Self::new(self.from, middle, self.zone.clone());
        let second = Self::new(middle, self.to, self.zone.clone());
        let lasts = |window: &Self| window.to.duration_since(window.from) >= SHORTEST;
        (lasts(&first) && lasts(&second)).then_some((first, second))
    }

    /// RFC 3339: in UTC with `Z`, elsewhere with the offset of the zone.
    fn spell(&self, at: Timestamp) -> String {
        if self.zone == TimeZone::UTC {
            return at.to_string();
        }
        at.display_with_offset(self.zone.to_offset(at)).to_string()
    }
}

/// `2024-01-01`, `2024-01-01 to 2024-01-07`, or instants where it does not hold whole days.
impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = (self.first_day(), self.last_day());
        let is_whole = self.midnight(first) == Some(self.from)
            && last.tomorrow().ok().and_then(|day| self.midnight(day)) == Some(self.to);
        match is_whole {
            true if first == last => write!(f, "{first}"),
            true => write!(f, "{first} to {last}"),
            false => write!(f, "{} to {}", self.spell(self.from), self.spell(self.to)),
        }
    }
}

impl Object for Window {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        Some(match key.as_str()? {
            "from" => Value::from(self.spell(self.from)),
            "to" => Value::from(self.spell(self.to)),
            "last" => Value::from(self.last_day().to_string()),
            "days" => Value::from(self.days()),
            _ => return None,
        })
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Str(&["from", "to", "last", "days"])
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(from: &str, to: &str, zone: &str) -> Window {
        let at = |text: &str| text.parse().expect("an instant");
        Window::new(at(from), at(to), TimeZone::get(zone).expect("a zone"))
    }

    #[test]
    fn templates_see_instants_days_and_how_many() {
        let json =
            |window: Window| serde_json::to_string(&Value::from_object(window)).expect("JSON");
        assert_eq!(
            json(window(
                "2024-02-01T00:00:00Z",
                "2024-03-01T00:00:00Z",
                "UTC"
            )),
            r#"{"from":"2024-02-01T00:00:00Z","to":"2024-03-01T00:00:00Z","last":"2024-02-29","days":29}"#
        );
        assert_eq!(
            json(window(
                "2024-03-30T23:00:00Z",
                "2024-03-31T22:00:00Z",
                "Europe/Berlin"
            )),
            r#"{"from":"2024-03-31T00:00:00+01:00","to":"2024-04-01T00:00:00+02:00","last":"2024-03-31","days":1}"#
        );
        // Cut off in the middle of a day, that day counts.
        assert_eq!(
            json(window(
                "2024-02-01T00:00:00Z",
                "2024-02-03T04:05:06Z",
                "UTC"
            )),
            r#"{"from":"2024-02-01T00:00:00Z","to":"2024-02-03T04:05:06Z","last":"2024-02-03","days":3}"#
        );
        let value = Value::from_object(window(
            "2024-02-01T00:00:00Z",
            "2024-02-02T00:00:00Z",
            "UTC",
        ));
        assert_eq!(value.to_string(), "2024-02-01");
        assert!(Window::of(&value).is_some());
        assert!(Window::of(&Value::from("2024-02-01")).is_none());
    }

    #[test]
    fn halves_lie_between_days_and_then_between_seconds() {
        let halves = |from, to, zone| {
            let halves = window(from, to, zone).halves();
            halves.map(|(first, second)| {
                assert_eq!(first.to, second.from);
                [first.to_string(), second.to_string()]
            })
        };
        assert_eq!(
            halves("2024-01-01T00:00:00Z", "2024-01-08T00:00:00Z", "UTC").expect("two"),
            ["2024-01-01 to 2024-01-03", "2024-01-04 to 2024-01-07"]
        );
        assert_eq!(
            halves(
                "2024-03-29T23:00:00Z",
                "2024-03-31T22:00:00Z",
                "Europe/Berlin"
            )
            .expect("two"),
            ["2024-03-30", "2024-03-31"]
        );
        assert_eq!(
            halves("2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z", "UTC").expect("two"),
            [
                "2024-01-01T00:00:00Z to 2024-01-01T12:00:00Z",
                "2024-01-01T12:00:00Z to 2024-01-02T00:00:00Z"
            ]
        );
        assert!(halves("2024-01-01T00:00:00Z", "2024-01-01T00:00:02Z", "UTC").is_some());
        assert!(halves("2024-01-01T00:00:00Z", "2024-01-01T00:00:01Z", "UTC").is_none());
    }
}
