//! A model of what a disk holds, and of what is left of it when the power goes.
//!
//! Each file has what a reader sees now and what has reached the disk; between them lie changes that
//! no sync has confirmed. Each folder has the names that a reader sees and those that have reached
//! the disk with a sync of the folder. A crash keeps what reached the disk and, of the rest, what
//! a [`Loss`] says. So a file may be there without its name, a name without its file's content.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Bytes that reach the disk together or not at all; small, so that short files can tear.
const SECTOR: usize = 32;

/// What becomes of written bytes that were not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data {
    /// None of them came through.
    Lost,
    /// The first half of them came through.
    Torn,
    /// The file has its new length, with zeros for them.
    Zeroed,
    /// Every other sector came through, with zeros for the rest.
    Scattered,
    /// All of them came through.
    Kept,
}

/// What becomes of names made, changed and removed in folders that were not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// The old ones are back.
    Lost,
    /// The new ones came through.
    Kept,
}

/// What a power cut does to what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// To bytes.
    pub data: Data,
    /// To names.
    pub names: Names,
}

impl Data {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Lost,
        Self::Torn,
        Self::Zeroed,
        Self::Scattered,
        Self::Kept,
    ];
}

impl Loss {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        let names = [Names::Lost, Names::Kept];
        names
            .into_iter()
            .flat_map(|names| Data::ALL.into_iter().map(move |data| Self { data, names }))
    }
}

/// A file's number.
pub(super) type Inode = usize;

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// A file.
    File(Inode),
    /// A folder.
    Folder,
}

/// A change of a file that no sync has confirmed.
#[derive(Debug, Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

/// What a file holds.
#[derive(Debug, Clone, Default)]
struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

/// Folders and files.
#[derive(Debug, Clone, Default)]
pub(super) struct Platter {
    names: BTreeMap<PathBuf, Entry>,
    durable: BTreeMap<PathBuf, Entry>,
    files: Vec<Content>,
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Write(at, bytes) => {
                let end = at + bytes.len();
                if to.len() < end {
                    to.resize(end, 0);
                }
                to[*at..end].copy_from_slice(bytes);
            }
            Self::Length(len) => to.resize(*len, 0),
        }
    }
}

impl Content {
    /// What is left after a power cut.
    fn after(&self, loss: Data) -> Vec<u8> {
        let mut left = self.durable.clone();
        let changes = &self.pending;
        match loss {
            Data::Lost => {}
            Data::Kept => changes.iter().for_each(|change| change.apply(&mut left)),
            Data::Torn => {
                let written = |change: &Change| match change {
                    Change::Write(_, bytes) => bytes.len(),
                    Change::Length(_) => 1,
                };
                let mut half = changes.iter().map(written).sum::<usize>() / 2;
                for change in changes {
                    match change {
                        Change::Write(at, bytes) if bytes.len() > half => {
                            Change::Write(*at, bytes[..half].to_vec()).apply(&mut left);
                            break;
                        }
                        whole => whole.apply(&mut left),
                    }
                    half = half.saturating_sub(written(change));
                }
            }
            Data::Zeroed | Data::Scattered => {
                for change in changes {
                    let Change::Write(at, bytes) = change else {
                        change.apply(&mut left);
                        continue;
                    };
                    let mut bytes = bytes.clone();
                    for (sector, bytes) in bytes.chunks_mut(SECTOR).enumerate() {
                        if loss == Data::Scattered && sector % 2 == 1 {
                            continue;
                        }
                        // Where something was, that is still there; where nothing was, zeros are.
                        let at = at + sector * SECTOR;
                        for (byte, at) in bytes.iter_mut().zip(at..) {
                            *byte = self.durable.get(at).copied().unwrap_or(0);
                        }
                    }
                    Change::Write(*at, bytes).apply(&mut left);
                }
            }
        }
        left
    }
}

impl Platter {
    /// A disk with one empty folder.
    pub(super) fn new(root: &Path) -> Self {
        let mut platter = Self::default();
        for folder in root.ancestors() {
            platter.names.insert(folder.to_owned(), Entry::Folder);
        }
        platter.durable = platter.names.clone();
        platter
    }

    /// What stands at a path.
    pub(super) fn entry(&self, path: &Path) -> Option<Entry> {
        self.names.get(path).copied()
    }

