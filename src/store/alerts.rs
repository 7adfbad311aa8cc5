//! How pipelines were when their last run ended, and what those who want to hear of that know.
//!
//! Each channel has its own knowledge: a message that one did not take is owed to that one alone, however
//! often things change before it is there again.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::field::{instant, instant_if_any};
use super::state::{State, StateError};
use crate::failure::Exit;

/// All is published.
pub const WELL: &str = "well";

/// Of a file: it cannot be understood.
pub const BROKEN: &str = "broken";

/// What stands for the file of a pipeline, of which no name has a slash.
pub fn of_file(pipeline: &str) -> String {
    format!("pipelines/{pipeline}")
}

/// How a pipeline is whose run has ended so; `None` where that says nothing: somebody stopped it, or
/// another one is at work.
pub fn condition_of(exit: Exit) -> Option<&'static str> {
    match exit {
        Exit::Complete => Some(WELL),
        Exit::Held => Some("held"),
        Exit::Resumable => Some("unfinished"),
        Exit::Interrupted | Exit::Terminated | Exit::Locked => None,
        _ => Some("failed"),
    }
}

/// How a pipeline is, since when, and who knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// The pipeline; `pipelines/NAME` for its file.
    pub pipeline: String,
    /// How it is: `well`, `held`, `unfinished`, `failed`; of a file `well` or `broken`.
    pub condition: String,
    /// Since when.
    pub since: Timestamp,
    /// The run that made it so, if one was begun.
    pub run: Option<String>,
    /// How it was before, and since when.
    pub was: Option<(String, Timestamp)>,
    /// The message of its latest run, as JSON; nothing where the program died before there was one.
    pub message: Option<String>,
    webhook: Known,
    command: Known,
}

/// What one channel knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Known {
    /// When it was told of how things are now.
    told: Option<Timestamp>,
    /// How things were when it heard of them last; who never heard takes all for well.
    condition: Option<String>,
}

/// Ways to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// A message over HTTP.
    Webhook,
    /// A program.
    Command,
}

impl Channel {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Webhook, Self::Command];

    fn column(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Command => "command",
        }
    }
}

impl Alert {
    /// How a pipeline is now, after what was known of it. The same as before is nothing new.
    pub fn after(
        before: Option<Self>,
        pipeline: &str,
        condition: &str,
        now: Timestamp,
        run: Option<&str>,
    ) -> Self {
        let unheard = |known: &Known| Known {
            told: None,
            condition: known.condition.clone(),
        };
        let (was, webhook, command) = match before {
            Some(same) if same.condition == condition => return same,
            Some(other) => (
                Some((other.condition, other.since)),
                unheard(&other.webhook),
                unheard(&other.command),
            ),
            None => (None, Known::default(), Known::default()),
        };
        Self {
            pipeline: pipeline.to_owned(),
            condition: condition.to_owned(),
            since: now,
            run: run.map(str::to_owned),
            was,
            message: None,
            webhook,
            command,
        }
    }

    /// Whether this channel has to be told: what it knows is not how things are. Nobody has to hear that
    /// what nobody heard of is over, or that all was well from the start.
    pub fn is_owed(&self, channel: Channel) -> bool {
        let known = match channel {
            Channel::Webhook => &self.webhook,
            Channel::Command => &self.command,
        };
        known.condition.as_deref().unwrap_or(WELL) != self.condition
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let was: Option<String> = row.get("was")?;
        let was_since = instant_if_any(row, "was_since")?;
        Ok(Self {
            pipeline: row.get("pipeline")?,
            condition: row.get("condition")?,
            since: instant(row, "since")?,
            run: row.get("run")?,
            was: was.zip(was_since),
            message: row.get("message")?,
            webhook: Known {
                told: instant_if_any(row, "webhook")?,
                condition: row.get("webhook_knows")?,
            },
            command: Known {
                told: instant_if_any(row, "command")?,
                condition: row.get("command_knows")?,
            },
        })
    }
}

