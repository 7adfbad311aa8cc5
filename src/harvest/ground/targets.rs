//! Where a stream's records go: sink paths rendered and tried before the first request.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use minijinja::Value;

use crate::disk::{Access, DiskError, Found};
use crate::failure::{Exit, Failure};
use crate::harvest::publish::database;
use crate::harvest::publish::disk_failure;
use crate::harvest::run::{Run, unrendered};
use crate::plan::StreamPlan;
use crate::plan::language::Template;
use crate::plan::sink::{Compression, SinkFormat, SinkMode, SinkPlan, is_table_name};
use crate::sink::database::Place;
use crate::sink::file::Target;

/// The outputs of a stream, one for each of its sinks.
#[derive(Debug)]
pub(in crate::harvest) struct Targets(pub(in crate::harvest) Vec<Target>);

impl Targets {
    /// Whether all of them are files: what went elsewhere cannot be called published.
    pub(in crate::harvest) fn is_files(&self) -> bool {
        self.0
            .iter()
            .all(|target| !matches!(target, Target::Stdout))
    }

    /// Renders the paths, makes the folders and tries to write there.
    pub(in crate::harvest) fn open(run: &Run, stream: &StreamPlan) -> Result<Self, Box<Failure>> {
        let names = run
            .names
            .output(&[("stream".to_owned(), Value::from(stream.name.as_str()))]);
        let mut targets = Vec::new();
        for sink in &stream.sinks {
            let path = sink.path.file(&names).map_err(|e| unrendered("sink", &e))?;
            if path == "-" {
                targets.push(Target::Stdout);
                continue;
            }
            let adds = sink.mode == SinkMode::Append;
            let path = if adds {
                path.trim_end_matches('/')
            } else {
                path.as_str()
            };
            let relative = Path::new(path);
            if let Some(why) = unusable(sink.path.written(), relative) {
                return Err(Box::new(Failure {
                    exit: Exit::Usage,
                    message: format!("the sink of {} renders to {path:?}: {why}", stream.name),
                    causes: Vec::new(),
                    hint: Some("look at the values in the path: `vars`, `--var`".to_owned()),
                }));
            }
            if path.is_empty()
                || path.ends_with('/')
                || path.contains('\0')
                || relative.components().any(|c| c.as_os_str() == "..")
            {
                return Err(Box::new(Failure {
                    exit: Exit::Usage,
                    message: format!(
                        "the sink of {} renders to {path:?}, which names no file below the project",
                        stream.name
                    ),
                    causes: Vec::new(),
                    hint: Some("write a path like data/{{ stream }}.csv, without `..`".to_owned()),
                }));
            }
            let mut path = run.world.root.join(relative);
            if run.options.limit_records.is_some() {
                path = sample_path(&path);
            }
            if adds && sink.table.is_none() {
                path.push(added_name(&run.id, sink));
            }
            let folder = path.parent().unwrap_or(&run.world.root);
            let table = match &sink.table {
                None => None,
                Some(table) => Some(table_of(run, table, &path, &names, stream)?),
            };
            if run.options.dry {
                targets.push(table.map(Target::Table).unwrap_or(Target::File {
                    disk: run.world.disk.clone(),
                    path,
                    compression: sink.compression,
                }));
                continue;
            }
            let disk = &run.world.disk;
            disk.create_folder(folder, Access::Umask)
                .and_then(|()| disk.probe_writable(folder))
                .map_err(|e| disk_failure(&e))?;
            if matches!(disk.look(&path), Ok(Found::Folder)) {
                let error = DiskError::new("write", &path, std::io::ErrorKind::IsADirectory.into());
                return Err(disk_failure(&error));
            }
            if let Some(table) = table {
                table
                    .probe(&run.plan.name)
                    .map_err(|e| database::failure(stream, &e))?;
                targets.push(Target::Table(table));
                continue;
            }
            targets.push(Target::File {
                disk: run.world.disk.clone(),
                path,
                compression: sink.compression,
            });
        }
        Ok(Self(targets))
    }
}

/// A table of a SQLite file.
fn table_of(
    run: &Run,
    table: &Template,
    path: &Path,
    names: &Value,
    stream: &StreamPlan,
) -> Result<Place, Box<Failure>> {
    let name = table.file(names).map_err(|e| unrendered("sink", &e))?;
    if !is_table_name(&name) {
        return Err(Box::new(Failure {
            exit: Exit::Usage,
            message: format!(
                "the table of {} renders to {name:?}, which SQL or we have taken",
                stream.name
            ),
            causes: Vec::new(),
            hint: Some("look at the values in `table`: `vars`, `--var`".to_owned()),
        }));
    }
    Ok(Place {
        disk: run.world.disk.clone(),
        path: path.to_owned(),
        table: name,
    })
}

/// Most characters of a name that was rendered; the rest of what a file system takes is for the
/// endings that files get while they are written.
const LONGEST_NAME: usize = 100;

