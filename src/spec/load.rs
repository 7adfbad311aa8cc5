//! Finds and reads pipeline files: names in `pipelines/`, or paths.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::diagnostic::{Diagnostic, Diagnostics, SourceText};
use super::{Written, near, parse};

/// Why a pipeline file could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadProblem {
    /// It cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is not UTF-8.
    #[error("{} is not UTF-8 text", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// It is too large for a pipeline.
    #[error("{} is larger than 1 MiB; long lists belong in a file of their own: `for: {{ id: {{ file: ids.csv }} }}`", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// It has mistakes.
    #[error("{} has {} mistake(s)", .0.source.path.display(), .0.all.len())]
    Invalid(Diagnostics),
}

/// A pipeline file and the project it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The file, relative to the current folder where it is below it.
    pub path: PathBuf,
    /// The project root: sink paths and `.env` are relative to it.
    pub root: PathBuf,
}

/// No such pipeline.
#[derive(Debug, thiserror::Error)]
#[error("there is no pipeline `{name}`")]
pub struct NotFound {
    /// What was asked for.
    pub name: String,
    /// What to do: the nearest name, or those that exist.
    pub hint: String,
}

/// Reads a file; all shape mistakes at once. Of two files of one name neither is believed.
pub fn read(path: &Path) -> Result<Written, LoadProblem> {
    if let Some(twins) = twins(path) {
        return Err(LoadProblem::Invalid(twins));
    }
    let unreadable = |error| LoadProblem::Unreadable {
        path: path.to_owned(),
        error,
    };
    let file = fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(parse::MOST_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    let path = path.to_owned();
    if bytes.len() as u64 > parse::MOST_BYTES {
        return Err(LoadProblem::TooLarge { path });
    }
    let Ok(text) = String::from_utf8(bytes) else {
        return Err(LoadProblem::NotText { path });
    };
    parse(SourceText { path, text }).map_err(LoadProblem::Invalid)
}

/// What is wrong where `a.yaml` and `a.yml` stand beside each other in `pipelines/`: they would share one name,
/// and with it runs, cursors and times. The same words for both.
fn twins(path: &Path) -> Option<Diagnostics> {
    let folder = path.canonicalize().ok()?;
    if folder.parent()?.file_name()? != "pipelines" {
        return None;
    }
    let both = ["yaml", "yml"].map(|ending| path.with_extension(ending));
    if !both.iter().all(|file| file.is_file()) {
        return None;
    }
    let name = path.file_stem()?.to_string_lossy();
    Some(Diagnostics {
        source: SourceText {
            path: path.to_owned(),
            text: String::new(),
        },
        all: vec![Diagnostic {
            code: "name-taken",
            message: format!("{name}.yaml and {name}.yml both are the pipeline `{name}`"),
            span: 0..0,
            hint: Some("rename or remove one of them".to_owned()),
        }],
    })
}

/// Reads a text that is at hand; all shape mistakes at once.
pub fn parse(source: SourceText) -> Result<Written, Diagnostics> {
    parse::parse(source)
}

/// The project root: the nearest folder upward with `pipelines/`.
pub fn project_root(from: &Path) -> Option<PathBuf> {
    let here = from
        .ancestors()
        .find(|folder| folder.join("pipelines").is_dir());
    here.map(Path::to_owned)
}

/// All pipeline files of a project, sorted by name.
pub fn all(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(root.join("pipelines"))? {
        let path = entry?.path();
        if is_yaml(&path) && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The pipeline called `name`, or at the path `name`, as seen from the folder `from`.
pub fn find(from: &Path, name: &str) -> Result<Found, NotFound> {
    let root = project_root(from);
    let as_path = from.join(name);
    if is_yaml(&as_path) || name.contains(['/', std::path::MAIN_SEPARATOR]) {
        if as_path.is_file() {
            let folder = as_path.parent().unwrap_or(from);
            let root = project_root(folder).or(root);
            return Ok(Found {
                root: root.unwrap_or_else(|| folder.to_owned()),
                path: relative(from, &as_path),
            });
        }
        return Err(NotFound {
            name: name.to_owned(),
            hint: "no such file; give a name from `pipelines/` or a path".to_owned(),
        });
    }
    let Some(root) = root else {
        return Err(NotFound {
            name: name.to_owned(),
            hint: "there is no `pipelines/` folder here or above; `gleaner init` makes one"
                .to_owned(),
        });
    };
    for ending in ["yaml", "yml"] {
        let path = root.join("pipelines").join(format!("{name}.{ending}"));
        if path.is_file() {
            let path = relative(from, &path);
            return Ok(Found { path, root });
        }
    }
    let files = all(&root).unwrap_or_default();
    let names: Vec<String> = files
        .iter()
        .filter_map(|file| Some(file.file_stem()?.to_str()?.to_owned()))
        .collect();
    Err(NotFound {
        name: name.to_owned(),
        hint: near::hint(name, names.iter().map(String::as_str), "pipelines here"),
    })
}

fn is_yaml(path: &Path) -> bool {
    path.extension()
        .is_some_and(|ending| ending == "yaml" || ending == "yml")
}

fn relative(from: &Path, path: &Path) -> PathBuf {
    path.strip_prefix(from).unwrap_or(path).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_resolve_upward_and_slips_get_a_hint() -> io::Result<()> {
        let project = tempfile::tempdir()?;
        let root = project.path();
        fs::create_dir_all(root.join("pipelines/deep"))?;
        fs::create_dir_all(root.join("notebooks"))?;
        for name in ["stars.yaml", "issues.yml", "notes.txt"] {
            fs::write(root.join("pipelines").join(name), "about: x\n")?;
        }
        let found = find(root, "stars").map_err(io::Error::other)?;
        assert_eq!(found.path, Path::new("pipelines/stars.yaml"));
        let above = find(&root.join("notebooks"), "issues").map_err(io::Error::other)?;
        assert_eq!(above.root, root);
        let path = find(&root.join("pipelines"), "stars.yaml").map_err(io::Error::other)?;
        assert_eq!(
            (path.path.as_path(), path.root.as_path()),
            (Path::new("stars.yaml"), root)
        );
        let slip = find(root, "starz").err().map(|problem| problem.hint);
        assert_eq!(slip.as_deref(), Some("did you mean `stars`?"));
        assert_eq!(all(root)?.len(), 2);
        Ok(())
    }
}
