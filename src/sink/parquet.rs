//! Parquet: columns with types, row groups of bounded size, compressed with zstd.
//!
//! Objects and arrays are structs and lists where the sink says `nested` (`inside`), else JSON text.
//!
//! The one place that knows the `parquet` and `arrow` crates. What a column is was judged before
//! ([`super::infer`]); here a cell that its type does not hold is an error, never another value. The
//! footer says what the plan of the sink tells of the file, without a time: the same rows make the same bytes.

mod inside;
pub mod read;

use std::collections::HashMap;
use std::io;
use std::io::Write;
use std::sync::Arc;

use arrow_array::builder::{
    BooleanBuilder, Date32Builder, Float64Builder, Int64Builder, StringBuilder,
    TimestampMicrosecondBuilder, TimestampNanosecondBuilder,
};
use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::{ArrowError, DataType, Field, SchemaRef, TimeUnit};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use self::inside::{Lists, Structs};
use super::Sink;
use super::infer::{Native, Schema};
use super::moment::{Moment, date, moment};
use super::nested::Form;
use crate::json;
use crate::plan::sink::ParquetPlan;
use crate::plan::typed::Kind;

/// Cells gathered before they are encoded, in bytes.
const BATCH_BYTES: usize = 4 << 20;
/// And in number: a builder holds some bytes for each.
const BATCH_CELLS: usize = 256 * 1024;
/// A row group is written when its encoded pages have come to so many bytes: what is held in
/// memory, and what a reader loads at once.
const GROUP_BYTES: usize = 32 << 20;
/// Most rows of a row group, as readers are used to.
const GROUP_ROWS: usize = 1 << 20;
/// The level that most writers take.
const ZSTD: i32 = 3;
/// The zone of instants, as readers spell it.
const UTC: &str = "UTC";
/// What the elements of a list are called (Parquet, LogicalTypes.md, "Lists").
const ELEMENT: &str = "element";
/// Under this key a column says what its values are, where its machine type does not.
const KIND: &str = "gleaner.type";

/// Writes Parquet.
#[derive(Debug)]
pub struct Parquet<W: Write + Send> {
    writer: ArrowWriter<W>,
    schema: SchemaRef,
    columns: Vec<Column>,
    /// Columns on disk: those inside of others count, and hold some bytes a row.
    leaves: usize,
    next: usize,
    rows: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Column {
    name: String,
    cells: Cells,
}

/// The cells of a column that are not encoded yet.
#[derive(Debug)]
enum Cells {
    Text(StringBuilder),
    Json(StringBuilder),
    Int64(Int64Builder),
    Float64(Float64Builder),
    Boolean(BooleanBuilder),
    Date(Date32Builder),
    Micros(TimestampMicrosecondBuilder),
    Nanos(TimestampNanosecondBuilder),
    Struct(Structs),
    List(Lists),
}

impl<W: Write + Send> Parquet<W> {
    /// Writes columns of this schema to `out`.
    pub fn new(out: W, columns: &Schema, plan: &ParquetPlan) -> io::Result<Self> {
        let fields: Vec<Field> = (columns.columns.iter())
            .map(|column| match &column.form {
                Some(form) => shaped(&column.name, form),
                None => field(&column.name, column.native, column.kind),
            })
            .collect();
        let leaves = (columns.columns.iter()).map(|c| c.form.as_ref().map_or(1, Form::leaves));
        let leaves = leaves.sum::<usize>().max(1);
        let schema = Arc::new(arrow_schema::Schema::new(fields));
        let level = ZstdLevel::try_new(ZSTD).map_err(refused)?;
        let about = plan.about.iter();
        let about = about.map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(level))
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .set_max_row_group_bytes(Some(GROUP_BYTES))
            .set_created_by(format!("gleaner {}", env!("CARGO_PKG_VERSION")))
            .set_key_value_metadata(Some(about.collect()))
            .build();
        let writer =
            ArrowWriter::try_new(out, schema.clone(), Some(properties)).map_err(refused)?;
        let columns = columns.columns.iter().map(|column| Column {
            name: column.name.clone(),
            cells: match &column.form {
                Some(form) => Cells::of(form),
                None => Cells::new(column.native),
            },
        });
        Ok(Self {
            writer,
            schema,
            columns: columns.collect(),
            leaves,
            next: 0,
            rows: 0,
            bytes: 0,
        })
    }

    fn encode(&mut self) -> io::Result<()> {
        if self.rows == 0 {
            return Ok(());
        }
        let arrays: Vec<ArrayRef> = (self.columns.iter_mut())
            .map(|column| column.cells.finish())
            .collect();
        // Records may have no field at all.
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)
            .map_err(|error| refused(error.into()))?;
        (self.rows, self.bytes) = (0, 0);
        self.writer.write(&batch).map_err(refused)
    }
}

impl<W: Write + Send> Sink for Parquet<W> {
    type Out = W;

    fn header(&mut self, _: &[String]) -> io::Result<()> {
        Ok(())
    }

    fn cell(&mut self, value: &str) -> io::Result<()> {
        if let Some(column) = self.columns.get_mut(self.next) {
            if !column.cells.push(value) {
                return Err(unfit(&column.name, value));
            }
            self.bytes += value.len();
        }
        self.next += 1;
        Ok(())
    }

    fn end_row(&mut self) -> io::Result<()> {
        // What a row does not have at its end is null.
        while self.next < self.columns.len() {
            self.cell("")?;
        }
        self.next = 0;
        self.rows += 1;
        if self.bytes >= BATCH_BYTES || self.rows * self.leaves >= BATCH_CELLS {
            self.encode()?;
        }
        Ok(())
    }

    fn finish(mut self) -> io::Result<W> {
        self.encode()?;
        self.writer.into_inner().map_err(refused)
    }
}

