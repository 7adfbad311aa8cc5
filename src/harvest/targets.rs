//! Where a stream's records go: sink paths rendered and tried before the first request.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use minijinja::Value;

use super::publish::disk_failure;
use super::run::{Run, unrendered};
use crate::disk::{Access, DiskError, Found};
use crate::failure::{Exit, Failure};
use crate::plan::StreamPlan;
use crate::plan::sink::{Compression, SinkFormat, SinkMode, SinkPlan};
use crate::sink::file::Target;

/// The outputs of a stream, one for each of its sinks.
#[derive(Debug)]
pub(super) struct Targets(pub(super) Vec<Target>);

impl Targets {
    /// Whether all of them are files: what went elsewhere cannot be called published.
    pub(super) fn is_files(&self) -> bool {
        self.0
            .iter()
            .all(|target| matches!(target, Target::File { .. }))
    }

    /// Renders the paths, makes the folders and tries to write there.
    pub(super) fn open(run: &Run, stream: &StreamPlan) -> Result<Self, Box<Failure>> {
        let names = run
            .names
            .output(&[("stream".to_owned(), Value::from(stream.name.as_str()))]);
        let mut targets = Vec::new();
        for sink in &stream.sinks {
            let path = sink.path.text(&names).map_err(|e| unrendered("sink", &e))?;
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
            if adds {
                path.push(added_name(&run.id, sink));
            }
            let folder = path.parent().unwrap_or(&run.world.root);
            if run.options.dry {
                targets.push(Target::File {
                    disk: run.world.disk.clone(),
                    path,
                    compression: sink.compression,
                });
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
            targets.push(Target::File {
                disk: run.world.disk.clone(),
                path,
                compression: sink.compression,
            });
        }
        Ok(Self(targets))
    }
}

/// The file that a run adds to a folder. It is named by the run, so that doing it again changes
/// nothing.
fn added_name(run: &str, sink: &SinkPlan) -> String {
    let format = match sink.format {
        SinkFormat::Csv(_) => "csv",
        SinkFormat::Ndjson => "ndjson",
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

/// Two outputs in one file would overwrite each other.
pub(super) fn refuse_shared(run: &Run, streams: &[(usize, Targets)]) -> Result<(), Box<Failure>> {
    let mut taken: HashMap<PathBuf, &str> = HashMap::new();
    for (at, targets) in streams {
        let name = run.plan.streams[*at].name.as_str();
        for target in &targets.0 {
            if let Some(other) = taken.insert(target.shown(), name) {
                return Err(Box::new(Failure {
                    exit: Exit::Usage,
                    message: format!("{other} and {name} both write {}", target.shown().display()),
                    causes: Vec::new(),
                    hint: Some("put {{ stream }} into the sink's path".to_owned()),
                }));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_stands_beside_its_target() {
        let sample = |path: &str| sample_path(Path::new(path)).display().to_string();
        assert_eq!(sample("data/x.csv.gz"), "data/x.sample.csv.gz");
        assert_eq!(sample("x"), "x.sample");
        assert_eq!(sample("d/.hidden"), "d/.hidden.sample");
    }
}
