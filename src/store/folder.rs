//! A run's own folder under `.gleaner/runs/`, gone when the run is.

use std::path::{Path, PathBuf};

use crate::disk::{self, DiskError};

/// `.gleaner/runs/<id>/`; removed when dropped, parts and all.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// Makes the folder of run `id` below the project root.
    pub fn create(root: &Path, id: &str) -> Result<Self, DiskError> {
        let path = root.join(".gleaner").join("runs").join(id);
        disk::create_private_folder(&path)?;
        Ok(Self { path })
    }

    /// Where the part of the stream with this ordinal goes.
    pub fn part(&self, stream: usize) -> PathBuf {
        self.path.join(format!("{stream}.part"))
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        // Nothing depends on it: what stays behind is a few private files.
        let _ = disk::remove_folder(&self.path);
    }
}
