//! Writing the rows of a publish into a table: one pass over the records finds the columns and their
//! types, a second one writes.
//!
//! A table has to be declared before its first row, and a column that holds one text among a million
//! numbers is a column of another type; so nothing is guessed.

use std::borrow::Cow;

use rusqlite::types::Value;
use rusqlite::{Connection, Statement};

use super::columns::{RUN, listed, quoted, value};
use super::table::{Declared, MOST_COLUMNS, of_schema};
use super::{Claim, Pending, Place};
use crate::sink::columns::{Columns, Projectors};
use crate::sink::flatten::{Flattener, Layout};
use crate::sink::infer::{Inference, Look, Mixing, Native, Schema};
use crate::sink::rejects::{Misfit, Rejects};
use crate::sink::{Built, CellRows, Row, Rows, SinkError, Target, Written};

/// What the rows of a publish are to the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// All that it will hold.
    Whole,
    /// Those that this run adds.
    Added,
    /// The newest versions of records of which the table may hold older ones.
    Newest,
}

/// Writes all rows; the table changes only when what comes back is brought to its place. Records that
/// columns reject go to `rejects`.
pub fn write<E: From<SinkError>>(
    place: &Place,
    claim: &Claim,
    fill: Fill,
    columns: Option<Columns<'_>>,
    rejects: Option<&Target>,
    rows: &mut Rows<'_, E>,
) -> Result<Written, E> {
    let mut shaper = Shaper::new(columns);
    let mut rejected = Rejects::new(rejects);
    rows(&mut |row| {
        shaper.learn(place, row, |json, misfit| rejected.take(json, misfit))?;
        Ok(())
    })?;
    let schema = shaper.schema();
    let mut second = shaper.again();
    let (pending, count) = filled(place, claim, fill, &schema, |insert| {
        rows(&mut |row| {
            second.cells(row, |cells| insert.row(cells).map_err(|e| place.failed(e)))?;
            Ok(())
        })
    })?;
    let mut written = Written {
        rows: count,
        columns: schema.columns.iter().map(|c| c.name.clone()).collect(),
        file: Built::of_table(pending),
        rejected: None,
        nulled: shaper.nulled(),
        unread: shaper.unread(),
        schema: Some(schema),
    };
    rejected.finish(&mut written)?;
    Ok(written)
}

/// Writes rows that are cells already, under columns that are known: all that the table will hold.
pub fn rewrite(
    place: &Place,
    claim: &Claim,
    schema: &Schema,
    rows: &mut CellRows<'_>,
) -> Result<Written, SinkError> {
    let (pending, count) = filled(place, claim, Fill::Whole, schema, |insert| {
        rows(&mut |cells| insert.row(cells).map_err(|e| place.failed(e)))
    })?;
    Ok(Written {
        rows: count,
        columns: schema.columns.iter().map(|c| c.name.clone()).collect(),
        file: Built::of_table(pending),
        rejected: None,
        nulled: Vec::new(),
        unread: Vec::new(),
        schema: Some(schema.clone()),
    })
}

