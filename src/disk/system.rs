//! The machine's own file system.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, IoSlice, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Access, FileHandle, FileSystem, Found, Open};

/// Network file systems by their number (`statfs(2)`, `linux/magic.h`): on them locks of other
/// hosts may not be seen and a rename may not be one step. `9p` is not among them: it is how
/// virtual machines and WSL show folders of their own host.
const NETWORK: [(i64, &str); 8] = [
    (0x6969, "NFS"),
    (0xff53_4d42, "SMB"),
    (0xfe53_4d42, "SMB"),
    (0x517b, "SMB"),
    (0x7375_7245, "Coda"),
    (0x5346_414f, "AFS"),
    (0x6b41_4653, "AFS"),
    (0x00c3_6400, "Ceph"),
];

/// Most pieces that one call takes (`IOV_MAX` of `limits.h`).
const MOST_PIECES: usize = 1024;

/// The machine's own file system.
#[derive(Debug, Clone, Copy)]
pub struct System;

/// A file of it.
#[derive(Debug)]
struct SystemFile {
    file: File,
    /// Where the next write goes. Kept here, since the kernel copies nothing into files that are
    /// open for appending.
    end: Mutex<u64>,
}

impl FileSystem for System {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn FileHandle>> {
        let mut options = OpenOptions::new();
        options.read(true);
        match how {
            Open::New(access) => {
                options.write(true).create_new(true);
                if access == Access::Private {
                    options.mode(0o600);
                }
            }
            Open::Existing => {
                options.write(true);
            }
            Open::Read => {}
            Open::Lasting => {
                options.write(true).create(true).truncate(false).mode(0o600);
            }
        }
        let file = options.open(path)?;
        let end = Mutex::new(file.metadata()?.len());
        Ok(Arc::new(SystemFile { file, end }))
    }

    fn create_folder(&self, path: &Path, access: Access) -> io::Result<()> {
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        if access == Access::Private {
            builder.mode(0o700);
        }
        builder.create(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        fs::read_dir(path)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    fn look(&self, path: &Path) -> io::Result<Found> {
        match fs::metadata(path) {
            Ok(data) if data.is_dir() => Ok(Found::Folder),
            Ok(data) => Ok(Found::File(data.len())),
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            // To put a file there would take the link away.
            Err(e) if path.is_symlink() => Err(io::Error::new(e.kind(), "the link leads nowhere")),
            Err(_) => Ok(Found::Nothing),
        }
    }

    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        fs::canonicalize(path)
    }

    fn free_space(&self, path: &Path) -> io::Result<u64> {
        let space = rustix::fs::statvfs(path)?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }

    #[cfg(target_os = "linux")]
    fn network(&self, path: &Path) -> io::Result<Option<&'static str>> {
        // The number is 32 bits wide whatever the type that the platform gives it.
        #[allow(clippy::useless_conversion, reason = "not on every platform")]
        let number = i64::from(rustix::fs::statfs(path)?.f_type) & 0xffff_ffff;
        let found = NETWORK.iter().find(|(magic, _)| *magic == number);
        Ok(found.map(|(_, name)| *name))
    }

