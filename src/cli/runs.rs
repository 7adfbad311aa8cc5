//! `gleaner runs`: what was run in this project, what can go on, and an end to it.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::clock::Clock;
use crate::disk::Disk;
use crate::failure::{Exit, Failure};
use crate::harvest::ground::reextract::mixed;
use crate::report::{clean, plural, size, thousands};
use crate::store::error::StoreError;
use crate::store::history::{RunRecord, Status};
use crate::store::locks;
use crate::store::recall::Sums;
use crate::store::row::Sent;
use crate::store::run::{self, unknown};
use crate::store::state::State;
use crate::store::sweep;

use super::global::Global;
use super::{out, project, raw, release, table};

/// List the runs of the project, or look at one
///
/// `gleaner run NAME` continues a run that is `resumable`, `stopped`, or `interrupted` (it was killed), and
/// `gleaner run NAME --fresh` or `gleaner runs discard ID` removes what it keeps. One that is `held` by its
/// checks waits for a person: `gleaner runs publish ID` publishes it as it is, `gleaner run NAME` begins anew.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment, args_conflicts_with_subcommands = true)]
pub(super) struct RunsArgs {
    #[command(subcommand)]
    what: Option<What>,

    /// Only runs of this pipeline
    #[arg(value_name = "NAME")]
    pipeline: Option<String>,

    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show all that is known of a run
    Show {
        /// The run, or the beginning of its id
        #[arg(value_name = "ID")]
        id: String,

        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Publish a run though its checks do not hold, from what it keeps; nothing is asked
    Publish {
        /// The run, or the beginning of its id
        #[arg(value_name = "ID")]
        id: String,

        /// Set a variable as that run did; may be repeated
        #[arg(long = "var", value_name = "NAME=VALUE", value_parser = super::run::assignment)]
        vars: Vec<(String, String)>,
    },
    /// Show the answers that a run has kept as they came (`keep: raw`)
    ///
    /// Without a stream the files are listed. With one, its answers are printed one after the other, as
    /// `zstdcat` does; with the number of a line of the file beside, that answer alone.
    Raw {
        /// The run, or the beginning of its id
        #[arg(value_name = "ID")]
        id: String,

        /// The stream
        #[arg(value_name = "STREAM")]
        stream: Option<String>,

        /// Which answer, from 1, as the lines of STREAM.ndjson have it
        #[arg(value_name = "LINE", requires = "stream")]
        line: Option<usize>,
    },
    /// Give a run up and remove what it keeps
    Discard {
        /// The run, or the beginning of its id
        #[arg(value_name = "ID")]
        id: String,
    },
}

impl RunsArgs {
    pub(super) fn execute(&self, global: &Global) -> Result<Exit, Failure> {
        let project = Project::open()?;
        match &self.what {
            None => project.list(self.pipeline.as_deref(), self.json),
            Some(What::Show { id, json }) => project.show(id, *json),
            Some(What::Discard { id }) => project.discard(id),
            Some(What::Raw { id, stream, line }) => {
                let run = project.find(id)?;
                raw::show(&project.root, &run, stream.as_deref(), *line)
            }
            Some(What::Publish { id, vars }) => {
                drop(project);
                super::runtime()?.block_on(release::publish(id, vars, global))
            }
        }
    }
}

/// The runs of a project, for the commands that look at them.
pub(super) struct Project {
    pub(super) disk: Disk,
    pub(super) root: PathBuf,
    /// `None` where nothing was run yet.
    pub(super) state: Option<State>,
}

impl Project {
    pub(super) fn open() -> Result<Self, Failure> {
        let root = project::root()?;
        let disk = Disk::system();
        let state = if root.join(".gleaner").join("state.db").exists() {
            Some(State::open(&disk, &root).map_err(|error| *error.into_failure())?)
        } else {
            None
        };
        Ok(Self { disk, root, state })
    }

    /// Runs of a pipeline, or of all, the latest first.
    pub(super) fn runs(&self, pipeline: Option<&str>) -> Result<Vec<RunRecord>, Failure> {
        match &self.state {
            Some(state) => state.runs(pipeline).map_err(|error| *error.into_failure()),
            None => Ok(Vec::new()),
        }
    }

    /// The one run whose id begins so.
    pub(super) fn find(&self, id: &str) -> Result<RunRecord, Failure> {
        let mut found: Vec<RunRecord> = self
            .runs(None)?
            .into_iter()
            .filter(|run| run.id.starts_with(id))
            .collect();
        match (found.pop(), found.is_empty()) {
            (Some(run), true) => Ok(run),
            (None, _) => Err(Failure::usage(format!("there is no run `{}`", clean(id)))
                .hint("`gleaner runs` lists them")),
            (Some(_), false) => Err(Failure::usage(format!(
                "several runs begin with `{}`",
                clean(id)
            ))
            .hint("write more of the id")),
        }
    }

