//! `datapackage.json`, beside the outputs of a folder: what each of them is, in the words of Data
//! Package v2 (<https://datapackage.org/standard/data-package/>), so that tools and people need not guess.
//!
//! One file tells of a whole folder, in which several streams and pipelines may write: it is read,
//! changed and replaced while its lock is held, and what others wrote into it stays. What it says of a
//! file was known when the file was written: nothing is read again.

use std::io::Write;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::SinkError;
use super::file::Target;
use super::infer::{Column, Native, Schema};
use crate::disk::{Disk, Found, Open};
use crate::plan::sink::{Compression, CsvPlan, SinkFormat};
use crate::plan::typed::Kind;

/// Its name in every folder.
pub const NAME: &str = "datapackage.json";
/// The profile that it follows.
const PROFILE: &str = "https://datapackage.org/profiles/2.0/datapackage.json";
/// Most bytes of one that is read back.
const MOST: u64 = 256 << 20;

/// One output, as it is told of.
#[derive(Debug)]
pub struct Resource<'a> {
    /// How it is called: the stem of the file, or the table.
    pub name: &'a str,
    /// The file in the folder.
    pub file: &'a str,
    /// The table, where the file is a database.
    pub table: Option<&'a str>,
    /// How it is written.
    pub format: &'a SinkFormat,
    /// How it is compressed.
    pub compression: Compression,
    /// Size and CRC32C; none for a table, whose file is others' too.
    pub size: Option<(u64, u32)>,
    /// Records in it.
    pub rows: u64,
    /// Its columns, where somebody looked at them.
    pub schema: Option<&'a Schema>,
    /// The columns that tell records apart.
    pub key: &'a [String],
    /// One sentence about the pipeline.
    pub about: &'a str,
    /// Where the records come from; empty where that is only known with values of the environment.
    pub source: &'a str,
    /// Pipeline, stream, run and the like: ours, and not the standard's.
    pub origin: Value,
}

impl Resource<'_> {
    /// As the standard has it.
    pub fn to_json(&self) -> Value {
        let mut all = Map::new();
        let mut put = |name: &str, value: Value| all.insert(name.to_owned(), value);
        put("name", slug(self.name).into());
        // What has no schema is no table to who reads this.
        if self.schema.is_some() {
            put("type", "table".into());
        }
        put("path", self.file.into());
        let (format, media) = match self.format {
            SinkFormat::Csv(_) => ("csv", "text/csv"),
            SinkFormat::Ndjson => ("ndjson", "application/x-ndjson"),
            SinkFormat::Sqlite => ("sqlite", "application/vnd.sqlite3"),
            SinkFormat::Parquet(_) => ("parquet", "application/vnd.apache.parquet"),
        };
        put("format", format.into());
        put("mediatype", media.into());
        let compression = match self.compression {
            Compression::None => None,
            Compression::Gzip => Some("gz"),
            Compression::Zstd => Some("zst"),
        };
        if let Some(compression) = compression {
            put("compression", compression.into());
        }
        if matches!(self.format, SinkFormat::Csv(_) | SinkFormat::Ndjson) {
            put("encoding", "utf-8".into());
        }
        match self.format {
            SinkFormat::Csv(csv) => {
                put(
                    "dialect",
                    json!({
                        "delimiter": char::from(csv.delimiter).to_string(),
                        "lineTerminator": "\r\n",
                        "quoteChar": "\"",
                        "doubleQuote": true,
                        "header": true,
                    }),
                );
            }
            SinkFormat::Sqlite => {
                put("dialect", json!({"table": self.table}));
            }
            SinkFormat::Ndjson | SinkFormat::Parquet(_) => {}
        }
        put("description", self.about.into());
        if !self.source.is_empty() {
            put("sources", json!([{"title": "API", "path": self.source}]));
        }
        put("rows", self.rows.into());
        if let Some((bytes, crc)) = self.size {
            put("bytes", bytes.into());
            put("hash", format!("crc32c:{crc:08x}").into());
        }
        if let Some(schema) = self.schema {
            put("schema", self.fields(schema));
        }
        put("gleaner", self.origin.clone());
        Value::Object(all)
    }

    fn fields(&self, schema: &Schema) -> Value {
        let fields: Vec<Value> = schema.columns.iter().map(field).collect();
        let mut all = json!({"fields": fields});
        let has_all = !self.key.is_empty()
            && (self.key.iter()).all(|name| {
                let mut columns = schema.columns.iter();
                // A primary key has no nulls (Table Schema v2, `primaryKey`).
                columns.any(|column| column.name == *name && column.nulls == 0)
            });
        if has_all {
            all["primaryKey"] = json!(self.key);
        }
        if let SinkFormat::Csv(CsvPlan { null, .. }) = self.format
            && !null.is_empty()
        {
            // In the macro `null` would be JSON's.
            all["missingValues"] = Value::from(vec![null.clone()]);
        }
        all
    }
}

