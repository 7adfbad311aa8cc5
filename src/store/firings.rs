//! What the schedule has decided: how far the times of each pipeline are settled, and what came of each.
//!
//! A time is settled in one transaction, before anything is done about it, and is entered once: so a
//! scheduler that dies and comes again neither forgets nor repeats one.

use jiff::Timestamp;
use rusqlite::{OptionalExtension, Row, Transaction, named_params, params};

use super::field::{instant, instant_if_any, parsed};
use super::state::{State, StateError};

/// So many settled times of a pipeline are remembered.
const REMEMBERED: u32 = 400;

/// How far the times of a pipeline are settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The pipeline.
    pub pipeline: String,
    /// The schedule that this holds for, as it was written: another one begins anew.
    pub schedule: String,
    /// All times up to here are settled.
    pub until: Timestamp,
}

/// What came of a planned time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FiringStatus {
    /// It will run.
    Waiting,
    /// Its run began.
    Begun,
    /// Its run ended.
    Done,
    /// It was left out.
    Skipped,
}

/// A planned time and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firing {
    /// The pipeline.
    pub pipeline: String,
    /// The time that was planned, before any jitter.
    pub at: Timestamp,
    /// How many planned times this one stands for, itself included.
    pub times: u32,
    /// What came of it.
    pub status: FiringStatus,
    /// When its run began last.
    pub begun: Option<Timestamp>,
    /// When that ended, or when it was left out.
    pub ended: Option<Timestamp>,
    /// The run, once there is one.
    pub run: Option<String>,
    /// The exit code of the run.
    pub exit: Option<u8>,
    /// Why it was left out.
    pub why: Option<String>,
}

impl FiringStatus {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Waiting, "waiting"),
        (Self::Begun, "begun"),
        (Self::Done, "done"),
        (Self::Skipped, "skipped"),
    ];

    /// Its name, in the state and for people.
    pub fn name(self) -> &'static str {
        let mut all = Self::ALL.iter();
        all.find(|(status, _)| *status == self)
            .map_or("skipped", |(_, name)| name)
    }

    fn parse(name: &str) -> Option<Self> {
        let mut all = Self::ALL.iter();
        all.find(|(_, known)| *known == name)
            .map(|(status, _)| *status)
    }
}

impl Firing {
    /// A time that will run.
    pub fn waiting(pipeline: &str, at: Timestamp, times: u32) -> Self {
        Self {
            pipeline: pipeline.to_owned(),
            at,
            times,
            status: FiringStatus::Waiting,
            begun: None,
            ended: None,
            run: None,
            exit: None,
            why: None,
        }
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            pipeline: row.get("pipeline")?,
            at: instant(row, "at")?,
            times: row.get("times")?,
            status: parsed(row, "status", "status of a time", FiringStatus::parse)?,
            begun: instant_if_any(row, "begun")?,
            ended: instant_if_any(row, "ended")?,
            run: row.get("run")?,
            exit: row.get("exit")?,
            why: row.get("why")?,
        })
    }
}

impl State {
    /// How far the times of each pipeline are settled.
    pub fn marks(&self) -> Result<Vec<Mark>, StateError> {
        let read = || -> rusqlite::Result<Vec<Mark>> {
            self.connection
                .prepare("SELECT * FROM marks ORDER BY pipeline")?
                .query_map([], |row| {
                    Ok(Mark {
                        pipeline: row.get("pipeline")?,
                        schedule: row.get("schedule")?,
                        until: instant(row, "until")?,
                    })
                })?
                .collect()
        };
        read().map_err(|e| self.failed(e))
    }

    /// Settles times of a pipeline, in one step: the mark, and a row for each that is not entered yet.
    /// Those are returned; a time that was entered before stays as it is.
    pub fn settle(&mut self, mark: &Mark, firings: &[Firing]) -> Result<Vec<Firing>, StateError> {
        self.change("settle times in", |change| {
            change.execute(
                "INSERT OR REPLACE INTO marks (pipeline, schedule, until) VALUES (?1, ?2, ?3)",
                params![mark.pipeline, mark.schedule, mark.until.to_string()],
            )?;
            let mut entered = Vec::new();
            for firing in firings {
                if enter(change, firing)? {
                    entered.push(firing.clone());
                }
            }
            change.execute(
                "DELETE FROM firings WHERE pipeline = ?1 AND status IN ('done', 'skipped') AND at NOT IN
                     (SELECT at FROM firings WHERE pipeline = ?1 ORDER BY at DESC LIMIT ?2)",
                params![mark.pipeline, REMEMBERED],
            )?;
            Ok(entered)
        })
    }

    /// Writes what came of a time that was settled. Its run stays as [`Self::firing_runs`] has said.
    pub fn save_firing(&mut self, firing: &Firing) -> Result<(), StateError> {
        self.change("save a planned time in", |change| {
            change.execute(
                "UPDATE firings SET status = :status, begun = :begun, ended = :ended, exit = :exit,
                     why = :why WHERE pipeline = :pipeline AND at = :at",
                named_params! {
                    ":pipeline": firing.pipeline,
                    ":at": firing.at.to_string(),
                    ":status": firing.status.name(),
                    ":begun": firing.begun.map(|at| at.to_string()),
                    ":ended": firing.ended.map(|at| at.to_string()),
                    ":exit": firing.exit,
                    ":why": firing.why,
                },
            )?;
            Ok(())
        })
    }

