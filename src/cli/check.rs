//! `gleaner check`: all mistakes of pipeline files, offline.

use std::path::Path;

use clap::Args;
use serde_json::json;

use crate::failure::{Exit, Failure};
use crate::report::{self, Verbosity, clean, clean_json, plural};

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
        // What cannot be read is told beside what can, and hides nothing.
        let mut unread = Vec::new();
        let files = if self.pipelines.is_empty() {
            project::all()?
        } else {
            let mut found = Vec::new();
            for name in &self.pipelines {
                match project::find(name) {
                    Ok(file) => found.push(file),
                    Err(failure) => unread.push((name.clone(), failure)),
                }
            }
            found
        };
        let talks = !self.json && global.verbosity() != Verbosity::Quiet;
        let mut plans = Vec::new();
        let mut agreement = Agreement::default();
        for file in &files {
            match rooms::plan(&file.path, &Overrides::default()) {
                Err(NoPlan::Failure(failure)) => {
                    unread.push((file.path.display().to_string(), failure));
                }
                Err(NoPlan::Mistakes(found)) => plans.push((file, Err(found))),
                Ok(plan) => {
                    agreement.add(&file.path, &plan);
                    plans.push((file, Ok(plan)));
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
        for (file, plan) in plans {
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
        let mut exit = match mistakes {
            0 => Exit::Complete,
            _ => Exit::Invalid,
        };
        for (name, failure) in &unread {
            exit = exit.worst(failure.exit);
            told.push(
                json!({ "path": name, "ok": false, "mistakes": [], "unread": failure.message }),
            );
            if !self.json {
                out::stderr(&report::draw_failure(failure));
            }
        }
        if self.json {
            let json = json!({ "ok": exit == Exit::Complete, "files": told }).to_string();
            out::stdout(&format!("{}\n", clean_json(&json)))?;
        } else if mistakes > 0 {
            out::stderr(&format!("{}\n", plural(mistakes as u64, "mistake")));
        } else if files.is_empty() && unread.is_empty() {
            out::stderr("pipelines/ is empty; `gleaner init` writes a first file\n");
        }
        Ok(exit)
    }
}

fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().ok();
    real(one).is_some_and(|one| real(other) == Some(one))
}
