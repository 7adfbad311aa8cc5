//! Outputs as `datapackage.json` files tell of them: where no pipeline file and no state knows of them,
//! for `gleaner demo` left them, or somebody handed them on.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use crate::failure::{Exit, Failure};
use crate::report::clean;
use crate::sink::datapackage::NAME;

use super::outputs::Published;

/// Folders below one another that are looked into.
pub(super) const DEEPEST: usize = 3;

/// The folder in which outputs are looked for by the name of their pipeline.
const DATA: &str = "data";

/// What a folder tells of.
#[derive(Debug)]
pub(super) struct Package {
    /// The folder.
    pub(super) folder: PathBuf,
    /// What its file says of each output.
    pub(super) resources: Vec<Value>,
}

/// Whether an argument is the way to outputs, and not the name of a pipeline.
pub(super) fn is_path(argument: &str) -> bool {
    let path = Path::new(argument);
    let is_pipeline = (path.extension()).is_some_and(|ending| ending == "yaml" || ending == "yml");
    !is_pipeline && (argument.contains('/') || argument.starts_with('.') || path.is_file())
}

/// What is told of the outputs at a path: a `datapackage.json`, its folder, or a file that it tells of.
pub(super) fn at(path: &Path) -> Result<Package, Failure> {
    let is_package = path.file_name().is_some_and(|name| name == NAME);
    let (folder, file) = match path.parent() {
        _ if path.is_dir() => (path.to_owned(), None),
        Some(folder) if is_package => (folder.to_owned(), None),
        Some(folder) => (folder.to_owned(), path.file_name()),
        None => (path.to_owned(), None),
    };
    let hint =
        format!("give the name of a pipeline, a {NAME}, its folder, or a file that it tells of");
    if !path.exists() {
        let message = format!("there is nothing at {}", clean(&path.display().to_string()));
        return Err(Failure::usage(message).hint(hint));
    }
    let mut package = read(&folder)?;
    if let (Some(package), Some(file)) = (&mut package, file) {
        let file = file.to_string_lossy();
        package.resources.retain(|told| told["path"] == *file);
    }
    if let Some(package) = package.filter(|package| !package.resources.is_empty()) {
        return Ok(package);
    }
    let message = format!(
        "no {} tells of {}",
        clean(&folder.join(NAME).display().to_string()),
        clean(&path.display().to_string())
    );
    Err(Failure::usage(message).hint(hint))
}

/// What a project's folder and those in its `data/` tell of a pipeline.
pub(super) fn of(root: &Path, pipeline: &str) -> Result<Vec<Package>, Failure> {
    let mut folders = BTreeSet::from([root.to_owned()]);
    below(&root.join(DATA), DEEPEST, &mut folders);
    telling(folders, pipeline)
}

/// What a folder and those in it tell of a pipeline.
pub(super) fn in_folder(folder: &Path, pipeline: &str) -> Result<Vec<Package>, Failure> {
    let mut folders = BTreeSet::new();
    below(folder, DEEPEST, &mut folders);
    telling(folders, pipeline)
}

fn telling(folders: BTreeSet<PathBuf>, pipeline: &str) -> Result<Vec<Package>, Failure> {
    let mut found = Vec::new();
    for folder in folders {
        let Some(mut package) = read(&folder)? else {
            continue;
        };
        package
            .resources
            .retain(|told| told["gleaner"]["pipeline"] == *pipeline);
        if !package.resources.is_empty() {
            found.push(package);
        }
    }
    Ok(found)
}

/// What a folder tells of, if it has a file that does.
pub(super) fn read(folder: &Path) -> Result<Option<Package>, Failure> {
    let path = folder.join(NAME);
    let Ok(text) = fs::read(&path) else {
        return Ok(None);
    };
    let mut package: Value = serde_json::from_slice(&text).map_err(|error| {
        Failure::new(Exit::Failed, format!("{} cannot be read", path.display())).caused_by(&error)
    })?;
    let resources = match package["resources"].take() {
        Value::Array(all) => all.into_iter().filter(is_inside).collect(),
        _ => Vec::new(),
    };
    Ok(Some(Package {
        folder: folder.to_owned(),
        resources,
    }))
}

/// Whether a file lies where its package does: another way is unsafe, and forbidden (Data Resource v2,
/// `path`).
fn is_inside(resource: &Value) -> bool {
    let parts = resource["path"]
        .as_str()
        .map(Path::new)
        .map(Path::components);
    parts.is_some_and(|mut parts| parts.all(|part| matches!(part, Component::Normal(_))))
}

/// A folder and those in it.
pub(super) fn below(folder: &Path, deepest: usize, found: &mut BTreeSet<PathBuf>) {
    found.insert(folder.to_owned());
    // What cannot be looked into holds nothing for us.
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for path in entries
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
    {
        if deepest > 0 {
            below(&path, deepest - 1, found);
        }
    }
}

impl Package {
    /// The pipeline that published its outputs, if it was one.
    pub(super) fn pipeline(&self) -> Option<&str> {
        let mut names = (self.resources.iter()).map(|told| told["gleaner"]["pipeline"].as_str());
        let first = names.next()??;
        names.all(|name| name == Some(first)).then_some(first)
    }

    /// Its folder by the way from `root`, where it is in there.
    pub(super) fn seen_from(mut self, root: &Path) -> Self {
        if let Ok(inside) = self.folder.strip_prefix(root) {
            self.folder = inside.to_owned();
        }
        self
    }

    /// The files and tables that it tells of.
    pub(super) fn outputs(&self) -> Vec<Published> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let told = self.resources.iter().flat_map(|resource| {
            let origin = &resource["gleaner"];
            let all = origin["streams"].as_array().into_iter().flatten();
            let mut streams: Vec<String> = all.map(text).collect();
            if streams.is_empty() {
                streams.push(match origin["stream"].as_str() {
                    Some(stream) => stream.to_owned(),
                    // Another program's.
                    None => text(&resource["name"]),
                });
            }
            streams.into_iter().map(move |stream| Published {
                stream,
                path: self.folder.join(text(&resource["path"])),
                table: resource["dialect"]["table"].as_str().map(str::to_owned),
                run: text(&origin["run"]),
                at: (origin["published"].as_str()).and_then(|at| at.parse().ok()),
            })
        });
        told.collect()
    }
}
