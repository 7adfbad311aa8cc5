//! Publish: a stream's committed records become its files, whole or not at all.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::computed::Computed;
use super::fitting;
use super::formatted::formatted;
use super::keep::Left;
use super::merge::{self, MergeError};
use super::partitions::Partition;
use super::repeats::Repeats;
use super::rows::Rows;
use super::standing::{self, SharedState};
use super::stream::Stream;
use super::summary::{FileSummary, Schema};
use super::targets::Targets;
use crate::disk::DiskError;
use crate::event::Fact;
use crate::failure::{Exit, Failure};
use crate::plan::language::Template;
use crate::plan::sink::{SinkFormat, SinkMode, SinkPlan};
use crate::plan::{ColumnFrom, ColumnPlan};
use crate::sink::{self, Built, Extra, Rejected, Row, SinkError, Target, Written};
use crate::store::StoreError;
use crate::store::cursors::Cursor;
use crate::store::row::PublishIntent;
use crate::store::stream::StreamStore;

/// What a stream's publish came to.
#[derive(Debug)]
pub(super) struct Published {
    /// Its files.
    pub(super) files: Vec<FileSummary>,
    /// Records left out because a later one had the same key.
    pub(super) repeats: u64,
    /// Records that went to files of their own, because a value did not fit its column.
    pub(super) rejected: u64,
    /// Whether an earlier attempt did it.
    pub(super) before: bool,
    /// Cursors that move when its children are published too.
    pub(super) owed: Vec<Cursor>,
    /// What kinds of values its columns have, where that is asked.
    pub(super) schema: Option<Schema>,
}

/// An output that is built beside its target.
#[derive(Debug)]
pub(super) struct Output {
    /// The file.
    pub(super) file: Built,
    /// Records in it.
    pub(super) rows: u64,
    /// Records that it does not take.
    pub(super) rejected: Option<Rejected>,
    /// Columns with values that became null, and how many.
    pub(super) nulled: Vec<(String, u64)>,
}

impl From<Written> for Output {
    fn from(written: Written) -> Self {
        Self {
            file: written.file,
            rows: written.rows,
            rejected: written.rejected,
            nulled: written.nulled,
        }
    }
}

/// Why a publish failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum PublishError {
    /// An output cannot be written.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The part cannot be read.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// What was gathered before and this run cannot be made one.
    #[error(transparent)]
    Merge(#[from] MergeError),
    /// Something else, told in full.
    #[error("{}", .0.message)]
    Failure(Box<Failure>),
}

impl PublishError {
    /// Whether the reader of standard output went away; only that can be a pipe.
    fn is_closed_pipe(&self) -> bool {
        match self {
            Self::Sink(error) => error.is_closed_pipe(),
            Self::Read(error) => error.kind() == io::ErrorKind::BrokenPipe,
            Self::Merge(_) | Self::Failure(_) => false,
        }
    }
}

/// Judges `expect`, then writes every file of the stream.
pub(super) async fn publish(
    stream: &Arc<Stream>,
    mut store: StreamStore,
    targets: Targets,
    state: Option<SharedState>,
) -> Result<Published, Box<Failure>> {
    store.sort();
    if !stream.run.family.is_chosen(&stream.name) {
        // Its children asked for it; its own files and cursors stay as they are.
        stream.judge_number(store.index().records(), None)?;
        stream.settle_checks()?;
        return Ok(Published {
            files: Vec::new(),
            repeats: 0,
            rejected: 0,
            before: false,
            owed: Vec::new(),
            schema: None,
        });
    }
    let worker = stream.clone();
    // Reading, projecting and writing files blocks.
    let work = tokio::task::spawn_blocking(move || {
        let (mut published, mut left) = write_all(&worker, &mut store, &targets, state.as_ref())?;
        if worker.owes() {
            published.owed = std::mem::take(&mut left.cursors);
        }
        standing::published_now(
            &worker.run,
            state.as_ref(),
            &mut store,
            &targets,
            &published,
            &left,
        )?;
        worker.sweep(&left);
        worker.sweep_copies();
        Ok::<_, Box<Failure>>(published)
    });
    let published = match work.await {
        Ok(published) => published?,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    };
    for file in &published.files {
        stream.emit(Fact::Published {
            stream: stream.name.clone(),
            path: file.path.clone(),
            rows: file.rows,
            bytes: file.bytes,
        });
    }
    Ok(published)
}

