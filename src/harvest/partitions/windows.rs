//! The window that each partition of a stream asks for, fixed when the run starts.

use std::collections::HashMap;

use jiff::Timestamp;
use minijinja::Value;

use super::{CURSOR, Partition};
use crate::failure::{Exit, Failure};
use crate::harvest::Options;
use crate::plan::cursor::{Bound, CursorPlan};
use crate::plan::position::{Format, Position};
use crate::plan::{Plan, StreamPlan};

/// A window asked for on the command line; the cursor stays where it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Backfill {
    /// From `start` again.
    pub full: bool,
    /// From here.
    pub from: Option<String>,
    /// Up to here.
    pub to: Option<String>,
}

impl Backfill {
    /// Whether anything is asked for.
    pub fn is_asked(&self) -> bool {
        *self != Self::default()
    }
}

/// A cursor as it was kept.
#[derive(Debug, Clone)]
pub(in crate::harvest) struct Kept {
    /// The partition's identity.
    pub(in crate::harvest) partition: String,
    /// The field it was kept for.
    pub(in crate::harvest) field: String,
    /// Up to where.
    pub(in crate::harvest) value: String,
}

/// The windows of a stream.
#[derive(Debug)]
pub(in crate::harvest) struct Windows {
    kept: HashMap<String, Position>,
    started: Timestamp,
    from: Option<Position>,
    to: Option<Position>,
}

impl Windows {
    /// The windows of a stream with this cursor, in a run that started at `started`.
    pub(in crate::harvest) fn open(
        stream: &str,
        cursor: &CursorPlan,
        kept: Vec<Kept>,
        started: Timestamp,
        backfill: &Backfill,
    ) -> Result<Self, Box<Failure>> {
        let mut positions = HashMap::new();
        for one in kept {
            let position = (one.field == cursor.written)
                .then(|| cursor.format.restore(&one.value))
                .flatten();
            let Some(position) = position else {
                return Err(refused(stream, cursor, &one));
            };
            positions.insert(one.partition, position);
        }
        let asked = |flag: &str, written: &Option<String>| match written {
            None => Ok(None),
            Some(written) => match Bound::parse_in(written, &cursor.format, &cursor.zone) {
                Ok(bound) => Ok(Some(bound.at_in(started, &cursor.zone))),
                Err(message) => Err(Box::new(Failure {
                    exit: Exit::Usage,
                    message: format!("{flag}, for the stream {stream}: {message}"),
                    causes: Vec::new(),
                    hint: None,
                })),
            },
        };
        let from = if backfill.full {
            Some(cursor.start.at_in(started, &cursor.zone))
        } else {
            asked("--from", &backfill.from)?
        };
        let to = match asked("--to", &backfill.to)? {
            None => cursor.to(started),
            to => to,
        };
        if let (Some(from), Some(to)) = (&from, &to)
            && from > to
        {
            return Err(Box::new(Failure {
                exit: Exit::Usage,
                message: format!("{stream}: a window from {from} to {to} holds nothing"),
                causes: Vec::new(),
                hint: Some("the earlier end comes first".to_owned()),
            }));
        }
        Ok(Self {
            kept: positions,
            started,
            from,
            to,
        })
    }

    /// Where the window of a partition begins.
    pub(in crate::harvest) fn from(&self, cursor: &CursorPlan, partition: &Partition) -> Position {
        match &self.from {
            Some(from) => from.clone(),
            None => cursor.from(self.kept(&partition.identity()), self.started),
        }
    }

    /// Where the first of all partitions that were fetched before begins, or one that is new.
    pub(in crate::harvest) fn earliest(&self, cursor: &CursorPlan) -> Position {
        if let Some(from) = &self.from {
            return from.clone();
        }
        let kept = self.kept.values();
        let kept = kept.map(|kept| cursor.from(Some(kept), self.started));
        kept.min()
            .unwrap_or_else(|| cursor.from(None, self.started))
    }

    /// The furthest that any partition was published.
    pub(in crate::harvest) fn newest(&self) -> Option<&Position> {
        self.kept.values().max()
    }

    /// Where all of them end, if they do.
    pub(in crate::harvest) fn to(&self) -> Option<&Position> {
        self.to.as_ref()
    }

    /// What was kept of a partition.
    pub(in crate::harvest) fn kept(&self, partition: &str) -> Option<&Position> {
        self.kept.get(partition)
    }

    /// Whether no partition was ever published.
    pub(in crate::harvest) fn is_first(&self) -> bool {
        self.kept.is_empty()
    }

    /// Beginning and end of a window that ends before it begins: there is nothing to ask for.
    pub(in crate::harvest) fn inverted(
        &self,
        cursor: &CursorPlan,
        partition: &Partition,
    ) -> Option<(Position, &Position)> {
        let from = self.from(cursor, partition);
        let to = self.to.as_ref().filter(|to| from > **to)?;
        Some((from, to))
    }

    /// The partition, with its window in sight of templates.
    pub(in crate::harvest) fn see(
        &self,
        cursor: &CursorPlan,
        mut partition: Partition,
    ) -> Partition {
        let from = self.from(cursor, &partition);
        let to = self.to.as_ref().map(|to| ("to", to.to_value()));
        let window = Value::from_pairs([("from", from.to_value())].into_iter().chain(to));
        partition.variables.push((CURSOR.to_owned(), window));
        partition
    }
}

