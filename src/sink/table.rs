//! Writing a table, in one pass where that can be.
//!
//! Without declared columns the header is known for sure only at the end. So the first rows are
//! held back, the header is guessed from them, and the rest is written straight on; only if a
//! later record brings a column that changes the header is the file written a second time.
//! Standard output cannot be taken back: there the columns are found first.

use std::borrow::Cow;
use std::io;

use super::columns::{Columns, Projectors};
use super::csv::Csv;
use super::declared::{few, inference, typed};
use super::file::{Out, Target};
use super::flatten::{Flattener, Layout};
use super::infer::{Inference, Look, Mixing, Schema};
use super::ndjson::Ndjson;
use super::nested::Nests;
use super::parquet::Parquet;
use super::rejects::Rejects;
use super::{Extra, Row, Rows, Sink, SinkError, Written};
use crate::plan::sink::SinkFormat;

/// Rows held back to guess the header.
const HELD_ROWS: usize = 1_000;
/// Bytes held back to guess the header.
const HELD_BYTES: usize = 4 << 20;

/// Writes all rows to the target, which changes only when everything is there; records that columns
/// reject go to `rejects`.
pub fn write<E: From<SinkError>>(
    format: &SinkFormat,
    target: &Target,
    columns: Option<Columns<'_>>,
    rejects: Option<&Target>,
    rows: &mut Rows<'_, E>,
) -> Result<Written, E> {
    match (format, columns) {
        (SinkFormat::Sqlite, _) => Err(target.no_file().into()),
        (SinkFormat::Csv(plan), Some(columns)) => {
            let by = Projectors::new(columns);
            declared(target, by, columns, rejects, rows, |out| {
                Ok(Csv::new(out, plan))
            })
        }
        (SinkFormat::Csv(plan), None) => found(target, rows, |out| Ok(Csv::new(out, plan))),
        (SinkFormat::Ndjson, Some(columns)) => {
            let by = Projectors::new(columns);
            declared(target, by, columns, rejects, rows, |out| {
                Ok(Ndjson::new(out))
            })
        }
        (SinkFormat::Ndjson, None) => lines(target, rows),
        (SinkFormat::Parquet(plan), Some(columns)) => {
            let schema = typed(columns, plan.nested, rows)?;
            let projector = Projectors::new(columns).natively();
            let make = |out| Parquet::new(out, &schema, plan);
            declared(target, projector, columns, rejects, rows, make)
        }
        (SinkFormat::Parquet(plan), None) => {
            let make = |out, schema: &_| Parquet::new(out, schema, plan);
            typed_found(target, plan.nested, rows, make)
        }
    }
}

/// Hands over rows of cells.
pub type CellRows<'r> =
    dyn FnMut(&mut dyn FnMut(&[String]) -> Result<(), SinkError>) -> Result<(), SinkError> + 'r;

/// Writes rows that are cells already, under columns that are known.
pub fn rewrite(
    format: &SinkFormat,
    target: &Target,
    schema: &Schema,
    rows: &mut CellRows<'_>,
) -> Result<Written, SinkError> {
    match format {
        SinkFormat::Sqlite => Err(target.no_file()),
        SinkFormat::Csv(_) if schema.rows > 0 && schema.columns.is_empty() => {
            Err(no_columns(target))
        }
        SinkFormat::Csv(plan) => cells(target, schema, rows, |out| Ok(Csv::new(out, plan))),
        SinkFormat::Ndjson => cells(target, schema, rows, |out| Ok(Ndjson::new(out))),
        SinkFormat::Parquet(plan) => {
            cells(target, schema, rows, |out| Parquet::new(out, schema, plan))
        }
    }
}

fn cells<S: Sink<Out = Out>>(
    target: &Target,
    schema: &Schema,
    rows: &mut CellRows<'_>,
    make: impl Fn(Out) -> io::Result<S>,
) -> Result<Written, SinkError> {
    let names: Vec<String> = schema.columns.iter().map(|c| c.name.clone()).collect();
    let mut file = Writing::open(target, make)?;
    file.failing(|sink| sink.header(&names))?;
    let mut count = 0;
    rows(&mut |row| {
        count += 1;
        file.failing(|sink| {
            row.iter().try_for_each(|cell| sink.cell(cell))?;
            sink.end_row()
        })
    })?;
    file.finish(count, names, Some(schema.clone()))
}

