//! The seam to the file system: every file a run keeps or publishes goes through a [`Disk`].
//!
//! One place that names action and path in every error, keeps what is private private (folders
//! 0700, files 0600), and lets tests fail any call or cut the power between two. A handle is
//! cheap to clone; files take whole pages a call, so the seam costs one virtual call for each.
//!
//! Two kinds implement [`FileSystem`]: [`system::System`], the machine's own, and the pretend
//! disk of [`crate::sim`]. SQLite does its own I/O: it is told where it may
//! ([`Disk::database`]) and says when it writes ([`Disk::foreign`]).

mod range;
pub mod system;

pub use self::range::Range;

use std::fmt::Debug;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file operation that failed, with the file it failed on.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct DiskError {
    /// What was tried: `create`, `write`, …
    pub action: &'static str,
    /// On which file or folder.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

impl DiskError {
    /// Wraps what the system said.
    pub fn new(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self {
            action,
            path: path.to_owned(),
            source,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        hint(self.source.kind())
    }

    /// Whether the file or folder is not there.
    pub fn is_missing(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

/// What to do about a file that cannot be made, read or written.
pub fn hint(kind: io::ErrorKind) -> &'static str {
    use io::ErrorKind as Kind;
    match kind {
        Kind::PermissionDenied | Kind::ReadOnlyFilesystem => {
            "the folder is not writable: change its permissions or the sink's path"
        }
        Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => {
            "the disk is full: free some space and run again"
        }
        Kind::NotADirectory | Kind::IsADirectory | Kind::AlreadyExists => {
            "a file stands where a folder is needed, or the reverse: change the sink's path"
        }
        Kind::NotFound => "no file can be made there: change the sink's path",
        _ => "look at the disk and run again",
    }
}

/// Who may read a new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The user alone: 0600, folders 0700.
    Private,
    /// As the umask says, as for any output.
    Umask,
}

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// A new file, for reading and writing; one that is there is an error.
    New(Access),
    /// One that is there, for reading and for writing at its end.
    Existing,
    /// One that is there, for reading.
    Read,
    /// A private file for reading and writing, made if it is missing.
    Lasting,
}

/// What stands at a path; links are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A file of so many bytes.
    File(u64),
    /// A folder.
    Folder,
}

/// A file system, below [`Disk`], which adds names to its errors.
pub trait FileSystem: Debug + Send + Sync {
    /// Opens a file.
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn FileHandle>>;
    /// Makes a folder and those above it; one that is there is fine.
    fn create_folder(&self, path: &Path, access: Access) -> io::Result<()>;
    /// Brings names made, changed and removed in a folder to the disk.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// Gives a file another name in one step; takes the place of what is there.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file a second name.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder and all in it.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;
    /// Names in a folder, in no order.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// What stands at a path.
    fn look(&self, path: &Path) -> io::Result<Found>;
    /// The path without links and dots; it must exist.
    fn resolve(&self, path: &Path) -> io::Result<PathBuf>;
    /// Bytes that a user without privileges may still write.
    fn free_space(&self, path: &Path) -> io::Result<u64>;
    /// The kind of a network file system that `path` is on, if it is one.
    fn network(&self, path: &Path) -> io::Result<Option<&'static str>>;
    /// Where a database that belongs to `path` does its own I/O.
    fn database(&self, path: &Path) -> io::Result<PathBuf>;
    /// Something that does its own I/O is about to do `action`: the pretend disk counts it among
    /// its operations.
    fn foreign(&self, action: &'static str, path: &Path) -> io::Result<()>;
}

/// An open file. Writes go to its end.
pub trait FileHandle: Debug + Send + Sync {
    /// Writes all of `bytes` at the end.
    fn append(&self, bytes: &[u8]) -> io::Result<()>;
    /// Writes all of them at the end, one after the other; with as few calls as the system allows.
    fn append_all(&self, pieces: &[&[u8]]) -> io::Result<()> {
        pieces.iter().try_for_each(|piece| self.append(piece))
    }
    /// Sets room for so many bytes aside behind its end; its length stays. Where the system cannot, it
    /// does nothing.
    fn reserve(&self, _bytes: u64) -> io::Result<()> {
        Ok(())
    }
    /// Reads at a place, perhaps less than wanted; 0 at the end.
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize>;
    /// Its length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether it is empty.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Cuts or fills it to a length.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Writes again over bytes that are there.
    fn rewrite_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    /// Brings its content and length to the disk.
    fn sync_data(&self) -> io::Result<()>;
    /// Takes the kernel's lock of the file until the handle is dropped; `false` if another holds it.
    fn try_lock(&self) -> io::Result<bool>;
    /// Takes it when whoever holds it lets go.
    fn lock(&self) -> io::Result<()> {
        while !self.try_lock()? {
            std::thread::yield_now();
        }
        Ok(())
    }
    /// Whether it has more than one name.
    fn is_shared(&self) -> io::Result<bool>;
    /// Gives it the permissions of another file.
    fn permit_as(&self, other: &dyn FileHandle) -> io::Result<()>;
    /// Appends bytes `start..end` of another file; between files of the system the kernel does it.
    fn copy_from(&self, from: &dyn FileHandle, start: u64, end: u64) -> io::Result<()> {
        let mut buffer = vec![0; 256 * 1024];
        let mut at = start;
        while at < end {
            let most =
                usize::try_from(end - at).map_or(buffer.len(), |left| left.min(buffer.len()));
            let got = from.read_at(&mut buffer[..most], at)?;
            if got == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.append(&buffer[..got])?;
            at += got as u64;
        }
        Ok(())
    }
    /// The system's file, if it is one.
    fn system(&self) -> Option<&File> {
        None
    }
}

/// A file system behind one door.
#[derive(Debug, Clone)]
pub struct Disk(Arc<dyn FileSystem>);

/// An open file that knows its name.
#[derive(Debug, Clone)]
pub struct DiskFile {
    file: Arc<dyn FileHandle>,
    path: Arc<Path>,
}

impl Disk {
    /// The machine's own.
    pub fn system() -> Self {
        Self::new(system::System)
    }

