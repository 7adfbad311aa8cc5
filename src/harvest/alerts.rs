//! Who hears how the runs of a pipeline end: `schedule.on_failure` when that changes, and
//! `schedule.ping` every time, for a dead-man's switch that notices when nobody comes.
//!
//! What is told is a change: well, held, unfinished, failed. A pipeline that fails every night is told
//! of once, and once more when it is well again. The state remembers what each channel knows, and the
//! message is there before anything is sent: whoever comes after a kill, or after a receiver that was away,
//! sends it then. A process that dies between sending and writing that down sends it twice: `id` is the
//! same then.
//!
//! Nothing of this can fail a run. It goes through the door to the network, but outside the limits,
//! which belong to the API.

pub(super) mod command;
pub(super) mod delivery;

mod file;

pub use self::file::was_broken;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde_json::{Value, json};
use url::Url;

use self::delivery::Undelivered;
use super::World;
use super::events::Events;
use super::names::Names;
use super::secrets::Secrets;
use super::summary::Summary;
use crate::clock::Clock;
use crate::count::plural;
use crate::disk::Disk;
use crate::event::Fact;
use crate::failure::Failure;
use crate::fetch::transport::SharedTransport;
use crate::plan::Plan;
use crate::plan::alerts::{AlertPlan, PingPlan};
use crate::plan::language::Template;
use crate::store::alerts::{Alert, BROKEN, Channel, WELL, condition_of, of_file};
use crate::store::history::RunRecord;
use crate::store::state::{State, StateError};

/// Where a pipeline's runs are told of. Made before a run, so that one that does not open is told of too.
#[derive(Debug)]
pub struct Watch {
    pipeline: String,
    clock: Clock,
    transport: SharedTransport,
    disk: Disk,
    root: PathBuf,
    events: Events,
    secrets: Secrets,
    webhook: Option<Url>,
    command: Option<Vec<String>>,
    start: Option<Url>,
    success: Option<Url>,
    failure: Option<Url>,
    began: Mutex<Option<Timestamp>>,
}

/// How a run ended, as others hear it.
struct Ended {
    condition: String,
    exit: Option<u8>,
    run: Option<String>,
    began: Option<Timestamp>,
    at: Timestamp,
    rows: u64,
    message: Option<String>,
    hint: Option<String>,
    streams: Value,
}

/// How a run ended, for those who only count signs of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// All is published.
    Success,
    /// It is not.
    Failure,
}

impl Watch {
    /// The watch over the next run of a plan. What cannot be rendered is told, and left out.
    pub fn of(plan: &Plan, world: &World) -> Self {
        let now = world.clock.calendar();
        let secrets = Secrets::as_found(plan, &world.root);
        let mut watch = Self {
            pipeline: plan.name.clone(),
            clock: world.clock,
            transport: Arc::clone(&world.transport),
            disk: world.disk.clone(),
            root: world.root.clone(),
            events: world.events.clone(),
            secrets,
            webhook: None,
            command: plan.alerts.command.clone(),
            start: None,
            success: None,
            failure: None,
            began: Mutex::new(None),
        };
        if !plan.alerts.is_empty() {
            let names = Names::new(plan, &watch.secrets, now)
                .unwrap_or_else(|_| Names::without_contact(plan, &watch.secrets, now));
            watch.render(&plan.alerts, &names);
        }
        watch
    }

    fn render(&mut self, plan: &AlertPlan, names: &Names) {
        let names = names.request(&[]);
        let url = |key: &str, template: &Template| {
            let problem = match template.text(&names) {
                Ok(text) if text.trim().is_empty() => return None,
                Ok(text) => match Url::parse(text.trim()) {
                    Ok(url) if matches!(url.scheme(), "http" | "https") => return Some(url),
                    Ok(_) => "it is no http or https URL".to_owned(),
                    Err(problem) => format!("it is no URL ({problem})"),
                },
                Err(problem) => problem.to_string(),
            };
            self.notice(&format!("`schedule.{key}` cannot be used: {problem}"));
            None
        };
        let webhook = (plan.webhook.as_ref()).and_then(|one| url("on_failure.webhook", one));
        let (start, success, failure) = match &plan.ping {
            None => (None, None, None),
            Some(PingPlan::Below(base)) => match url("ping", base) {
                None => (None, None, None),
                Some(base) => (
                    Some(below(&base, "start")),
                    Some(base.clone()),
                    Some(below(&base, "fail")),
                ),
            },
            Some(PingPlan::Each {
                start,
                success,
                failure,
            }) => (
                start.as_ref().and_then(|one| url("ping.start", one)),
                success.as_ref().and_then(|one| url("ping.success", one)),
                failure.as_ref().and_then(|one| url("ping.failure", one)),
            ),
        };
        self.webhook = webhook;
        (self.start, self.success, self.failure) = (start, success, failure);
    }

