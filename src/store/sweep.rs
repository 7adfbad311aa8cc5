//! What dead processes left: run folders that nobody will go on with, half-written outputs.

use std::path::Path;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::StoreError;
use super::run::{self, runs};
use crate::disk::{Disk, DiskError};

/// How long a folder without a beginning may be somebody's.
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// Ids of the runs that have a folder, oldest first: an id begins with its time.
pub fn run_folders(disk: &Disk, root: &Path) -> Result<Vec<String>, DiskError> {
    disk.list(&runs(root))
}

/// Removes the folder of a run. Hold the pipeline's lock.
pub fn discard(disk: &Disk, root: &Path, id: &str) -> Result<(), StoreError> {
    Ok(run::remove(disk, &runs(root).join(id))?)
}

/// Removes the folders of runs of a pipeline that nobody will go on with, since the state does not
/// know of them, and says which; also those that died at birth more than a day ago. What cannot be
/// read stays. Hold the pipeline's lock.
pub fn unknown(
    disk: &Disk,
    root: &Path,
    pipeline: &str,
    now: Timestamp,
    is_known: &dyn Fn(&str) -> bool,
) -> Result<Vec<String>, StoreError> {
    let mut removed = Vec::new();
    for id in run_folders(disk, root)? {
        let is_over = match run::start(disk, root, &id) {
            Ok(start) => start.pipeline == pipeline && !is_known(&id),
            // It may be at birth right now, of a pipeline that is not ours.
            Err(StoreError::Unbegun { .. }) => {
                begun(&id).is_some_and(|at| now.duration_since(at) > DAY)
            }
            Err(_) => false,
        };
        if is_over {
            discard(disk, root, &id)?;
            removed.push(id);
        }
    }
    Ok(removed)
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

/// When a run began, as its id says.
fn begun(id: &str) -> Option<Timestamp> {
    let (time, _) = id.split_once('-')?;
    let time = DateTime::strptime("%Y%m%dT%H%M%SZ", time).ok()?;
    Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp())
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
    use crate::store::row::RunStart;
    use crate::store::space::Floor;

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
    fn runs_that_nobody_goes_on_with_are_swept() {
        let sim = SimDisk::new(Path::new("/p"));
        let (disk, root) = (sim.door(), Path::new("/p"));
        let floor = Floor::new(0);
        let ids = [
            "20261122T023000Z-0001",
            "20261122T023000Z-0002",
            "20261122T023000Z-0003",
            "20261122T023000Z-0004",
            "20261122T023000Z-0005",
            "20261120T023000Z-0006",
        ];
        for (id, pipeline) in ids[..4].iter().zip(["ours", "ours", "other", "ours"]) {
            let start = RunStart::new(pipeline, vec!["items".into()], Timestamp::UNIX_EPOCH);
            run::RunFolder::create(&disk, root, id, start, &floor).unwrap();
        }
        // Of a later version: not ours to judge.
        let ledger = runs(root).join(ids[3]).join("ledger");
        sim.damage(&ledger, |bytes| {
            let text = String::from_utf8_lossy(bytes).replace("\"version\":1", "\"version\":9");
            let rows = text.split_once('\n').unwrap().1.as_bytes();
            let head = format!("{:08x} {:08x}\n", rows.len(), crate::crc::of(rows));
            *bytes = [head.as_bytes(), rows].concat();
        });
        // At birth now, and dead since two days.
        for id in &ids[4..] {
            disk.create_folder(&runs(root).join(id), Access::Private)
                .unwrap();
        }
        let now = "2026-11-22T02:31:00Z".parse().unwrap();
        let is_known = |id: &str| id.ends_with("0002");
        let swept = unknown(&disk, root, "ours", now, &is_known).unwrap();
        assert_eq!(swept, [ids[5], ids[0]]);
        assert_eq!(run_folders(&disk, root).unwrap(), ids[1..5]);
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
