//! What dead processes left: run folders that nobody will go on with, half-written outputs.

use std::path::Path;

use super::StoreError;
use super::run::{self, runs};
use crate::disk::{Disk, DiskError};

/// Ids of the runs that have a folder, oldest first: an id begins with its time.
pub fn run_folders(disk: &Disk, root: &Path) -> Result<Vec<String>, DiskError> {
    disk.list(&runs(root))
}

/// Removes the folder of a run. Hold the pipeline's lock.
pub fn discard(disk: &Disk, root: &Path, id: &str) -> Result<(), StoreError> {
    Ok(run::remove(disk, &runs(root).join(id))?)
}

/// Removes what processes before us were writing beside `target` (`.NAME.PID.part`); says how many
/// files that were. Hold the target's lock: then no living process writes there.
pub fn strays(disk: &Disk, target: &Path) -> Result<usize, DiskError> {
    let (Some(folder), Some(name)) = (target.parent(), target.file_name()) else {
        return Ok(0);
    };
    let mut removed = 0;
    for found in disk.list(folder)? {
        if is_stray(&found, &name.to_string_lossy()) {
            disk.remove_file(&folder.join(found))?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Whether `found` is what a process wrote beside the target `name`.
fn is_stray(found: &str, name: &str) -> bool {
    found
        .strip_prefix('.')
        .and_then(|rest| rest.strip_prefix(name))
        .and_then(|rest| rest.strip_prefix('.'))
        .and_then(|rest| rest.strip_suffix(".part").or(rest.strip_suffix(".link")))
        .is_some_and(|pid| !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit()))
}
