//! Files that hold secrets: read only where nobody but their owner can.

use std::path::Path;

use crate::failure::{Exit, Failure};

/// Permissions of group and others.
const OTHERS: u32 = 0o077;

/// Refuses a file of ours that others may read, as ssh does; one of somebody else's is not ours to
/// change (a secret that a container is given).
pub(in crate::harvest) fn check(path: &Path, what: &str) -> Result<(), Box<Failure>> {
    use std::os::unix::fs::MetadataExt;
    let found = std::fs::metadata(path).map_err(|error| unreadable(path, what, &error))?;
    let is_ours = found.uid() == rustix::process::geteuid().as_raw();
    let mode = found.mode() & 0o777;
    if is_ours && mode & OTHERS != 0 {
        return Err(Box::new(Failure {
            exit: Exit::Usage,
            message: format!(
                "{what} {} may be read or written by others (mode {mode:04o})",
                path.display()
            ),
            causes: Vec::new(),
            hint: Some(format!("run `chmod 600 {}`", path.display())),
        }));
    }
    Ok(())
}

/// The text of a private file.
pub(in crate::harvest) fn read(path: &Path, what: &str) -> Result<String, Box<Failure>> {
    check(path, what)?;
    std::fs::read_to_string(path).map_err(|error| unreadable(path, what, &error))
}

/// A file that cannot be read.
pub(in crate::harvest) fn unreadable(
    path: &Path,
    what: &str,
    error: &std::io::Error,
) -> Box<Failure> {
    Box::new(Failure {
        exit: Exit::Usage,
        message: format!("cannot read {what} {}", path.display()),
        causes: vec![error.to_string()],
        hint: Some(
            "its path is relative to the project root, the folder that holds pipelines/".to_owned(),
        ),
    })
}
