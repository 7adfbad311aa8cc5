//! `for` unrolled: the partitions of a stream, one after the other, never all at once.
//!
//! The order is canonical: the last variable turns fastest. Walking again gives the same
//! partitions, which is how publish finds a partition's variables without anyone storing them.

pub(super) mod children;
pub(super) mod family;
pub(super) mod feed;
pub(super) mod files;
pub(super) mod parents;
pub(super) mod record;
pub(super) mod slice;
pub(super) mod spans;
pub(super) mod split;
pub(super) mod windows;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use minijinja::Value;
use minijinja::value::ValueKind;

use self::parents::{PullProblem, Pulled, Records, Wanted};
use super::run::Run;
use crate::plan::StreamPlan;
use crate::plan::dates::Windows;
use crate::plan::json::Json;
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
            let text = match record::known_by(value) {
                Some(key) => crate::json::plain(key).into_owned(),
                None => value.to_string(),
            };
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
        Some(record::text(value))
    }

    /// All variables of `for` but windows as a JSON object, in the order of their names, records by
    /// their key; empty without any. All windows of one identity have one cursor.
    pub(super) fn identity(&self) -> String {
        let mut members: Vec<_> = self
            .of_for()
            .filter(|(_, value)| Window::of(value).is_none())
            .map(|(name, value)| {
                let value = record::known_by(value).map_or_else(|| to_json(value), str::to_owned);
                format!("{}:{value}", to_json(&Value::from(name)))
            })
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
    // A number that is kept as spelled is a number.
    if let (ValueKind::Plain, Ok(number)) = (value.kind(), Json::from_value(value)) {
        return number.to_string();
    }
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
    /// The records of a parent cannot be read back.
    #[error("the records of {stream} cannot be read back: {source}")]
    Parent {
        /// The parent.
        stream: String,
        /// What is wrong.
        source: io::Error,
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
            place: Place::default(),
            repeats: self.run.family.repeats(&self.plan.name),
            live: false,
        }
    }

    /// Goes on from a place, repeats among them: in the order in which parents bring their records
    /// (`live`), or canonically.
    pub(super) fn from(self, place: Place, live: bool) -> Walk<'a> {
        Walk {
            source: self,
            place,
            repeats: None,
            live,
        }
    }
}

#[derive(Debug)]
enum Items {
    List(Arc<[Value]>),
    Range { from: i64, step: i64, count: u64 },
    Windows(Windows),
    Records(Records),
}

#[derive(Debug)]
struct Level {
    items: Items,
    next: u64,
    value: Value,
}

/// How far a walk has come.
#[derive(Debug, Default)]
pub(super) struct Place {
    levels: Vec<Level>,
    /// Ordinal of the next partition.
    next: u32,
    /// Combinations so far, repeats among them.
    seen: u64,
    state: State,
}

#[derive(Debug, PartialEq, Eq, Default)]
enum State {
    #[default]
    Fresh,
    /// The lowest level has to move on.
    Due,
    Over,
}

/// A step of a walk.
#[derive(Debug)]
pub(super) enum Step {
    /// The next partition.
    Partition(Partition),
    /// A parent still runs.
    Wait,
    /// There is none.
    Over,
}

/// A walk over the partitions; an iterator over those that are known.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    source: Source<'a>,
    place: Place,
    /// What is left out.
    repeats: Option<Arc<[u64]>>,
    live: bool,
}

impl Iterator for Walk<'_> {
    type Item = Result<Partition, PartitionProblem>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.step() {
            Ok(Step::Partition(partition)) => Some(Ok(partition)),
            Ok(Step::Over | Step::Wait) => None,
            Err(problem) => {
                self.place.state = State::Over;
                Some(Err(problem))
            }
        }
    }
}

