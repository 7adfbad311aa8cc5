//! The ground that a run finds: its pipeline's lock, the state, and a run to go on with.

pub(super) mod chronicle;
pub mod reextract;
pub mod release;
pub(super) mod same;
pub(super) mod standing;
pub(super) mod targets;

use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};

use self::standing::{Kept, Standing};
use self::targets::Targets;
use super::run::{Beginning, Run};
use super::summary::FileSummary;
use super::{Options, World};
use crate::failure::Failure;
use crate::fetch::tape::HeadCursor;
use crate::plan::Plan;
use crate::store::StoreError;
use crate::store::history::{RunRecord, Status};
use crate::store::locks::{self, Lock};
use crate::store::run::{OpenRun, RunFolder};
use crate::store::space::Floor;
use crate::store::state::{State, StateError};
use crate::store::stream::StreamStore;
use crate::store::sweep;

/// What was found before a run began.
#[derive(Debug)]
pub(super) struct Ground {
    locks: Vec<Lock>,
    state: State,
    /// The run to go on with.
    unfinished: Option<(RunRecord, OpenRun)>,
    /// What a person should know.
    notes: Vec<String>,
}

impl Ground {
    /// Takes the pipeline's lock and looks for a run to go on with.
    pub(super) fn look(
        plan: &Plan,
        world: &World,
        options: &Options,
        now: Timestamp,
    ) -> Result<Self, Box<Failure>> {
        let (disk, root) = (&world.disk, &world.root);
        let lock = locks::pipeline(disk, root, &plan.name, now).map_err(standing::in_the_way)?;
        let mut ground = Self {
            locks: vec![lock],
            state: State::open(disk, root).map_err(StateError::into_failure)?,
            unfinished: None,
            notes: Vec::new(),
        };
        // Folders of which the state has lost all knowledge.
        let is_known = |id: &str| ground.state.may_know(id);
        sweep::unknown(disk, root, &plan.name, now, &is_known).map_err(StoreError::into_failure)?;
        if let Some(id) = options.release.as_ref().or(options.reextract.as_ref()) {
            let record = if options.reextracts() {
                reextract::find(&ground.state, &plan.name, id)?
            } else {
                release::find(&ground.state, &plan.name, id)?
            };
            let floor = Floor::new(options.keep_free);
            let open = RunFolder::open(disk, root, id, &floor).map_err(StoreError::into_failure)?;
            ground.unfinished = Some((record, open));
            return Ok(ground);
        }
        let runs = ground.state.unended(&plan.name);
        let runs = runs.map_err(StateError::into_failure)?;
        let unended = runs.iter().filter(|run| run.again.is_some());
        ground.notes.extend(unended.map(reextract::mixed));
        for record in runs.into_iter().filter(|run| run.status.is_open()) {
            if options.fresh {
                ground.give_up(world, record, Status::Discarded)?;
            } else if ground.unfinished.is_none() {
                ground.consider(plan, world, options, record, now)?;
            }
        }
        Ok(ground)
    }

    /// Goes on with a run, if it can be.
    fn consider(
        &mut self,
        plan: &Plan,
        world: &World,
        options: &Options,
        record: RunRecord,
        now: Timestamp,
    ) -> Result<(), Box<Failure>> {
        let age = now.duration_since(record.started);
        // What was paid for is no worse for being old.
        let is_paid = plan.streams.iter().any(|plan| plan.request.once.acts());
        let within = SignedDuration::try_from(plan.resume_within).unwrap_or(SignedDuration::MAX);
        if !is_paid && age > within {
            self.notes.push(format!(
                "run {} was not finished and is too old to go on with; `gleaner runs discard {}` removes what it keeps",
                record.id, record.id
            ));
            return Ok(());
        }
        let floor = Floor::new(options.keep_free);
        let open = match RunFolder::open(&world.disk, &world.root, &record.id, &floor) {
            Ok(open) => open,
            // It ended before anything was kept, or somebody removed the folder.
            Err(StoreError::Unbegun { .. }) => {
                return self.give_up(world, record, Status::Discarded);
            }
            Err(StoreError::Disk(error)) if error.is_missing() => {
                return self.give_up(world, record, Status::Discarded);
            }
            Err(error) => return Err(error.into_failure()),
        };
        if let Some((status, exit)) = open.ended() {
            // The state is older than the ledger: a copy of it was put back.
            drop(open);
            let record = RunRecord {
                exit: Some(exit),
                ..record
            };
            return self.give_up(world, record, status);
        }
        let missing = |name: &String| !open.start.streams.iter().any(|known| **known == **name);
        if options.streams.iter().any(missing) {
            self.notes.push(format!(
                "run {} of other streams was not finished; it stays for later",
                record.id
            ));
            return Ok(());
        }
        self.unfinished = Some((record, open));
        Ok(())
    }