impl State {
    /// How a pipeline was when its last run ended.
    pub fn alert(&self, pipeline: &str) -> Result<Option<Alert>, StateError> {
        known(&self.connection, pipeline).map_err(|e| self.failed(e))
    }

    /// All pipelines of which somebody has to be told.
    pub fn alerts_owed(&self) -> Result<Vec<Alert>, StateError> {
        let read = || -> rusqlite::Result<Vec<Alert>> {
            self.connection
                .prepare("SELECT * FROM alerts ORDER BY pipeline")?
                .query_map([], Alert::read)?
                .collect()
        };
        let all = read().map_err(|e| self.failed(e))?.into_iter();
        let is_owed = |alert: &Alert| Channel::ALL.into_iter().any(|one| alert.is_owed(one));
        Ok(all.filter(is_owed).collect())
    }

    /// Writes down how a pipeline is after a run, with the message that says so. In one transaction: who tells
    /// of how it was may note at this moment that it did.
    pub fn note_alert(
        &mut self,
        pipeline: &str,
        condition: &str,
        now: Timestamp,
        run: Option<&str>,
        message: impl FnOnce(&Alert) -> String,
    ) -> Result<(), StateError> {
        self.change("save an alert in", |change| {
            let before = known(change, pipeline)?;
            let mut alert = Alert::after(before, pipeline, condition, now, run);
            alert.message = Some(message(&alert));
            put(change, &alert)
        })
    }

    /// Writes down how a pipeline is after a run, for someone to tell it later: who ran it may have
    /// died before. What is known already stays as it is.
    pub fn note_condition(
        &mut self,
        pipeline: &str,
        condition: &str,
        now: Timestamp,
        run: Option<&str>,
    ) -> Result<(), StateError> {
        self.change("save an alert in", |change| {
            let before = known(change, pipeline)?;
            let after = Alert::after(before.clone(), pipeline, condition, now, run);
            if before.as_ref() == Some(&after) {
                return Ok(());
            }
            put(change, &after)
        })
    }

    /// Somebody was told of this. Where it has changed meanwhile, they know how things were, and are owed how they
    /// are.
    pub fn alert_told(
        &mut self,
        alert: &Alert,
        channel: Channel,
        at: Timestamp,
    ) -> Result<(), StateError> {
        let column = channel.column();
        let text = format!(
            "UPDATE alerts SET {column}_knows = ?3,
             {column} = CASE WHEN condition = ?3 AND since = ?4 THEN ?1 ELSE {column} END
             WHERE pipeline = ?2"
        );
        self.change("save an alert in", |change| {
            let since = alert.since.to_string();
            let of = params![at.to_string(), alert.pipeline, alert.condition, since];
            change.execute(&text, of)?;
            Ok(())
        })
    }
}

fn known(connection: &Connection, pipeline: &str) -> rusqlite::Result<Option<Alert>> {
    let text = "SELECT * FROM alerts WHERE pipeline = ?1";
    connection
        .query_row(text, [pipeline], Alert::read)
        .optional()
}

