//! The state of a project between runs: `.gleaner/state.db`, one SQLite file.
//!
//! A rollback journal and `synchronous = EXTRA`: a transaction that has returned survives a power
//! cut, and when nobody is at work the state is one file that can be copied. It is written a few
//! times a run, so speed does not matter. Several processes may have it open: each transaction
//! takes the write lock at once (`BEGIN IMMEDIATE`) and waits up to [`PATIENCE`] for it.
//!
//! The schema's version is SQLite's `user_version`. An older one is migrated when it is opened, a newer
//! one refused.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::field::Unreadable;
use crate::disk::{Access, Disk, DiskError, Found};
use crate::failure::{Exit, Failure};

/// How long one process waits for another's transaction.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Each step of the schema, from one version to the next; never changed, only added to.
const STEPS: [&str; 7] = [
    "
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
",
    // What a run was, for those who look back; and parts that wait for a person.
    "
    ALTER TABLE runs ADD COLUMN version TEXT NOT NULL DEFAULT '';
    ALTER TABLE runs ADD COLUMN plan TEXT NOT NULL DEFAULT '';
    ALTER TABLE runs ADD COLUMN options TEXT NOT NULL DEFAULT '{}';
    ALTER TABLE runs ADD COLUMN attempts INTEGER NOT NULL DEFAULT 1;
    ALTER TABLE runs ADD COLUMN active REAL NOT NULL DEFAULT 0;
    ALTER TABLE runs ADD COLUMN streams TEXT NOT NULL DEFAULT '[]';
    ALTER TABLE runs ADD COLUMN quota TEXT NOT NULL DEFAULT '{}';
    ALTER TABLE runs ADD COLUMN hint TEXT;
    ALTER TABLE runs ADD COLUMN released TEXT;
",
    // The schedule.
    "
    CREATE TABLE marks (
        pipeline TEXT PRIMARY KEY,
        schedule TEXT NOT NULL,
        until TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE firings (
        pipeline TEXT NOT NULL,
        at TEXT NOT NULL,
        times INTEGER NOT NULL,
        status TEXT NOT NULL,
        begun TEXT,
        ended TEXT,
        run TEXT,
        exit INTEGER,
        why TEXT,
        PRIMARY KEY (pipeline, at)
    ) STRICT, WITHOUT ROWID;
",
    // Who was told how a pipeline is.
    "
    CREATE TABLE alerts (
        pipeline TEXT PRIMARY KEY,
        condition TEXT NOT NULL,
        since TEXT NOT NULL,
        run TEXT,
        webhook TEXT,
        command TEXT
    ) STRICT, WITHOUT ROWID;
",
    // What each of them knows, and the message, for whoever comes after a kill.
    "
    ALTER TABLE alerts ADD COLUMN was TEXT;
    ALTER TABLE alerts ADD COLUMN was_since TEXT;
    ALTER TABLE alerts ADD COLUMN message TEXT;
    ALTER TABLE alerts ADD COLUMN webhook_knows TEXT;
    ALTER TABLE alerts ADD COLUMN command_knows TEXT;
    UPDATE alerts SET webhook_knows = condition WHERE webhook IS NOT NULL;
    UPDATE alerts SET command_knows = condition WHERE command IS NOT NULL;
",
    // Of what is published again, some outputs may be new and others old.
    "
    ALTER TABLE runs ADD COLUMN again TEXT;
",
    // A run asks for those that are not over, and not for all that ever were.
    "
    CREATE INDEX runs_unended ON runs (pipeline)
        WHERE status IN ('running', 'resumable') OR again IS NOT NULL;
",
];

/// The version of the schema that this program writes.
#[expect(clippy::cast_possible_truncation, reason = "there are a few")]
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
    /// A value is not what its column holds.
    #[error("{}: {what}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Which value, and where.
        what: String,
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
            Self::Disk(error) => (Exit::Disk, vec![error.source.to_string()], error.hint()),
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
            Self::Unreadable { .. } => (
                Exit::Failed,
                Vec::new(),
                "nothing was changed; put back a copy of the file, or mend the value with any tool for SQLite",
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
        // Made by us, so that nobody else can read it; SQLite would ask the umask. One that is there
        // is not touched: to close it would free the locks that other connections of this
        // process hold on it (`fcntl(2)`).
        if disk.look(&path)? == Found::Nothing {
            match disk.create_private(&path) {
                Err(error) if error.source.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(error.into());
                }
                _ => {}
            }
        }
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
        let failed = |source| failed(path, source);
        let change = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed)?;
        let done = work(&change).map_err(failed)?;
        change.commit().map_err(failed)?;
        Ok(done)
    }

    pub(super) fn failed(&self, source: rusqlite::Error) -> StateError {
        failed(&self.path, source)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn failed(path: &Path, source: rusqlite::Error) -> StateError {
    let path = path.to_owned();
    match &source {
        rusqlite::Error::FromSqlConversionFailure(_, _, what) if what.is::<Unreadable>() => {
            let what = what.to_string();
            StateError::Unreadable { path, what }
        }
        _ => StateError::Sqlite { path, source },
    }
}

fn version(connection: &Connection) -> rusqlite::Result<u32> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;
    use std::os::unix::fs::PermissionsExt;

    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::sim::{SimDisk, Trouble};
    use crate::store::cursors::{Base, Cursor, Publish};
    use crate::store::history::{Counts, Retention, RunRecord, Status, UNENDED};
    use crate::store::row::PublishIntent;

    fn cursor(stream: &str, partition: &str, value: &str) -> Cursor {
        Cursor {
            pipeline: "pipe".to_owned(),
            stream: stream.to_owned(),
            partition: partition.to_owned(),
            field: "id".to_owned(),
            value: value.to_owned(),
            format: "integer".to_owned(),
            run: "r1".to_owned(),
            updated: Timestamp::UNIX_EPOCH,
        }
    }

    fn file(target: &str, size: u64) -> (PublishIntent, u64) {
        let intent = PublishIntent {
            stream: "items".into(),
            target: target.to_owned(),
            size,
            crc: u32::MAX,
        };
        (intent, 3)
    }

    #[test]
    fn the_file_is_private_durable_and_of_this_version() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(&Disk::system(), folder.path()).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(state.path()), 0o600);
        assert_eq!(mode(&folder.path().join(".gleaner")), 0o700);
        let pragma = |name: &str| {
            let value: rusqlite::types::Value = state
                .connection
                .query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))
                .unwrap();
            value
        };
        assert_eq!(pragma("user_version"), i64::from(VERSION).into());
        assert_eq!(pragma("synchronous"), 3.into());
        assert_eq!(pragma("journal_mode"), "delete".to_owned().into());
        drop(state);
        // Nothing beside it when nobody is at work.
        assert_eq!(
            std::fs::read_dir(folder.path().join(".gleaner"))
                .unwrap()
                .count(),
            1
        );
    }

    #[test]
    fn an_older_state_is_brought_up_and_a_newer_one_refused() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join(".gleaner/state.db");
        std::fs::create_dir(folder.path().join(".gleaner")).unwrap();
        std::fs::write(&place, "").unwrap();
        let mut state = State::open(&Disk::system(), folder.path()).unwrap();
        state.set_cursor(&cursor("items", "", "1")).unwrap();
        state
            .connection
            .pragma_update(None, "user_version", VERSION + 1)
            .unwrap();
        drop(state);
        let before = std::fs::read(&place).unwrap();
        let error = State::open(&Disk::system(), folder.path()).unwrap_err();
        assert!(
            matches!(error, StateError::Newer { found, .. } if found == VERSION + 1),
            "{error}"
        );
        assert_eq!(std::fs::read(&place).unwrap(), before);
        std::fs::write(&place, "not a database, but longer than a header of one").unwrap();
        let failure = State::open(&Disk::system(), folder.path())
            .unwrap_err()
            .into_failure();
        assert_eq!(failure.exit, Exit::Failed, "{failure}");
    }

    #[test]
    fn a_state_of_the_first_version_keeps_its_runs() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(".gleaner")).unwrap();
        let old = Connection::open(folder.path().join(".gleaner/state.db")).unwrap();
        old.execute_batch(STEPS[0]).unwrap();
        old.pragma_update(None, "user_version", 1).unwrap();
        old.execute_batch(
            "INSERT INTO runs (id, pipeline, identity, status, started, rows)
             VALUES ('r1', 'pipe', '00000000000000ff', 'resumable', '2026-11-22T02:30:00Z', 7)",
        )
        .unwrap();
        drop(old);
        let state = State::open(&Disk::system(), folder.path()).unwrap();
        let run = state.run("r1").unwrap().unwrap();
        assert_eq!((run.status, run.counts.rows), (Status::Resumable, 7));
        assert_eq!((run.identity, run.attempts), (255, 1));
        assert_eq!(run.streams, json!([]));
    }

    #[test]
    fn what_is_long_past_is_forgotten_but_not_what_counts() {
        let disk = SimDisk::new(Path::new("/p"));
        let mut state = State::open(&disk.door(), Path::new("/p")).unwrap();
        let day = |day: i64| Timestamp::from_second(day * 86_400).unwrap();
        for n in 0..10 {
            let id = format!("r{n}");
            let mut run = RunRecord::begun(&id, "pipe", 1, day(n));
            run.status = if n == 1 {
                Status::Resumable
            } else {
                Status::Complete
            };
            state.save_run(&run).unwrap();
            // Only the first wrote the second output.
            let files = [file("/p/x.csv", 1), file("/p/once.csv", 1)];
            let publish = Publish {
                run: &id,
                pipeline: "pipe",
                stream: "items",
                at: day(n),
                files: &files[..if n == 0 { 2 } else { 1 }],
                cursors: &[],
                base: None,
            };
            state.publish(std::slice::from_ref(&publish)).unwrap();
        }
        state
            .save_run(&RunRecord::begun("other", "other", 1, day(0)))
            .unwrap();
        let keep = |age: i64, least| Retention {
            age: jiff::SignedDuration::from_hours(24 * age),
            least,
        };
        assert_eq!(state.forget_runs("pipe", day(10), keep(400, 3)).unwrap(), 0);
        assert_eq!(state.forget_runs("pipe", day(10), keep(1, 100)).unwrap(), 0);
        assert_eq!(state.forget_runs("pipe", day(10), keep(5, 3)).unwrap(), 4);
        let left = state.runs(Some("pipe")).unwrap();
        let left: Vec<&str> = left.iter().map(|run| run.id.as_str()).collect();
        assert_eq!(left, ["r9", "r8", "r7", "r6", "r5", "r1"]);
        assert_eq!(state.runs(Some("other")).unwrap().len(), 1);
        assert_eq!(
            state.last_published("/p/once.csv").unwrap().unwrap().run,
            "r0"
        );
        assert_eq!(state.last_published("/p/x.csv").unwrap().unwrap().run, "r9");
        assert!(!state.is_published("r2", "items").unwrap());
        assert_eq!(state.forget_runs("pipe", day(10), keep(0, 2)).unwrap(), 3);
    }

    #[test]
    fn times_are_compared_as_times_and_not_as_text() {
        let disk = SimDisk::new(Path::new("/p"));
        let mut state = State::open(&disk.door(), Path::new("/p")).unwrap();
        // As text the whole second comes after its fractions.
        for (id, started) in [
            ("r1", "2026-11-22T02:30:00Z"),
            ("r2", "2026-11-22T02:30:00.25Z"),
            ("r3", "2026-11-22T02:30:00.5Z"),
        ] {
            let started = started.parse().unwrap();
            let mut run = RunRecord::begun(id, "pipe", 1, started);
            run.status = Status::Complete;
            run.ended = Some(started);
            state.save_run(&run).unwrap();
        }
        let ids = |state: &State| -> Vec<String> {
            let runs = state.runs(Some("pipe")).unwrap().into_iter();
            runs.map(|run| run.id).collect()
        };
        assert_eq!(ids(&state), ["r3", "r2", "r1"]);
        let retention = Retention {
            age: jiff::SignedDuration::from_secs(60),
            least: 1,
        };
        let now = "2026-11-22T02:31:00.3Z".parse().unwrap();
        assert_eq!(state.forget_runs("pipe", now, retention).unwrap(), 2);
        assert_eq!(ids(&state), ["r3"]);
        // What counts is when it ended.
        let mut long = RunRecord::begun("r0", "pipe", 1, "2026-11-01T00:00:00Z".parse().unwrap());
        long.status = Status::Complete;
        long.ended = Some(now);
        state.save_run(&long).unwrap();
        assert_eq!(state.forget_runs("pipe", now, retention).unwrap(), 0);
    }

    #[test]
    fn a_run_reads_no_more_of_the_past_than_it_needs() {
        let disk = SimDisk::new(Path::new("/p"));
        let mut state = State::open(&disk.door(), Path::new("/p")).unwrap();
        for n in 0..10 {
            let at = Timestamp::from_second(n * 60).unwrap();
            let mut run = RunRecord::begun(&format!("r{n}"), "pipe", 1, at);
            run.status = match n {
                2 => Status::Resumable,
                _ => Status::Complete,
            };
            state.save_run(&run).unwrap();
        }
        state.publish_again("r4", Timestamp::UNIX_EPOCH).unwrap();
        // Whoever reads this row fails.
        let damage = "UPDATE runs SET options = 'no JSON' WHERE id = 'r0'";
        state.connection.execute(damage, []).unwrap();
        assert!(state.runs(Some("pipe")).is_err());
        let unended = state.unended("pipe").unwrap();
        let unended: Vec<&str> = unended.iter().map(|run| run.id.as_str()).collect();
        assert_eq!(unended, ["r4", "r2"]);
        let mut seen = Vec::new();
        let look = |run: RunRecord| {
            seen.push(run.id);
            match seen.len() {
                3 => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        };
        state.look_back("pipe", look).unwrap();
        assert_eq!(seen, ["r9", "r8", "r7"]);
        assert!(state.may_know("r9") && state.may_know("r0") && !state.may_know("r10"));
        // Nor does it pass over all rows for the few that it wants.
        let plan = |text: &str| -> String {
            let text = format!("EXPLAIN QUERY PLAN {text}");
            let mut told = state.connection.prepare(&text).unwrap();
            let lines = told.query_map([], |row| row.get::<_, String>("detail"));
            lines.unwrap().map(|line| line.unwrap() + "; ").collect()
        };
        let unended = format!("SELECT * FROM runs WHERE pipeline = 'pipe' AND ({UNENDED})");
        assert!(
            plan(&unended).contains("INDEX runs_unended"),
            "{}",
            plan(&unended)
        );
    }

    #[test]
    fn two_who_open_it_first_agree() {
        let folder = tempfile::tempdir().unwrap();
        let threads: Vec<_> = (0..4)
            .map(|n| {
                let root = folder.path().to_owned();
                std::thread::spawn(move || {
                    let mut state = State::open(&Disk::system(), &root).unwrap();
                    for at in 0..5 {
                        state
                            .set_cursor(&cursor("items", &format!("{n}-{at}"), "1"))
                            .unwrap();
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        let state = State::open(&Disk::system(), folder.path()).unwrap();
        assert_eq!(state.cursors("pipe").unwrap().len(), 20);
    }

    #[test]
    fn a_network_file_system_is_refused() {
        let disk = SimDisk::new(Path::new("/p"));
        disk.set_network(Some("NFS"));
        let error = State::open(&disk.door(), Path::new("/p")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "/p/.gleaner is on a network file system (NFS), where locks cannot be relied upon"
        );
    }

    #[test]
    fn a_publish_is_one_step_and_may_be_done_again() {
        let disk = SimDisk::new(Path::new("/p"));
        let mut state = State::open(&disk.door(), Path::new("/p")).unwrap();
        let base = Base {
            file: "pipe/items.3".to_owned(),
            generation: 3,
            run: "r1".to_owned(),
        };
        let cursors = [cursor("items", "", "8")];
        let files = [file("/p/x.csv", 10)];
        let publish = Publish {
            run: "r1",
            pipeline: "pipe",
            stream: "items",
            at: Timestamp::UNIX_EPOCH,
            files: &files,
            cursors: &cursors,
            base: Some(&base),
        };
        disk.set_trouble(Trouble::Always(1, std::io::ErrorKind::StorageFull));
        let failure = state
            .publish(std::slice::from_ref(&publish))
            .unwrap_err()
            .into_failure();
        assert_eq!(failure.exit, Exit::Disk);
        disk.set_trouble(Trouble::None);
        assert!(!state.is_published("r1", "items").unwrap());
        assert_eq!(state.cursor("pipe", "items", "").unwrap(), None);
        for _ in 0..2 {
            state.publish(std::slice::from_ref(&publish)).unwrap();
            assert!(state.is_published("r1", "items").unwrap());
            assert_eq!(state.cursors("pipe").unwrap(), cursors);
            assert_eq!(state.base("pipe", "items").unwrap().as_ref(), Some(&base));
            let last = state.last_published("/p/x.csv").unwrap().unwrap();
            assert_eq!((last.size, last.rows, last.run.as_str()), (10, 3, "r1"));
        }
    }

    #[test]
    fn cursors_are_forgotten_one_by_one_or_together() {
        let disk = SimDisk::new(Path::new("/p"));
        let mut state = State::open(&disk.door(), Path::new("/p")).unwrap();
        for (stream, partition) in [("a", "1"), ("a", "2"), ("b", "")] {
            state.set_cursor(&cursor(stream, partition, "1")).unwrap();
        }
        state.set_cursor(&cursor("a", "1", "2")).unwrap();
        assert_eq!(state.cursor("pipe", "a", "1").unwrap().unwrap().value, "2");
        assert_eq!(
            state.reset_cursors("pipe", Some("a"), Some("2")).unwrap(),
            1
        );
        assert_eq!(state.reset_cursors("other", None, None).unwrap(), 0);
        assert_eq!(state.cursors("pipe").unwrap().len(), 2);
        assert_eq!(state.reset_cursors("pipe", None, None).unwrap(), 2);
    }

    #[test]
    fn runs_come_back_as_they_were_saved() {
        let disk = SimDisk::new(Path::new("/p"));
        let mut state = State::open(&disk.door(), Path::new("/p")).unwrap();
        let mut first = RunRecord::begun("r1", "pipe", u64::MAX, Timestamp::UNIX_EPOCH);
        let later = Timestamp::from_second(10).unwrap();
        let second = RunRecord::begun("r2", "other", 2, later);
        state.save_run(&first).unwrap();
        state.save_run(&second).unwrap();
        first.status = Status::Failed;
        first.ended = Some(later);
        first.window_from = Some("2026-01-01".to_owned());
        first.counts = Counts {
            pages: 1,
            rows: 2,
            bytes: 3,
            requests: 4,
        };
        first.retries = json!({"throttle": 2});
        first.files = json!([{"path": "x", "crc": 1}]);
        first.exit = Some(73);
        first.failure = Some("disk full".to_owned());
        first.hint = Some("free some space".to_owned());
        (first.version, first.plan) = ("0.1.0".to_owned(), "c0ffee".to_owned());
        first.options = json!({"streams": ["a"]});
        (first.attempts, first.active) = (3, 61.5);
        first.streams = json!([{"stream": "a", "records": 2}]);
        first.quota = json!({"60/min": 4.0});
        first.released = Some(later);
        state.save_run(&first).unwrap();
        assert_eq!(state.run("r1").unwrap().as_ref(), Some(&first));
        assert_eq!(state.run("r3").unwrap(), None);
        assert_eq!(state.runs(None).unwrap(), [second, first.clone()]);
        assert_eq!(state.runs(Some("pipe")).unwrap(), [first]);
    }
}