fn write_all(
    stream: &Stream,
    store: &mut StreamStore,
    targets: &Targets,
    state: Option<&SharedState>,
) -> Result<(Published, Left), Box<Failure>> {
    store.check().map_err(StoreError::into_failure)?;
    let ready = build_all(stream, store, targets, state)?;
    let intents = ready.files.iter().filter_map(|(Output { file, .. }, _)| {
        let target = file.target()?.to_string_lossy().into_owned();
        Some(PublishIntent {
            stream: stream.name.clone(),
            target,
            size: file.bytes(),
            crc: file.crc(),
        })
    });
    store
        .intend(intents.collect())
        .map_err(StoreError::into_failure)?;
    let mut files = Vec::new();
    let mut rejected = 0;
    for (output, path) in ready.files {
        let Output { file, rows, .. } = output;
        rejected = rejected.max(
            output
                .rejected
                .as_ref()
                .map_or(0, |rejected| rejected.records),
        );
        // Before the output, so that no reader finds records missing and not where they are.
        fitting::settle(stream, output.rejected, &output.nulled, &path)?;
        files.push(FileSummary {
            path,
            rows,
            bytes: file.bytes(),
            crc: file.crc(),
        });
        file.place().map_err(|e| failure(stream, e.into()))?;
    }
    let published = Published {
        files,
        repeats: ready.repeats,
        rejected,
        before: false,
        owed: Vec::new(),
        schema: ready.schema,
    };
    Ok((published, ready.left))
}

/// Everything of a publish that is built and not yet in its place.
struct Ready {
    /// Files beside their targets, with what they are called.
    files: Vec<(Output, PathBuf)>,
    /// Records that were left out.
    repeats: u64,
    /// What the next run begins with.
    left: Left,
    /// What kinds of values its columns have, where that is asked.
    schema: Option<Schema>,
}

/// Builds all files beside their targets, and the new base.
fn build_all(
    stream: &Stream,
    store: &StreamStore,
    targets: &Targets,
    state: Option<&SharedState>,
) -> Result<Ready, Box<Failure>> {
    let plan = stream.plan();
    let rows = Rows {
        run: &stream.run,
        plan,
        part: store.part(),
        index: store.index(),
        most: stream.run.options.limit_records.unwrap_or(u64::MAX),
    };
    let failed = |error: PublishError| failure(stream, error);
    let mut left = Left {
        cursors: stream.moved(&rows).map_err(failed)?,
        base: None,
    };
    let judges = plan.expect.judges_records() || stream.told.is_owed();
    let mut repeats = None;
    let mut schema = None;
    if judges {
        let mut found = rows.repeats().map_err(|e| failed(e.into()))?;
        // What stands in the output counts, and not how often the API gave it.
        stream.judge_number(rows.index.records().saturating_sub(found.count()), state)?;
        if rows.most == u64::MAX {
            stream.judge_unique(store.index(), &found);
        }
        schema = stream.inspect(&rows, &mut found, state)?;
        repeats = Some(found);
    }
    // All are judged, and nothing is built yet.
    stream.settle_checks()?;
    let mut merged = None;
    if stream.merges() {
        let spills = rows.part.path().parent().unwrap_or(&stream.run.world.root);
        let old = stream.base(state)?;
        let new = merge::merge(&rows, old.as_ref(), spills).map_err(|e| failed(e.into()))?;
        left.base.clone_from(&new.new);
        merged = Some(new);
    }
    let mut repeats = match (repeats, &merged) {
        (Some(found), _) => found,
        (None, Some(_)) if plan.sinks.iter().all(|sink| sink.mode == SinkMode::Merge) => {
            Repeats::default()
        }
        (None, _) => rows.repeats().map_err(|e| failed(e.into()))?,
    };
    let mut files = Vec::new();
    for (at, (sink, target)) in plan.sinks.iter().zip(&targets.0).enumerate() {
        // One may be the part itself; two outputs must not be one file. What went to standard
        // output may have to be told again, from a part that nobody can have changed.
        let last = at + 1 == plan.sinks.len() && targets.is_files();
        let file = match (sink.mode, &merged) {
            // Nothing new is nothing to add.
            (SinkMode::Append, _) if rows.index.records() == 0 => continue,
            (SinkMode::Merge, Some(merged)) => merge::project(&rows, &merged.path, sink, target),
            _ => build(&rows, &mut repeats, sink, target, last),
        };
        files.push((file.map_err(failed)?, target.shown()));
    }
    let of_merge = merged.map_or(0, |merged| merged.repeats);
    Ok(Ready {
        files,
        repeats: of_merge.max(repeats.count()),
        left,
        schema,
    })
}

