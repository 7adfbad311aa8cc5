//! `gleaner runs raw`: answers that a run has kept as they came.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{out, table};
use crate::failure::{Exit, Failure};
use crate::report::{clean, size, thousands};
use crate::store::came;
use crate::store::history::RunRecord;

/// What a line says of where its answer lies.
#[derive(Deserialize)]
struct Line {
    at: u64,
    bytes: u64,
}

/// Lists the files of a run, or prints the answers of a stream, or one of them.
pub(super) fn show(
    root: &Path,
    run: &RunRecord,
    stream: Option<&str>,
    line: Option<usize>,
) -> Result<Exit, Failure> {
    let folder = came::folder(root, &run.pipeline, &run.id);
    let streams = streams(&folder)?;
    let none = || {
        Failure::usage(format!("run {} has kept no answers", run.id)).hint(
            "write `keep: raw` into the stream; answers are there once it is published, as long as `gleaner runs` lists the run",
        )
    };
    if streams.is_empty() {
        return Err(none());
    }
    let Some(wanted) = stream else {
        return list(&folder, &streams);
    };
    if !streams.iter().any(|name| name == wanted) {
        let message = format!("run {} has kept no answers of `{}`", run.id, clean(wanted));
        return Err(Failure::usage(message).hint(format!("it has those of {}", streams.join(", "))));
    }
    let path = came::bodies(&folder, wanted);
    let mut file = File::open(&path).map_err(|e| unread(&path, &e))?;
    let part: Box<dyn Read> = match line {
        None => Box::new(file),
        Some(number) => {
            let place = find(&came::lines(&folder, wanted), number)?;
            file.seek(SeekFrom::Start(place.at))
                .map_err(|e| unread(&path, &e))?;
            Box::new(file.take(place.bytes))
        }
    };
    let mut bodies = zstd::Decoder::new(part).map_err(|e| unread(&path, &e))?;
    out::copy(&mut bodies).map_err(|e| unread(&path, &e))?;
    Ok(Exit::Complete)
}

fn list(folder: &Path, streams: &[String]) -> Result<Exit, Failure> {
    let mut rows = Vec::new();
    for stream in streams {
        let (bodies, lines) = (came::bodies(folder, stream), came::lines(folder, stream));
        let file = File::open(&lines).map_err(|e| unread(&lines, &e))?;
        let answers = BufReader::new(file).lines().count() as u64;
        let bytes = bodies.metadata().map_err(|e| unread(&bodies, &e))?.len();
        rows.push(vec![
            stream.clone(),
            thousands(answers),
            size(bytes),
            bodies.display().to_string(),
        ]);
    }
    let header = ["STREAM", "ANSWERS", "BYTES", "FILE"];
    out::stdout(&table::plain(&header, &rows, usize::MAX))?;
    Ok(Exit::Complete)
}

fn streams(folder: &Path) -> Result<Vec<String>, Failure> {
    let entries = match folder.read_dir() {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unread(folder, &error)),
    };
    let mut streams = Vec::new();
    for entry in entries {
        let name = entry.map_err(|e| unread(folder, &e))?.file_name();
        let path = PathBuf::from(name);
        if path.extension().is_some_and(|ending| ending == "zst") {
            streams.extend(
                path.file_stem()
                    .map(|stem| stem.to_string_lossy().into_owned()),
            );
        }
    }
    streams.sort_unstable();
    Ok(streams)
}

fn find(path: &Path, number: usize) -> Result<Line, Failure> {
    let file = File::open(path).map_err(|e| unread(path, &e))?;
    let line = number
        .checked_sub(1)
        .and_then(|at| BufReader::new(file).lines().nth(at));
    let Some(line) = line else {
        let message = format!("{} has no line {number}", path.display());
        return Err(Failure::usage(message).hint("lines are counted from 1"));
    };
    let line = line.map_err(|e| unread(path, &e))?;
    serde_json::from_str(&line).map_err(|e| unread(path, &e.into()))
}

fn unread(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("cannot read {}", path.display())).caused_by(error)
}
