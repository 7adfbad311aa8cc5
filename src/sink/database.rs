//! A table of a SQLite file as an output: all rows of a publish and its row in the ledger `_gleaner`
//! are one transaction, so a publish is there once or not at all, and readers see the old rows or
//! the new.
//!
//! A file cannot be renamed into its place here, since other tables live in it. What SQLite promises
//! takes the place of that: the transaction is written beside (a write-ahead log, in files that we
//! make), and [`super::Built::place`] commits it.

pub mod columns;
mod fill;
mod table;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use super::SinkError;
use crate::disk::{self, Disk, Found};
use crate::plan::sink::SinkMode;

pub use self::fill::{Fill, rewrite, write};

/// How long one process waits for another's transaction on the same file.
const PATIENCE: Duration = Duration::from_mins(2);

/// The tables that tell what was published; readers may use them too.
const LEDGER: &str = r#"
    CREATE TABLE IF NOT EXISTS "_gleaner" (
        publish INTEGER PRIMARY KEY,
        "table" TEXT NOT NULL,
        pipeline TEXT NOT NULL,
        stream TEXT NOT NULL,
        run TEXT NOT NULL,
        published_at TEXT NOT NULL,
        mode TEXT NOT NULL,
        rows INTEGER NOT NULL,
        definition TEXT NOT NULL,
        base TEXT,
        version TEXT NOT NULL,
        UNIQUE ("table", run)
    ) STRICT;
    CREATE TABLE IF NOT EXISTS "_gleaner_columns" (
        "table" TEXT NOT NULL,
        position INTEGER NOT NULL,
        name TEXT NOT NULL,
        source TEXT NOT NULL,
        type TEXT,
        native TEXT NOT NULL,
        PRIMARY KEY ("table", position)
    ) STRICT, WITHOUT ROWID;
"#;

/// A table of a SQLite file.
#[derive(Debug, Clone)]
pub struct Place {
    /// On which disk.
    pub disk: Disk,
    /// The file.
    pub path: PathBuf,
    /// The table in it.
    pub table: String,
}

/// Whose publish it is, and what it is made of.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The pipeline.
    pub pipeline: String,
    /// The stream.
    pub stream: String,
    /// The run.
    pub run: String,
    /// When, as RFC 3339.
    pub at: String,
    /// What becomes of rows that are there.
    pub mode: SinkMode,
    /// The columns that together tell records apart.
    pub key: Vec<String>,
    /// What the columns are made of: rows of two definitions cannot stand in one merged table.
    pub definition: String,
    /// With `merge`: which state of all that was gathered the table shows now.
    pub base: Option<String>,
}

/// The [`Claim::definition`] of what `convert` writes; those of runs are hashes.
const CONVERTED: &str = "convert";

impl Claim {
    /// Of a table that holds what was published elsewhere. It is no publish of a run: no run adds to it, and
    /// it takes the place of no table that runs publish.
    pub fn converted(pipeline: &str, stream: &str, run: &str, at: String) -> Self {
        Self {
            pipeline: pipeline.to_owned(),
            stream: stream.to_owned(),
            run: run.to_owned(),
            at,
            mode: SinkMode::Replace,
            // What was added to may hold a record many times.
            key: Vec::new(),
            definition: CONVERTED.to_owned(),
            base: None,
        }
    }
}

/// A row of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The pipeline.
    pub pipeline: String,
    /// The run.
    pub run: String,
    /// `replace`, `append` or `merge`.
    pub mode: String,
    /// See [`Claim::definition`].
    pub definition: String,
    /// See [`Claim::base`].
    pub base: Option<String>,
    /// Rows of the publish.
    pub rows: u64,
}

impl Place {
    /// Its name in messages and in the state: `data/x.db#items`.
    pub fn shown(&self) -> PathBuf {
        let mut shown = self.path.clone().into_os_string();
        shown.push("#");
        shown.push(&self.table);
        shown.into()
    }

    /// Refuses, before anything was asked of an API, what cannot be written: no database, a network file
    /// system, a table of somebody else.
    pub fn probe(&self, pipeline: &str) -> Result<(), SinkError> {
        if self.disk.look(&self.path).map_err(|e| self.said(e))? == Found::Nothing {
            let folder = disk::above(&self.path);
            if let Some(kind) = self.disk.network(folder).map_err(|e| self.said(e))? {
                return Err(self.refused(format!(
                    "it is on a network file system ({kind}), where SQLite's locks cannot be relied upon"
                )));
            }
            return Ok(());
        }
        let connection = self.open()?;
        self.judge_owner(&connection, pipeline, false)
    }

    /// The latest publish of the table; none where there is no such file or table.
    pub fn last(&self) -> Result<Option<Entry>, SinkError> {
        // The pretend disk has databases that it does not list.
        let place = (self.disk.database(&self.path)).map_err(|e| self.said(e))?;
        if place == self.path && !matches!(self.disk.look(&self.path), Ok(Found::File(_))) {
            return Ok(None);
        }
        let connection = Connection::open(&place).map_err(|e| self.failed(e))?;
        self.settled(&connection)?;
        if !self.is_there(&connection, &self.table)? {
            return Ok(None);
        }
        self.entry(&connection, None)
    }

    /// Whether a run has published the table.
    pub fn has(&self, run: &str) -> Result<bool, SinkError> {
        Ok(self.last()?.is_some_and(|entry| entry.run == run))
    }

