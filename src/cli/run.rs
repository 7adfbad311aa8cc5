//! `gleaner run`: fetches everything and publishes it.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use crate::clock::Clock;
use crate::disk::Disk;
use crate::failure::{Exit, Failure};
use crate::fetch::replay::Cassette;
use crate::harvest::alerts::was_broken;
use crate::harvest::attempt::once::Unknown;
use crate::harvest::summary::Summary;
use crate::harvest::tape::Tape;
use crate::harvest::{Backfill, Harvest, Options};
use crate::plan::sink::SinkMode;
use crate::plan::{Plan, StreamPlan};
use crate::report::{self, Manner, Reporter, Verbosity};
use crate::spec::load::Found;

use super::again;
use super::drive::{Drive, Ready, off};
use super::global::Global;
use super::out;
use super::project;
use super::rooms::{self, NoPlan, Overrides};
use super::state;

/// Fetch every page of a pipeline and publish its files
///
/// A NAME stands for pipelines/NAME.yaml of the project, which is the nearest folder upward that
/// holds pipelines/; a path works too. Several pipelines run one after the other; all files are
/// checked before the first request.
///
/// Ctrl-C stops gracefully, a second one at once. What was fetched is kept: the next run of the
/// same pipeline continues where this one ended. A file that was there before stays as it was until the
/// new one is whole.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub(super) struct RunArgs {
    /// Names or paths of pipelines
    #[arg(required = true, value_name = "NAME|PATH")]
    pipelines: Vec<String>,

    /// Set a variable of the pipeline; may be repeated
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = assignment)]
    vars: Vec<(String, String)>,

    /// Run only this stream; may be repeated
    #[arg(long = "stream", value_name = "STREAM")]
    streams: Vec<String>,

    /// Write here instead of where the pipeline says: csv=PATH, ndjson=PATH, parquet=PATH or sqlite=PATH
    #[arg(long = "sink", value_name = "FORMAT=PATH", value_parser = sink)]
    sinks: Vec<String>,

    /// Stop each stream after N records; writes beside the target, which stays as it is
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit_records: Option<u64>,

    /// Ask from the cursor's `start` again; the cursor stays where it is
    #[arg(long, conflicts_with = "from")]
    full: bool,

    /// Ask from here, a date or a value of the cursor's field; the cursor stays where it is
    #[arg(long, value_name = "WHEN")]
    from: Option<String>,

    /// Ask up to here; the cursor stays where it is
    #[arg(long, value_name = "WHEN")]
    to: Option<String>,

    /// Discard an unfinished run of the pipeline instead of continuing it
    #[arg(long, conflicts_with = "limit_records")]
    fresh: bool,

    /// What becomes of requests of `once: true` that were sent and never answered: nobody knows
    /// whether they were acted on
    #[arg(
        long,
        value_name = "WHAT",
        value_enum,
        conflicts_with = "limit_records"
    )]
    unknown: Option<WithUnknown>,

    /// Keep the records as they came, in .gleaner/runs/, until the next run is complete
    #[arg(long, conflicts_with = "limit_records")]
    keep_parts: bool,

    /// Tell those whom `schedule` names: `on_failure` when things change, `ping` always
    #[arg(long, conflicts_with_all = ["limit_records", "replay"])]
    alerts: bool,

    /// Write every exchange down, without secrets: a new file, packed if its name ends in .zst
    #[arg(long, value_name = "FILE", conflicts_with_all = ["limit_records", "replay"])]
    record: Option<PathBuf>,

    /// Run from what --record wrote: nothing is sent, and no time passes
    #[arg(long, value_name = "FILE", conflicts_with_all = ["fresh", "keep_parts"])]
    replay: Option<PathBuf>,

    /// Write events as NDJSON to standard output instead of showing progress
    #[arg(long)]
    json: bool,
}

/// What becomes of what was sent and never answered.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum WithUnknown {
    /// Send it again, though it may act or cost twice
    Resend,
    /// Publish without it
    Skip,
}

