//! `gleaner list`: the pipelines of the project.

use clap::Args;

use crate::failure::{Exit, Failure};
use crate::report::plural;

use super::rooms::{self, NoPlan, Overrides};
use super::{out, project, table};

/// List the pipelines of the project
#[derive(Debug, Args)]
pub(super) struct ListArgs {}

impl ListArgs {
    pub(super) fn execute() -> Result<Exit, Failure> {
        let mut rows = Vec::new();
        for file in project::all()? {
            let name = project::stem(&file.path);
            rows.push(match rooms::plan(&file.path, &Overrides::default()) {
                Ok(plan) => vec![name, plan.streams.len().to_string(), plan.about],
                Err(NoPlan::Mistakes(mistakes)) => {
                    let count = plural(mistakes.all.len() as u64, "mistake");
                    let about = format!("broken: {count}, see `gleaner check {name}`");
                    vec![name, "-".to_owned(), about]
                }
                Err(NoPlan::Failure(failure)) => {
                    vec![name, "-".to_owned(), format!("broken: {failure}")]
                }
            });
        }
        if rows.is_empty() {
            out::stderr("pipelines/ is empty; `gleaner init` writes a first file\n");
        } else {
            out::stdout(&table::plain(
                &["NAME", "STREAMS", "ABOUT"],
                &rows,
                table::width(),
            ))?;
        }
        Ok(Exit::Complete)
    }
}
