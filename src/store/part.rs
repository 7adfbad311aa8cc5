//! A staged file: whole pages back to back, appended by one writer.

use std::path::Path;

use super::StoreError;
use super::index::{Index, PageRow};
use crate::crc;
use crate::disk::{Disk, DiskError, DiskFile, Open, above};

/// Bytes that a check reads at once.
const CHECKED: usize = 1024 * 1024;

/// A stream's staged records.
#[derive(Debug)]
pub struct Part {
    file: DiskFile,
    stream: String,
    end: u64,
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
        } else {
            file
        };
        Ok(Self {
            file,
            stream: stream.to_owned(),
            end,
            unchecked: end,
        })
    }

    /// Appends whole pages, one after the other, and says where the first begins.
    pub fn append(&mut self, pages: &[&[u8]]) -> Result<u64, DiskError> {
        let start = self.end;
        self.file.append_all(pages)?;
        self.end += pages.iter().map(|page| page.len() as u64).sum::<u64>();
        Ok(start)
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