    fn notice(&self, message: &str) {
        self.events.emit(Fact::RunNoticed {
            message: self.secrets.scrub(message),
        });
    }

    /// The run begins: who has not taken what earlier ones came to hears of that, beside the ping.
    pub async fn began(&self) {
        self.begins();
        tokio::join!(self.ping_start(), self.make_up());
    }

    /// The run begins.
    pub fn begins(&self) {
        let now = self.clock.calendar();
        *self.began.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }

    /// The ping of a beginning.
    pub async fn ping_start(&self) {
        self.ping(self.start.as_ref()).await;
    }

    /// The run ended so, or did not open.
    pub async fn ended(&self, ended: Result<&Summary, &Failure>) {
        if let Some(end) = self.note_end(ended).await {
            tokio::join!(self.ping_end(end), self.tell_of_runs());
        }
    }

    /// Writes down how the run ended, or that it did not open, with the message that says so: it is on the disk
    /// before anybody is asked to take anything. Nothing of an end that says nothing.
    pub async fn note_end(&self, ended: Result<&Summary, &Failure>) -> Option<End> {
        let ended = self.told(ended)?;
        let end = if ended.condition == WELL {
            End::Success
        } else {
            End::Failure
        };
        if let Err(failure) = self.note(self.pipeline.clone(), ended).await {
            self.untold(&failure);
        }
        Some(end)
    }

    /// The ping of an end.
    pub async fn ping_end(&self, end: End) {
        let place = match end {
            End::Success => &self.success,
            End::Failure => &self.failure,
        };
        self.ping(place.as_ref()).await;
    }

    /// Tells what is owed of earlier runs and of the file: somebody was killed before it was told, or nobody took it.
    pub async fn make_up(&self) {
        tokio::join!(self.tell_of_file(), self.tell_of_runs());
    }

    /// Tells what is owed of runs.
    pub async fn tell_of_runs(&self) {
        self.make_up_of(self.pipeline.clone()).await;
    }

    /// Tells what is owed of the file.
    pub async fn tell_of_file(&self) {
        self.make_up_of(of_file(&self.pipeline)).await;
    }

    async fn make_up_of(&self, pipeline: String) {
        let owed = self.state(move |state| {
            let Some(alert) = state.alert(&pipeline)? else {
                return Ok(None);
            };
            let run = match &alert.run {
                Some(run) if alert.message.is_none() => state.run(run)?,
                _ => None,
            };
            Ok(Some((alert, run)))
        });
        match owed.await {
            Ok(None) => {}
            Ok(Some((alert, run))) => {
                let written = alert.message.as_deref();
                let message = written.and_then(|text| serde_json::from_str(text).ok());
                let message = message.unwrap_or_else(|| {
                    let ended = self.of_record(&alert, run.as_ref());
                    ended.payload(&self.pipeline, &alert)
                });
                // Neither waits for the other.
                tokio::join!(
                    self.post(&alert, &message),
                    self.start_command(&alert, &message)
                );
            }
            Err(failure) => self.untold(&failure),
        }
    }

    fn untold(&self, failure: &Failure) {
        self.notice(&format!("nobody could be told of this run: {failure}"));
    }

    async fn ping(&self, url: Option<&Url>) {
        let Some(url) = url else { return };
        if let Err(problem) = delivery::get(&self.transport, self.clock, url).await {
            self.undelivered("the ping", url, &problem);
        }
    }

