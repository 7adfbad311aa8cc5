//! What was written: optional, spanned, unchecked.
//!
//! The types here are the one source of truth for the shape of a pipeline file: serde reads
//! them, schemars makes the JSON Schema of them, and `shape` walks a file along that schema to
//! find every mistake at once.

mod allowed;
pub mod at;
pub mod auth;
pub mod choice;
pub mod cursor;
mod decode;
pub mod diagnostic;
mod draw;
pub mod expect;
pub mod format;
pub mod load;
pub mod near;
mod parse;
mod prune;
pub mod records;
pub mod schedule;
mod schema;
mod shape;
pub mod sink;
pub mod source;
pub mod stream;
pub mod transform;
pub mod tree;

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Deserialize;

use self::at::At;
use self::choice::Table;
use self::diagnostic::{Diagnostic, SourceText};
use self::schedule::ScheduleSpec;
use self::sink::SinksSpec;
use self::source::SourceSpec;
use self::stream::StreamSpec;
use self::tree::Tree;

pub use self::schema::schema;

/// A pipeline file as far as it could be read.
#[derive(Debug)]
pub struct Written {
    /// The file.
    pub source: SourceText,
    /// What it says; parts with mistakes of shape are left out.
    pub spec: PipelineSpec,
    /// Mistakes of shape. `plan::compile` adds its own and makes no plan if there are any.
    pub mistakes: Vec<Diagnostic>,
    /// Keys inside the parts left out, so that nobody complains that they are missing.
    pub lost: BTreeSet<String>,
}

/// A Gleaner pipeline: one API, one or more streams of records.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Gleaner pipeline")]
pub struct PipelineSpec {
    /// One sentence, shown by `gleaner list`.
    pub about: Option<At<String>>,
    /// Named values for templates: `{{ vars.name }}`; `--var name=value` overrides.
    pub vars: Option<Table<Tree>>,
    /// Where and how to ask.
    pub source: At<SourceSpec>,
    /// How long after it began an unfinished run is gone on with; default 20h.
    pub resume_within: Option<At<String>>,
    /// Anything a stream may say, said once for all.
    pub defaults: Option<StreamSpec>,
    /// The kinds of record, in order.
    pub streams: Table<StreamSpec>,
    /// Where records go; a stream may have its own.
    pub sink: Option<SinksSpec>,
    /// When `gleaner schedule` runs it.
    pub schedule: Option<ScheduleSpec>,
}
