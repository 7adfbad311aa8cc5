//! `gleaner check`: all mistakes of pipeline files, offline.

use std::path::Path;

use clap::Args;
use serde_json::json;

use crate::failure::{Exit, Failure};
use crate::report::{Verbosity, clean, clean_json, plural};

use super::agree::Agreement;
use super::global::Global;
use super::rooms::{self, NoPlan, Overrides};
use super::{out, project};

/// Check pipeline files and show all their mistakes
///
/// Works offline and asks for no secret. Each mistake is shown under its source line, with what
/// to do about it. Without a NAME, all pipelines of the project are checked. Limits that pipelines
/// share by name must be the same in all of them.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct CheckArgs {
    /// Names or paths of pipelines; all of the project if none is given
    #[arg(value_name = "NAME|PATH")]
    pipelines: Vec<String>,

    /// Print one JSON object with all files and mistakes
    #[arg(long)]
    json: bool,
}

impl CheckArgs {
    pub(super) fn execute(&self, global: &Global) -> Result<Exit, Failure> {
        let files = if self.pipelines.is_empty() {
            project::all()?
        } else {
            self.pipelines
                .iter()
                .map(|name| project::find(name))
                .collect::<Result<_, _>>()?
        };
        let talks = !self.json && global.verbosity() != Verbosity::Quiet;
        let mut plans = Vec::new();
        let mut agreement = Agreement::default();
        for file in &files {
            match rooms::plan(&file.path, &Overrides::default()) {
                Err(NoPlan::Failure(failure)) => return Err(failure),
                Err(NoPlan::Mistakes(found)) => plans.push(Err(found)),
                Ok(plan) => {
                    agreement.add(&file.path, &plan);
                    plans.push(Ok(plan));
                }
            }
        }
        if !self.pipelines.is_empty() {
            // Those that were not asked about have a word in what is shared.
            let named = |path: &Path| files.iter().any(|file| is_same(&file.path, path));
            let others = project::all().unwrap_or_default().into_iter();
            for other in others.filter(|other| !named(&other.path)) {
                if let Ok(plan) = rooms::plan(&other.path, &Overrides::default()) {
                    agreement.add(&other.path, &plan);
                }
            }
        }
        let mut told = Vec::new();
        let mut mistakes = 0;
        for (file, plan) in files.iter().zip(plans) {
            let shown = file.path.display().to_string();
            let plan = plan.and_then(|plan| match agreement.mistakes(&file.path) {
                None => Ok(plan),
                Some(found) => Err(found),
            });
            match plan {
                Ok(plan) => {
                    told.push(json!({ "path": shown, "ok": true, "mistakes": [] }));
                    if talks {
                        let streams = plural(plan.streams.len() as u64, "stream");
                        out::stdout(&format!("ok  {} ({streams})\n", clean(&shown)))?;
                    }
                }
                Err(found) => {
                    mistakes += found.all.len();
                    told.push(json!({ "path": shown, "ok": false, "mistakes": found.to_json() }));
                    if !self.json {
                        out::stdout(&found.draw(out::stdout_colour()))?;
                    }
                }
            }
        }
        if self.json {
            let json = json!({ "ok": mistakes == 0, "files": told }).to_string();
            out::stdout(&format!("{}\n", clean_json(&json)))?;
        } else if mistakes > 0 {
            out::stderr(&format!("{}\n", plural(mistakes as u64, "mistake")));
        } else if files.is_empty() {
            out::stderr("pipelines/ is empty; `gleaner init` writes a first file\n");
        }
        Ok(if mistakes == 0 {
            Exit::Complete
        } else {
            Exit::Invalid
        })
    }
}

fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().ok();
    real(one).is_some_and(|one| real(other) == Some(one))
}
