//! The outputs of a pipeline, as the `datapackage.json` of their folders tell of them.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::cli::outputs::unreadable;
use crate::cli::packages::{self, DEEPEST, Package, below};
use crate::disk::Disk;
use crate::failure::Failure;
use crate::plan::Plan;
use crate::sink::back::{Kept, Names, Source};
use crate::sink::datapackage::{self, NAME};
use crate::sink::glance::{self, Seen};
use crate::store::state::{State, StateError};

/// Rows that are looked at to choose charts.
const LOOKED_AT: u64 = 200_000;

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

/// What a notebook is about.
#[derive(Debug)]
pub(super) struct Subject {
    /// The pipeline.
    pub(super) name: String,
    /// One sentence about it.
    pub(super) about: String,
    /// What it writes, in the order of the file.
    tables: Vec<Table>,
    /// What the folders tell in which it does.
    packages: Vec<Package>,
}

/// A stream, or several that write one table: the first stands for all.
#[derive(Debug)]
struct Table {
    streams: Vec<String>,
    key: Vec<String>,
}

impl Subject {
    /// By the pipeline's file.
    pub(super) fn of_plan(root: &Path, plan: &Plan, data: Option<&Path>) -> Result<Self, Failure> {
        let names = |at: &usize| Some(plan.streams.get(*at)?.name.clone());
        let all = plan.streams.iter().enumerate();
        let firsts = all.filter(|(at, _)| plan.table(*at).first() == Some(at));
        let tables = firsts.map(|(at, stream)| Table {
            streams: plan.table(at).iter().filter_map(names).collect(),
            key: stream.key.clone(),
        });
        Ok(Self {
            name: plan.name.clone(),
            about: plan.about.clone(),
            tables: tables.collect(),
            packages: packages(root, plan, data)?,
        })
    }

    /// By what is told of its outputs alone.
    pub(super) fn of_packages(name: &str, packages: Vec<Package>) -> Self {
        let mut tables: Vec<Table> = Vec::new();
        let resources = packages.iter().flat_map(|package| &package.resources);
        let ours = resources.filter(|told| told["gleaner"]["pipeline"] == *name);
        let mut about = "";
        for told in ours {
            let text = |value: &Value| value.as_str().map(str::to_owned);
            let streams = told["gleaner"]["streams"].as_array().into_iter().flatten();
            let mut streams: Vec<String> = streams.filter_map(text).collect();
            if streams.is_empty() {
                streams.extend(text(&told["gleaner"]["stream"]));
            }
            if !tables.iter().any(|table| table.streams == streams) {
                tables.push(Table {
                    streams,
                    // That of the output that is loaded stands in its schema.
                    key: Vec::new(),
                });
            }
            about = told["description"].as_str().unwrap_or(about);
        }
        Self {
            name: name.to_owned(),
            about: about.to_owned(),
            tables,
            packages,
        }
    }
}

/// The best output of each stream.
pub(super) fn find(
    root: &Path,
    subject: &Subject,
    wanted: &[String],
) -> Result<Vec<Output>, Failure> {
    let mut streams = subject.tables.iter().flat_map(|table| &table.streams);
    let streams: Vec<&String> = streams.by_ref().collect();
    if let Some(name) = wanted.iter().find(|name| !streams.contains(name)) {
        return Err(Failure::usage(format!(
            "{} has no stream `{name}`",
            subject.name
        )));
    }
    let mut outputs = Vec::new();
    for table in &subject.tables {
        let is_wanted = |name: &String| wanted.contains(name);
        if !wanted.is_empty() && !table.streams.iter().any(is_wanted) {
            continue;
        }
        let mut best: Option<Found<'_>> = None;
        for Package { folder, resources } in &subject.packages {
            for resource in resources {
                let told = &resource["gleaner"];
                let is_of = table.streams.iter().any(|name| told["stream"] == **name);
                if told["pipeline"] != *subject.name || !is_of {
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
            outputs.push(found.looked_at(root, table)?);
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
    fn looked_at(self, root: &Path, table: &Table) -> Result<Output, Failure> {
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
            stream: table.streams.first().cloned().unwrap_or_default(),
            package: self.folder.join(NAME).to_string_lossy().into_owned(),
            key: key.chain(table.key.iter().cloned()).collect(),
            format: self.format,
            files: self.files,
            rows,
            columns,
        })
    }
}

/// What the folders tell in which the pipeline writes: where its sinks say, where its runs have
/// published, or in `data` alone.
fn packages(root: &Path, plan: &Plan, data: Option<&Path>) -> Result<Vec<Package>, Failure> {
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
    let mut found = Vec::new();
    for folder in folders {
        found.extend(packages::read(&folder)?.map(|package| package.seen_from(root)));
    }
    Ok(found)
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
