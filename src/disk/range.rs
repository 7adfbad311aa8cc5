//! A range of a file, read in turn.

use std::io::{self, Read};

use super::DiskFile;

/// A range of a file, read in turn.
#[derive(Debug)]
pub struct Range<'a> {
    file: &'a DiskFile,
    at: u64,
    end: u64,
}

impl DiskFile {
    /// Bytes `start..end`, to be read in turn.
    pub fn range(&self, start: u64, end: u64) -> Range<'_> {
        Range {
            file: self,
            at: start,
            end,
        }
    }
}

impl Read for Range<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let most = left.min(into.len());
        let got = self.file.file.read_at(&mut into[..most], self.at)?;
        self.at += got as u64;
        Ok(got)
    }
}
