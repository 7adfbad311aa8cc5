//! A look at a published file from outside: the types of its columns and how many different values each
//! has, from its first rows. For those who write programs that read it.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fs::File;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

use super::database::columns::quoted;
use super::flatten::Flattener;
use super::infer::{Column, Inference, Look, Mixing};
use crate::json;
use crate::plan::typed::Kind;

/// Different values of a column are counted up to here.
pub const MOST_DIFFERENT: usize = 10_000;

/// A column, as seen.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Name, type, least, greatest.
    pub column: Column,
    /// How many different values it has, at most [`MOST_DIFFERENT`].
    pub different: usize,
    /// Bytes of a usual value.
    pub length: usize,
    /// The mean of its numbers, 0 where it has none.
    pub mean: f64,
}

/// How a file is written.
#[derive(Debug)]
pub enum Written<'a> {
    /// CSV: the delimiter, what stands for null, and the types of the columns.
    Csv(u8, &'a str, &'a [(String, Option<Kind>)]),
    /// One JSON object a line.
    Ndjson,
    /// A table of a SQLite file, and the types of its columns.
    Table(&'a str, &'a [(String, Option<Kind>)]),
}

/// Looks at the first `most` rows; says how many there were, and what they hold.
pub fn glance(path: &Path, written: &Written<'_>, most: u64) -> io::Result<(u64, Vec<Seen>)> {
    let mut look = Looking::default();
    let names = match written {
        Written::Table(table, known) => {
            look.declare(known);
            of_table(path, table, known, most, &mut look)?
        }
        Written::Csv(delimiter, null, known) => {
            look.declare(known);
            of_csv(open(path)?, *delimiter, null, known, most, &mut look)?
        }
        Written::Ndjson => of_lines(open(path)?, most, &mut look)?,
    };
    Ok(look.end(&names))
}

/// Opens a file by its ending, as it was written.
fn open(path: &Path) -> io::Result<Box<dyn Read>> {
    let file = File::open(path)?;
    Ok(match path.extension().and_then(|ending| ending.to_str()) {
        Some("gz") => Box::new(flate2::read::MultiGzDecoder::new(file)),
        Some("zst") => Box::new(zstd::Decoder::new(file)?),
        _ => Box::new(file),
    })
}

struct Looking {
    types: Inference,
    different: Vec<HashSet<u64>>,
    bytes: Vec<u64>,
    sums: Vec<f64>,
}

impl Default for Looking {
    fn default() -> Self {
        Self {
            types: Inference::new(Look::Whole, Mixing::Exact),
            different: Vec::new(),
            bytes: Vec::new(),
            sums: Vec::new(),
        }
    }
}

impl Looking {
    fn declare(&mut self, known: &[(String, Option<Kind>)]) {
        for (number, (_, kind)) in known.iter().enumerate() {
            if let Some(kind) = kind {
                self.types.declare(number, *kind);
            }
        }
    }

    fn cell(&mut self, number: usize, json: &str) {
        self.types.cell(number, json);
        if matches!(json, "" | "null") {
            return;
        }
        if number >= self.different.len() {
            self.different.resize_with(number + 1, HashSet::new);
            self.bytes.resize(number + 1, 0);
            self.sums.resize(number + 1, 0.0);
        }
        if let Some(known) = self.different.get_mut(number)
            && known.len() < MOST_DIFFERENT
        {
            known.insert(BuildHasherDefault::<DefaultHasher>::default().hash_one(json));
        }
        if let Some(bytes) = self.bytes.get_mut(number) {
            *bytes += json.len() as u64;
        }
        if let (Some(sum), Ok(value)) = (self.sums.get_mut(number), json.parse::<f64>()) {
            *sum += value;
        }
    }