fn put(change: &Connection, alert: &Alert) -> rusqlite::Result<()> {
    let time = |at: Option<Timestamp>| at.map(|at| at.to_string());
    change.execute(
        "INSERT OR REPLACE INTO alerts (pipeline, condition, since, run, was, was_since,
             message, webhook, webhook_knows, command, command_knows)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        params![
            alert.pipeline,
            alert.condition,
            alert.since.to_string(),
            alert.run,
            alert.was.as_ref().map(|(was, _)| was),
            alert.was.as_ref().map(|(_, since)| since.to_string()),
            alert.message,
            time(alert.webhook.told),
            alert.webhook.condition,
            time(alert.command.told),
            alert.command.condition,
        ],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(minute * 60).unwrap()
    }

    /// Nights that end so; whether the webhook is there. What it is told.
    fn told(nights: &[(&str, bool)]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let mut state = State::open(&crate::disk::Disk::system(), folder.path()).unwrap();
        let mut told = Vec::new();
        for (night, (condition, is_there)) in (0..).zip(nights) {
            let before = state.alert("a").unwrap();
            let mut alert = Alert::after(before, "a", condition, at(night), None);
            alert.message = Some("a message".to_owned());
            let message = |_: &Alert| "a message".to_owned();
            state
                .note_alert("a", condition, at(night), None, message)
                .unwrap();
            assert_eq!(state.alert("a").unwrap(), Some(alert.clone()));
            if alert.is_owed(Channel::Webhook) && *is_there {
                state
                    .alert_told(&alert, Channel::Webhook, at(night))
                    .unwrap();
                told.push(format!(
                    "{} since {}",
                    alert.condition,
                    alert.since.as_second() / 60
                ));
            }
        }
        told
    }

    #[test]
    fn each_change_is_owed_once_to_who_knows_otherwise() {
        for (nights, wanted) in [
            (&[(WELL, true), (WELL, true)][..], &[][..]),
            (
                &[
                    ("failed", true),
                    ("failed", true),
                    (WELL, true),
                    (WELL, true),
                ],
                &["failed since 0", "well since 2"],
            ),
            // Not taken: the next night, of the first.
            (&[("failed", false), ("failed", true)], &["failed since 0"]),
            // What nobody heard of is over.
            (&[("failed", false), (WELL, true)], &[]),
            // The last change was not taken, and yet it heard of trouble.
            (
                &[("failed", true), ("held", false), (WELL, true)],
                &["failed since 0", "well since 2"],
            ),
            // It takes it for failed all the time.
            (
                &[("failed", true), (WELL, false), ("failed", true)],
                &["failed since 0"],
            ),
        ] {
            assert_eq!(told(nights), wanted, "{nights:?}");
        }
    }

    /// Held, told; a person publishes it; the next night is held again while they hear that all is well.
    #[test]
    fn what_changes_while_it_is_told_is_owed() {
        let folder = tempfile::tempdir().unwrap();
        let mut state = State::open(&crate::disk::Disk::system(), folder.path()).unwrap();
        let note = |state: &mut State, condition, minute| {
            let message = |_: &Alert| "a message".to_owned();
            let noted = state.note_alert("a", condition, at(minute), None, message);
            noted.unwrap();
            state.alert("a").unwrap().unwrap()
        };
        let held = note(&mut state, "held", 1);
        state.alert_told(&held, Channel::Webhook, at(1)).unwrap();
        let well = note(&mut state, WELL, 2);
        note(&mut state, "held", 3);
        state.alert_told(&well, Channel::Webhook, at(3)).unwrap();
        let now = state.alert("a").unwrap().unwrap();
        assert!(now.is_owed(Channel::Webhook), "{now:?}");
        state.alert_told(&now, Channel::Webhook, at(4)).unwrap();
        assert!(!state.alert("a").unwrap().unwrap().is_owed(Channel::Webhook));
    }

    #[test]
    fn nobody_notes_anything_between_the_look_and_the_word() {
        let folder = tempfile::tempdir().unwrap();
        let mut state = State::open(&crate::disk::Disk::system(), folder.path()).unwrap();
        let note = |state: &mut State, minute, meanwhile: &dyn Fn()| {
            let message = |_: &Alert| {
                meanwhile();
                "a message".to_owned()
            };
            state.note_alert("a", "failed", at(minute), None, message)
        };
        note(&mut state, 1, &|| {}).unwrap();
        // Who tells of the night before, and is done just now.
        let other = Connection::open(folder.path().join(".gleaner/state.db")).unwrap();
        other.busy_timeout(std::time::Duration::ZERO).unwrap();
        let tell = || {
            let text = "UPDATE alerts SET webhook_knows = condition";
            other.execute(text, [])
        };
        note(&mut state, 2, &|| {
            let refused = tell().expect_err("another one is at work");
            let code = refused.sqlite_error_code();
            assert_eq!(code, Some(rusqlite::ErrorCode::DatabaseBusy));
        })
        .unwrap();
        assert_eq!(tell(), Ok(1));
        note(&mut state, 3, &|| {}).unwrap();
        let alert = state.alert("a").unwrap().unwrap();
        assert!(!alert.is_owed(Channel::Webhook));
    }
}
