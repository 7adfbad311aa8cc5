//! The rim: one file per command.
//!
//! Arguments come in, an exit code goes out. Results go to standard output, everything else to
//! standard error. Calls into the rooms below pass through `rooms`.

mod again;
mod agree;
mod check;
mod completions;
mod convert;
mod cursors;
mod demo;
mod describe;
mod draft;
mod drive;
mod global;
mod history;
mod init;
mod limits;
mod list;
mod notebook;
mod out;
mod outputs;
mod packages;
mod plan;
mod preview;
mod project;
mod raw;
mod reextract;
mod reference;
mod release;
mod rooms;
mod run;
mod runs;
mod schedule;
mod schema;
mod signals;
mod state;
mod table;

use std::io::IsTerminal;
use std::num::NonZeroUsize;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::clock::Clock;
use crate::failure::{Exit, Failure};
use crate::report;

pub use self::reference::reference;

use self::global::Global;

/// Pulls records out of web APIs, politely and completely.
///
/// A file in pipelines/ describes an API once: where it is, what it allows, how it pages.
/// `gleaner run NAME` fetches every page within those limits and leaves clean CSV or NDJSON.
///
/// New here? `gleaner demo` shows a run; `gleaner init` writes a first file.
#[derive(Debug, Parser)]
#[command(
    name = "gleaner",
    version,
    verbatim_doc_comment,
    propagate_version = false,
    arg_required_else_help = true,
    subcommand_required = true,
    disable_help_subcommand = true,
    after_long_help = EXIT_CODES
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    global: Global,
}

const EXIT_CODES: &str = "\
Exit codes:
    0  complete
    1  failed, needs a person
    2  the command line is wrong
    3  complete, but checks hold data back or records are missing
    4  a pipeline file is invalid
   73  the disk is full or not writable
   75  not finished, but may work later: run again
   77  another run holds the lock
  130  stopped by Ctrl-C (143: by SIGTERM)";

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::RunArgs),
    Runs(runs::RunsArgs),
    Schedule(schedule::ScheduleArgs),
    History(history::HistoryArgs),
    Check(check::CheckArgs),
    Preview(preview::PreviewArgs),
    Plan(plan::PlanArgs),
    State(cursors::StateArgs),
    Describe(describe::DescribeArgs),
    Convert(convert::ConvertArgs),
    Reextract(reextract::ReextractArgs),
    Limits(limits::LimitsArgs),
    List(list::ListArgs),
    Notebook(notebook::NotebookArgs),
    Init(init::InitArgs),
    Demo(demo::DemoArgs),
    Schema(schema::SchemaArgs),
    Completions(completions::CompletionsArgs),
}

/// The whole program.
pub fn main() -> ExitCode {
    restore_terminal_on_panic();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(problem) => {
            told(&problem);
            return ExitCode::from(u8::try_from(problem.exit_code()).unwrap_or(2));
        }
    };
    dispatch(&cli)
        .unwrap_or_else(|failure| {
            let now = || Clock::system().calendar();
            let verbosity = cli.global.verbosity();
            let is_logged =
                cli.logs() && report::Reporter::log(verbosity, None, now).ended(Err(&failure));
            if !is_logged {
                out::stderr(&report::draw_failure(&failure));
            }
            failure.exit
        })
        .into()
}

impl Cli {
    /// Whether what the command has to say is a log: then its own failure is a line of that too.
    fn logs(&self) -> bool {
        match &self.command {
            Command::Run(_) => self.global.logs(false),
            Command::Schedule(args) => args.logs(&self.global),
            _ => false,
        }
    }
}

fn dispatch(cli: &Cli) -> Result<Exit, Failure> {
    let global = &cli.global;
    global.apply()?;
    match &cli.command {
        Command::Run(args) if args.is_timeless() => timeless()?.block_on(args.execute(global)),
        Command::Run(args) => runtime()?.block_on(args.execute(global)),
        Command::Preview(args) => runtime()?.block_on(args.execute(global)),
        Command::Plan(args) => runtime()?.block_on(args.execute(global)),
        Command::Demo(args) => runtime()?.block_on(args.execute(global)),
        Command::Schedule(args) => args.execute(global),
        Command::State(args) => args.execute(),
        Command::Check(args) => args.execute(global),
        Command::Describe(args) => args.execute(),
        Command::Convert(args) => args.execute(),
        Command::Reextract(args) => runtime()?.block_on(args.execute(global)),
        Command::Limits(args) => args.execute(),
        Command::List(_) => list::ListArgs::execute(),
        Command::Runs(args) => args.execute(global),
        Command::Notebook(args) => args.execute(),
        Command::History(args) => args.execute(),
        Command::Init(args) => args.execute(global),
        Command::Schema(_) => schema::SchemaArgs::execute(),
        Command::Completions(args) => args.execute(),
    }
}

/// Help asked for goes to standard output, a mistake to standard error. A mistake quotes what was
/// typed or what a script put in, and that draws nothing on the screen.
fn told(problem: &clap::Error) {
    let plain = problem.render().to_string();
    if problem.use_stderr() && plain.lines().any(|line| report::clean(line) != line) {
        for line in plain.lines() {
            out::stderr(&format!("{}\n", report::clean(line)));
        }
    } else {
        let _ = problem.print();
    }
}

/// More threads than this only wait for the network.
const MOST_WORKERS: usize = 8;

pub(in crate::cli) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    // Said here, because tokio would panic over an odd value in its environment variable.
    let cores = std::thread::available_parallelism().map_or(2, NonZeroUsize::get);
    // The other half is for what takes time and for the disk, which have threads of their own. Threads that
    // take work off each other for lack of it cost a tenth of a run's CPU (docs/design.md, Threads).
    let workers = cores.div_ceil(2).min(MOST_WORKERS);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failed, "cannot start the runtime").caused_by(&error))
}

/// A runtime whose time stands still while there is work, and leaps to the next wait's end when
/// there is none.
fn timeless() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .map_err(|error| Failure::new(Exit::Failed, "cannot start the runtime").caused_by(&error))
}

/// Whatever was being drawn, the cursor comes back and the message stands on its own line.
fn restore_terminal_on_panic() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if std::io::stderr().is_terminal() {
            out::stderr("\x1b[?25h\r\x1b[K\n");
        }
        usual(panic);
        out::stderr("this is a bug in gleaner; what was published before is whole\n");
    }));
}
