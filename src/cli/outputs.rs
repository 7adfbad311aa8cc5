//! What was published of a pipeline: which files there are, and how to read them back.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::disk::Disk;
use crate::failure::{Exit, Failure};
use crate::report::clean;
use crate::sink::SinkError;
use crate::sink::back::{Kept, Names, Source};
use crate::sink::datapackage;
use crate::store::cursors::PublishedFile;
use crate::store::state::{State, StateError};

/// One output of a stream.
#[derive(Debug)]
pub(super) struct Output {
    /// The stream.
    pub(super) stream: String,
    /// How it is written.
    pub(super) format: Format,
    /// What people know it by: the file, or the folder to which runs add files.
    pub(super) path: PathBuf,
    /// Its files, in the order in which they were published.
    pub(super) files: Vec<PathBuf>,
    /// The table, where the file is a database.
    pub(super) table: Option<String>,
    /// When the last was.
    pub(super) at: jiff::Timestamp,
    /// The run that did it.
    pub(super) run: String,
}

/// A format that can be read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(super) enum Format {
    /// Columns with types
    Parquet,
    /// One JSON object a line
    Ndjson,
    /// Cells without types
    Csv,
    /// A table of a SQLite file
    Sqlite,
}

impl Format {
    /// By the file's ending, that of a compression left off.
    fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let name = (name.strip_suffix(".gz"))
            .or_else(|| name.strip_suffix(".zst"))
            .unwrap_or(name);
        match name.rsplit_once('.')?.1 {
            "csv" => Some(Self::Csv),
            "ndjson" | "jsonl" => Some(Self::Ndjson),
            "parquet" => Some(Self::Parquet),
            _ => None,
        }
    }

    /// Its ending.
    pub(super) fn ending(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
            Self::Sqlite => "sqlite",
        }
    }
}

/// The outputs of a pipeline: of each stream the one that tells most, or that of `format`.
pub(super) fn find(
    root: &Path,
    pipeline: &str,
    streams: &[String],
    format: Option<Format>,
) -> Result<Vec<Output>, Failure> {
    let all = published(root, pipeline)?;
    let known: Vec<&str> = all.iter().map(|file| file.stream.as_str()).collect();
    for stream in streams {
        if !known.contains(&stream.as_str()) {
            let message = format!(
                "{} published nothing of a stream `{}`",
                clean(pipeline),
                clean(stream)
            );
            return Err(Failure::usage(message).hint("`gleaner runs NAME` lists what was run"));
        }
    }
    let mut outputs: Vec<Output> = Vec::new();
    for file in all {
        let (path, table) = place(&file.target);
        let found = match table {
            Some(_) => Some(Format::Sqlite),
            None => Format::of(&path),
        };
        let wanted = streams.is_empty() || streams.contains(&file.stream);
        let Some(found) = found.filter(|found| wanted && format.is_none_or(|f| f == *found)) else {
            continue;
        };
        if path.is_file() {
            add(&mut outputs, file, path, table, found);
        }
    }
    if outputs.is_empty() {
        let message = format!("nothing that {} published is there", clean(pipeline));
        return Err(Failure::usage(message).hint(format!(
            "`gleaner run {}` publishes; what can be read back are tables of SQLite files, and files that end in .csv, .ndjson or .parquet",
            clean(pipeline)
        )));
    }
    for output in &mut outputs {
        output.files.reverse();
    }
    // The latest publish of a stream may have several outputs: the first by format is it.
    outputs.sort_by(|a, b| (&a.stream, b.at, a.format).cmp(&(&b.stream, a.at, b.format)));
    outputs.dedup_by(|a, b| a.stream == b.stream);
    Ok(outputs)
}

/// The file of a target, and the table: `data/x.db#items`.
fn place(target: &str) -> (PathBuf, Option<String>) {
    let path = PathBuf::from(target);
    if path.is_file() {
        return (path, None);
    }
    let mut marks = target.match_indices('#');
    let is_file = |at: usize| {
        target
            .get(..at)
            .is_some_and(|path| Path::new(path).is_file())
    };
    match marks.find(|(at, _)| is_file(*at)) {
        Some((at, _)) => {
            let (path, table) = target.split_at(at);
            (path.into(), table.get(1..).map(str::to_owned))
        }
        None => (path, None),
    }
}

/// Files come the latest first; those that runs added to one folder are one output.
fn add(
    outputs: &mut Vec<Output>,
    file: PublishedFile,
    path: PathBuf,
    table: Option<String>,
    format: Format,
) {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let adds = name.split('.').next() == Some(file.run.as_str());
    let place = match path.parent() {
        Some(folder) if adds => folder.to_owned(),
        _ if table.is_some() => PathBuf::from(&file.target),
        _ => path.clone(),
    };
    let same = |output: &&mut Output| {
        output.stream == file.stream && output.path == place && output.format == format
    };
    match outputs.iter_mut().find(same) {
        Some(output) if adds => output.files.push(path),
        Some(_) => {}
        None => outputs.push(Output {
            stream: file.stream,
            format,
            path: place,
            files: vec![path],
            table,
            at: file.at,
            run: file.run,
        }),
    }
}

fn published(root: &Path, pipeline: &str) -> Result<Vec<PublishedFile>, Failure> {
    if !root.join(".gleaner").join("state.db").exists() {
        return Ok(Vec::new());
    }
    let read = State::open(&Disk::system(), root).and_then(|state| state.published_by(pipeline));
    read.map_err(|error: StateError| *error.into_failure())
}

impl Output {
    /// Opens its files.
    pub(super) fn open(&self) -> Result<Source, Failure> {
        let told = self.files.first().and_then(|file| resource(file));
        let kept = match (self.format, &self.table) {
            (Format::Parquet, _) => Kept::Parquet,
            (Format::Ndjson, _) => Kept::Ndjson,
            (Format::Csv, _) => {
                let (delimiter, null) = datapackage::dialect(told.as_ref().unwrap_or(&Value::Null));
                Kept::Csv(delimiter, null)
            }
            (Format::Sqlite, table) => {
                Kept::Table(table.clone().unwrap_or_default(), Names::Records)
            }
        };
        let types = match self.format {
            // The file knows them itself.
            Format::Parquet | Format::Sqlite => None,
            Format::Csv | Format::Ndjson => told.as_ref().and_then(datapackage::columns),
        };
        Source::open(self.files.clone(), kept, types.as_deref()).map_err(unreadable)
    }
}

/// What a folder tells of one of its files.
fn resource(file: &Path) -> Option<Value> {
    let text = std::fs::read_to_string(file.with_file_name(datapackage::NAME)).ok()?;
    let package: Value = serde_json::from_str(&text).ok()?;
    let name = file.file_name()?.to_str()?;
    let mut all = package["resources"].as_array()?.iter();
    all.find(|resource| resource["path"] == *name).cloned()
}

/// A file that cannot be read back, or written.
#[expect(clippy::needless_pass_by_value, reason = "it is handed to `map_err`")]
pub(super) fn unreadable(error: SinkError) -> Failure {
    let exit = if error.is_disk() {
        Exit::Disk
    } else {
        Exit::Failed
    };
    let mut failure = Failure::new(exit, error.to_string());
    failure.hint = error.hint();
    failure
}
