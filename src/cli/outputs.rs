//! What was published of a pipeline: which files there are, and how to read them back.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::Value;

use crate::disk::Disk;
use crate::failure::{Exit, Failure};
use crate::plan::sink;
use crate::report::clean;
use crate::sink::SinkError;
use crate::sink::back::{Kept, Names, Source};
use crate::sink::datapackage;
use crate::spec::load;
use crate::store::state::{State, StateError};

use super::packages::{self, Package};
use super::{again, project};

/// One output of a stream, or of streams that share a table.
#[derive(Debug)]
pub(super) struct Output {
    /// The streams whose records are in it.
    pub(super) streams: Vec<String>,
    /// How it is written.
    pub(super) format: Format,
    /// What people know it by: the file, or the folder to which runs add files.
    pub(super) path: PathBuf,
    /// Its files, in the order in which they were published.
    pub(super) files: Vec<PathBuf>,
    /// The table, where the file is a database.
    pub(super) table: Option<String>,
    /// When the last was, where that is known.
    pub(super) at: Option<Timestamp>,
    /// The run that did it; empty where nobody says which.
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

/// A file or table that was published.
#[derive(Debug)]
pub(super) struct Published {
    /// The stream.
    pub(super) stream: String,
    /// The file.
    pub(super) path: PathBuf,
    /// The table, where the file is a database.
    pub(super) table: Option<String>,
    /// The run; empty where nobody says which.
    pub(super) run: String,
    /// When, where that is known.
    pub(super) at: Option<Timestamp>,
}

/// What a command was asked to read.
#[derive(Debug)]
pub(super) struct Asked {
    /// The project, or the folder the command works in.
    pub(super) root: PathBuf,
    /// The pipeline, or the path where no pipeline is told of.
    pub(super) name: String,
    /// Everything that was published, the latest first.
    all: Vec<Published>,
}

/// What was published of a pipeline: as the state of the project knows, else as `datapackage.json` in its
/// folders tells; or what the one at a path tells.
pub(super) fn asked(name: &str) -> Result<Asked, Failure> {
    let here = project::here()?;
    if packages::is_path(name) {
        let package = packages::at(&here.join(name))?;
        return Ok(Asked {
            name: package.pipeline().unwrap_or(name).to_owned(),
            all: sorted(package.outputs()),
            root: here,
        });
    }
    let root = load::project_root(&here).unwrap_or(here);
    again::tell(&root, name)?;
    let mut all = published(&root, name)?;
    // Of a project that was moved the state names places that are no more.
    if !all.iter().any(|file| file.path.is_file()) {
        let told = packages::of(&root, name)?;
        let told: Vec<Published> = told.iter().flat_map(Package::outputs).collect();
        if !told.is_empty() {
            all = sorted(told);
        }
    }
    Ok(Asked {
        root,
        name: name.to_owned(),
        all,
    })
}

fn sorted(mut all: Vec<Published>) -> Vec<Published> {
    all.sort_by(|a, b| (b.at, &b.run, &a.path).cmp(&(a.at, &a.run, &b.path)));
    all
}

impl Asked {
    /// Its outputs: of each stream the one that tells most, or that of `format`. One that streams share is one.
    pub(super) fn find(
        &self,
        streams: &[String],
        format: Option<Format>,
    ) -> Result<Vec<Output>, Failure> {
        for stream in streams {
            if !self.all.iter().any(|file| file.stream == *stream) {
                let message = format!(
                    "{} published nothing of a stream `{}`",
                    clean(&self.name),
                    clean(stream)
                );
                return Err(Failure::usage(message).hint("`gleaner runs NAME` lists what was run"));
            }
        }
        let mut outputs: Vec<Output> = Vec::new();
        for file in &self.all {
            let found = match file.table {
                Some(_) => Some(Format::Sqlite),
                None => Format::of(&file.path),
            };
            let Some(found) = found.filter(|found| format.is_none_or(|f| f == *found)) else {
                continue;
            };
            if file.path.is_file() {
                add(&mut outputs, file, found);
            }
        }
        for output in &mut outputs {
            output.files.reverse();
        }
        // The latest publish of a stream may have several outputs: the first by format is it.
        outputs.sort_by(|a, b| (&a.streams, b.at, a.format).cmp(&(&b.streams, a.at, b.format)));
        outputs.dedup_by(|a, b| a.streams == b.streams);
        let mut outputs = shared(outputs);
        let is_asked = |output: &Output| output.streams.iter().any(|name| streams.contains(name));
        outputs.retain(|output| streams.is_empty() || is_asked(output));
        if outputs.is_empty() {
            return Err(self.nothing());
        }
        Ok(outputs)
    }

