//! A look at a published output from outside: the types of its columns and how many different values each
//! has, from its first rows. For those who write programs that read it.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use super::SinkError;
use super::back::Source;
use super::flatten::Flattener;
use super::infer::{Column, Inference, Look};

/// Different values of a column are counted up to here.
pub const MOST_DIFFERENT: usize = 10_000;

/// A column, as seen.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Name, type, least, greatest.
    pub column: Column,
    /// How many different values it has, at most [`MOST_DIFFERENT`].
    pub different: usize,
    /// Whether each of several values comes as often as the others.
    pub is_even: bool,
    /// Bytes of a usual value.
    pub length: usize,
    /// The mean of its numbers, 0 where it has none.
    pub mean: f64,
}

/// Looks at the first `most` rows; says how many there were, and what they hold.
pub fn glance(source: &Source, most: u64) -> Result<(u64, Vec<Seen>), SinkError> {
    let mut look = Looking::new(source.inference(Look::Whole));
    if source.is_records() {
        let mut flattener = Flattener::new();
        source.first_records(most, &mut |row| {
            let mut cells = Vec::new();
            flattener.cells(row.json, &mut cells);
            look.row(cells.iter().map(AsRef::as_ref));
            Ok(())
        })?;
        let layout = flattener.layout(&[]);
        let names = layout.names.iter().map(String::as_str);
        return Ok(look.end(names.zip(layout.order)));
    }
    source.first_rows(most, &mut |cells| {
        look.row(cells.iter().map(String::as_str));
        Ok(())
    })?;
    Ok(look.end(source.names().zip(0..)))
}

struct Looking {
    types: Inference,
    /// How often each value of a column comes.
    different: Vec<HashMap<u64, u64>>,
    bytes: Vec<u64>,
    sums: Vec<f64>,
}

impl Looking {
    fn new(types: Inference) -> Self {
        Self {
            types,
            different: Vec::new(),
            bytes: Vec::new(),
            sums: Vec::new(),
        }
    }

    fn row<'c>(&mut self, cells: impl Iterator<Item = &'c str>) {
        self.types.begin_row();
        for (number, cell) in cells.enumerate() {
            self.cell(number, cell);
        }
    }

    fn cell(&mut self, number: usize, json: &str) {
        self.types.cell(number, json);
        if matches!(json, "" | "null") {
            return;
        }
        if number >= self.different.len() {
            self.different.resize_with(number + 1, HashMap::new);
            self.bytes.resize(number + 1, 0);
            self.sums.resize(number + 1, 0.0);
        }
        if let Some(known) = self.different.get_mut(number)
            && known.len() < MOST_DIFFERENT
        {
            let value = BuildHasherDefault::<DefaultHasher>::default().hash_one(json);
            *known.entry(value).or_default() += 1;
        }
        if let Some(bytes) = self.bytes.get_mut(number) {
            *bytes += json.len() as u64;
        }
        if let (Some(sum), Ok(value)) = (self.sums.get_mut(number), json.parse::<f64>()) {
            *sum += value;
        }
    }

    fn end<'n>(self, names: impl Iterator<Item = (&'n str, usize)>) -> (u64, Vec<Seen>) {
        let names: Vec<(&str, usize)> = names.collect();
        let schema = self.types.schema(names.iter().copied());
        let seen = schema.columns.into_iter().zip(names);
        let seen = seen.map(|(column, (_, number))| Seen {
            mean: self.sums.get(number).copied().unwrap_or_default() / column.values.max(1) as f64,
            different: self.different.get(number).map_or(0, HashMap::len),
            is_even: self.different.get(number).is_some_and(|counts| {
                let first = counts.values().next();
                counts.len() > 1 && counts.values().all(|count| Some(count) == first)
            }),
            length: self.bytes.get(number).map_or(0, |bytes| {
                usize::try_from(bytes / column.values.max(1)).unwrap_or(usize::MAX)
            }),
            column,
        });
        (schema.rows, seen.collect())
    }
}
