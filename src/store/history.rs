//! Runs in the state: one row for each, from its start to its end.

use std::ops::ControlFlow;

use jiff::{SignedDuration, Timestamp};
use rusqlite::{OptionalExtension, Row, named_params, params};
use serde_json::Value;

use super::field::{instant, instant_if_any, json, parsed};
use super::state::{State, StateError};

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Begun; at work if its pipeline is locked, else it was killed and can go on.
    Running,
    /// Ended before it was complete, and can go on.
    Resumable,
    /// Everything is published.
    Complete,
    /// Ended: everything came, and checks hold what was not published. A person may release it.
    Held,
    /// Ended, and will not go on.
    Failed,
    /// Given up by a person.
    Discarded,
}

/// What is known of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRecord {
    /// Its id.
    pub id: String,
    /// The pipeline.
    pub pipeline: String,
    /// [`super::row::Identity::hash`] of what it asks.
    pub identity: u64,
    /// The program's version, of its latest attempt.
    pub version: String,
    /// A hash of the pipeline file, of its latest attempt.
    pub plan: String,
    /// What the command line asked for, where it asked for anything.
    pub options: Value,
    /// How it stands.
    pub status: Status,
    /// When it began.
    pub started: Timestamp,
    /// When its latest attempt ended.
    pub ended: Option<Timestamp>,
    /// How many processes have worked on it.
    pub attempts: u32,
    /// Seconds that those were at work which could say so.
    pub active: f64,
    /// The lower bound of its window, where it was asked for.
    pub window_from: Option<String>,
    /// The upper bound of its window.
    pub window_until: Option<String>,
    /// What it has done so far.
    pub counts: Counts,
    /// What each stream came to, an object a stream.
    pub streams: Value,
    /// Failed attempts by class.
    pub retries: Value,
    /// Seconds waited by limit or pause.
    pub waits: Value,
    /// Calls, or units of a cost, taken of each limit.
    pub quota: Value,
    /// Published files with sizes and checksums.
    pub files: Value,
    /// The exit code of the latest attempt.
    pub exit: Option<u8>,
    /// Why it failed.
    pub failure: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// When a person published it though its checks did not hold.
    pub released: Option<Timestamp>,
    /// Since when it is being published again: until that has ended well, some of its outputs may be
    /// new and others old.
    pub again: Option<Timestamp>,
}

/// How much of the past is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Runs that ended longer ago are forgotten.
    pub age: SignedDuration,
    /// But never these many latest ones of a pipeline.
    pub least: u32,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            age: SignedDuration::from_hours(400 * 24),
            least: 30,
        }
    }
}

/// Sums of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Pages committed.
    pub pages: u64,
    /// Records committed.
    pub rows: u64,
    /// Bytes of bodies.
    pub bytes: u64,
    /// Requests sent, retries and redirects included.
    pub requests: u64,
}

impl Status {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Running, "running"),
        (Self::Resumable, "resumable"),
        (Self::Complete, "complete"),
        (Self::Held, "held"),
        (Self::Failed, "failed"),
        (Self::Discarded, "discarded"),
    ];

    /// Its name, in the state and for people.
    pub fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(status, _)| *status == self)
            .map_or("failed", |(_, name)| name)
    }

    fn parse(name: &str) -> Option<Self> {
        let mut all = Self::ALL.iter();
        all.find(|(_, known)| *known == name)
            .map(|(status, _)| *status)
    }

    /// Whether a run can go on from here.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Running | Self::Resumable)
    }
}

impl RunRecord {
    /// A run that begins.
    pub fn begun(id: &str, pipeline: &str, identity: u64, started: Timestamp) -> Self {
        Self {
            id: id.to_owned(),
            pipeline: pipeline.to_owned(),
            identity,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            plan: String::new(),
            options: object(),
            status: Status::Running,
            started,
            ended: None,
            attempts: 1,
            active: 0.0,
            window_from: None,
            window_until: None,
            counts: Counts::default(),
            streams: Value::Array(Vec::new()),
            retries: object(),
            waits: object(),
            quota: object(),
            files: Value::Array(Vec::new()),
            exit: None,
            failure: None,
            hint: None,
            released: None,
            again: None,
        }
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let hash = |text: &str| u64::from_str_radix(text, 16).ok();
        Ok(Self {
            id: row.get("id")?,
            pipeline: row.get("pipeline")?,
            identity: parsed(row, "identity", "hash", hash)?,
            version: row.get("version")?,
            plan: row.get("plan")?,
            options: json(row, "options")?,
            status: parsed(row, "status", "status of a run", Status::parse)?,
            started: instant(row, "started")?,
            ended: instant_if_any(row, "ended")?,
            attempts: row.get("attempts")?,
            active: row.get("active")?,
            window_from: row.get("window_from")?,
            window_until: row.get("window_until")?,
            counts: Counts {
                pages: row.get("pages")?,
                rows: row.get("rows")?,
                bytes: row.get("bytes")?,
                requests: row.get("requests")?,
            },
            streams: json(row, "streams")?,
            retries: json(row, "retries")?,
            waits: json(row, "waits")?,
            quota: json(row, "quota")?,
            files: json(row, "files")?,
            exit: row.get("exit")?,
            failure: row.get("failure")?,
            hint: row.get("hint")?,
            released: instant_if_any(row, "released")?,
            again: instant_if_any(row, "again")?,
        })
    }
}

