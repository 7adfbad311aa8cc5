//! A log for machines: one JSON object a line, each with its level, and with run and pipeline once there
//! is a run.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::Verbosity;
use super::clean::clean_json;
use super::lines;
use super::summary::in_a_line as summed_up;
use super::throttle::Throttle;
use crate::event::{Event, Fact, Name};
use crate::failure::{Exit, Failure};
use crate::harvest::summary::Summary;

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Error,
    Warn,
    Info,
    Debug,
}

/// Turns events into lines; knows whose they are.
#[derive(Debug)]
pub(super) struct Log {
    least: Level,
    pipeline: Option<Name>,
    run: Option<Name>,
    attempts: Throttle,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }

    fn of(fact: &Fact) -> Self {
        match fact {
            Fact::ScheduleBroken { .. } | Fact::ScheduleStuck { .. } => Self::Error,
            Fact::AttemptFailed { .. }
            | Fact::CheckFailed { .. }
            | Fact::FellShort { .. }
            | Fact::Noticed { .. }
            | Fact::RunNoticed { .. }
            | Fact::TimeSkipped { .. }
            | Fact::ScheduleNoticed { .. } => Self::Warn,
            Fact::StreamFailed { exit, .. } | Fact::TimeDone { exit, .. } => of_exit(*exit),
            // What it means is told with the sums of the run.
            Fact::RunFinished { .. }
            | Fact::RunStarted { .. }
            | Fact::RunContinued { .. }
            | Fact::Published { .. }
            | Fact::FieldsUnread { .. }
            | Fact::LimitsLearned { .. }
            | Fact::Scheduled { .. }
            | Fact::ScheduleMended { .. }
            | Fact::Unscheduled { .. }
            | Fact::ScheduleWaits { .. }
            | Fact::TimeCame { .. } => Self::Info,
            _ => Self::Debug,
        }
    }
}

/// What can go on, or was asked for, is no error.
fn of_exit(exit: u8) -> Level {
    match exit {
        0 => Level::Info,
        exit if [
            Exit::Held,
            Exit::Resumable,
            Exit::Locked,
            Exit::Interrupted,
            Exit::Terminated,
        ]
        .into_iter()
        .any(|known| known.code() == exit) =>
        {
            Level::Warn
        }
        _ => Level::Error,
    }
}

impl Log {
    /// `verbosity` is the least that is told: errors, up to results, or everything. Lines are those of
    /// `pipeline`, where that is known before a run begins.
    pub(super) fn new(verbosity: Verbosity, pipeline: Option<&str>) -> Self {
        Self {
            least: match verbosity {
                Verbosity::Quiet => Level::Error,
                Verbosity::Usual => Level::Info,
                Verbosity::Verbose => Level::Debug,
            },
            pipeline: pipeline.map(Into::into),
            run: None,
            attempts: Throttle::default(),
        }
    }

    /// What follows is about this pipeline, of which no run has begun yet.
    pub(super) fn about(&mut self, pipeline: &str) {
        (self.pipeline, self.run) = (Some(pipeline.into()), None);
    }

    /// The line of an event, if it matters enough.
    pub(super) fn hear(&mut self, event: &Event) -> Option<String> {
        if let Fact::RunStarted { pipeline, run, .. } = &event.fact {
            (self.pipeline, self.run) = (Some(pipeline.clone()), Some(run.clone()));
        }
        let level = Level::of(&event.fact);
        if level > self.least {
            return None;
        }
        let mut line = self.begin(event.at, level);
        match serde_json::to_value(&event.fact) {
            Ok(Value::Object(fact)) => {
                for (name, value) in fact {
                    // What the run is called stands in every line already.
                    line.entry(name).or_insert(value);
                }
            }
            Ok(_) | Err(_) => {
                line.insert("event".to_owned(), "not_shown".into());
            }
        }
        if !line.contains_key("message")
            && let Some(text) = message(event, &mut self.attempts)
        {
            line.insert("message".to_owned(), text.into());
        }
        Some(text(line))
    }

    /// What the command has to say by itself.
    pub(super) fn say(&self, at: Timestamp, message: &str) -> Option<String> {
        (self.least >= Level::Info).then(|| {
            let mut line = self.begin(at, Level::Info);
            line.insert("event".to_owned(), "said".into());
            line.insert("message".to_owned(), message.into());
            text(line)
        })
    }

