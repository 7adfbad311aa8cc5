//! What a run stands on: its locks, its row in the state, and its folder; and how it ends there.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::same;
use super::targets::Targets;
use crate::disk::Found;
use crate::event::{Fact, Name};
use crate::failure::{Exit, Failure};
use crate::harvest::publish::keep::Left;
use crate::harvest::publish::{Published, Whole};
use crate::harvest::run::Run;
use crate::harvest::summary::{FileSummary, Summary, Unfinished};
use crate::plan::StreamPlan;
use crate::sink::Target;
use crate::store::StoreError;
use crate::store::came;
use crate::store::cursors::Publish;
use crate::store::history::{RunRecord, Status};
use crate::store::locks::{self, Lock, LockError};
use crate::store::recall::Sums;
use crate::store::row::{PublishIntent, RunStart};
use crate::store::run::{self as folder, OpenRun, RunFolder};
use crate::store::space::Floor;
use crate::store::state::{State, StateError};
use crate::store::stream::StreamStore;
use crate::store::sweep;

/// The state, for the streams of a run.
pub(in crate::harvest) type SharedState = Arc<Mutex<State>>;

/// What a run stands on.
#[derive(Debug)]
pub(in crate::harvest) struct Standing {
    /// `None` for a run that leaves no trace: it is cut short on purpose.
    pub(in crate::harvest) state: Option<SharedState>,
    pub(in crate::harvest) record: RunRecord,
    pub(in crate::harvest) folder: RunFolder,
    /// Streams of the run, those of other attempts included.
    pub(in crate::harvest) streams: Vec<Name>,
    /// Where a run without a trace keeps its folder.
    pub(in crate::harvest) temporary: Option<PathBuf>,
    /// Whether an earlier attempt began it.
    pub(in crate::harvest) continued: bool,
    /// How the run stood before this attempt.
    pub(in crate::harvest) was: Option<Status>,
    pub(in crate::harvest) notes: Vec<String>,
    /// Its writers hold them too.
    pub(in crate::harvest) _locks: Arc<Vec<Lock>>,
}

/// A stream's place on disk, and what an earlier attempt did.
#[derive(Debug)]
pub(in crate::harvest) struct Kept {
    pub(in crate::harvest) store: StreamStore,
    /// Pages of earlier attempts.
    pub(in crate::harvest) pages: u64,
    /// The files, if it was published already.
    pub(in crate::harvest) published: Option<Vec<FileSummary>>,
    /// Whether a stream that runs over its records is not published yet.
    pub(in crate::harvest) is_needed: bool,
}

impl Standing {
    /// For a run that is cut short on purpose: it leaves no trace but its samples, goes on with
    /// nothing, and may be made while another runs.
    pub(in crate::harvest) fn without_trace(
        run: &Run,
        streams: &[(usize, Targets)],
        now: Timestamp,
    ) -> Result<(Self, Vec<Kept>), Box<Failure>> {
        let locks = lock_targets(run, streams, now)?;
        let root = std::env::temp_dir().join(format!("gleaner-{}", run.id));
        let start = start(run, names(run, streams));
        let streams = start.streams.clone();
        let record = RunRecord::begun(&run.id, &run.plan.name, 0, run.started);
        let open = create(run, &root, start)?;
        let locks = Arc::new(locks);
        open.folder.hold(&locks);
        let kept = open.streams.into_iter().map(|store| Kept {
            store,
            pages: 0,
            published: None,
            is_needed: true,
        });
        let kept = kept.collect();
        let standing = Self {
            state: None,
            record,
            folder: open.folder,
            streams,
            temporary: Some(root),
            continued: false,
            was: None,
            notes: Vec::new(),
            _locks: locks,
        };
        Ok((standing, kept))
    }

    /// Says how the run begins.
    pub(in crate::harvest) fn tell(&self, run: &Run, kept: u64) {
        for note in &self.notes {
            run.world.events.emit(Fact::RunNoticed {
                message: run.secrets.scrub(note),
            });
        }
        if self.continued {
            run.world.events.emit(Fact::RunContinued {
                run: run.id.as_str().into(),
                began: self.record.started,
                pages: kept,
            });
        }
    }

    /// The state, for those who publish.
    pub(in crate::harvest) fn state(&self) -> Option<SharedState> {
        self.state.clone()
    }

