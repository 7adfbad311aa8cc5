//! Rows of the CSV files that `for` names.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use minijinja::Value;

use super::PartitionProblem;

/// A file and the column asked of it.
type FileColumn = (PathBuf, Option<String>);

/// Rows of the files that `for` names, read once, so that a file that changes during a run
/// cannot change its partitions.
#[derive(Debug, Default)]
pub(in crate::harvest) struct Files {
    rows: std::sync::Mutex<HashMap<FileColumn, Arc<[Value]>>>,
}

impl Files {
    /// The rows of a file, or of one column of it.
    pub(in crate::harvest) fn read(
        &self,
        path: &Path,
        column: Option<&str>,
        variable: &str,
    ) -> Result<Arc<[Value]>, PartitionProblem> {
        let mut known = self
            .rows
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let key = (path.to_owned(), column.map(str::to_owned));
        if let Some(rows) = known.get(&key) {
            return Ok(rows.clone());
        }
        let rows: Arc<[Value]> = read_rows(path, column)
            .map_err(|message| PartitionProblem::File {
                variable: variable.to_owned(),
                path: path.to_owned(),
                message,
            })?
            .into();
        known.insert(key, rows.clone());
        Ok(rows)
    }
}

fn read_rows(path: &Path, column: Option<&str>) -> Result<Vec<Value>, String> {
    let mut reader = csv::Reader::from_path(path).map_err(|e| e.to_string())?;
    let headers = reader.headers().map_err(|e| e.to_string())?.clone();
    let at = match column {
        None => None,
        Some(name) => Some(headers.iter().position(|h| h == name).ok_or_else(|| {
            format!(
                "it has no column `{name}`; its columns are {}",
                headers.iter().collect::<Vec<_>>().join(", ")
            )
        })?),
    };
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|e| e.to_string())?;
        rows.push(match at {
            Some(at) => Value::from(record.get(at).unwrap_or_default()),
            None => Value::from_pairs(headers.iter().zip(&record)),
        });
    }
    Ok(rows)
}
