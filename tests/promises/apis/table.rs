//! Published files as rows of named texts: CSV, NDJSON (packed too) and Parquet.

use std::collections::BTreeMap;
use std::path::Path;

use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::Field;
use serde_json::Value as Json;

use super::words::spelt;

type Rows = Vec<BTreeMap<String, String>>;

/// The rows of a file, by its ending.
pub(crate) fn table(path: &Path) -> Result<Rows, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let ends = |kind: &str| path.extension().is_some_and(|one| one == kind);
    if ends("parquet") {
        return columns(path).map_err(|e| wrong(&e));
    }
    let mut bytes = std::fs::read(path).map_err(|e| wrong(&e))?;
    if ends("zst") {
        bytes = zstd::decode_all(&*bytes).map_err(|e| wrong(&e))?;
    }
    let text = String::from_utf8(bytes).map_err(|e| wrong(&e))?;
    if ends("csv") {
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        return reader
            .deserialize()
            .map(|row| row.map_err(|e| wrong(&e)))
            .collect();
    }
    let record = |line: &str| {
        let fields: BTreeMap<String, Json> =
            serde_json::from_str(line).map_err(|e| format!("{line}: {e}"))?;
        Ok(fields
            .iter()
            .map(|(name, value)| (name.clone(), spelt(value)))
            .collect())
    };
    text.lines().map(record).collect()
}

fn columns(path: &Path) -> Result<Rows, Box<dyn std::error::Error>> {
    let reader = SerializedFileReader::new(std::fs::File::open(path)?)?;
    let mut rows = Vec::new();
    for row in reader.get_row_iter(None)? {
        let row = row?;
        let mut texts = BTreeMap::new();
        for (name, field) in row.get_column_iter() {
            texts.insert(name.clone(), cell(field)?);
        }
        rows.push(texts);
    }
    Ok(rows)
}

/// A value as CSV would have it.
fn cell(field: &Field) -> Result<String, Box<dyn std::error::Error>> {
    Ok(match field {
        Field::Null => String::new(),
        Field::Str(text) => text.clone(),
        Field::TimestampMicros(at) => jiff::Timestamp::from_microsecond(*at)?.to_string(),
        Field::Date(days) => {
            let midnight = jiff::Timestamp::from_second(i64::from(*days) * 86_400)?;
            midnight.strftime("%Y-%m-%d").to_string()
        }
        Field::Bool(_) | Field::Long(_) | Field::Double(_) => field.to_string(),
        other => return Err(format!("no column of this kind is written: {other}").into()),
    })
}