    /// Any other.
    pub fn new(system: impl FileSystem + 'static) -> Self {
        Self(Arc::new(system))
    }

    /// Opens a file.
    pub fn open(&self, path: &Path, how: Open) -> Result<DiskFile, DiskError> {
        let action = match how {
            Open::New(_) => "create",
            _ => "open",
        };
        let file = self.0.open(path, how);
        Ok(DiskFile {
            file: file.map_err(|e| DiskError::new(action, path, e))?,
            path: path.into(),
        })
    }

    /// Makes a new private file (0600); one that is there is an error.
    pub fn create_private(&self, path: &Path) -> Result<DiskFile, DiskError> {
        self.open(path, Open::New(Access::Private))
    }

    /// Makes a folder and those above it; one that is there is fine. Those that were made are on
    /// the disk when this returns.
    pub fn create_folder(&self, path: &Path, access: Access) -> Result<(), DiskError> {
        let failed = |e| DiskError::new("create", path, e);
        let mut missing = Vec::new();
        for folder in path.ancestors().filter(|f| !f.as_os_str().is_empty()) {
            match self.0.look(folder) {
                Ok(Found::Nothing) => missing.push(folder),
                // Below a file there is nothing to look at: making a folder says so.
                _ => break,
            }
        }
        self.0.create_folder(path, access).map_err(failed)?;
        for folder in missing.into_iter().rev() {
            self.0.sync_folder(above(folder)).map_err(failed)?;
        }
        Ok(())
    }

    /// Brings names made, changed and removed in a folder to the disk.
    pub fn sync_folder(&self, path: &Path) -> Result<(), DiskError> {
        let synced = self.0.sync_folder(path);
        synced.map_err(|e| DiskError::new("sync", path, e))
    }

    /// Gives a file another name in one step; takes the place of what is there.
    pub fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        let renamed = self.0.rename(from, to);
        renamed.map_err(|e| DiskError::new("rename a file to", to, e))
    }

    /// Gives a file a second name.
    pub fn link(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        let linked = self.0.link(from, to);
        linked.map_err(|e| DiskError::new("link a file to", to, e))
    }

    /// Removes a file; one that is gone already is fine.
    pub fn remove_file(&self, path: &Path) -> Result<(), DiskError> {
        gone(self.0.remove_file(path)).map_err(|e| DiskError::new("remove", path, e))
    }

    /// Removes a folder and all in it; one that is gone already is fine.
    pub fn remove_folder(&self, path: &Path) -> Result<(), DiskError> {
        gone(self.0.remove_folder(path)).map_err(|e| DiskError::new("remove", path, e))
    }

    /// Names in a folder, sorted; none if there is no such folder.
    pub fn list(&self, path: &Path) -> Result<Vec<String>, DiskError> {
        match self.0.list(path) {
            Ok(mut names) => {
                names.sort_unstable();
                Ok(names)
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(e) => Err(DiskError::new("list", path, e)),
        }
    }

    /// What stands at a path; links are followed.
    pub fn look(&self, path: &Path) -> Result<Found, DiskError> {
        let found = self.0.look(path);
        found.map_err(|e| DiskError::new("look at", path, e))
    }

    /// The path without links and dots; it must exist.
    pub fn resolve(&self, path: &Path) -> Result<PathBuf, DiskError> {
        let resolved = self.0.resolve(path);
        resolved.map_err(|e| DiskError::new("find", path, e))
    }

    /// One path for a file that is there or is to be, whatever links and dots lead to it; its folder must exist.
    pub fn resolve_new(&self, path: &Path) -> Result<PathBuf, DiskError> {
        if self.look(path)? != Found::Nothing {
            return self.resolve(path);
        }
        let folder = self.resolve(above(path))?;
        Ok(folder.join(path.file_name().unwrap_or_default()))
    }

    /// Bytes that may still be written where `path` is; it must exist.
    pub fn free_space(&self, path: &Path) -> Result<u64, DiskError> {
        let free = self.0.free_space(path);
        free.map_err(|e| DiskError::new("ask for free space at", path, e))
    }

    /// The kind of a network file system that `path` is on, if it is one; it must exist.
    pub fn network(&self, path: &Path) -> Result<Option<&'static str>, DiskError> {
        let kind = self.0.network(path);
        kind.map_err(|e| DiskError::new("look at", path, e))
    }