impl Walk<'_> {
    /// Where it stands, to go on from there.
    pub(super) fn into_place(self) -> Place {
        self.place
    }

    /// The next partition, if there is one by now.
    pub(super) fn step(&mut self) -> Result<Step, PartitionProblem> {
        loop {
            match self.turn()? {
                Some(true) => {}
                Some(false) => {
                    self.place.state = State::Over;
                    return Ok(Step::Over);
                }
                None => return Ok(Step::Wait),
            }
            let at = self.place.seen;
            self.place.seen += 1;
            let is_repeat = |repeats: &Arc<[u64]>| repeats.binary_search(&at).is_ok();
            if self.repeats.as_ref().is_some_and(is_repeat) {
                continue;
            }
            let ordinal = self.place.next;
            self.place.next = ordinal.checked_add(1).ok_or(PartitionProblem::TooMany)?;
            return Ok(Step::Partition(Partition {
                ordinal,
                variables: self.variables(),
            }));
        }
    }

    /// The variables of the levels so far: what is inherited of a parent, then the own ones. Of
    /// equal names the nearest counts.
    fn variables(&self) -> Vec<(String, Value)> {
        let own = &self.source.plan.partitions;
        let mut all: Vec<(String, Value)> = Vec::new();
        for ((name, _), level) in own.iter().zip(&self.place.levels) {
            if let Items::Records(records) = &level.items {
                for (name, value) in records.inherited() {
                    if !all.iter().any(|(known, _)| known == name) {
                        all.push((name.clone(), value.clone()));
                    }
                }
            }
            all.retain(|(known, _)| known != name);
            all.push((name.clone(), level.value.clone()));
        }
        all
    }

    /// Moves to the next combination; false when there is none, nothing where one may come.
    fn turn(&mut self) -> Result<Option<bool>, PartitionProblem> {
        let depth = self.source.plan.partitions.len();
        match self.place.state {
            State::Over => return Ok(Some(false)),
            State::Due => {}
            State::Fresh => {
                self.place.state = State::Due;
                if depth == 0 {
                    return Ok(Some(true));
                }
                self.open()?;
            }
        }
        // Each level below a new value begins anew; an empty one sends us back up.
        while let Some(mut level) = self.place.levels.pop() {
            let number = self.place.levels.len();
            let pulled = self.pull(number, &mut level)?;
            match pulled {
                Pulled::Value(value) => {
                    level.value = value;
                    self.place.levels.push(level);
                    if self.place.levels.len() == depth {
                        return Ok(Some(true));
                    }
                    self.open()?;
                }
                Pulled::Wait => {
                    self.place.levels.push(level);
                    return Ok(None);
                }
                Pulled::Over => {}
            }
        }
        Ok(Some(false))
    }

    /// Begins the level below the present ones.
    fn open(&mut self) -> Result<(), PartitionProblem> {
        let items = self.items(self.place.levels.len())?;
        self.place.levels.push(Level {
            items,
            next: 0,
            value: Value::UNDEFINED,
        });
        Ok(())
    }

    /// The next value of a level, those above it being in place.
    fn pull(&self, number: usize, level: &mut Level) -> Result<Pulled, PartitionProblem> {
        let at = level.next;
        level.next += 1;
        Ok(match &mut level.items {
            Items::List(values) => {
                let value = usize::try_from(at).ok().and_then(|at| values.get(at));
                value.map_or(Pulled::Over, |value| Pulled::Value(value.clone()))
            }
            Items::Range { from, step, count } if at < *count => {
                let at = i64::try_from(at).unwrap_or(i64::MAX);
                Pulled::Value(Value::from(from.saturating_add(step.saturating_mul(at))))
            }
            Items::Range { .. } => Pulled::Over,
            Items::Windows(windows) => windows.next().map_or(Pulled::Over, |window| {
                Pulled::Value(Value::from_object(window))
            }),
            Items::Records(records) => {
                let Some((
                    variable,
                    Generator::Stream {
                        stream,
                        only,
                        batch,
                    },
                )) = self.source.plan.partitions.get(number)
                else {
                    return Ok(Pulled::Over);
                };
                let wanted = Wanted {
                    variable,
                    only: only.as_ref(),
                    batch: *batch,
                    key: self.source.run.family.key(stream),
                };
                let pulled = records.pull(&wanted, &self.variables(), &self.source.run.names);
                pulled.map_err(|problem| match problem {
                    PullProblem::Where(problem) => PartitionProblem::Template {
                        variable: format!("{variable}.where"),
                        problem,
                    },
                    PullProblem::Read(source) => PartitionProblem::Parent {
                        stream: stream.clone(),
                        source,
                    },
                })?
            }
        })
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
                Items::Windows(windows.map_err(template)?)
            }
            Generator::Stream { stream, .. } => match run.family.feed(stream) {
                Some(feed) => Items::Records(Records::new(Arc::clone(feed), self.live)),
                None => Items::List(Arc::default()),
            },
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