/// The types of records without declared columns, and what `look` asks for beside.
pub(super) fn look<E: From<SinkError>>(look: Look, rows: &mut Rows<'_, E>) -> Result<Schema, E> {
    let mut table = Table {
        types: (
            Inference::new(look, Mixing::Exact),
            Inference::new(look, Mixing::Exact),
        ),
        ..Table::default()
    };
    rows(&mut |row| {
        table.judged = false;
        Ok(table.learn(row)?)
    })?;
    Ok(table.schema(&table.layout()))
}

/// Records as they are.
fn lines<E: From<SinkError>>(target: &Target, rows: &mut Rows<'_, E>) -> Result<Written, E> {
    let mut file = Writing::open(target, |out| Ok(Ndjson::new(out)))?;
    let mut count = 0;
    rows(&mut |row| {
        count += 1;
        Ok(file.failing(|sink| sink.line(row.json))?)
    })?;
    Ok(file.finish(count, Vec::new(), None)?)
}

/// Columns known beforehand.
fn declared<S: Sink<Out = Out>, E: From<SinkError>>(
    target: &Target,
    mut projector: Projectors,
    columns: Columns<'_>,
    rejects: Option<&Target>,
    rows: &mut Rows<'_, E>,
    make: impl Fn(Out) -> io::Result<S>,
) -> Result<Written, E> {
    let names = projector.names().to_vec();
    let mut file = Writing::open(target, make)?;
    file.failing(|sink| sink.header(&names))?;
    let mut rejects = Rejects::new(rejects);
    let mut inference = inference(columns);
    let (mut count, mut spare) = (0, Vec::new());
    rows(&mut |row| {
        let mut cells = recycled(std::mem::take(&mut spare));
        if let Err(misfit) = projector.cells(row, &mut cells) {
            return Ok(rejects.take(row.json, misfit)?);
        }
        count += 1;
        inference.begin_row();
        file.failing(|sink| {
            for (number, cell) in cells.iter().enumerate() {
                inference.cell(number, cell);
                sink.cell(cell)?;
            }
            sink.end_row()
        })?;
        spare = recycled(cells);
        Ok(())
    })?;
    let schema = inference.schema(names.iter().map(String::as_str).zip(0..));
    let mut written = file.finish(count, names, Some(schema))?;
    written.nulled = projector.nulled();
    written.unread = projector.unread();
    rejects.finish(&mut written)?;
    Ok(written)
}

/// Columns found first, with their types, and then written.
fn typed_found<S: Sink<Out = Out>, E: From<SinkError>>(
    target: &Target,
    nested: bool,
    rows: &mut Rows<'_, E>,
    make: impl Fn(Out, &Schema) -> io::Result<S>,
) -> Result<Written, E> {
    let mut table = if nested {
        Table::nested()
    } else {
        Table::default()
    };
    rows(&mut |row| {
        table.judged = false;
        Ok(table.learn(row)?)
    })?;
    let layout = table.layout();
    let schema = table.schema(&layout);
    let mut file = Writing::open(target, |out| make(out, &schema))?;
    let mut count = 0;
    rows(&mut |row| {
        count += 1;
        Ok(table.write(row, &layout, &mut file)?)
    })?;
    Ok(file.finish(count, names(&layout), Some(schema))?)
}

/// Columns found on the way.
fn found<S: Sink<Out = Out>, E: From<SinkError>>(
    target: &Target,
    rows: &mut Rows<'_, E>,
    make: impl Fn(Out) -> io::Result<S>,
) -> Result<Written, E> {
    let mut table = Table::default();
    let mut first = FirstPass::Holding(Held::default());
    if matches!(target, Target::Stdout) {
        first = FirstPass::Finding;
    }
    let mut count = 0;
    rows(&mut |row| {
        count += 1;
        table.judged = false;
        Ok(first.take(&mut table, row, target, &make)?)
    })?;
    table.judged = true;
    if let FirstPass::Holding(held) = first {
        first = FirstPass::begin(&mut table, &held, target, &make)?;
    }
    let layout = table.layout();
    if count > 0 && names(&layout).is_empty() {
        return Err(no_columns(target).into());
    }
    if let FirstPass::Writing(file, guessed) = first {
        if guessed == layout {
            let schema = table.schema(&layout);
            return Ok(file.finish(count, names(&layout), Some(schema))?);
        }
        // Gone before the next one takes its place.
        drop(file);
    }
    let mut file = Writing::open(target, &make)?;
    file.failing(|sink| sink.header(&names(&layout)))?;
    rows(&mut |row| Ok(table.write(row, &layout, &mut file)?))?;
    let schema = table.schema(&layout);
    Ok(file.finish(count, names(&layout), Some(schema))?)
}