    fn list(&self, pipeline: Option<&str>, as_json: bool) -> Result<Exit, Failure> {
        let runs = self.runs(pipeline)?;
        if let (Some(name), true) = (pipeline, runs.is_empty()) {
            // A slip of the pen is no pipeline that never ran.
            project::find(name)?;
        }
        if as_json {
            let all: Vec<Value> = runs.iter().map(|run| self.json(run)).collect();
            out::stdout(&format!("{:#}\n", Value::Array(all)))?;
            return Ok(Exit::Complete);
        }
        if runs.is_empty() {
            out::stderr("no run yet\n");
            return Ok(Exit::Complete);
        }
        let rows: Vec<Vec<String>> = runs
            .iter()
            .map(|run| {
                let kept = self.sums(run).ok();
                let told =
                    |count: fn(Sums) -> u64| kept.map(count).map_or("?".to_owned(), thousands);
                vec![
                    run.id.clone(),
                    clean(&run.pipeline).into_owned(),
                    self.word(run).to_owned(),
                    here(run.started),
                    told(|sums| sums.pages),
                    told(|sums| sums.records),
                ]
            })
            .collect();
        let header = ["ID", "PIPELINE", "STATUS", "STARTED", "PAGES", "ROWS"];
        out::stdout(&table::plain(&header, &rows, table::width()))?;
        for run in runs.iter().filter(|run| self.is_mixed(run)) {
            out::stderr(&format!("note: {}\n", mixed(run)));
        }
        Ok(Exit::Complete)
    }

    fn show(&self, id: &str, as_json: bool) -> Result<Exit, Failure> {
        let run = self.find(id)?;
        if as_json {
            let mut shown = self.json(&run);
            let unknown = self.unknown(&run)?;
            let unknown = unknown.iter().map(|sent| {
                json!({
                    "stream": sent.stream,
                    "partition": sent.partition,
                    "page": sent.page,
                    "place": sent.place,
                    "sent": sent.at.to_string(),
                })
            });
            shown["unknown"] = unknown.collect();
            out::stdout(&format!("{shown:#}\n"))?;
            return Ok(Exit::Complete);
        }
        let mut lines = vec![
            ("run", run.id.clone()),
            ("pipeline", clean(&run.pipeline).into_owned()),
            ("status", self.word(&run).to_owned()),
            ("started", here(run.started)),
        ];
        lines.extend(run.ended.map(|at| ("ended", here(at))));
        lines.extend(run.exit.map(|exit| ("exit code", exit.to_string())));
        let requests = plural(run.counts.requests, "request");
        let sums = self.sums(&run);
        match &sums {
            Ok(Sums { pages, records }) => {
                let (pages, records) = (plural(*pages, "page"), plural(*records, "record"));
                // A process that was killed could not say how often it asked.
                lines.push(if run.ended.is_none() {
                    ("kept", format!("{pages}, {records}"))
                } else if run.status.is_open() {
                    ("kept", format!("{pages}, {records}, of {requests}"))
                } else {
                    ("fetched", format!("{pages}, {records}, {requests}"))
                });
            }
            Err(error) => lines.push((
                "kept",
                format!("cannot be told: {}", clean(&error.to_string())),
            )),
        }
        for file in run.files.as_array().into_iter().flatten() {
            let path = file["path"].as_str().unwrap_or_default();
            let rows = file["rows"].as_u64().unwrap_or_default();
            let bytes = file["bytes"].as_u64().unwrap_or_default();
            lines.push((
                "published",
                format!("{} ({}, {})", clean(path), plural(rows, "row"), size(bytes)),
            ));
        }
        if let Some(failure) = &run.failure {
            lines.push(("failure", clean(failure).into_owned()));
        }
        let unknown = self.unknown(&run)?;
        for sent in &unknown {
            lines.push((
                "unknown",
                format!("{} (sent {})", clean(&sent.place), here(sent.at)),
            ));
        }
        if run.status.is_open() && !self.is_at_work(&run) {
            let name = clean(&run.pipeline);
            lines.push(("continue", format!("gleaner run {name}")));
        }
        if self.is_mixed(&run) {
            let some = "not to its end: some outputs are new and others old";
            lines.push(("again", some.to_owned()));
            lines.push(("continue", format!("gleaner reextract {}", run.id)));
        }
        if run.status == Status::Held && self.folder(&run.id).is_some() {
            lines.push(("release", format!("gleaner runs publish {}", run.id)));
        }
        let mut text = String::new();
        for (name, value) in lines {
            let _ = writeln!(text, "{name:<10} {value}");
        }
        out::stdout(&text)?;
        Ok(Exit::Complete)
    }

