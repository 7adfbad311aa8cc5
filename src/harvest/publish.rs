//! Publish: the committed records of a table become its files, whole or not at all.

pub(super) mod computed;
pub(super) mod database;
pub(super) mod datapackage;
pub(super) mod fitting;
pub(super) mod formatted;
pub(super) mod keep;
pub(super) mod key;
pub(super) mod outgoing;
pub(super) mod owed;
pub(super) mod raw;
pub(super) mod repeats;
pub(super) mod rows;
pub(super) mod unpublished;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use self::formatted::formatted;
use self::keep::Left;
use self::repeats::Repeats;
use self::rows::{Member, Rows};
pub(super) use self::unpublished::{disk_failure, failure, read_end};
use super::checks::widening::{self, Types};
use super::ground::reextract;
use super::ground::standing::{self, SharedState};
use super::ground::targets::Targets;
use super::merge::{self, MergeError};
use super::stream::Stream;
use super::summary::{FileSummary, Schema, StreamSummary};
use crate::event::Fact;
use crate::failure::Failure;
use crate::plan::sink::{SinkFormat, SinkMode, SinkPlan};
use crate::sink::{self, Built, Columns, Rejected, SinkError, Target, Written};
use crate::store::StoreError;
use crate::store::cursors::Cursor;
use crate::store::row::PublishIntent;
use crate::store::stream::StreamStore;

/// What a stream's publish came to.
#[derive(Debug, Clone, Default)]
pub(super) struct Published {
    /// Its files; those of a table are told of its first stream.
    pub(super) files: Vec<FileSummary>,
    /// Records left out because a later one had the same key.
    pub(super) repeats: u64,
    /// Records that went to files of their own, because a value did not fit its column.
    pub(super) rejected: u64,
    /// Fields that records had and no column reads; of a table the first stream tells.
    pub(super) unread: Vec<String>,
    /// Whether an earlier attempt did it.
    pub(super) before: bool,
    /// Cursors that move when its children are published too.
    pub(super) owed: Vec<Cursor>,
    /// What kinds of values its columns have, where that is asked.
    pub(super) schema: Option<Schema>,
    /// The types of its columns; of a table the first stream tells.
    pub(super) types: Option<Types>,
}

impl Published {
    /// In the summary of its stream.
    pub(super) fn tell(self, summary: &mut StreamSummary) {
        summary.files = self.files;
        summary.repeats = self.repeats;
        summary.rejected = self.rejected;
        summary.unread = self.unread;
        summary.published_before = self.before;
        summary.schema = self.schema;
        summary.types = self.types;
    }
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
    /// Fields that records had and no column reads.
    pub(super) unread: Vec<String>,
    /// The types of its columns, where somebody looked at them.
    pub(super) schema: Option<sink::Schema>,
}

