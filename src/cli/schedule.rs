//! `gleaner schedule`: keeps the times of all pipelines of the project, or runs what is due.

mod coming;
mod install;

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::{Args, Subcommand};
use jiff::SignedDuration;

use super::drive::{Drive, came_to};
use super::global::Global;
use super::rooms::{self, NoPlan, Overrides};
use super::{again, out, project, run, runtime, state};
use crate::clock::Clock;
use crate::disk::Disk;
use crate::event::{Event, Fact};
use crate::failure::{Exit, Failure};
use crate::harvest::alerts::Watch;
use crate::harvest::{Harvest, Options};
use crate::report::{Manner, Reporter, Verbosity, plural};
use crate::schedule::agenda::LATE;
use crate::schedule::board::Board;
use crate::schedule::keeper::Keeper;
use crate::schedule::systemd::{Asked, Manager};
use crate::schedule::{Content, Hands, Order, Read};
use crate::store::hash::stable;
use crate::store::locks;
use crate::store::state::{State, StateError};

/// Pipeline files are looked at this often.
const READ_EVERY: Duration = Duration::from_secs(2);

/// Run pipelines at the times that their `schedule` says
///
/// Stays in the foreground, for containers and systemd, and keeps the times of all pipelines of the
/// project. Each decision is on the disk before anything comes of it: after a kill or a power cut, the next
/// start goes on where this one ended. Files that change are read again by themselves; one that
/// is broken leaves what stood in it before in force.
///
/// Ctrl-C and SIGTERM stop gracefully, which is exit code 0: runs keep what they have, and go on at the next start.
///
/// For crontab and Kubernetes, --once runs what has become due since the last time and ends with the
/// exit code of the worst run.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment, args_conflicts_with_subcommands = true)]
pub(super) struct ScheduleArgs {
    #[command(subcommand)]
    what: Option<What>,

    /// Run what is due, and end
    #[arg(long)]
    once: bool,

    /// Most runs side by side; limits of APIs are shared among them whatever this says
    #[arg(long, value_name = "N", default_value = "4")]
    parallel: NonZeroUsize,

    /// Write events as NDJSON to standard output
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    Next(coming::NextArgs),
    Install(install::InstallArgs),
}

impl ScheduleArgs {
    pub(super) fn execute(&self, global: &Global) -> Result<Exit, Failure> {
        match &self.what {
            None => runtime()?.block_on(self.keep(global)),
            Some(What::Next(args)) => args.execute(),
            Some(What::Install(args)) => args.execute(global),
        }
    }

    /// Whether what happens is told as JSON lines on standard error.
    pub(super) fn logs(&self, global: &Global) -> bool {
        self.what.is_none() && !self.json && global.logs(true)
    }

    async fn keep(&self, global: &Global) -> Result<Exit, Failure> {
        let root = project::root()?;
        let manner = Manner {
            json: self.json,
            verbosity: global.verbosity(),
            terminal: false,
            colour: out::stderr_colour(),
        };
        let logs = self.logs(global);
        let drive = Drive::new(reporter(manner, logs, None));
        let clock = drive.clock;
        let now = clock.calendar();
        let disk = Disk::system();
        let _lock = locks::schedule(&disk, &root, now).map_err(|error| *error.into_failure())?;
        // Whoever is called now and then may be called a moment after the first time it should have seen.
        let reach = if self.once {
            LATE
        } else {
            SignedDuration::ZERO
        };
        let board = Board::open(&disk, &root, now, reach);
        let board = board.map_err(|error: StateError| *error.into_failure())?;
        let files = Arc::new(Files::new(root.clone()));
        let work = Work {
            drive: drive.clone(),
            manner,
            logs,
            root,
            options: options()?,
            turns: Mutex::default(),
        };
        let work = Arc::new(work);
        let owed = tokio::spawn(Arc::clone(&work).make_up());
        let reporter = Arc::clone(&drive.reporter);
        let hands = Hands {
            read: Box::new(move || files.read().map_err(Box::new)),
            run: Box::new(move |order, _| {
                let work = Arc::clone(&work);
                Box::pin(async move { work.run(order).await })
            }),
            tell: Box::new(move |fact: Fact| {
                let at = clock.calendar();
                reporter.hear(&Event { at, fact });
            }),
        };
        let keeper = Keeper {
            clock,
            hands: Arc::new(hands),
            parallel: self.parallel,
            read_every: READ_EVERY,
            once: self.once,
            stop: drive.stop.asked.clone(),
            manager: Manager::find(&Asked::of_environment()),
        };
        let worst = keeper.keep(board).await;
        if self.once && !drive.stop.is_asked() {
            // Nobody else is there to tell it until the next call.
            let _ = owed.await;
        }
        Ok(match (self.once, drive.stop.is_asked()) {
            (true, false) => worst,
            (true, true) => drive.stop.exit(worst.worst(Exit::Interrupted)),
            // Runs that failed have said so; the schedule did what it is for.
            (false, _) => Exit::Complete,
        })
    }
}