    fn give_up(
        &mut self,
        world: &World,
        mut record: RunRecord,
        status: Status,
    ) -> Result<(), Box<Failure>> {
        sweep::discard(&world.disk, &world.root, &record.id).map_err(StoreError::into_failure)?;
        record.status = status;
        self.state
            .save_run(&record)
            .map_err(StateError::into_failure)
    }

    /// The id, seed and instant of the run to go on with.
    pub(super) fn unfinished(&self) -> Option<Beginning> {
        let (record, open) = self.unfinished.as_ref()?;
        Some(Beginning {
            id: record.id.clone(),
            seed: open.start.seed,
            started: open.start.started,
            secrets: open.start.secrets.clone(),
        })
    }

    /// Where the cursors stood when the run began that is gone on with.
    pub(super) fn cursors(&self, plan: &Plan) -> Result<Vec<HeadCursor>, Box<Failure>> {
        match &self.unfinished {
            Some((_, open)) => reextract::cursors(plan, &open.start),
            None => Ok(Vec::new()),
        }
    }

    /// How many processes worked on the run to go on with, if there is one.
    pub(super) fn attempts(&self) -> Option<u32> {
        let (record, _) = self.unfinished.as_ref()?;
        Some(record.attempts)
    }

    /// Whether there is a run to go on with.
    pub(super) fn continues(&self) -> bool {
        self.unfinished.is_some()
    }

    /// Refuses to go on where the plan asks for something else than it did.
    pub(super) fn refuse_change(&self, run: &Run) -> Result<(), Box<Failure>> {
        match &self.unfinished {
            Some((_, open)) => same::refuse_change(run, &open.start),
            None => Ok(()),
        }
    }

