//! Published files read back, row by row, as cells of JSON text: for those who look at an output or write
//! it again in another format.
//!
//! A CSV file is read as it was written: nothing at all is null, `""` the empty text, and numbers stay as
//! they are spelled.

mod cells;
mod tabled;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::de::IgnoredAny;

use self::cells::{Cell, Cells};
pub use self::tabled::Names;
use super::infer::{Inference, Look, Mixing, Schema};
use super::parquet::read as stored;
use super::{Row, SinkError, table};
use crate::json;
use crate::plan::typed::Kind;

/// How a file was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// CSV, with its delimiter and what stands for null.
    Csv(u8, String),
    /// One JSON object a line.
    Ndjson,
    /// Parquet.
    Parquet,
    /// A table of a SQLite file, with the names that its columns have in SQL or in the records.
    Table(String, Names),
}

/// The files of an output, which make one table.
#[derive(Debug)]
pub struct Source {
    files: Vec<PathBuf>,
    kept: Kept,
    columns: Vec<(String, Option<Kind>)>,
    /// Whether a CSV file's types are known, and not guessed from its cells.
    is_known: bool,
}

/// Takes a row of cells.
pub type EachCells<'f> = dyn FnMut(&[String]) -> Result<(), SinkError> + 'f;

impl Source {
    /// The files of an output; `known` are the types of columns where they were told of.
    pub fn open(
        files: Vec<PathBuf>,
        kept: Kept,
        known: Option<&[(String, Option<Kind>)]>,
    ) -> Result<Self, SinkError> {
        let mut columns: Vec<(String, Option<Kind>)> = Vec::new();
        for file in &files {
            let found = match &kept {
                Kept::Ndjson => Vec::new(),
                Kept::Csv(delimiter, _) => {
                    let mut rows = Cells::new(file, *delimiter).map_err(|e| failed(file, e))?;
                    rows.next().map_err(|e| failed(file, e))?;
                    let names = rows.row.iter().map(|cell| (cell.text.clone(), None));
                    names.collect()
                }
                Kept::Parquet => {
                    let told = File::open(file).and_then(|file| stored::columns(&file));
                    let told = told.map_err(|e| failed(file, e))?.into_iter();
                    told.map(|told| (told.name, Some(told.kind))).collect()
                }
                Kept::Table(table, names) => {
                    let told = tabled::columns(file, table, *names);
                    let told = told.map_err(|e| failed(file, e))?.into_iter();
                    told.map(|told| (told.shown, told.kind)).collect()
                }
            };
            for (name, kind) in found {
                match columns.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, known)) if *known != kind => *known = None,
                    Some(_) => {}
                    None => columns.push((name, kind)),
                }
            }
        }
        for (name, kind) in &mut columns {
            let told = known.and_then(|known| known.iter().find(|(known, _)| known == name));
            *kind = told.map_or(*kind, |(_, told)| *told);
        }
        Ok(Self {
            files,
            is_known: known.is_some() || !matches!(kept, Kept::Csv(..)),
            kept,
            columns,
        })
    }

    /// The names of its columns; none where its lines are records.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|(name, _)| name.as_str())
    }

    /// Whether its lines are records of any shape, and no rows of one header.
    pub fn is_records(&self) -> bool {
        self.kept == Kept::Ndjson
    }

    /// Types, and what `look` asks for, of all its columns.
    pub fn look(&self, look: Look) -> Result<Schema, SinkError> {
        if self.is_records() {
            return table::look::<SinkError>(look, &mut |each| self.records(each));
        }
        let mut inference = self.inference(look);
        self.rows(&mut |cells| {
            inference.begin_row();
            for (number, cell) in cells.iter().enumerate() {
                inference.cell(number, cell);
            }
            Ok(())
        })?;
        Ok(inference.schema(self.names().zip(0..)))
    }

    /// What finds the types of its cells, told of those that are known.
    pub(super) fn inference(&self, look: Look) -> Inference {
        let mixing = if self.is_known {
            Mixing::Exact
        } else {
            Mixing::Spelled
        };
        let mut inference = Inference::new(look, mixing);
        for (number, (_, kind)) in self.columns.iter().enumerate() {
            // Of numbers it has to be seen what holds them.
            if let Some(kind) = kind
                && !matches!(kind, Kind::Integer | Kind::Number)
            {
                inference.declare(number, *kind);
            }
        }
        inference
    }

    /// Every line of NDJSON.
    pub fn records(
        &self,
        each: &mut dyn FnMut(Row<'_>) -> Result<(), SinkError>,
    ) -> Result<(), SinkError> {
        self.first_records(u64::MAX, each)
    }

    /// The first lines of NDJSON.
    pub(super) fn first_records(
        &self,
        mut most: u64,
        each: &mut dyn FnMut(Row<'_>) -> Result<(), SinkError>,
    ) -> Result<(), SinkError> {
        for path in &self.files {
            let mut lines = BufReader::new(unpacked(path).map_err(|e| failed(path, e))?);
            let mut line = String::new();
            while most > 0 {
                most -= 1;
                line.clear();
                if lines.read_line(&mut line).map_err(|e| failed(path, e))? == 0 {
                    break;
                }
                let json = line.trim_end_matches(['\n', '\r']);
                if serde_json::from_str::<IgnoredAny>(json).is_err() || !json.starts_with('{') {
                    let short: String = json.chars().take(80).collect();
                    let message = format!("it has a line that is no JSON object: {short}");
                    return Err(failed(path, invalid(message)));
                }
                each(Row {
                    json,
                    extras: &[],
                    computed: &[],
                    member: 0,
                })?;
            }
        }
        Ok(())
    }

    /// Every row, but of NDJSON, as cells of the columns of all files.
    pub fn rows(&self, each: &mut EachCells<'_>) -> Result<(), SinkError> {
        self.first_rows(u64::MAX, each)
    }

    /// The first rows.
    pub(super) fn first_rows(
        &self,
        mut most: u64,
        each: &mut EachCells<'_>,
    ) -> Result<(), SinkError> {
        for path in &self.files {
            most = self.rows_of(path, most, each)?;
            if most == 0 {
                break;
            }
        }
        Ok(())
    }

    /// The first rows of a file; says how many are left to read.
    fn rows_of(
        &self,
        path: &Path,
        mut most: u64,
        each: &mut EachCells<'_>,
    ) -> Result<u64, SinkError> {
        let mut cells = vec![String::new(); self.columns.len()];
        match &self.kept {
            Kept::Csv(delimiter, null) => {
                let mut rows = Cells::new(path, *delimiter).map_err(|e| failed(path, e))?;
                rows.next().map_err(|e| failed(path, e))?;
                let places = self.places(rows.row.iter().map(|cell| cell.text.as_str()));
                while most > 0 && rows.next().map_err(|e| failed(path, e))? {
                    most -= 1;
                    if rows.row.len() != places.len() {
                        let (row, got, want) = (rows.number, rows.row.len(), places.len());
                        let message = format!("row {row} has {got} cells, its header {want}");
                        return Err(failed(path, invalid(message)));
                    }
                    cells.iter_mut().for_each(String::clear);
                    for (cell, place) in rows.row.iter().zip(&places) {
                        let kind = self.columns.get(*place).and_then(|(_, kind)| *kind);
                        if let Some(json) = cells.get_mut(*place)
                            && (cell.text != *null || cell.quoted)
                        {
                            self.push(json, cell, kind);
                        }
                    }
                    each(&cells)?;
                }
            }
            Kept::Parquet => {
                let file = File::open(path).map_err(|e| failed(path, e))?;
                let told = stored::columns(&file).map_err(|e| failed(path, e))?;
                let places = self.places(told.iter().map(|told| told.name.as_str()));
                let mut take = taker(&mut most, &mut cells, &places, each);
                let read = stored::rows::<Halt>(&file, &mut take);
                drop(take);
                Halt::over(path, read)?;
            }
            Kept::Table(table, names) => {
                let told = tabled::columns(path, table, *names).map_err(|e| failed(path, e))?;
                let places = self.places(told.iter().map(|told| told.shown.as_str()));
                let mut take = taker(&mut most, &mut cells, &places, each);
                let read = tabled::rows::<Halt>(path, table, &told, &mut take);
                drop(take);
                Halt::over(path, read)?;
            }
            Kept::Ndjson => {}
        }
        Ok(most)
    }

    /// For each column of a file its place among those of all.
    fn places<'n>(&self, names: impl Iterator<Item = &'n str>) -> Vec<usize> {
        let place = |name: &str| self.columns.iter().position(|(known, _)| known == name);
        names
            .map(|name| place(name).unwrap_or(usize::MAX))
            .collect()
    }

    /// What a cell of CSV says, as JSON.
    fn push(&self, json: &mut String, cell: &Cell, kind: Option<Kind>) {
        let text = cell.text.as_str();
        let as_it_is = match (kind, text.as_bytes().first()) {
            // A blank cell of one that is no text: a line of one column has no other way to say null.
            (Some(Kind::Integer | Kind::Number | Kind::Boolean), None) => return,
            (Some(Kind::Text | Kind::Date | Kind::Timestamp), _) | (_, None) => false,
            (_, Some(b'{' | b'[')) => true,
            (None, _) if self.is_known => false,
            (Some(Kind::Json), _) => false,
            (_, Some(b'-' | b'0'..=b'9' | b't' | b'f')) => {
                text.ends_with(|c: char| c.is_ascii_digit() || c == 'e')
            }
            _ => false,
        };
        if as_it_is && serde_json::from_str::<IgnoredAny>(text).is_ok() {
            json.push_str(text);
        } else {
            json::push_quoted(json, text);
        }
    }
}

