//! A staged file: whole pages back to back, appended by one writer.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::disk::{self, DiskError};

/// A stream's staged records.
#[derive(Debug)]
pub struct Part {
    file: File,
    path: PathBuf,
    end: u64,
}

impl Part {
    /// Makes an empty part.
    pub fn create(path: &Path) -> Result<Self, DiskError> {
        Ok(Self {
            file: disk::create_private_file(path)?,
            path: path.to_owned(),
            end: 0,
        })
    }

    /// Appends one whole page and says where it begins.
    pub fn append(&mut self, page: &[u8]) -> Result<u64, DiskError> {
        let start = self.end;
        self.file
            .write_all(page)
            .map_err(|e| DiskError::new("write", &self.path, e))?;
        self.end += page.len() as u64;
        Ok(start)
    }

    /// Reads `[start, start + into.len())`.
    pub fn read(&self, start: u64, into: &mut [u8]) -> Result<(), DiskError> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, into, start)
            .map_err(|e| DiskError::new("read", &self.path, e))
    }

    /// A second handle on the file, with a place of its own, for copying ranges.
    pub fn reader(&self) -> Result<File, DiskError> {
        File::open(&self.path).map_err(|e| DiskError::new("open", &self.path, e))
    }

    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.end
    }

    /// Whether nothing was appended.
    pub fn is_empty(&self) -> bool {
        self.end == 0
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
