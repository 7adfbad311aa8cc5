//! A log for machines: one JSON object a line, each with its level, and with run and pipeline once there
//! is a run.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::Verbosity;
use super::clean::clean_json;
use super::lines;
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
            Fact::StreamFailed { .. } | Fact::ScheduleBroken { .. } => Self::Error,
            Fact::AttemptFailed { .. }
            | Fact::CheckFailed { .. }
            | Fact::FellShort { .. }
            | Fact::Noticed { .. }
            | Fact::RunNoticed { .. }
            | Fact::TimeSkipped { .. }
            | Fact::ScheduleNoticed { .. } => Self::Warn,
            Fact::RunFinished { exit, .. } | Fact::TimeDone { exit, .. } => of_exit(*exit),
            Fact::RunStarted { .. }
            | Fact::RunContinued { .. }
            | Fact::Published { .. }
            | Fact::FieldsUnread { .. }
            | Fact::LimitsLearned { .. }
            | Fact::Scheduled { .. }
            | Fact::Unscheduled { .. }
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
    /// `verbosity` is the least that is told: errors, up to results, or everything.
    pub(super) fn new(verbosity: Verbosity) -> Self {
        Self {
            least: match verbosity {
                Verbosity::Quiet => Level::Error,
                Verbosity::Usual => Level::Info,
                Verbosity::Verbose => Level::Debug,
            },
            pipeline: None,
            run: None,
            attempts: Throttle::default(),
        }
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
            && let Some(text) = lines::lasting(event, true, &mut self.attempts)
        {
            let text = anstream::adapter::strip_str(&text).to_string();
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

fn text(line: Map<String, Value>) -> String {
    clean_json(&Value::Object(line).to_string()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(verbosity: Verbosity) -> Vec<String> {
        let mut log = Log::new(verbosity);
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
        let mut log = Log::new(Verbosity::Usual);
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
                exit: 1,
                took: std::time::Duration::from_secs(3),
                next: None,
            },
            Fact::Unscheduled {
                pipeline: pipeline.clone(),
            },
            Fact::ScheduleNoticed {
                message: "the clock was set back".to_owned(),
            },
        ];
        let lines: Vec<String> = facts
            .into_iter()
            .filter_map(|fact| log.hear(&Event { at, fact }))
            .collect();
        insta::assert_snapshot!(lines.join("\n"));
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
            "warn info info error warn info error"
        );
        assert_eq!(
            levels(Verbosity::Verbose),
            "warn info debug info error warn info error"
        );
    }
}
