//! `sink`: where records go, as written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::at::At;
use super::choice::{OneOrMany, ScalarOr};

/// One sink, a list of them, or `none`.
pub type SinksSpec = At<ScalarOr<SinkWord, OneOrMany<SinkSpec>>>;

/// Where records go, in one word.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SinkWord {
    /// Nowhere: the stream is there for others.
    None,
}

/// Where records go; exactly one format.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SinkSpec {
    /// CSV: a path, or a path with settings. `.gz` or `.zst` at the end compresses; `-` is standard output.
    pub csv: Option<At<ScalarOr<String, CsvSpec>>>,
    /// One JSON object a line: a path.
    pub ndjson: Option<At<String>>,
    /// Apache Parquet, columns with types: a path, or a path with settings.
    pub parquet: Option<At<ScalarOr<String, ParquetSpec>>>,
    /// A table of a SQLite file: the file's path, or the path with settings.
    pub sqlite: Option<At<ScalarOr<String, SqliteSpec>>>,
    /// What becomes of what is there; default `replace`.
    pub mode: Option<At<ModeSpec>>,
    /// Whether `datapackage.json` beside the output tells of it; default true.
    pub datapackage: Option<bool>,
}

/// CSV with settings.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CsvSpec {
    /// The file.
    pub path: At<String>,
    /// Between fields, one ASCII character; default `,`.
    pub delimiter: Option<At<String>>,
    /// What stands for null; default nothing.
    pub null: Option<At<String>>,
    /// Whether cells that spreadsheets would run as formulas get a leading quote; default false.
    pub spreadsheet_safe: Option<bool>,
}

/// Parquet with settings.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ParquetSpec {
    /// The file.
    pub path: At<String>,
    /// Whether objects and arrays are columns with structure, and not taken apart; default false.
    pub nested: Option<bool>,
}

/// SQLite with settings.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SqliteSpec {
    /// The file.
    pub path: At<String>,
    /// The table; default the name of the stream.
    pub table: Option<At<String>>,
}

/// What becomes of what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ModeSpec {
    /// The new one takes its place.
    Replace,
    /// Each run adds a file to a folder.
    Append,
    /// The newest version of every record, by `key`.
    Merge,
}
