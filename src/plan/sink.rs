//! Where records go: the checked form of `sink`.

use super::language::Template;

/// One output of a stream.
#[derive(Debug)]
pub struct SinkPlan {
    /// The format, with its settings.
    pub format: SinkFormat,
    /// Relative to the project root; `-` is standard output; a folder where files are added.
    pub path: Template,
    /// The table, where the path is a SQLite file.
    pub table: Option<Template>,
    /// What becomes of what is there.
    pub mode: SinkMode,
    /// Whether `datapackage.json` beside it tells of it.
    pub datapackage: bool,
    /// How the file is compressed, by the path's ending.
    pub compression: Compression,
}

impl SinkPlan {
    /// What it writes, as it stands in the file.
    pub fn place(&self) -> String {
        place(
            self.path.written(),
            self.table.as_ref().map(Template::written),
        )
    }

    /// Whether each stream has an output of its own by it.
    pub fn is_by_stream(&self) -> bool {
        is_by_stream(&self.path) || self.table.as_ref().is_some_and(is_by_stream)
    }

    /// Whether it writes the same output in the same way.
    pub fn is_same(&self, other: &Self) -> bool {
        self.place() == other.place()
            && self.format == other.format
            && self.mode == other.mode
            && self.datapackage == other.datapackage
    }
}

/// What a sink writes: a file, or one table of it; SQL tells names of tables not apart by case.
pub fn place(path: &str, table: Option<&str>) -> String {
    match table {
        None => path.to_owned(),
        Some(table) => format!("{path}#{}", table.to_ascii_lowercase()),
    }
}

/// Whether a table of a SQLite file may be called so: SQL has taken some names, and this program others.
pub fn is_table_name(name: &str) -> bool {
    let own = name.trim().to_ascii_lowercase();
    !own.is_empty()
        && !own.contains('\0')
        && !own.starts_with("sqlite_")
        && !own.starts_with("_gleaner")
}

/// Whether each stream has an output of its own under this path, or of this name.
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
    /// A table of a SQLite file.
    Sqlite,
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

impl SinkMode {
    /// The word for it in a pipeline file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Replace => "replace",
            Self::Append => "append",
            Self::Merge => "merge",
        }
    }
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
    /// Whether objects and arrays are columns with structure, and not taken apart.
    pub nested: bool,
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