fn no_columns(target: &Target) -> SinkError {
    SinkError::NoColumns {
        path: target.shown(),
    }
}

fn names(layout: &Layout) -> Vec<String> {
    layout.others.iter().chain(&layout.names).cloned().collect()
}

/// How far the first pass over rows of unknown columns is.
enum FirstPass<S> {
    /// Rows are held back until the header can be guessed.
    Holding(Held),
    /// Rows are written under a guessed header.
    Writing(Writing<S>, Layout),
    /// The guess was wrong, or none is made: columns are found, nothing is written.
    Finding,
}

/// Rows held back.
#[derive(Default)]
struct Held {
    rows: Vec<(String, Vec<Extra>)>,
    bytes: usize,
}

impl<S: Sink<Out = Out>> FirstPass<S> {
    fn take(
        &mut self,
        table: &mut Table,
        row: Row<'_>,
        target: &Target,
        make: &impl Fn(Out) -> io::Result<S>,
    ) -> Result<(), SinkError> {
        match self {
            Self::Finding => table.learn(row),
            Self::Holding(held) => {
                table.learn(row)?;
                held.bytes += row.json.len();
                held.rows.push((row.json.to_owned(), row.extras.to_vec()));
                if held.rows.len() >= HELD_ROWS || held.bytes >= HELD_BYTES {
                    *self = Self::begin(table, held, target, make)?;
                }
                Ok(())
            }
            Self::Writing(file, guessed) => {
                let before = table.width();
                table.write(row, guessed, file)?;
                if table.width() != before && table.layout() != *guessed {
                    *self = Self::Finding;
                }
                Ok(())
            }
        }
    }

    /// Guesses the header and writes what was held back.
    fn begin(
        table: &mut Table,
        held: &Held,
        target: &Target,
        make: &impl Fn(Out) -> io::Result<S>,
    ) -> Result<Self, SinkError> {
        let layout = table.layout();
        let mut file = Writing::open(target, make)?;
        file.failing(|sink| sink.header(&names(&layout)))?;
        for (json, extras) in &held.rows {
            let row = Row {
                json,
                extras,
                computed: &[],
                member: 0,
            };
            table.write(row, &layout, &mut file)?;
        }
        Ok(Self::Writing(file, layout))
    }
}

/// The columns found so far.
#[derive(Default)]
struct Table {
    /// The names of what stands before the records' own fields.
    extras: Vec<String>,
    flattener: Flattener,
    spare: Vec<Cow<'static, str>>,
    /// The types of `extras`, and of the columns by their numbers.
    types: (Inference, Inference),
    /// What lies inside of the columns, where these are not taken apart.
    nests: Option<Nests>,
    /// Whether the row at hand was looked at for its types.
    judged: bool,
}

impl Table {
    /// Columns are the members of records, whatever these hold.
    fn nested() -> Self {
        Self {
            flattener: Flattener::shallow(),
            nests: Some(Nests::default()),
            ..Self::default()
        }
    }

    fn width(&self) -> usize {
        self.extras.len() + self.flattener.width()
    }

    fn layout(&self) -> Layout {
        self.flattener.layout(&self.extras)
    }

    /// The types, when all rows were looked at.
    fn schema(&self, layout: &Layout) -> Schema {
        let of_extra = |name: &String| self.extras.iter().position(|known| known == name);
        let extras = layout.others.iter();
        let extras = extras.filter_map(|name| Some((name.as_str(), of_extra(name)?)));
        let mut schema = self.types.0.schema(extras);
        let own = layout.names.iter().map(String::as_str);
        let mut own = self.types.1.schema(own.zip(layout.order.iter().copied()));
        if let Some(nests) = &self.nests {
            for (column, number) in own.columns.iter_mut().zip(&layout.order) {
                column.form = Some(nests.form(*number));
            }
        }
        schema.columns.extend(own.columns);
        schema
    }