/// What may go on or is being published again, in the words of the index `runs_unended`: only then it
/// is used.
pub(super) const UNENDED: &str = "status IN ('running', 'resumable') OR again IS NOT NULL";

fn object() -> Value {
    Value::Object(serde_json::Map::new())
}

impl State {
    /// Writes all that is known of a run: a new one, or in the place of what was known.
    pub fn save_run(&mut self, run: &RunRecord) -> Result<(), StateError> {
        self.change("save a run in", |change| {
            change.execute(
                "INSERT OR REPLACE INTO runs (id, pipeline, identity, version, plan, options,
                     status, started, ended, attempts, active, window_from, window_until, pages,
                     rows, bytes, requests, streams, retries, waits, quota, files, exit, failure,
                     hint, released, again)
                 VALUES (:id, :pipeline, :identity, :version, :plan, :options,
                     :status, :started, :ended, :attempts, :active, :window_from, :window_until, :pages,
                     :rows, :bytes, :requests, :streams, :retries, :waits, :quota, :files, :exit, :failure,
                     :hint, :released, :again)",
                named_params! {
                    ":id": run.id,
                    ":pipeline": run.pipeline,
                    ":identity": format!("{:016x}", run.identity),
                    ":version": run.version,
                    ":plan": run.plan,
                    ":options": run.options.to_string(),
                    ":status": run.status.name(),
                    ":started": run.started.to_string(),
                    ":ended": run.ended.map(|at| at.to_string()),
                    ":attempts": run.attempts,
                    ":active": run.active,
                    ":window_from": run.window_from,
                    ":window_until": run.window_until,
                    ":pages": run.counts.pages,
                    ":rows": run.counts.rows,
                    ":bytes": run.counts.bytes,
                    ":requests": run.counts.requests,
                    ":streams": run.streams.to_string(),
                    ":retries": run.retries.to_string(),
                    ":waits": run.waits.to_string(),
                    ":quota": run.quota.to_string(),
                    ":files": run.files.to_string(),
                    ":exit": run.exit,
                    ":failure": run.failure,
                    ":hint": run.hint,
                    ":released": run.released.map(|at| at.to_string()),
                    ":again": run.again.map(|at| at.to_string()),
                },
            )?;
            Ok(())
        })
    }

    /// The first output of a run that is published again is about to take its place. It stays noted until
    /// [`State::save_run`] writes the run without it.
    pub fn publish_again(&mut self, id: &str, now: Timestamp) -> Result<(), StateError> {
        self.change("note what is published again in", |change| {
            let text = "UPDATE runs SET again = ?2 WHERE id = ?1 AND again IS NULL";
            change.execute(text, [id, &now.to_string()])?;
            Ok(())
        })
    }

    /// One run.
    pub fn run(&self, id: &str) -> Result<Option<RunRecord>, StateError> {
        let found = self.runs_where("id = ?1", id)?;
        Ok(found.into_iter().next())
    }

    /// Whether a run is known, or it cannot be said: then nothing of it is removed.
    pub fn may_know(&self, id: &str) -> bool {
        let known = || -> rusqlite::Result<bool> {
            let mut asked = (self.connection).prepare_cached("SELECT 1 FROM runs WHERE id = ?1")?;
            asked.exists([id])
        };
        known().unwrap_or(true)
    }

    /// Runs of a pipeline, the latest first; of all without a name.
    pub fn runs(&self, pipeline: Option<&str>) -> Result<Vec<RunRecord>, StateError> {
        let mut found = match pipeline {
            Some(pipeline) => self.runs_where("pipeline = ?1", pipeline),
            None => self.runs_where("?1 = ''", ""),
        }?;
        latest_first(&mut found);
        Ok(found)
    }

    /// Runs of a pipeline that may go on, or are being published again; the latest first.
    pub fn unended(&self, pipeline: &str) -> Result<Vec<RunRecord>, StateError> {
        let mut found = self.runs_where(&format!("pipeline = ?1 AND ({UNENDED})"), pipeline)?;
        latest_first(&mut found);
        Ok(found)
    }

    /// Shows runs of a pipeline, from the latest back, to one who says when that is enough. Of runs
    /// that began within one second either may come first.
    pub fn look_back(
        &self,
        pipeline: &str,
        mut look: impl FnMut(RunRecord) -> ControlFlow<()>,
    ) -> Result<(), StateError> {
        let mut read = || -> rusqlite::Result<()> {
            let text = "SELECT * FROM runs WHERE pipeline = ?1 ORDER BY started DESC, id DESC";
            let mut found = self.connection.prepare(text)?;
            let mut rows = found.query([pipeline])?;
            while let Some(row) = rows.next()? {
                if look(RunRecord::read(row)?).is_break() {
                    break;
                }
            }
            Ok(())
        };
        read().map_err(|e| self.failed(e))
    }

    /// Forgets runs of a pipeline that ended long ago, and says how many. Those that may go on
    /// stay, and of each output what tells who wrote it last.
    pub fn forget_runs(
        &mut self,
        pipeline: &str,
        now: Timestamp,
        retention: Retention,
    ) -> Result<usize, StateError> {
        let oldest = now.checked_sub(retention.age).unwrap_or(Timestamp::MIN);
        // What ended before that began before that. By the index, so that those that stay cost nothing;
        // a second later, since a text of whole seconds sorts after its fractions.
        let begun = oldest.checked_add(SignedDuration::from_secs(1));
        let begun = begun.unwrap_or(Timestamp::MAX);
        self.change("forget runs in", |change| {
            // As times and not as text. Text is wrong only within a second, so the latest are among some
            // more that are the latest as text, which the index knows.
            let gone = "SELECT id FROM runs WHERE pipeline = ?1 AND started < ?4
                     AND julianday(COALESCE(ended, started)) < julianday(?2)
                     AND status NOT IN ('running', 'resumable')
                     AND id NOT IN (
                         SELECT id FROM (SELECT id, started FROM runs WHERE pipeline = ?1
                             ORDER BY started DESC LIMIT ?3 + 100)
                         ORDER BY julianday(started) DESC, id DESC LIMIT ?3)";
            let of = params![
                pipeline,
                oldest.to_string(),
                retention.least,
                begun.to_string()
            ];
            change.execute(
                &format!(
                    "DELETE FROM published WHERE run IN ({gone}) AND EXISTS (
                         SELECT 1 FROM published AS later
                         WHERE later.target = published.target
                         AND julianday(later.at) > julianday(published.at))"
                ),
                of,
            )?;
            change.execute(&format!("DELETE FROM runs WHERE id IN ({gone})"), of)
        })
    }

    /// The latest run of the pipeline that began after `run` and published any output.
    pub fn published_after(&self, run: &RunRecord) -> Result<Option<String>, StateError> {
        let text = "SELECT id FROM runs WHERE pipeline = ?1 AND id <> ?2
             AND julianday(started) >= julianday(?3)
             AND EXISTS (SELECT 1 FROM published WHERE published.run = runs.id)
             ORDER BY julianday(started) DESC, id DESC LIMIT 1";
        let of = params![run.pipeline, run.id, run.started.to_string()];
        let found = self.connection.query_row(text, of, |row| row.get(0));
        found.optional().map_err(|e| self.failed(e))
    }

    fn runs_where(&self, condition: &str, value: &str) -> Result<Vec<RunRecord>, StateError> {
        let text = format!("SELECT * FROM runs WHERE {condition}");
        let read = || -> rusqlite::Result<Vec<RunRecord>> {
            self.connection
                .prepare(&text)?
                .query_map([value], RunRecord::read)?
                .collect()
        };
        read().map_err(|e| self.failed(e))
    }
}

/// As times and not as text, in which a whole second comes after its fractions.
fn latest_first(runs: &mut [RunRecord]) {
    runs.sort_by(|a, b| (b.started, &b.id).cmp(&(a.started, &a.id)));
}