impl From<Written> for Output {
    fn from(written: Written) -> Self {
        Self {
            file: written.file,
            rows: written.rows,
            rejected: written.rejected,
            nulled: written.nulled,
            unread: written.unread,
            schema: written.schema,
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
    pub(super) fn is_closed_pipe(&self) -> bool {
        match self {
            Self::Sink(error) => error.is_closed_pipe(),
            Self::Read(error) => error.kind() == io::ErrorKind::BrokenPipe,
            Self::Merge(_) | Self::Failure(_) => false,
        }
    }
}

/// A stream that is whole, with what it has committed.
#[derive(Debug)]
pub(super) struct Whole {
    /// The stream.
    pub(super) stream: Arc<Stream>,
    /// Its pages.
    pub(super) store: StreamStore,
}

/// Which of the streams of a table a publish failed at, and why.
pub(super) type AtFault = (usize, Box<Failure>);

/// Judges `expect`, then writes every file of a table: of one stream, or of several that write it
/// together, in the order of the file. All of them are published, or none.
pub(super) async fn publish(
    mut table: Vec<Whole>,
    targets: Targets,
    state: Option<SharedState>,
) -> Result<Vec<Published>, AtFault> {
    for whole in &mut table {
        whole.store.sort();
    }
    if let [Whole { stream, store }] = &table[..]
        && !stream.run.family.is_chosen(&stream.name)
    {
        // Its children asked for it; its own files and cursors stay as they are.
        let judged = stream.judge_number(store.index().records(), None);
        judged
            .and_then(|()| stream.settle_checks())
            .map_err(|failure| (0, failure))?;
        return Ok(vec![Published::default()]);
    }
    let streams: Vec<Arc<Stream>> = table.iter().map(|whole| whole.stream.clone()).collect();
    // Reading, projecting and writing files blocks.
    let work = tokio::task::spawn_blocking(move || {
        let (mut published, mut left) = write_all(&mut table, &targets, state.as_ref())?;
        for (at, (whole, published)) in table.iter().zip(&mut published).enumerate() {
            if whole.stream.owes() {
                published.owed = left.take_cursors(at);
            }
        }
        standing::published_now(state.as_ref(), &mut table, &targets, &published, &left)
            .map_err(|failure| (0, failure))?;
        if left.base.is_some()
            && let Some(first) = table.first()
        {
            let streams = table.iter().map(|whole| &*whole.stream.name);
            let streams = streams.chain(left.at_rest.iter().map(String::as_str));
            keep::sweep(&first.stream.run, state.as_ref(), streams);
        }
        for Whole { stream, .. } in &table {
            stream.sweep_copies();
        }
        Ok::<_, AtFault>(published)
    });
    let published = match work.await {
        Ok(published) => published?,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    };
    for (stream, published) in streams.iter().zip(&published) {
        if !published.unread.is_empty() {
            stream.emit(Fact::FieldsUnread {
                stream: stream.name.clone(),
                fields: published.unread.clone(),
            });
        }
        for file in &published.files {
            stream.emit(Fact::Published {
                stream: stream.name.clone(),
                path: file.path.clone(),
                rows: file.rows,
                bytes: file.bytes,
            });
        }
    }
    Ok(published)
}

fn write_all(
    table: &mut [Whole],
    targets: &Targets,
    state: Option<&SharedState>,
) -> Result<(Vec<Published>, Left), AtFault> {
    for (at, whole) in table.iter_mut().enumerate() {
        let checked = whole.store.check();
        checked.map_err(|error| (at, StoreError::into_failure(error)))?;
    }
    let ready = build_all(table, targets, state)?;
    let outputs = ready.files.iter().map(|(output, _)| output);
    let mut types = match table.first() {
        Some(whole) => widening::types(&whole.stream, outputs, state).map_err(|f| (0, f))?,
        None => None,
    };
    let Some(Whole { stream, store }) = table.first_mut() else {
        return Ok((Vec::new(), ready.left));
    };
    let failed = |failure: Box<Failure>| (0, failure);
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
        .map_err(|error| failed(StoreError::into_failure(error)))?;
    reextract::begin(&stream.run, state).map_err(failed)?;
    let mut files = Vec::new();
    let mut rejected = 0;
    let mut unread = Vec::new();
    for (output, path) in ready.files {
        let Output { file, rows, .. } = output;
        // All outputs have the same columns.
        if unread.is_empty() {
            unread = output.unread;
        }
        rejected = rejected.max(
            output
                .rejected
                .as_ref()
                .map_or(0, |rejected| rejected.records),
        );
        let rejects = output.rejected.is_some();
        fitting::settle(stream, output.rejected, &output.nulled, &path).map_err(failed)?;
        files.push(FileSummary {
            path: path.clone(),
            rows,
            bytes: file.bytes(),
            crc: file.crc(),
        });
        file.place()
            .map_err(|e| failed(failure(stream, e.into())))?;
        if !rejects {
            fitting::sweep(stream, &path).map_err(failed)?;
        }
    }
    datapackage::tell(stream, ready.told).map_err(failed)?;
    for (at, whole) in table.iter().enumerate() {
        raw::keep(whole).map_err(|failure| (at, failure))?;
    }
    let told = ready.repeats.into_iter().zip(ready.schemas);
    let published = told.enumerate().map(|(at, (repeats, schema))| {
        let is_first = at == 0;
        Published {
            // Of a table the first tells.
            files: if is_first {
                std::mem::take(&mut files)
            } else {
                Vec::new()
            },
            repeats,
            rejected: if is_first { rejected } else { 0 },
            schema,
            types: if is_first { types.take() } else { None },
            unread: std::mem::take(&mut unread),
            ..Published::default()
        }
    });
    Ok((published.collect(), ready.left))
}

/// Everything of a publish that is built and not yet in its place.
struct Ready {
    /// Files beside their targets, with what they are called.
    files: Vec<(Output, PathBuf)>,
    /// What is told of them in their folders.
    told: Vec<(PathBuf, serde_json::Value)>,
    /// Records that were left out, for each stream.
    repeats: Vec<u64>,
    /// What the next run begins with.
    left: Left,
    /// What kinds of values the columns of each stream have, where that is asked.
    schemas: Vec<Option<Schema>>,
}

/// Builds all files beside their targets, and the new base.
fn build_all(
    table: &[Whole],
    targets: &Targets,
    state: Option<&SharedState>,
) -> Result<Ready, AtFault> {
    let Some(Whole {
        stream: first,
        store,
    }) = table.first()
    else {
        return Ok(Ready {
            files: Vec::new(),
            told: Vec::new(),
            repeats: Vec::new(),
            left: Left::default(),
            schemas: Vec::new(),
        });
    };
    let plan = first.plan();
    let run = &first.run;
    let most = run.options.limit_records.unwrap_or(u64::MAX);
    let rows_of = |members| Rows { run, members, most };
    let failed = |error: PublishError| (0, failure(first, error));
    let mut left = Left::default();
    let (mut schemas, mut own_repeats) = (Vec::new(), None);
    for (at, Whole { stream, store }) in table.iter().enumerate() {
        let own = rows_of(vec![Member::of(stream.plan(), store)]);
        let failed = |error: PublishError| (at, failure(stream, error));
        left.cursors.push(if run.options.reextracts() {
            // The run has moved them, and a person may have since.
            Vec::new()
        } else {
            stream.moved(&own).map_err(failed)?
        });
        let (schema, found) = judge(stream, store, &own, state).map_err(|f| (at, f))?;
        schemas.push(schema);
        own_repeats = found;
    }
    // All are judged, and nothing is built yet.
    for (at, Whole { stream, .. }) in table.iter().enumerate() {
        stream.settle_checks().map_err(|failure| (at, failure))?;
    }
    // Those that do not run this time have columns, and records in the base.
    let beside = run.plan.table(first.at);
    let of_table = |at: &usize| table.iter().find(|whole| whole.stream.at == *at);
    let members = beside.iter().map(|at| match of_table(at) {
        Some(whole) => Member::of(whole.stream.plan(), &whole.store),
        None => Member::at_rest(&run.plan.streams[*at]),
    });
    let rows = rows_of(members.collect());
    let member = |stream: &Stream| beside.iter().position(|at| *at == stream.at).unwrap_or(0);
    let (mut merged, mut before) = (None, Vec::new());
    if first.merges() {
        let spills = store.part().path().parent().unwrap_or(&run.world.root);
        let streams: Vec<&str> = rows.members.iter().map(|m| m.plan.name.as_str()).collect();
        before = keep::bases(run, state, &streams).map_err(|failure| (0, failure))?;
        let new = merge::merge(&rows, &before, spills).map_err(|e| failed(e.into()))?;
        left.base.clone_from(&new.new);
        let at_rest = rows.members.iter().filter(|member| member.kept.is_none());
        left.at_rest = at_rest.map(|member| member.plan.name.clone()).collect();
        merged = Some(new);
    }
    let mut repeats = match (own_repeats, &merged) {
        (Some(found), _) if beside.len() == 1 => found,
        (_, Some(_)) if plan.sinks.iter().all(|sink| sink.mode == SinkMode::Merge) => {
            Repeats::default()
        }
        _ => rows.repeats().map_err(|e| failed(e.into()))?,
    };
    for Whole { stream, .. } in table {
        stream.tell_keyless(&rows, &repeats, member(stream));
    }
    let (mut files, mut told) = (Vec::new(), Vec::new());
    for (at, (sink, target)) in plan.sinks.iter().zip(&targets.0).enumerate() {
        // One may be the part itself; two outputs must not be one file. What went to standard
        // output may have to be told again, from a part that nobody can have changed.
        let last = at + 1 == plan.sinks.len() && targets.is_files();
        let table_of = match target {
            Target::Table(place) => Some(place),
            Target::File { .. } | Target::Stdout => None,
        };
        let file = match (sink.mode, &merged) {
            // Nothing new is nothing to add.
            (SinkMode::Append, _) if rows.records() == 0 => continue,
            (SinkMode::Merge, Some(merged)) => match table_of {
                Some(place) => database::project(&rows, merged, &before, sink, place),
                None => merge::project(&rows, &merged.path, sink, target),
            },
            _ if let Some(place) = table_of => database::build(&rows, &mut repeats, sink, place),
            _ => build(&rows, &mut repeats, sink, target, last),
        };
        let file = file.map_err(failed)?;
        told.extend(datapackage::resource(&rows, sink, target, &file));
        files.push((file, target.shown()));
    }
    let of_merge = |at: usize| merged.as_ref().and_then(|m| m.repeats.get(at).copied());
    let repeats = table.iter().map(|whole| {
        let at = member(&whole.stream);
        of_merge(at).unwrap_or(0).max(repeats.count(at))
    });
    Ok(Ready {
        files,
        told,
        repeats: repeats.collect(),
        left,
        schemas,
    })
}

/// Judges what one stream of the table brought; what kinds of values it has and which records repeat
/// others of it, where that was looked at.
fn judge(
    stream: &Stream,
    store: &StreamStore,
    own: &Rows<'_>,
    state: Option<&SharedState>,
) -> Result<(Option<Schema>, Option<Repeats>), Box<Failure>> {
    if !(stream.plan().expect.judges_records() || stream.told.is_owed()) {
        return Ok((None, None));
    }
    let found = own.repeats();
    let mut found = found.map_err(|error| failure(stream, error.into()))?;
    // What stands in the output counts, and not how often the API gave it.
    stream.judge_number(own.records().saturating_sub(found.count(0)), state)?;
    if own.most == u64::MAX {
        stream.judge_unique(store.index(), &found);
    }
    let schema = stream.inspect(own, &mut found, state)?;
    Ok((schema, Some(found)))
}

fn build(
    rows: &Rows<'_>,
    repeats: &mut Repeats,
    sink: &SinkPlan,
    target: &Target,
    last: bool,
) -> Result<Output, PublishError> {
    let columns = outgoing::columns(rows);
    let columns = Columns::of(&columns);
    let as_they_are = sink.format == SinkFormat::Ndjson
        && columns.is_none()
        && repeats.is_empty()
        && rows.most == u64::MAX;
    if as_they_are {
        return copy(rows, target, last);
    }
    let rejects = fitting::rejects(target, sink.mode);
    let rejects = rejects.as_ref();
    let written = sink::write::<PublishError>(
        &formatted(rows, sink),
        target,
        columns,
        rejects,
        &mut |each| outgoing::each_row(rows, repeats, each),
    )?;
    Ok(written.into())
}

/// Records as they are: ranges of the parts, without looking inside.
fn copy(rows: &Rows<'_>, target: &Target, last: bool) -> Result<Output, PublishError> {
    let mut out = target.open()?;
    let is_alone = rows.members.len() == 1;
    for (part, index) in rows.members.iter().filter_map(|member| member.kept) {
        // The part was just written and is there: what fails here is the writing.
        let ranges = index.ranges();
        // Pages that came in order make a part that is the file already.
        let adopted = match ranges[..] {
            [whole] if last && is_alone && whole.end - whole.start == part.len() => {
                out.adopt(part.path(), whole.crc)?
            }
            _ => false,
        };
        if !adopted {
            for range in ranges {
                out.copy(part.file(), range.start, range.end, range.crc)?;
            }
        }
    }
    Ok(Output {
        file: out.close()?,
        rows: rows.records(),
        rejected: None,
        nulled: Vec::new(),
        unread: Vec::new(),
        schema: None,
    })
}
