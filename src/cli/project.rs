//! Where pipelines are: the project's root and the files a name stands for.

use std::io;
use std::path::{Path, PathBuf};

use crate::failure::{Exit, Failure};
use crate::report::clean;

/// The folder that makes a project.
pub(super) const PIPELINES: &str = "pipelines";

/// A pipeline file that was asked for, and the root its paths are relative to.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// The file.
    pub(super) path: PathBuf,
    /// The project root.
    pub(super) root: PathBuf,
}

/// The nearest folder upward that holds `pipelines/`.
pub(super) fn root_above(start: &Path) -> Option<PathBuf> {
    start
        .ancestors()
        .find(|folder| folder.join(PIPELINES).is_dir())
        .map(Path::to_owned)
}

/// The folder the command works in.
pub(super) fn here() -> Result<PathBuf, Failure> {
    std::env::current_dir().map_err(|error| {
        Failure::new(Exit::Failed, "the current folder cannot be read").caused_by(&error)
    })
}

/// The file of a name, or of a path that was given instead.
pub(super) fn find(name: &str) -> Result<Found, Failure> {
    let here = here()?;
    let path = Path::new(name);
    if looks_like_a_path(name) {
        if !path.is_file() {
            return Err(Failure::usage(format!("there is no file {}", clean(name))));
        }
        let whole = here.join(path);
        let root = whole.parent().and_then(root_above).unwrap_or(here);
        return Ok(Found {
            path: path.to_owned(),
            root,
        });
    }
    let root = root_above(&here).ok_or_else(no_project)?;
    let files = files_of(&root)?;
    match files.iter().find(|file| stem(file) == name) {
        Some(file) => Ok(Found {
            path: relative(file, &here),
            root,
        }),
        None => Err(unknown(name, &files)),
    }
}

/// All pipeline files of the project, by name.
pub(super) fn all() -> Result<Vec<Found>, Failure> {
    let here = here()?;
    let root = root_above(&here).ok_or_else(no_project)?;
    Ok(files_of(&root)?
        .iter()
        .map(|file| Found {
            path: relative(file, &here),
            root: root.clone(),
        })
        .collect())
}

/// The name of a pipeline: its file's stem.
pub(super) fn stem(path: &Path) -> String {
    path.file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn looks_like_a_path(name: &str) -> bool {
    let ending = Path::new(name).extension();
    name.contains(['/', '\\']) || ending.is_some_and(|e| e == "yaml" || e == "yml")
}

fn files_of(root: &Path) -> Result<Vec<PathBuf>, Failure> {
    let folder = root.join(PIPELINES);
    let mut files = std::fs::read_dir(&folder)
        .and_then(|entries| {
            entries
                .map(|entry| entry.map(|e| e.path()))
                .collect::<io::Result<Vec<_>>>()
        })
        .map_err(|error| {
            Failure::new(Exit::Failed, format!("cannot read {}", folder.display()))
                .caused_by(&error)
        })?;
    files.retain(|file| {
        file.is_file() && file.extension().is_some_and(|e| e == "yaml" || e == "yml")
    });
    files.sort();
    Ok(files)
}

/// Paths are shown as short as they can be typed.
fn relative(path: &Path, here: &Path) -> PathBuf {
    path.strip_prefix(here).unwrap_or(path).to_owned()
}

fn no_project() -> Failure {
    Failure::usage("there is no pipelines/ folder here or in any folder above")
        .hint("`gleaner init` writes a first pipeline; -C DIR works in another folder")
}

fn unknown(name: &str, files: &[PathBuf]) -> Failure {
    let names: Vec<String> = files.iter().map(|file| stem(file)).collect();
    let near = names
        .iter()
        .map(|known| (strsim::normalized_damerau_levenshtein(name, known), known))
        .filter(|(likeness, _)| *likeness > 0.5)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let hint = match near {
        Some((_, near)) => format!("did you mean `{near}`?"),
        None if names.is_empty() => "pipelines/ is empty; `gleaner init` writes a file".to_owned(),
        None => format!("there are: {}", names.join(", ")),
    };
    Failure::usage(format!("there is no pipeline `{}`", clean(name))).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_gets_a_suggestion() {
        let files = [
            PathBuf::from("pipelines/github_issues.yaml"),
            "pipelines/usgs.yaml".into(),
        ];
        let hint = |name| unknown(name, &files).hint.unwrap();
        assert_eq!(hint("github_isues"), "did you mean `github_issues`?");
        assert_eq!(hint("zzz"), "there are: github_issues, usgs");
    }

    #[test]
    fn the_root_is_the_nearest_folder_with_pipelines() {
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().join("a/b/c");
        std::fs::create_dir_all(outer.path().join(PIPELINES)).unwrap();
        std::fs::create_dir_all(outer.path().join("a/b").join(PIPELINES)).unwrap();
        std::fs::create_dir_all(&inner).unwrap();
        assert_eq!(root_above(&inner).unwrap(), outer.path().join("a/b"));
        assert_eq!(root_above(&outer.path().join("a")).unwrap(), outer.path());
    }
}
