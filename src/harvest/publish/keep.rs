//! What a stream's publish leaves for the next run: where each cursor stands, and the base.
//!
//! Both come from the committed records alone, so that doing a publish again gives the same.

use std::collections::HashMap;
use std::io;

use jiff::Timestamp;

use super::PublishError;
use super::rows::Rows;
use crate::count::plural;
use crate::disk::Found;
use crate::event::Fact;
use crate::failure::{Exit, Failure};
use crate::fetch::tape::HeadCursor;
use crate::harvest::ground::standing;
use crate::harvest::ground::standing::SharedState;
use crate::harvest::merge::Old;
use crate::harvest::merge::newest;
use crate::harvest::partitions::family::Family;
use crate::harvest::partitions::windows::{Kept, Windows};
use crate::harvest::partitions::{Partition, Source};
use crate::harvest::run::Run;
use crate::harvest::stream::Stream;
use crate::harvest::{Options, World};
use crate::plan::Plan;
use crate::plan::cursor::CursorPlan;
use crate::plan::position::{Position, Seen};
use crate::plan::sink::{SinkMode, SinkPlan};
use crate::store::base;
use crate::store::cursors::{Base, Cursor};
use crate::store::state::{State, StateError};

/// What the next run begins with.
#[derive(Debug, Default)]
pub(in crate::harvest) struct Left {
    /// Cursors that move, for each stream of the table.
    pub(in crate::harvest) cursors: Vec<Vec<Cursor>>,
    /// The new base.
    pub(in crate::harvest) base: Option<Base>,
    /// Streams of the table that do not run this time; the base is theirs too.
    pub(in crate::harvest) at_rest: Vec<String>,
}

impl Left {
    /// Whether nothing changes.
    pub(in crate::harvest) fn is_empty(&self) -> bool {
        self.cursors.iter().all(Vec::is_empty) && self.base.is_none()
    }

    /// The cursors of a stream that move at another time.
    pub(in crate::harvest) fn take_cursors(&mut self, member: usize) -> Vec<Cursor> {
        self.cursors
            .get_mut(member)
            .map(std::mem::take)
            .unwrap_or_default()
    }
}

/// Where the cursors of a pipeline stand; in a replay, where they stood.
pub(in crate::harvest) fn cursors(
    plan: &Plan,
    world: &World,
    options: &Options,
) -> Result<Vec<HeadCursor>, Box<Failure>> {
    if let Some(cassette) = options.tape.played() {
        return Ok(cassette.head.cursors.clone());
    }
    if let Some(known) = &options.cursors {
        return Ok(known.clone());
    }
    let has_cursor = plan.streams.iter().any(|stream| stream.cursor.is_some());
    let place = world.root.join(".gleaner").join("state.db");
    let is_there = matches!(world.disk.look(&place), Ok(Found::File(_)));
    if has_cursor && (is_there || !options.dry) {
        let state = State::open(&world.disk, &world.root).map_err(StateError::into_failure)?;
        let kept = state.cursors(&plan.name);
        let kept = kept.map_err(StateError::into_failure)?.into_iter();
        let kept = kept.map(|cursor| HeadCursor {
            stream: cursor.stream,
            partition: cursor.partition,
            field: cursor.field,
            value: cursor.value,
        });
        return Ok(kept.collect());
    }
    Ok(Vec::new())
}

/// The windows of all streams that have a cursor, in the order of the plan.
pub(in crate::harvest) fn windows(
    plan: &Plan,
    world: &World,
    options: &Options,
    started: Timestamp,
) -> Result<Vec<Option<Windows>>, Box<Failure>> {
    let kept = cursors(plan, world, options)?;
    let mut of_streams: HashMap<String, Vec<Kept>> = HashMap::new();
    for cursor in kept {
        of_streams.entry(cursor.stream).or_default().push(Kept {
            partition: cursor.partition,
            field: cursor.field,
            value: cursor.value,
        });
    }
    let family = Family::new(plan, &options.streams);
    let windows = plan.streams.iter().map(|stream| {
        let Some(cursor) = &stream.cursor else {
            return Ok(None);
        };
        let wanted = family.runs(&stream.name);
        if !wanted {
            return Ok(None);
        }
        let kept = of_streams.remove(&stream.name).unwrap_or_default();
        Windows::open(&stream.name, cursor, kept, started, &options.backfill).map(Some)
    });
    windows.collect()
}

impl Stream {
    /// Its cursor, with the windows of this run.
    pub(in crate::harvest) fn cursor(&self) -> Option<(&CursorPlan, &Windows)> {
        Some((self.plan().cursor.as_ref()?, self.windows()?))
    }

    /// A partition with its window in sight.
    pub(in crate::harvest) fn windowed(&self, partition: Partition) -> Partition {
        match self.cursor() {
            Some((cursor, windows)) => windows.see(cursor, partition),
            None => partition,
        }
    }

