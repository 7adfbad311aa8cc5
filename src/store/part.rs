//! A staged file: whole pages back to back, appended by one writer.

use std::path::Path;

use super::StoreError;
use super::index::{Index, PageRow};
use crate::crc;
use crate::disk::{Disk, DiskError, DiskFile, Open, above};

/// A part that has grown so large has room for as much again set aside each time: writing into that takes
/// a third less CPU than into what ext4 has to find for each block.
const AHEAD: u64 = 8 * 1024 * 1024;
/// Bytes that a check reads at once.
const CHECKED: usize = 1024 * 1024;

/// A stream's staged records.
#[derive(Debug)]
pub struct Part {
    file: DiskFile,
    stream: String,
    end: u64,
    /// Up to where this process has set room aside; 0 where it has not.
    reserved: u64,
    /// Whether it can.
    reserves: bool,
    /// Pages that begin before here were committed by an earlier process, and are not checked yet.
    unchecked: u64,
}

impl Part {
    /// Makes an empty part, not yet synced.
    pub fn create(disk: &Disk, path: &Path, stream: &str) -> Result<Self, DiskError> {
        Ok(Self {
            file: disk.create_private(path)?,
            stream: stream.to_owned(),
            end: 0,
            reserved: 0,
            reserves: true,
            unchecked: 0,
        })
    }

    /// Opens what an earlier process left and cuts it to the end of the last page of `index`,
    /// unless the stream is published.
    pub fn open(
        disk: &Disk,
        path: &Path,
        stream: &str,
        index: &Index,
        is_published: bool,
    ) -> Result<Self, StoreError> {
        let file = disk.open(path, Open::Existing)?;
        let len = file.len()?;
        let end = index.end();
        if is_published {
            // The output may be the same file under a second name: it is not ours any more.
            return Ok(Self {
                file,
                stream: stream.to_owned(),
                end,
                reserved: 0,
                reserves: false,
                unchecked: end,
            });
        }
        if let Some(last) = index.rows().iter().find(|row| row.end() > len) {
            return Err(StoreError::Short {
                path: path.to_owned(),
                len,
                stream: stream.to_owned(),
                partition: last.partition,
                page: last.page,
                end: last.end(),
            });
        }
        let file = if file.is_shared()? {
            own(disk, path, &file, end)?
        } else if len > end {
            file.set_len(end)?;
            file.sync_data()?;
            file
        } else if len >= AHEAD {
            // Room that a process which was killed had set aside.
            file.set_len(end)?;
            file
        } else {
            file
        };
        Ok(Self {
            file,
            stream: stream.to_owned(),
            end,
            reserved: 0,
            reserves: true,
            unchecked: end,
        })
    }

    /// Appends whole pages, one after the other, and says where the first begins.
    pub fn append(&mut self, pages: &[&[u8]]) -> Result<u64, DiskError> {
        let start = self.end;
        let bytes = pages.iter().map(|page| page.len() as u64).sum::<u64>();
        if self.reserves && start + bytes > self.reserved.max(AHEAD) {
            // Where there is no room the write itself will say so.
            self.reserves = self.file.reserve(bytes + AHEAD).is_ok();
            if self.reserves {
                self.reserved = start + bytes + AHEAD;
            }
        }
        self.file.append_all(pages)?;
        self.end += bytes;
        Ok(start)
    }

    /// Nothing will be appended: gives back the room that was set aside.
    pub fn grown(&mut self) {
        if self.reserved > self.end {
            // What cannot be given back now goes with the file.
            let _ = self.file.set_len(self.end);
            self.reserved = 0;
        }
    }

    /// Brings what was appended to the disk.
    pub fn sync(&self) -> Result<(), DiskError> {
        self.file.sync_data()
    }

    /// Reads `[start, start + into.len())`.
    pub fn read(&self, start: u64, into: &mut [u8]) -> Result<(), DiskError> {
        self.file.read_exact_at(into, start)
    }

