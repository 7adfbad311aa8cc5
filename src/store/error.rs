//! Why something kept cannot be written, or read back.

use std::path::PathBuf;

use crate::disk::DiskError;
use crate::failure::{Exit, Failure};

/// Why something kept cannot be written, or read back.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Less is free than must stay free.
    #[error("only {} MiB are free at {}, and {} MiB must stay free", free >> 20, path.display(), floor >> 20)]
    Full {
        /// Where.
        path: PathBuf,
        /// Bytes that are free.
        free: u64,
        /// Bytes that must be.
        floor: u64,
    },
    /// A ledger has good rows after a bad one.
    #[error("{} is damaged at byte {offset}: {what}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The first byte that is not understood.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// Written by a later version of the program.
    #[error("{} is of version {found}; this program knows up to {known}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The latest that is known.
        known: u32,
    },
    /// A part ends before its last committed page does.
    #[error("{} ends at byte {len}, but {stream}, partition {}, page {} was committed up to {end}", path.display(), u64::from(*partition) + 1, u64::from(*page) + 1)]
    Short {
        /// The part.
        path: PathBuf,
        /// Its length.
        len: u64,
        /// The stream.
        stream: String,
        /// Ordinal of the partition.
        partition: u32,
        /// Ordinal of the page.
        page: u32,
        /// Where the page ends.
        end: u64,
    },
    /// A committed page does not have its checksum.
    #[error("{} is damaged: the bytes of {stream}, partition {}, page {} from {start} on do not have their checksum", path.display(), u64::from(*partition) + 1, u64::from(*page) + 1)]
    Damaged {
        /// The part.
        path: PathBuf,
        /// The stream.
        stream: String,
        /// Ordinal of the partition.
        partition: u32,
        /// Ordinal of the page.
        page: u32,
        /// Where the page begins.
        start: u64,
    },
    /// The run ended before its first row was on the disk: nothing was committed.
    #[error("{} has no beginning", path.display())]
    Unbegun {
        /// The ledger.
        path: PathBuf,
    },
}

impl StoreError {
    /// The exit code that it calls for.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Disk(_) | Self::Full { .. } => Exit::Disk,
            _ => Exit::Failed,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Disk(error) => error.hint(),
            Self::Full { .. } => {
                "free some space and run again: what is committed is kept; GLEANER_KEEP_FREE (MiB) sets what must stay free"
            }
            Self::Corrupt { .. } | Self::Short { .. } | Self::Damaged { .. } => {
                "nothing was changed; look at the disk, then discard the run and start anew with `--fresh`"
            }
            Self::Newer { .. } => "use the later version, or discard the run with it",
            Self::Unbegun { .. } => "nothing is lost; run again",
        }
    }

    /// As a failure of a run.
    pub fn into_failure(self) -> Box<Failure> {
        let mut causes = Vec::new();
        if let Self::Disk(error) = &self {
            causes.push(error.source.to_string());
        }
        Box::new(Failure {
            exit: self.exit(),
            message: self.to_string(),
            causes,
            hint: Some(self.hint().to_owned()),
        })
    }
}
