//! How pipelines were when somebody was last told of them.

use jiff::Timestamp;
use rusqlite::{OptionalExtension, Row, params};

use super::history::instant;
use super::state::{State, StateError};

/// How a pipeline is, since when, and who was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// The pipeline.
    pub pipeline: String,
    /// How it is: `well`, `held`, `unfinished`, `failed`.
    pub condition: String,
    /// Since when.
    pub since: Timestamp,
    /// The run that made it so, if one was begun.
    pub run: Option<String>,
    webhook: Option<Timestamp>,
    command: Option<Timestamp>,
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
    /// A pipeline is so since now, and nobody was told.
    pub fn new(pipeline: &str, condition: &str, since: Timestamp, run: Option<&str>) -> Self {
        Self {
            pipeline: pipeline.to_owned(),
            condition: condition.to_owned(),
            since,
            run: run.map(str::to_owned),
            webhook: None,
            command: None,
        }
    }

    /// When somebody was told in this way.
    pub fn told(&self, channel: Channel) -> Option<Timestamp> {
        match channel {
            Channel::Webhook => self.webhook,
            Channel::Command => self.command,
        }
    }

    /// Somebody was, or nobody has to be.
    pub fn set_told(&mut self, channel: Channel, at: Timestamp) {
        match channel {
            Channel::Webhook => self.webhook = Some(at),
            Channel::Command => self.command = Some(at),
        }
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            pipeline: row.get("pipeline")?,
            condition: row.get("condition")?,
            since: instant(row, "since")?.unwrap_or_default(),
            run: row.get("run")?,
            webhook: instant(row, "webhook")?,
            command: instant(row, "command")?,
        })
    }
}

impl State {
    /// How a pipeline was when somebody was last told.
    pub fn alert(&self, pipeline: &str) -> Result<Option<Alert>, StateError> {
        let text = "SELECT * FROM alerts WHERE pipeline = ?1";
        let found = self.connection.query_row(text, [pipeline], Alert::read);
        found.optional().map_err(|e| self.failed(e))
    }

    /// Writes down how a pipeline is.
    pub fn save_alert(&mut self, alert: &Alert) -> Result<(), StateError> {
        self.change("save an alert in", |change| {
            change.execute(
                "INSERT OR REPLACE INTO alerts (pipeline, condition, since, run, webhook, command)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    alert.pipeline,
                    alert.condition,
                    alert.since.to_string(),
                    alert.run,
                    alert.webhook.map(|at| at.to_string()),
                    alert.command.map(|at| at.to_string()),
                ],
            )?;
            Ok(())
        })
    }

    /// Somebody was told of just this, unless it has changed meanwhile.
    pub fn alert_told(
        &mut self,
        alert: &Alert,
        channel: Channel,
        at: Timestamp,
    ) -> Result<(), StateError> {
        let text = format!(
            "UPDATE alerts SET {} = ?1 WHERE pipeline = ?2 AND condition = ?3 AND since = ?4",
            channel.column()
        );
        self.change("save an alert in", |change| {
            let since = alert.since.to_string();
            let of = params![at.to_string(), alert.pipeline, alert.condition, since];
            change.execute(&text, of)?;
            Ok(())
        })
    }
}
