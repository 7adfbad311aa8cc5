//! Tables of SQLite files read back: rows of cells as JSON text, of tables that this program wrote.

use std::io;
use std::path::Path;
use std::time::Duration;

use percent_encoding::{AsciiSet, CONTROLS, percent_encode};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::invalid;
use crate::json;
use crate::plan::typed::Kind;
use crate::sink::database::columns::{listed, quoted};
use crate::sink::parquet::read::push_float;

/// How long a reader waits for somebody who writes, where the file has no write-ahead log.
const PATIENCE: Duration = Duration::from_secs(30);

/// What SQLite would read in a URI.
const NAME: &AsciiSet = &CONTROLS.add(b'%').add(b'?').add(b'#');

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

/// Opens a file to read it, and leaves nothing beside it: whoever may write takes the files of the write-ahead
/// log away as the last who closes it (SQLite, "Write-Ahead Logging"), who may only read would leave them.
///
/// Where none can be made, as in a folder that is read-only, and no log with rows is there, the file itself
/// is all there is: it is read as one that does not change (SQLite, "URI Filenames", `immutable`).
fn open(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(path, flags).and_then(|from| {
        from.busy_timeout(PATIENCE)?;
        from.pragma_update(None, "query_only", true)?;
        let is_mine = !from.is_readonly("main")? || has_log(path);
        if is_mine {
            // The first look at the file is what finds that a log cannot be made.
            from.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        }
        Ok(is_mine.then_some(from))
    });
    match opened {
        Ok(Some(from)) => return Ok(from),
        Err(error) if has_log(path) || !is_locked_out(&error) => return Err(error),
        Ok(None) | Err(_) => {}
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    Connection::open_with_flags(unchanging(path), flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)
}

/// Whether rows may stand in a log beside the file, and not in the file.
fn has_log(path: &Path) -> bool {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    std::fs::metadata(log).is_ok_and(|log| log.len() > 0)
}

/// Whether the place, and not the file, is why it cannot be read.
fn is_locked_out(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly)
    )
}

/// Its name as a URI that says that nobody writes it.
fn unchanging(path: &Path) -> String {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let bytes = path.as_os_str().as_encoded_bytes();
    let encoded = percent_encode(bytes, NAME);
    format!("file://{encoded}?immutable=1")
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A database as a publish leaves it, under a name that a URI would take apart.
    fn database(folder: &Path) -> std::path::PathBuf {
        let path = folder.join("a%41?b #c.db");
        let made = Connection::open(&path).unwrap();
        made.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))
            .unwrap();
        made.execute_batch(
            "CREATE TABLE t (n INTEGER) STRICT; INSERT INTO t VALUES (7);
             CREATE TABLE _gleaner_columns (\"table\", position, name, source, type, native);
             INSERT INTO _gleaner_columns VALUES ('t', 1, 'n', 'n', 'integer', 'int64');",
        )
        .unwrap();
        path
    }

    fn read(path: &Path) -> io::Result<Vec<String>> {
        let told = columns(path, "t", Names::Records)?;
        let mut found = Vec::new();
        rows::<io::Error>(path, "t", &told, &mut |cells| {
            found.extend_from_slice(cells);
            Ok(())
        })?;
        Ok(found)
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = (fs::read_dir(folder).unwrap())
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn reading_leaves_nothing_beside_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = database(folder.path());
        let before = fs::read(&path).unwrap();
        assert_eq!(read(&path).unwrap(), ["7"]);
        assert_eq!(names(folder.path()), ["a%41?b #c.db"]);
        // Nor of a file that may not be written.
        let mut only = fs::metadata(&path).unwrap().permissions();
        only.set_readonly(true);
        fs::set_permissions(&path, only).unwrap();
        assert_eq!(read(&path).unwrap(), ["7"]);
        assert_eq!(names(folder.path()), ["a%41?b #c.db"]);
        assert_eq!(fs::read(&path).unwrap(), before);
    }
}