    /// Opens the file, made if it is missing; a new one gets a write-ahead log, so that readers are
    /// never locked out by a long publish. One that is there keeps the journal it has.
    fn open(&self) -> Result<Connection, SinkError> {
        let place = (self.disk.database(&self.path)).map_err(|e| self.said(e))?;
        let connection = Connection::open_with_flags(&place, OpenFlags::default())
            .map_err(|e| self.failed(e))?;
        self.settled(&connection)?;
        let pages: i64 = connection
            .query_row("PRAGMA page_count", [], |row| row.get(0))
            .map_err(|e| self.failed(e))?;
        if pages == 0 {
            connection
                .query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))
                .map_err(|e| self.failed(e))?;
        }
        Ok(connection)
    }

    fn settled(&self, connection: &Connection) -> Result<(), SinkError> {
        connection
            .busy_timeout(PATIENCE)
            .and_then(|()| {
                connection.execute_batch(
                    "PRAGMA synchronous = EXTRA; PRAGMA cache_size = -8192; \
                     PRAGMA trusted_schema = OFF; PRAGMA foreign_keys = OFF; \
                     PRAGMA legacy_alter_table = ON;",
                )
            })
            .map_err(|e| self.failed(e))
    }

    fn judge_owner(
        &self,
        connection: &Connection,
        pipeline: &str,
        converts: bool,
    ) -> Result<(), SinkError> {
        if !self.is_there(connection, &self.table)? {
            return Ok(());
        }
        match self.entry(connection, None)? {
            Some(entry) if entry.pipeline == pipeline => {
                match (entry.definition == CONVERTED, converts) {
                    (true, false) => Err(self.refused(format!(
                        "the table `{}` was written by `gleaner convert`",
                        self.table
                    ))),
                    (false, true) => {
                        Err(self.refused(format!("runs publish the table `{}`", self.table)))
                    }
                    _ => Ok(()),
                }
            }
            Some(entry) => Err(self.refused(format!(
                "the table `{}` belongs to the pipeline {}",
                self.table, entry.pipeline
            ))),
            None => Err(self.refused(format!(
                "it has a table `{}` that no run of a pipeline has made",
                self.table
            ))),
        }
    }

    fn is_there(&self, connection: &Connection, table: &str) -> Result<bool, SinkError> {
        let text = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = ?1 COLLATE NOCASE)";
        connection
            .query_row(text, [table], |row| row.get(0))
            .map_err(|e| self.failed(e))
    }

    fn entry(
        &self,
        connection: &Connection,
        run: Option<&str>,
    ) -> Result<Option<Entry>, SinkError> {
        if !self.is_there(connection, "_gleaner")? {
            return Ok(None);
        }
        let text = r#"SELECT pipeline, run, mode, definition, base, rows FROM "_gleaner"
            WHERE "table" = ?1 COLLATE NOCASE AND (?2 IS NULL OR run = ?2)
            ORDER BY publish DESC LIMIT 1"#;
        connection
            .query_row(text, params![self.table, run], |row| {
                Ok(Entry {
                    pipeline: row.get(0)?,
                    run: row.get(1)?,
                    mode: row.get(2)?,
                    definition: row.get(3)?,
                    base: row.get(4)?,
                    rows: row.get(5)?,
                })
            })
            .optional()
            .map_err(|e| self.failed(e))
    }

    /// Begins the one transaction of a publish.
    fn begin(&self, claim: &Claim) -> Result<Pending, SinkError> {
        let connection = self.open()?;
        (self.disk.foreign("write rows in", &self.path)).map_err(|e| self.said(e))?;
        let begun = connection.execute_batch("BEGIN IMMEDIATE");
        begun.map_err(|e| self.failed(e))?;
        self.judge_owner(&connection, &claim.pipeline, claim.definition == CONVERTED)?;
        (connection.execute_batch(LEDGER)).map_err(|e| self.failed(e))?;
        Ok(Pending {
            connection,
            place: self.clone(),
        })
    }

    fn failed(&self, source: rusqlite::Error) -> SinkError {
        SinkError::Database {
            path: self.shown(),
            source,
        }
    }

    fn refused(&self, why: String) -> SinkError {
        SinkError::Refused {
            path: self.path.clone(),
            why,
        }
    }

    fn said(&self, error: disk::DiskError) -> SinkError {
        SinkError::new("write", self.path.clone(), error.source)
    }
}

/// A publish that is written and not yet committed; undone when dropped.
#[derive(Debug)]
pub struct Pending {
    connection: Connection,
    place: Place,
}

impl Pending {
    /// Writes the ledger's row.
    fn note(&self, claim: &Claim, rows: u64) -> Result<(), SinkError> {
        self.connection
            .execute(
                r#"INSERT OR REPLACE INTO "_gleaner"
                   ("table", pipeline, stream, run, published_at, mode, rows, definition, base, version)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)"#,
                params![
                    self.place.table,
                    claim.pipeline,
                    claim.stream,
                    claim.run,
                    claim.at,
                    claim.mode.name(),
                    rows,
                    claim.definition,
                    claim.base,
                    env!("CARGO_PKG_VERSION"),
                ],
            )
            .map(|_| ())
            .map_err(|e| self.place.failed(e))
    }

    /// Bytes of the whole file as it will be.
    pub(super) fn bytes(&self) -> u64 {
        let size = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
        (self.connection.query_row(size, [], |row| row.get(0))).unwrap_or_default()
    }

    /// Where it is.
    pub(super) fn path(&self) -> PathBuf {
        self.place.shown()
    }

    /// Makes it true, in one step for whoever looks; durable when this returns.
    pub(super) fn commit(self) -> Result<(), SinkError> {
        let Self { connection, place } = self;
        (place.disk.foreign("commit rows in", &place.path)).map_err(|e| place.said(e))?;
        (connection.execute_batch("COMMIT")).map_err(|e| place.failed(e))?;
        // The last who closes the file brings the log into it; a reader that is at work then leaves
        // that to the next.
        drop(connection);
        let folder: &Path = disk::above(&place.path);
        (place.disk.sync_folder(folder)).map_err(|e| place.said(e))
    }
}