fn build(
    rows: &Rows<'_>,
    repeats: &mut Repeats,
    sink: &SinkPlan,
    target: &Target,
    last: bool,
) -> Result<Output, PublishError> {
    let columns = rows.plan.columns.as_deref();
    let as_they_are = sink.format == SinkFormat::Ndjson
        && columns.is_none()
        && repeats.is_empty()
        && rows.most == u64::MAX;
    if as_they_are {
        return copy(rows, target, last);
    }
    let templates = templates(columns);
    let rejects = fitting::rejects(target, sink.mode);
    let rejects = rejects.as_ref();
    let written = sink::write::<PublishError>(
        &formatted(rows, sink),
        target,
        columns,
        rejects,
        &mut |each| {
            let mut extras = Extras::default();
            let mut computed = Computed::new(&rows.run.names, templates.clone());
            let mut stopped = None;
            let read = rows.each_kept(repeats, &mut |placed, partition| {
                let values = computed
                    .of(partition, placed.in_page)
                    .map_err(io::Error::other)?;
                let values: Vec<&str> = values.iter().map(String::as_str).collect();
                each(Row {
                    json: placed.json,
                    extras: extras.of(partition),
                    computed: &values,
                })
                .map_err(|error| {
                    stopped = Some(error);
                    io::Error::other("the sink stopped")
                })
            });
            match (stopped, read) {
                (Some(error), _) => Err(error),
                (None, read) => Ok(read?),
            }
        },
    )?;
    Ok(written.into())
}

/// The columns that are templates.
pub(super) fn templates(columns: Option<&[ColumnPlan]>) -> Vec<&Template> {
    let columns = columns.unwrap_or_default().iter();
    columns
        .filter_map(|column| match &column.from {
            ColumnFrom::Template(template) => Some(template),
            ColumnFrom::Path(_) | ColumnFrom::Jq(_) => None,
        })
        .collect()
}

/// The scalar `for` variables of the latest partition.
#[derive(Default)]
pub(super) struct Extras {
    partition: Option<u32>,
    all: Vec<Extra>,
}

impl Extras {
    pub(super) fn of(&mut self, partition: &Partition) -> &[Extra] {
        if self.partition != Some(partition.ordinal) {
            self.partition = Some(partition.ordinal);
            let scalars = partition.scalars();
            self.all = scalars
                .map(|(name, json)| Extra {
                    name: name.to_owned(),
                    json,
                })
                .collect();
        }
        &self.all
    }
}

/// Records as they are: ranges of the part, without looking inside.
fn copy(rows: &Rows<'_>, target: &Target, last: bool) -> Result<Output, PublishError> {
    let mut out = target.open()?;
    // The part was just written and is there: what fails here is the writing.
    let ranges = rows.index.ranges();
    // Pages that came in order make a part that is the file already.
    let adopted = match ranges[..] {
        [whole] if last && whole.end - whole.start == rows.part.len() => {
            out.adopt(rows.part.path(), whole.crc)?
        }
        _ => false,
    };
    if !adopted {
        for range in ranges {
            out.copy(rows.part.file(), range.start, range.end, range.crc)?;
        }
    }
    Ok(Output {
        file: out.close()?,
        rows: rows.index.records(),
        rejected: None,
        nulled: Vec::new(),
    })
}

/// A publish that failed, as it is told.
pub(super) fn failure(stream: &Stream, error: PublishError) -> Box<Failure> {
    let error = match error {
        PublishError::Failure(failure) => return failure,
        error => error,
    };
    if error.is_closed_pipe() {
        return Box::new(Failure {
            exit: Exit::Failed,
            message: format!(
                "{}: standard output was closed before all rows were written",
                stream.name
            ),
            causes: Vec::new(),
            hint: Some(
                "its reader (such as `head`) left early; `--limit-records` asks for fewer rows"
                    .to_owned(),
            ),
        });
    }
    let message = stream
        .run
        .secrets
        .scrub(&format!("{}: {error}", stream.name));
    let mut causes = Vec::new();
    let (exit, hint) = match &error {
        PublishError::Sink(e) => {
            let cause = e.cause();
            causes.extend(cause.map(|cause| stream.run.secrets.scrub(&cause)));
            (
                if e.is_disk() {
                    Exit::Disk
                } else {
                    Exit::Failed
                },
                e.hint(),
            )
        }
        PublishError::Merge(e) => {
            let (exit, hint) = e.end();
            (exit, hint.map(str::to_owned))
        }
        PublishError::Read(error) => {
            let (exit, hint) = read_end(error);
            (exit, hint.map(str::to_owned))
        }
        PublishError::Failure(_) => (Exit::Failed, None),
    };
    Box::new(Failure {
        exit,
        message,
        causes,
        hint,
    })
}

/// What reading the staged records came to: the disk, a spilled sort, or a template and its record.
pub(super) fn read_end(error: &io::Error) -> (Exit, Option<&'static str>) {
    match error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<DiskError>())
    {
        Some(error) => (Exit::Disk, Some(error.hint())),
        None => (
            Exit::Failed,
            Some(
                "what was fetched is kept: correct the pipeline file and run again; a template or a file of `for` may not be as it was",
            ),
        ),
    }
}

/// A file that cannot be made or written.
pub(super) fn disk_failure(error: &DiskError) -> Box<Failure> {
    Box::new(Failure {
        exit: Exit::Disk,
        message: error.to_string(),
        causes: vec![error.source.to_string()],
        hint: Some(error.hint().to_owned()),
    })
}