/// Brings the table to the columns of a schema, has `each` put its rows there and writes the ledger's row;
/// says how many rows the publish is.
fn filled<E: From<SinkError>>(
    place: &Place,
    claim: &Claim,
    fill: Fill,
    schema: &Schema,
    each: impl FnOnce(&mut Insert<'_>) -> Result<(), E>,
) -> Result<(Pending, u64), E> {
    if schema.columns.len() > MOST_COLUMNS - 1 {
        return Err(too_wide(place).into());
    }
    if schema.rows > 0 && schema.columns.is_empty() {
        let path = place.shown();
        return Err(SinkError::NoColumns { path }.into());
    }
    let found = of_schema(schema, &claim.key, fill == Fill::Added);
    let pending = place.begin(claim)?;
    let declared = ready(&pending, claim, fill, found).map_err(|e| place.failed(e))?;
    let mut count = 0;
    if let Some(declared) = &declared {
        let mut insert = Insert::new(&pending.connection, place, claim, fill, declared)
            .map_err(|e| place.failed(e))?;
        // Where each column's cells are.
        insert.order = (declared.columns.iter())
            .map(|column| schema.columns.iter().position(|c| c.name == column.source))
            .collect();
        each(&mut insert)?;
        count = insert.count;
        drop(insert);
        (declared.index(&pending.connection, &place.table)).map_err(|e| place.failed(e))?;
        (declared.note(&pending.connection, &place.table)).map_err(|e| place.failed(e))?;
        if fill == Fill::Newest {
            let all = format!("SELECT count(*) FROM {}", quoted(&place.table));
            count = (pending.connection.query_row(&all, [], |row| row.get(0)))
                .map_err(|e| place.failed(e))?;
        }
    }
    pending.note(claim, count)?;
    Ok((pending, count))
}

fn too_wide(place: &Place) -> SinkError {
    SinkError::TooWide {
        path: place.shown(),
    }
}

/// Brings the table to where rows of `found` can be written into it. None where there is no table, and
/// nothing is known of what would stand in it.
fn ready(
    pending: &Pending,
    claim: &Claim,
    fill: Fill,
    found: Declared,
) -> rusqlite::Result<Option<Declared>> {
    let (at, table) = (&pending.connection, pending.place.table.as_str());
    let name = quoted(table);
    let old = Declared::read(at, table, &claim.key)?;
    if fill == Fill::Whole {
        if found.columns.is_empty() {
            // No record is no reason to forget what columns there were.
            if old.is_some() {
                at.execute_batch(&format!("DELETE FROM {name}"))?;
            }
            return Ok(old);
        }
        if old.as_ref().is_some_and(|old| old.is_like(&found)) {
            at.execute_batch(&format!("DELETE FROM {name}"))?;
        } else {
            at.execute_batch(&format!("DROP TABLE IF EXISTS {name}"))?;
            found.create(at, table)?;
        }
        return Ok(Some(found));
    }
    let Some(mut old) = old else {
        found.create(at, table)?;
        return Ok(Some(found));
    };
    old.measure(at, table)?;
    let mut joined = Declared::new(
        super::columns::joined(&old.columns, &found.columns),
        &claim.key,
        fill == Fill::Added || old.adds,
    );
    joined.is_primary &= old.is_primary;
    old.become_like(&joined, at, table)?;
    if fill == Fill::Added {
        // A publish that is done again takes the place of what it did before.
        at.execute(
            &format!("DELETE FROM {name} WHERE {} = ?1", quoted(RUN)),
            [&claim.run],
        )?;
    }
    Ok(Some(joined))
}

/// Puts rows into a table.
struct Insert<'c> {
    add: Statement<'c>,
    /// Where the key is no primary key, and older versions have to go first.
    delete: Option<Statement<'c>>,
    /// How each column is held, in the order of the table.
    natives: Vec<Native>,
    /// Which cell it is; none where the records do not have it.
    order: Vec<Option<usize>>,
    /// Which columns are the key.
    key: Vec<usize>,
    run: Option<String>,
    values: Vec<Value>,
    /// Rows so far.
    count: u64,
}

impl<'c> Insert<'c> {
    fn new(
        at: &'c Connection,
        place: &Place,
        claim: &Claim,
        fill: Fill,
        declared: &Declared,
    ) -> rusqlite::Result<Self> {
        let table = quoted(&place.table);
        let mut names: Vec<&str> = declared.columns.iter().map(|c| c.name.as_str()).collect();
        if declared.adds {
            names.push(RUN);
        }
        let marks = vec!["?"; names.len()].join(", ");
        let is_newer = fill == Fill::Newest;
        let how = if is_newer && declared.is_primary {
            "INSERT OR REPLACE"
        } else {
            "INSERT"
        };
        let listed = listed(names.iter().copied());
        let insert = at.prepare(&format!("{how} INTO {table} ({listed}) VALUES ({marks})"))?;
        let delete = if is_newer && !declared.is_primary && !declared.key.is_empty() {
            let same: Vec<String> = declared
                .key
                .iter()
                // `=` would find no null.
                .map(|name| format!("{} IS ?", quoted(name)))
                .collect();
            let text = format!("DELETE FROM {table} WHERE {}", same.join(" AND "));
            Some(at.prepare(&text)?)
        } else {
            None
        };
        let position = |name: &String| {
            declared
                .columns
                .iter()
                .position(|column| column.name == *name)
        };
        Ok(Self {
            add: insert,
            delete,
            natives: declared
                .columns
                .iter()
                .map(|column| column.native)
                .collect(),
            order: Vec::new(),
            key: declared.key.iter().filter_map(position).collect(),
            run: declared.adds.then(|| claim.run.clone()),
            values: Vec::new(),
            count: 0,
        })
    }

    fn row(&mut self, cells: &[impl AsRef<str>]) -> rusqlite::Result<()> {
        self.values.clear();
        for (native, cell) in self.natives.iter().zip(&self.order) {
            let cell = cell.and_then(|at| cells.get(at));
            self.values
                .push(value(*native, cell.map_or("", AsRef::as_ref)));
        }
        if let Some(delete) = &mut self.delete {
            let key = self.key.iter().filter_map(|at| self.values.get(*at));
            delete.execute(rusqlite::params_from_iter(key))?;
        }
        if let Some(run) = &self.run {
            self.values.push(Value::Text(run.clone()));
        }
        self.add.execute(rusqlite::params_from_iter(&self.values))?;
        self.count += 1;
        Ok(())
    }
}

