//! `gleaner schedule`: keeps the times of all pipelines of the project, or runs what is due.

mod coming;
mod files;
mod install;
mod tellers;
mod work;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use jiff::SignedDuration;

use self::files::Files;
use self::work::{Work, reporter};
use super::drive::Drive;
use super::global::Global;
use super::{out, project, runtime, state};
use crate::disk::Disk;
use crate::event::{Event, Fact};
use crate::failure::{Exit, Failure};
use crate::harvest::Options;
use crate::report::Manner;
use crate::schedule::Hands;
use crate::schedule::agenda::LATE;
use crate::schedule::board::Board;
use crate::schedule::keeper::Keeper;
use crate::schedule::systemd::{Asked, Manager};
use crate::store::locks;
use crate::store::state::StateError;

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
        let (known, options) = (Arc::clone(&files), options()?);
        let work = Work::new(drive.clone(), manner, logs, options, known, root);
        let work = Arc::new(work);
        let owed = tokio::spawn(Arc::clone(&work).make_up());
        let reporter = Arc::clone(&drive.reporter);
        let (runs, hears) = (Arc::clone(&work), Arc::clone(&work));
        let hands = Hands {
            read: Box::new(move || files.read().map_err(Box::new)),
            run: Box::new(move |order, _| {
                let work = Arc::clone(&runs);
                Box::pin(async move { work.run(order).await })
            }),
            tell: Box::new(move |fact: Fact| {
                hears.hear(&fact);
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
        // Nobody else is there to tell it until the next call; once a stop is asked for, not even that is waited for.
        let _ = drive.unless_stopped(owed).await;
        work.all_told().await;
        Ok(match (self.once, drive.stop.is_asked()) {
            (true, false) => worst,
            (true, true) => drive.stop.exit(worst.worst(Exit::Interrupted)),
            // Runs that failed have said so; the schedule did what it is for.
            (false, _) => Exit::Complete,
        })
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