    /// A URL's path is often all the secret that there is: only the origin is told.
    fn undelivered(&self, what: &str, url: &Url, problem: &Undelivered) {
        let origin = url.origin().ascii_serialization();
        self.notice(&format!("{what} to {origin} was not taken: {problem}"));
    }

    /// Writes down how things are with the pipeline or its file, with the message that says so.
    async fn note(&self, of: String, ended: Ended) -> Result<(), Box<Failure>> {
        let pipeline = self.pipeline.clone();
        let noted = self.state(move |state| {
            let (condition, run) = (&ended.condition, ended.run.as_deref());
            let message = |alert: &Alert| ended.payload(&pipeline, alert).to_string();
            state.note_alert(&of, condition, ended.at, run, message)
        });
        noted.await
    }

    /// Tells the webhook, if it does not know how things are now.
    async fn post(&self, alert: &Alert, payload: &Value) {
        let Some(url) = &self.webhook else { return };
        if !alert.is_owed(Channel::Webhook) {
            return;
        }
        match delivery::post(&self.transport, self.clock, url, payload.to_string()).await {
            Ok(()) => self.delivered(alert, Channel::Webhook).await,
            Err(problem) => self.undelivered("the alert", url, &problem),
        }
    }

    /// Tells the command, if it does not know how things are now.
    async fn start_command(&self, alert: &Alert, payload: &Value) {
        let Some(words) = &self.command else { return };
        if !alert.is_owed(Channel::Command) {
            return;
        }
        let given = command::Given {
            words: words.clone(),
            folder: self.root.clone(),
            variables: variables(payload),
            input: payload.to_string(),
        };
        match command::run(given, self.clock, command::PATIENCE).await {
            Ok(()) => self.delivered(alert, Channel::Command).await,
            Err(problem) => self.notice(&format!(
                "the command of `schedule.on_failure` did not do its work: {problem}"
            )),
        }
    }

    async fn delivered(&self, alert: &Alert, channel: Channel) {
        let (alert, now) = (alert.clone(), self.clock.calendar());
        let noted = self.state(move |state| state.alert_told(&alert, channel, now));
        if let Err(failure) = noted.await {
            self.notice(&format!(
                "that somebody was told cannot be written down, so they are told again: {failure}"
            ));
        }
    }

