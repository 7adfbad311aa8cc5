//! What a run came to.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::event::{FailureClass, Name};
use crate::failure::{Exit, Failure};

/// What a run came to.
#[derive(Debug)]
pub struct Summary {
    /// The pipeline.
    pub pipeline: String,
    /// One entry a stream, in the order of the file.
    pub streams: Vec<StreamSummary>,
    /// Requests sent, retries and redirects included.
    pub requests: u64,
    /// Failed attempts by class.
    pub retries: BTreeMap<FailureClass, u64>,
    /// Time all requests together waited, by limit or pause.
    pub waited: BTreeMap<Name, Duration>,
    /// From open to end.
    pub took: Duration,
    /// The exit code.
    pub exit: Exit,
}

/// What one stream came to.
#[derive(Debug)]
pub struct StreamSummary {
    /// Its name.
    pub stream: Name,
    /// Records committed.
    pub records: u64,
    /// Pages committed.
    pub pages: u64,
    /// Partitions walked to their end.
    pub partitions: u64,
    /// Body bytes, decompressed.
    pub bytes: u64,
    /// Records dropped because a later one had the same key.
    pub repeats: u64,
    /// Files published.
    pub files: Vec<FileSummary>,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
}

/// One published file.
#[derive(Debug, Clone, Serialize)]
pub struct FileSummary {
    /// Where it is.
    pub path: PathBuf,
    /// Rows in it.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
}
