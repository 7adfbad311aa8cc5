//! Room that must stay free on the disk, so that a run ends while its end can still be written.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::StoreError;
use crate::disk::Disk;

/// Bytes written between two looks at what is free.
const LOOK: u64 = 16 << 20;

/// How much must stay free. Clones count together.
#[derive(Debug, Clone)]
pub struct Floor {
    bytes: u64,
    /// Bytes that may be written before the next look.
    left: Arc<AtomicU64>,
}

impl Floor {
    /// What stays free unless somebody says otherwise: 64 MiB.
    pub const USUAL: u64 = 64 << 20;

    /// So many bytes must stay free; 0 asks for nothing.
    pub fn new(bytes: u64) -> Self {
        Self {
            bytes,
            left: Arc::default(),
        }
    }

    /// Refuses where less is free at `path`, which must exist.
    pub fn check(&self, disk: &Disk, path: &Path) -> Result<(), StoreError> {
        if self.bytes == 0 {
            return Ok(());
        }
        let free = disk.free_space(path)?;
        if free < self.bytes {
            return Err(StoreError::Full {
                path: path.to_owned(),
                free,
                floor: self.bytes,
            });
        }
        Ok(())
    }

    /// Before so many bytes are written at `path`; looks now and then.
    pub(super) fn allow(&self, disk: &Disk, path: &Path, bytes: u64) -> Result<(), StoreError> {
        let took = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(bytes)
            });
        if took.is_err() {
            self.check(disk, path)?;
            self.left.store(LOOK, Ordering::Relaxed);
        }
        Ok(())
    }
}
