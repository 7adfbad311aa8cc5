//! The book: budgets that all processes of this machine share, and that outlive them.
//!
//! One small file per budget ([`super::sheet`]) in a folder of the user's. Its name is a keyed hash, so
//! that nobody reads a credential from it. A holder of permits keeps the lock of a file of its
//! own for as long as it lives: when the kernel gives that lock to somebody else, it is dead. In
//! that file stands which process it is, for people.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::hash::Hasher;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::sheet::Sheet;
use crate::plan::limit::LimitPlan;

/// Where budgets are kept.
#[derive(Debug)]
pub struct Book {
    folder: PathBuf,
    key: [u64; 4],
    boot: u128,
    /// Who we are among the holders of permits.
    me: u64,
    /// Locked as long as we live.
    life: File,
}

/// What stands in the file of a holder of permits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Holder {
    pub(super) pid: Option<u32>,
    pub(super) pipeline: Option<String>,
    /// The limits that it shares by name, see [`LimitPlan::shared`].
    shared: BTreeMap<String, BTreeMap<String, String>>,
}

/// Another run shares a limit by the same name, and declares another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the limit shared as `{name}` is {ours} here, and {theirs} in `{pipeline}`, which runs now (process {pid})"
)]
pub struct Disagreement {
    name: String,
    ours: String,
    theirs: String,
    pipeline: String,
    pid: u32,
}

/// The book cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("the book of limits in {} cannot be opened: {cause}", folder.display())]
pub struct BookProblem {
    /// Its folder.
    pub folder: PathBuf,
    cause: io::Error,
}

impl BookProblem {
    pub(super) fn new(folder: &Path, cause: io::Error) -> Self {
        Self {
            folder: folder.to_owned(),
            cause,
        }
    }
}

impl Book {
    /// Opens the book in `folder`, which is made if it is missing.
    pub fn open(folder: &Path) -> Result<Self, BookProblem> {
        Self::open_since(folder, boot())
    }

    /// The same, since the machine was started as `boot` says.
    pub(super) fn open_since(folder: &Path, boot: u128) -> Result<Self, BookProblem> {
        let open = || {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)?;
            let key = key(folder)?;
            let me = random()?[0];
            let life = private().create_new(true).open(life(folder, me))?;
            life.lock()?;
            Ok((key, me, life))
        };
        let (key, me, life) = open().map_err(|cause| BookProblem::new(folder, cause))?;
        Ok(Self {
            folder: folder.to_owned(),
            key,
            boot,
            me,
            life,
        })
    }

    /// Who we are.
    pub(super) fn me(&self) -> u64 {
        self.me
    }

    /// Since which start of the machine its moments count.
    pub(super) fn boot(&self) -> u128 {
        self.boot
    }

    /// The file of a budget.
    pub(super) fn sheet(&self, identity: &str) -> io::Result<Sheet> {
        Sheet::open(self.folder.join(name(self.key, identity)))
    }

    /// Says who we are: for people, and for those who share limits of `plans` by name.
    ///
    /// # Errors
    /// One of them runs now and declares another limit: together they would keep neither. First
    /// it is said and then it is looked, so that of two who come at once one at least finds out.
    pub fn join(&mut self, pipeline: &str, plans: &[LimitPlan]) -> Result<(), Disagreement> {
        let us = Holder {
            pid: Some(std::process::id()),
            pipeline: Some(pipeline.to_owned()),
            shared: LimitPlan::shared(plans),
        };
        // Best effort: without it, others call us by a number.
        let _ = serde_json::to_vec(&us).map(|text| self.life.write_all(&text));
        if us.shared.is_empty() {
            return Ok(());
        }
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten();
        let holders = entries.filter_map(|entry| {
            let path = entry.ok()?.path();
            let id = (path.extension()? == "holder").then(|| path.file_stem()?.to_str())??;
            u64::from_str_radix(id, 16).ok()
        });
        let others = holders.filter(|holder| *holder != self.me);
        let others = others.filter_map(|holder| living(&self.folder, holder));
        for them in others {
            for (name, ours) in &us.shared {
                let theirs = them.shared.get(name);
                if let Some(theirs) = theirs.filter(|theirs| !theirs.keys().eq(ours.keys())) {
                    let shown = |limits: &BTreeMap<String, String>| {
                        let all: Vec<&str> = limits.values().map(String::as_str).collect();
                        all.join(", ")
                    };
                    self.retire();
                    return Err(Disagreement {
                        name: name.clone(),
                        ours: shown(ours),
                        theirs: shown(theirs),
                        pipeline: them.pipeline.unwrap_or_default(),
                        pid: them.pid.unwrap_or_default(),
                    });
                }
            }
        }
        Ok(())
    }

    /// Whether a holder is dead.
    pub(super) fn is_dead(&self, holder: u64) -> bool {
        let path = life(&self.folder, holder);
        let file = match OpenOptions::new().read(true).open(&path) {
            Ok(file) => file,
            Err(error) => return error.kind() == ErrorKind::NotFound,
        };
        match file.try_lock() {
            Ok(()) => {
                // Best effort: an old one does no harm.
                let _ = std::fs::remove_file(path);
                true
            }
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => false,
        }
    }

    /// Nothing of ours is out any more.
    pub(super) fn retire(&self) {
        // Best effort: whoever looks for us finds the lock free.
        let _ = std::fs::remove_file(life(&self.folder, self.me));
    }
}

