//! Values in the rows of the state, as they are meant. What cannot be read is an error that says where it stands:
//! a value made up in its place would decide what runs, and what is forgotten.

use jiff::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Error, Row};
use serde_json::Value;

/// So many characters of what cannot be read are shown.
const SHOWN: usize = 60;

/// A value that is not what its column holds.
#[derive(Debug, thiserror::Error)]
#[error("`{column}` of `{row}` is `{value}`, which is no {kind}")]
pub(super) struct Unreadable {
    column: String,
    /// The first column of the row, which is part of the key in all tables.
    row: String,
    value: String,
    kind: &'static str,
}

/// A time, written as RFC 3339.
pub(super) fn instant(row: &Row<'_>, column: &str) -> rusqlite::Result<Timestamp> {
    parsed(row, column, "time", |text| text.parse().ok())
}

/// A time, where there is one.
pub(super) fn instant_if_any(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<Timestamp>> {
    match row.get_ref(column)? {
        rusqlite::types::ValueRef::Null => Ok(None),
        _ => instant(row, column).map(Some),
    }
}

/// JSON.
pub(super) fn json(row: &Row<'_>, column: &str) -> rusqlite::Result<Value> {
    parsed(row, column, "JSON", |text| serde_json::from_str(text).ok())
}

/// What `read` makes of a text.
pub(super) fn parsed<T>(
    row: &Row<'_>,
    column: &str,
    kind: &'static str,
    read: impl FnOnce(&str) -> Option<T>,
) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    if let Some(value) = read(&text) {
        return Ok(value);
    }
    let error = Unreadable {
        column: column.to_owned(),
        row: row.get(0)?,
        value: text.chars().take(SHOWN).collect(),
        kind,
    };
    let at = row.as_ref().column_index(column)?;
    let error = Error::FromSqlConversionFailure(at, Type::Text, Box::new(error));
    Err(error)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::sim::SimDisk;
    use crate::store::cursors::{Cursor, Publish};
    use crate::store::firings::{Firing, Mark};
    use crate::store::history::RunRecord;
    use crate::store::row::PublishIntent;
    use crate::store::state::{State, StateError};

    fn at(written: &str) -> Timestamp {
        written.parse().unwrap()
    }

    /// A state with a row in each table.
    fn full() -> State {
        let disk = SimDisk::new(Path::new("/p"));
        let mut state = State::open(&disk.door(), Path::new("/p")).unwrap();
        let noon = at("2026-11-22T12:00:00Z");
        let run = RunRecord::begun("r1", "pipe", 7, noon);
        state.save_run(&run).unwrap();
        publish(&mut state, "r1", "2026-11-22T12:00:00Z");
        let mark = Mark {
            pipeline: "pipe".to_owned(),
            schedule: "@daily UTC".to_owned(),
            until: noon,
        };
        let firing = Firing::waiting("pipe", noon, 1);
        state.settle(&mark, &[firing]).unwrap();
        let run = Some("r1");
        state.note_condition("pipe", "failed", noon, run).unwrap();
        state
    }

    fn publish(state: &mut State, run: &str, when: &str) {
        let file = PublishIntent {
            stream: "items".into(),
            target: "/p/x.csv".to_owned(),
            size: 1,
            crc: 1,
        };
        let cursor = Cursor {
            pipeline: "pipe".to_owned(),
            stream: "items".to_owned(),
            partition: String::new(),
            field: "at".to_owned(),
            value: "1".to_owned(),
            format: "integer".to_owned(),
            run: run.to_owned(),
            updated: at(when),
        };
        let publish = Publish {
            run,
            pipeline: "pipe",
            stream: "items",
            at: at(when),
            files: &[(file, 1)],
            cursors: &[cursor],
            base: None,
        };
        state.publish(&[publish]).unwrap();
    }

    /// All that anybody reads.
    fn read(state: &State) -> Result<(), StateError> {
        state.runs(None)?;
        state.last_published("/p/x.csv")?;
        state.cursors("pipe")?;
        state.marks()?;
        state.firings("pipe")?;
        state.alert("pipe")?;
        Ok(())
    }

    #[test]
    fn what_cannot_be_read_is_named_and_nothing_is_made_up_for_it() {
        read(&full()).unwrap();
        for (table, column, kind) in [
            ("runs", "started", "time"),
            ("runs", "ended", "time"),
            ("runs", "status", "status of a run"),
            ("runs", "identity", "hash"),
            ("runs", "options", "JSON"),
            ("runs", "files", "JSON"),
            ("published", "at", "time"),
            ("cursors", "updated", "time"),
            ("marks", "until", "time"),
            ("firings", "at", "time"),
            ("firings", "status", "status of a time"),
            ("firings", "begun", "time"),
            ("alerts", "since", "time"),
            ("alerts", "webhook", "time"),
        ] {
            let state = full();
            let text = format!("UPDATE {table} SET {column} = 'soon'");
            assert_eq!(state.connection.execute(&text, []), Ok(1));
            let failure = read(&state).unwrap_err().into_failure();
            let row = match table {
                "runs" | "published" => "r1",
                _ => "pipe",
            };
            let wanted = format!(
                "/p/.gleaner/state.db: `{column}` of `{row}` is `soon`, which is no {kind}"
            );
            assert_eq!(failure.message, wanted);
        }
    }

    #[test]
    fn a_whole_second_is_before_its_fractions() {
        let mut state = full();
        let later = RunRecord::begun("r2", "pipe", 7, at("2026-11-22T12:00:00Z"));
        state.save_run(&later).unwrap();
        publish(&mut state, "r2", "2026-11-22T12:00:00.5Z");
        let last = state.last_published("/p/x.csv").unwrap().unwrap();
        assert_eq!(last.run, "r2");
        let all = state.published_by("pipe").unwrap();
        assert_eq!([&all[0].run, &all[1].run], ["r2", "r1"]);
        // Of each output the last one is remembered, whatever is forgotten.
        let none = crate::store::history::Retention {
            age: jiff::SignedDuration::ZERO,
            least: 0,
        };
        for id in ["r1", "r2"] {
            let ended = RunRecord {
                status: crate::store::history::Status::Complete,
                ..state.run(id).unwrap().unwrap()
            };
            state.save_run(&ended).unwrap();
        }
        let then = at("2026-11-23T12:00:00Z");
        assert_eq!(state.forget_runs("pipe", then, none).unwrap(), 2);
        let last = state.last_published("/p/x.csv").unwrap().unwrap();
        assert_eq!(last.run, "r2");
    }
}
