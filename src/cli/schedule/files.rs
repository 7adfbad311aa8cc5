//! The pipeline files of a project as the schedule sees them, each understood once for as long as it stays the same.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::cli::project;
use crate::cli::rooms::{self, NoPlan, Overrides};
use crate::failure::Failure;
use crate::plan::Plan;
use crate::schedule::{Content, Read};
use crate::store::hash::stable;

/// The files of the project.
pub(super) struct Files {
    root: PathBuf,
    known: Mutex<HashMap<PathBuf, (String, Content)>>,
    /// What stood last in each that could be understood.
    good: Mutex<HashMap<String, (PathBuf, String)>>,
}

impl Files {
    pub(super) fn new(root: PathBuf) -> Self {
        Self {
            root,
            known: Mutex::default(),
            good: Mutex::default(),
        }
    }

    /// All of them as they are now.
    pub(super) fn read(&self) -> Result<Vec<Read>, Failure> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *known);
        let mut files = Vec::new();
        let paths = project::files(&self.root)?;
        for path in paths.clone() {
            let name = project::stem(&path);
            if paths
                .iter()
                .any(|other| *other != path && project::stem(other) == name)
            {
                // Both are broken, for as long as both are there.
                let content = understood(&path);
                files.push(Read {
                    name,
                    path,
                    content,
                });
                continue;
            }
            let text = std::fs::read_to_string(&path);
            let content = match (before.remove(&path), text) {
                (Some((old, content)), Ok(text)) if old == text => {
                    known.insert(path.clone(), (text, content.clone()));
                    content
                }
                (_, text) => {
                    let content = understood(&path);
                    if let Ok(text) = text {
                        known.insert(path.clone(), (text, content.clone()));
                    }
                    content
                }
            };
            if let Content::Scheduled { text, .. } = &content {
                let mut good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
                good.insert(name.clone(), (path.clone(), text.clone()));
            }
            files.push(Read {
                name,
                path,
                content,
            });
        }
        Ok(files)
    }

    /// Who is told of the file of a pipeline: whom it names now, as far as it can be read, else whom it named when
    /// it could be understood.
    pub(super) fn listeners(&self, pipeline: &str) -> Option<Plan> {
        let mut paths = project::files(&self.root).ok()?.into_iter();
        let path = paths.find(|path| project::stem(path) == pipeline)?;
        let now = catch_unwind(|| rooms::listeners(&path)).ok().flatten();
        now.or_else(|| {
            let good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
            let (path, text) = good.get(pipeline).cloned()?;
            drop(good);
            let plan = rooms::plan_text(&path, &text, &Overrides::default()).ok()?;
            (!plan.alerts.is_empty()).then_some(plan)
        })
    }
}

/// What stands in a file; whatever is wrong is one line, and `check` says the rest.
fn understood(path: &Path) -> Content {
    let name = project::stem(path);
    content(&name, || rooms::plan(path, &Overrides::default()))
}

/// What a file comes to. One that the program itself stumbles over is broken, and no trouble of others.
fn content(name: &str, plan: impl FnOnce() -> Result<Plan, NoPlan>) -> Content {
    let broken = |message: String| Content::Broken {
        print: stable(&[&message]),
        message,
    };
    match catch_unwind(AssertUnwindSafe(plan)) {
        Ok(Ok(plan)) => match plan.schedule {
            Some(schedule) => Content::Scheduled {
                text: plan.text,
                schedule: Box::new(schedule),
            },
            None => Content::Unscheduled,
        },
        Ok(Err(NoPlan::Failure(failure))) => broken(failure.to_string()),
        Ok(Err(NoPlan::Mistakes(mistakes))) => broken(format!(
            "{}; see `gleaner check {name}`",
            rooms::in_a_line(&mistakes)
        )),
        Err(_) => broken(format!(
            "a mistake of the program: please report it, with what `gleaner check {name}` says"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_the_program_stumbles_over_is_broken() {
        let Content::Broken { message, .. } = content("a", || panic!("a mistake")) else {
            panic!("it was understood");
        };
        assert!(message.contains("`gleaner check a`"), "{message}");
    }
}
