//! Runs in the state: one row for each, from its start to its end.

use jiff::Timestamp;
use rusqlite::{Row, named_params};
use serde_json::Value;

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
    /// How it stands.
    pub status: Status,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// The lower bound of its window, where it was asked for.
    pub window_from: Option<String>,
    /// The upper bound of its window.
    pub window_until: Option<String>,
    /// What it has done so far.
    pub counts: Counts,
    /// Failed attempts by class.
    pub retries: Value,
    /// Seconds waited by limit or pause.
    pub waits: Value,
    /// Published files with sizes and checksums.
    pub files: Value,
    /// The exit code.
    pub exit: Option<u8>,
    /// Why it failed.
    pub failure: Option<String>,
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
    const ALL: [(Self, &'static str); 5] = [
        (Self::Running, "running"),
        (Self::Resumable, "resumable"),
        (Self::Complete, "complete"),
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
            status: Status::Running,
            started,
            ended: None,
            window_from: None,
            window_until: None,
            counts: Counts::default(),
            retries: Value::Object(serde_json::Map::new()),
            waits: Value::Object(serde_json::Map::new()),
            files: Value::Array(Vec::new()),
            exit: None,
            failure: None,
        }
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let identity: String = row.get("identity")?;
        let status: String = row.get("status")?;
        Ok(Self {
            id: row.get("id")?,
            pipeline: row.get("pipeline")?,
            identity: u64::from_str_radix(&identity, 16).unwrap_or_default(),
            status: Status::parse(&status).unwrap_or(Status::Failed),
            started: instant(row, "started")?.unwrap_or_default(),
            ended: instant(row, "ended")?,
            window_from: row.get("window_from")?,
            window_until: row.get("window_until")?,
            counts: Counts {
                pages: row.get("pages")?,
                rows: row.get("rows")?,
                bytes: row.get("bytes")?,
                requests: row.get("requests")?,
            },
            retries: json(row, "retries")?,
            waits: json(row, "waits")?,
            files: json(row, "files")?,
            exit: row.get("exit")?,
            failure: row.get("failure")?,
        })
    }
}

/// A time, written as RFC 3339.
pub(super) fn instant(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<Timestamp>> {
    let text: Option<String> = row.get(column)?;
    Ok(text.and_then(|text| text.parse().ok()))
}

fn json(row: &Row<'_>, column: &str) -> rusqlite::Result<Value> {
    let text: String = row.get(column)?;
    Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
}

impl State {
    /// Writes all that is known of a run: a new one, or in the place of what was known.
    pub fn save_run(&mut self, run: &RunRecord) -> Result<(), StateError> {
        self.change("save a run in", |change| {
            change.execute(
                "INSERT OR REPLACE INTO runs (id, pipeline, identity, status, started, ended,
                     window_from, window_until, pages, rows, bytes, requests, retries, waits,
                     files, exit, failure)
                 VALUES (:id, :pipeline, :identity, :status, :started, :ended,
                     :window_from, :window_until, :pages, :rows, :bytes, :requests, :retries, :waits,
                     :files, :exit, :failure)",
                named_params! {
                    ":id": run.id,
                    ":pipeline": run.pipeline,
                    ":identity": format!("{:016x}", run.identity),
                    ":status": run.status.name(),
                    ":started": run.started.to_string(),
                    ":ended": run.ended.map(|at| at.to_string()),
                    ":window_from": run.window_from,
                    ":window_until": run.window_until,
                    ":pages": run.counts.pages,
                    ":rows": run.counts.rows,
                    ":bytes": run.counts.bytes,
                    ":requests": run.counts.requests,
                    ":retries": run.retries.to_string(),
                    ":waits": run.waits.to_string(),
                    ":files": run.files.to_string(),
                    ":exit": run.exit,
                    ":failure": run.failure,
                },
            )?;
            Ok(())
        })
    }

    /// One run.
    pub fn run(&self, id: &str) -> Result<Option<RunRecord>, StateError> {
        let found = self.runs_where("id = ?1", id)?;
        Ok(found.into_iter().next())
    }

    /// Runs of a pipeline, the latest first; of all without a name.
    pub fn runs(&self, pipeline: Option<&str>) -> Result<Vec<RunRecord>, StateError> {
        match pipeline {
            Some(pipeline) => self.runs_where("pipeline = ?1", pipeline),
            None => self.runs_where("?1 = ''", ""),
        }
    }

    fn runs_where(&self, condition: &str, value: &str) -> Result<Vec<RunRecord>, StateError> {
        let text = format!("SELECT * FROM runs WHERE {condition} ORDER BY started DESC, id DESC");
        let read = || -> rusqlite::Result<Vec<RunRecord>> {
            self.connection
                .prepare(&text)?
                .query_map([value], RunRecord::read)?
                .collect()
        };
        read().map_err(|e| self.failed(e))
    }
}
