//! What an earlier scheduler has left: times that wait or whose run goes on. One whose run had ended, with
//! nobody left to write that down, is done; and those who want to hear of it may not have heard.

use std::path::Path;

use jiff::Timestamp;

use crate::disk::Disk;
use crate::failure::Exit;
use crate::store::alerts::condition_of;
use crate::store::firings::{Firing, FiringStatus};
use crate::store::history::{RunRecord, Status};
use crate::store::locks;
use crate::store::run::RunFolder;
use crate::store::space::Floor;
use crate::store::state::{State, StateError};

/// All times that are open; those that turn out to be done are written down first, with what is owed to
/// those who want to hear.
pub(super) fn all(
    state: &mut State,
    disk: &Disk,
    root: &Path,
    since: Timestamp,
) -> Result<Vec<Firing>, StateError> {
    let mut inherited = Vec::new();
    for mut firing in state.firings_open()? {
        let run = match &firing.run {
            Some(run) if firing.status == FiringStatus::Begun => state.run(run)?,
            _ => None,
        };
        // It ended, and nobody was left to write that down.
        let ended = match run {
            Some(mut run) if run.status.is_open() => {
                let ended = last_word(disk, root, &run, since);
                if let Some((status, exit)) = ended {
                    // No later run may come that would see to it.
                    run.status = status;
                    run.exit = Some(exit);
                    state.save_run(&run)?;
                }
                ended.map(|(_, exit)| (Some(exit), None))
            }
            Some(run) => Some((run.exit, run.ended)),
            None => None,
        };
        match ended {
            Some((exit, at)) => {
                // Nor to tell anybody: that is owed from now on.
                let condition = exit.and_then(Exit::of_code).and_then(condition_of);
                if let Some(condition) = condition {
                    let (name, run) = (&firing.pipeline, firing.run.as_deref());
                    state.note_condition(name, condition, at.unwrap_or(since), run)?;
                }
                firing.status = FiringStatus::Done;
                firing.ended = at.or(Some(since));
                firing.exit = exit;
                state.save_firing(&firing)?;
            }
            None => inherited.push(firing),
        }
    }
    Ok(inherited)
}

/// How a run ended whose ledger says that it is over, though the state does not, of which an older copy was put
/// back. Whoever is at work on it now, or cannot be read, has not said its last word.
fn last_word(disk: &Disk, root: &Path, run: &RunRecord, now: Timestamp) -> Option<(Status, u8)> {
    let _lock = locks::pipeline(disk, root, &run.pipeline, now).ok()?;
    let open = RunFolder::open(disk, root, &run.id, &Floor::new(0)).ok()?;
    open.ended()
}
