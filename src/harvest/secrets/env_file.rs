//! Files of `NAME=value` lines: `.env` of the project, and the one that `source.secrets` names.

use std::collections::BTreeMap;
use std::path::Path;

use super::private;
use crate::failure::{Exit, Failure};
use crate::plan::Plan;

/// What such a file has; one that is not there has nothing.
pub(in crate::harvest) fn read(path: &Path) -> Result<BTreeMap<String, String>, Box<Failure>> {
    let lines = match dotenvy::from_path_iter(path) {
        Ok(lines) => lines,
        Err(dotenvy::Error::Io(e)) if e.kind() == std::io::ErrorKind::NotFound => {
            return Ok(BTreeMap::new());
        }
        Err(e) => return Err(unreadable(path, &e)),
    };
    lines
        .map(|line| line.map_err(|e| unreadable(path, &e)))
        .collect()
}

/// What `secrets_file` has, if there is one.
pub(in crate::harvest) fn named(
    plan: &Plan,
    root: &Path,
) -> Result<BTreeMap<String, String>, Box<Failure>> {
    let Some(named) = &plan.source.secrets_file else {
        return Ok(BTreeMap::new());
    };
    let path = root.join(named);
    private::check(&path, "the file of secrets")?;
    read(&path)
}

fn unreadable(path: &Path, error: &dotenvy::Error) -> Box<Failure> {
    // dotenvy shows the offending line, which may hold a secret: only the kind is told.
    let cause = match error {
        dotenvy::Error::LineParse(_, at) => {
            format!("a line does not read NAME=value (problem at character {at})")
        }
        dotenvy::Error::Io(e) => e.to_string(),
        _ => "it does not read as NAME=value lines".to_owned(),
    };
    Box::new(Failure {
        exit: Exit::Usage,
        message: format!("cannot read {}", path.display()),
        causes: vec![cause],
        hint: Some("one NAME=value a line; quote values that hold spaces or #".to_owned()),
    })
}
