//! `records`: where they are and what is made of them, as written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::at::At;
use super::choice::ScalarOr;

/// Where the records are, and what is made of them.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordsSpec {
    /// A path or a shape; missing means no records.
    pub optional: Option<Box<At<ScalarOr<String, RecordsSpec>>>>,
    /// Path of an object of parallel arrays: a record for each position.
    pub zip: Option<At<String>>,
    /// Path of rows, arrays of values by position; with `names`.
    pub rows: Option<At<String>>,
    /// What the values of `rows` are called: a list, or `first` for the first row.
    pub names: Option<At<ScalarOr<FirstWord, Vec<At<String>>>>>,
    /// Path of an object whose members are records; with `key`.
    pub entries: Option<At<String>>,
    /// The field that the names of `entries` become.
    pub key: Option<At<String>>,
    /// A jq filter over the whole answer: what it gives is taken as if it stood at a path.
    pub jq: Option<At<String>>,
}

/// The names are in the first row.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FirstWord {
    /// The first row holds the names.
    First,
}
