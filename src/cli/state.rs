//! Where what outlives a run and belongs to no project is kept: the user's state folder.

use std::path::PathBuf;

/// The folder of the book of limits: below `GLEANER_STATE_DIR`, `XDG_STATE_HOME` or `~/.local/state`
/// (XDG Base Directory Specification). `None` where there is no home: then limits hold for one run.
pub(super) fn limits() -> Option<PathBuf> {
    let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let absolute = |path: PathBuf| path.is_absolute().then_some(path);
    let own = var("GLEANER_STATE_DIR").map(PathBuf::from);
    own.or_else(|| {
        let state = var("XDG_STATE_HOME").map(PathBuf::from).and_then(absolute);
        let home = || var("HOME").map(|home| PathBuf::from(home).join(".local/state"));
        Some(state.or_else(home)?.join("gleaner"))
    })
    .map(|folder| folder.join("limits"))
}