    async fn state<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut State) -> Result<T, StateError> + Send + 'static,
    ) -> Result<T, Box<Failure>> {
        let (disk, root) = (self.disk.clone(), self.root.clone());
        let step = tokio::task::spawn_blocking(move || {
            let mut state = State::open(&disk, &root)?;
            work(&mut state)
        });
        match step.await {
            Ok(done) => done.map_err(StateError::into_failure),
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    /// What is to be told of an end; nothing of one that says nothing: somebody stopped the run, or
    /// another one is at work.
    fn told(&self, ended: Result<&Summary, &Failure>) -> Option<Ended> {
        let exit = match ended {
            Ok(summary) => summary.exit,
            Err(failure) => failure.exit,
        };
        let condition = condition_of(exit)?;
        let summary = ended.ok();
        let worst = match ended {
            Err(failure) => Some(failure),
            Ok(summary) => {
                let mut streams = summary.streams.iter();
                let of_streams = streams.find_map(|stream| stream.failure.as_ref());
                summary.failure.as_ref().or(of_streams)
            }
        };
        let scrub = |text: &str| self.secrets.scrub(text);
        let streams = summary.into_iter().flat_map(|summary| &summary.streams);
        let streams = streams.map(|stream| {
            let checks = stream.checks.iter().map(|check| {
                json!({
                    "check": check.check,
                    "expected": scrub(&check.expected),
                    "seen": scrub(&check.seen),
                })
            });
            json!({
                "stream": stream.stream,
                "records": stream.records,
                "failure": stream.failure.as_ref().map(|failure| scrub(&failure.to_string())),
                "checks": checks.collect::<Vec<_>>(),
            })
        });
        Some(Ended {
            condition: condition.to_owned(),
            exit: Some(exit.code()),
            run: summary.map(|summary| summary.run.clone()),
            began: *self.began.lock().unwrap_or_else(PoisonError::into_inner),
            at: self.clock.calendar(),
            rows: summary.map_or(0, |summary| summary.streams.iter().map(|s| s.records).sum()),
            message: worst.map(|failure| scrub(&failure.to_string())),
            hint: worst.and_then(|failure| failure.hint.as_deref()).map(scrub),
            streams: streams.collect(),
        })
    }

    /// What the history says of a run that nobody could tell of; less where it says nothing.
    fn of_record(&self, alert: &Alert, run: Option<&RunRecord>) -> Ended {
        let scrub = |text: &str| self.secrets.scrub(text);
        let streams = run
            .and_then(|run| run.streams.as_array())
            .into_iter()
            .flatten();
        let streams = streams.map(|one| {
            json!({
                "stream": one["stream"],
                "records": one["records"],
                "failure": one["failure"]["message"].as_str().map(scrub),
                "checks": one["checks"].as_array().cloned().unwrap_or_default(),
            })
        });
        Ended {
            condition: alert.condition.clone(),
            exit: run.and_then(|run| run.exit),
            run: alert.run.clone(),
            began: run.map(|run| run.started),
            at: run.and_then(|run| run.ended).unwrap_or(alert.since),
            rows: run.map_or(0, |run| run.counts.rows),
            message: run.and_then(|run| run.failure.as_deref()).map(scrub),
            hint: run.and_then(|run| run.hint.as_deref()).map(scrub),
            streams: streams.collect(),
        }
    }
}

impl Ended {
    /// What is sent: `text` alone is enough for chats.
    fn payload(&self, pipeline: &str, alert: &Alert) -> Value {
        let ended = self;
        let event = if alert.condition == WELL {
            "recovered"
        } else {
            &alert.condition
        };
        let why = ended.message.as_deref().unwrap_or_default();
        let text = match (event, &alert.was) {
            (BROKEN, _) => format!("the file of {pipeline} is broken: {why}"),
            ("recovered", _) if alert.pipeline != pipeline => {
                format!("the file of {pipeline} can be understood again")
            }
            ("recovered", Some((was, since))) => format!(
                "{pipeline} is well again: {}; it was {was} since {since}",
                plural(ended.rows, "row")
            ),
            ("recovered", None) => {
                format!("{pipeline} is well again: {}", plural(ended.rows, "row"))
            }
            ("held", _) => format!("{pipeline} is held by its checks: {why}"),
            ("unfinished", _) => format!("{pipeline} is not finished: {why}"),
            _ => format!("{pipeline} failed: {why}"),
        };
        json!({
            "id": format!("{} {} {}", alert.pipeline, alert.condition, alert.since),
            "event": event,
            "text": text,
            "pipeline": pipeline,
            "run": ended.run,
            "exit": ended.exit,
            "was": alert.was.as_ref().map(|(was, _)| was),
            "since": alert.since.to_string(),
            "began": ended.began.map(|at| at.to_string()),
            "ended": ended.at.to_string(),
            "rows": ended.rows,
            "message": ended.message,
            "hint": ended.hint,
            "streams": ended.streams,
            "version": env!("CARGO_PKG_VERSION"),
        })
    }
}

/// What a command finds in its environment.
fn variables(payload: &Value) -> Vec<(&'static str, String)> {
    let text = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    [
        ("GLEANER_EVENT", "event"),
        ("GLEANER_PIPELINE", "pipeline"),
        ("GLEANER_RUN", "run"),
        ("GLEANER_EXIT", "exit"),
        ("GLEANER_TEXT", "text"),
    ]
    .map(|(name, key)| (name, text(&payload[key])))
    .to_vec()
}

/// `https://hc-ping.com/ID` and `start` make `https://hc-ping.com/ID/start`.
fn below(base: &Url, step: &str) -> Url {
    let mut url = base.clone();
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().push(step);
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_stand_below_the_address_and_before_its_query() {
        for (base, wanted) in [
            ("https://hc-ping.com/a-b", "https://hc-ping.com/a-b/start"),
            ("https://hc-ping.com/a-b/", "https://hc-ping.com/a-b/start"),
            ("https://x.test/p?key=1", "https://x.test/p/start?key=1"),
        ] {
            assert_eq!(
                below(&Url::parse(base).expect("a URL"), "start").as_str(),
                wanted
            );
        }
    }
}