    /// Writes down how the run ended, and removes what nobody needs any more.
    pub(in crate::harvest) fn end(
        mut self,
        run: &Run,
        summary: &Summary,
    ) -> Result<Option<Unfinished>, Box<Failure>> {
        if let Some(root) = &self.temporary {
            // Nothing depends on it: what stays behind is a few private files.
            let _ = run.world.disk.remove_folder(root);
            return Ok(None);
        }
        let failed = |summary: &&crate::harvest::summary::StreamSummary| summary.failure.is_some();
        let failures: Vec<_> = summary.streams.iter().filter(failed).collect();
        let held = |stream: &&crate::harvest::summary::StreamSummary| {
            stream
                .failure
                .as_ref()
                .is_some_and(|f| f.exit == Exit::Held)
        };
        let all_here = summary.streams.len() == self.streams.len();
        let published = summary
            .streams
            .iter()
            .any(|stream| !stream.files.is_empty());
        let is_published = failures.is_empty();
        let is_complete = is_published && all_here;
        // What a next attempt would find. Where it cannot be read nothing is removed.
        let kept = if is_complete {
            Sums::default()
        } else {
            folder::kept(&run.world.disk, &run.world.root, &self.record.id)
                .map_err(StoreError::into_failure)?
        };
        let unknown = run.unknown.load(Ordering::Relaxed);
        let is_paid = run.plan.streams.iter().any(|plan| {
            plan.request.once.acts() && self.streams.iter().any(|name| **name == *plan.name)
        });
        let status = if is_complete {
            Status::Complete
        } else if run.options.releases() && self.was == Some(Status::Held) {
            Status::Held
        } else if unknown > 0 || (is_paid && kept.pages > 0) {
            // Asked anew it would be done, or paid for, once more.
            Status::Resumable
        } else if failures.iter().all(held) && all_here {
            // What the API gave is here and is not good enough: it is asked anew, unless a person
            // takes what was judged as it is.
            let judged =
                |summary: &crate::harvest::summary::StreamSummary| !summary.checks.is_empty();
            if summary.streams.iter().any(judged) {
                Status::Held
            } else {
                Status::Failed
            }
        } else if kept.pages == 0 && !published {
            Status::Failed
        } else {
            Status::Resumable
        };
        let now = run.world.clock.calendar();
        if run.options.reextracts() {
            // What was not published anew is as the run left it, and so is its row.
            if is_published {
                self.record.again = None;
                self.sum_up(run, summary, Status::Complete, now);
                self.save()?;
            }
            return Ok(None);
        }
        self.sum_up(run, summary, status, now);
        if status.is_open() {
            self.save()?;
            return Ok(Some(Unfinished {
                run: self.record.id,
                pages: kept.pages,
            }));
        }
        if status == Status::Held {
            // A person may release it; of several the latest is worth that.
            self.save()?;
            if let Some(mut state) = lock(self.state.as_ref()) {
                forget_older(run, &mut state, &self.record, &|old| {
                    old.status == Status::Held
                });
            }
            forget_long_ago(run, self.state.as_ref(), now);
            return Ok(None);
        }
        // The row first: it holds what later runs compare with, and whoever is killed before it is there goes on.
        self.save()?;
        // Nothing depends on the rest: the state says that it is over.
        let _ = self.folder.end(summary.exit.code());
        if !(status == Status::Complete && run.options.keep_parts) {
            let _ = self.folder.remove();
        }
        if status == Status::Complete
            && let Some(mut state) = lock(self.state.as_ref())
        {
            let floor = Floor::new(run.options.keep_free);
            let (disk, root) = (&run.world.disk, &run.world.root);
            forget_older(run, &mut state, &self.record, &|old| {
                // One of other streams is gone on with later, and may keep what was paid for.
                let is_done = |name: &Name| self.streams.contains(name);
                !old.status.is_open()
                    || match RunFolder::open(disk, root, &old.id, &floor) {
                        Ok(open) => open.start.streams.iter().all(is_done),
                        Err(StoreError::Unbegun { .. }) => true,
                        Err(StoreError::Disk(error)) => error.is_missing(),
                        Err(_) => false,
                    }
            });
        }
        forget_long_ago(run, self.state.as_ref(), now);
        Ok(None)
    }

    fn save(&self) -> Result<(), Box<Failure>> {
        match lock(self.state.as_ref()) {
            Some(mut state) => state
                .save_run(&self.record)
                .map_err(StateError::into_failure),
            None => Ok(()),
        }
    }
}

