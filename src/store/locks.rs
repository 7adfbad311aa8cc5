//! Who is at work: kernel locks on a pipeline and on each output, held while a run lives.
//!
//! The kernel frees a lock when its holder dies, so nothing has to be healed afterwards. Lock files are
//! never removed: another process may be about to lock the one that is there. What stands in
//! them is for the message only.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::hash::stable;
use crate::disk::{Access, Disk, DiskError, DiskFile, Open};
use crate::failure::{Exit, Failure};

/// Most bytes of a lock file that are read.
const MOST: usize = 4096;

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: DiskFile,
}

/// Who holds a lock, as it said itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process.
    pub pid: u32,
    /// Its machine.
    pub host: String,
    /// When it took the lock.
    pub since: Timestamp,
}

/// Why a lock was not given.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("{what} is locked by {}", told(holder.as_ref()))]
    Held {
        /// What is locked: `pipeline x`, or a file.
        what: String,
        /// By whom, where that can be read.
        holder: Option<Holder>,
    },
    /// The lock file cannot be made or read.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

fn told(holder: Option<&Holder>) -> String {
    holder.map_or_else(
        || "another process".to_owned(),
        |h| format!("PID {} on {} since {:.0}", h.pid, h.host, h.since),
    )
}

impl LockError {
    /// As a failure of a run: 77 where somebody else is at work.
    pub fn into_failure(self) -> Box<Failure> {
        let message = self.to_string();
        let (exit, causes, hint) = match &self {
            Self::Held { .. } => (
                Exit::Locked,
                Vec::new(),
                "wait until it is done, or stop it: what it has committed is kept",
            ),
            Self::Disk(error) => (Exit::Disk, vec![error.source.to_string()], error.hint()),
        };
        Box::new(Failure {
            exit,
            message,
            causes,
            hint: Some(hint.to_owned()),
        })
    }
}

/// Locks the pipeline `name` of the project at `root`.
pub fn pipeline(disk: &Disk, root: &Path, name: &str, now: Timestamp) -> Result<Lock, LockError> {
    let folder = root.join(".gleaner").join("locks");
    disk.create_folder(&folder, Access::Private)?;
    let place = pipeline_place(root, name);
    take(disk, &place, &format!("pipeline {name}"), now)
}

/// Locks the schedule of the project at `root`: two who keep it would run everything twice.
pub fn schedule(disk: &Disk, root: &Path, now: Timestamp) -> Result<Lock, LockError> {
    let folder = root.join(".gleaner").join("locks");
    disk.create_folder(&folder, Access::Private)?;
    // No pipeline's lock begins with a dot.
    take(disk, &folder.join(".schedule"), "the schedule", now)
}

/// Whether the process that took the lock of a pipeline last is still alive. For people only: it
/// takes no lock, since a run that begins at this moment would be turned away.
pub fn is_at_work(disk: &Disk, root: &Path, name: &str) -> bool {
    let holder = disk
        .open(&pipeline_place(root, name), Open::Read)
        .ok()
        .and_then(|file| holder(&file));
    holder.is_some_and(|holder| {
        let pid = i32::try_from(holder.pid).ok();
        let pid = pid.and_then(rustix::process::Pid::from_raw);
        holder.host == host()
            && pid.is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok())
    })
}

fn pipeline_place(root: &Path, name: &str) -> PathBuf {
    let folder = root.join(".gleaner").join("locks");
    folder.join(format!("{}.lock", file_name(name)))
}

fn host() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// Locks an output, for all projects of the user: `state` is the user's state folder. The folder
/// of the output must exist.
pub fn target(disk: &Disk, state: &Path, target: &Path, now: Timestamp) -> Result<Lock, LockError> {
    let place = target_place(disk, state, target)?;
    take(disk, &place, &target.display().to_string(), now)
}

/// Locks a file that many tell of, each for a moment: waits for whoever is at it. `state` is the
/// user's state folder; the folder of the file must exist.
pub fn wait(disk: &Disk, state: &Path, target: &Path) -> Result<Lock, LockError> {
    let file = disk.open(&target_place(disk, state, target)?, Open::Lasting)?;
    file.lock()?;
    Ok(Lock { _file: file })
}

fn target_place(disk: &Disk, state: &Path, target: &Path) -> Result<PathBuf, DiskError> {
    let folder = state.join("locks");
    disk.create_folder(&folder, Access::Private)?;
    let whole = disk.resolve_new(target)?;
    let text = whole.to_string_lossy();
    // Two hashes of the same text: a name as good as unique, of a length that always fits.
    let name = format!(
        "{:016x}{:016x}.lock",
        stable(&[&text]),
        stable(&["target", &text])
    );
    Ok(folder.join(name))
}

