//! Rows to files: [`write()`] takes records in canonical order and leaves a whole
//! file beside its target, to be put in its place, or none.
//!
//! Declared columns are projected ([`project`]), undeclared ones found by flattening
//! ([`flatten`]); a [`Sink`] writes the cells as [`csv`], [`ndjson`] or [`mod@parquet`]; [`mod@file`] puts the bytes
//! beside the target and renames. Values stay JSON as spelled until the very last step.

pub mod back;
mod columns;
pub mod csv;
pub mod database;
pub mod datapackage;
mod declared;
mod digits;
pub mod file;
pub mod flatten;
pub mod glance;
pub mod infer;
pub mod moment;
pub mod ndjson;
pub mod nested;
pub mod parquet;
pub mod project;
pub mod rejects;
mod shape;
mod table;

use std::io;
use std::path::PathBuf;

use crate::disk;

pub use self::columns::Columns;
pub use self::file::{Built, Out, Target};
pub use self::infer::Schema;
pub use self::rejects::{Misfit, Rejected};
pub use self::table::{CellRows, rewrite, write};

/// One record on its way out.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// The record as one JSON object.
    pub json: &'a str,
    /// Where no columns are declared: what stands before the record's own fields, the scalar
    /// `for` variables. NDJSON without columns leaves them out.
    pub extras: &'a [Extra],
    /// Where columns are declared: the JSON of the template columns, in their order.
    pub computed: &'a [&'a str],
    /// Which of the streams of its table it comes from.
    pub member: usize,
}

/// A value that stands beside the records of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extra {
    /// Its column.
    pub name: String,
    /// Its value as JSON.
    pub json: String,
}

/// Hands every row, in canonical order, to what it is given; is called again for a second pass
/// and must then hand over the same rows.
pub type Rows<'r, E> = dyn FnMut(&mut Each<'_, E>) -> Result<(), E> + 'r;

/// Takes one row.
pub type Each<'f, E> = dyn FnMut(Row<'_>) -> Result<(), E> + 'f;

/// What was written.
#[derive(Debug)]
pub struct Written {
    /// Records.
    pub rows: u64,
    /// Headers in order; empty for NDJSON without columns.
    pub columns: Vec<String>,
    /// The file, whole and beside its target.
    pub file: Built,
    /// Records that went to a file of their own.
    pub rejected: Option<Rejected>,
    /// Columns with values that did not fit and became null, and how many.
    pub nulled: Vec<(String, u64)>,
    /// Fields that records had and no declared column reads.
    pub unread: Vec<String>,
    /// The types of the columns; none where the records stand as they are and nobody looked.
    pub schema: Option<Schema>,
}

/// A format: cells as JSON, in the order of the header, one row after the other.
pub trait Sink {
    /// What it writes to.
    type Out;

    /// Begins with the columns.
    fn header(&mut self, names: &[String]) -> io::Result<()>;

    /// Writes the next cell of a row as spelled in JSON; `""` is null or missing.
    fn cell(&mut self, json: &str) -> io::Result<()>;

    /// Ends a row.
    fn end_row(&mut self) -> io::Result<()>;

    /// Ends the file and gives back what it wrote to, everything of its own flushed.
    fn finish(self) -> io::Result<Self::Out>;
}

/// Why an output could not be written.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The disk or the place refused.
    #[error("cannot {doing} `{}`: {}", .path.display(), .source)]
    Io {
        /// `create` or `write`.
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// SQLite refused.
    #[error("cannot write `{}`: {}", .path.display(), .source)]
    Database {
        /// The file and the table.
        path: PathBuf,
        /// What it said.
        source: rusqlite::Error,
    },
    /// A database that must not be written.
    #[error("cannot write `{}`: {why}", .path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// A value that does not fit its column.
    #[error("{}", .misfit.message())]
    Misfit {
        /// What is wrong.
        misfit: Box<Misfit>,
        /// How its record begins.
        record: String,
    },
    /// More columns than a table of SQLite has.
    #[error(
        "cannot write `{}`: the records have more than 1,999 different fields, and a table of SQLite has 2,000 columns at most",
        .path.display()
    )]
    TooWide {
        /// The file and the table.
        path: PathBuf,
    },
    /// Records without a field, in a format in which a row is its cells.
    #[error(
        "cannot write `{}`: no record has a field, and a row without columns is nothing there",
        .path.display()
    )]
    NoColumns {
        /// The file or the table.
        path: PathBuf,
    },
    /// Records with names that are data, such as one member an id.
    #[error(
        "the records have more than {most} different fields; name the wanted ones under `columns`"
    )]
    TooManyColumns {
        /// Most columns.
        most: usize,
    },
}

impl SinkError {
    pub(super) fn new(doing: &'static str, path: PathBuf, source: io::Error) -> Self {
        Self::Io {
            doing,
            path,
            source,
        }
    }

    /// Whether the disk is full or the place not writable.
    pub fn is_disk(&self) -> bool {
        match self {
            Self::Io { .. } => true,
            Self::Database { source, .. } => matches!(
                source.sqlite_error_code(),
                Some(
                    rusqlite::ErrorCode::DiskFull
                        | rusqlite::ErrorCode::ReadOnly
                        | rusqlite::ErrorCode::CannotOpen
                        | rusqlite::ErrorCode::SystemIoFailure
                )
            ),
            Self::Refused { .. }
            | Self::Misfit { .. }
            | Self::TooWide { .. }
            | Self::NoColumns { .. }
            | Self::TooManyColumns { .. } => false,
        }
    }

    /// Whether the reader of standard output went away.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Why, where the message does not say all.
    pub fn cause(&self) -> Option<String> {
        match self {
            Self::Misfit { record, .. } => Some(format!("the record is {record}")),
            Self::Io { .. }
            | Self::Database { .. }
            | Self::Refused { .. }
            | Self::TooWide { .. }
            | Self::NoColumns { .. }
            | Self::TooManyColumns { .. } => None,
        }
    }

    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::TooManyColumns { .. } => None,
            Self::TooWide { .. } => Some(
                "name the wanted ones under `columns`, or write parquet, csv or ndjson: they have no such limit",
            ),
            Self::NoColumns { .. } => Some(
                "look at what the API sends and at `records`; name what you want under `columns`, or write ndjson, which keeps empty records",
            ),
            Self::Database { source, .. } => Some(of_database(source)),
            Self::Refused { .. } => Some(
                "name another file, or of a sink another `table`: `sqlite: {path: …, table: …}`",
            ),
            Self::Misfit { misfit, .. } => return Some(misfit.hint()),
            Self::Io { source, .. } => Some(disk::hint(source.kind())),
        };
        hint.map(str::to_owned)
    }
}

/// What to do where SQLite refuses.
fn of_database(error: &rusqlite::Error) -> &'static str {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => {
            "another program writes to the file: close it, and run again"
        }
        Some(rusqlite::ErrorCode::NotADatabase) => {
            "what is there is no SQLite file: move it away, or name another"
        }
        Some(rusqlite::ErrorCode::ConstraintViolation) => {
            "records that `key` tells apart are one row in SQL, or the table was changed by hand: look at `key`, or remove the table"
        }
        Some(rusqlite::ErrorCode::DiskFull) => disk::hint(io::ErrorKind::StorageFull),
        _ => "look at the file and at who else has it open, then run again",
    }
}