    /// Compares pages that an earlier process committed with their checksums. Reads each byte of
    /// them, so a run that goes on may do it beside its first requests; it must be done before
    /// anything is published. A second call reads nothing.
    pub fn check(&mut self, index: &Index) -> Result<(), StoreError> {
        self.look(index)?;
        self.unchecked = 0;
        Ok(())
    }

    fn look(&self, index: &Index) -> Result<(), StoreError> {
        let mut buffer = vec![0; CHECKED];
        for row in index.rows().iter().filter(|row| row.start < self.unchecked) {
            if self.crc(row, &mut buffer)? != row.crc {
                return Err(StoreError::Damaged {
                    path: self.path().to_owned(),
                    stream: self.stream.clone(),
                    partition: row.partition,
                    page: row.page,
                    start: row.start,
                });
            }
        }
        Ok(())
    }

    fn crc(&self, row: &PageRow, buffer: &mut [u8]) -> Result<u32, DiskError> {
        let (mut at, mut crc) = (row.start, 0);
        while at < row.end() {
            let most = usize::try_from(row.end() - at).map_or(CHECKED, |left| left.min(CHECKED));
            self.read(at, &mut buffer[..most])?;
            crc = crc::append(crc, &buffer[..most]);
            at += most as u64;
        }
        Ok(crc)
    }

    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.end
    }

    /// Whether nothing was appended.
    pub fn is_empty(&self) -> bool {
        self.end == 0
    }

    /// The file, for copying ranges of it.
    pub fn file(&self) -> &DiskFile {
        &self.file
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.file.path()
    }
}

/// An output may be the part under a second name: to cut or to extend one would do the same to the
/// other. So the part becomes a file of its own, with the bytes that count.
fn own(disk: &Disk, path: &Path, file: &DiskFile, end: u64) -> Result<DiskFile, DiskError> {
    let draft = path.with_extension("draft");
    disk.remove_file(&draft)?;
    let copy = disk.create_private(&draft)?;
    copy.copy_from(file, 0, end)?;
    copy.sync_data()?;
    disk.rename(&draft, path)?;
    disk.sync_folder(above(path))?;
    disk.open(path, Open::Existing)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn room_that_was_set_aside_and_is_not_used_is_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.part");
        let occupied = || std::fs::metadata(&path).unwrap().blocks() * 512;
        let disk = Disk::system();
        let mut part = Part::create(&disk, &path, "items").unwrap();
        let page = vec![b'x'; 1024 * 1024];
        for _ in 0..10 {
            part.append(&[&page]).unwrap();
        }
        assert_eq!(part.file.len().unwrap(), 10 * page.len() as u64);
        part.sync().unwrap();
        if !part.reserves {
            // This file system sets nothing aside.
            return;
        }
        assert!(occupied() > part.end + AHEAD / 2, "{}", occupied());
        // A process that is killed leaves it to the next, which knows of no page.
        let index = Index::default();
        drop(Part::open(&disk, &path, "items", &index, true).unwrap());
        assert!(occupied() > part.end + AHEAD / 2, "it may be the output");
        part.grown();
        let slack = 64 * 1024;
        assert!(occupied() <= part.end + slack, "{}", occupied());
        let whole = std::fs::read(&path).unwrap();
        assert!(whole.len() == 10 * page.len() && whole.iter().all(|byte| *byte == b'x'));
        drop(part);
        // The same where all of its pages count.
        let file = disk.open(&path, Open::Existing).unwrap();
        file.reserve(AHEAD).unwrap();
        let row = PageRow {
            partition: 0,
            page: 0,
            start: 0,
            len: 10 * 1024 * 1024,
            records: 1,
            crc: 0,
            row_len: 0,
            row_at: 0,
        };
        let mut index = Index::default();
        index.push(row);
        assert!(occupied() > 10 * page.len() as u64 + AHEAD / 2);
        let part = Part::open(&disk, &path, "items", &index, false).unwrap();
        assert!(occupied() <= part.end + slack, "{}", occupied());
    }
}