impl RunArgs {
    /// Runs all, one after the other; the worst end is the end.
    pub(super) async fn execute(&self, global: &Global) -> Result<Exit, Failure> {
        let (plans, broken) = self.plans()?;
        if !broken.is_empty() {
            if self.alerts {
                self.tell_of_files(global, &broken).await;
            }
            return Ok(Exit::Invalid);
        }
        if self.json && plans.iter().any(|(_, plan)| writes_stdout(plan)) {
            return Err(
                Failure::usage("--json and a sink `-` both want standard output")
                    .hint("give the sink a file: --sink ndjson=PATH"),
            );
        }
        let verbosity = global.verbosity();
        if plans.len() > 1 && (self.record.is_some() || self.replay.is_some()) {
            return Err(Failure::usage("a recording is of one pipeline")
                .hint("run them one by one, each with a file of its own"));
        }
        let mut drive = Drive::new(if global.logs(false) && !self.json {
            Reporter::log(verbosity, None, || Clock::system().calendar())
        } else {
            Reporter::new(Manner {
                json: self.json,
                verbosity,
                terminal: std::io::stderr().is_terminal() && self.replay.is_none(),
                colour: out::stderr_colour(),
            })
        });
        let tape = self.tape(&plans)?;
        if let Tape::Replay(cassette) = &tape {
            drive.clock = Clock::simulated(cassette.head.started);
        }
        let mut exit = Exit::Complete;
        for (found, plan) in plans {
            if drive.stop.is_asked() {
                exit = exit.worst(drive.stop.exit(Exit::Interrupted));
                break;
            }
            drive.reporter.about(&plan.name);
            let ended = self.one(&drive, found, plan, tape.clone()).await;
            exit = exit.worst(if drive.reporter.ended(ended.as_ref()) {
                ended.map_or_else(|failure| failure.exit, |summary| summary.exit)
            } else {
                tell(None, "", ended, self.json || verbosity == Verbosity::Quiet)
            });
        }
        Ok(exit)
    }

    /// Those whom a file names hear that it is broken, as far as it can be read.
    async fn tell_of_files(&self, global: &Global, broken: &[(Found, Failure)]) {
        let drive = Drive::of_few_requests(global);
        for (found, failure) in broken {
            let path = found.path.clone();
            let Ok(Some(plan)) = off(move || rooms::listeners(&path)).await else {
                continue;
            };
            let connect = rooms::transport_or_plain;
            let ready = drive.ready(plan, connect, &found.root, true, |transport| {
                drive.world(transport, found.root.clone())
            });
            if let Ok(Ready {
                watch: Some(watch), ..
            }) = ready.await
            {
                watch.note_file(Some(failure)).await;
                drive.unless_stopped(watch.tell_of_file()).await;
            }
        }
    }

    /// All plans, and the files that have mistakes: these are shown, of all files.
    #[expect(clippy::type_complexity, reason = "two lists")]
    fn plans(&self) -> Result<(Vec<(Found, Plan)>, Vec<(Found, Failure)>), Failure> {
        let overrides = Overrides {
            vars: self.vars.clone(),
            sinks: self.sinks.clone(),
            streams: self.streams.clone(),
        };
        let found: Vec<Found> = self
            .pipelines
            .iter()
            .map(|name| project::find(name))
            .collect::<Result<_, _>>()?;
        let mut plans = Vec::new();
        let mut broken = Vec::new();
        for found in found {
            match rooms::plan(&found.path, &overrides) {
                Ok(plan) => plans.push((found, plan)),
                Err(NoPlan::Failure(failure)) => return Err(failure),
                Err(NoPlan::Mistakes(mistakes)) => {
                    out::stderr(&mistakes.draw(out::stderr_colour()));
                    let message = rooms::in_a_line(&mistakes);
                    let hint = format!("`gleaner check {}`", project::stem(&found.path));
                    let failure = Failure::new(Exit::Invalid, message).hint(hint);
                    broken.push((found, failure));
                }
            }
        }
        Ok((plans, broken))
    }

    /// Whether time stands still but for waits: a replay waits for nothing.
    pub(super) fn is_timeless(&self) -> bool {
        self.replay.is_some()
    }

    /// The recording that is made or played.
    fn tape(&self, plans: &[(Found, Plan)]) -> Result<Tape, Failure> {
        if let Some(path) = &self.record {
            return Ok(Tape::Record(path.clone()));
        }
        let (Some(path), Some((_, plan))) = (&self.replay, plans.first()) else {
            return Ok(Tape::Off);
        };
        self.refuse_gathered(plan)?;
        let cassette = Cassette::open(&Disk::system(), path).map_err(|problem| {
            Failure::usage(problem.to_string()).hint("`gleaner run NAME --record FILE` makes one")
        })?;
        if cassette.head.pipeline != plan.name {
            return Err(Failure::usage(format!(
                "{} is a recording of `{}`, not of `{}`",
                path.display(),
                report::clean(&cassette.head.pipeline),
                plan.name
            )));
        }
        Ok(Tape::Replay(Arc::new(cassette)))
    }

    /// A replay writes what one run found: over what many have gathered it would be a loss.
    fn refuse_gathered(&self, plan: &Plan) -> Result<(), Failure> {
        let gathers = |stream: &&StreamPlan| {
            let wanted = self.streams.is_empty() || self.streams.contains(&stream.name);
            wanted
                && stream
                    .sinks
                    .iter()
                    .any(|sink| sink.mode != SinkMode::Replace)
        };
        match plan.streams.iter().find(gathers) {
            None => Ok(()),
            Some(stream) => Err(Failure::usage(format!(
                "{} adds to what earlier runs have gathered, and a replay leaves that alone",
                stream.name
            ))
            .hint("say where to write: --sink ndjson=PATH")),
        }
    }