/// Locks a token that changes with each use; the folder of `place` must exist.
pub(super) fn token(disk: &Disk, place: &Path, now: Timestamp) -> Result<Lock, LockError> {
    take(disk, place, "the refresh token", now)
}

fn take(disk: &Disk, place: &Path, what: &str, now: Timestamp) -> Result<Lock, LockError> {
    let file = disk.open(place, Open::Lasting)?;
    if !file.try_lock()? {
        return Err(LockError::Held {
            what: what.to_owned(),
            holder: holder(&file),
        });
    }
    let holder = Holder {
        pid: std::process::id(),
        host: host(),
        since: now,
    };
    file.set_len(0)?;
    let text = serde_json::to_vec(&holder).map_err(|e| DiskError::new("write", place, e.into()))?;
    file.append(&text)?;
    Ok(Lock { _file: file })
}

/// Who wrote a lock file; nobody where it is being written this moment.
fn holder(file: &DiskFile) -> Option<Holder> {
    let len = usize::try_from(file.len().ok()?).ok()?.min(MOST);
    let mut text = vec![0; len];
    file.read_exact_at(&mut text, 0).ok()?;
    serde_json::from_slice(&text).ok()
}

/// A name of one path step: what is no plain character is written as its number.
pub(super) fn file_name(name: &str) -> String {
    let mut safe = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-' {
            safe.push(char::from(byte));
        } else {
            // A text takes whatever is written to it.
            let _ = write!(safe, "%{byte:02x}");
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::SimDisk;

    fn now() -> Timestamp {
        "2026-11-22T02:30:00Z".parse().unwrap()
    }

    #[test]
    fn the_second_is_told_who_came_first() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::system();
        let first = pipeline(&disk, folder.path(), "pipe", now()).unwrap();
        let error = pipeline(&disk, folder.path(), "pipe", now()).unwrap_err();
        let failure = error.into_failure();
        assert_eq!(failure.exit, Exit::Locked);
        let pid = std::process::id();
        let told = format!("pipeline pipe is locked by PID {pid} on ");
        assert!(failure.message.starts_with(&told), "{failure}");
        assert!(
            failure.message.ends_with(" since 2026-11-22T02:30:00Z"),
            "{failure}"
        );
        pipeline(&disk, folder.path(), "other", now()).unwrap();
        drop(first);
        pipeline(&disk, folder.path(), "pipe", now()).unwrap();
    }

    #[test]
    fn a_lock_that_its_holder_has_not_signed_yet_is_held_all_the_same() {
        let disk = SimDisk::new(Path::new("/p"));
        let place = Path::new("/p/.gleaner/locks/pipe.lock");
        let first = pipeline(&disk.door(), Path::new("/p"), "pipe", now()).unwrap();
        for text in ["", "{\"pid\":", "null"] {
            disk.damage(place, |bytes| *bytes = text.as_bytes().to_vec());
            let error = pipeline(&disk.door(), Path::new("/p"), "pipe", now()).unwrap_err();
            assert_eq!(
                error.to_string(),
                "pipeline pipe is locked by another process"
            );
        }
        drop(first);
        pipeline(&disk.door(), Path::new("/p"), "pipe", now()).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_target_is_one_whatever_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::system();
        let state = folder.path().join("state");
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        std::fs::create_dir(&one).unwrap();
        std::os::unix::fs::symlink(&one, &two).unwrap();
        // Not there yet, there, and behind a link.
        for is_there in [false, true] {
            if is_there {
                std::fs::write(one.join("rows.csv"), "").unwrap();
            }
            let _held = target(&disk, &state, &one.join("rows.csv"), now()).unwrap();
            for name in [two.join("rows.csv"), two.join("./rows.csv")] {
                let error = target(&disk, &state, &name, now()).unwrap_err();
                assert!(matches!(error, LockError::Held { .. }), "{error}");
            }
            target(&disk, &state, &one.join("others.csv"), now()).unwrap();
        }
        std::fs::rename(one.join("rows.csv"), one.join("real.csv")).unwrap();
        std::os::unix::fs::symlink(one.join("real.csv"), one.join("rows.csv")).unwrap();
        let _held = target(&disk, &state, &one.join("real.csv"), now()).unwrap();
        assert!(target(&disk, &state, &two.join("rows.csv"), now()).is_err());
    }

    #[test]
    fn names_are_one_step_of_a_path() {
        assert_eq!(file_name("git_hub-2"), "git_hub-2");
        assert_eq!(file_name("../a b/é"), "%2e%2e%2fa%20b%2f%c3%a9");
    }
}
