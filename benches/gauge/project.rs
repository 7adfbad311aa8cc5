//! A project of its own for one bench, begun anew.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::measure::{Cost, run};

/// So many records as `GLEANER_BENCH_RECORDS` asks for, else as usual.
pub(crate) fn records(usual: usize) -> usize {
    let wanted = std::env::var("GLEANER_BENCH_RECORDS").ok();
    wanted.map_or(usual, |n| n.parse().expect("a number of records"))
}

/// An empty folder for a bench, with a place for pipelines.
pub(crate) fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(folder.join("pipelines")).expect("a folder");
    folder
}

/// Writes a pipeline of the project.
pub(crate) fn pipeline(folder: &Path, name: &str, text: &str) {
    let file = folder.join(format!("pipelines/{name}.yaml"));
    std::fs::write(file, text).expect("the pipeline file");
}

/// Runs it to its end.
pub(crate) fn harvest(folder: &Path, name: &str) -> Cost {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gleaner"));
    command
        .current_dir(folder)
        .args(["run", "-q", name])
        // A budget of its own: an earlier run must not have used it.
        .env("XDG_STATE_HOME", folder.join("state"));
    run(command)
}
