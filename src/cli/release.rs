//! `gleaner runs publish`: a person takes what checks hold as it is.

use std::io::IsTerminal;
use std::sync::Arc;

use crate::failure::{Exit, Failure};
use crate::harvest::ground::release::NothingSent;
use crate::harvest::summary::Summary;
use crate::harvest::{Backfill, Options};
use crate::report::{Manner, Reporter, clean};
use crate::store::alerts::WELL;
use crate::store::history::{RunRecord, Status};
use crate::store::state::State;

use super::drive::Drive;
use super::global::Global;
use super::rooms::{self, Overrides};
use super::run::tell;
use super::runs::Project;
use super::{out, project, state};

/// Publishes a held run from what it keeps. Doing it again changes nothing.
pub(super) async fn publish(
    id: &str,
    vars: &[(String, String)],
    global: &Global,
) -> Result<Exit, Failure> {
    let runs = Project::open()?;
    let run = runs.find(id)?;
    if run.status == Status::Complete {
        out::stderr(&format!("run {} is published already\n", run.id));
        return Ok(Exit::Complete);
    }
    let waits = run.status == Status::Held || run.status.is_open();
    if waits && runs.folder(&run.id).is_none() {
        let pipeline = clean(&run.pipeline).into_owned();
        return Err(Failure::usage(format!(
            "run {} keeps nothing any more: a later run came after it",
            run.id
        ))
        .hint(format!("`gleaner history {pipeline}` tells which")));
    }
    drop(runs);
    let options = Options {
        release: Some(run.id.clone()),
        streams: texts(&run, "streams"),
        backfill: Backfill::of(&run.options),
        ..Options::default()
    };
    from_kept(&run, vars, global, options).await
}

/// Publishes a run from what it keeps, as the command line of it was; `options` says for what and which
/// streams.
pub(super) async fn from_kept(
    run: &RunRecord,
    vars: &[(String, String)],
    global: &Global,
    options: Options,
) -> Result<Exit, Failure> {
    let found = project::find(&run.pipeline)?;
    let overrides = Overrides {
        vars: vars.to_vec(),
        sinks: texts(run, "sinks"),
        streams: options.streams.clone(),
    };
    let Some(plan) = rooms::plan_or_tell(&found.path, &overrides)? else {
        return Ok(Exit::Invalid);
    };
    let drive = Drive::new(Reporter::new(Manner {
        json: false,
        verbosity: global.verbosity(),
        terminal: std::io::stderr().is_terminal(),
        colour: out::stderr_colour(),
    }));
    let world = drive.world(Arc::new(NothingSent), found.root);
    let options = Options {
        keep_free: state::keep_free()?,
        state: state::folder(),
        ..options
    };
    let releases = options.release.is_some();
    let (disk, root, pipeline) = (world.disk.clone(), world.root.clone(), run.pipeline.clone());
    let ended = drive.run(plan, world, options).await;
    let is_complete = |summary: &Summary| summary.exit == Exit::Complete;
    if releases && ended.as_ref().is_ok_and(is_complete) {
        // A person has seen to it: the next trouble is news again, and who heard of this one hears
        // from the next run that is watched that it is over.
        let now = drive.clock.calendar();
        let noted = State::open(&disk, &root)
            .and_then(|mut state| state.note_condition(&pipeline, WELL, now, Some(&run.id)));
        noted.map_err(|error| *error.into_failure())?;
    }
    Ok(tell(None, "", ended, false))
}

pub(super) fn texts(run: &RunRecord, name: &str) -> Vec<String> {
    let all = run.options[name].as_array().into_iter().flatten();
    all.filter_map(|one| one.as_str().map(str::to_owned))
        .collect()
}