/// Takes records apart into the cells of a table, whether its columns are declared or found.
struct Shaper<'p> {
    columns: Option<Columns<'p>>,
    projector: Option<Projectors>,
    flattener: Flattener,
    /// Which of its columns are written, in a second pass.
    layout: Layout,
    /// The names of what stands before the records' own fields.
    extras: Vec<String>,
    /// The types of `extras`, and of the columns.
    types: (Inference, Inference),
}

impl<'p> Shaper<'p> {
    fn new(columns: Option<Columns<'p>>) -> Self {
        let inference = || Inference::new(Look::Whole, Mixing::Exact);
        let mut own = inference();
        for (number, column) in columns.iter().flat_map(|c| c.iter()).enumerate() {
            if let Some(typed) = &column.typed {
                own.declare(number, typed.kind);
            }
        }
        Self {
            columns,
            projector: columns.map(Projectors::new),
            flattener: Flattener::new(),
            layout: Layout::default(),
            extras: Vec::new(),
            types: (inference(), own),
        }
    }

    /// For a second pass, which finds what the first has found.
    fn again(&self) -> Self {
        Self {
            columns: self.columns,
            projector: self.columns.map(Projectors::new),
            flattener: self.flattener.clone(),
            layout: self.flattener.layout(&self.extras),
            extras: self.extras.clone(),
            types: (Inference::default(), Inference::default()),
        }
    }

    fn learn(
        &mut self,
        place: &Place,
        row: Row<'_>,
        misfit: impl FnOnce(&str, Box<Misfit>) -> Result<(), SinkError>,
    ) -> Result<(), SinkError> {
        let mut cells = Vec::new();
        if let Some(projector) = &mut self.projector {
            if let Err(found) = projector.cells(row, &mut cells) {
                return misfit(row.json, found);
            }
        } else {
            for extra in row.extras {
                if !self.extras.contains(&extra.name) {
                    self.extras.push(extra.name.clone());
                }
            }
            self.flattener.cells(row.json, &mut cells);
            if self.extras.len() + self.flattener.width() > MOST_COLUMNS {
                return Err(too_wide(place));
            }
        }
        let (extras, own) = &mut self.types;
        extras.begin_row();
        own.begin_row();
        for extra in row.extras {
            if let Some(number) = self.extras.iter().position(|name| *name == extra.name) {
                extras.cell(number, &extra.json);
            }
        }
        for (number, cell) in cells.iter().enumerate() {
            own.cell(number, cell);
        }
        Ok(())
    }

    /// The columns, in the order of [`Self::cells`].
    fn schema(&self) -> Schema {
        let (extras, own) = &self.types;
        if let Some(projector) = &self.projector {
            return own.schema(projector.names().iter().map(String::as_str).zip(0..));
        }
        let layout = self.flattener.layout(&self.extras);
        let of_extra = |name: &String| self.extras.iter().position(|known| known == name);
        let others = layout.others.iter();
        let others = others.filter_map(|name| Some((name.as_str(), of_extra(name)?)));
        let mut schema = extras.schema(others);
        let names = layout.names.iter().map(String::as_str);
        let own = own.schema(names.zip(layout.order.iter().copied()));
        schema.columns.extend(own.columns);
        schema
    }

    /// The cells of a record, in the order of the schema; records that were rejected are passed over.
    fn cells(
        &mut self,
        row: Row<'_>,
        then: impl FnOnce(&[Cow<'_, str>]) -> Result<(), SinkError>,
    ) -> Result<(), SinkError> {
        let mut cells = Vec::new();
        if let Some(projector) = &mut self.projector {
            if projector.cells(row, &mut cells).is_err() {
                return Ok(());
            }
            return then(&cells);
        }
        self.flattener.cells(row.json, &mut cells);
        let layout = &self.layout;
        let mut all: Vec<Cow<'_, str>> = Vec::with_capacity(layout.order.len());
        for name in &layout.others {
            let extra = row.extras.iter().find(|extra| extra.name == *name);
            all.push(Cow::Borrowed(extra.map_or("", |extra| &extra.json)));
        }
        for column in &layout.order {
            let cell = cells.get_mut(*column).map(std::mem::take);
            all.push(cell.unwrap_or_default());
        }
        then(&all)
    }

    fn unread(&self) -> Vec<String> {
        let all = self.projector.as_ref().map(Projectors::unread);
        all.unwrap_or_default()
    }

    fn nulled(&self) -> Vec<(String, u64)> {
        self.projector
            .as_ref()
            .map(Projectors::nulled)
            .unwrap_or_default()
    }
}