    #[cfg(not(target_os = "linux"))]
    fn network(&self, _: &Path) -> io::Result<Option<&'static str>> {
        Ok(None)
    }

    fn database(&self, path: &Path) -> io::Result<PathBuf> {
        Ok(path.to_owned())
    }

    fn foreign(&self, _: &'static str, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

impl SystemFile {
    fn end(&self) -> std::sync::MutexGuard<'_, u64> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FileHandle for SystemFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let mut end = self.end();
        self.file.write_all_at(bytes, *end)?;
        *end += bytes.len() as u64;
        Ok(())
    }

    fn append_all(&self, pieces: &[&[u8]]) -> io::Result<()> {
        let mut end = self.end();
        for pieces in pieces.chunks(MOST_PIECES) {
            let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|p| IoSlice::new(p)).collect();
            let mut left = slices.as_mut_slice();
            while !left.iter().all(|slice| slice.is_empty()) {
                match rustix::io::pwritev(&self.file, left, *end) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(written) => {
                        *end += written as u64;
                        IoSlice::advance_slices(&mut left, written);
                    }
                    Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    #[cfg(target_os = "linux")]
    fn reserve(&self, bytes: u64) -> io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};

        let end = self.end();
        Ok(fallocate(
            &self.file,
            FallocateFlags::KEEP_SIZE,
            *end,
            bytes,
        )?)
    }

    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        loop {
            match self.file.read_at(into, at) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut end = self.end();
        self.file.set_len(len)?;
        *end = len;
        Ok(())
    }

    fn rewrite_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, at)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn try_lock(&self) -> io::Result<bool> {
        match self.file.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(e)) => Err(e),
        }
    }

    fn lock(&self) -> io::Result<()> {
        loop {
            match self.file.lock() {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }

    fn is_shared(&self) -> io::Result<bool> {
        Ok(self.file.metadata()?.nlink() > 1)
    }

    fn permit_as(&self, other: &dyn FileHandle) -> io::Result<()> {
        match other.system() {
            Some(other) => self.file.set_permissions(other.metadata()?.permissions()),
            None => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn copy_from(&self, from: &dyn FileHandle, start: u64, end: u64) -> io::Result<()> {
        let Some(mut source) = from.system() else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let mut place = self.end();
        let mut target = &self.file;
        source.seek(SeekFrom::Start(start))?;
        target.seek(SeekFrom::Start(*place))?;
        // `copy_file_range(2)` where it can be: the bytes never pass through this process.
        let copied = io::copy(&mut source.take(end - start), &mut target)?;
        *place += copied;
        if copied == end - start {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    fn system(&self) -> Option<&File> {
        Some(&self.file)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    use super::super::Disk;
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_is_private_is_the_users_alone() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::system();
        let deep = folder.path().join("a/b");
        disk.create_folder(&deep, Access::Private).unwrap();
        disk.create_folder(&deep, Access::Private).unwrap();
        assert_eq!(
            (mode(&deep), mode(&folder.path().join("a"))),
            (0o700, 0o700)
        );
        let file = disk.create_private(&deep.join("x")).unwrap();
        assert_eq!(mode(file.path()), 0o600);
        let other = disk
            .open(&deep.join("y"), Open::New(Access::Umask))
            .unwrap();
        let usual = mode(other.path());
        file.permit_as(&other).unwrap();
        assert_eq!(mode(file.path()), usual);
        let error = disk.create_private(&deep.join("x")).unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(
            error.to_string(),
            format!("cannot create {}", deep.join("x").display())
        );
    }

    #[test]
    fn writes_go_to_the_end_and_ranges_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::system();
        let path = folder.path().join("x");
        let mut file = disk.create_private(&path).unwrap();
        file.append(b"hello ").unwrap();
        file.write_all(b"world").unwrap();
        file.set_len(5).unwrap();
        drop(file);
        let file = disk.open(&path, Open::Existing).unwrap();
        file.append(b"!").unwrap();
        let copy = disk.create_private(&folder.path().join("y")).unwrap();
        copy.append(b"<").unwrap();
        copy.copy_from(&file, 1, 5).unwrap();
        copy.append(b">").unwrap();
        assert_eq!(fs::read(copy.path()).unwrap(), b"<ello>");
        let error = copy.copy_from(&file, 4, 99).unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::UnexpectedEof);
        let mut read = Vec::new();
        file.range(4, 6).read_to_end(&mut read).unwrap();
        assert_eq!(read, b"o!");
        let mut wanted = [0; 5];
        assert!(file.read_exact_at(&mut wanted, 3).is_err());
        assert_eq!(file.len().unwrap(), 6);
    }

    #[test]
    fn what_stands_where_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::system();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("x"), "abc").unwrap();
        std::os::unix::fs::symlink(at("x"), at("good")).unwrap();
        std::os::unix::fs::symlink(at("gone"), at("bad")).unwrap();
        assert_eq!(disk.look(&at("x")).unwrap(), Found::File(3));
        assert_eq!(disk.look(&at("good")).unwrap(), Found::File(3));
        assert_eq!(disk.look(&at("none")).unwrap(), Found::Nothing);
        assert_eq!(disk.look(folder.path()).unwrap(), Found::Folder);
        assert!(
            disk.look(&at("bad")).is_err(),
            "a link to nothing is not nothing"
        );
        assert!(disk.look(&at("x/y")).is_err());
        assert_eq!(disk.list(folder.path()).unwrap(), ["bad", "good", "x"]);
        assert!(disk.list(&at("none")).unwrap().is_empty());
        assert!(disk.free_space(folder.path()).unwrap() > 0);
        assert_eq!(disk.network(folder.path()).unwrap(), None);
        disk.remove_file(&at("none")).unwrap();
        disk.remove_folder(&at("none")).unwrap();
    }

    #[test]
    fn a_lock_is_held_by_one_and_freed_with_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::system();
        let path = folder.path().join("lock");
        let first = disk.open(&path, Open::Lasting).unwrap();
        assert!(first.try_lock().unwrap());
        let second = disk.open(&path, Open::Lasting).unwrap();
        assert!(!second.try_lock().unwrap());
        drop(first);
        assert!(second.try_lock().unwrap());
    }
}
