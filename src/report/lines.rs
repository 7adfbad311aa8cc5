//! Plain lines now and then, for logs and pipes.
//!
//! Keeps no timer of its own: the events' time decides, so a run that does nothing says nothing,
//! and a long wait is announced when it begins.

use std::time::Duration;

use jiff::Timestamp;

use crate::count::{plural, thousands};
use crate::event::{Event, Fact};

use super::board::{self, Board, elapsed};
use super::clean::clean;
use super::schedule;
use super::show;
use super::style::{BAD, NOTE, paint};
use super::throttle::Throttle;

/// Progress is told at most this often.
const EVERY: Duration = Duration::from_secs(10);
/// A wait shorter than this is not worth a line.
const LONG: Duration = Duration::from_secs(10);

/// Turns events into lines.
#[derive(Debug)]
pub(super) struct Lines {
    verbose: bool,
    /// Whether runs are called by their ids: where many are at work, one looks for them in the history.
    names_runs: bool,
    board: Board,
    told: Option<Timestamp>,
    attempts: Throttle,
}

impl Lines {
    /// `verbose` also tells every page, attempt and longer wait.
    pub(super) fn new(verbose: bool) -> Self {
        Self {
            verbose,
            names_runs: false,
            board: Board::default(),
            told: None,
            attempts: Throttle::default(),
        }
    }

    /// From now on runs are called by their ids.
    pub(super) fn name_runs(&mut self) {
        self.names_runs = true;
    }

    /// The lines that an event is worth.
    pub(super) fn hear(&mut self, event: &Event) -> Vec<String> {
        self.board.hear(event);
        let mut out = Vec::new();
        match &event.fact {
            Fact::RunStarted {
                pipeline,
                run,
                streams,
            } => {
                let names: Vec<_> = streams.iter().map(|s| clean(s)).collect();
                let run = if self.names_runs {
                    format!("run {} begins: ", clean(run))
                } else {
                    String::new()
                };
                out.push(format!("{}: {run}{}", clean(pipeline), names.join(", ")));
                self.told = Some(event.at);
            }
            Fact::PageFetched { stream, .. }
                if !self.verbose && self.board.row(stream).pages == 1 =>
            {
                out.push(self.board.row(stream).line(event.at, usize::MAX, 0));
            }
            Fact::WaitBegan {
                why,
                until: Some(until),
                stream,
                ..
            } if elapsed(event.at, *until) >= LONG && self.due(event.at) => {
                let wait = board::wait(why, Some(*until), event.at);
                out.extend(wait.map(|wait| format!("{}: {wait}", clean(stream))));
            }
            Fact::PageFetched { .. } if !self.verbose && self.due(event.at) => {
                out.extend(
                    self.board
                        .running()
                        .map(|r| r.line(event.at, usize::MAX, 0)),
                );
            }
            _ => {}
        }
        out.extend(lasting(event, self.verbose, &mut self.attempts));
        out
    }

    fn due(&mut self, now: Timestamp) -> bool {
        let due = self.told.is_none_or(|told| elapsed(told, now) >= EVERY);
        if due {
            self.told = Some(now);
        }
        due
    }
}

