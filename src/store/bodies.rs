//! Bodies that are too large for memory, while they are read: files without a name beside the part of
//! their stream. Nothing of them is synced, and the system removes them with the process.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::StoreError;
use super::space::Floor;
use crate::disk::{Disk, DiskFile};

/// Where the bodies of one stream go.
#[derive(Debug, Clone)]
pub struct Bodies {
    disk: Disk,
    part: PathBuf,
    floor: Floor,
    next: Arc<AtomicU64>,
}

impl Bodies {
    pub(super) fn new(disk: &Disk, part: &Path, floor: &Floor) -> Self {
        Self {
            disk: disk.clone(),
            part: part.to_owned(),
            floor: floor.clone(),
            next: Arc::default(),
        }
    }

    /// An empty file, which has lost its name already.
    pub fn begin(&self) -> Result<DiskFile, StoreError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.part.with_extension(format!("body-{number}"));
        // A process that was killed between the two steps below left one.
        self.disk.remove_file(&path)?;
        let file = self.disk.create_private(&path)?;
        self.disk.remove_file(&path)?;
        Ok(file)
    }

    /// Writes at the end of one, where enough stays free.
    pub fn append(&self, file: &DiskFile, bytes: &[u8]) -> Result<(), StoreError> {
        self.floor
            .allow(&self.disk, &self.part, bytes.len() as u64)?;
        Ok(file.append(bytes)?)
    }
}
