//! Tables of SQLite files read back: rows of cells as JSON text, of tables that this program wrote.

use std::io;
use std::path::Path;
use std::time::Duration;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

use super::invalid;
use crate::json;
use crate::plan::typed::Kind;
use crate::sink::database::columns::{listed, quoted};
use crate::sink::parquet::read::push_float;

/// How long a reader waits for somebody who writes, where the file has no write-ahead log.
const PATIENCE: Duration = Duration::from_secs(30);

/// How columns are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// As in SQL, where `id` and `ID` are one name.
    Sql,
    /// As the records call them.
    Records,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    /// By which name it was asked for.
    pub(super) shown: String,
    /// In SQL.
    name: String,
    /// What its values are; none where all are null.
    pub(super) kind: Option<Kind>,
}

/// The columns of a table, as the file's own ledger tells of them; not the one that says which run
/// brought a row.
pub(super) fn columns(path: &Path, table: &str, names: Names) -> io::Result<Vec<Told>> {
    let read = || -> rusqlite::Result<Vec<Told>> {
        let from = open(path)?;
        let mut noted = from.prepare(
            r#"SELECT name, source, type FROM "_gleaner_columns"
               WHERE "table" = ?1 COLLATE NOCASE ORDER BY position"#,
        )?;
        let told = noted.query_map([table], |row| {
            let (name, source): (String, String) = (row.get(0)?, row.get(1)?);
            let kind: Option<String> = row.get(2)?;
            Ok(Told {
                shown: match names {
                    Names::Sql => name.clone(),
                    Names::Records => source,
                },
                name,
                kind: kind.and_then(|kind| serde_json::from_value(kind.into()).ok()),
            })
        })?;
        told.collect()
    };
    read().map_err(io::Error::other)
}

/// Every row in the order in which they were written, as its cells: `""` is null.
pub(super) fn rows<E: From<io::Error>>(
    path: &Path,
    table: &str,
    columns: &[Told],
    each: &mut dyn FnMut(&[String]) -> Result<(), E>,
) -> Result<(), E> {
    if columns.is_empty() {
        return Ok(());
    }
    let failed = |error: rusqlite::Error| E::from(io::Error::other(error));
    let from = open(path).map_err(failed)?;
    let names = listed(columns.iter().map(|column| column.name.as_str()));
    let text = format!("SELECT {names} FROM {} ORDER BY rowid", quoted(table));
    let mut asked = from.prepare(&text).map_err(failed)?;
    let mut rows = asked.query([]).map_err(failed)?;
    let mut cells = vec![String::new(); columns.len()];
    while let Some(row) = rows.next().map_err(failed)? {
        for (number, (cell, column)) in cells.iter_mut().zip(columns).enumerate() {
            cell.clear();
            let value = row.get_ref(number).map_err(failed)?;
            push(cell, value, column).map_err(|error| E::from(error))?;
        }
        each(&cells)?;
    }
    Ok(())
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let from = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    from.busy_timeout(PATIENCE)?;
    Ok(from)
}

/// A value as JSON text.
fn push(cell: &mut String, value: ValueRef<'_>, column: &Told) -> io::Result<()> {
    match (value, column.kind) {
        (ValueRef::Null, _) => {}
        (ValueRef::Integer(number), Some(Kind::Boolean)) => {
            cell.push_str(if number == 0 { "false" } else { "true" });
        }
        (ValueRef::Integer(number), _) => cell.push_str(&number.to_string()),
        (ValueRef::Real(number), _) => push_float(cell, number),
        (ValueRef::Text(text), kind) => {
            let text = std::str::from_utf8(text)
                .map_err(|_| invalid(format!("column `{}` is not UTF-8", column.name)))?;
            match kind {
                // Numbers that 64 bits do not hold are text in SQL.
                Some(Kind::Json | Kind::Integer | Kind::Number) => cell.push_str(text),
                _ => json::push_quoted(cell, text),
            }
        }
        (ValueRef::Blob(_), _) => {
            return Err(invalid(format!(
                "column `{}` has bytes, which this program does not write",
                column.name
            )));
        }
    }
    Ok(())
}