    /// Beginning and end of the window of a partition, where it ends before it begins.
    fn inverted(&self, partition: &Partition) -> Option<(Position, &Position)> {
        let (cursor, windows) = self.cursor()?;
        windows.inverted(cursor, partition)
    }

    /// Whether the window of a partition ends before it begins; that is told, and the partition is
    /// over: what an API makes of such a question is anybody's guess.
    pub(in crate::harvest) fn has_nothing_to_ask(&self, partition: &Partition) -> bool {
        let is_over = self.tell_inverted(partition);
        if is_over {
            self.emit(Fact::PartitionFinished {
                stream: self.name.clone(),
                partition: u64::from(partition.ordinal),
            });
        }
        is_over
    }

    /// Tells of a window that ends before it begins; false where it does not.
    fn tell_inverted(&self, partition: &Partition) -> bool {
        let Some((from, to)) = self.inverted(partition) else {
            return false;
        };
        let label = partition.label();
        let of = if label.is_empty() {
            String::new()
        } else {
            format!(" of {label}")
        };
        self.notice(&format!(
            "nothing to ask for: the window{of} begins at {from} and ends before, at {to}"
        ));
        true
    }

    /// The partitions that a run would ask for, with their windows in sight: for who looks ahead.
    /// Of those that it would not, the first is told if `tells`.
    pub(in crate::harvest) fn partitions_to_ask(
        &self,
        tells: bool,
    ) -> impl Iterator<Item = Result<Partition, Box<Failure>>> + '_ {
        let mut told = !tells;
        let walk = Source::of(&self.run, self.plan()).walk();
        walk.filter_map(move |partition| match partition {
            Err(e) => Some(Err(crate::harvest::open_failure(&self.name, &e))),
            Ok(partition) if self.inverted(&partition).is_some() => {
                told = told || self.tell_inverted(&partition);
                None
            }
            Ok(partition) => Some(Ok(self.windowed(partition))),
        })
    }

    /// Whether pages come newest first and these records have come to what is older than the
    /// window. Records without a value say nothing.
    pub(in crate::harvest) fn is_past<'r>(
        &self,
        records: impl Iterator<Item = &'r str>,
        partition: &Partition,
    ) -> bool {
        let Some((cursor, windows)) = self.cursor().filter(|(cursor, _)| cursor.newest_first)
        else {
            return false;
        };
        let positions = records.filter_map(|record| match newest::see(cursor, record) {
            Seen::At(position) => Some(position),
            Seen::Nothing | Seen::Unreadable => None,
        });
        positions
            .last()
            .is_some_and(|last| last < windows.from(cursor, partition))
    }

    /// Whether what it publishes is added to what earlier runs published: not a sample, and not a
    /// look at what is new through `--sink`.
    pub(in crate::harvest) fn adds(&self) -> bool {
        let adds = |sinks: &[SinkPlan]| sinks.iter().all(|sink| sink.mode != SinkMode::Replace);
        if !self.run.options.leaves_trace() {
            return false;
        }
        if !self.plan().sinks.is_empty() {
            return adds(&self.plan().sinks);
        }
        // It is there for its children alone.
        let children = self.run.family.descendants(&self.name);
        let plans = self.run.plan.streams.iter();
        let mut plans = plans.filter(|plan| children.contains(&plan.name.as_str()));
        plans.all(|plan| adds(&plan.sinks))
    }

    /// Whether one of its outputs holds what all runs gathered.
    pub(in crate::harvest) fn merges(&self) -> bool {
        let mut sinks = self.plan().sinks.iter();
        self.run.options.leaves_trace() && sinks.any(|sink| sink.mode == SinkMode::Merge)
    }

    /// Where its cursors move, and what is to be said of the field.
    pub(in crate::harvest) fn moved(&self, rows: &Rows<'_>) -> Result<Vec<Cursor>, PublishError> {
        let Some((cursor, windows)) = self.cursor() else {
            return Ok(Vec::new());
        };
        let mut field = Field::default();
        if cursor.field.is_some() {
            rows.each(&mut |placed, partition| {
                field.take(cursor, placed.json, partition);
                Ok(())
            })?;
            self.tell(cursor, windows, &field)?;
        }
        if !self.adds() || self.run.options.backfill.is_asked() {
            return Ok(Vec::new());
        }
        let run = &self.run;
        let mut moved = Vec::new();
        // Windows of time have one cursor together; the furthest of them counts.
        let mut all: Vec<(String, Option<Position>)> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        for partition in Source::of(run, self.plan()).walk() {
            let partition = partition.map_err(io::Error::other)?;
            let identity = partition.identity();
            // Without a field it is the window that was published.
            let seen = match cursor.field {
                Some(_) => field.greatest.remove(&partition.ordinal),
                None => windows.to().cloned(),
            };
            if let Some(place) = places.get(&identity) {
                let known = &mut all[*place].1;
                *known = known.take().max(seen);
            } else {
                places.insert(identity.clone(), all.len());
                all.push((identity, seen));
            }
        }
        for (identity, seen) in all {
            let kept = windows.kept(&identity);
            let position = CursorPlan::moved(kept.cloned(), seen, windows.to());
            if let Some(position) = position.filter(|position| Some(position) != kept) {
                moved.push(Cursor {
                    pipeline: run.plan.name.clone(),
                    stream: self.plan().name.clone(),
                    partition: identity,
                    field: cursor.written.clone(),
                    value: position.to_string(),
                    format: cursor.format.kind().to_owned(),
                    run: run.id.clone(),
                    updated: run.world.clock.calendar(),
                });
            }
        }
        Ok(moved)
    }

    /// Says how many records the cursor cannot see; none at all is a failure where it means that
    /// the pipeline looks at the wrong place.
    fn tell(
        &self,
        cursor: &CursorPlan,
        windows: &Windows,
        field: &Field,
    ) -> Result<(), PublishError> {
        let sample = field.sample.as_deref().unwrap_or_default();
        let is_wrong = field.readable == 0
            && (field.unreadable > 0 || field.missing > 0 && windows.is_first());
        if is_wrong {
            let message = if field.unreadable > 0 {
                format!(
                    "{}: no record has a `{}` that can be read: {sample} is not {}",
                    self.name,
                    cursor.written,
                    cursor.format.one()
                )
            } else {
                format!("{}: no record has a `{}`", self.name, cursor.written)
            };
            return Err(PublishError::Failure(Box::new(Failure {
                exit: Exit::Failed,
                message: self.run.secrets.scrub(&message),
                causes: Vec::new(),
                hint: Some("correct `field` or `format` of the stream's `cursor`".to_owned()),
            })));
        }
        for (count, what) in [
            (field.missing, "without".to_owned()),
            (
                field.unreadable,
                format!("with, like {sample}, an unreadable"),
            ),
        ] {
            if count > 0 {
                self.emit(Fact::Noticed {
                    stream: self.name.clone(),
                    message: self.run.secrets.scrub(&format!(
                        "{} {what} `{}`: kept, but no cursor sees them",
                        plural(count, "record"),
                        cursor.written
                    )),
                });
            }
        }
        Ok(())
    }
}

