//! `gleaner reextract`: kept parts are published again, without a request.

use clap::Args;

use crate::failure::{Exit, Failure};
use crate::harvest::Options;
use crate::store::history::Status;

use super::global::Global;
use super::release;
use super::runs::Project;

/// Publish what a run keeps again, after columns, key, checks or sinks changed
///
/// Sends nothing: the records are those that `gleaner run NAME --keep-parts` kept, as the API sent them and
/// as `transform` left them. Requests, paging and `records` must be as they were; `transform` too, unless the
/// stream says `once`, whose answers are kept as they came. Cursors do not move. A run that a later one has
/// published after is refused: older data would take the place of newer.
///
/// For example:
///
///   gleaner run quakes --keep-parts
///   gleaner reextract 20261103T0230
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct ReextractArgs {
    /// The run, or the beginning of its id
    #[arg(value_name = "RUN")]
    id: String,

    /// Set a variable as that run did; may be repeated
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = super::run::assignment)]
    vars: Vec<(String, String)>,
}

impl ReextractArgs {
    pub(super) async fn execute(&self, global: &Global) -> Result<Exit, Failure> {
        let runs = Project::open()?;
        let run = runs.find(&self.id)?;
        if run.status == Status::Complete && runs.folder(&run.id).is_none() {
            return Err(Failure::usage(format!(
                "run {} keeps nothing: it ran without --keep-parts, or a later run came after it",
                run.id
            ))
            .hint("`gleaner convert` writes what was published in another format"));
        }
        let options = Options::to_reextract(&runs.disk, &runs.root, &run);
        drop(runs);
        release::from_kept(&run, &self.vars, global, options).await
    }
}