fn life(folder: &Path, holder: u64) -> PathBuf {
    folder.join(format!("{holder:016x}.holder"))
}

/// A holder as it introduced itself, if it is alive. Unlike [`Book::is_dead`], nothing is
/// removed: one who only looks leaves all as it is.
pub(super) fn living(folder: &Path, holder: u64) -> Option<Holder> {
    let mut file = File::open(life(folder, holder)).ok()?;
    // The living hold it alone, so that sharing it works with the dead only.
    if file.try_lock_shared().is_ok() {
        return None;
    }
    let mut text = Vec::new();
    let read = file.read_to_end(&mut text).ok();
    let holder = read.and_then(|_| serde_json::from_slice(&text[..]).ok());
    Some(holder.unwrap_or_default())
}

/// The name of a budget's file.
#[expect(
    deprecated,
    reason = "SipHash with a key of our own; std's other hashers take none"
)]
pub(super) fn name(key: [u64; 4], identity: &str) -> String {
    let [a, b, c, d] = key;
    let halves = [(a, b), (c, d)].map(|(one, two)| {
        let mut hasher = std::hash::SipHasher::new_with_keys(one, two);
        hasher.write(identity.as_bytes());
        hasher.finish()
    });
    format!("{:016x}{:016x}.budget", halves[0], halves[1])
}

/// The key of the hashes, if there is one yet.
pub(super) fn known_key(folder: &Path) -> io::Result<Option<[u64; 4]>> {
    let mut bytes = [0; 32];
    match File::open(folder.join("key")) {
        Ok(mut file) => file.read_exact(&mut bytes).map(|()| Some(words(bytes))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Which start of the machine this is.
pub(super) fn boot() -> u128 {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let digits = boot.unwrap_or_default().trim().replace('-', "");
    u128::from_str_radix(&digits, 16).unwrap_or(0)
}

/// Files that only the user can read.
pub(super) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

fn random() -> io::Result<[u64; 4]> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(words(bytes))
}

fn words(bytes: [u8; 32]) -> [u64; 4] {
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = bytes
            .iter()
            .fold(0, |word, byte| word << 8 | u64::from(*byte));
    }
    words
}

/// The key of the hashes, made by whoever comes first.
fn key(folder: &Path) -> io::Result<[u64; 4]> {
    let path = folder.join("key");
    let mut bytes = [0; 32];
    for _ in 0..2 {
        if let Some(key) = known_key(folder)? {
            return Ok(key);
        }
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        let draft = folder.join(format!("{:016x}.key", words(bytes)[0]));
        private().create_new(true).open(&draft)?.write_all(&bytes)?;
        // Of several who come first, one gets the name.
        let linked = std::fs::hard_link(&draft, &path);
        std::fs::remove_file(&draft)?;
        match linked {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    Err(io::Error::other("the key appears and disappears"))
}