/// A column, by the types of Table Schema v2; `native` says what a program can hold it in.
fn field(column: &Column) -> Value {
    let kind = match column.kind {
        None | Some(Kind::Json) => "any",
        Some(Kind::Text) => "string",
        Some(Kind::Integer) => "integer",
        Some(Kind::Number) => "number",
        Some(Kind::Boolean) => "boolean",
        Some(Kind::Date) => "date",
        Some(Kind::Timestamp) => "datetime",
    };
    let native = match column.kind {
        None => Native::Text,
        Some(_) => column.native,
    };
    json!({"name": column.name, "type": kind, "native": native})
}

/// A name as the standard wants it: lower case, digits, `-`, `_`, `.`.
fn slug(name: &str) -> String {
    let plain = |c: char| match c.to_ascii_lowercase() {
        c @ ('a'..='z' | '0'..='9' | '-' | '_' | '.') => c,
        _ => '-',
    };
    let slug: String = name.chars().map(plain).collect();
    if slug.is_empty() {
        "data".to_owned()
    } else {
        slug
    }
}

/// What became of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// It tells of the outputs.
    Yes,
    /// What is there was not written by us and cannot be read, so it stays as it is: why.
    No(String),
}

/// Tells of outputs in `folder`, in the place of what was told of the same files. Hold its lock.
pub fn put(
    disk: &Disk,
    folder: &Path,
    resources: Vec<Value>,
    now: &str,
) -> Result<Told, SinkError> {
    let path = folder.join(NAME);
    let mut package = match read(disk, &path)? {
        Ok(package) => package,
        Err(why) => return Ok(Told::No(why)),
    };
    let known = package.remove("resources");
    let mut all = match known {
        Some(Value::Array(all)) => all,
        None => Vec::new(),
        Some(_) => return Ok(Told::No("its `resources` are no list".to_owned())),
    };
    // What we told of and is gone needs no telling.
    all.retain(|old| {
        old.get("gleaner").is_none()
            || old["path"]
                .as_str()
                .is_none_or(|file| is_there(disk, &folder.join(file), is_table(old)))
    });
    for mut new in resources {
        let same = |old: &Value| {
            old["path"] == new["path"] && old["dialect"]["table"] == new["dialect"]["table"]
        };
        let at = all.iter().position(same);
        let others = (0..).zip(&all).filter(|(n, _)| Some(*n) != at);
        let taken: Vec<&Value> = others.map(|(_, old)| &old["name"]).collect();
        let name = new["name"].as_str().unwrap_or_default().to_owned();
        let mut names = std::iter::once(name.clone())
            .chain((2..=taken.len() + 2).map(|number| format!("{name}-{number}")));
        if let Some(free) = names.find(|name| !taken.iter().any(|taken| **taken == **name)) {
            new["name"] = free.into();
        }
        match at.and_then(|at| all.get_mut(at)) {
            Some(place) => *place = new,
            None => all.push(new),
        }
    }
    all.sort_by_cached_key(|resource| resource["name"].as_str().unwrap_or_default().to_owned());
    let own = folder.file_name().unwrap_or_default().to_string_lossy();
    package.entry("$schema").or_insert_with(|| PROFILE.into());
    package.entry("name").or_insert_with(|| slug(&own).into());
    package.insert("created".to_owned(), now.into());
    package.insert("resources".to_owned(), Value::Array(all));
    let target = Target::File {
        disk: disk.clone(),
        path: path.clone(),
        compression: Compression::None,
    };
    let mut out = target.open()?;
    serde_json::to_writer_pretty(&mut out, &package)
        .map_err(std::io::Error::from)
        .and_then(|()| out.write_all(b"\n"))
        .map_err(|error| SinkError::new("write", path, error))?;
    out.finish()?;
    Ok(Told::Yes)
}

fn is_table(resource: &Value) -> bool {
    resource["dialect"]["table"].is_string()
}

fn is_there(disk: &Disk, path: &Path, is_table: bool) -> bool {
    // The pretend disk has databases that it does not list.
    let is_elsewhere = || disk.database(path).is_ok_and(|place| place != path);
    !matches!(disk.look(path), Ok(Found::Nothing)) || (is_table && is_elsewhere())
}

/// What is there, or why it cannot be changed.
fn read(disk: &Disk, path: &Path) -> Result<Result<Map<String, Value>, String>, SinkError> {
    let failed =
        |error: crate::disk::DiskError| SinkError::new("read", path.to_owned(), error.source);
    match disk.look(path).map_err(failed)? {
        Found::Nothing => return Ok(Ok(Map::new())),
        Found::Folder => return Ok(Err("it is a folder".to_owned())),
        Found::File(bytes) if bytes > MOST => return Ok(Err("it is too large".to_owned())),
        Found::File(_) => {}
    }
    let file = disk.open(path, Open::Read).map_err(failed)?;
    let size = file.len().map_err(failed)?;
    let mut text = vec![0; usize::try_from(size.min(MOST)).unwrap_or_default()];
    file.read_exact_at(&mut text, 0).map_err(failed)?;
    Ok(match serde_json::from_slice(&text) {
        Ok(Value::Object(package)) => Ok(package),
        Ok(_) => Err("it is no JSON object".to_owned()),
        Err(error) => Err(format!("it is no JSON: {error}")),
    })
}

