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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Access, Open};
    use crate::sim::SimDisk;

    #[test]
    fn only_what_was_written_beside_this_target_is_swept() {
        let disk = SimDisk::new(Path::new("/p")).door();
        let names = [
            ".x.csv.12.part",
            ".x.csv.7.link",
            ".x.csv.12.part.part",
            ".x.csv.a1.part",
            ".x.csv..part",
            ".xy.csv.12.part",
            ".x.csv.gz.12.part",
            "x.csv.12.part",
            "x.csv",
        ];
        for name in names {
            let path = Path::new("/p").join(name);
            disk.open(&path, Open::New(Access::Umask)).unwrap();
        }
        assert_eq!(strays(&disk, Path::new("/p/x.csv")).unwrap(), 2);
        let mut left = disk.list(Path::new("/p")).unwrap();
        left.sort();
        let mut expected = names[2..].to_vec();
        expected.sort_unstable();
        assert_eq!(left, expected);
        assert_eq!(strays(&disk, Path::new("/nowhere/x.csv")).unwrap(), 0);
    }

    #[test]
    fn runs_are_listed_and_discarded() {
        let disk = SimDisk::new(Path::new("/p")).door();
        let root = Path::new("/p");
        assert!(run_folders(&disk, root).unwrap().is_empty());
        for id in ["20261122T023000Z-0001", "20251122T023000Z-ffff"] {
            disk.create_folder(&runs(root).join(id), Access::Private)
                .unwrap();
        }
        let found = run_folders(&disk, root).unwrap();
        assert_eq!(found, ["20251122T023000Z-ffff", "20261122T023000Z-0001"]);
        discard(&disk, root, &found[0]).unwrap();
        discard(&disk, root, &found[0]).unwrap();
        assert_eq!(run_folders(&disk, root).unwrap(), found[1..]);
    }
}