    /// The file at a path.
    pub(super) fn file(&self, path: &Path) -> io::Result<Inode> {
        match self.entry(path) {
            Some(Entry::File(inode)) => Ok(inode),
            Some(Entry::Folder) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Makes an empty file.
    pub(super) fn create(&mut self, path: &Path) -> io::Result<Inode> {
        if self.entry(path).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.has_parent(path)?;
        self.files.push(Content::default());
        let inode = self.files.len() - 1;
        self.names.insert(path.to_owned(), Entry::File(inode));
        Ok(inode)
    }

    fn has_parent(&self, path: &Path) -> io::Result<()> {
        match path.parent().and_then(|parent| self.entry(parent)) {
            Some(Entry::Folder) => Ok(()),
            Some(Entry::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Makes a folder and those above it.
    pub(super) fn create_folder(&mut self, path: &Path) -> io::Result<()> {
        for folder in path.ancestors() {
            match self.entry(folder) {
                Some(Entry::Folder) => break,
                Some(Entry::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                None => {
                    self.names.insert(folder.to_owned(), Entry::Folder);
                }
            }
        }
        Ok(())
    }

    /// Gives a file another name.
    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let inode = self.file(from)?;
        self.has_parent(to)?;
        match self.entry(to) {
            Some(Entry::Folder) => return Err(io::ErrorKind::IsADirectory.into()),
            // Two names of one file: both stay (`rename(2)`).
            Some(Entry::File(there)) if there == inode => return Ok(()),
            _ => {}
        }
        self.names.remove(from);
        self.names.insert(to.to_owned(), Entry::File(inode));
        Ok(())
    }

    /// Gives a file a second name.
    pub(super) fn link(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let inode = self.file(from)?;
        if self.entry(to).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.has_parent(to)?;
        self.names.insert(to.to_owned(), Entry::File(inode));
        Ok(())
    }

    /// Removes a file.
    pub(super) fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        self.file(path)?;
        self.names.remove(path);
        Ok(())
    }

    /// Removes a folder and all in it.
    pub(super) fn remove_folder(&mut self, path: &Path) -> io::Result<()> {
        if self.entry(path).is_none() {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.names.retain(|name, _| !name.starts_with(path));
        Ok(())
    }

    /// Names in a folder.
    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        match self.entry(path) {
            Some(Entry::Folder) => {}
            Some(Entry::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
            None => return Err(io::ErrorKind::NotFound.into()),
        }
        let inside = self.names.keys().filter(|name| name.parent() == Some(path));
        Ok(inside
            .filter_map(|name| Some(name.file_name()?.to_string_lossy().into_owned()))
            .collect())
    }

    /// The names of a folder reach the disk.
    pub(super) fn sync_folder(&mut self, path: &Path) -> io::Result<()> {
        if self.entry(path) != Some(Entry::Folder) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inside = |name: &Path| name.parent() == Some(path);
        self.durable.retain(|name, _| !inside(name));
        let now = self.names.iter().filter(|(name, _)| inside(name));
        let now: Vec<_> = now.map(|(name, entry)| (name.clone(), *entry)).collect();
        self.durable.extend(now);
        Ok(())
    }

    /// Writes at the end of a file.
    pub(super) fn append(&mut self, inode: Inode, bytes: &[u8]) {
        self.write(inode, self.files[inode].now.len(), bytes);
    }

    /// Writes at a place in a file.
    pub(super) fn write(&mut self, inode: Inode, at: usize, bytes: &[u8]) {
        let content = &mut self.files[inode];
        let change = Change::Write(at, bytes.to_vec());
        change.apply(&mut content.now);
        content.pending.push(change);
    }

    /// Cuts or fills a file.
    pub(super) fn set_len(&mut self, inode: Inode, len: usize) {
        let content = &mut self.files[inode];
        content.now.resize(len, 0);
        content.pending.push(Change::Length(len));
    }

    /// What a file holds now.
    pub(super) fn read(&self, inode: Inode) -> &[u8] {
        &self.files[inode].now
    }

    /// A file's content reaches the disk.
    pub(super) fn sync_data(&mut self, inode: Inode) {
        let content = &mut self.files[inode];
        for change in std::mem::take(&mut content.pending) {
            change.apply(&mut content.durable);
        }
    }

    /// A sync fails as Linux lets it: what could not be written is forgotten, readers go on
    /// seeing it, and the next sync succeeds without it.
    pub(super) fn fail_sync(&mut self, inode: Inode) {
        let content = &mut self.files[inode];
        content.pending.clear();
    }

    /// How many names a file has.
    pub(super) fn names_of(&self, inode: Inode) -> usize {
        let entries = self.names.values();
        entries.filter(|e| **e == Entry::File(inode)).count()
    }

    /// Bytes of all files.
    pub(super) fn used(&self) -> u64 {
        self.files.iter().map(|file| file.now.len() as u64).sum()
    }

    /// The power goes; what is left is what the next process finds.
    pub(super) fn crash(&mut self, loss: Loss) {
        if loss.names == Names::Lost {
            let whole = self.durable.clone();
            // A name in a folder that is not there is no name.
            self.names = whole
                .iter()
                .filter(|(name, _)| {
                    name.ancestors()
                        .skip(1)
                        .all(|above| whole.get(above) == Some(&Entry::Folder))
                })
                .map(|(name, entry)| (name.clone(), *entry))
                .collect();
        }
        self.durable = self.names.clone();
        for file in &mut self.files {
            file.now = file.after(loss.data);
            file.durable = file.now.clone();
            file.pending.clear();
        }
    }

    /// Every file with what it holds now.
    pub(super) fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let files = self.names.iter().filter_map(|(name, entry)| match entry {
            Entry::File(inode) => Some((name.clone(), self.files[*inode].now.clone())),
            Entry::Folder => None,
        });
        files.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loss(data: Data, names: Names) -> Loss {
        Loss { data, names }
    }

    /// A file of two synced bytes and 70 that are not, after a power cut.
    fn left(data: Data) -> Vec<u8> {
        let mut platter = Platter::new(Path::new("/"));
        let inode = platter.create(Path::new("/x")).unwrap();
        platter.append(inode, b"ab");
        platter.sync_data(inode);
        platter.append(inode, &[b'c'; 70]);
        platter.crash(loss(data, Names::Kept));
        platter.read(inode).to_vec()
    }

    #[test]
    fn bytes_are_lost_torn_zeroed_or_kept() {
        assert_eq!(left(Data::Lost), b"ab");
        assert_eq!(left(Data::Torn), [&b"ab"[..], &[b'c'; 35]].concat());
        assert_eq!(left(Data::Zeroed), [&b"ab"[..], &[0; 70]].concat());
        let scattered = [&b"ab"[..], &[0; 32], &[b'c'; 32], &[0; 6]].concat();
        assert_eq!(left(Data::Scattered), scattered);
        assert_eq!(left(Data::Kept), [&b"ab"[..], &[b'c'; 70]].concat());
    }

    #[test]
    fn names_are_lost_until_their_folder_is_synced() {
        let path = Path::new("/a/x");
        let mut platter = Platter::new(Path::new("/"));
        platter.create_folder(Path::new("/a")).unwrap();
        platter.create(path).unwrap();
        platter.sync_folder(Path::new("/a")).unwrap();
        let mut other = platter.clone();
        other.crash(loss(Data::Kept, Names::Lost));
        assert_eq!(other.entry(path), None, "its folder has no name itself");
        platter.sync_folder(Path::new("/")).unwrap();
        platter.rename(path, Path::new("/a/y")).unwrap();
        let mut other = platter.clone();
        other.crash(loss(Data::Lost, Names::Lost));
        assert!(other.entry(path).is_some() && other.entry(Path::new("/a/y")).is_none());
        platter.crash(loss(Data::Lost, Names::Kept));
        assert!(platter.entry(path).is_none() && platter.entry(Path::new("/a/y")).is_some());
    }

    #[test]
    fn a_sync_that_failed_is_not_made_good_by_the_next() {
        let mut platter = Platter::new(Path::new("/"));
        let inode = platter.create(Path::new("/x")).unwrap();
        platter.append(inode, b"lost");
        platter.fail_sync(inode);
        platter.append(inode, b"kept");
        platter.sync_data(inode);
        assert_eq!(platter.read(inode), b"lostkept");
        platter.crash(loss(Data::Kept, Names::Kept));
        assert_eq!(platter.read(inode), b"\0\0\0\0kept");
    }
}