    fn discard(mut self, id: &str) -> Result<Exit, Failure> {
        let mut run = self.find(id)?;
        let now = Clock::system().calendar();
        // Nobody is at work on it, and nobody begins meanwhile.
        let _lock = locks::pipeline(&self.disk, &self.root, &run.pipeline, now)
            .map_err(|error| *error.into_failure())?;
        sweep::discard(&self.disk, &self.root, &run.id).map_err(|error| *error.into_failure())?;
        let waits = run.status.is_open() || run.status == Status::Held;
        let is_unended = run.again.take().is_some();
        if let (true, Some(state)) = (waits || is_unended, &mut self.state) {
            if waits {
                run.status = Status::Discarded;
            }
            state
                .save_run(&run)
                .map_err(|error| *error.into_failure())?;
        }
        out::stderr(&format!("run {} keeps nothing any more\n", run.id));
        Ok(Exit::Complete)
    }

    /// How a run stands, as those see it who look back; one that was killed could not say so itself.
    pub(super) fn word(&self, run: &RunRecord) -> &'static str {
        match (run.status, run.exit.and_then(Exit::of_code)) {
            (Status::Running, _) if !self.is_at_work(run) => "interrupted",
            (Status::Resumable | Status::Failed, Some(Exit::Interrupted | Exit::Terminated)) => {
                "stopped"
            }
            // Nothing of it was kept.
            (Status::Failed, Some(Exit::Resumable)) => "unfinished",
            (Status::Complete, _) if run.released.is_some() => "released",
            (Status::Complete, Some(Exit::Held)) => "short",
            (status, _) => status.name(),
        }
    }

    /// Whether a process works on it now.
    pub(super) fn is_at_work(&self, run: &RunRecord) -> bool {
        run.status == Status::Running && locks::is_at_work(&self.disk, &self.root, &run.pipeline)
    }

    /// Whether some of its outputs are new and others old, and nobody is at work on that.
    fn is_mixed(&self, run: &RunRecord) -> bool {
        run.again.is_some() && !locks::is_at_work(&self.disk, &self.root, &run.pipeline)
    }

    /// Pages and records: of a run that may go on, what it keeps; one that was killed could not
    /// write down how far it came.
    pub(super) fn sums(&self, run: &RunRecord) -> Result<Sums, StoreError> {
        if run.status.is_open() {
            return run::kept(&self.disk, &self.root, &run.id);
        }
        Ok(Sums {
            pages: run.counts.pages,
            records: run.counts.rows,
        })
    }

    fn json(&self, run: &RunRecord) -> Value {
        let kept = self.sums(run).ok();
        json!({
            "run": run.id,
            "pipeline": run.pipeline,
            "status": self.word(run),
            "started": run.started.to_string(),
            "ended": run.ended.map(|at| at.to_string()),
            "exit": run.exit,
            "pages": kept.map(|kept| kept.pages),
            "records": kept.map(|kept| kept.records),
            "bytes": run.counts.bytes,
            "requests": run.counts.requests,
            "failed_attempts": run.retries,
            "waited": run.waits,
            "files": run.files,
            "again": run.again.map(|at| at.to_string()),
            "failure": run.failure,
            "folder": self.folder(&run.id),
        })
    }

    /// What it sent and must not send twice, while nobody knows what came of it. While it is at
    /// work that is what is under way.
    fn unknown(&self, run: &RunRecord) -> Result<Vec<Sent>, Failure> {
        if !run.status.is_open() {
            return Ok(Vec::new());
        }
        unknown(&self.disk, &self.root, &run.id).map_err(|error| *error.into_failure())
    }

    /// What it keeps, if it does.
    pub(super) fn folder(&self, id: &str) -> Option<String> {
        let folder = Path::new(".gleaner/runs").join(id);
        let there = self.root.join(&folder).is_dir();
        there.then(|| folder.display().to_string())
    }
}

/// A moment in the zone that people here live in.
pub(super) fn here(at: Timestamp) -> String {
    let zoned = at.to_zoned(jiff::tz::TimeZone::system());
    zoned.strftime("%Y-%m-%d %H:%M:%S").to_string()
}
