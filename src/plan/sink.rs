//! Where records go: the checked form of `sink`.

use super::language::Template;

/// One output of a stream.
#[derive(Debug)]
pub struct SinkPlan {
    /// The format, with its settings.
    pub format: SinkFormat,
    /// Relative to the project root; `-` is standard output; a folder where files are added.
    pub path: Template,
    /// What becomes of what is there.
    pub mode: SinkMode,
    /// How the file is compressed, by the path's ending.
    pub compression: Compression,
}

impl SinkPlan {
    /// Whether it writes the same file in the same way.
    pub fn is_same(&self, other: &Self) -> bool {
        self.path.written() == other.path.written()
            && self.format == other.format
            && self.mode == other.mode
    }
}

/// Whether each stream has a file of its own under this path.
pub fn is_by_stream(path: &Template) -> bool {
    let names = path.names();
    names
        .iter()
        .any(|used| used.path.first().is_some_and(|root| root == "stream"))
}

/// The format of an output file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SinkFormat {
    /// RFC 4180.
    Csv(CsvPlan),
    /// One JSON object a line.
    Ndjson,
    /// Apache Parquet.
    Parquet(ParquetPlan),
}

/// What becomes of what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SinkMode {
    /// The new file takes the place of the old one.
    Replace,
    /// The path is a folder; each run adds a file.
    Append,
    /// The file holds the newest version of every record.
    Merge,
}

/// How CSV is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvPlan {
    /// Between fields; one ASCII character.
    pub delimiter: u8,
    /// What stands for null.
    pub null: String,
    /// Whether cells that spreadsheets would run as formulas get a leading quote (OWASP).
    pub spreadsheet_safe: bool,
}

/// How Parquet is written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ParquetPlan {
    /// What the file says of itself: names and values.
    pub about: Vec<(String, String)>,
}

/// How an output file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not.
    None,
    /// `.gz`
    Gzip,
    /// `.zst`
    Zstd,
}
