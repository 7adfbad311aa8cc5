//! Parquet read back: rows of cells as JSON text, of files that this program wrote.

use std::fs::File;
use std::io;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Float64Type, Int64Type, TimestampMicrosecondType, TimestampNanosecondType,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, Field, TimeUnit};
use jiff::Timestamp;
use jiff::civil::date as day;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};

use super::{KIND, refused};
use crate::json;
use crate::plan::typed::Kind;
use crate::sink::infer::Native;

/// Rows decoded at once; fewer where columns are many.
const BATCH_CELLS: usize = 64 * 1024;

/// A column of a file: its name, what its values are, and what holds them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The header.
    pub name: String,
    /// What its values are.
    pub kind: Kind,
    /// What holds them.
    pub native: Native,
    /// What its values have inside.
    pub inside: Inside,
}

/// What a column's values have inside, where the file has structure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inside {
    /// Nothing: plain values, or JSON text.
    Nothing,
    /// Fields of objects.
    Fields(Vec<Told>),
    /// Elements of arrays.
    Elements(Box<Told>),
}

/// The columns of a file.
pub fn columns(file: &File) -> io::Result<Vec<Told>> {
    let reader = builder(file)?;
    let fields = reader.schema().fields();
    fields.iter().map(|field| told(field)).collect()
}

/// Every row, as the cells of its columns: JSON text, `""` for null.
pub fn rows<E: From<io::Error>>(
    file: &File,
    each: &mut dyn FnMut(&[String]) -> Result<(), E>,
) -> Result<(), E> {
    let builder = builder(file)?;
    let columns: Vec<Told> = (builder.schema().fields().iter())
        .map(|field| told(field))
        .collect::<io::Result<_>>()?;
    let rows = (BATCH_CELLS / columns.len().max(1)).max(1);
    let reader = builder.with_batch_size(rows).build().map_err(refused)?;
    let mut cells = vec![String::new(); columns.len()];
    for batch in reader {
        let batch = batch.map_err(|error| refused(error.into()))?;
        for row in 0..batch.num_rows() {
            for ((cell, column), told) in cells.iter_mut().zip(batch.columns()).zip(&columns) {
                cell.clear();
                if column.is_valid(row) {
                    push(cell, column, row, told);
                }
            }
            each(&cells)?;
        }
    }
    Ok(())
}

fn builder(file: &File) -> io::Result<ParquetRecordBatchReaderBuilder<File>> {
    let options = ArrowReaderOptions::new();
    ParquetRecordBatchReaderBuilder::try_new_with_options(file.try_clone()?, options)
        .map_err(refused)
}

fn told(field: &Field) -> io::Result<Told> {
    let mut inside = Inside::Nothing;
    let (kind, native) = match field.data_type() {
        DataType::Utf8 => (Kind::Text, Native::Text),
        DataType::Int64 => (Kind::Integer, Native::Int64),
        DataType::Float64 => (Kind::Number, Native::Float64),
        DataType::Boolean => (Kind::Boolean, Native::Boolean),
        DataType::Date32 => (Kind::Date, Native::Date),
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => (Kind::Timestamp, Native::Micros),
        DataType::Timestamp(TimeUnit::Nanosecond, Some(_)) => (Kind::Timestamp, Native::Nanos),
        DataType::Struct(fields) => {
            let fields = fields.iter().map(|field| told(field));
            inside = Inside::Fields(fields.collect::<io::Result<_>>()?);
            (Kind::Json, Native::Json)
        }
        DataType::List(element) => {
            inside = Inside::Elements(Box::new(told(element)?));
            (Kind::Json, Native::Json)
        }
        other => {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "column `{}` is of the Parquet type {other}, which this program does not write",
                    field.name()
                ),
            ));
        }
    };
    let (kind, native) = match field.metadata().get(KIND).map(String::as_str) {
        Some("json") => (Kind::Json, Native::Json),
        Some("integer") => (Kind::Integer, native),
        Some("number") => (Kind::Number, native),
        Some("timestamp") => (Kind::Timestamp, native),
        _ => (kind, native),
    };
    Ok(Told {
        name: field.name().clone(),
        kind,
        native,
        inside,
    })
}

/// A value as JSON text.
fn push(cell: &mut String, column: &ArrayRef, row: usize, told: &Told) {
    match &told.inside {
        Inside::Nothing => push_plain(cell, column, row, told),
        Inside::Fields(fields) => {
            cell.push('{');
            let columns = column.as_struct().columns();
            for (at, (field, values)) in fields.iter().zip(columns).enumerate() {
                if at > 0 {
                    cell.push(',');
                }
                json::push_quoted(cell, &field.name);
                cell.push(':');
                push_or_null(cell, values, row, field);
            }
            cell.push('}');
        }
        Inside::Elements(element) => {
            cell.push('[');
            let values = column.as_list::<i32>().value(row);
            for at in 0..values.len() {
                if at > 0 {
                    cell.push(',');
                }
                push_or_null(cell, &values, at, element);
            }
            cell.push(']');
        }
    }
}

fn push_or_null(cell: &mut String, column: &ArrayRef, row: usize, told: &Told) {
    if column.is_valid(row) {
        push(cell, column, row, told);
    } else {
        cell.push_str("null");
    }
}

fn push_plain(cell: &mut String, column: &ArrayRef, row: usize, told: &Told) {
    match told.native {
        Native::Text => {
            let text = column.as_string::<i32>().value(row);
            if matches!(told.kind, Kind::Integer | Kind::Number) {
                cell.push_str(text);
            } else {
                json::push_quoted(cell, text);
            }
        }
        Native::Json => cell.push_str(column.as_string::<i32>().value(row)),
        Native::Int64 => {
            let value = column.as_primitive::<Int64Type>().value(row);
            cell.push_str(&value.to_string());
        }
        Native::Float64 => {
            let value = column.as_primitive::<Float64Type>().value(row);
            push_float(cell, value);
        }
        Native::Boolean => {
            let value = column.as_boolean().value(row);
            cell.push_str(if value { "true" } else { "false" });
        }
        Native::Date => {
            let days = column.as_primitive::<Date32Type>().value(row);
            let date = day(1970, 1, 1).checked_add(jiff::Span::new().days(days));
            cell.push_str(&date.map(|d| format!("\"{d}\"")).unwrap_or_default());
        }
        Native::Micros => {
            let value = column.as_primitive::<TimestampMicrosecondType>().value(row);
            push_instant(cell, Timestamp::from_microsecond(value).ok());
        }
        Native::Nanos => {
            let value = column.as_primitive::<TimestampNanosecondType>().value(row);
            push_instant(cell, Timestamp::from_nanosecond(i128::from(value)).ok());
        }
    }
}

fn push_instant(cell: &mut String, at: Option<Timestamp>) {
    if let Some(at) = at {
        cell.push('"');
        cell.push_str(&at.to_string());
        cell.push('"');
    }
}

/// The shortest text that means the float, with a point or an exponent: it stays a number.
pub(in crate::sink) fn push_float(cell: &mut String, value: f64) {
    let plain = value.to_string();
    let text = if plain.len() > 21 {
        format!("{value:e}")
    } else {
        plain
    };
    cell.push_str(&text);
    if !text.contains(['.', 'e']) {
        cell.push_str(".0");
    }
}