/// The line of an event that stays on the screen, with bars or without.
pub(super) fn lasting(event: &Event, verbose: bool, attempts: &mut Throttle) -> Option<String> {
    Some(match &event.fact {
        Fact::AttemptFailed {
            place,
            request,
            message,
            attempt,
            of,
            retry_at,
            ..
        } => {
            let next = match retry_at {
                Some(at) => match elapsed(event.at, *at) {
                    Duration::ZERO => "again now".to_owned(),
                    left => format!("again in {}", show::duration(left)),
                },
                // What is given up is told once, by the stream's failure.
                None if !verbose => return None,
                None => "not tried again".to_owned(),
            };
            let hidden = if verbose {
                0
            } else {
                attempts.admit(event.at)?
            };
            let more = match hidden {
                0 => String::new(),
                n => format!(" ({} more not shown)", thousands(n)),
            };
            let request = if verbose {
                format!(": {}", clean(request))
            } else {
                String::new()
            };
            format!(
                "{}: {}; attempt {attempt} of {of} failed, {next}{more}{request}",
                clean(place),
                paint(NOTE, &clean(message)),
            )
        }
        Fact::RunNoticed { message } => {
            format!("{} {}", paint(NOTE, "note:"), clean(message))
        }
        Fact::RunContinued { run, began, pages } => format!(
            "continuing run {} of {}: {}",
            clean(run),
            show::moment(*began, event.at),
            match pages {
                1 => "1 page is here".to_owned(),
                n => format!("{} pages are here", thousands(*n)),
            }
        ),
        // What is held is told once, by the summary.
        Fact::CheckFailed {
            stream,
            message,
            released: true,
            ..
        } => format!(
            "{}: {} {}; published all the same",
            clean(stream),
            paint(NOTE, "note:"),
            clean(message)
        ),
        Fact::Noticed { stream, message } | Fact::FellShort { stream, message } => {
            format!(
                "{}: {} {}",
                clean(stream),
                paint(NOTE, "note:"),
                clean(message)
            )
        }
        // Why is told once, by the summary, with causes and what to do.
        Fact::StreamFailed { stream, .. } => {
            format!("{}: {}", clean(stream), paint(BAD, "not published"))
        }
        Fact::Published {
            stream,
            path,
            rows,
            bytes,
        } => format!(
            "{}: {} in {} ({})",
            clean(stream),
            plural(*rows, "row"),
            show::path(path),
            show::size(*bytes)
        ),
        Fact::PageFetched {
            stream,
            partition,
            page,
            records,
            bytes,
            took,
        } if verbose => format!(
            "{}: page {} of partition {}, {}, {}, {}",
            clean(stream),
            page + 1,
            partition + 1,
            plural(*records, "record"),
            show::size(*bytes),
            show::duration(*took)
        ),
        Fact::WaitEnded {
            stream, why, took, ..
        } if verbose && took.as_secs() >= 1 => {
            let why = board::wait(why, None, event.at)?;
            format!("{}: {why}, {}", clean(stream), show::duration(*took))
        }
        other => return schedule::line(other),
    })
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use crate::event::{FailureClass, Wait};

    use super::*;

    fn tell(verbose: bool, facts: Vec<(i64, Fact)>) -> String {
        let mut lines = Lines::new(verbose);
        let told: Vec<String> = facts
            .into_iter()
            .flat_map(|(seconds, fact)| {
                let at = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds);
                lines.hear(&Event { at, fact })
            })
            .collect();
        anstream::adapter::strip_str(&told.join("\n")).to_string()
    }

    fn page(stream: &str, page: u64) -> Fact {
        Fact::PageFetched {
            stream: stream.into(),
            partition: 0,
            page,
            records: 100,
            bytes: 52_000,
            took: Duration::from_millis(120),
        }
    }

    fn attempt(retry: bool) -> Fact {
        Fact::AttemptFailed {
            stream: "events".into(),
            place: "events, page 3".to_owned(),
            request: "GET http://api.test/events?limit=200".to_owned(),
            class: FailureClass::Transient,
            message: "503 Service Unavailable".to_owned(),
            attempt: 2,
            of: 6,
            retry_at: retry.then(|| Timestamp::UNIX_EPOCH + SignedDuration::from_secs(33)),
        }
    }

    fn a_run() -> Vec<(i64, Fact)> {
        let mut facts = vec![(
            0,
            Fact::RunStarted {
                pipeline: "demo".into(),
                run: "r1".into(),
                streams: vec!["articles".into(), "events".into()],
            },
        )];
        facts.extend((1..25).map(|i| (i, page("articles", u64::try_from(i).unwrap_or(0)))));
        facts.push((25, page("events", 0)));
        facts.push((
            26,
            Fact::WaitBegan {
                stream: "events".into(),
                id: 1,
                why: Wait::Limit {
                    limit: "60/h".into(),
                    scope: None,
                },
                until: Some(Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1826)),
            },
        ));
        facts.extend((0..6).map(|_| (30, attempt(true))));
        facts.push((41, attempt(true)));
        facts.push((42, attempt(false)));
        facts.push((
            43,
            Fact::Published {
                stream: "articles".into(),
                path: "data/articles.csv".into(),
                rows: 2400,
                bytes: 1_234_000,
            },
        ));
        facts.push((
            44,
            Fact::StreamFailed {
                stream: "events".into(),
                exit: 1,
                message: "GET /events: 404".to_owned(),
            },
        ));
        facts
    }

    #[test]
    fn a_run_in_few_lines() {
        insta::assert_snapshot!(tell(false, a_run()), @r"
        demo: articles, events
        articles  1 page  100 rec
        articles  10 pages  1,000 rec  111/s
        articles  20 pages  2,000 rec  110/s
        events  1 page  100 rec
        events, page 3: 503 Service Unavailable; attempt 2 of 6 failed, again in 3s
        events, page 3: 503 Service Unavailable; attempt 2 of 6 failed, again in 3s
        events, page 3: 503 Service Unavailable; attempt 2 of 6 failed, again in 3s
        events, page 3: 503 Service Unavailable; attempt 2 of 6 failed, again now (3 more not shown)
        articles: 2,400 rows in data/articles.csv (1.2 MB)
        events: not published
        ");
    }

    #[test]
    fn a_run_among_others_is_called_by_its_id() {
        let mut lines = Lines::new(false);
        lines.name_runs();
        let (_, begins) = a_run().remove(0);
        let at = Timestamp::UNIX_EPOCH;
        assert_eq!(
            lines.hear(&Event { at, fact: begins }),
            ["demo: run r1 begins: articles, events"]
        );
    }

    #[test]
    fn a_verbose_run_tells_attempts_and_pages() {
        let told = tell(true, a_run());
        assert_eq!(told.matches("attempt 2 of 6 failed").count(), 8);
        assert_eq!(told.matches(" of partition 1, 100 records").count(), 25);
        assert!(told.contains("not tried again: GET http://api.test/events?limit=200"));
    }
}
