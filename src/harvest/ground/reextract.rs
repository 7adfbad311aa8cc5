//! Kept parts, published again: columns, key, checks or sinks changed, and what the API gave is here.
//!
//! It is the run gone on with, over pages that are all here and with a network that sends nothing
//! ([`super::release::NothingSent`]). Its windows are those that it had: where the cursors stood when it
//! began is in its ledger. No cursor moves, for the run has moved them already, and the run's row stays as
//! it is until all is published anew, but for one word: before the first output takes its place, the row
//! says that this has begun. Cut off anywhere, it is done again in the same way: by the next run of the
//! pipeline, before anything else, or by a person.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::release;
use super::release::NothingSent;
use super::standing::{SharedState, lock};
use crate::disk::Disk;
use crate::event::Fact;
use crate::failure::{Exit, Failure};
use crate::fetch::tape::HeadCursor;
use crate::harvest::events::Events;
use crate::harvest::publish::keep;
use crate::harvest::run::Run;
use crate::harvest::summary::Summary;
use crate::harvest::{Backfill, Harvest, Options, World};
use crate::plan::Plan;
use crate::store::history::{RunRecord, Status};
use crate::store::row::RunStart;
use crate::store::run;
use crate::store::state::{State, StateError};

/// Where a run with kept parts writes down where the cursors stood.
const CURSORS: &str = "cursors";

impl Backfill {
    /// What the command line of a run asked for, as the run noted it.
    pub fn of(noted: &Value) -> Self {
        let text = |name: &str| noted[name].as_str().map(str::to_owned);
        Self {
            full: noted["full"] == Value::Bool(true),
            from: text("from"),
            to: text("to"),
        }
    }
}

impl Options {
    /// To publish again what a run keeps, as far as the run itself says how.
    pub fn to_reextract(disk: &Disk, root: &Path, run: &RunRecord) -> Self {
        Self {
            reextract: Some(run.id.clone()),
            keep_parts: true,
            streams: match run::start(disk, root, &run.id) {
                Ok(start) => streams_of(&run.options, &start),
                // What is wrong is told where the run is opened.
                Err(_) => Vec::new(),
            },
            backfill: Backfill::of(&run.options),
            ..Self::default()
        }
    }

    /// Whether a run's kept parts are published again.
    pub(in crate::harvest) fn reextracts(&self) -> bool {
        self.reextract.is_some()
    }
}

/// The run with this id, if what it keeps can be published again. Hold the pipeline's lock.
pub(in crate::harvest) fn find(
    state: &State,
    pipeline: &str,
    id: &str,
) -> Result<RunRecord, Box<Failure>> {
    let run = release::wanted(state, pipeline, id)?;
    if run.status != Status::Complete {
        return Err(Box::new(
            Failure::usage(format!(
                "run {id} is {}: only what a complete run keeps is published again",
                run.status.name()
            ))
            .hint("`gleaner run NAME` goes on with a run; `gleaner runs publish ID` publishes one that is held"),
        ));
    }
    release::is_newest(state, &run)?;
    Ok(run)
}

/// Writes down where the cursors stand as a run begins that will keep its parts.
pub(in crate::harvest) fn note(
    start: &mut RunStart,
    plan: &Plan,
    world: &World,
    options: &Options,
) -> Result<(), Box<Failure>> {
    if options.keep_parts {
        let cursors = keep::cursors(plan, world, options)?;
        let cursors = serde_json::to_value(cursors).unwrap_or_default();
        start.options.insert(CURSORS.to_owned(), cursors);
    }
    Ok(())
}

/// Where the cursors stood when the run began.
pub(in crate::harvest) fn cursors(
    plan: &Plan,
    start: &RunStart,
) -> Result<Vec<HeadCursor>, Box<Failure>> {
    let noted = start.options.get(CURSORS).cloned();
    if let Some(known) = noted.and_then(|noted| serde_json::from_value(noted).ok()) {
        return Ok(known);
    }
    let of_run = |name: &String| start.streams.iter().any(|known| **known == **name);
    let mut streams = plan.streams.iter();
    match streams.find(|stream| stream.cursor.is_some() && of_run(&stream.name)) {
        None => Ok(Vec::new()),
        Some(stream) => Err(Box::new(
            Failure::usage(format!(
                "{}: the run did not write down where its cursors stood, so what it asked for is not known any more",
                stream.name
            ))
            .hint("`gleaner run NAME --keep-parts`, from its first attempt on, does"),
        )),
    }
}

/// What the command line asked for when the run began, as far as it decides what the run is.
fn streams_of(options: &Value, start: &RunStart) -> Vec<String> {
    let named = options["streams"].as_array().into_iter().flatten();
    let named: Vec<String> = named
        .filter_map(|one| one.as_str().map(str::to_owned))
        .collect();
    if named.is_empty() {
        start.streams.iter().map(ToString::to_string).collect()
    } else {
        named
    }
}

/// Before the first output of a table takes its place: from here on some are new and others old.
pub(in crate::harvest) fn begin(
    run: &Run,
    state: Option<&SharedState>,
) -> Result<(), Box<Failure>> {
    match lock(state) {
        Some(mut state) if run.options.reextracts() => {
            let now = run.world.clock.calendar();
            let noted = state.publish_again(&run.id, now);
            noted.map_err(StateError::into_failure)
        }
        _ => Ok(()),
    }
}

/// The run of a pipeline that was not published again to its end, if there is one.
pub fn unended(state: &State, pipeline: &str) -> Result<Option<RunRecord>, Box<Failure>> {
    let runs = state.unended(pipeline);
    let mut runs = runs.map_err(StateError::into_failure)?.into_iter();
    Ok(runs.find(|run| run.again.is_some()))
}

/// What a person should know of a run that is [`unended`].
pub fn mixed(run: &RunRecord) -> String {
    format!(
        "run {} was not published again to its end: some of its outputs are new and others old; `gleaner reextract {}` goes on with that",
        run.id, run.id
    )
}

/// Ends what a killed `reextract` began, without a request, before the pipeline does anything new. What
/// cannot be ended is told by whoever looks at the run next.
pub async fn finish(plan: Plan, world: &World, options: Options) {
    let of_its_own = World {
        transport: Arc::new(NothingSent),
        events: Events::new(world.clock, |_| {}),
        ..world.clone()
    };
    let id = options.reextract.clone().unwrap_or_default();
    let opened = tokio::task::spawn_blocking(move || Harvest::open(plan, of_its_own, options));
    let Ok(Ok(harvest)) = opened.await else {
        return;
    };
    let Summary { exit, .. } = harvest.run().await;
    if exit == Exit::Complete {
        world.events.emit(Fact::RunNoticed {
            message: format!("run {id} had not been published again to its end: now it is"),
        });
    }
}