    /// How a run ended: what it came to, and a line for each failure with its causes and what to do.
    pub(super) fn ended(&self, at: Timestamp, ended: Result<&Summary, &Failure>) -> Vec<String> {
        let mut out = Vec::new();
        let summary = match ended {
            Err(failure) => return vec![self.failure(at, None, failure)],
            Ok(summary) => summary,
        };
        for stream in &summary.streams {
            let failure = stream.failure.as_ref();
            out.extend(failure.map(|failure| self.failure(at, Some(&stream.stream), failure)));
        }
        out.extend(
            summary
                .failure
                .as_ref()
                .map(|failure| self.failure(at, None, failure)),
        );
        let level = of_exit(summary.exit.code());
        if level <= self.least {
            let mut line = self.begin(at, level);
            let sum = |of: fn(&crate::harvest::summary::StreamSummary) -> u64| {
                summary.streams.iter().map(of).sum::<u64>()
            };
            let told = json!({
                "event": "run_summary",
                "exit": summary.exit,
                "rows": sum(|stream| stream.records),
                "pages": sum(|stream| stream.pages),
                "bytes": sum(|stream| stream.bytes),
                "requests": summary.requests,
                "took": summary.took.as_secs_f64(),
                "message": anstream::adapter::strip_str(&summed_up(summary)).to_string(),
            });
            if let Value::Object(told) = told {
                line.extend(told);
            }
            out.push(text(line));
        }
        out
    }

    fn failure(&self, at: Timestamp, stream: Option<&str>, failure: &Failure) -> String {
        let level = match of_exit(failure.exit.code()) {
            Level::Info => Level::Warn,
            level => level,
        };
        let mut line = self.begin(at, level);
        line.insert("event".to_owned(), "failure".into());
        if let Some(stream) = stream {
            line.insert("stream".to_owned(), stream.into());
        }
        if let Ok(Value::Object(failure)) = serde_json::to_value(failure) {
            line.extend(failure);
        }
        text(line)
    }

    fn begin(&self, at: Timestamp, level: Level) -> Map<String, Value> {
        let mut line = Map::new();
        line.insert("at".to_owned(), at.to_string().into());
        line.insert("level".to_owned(), level.name().into());
        for (name, value) in [("pipeline", &self.pipeline), ("run", &self.run)] {
            if let Some(value) = value {
                line.insert(name.to_owned(), (&**value).into());
            }
        }
        line
    }
}

/// What an event is, for who reads lines.
fn message(event: &Event, attempts: &mut Throttle) -> Option<String> {
    match &event.fact {
        Fact::RunStarted { streams, .. } => Some(format!("begins: {}", streams.join(", "))),
        Fact::RunFinished { exit: 0, .. } => Some("ended".to_owned()),
        Fact::RunFinished { exit, .. } => Some(format!("ended with exit code {exit}")),
        _ => {
            let text = lines::lasting(event, true, attempts)?;
            Some(anstream::adapter::strip_str(&text).to_string())
        }
    }
}

