//! `gleaner state`: where the cursors of a project's pipelines stand, and moving them by hand.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::clock::Clock;
use crate::disk::{Disk, Found as There};
use crate::failure::{Exit, Failure};
use crate::plan::cursor::Bound;
use crate::plan::{Plan, StreamPlan};
use crate::report::{clean, plural};
use crate::store::base;
use crate::store::cursors::Cursor;
use crate::store::locks::{self, Lock, LockError};
use crate::store::state::{State, StateError};

use super::rooms::{self, Overrides};
use super::{out, project, table};

/// Show, set or reset the cursors from which the next run goes on
///
/// They are kept in .gleaner/state.db, one for each stream with a `cursor` and each combination of
/// its `for` values. A pipeline that is running is left alone.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct StateArgs {
    #[command(subcommand)]
    command: StateCommand,
}

#[derive(Debug, Subcommand)]
enum StateCommand {
    /// Show cursors, of one pipeline or of all
    Show {
        /// Name or path of a pipeline
        #[arg(value_name = "NAME|PATH")]
        pipeline: Option<String>,

        /// Print a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Move cursors: the next run goes on from VALUE
    Set {
        /// Name or path of a pipeline
        #[arg(value_name = "NAME|PATH")]
        pipeline: String,

        /// The stream
        stream: String,

        /// A date, an instant, or a value of the cursor's field
        #[arg(allow_hyphen_values = true)]
        value: String,

        /// Only partitions with this value; may be repeated
        #[arg(long = "for", value_name = "NAME=VALUE", value_parser = super::run::assignment)]
        partition: Vec<(String, String)>,
    },
    /// Forget cursors: the next run begins at `start` again
    Reset {
        /// Name or path of a pipeline
        #[arg(value_name = "NAME|PATH")]
        pipeline: String,

        /// Only this stream
        #[arg(long, value_name = "STREAM")]
        stream: Option<String>,

        /// Only partitions with this value; may be repeated
        #[arg(long = "for", value_name = "NAME=VALUE", value_parser = super::run::assignment)]
        partition: Vec<(String, String)>,

        /// Also forget the records that `mode: merge` has gathered
        #[arg(long, conflicts_with = "partition")]
        base: bool,
    },
}

impl StateArgs {
    pub(super) fn execute(&self) -> Result<Exit, Failure> {
        match &self.command {
            StateCommand::Show { pipeline, json } => show(pipeline.as_deref(), *json),
            StateCommand::Set {
                pipeline,
                stream,
                value,
                partition,
            } => set(pipeline, stream, value, partition),
            StateCommand::Reset {
                pipeline,
                stream,
                partition,
                base,
            } => reset(pipeline, stream.as_deref(), partition, *base),
        }
    }
}

fn show(pipeline: Option<&str>, as_json: bool) -> Result<Exit, Failure> {
    let named = pipeline.is_some();
    let found = match pipeline {
        Some(name) => vec![project::find(name)?],
        None => project::all()?,
    };
    let mut cursors = Vec::new();
    if let Some(root) = found.first().map(|found| project_folder(&found.root))
        && let Some(state) = existing(&root?)?
    {
        for found in &found {
            cursors.extend(state.cursors(&project::stem(&found.path)).map_err(failed)?);
        }
    }
    if as_json {
        let all: Vec<Value> = cursors.iter().map(data).collect();
        out::stdout(&format!("{:#}\n", Value::from(all)))?;
        return Ok(Exit::Complete);
    }
    if cursors.is_empty() {
        let of = if named {
            "this pipeline"
        } else {
            "this project"
        };
        out::stderr(&format!("no stream of {of} has a cursor yet\n"));
        return Ok(Exit::Complete);
    }
    let rows: Vec<Vec<String>> = cursors.iter().map(row).collect();
    let header = ["PIPELINE", "STREAM", "PARTITION", "AT", "MOVED"];
    out::stdout(&table::plain(&header, &rows, table::width()))?;
    Ok(Exit::Complete)
}

fn row(cursor: &Cursor) -> Vec<String> {
    let by = if cursor.run.is_empty() {
        "by hand".to_owned()
    } else {
        format!("by run {}", cursor.run)
    };
    vec![
        cursor.pipeline.clone(),
        cursor.stream.clone(),
        label(cursor),
        cursor.value.clone(),
        format!("{} {by}", cursor.updated.strftime("%Y-%m-%d %H:%M:%SZ")),
    ]
}

fn variables(cursor: &Cursor) -> serde_json::Map<String, Value> {
    serde_json::from_str(&cursor.partition).unwrap_or_default()
}

fn label(cursor: &Cursor) -> String {
    let variables = variables(cursor);
    let all = variables
        .iter()
        .map(|(name, value)| format!("{name}={}", plain(value)));
    all.collect::<Vec<_>>().join(", ")
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn data(cursor: &Cursor) -> Value {
    json!({
        "pipeline": cursor.pipeline,
        "stream": cursor.stream,
        "partition": variables(cursor),
        "field": cursor.field,
        "value": cursor.value,
        "format": cursor.format,
        "run": if cursor.run.is_empty() { None } else { Some(&cursor.run) },
        "updated": cursor.updated.to_string(),
    })
}

fn set(
    pipeline: &str,
    stream: &str,
    value: &str,
    wanted: &[(String, String)],
) -> Result<Exit, Failure> {
    let Some(Held {
        plan,
        mut state,
        _lock,
        ..
    }) = held(pipeline)?
    else {
        return Ok(Exit::Invalid);
    };
    let of = self::stream(&plan, stream)?;
    let Some(cursor) = &of.cursor else {
        return Err(Failure::usage(format!(
            "the stream `{stream}` has no `cursor`"
        )));
    };
    let now = Clock::system().calendar();
    let position = Bound::parse_in(value, &cursor.format, &cursor.zone)
        .map_err(Failure::usage)?
        .at_in(now, &cursor.zone);
    let mut cursors = matching(&state, &plan.name, Some(stream), wanted)?;
    if cursors.is_empty() && of.partitions.is_empty() {
        cursors.push(Cursor {
            pipeline: plan.name.clone(),
            stream: stream.to_owned(),
            partition: String::new(),
            field: String::new(),
            value: String::new(),
            format: cursor.format.kind().to_owned(),
            run: String::new(),
            updated: now,
        });
    }
    if cursors.is_empty() {
        return Err(
            Failure::usage("no partition of that kind has a cursor yet").hint(format!(
                "`gleaner state show {}` lists them; a new one begins at `start`",
                plan.name
            )),
        );
    }
    for known in &mut cursors {
        known.field.clone_from(&cursor.written);
        known.value = position.to_string();
        cursor.format.kind().clone_into(&mut known.format);
        known.run.clear();
        known.updated = now;
        state.set_cursor(known).map_err(failed)?;
    }
    let count = plural(cursors.len() as u64, "cursor");
    out::stderr(&format!("{count} set to {position}\n"));
    Ok(Exit::Complete)
}

fn reset(
    pipeline: &str,
    only: Option<&str>,
    wanted: &[(String, String)],
    with_base: bool,
) -> Result<Exit, Failure> {
    let Some(Held {
        plan,
        root,
        mut state,
        _lock,
    }) = held(pipeline)?
    else {
        return Ok(Exit::Invalid);
    };
    if let Some(only) = only {
        stream(&plan, only)?;
    }
    let mut count = 0;
    if wanted.is_empty() {
        count = state
            .reset_cursors(&plan.name, only, None)
            .map_err(failed)?;
    } else {
        for cursor in matching(&state, &plan.name, only, wanted)? {
            let partition = Some(cursor.partition.as_str());
            let reset = state.reset_cursors(&plan.name, Some(&cursor.stream), partition);
            count += reset.map_err(failed)?;
        }
    }
    let mut told = format!("{} reset", plural(count as u64, "cursor"));
    if with_base {
        let mut bases = 0;
        let streams = plan.streams.iter().map(|stream| stream.name.as_str());
        for stream in streams.filter(|name| only.is_none_or(|only| only == *name)) {
            bases += state.forget_base(&plan.name, stream).map_err(failed)?;
            let used = state.base_files(&plan.name).map_err(failed)?;
            base::sweep(&Disk::system(), &root, &plan.name, stream, &used).map_err(|error| {
                Failure::new(Exit::Disk, error.to_string()).caused_by(&error.source)
            })?;
        }
        told = format!("{told}, {} forgotten", plural(bases as u64, "base"));
    }
    out::stderr(&format!("{told}\n"));
    Ok(Exit::Complete)
}

/// Cursors of a pipeline whose partition has all of these values.
fn matching(
    state: &State,
    pipeline: &str,
    stream: Option<&str>,
    wanted: &[(String, String)],
) -> Result<Vec<Cursor>, Failure> {
    let mut cursors = state.cursors(pipeline).map_err(failed)?;
    cursors.retain(|cursor| {
        let variables = variables(cursor);
        stream.is_none_or(|stream| stream == cursor.stream)
            && wanted.iter().all(|(name, value)| {
                variables
                    .get(name)
                    .is_some_and(|known| plain(known) == *value)
            })
    });
    Ok(cursors)
}

/// A pipeline that nobody runs, with the state of its project.
struct Held {
    plan: Plan,
    root: PathBuf,
    state: State,
    _lock: Lock,
}

fn held(pipeline: &str) -> Result<Option<Held>, Failure> {
    let found = project::find(pipeline)?;
    let Some(plan) = rooms::plan_or_tell(&found.path, &Overrides::default())? else {
        return Ok(None);
    };
    let root = project_folder(&found.root)?;
    let disk = Disk::system();
    let lock = locks::pipeline(&disk, &root, &plan.name, Clock::system().calendar());
    let lock = lock
        .map_err(LockError::into_failure)
        .map_err(|failure| *failure)?;
    let state = State::open(&disk, &root).map_err(failed)?;
    let runs = state.unended(&plan.name).map_err(failed)?;
    if let Some(run) = runs.iter().find(|run| run.status.is_open()) {
        // Its pages were asked for from where the cursor stands now.
        return Err(
            Failure::usage(format!("run {} of {} is not finished", run.id, plan.name)).hint(
                format!(
                    "`gleaner run {}` goes on with it; `gleaner run {0} --fresh` starts anew",
                    plan.name
                ),
            ),
        );
    }
    Ok(Some(Held {
        plan,
        root,
        state,
        _lock: lock,
    }))
}

fn stream<'p>(plan: &'p Plan, name: &str) -> Result<&'p StreamPlan, Failure> {
    let mut streams = plan.streams.iter();
    streams.find(|stream| stream.name == name).ok_or_else(|| {
        let names: Vec<&str> = plan.streams.iter().map(|s| s.name.as_str()).collect();
        Failure::usage(format!(
            "there is no stream `{}` in {}",
            clean(name),
            plan.name
        ))
        .hint(format!("its streams: {}", names.join(", ")))
    })
}

/// The state, if there is one: looking makes none.
fn existing(root: &Path) -> Result<Option<State>, Failure> {
    let disk = Disk::system();
    match disk.look(&root.join(".gleaner").join("state.db")) {
        Ok(There::File(_)) => State::open(&disk, root).map(Some).map_err(failed),
        _ => Ok(None),
    }
}

fn project_folder(root: &Path) -> Result<PathBuf, Failure> {
    Ok(project::here()?.join(root))
}

fn failed(error: StateError) -> Failure {
    *error.into_failure()
}
