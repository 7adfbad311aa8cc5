//! Which of several versions of a record counts: the one with the greatest cursor.

use crate::json;
use crate::plan::cursor::CursorPlan;
use crate::plan::position::Seen;

/// The value of a record's cursor field.
pub(in crate::harvest) fn see(cursor: &CursorPlan, record: &str) -> Seen {
    match &cursor.field {
        None => Seen::Nothing,
        Some(field) => cursor.format.see(json::get(record, field)),
    }
}

/// Appends bytes that sort as the cursors of records do. A record without one is older than all
/// that have one; without a cursor all are alike.
pub(in crate::harvest) fn push_rank(cursor: Option<&CursorPlan>, record: &str, out: &mut Vec<u8>) {
    match cursor.map(|cursor| see(cursor, record)) {
        Some(Seen::At(position)) => {
            out.push(1);
            position.push_ordered(out);
        }
        _ => out.push(0),
    }
}