    /// What was asked for beside the file, for those who look back. No values of variables: they may
    /// be private.
    fn noted(&self) -> Value {
        let mut noted = Map::new();
        let mut note = |name: &str, value: Value| {
            if !value.is_null() && value != json!([]) && value != json!(false) {
                noted.insert(name.to_owned(), value);
            }
        };
        let vars: Vec<&str> = self.vars.iter().map(|(name, _)| name.as_str()).collect();
        note("vars", json!(vars));
        note("streams", json!(self.streams));
        note("sinks", json!(self.sinks));
        note("full", json!(self.full));
        note("from", json!(self.from));
        note("to", json!(self.to));
        noted.into()
    }

    async fn one(
        &self,
        drive: &Drive,
        found: Found,
        plan: Plan,
        tape: Tape,
    ) -> Result<Summary, Failure> {
        let connect = if tape.is_replay() {
            |plan: &Plan, _: &Path| (rooms::no_transport(plan), None)
        } else {
            rooms::transport_or_plain
        };
        let root = found.root;
        let ready = drive.ready(plan, connect, &root, self.alerts, |transport| {
            drive.world(transport, root.clone())
        });
        let Ready {
            plan,
            world,
            watch,
            refused,
        } = ready.await?;
        if let Some(watch) = &watch {
            let (disk, root, name) = (world.disk.clone(), root.clone(), plan.name.clone());
            // It was read just now. Where that cannot be known, the run will say so.
            if let Ok(Ok(true)) = off(move || was_broken(&disk, &root, &name)).await {
                watch.note_file(None).await;
            }
        }
        let options = Options {
            streams: self.streams.clone(),
            limit_records: self.limit_records,
            // What is never sent is not entered anywhere.
            limits: state::limits().filter(|_| !tape.is_replay()),
            backfill: Backfill {
                full: self.full,
                from: self.from.clone(),
                to: self.to.clone(),
            },
            keep_free: state::keep_free()?,
            state: state::folder(),
            fresh: self.fresh,
            keep_parts: self.keep_parts,
            unknown: match self.unknown {
                None => Unknown::Name,
                Some(WithUnknown::Resend) => Unknown::Resend,
                Some(WithUnknown::Skip) => Unknown::Skip,
            },
            tape,
            noted: self.noted(),
            ..Options::default()
        };
        if let Some(failure) = refused {
            Harvest::not_opened(&plan, &world, &options, &failure);
            if let Some(watch) = watch {
                let told = async { tokio::join!(watch.ended(Err(&failure)), watch.tell_of_file()) };
                drive.unless_stopped(told).await;
            }
            return Err(failure);
        }
        if options.leaves_trace() {
            again::end(&found.path, &world).await;
        }
        Box::pin(drive.run_watched(plan, world, options, watch)).await
    }
}

/// Shows how a run ended; where only errors are wanted, only them. Where several are side by side, each line says
/// whose it is and begins with `stamp`.
pub(super) fn tell(
    pipeline: Option<&str>,
    stamp: &str,
    ended: Result<Summary, Failure>,
    only_errors: bool,
) -> Exit {
    let draw = |stream: Option<&str>, failure: &Failure| match (pipeline, stream) {
        (Some(pipeline), _) => report::draw_failure_of(pipeline, stream, failure),
        (None, Some(stream)) => report::draw_stream_failure(stream, failure),
        (None, None) => report::draw_failure(failure),
    };
    match ended {
        Ok(summary) if only_errors => {
            for stream in &summary.streams {
                if let Some(failure) = &stream.failure {
                    out::stderr(&draw(Some(&stream.stream), failure));
                }
            }
            if let Some(failure) = &summary.failure {
                out::stderr(&draw(None, failure));
            }
            summary.exit
        }
        Ok(summary) => {
            out::stderr(&format!("{stamp}{}", report::draw_summary(&summary)));
            summary.exit
        }
        Err(failure) => {
            out::stderr(&format!("{stamp}{}", draw(None, &failure)));
            failure.exit
        }
    }
}

fn writes_stdout(plan: &Plan) -> bool {
    let mut sinks = plan.streams.iter().flat_map(|stream| &stream.sinks);
    sinks.any(|sink| sink.path.written() == "-")
}

pub(super) fn assignment(written: &str) -> Result<(String, String), String> {
    match written.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as name=value".to_owned()),
    }
}

fn sink(written: &str) -> Result<String, String> {
    match written.split_once('=') {
        Some(("csv" | "ndjson" | "parquet" | "sqlite", path)) if !path.is_empty() => {
            Ok(written.to_owned())
        }
        _ => Err("write it as csv=PATH, ndjson=PATH, parquet=PATH or sqlite=PATH".to_owned()),
    }
}
