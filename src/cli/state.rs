//! Where what outlives a run and belongs to no project is kept: the user's state folder.

use std::path::PathBuf;

use crate::failure::Failure;
use crate::store::space::Floor;

/// The folder of the book of limits: below `GLEANER_STATE_DIR`, `XDG_STATE_HOME` or `~/.local/state`
/// (XDG Base Directory Specification). `None` where there is no home: then limits hold for one run.
pub(super) fn limits() -> Option<PathBuf> {
    folder().map(|folder| folder.join("limits"))
}

/// The user's state folder; `None` where there is no home.
pub(super) fn folder() -> Option<PathBuf> {
    let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let absolute = |path: PathBuf| path.is_absolute().then_some(path);
    let own = var("GLEANER_STATE_DIR").map(PathBuf::from);
    own.or_else(|| {
        let state = var("XDG_STATE_HOME").map(PathBuf::from).and_then(absolute);
        let home = || var("HOME").map(|home| PathBuf::from(home).join(".local/state"));
        Some(state.or_else(home)?.join("gleaner"))
    })
}

/// Bytes that must stay free on the disk: `GLEANER_KEEP_FREE`, in MiB.
pub(super) fn keep_free() -> Result<u64, Failure> {
    let Some(written) = std::env::var_os("GLEANER_KEEP_FREE").filter(|value| !value.is_empty())
    else {
        return Ok(Floor::USUAL);
    };
    written
        .to_str()
        .and_then(|text| text.trim().parse::<u64>().ok())
        .and_then(|mebibytes| mebibytes.checked_mul(1 << 20))
        .ok_or_else(|| {
            Failure::usage(format!(
                "GLEANER_KEEP_FREE is {}, which is no number",
                written.display()
            ))
            .hint("it is a number of MiB: 64, or 0 to use the disk to its end")
        })
}