    /// Looks at the types of a row, once.
    fn judge(&mut self, row: Row<'_>, cells: &[Cow<'_, str>]) {
        if std::mem::replace(&mut self.judged, true) {
            return;
        }
        let (extras, own) = &mut self.types;
        extras.begin_row();
        own.begin_row();
        for extra in row.extras {
            let number = self.extras.iter().position(|name| *name == extra.name);
            extras.cell(number.unwrap_or_default(), &extra.json);
        }
        for (number, cell) in cells.iter().enumerate() {
            own.cell(number, cell);
            if let Some(nests) = &mut self.nests {
                nests.cell(number, cell);
            }
        }
    }

    fn learn(&mut self, row: Row<'_>) -> Result<(), SinkError> {
        self.cells(row, |_| Ok(()))
    }

    fn write<S: Sink<Out = Out>>(
        &mut self,
        row: Row<'_>,
        layout: &Layout,
        file: &mut Writing<S>,
    ) -> Result<(), SinkError> {
        self.cells(row, |cells| {
            file.failing(|sink| {
                for name in &layout.others {
                    let extra = row.extras.iter().find(|extra| extra.name == *name);
                    let value = extra.map_or("", |extra| extra.json.as_str());
                    sink.cell(if value == "null" { "" } else { value })?;
                }
                for column in &layout.order {
                    sink.cell(cells.get(*column).map_or("", |cell| cell))?;
                }
                sink.end_row()
            })
        })
    }

    fn cells(
        &mut self,
        row: Row<'_>,
        then: impl FnOnce(&[Cow<'_, str>]) -> Result<(), SinkError>,
    ) -> Result<(), SinkError> {
        for extra in row.extras {
            if !self.extras.contains(&extra.name) {
                self.extras.push(extra.name.clone());
            }
        }
        let mut cells = recycled(std::mem::take(&mut self.spare));
        self.flattener.cells(row.json, &mut cells);
        few(self.width())?;
        self.judge(row, &cells);
        few(self.nests.as_ref().map_or(0, Nests::width))?;
        then(&cells)?;
        self.spare = recycled(cells);
        Ok(())
    }
}

/// The same allocation for cells of another record.
pub(super) fn recycled<'b>(mut cells: Vec<Cow<'_, str>>) -> Vec<Cow<'b, str>> {
    cells.clear();
    cells.into_iter().map(|_| Cow::Borrowed("")).collect()
}

/// A sink with the target it writes to, for messages.
struct Writing<S> {
    sink: S,
    target: Target,
}

impl<S: Sink<Out = Out>> Writing<S> {
    fn open(target: &Target, make: impl Fn(Out) -> io::Result<S>) -> Result<Self, SinkError> {
        let failed = |error| SinkError::new("write", target.shown(), error);
        Ok(Self {
            sink: make(target.open()?).map_err(failed)?,
            target: target.clone(),
        })
    }

    #[inline]
    fn failing(
        &mut self,
        write: impl FnOnce(&mut S) -> std::io::Result<()>,
    ) -> Result<(), SinkError> {
        write(&mut self.sink).map_err(|error| SinkError::new("write", self.target.shown(), error))
    }

