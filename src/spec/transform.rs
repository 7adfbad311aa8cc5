//! `transform`: steps on whole records, as written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::at::At;
use super::choice::{ScalarOr, Table};

/// A step on whole records: one of its keys.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TransformSpec {
    /// Expression over `record`: only records stay for which it holds.
    #[serde(rename = "where")]
    pub only: Option<At<String>>,
    /// Path of an array: each element makes a record of its own, in the place of the array.
    pub explode: Option<At<String>>,
    /// `true`: a record without elements stays, with null in that place.
    pub keep_empty: Option<At<bool>>,
    /// Members to add, or to replace: name and template.
    pub add: Option<At<Table<At<String>>>>,
    /// Members to rename: path and new name.
    pub rename: Option<At<Table<At<String>>>>,
    /// Paths of members to leave out.
    pub drop: Option<At<ScalarOr<String, Vec<At<String>>>>>,
    /// A jq filter: each of its outputs is a record.
    pub jq: Option<At<String>>,
}
