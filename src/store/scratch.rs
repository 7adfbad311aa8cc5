//! Texts put away while a run lasts, to be read back by place: what would be too much for memory
//! and is made anew by every process. Nothing of it is synced.

use std::path::Path;

use crate::disk::{Disk, DiskError, DiskFile};

/// Where a text lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spot {
    at: u64,
    len: u32,
}

impl Spot {
    /// Bytes of [`Spot::to_bytes`].
    pub const LEN: usize = 12;

    /// For keeping it elsewhere.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let (at, len) = bytes.split_at_mut(8);
        at.copy_from_slice(&self.at.to_le_bytes());
        len.copy_from_slice(&self.len.to_le_bytes());
        bytes
    }

    /// What was kept elsewhere.
    pub fn of_bytes(bytes: [u8; Self::LEN]) -> Self {
        let (at, len) = bytes.split_at(8);
        Self {
            at: u64::from_le_bytes(at.try_into().unwrap_or_default()),
            len: u32::from_le_bytes(len.try_into().unwrap_or_default()),
        }
    }
}

/// A private file of texts. It lies in a run's folder, which is removed as a whole in the end.
#[derive(Debug)]
pub struct Scratch {
    file: DiskFile,
    end: u64,
}

impl Scratch {
    /// An empty one; what an earlier process left there is removed.
    pub fn create(disk: &Disk, path: &Path) -> Result<Self, DiskError> {
        disk.remove_file(path)?;
        Ok(Self {
            file: disk.create_private(path)?,
            end: 0,
        })
    }

    /// Puts a text away.
    pub fn put(&mut self, text: &str) -> Result<Spot, DiskError> {
        let spot = Spot {
            at: self.end,
            // What a template sees is a piece of a body, and these are capped far below 4 GiB.
            len: u32::try_from(text.len()).unwrap_or(u32::MAX),
        };
        self.file.append(text.as_bytes())?;
        self.end += text.len() as u64;
        Ok(spot)
    }

    /// The file, for reading beside those who write.
    pub fn file(&self) -> &DiskFile {
        &self.file
    }
}

/// Reads a text back.
pub fn get(file: &DiskFile, spot: Spot) -> Result<String, DiskError> {
    let mut bytes = vec![0; spot.len as usize];
    file.read_exact_at(&mut bytes, spot.at)?;
    String::from_utf8(bytes).map_err(|e| {
        let source = std::io::Error::other(e.utf8_error());
        DiskError::new("read", file.path(), source)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::SimDisk;

    #[test]
    fn texts_come_back_by_place_and_nothing_of_before_stays() {
        let disk = SimDisk::new(Path::new("/"));
        let mut old = Scratch::create(&disk.door(), Path::new("/x")).unwrap();
        old.put("of another process").unwrap();
        let mut scratch = Scratch::create(&disk.door(), Path::new("/x")).unwrap();
        let texts = ["a", "", "ä\n", "b"];
        let spots: Vec<Spot> = texts.iter().map(|t| scratch.put(t).unwrap()).collect();
        for (text, spot) in texts.iter().zip(spots) {
            let spot = Spot::of_bytes(spot.to_bytes());
            assert_eq!(get(scratch.file(), spot).unwrap(), *text);
        }
    }
}
