//! The state of a project between runs: `.gleaner/state.db`, one SQLite file.
//!
//! A rollback journal and `synchronous = EXTRA`: a transaction that has returned survives a power
//! cut, and when nobody is at work the state is one file that can be copied. It is written a few
//! times a run, so speed does not matter. Several processes may have it open: each transaction
//! takes the write lock at once (`BEGIN IMMEDIATE`) and waits up to [`PATIENCE`] for it.
//!
//! The schema's version is SQLite's `user_version`. An older one is migrated when it is opened, a newer
//! one refused.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::disk::{Access, Disk, DiskError, Open};
use crate::failure::{Exit, Failure};

/// How long one process waits for another's transaction.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Each step of the schema, from one version to the next; never changed, only added to.
const STEPS: [&str; 1] = ["
    CREATE TABLE runs (
        id TEXT PRIMARY KEY,
        pipeline TEXT NOT NULL,
        identity TEXT NOT NULL,
        status TEXT NOT NULL,
        started TEXT NOT NULL,
        ended TEXT,
        window_from TEXT,
        window_until TEXT,
        pages INTEGER NOT NULL DEFAULT 0,
        rows INTEGER NOT NULL DEFAULT 0,
        bytes INTEGER NOT NULL DEFAULT 0,
        requests INTEGER NOT NULL DEFAULT 0,
        retries TEXT NOT NULL DEFAULT '{}',
        waits TEXT NOT NULL DEFAULT '{}',
        files TEXT NOT NULL DEFAULT '[]',
        exit INTEGER,
        failure TEXT
    ) STRICT;
    CREATE INDEX runs_of_pipeline ON runs (pipeline, started);
    CREATE TABLE cursors (
        pipeline TEXT NOT NULL,
        stream TEXT NOT NULL,
        partition TEXT NOT NULL,
        field TEXT NOT NULL,
        value TEXT NOT NULL,
        format TEXT NOT NULL,
        run TEXT NOT NULL,
        updated TEXT NOT NULL,
        PRIMARY KEY (pipeline, stream, partition)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE validators (
        pipeline TEXT NOT NULL,
        stream TEXT NOT NULL,
        request TEXT NOT NULL,
        etag TEXT,
        last_modified TEXT,
        file TEXT NOT NULL,
        start INTEGER NOT NULL,
        len INTEGER NOT NULL,
        crc INTEGER NOT NULL,
        records INTEGER NOT NULL,
        updated TEXT NOT NULL,
        PRIMARY KEY (pipeline, stream, request)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE bases (
        pipeline TEXT NOT NULL,
        stream TEXT NOT NULL,
        file TEXT NOT NULL,
        generation INTEGER NOT NULL,
        run TEXT NOT NULL,
        updated TEXT NOT NULL,
        PRIMARY KEY (pipeline, stream)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE published (
        run TEXT NOT NULL,
        stream TEXT NOT NULL,
        target TEXT NOT NULL,
        size INTEGER NOT NULL,
        crc INTEGER NOT NULL,
        rows INTEGER NOT NULL,
        at TEXT NOT NULL,
        PRIMARY KEY (run, stream, target)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX published_target ON published (target, at);
"];

/// The version of the schema that this program writes.
pub const VERSION: u32 = STEPS.len() as u32;

/// The open state. One writer at a time; share it behind a mutex, off the async threads.
#[derive(Debug)]
pub struct State {
    pub(super) connection: Connection,
    pub(super) disk: Disk,
    pub(super) path: PathBuf,
}

/// Why the state cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file cannot be made, or no writing is allowed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// SQLite refused.
    #[error("the state in {} cannot be used", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What it said.
        #[source]
        source: rusqlite::Error,
    },
    /// Written by a later version of the program.
    #[error("{} is of version {found}; this program knows up to {known}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The latest that is known.
        known: u32,
    },
    /// On a network file system, where locks cannot be relied upon.
    #[error("{} is on a network file system ({kind}), where locks cannot be relied upon", path.display())]
    Network {
        /// The folder.
        path: PathBuf,
        /// Its kind.
        kind: &'static str,
    },
}

impl StateError {
    /// As a failure of a run.
    pub fn into_failure(self) -> Box<Failure> {
        let message = self.to_string();
        let (exit, causes, hint) = match &self {
            Self::Disk(error) => (
                Exit::Disk,
                vec![error.source.to_string()],
                super::error::disk_hint(error),
            ),
            Self::Sqlite { source, .. } => (
                match source.sqlite_error_code() {
                    Some(
                        rusqlite::ErrorCode::DiskFull
                        | rusqlite::ErrorCode::ReadOnly
                        | rusqlite::ErrorCode::CannotOpen
                        | rusqlite::ErrorCode::SystemIoFailure,
                    ) => Exit::Disk,
                    Some(rusqlite::ErrorCode::DatabaseBusy) => Exit::Locked,
                    _ => Exit::Failed,
                },
                vec![source.to_string()],
                "look at the disk and at who else has the file open, then run again",
            ),
            Self::Newer { .. } => (
                Exit::Failed,
                Vec::new(),
                "use the later version of the program",
            ),
            Self::Network { .. } => (
                Exit::Failed,
                Vec::new(),
                "put the project on a local disk; outputs can be copied elsewhere afterwards",
            ),
        };
        Box::new(Failure {
            exit,
            message,
            causes,
            hint: Some(hint.to_owned()),
        })
    }
}

impl State {
    /// Opens the state of the project at `root`, made if it is missing and brought to the
    /// current [`VERSION`].
    pub fn open(disk: &Disk, root: &Path) -> Result<Self, StateError> {
        let folder = root.join(".gleaner");
        disk.create_folder(&folder, Access::Private)?;
        if let Some(kind) = disk.network(&folder)? {
            return Err(StateError::Network { path: folder, kind });
        }
        let path = folder.join("state.db");
        // Made by us, so that nobody else can read it; SQLite would ask the umask.
        disk.open(&path, Open::Lasting)?;
        let place = disk.database(&path)?;
        let connection = Connection::open(&place).map_err(|source| StateError::Sqlite {
            path: path.clone(),
            source,
        })?;
        let mut state = Self {
            connection,
            disk: disk.clone(),
            path,
        };
        state.prepare()?;
        Ok(state)
    }

    fn prepare(&mut self) -> Result<(), StateError> {
        let settings = "PRAGMA journal_mode = DELETE; PRAGMA synchronous = EXTRA; \
                        PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF;";
        let patient = self.connection.busy_timeout(PATIENCE);
        patient
            .and_then(|()| self.connection.execute_batch(settings))
            .map_err(|e| self.failed(e))?;
        let found = version(&self.connection).map_err(|e| self.failed(e))?;
        if found == VERSION {
            return Ok(());
        }
        self.change("migrate", |change| {
            // Another process may have been first.
            let found = version(change)?;
            for step in STEPS.iter().skip(found as usize) {
                change.execute_batch(step)?;
            }
            if found < VERSION {
                change.pragma_update(None, "user_version", VERSION)?;
            }
            Ok(())
        })?;
        let found = version(&self.connection).map_err(|e| self.failed(e))?;
        if found > VERSION {
            return Err(StateError::Newer {
                path: self.path.clone(),
                found,
                known: VERSION,
            });
        }
        Ok(())
    }

    /// One transaction: all of it is on the disk when this returns, or nothing.
    pub(super) fn change<T>(
        &mut self,
        action: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StateError> {
        self.disk.foreign(action, &self.path)?;
        let path = &self.path;
        let failed = |source| StateError::Sqlite {
            path: path.clone(),
            source,
        };
        let change = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed)?;
        let done = work(&change).map_err(failed)?;
        change.commit().map_err(failed)?;
        Ok(done)
    }

    pub(super) fn failed(&self, source: rusqlite::Error) -> StateError {
        StateError::Sqlite {
            path: self.path.clone(),
            source,
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn version(connection: &Connection) -> rusqlite::Result<u32> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}