/// Puts the cells of one file's row where they are among the columns of all, and hands them on.
fn taker<'t>(
    most: &'t mut u64,
    cells: &'t mut [String],
    places: &'t [usize],
    each: &'t mut EachCells<'_>,
) -> impl FnMut(&[String]) -> Result<(), Halt> + 't {
    move |row| {
        if *most == 0 {
            return Err(Halt::Enough);
        }
        *most -= 1;
        cells.iter_mut().for_each(String::clear);
        for (cell, place) in row.iter().zip(places) {
            if let Some(json) = cells.get_mut(*place) {
                json.push_str(cell);
            }
        }
        each(cells).map_err(Halt::Sink)
    }
}

/// Why no more rows are read.
enum Halt {
    Enough,
    Sink(SinkError),
    Read(io::Error),
}

impl Halt {
    fn over(path: &Path, read: Result<(), Self>) -> Result<(), SinkError> {
        match read {
            Ok(()) | Err(Self::Enough) => Ok(()),
            Err(Self::Sink(error)) => Err(error),
            Err(Self::Read(error)) => Err(failed(path, error)),
        }
    }
}

impl From<io::Error> for Halt {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

fn failed(path: &Path, error: io::Error) -> SinkError {
    SinkError::new("read", path.to_owned(), error)
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// A file unpacked by its ending, as it was packed.
fn unpacked(path: &Path) -> io::Result<Box<dyn Read>> {
    let file = File::open(path)?;
    Ok(match path.extension().and_then(|ending| ending.to_str()) {
        Some("gz") => Box::new(flate2::read::MultiGzDecoder::new(file)),
        Some("zst") => Box::new(zstd::Decoder::new(file)?),
        _ => Box::new(file),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::plan::sink::CsvPlan;
    use crate::sink::Sink;
    use crate::sink::csv::Csv;

    /// What the CSV sink writes of rows of cells, read back with known types or without.
    fn back(rows: &[Vec<String>], known: Option<&[(String, Option<Kind>)]>) -> Vec<Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.csv");
        let plan = CsvPlan {
            delimiter: b';',
            null: "-".to_owned(),
            spreadsheet_safe: false,
        };
        let mut csv = Csv::new(File::create(&path).unwrap(), &plan);
        let names: Vec<String> = (0..rows[0].len()).map(|n| format!("c{n}")).collect();
        csv.header(&names).unwrap();
        for row in rows {
            row.iter().try_for_each(|cell| csv.cell(cell)).unwrap();
            csv.end_row().unwrap();
        }
        csv.finish().unwrap();
        let source = Source::open(vec![path], Kept::Csv(b';', "-".to_owned()), known).unwrap();
        let mut read = Vec::new();
        source
            .rows(&mut |cells| {
                read.push(cells.to_vec());
                Ok(())
            })
            .unwrap();
        read
    }

    fn owned(rows: &[&[&str]]) -> Vec<Vec<String>> {
        let row = |row: &&[&str]| row.iter().map(|cell| (*cell).to_owned()).collect();
        rows.iter().map(row).collect()
    }

    #[test]
    fn cells_without_types_are_what_they_look_like() {
        let rows = owned(&[
            &[
                "5",
                "\"00123\"",
                "\"\"",
                "",
                "true",
                "[1,2]",
                "1e400",
                "\"x\"",
                "-1.50",
            ],
            &[
                "-7", "\"1.\"", "\" 1\"", "\"NULL\"", "false", "{}", "0", "\"{\"", "0.5",
            ],
        ]);
        assert_eq!(back(&rows, None), rows);
        // Where types are known, nothing is taken for a number that is none.
        let known: Vec<_> = (0..2)
            .map(|n| (format!("c{n}"), Some(Kind::Text)))
            .collect();
        let texts = owned(&[&["\"5\"", "\"true\""], &["\"[1]\"", ""]]);
        assert_eq!(back(&texts, Some(&known)), texts);
    }

    #[test]
    fn what_is_no_table_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for (text, why) in [
            (
                &b"a,b\r\n1,2\r\n3\r\n"[..],
                "row 3 has 1 cells, its header 2",
            ),
            (b"a,b\r\n1,\"2\r\n", "it ends inside of quotes"),
            (b"a,b\r\n1,\xff\r\n", "it is not UTF-8"),
        ] {
            let path = folder.path().join("rows.csv");
            std::fs::write(&path, text).unwrap();
            let source = Source::open(vec![path], Kept::Csv(b',', String::new()), None);
            let error = source.unwrap().rows(&mut |_| Ok(())).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// Null, the empty text and every text come back, whatever is in them; but not a text that is
        /// the mark of null itself.
        #[test]
        fn texts_and_nulls_come_back(rows in prop::collection::vec(
            prop::collection::vec(prop::option::of("[;,\"'\r\n\t =a\u{0}é😀]{0,6}"), 3..=3), 1..6)
        ) {
            let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| {
                cell.as_ref().map(|text| json::quoted(text)).unwrap_or_default()
            }).collect()).collect();
            let known: Vec<_> = (0..3).map(|n| (format!("c{n}"), Some(Kind::Text))).collect();
            prop_assert_eq!(back(&rows, Some(&known)), rows);
        }
    }
}
