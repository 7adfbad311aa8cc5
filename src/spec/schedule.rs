//! `schedule`: when a pipeline runs by itself, as written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::at::At;
use super::choice::ScalarOr;

/// When `gleaner schedule` runs the pipeline.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleSpec {
    /// Minute, hour, day of the month, month, day of the week: `30 2 * * *`; or `@daily`.
    pub cron: At<String>,
    /// The time zone whose clock that is; default UTC.
    pub zone: Option<At<String>>,
    /// What becomes of times that passed while nobody was there; default `once`.
    pub missed: Option<MissedSpec>,
    /// What becomes of a time that comes while the run of an earlier one goes on; default `skip`.
    pub overlap: Option<OverlapSpec>,
    /// Start up to so much later, by the pipeline's name, so that not all start at once; default none.
    pub jitter: Option<At<String>>,
    /// A run that is not done so long after it began is ended, and goes on the next time; default none.
    pub deadline: Option<At<String>>,
    /// Who is told when runs begin to fail, and when they are well again.
    pub on_failure: Option<At<OnFailureSpec>>,
    /// Asked for when a run begins (`/start` below it), succeeds, and fails (`/fail`); or `{start, success, failure}`.
    pub ping: Option<At<ScalarOr<String, PingSpec>>>,
}

/// Who is told when runs begin to fail, and when they are well again.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OnFailureSpec {
    /// A URL that takes JSON with POST; may be a template over secrets.
    pub webhook: Option<At<String>>,
    /// A program and its arguments, or text for `sh -c`; the same JSON is on its standard input.
    pub command: Option<At<ScalarOr<String, Vec<At<String>>>>>,
}

/// Addresses that are asked for with GET.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PingSpec {
    /// When a run begins.
    pub start: Option<At<String>>,
    /// When all of it is published.
    pub success: Option<At<String>>,
    /// When it is not.
    pub failure: Option<At<String>>,
}

/// What becomes of times that passed while nobody was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MissedSpec {
    /// One run for all of them.
    Once,
    /// One run for each, in order.
    All,
    /// None; the next time is soon enough.
    Skip,
}

/// What becomes of a time that comes while the run of an earlier one goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OverlapSpec {
    /// It is left out.
    Skip,
    /// It runs when the other one is done; one at most waits.
    Queue,
}