/// The bases of the last publish of these streams, each with a stream that it is of.
pub(in crate::harvest) fn bases(
    run: &Run,
    state: Option<&SharedState>,
    streams: &[&str],
) -> Result<Vec<Old>, Box<Failure>> {
    let mut all: Vec<Old> = Vec::new();
    let Some(state) = standing::lock(state) else {
        return Ok(all);
    };
    for stream in streams {
        let base = state.base(&run.plan.name, stream);
        let base = base.map_err(StateError::into_failure)?;
        let base = base.filter(|base| all.iter().all(|old| old.base.file != base.file));
        let owner = (*stream).to_owned();
        all.extend(base.map(|base| Old { base, owner }));
    }
    Ok(all)
}

/// Removes what a new base takes the place of.
pub(in crate::harvest) fn sweep<'s>(
    run: &Run,
    state: Option<&SharedState>,
    streams: impl Iterator<Item = &'s str>,
) {
    let used = match standing::lock(state) {
        Some(state) => state.base_files(&run.plan.name),
        None => return,
    };
    let Ok(used) = used else { return };
    for stream in streams {
        // What stays behind is swept by the next publish.
        let _ = base::sweep(
            &run.world.disk,
            &run.world.root,
            &run.plan.name,
            stream,
            &used,
        );
    }
}

/// What the records of a run say of the cursor field.
#[derive(Debug, Default)]
struct Field {
    /// By the ordinal of the partition.
    greatest: HashMap<u32, Position>,
    readable: u64,
    missing: u64,
    unreadable: u64,
    /// One that cannot be read.
    sample: Option<String>,
}

impl Field {
    fn take(&mut self, cursor: &CursorPlan, record: &str, partition: &Partition) {
        match newest::see(cursor, record) {
            Seen::Nothing => self.missing += 1,
            Seen::Unreadable => {
                self.unreadable += 1;
                let spelled = || {
                    let field = cursor.field.as_ref();
                    let spelled = field.and_then(|field| crate::json::get(record, field));
                    spelled.unwrap_or_default().chars().take(60).collect()
                };
                self.sample.get_or_insert_with(spelled);
            }
            Seen::At(position) => {
                self.readable += 1;
                match self.greatest.get_mut(&partition.ordinal) {
                    Some(greatest) if *greatest >= position => {}
                    Some(greatest) => *greatest = position,
                    None => {
                        self.greatest.insert(partition.ordinal, position);
                    }
                }
            }
        }
    }
}