    fn finish(
        self,
        rows: u64,
        columns: Vec<String>,
        schema: Option<Schema>,
    ) -> Result<Written, SinkError> {
        let out = self
            .sink
            .finish()
            .map_err(|error| SinkError::new("write", self.target.shown(), error))?;
        Ok(Written {
            rows,
            columns,
            file: out.close()?,
            rejected: None,
            nulled: Vec::new(),
            unread: Vec::new(),
            schema,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::disk::Disk;
    use crate::plan::path::Path;
    use crate::plan::sink::{Compression, CsvPlan};
    use crate::plan::typed::Kind;
    use crate::plan::{ColumnFrom, ColumnPlan};

    struct Case {
        passes: usize,
        text: String,
        rows: u64,
        columns: Vec<String>,
        bytes: u64,
        schema: Option<Schema>,
    }

    fn csv() -> SinkFormat {
        SinkFormat::Csv(CsvPlan {
            delimiter: b',',
            null: String::new(),
            spreadsheet_safe: false,
        })
    }

    fn run(
        format: &SinkFormat,
        columns: Option<&[ColumnPlan]>,
        records: &[String],
        extras: &[Extra],
    ) -> Case {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let target = Target::File {
            disk: Disk::system(),
            path: path.clone(),
            compression: Compression::None,
        };
        let mut passes = 0;
        let streams: Vec<&[ColumnPlan]> = columns.into_iter().collect();
        let written =
            write::<SinkError>(format, &target, Columns::of(&streams), None, &mut |each| {
                passes += 1;
                records.iter().try_for_each(|json| {
                    each(Row {
                        json,
                        extras,
                        computed: &["\"t\""],
                        member: 0,
                    })
                })
            })
            .unwrap();
        let bytes = written.file.bytes();
        let crc = written.file.crc();
        written.file.place().unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let text = fs::read_to_string(path).unwrap();
        assert_eq!(crc, crate::crc::of(text.as_bytes()));
        Case {
            passes,
            text,
            rows: written.rows,
            columns: written.columns,
            bytes,
            schema: written.schema,
        }
    }

    fn records(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn variables_come_first_and_few_rows_take_one_pass() {
        let extras = [Extra {
            name: "repo".to_owned(),
            json: "\"tokio\"".to_owned(),
        }];
        let case = run(
            &csv(),
            None,
            &records(&[
                r#"{"a":1,"u":null,"repo":null}"#,
                r#"{"u":{"x":2},"repo":{"id":3}}"#,
            ]),
            &extras,
        );
        assert_eq!(
            case.text,
            "repo,a,u.x,repo.id\r\ntokio,1,,\r\ntokio,,2,3\r\n"
        );
        assert_eq!(case.passes, 1);
        assert_eq!(case.rows, 2);
        assert_eq!(usize::try_from(case.bytes), Ok(case.text.len()));
    }

    #[test]
    fn a_field_of_the_record_wins_over_a_variable_of_its_name() {
        let extra = |name: &str, json: &str| Extra {
            name: name.to_owned(),
            json: json.to_owned(),
        };
        let extras = [extra("id", "7"), extra("story", "9")];
        let case = run(
            &csv(),
            None,
            &records(&[r#"{"by":"a"}"#, r#"{"by":"b","id":1}"#, r#"{"id":null}"#]),
            &extras,
        );
        assert_eq!(case.text, "story,by,id\r\n9,a,\r\n9,b,1\r\n9,,\r\n");
        assert_eq!(case.columns, ["story", "by", "id"]);
        // The field may come when rows stand under the variable already.
        let mut many: Vec<String> = (0..1_500).map(|n| format!("{{\"n\":{n}}}")).collect();
        let case = run(&csv(), None, &many, &extras);
        assert!(case.text.starts_with("id,story,n\r\n7,9,0\r\n"));
        many.push(r#"{"n":1500,"id":1}"#.to_owned());
        let case = run(&csv(), None, &many, &extras);
        assert_eq!(case.passes, 2);
        assert!(case.text.starts_with("story,n,id\r\n9,0,\r\n"));
        assert!(case.text.ends_with("\r\n9,1499,\r\n9,1500,1\r\n"));
    }

    #[test]
    fn a_late_column_costs_a_second_pass_and_nothing_else() {
        let mut many: Vec<String> = (0..1_500).map(|n| format!("{{\"n\":{n}}}")).collect();
        assert_eq!(run(&csv(), None, &many, &[]).passes, 1);
        many.push(r#"{"n":1500,"late":{"x":true}}"#.to_owned());
        let case = run(&csv(), None, &many, &[]);
        assert_eq!(case.passes, 2);
        assert!(case.text.starts_with("n,late.x\r\n0,\r\n1,\r\n"));
        assert!(case.text.ends_with("\r\n1499,\r\n1500,true\r\n"));
        assert_eq!(case.rows, 1_501);
        // A late null of what is a parent changes no header, a late text does.
        many.push(r#"{"n":1501,"late":null}"#.to_owned());
        many.splice(0..0, [r#"{"n":-1,"late":{"x":0}}"#.to_owned()]);
        assert_eq!(run(&csv(), None, &many, &[]).passes, 1);
        many.push(r#"{"n":1502,"late":"text"}"#.to_owned());
        let case = run(&csv(), None, &many, &[]);
        assert_eq!(
            (case.passes, &case.columns[..]),
            (
                2,
                &["n".to_owned(), "late.x".to_owned(), "late".to_owned()][..]
            )
        );
    }

    /// Each row is looked at once, whether it was held back, written on or written again.
    #[test]
    fn types_are_those_of_all_rows_whatever_the_passes() {
        let extras = [Extra {
            name: "repo".to_owned(),
            json: "\"tokio\"".to_owned(),
        }];
        let mut many: Vec<String> = (0..1_500).map(|n| format!("{{\"n\":{n}}}")).collect();
        for late in ["{\"n\":0.5}", "{\"n\":null,\"late\":\"2024-05-01\"}"] {
            many.push(late.to_owned());
            let case = run(&csv(), None, &many, &extras);
            let schema = case.schema.unwrap();
            assert_eq!(schema.rows, many.len() as u64);
            let told: Vec<_> = (schema.columns.iter())
                .map(|c| (c.name.as_str(), c.kind, c.values))
                .collect();
            let rows = case.rows;
            let mut wanted = vec![
                ("repo", Some(Kind::Text), rows),
                ("n", Some(Kind::Number), 1_501),
            ];
            if case.passes == 2 {
                wanted.push(("late", Some(Kind::Date), 1));
            }
            assert_eq!(told, wanted);
        }
    }

    #[test]
    fn declared_columns_in_both_formats() {
        let from = |path: &str| ColumnFrom::Path(Path::parse(path).unwrap());
        let columns = [
            ColumnPlan::new("x", from("a.x")),
            ColumnPlan::new(
                "t",
                ColumnFrom::Template(crate::plan::language::Template::parse("{{ t }}").unwrap()),
            ),
        ];
        let rows = records(&[r#"{"a":{"x":1.10}}"#, "{}"]);
        let case = run(&csv(), Some(&columns), &rows, &[]);
        assert_eq!(case.text, "x,t\r\n1.10,t\r\n,t\r\n");
        let case = run(&SinkFormat::Ndjson, Some(&columns), &rows, &[]);
        assert_eq!(
            case.text,
            "{\"x\":1.10,\"t\":\"t\"}\n{\"x\":null,\"t\":\"t\"}\n"
        );
        let case = run(&SinkFormat::Ndjson, None, &rows, &[]);
        assert_eq!(case.text, "{\"a\":{\"x\":1.10}}\n{}\n");
    }

    #[test]
    fn names_that_are_data_are_refused_and_leave_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let target = Target::File {
            disk: Disk::system(),
            path: folder.path().join("out.csv"),
            compression: Compression::None,
        };
        let error = write::<SinkError>(&csv(), &target, None, None, &mut |each| {
            (0..=crate::sink::declared::MOST_COLUMNS).try_for_each(|n| {
                each(Row {
                    json: &format!("{{\"id{n}\":1}}"),
                    extras: &[],
                    computed: &[],
                    member: 0,
                })
            })
        });
        assert!(matches!(error, Err(SinkError::TooManyColumns { .. })));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn no_rows_make_a_header_or_an_empty_file() {
        let case = run(&csv(), None, &[], &[]);
        assert_eq!((case.text.as_str(), case.passes), ("", 1));
        let from = ColumnFrom::Path(Path::parse("x").unwrap());
        let columns = [ColumnPlan::new("x", from)];
        assert_eq!(run(&csv(), Some(&columns), &[], &[]).text, "x\r\n");
    }

    #[test]
    fn rejected_records_go_to_a_file_of_their_own() {
        use crate::plan::typed::{OnBad, Typed};
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| Target::File {
            disk: Disk::system(),
            path: folder.path().join(name),
            compression: Compression::None,
        };
        let (target, rejects) = (at("out.csv"), at("out.rejects"));
        let mut columns = [ColumnPlan {
            typed: Some(Typed {
                kind: Kind::Integer,
                format: crate::plan::position::Format::Iso,
                zone: jiff::tz::TimeZone::UTC,
            }),
            on_bad: OnBad::Reject,
            ..ColumnPlan::new("n", ColumnFrom::Path(Path::parse("n").unwrap()))
        }];
        let rows = records(&[r#"{"n":"x"}"#, r#"{"n":"7"}"#, r#"{"n":[1]}"#]);
        let write = |columns: &[ColumnPlan], rejects| {
            write::<SinkError>(
                &csv(),
                &target,
                Columns::of(&[columns]),
                rejects,
                &mut |each| {
                    rows.iter().try_for_each(|json| {
                        each(Row {
                            json,
                            extras: &[],
                            computed: &[],
                            member: 0,
                        })
                    })
                },
            )
        };
        let written = write(&columns, Some(&rejects)).unwrap();
        let rejected = written.rejected.unwrap();
        assert_eq!((written.rows, rejected.records), (1, 2));
        rejected.file.place().unwrap();
        assert_eq!(
            fs::read_to_string(folder.path().join("out.rejects")).unwrap(),
            "{\"column\":\"n\",\"value\":\"x\",\"reason\":\"is not a whole number\",\"record\":{\"n\":\"x\"}}\n\
             {\"column\":\"n\",\"value\":[1],\"reason\":\"is not a whole number\",\"record\":{\"n\":[1]}}\n"
        );
        // Without a place for them nothing can be rejected.
        assert!(matches!(
            write(&columns, None),
            Err(SinkError::Misfit { .. })
        ));
        columns[0].on_bad = OnBad::Null;
        let written = write(&columns, None).unwrap();
        assert_eq!(
            (written.rows, written.nulled),
            (3, vec![("n".to_owned(), 2)])
        );
    }
}