/// Tells the state and the ledger that the outputs of a table are in their places; all that is so of
/// its streams becomes true together.
pub(in crate::harvest) fn published_now(
    state: Option<&SharedState>,
    table: &mut [Whole],
    targets: &Targets,
    published: &[Published],
    left: &Left,
) -> Result<(), Box<Failure>> {
    // What went to standard output has to be told again by a run that goes on.
    let counts = targets.is_files() || !left.is_empty();
    let (Some(mut state), true) = (lock(state), counts) else {
        return Ok(());
    };
    let is_file = |file: &&FileSummary| file.path != Target::Stdout.shown();
    let files = published.iter().flat_map(|one| &one.files);
    let files: Vec<&FileSummary> = files.filter(is_file).collect();
    let of_streams = table.iter().map(|whole| {
        let files = files.iter().map(|file| {
            let intent = PublishIntent {
                stream: whole.store.name().into(),
                target: file.path.display().to_string(),
                size: file.bytes,
                crc: file.crc,
            };
            (intent, file.rows)
        });
        files.collect::<Vec<_>>()
    });
    let of_streams: Vec<_> = of_streams.collect();
    let all = table.iter().zip(&of_streams).enumerate();
    let all = all.map(|(at, (whole, files))| {
        let run = &whole.stream.run;
        Publish {
            run: &run.id,
            pipeline: &run.plan.name,
            stream: whole.store.name(),
            at: run.world.clock.calendar(),
            files,
            cursors: left.cursors.get(at).map_or(&[], Vec::as_slice),
            base: left.base.as_ref(),
        }
    });
    let mut all: Vec<Publish<'_>> = all.collect();
    if let Some(Whole { stream, .. }) = table.first() {
        let at_rest = left.at_rest.iter().map(|name| Publish {
            run: &stream.run.id,
            pipeline: &stream.run.plan.name,
            stream: name,
            at: stream.run.world.clock.calendar(),
            files: &[],
            cursors: &[],
            base: left.base.as_ref(),
        });
        all.extend(at_rest);
    }
    state.publish(&all).map_err(StateError::into_failure)?;
    drop(state);
    for whole in table {
        whole.store.published().map_err(StoreError::into_failure)?;
    }
    Ok(())
}

/// Forgets what is older than the history reaches; what fails here is tried again by the next run.
fn forget_long_ago(run: &Run, state: Option<&SharedState>, now: Timestamp) {
    if let Some(mut state) = lock(state) {
        let retention = run.options.retention.unwrap_or_default();
        let _ = state.forget_runs(&run.plan.name, now, retention);
        let world = &run.world;
        let is_known = |id: &str| state.may_know(id);
        let _ = came::prune(&world.disk, &world.root, &run.plan.name, &is_known);
    }
}

/// Earlier runs of a pipeline cannot be gone on with once a later one of their streams is complete, nor released once
/// a later one waits for that.
fn forget_older(
    run: &Run,
    state: &mut State,
    record: &RunRecord,
    is_over: &dyn Fn(&RunRecord) -> bool,
) {
    // What fails here is tried again when the next run is complete.
    let (disk, root) = (&run.world.disk, &run.world.root);
    let Ok(mut runs) = state.unended(&record.pipeline) else {
        return;
    };
    let with_folders = sweep::run_folders(disk, root).unwrap_or_default();
    let with_folders = with_folders.iter().filter_map(|id| state.run(id).ok()?);
    runs.extend(with_folders.filter(|old| old.pipeline == record.pipeline));
    runs.sort_by(|a, b| a.id.cmp(&b.id));
    runs.dedup_by(|a, b| a.id == b.id);
    let others = runs.into_iter().filter(|old| old.id != record.id);
    for mut old in others.filter(is_over) {
        let gone = sweep::discard(disk, root, &old.id);
        let is_unended = old.again.take().is_some();
        if gone.is_ok() && (old.status.is_open() || is_unended) {
            if old.status.is_open() {
                old.status = Status::Discarded;
            }
            let _ = state.save_run(&old);
        }
    }
}