/// What all runs have in common.
struct Work {
    drive: Drive,
    manner: Manner,
    /// Whether what happens is told as JSON lines.
    logs: bool,
    root: PathBuf,
    options: Options,
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// Who tells of the schedule, or of one pipeline.
fn reporter(manner: Manner, logs: bool, name: Option<&str>) -> Arc<Reporter> {
    match name {
        _ if logs => Reporter::log(manner.verbosity, || Clock::system().calendar()),
        Some(name) => Reporter::named(manner, name),
        None => Reporter::new(manner),
    }
}

fn options() -> Result<Options, Failure> {
    Ok(Options {
        limits: state::limits(),
        keep_free: state::keep_free()?,
        state: state::folder(),
        ..Options::default()
    })
}

impl Work {
    /// One run, from the text of its file to its last word.
    async fn run(&self, order: Order) -> Exit {
        let only_errors = self.manner.json || self.manner.verbosity == Verbosity::Quiet;
        let drive = Drive {
            reporter: reporter(self.manner, self.logs, Some(&order.name)),
            ..self.drive.clone()
        };
        let options = Options {
            deadline: order.deadline,
            planned: Some(order.at),
            ..self.options.clone()
        };
        let plan = match rooms::plan_text(&order.path, &order.text, &Overrides::default()) {
            Ok(plan) => plan,
            Err(NoPlan::Failure(failure)) if drive.reporter.ended(Err(&failure)) => {
                return failure.exit;
            }
            Err(NoPlan::Failure(failure)) => return run::tell(Err(failure), only_errors),
            // It was good when it was read.
            Err(NoPlan::Mistakes(mistakes)) => {
                let count = plural(mistakes.all.len() as u64, "mistake");
                let failure = Failure::new(Exit::Invalid, format!("{}: {count}", order.name));
                if !drive.reporter.ended(Err(&failure)) {
                    out::stderr(&mistakes.draw(out::stderr_colour()));
                }
                return Exit::Invalid;
            }
        };
        let root = self.root.clone();
        let teller = Arc::clone(&drive.reporter);
        // Who watches is there first, so that no failure goes unheard.
        let prepared = tokio::task::spawn_blocking(move || {
            let (transport, refused) = rooms::transport_or_plain(&plan, &root);
            let world = drive.shared_world(transport, root);
            let watch = Watch::of(&plan, &world);
            (plan, world, watch, refused)
        });
        let (plan, world, watch, refused) = match prepared.await {
            Ok(prepared) => prepared,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        again::end(&order.path, &[], &world).await;
        // Opening reads files and takes locks, which others need not wait for.
        let opened = tokio::task::spawn_blocking(move || match refused {
            Some(failure) => {
                Harvest::not_opened(&plan, &world, &options, &failure);
                Err(failure)
            }
            None => Harvest::open(plan, world, options).map_err(|failure| *failure),
        });
        let turn = self.turn(&order.name);
        let ended = match came_to(opened.await).and_then(|opened| opened) {
            Ok(harvest) => {
                let own = turn.lock().await;
                watch.began().await;
                drop(own);
                came_to(tokio::spawn(harvest.run()).await)
            }
            Err(failure) => Err(failure),
        };
        let ended = ended.map(|mut summary| {
            summary.exit = self.drive.stop.exit(summary.exit);
            summary
        });
        let own = turn.lock().await;
        watch.ended(ended.as_ref()).await;
        drop(own);
        if teller.ended(ended.as_ref()) {
            return ended.map_or_else(|failure| failure.exit, |summary| summary.exit);
        }
        run::tell(ended, only_errors)
    }

    /// Whose turn it is to tell of a pipeline: what is owed is told once.
    fn turn(&self, pipeline: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry(pipeline.to_owned()).or_default())
    }

