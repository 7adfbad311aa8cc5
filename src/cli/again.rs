//! A `reextract` that was cut off: told where people look at outputs, and ended before the next run.

use std::path::Path;

use crate::disk::Disk;
use crate::failure::Failure;
use crate::harvest::ground::reextract::{finish, mixed, unended};
use crate::harvest::{Options, World};
use crate::store::history::RunRecord;
use crate::store::locks;
use crate::store::state::State;

use super::release::texts;
use super::rooms::{self, Overrides};
use super::{out, project, state};

/// The run of a pipeline whose outputs are some new and some old, if nobody is at work on it.
fn left(root: &Path, pipeline: &str) -> Result<Option<RunRecord>, Failure> {
    let disk = Disk::system();
    if !root.join(".gleaner").join("state.db").exists() || locks::is_at_work(&disk, root, pipeline)
    {
        return Ok(None);
    }
    let state = State::open(&disk, root).map_err(|error| *error.into_failure())?;
    unended(&state, pipeline).map_err(|failure| *failure)
}

/// Tells whoever reads the outputs of a pipeline.
pub(super) fn tell(root: &Path, pipeline: &str) -> Result<(), Failure> {
    if let Some(run) = left(root, pipeline)? {
        out::stderr(&format!("note: {}\n", mixed(&run)));
    }
    Ok(())
}

/// Ends it before the pipeline runs: as the file at `path` is now, and as that run's own command line was.
/// What stands in the way is told by the run. Values of `--var` may be secret and are not kept, so a run that
/// had some is only told of.
pub(super) async fn end(path: &Path, world: &World) {
    let pipeline = project::stem(path);
    let (root, disk) = (world.root.clone(), world.disk.clone());
    let looked = tokio::task::spawn_blocking(move || {
        let run = left(&root, &pipeline).ok()??;
        Some((Options::to_reextract(&disk, &root, &run), run))
    });
    let Ok(Some((options, run))) = looked.await else {
        return;
    };
    if !texts(&run, "vars").is_empty() {
        out::stderr(&format!("note: {}, with its `--var`\n", mixed(&run)));
        return;
    }
    let overrides = Overrides {
        vars: Vec::new(),
        sinks: texts(&run, "sinks"),
        streams: options.streams.clone(),
    };
    let (Ok(plan), Ok(keep_free)) = (rooms::plan(path, &overrides), state::keep_free()) else {
        return;
    };
    let options = Options {
        keep_free,
        state: state::folder(),
        ..options
    };
    finish(plan, world, options).await;
}
