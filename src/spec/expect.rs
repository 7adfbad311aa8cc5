//! `expect`: what must hold before publish, as written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::at::At;
use super::choice::{ScalarOr, Table};

/// What must hold before publish.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpectSpec {
    /// Path of the number of records of a partition.
    pub total: Option<At<String>>,
    /// Fewest records of the stream.
    pub min_records: Option<u64>,
    /// Reaching this many pages in one partition is an error.
    pub max_pages: Option<u64>,
    /// How far the number of records may fall below the usual: `50%`.
    pub max_drop: Option<At<String>>,
    /// Output columns whose values, taken together, no two records share.
    pub unique: Option<At<ScalarOr<String, Vec<At<String>>>>>,
    /// How old the newest record may be.
    pub fresh: Option<At<FreshSpec>>,
    /// The greatest share of records without a value, by output column: `{ email: 5% }`.
    pub nulls: Option<Table<At<String>>>,
    /// How columns and the kinds of their values may differ from those of earlier runs.
    pub schema: Option<At<SchemaWordSpec>>,
    /// Whether records may have fields that `columns` does not name.
    pub columns: Option<At<ColumnsWordSpec>>,
}

/// How old the newest record may be.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FreshSpec {
    /// Path of an instant or a day in a record.
    pub field: At<String>,
    /// How long before the start of the run the newest may be: `2d`.
    pub within: At<String>,
    /// How it is spelled: `iso` (the default), `epoch`, `epoch_ms`, or a pattern of strftime.
    pub format: Option<At<String>>,
}

/// How columns may differ from those of earlier runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SchemaWordSpec {
    /// Not at all.
    Same,
    /// New ones may come; none may go, or hold another kind of value.
    Grow,
}

/// Whether records may have fields that `columns` does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ColumnsWordSpec {
    /// They may, and these are left out.
    Open,
    /// They may not.
    Closed,
}
