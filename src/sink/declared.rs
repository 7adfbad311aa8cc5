//! The types of declared columns, known before the first row is written.

use super::columns::{Columns, Projectors};
use super::infer::{Inference, Schema};
use super::nested::Nests;
use super::table::recycled;
use super::{Rows, SinkError};

/// Most columns that are found; more are names that should be values.
pub(super) const MOST_COLUMNS: usize = 10_000;

/// Knows the types that are declared.
pub(super) fn inference(columns: Columns<'_>) -> Inference {
    let mut inference = Inference::default();
    for (number, column) in columns.iter().enumerate() {
        if let Some(typed) = &column.typed {
            inference.declare(number, typed.kind);
        }
    }
    inference
}

/// At once where each says its own, else by looking at all rows; also at what lies inside of values,
/// where that is `nested`.
pub(super) fn typed<E: From<SinkError>>(
    columns: Columns<'_>,
    nested: bool,
    rows: &mut Rows<'_, E>,
) -> Result<Schema, E> {
    let mut inference = inference(columns);
    let mut nests = Nests::default();
    let looked_into = |number: usize| {
        let column = columns.get(number);
        nested && column.is_some_and(|column| column.typed.is_none())
    };
    let mut projector = Projectors::new(columns).natively();
    if columns.iter().any(|column| column.typed.is_none()) {
        let mut spare = Vec::new();
        rows(&mut |row| {
            let mut cells = recycled(std::mem::take(&mut spare));
            // What does not fit its column is told when it would be written.
            if projector.cells(row, &mut cells).is_ok() {
                inference.begin_row();
                for (number, cell) in cells.iter().enumerate() {
                    inference.cell(number, cell);
                    if looked_into(number) {
                        nests.cell(number, cell);
                    }
                }
            }
            spare = recycled(cells);
            Ok(few(nests.width())?)
        })?;
    }
    let names = columns.iter().map(|column| column.name.as_str());
    let mut schema = inference.schema(names.zip(0..));
    for (number, column) in schema.columns.iter_mut().enumerate() {
        column.form = looked_into(number).then(|| nests.form(number));
    }
    Ok(schema)
}

/// Refuses names that are data.
pub(super) fn few(width: usize) -> Result<(), SinkError> {
    if width > MOST_COLUMNS {
        return Err(SinkError::TooManyColumns { most: MOST_COLUMNS });
    }
    Ok(())
}