/// A cursor that cannot be compared with what the pipeline now says.
fn refused(stream: &str, cursor: &CursorPlan, kept: &Kept) -> Box<Failure> {
    let message = if kept.field == cursor.written {
        let one = match &cursor.format {
            Format::Integer | Format::Text => cursor.format.one(),
            _ => "an instant",
        };
        format!(
            "{stream}: its cursor is kept at `{}`, which is not {one}",
            kept.value
        )
    } else {
        let shown = |field: &str| match field {
            "" => "no field".to_owned(),
            field => format!("`{field}`"),
        };
        format!(
            "{stream}: its cursor is kept for {}, and the pipeline now goes by {}",
            shown(&kept.field),
            shown(&cursor.written)
        )
    };
    Box::new(Failure {
        exit: Exit::Failed,
        message,
        causes: Vec::new(),
        hint: Some(
            "`gleaner state reset NAME` lets it begin at `start` again; what was fetched stays"
                .to_owned(),
        ),
    })
}

/// A window can only be asked of streams that have one.
pub(in crate::harvest) fn refuse_backfill(
    plan: &Plan,
    options: &Options,
) -> Result<(), Box<Failure>> {
    let wanted =
        |stream: &&StreamPlan| options.streams.is_empty() || options.streams.contains(&stream.name);
    let mut streams = plan.streams.iter().filter(wanted);
    if !options.backfill.is_asked() || streams.any(|stream| stream.cursor.is_some()) {
        return Ok(());
    }
    Err(Box::new(Failure {
        exit: Exit::Usage,
        message: format!(
            "--full, --from and --to ask for a window, but no stream of `{}` has a `cursor`",
            plan.name
        ),
        causes: Vec::new(),
        hint: Some("without a cursor every run fetches everything: leave them out".to_owned()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::path::Path;
    use crate::plan::position::Lookback;

    fn cursor(format: Format) -> CursorPlan {
        CursorPlan {
            field: Path::parse("at").ok(),
            written: "at".to_owned(),
            start: Bound::parse(if format.is_time() { "2024-01-01" } else { "5" }, &format)
                .expect("a bound"),
            end: None,
            lookback: format
                .is_time()
                .then_some(Lookback::Time(std::time::Duration::from_hours(1))),
            newest_first: false,
            zone: jiff::tz::TimeZone::UTC,
            format,
        }
    }

    fn partition(repo: &str) -> Partition {
        Partition {
            ordinal: 0,
            variables: vec![("repo".to_owned(), Value::from(repo))],
        }
    }

    fn kept(field: &str, value: &str) -> Vec<Kept> {
        vec![Kept {
            partition: r#"{"repo":"old"}"#.to_owned(),
            field: field.to_owned(),
            value: value.to_owned(),
        }]
    }

    fn open(cursor: &CursorPlan, kept: Vec<Kept>, ask: &Backfill) -> Result<Windows, Box<Failure>> {
        let started = "2026-03-05T04:05:06Z".parse().expect("an instant");
        Windows::open("items", cursor, kept, started, ask)
    }

    fn seen(windows: &Windows, cursor: &CursorPlan, repo: &str) -> String {
        let seen = windows.see(cursor, partition(repo));
        let (name, window) = seen.variables.last().expect("a window");
        assert_eq!(name, CURSOR);
        assert_eq!(
            seen.label(),
            format!("repo={repo}"),
            "a window is no variable"
        );
        serde_json::to_string(window).expect("JSON")
    }

    #[test]
    fn a_known_partition_goes_on_and_a_new_one_begins_at_the_start() {
        let cursor = cursor(Format::Epoch);
        let usual = Backfill::default();
        let windows = open(&cursor, kept("at", "2026-03-01T12:00:00Z"), &usual).expect("windows");
        assert_eq!(
            seen(&windows, &cursor, "old"),
            r#"{"from":"2026-03-01T11:00:00Z","to":"2026-03-05T04:05:06Z"}"#
        );
        assert_eq!(
            seen(&windows, &cursor, "new"),
            r#"{"from":"2024-01-01T00:00:00Z","to":"2026-03-05T04:05:06Z"}"#
        );
    }

    #[test]
    fn a_backfill_is_the_same_window_for_all() {
        let cursor = cursor(Format::Epoch);
        let ask = |full, from: Option<&str>, to: Option<&str>| Backfill {
            full,
            from: from.map(str::to_owned),
            to: to.map(str::to_owned),
        };
        let old = || kept("at", "2026-03-01T12:00:00Z");
        let windows = open(&cursor, old(), &ask(true, None, None)).expect("windows");
        assert!(seen(&windows, &cursor, "old").contains("2024-01-01"));
        let windows = open(
            &cursor,
            old(),
            &ask(false, Some("2025-01-01"), Some("today - 30d")),
        );
        assert_eq!(
            seen(&windows.expect("windows"), &cursor, "old"),
            r#"{"from":"2025-01-01T00:00:00Z","to":"2026-02-03T00:00:00Z"}"#
        );
        let no = |ask: &Backfill| open(&cursor, old(), ask).expect_err("refused");
        assert!(
            no(&ask(false, Some("2025-02-01"), Some("2025-01-01")))
                .message
                .contains("holds nothing")
        );
        assert!(
            no(&ask(false, Some("soon"), None))
                .message
                .starts_with("--from")
        );
    }

    #[test]
    fn a_cursor_of_another_field_or_kind_is_refused() {
        let (integer, usual) = (cursor(Format::Integer), Backfill::default());
        let refused = |kept| *open(&integer, kept, &usual).expect_err("refused");
        assert!(
            refused(kept("at", "2026-03-01T12:00:00Z"))
                .message
                .contains("a whole number")
        );
        assert!(refused(kept("created", "5")).message.contains("`created`"));
        let windows = open(&integer, kept("at", "9007199254740993"), &usual).expect("windows");
        assert_eq!(
            seen(&windows, &integer, "old"),
            r#"{"from":9007199254740993}"#
        );
    }
}
