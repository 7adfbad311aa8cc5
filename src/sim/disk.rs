//! A pretend disk in memory: counts every operation, fails the one it is told to, loses power.
//!
//! It implements the same door as the machine's own file system ([`crate::disk::FileSystem`]), so what
//! runs on it is the product itself.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;

use super::platter::{Entry, Inode, Loss, Platter};
use crate::disk::{Access, Disk, FileHandle, FileSystem, Found, Open};

/// A pretend disk; clones are the same one.
#[derive(Debug, Clone)]
pub struct SimDisk(Arc<Mutex<Inside>>);

/// What goes wrong, and when. Operations are counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing.
    None,
    /// This operation fails, with an error of this kind.
    Once(u64, ErrorKind),
    /// This operation and all after it fail.
    Always(u64, ErrorKind),
    /// Before this operation the power goes: nothing after it has any effect, until
    /// [`SimDisk::crash`].
    Power(u64),
}

/// How a disk lies, so that it can be shown that each sync and cut of the product is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// Not at all.
    None,
    /// Syncs of files do nothing.
    Data,
    /// Syncs of folders do nothing.
    Folders,
    /// A sync of a file whose name ends so takes effect only after the next sync of another.
    Late(&'static str),
    /// Files are not cut.
    Cuts,
}

#[derive(Debug)]
struct Inside {
    platter: Platter,
    trouble: Trouble,
    lie: Lie,
    /// A sync that was put off; whether another has come since.
    late: Option<(Inode, bool)>,
    operations: u64,
    log: Vec<String>,
    /// Counts crashes: handles from before one are dead.
    life: u64,
    locks: HashSet<Inode>,
    /// Bytes that fit.
    capacity: u64,
    databases: HashMap<PathBuf, Database>,
    network: Option<&'static str>,
}

/// A database in memory, which SQLite keeps for as long as somebody has it open. What it has
/// committed survives power cuts: that is SQLite's own promise, not tested here.
#[derive(Debug)]
struct Database {
    address: PathBuf,
    _open: Connection,
}

impl Database {
    fn new() -> io::Result<Self> {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let address = PathBuf::from(format!("file:pretend-{number}?mode=memory&cache=shared"));
        Ok(Self {
            _open: Connection::open(&address).map_err(io::Error::other)?,
            address,
        })
    }
}

/// What an operation does, as far as trouble cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    Reads,
    Writes,
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    inode: Inode,
    path: PathBuf,
    life: u64,
    is_locked: Mutex<bool>,
}

impl SimDisk {
    /// An empty disk with the folder `root`.
    pub fn new(root: &Path) -> Self {
        Self(Arc::new(Mutex::new(Inside {
            platter: Platter::new(root),
            trouble: Trouble::None,
            lie: Lie::None,
            late: None,
            operations: 0,
            log: Vec::new(),
            life: 0,
            locks: HashSet::new(),
            capacity: u64::MAX,
            databases: HashMap::new(),
            network: None,
        })))
    }

    /// Its door.
    pub fn door(&self) -> Disk {
        Disk::new(self.clone())
    }

    /// What goes wrong from now on; the count begins anew.
    pub fn set_trouble(&self, trouble: Trouble) {
        let mut inside = self.inside();
        inside.trouble = trouble;
        inside.operations = 0;
        inside.log.clear();
    }

    /// How it lies from now on.
    pub fn set_lie(&self, lie: Lie) {
        self.inside().lie = lie;
    }

    /// How many bytes fit.
    pub fn set_capacity(&self, bytes: u64) {
        self.inside().capacity = bytes;
    }

    /// Makes it a network file system.
    pub fn set_network(&self, kind: Option<&'static str>) {
        self.inside().network = kind;
    }

    /// Operations since the count began.
    pub fn operations(&self) -> u64 {
        self.inside().operations
    }

    /// Operations since the count began, in words.
    pub fn log(&self) -> Vec<String> {
        self.inside().log.clone()
    }

    /// The power goes and comes back: open files are dead, locks are free, what was not synced is
    /// what `loss` makes of it.
    pub fn crash(&self, loss: Loss) {
        let mut inside = self.inside();
        inside.platter.crash(loss);
        inside.end_life();
    }

    /// All processes end; what they wrote stays.
    pub fn kill(&self) {
        self.inside().end_life();
    }

