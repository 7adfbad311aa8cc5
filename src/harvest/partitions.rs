//! `for` unrolled: the partitions of a stream, one after the other, never all at once.
//!
//! The order is canonical: the last variable turns fastest. Walking again gives the same
//! partitions, which is how publish finds a partition's variables without anyone storing them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use minijinja::Value;
use minijinja::value::ValueKind;

use super::run::Run;
use super::spans;
use crate::plan::StreamPlan;
use crate::plan::language::LanguageProblem;
use crate::plan::partition::{Generator, ListItem};
use crate::plan::window::Window;

/// The name under which a partition's window is seen; no variable of `for` can have it.
pub(super) const CURSOR: &str = "cursor";

/// The name of the run that brought a record, where it is not this one.
pub(super) const RUN: &str = "run";

/// One independent slice of a stream.
#[derive(Debug, Clone)]
pub(super) struct Partition {
    /// Its place in canonical order.
    pub(super) ordinal: u32,
    /// What templates see of it: `for` variables with their values, in the order of the file, then
    /// [`CURSOR`], where the stream has one, or [`RUN`], where another run brought it.
    pub(super) variables: Vec<(String, Value)>,
}

impl Partition {
    /// `repo=rust-lang/rust, day=3`, for messages; empty without variables.
    pub(super) fn label(&self) -> String {
        let mut label = String::new();
        for (name, value) in self.of_for() {
            if !label.is_empty() {
                label.push_str(", ");
            }
            let text = value.to_string();
            let cut: String = text.chars().take(40).collect();
            label.push_str(name);
            label.push('=');
            label.push_str(&cut);
            if cut.len() < text.len() {
                label.push('…');
            }
        }
        label
    }

    /// The variables of `for`.
    pub(super) fn of_for(&self) -> impl Iterator<Item = &(String, Value)> {
        let of_for = |name: &str| name != CURSOR && name != RUN;
        self.variables.iter().filter(move |(name, _)| of_for(name))
    }

    /// A variable of `for` as JSON text.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        let (_, value) = self.of_for().find(|(known, _)| known == name)?;
        Some(to_json(value))
    }

    /// All variables of `for` but windows as a JSON object, in the order of their names; empty
    /// without any. All windows of one identity have one cursor.
    pub(super) fn identity(&self) -> String {
        let mut members: Vec<_> = self
            .of_for()
            .filter(|(_, value)| Window::of(value).is_none())
            .map(|(name, value)| format!("{}:{}", to_json(&Value::from(name)), to_json(value)))
            .collect();
        if members.is_empty() {
            return String::new();
        }
        members.sort_unstable();
        format!("{{{}}}", members.join(","))
    }

    /// A hash of its values.
    pub(super) fn print(&self) -> u64 {
        if self.variables.is_empty() {
            return 0;
        }
        let json = self.variables.iter().map(|(name, value)| {
            let json = serde_json::to_string(value).unwrap_or_default();
            format!("{name} {json}\n")
        });
        crate::store::hash::stable(&[&json.collect::<String>()])
    }

    /// Scalar variables as JSON text: what stands before a record's own fields in a table.
    pub(super) fn scalars(&self) -> impl Iterator<Item = (&str, String)> {
        self.of_for()
            .filter(|(_, value)| {
                !matches!(
                    value.kind(),
                    ValueKind::Map | ValueKind::Seq | ValueKind::Iterable
                )
            })
            .map(|(name, value)| (name.as_str(), to_json(value)))
    }
}

fn to_json(value: &Value) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}

/// Why the partitions of a stream cannot be told.
#[derive(Debug, thiserror::Error)]
pub(super) enum PartitionProblem {
    /// A template of `for` failed.
    #[error("`for.{variable}`: {problem}")]
    Template {
        /// The variable.
        variable: String,
        /// What is wrong.
        problem: LanguageProblem,
    },
    /// A `file` cannot be read.
    #[error("`for.{variable}`: cannot read {}: {message}", path.display())]
    File {
        /// The variable.
        variable: String,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// More partitions than can be counted.
    #[error("more than four billion partitions")]
    TooMany,
}

/// What the partitions of one stream are made from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    run: &'a Run,
    plan: &'a StreamPlan,
}

impl<'a> Source<'a> {
    /// The partitions of a stream of the run.
    pub(super) fn of(run: &'a Run, plan: &'a StreamPlan) -> Self {
        Self { run, plan }
    }

    /// Walks them from the first, in canonical order.
    pub(super) fn walk(self) -> Walk<'a> {
        Walk {
            source: self,
            levels: Vec::new(),
            next: 0,
            state: State::Fresh,
        }
    }
}

/// A file and the column asked of it.
type FileColumn = (PathBuf, Option<String>);

/// Rows of the files that `for` names, read once, so that a file that changes during a run
/// cannot change its partitions.
#[derive(Debug, Default)]
pub(super) struct Files {
    rows: std::sync::Mutex<HashMap<FileColumn, Arc<[Value]>>>,
}

#[derive(Debug)]
enum Items {
    List(Arc<[Value]>),
    Range { from: i64, step: i64, count: u64 },
}

impl Items {
    fn get(&self, at: u64) -> Option<Value> {
        match self {
            Self::List(values) => values.get(usize::try_from(at).ok()?).cloned(),
            Self::Range { from, step, count } => (at < *count).then(|| {
                Value::from(
                    from.saturating_add(step.saturating_mul(i64::try_from(at).unwrap_or(i64::MAX))),
                )
            }),
        }
    }
}

