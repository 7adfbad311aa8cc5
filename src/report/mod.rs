//! Events to people and machines: bars on a terminal, lines elsewhere, NDJSON for programs.
//!
//! What is shown is decided as plain text by `board` and `lines`, so tests read it; only
//! `bars` knows a terminal. All text from outside goes through [`clean`] first.

mod bars;
mod board;
mod clean;
mod failure;
mod lines;
mod log;
mod ndjson;
mod schedule;
mod show;
mod style;
mod summary;
mod throttle;

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use crate::event::{Event, Fact, Name};
use crate::failure::Failure;
use crate::harvest::summary::Summary;

pub use self::clean::{clean, clean_json};
pub use self::failure::{
    draw as draw_failure, draw_of as draw_failure_of, draw_stream as draw_stream_failure,
};
pub use self::show::{duration, size, when};
pub use self::summary::draw as draw_summary;
pub use crate::count::{plural, thousands};

use self::bars::Bars;
use self::lines::Lines;
use self::log::Log;

/// How much is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Verbosity {
    /// Errors only.
    Quiet,
    /// Progress and results.
    #[default]
    Usual,
    /// Also every page, every attempt and every longer wait.
    Verbose,
}

/// What decides how events are told.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// Events as NDJSON on standard output.
    pub json: bool,
    /// How much.
    pub verbosity: Verbosity,
    /// Whether standard error is a terminal.
    pub terminal: bool,
    /// Whether colour is wanted there.
    pub colour: bool,
}

#[cfg(test)]
impl Manner {
    /// For tests that listen to events alone.
    pub(crate) const QUIET: Self = Self {
        json: false,
        verbosity: Verbosity::Quiet,
        terminal: false,
        colour: false,
    };
}

/// Tells events; share it between the run that emits and the rim that ticks.
#[derive(Debug)]
pub struct Reporter {
    way: Way,
    /// Whose lines these are, where several are at work.
    name: Option<String>,
    /// The time, where each line begins with it.
    stamps: Option<Now>,
}

/// Tells the time to lines that no event brings.
struct Now(Box<dyn Fn() -> Timestamp + Send + Sync>);

impl std::fmt::Debug for Now {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Now")
    }
}

#[derive(Debug)]
enum Way {
    Silent,
    Json {
        closed: AtomicBool,
        run: Mutex<Option<Name>>,
    },
    Lines(Mutex<Lines>),
    Log(Mutex<Log>, Now),
    Bars(Box<Mutex<Bars>>),
}

impl Reporter {
    /// Picks how to tell.
    pub fn new(manner: Manner) -> Arc<Self> {
        let verbose = manner.verbosity == Verbosity::Verbose;
        let way = if manner.json {
            Way::Json {
                closed: AtomicBool::new(false),
                run: Mutex::default(),
            }
        } else if manner.verbosity == Verbosity::Quiet {
            Way::Silent
        } else if manner.terminal {
            Way::Bars(Box::new(Mutex::new(Bars::new(verbose, manner.colour))))
        } else {
            Way::Lines(Mutex::new(Lines::new(verbose)))
        };
        Arc::new(Self {
            way,
            name: None,
            stamps: None,
        })
    }

    /// Plain lines, each with its time in UTC, and with the name of the pipeline that it is about where it is that
    /// of one of several runs side by side.
    pub fn scheduled(
        manner: Manner,
        name: Option<&str>,
        now: impl Fn() -> Timestamp + Send + Sync + 'static,
    ) -> Arc<Self> {
        let plain = Manner {
            terminal: false,
            ..manner
        };
        let mut reporter = Self::new(plain);
        if let Some(reporter) = Arc::get_mut(&mut reporter) {
            reporter.name = name.map(|name| clean(name).into_owned());
            reporter.stamps = Some(Now(Box::new(now)));
            if let Way::Lines(lines) = &reporter.way {
                lock(lines).name_runs();
            }
        }
        reporter
    }

    /// Tells on standard error, a JSON object a line, of `pipeline` where there is but one; `now` is the time.
    pub fn log(
        verbosity: Verbosity,
        pipeline: Option<&str>,
        now: impl Fn() -> Timestamp + Send + Sync + 'static,
    ) -> Arc<Self> {
        let log = Log::new(verbosity, pipeline);
        Arc::new(Self {
            way: Way::Log(Mutex::new(log), Now(Box::new(now))),
            name: None,
            stamps: None,
        })
    }

