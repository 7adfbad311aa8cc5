//! What must hold before publish: checked.

use std::time::Duration;

use super::path::Path;
use super::position::Format;

/// What must hold before publish.
#[derive(Debug, Default)]
pub struct ExpectPlan {
    /// Where a page says how many records the partition has.
    pub total: Option<Path>,
    /// Fewest records of the stream.
    pub min_records: Option<u64>,
    /// Reaching this many pages in one partition is an error.
    pub max_pages: Option<u64>,
    /// How far the number of records may fall below the usual: per cent.
    pub max_drop: Option<f64>,
    /// Output columns whose values, taken together, no two records share.
    pub unique: Vec<String>,
    /// How old the newest record may be.
    pub fresh: Option<FreshPlan>,
    /// Output columns, and how many per cent of the records may have no value there.
    pub nulls: Vec<(String, f64)>,
    /// How columns may differ from those of earlier runs.
    pub schema: Option<SchemaRule>,
    /// Records have no field that no column reads.
    pub closed: bool,
}

/// How old the newest record may be.
#[derive(Debug)]
pub struct FreshPlan {
    /// Its place in a record.
    pub field: Path,
    /// The place as written.
    pub written: String,
    /// How it is spelled.
    pub format: Format,
    /// How long before the start of the run.
    pub within: Duration,
}

/// How columns may differ from those of earlier runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaRule {
    /// Not at all.
    Same,
    /// New ones may come.
    Grow,
}

impl ExpectPlan {
    /// Whether anything is judged once all records are here.
    pub fn judges_records(&self) -> bool {
        self.reads_records() || self.min_records.is_some() || self.max_drop.is_some()
    }

    /// Whether the records have to be looked at one by one.
    pub fn reads_records(&self) -> bool {
        !self.unique.is_empty()
            || self.fresh.is_some()
            || !self.nulls.is_empty()
            || self.schema.is_some()
            || self.closed
    }
}
