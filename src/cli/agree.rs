//! What pipelines of a project must agree on: a limit that they share by name is one limit.

use std::path::{Path, PathBuf};

use crate::plan::Plan;
use crate::plan::limit::LimitPlan;
use crate::spec::choice::ScalarOr;
use crate::spec::diagnostic::{Diagnostic, Diagnostics};
use crate::spec::load;

/// The limits that each of the files shares by name.
#[derive(Debug, Default)]
pub(super) struct Agreement {
    files: Vec<(PathBuf, Vec<LimitPlan>)>,
}

impl Agreement {
    /// Hears of one more file.
    pub(super) fn add(&mut self, path: &Path, plan: &Plan) {
        let shared = plan.source.limits.iter();
        let shared: Vec<_> = shared
            .filter(|limit| limit.shared_as.is_some())
            .cloned()
            .collect();
        if !shared.is_empty() {
            self.files.push((path.to_owned(), shared));
        }
    }

    /// Where the file at `path` declares another limit than a file before or after it does by the same
    /// name.
    pub(super) fn mistakes(&self, path: &Path) -> Option<Diagnostics> {
        let (_, limits) = self.files.iter().find(|(file, _)| file == path)?;
        let written = load::read(path).ok()?;
        let mut all = Vec::new();
        for (name, ours) in LimitPlan::shared(limits) {
            let differs = self.files.iter().find_map(|(file, limits)| {
                let theirs = LimitPlan::shared(limits).remove(&name)?;
                (!theirs.keys().eq(ours.keys())).then_some((file, theirs))
            });
            let Some((file, theirs)) = differs else {
                continue;
            };
            let Some(ScalarOr::Long(entries)) = written.spec.source.limits.as_deref() else {
                continue;
            };
            let named = entries.iter().find_map(|entry| match &entry.value {
                ScalarOr::Long(long) => long.shared_as.as_ref().filter(|at| at.value == name),
                ScalarOr::Short(_) => None,
            });
            let limits: Vec<String> = theirs.into_values().collect();
            all.extend(named.map(|at| Diagnostic {
                code: "shared-limit",
                message: format!(
                    "`{name}` is another limit in {}: {}",
                    file.display(),
                    limits.join(", ")
                ),
                span: at.span.clone(),
                hint: Some(
                    "pipelines that share a limit declare the same: correct one of them, or give it another name"
                        .to_owned(),
                ),
            }));
        }
        (!all.is_empty()).then_some(Diagnostics {
            source: written.source,
            all,
        })
    }
}