    /// What follows is about this pipeline, of which no run has begun yet.
    pub fn about(&self, pipeline: &str) {
        match &self.way {
            Way::Log(log, _) => lock(log).about(pipeline),
            Way::Json { run, .. } => *lock(run) = None,
            Way::Silent | Way::Lines(_) | Way::Bars(_) => {}
        }
    }

    /// What a line of now begins with.
    pub fn stamp(&self) -> String {
        let now = self.stamps.as_ref().map(|now| (now.0)());
        now.map_or_else(String::new, stamp)
    }

    /// How a run ended, where that belongs into a log; whether it was told.
    pub fn ended(&self, ended: Result<&Summary, &Failure>) -> bool {
        let Way::Log(log, now) = &self.way else {
            return false;
        };
        for line in lock(log).ended((now.0)(), ended) {
            write_stderr(&line);
        }
        true
    }

    /// The listener for a run's events.
    pub fn listener(self: &Arc<Self>) -> impl Fn(&Event) + Send + Sync + 'static {
        let reporter = Arc::clone(self);
        move |event| reporter.hear(event)
    }

    /// Takes one event.
    pub fn hear(&self, event: &Event) {
        match &self.way {
            Way::Silent => {
                // Errors are told all the same; those of runs where they end.
                if let Fact::ScheduleBroken { .. } | Fact::ScheduleStuck { .. } = &event.fact
                    && let Some(line) = schedule::line(&event.fact)
                {
                    write_stderr(&line);
                }
            }
            Way::Json { closed, run } => {
                if let Fact::RunStarted { run: begun, .. } = &event.fact {
                    *lock(run) = Some(begun.clone());
                }
                // A reader that went away (`| head`) ends the telling, not the run.
                if !closed.load(Ordering::Relaxed) {
                    let line = ndjson::line(event, lock(run).as_deref());
                    if let Err(error) = write_stdout(&line) {
                        closed.store(true, Ordering::Relaxed);
                        if error.kind() != io::ErrorKind::BrokenPipe {
                            write_stderr(&format!(
                                "warning: events end here, for standard output cannot be written: {error}; the run goes on"
                            ));
                        }
                    }
                }
            }
            Way::Lines(lines) => {
                let at = match self.stamps {
                    Some(_) => stamp(event.at),
                    None => String::new(),
                };
                for line in lock(lines).hear(event) {
                    match &self.name {
                        Some(name) if !line.starts_with(&format!("{name}: ")) => {
                            write_stderr(&format!("{at}{name}: {line}"));
                        }
                        _ => write_stderr(&format!("{at}{line}")),
                    }
                }
            }
            Way::Log(log, _) => {
                if let Some(line) = lock(log).hear(event) {
                    write_stderr(&line);
                }
            }
            Way::Bars(bars) => lock(bars).hear(event),
        }
    }

    /// Draws what changed; `width` is the terminal's. Cheap where nothing is drawn.
    pub fn tick(&self, now: Timestamp, width: usize) {
        if let Way::Bars(bars) = &self.way {
            lock(bars).draw(now, width);
        }
    }

    /// Says a line of the rim's own, above the bars where there are any.
    pub fn say(&self, line: &str) {
        match &self.way {
            Way::Silent => {}
            Way::Json { .. } | Way::Lines(_) => write_stderr(&format!("{}{line}", self.stamp())),
            Way::Log(log, now) => {
                if let Some(line) = lock(log).say((now.0)(), line) {
                    write_stderr(&line);
                }
            }
            Way::Bars(bars) => lock(bars).say(line),
        }
    }

    /// Takes the bars away, so that what follows stands on a clean line.
    pub fn close(&self) {
        if let Way::Bars(bars) = &self.way {
            lock(bars).clear();
        }
    }
}

/// A moment before a line: logs are read in other places than they are written.
fn stamp(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%SZ ").to_string()
}

/// A panic elsewhere must not silence the telling: what is shown is only ever text.
fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write_stdout(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(line.as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()
}

fn write_stderr(line: &str) {
    // There is nobody left to tell when standard error is gone.
    let _ = writeln!(anstream::stderr().lock(), "{line}");
}