/// A column of the file. What reads it back knows a number that is written as text from other text.
fn field(name: &str, native: Native, kind: Option<Kind>) -> Field {
    let field = Field::new(name, data_type(native), true);
    let told = match (native, kind) {
        (Native::Json, _) => Kind::Json,
        (Native::Text, Some(kind)) if kind != Kind::Text => kind,
        _ => return field,
    };
    field.with_metadata(HashMap::from([(KIND.to_owned(), told.to_string())]))
}

fn data_type(native: Native) -> DataType {
    match native {
        Native::Text | Native::Json => DataType::Utf8,
        Native::Int64 => DataType::Int64,
        Native::Float64 => DataType::Float64,
        Native::Boolean => DataType::Boolean,
        Native::Date => DataType::Date32,
        Native::Micros => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
        Native::Nanos => DataType::Timestamp(TimeUnit::Nanosecond, Some(UTC.into())),
    }
}

/// A column whose values have structure.
fn shaped(name: &str, form: &Form) -> Field {
    match form {
        Form::Plain(kind, native) => field(name, *native, *kind),
        Form::Struct(fields) => {
            let fields = fields.iter().map(|(name, form)| shaped(name, form));
            Field::new(name, DataType::Struct(fields.collect()), true)
        }
        Form::List(element) => {
            let element = shaped(ELEMENT, element);
            Field::new(name, DataType::List(Arc::new(element)), true)
        }
    }
}

impl Cells {
    fn of(form: &Form) -> Self {
        match form {
            Form::Plain(_, native) => Self::new(*native),
            Form::Struct(fields) => Self::Struct(Structs::new(fields)),
            Form::List(element) => Self::List(Lists::new(element)),
        }
    }

    // Without room for many beforehand: there may be thousands of columns.
    fn new(native: Native) -> Self {
        match native {
            Native::Text => Self::Text(StringBuilder::with_capacity(0, 0)),
            Native::Json => Self::Json(StringBuilder::with_capacity(0, 0)),
            Native::Int64 => Self::Int64(Int64Builder::with_capacity(0)),
            Native::Float64 => Self::Float64(Float64Builder::with_capacity(0)),
            Native::Boolean => Self::Boolean(BooleanBuilder::with_capacity(0)),
            Native::Date => Self::Date(Date32Builder::with_capacity(0)),
            Native::Micros => {
                Self::Micros(TimestampMicrosecondBuilder::with_capacity(0).with_timezone(UTC))
            }
            Native::Nanos => {
                Self::Nanos(TimestampNanosecondBuilder::with_capacity(0).with_timezone(UTC))
            }
        }
    }

    /// Takes a cell; false where the type does not hold it.
    fn push(&mut self, json: &str) -> bool {
        if matches!(json, "" | "null") {
            self.push_null();
            return true;
        }
        let inside = json
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'));
        match (self, inside) {
            (Self::Struct(cells), _) => return cells.push(json),
            (Self::List(cells), _) => return cells.push(json),
            (Self::Text(cells), _) => cells.append_value(json::plain(json)),
            (Self::Json(cells), _) => cells.append_value(json),
            (Self::Int64(cells), None) => match json.parse() {
                Ok(value) => cells.append_value(value),
                Err(_) => return false,
            },
            (Self::Float64(cells), None) => match json.parse::<f64>() {
                Ok(value) if value.is_finite() => cells.append_value(value),
                _ => return false,
            },
            (Self::Boolean(cells), None) => match json.parse() {
                Ok(value) => cells.append_value(value),
                Err(_) => return false,
            },
            (Self::Date(cells), Some(text)) => match date(text) {
                Some(days) => cells.append_value(days),
                None => return false,
            },
            (Self::Micros(cells), Some(text)) => match moment(text) {
                Some(at) if at.digits <= 6 => cells.append_value(at.micros()),
                _ => return false,
            },
            (Self::Nanos(cells), Some(text)) => match moment(text).and_then(Moment::billionths) {
                Some(nanos) => cells.append_value(nanos),
                None => return false,
            },
            _ => return false,
        }
        true
    }

    fn push_null(&mut self) {
        match self {
            Self::Text(cells) | Self::Json(cells) => cells.append_null(),
            Self::Int64(cells) => cells.append_null(),
            Self::Float64(cells) => cells.append_null(),
            Self::Boolean(cells) => cells.append_null(),
            Self::Date(cells) => cells.append_null(),
            Self::Micros(cells) => cells.append_null(),
            Self::Nanos(cells) => cells.append_null(),
            Self::Struct(cells) => cells.push_null(),
            Self::List(cells) => cells.push_null(),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Text(cells) | Self::Json(cells) => Arc::new(cells.finish()),
            Self::Int64(cells) => Arc::new(cells.finish()),
            Self::Float64(cells) => Arc::new(cells.finish()),
            Self::Boolean(cells) => Arc::new(cells.finish()),
            Self::Date(cells) => Arc::new(cells.finish()),
            Self::Micros(cells) => Arc::new(cells.finish()),
            Self::Nanos(cells) => Arc::new(cells.finish()),
            Self::Struct(cells) => cells.finish(),
            Self::List(cells) => cells.finish(),
        }
    }
}

/// A value that is not what the column was found to be.
fn unfit(column: &str, value: &str) -> io::Error {
    let value: String = value.chars().take(80).collect();
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("column `{column}`: {value} does not fit its type"),
    )
}

/// What the library refused: what the disk said, where that is why.
fn refused(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(source) => match source.downcast::<ArrowError>() {
            Ok(error) => io::Error::other(error),
            Err(source) => match source.downcast::<io::Error>() {
                Ok(error) => *error,
                Err(source) => io::Error::other(source),
            },
        },
        error => io::Error::other(error),
    }
}