/// The columns of a resource with their types; none where it tells of no columns.
pub fn columns(resource: &Value) -> Option<Vec<(String, Option<Kind>)>> {
    let fields = resource["schema"]["fields"].as_array()?.iter();
    let field = |field: &Value| Some((field["name"].as_str()?.to_owned(), kind(field)));
    Some(fields.filter_map(field).collect())
}

/// The type that [`field`] wrote, or another program.
fn kind(field: &Value) -> Option<Kind> {
    match field["type"].as_str()? {
        "string" => Some(Kind::Text),
        "integer" => Some(Kind::Integer),
        "number" => Some(Kind::Number),
        "boolean" => Some(Kind::Boolean),
        "date" => Some(Kind::Date),
        "datetime" => Some(Kind::Timestamp),
        // Of values without any type nothing is known.
        _ if field["native"] == "text" => None,
        _ => Some(Kind::Json),
    }
}

/// How a CSV file is written: what stands between cells, and for null.
pub fn dialect(resource: &Value) -> (u8, String) {
    let delimiter = match resource["dialect"]["delimiter"].as_str().map(str::as_bytes) {
        Some([delimiter]) => *delimiter,
        _ => b',',
    };
    let null = resource["schema"]["missingValues"][0].as_str();
    (delimiter, null.unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(folder: &Path) -> Value {
        serde_json::from_slice(&std::fs::read(folder.join(NAME)).unwrap()).unwrap()
    }

    fn resource(name: &str, file: &str, rows: u64) -> Value {
        Resource {
            name,
            file,
            table: None,
            format: &SinkFormat::Ndjson,
            compression: Compression::None,
            size: Some((3, 0xbeef)),
            rows,
            schema: None,
            key: &[],
            about: "Things.",
            source: "https://api.example",
            origin: json!({"pipeline": "p"}),
        }
        .to_json()
    }

    #[test]
    fn what_others_wrote_stays_and_ours_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::system();
        for file in ["a.ndjson", "b.ndjson", "gone.ndjson"] {
            std::fs::write(folder.path().join(file), "{}\n").unwrap();
        }
        let theirs = json!({
            "name": "mine", "title": "kept", "licenses": [{"name": "CC0-1.0"}],
            "resources": [{"name": "hand", "path": "not-there.csv", "profile": "x"}]
        });
        std::fs::write(folder.path().join(NAME), theirs.to_string()).unwrap();
        let put = |resources| put(&disk, folder.path(), resources, "2026-01-01T00:00:00Z").unwrap();
        assert_eq!(
            put(vec![
                resource("A b", "a.ndjson", 1),
                resource("x", "gone.ndjson", 1)
            ]),
            Told::Yes
        );
        std::fs::remove_file(folder.path().join("gone.ndjson")).unwrap();
        // Another file of the same name, and the first one anew.
        assert_eq!(
            put(vec![
                resource("A b", "b.ndjson", 2),
                resource("A b", "a.ndjson", 7)
            ]),
            Told::Yes
        );
        let package = told(folder.path());
        assert_eq!(
            (&package["name"], &package["title"]),
            (&json!("mine"), &json!("kept"))
        );
        let listed: Vec<_> = package["resources"]
            .as_array()
            .unwrap()
            .iter()
            .map(|resource| {
                (
                    resource["name"].as_str().unwrap(),
                    resource["path"].as_str().unwrap(),
                    resource["rows"].as_u64(),
                )
            })
            .collect();
        assert_eq!(
            listed,
            [
                ("a-b", "a.ndjson", Some(7)),
                ("a-b-2", "b.ndjson", Some(2)),
                ("hand", "not-there.csv", None),
            ]
        );
        assert_eq!(package["resources"][0]["hash"], "crc32c:0000beef");
    }

    #[test]
    fn what_cannot_be_read_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::system();
        for text in ["{\"name\": ", "[]", "{\"resources\": 5}"] {
            std::fs::write(folder.path().join(NAME), text).unwrap();
            let told = put(
                &disk,
                folder.path(),
                vec![resource("a", "a.ndjson", 1)],
                "now",
            )
            .unwrap();
            assert!(matches!(told, Told::No(_)), "{text}");
            assert_eq!(
                std::fs::read_to_string(folder.path().join(NAME)).unwrap(),
                text
            );
        }
    }
}
