//! The outputs of a pipeline, as the `datapackage.json` of their folders tell of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::cli::outputs::unreadable;
use crate::disk::Disk;
use crate::failure::{Exit, Failure};
use crate::plan::{Plan, StreamPlan};
use crate::sink::back::{Kept, Names, Source};
use crate::sink::datapackage::{self, NAME};
use crate::sink::glance::{self, Seen};
use crate::store::state::{State, StateError};

/// Rows that are looked at to choose charts.
const LOOKED_AT: u64 = 200_000;

/// Folders below one another that are looked into.
const DEEPEST: usize = 3;

/// How the files of an output are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Format {
    /// With what stands between cells, and for null.
    Csv(char, String),
    Ndjson,
    Parquet,
    /// With the table.
    Sqlite(String),
}

/// One output of a stream.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) stream: String,
    pub(super) format: Format,
    /// Relative to the project; several where runs add files.
    pub(super) files: Vec<String>,
    /// The `datapackage.json` that tells of it, relative to the project.
    pub(super) package: String,
    /// Rows that were looked at.
    pub(super) rows: u64,
    /// Its columns.
    pub(super) columns: Vec<Seen>,
    /// The columns that tell records apart.
    pub(super) key: Vec<String>,
}

/// The best output of each stream.
pub(super) fn find(
    root: &Path,
    plan: &Plan,
    wanted: &[String],
    data: Option<&Path>,
) -> Result<Vec<Output>, Failure> {
    for name in wanted {
        if !plan.streams.iter().any(|stream| stream.name == *name) {
            return Err(Failure::usage(format!(
                "{} has no stream `{name}`",
                plan.name
            )));
        }
    }
    let packages = packages(root, plan, data)?;
    let mut outputs = Vec::new();
    for (at, stream) in plan.streams.iter().enumerate() {
        // Of a table that several streams write the first one stands for all.
        let table = plan.table(at);
        let names = table
            .iter()
            .filter_map(|at| Some(&plan.streams.get(*at)?.name));
        let names: Vec<&String> = names.collect();
        let is_wanted = wanted.is_empty() || names.iter().any(|name| wanted.contains(name));
        if !is_wanted || table.first() != Some(&at) {
            continue;
        }
        let mut best: Option<Found<'_>> = None;
        for (folder, package) in &packages {
            let Some(resources) = package["resources"].as_array() else {
                continue;
            };
            for resource in resources {
                let told = &resource["gleaner"];
                let is_of = names.iter().any(|name| told["stream"] == **name);
                if told["pipeline"] != *plan.name || !is_of {
                    continue;
                }
                let Some((rank, format)) = format(resource) else {
                    continue;
                };
                let Some(file) = resource["path"].as_str() else {
                    continue;
                };
                let path = folder.join(file);
                if !root.join(&path).is_file() {
                    continue;
                }
                let file = path.to_string_lossy().into_owned();
                if let Some(found) = &mut best {
                    let adds = told["mode"] == "append" && found.format == format;
                    if adds {
                        found.files.push(file.clone());
                    }
                    if adds || found.rank >= rank {
                        continue;
                    }
                }
                best = Some(Found {
                    rank,
                    format,
                    files: vec![file],
                    folder,
                    resource,
                });
            }
        }
        if let Some(found) = best {
            outputs.push(found.looked_at(root, stream)?);
        }
    }
    Ok(outputs)
}

/// An output of a stream, as a package tells of it.
struct Found<'p> {
    rank: u8,
    format: Format,
    files: Vec<String>,
    folder: &'p Path,
    resource: &'p Value,
}

impl Found<'_> {
    fn looked_at(self, root: &Path, stream: &StreamPlan) -> Result<Output, Failure> {
        let kept = match &self.format {
            Format::Csv(..) => {
                let (delimiter, null) = datapackage::dialect(self.resource);
                Kept::Csv(delimiter, null)
            }
            Format::Ndjson => Kept::Ndjson,
            Format::Parquet => Kept::Parquet,
            Format::Sqlite(table) => Kept::Table(table.clone(), Names::Sql),
        };
        let types = match &self.format {
            Format::Csv(..) => datapackage::columns(self.resource),
            Format::Ndjson | Format::Parquet | Format::Sqlite(_) => None,
        };
        let files = self.files.iter().map(|file| root.join(file)).collect();
        let (rows, columns) = Source::open(files, kept, types.as_deref())
            .and_then(|source| glance::glance(&source, LOOKED_AT))
            .map_err(unreadable)?;
        let key = self.resource["schema"]["primaryKey"].as_array();
        let key = key.into_iter().flatten();
        let key = key.filter_map(|name| Some(name.as_str()?.to_owned()));
        Ok(Output {
            stream: stream.name.clone(),
            package: self.folder.join(NAME).to_string_lossy().into_owned(),
            key: key.chain(stream.key.iter().cloned()).collect(),
            format: self.format,
            files: self.files,
            rows,
            columns,
        })
    }
}

/// What the folders tell in which the pipeline writes: where its sinks say, where its runs have
/// published, or in `data` alone.
fn packages(
    root: &Path,
    plan: &Plan,
    data: Option<&Path>,
) -> Result<Vec<(PathBuf, Value)>, Failure> {
    let mut folders = BTreeSet::new();
    if let Some(data) = data {
        below(data, DEEPEST, &mut folders);
    } else {
        let sinks = plan.streams.iter().flat_map(|stream| &stream.sinks);
        for sink in sinks {
            let written = sink.path.written().replace("{{ pipeline }}", &plan.name);
            // Up to the first value that is not known here.
            let known = written.split("{{").next().unwrap_or_default();
            let (folder, _) = known.rsplit_once('/').unwrap_or_default();
            let deepest = if folder.is_empty() { 0 } else { DEEPEST };
            below(&root.join(folder), deepest, &mut folders);
        }
        if root.join(".gleaner/state.db").is_file() {
            let state = State::open(&Disk::system(), root).map_err(|e| *e.into_failure())?;
            let runs = state.runs(Some(&plan.name));
            let runs = runs.map_err(|e: StateError| *e.into_failure())?;
            let files = runs.iter().filter_map(|run| run.files.as_array()).flatten();
            for path in files.filter_map(|file| file["path"].as_str()) {
                // What is added to a folder is told beside it.
                folders.extend(
                    Path::new(path)
                        .ancestors()
                        .skip(1)
                        .take(2)
                        .map(Path::to_owned),
                );
            }
        }
    }
    let mut packages = Vec::new();
    for folder in folders {
        let path = folder.join(NAME);
        let Ok(text) = fs::read(&path) else { continue };
        let package = serde_json::from_slice(&text).map_err(|error| {
            Failure::new(Exit::Failed, format!("{} cannot be read", path.display()))
                .caused_by(&error)
        })?;
        let inside = folder.strip_prefix(root).unwrap_or(&folder);
        packages.push((inside.to_owned(), package));
    }
    Ok(packages)
}

/// A folder and those in it.
fn below(folder: &Path, deepest: usize, found: &mut BTreeSet<PathBuf>) {
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

/// How a resource is written, and how good it is to load: types in the file are best.
fn format(resource: &Value) -> Option<(u8, Format)> {
    match resource["format"].as_str()? {
        "parquet" => Some((4, Format::Parquet)),
        "csv" => {
            let (delimiter, null) = datapackage::dialect(resource);
            Some((3, Format::Csv(char::from(delimiter), null)))
        }
        "ndjson" => Some((2, Format::Ndjson)),
        "sqlite" => Some((
            1,
            Format::Sqlite(resource["dialect"]["table"].as_str()?.to_owned()),
        )),
        _ => None,
    }
}
