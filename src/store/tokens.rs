//! Tokens that change with each use: `tokens/<name>.token` in the user's state folder.
//!
//! A refresh token that the server replaces is worth nothing any more, and the new one is known to
//! nobody else: so it is on the disk, whole and synced, before anything is done with it. Whoever
//! uses one holds the lock beside it, so that no two processes ever use the same one, and the next
//! reads what the one before has written. The only files of this program that hold secrets: the user
//! alone may read them.

use std::fmt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::hash::stable;
use super::locks::{self, Lock, LockError};
use crate::disk::{Access, Disk, DiskError, Open};

/// The version of the file that this program writes.
const VERSION: u32 = 1;
/// Most bytes of a file that are read; tokens are some hundred.
const MOST: u64 = 1 << 20;

/// Where a changing token is kept.
#[derive(Debug, Clone)]
pub struct TokenFile {
    disk: Disk,
    folder: PathBuf,
    name: String,
}

/// What is kept of a changing token. Never shows itself.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptToken {
    version: u32,
    /// What the next token is had for.
    pub refresh: String,
    /// The token that was had last.
    pub access: Option<String>,
    /// When it ends, if that is known.
    pub until: Option<Timestamp>,
}

/// Why a kept token cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TokenProblem {
    /// The file cannot be read or written.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Its bytes make no sense.
    #[error("{} is damaged, or was written by a later version", .0.display())]
    Damaged(PathBuf),
}

impl fmt::Debug for KeptToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptToken")
            .field("until", &self.until)
            .finish_non_exhaustive()
    }
}

impl KeptToken {
    /// What is known before the first use.
    pub fn first(refresh: impl Into<String>) -> Self {
        Self {
            version: VERSION,
            refresh: refresh.into(),
            access: None,
            until: None,
        }
    }
}

impl TokenFile {
    /// The place in `folder` of the token that is known by these texts. A new first token is a new
    /// place: what somebody sets by hand wins over what was kept.
    pub fn new(disk: &Disk, folder: &Path, known_by: &[&str]) -> Self {
        let salted: Vec<&str> = std::iter::once("token")
            .chain(known_by.iter().copied())
            .collect();
        Self {
            disk: disk.clone(),
            folder: folder.to_owned(),
            name: format!("{:016x}{:016x}", stable(known_by), stable(&salted)),
        }
    }

    /// The file, for messages.
    pub fn path(&self) -> PathBuf {
        self.folder.join(format!("{}.token", self.name))
    }

    /// Takes the token's lock; the kernel frees it when its holder dies.
    pub fn lock(&self, now: Timestamp) -> Result<Lock, LockError> {
        self.disk.create_folder(&self.folder, Access::Private)?;
        locks::token(
            &self.disk,
            &self.folder.join(format!("{}.lock", self.name)),
            now,
        )
    }

    /// What is kept, if anything is.
    pub fn load(&self) -> Result<Option<KeptToken>, TokenProblem> {
        let path = self.path();
        let file = match self.disk.open(&path, Open::Read) {
            Ok(file) => file,
            Err(error) if error.is_missing() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let len = usize::try_from(file.len()?.min(MOST)).unwrap_or_default();
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, 0)?;
        // A file is renamed to its place when it is whole. To begin with the first token again would make
        // the server take it for stolen.
        match serde_json::from_slice::<KeptToken>(&bytes) {
            Ok(kept) if kept.version == VERSION => Ok(Some(kept)),
            _ => Err(TokenProblem::Damaged(path)),
        }
    }

    /// Keeps a token in the place of the one before; when this returns, it is on the disk.
    pub fn save(&self, kept: &KeptToken) -> Result<(), DiskError> {
        let path = self.path();
        let beside = path.with_extension("new");
        let bytes = serde_json::to_vec(kept)
            .map_err(|error| DiskError::new("write", &beside, error.into()))?;
        self.disk.remove_file(&beside)?;
        let file = self.disk.create_private(&beside)?;
        file.append(&bytes)?;
        file.sync_data()?;
        self.disk.rename(&beside, &path)?;
        self.disk.sync_folder(&self.folder)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::sim::{Loss, SimDisk};

    fn now() -> Timestamp {
        "2026-11-22T02:30:00Z".parse().unwrap()
    }

    #[test]
    fn a_token_is_kept_for_its_user_alone() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("tokens");
        let file = TokenFile::new(&Disk::system(), &folder, &["https://a", "me", "first"]);
        let lock = file.lock(now()).unwrap();
        assert_eq!(file.load().unwrap(), None);
        let mut kept = KeptToken::first("r1");
        file.save(&kept).unwrap();
        kept.refresh = "r2".to_owned();
        kept.access = Some("a2".to_owned());
        file.save(&kept).unwrap();
        assert_eq!(file.load().unwrap(), Some(kept.clone()));
        assert!(!format!("{kept:?} {file:?}").contains("r2"));
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&file.path())), (0o700, 0o600));
        let error = file.lock(now()).unwrap_err();
        assert!(matches!(error, LockError::Held { .. }), "{error}");
        drop(lock);
        file.lock(now()).unwrap();
        // Another first token is another place.
        let other = TokenFile::new(&Disk::system(), &folder, &["https://a", "me", "second"]);
        assert_eq!(other.load().unwrap(), None);
    }

    #[test]
    fn a_damaged_file_is_not_taken_for_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = TokenFile::new(&Disk::system(), folder.path(), &["x"]);
        for text in [
            "",
            "{\"version\":1,\"refr",
            "{\"version\":2,\"refresh\":\"r\"}",
        ] {
            std::fs::write(file.path(), text).unwrap();
            assert!(
                matches!(file.load(), Err(TokenProblem::Damaged(_))),
                "{text}"
            );
        }
    }

    #[test]
    fn what_was_saved_survives_a_power_cut() {
        let disk = SimDisk::new(Path::new("/p"));
        let folder = Path::new("/p/state/tokens");
        let file = TokenFile::new(&disk.door(), folder, &["x"]);
        drop(file.lock(now()).unwrap());
        for n in 0..4 {
            file.save(&KeptToken::first(format!("r{n}"))).unwrap();
            disk.crash(Loss::all().next().expect("a kind"));
            let kept = file.load().unwrap().expect("it was synced");
            assert_eq!(kept.refresh, format!("r{n}"));
        }
    }
}