fn text(line: Map<String, Value>) -> String {
    clean_json(&Value::Object(line).to_string()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(verbosity: Verbosity) -> Vec<String> {
        let mut log = Log::new(verbosity, None);
        let facts = [
            Fact::RunNoticed {
                message: "before".to_owned(),
            },
            Fact::RunStarted {
                pipeline: "items".into(),
                run: "r1".into(),
                streams: vec!["a".into()],
            },
            Fact::RequestSent { stream: "a".into() },
            Fact::Published {
                stream: "a".into(),
                path: "data/a\u{9b}.csv".into(),
                rows: 3,
                bytes: 9,
            },
            Fact::StreamFailed {
                stream: "b".into(),
                exit: 1,
                message: "404".to_owned(),
            },
            Fact::RunFinished {
                complete: false,
                exit: 75,
            },
        ];
        let at = Timestamp::UNIX_EPOCH;
        let mut lines: Vec<String> = facts
            .into_iter()
            .filter_map(|fact| log.hear(&Event { at, fact }))
            .collect();
        lines.extend(log.say(at, "stopping"));
        let failure = Failure::new(Exit::Failed, "no such thing").hint("look");
        lines.extend(log.ended(at, Err(&failure)));
        lines
    }

    #[test]
    fn each_line_has_its_level_and_whose_it_is() {
        insta::assert_snapshot!(told(Verbosity::Usual).join("\n"));
    }

    #[test]
    fn what_the_schedule_does_is_told_with_whose_it_is() {
        let mut log = Log::new(Verbosity::Usual, None);
        let at = Timestamp::UNIX_EPOCH;
        let pipeline: Name = "orders".into();
        let facts = [
            Fact::Scheduled {
                pipeline: pipeline.clone(),
                cron: "30 2 * * *".to_owned(),
                zone: "UTC".to_owned(),
                next: Some(at),
                again: false,
            },
            Fact::ScheduleBroken {
                pipeline: pipeline.clone(),
                message: "1 mistake".to_owned(),
                kept: true,
            },
            Fact::ScheduleMended {
                pipeline: pipeline.clone(),
            },
            Fact::TimeSkipped {
                pipeline: pipeline.clone(),
                planned: at,
                times: 1,
                why: "the run before goes on".to_owned(),
            },
            Fact::TimeCame {
                pipeline: pipeline.clone(),
                planned: at,
                times: 1,
                again: false,
            },
            Fact::TimeDone {
                pipeline: pipeline.clone(),
                planned: at,
                run: Some("r1".into()),
                exit: 1,
                took: std::time::Duration::from_secs(3),
                next: None,
            },
            Fact::Unscheduled {
                pipeline: pipeline.clone(),
            },
            Fact::ScheduleWaits {
                pipeline: Some(pipeline.clone()),
                next: Some(at),
                local: Some("1970-01-01 01:00 CET".to_owned()),
                broken: 0,
            },
            Fact::ScheduleNoticed {
                message: "the clock was set back".to_owned(),
            },
            Fact::ScheduleStuck {
                message: "the disk is full".to_owned(),
            },
        ];
        let lines: Vec<String> = facts
            .into_iter()
            .filter_map(|fact| log.hear(&Event { at, fact }))
            .collect();
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn what_no_run_has_begun_for_is_not_of_the_run_before() {
        let mut log = Log::new(Verbosity::Usual, Some("first"));
        let at = Timestamp::UNIX_EPOCH;
        let failure = Failure::new(Exit::Failed, "a secret is missing");
        let whose = |log: &Log| {
            let line = log.ended(at, Err(&failure)).remove(0);
            let line: Value = serde_json::from_str(&line).expect("JSON");
            (line["pipeline"].clone(), line["run"].clone())
        };
        assert_eq!(whose(&log), ("first".into(), Value::Null));
        let fact = Fact::RunStarted {
            pipeline: "first".into(),
            run: "r1".into(),
            streams: vec!["a".into()],
        };
        log.hear(&Event { at, fact });
        assert_eq!(whose(&log), ("first".into(), "r1".into()));
        log.about("second");
        assert_eq!(whose(&log), ("second".into(), Value::Null));
    }

    #[test]
    fn a_stream_that_can_go_on_is_no_error() {
        for (exit, level) in [
            (Exit::Failed, "error"),
            (Exit::Disk, "error"),
            (Exit::Held, "warn"),
            (Exit::Resumable, "warn"),
            (Exit::Interrupted, "warn"),
        ] {
            let fact = Fact::StreamFailed {
                stream: "a".into(),
                exit: exit.code(),
                message: "why".to_owned(),
            };
            assert_eq!(Level::of(&fact).name(), level, "{exit:?}");
        }
    }

    #[test]
    fn verbosity_is_the_least_level() {
        let levels = |verbosity| {
            let lines = told(verbosity).into_iter();
            let levels = lines.map(|line| {
                let line: Value = serde_json::from_str(&line).expect("JSON");
                line["level"].as_str().expect("a level").to_owned()
            });
            levels.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(levels(Verbosity::Quiet), "error error");
        assert_eq!(
            levels(Verbosity::Usual),
            "warn info info error info info error"
        );
        assert_eq!(
            levels(Verbosity::Verbose),
            "warn info debug info error info info error"
        );
    }
}
