//! Kept parts, published again: columns, key, checks or sinks changed, and what the API gave is here.
//!
//! It is the run gone on with, over pages that are all here and with a network that sends nothing
//! ([`super::release::NothingSent`]). Its windows are those that it had: where the cursors stood when it
//! began is in its ledger. No cursor moves, for the run has moved them already, and the run's row stays as
//! it is until all is published anew; cut off anywhere, it is done again in the same way.

use serde_json::Value;

use super::{Options, World, keep, release};
use crate::failure::Failure;
use crate::fetch::tape::HeadCursor;
use crate::plan::Plan;
use crate::store::history::{RunRecord, Status};
use crate::store::row::RunStart;
use crate::store::state::State;

/// Where a run with kept parts writes down where the cursors stood.
const CURSORS: &str = "cursors";

impl Options {
    /// Whether a run's kept parts are published again.
    pub(super) fn reextracts(&self) -> bool {
        self.reextract.is_some()
    }
}

/// The run with this id, if what it keeps can be published again. Hold the pipeline's lock.
pub(super) fn find(state: &State, runs: &[RunRecord], id: &str) -> Result<RunRecord, Box<Failure>> {
    let run = release::wanted(runs, id)?;
    if run.status != Status::Complete {
        return Err(Box::new(
            Failure::usage(format!(
                "run {id} is {}: only what a complete run keeps is published again",
                run.status.name()
            ))
            .hint("`gleaner run NAME` goes on with a run; `gleaner runs publish ID` publishes one that is held"),
        ));
    }
    release::is_newest(state, run)?;
    Ok(run.clone())
}

/// Writes down where the cursors stand as a run begins that will keep its parts.
pub(super) fn note(
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
pub(super) fn cursors(plan: &Plan, start: &RunStart) -> Result<Vec<HeadCursor>, Box<Failure>> {
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
pub fn streams_of(options: &Value, start: &RunStart) -> Vec<String> {
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
