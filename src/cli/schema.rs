//! `gleaner schema`: the JSON Schema of pipeline files.

use clap::Args;

use crate::failure::{Exit, Failure};

use super::{out, rooms};

/// Print the JSON Schema of pipeline files, for editors
///
/// Editors with a YAML language server complete and check pipeline files as one types:
///
///   gleaner schema > pipelines/pipeline.schema.json
///
/// and, as the first line of a pipeline file:
///
///   # yaml-language-server: $schema=pipeline.schema.json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct SchemaArgs {}

impl SchemaArgs {
    pub(super) fn execute() -> Result<Exit, Failure> {
        out::stdout(&rooms::schema())?;
        Ok(Exit::Complete)
    }
}