    /// A second disk that holds the same files, and goes its own way from here. It has no
    /// databases.
    #[must_use]
    pub fn fork(&self) -> Self {
        let inside = self.inside();
        let fork = Self::new(Path::new("/"));
        {
            let mut other = fork.inside();
            other.platter = inside.platter.clone();
            other.capacity = inside.capacity;
            other.lie = inside.lie;
            other.network = inside.network;
        }
        fork
    }

    /// Every file with what it holds.
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        self.inside().platter.files()
    }

    /// What a file holds, if it is there.
    pub fn read(&self, path: &Path) -> Option<Vec<u8>> {
        let inside = self.inside();
        let inode = inside.platter.file(path).ok()?;
        Some(inside.platter.read(inode).to_vec())
    }

    /// Changes a file behind everybody's back, on the disk too.
    pub fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut inside = self.inside();
        if let Ok(inode) = inside.platter.file(path) {
            let mut bytes = inside.platter.read(inode).to_vec();
            change(&mut bytes);
            inside.platter.set_len(inode, 0);
            inside.platter.append(inode, &bytes);
            inside.platter.sync_data(inode);
        }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step(&self, does: Does, what: &str, path: &Path) -> io::Result<MutexGuard<'_, Inside>> {
        let mut inside = self.inside();
        inside.step(does, what, path)?;
        Ok(inside)
    }
}

impl Inside {
    /// Counts an operation; fails if it is to fail.
    fn step(&mut self, does: Does, what: &str, path: &Path) -> io::Result<()> {
        self.operations += 1;
        let at = self.operations;
        self.log.push(format!("{what} {}", path.display()));
        match self.trouble {
            // A full disk can still be read.
            Trouble::Once(_, ErrorKind::StorageFull)
            | Trouble::Always(_, ErrorKind::StorageFull)
                if does == Does::Reads =>
            {
                Ok(())
            }
            Trouble::Once(n, kind) if n == at => Err(kind.into()),
            Trouble::Always(n, kind) if n <= at => Err(kind.into()),
            Trouble::Power(n) if n <= at => Err(io::Error::other("the power is gone")),
            _ => {
                if let Some((inode, true)) = self.late {
                    self.late = None;
                    self.platter.sync_data(inode);
                }
                Ok(())
            }
        }
    }

    fn sync(&mut self, inode: Inode, path: &Path) {
        match self.lie {
            Lie::Data => return,
            Lie::Late(end) if path.to_string_lossy().ends_with(end) => {
                self.late = Some((inode, false));
                return;
            }
            _ => {}
        }
        self.platter.sync_data(inode);
        if let Some((_, is_due)) = &mut self.late {
            *is_due = true;
        }
    }

    fn end_life(&mut self) {
        self.life += 1;
        self.late = None;
        self.locks.clear();
        self.trouble = Trouble::None;
        self.operations = 0;
        self.log.clear();
    }

    fn is_dark(&self) -> bool {
        matches!(self.trouble, Trouble::Power(n) if n <= self.operations)
    }
}