pub(in crate::harvest) fn lock(state: Option<&SharedState>) -> Option<MutexGuard<'_, State>> {
    state.map(|state| state.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The files of a stream that this run has published, if it wrote just what would be written now.
pub(in crate::harvest) fn published(
    state: &State,
    record: &RunRecord,
    store: &StreamStore,
    targets: &Targets,
) -> Result<Option<Vec<FileSummary>>, Box<Failure>> {
    if targets.0.is_empty() && !store.is_published() {
        return Ok(None);
    }
    let mut files = Vec::new();
    for target in &targets.0 {
        let (path, is_there) = match target {
            // What went to standard output went to somebody else.
            Target::Stdout => return Ok(None),
            Target::File { disk, path, .. } => {
                (path.clone(), matches!(disk.look(path), Ok(Found::File(_))))
            }
            Target::Table(place) => (place.shown(), place.has(&record.id).unwrap_or(false)),
        };
        let shown = path.display().to_string();
        let own = state.is_published_to(&record.id, store.name(), &shown);
        let own = own.map_err(StateError::into_failure)?;
        // Of a table the last row may be that of any of its streams.
        let last = state.last_published(&shown);
        match last.map_err(StateError::into_failure)? {
            Some(file) if is_there && own && file.run == record.id => {
                files.push(FileSummary {
                    path,
                    rows: file.rows,
                    bytes: file.size,
                    crc: file.crc,
                });
            }
            _ => return Ok(None),
        }
    }
    Ok(Some(files))
}

pub(in crate::harvest) fn start(run: &Run, streams: Vec<Name>) -> RunStart {
    let chosen = |stream: &StreamPlan| streams.iter().any(|name| **name == *stream.name);
    RunStart {
        identity: same::identity(run, &chosen),
        seed: run.seed,
        secrets: run.secrets.optional(&run.plan),
        ..RunStart::new(&run.plan.name, streams, run.started)
    }
}

pub(in crate::harvest) fn create(
    run: &Run,
    root: &Path,
    start: RunStart,
) -> Result<OpenRun, Box<Failure>> {
    let floor = Floor::new(run.options.keep_free);
    RunFolder::create(&run.world.disk, root, &run.id, start, &floor)
        .map_err(|error| in_the_way_of_the_folder(error.into_failure()))
}

pub(in crate::harvest) fn names(run: &Run, streams: &[(usize, Targets)]) -> Vec<Name> {
    let names = streams.iter().map(|(at, _)| &run.plan.streams[*at].name);
    names.map(|name| name.as_str().into()).collect()
}

pub(in crate::harvest) fn lock_targets(
    run: &Run,
    streams: &[(usize, Targets)],
    now: Timestamp,
) -> Result<Vec<Lock>, Box<Failure>> {
    let project = run.world.root.join(".gleaner");
    let state = run.options.state.as_deref().unwrap_or(&project);
    let mut held = Vec::new();
    let mut seen = HashSet::new();
    for target in streams.iter().flat_map(|(_, targets)| &targets.0) {
        let (disk, path) = match target {
            Target::File { disk, path, .. } => (disk, path.clone()),
            // Tables of one file are outputs of their own; SQLite keeps who writes them apart.
            Target::Table(place) => (&place.disk, place.shown()),
            Target::Stdout => continue,
        };
        // The streams of a table have one output.
        if !seen.insert(path.clone()) {
            continue;
        }
        let lock = locks::target(disk, state, &path, now);
        held.push(lock.map_err(|error| no_lock(error, state))?);
        sweep::strays(disk, &path).map_err(|error| StoreError::from(error).into_failure())?;
    }
    Ok(held)
}

/// An output that cannot be locked, for whatever the lock's folder is.
fn no_lock(error: LockError, state: &Path) -> Box<Failure> {
    let is_folder = matches!(&error, LockError::Disk(error) if error.path.starts_with(state));
    let mut failure = error.into_failure();
    if is_folder {
        failure.hint = Some(format!(
            "who writes an output is noted in {}, for all projects of the user: make that folder one that can be written, or set GLEANER_STATE_DIR to another",
            state.display()
        ));
    }
    failure
}

pub(in crate::harvest) fn in_the_way(error: LockError) -> Box<Failure> {
    in_the_way_of_the_folder(error.into_failure())
}

/// A failure to keep anything says what is kept.
fn in_the_way_of_the_folder(mut failure: Box<Failure>) -> Box<Failure> {
    if failure.exit == Exit::Disk {
        failure.hint = Some(
            "what a run fetches is kept in .gleaner/ beside pipelines/ until it is published: it must be a folder that can be written, on a disk with room"
                .to_owned(),
        );
    }
    failure
}