    /// Whether runs publish a file, or a table of one, by whatever way it is called. Its folder must exist.
    pub(super) fn is_published(&self, path: &Path, table: Option<&str>) -> Result<bool, Failure> {
        let disk = Disk::system();
        let whole = disk.resolve_new(path).map_err(|error| {
            Failure::new(Exit::Disk, error.to_string()).caused_by(&error.source)
        })?;
        // Of a file that runs write whole no table is free, and a whole file takes all its tables away.
        let is_taken = |other: Option<&str>| match (table, other) {
            (Some(table), Some(other)) => {
                sink::place("", Some(table)) == sink::place("", Some(other))
            }
            _ => true,
        };
        let mut told = resources(path).into_iter().chain(resources(&whole));
        if told.any(|told| {
            told.get("gleaner").is_some() && is_taken(told["dialect"]["table"].as_str())
        }) {
            return Ok(true);
        }
        let Some(state) = state(&self.root)? else {
            return Ok(false);
        };
        let places = state.published_places();
        let places = places.map_err(|error| *error.into_failure())?;
        // What is no longer there with its folder is nobody's.
        let is_it = |path: &Path| disk.resolve_new(path).is_ok_and(|path| path == whole);
        // Of a database that is away nobody can tell its name from that of its table.
        let own = sink::place(&whole.to_string_lossy(), table);
        Ok(places.iter().any(|known| {
            let (file, other) = place(known);
            table.is_some() && known.eq_ignore_ascii_case(&own)
                || is_taken(other.as_deref()) && is_it(&file)
        }))
    }

    fn nothing(&self) -> Failure {
        let name = clean(&self.name);
        Failure::usage(format!("nothing that {name} published is there")).hint(format!(
            "`gleaner run {name}` publishes; what can be read back are tables of SQLite files, and files that end in .csv, .ndjson or .parquet. Of outputs from elsewhere give their datapackage.json"
        ))
    }
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
fn add(outputs: &mut Vec<Output>, file: &Published, format: Format) {
    let name = file.path.file_name().unwrap_or_default().to_string_lossy();
    let adds = !file.run.is_empty() && name.split('.').next() == Some(file.run.as_str());
    let place = match (file.path.parent(), &file.table) {
        (Some(folder), _) if adds => folder.to_owned(),
        (_, Some(table)) => PathBuf::from(format!("{}#{table}", file.path.display())),
        (_, None) => file.path.clone(),
    };
    let same = |output: &&mut Output| {
        output.streams == [file.stream.as_str()] && output.path == place && output.format == format
    };
    match outputs.iter_mut().find(same) {
        Some(output) if adds => output.files.push(file.path.clone()),
        Some(_) => {}
        None => outputs.push(Output {
            streams: vec![file.stream.clone()],
            format,
            path: place,
            files: vec![file.path.clone()],
            table: file.table.clone(),
            at: file.at,
            run: file.run.clone(),
        }),
    }
}

/// Streams that write one table are one output: each of them tells of all its files.
fn shared(outputs: Vec<Output>) -> Vec<Output> {
    let mut whole: Vec<Output> = Vec::new();
    for output in outputs {
        let same = whole
            .iter_mut()
            .find(|one| (&one.path, one.format) == (&output.path, output.format));
        let Some(one) = same else {
            whole.push(output);
            continue;
        };
        one.streams.extend(output.streams);
        let more = output.files.into_iter();
        let more: Vec<_> = more.filter(|file| !one.files.contains(file)).collect();
        if !more.is_empty() {
            // Those that runs added are named by the run, and so by the time.
            one.files.extend(more);
            one.files.sort();
        }
        if output.at > one.at {
            (one.at, one.run) = (output.at, output.run);
        }
    }
    whole
}

/// The state of a project, if something ran here.
fn state(root: &Path) -> Result<Option<State>, Failure> {
    if !root.join(".gleaner").join("state.db").exists() {
        return Ok(None);
    }
    let state = State::open(&Disk::system(), root);
    state.map(Some).map_err(|error| *error.into_failure())
}

fn published(root: &Path, pipeline: &str) -> Result<Vec<Published>, Failure> {
    let Some(state) = state(root)? else {
        return Ok(Vec::new());
    };
    let files = state.published_by(pipeline);
    let files = files.map_err(|error: StateError| *error.into_failure())?;
    let known = files.into_iter().map(|file| {
        let (path, table) = place(&file.target);
        Published {
            stream: file.stream,
            path,
            table,
            run: file.run,
            at: Some(file.at),
        }
    });
    Ok(known.collect())
}

impl Output {
    /// Its streams, in messages.
    pub(super) fn names(&self) -> String {
        let names: Vec<_> = self.streams.iter().map(|name| clean(name)).collect();
        names.join(", ")
    }

    /// Opens its files.
    pub(super) fn open(&self) -> Result<Source, Failure> {
        let told = (self.files.first()).and_then(|file| resources(file).into_iter().next());
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

/// What its folder tells of a file, or the one above, of a folder to which runs add: of a database once
/// a table.
fn resources(file: &Path) -> Vec<Value> {
    let (Some(folder), Some(name)) = (file.parent(), file.file_name().and_then(|n| n.to_str()))
    else {
        return Vec::new();
    };
    let beside = folder.file_name().unwrap_or_default().to_string_lossy();
    let places = [
        (Some(folder), name.to_owned()),
        (folder.parent(), format!("{beside}/{name}")),
    ];
    for (folder, path) in places {
        // One that cannot be read tells of nothing.
        let told = folder.and_then(|folder| packages::read(folder).ok()?);
        let told = told.into_iter().flat_map(|told| told.resources);
        let of_file: Vec<Value> = told.filter(|told| told["path"] == *path).collect();
        if !of_file.is_empty() {
            return of_file;
        }
    }
    Vec::new()
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