    /// Makes the run's folder, or goes on with the one that is there. `streams` are those that this
    /// attempt runs, with their outputs, which it locks.
    pub(super) fn stand(
        mut self,
        run: &Run,
        streams: &[(usize, Targets)],
        now: Timestamp,
    ) -> Result<(Standing, Vec<Kept>), Box<Failure>> {
        self.locks
            .extend(standing::lock_targets(run, streams, now)?);
        let names = standing::names(run, streams);
        let continued = self.unfinished.is_some();
        let mut was = None;
        let (record, open) = if let Some((mut record, open)) = self.unfinished {
            was = Some(record.status);
            // What is complete stays so, wherever it is cut off.
            if !run.options.reextracts() {
                record.status = Status::Running;
                record.attempts += 1;
            }
            chronicle::sign(&mut record, &run.plan);
            let secrets = run.secrets.optional(&run.plan);
            if !run.options.is_from_kept() && secrets != open.start.secrets {
                open.folder
                    .goes_on(secrets)
                    .map_err(StoreError::into_failure)?;
            }
            (record, open)
        } else {
            let mut start = standing::start(run, names.clone());
            reextract::note(&mut start, &run.plan, &run.world, &run.options)?;
            let hash = start.identity.hash();
            let mut record = RunRecord::begun(&run.id, &run.plan.name, hash, run.started);
            record.window_until = Some(start.until.to_string());
            record.options.clone_from(&run.options.noted);
            chronicle::sign(&mut record, &run.plan);
            // The state knows of it first: a folder that nobody knows would stay for ever.
            self.state
                .save_run(&record)
                .map_err(StateError::into_failure)?;
            (record, standing::create(run, &run.world.root, start)?)
        };
        if continued && !run.options.reextracts() {
            self.state
                .save_run(&record)
                .map_err(StateError::into_failure)?;
        }
        let earlier = if run.options.reextracts() {
            Vec::new()
        } else {
            published(run, &self.state, &record, &open, streams)?
        };
        if let Some(at) = run.options.planned {
            // Before anything is asked: should the schedule die, the run tells what became of that time.
            self.state
                .firing_runs(&run.plan.name, at, &run.id)
                .map_err(StateError::into_failure)?;
        }
        let mut kept: Vec<Kept> = Vec::new();
        let mut stores: Vec<Option<StreamStore>> = open.streams.into_iter().map(Some).collect();
        for (at, _) in streams {
            let name = &run.plan.streams[*at].name;
            let place = open
                .start
                .streams
                .iter()
                .position(|known| **known == **name);
            let Some(mut store) = place.and_then(|place| stores.get_mut(place)?.take()) else {
                // `refuse_change` has seen to it.
                return Err(Box::new(Failure::usage(format!(
                    "{name} is not among the streams of run {}",
                    record.id
                ))));
            };
            let published = earlier.get(kept.len()).cloned().flatten();
            let is_chosen = run.family.is_chosen(name);
            if published.is_none() && store.is_published() && is_chosen {
                // To another place than now.
                if run.options.reextracts() || run.plan.streams[*at].request.once.acts() {
                    store.publish_again().map_err(StoreError::into_failure)?;
                } else {
                    store.begin_again().map_err(StoreError::into_failure)?;
                }
            }
            kept.push(Kept {
                pages: store.recall().sums().pages,
                store,
                published,
                is_needed: false,
            });
        }
        let names: Vec<&str> = streams
            .iter()
            .map(|(at, _)| run.plan.streams[*at].name.as_str())
            .collect();
        for place in 0..kept.len() {
            let open = |name: &str| {
                let at = names.iter().position(|known| *known == name);
                at.and_then(|at| kept.get(at))
                    .is_some_and(|one| one.published.is_none())
            };
            let descendants = run.family.descendants(names[place]);
            let is_needed = descendants.into_iter().any(open);
            kept[place].is_needed = is_needed;
        }
        let locks = Arc::new(self.locks);
        open.folder.hold(&locks);
        let standing = Standing {
            state: Some(Arc::new(Mutex::new(self.state))),
            record,
            folder: open.folder,
            streams: open.start.streams,
            temporary: None,
            continued,
            was,
            notes: self.notes,
            _locks: locks,
        };
        Ok((standing, kept))
    }
}

/// For each stream the files that an earlier attempt published; of a table all have, or none counts.
fn published(
    run: &Run,
    state: &State,
    record: &RunRecord,
    open: &OpenRun,
    streams: &[(usize, Targets)],
) -> Result<Vec<Option<Vec<FileSummary>>>, Box<Failure>> {
    let mut all = Vec::new();
    for (at, targets) in streams {
        let name = &run.plan.streams[*at].name;
        let store = open.streams.iter().find(|store| store.name() == name);
        // One that runs for its children alone is not published by this attempt.
        let store = store.filter(|_| run.family.is_chosen(name));
        all.push(match store {
            Some(store) => standing::published(state, record, store, targets)?,
            None => None,
        });
    }
    let place = |plan: usize| streams.iter().position(|(at, _)| *at == plan);
    for table in run.tables.all() {
        let places: Vec<usize> = table.iter().filter_map(|plan| place(*plan)).collect();
        let is_whole = |at: &usize| all.get(*at).is_some_and(Option::is_some);
        let is_whole = places.iter().all(is_whole);
        for (nth, at) in places.into_iter().enumerate() {
            if let Some(files) = all.get_mut(at) {
                match files {
                    _ if !is_whole => *files = None,
                    // The first one tells.
                    Some(files) if nth > 0 => files.clear(),
                    _ => {}
                }
            }
        }
    }
    Ok(all)
}