    fn end(self, names: &[(String, usize)]) -> (u64, Vec<Seen>) {
        let pairs = names.iter().map(|(name, number)| (name.as_str(), *number));
        let schema = self.types.schema(pairs);
        let seen = schema.columns.into_iter().zip(names);
        let seen = seen.map(|(column, (_, number))| Seen {
            mean: self.sums.get(*number).copied().unwrap_or_default() / column.values.max(1) as f64,
            different: self.different.get(*number).map_or(0, HashSet::len),
            length: self.bytes.get(*number).map_or(0, |bytes| {
                usize::try_from(bytes / column.values.max(1)).unwrap_or(usize::MAX)
            }),
            column,
        });
        (schema.rows, seen.collect())
    }
}

fn of_lines(
    file: Box<dyn Read>,
    most: u64,
    look: &mut Looking,
) -> io::Result<Vec<(String, usize)>> {
    let mut flattener = Flattener::new();
    let mut read = BufReader::new(file);
    let mut line = String::new();
    let mut left = most;
    while left > 0 && read.read_line(&mut line)? > 0 {
        left -= 1;
        let mut cells = Vec::new();
        flattener.cells(line.trim_end(), &mut cells);
        look.types.begin_row();
        for (number, cell) in cells.iter().enumerate() {
            look.cell(number, cell);
        }
        line.clear();
    }
    let layout = flattener.layout(&[]);
    Ok(layout.names.into_iter().zip(layout.order).collect())
}

fn of_csv(
    file: Box<dyn Read>,
    delimiter: u8,
    null: &str,
    known: &[(String, Option<Kind>)],
    most: u64,
    look: &mut Looking,
) -> io::Result<Vec<(String, usize)>> {
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .from_reader(file);
    let names: Vec<String> = reader.headers()?.iter().map(str::to_owned).collect();
    for row in reader
        .records()
        .take(usize::try_from(most).unwrap_or(usize::MAX))
    {
        let row = row?;
        look.types.begin_row();
        for (number, cell) in row.iter().enumerate() {
            let kind = known.get(number).and_then(|(_, kind)| *kind);
            let cell: Cow<'_, str> = match kind {
                _ if cell == null => Cow::Borrowed(""),
                Some(Kind::Integer | Kind::Number | Kind::Boolean | Kind::Json) => cell.into(),
                Some(Kind::Text | Kind::Date | Kind::Timestamp) | None => json::quoted(cell).into(),
            };
            look.cell(number, &cell);
        }
    }
    Ok(names.into_iter().zip(0..).collect())
}

fn of_table(
    path: &Path,
    table: &str,
    known: &[(String, Option<Kind>)],
    most: u64,
    look: &mut Looking,
) -> io::Result<Vec<(String, usize)>> {
    let read = |look: &mut Looking| -> rusqlite::Result<Vec<(String, usize)>> {
        let from = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let mut asked = from.prepare(&format!("SELECT * FROM {} LIMIT {most}", quoted(table)))?;
        let names: Vec<String> = asked.column_names().map(str::to_owned).collect();
        let mut rows = asked.query([])?;
        while let Some(row) = rows.next()? {
            look.types.begin_row();
            for number in 0..names.len() {
                let kind = known.get(number).and_then(|(_, kind)| *kind);
                let cell = match (row.get_ref(number)?, kind) {
                    (ValueRef::Null, _) => String::new(),
                    (ValueRef::Integer(0), Some(Kind::Boolean)) => "false".to_owned(),
                    (ValueRef::Integer(_), Some(Kind::Boolean)) => "true".to_owned(),
                    (ValueRef::Integer(number), _) => number.to_string(),
                    (ValueRef::Real(number), _) => number.to_string(),
                    (ValueRef::Text(text) | ValueRef::Blob(text), Some(Kind::Json)) => {
                        String::from_utf8_lossy(text).into_owned()
                    }
                    (ValueRef::Text(text) | ValueRef::Blob(text), _) => {
                        json::quoted(&String::from_utf8_lossy(text))
                    }
                };
                look.cell(number, &cell);
            }
        }
        Ok(names.into_iter().zip(0..).collect())
    };
    read(look).map_err(io::Error::other)
}
