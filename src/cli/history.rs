//! `gleaner history`: what the runs of the project came to, pipeline by pipeline or one by one.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::failure::{Exit, Failure};
use crate::report::{clean, duration, plural, size, thousands};
use crate::store::history::{RunRecord, Status};

use super::rooms::{self, NoPlan, Overrides};
use super::runs::{Project, here};
use super::{out, project, table};

/// Look back: what each pipeline's runs came to
///
/// Without a name one line for each pipeline: its latest run, and the rows of the runs before as a
/// curve. With a name its latest runs. Below stands what needs a person, and what to do.
///
/// A run that ended more than 400 days ago is forgotten, but never one of the latest 30 of its pipeline.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment, args_conflicts_with_subcommands = true)]
pub(super) struct HistoryArgs {
    #[command(subcommand)]
    what: Option<What>,

    /// The runs of this pipeline
    #[arg(value_name = "NAME")]
    pipeline: Option<String>,

    /// At most so many runs, the latest
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    last: u64,

    /// Print a JSON array of all runs, the latest first
    #[arg(long, conflicts_with = "last")]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show all that is known of a run, and what to do next
    Show {
        /// The run, or the beginning of its id; `last` is the latest
        #[arg(value_name = "RUN")]
        id: String,

        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

impl HistoryArgs {
    pub(super) fn execute(&self) -> Result<Exit, Failure> {
        let project = Project::open()?;
        if let (None, Some(name)) = (&self.what, &self.pipeline)
            && project.runs(Some(name))?.is_empty()
        {
            // A slip of the pen is no pipeline that never ran.
            project::find(name)?;
        }
        match (&self.what, self.json) {
            (Some(What::Show { id, json }), _) => project.show_past(id, *json),
            (None, true) => {
                let runs = project.runs(self.pipeline.as_deref())?;
                let all = runs.iter().map(|run| project.past_json(run)).collect();
                out::stdout(&format!("{:#}\n", Value::Array(all)))?;
                Ok(Exit::Complete)
            }
            (None, false) => {
                let most = usize::try_from(self.last).unwrap_or(usize::MAX);
                let text = match &self.pipeline {
                    Some(name) => project.past_of(name, most, table::width())?,
                    None => project.overview(most, table::width())?,
                };
                match text {
                    Some(text) => out::stdout(&text)?,
                    None => out::stderr("no run yet\n"),
                }
                Ok(Exit::Complete)
            }
        }
    }
}

impl Project {
    /// A line for each pipeline.
    fn overview(&self, most: usize, width: usize) -> Result<Option<String>, Failure> {
        let mut pipelines: BTreeMap<String, Vec<RunRecord>> = BTreeMap::new();
        for run in self.runs(None)? {
            pipelines.entry(run.pipeline.clone()).or_default().push(run);
        }
        let broken = self.broken(None);
        if pipelines.is_empty() {
            return Ok((!broken.is_empty()).then(|| format!("no run yet\n{broken}")));
        }
        let mut notes = String::new();
        let mut rows = Vec::new();
        for (name, mut runs) in pipelines {
            runs.truncate(most);
            let Some(latest) = runs.first() else { continue };
            rows.push(vec![
                clean(&name).into_owned(),
                self.word(latest).to_owned(),
                here(latest.started),
                took(latest),
                thousands(self.rows(latest)),
                rows_of(&runs),
            ]);
            self.push_note(latest, &mut notes);
        }
        let header = ["PIPELINE", "STATUS", "BEGAN", "TOOK", "ROWS", "TREND"];
        Ok(Some(table::plain(&header, &rows, width) + &notes + &broken))
    }

    /// Files that cannot be understood: nothing of them runs by itself, or not what stands in them.
    fn broken(&self, of: Option<&str>) -> String {
        let mut notes = String::new();
        for path in project::files(&self.root).unwrap_or_default() {
            let name = project::stem(&path);
            if of.is_some_and(|of| *of != name) {
                continue;
            }
            let why = match rooms::plan(&path, &Overrides::default()) {
                Ok(_) => continue,
                Err(NoPlan::Failure(failure)) => failure.to_string(),
                Err(NoPlan::Mistakes(mistakes)) => rooms::in_a_line(&mistakes),
            };
            let name = clean(&name);
            let _ = writeln!(
                notes,
                "\n{name}: its file cannot be understood: {}\n  next: `gleaner check {name}`",
                clean(&why)
            );
        }
        notes
    }

    /// The runs of a pipeline, the latest first, below the curve of their rows.
    fn past_of(&self, name: &str, most: usize, width: usize) -> Result<Option<String>, Failure> {
        let mut runs = self.runs(Some(name))?;
        let all = runs.len();
        runs.truncate(most);
        let Some(latest) = runs.first() else {
            let broken = self.broken(Some(name));
            return Ok((!broken.is_empty()).then(|| format!("no run yet\n{broken}")));
        };
        let mut text = format!("{}  {}\n", clean(name), rows_of(&runs));
        let rows: Vec<Vec<String>> = (runs.iter())
            .map(|run| {
                vec![
                    run.id.clone(),
                    self.word(run).to_owned(),
                    took(run),
                    thousands(self.rows(run)),
                    run.attempts.to_string(),
                    run.failure.clone().unwrap_or_default(),
                ]
            })
            .collect();
        let header = ["RUN", "STATUS", "TOOK", "ROWS", "TRIES", "WHY"];
        text.push_str(&table::plain(&header, &rows, width));
        if all > runs.len() {
            let more = (all - runs.len()) as u64;
            let _ = writeln!(text, "and {} before", plural(more, "run"));
        }
        self.push_note(latest, &mut text);
        text.push_str(&self.broken(Some(name)));
        Ok(Some(text))
    }

    /// What a person has to know of a pipeline's latest run.
    fn push_note(&self, latest: &RunRecord, out: &mut String) {
        let next = self.next(latest);
        if next.is_empty() {
            return;
        }
        let name = clean(&latest.pipeline);
        let why = latest.failure.as_deref().map(clean);
        let why = why.unwrap_or_else(|| self.word(latest).into());
        // A stream may have the pipeline's name, and its message begins with it.
        let why = why.strip_prefix(&format!("{name}: ")).unwrap_or(&why);
        let _ = writeln!(out, "\n{name}: {why}");
        for step in next {
            let _ = writeln!(out, "  next: {}", clean(&step));
        }
    }

    /// What to do next, one step a line; nothing where all is well.
    fn next(&self, run: &RunRecord) -> Vec<String> {
        let name = &run.pipeline;
        let again = if run.status.is_open() {
            format!(
                "`gleaner run {name}` continues it; pages that are here are not asked for again"
            )
        } else {
            format!("`gleaner run {name}` begins anew")
        };
        // Its first line says what to do; a piece of the file may stand below it.
        let hint = run.hint.as_deref().and_then(|hint| hint.lines().next());
        let hint = hint.map(str::to_owned);
        match self.word(run) {
            "interrupted" | "stopped" => vec![again],
            "resumable" | "unfinished" | "failed" => hint.into_iter().chain([again]).collect(),
            "held" => {
                let release = self
                    .folder(&run.id)
                    .map(|_| format!("`gleaner runs publish {}`, if the data are right", run.id));
                let anew = format!("`gleaner run {name}` asks the API anew");
                release.into_iter().chain([anew]).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Records of a run; of one that was killed, those that it keeps.
    fn rows(&self, run: &RunRecord) -> u64 {
        self.sums(run).map_or(run.counts.rows, |sums| sums.records)
    }

    fn show_past(&self, id: &str, as_json: bool) -> Result<Exit, Failure> {
        let run = match (id, self.runs(None)?.into_iter().next()) {
            ("last", Some(latest)) => latest,
            _ => self.find(id)?,
        };
        let text = if as_json {
            format!("{:#}\n", self.past_json(&run))
        } else {
            self.past(&run)
        };
        out::stdout(&text)?;
        Ok(Exit::Complete)
    }

    /// All that is known of a run, for people.
    fn past(&self, run: &RunRecord) -> String {
        let mut lines = Lines::default();
        lines.add("run", &run.id);
        lines.add("pipeline", &run.pipeline);
        let code = run.exit.map(|code| format!(" (exit code {code})"));
        lines.add(
            "status",
            &format!("{}{}", self.word(run), code.unwrap_or_default()),
        );
        lines.add("began", &here(run.started));
        if let Some(ended) = run.ended {
            lines.add("ended", &here(ended));
        }
        let tries = plural(run.attempts.into(), "attempt");
        lines.add("took", &format!("{}, {tries}", took(run)));
        if let Some(released) = run.released {
            lines.add("released", &here(released));
        }
        if let Some(from) = &run.window_from {
            lines.add("from", &bound(from));
        }
        if let Some(until) = &run.window_until {
            lines.add("until", &bound(until));
        }
        lines.add(
            "program",
            &format!("gleaner {}, plan {}", run.version, run.plan),
        );
        let asked = run.options.as_object().filter(|asked| !asked.is_empty());
        if asked.is_some() {
            lines.add("asked for", &run.options.to_string());
        }
        if let Ok(sums) = self.sums(run) {
            let word = if run.status.is_open() {
                "kept"
            } else {
                "fetched"
            };
            let pages = plural(sums.pages, "page");
            let records = plural(sums.records, "record");
            lines.add(word, &format!("{pages}, {records}"));
        }
        let requests = plural(run.counts.requests, "request");
        let bytes = size(run.counts.bytes);
        lines.add("asked", &format!("{requests}, {bytes} of answers"));
        for (name, unit) in [
            ("retries", &run.retries),
            ("waited", &run.waits),
            ("quota", &run.quota),
        ] {
            let told = listed(name, unit);
            if !told.is_empty() {
                lines.add(name, &told);
            }
        }
        for stream in run.streams.as_array().into_iter().flatten() {
            lines.stream(stream);
        }
        for file in run.files.as_array().into_iter().flatten() {
            let path = file["path"].as_str().unwrap_or_default();
            let rows = plural(file["rows"].as_u64().unwrap_or_default(), "row");
            let bytes = size(file["bytes"].as_u64().unwrap_or_default());
            let crc = file["crc32c"].as_str().map(|crc| format!(", CRC32C {crc}"));
            let crc = crc.unwrap_or_default();
            lines.add("published", &format!("{path} ({rows}, {bytes}{crc})"));
        }
        if let (Some(failure), true) = (&run.failure, run.streams[0].is_null()) {
            lines.add("failure", failure);
        }
        for step in self.next(run) {
            lines.add("next", &step);
        }
        lines.text
    }

    fn past_json(&self, run: &RunRecord) -> Value {
        let sums = self.sums(run).ok();
        json!({
            "run": run.id,
            "pipeline": run.pipeline,
            "status": self.word(run),
            "began": run.started.to_string(),
            "ended": run.ended.map(|at| at.to_string()),
            "took": run.active,
            "attempts": run.attempts,
            "exit": run.exit,
            "version": run.version,
            "plan": run.plan,
            "options": run.options,
            "window": { "from": run.window_from, "until": run.window_until },
            "pages": sums.map(|sums| sums.pages),
            "rows": sums.map(|sums| sums.records),
            "bytes": run.counts.bytes,
            "requests": run.counts.requests,
            "retries": run.retries,
            "waited": run.waits,
            "quota": run.quota,
            "streams": run.streams,
            "files": run.files,
            "failure": run.failure,
            "hint": run.hint,
            "next": self.next(run),
            "released": run.released.map(|at| at.to_string()),
        })
    }
}

/// Names and values, one below the other.
#[derive(Default)]
struct Lines {
    text: String,
}

impl Lines {
    fn add(&mut self, name: &str, value: &str) {
        let _ = writeln!(self.text, "{name:<10} {}", clean(value));
    }

    /// What a stream came to, and why.
    fn stream(&mut self, stream: &Value) {
        let text = |key: &str| stream[key].as_str().unwrap_or_default();
        let count = |key: &str, one: &str| plural(stream[key].as_u64().unwrap_or(0), one);
        let (records, pages) = (count("records", "record"), count("pages", "page"));
        let status = text("status");
        self.add(
            "stream",
            &format!("{}: {status}, {records}, {pages}", text("stream")),
        );
        for check in stream["checks"].as_array().into_iter().flatten() {
            let told = |key: &str| check[key].as_str().unwrap_or_default();
            self.add(
                "check",
                &format!(
                    "{}: expected {}, seen {}",
                    told("check"),
                    told("expected"),
                    told("seen")
                ),
            );
        }
        let failure = &stream["failure"];
        if let Some(message) = failure["message"].as_str() {
            self.add("failure", message);
        }
        for cause in failure["causes"].as_array().into_iter().flatten() {
            self.add("because", cause.as_str().unwrap_or_default());
        }
    }
}

/// A bound of a window: an instant on the clock of those who look, anything else as it is.
fn bound(written: &str) -> String {
    written.parse().map_or_else(|_| written.to_owned(), here)
}

fn took(run: &RunRecord) -> String {
    if run.ended.is_none() {
        return "?".to_owned();
    }
    duration(Duration::try_from_secs_f64(run.active).unwrap_or_default())
}

/// `2 throttle, 1 transient`; `12s for 60/min`; `40 of 60/min`
fn listed(what: &str, values: &Value) -> String {
    let values = values.as_object().into_iter().flatten();
    let told = values.filter_map(|(name, value)| {
        let number = value.as_f64().filter(|number| *number > 0.0)?;
        Some(match what {
            "waited" => {
                let time = Duration::try_from_secs_f64(number).unwrap_or_default();
                format!("{} for {name}", duration(time))
            }
            "quota" => format!("{number} of {name}"),
            _ => format!("{number} {name}"),
        })
    });
    told.collect::<Vec<_>>().join(", ")
}

/// The rows of runs as a curve, the latest at its end.
fn rows_of(runs: &[RunRecord]) -> String {
    let points: Vec<Option<u64>> = (runs.iter().rev())
        .map(|run| (run.status == Status::Complete).then_some(run.counts.rows))
        .collect();
    curve(&points)
}

/// Numbers as bars of an eighth to a whole, from nothing to the greatest; what is none is a cross.
fn curve(points: &[Option<u64>]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = points.iter().flatten().copied().max().unwrap_or(0);
    let bar = |point: &Option<u64>| match point {
        None => '×',
        Some(_) if most == 0 => BARS[0],
        Some(rows) => {
            let at = (u128::from(*rows) * 7).div_ceil(u128::from(most));
            usize::try_from(at)
                .ok()
                .and_then(|at| BARS.get(at))
                .copied()
                .unwrap_or('█')
        }
    };
    points.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_rises_from_nothing_to_the_greatest() {
        assert_eq!(
            curve(&[Some(0), Some(1), Some(50), Some(100), None]),
            "▁▂▅█×"
        );
        assert_eq!(curve(&[Some(0), Some(0)]), "▁▁");
        assert_eq!(curve(&[None]), "×");
        assert_eq!(curve(&[Some(u64::MAX), Some(u64::MAX / 2)]), "█▅");
        assert_eq!(curve(&[]), "");
    }

    #[test]
    fn sums_are_listed_with_what_they_are_of() {
        let told = |what, values: Value| listed(what, &values);
        assert_eq!(
            told("retries", json!({"throttle": 2, "fatal": 0})),
            "2 throttle"
        );
        assert_eq!(
            told("waited", json!({"60/min": 61.2})),
            "1min 1s for 60/min"
        );
        assert_eq!(told("quota", json!({"60/min": 40.5})), "40.5 of 60/min");
        assert_eq!(told("quota", Value::Null), "");
    }
}