impl FileSystem for SimDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn FileHandle>> {
        let (does, what) = match how {
            Open::New(_) | Open::Lasting => (Does::Writes, "create"),
            Open::Existing | Open::Read => (Does::Reads, "open"),
        };
        let mut inside = self.step(does, what, path)?;
        let inode = match how {
            Open::New(_) => inside.platter.create(path)?,
            Open::Lasting if inside.platter.entry(path).is_none() => inside.platter.create(path)?,
            _ => inside.platter.file(path)?,
        };
        Ok(Arc::new(SimFile {
            disk: self.clone(),
            inode,
            path: path.to_owned(),
            life: inside.life,
            is_locked: Mutex::new(false),
        }))
    }

    fn create_folder(&self, path: &Path, _: Access) -> io::Result<()> {
        self.step(Does::Writes, "create folder", path)?
            .platter
            .create_folder(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let mut inside = self.step(Does::Writes, "sync folder", path)?;
        match inside.lie {
            Lie::Folders => Ok(()),
            _ => inside.platter.sync_folder(path),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(Does::Writes, "rename to", to)?
            .platter
            .rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(Does::Writes, "link to", to)?
            .platter
            .link(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.step(Does::Writes, "remove", path)?
            .platter
            .remove_file(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.step(Does::Writes, "remove folder", path)?
            .platter
            .remove_folder(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.step(Does::Reads, "list", path)?.platter.list(path)
    }

    fn look(&self, path: &Path) -> io::Result<Found> {
        let inside = self.step(Does::Reads, "look at", path)?;
        Ok(match inside.platter.entry(path) {
            None => Found::Nothing,
            Some(Entry::Folder) => Found::Folder,
            Some(Entry::File(inode)) => Found::File(inside.platter.read(inode).len() as u64),
        })
    }

    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        let inside = self.step(Does::Reads, "resolve", path)?;
        match inside.platter.entry(path) {
            Some(_) => Ok(path.to_owned()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    fn free_space(&self, path: &Path) -> io::Result<u64> {
        let inside = self.step(Does::Reads, "ask for space at", path)?;
        Ok(inside.capacity.saturating_sub(inside.platter.used()))
    }

    fn network(&self, path: &Path) -> io::Result<Option<&'static str>> {
        Ok(self.step(Does::Reads, "look at", path)?.network)
    }

    fn database(&self, path: &Path) -> io::Result<PathBuf> {
        let mut inside = self.step(Does::Reads, "open database", path)?;
        if let Some(known) = inside.databases.get(path) {
            return Ok(known.address.clone());
        }
        let made = Database::new()?;
        let address = made.address.clone();
        inside.databases.insert(path.to_owned(), made);
        Ok(address)
    }

    fn foreign(&self, action: &'static str, path: &Path) -> io::Result<()> {
        self.step(Does::Writes, action, path).map(|_| ())
    }
}

impl SimFile {
    fn step(&self, does: Does, what: &str) -> io::Result<MutexGuard<'_, Inside>> {
        let inside = self.disk.step(does, what, &self.path)?;
        if inside.life != self.life {
            return Err(io::Error::other("its process is dead"));
        }
        Ok(inside)
    }
}

impl FileHandle for SimFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let written = match self.step(Does::Writes, "write") {
            Ok(mut inside) => {
                let used = inside.platter.used();
                let room = inside.capacity.saturating_sub(used);
                let fits = usize::try_from(room).map_or(bytes.len(), |room| room.min(bytes.len()));
                inside.platter.append(self.inode, &bytes[..fits]);
                if fits < bytes.len() {
                    return Err(ErrorKind::StorageFull.into());
                }
                return Ok(());
            }
            Err(error) => error,
        };
        // A write that fails has often written something.
        let mut inside = self.disk.inside();
        if inside.life == self.life && !inside.is_dark() {
            inside.platter.append(self.inode, &bytes[..bytes.len() / 2]);
        }
        Err(written)
    }

    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        let inside = self.step(Does::Reads, "read")?;
        let bytes = inside.platter.read(self.inode);
        let from = usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
        let most = into.len().min(bytes.len() - from);
        into[..most].copy_from_slice(&bytes[from..from + most]);
        Ok(most)
    }

    fn len(&self) -> io::Result<u64> {
        let inside = self.step(Does::Reads, "look at")?;
        Ok(inside.platter.read(self.inode).len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut inside = self.step(Does::Writes, "cut")?;
        let len = usize::try_from(len).map_err(io::Error::other)?;
        if inside.lie != Lie::Cuts {
            inside.platter.set_len(self.inode, len);
        }
        Ok(())
    }

    fn rewrite_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut inside = self.step(Does::Writes, "write again")?;
        let at = usize::try_from(at).map_err(io::Error::other)?;
        inside.platter.write(self.inode, at, bytes);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        match self.step(Does::Writes, "sync") {
            Ok(mut inside) => {
                inside.sync(self.inode, &self.path);
                Ok(())
            }
            Err(error) => {
                let mut inside = self.disk.inside();
                if inside.life == self.life && !inside.is_dark() {
                    inside.platter.fail_sync(self.inode);
                }
                Err(error)
            }
        }
    }

    fn try_lock(&self) -> io::Result<bool> {
        let mut inside = self.step(Does::Reads, "lock")?;
        let taken = inside.locks.insert(self.inode);
        if taken {
            *self
                .is_locked
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = true;
        }
        Ok(taken)
    }

    fn is_shared(&self) -> io::Result<bool> {
        let inside = self.step(Does::Reads, "look at")?;
        Ok(inside.platter.names_of(self.inode) > 1)
    }

    fn permit_as(&self, _: &dyn FileHandle) -> io::Result<()> {
        self.step(Does::Writes, "permit").map(|_| ())
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let is_locked = *self
            .is_locked
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut inside = self.disk.inside();
        if is_locked && inside.life == self.life {
            inside.locks.remove(&self.inode);
        }
    }
}