    /// Where a database that belongs to `path` does its own I/O.
    pub fn database(&self, path: &Path) -> Result<PathBuf, DiskError> {
        let place = self.0.database(path);
        place.map_err(|e| DiskError::new("open", path, e))
    }

    /// Something that does its own I/O is about to do `action`.
    pub fn foreign(&self, action: &'static str, path: &Path) -> Result<(), DiskError> {
        let allowed = self.0.foreign(action, path);
        allowed.map_err(|e| DiskError::new(action, path, e))
    }

    /// Whether files can be made in `folder`: makes one and takes it away.
    pub fn probe_writable(&self, folder: &Path) -> Result<(), DiskError> {
        // One name for all: what a killed process left is taken over and removed by the next.
        let probe = folder.join(".gleaner-probe");
        let tried = self.0.open(&probe, Open::Lasting).map(drop);
        tried
            .and_then(|()| match self.0.remove_file(&probe) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                other => other,
            })
            .map_err(|e| DiskError::new("write to", folder, e))
    }
}

impl DiskFile {
    /// Writes all of `bytes` at the end.
    pub fn append(&self, bytes: &[u8]) -> Result<(), DiskError> {
        self.file.append(bytes).map_err(|e| self.failed("write", e))
    }

    /// Writes all of them at the end, one after the other.
    pub fn append_all(&self, pieces: &[&[u8]]) -> Result<(), DiskError> {
        self.file
            .append_all(pieces)
            .map_err(|e| self.failed("write", e))
    }

    /// Sets room for so many bytes aside behind its end, for less than finding it block by block costs.
    /// Its length stays; [`DiskFile::set_len`] gives back what is not used.
    pub fn reserve(&self, bytes: u64) -> Result<(), DiskError> {
        let reserved = self.file.reserve(bytes);
        reserved.map_err(|e| self.failed("reserve room for", e))
    }

    /// Fills `into` from the place `at`.
    pub fn read_exact_at(&self, into: &mut [u8], at: u64) -> Result<(), DiskError> {
        let mut done = 0;
        while done < into.len() {
            match self.file.read_at(&mut into[done..], at + done as u64) {
                Ok(0) => {
                    return Err(self.failed("read", io::ErrorKind::UnexpectedEof.into()));
                }
                Ok(got) => done += got,
                Err(e) => return Err(self.failed("read", e)),
            }
        }
        Ok(())
    }

    /// Its length in bytes.
    pub fn len(&self) -> Result<u64, DiskError> {
        self.file.len().map_err(|e| self.failed("look at", e))
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> Result<bool, DiskError> {
        Ok(self.len()? == 0)
    }

    /// Cuts or fills it to a length.
    pub fn set_len(&self, len: u64) -> Result<(), DiskError> {
        self.file.set_len(len).map_err(|e| self.failed("cut", e))
    }

    /// Writes the same bytes again over those at `at`, so that the next sync brings them to the
    /// disk even if an earlier one failed.
    pub fn rewrite_at(&self, bytes: &[u8], at: u64) -> Result<(), DiskError> {
        let written = self.file.rewrite_at(bytes, at);
        written.map_err(|e| self.failed("write", e))
    }

    /// Brings its content and length to the disk. A failure is final: the system may have
    /// dropped what it could not write, and would call a second try a success.
    pub fn sync_data(&self) -> Result<(), DiskError> {
        self.file.sync_data().map_err(|e| self.failed("sync", e))
    }

    /// Takes the kernel's lock of the file until all its handles are dropped; `false` if another
    /// process or handle holds it.
    pub fn try_lock(&self) -> Result<bool, DiskError> {
        self.file.try_lock().map_err(|e| self.failed("lock", e))
    }

    /// Takes the kernel's lock of the file when whoever holds it lets go, or dies: for locks that are
    /// held for a moment.
    pub fn lock(&self) -> Result<(), DiskError> {
        self.file.lock().map_err(|e| self.failed("lock", e))
    }

    /// Whether it has more than one name, so that who writes to it changes another file too.
    pub fn is_shared(&self) -> Result<bool, DiskError> {
        self.file.is_shared().map_err(|e| self.failed("look at", e))
    }

    /// Gives it the permissions of another file.
    pub fn permit_as(&self, other: &Self) -> Result<(), DiskError> {
        let permitted = self.file.permit_as(&*other.file);
        permitted.map_err(|e| self.failed("change the permissions of", e))
    }

    /// Appends bytes `start..end` of another file.
    pub fn copy_from(&self, from: &Self, start: u64, end: u64) -> Result<(), DiskError> {
        let copied = self.file.copy_from(&*from.file, start, end);
        copied.map_err(|e| self.failed("write", e))
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn failed(&self, action: &'static str, source: io::Error) -> DiskError {
        DiskError::new(action, &self.path, source)
    }
}

impl Write for DiskFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.append(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The folder that holds a file or folder.
pub fn above(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// What is gone already need not be removed.
fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
