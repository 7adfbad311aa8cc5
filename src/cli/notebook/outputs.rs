//! The outputs of a pipeline, as the `datapackage.json` of their folders tell of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::disk::Disk;
use crate::failure::{Exit, Failure};
use crate::plan::Plan;
use crate::plan::typed::Kind;
use crate::sink::datapackage::NAME;
use crate::sink::glance::{self, Seen, Written};
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
    /// Rows of the file that was looked at.
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
        let mut best: Option<(u8, Output)> = None;
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
                if let Some((known, output)) = &mut best {
                    let adds = told["mode"] == "append" && output.format == format;
                    if adds {
                        output.files.push(file.clone());
                    }
                    if adds || *known >= rank {
                        continue;
                    }
                }
                let key = resource["schema"]["primaryKey"].as_array();
                let key = key
                    .into_iter()
                    .flatten()
                    .filter_map(|name| Some(name.as_str()?.to_owned()));
                let (rows, columns) = look(&root.join(&path), &format, resource)?;
                best = Some((
                    rank,
                    Output {
                        stream: stream.name.clone(),
                        format,
                        files: vec![file],
                        package: folder.join(NAME).to_string_lossy().into_owned(),
                        rows,
                        columns,
                        key: key.chain(stream.key.iter().cloned()).collect(),
                    },
                ));
            }
        }
        outputs.extend(best.map(|(_, output)| output));
    }
    Ok(outputs)
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
            let delimiter = resource["dialect"]["delimiter"].as_str()?.chars().next()?;
            let null = resource["schema"]["missingValues"][0]
                .as_str()
                .unwrap_or_default();
            Some((3, Format::Csv(delimiter, null.to_owned())))
        }
        "ndjson" => Some((2, Format::Ndjson)),
        "sqlite" => Some((
            1,
            Format::Sqlite(resource["dialect"]["table"].as_str()?.to_owned()),
        )),
        _ => None,
    }
}

fn look(path: &Path, format: &Format, resource: &Value) -> Result<(u64, Vec<Seen>), Failure> {
    let fields = resource["schema"]["fields"].as_array();
    let known: Vec<(String, Option<Kind>)> = fields
        .into_iter()
        .flatten()
        .map(|field| {
            let kind = match field["type"].as_str().unwrap_or_default() {
                "string" => Some(Kind::Text),
                "integer" => Some(Kind::Integer),
                "number" => Some(Kind::Number),
                "boolean" => Some(Kind::Boolean),
                "date" => Some(Kind::Date),
                "datetime" => Some(Kind::Timestamp),
                _ if field["native"] == "json" => Some(Kind::Json),
                _ => None,
            };
            (field["name"].as_str().unwrap_or_default().to_owned(), kind)
        })
        .collect();
    let written = match format {
        Format::Csv(delimiter, null) => {
            Written::Csv(u8::try_from(*delimiter).unwrap_or(b','), null, &known)
        }
        Format::Ndjson => Written::Ndjson,
        Format::Sqlite(table) => Written::Table(table, &known),
        Format::Parquet => return Ok((resource["rows"].as_u64().unwrap_or_default(), Vec::new())),
    };
    glance::glance(path, &written, LOOKED_AT).map_err(|error| {
        Failure::new(Exit::Failed, format!("cannot read {}", path.display())).caused_by(&error)
    })
}