/// What is wrong with a name that values were put into. What stands in the file word for word is
/// the author's own business.
fn unusable(written: &str, path: &Path) -> Option<String> {
    let own: Vec<&str> = written.split('/').collect();
    let names = path.components().filter_map(|part| match part {
        Component::Normal(name) => name.to_str(),
        _ => None,
    });
    let mut rendered = names.filter(|name| !own.contains(name));
    rendered.find_map(|name| {
        let stem = name.split('.').next().unwrap_or(name).trim_end();
        if name.starts_with('.') {
            Some(format!("`{name}` begins with a dot, so it is hidden"))
        } else if name.chars().count() > LONGEST_NAME {
            Some(format!("a name has more than {LONGEST_NAME} characters"))
        } else if is_device(stem) || name.ends_with(['.', ' ']) {
            Some(format!("`{name}` is no file's name on Windows"))
        } else {
            None
        }
    })
}

/// Names of devices, whatever the ending (Microsoft, "Naming Files, Paths, and Namespaces").
fn is_device(stem: &str) -> bool {
    let stem = stem.to_ascii_uppercase();
    let numbered = stem
        .strip_prefix("COM")
        .or_else(|| stem.strip_prefix("LPT"))
        .is_some_and(|number| matches!(number.as_bytes(), [b'0'..=b'9']));
    numbered || matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL")
}

/// The file that a run adds to a folder. It is named by the run, so that doing it again changes
/// nothing.
fn added_name(run: &str, sink: &SinkPlan) -> String {
    let format = match sink.format {
        SinkFormat::Csv(_) => "csv",
        SinkFormat::Ndjson => "ndjson",
        SinkFormat::Sqlite => "db",
        SinkFormat::Parquet(_) => "parquet",
    };
    let compression = match sink.compression {
        Compression::None => "",
        Compression::Gzip => ".gz",
        Compression::Zstd => ".zst",
    };
    format!("{run}.{format}{compression}")
}

/// `data/x.csv.gz` → `data/x.sample.csv.gz`: a run that is cut short never touches the target.
fn sample_path(path: &Path) -> PathBuf {
    let name = path
        .file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default();
    let dot = name.find('.').filter(|at| *at > 0).unwrap_or(name.len());
    path.with_file_name(format!("{}.sample{}", &name[..dot], &name[dot..]))
}

/// Two outputs in one file would overwrite each other, unless their streams write one table.
pub(in crate::harvest) fn refuse_shared(
    run: &Run,
    streams: &[(usize, Targets)],
) -> Result<(), Box<Failure>> {
    let mut taken: HashMap<PathBuf, usize> = HashMap::new();
    for (at, targets) in streams {
        let name = |at: usize| run.plan.streams[at].name.as_str();
        for target in &targets.0 {
            if let Some(other) = taken.insert(target.shown(), *at)
                && !run.tables.share(other, *at)
            {
                return Err(Box::new(Failure {
                    exit: Exit::Usage,
                    message: format!(
                        "{} and {} both write {}",
                        name(other),
                        name(*at),
                        target.shown().display()
                    ),
                    causes: Vec::new(),
                    hint: Some(
                        "put {{ stream }} into the sink's path; or write the path of both in the same words, and they write one table"
                            .to_owned(),
                    ),
                }));
            }
        }
    }
    Ok(())
}

/// A choice of streams that would write a part of a table in the place of all of it. What `merge`
/// gathered of the others stays, so there any choice will do.
pub(in crate::harvest) fn refuse_part(run: &Run) -> Result<(), Box<Failure>> {
    let plan = &run.plan;
    if run.options.limit_records.is_some() || run.options.dry {
        return Ok(());
    }
    for (at, stream) in plan.streams.iter().enumerate() {
        let merges = stream.sinks.iter().all(|sink| sink.mode == SinkMode::Merge);
        if !run.family.is_chosen(&stream.name) || merges {
            continue;
        }
        let table = plan.table(at);
        let names = table.iter().map(|at| plan.streams[*at].name.as_str());
        let missing: Vec<&str> = names
            .clone()
            .filter(|name| !run.family.is_chosen(name))
            .collect();
        if missing.is_empty() {
            continue;
        }
        let all: Vec<String> = names.map(|name| format!("--stream {name}")).collect();
        return Err(Box::new(
            Failure::usage(format!(
                "{} writes one table with {}: without them the table would lose their records",
                stream.name,
                missing.join(" and ")
            ))
            .hint(format!(
                "choose all of them: {}; or write elsewhere with `--sink`",
                all.join(" ")
            )),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_were_rendered_are_judged() {
        let wrong = |written: &str, path: &str| unusable(written, Path::new(path)).is_some();
        let long = "x".repeat(101);
        for path in [
            "data/.x",
            "data/con.csv",
            "data/Lpt1.tar.gz",
            "data/NUL",
            "data/x.",
            "data/aux .csv",
            &format!("data/{long}"),
        ] {
            assert!(wrong("data/{{ vars.name }}", path), "{path}");
            assert!(!wrong(path, path), "{path}: as the author wrote it");
        }
        for path in [
            "data/x.csv",
            "data/console.csv",
            "data/com10.csv",
            ".out/y.csv",
        ] {
            assert!(!wrong(".out/{{ vars.name }}", path), "{path}");
        }
    }

    #[test]
    fn a_sample_stands_beside_its_target() {
        let sample = |path: &str| sample_path(Path::new(path)).display().to_string();
        assert_eq!(sample("data/x.csv.gz"), "data/x.sample.csv.gz");
        assert_eq!(sample("x"), "x.sample");
        assert_eq!(sample("d/.hidden"), "d/.hidden.sample");
    }
}