    /// The run of a planned time, known before it asks for anything: should the scheduler die, the
    /// run tells whether that time is done.
    pub fn firing_runs(
        &mut self,
        pipeline: &str,
        at: Timestamp,
        run: &str,
    ) -> Result<(), StateError> {
        self.change("save a planned time in", |change| {
            change.execute(
                "UPDATE firings SET run = ?3 WHERE pipeline = ?1 AND at = ?2",
                params![pipeline, at.to_string(), run],
            )?;
            Ok(())
        })
    }

    /// The run of a planned time, if it has begun.
    pub fn firing_run(&self, pipeline: &str, at: Timestamp) -> Result<Option<String>, StateError> {
        let text = "SELECT run FROM firings WHERE pipeline = ?1 AND at = ?2";
        let found = self
            .connection
            .query_row(text, params![pipeline, at.to_string()], |row| row.get(0));
        let found = found.optional().map_err(|e| self.failed(e))?;
        Ok(found.flatten())
    }

    /// Planned times that will run, or whose run has not ended; the oldest first.
    pub fn firings_open(&self) -> Result<Vec<Firing>, StateError> {
        self.firings_where("status IN ('waiting', 'begun') AND ?1 = ''", "")
    }

    /// All planned times of a pipeline that are remembered, the oldest first.
    pub fn firings(&self, pipeline: &str) -> Result<Vec<Firing>, StateError> {
        self.firings_where("pipeline = ?1", pipeline)
    }

    fn firings_where(&self, condition: &str, value: &str) -> Result<Vec<Firing>, StateError> {
        let text = format!("SELECT * FROM firings WHERE {condition} ORDER BY at, pipeline");
        let read = || -> rusqlite::Result<Vec<Firing>> {
            self.connection
                .prepare(&text)?
                .query_map([value], Firing::read)?
                .collect()
        };
        read().map_err(|e| self.failed(e))
    }
}

/// Whether it was not there yet.
fn enter(change: &Transaction<'_>, firing: &Firing) -> rusqlite::Result<bool> {
    let at = firing.at.to_string();
    let known = change
        .query_row(
            "SELECT 1 FROM firings WHERE pipeline = ?1 AND at = ?2",
            params![firing.pipeline, at],
            |_| Ok(()),
        )
        .optional()?;
    if known.is_some() {
        return Ok(false);
    }
    change.execute(
        "INSERT INTO firings (pipeline, at, times, status, ended, why)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            firing.pipeline,
            at,
            firing.times,
            firing.status.name(),
            firing.ended.map(|at| at.to_string()),
            firing.why
        ],
    )?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::sim::SimDisk;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(minute * 60).unwrap()
    }

    fn mark(until: i64) -> Mark {
        Mark {
            pipeline: "pipe".to_owned(),
            schedule: "* * * * * UTC".to_owned(),
            until: at(until),
        }
    }

    #[test]
    fn a_time_is_settled_once() {
        let disk = SimDisk::new(Path::new("/p"));
        let mut state = State::open(&disk.door(), Path::new("/p")).unwrap();
        let one = Firing::waiting("pipe", at(1), 3);
        assert_eq!(
            state.settle(&mark(1), std::slice::from_ref(&one)).unwrap(),
            std::slice::from_ref(&one)
        );
        state.firing_runs("pipe", at(1), "r1").unwrap();
        let done = Firing {
            status: FiringStatus::Done,
            begun: Some(at(2)),
            ended: Some(at(3)),
            exit: Some(0),
            ..one.clone()
        };
        state.save_firing(&done).unwrap();
        // Whoever comes to it again finds it settled, and changes nothing.
        assert!(state.settle(&mark(1), &[one]).unwrap().is_empty());
        let known = state.firings("pipe").unwrap();
        assert_eq!(known[0].run.as_deref(), Some("r1"));
        let run = |minute| state.firing_run("pipe", at(minute)).unwrap();
        assert_eq!((run(1).as_deref(), run(2)), (Some("r1"), None));
        assert_eq!(known[0].status, FiringStatus::Done);
        assert!(state.firings_open().unwrap().is_empty());
        assert_eq!(state.marks().unwrap(), [mark(1)]);
    }

    #[test]
    fn what_is_long_settled_is_forgotten_and_what_is_open_is_not() {
        let disk = SimDisk::new(Path::new("/p"));
        let mut state = State::open(&disk.door(), Path::new("/p")).unwrap();
        let open = Firing::waiting("pipe", at(0), 1);
        let many: Vec<Firing> = (1..=i64::from(REMEMBERED) + 10)
            .map(|minute| Firing {
                status: FiringStatus::Skipped,
                why: Some("missed".to_owned()),
                ..Firing::waiting("pipe", at(minute), 1)
            })
            .collect();
        state.settle(&mark(0), std::slice::from_ref(&open)).unwrap();
        state.settle(&mark(500), &many).unwrap();
        let known = state.firings("pipe").unwrap();
        assert_eq!(known.len(), REMEMBERED as usize + 1);
        assert_eq!(known[0], open);
        assert_eq!(state.firings_open().unwrap(), [open]);
    }
}