#[derive(Debug)]
struct Level {
    items: Items,
    at: u64,
    value: Value,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Fresh,
    Going,
    Over,
}

/// A walk over the partitions; an iterator.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    source: Source<'a>,
    levels: Vec<Level>,
    next: u32,
    state: State,
}

impl Iterator for Walk<'_> {
    type Item = Result<Partition, PartitionProblem>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.step() {
            Ok(true) => {}
            Ok(false) => {
                self.state = State::Over;
                return None;
            }
            Err(problem) => {
                self.state = State::Over;
                return Some(Err(problem));
            }
        }
        let ordinal = self.next;
        let Some(next) = ordinal.checked_add(1) else {
            self.state = State::Over;
            return Some(Err(PartitionProblem::TooMany));
        };
        self.next = next;
        Some(Ok(Partition {
            ordinal,
            variables: self.variables(),
        }))
    }
}

impl Walk<'_> {
    fn variables(&self) -> Vec<(String, Value)> {
        self.source
            .plan
            .partitions
            .iter()
            .zip(&self.levels)
            .map(|((name, _), level)| (name.clone(), level.value.clone()))
            .collect()
    }

    /// Moves to the next combination; false when there is none.
    fn step(&mut self) -> Result<bool, PartitionProblem> {
        match self.state {
            State::Over => return Ok(false),
            State::Fresh => {
                self.state = State::Going;
                if self.source.plan.partitions.is_empty() {
                    return Ok(true);
                }
            }
            State::Going => {
                if !self.advance() {
                    return Ok(false);
                }
            }
        }
        // Fill the levels below; an empty one sends us back up.
        while self.levels.len() < self.source.plan.partitions.len() {
            let items = self.items(self.levels.len())?;
            if let Some(value) = items.get(0) {
                self.levels.push(Level {
                    items,
                    at: 0,
                    value,
                });
            } else if !self.advance() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Drops finished levels and turns the lowest that has more.
    fn advance(&mut self) -> bool {
        while let Some(level) = self.levels.last_mut() {
            level.at += 1;
            if let Some(value) = level.items.get(level.at) {
                level.value = value;
                return true;
            }
            self.levels.pop();
        }
        false
    }

    fn items(&self, depth: usize) -> Result<Items, PartitionProblem> {
        let run = self.source.run;
        let (variable, generator) = &self.source.plan.partitions[depth];
        let template = |problem| PartitionProblem::Template {
            variable: variable.clone(),
            problem,
        };
        Ok(match generator {
            Generator::Range { from, to, step } => {
                let span = (i128::from(*to) - i128::from(*from)) / i128::from(*step);
                let count = u64::try_from(span + 1).unwrap_or(0);
                Items::Range {
                    from: *from,
                    step: *step,
                    count,
                }
            }
            Generator::Template(t) => {
                let names = run.names.request(&self.variables());
                Items::List(spread(&t.value(&names).map_err(template)?))
            }
            Generator::List(list) => {
                let names = run.names.request(&self.variables());
                let mut values = Vec::with_capacity(list.len());
                for item in list {
                    match item {
                        ListItem::Value(value) => values.push(value.clone()),
                        ListItem::Template(t) => values.push(t.value(&names).map_err(template)?),
                    }
                }
                Items::List(values.into())
            }
            Generator::File { path, column } => {
                let names = run.names.request(&self.variables());
                let path = run.world.root.join(path.text(&names).map_err(template)?);
                Items::List(run.files.read(&path, column.as_deref(), variable)?)
            }
            Generator::Dates(dates) => {
                let windows = spans::windows(run, self.source.plan, dates, self.variables());
                Items::List(windows.map_err(template)?.map(Value::from_object).collect())
            }
            Generator::Stream { .. } => Items::List(Arc::default()),
        })
    }
}

/// A list as its elements; anything else as one.
fn spread(value: &Value) -> Arc<[Value]> {
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            value.try_iter().map(Iterator::collect).unwrap_or_default()
        }
        ValueKind::None | ValueKind::Undefined => Arc::default(),
        _ => Arc::from([value.clone()]),
    }
}

impl Files {
    fn read(
        &self,
        path: &Path,
        column: Option<&str>,
        variable: &str,
    ) -> Result<Arc<[Value]>, PartitionProblem> {
        let mut known = self
            .rows
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let key = (path.to_owned(), column.map(str::to_owned));
        if let Some(rows) = known.get(&key) {
            return Ok(rows.clone());
        }
        let rows: Arc<[Value]> = read_rows(path, column)
            .map_err(|message| PartitionProblem::File {
                variable: variable.to_owned(),
                path: path.to_owned(),
                message,
            })?
            .into();
        known.insert(key, rows.clone());
        Ok(rows)
    }
}

fn read_rows(path: &Path, column: Option<&str>) -> Result<Vec<Value>, String> {
    let mut reader = csv::Reader::from_path(path).map_err(|e| e.to_string())?;
    let headers = reader.headers().map_err(|e| e.to_string())?.clone();
    let at = match column {
        None => None,
        Some(name) => Some(headers.iter().position(|h| h == name).ok_or_else(|| {
            format!(
                "it has no column `{name}`; its columns are {}",
                headers.iter().collect::<Vec<_>>().join(", ")
            )
        })?),
    };
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|e| e.to_string())?;
        rows.push(match at {
            Some(at) => Value::from(record.get(at).unwrap_or_default()),
            None => Value::from_pairs(headers.iter().zip(&record)),
        });
    }
    Ok(rows)
}
