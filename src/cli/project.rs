//! The project that a command works in, and what its names stand for.

use std::path::{Path, PathBuf};

use crate::failure::{Exit, Failure};
use crate::report::clean;
use crate::spec::load::{self, Found};

/// The folder that makes a project.
pub(super) const PIPELINES: &str = "pipelines";

/// The folder the command works in.
pub(super) fn here() -> Result<PathBuf, Failure> {
    std::env::current_dir().map_err(|error| {
        Failure::new(Exit::Failed, "the current folder cannot be read").caused_by(&error)
    })
}

/// The file of a name, or of a path that was given instead.
pub(super) fn find(name: &str) -> Result<Found, Failure> {
    load::find(&here()?, name).map_err(|missing| {
        Failure::usage(format!("there is no pipeline `{}`", clean(name))).hint(missing.hint)
    })
}

/// The project's root: the nearest folder upward with pipelines/.
pub(super) fn root() -> Result<PathBuf, Failure> {
    load::project_root(&here()?).ok_or_else(|| {
        Failure::usage("there is no pipelines/ folder here or in any folder above")
            .hint("`gleaner init` writes a first pipeline; -C DIR works in another folder")
    })
}

/// All pipeline files of the project, by name.
pub(super) fn all() -> Result<Vec<Found>, Failure> {
    let here = here()?;
    let root = root()?;
    Ok(files(&root)?
        .into_iter()
        .map(|file| Found {
            path: file.strip_prefix(&here).unwrap_or(&file).to_owned(),
            root: root.clone(),
        })
        .collect())
}

/// All pipeline files of the project at `root`, by name.
pub(super) fn files(root: &Path) -> Result<Vec<PathBuf>, Failure> {
    load::all(root).map_err(|error| {
        let folder = root.join(PIPELINES);
        Failure::new(Exit::Failed, format!("cannot read {}", folder.display())).caused_by(&error)
    })
}

/// The name of a pipeline: its file's stem.
pub(super) fn stem(path: &Path) -> String {
    path.file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
