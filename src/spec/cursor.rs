//! `cursor`: how a stream asks only for what is new, as written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::at::At;

/// How a stream asks only for what is new.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CursorSpec {
    /// Path of the value that grows; left out, the end of the last window counts.
    pub field: Option<At<String>>,
    /// Where the first run begins: a date, an instant, `now`, `today - 5d`, or a value of the field.
    pub start: At<String>,
    /// Where the window ends; default the start of the run.
    pub end: Option<At<String>>,
    /// How much is asked for again, for rows that come late: `1h`, or a number; default nothing.
    pub lookback: Option<At<String>>,
    /// How the field is spelled: `iso` (default), `epoch`, `epoch_ms`, `integer`, `text`, or a pattern such as `%Y%m%d`.
    pub format: Option<At<String>>,
    /// `true`: pages come newest first; one that is older than the window is the last.
    pub newest_first: Option<bool>,
}