    /// Tells what a schedule that was killed could not tell any more.
    async fn make_up(self: Arc<Self>) {
        let work = Arc::clone(&self);
        let owed = tokio::task::spawn_blocking(move || work.owed());
        let watches = match owed.await {
            Ok(Ok(watches)) => watches,
            Ok(Err(failure)) => {
                let told = format!("nobody could be told of earlier runs: {failure}");
                return self.drive.reporter.say(&told);
            }
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        for (name, watch) in watches {
            let turn = self.turn(&name);
            let own = turn.lock().await;
            watch.make_up().await;
            drop(own);
        }
    }

    /// Pipelines of which somebody has to be told, with who tells.
    fn owed(&self) -> Result<Vec<(String, Watch)>, Failure> {
        let state = State::open(&Disk::system(), &self.root);
        let owed = state.and_then(|state| state.alerts_owed());
        let owed = owed.map_err(|error| *error.into_failure())?;
        if owed.is_empty() {
            return Ok(Vec::new());
        }
        let mut watches = Vec::new();
        for path in project::files(&self.root)? {
            let name = project::stem(&path);
            let is_owed = owed.iter().any(|alert| alert.pipeline == name);
            // Of a broken file nobody knows whom to tell; its next run does.
            if is_owed && let Ok(plan) = rooms::plan(&path, &Overrides::default()) {
                let drive = Drive {
                    reporter: reporter(self.manner, self.logs, Some(&name)),
                    ..self.drive.clone()
                };
                let (transport, _) = rooms::transport_or_plain(&plan, &self.root);
                let world = drive.shared_world(transport, self.root.clone());
                watches.push((name, Watch::of(&plan, &world)));
            }
        }
        Ok(watches)
    }
}

/// The files of the project, each understood once for as long as it stays the same.
struct Files {
    root: PathBuf,
    known: Mutex<HashMap<PathBuf, (String, Content)>>,
}

impl Files {
    fn new(root: PathBuf) -> Self {
        Self {
            root,
            known: Mutex::default(),
        }
    }

    fn read(&self) -> Result<Vec<Read>, Failure> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *known);
        let mut files = Vec::new();
        let paths = project::files(&self.root)?;
        for path in paths.clone() {
            let name = project::stem(&path);
            if paths
                .iter()
                .any(|other| *other != path && project::stem(other) == name)
            {
                // Both are broken, for as long as both are there.
                let content = understood(&path);
                files.push(Read {
                    name,
                    path,
                    content,
                });
                continue;
            }
            let text = std::fs::read_to_string(&path);
            let content = match (before.remove(&path), text) {
                (Some((old, content)), Ok(text)) if old == text => {
                    known.insert(path.clone(), (text, content.clone()));
                    content
                }
                (_, text) => {
                    let content = understood(&path);
                    if let Ok(text) = text {
                        known.insert(path.clone(), (text, content.clone()));
                    }
                    content
                }
            };
            files.push(Read {
                name,
                path,
                content,
            });
        }
        Ok(files)
    }
}

/// What stands in a file; whatever is wrong is one line, and `check` says the rest.
fn understood(path: &std::path::Path) -> Content {
    let broken = |message: String| Content::Broken {
        print: stable(&[&message]),
        message,
    };
    match rooms::plan(path, &Overrides::default()) {
        Ok(plan) => match plan.schedule {
            Some(schedule) => Content::Scheduled {
                text: plan.text,
                schedule: Box::new(schedule),
            },
            None => Content::Unscheduled,
        },
        Err(NoPlan::Failure(failure)) => broken(failure.to_string()),
        Err(NoPlan::Mistakes(mistakes)) => {
            let count = plural(mistakes.all.len() as u64, "mistake");
            let first = mistakes.all.first().map(|one| one.message.as_str());
            broken(format!(
                "{count}, such as: {}; see `gleaner check {}`",
                first.unwrap_or_default(),
                project::stem(path)
            ))
        }
    }
}
